# SPDX-License-Identifier: Apache-2.0
"""One request to os-xenapi's own plug-ins and to these, and the parts of both answers that a caller can see.

A host runs each kind: os-xenapi's under Python 2.7, which finds the host's files in their places (a mount namespace); and ours.
The programs that they start are the harness's own, which write down how they were called.
"""

import contextlib
import json
import os
import pickle
import re

from tests import conftest
from tests.calls import calls
from tests.harness.guests import xenstored
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool
from tests.harness.xapi.failures import Failure
from tests.run import environments

OS_XENAPI_PLUGINS = os.path.join(environments.ENVIRONMENTS, "os-xenapi/os_xenapi/dom0/etc/xapi.d/plugins")
PYTHON27 = environments.python_of("2.7")
OUR_PLUGINS = os.path.join(conftest.CHECKOUT, "plugins", "xapi.d", "plugins")
# Callers branch on these and on nothing else of a failure (docs/DIFFERENCES.md).
_CLASSES = ("RetryableError", "CommandNotFound")
_MESSAGES = ("ImageNotFound", "Unauthorized command", "Executable not found")
_MARKS = ("TIMEOUT:", "REBOOT:", "NOT IMPLEMENTED:")


class Side(object):
    """A host with one kind of plug-ins."""

    def __init__(self, pool, service):
        self.pool = pool
        self.service = service
        self.host = pool.hosts[0]
        self.dom0 = self.host.dom0
        self.sr = pool.srs[0]
        self.sr_path = "/var/run/sr-mount/" + self.sr.uuid
        self._session_ref = pool.login().handle
        self._recorded = self.dom0.locate("/opt/harness/recorded")
        # Texts that differ from host to host; replies are compared without them.
        self._names = {self.host.uuid: "HOST", self.sr.uuid: "SR", self.dom0.root: ""}

    def name(self, text, placeholder):
        """From now on `placeholder` stands for `text` in the compared replies."""
        self._names[text] = placeholder
        return text

    def add_program(self, name, script="exit 0"):
        """Add a program to dom0 that records its arguments before it runs the script."""
        calls.write_program(self.host, name, 'echo "%s $*" >> %s\n%s' % (name, self._recorded, script))

    def remove_program(self, name):
        os.unlink(os.path.join(self.dom0.bin_dir, name))

    def add_xenstore_tools(self):
        environ = xenstored.tool_environment(self.dom0.locate("/var/run/xenstored/socket"))
        for name in ("xenstore-read", "xenstore-write", "xenstore-rm", "xenstore-ls", "xenstore-exists", "xenstore-list"):
            calls.write_program(self.host, name, 'exec env %s %s/%s "$@"' % (
                " ".join("%s=%s" % pair for pair in environ.items()), xenstored.tools_dir(), name))

    def link_images(self):
        """Make /images a link to a directory of the SR, as devstack does."""
        images = self.dom0.locate("/images")
        if not os.path.islink(images):
            os.rmdir(images)
            os.mkdir(os.path.join(self.sr.path, "os-images"))
            os.symlink(os.path.relpath(os.path.join(self.sr.path, "os-images"), self.dom0.root), images)
            self.dom0.open_namespace()

    def write(self, path, data):
        # Written in place: the file is mounted where a plug-in sees it.
        with open(self.dom0.locate(path), "wb") as target:
            target.write(data)

    def exists(self, path):
        return os.path.exists(self.dom0.locate(path))

    def call_plain(self, plugin, function, **arguments):
        return self._call(plugin, function, arguments)

    def call_legacy(self, plugin, function, *args, **kwargs):
        reply = self._call(plugin, function, calls.encode_legacy(kwargs, args))
        # os-xenapi's reply may be a string of Python 2 with any bytes.
        return pickle.loads(reply.encode("latin-1"), encoding="utf-8")

    def _call(self, plugin, function, arguments):
        # Not over HTTP: the plug-in has the network namespace of the test's thread.
        return self.dom0.call_plugin(plugin, function, self._session_ref, dict(arguments, host_uuid=self.host.uuid))

    def observe(self, case):
        """The parts of the answer that a caller can see, and the effects on the host."""
        if os.path.exists(self._recorded):
            os.unlink(self._recorded)
        try:
            outcome = {"value": case(self)}
        except Failure as failure:
            outcome = {"failure": describe_failure(failure.code, list(failure.params))}
        if os.path.exists(self._recorded):
            with open(self._recorded) as recorded:
                outcome["commands"] = recorded.read().splitlines()
        return json.loads(self._free(json.dumps(outcome, sort_keys=True)))

    def _free(self, text):
        pattern = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        return re.sub(pattern, lambda match: self._names[match.group()], text)


def describe_failure(code, params):
    """The parts of a failure that callers branch on."""
    if code != "XENAPI_PLUGIN_FAILURE" or len(params) != 3:
        return [code] + params[:1]
    last_line = (params[2].splitlines() or [""])[-1]
    marks = [mark for mark in _MARKS if mark in last_line]
    return [code, params[0], params[1] if params[1] in _CLASSES else "another class",
            params[2] if params[2] in _MESSAGES else marks or "another message"]


@contextlib.contextmanager
def open_sides(python):
    """(theirs, ours): ours under `python`. Raises PermissionError for users other than root."""
    with contextlib.ExitStack() as stack:
        def open_side(**options):
            pool = stack.enter_context(Pool(**options))
            return Side(pool, stack.enter_context(ImageService(has_v1=True)))
        theirs = open_side(python=PYTHON27, plugins=False, plugin_dirs=[OS_XENAPI_PLUGINS], has_namespace=True)
        yield theirs, open_side(python=python)
