# SPDX-License-Identifier: Apache-2.0
"""The few commands of xe that one needs to try plug-ins, for machines without xe:

    xe -s URL host-call-plugin host-uuid=<uuid> plugin=<name> fn=<name> args:<key>=<value> args:<key>:file=<path> ...
    xe -s URL vm-call-host-plugin vm-uuid=<uuid> plugin=<name> fn=<name> args:<key>=<value> ...
    xe -s URL sr-scan uuid=<uuid>
    xe -s URL {host,sr,vdi,vm,task}-list

Unlike the real one it takes a URL as its server and has root's password of the simulated host.
"""

import argparse
import sys

import XenAPI

from tests.harness.pool import ORIGINATOR, Pool

_LISTS = {"host": "host", "sr": "SR", "vdi": "VDI", "vm": "VM", "task": "task"}


class CommandError(Exception):
    """The command is wrong; one line says how."""


def run(session, command, words):
    """The text that a command prints. Raises CommandError, XenAPI.Failure."""
    parameters, arguments = _parse_words(words)
    if command == "host-call-plugin":
        return _call_plugin(session.xenapi.host, "call_plugin", _take(parameters, "host-uuid"), parameters, arguments)
    if command == "vm-call-host-plugin":
        return _call_plugin(session.xenapi.VM, "call_host_plugin", _take(parameters, "vm-uuid"), parameters, arguments)
    if command == "sr-scan":
        session.xenapi.SR.scan(session.xenapi.SR.get_by_uuid(_take(parameters, "uuid")))
        return ""
    name, _, verb = command.partition("-")
    if verb == "list" and name in _LISTS:
        records = getattr(session.xenapi, _LISTS[name]).get_all_records()
        return "\n\n".join(_format_record(record) for record in records.values())
    raise CommandError("unknown command %s" % command)


def _call_plugin(objects, message, object_uuid, parameters, arguments):
    ref = objects.get_by_uuid(object_uuid)
    return getattr(objects, message)(ref, _take(parameters, "plugin"), _take(parameters, "fn"), arguments)


def _parse_words(words):
    parameters, arguments = {}, {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise CommandError("%s: expected name=value" % word)
        if not name.startswith("args:"):
            parameters[name] = value
        elif name.endswith(":file"):
            with open(value, encoding="utf-8") as source:
                arguments[name[len("args:"):-len(":file")]] = source.read()
        else:
            arguments[name[len("args:"):]] = value
    return parameters, arguments


def _take(parameters, name):
    try:
        return parameters[name]
    except KeyError:
        raise CommandError("required parameter not found: %s" % name)


def _format_record(record):
    names = ["uuid", "name_label", "status", "power_state", "progress"]
    return "\n".join("%s : %s" % (name.replace("_", "-").rjust(16), record[name]) for name in names if name in record)


def main():
    parser = argparse.ArgumentParser(prog="xe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-s", dest="url", required=True, metavar="URL")
    parser.add_argument("-u", dest="username", default=Pool.username)
    parser.add_argument("-pw", dest="password", default=Pool.password)
    parser.add_argument("command")
    parser.add_argument("words", nargs="*", metavar="name=value")
    options = parser.parse_args()
    session = XenAPI.Session(options.url)
    try:
        session.login_with_password(options.username, options.password, "2.21", ORIGINATOR)
        text = run(session, options.command, options.words)
    except XenAPI.Failure as failure:
        sys.exit("Error code: %s\nError parameters: %s" % (failure.details[0], ", ".join(failure.details[1:])))
    except (CommandError, OSError) as error:
        sys.exit("xe: %s" % error)
    if text:
        print(text)


if __name__ == "__main__":
    main()
