# SPDX-License-Identifier: Apache-2.0
"""Tokens, passwords and references of sessions: whatever a call does, they are in no line of the log, no error or answer, no
file, and no argument or environment of a program that it runs.

Every call of every plug-in's table is made, in both forms, with right values and wrong ones from tests/contract/calls.py; on top
of these, transfers that succeed and that fail in the midst.  A new call is among them once it has its rows there, and there it
must be.
"""

import collections
import json
import os
import re
import tarfile
import uuid

import pytest
import XenAPI

from tests.calls import calls as plugin_calls
from tests.calls import pythons
from tests.contract import calls
from tests.contract import test_calls
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_writer
from tests.security import preload

pytestmark = pytest.mark.needs("gcc")

_SECRETIVE = re.compile("headers|pass|token|secret|credential|contents")
_SHORTEST = 10
_DISK_BYTES = 4 << 20
Leak = collections.namedtuple("Leak", "place secret text")


class WatchedHost(object):
    """A host that records everything that leaves a plug-in: `said` has (place, text)."""

    def __init__(self, pool, service, directory):
        self.pool = pool
        self.service = service
        self.said = []
        self.made = set()
        self._session = pool.login()
        self._dom0 = pool.hosts[0].dom0
        self._record = os.path.join(directory, "programs")
        # Nothing but the harness's own programs is found: right values are not tried on this machine.
        self._dom0.plugin_environment.update(
            PATH=self._dom0.bin_dir, LD_PRELOAD=preload.build("exec_recorder", directory), EXEC_RECORD=self._record)
        self.image = self._add_image(directory)
        self.sr_uuid = pool.srs[0].uuid

    def _add_image(self, directory):
        chain = [os.path.join(directory, "%d.vhd" % number) for number in range(2)]
        vhd_writer.write_dynamic(chain[1], [(0, b"disk".ljust(512))], _DISK_BYTES)
        vhd_writer.write_differencing(chain[0], chain[1], [(1 << 20, b"more".ljust(512))])
        with tarfile.open(os.path.join(directory, "image.tgz"), "w:gz") as archive:
            for path in chain:
                archive.add(path, os.path.basename(path))
        return self.service.add_image(os.path.join(directory, "image.tgz"))

    @property
    def secrets(self):
        return [calls.SECRET, self.service.token, self._session._session.partition(":")[2]]

    def find_leaks(self):
        """Records that hold a secret. An answer may hold values of secret arguments: it goes to the caller that sent them."""
        values = [text for plugin, function in test_calls.ALL_CALLS for row in test_calls.TABLES[plugin][function].rows
                  if row.kind.secret for text in list_texts(test_calls.look_up(plugin, function, row.name)[0])]
        return [Leak(place, secret, text[:500]) for place, text in self.said
                for secret in self.secrets + (values if place != "answer" else []) if secret in text]

    def call(self, plugin, function, arguments):
        """Whether the call succeeded."""
        self.made.add((plugin, function))
        try:
            answer = self._session.xenapi.host.call_plugin(self.pool.hosts[0].ref, plugin, function, arguments)
            self.said.append(("answer", answer))
            return True
        except XenAPI.Failure as failure:
            # Of a killed call only XAPI speaks.
            self.said.extend(("error", text) for text in failure.details)
            return False

    def look(self):
        """Record the log, the programs that were started, and the content of every file in dom0."""
        self.said.extend(("log", line) for line in self.pool.hosts[0].syslog_lines() if not line.startswith("forkexecd:"))
        with open(self._record, encoding="utf-8", errors="replace") as record:
            self.said.extend(("program", line) for line in record.read().splitlines())
        for parent, _, names in os.walk(self._dom0.root):
            for path in [os.path.join(parent, name) for name in names if name != "messages"]:
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as source:
                        self.said.append(("file", "%s: %s" % (path, source.read().decode("latin-1"))))

    def transfer(self, function, token, **arguments):
        return self.call("glance.py", function, dict({
            "image_id": self.image.id, "endpoint": self.service.url, "sr_uuid": self.sr_uuid,
            "extra_headers": json.dumps({"X-Auth-Token": token})}, **arguments))

    def run_transfers(self):
        """Run an import and an upload, then transfers that fail at several places."""
        token, uuids = self.service.token, [str(uuid.uuid4()) for _ in range(2)]
        stack = json.dumps([str(uuid.uuid4()) for _ in range(2)])
        assert self.transfer("download_vhd2", token, uuid_stack=json.dumps(uuids[::-1]))
        queued = self.service.add_image(None)
        assert self.transfer("upload_vhd2", token, vdi_uuids=json.dumps(uuids), image_id=queued.id,
                             properties=json.dumps({"note": calls.SECRET}))
        assert not self.transfer("download_vhd2", calls.SECRET, uuid_stack=stack)
        assert not self.transfer("download_vhd2", token, uuid_stack=stack, endpoint=calls.ENDPOINT)
        assert not self.transfer("upload_vhd2", token, vdi_uuids=json.dumps(uuids), image_id=queued.id)
        for fault in ("staging.written:eio", "chain.sealed:eio", "publish.linked:enospc", "publish.linked:kill"):
            with plugin_calls.fault(self.pool.hosts[0], fault):
                assert not self.transfer("download_vhd2", token, uuid_stack=stack)
        assert self.call("glance.py", "sweep", {"sr_uuid": self.sr_uuid})

    def run_table(self, plugin, function):
        """Make the call with right values, then with each wrong one."""
        right = {argument: self._place(value) for argument, value in test_calls.make_right(self, plugin, function).items()}
        self._call_in_both_forms(plugin, function, right)
        for row in test_calls.TABLES[plugin][function].rows:
            _, wrong = test_calls.look_up(plugin, function, row.name)
            for value in wrong if row.kind.secret else wrong[:2]:
                self._call_in_both_forms(plugin, function, test_calls.replace(right, row, value))

    @property
    def endpoint(self):
        return self.service.url

    def _place(self, value):
        return value.replace(calls.SR_UUID, self.sr_uuid) if isinstance(value, str) else value

    def _call_in_both_forms(self, plugin, function, values):
        self.call(plugin, function, test_calls.make_legacy(**values))
        self.call(plugin, function, test_calls.make_plain(plugin, function, values))


def list_texts(value):
    """The texts in plain data that are long enough to be searched for."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in list_texts(item)]
    return [value] if isinstance(value, str) and len(value) >= _SHORTEST else []


@pytest.fixture
def watched_host(tmp_path):
    with ImageService() as service, Pool(python=pythons.NEWEST) as pool:
        yield WatchedHost(pool, service, str(tmp_path))


@pytest.mark.parametrize("plugin, function", test_calls.ALL_CALLS)
def test_what_may_hold_a_secret_is_declared_so(plugin, function):
    """The argument is declared secret, and its values in tests/contract/calls.py hold a text that can be searched for."""
    for row in test_calls.TABLES[plugin][function].rows:
        assert row.kind.secret or not _SECRETIVE.search(row.name), row.name
        if row.kind.secret:
            right, wrong = test_calls.look_up(plugin, function, row.name)
            assert list_texts(right) and any(calls.SECRET in repr(value) for value in wrong)


@pytest.mark.parametrize("plugin", sorted({plugin for plugin, _ in test_calls.ALL_CALLS}))
def test_no_secret_gets_out_of_a_plug_in(watched_host, plugin):
    for function in [function for name, function in test_calls.ALL_CALLS if name == plugin]:
        watched_host.run_table(plugin, function)
        assert (plugin, function) in watched_host.made
    watched_host.look()
    assert not watched_host.find_leaks()
    seen = collections.Counter(place for place, _ in watched_host.said)
    assert seen["answer"] + seen["error"] >= 2 and seen["file"] > 50, seen


def test_no_secret_gets_out_of_transfers(watched_host):
    watched_host.run_transfers()
    watched_host.look()
    assert not watched_host.find_leaks()
    seen = collections.Counter(place for place, _ in watched_host.said)
    assert seen["error"] > 5 and seen["answer"] > 2 and seen["log"] > 5 and seen["file"] > 50, seen
    programs = [text for place, text in watched_host.said if place == "program"]
    assert any(text.endswith("vhd-util") for text in programs) and "variable LC_ALL=C" in programs


_LOADING = "    host_settings = settings.load()\n"

# A file of dom0_lib, one of its lines, the line that leaks, and the place where the secret then appears.
_LEAKS = [
    ("web/http_client.py", "    place = connection.Url(url)\n    link =",
     "    place = connection.Url(url)\n    from dom0_lib import log; log.info('%s', headers)\n    link =", "log"),
    ("call/kinds.py", "HEADERS = binding.Kind(_check_headers, structured=True, secret=True)",
     "HEADERS = binding.Kind(_check_headers, structured=True)", "error"),
    ("images/download.py", _LOADING, "    os.environ['PATH'] += ':' + extra_headers['X-Auth-Token']\n" + _LOADING, "program"),
    ("images/download.py", _LOADING, "    open(os.environ['DOM0_ROOT'] + '/x', 'w').write(session_ref)\n" + _LOADING, "file"),
]


@pytest.mark.parametrize("name, line, leaking, place", _LEAKS, ids=[leak[3] for leak in _LEAKS])
def test_a_leak_is_seen(watched_host, name, line, leaking, place):
    path = os.path.join(watched_host.pool.hosts[0].plugin_dir, "dom0_lib", name)
    with open(path) as source:
        text = source.read()
    assert line in text
    with open(path, "w") as target:
        target.write(text.replace(line, leaking))
    watched_host.run_table("glance.py", "download_vhd2")
    watched_host.run_transfers()
    watched_host.look()
    assert {leak.place for leak in watched_host.find_leaks()} >= {place}
