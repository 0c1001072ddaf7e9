# SPDX-License-Identifier: Apache-2.0
"""The demo's guest: it gets a new password through its agent, encrypted with a key that the two sides agree on."""

import json
import secrets
import uuid

from tests.demo import demo_scene
from tests.demo.demo_scene import DemoFailed
from tests.harness.guests.guest_agent import KeyPair
from tests.harness.guests.guests import Guest

PLUGIN = "agent.py"
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def show_password(scene):
    """Set a new password.  Raises DemoFailed unless the guest has it in the end."""
    screen, store = scene.screen, scene.pool.hosts[0].xenstore
    vm = scene.pool.add_vm("demo guest")
    domid = int(scene.session.xenapi.VM.get_domid(vm))
    screen.title("A guest gets a new password: agent.py, key_init and password")
    screen.say("  guest    domain %d, with an agent that waits at its part of xenstore" % domid)
    password = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    with Guest(store, domid, is_new=False) as guest:
        pair = KeyPair()
        answer = _ask(scene, domid, "key_init", "D0", pub=str(pair.public))
        encrypted = pair.agree(int(answer["message"])).encrypt(password + "\n")
        _ask(scene, domid, "password", "0", enc_pass=encrypted)
        screen.say("  chosen here                 %s" % password)
        screen.say("  what dom0 passed on         %s" % encrypted)
        screen.say("  set in the guest            %s" % (guest.agent.password or "").strip())
        if guest.agent.password != password + "\n":
            raise DemoFailed("the guest has another password than it should have")
        left = _list_records(store, domid)
    if left:
        raise DemoFailed("records are left in xenstore: %s" % ", ".join(left))
    screen.say("  The same; and neither request nor answer is left in xenstore.", style="green")


def _ask(scene, domid, function, success, **arguments):
    """The agent's answer.  Raises DemoFailed if it means anything but success."""
    arguments = dict({"id": str(uuid.uuid4()), "dom_id": str(domid)}, **arguments)
    demo_scene.show_call(scene, function, arguments, PLUGIN)
    with scene.screen.step("agent") as step:
        reply = demo_scene.call_plugin(scene, function, arguments, PLUGIN)
        step.outcome = "has answered"
    scene.screen.say("  reply    %s" % reply)
    answer = json.loads(reply)
    if answer["returncode"] != success:
        raise DemoFailed("the agent answered %s" % reply)
    return answer


def _list_records(store, domid):
    with store.client() as dom0:
        return [name.decode("ascii") for side in (b"host", b"guest")
                for name in dom0.directory(b"/local/domain/%d/data/%s" % (domid, side))]
