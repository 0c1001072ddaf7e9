# SPDX-License-Identifier: Apache-2.0
"""A host whose guests' consoles are logged, for tests of that: guests, their logs, and boots."""

import json
import os
import subprocess
import sys
import time
import uuid

from tests.calls.scene import Scene
from tests.harness.xapi.schema import NULL_REF

PLUGIN = "dom0_host.py"
DIRECTORY = "/var/log/xen/guest"
UNIT = "/etc/systemd/system/dom0-plugins-console.service"
WANTED = "/etc/systemd/system/multi-user.target.wants/dom0-plugins-console.service"
CRONTAB = "/etc/cron.d/dom0-plugins-console"
STATE = "/run/dom0-plugins-console"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
RECORD = b"/local/logconsole/@"
VALUE = b"/var/log/xen/guest/console.%d"
HOUR_S = 3600
DEADLINE_S = 60

_CALL = ("import sys; from dom0_lib import light_json; from dom0_lib.guests import console_logging; "
         "print(light_json.dumps(console_logging.%s))")

# Numbered lines without end, as xenconsoled appends them or, with an offset of its own, as QEMU does; after each piece a pause
# of a millisecond, or until a line comes in. At the end of its input it says how many lines there are.
_WRITER = """
import os, select, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | (os.O_APPEND if sys.argv[2] == "append" else 0), 0o644)
number, is_asked = 0, sys.argv[3] == "asked"
while True:
    if select.select([0], [], [], None if is_asked else 0.001)[0] and not os.read(0, 1):
        break
    count = 1 + number % 2999
    data = b"".join(b"%%09d\\n" %% line for line in range(number, number + count * (20 if is_asked else 1)))
    number += len(data) // 10
    while data:
        data = data[os.write(fd, data):]
    if is_asked:
        os.write(1, b".")
print(number)
""".replace("%%", "%")


class Writer(object):
    """A program that writes to a log. Use it in a `with` statement."""

    def __init__(self, path, appends=True, is_asked=False):
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, path, "append" if appends else "offset", "asked" if is_asked else "free"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._process.kill()
        self._process.communicate()

    def ask(self):
        """Let one that is asked write its next piece."""
        self._process.stdin.write(b"x")
        self._process.stdin.flush()
        assert self._process.stdout.read(1) == b"."

    def finish(self):
        """The number of lines that were written in all."""
        return int(self._process.communicate(timeout=DEADLINE_S)[0])


class ConsoleHost(Scene):

    plugin = PLUGIN

    def __init__(self, pool, number=0):
        super().__init__(pool, number)
        self.session = pool.login()

    def run(self, call):
        """The result of a function of dom0_lib.guests.console_logging. Raises RuntimeError with the last line of its error."""
        dom0 = self.host.dom0
        environment = dict(dom0.environment, PYTHONPATH=dom0.plugin_dir, PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run([dom0.python, "-B", "-c", _CALL % call], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=DEADLINE_S)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return json.loads(done.stdout)

    def turn_on(self):
        return self.run("turn_on()")

    def turn_off(self):
        return self.run("turn_off(%r)" % self.session._session)

    def tend(self):
        return self.ask("tend_console_logs")

    def cut(self):
        return self.ask("cut_console_logs")["cut"]

    # Guests

    def start(self, domid, vm_ref=None, **fields):
        """Start a guest as this domain. Returns its reference."""
        if vm_ref is None:
            return self.pool.add_vm("guest %d" % domid, host=self.number, domid=domid, **fields)
        self.host.xenstore.introduce(domid, "guest")
        self.pool.database.update("VM", vm_ref, power_state="Running", resident_on=self.host.ref, domid=domid)
        return vm_ref

    def end(self, vm_ref):
        """End the guest's domain."""
        self.host.xenstore.release(self.pool.database.get("VM", vm_ref, "domid"))
        self.pool.database.update("VM", vm_ref, power_state="Halted", resident_on=NULL_REF, domid=-1)

    def add_stopped(self, **other_config):
        """A guest that does not run, with these in its other_config."""
        return self.pool.add_vm("stopped", power_state="Halted", other_config=other_config)

    def get_claim(self, vm_ref):
        """(last_dom_id, last_dom_of), None for a missing one."""
        other_config = self.pool.database.get("VM", vm_ref, "other_config")
        return other_config.get("last_dom_id"), other_config.get("last_dom_of")

    def make_mark(self, vm_ref, boot_id=None):
        boot_id = boot_id or self.read(BOOT_ID).decode("ascii").strip()
        return "/".join([self.host.uuid, boot_id, self.pool.database.get("VM", vm_ref, "uuid")])

    # Files

    def locate_log(self, domid):
        return self.locate("%s/console.%s" % (DIRECTORY, domid))

    def write_log(self, domid, data=b"login: ", age_s=0):
        """A log, last written to `age_s` ago."""
        path = self.locate_log(domid)
        with open(path, "wb") as target:
            target.write(data)
        os.utime(path, (time.time() - age_s,) * 2)
        return path

    def list_logs(self):
        return sorted(os.listdir(self.locate(DIRECTORY)))

    def boot(self, unit_runs=True):
        """A new boot of the host: no domains, an empty /run, another boot id. unit_runs: whether systemd has started our unit."""
        for vm_ref in self.pool.database.refs("VM", resident_on=self.host.ref):
            if vm_ref != self.host.control_domain_ref:
                self.end(vm_ref)
        self.host.xenstore.restart()
        path = self.locate(BOOT_ID)
        os.unlink(path)
        with open(path, "w") as target:
            target.write("%s\n" % uuid.uuid4())
        if os.path.exists(self.locate(STATE)):
            os.unlink(self.locate(STATE))
        if unit_runs:
            for name in self.list_logs():
                os.unlink(os.path.join(self.locate(DIRECTORY), name))
            open(self.locate(STATE), "w").close()

    def let_time_pass(self):
        """Make the last question to XAPI an hour old."""
        os.utime(self.locate(STATE), (time.time() - HOUR_S,) * 2)
