# SPDX-License-Identifier: Apache-2.0
"""Calls of plug-ins in both forms, their refusals, and a host's settings, files and programs around them."""

import contextlib
import glob
import json
import os
import pathlib
import pickle
import time
import uuid

import pytest
import XenAPI

from tests import patience

SETTINGS = "/etc/dom0-plugins.conf"


# The two forms of a call

def encode_plain(arguments):
    """The arguments of a plain call: texts as they are, other values as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in arguments.items()}


def encode_legacy(arguments, positional=()):
    """The arguments of a call as os-xenapi's client sends them: one pickle of protocol 0."""
    return {"params": pickle.dumps({"args": tuple(positional), "kwargs": arguments}, protocol=0).decode("latin-1")}


def decode_legacy(reply):
    return pickle.loads(reply.encode("ascii"))


def call_form(pool, plugin, function, arguments, is_legacy, host=0):
    """The value that a call in the chosen form returns."""
    encode, decode = (encode_legacy, decode_legacy) if is_legacy else (encode_plain, json.loads)
    return decode(pool.call(plugin, function, encode(arguments), host=host))


def call_legacy(pool, plugin, function, *args, **kwargs):
    """The value that os-xenapi's client returns to its caller; like that client, send the host's uuid besides."""
    return decode_legacy(pool.call(plugin, function, dict(encode_legacy(kwargs, args), host_uuid=pool.hosts[0].uuid)))


def call_json(pool, plugin, function, **arguments):
    """The value in the JSON reply of a plain call, with the host's uuid among the arguments, as nova and neutron send it."""
    return json.loads(pool.call(plugin, function, dict(arguments, host_uuid=pool.hosts[0].uuid)))


@contextlib.contextmanager
def refused(function, class_name, *parts):
    """The call in the block must fail with this class and one line that has these parts. Yields a list for that line."""
    messages = []
    with pytest.raises(XenAPI.Failure) as caught:
        yield messages
    details = caught.value.details
    assert details[:3] == ["XENAPI_PLUGIN_FAILURE", function, class_name] and len(details) == 4, details
    messages.append(details[3])
    assert "\n" not in details[3], details
    for part in parts:
        assert part in details[3], details


def mount_path(sr):
    """The path of an SR as callers name it."""
    return "/var/run/sr-mount/" + sr.uuid


def make_uuids(count):
    return [str(uuid.uuid4()) for _ in range(count)]


# Processes

def find_processes(text):
    """Processes with `text` in their command line: a plug-in has its arguments there, vhd-util its files."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as source:
                if text.encode("ascii") in source.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass  # it has ended meanwhile
    return found


def wait_until(condition, limit_s=patience.LIMIT_S, interval_s=0.02):
    """The first true result of `condition()`; fails after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, "%s did not become true within %s s" % (condition, limit_s)
        time.sleep(interval_s)


# The host

@contextlib.contextmanager
def fault(host, text):
    """Within, calls on the host pass fault points with this DOM0_FAULT."""
    environment = host.dom0.plugin_environment
    environment["DOM0_FAULT"] = text
    try:
        yield
    finally:
        del environment["DOM0_FAULT"]


def write_settings(host, text):
    with open(host.dom0.locate(SETTINGS), "w") as settings:
        settings.write(text)


def remove_settings(host):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(host.dom0.locate(SETTINGS))


def write_file(host, dom0_path, data):
    """Write a file of dom0; an old file or link at this path is removed first. Returns its path on this machine."""
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
