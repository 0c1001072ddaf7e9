# SPDX-License-Identifier: Apache-2.0
"""What tests of the plug-ins that look at a host, or act on it, share."""

import contextlib
import json
import os
import pathlib
import pickle

import pytest
import XenAPI

from tests import conftest

# (version, path) of the oldest dom0 Python and of the newest but one, for tests of other programs.
TWO_PYTHONS = conftest.DOM0_PYTHONS[:1] + conftest.DOM0_PYTHONS[-2:-1]


def call_legacy(pool, plugin, function, *args, **kwargs):
    """The value that a serialized call of os-xenapi's returns to its caller."""
    params = pickle.dumps({"args": args, "kwargs": kwargs}, protocol=0).decode("latin-1")
    reply = pool.call(plugin, function, {"params": params, "host_uuid": pool.hosts[0].uuid})
    return pickle.loads(reply.encode("ascii"))


def call_json(pool, plugin, function, **arguments):
    """The value of the JSON that a plain call answers, made as os-xenapi's clients make it, with the host's uuid."""
    return json.loads(pool.call(plugin, function, dict(arguments, host_uuid=pool.hosts[0].uuid)))


@contextlib.contextmanager
def refused(function, class_name, *words):
    """The call inside must fail with this class and a message of one line that has these words. Yields a list for the message."""
    messages = []
    with pytest.raises(XenAPI.Failure) as caught:
        yield messages
    details = caught.value.details
    assert details[:3] == ["XENAPI_PLUGIN_FAILURE", function, class_name], details
    messages.append(details[3])
    assert "\n" not in details[3]
    for word in words:
        assert word in details[3]


@contextlib.contextmanager
def fault(pool, text):
    """Within, calls of the first host pass fault points with this DOM0_FAULT."""
    environment = pool.hosts[0].dom0.plugin_environment
    environment["DOM0_FAULT"] = text
    try:
        yield
    finally:
        del environment["DOM0_FAULT"]


def write_file(host, dom0_path, data):
    """Write a file of dom0 in the place of what is there."""
    path = host.dom0.locate(dom0_path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "wb") as target:
        target.write(data)
    return path


def write_program(host, name, commands):
    """Put a shell script into the host's first directory of PATH; its pathlib.Path, to remove it."""
    return pathlib.Path(host.dom0.add_program(name, "#!/bin/sh\n%s\n" % commands))
