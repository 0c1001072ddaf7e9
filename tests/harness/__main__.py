# SPDX-License-Identifier: Apache-2.0
"""Run simulated XAPI hosts until Ctrl-C, to try dom0 plug-ins on: this checkout's, or any others."""

import argparse
import os
import shutil
import signal
import sys
import threading

from tests.harness.guests import xenstored
from tests.harness.pool import Pool

_BANNER = """\
Simulated XAPI. Ctrl-C ends it{removal}.

  URL       {pool.url}   (XML-RPC; JSON-RPC at /jsonrpc)
  login     {pool.username} / {pool.password}, or {pool.operator_username} / {pool.operator_password} for a VM operator
{hosts}
Call a plug-in as xe does:

  {python} -m tests.harness.xe -s {pool.url} host-call-plugin \\
      host-uuid={host.uuid} plugin={plugin} fn={function} {argument}

or from Python:

  import XenAPI
  session = XenAPI.Session("{pool.url}")
  session.login_with_password("{pool.username}", "{pool.password}", "2.21", "me")
  host = session.xenapi.host.get_by_uuid("{host.uuid}")
  print(session.xenapi.host.call_plugin(host, "{plugin}", "{function}", {{}}))
"""

_HOST = """\
  {host.name:<9} {host.uuid}   dom0 is {host.root}
            plug-ins in {host.plugin_dir}
            log in {host.root}/var/log/messages
            SR {sr.uuid} is {sr.path}
"""


def _parse_arguments():
    parser = argparse.ArgumentParser(prog="python3 -m tests.harness", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1, metavar="N", help="hosts in the pool (default: 1)")
    parser.add_argument("--python", default=sys.executable, metavar="PATH",
                        help="interpreter of the plug-ins: Python 2.7, or 3.6 and later (default: the one that runs this)")
    parser.add_argument("--plugins", action="append", default=[], metavar="DIR",
                        help="directory of plug-ins to run instead of this checkout's; may be given more than once")
    parser.add_argument("--root", metavar="DIR", help="where the hosts' files go, and stay (default: a temporary directory)")
    parser.add_argument("--ip", default="127.0.0.1",
                        help="address of the first host; others have the next ones (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port of every host (default: any free one)")
    parser.add_argument("--python36-locale", action="store_true",
                        help="run plug-ins on Python 3.7 and later with the locale handling of 3.6, where text is ASCII")
    parser.add_argument("--namespace", action="store_true",
                        help="for plug-ins that do not know DOM0_ROOT: mount the host's files over this machine's for them, "
                             "and give them PATH alone (needs root)")
    parser.add_argument("--xenstore", default="stand-in", choices=xenstored.KINDS,
                        help="the daemon at /var/run/xenstored/socket (default: %(default)s)")
    options = parser.parse_args()
    python = shutil.which(options.python)
    if not python:
        parser.error("argument --python: %s is no program" % options.python)
    options.python = os.path.abspath(python)
    if options.hosts < 1:
        parser.error("argument --hosts: at least 1")
    for directory in options.plugins:
        if not os.path.isdir(directory):
            parser.error("argument --plugins: %s is no directory" % directory)
    return options


def _print_banner(pool, is_foreign, keeps_files):
    plugin, function, argument = (("<name>", "<function>", "args:<key>=<value>") if is_foreign
                                  else ("dom0_plugin_version.py", "get_version", ""))
    print(_BANNER.format(
        pool=pool, host=pool.hosts[0], hosts="".join(_HOST.format(host=host, sr=sr) for host, sr in zip(pool.hosts, pool.srs)),
        removal="" if keeps_files else " and removes its files", plugin=plugin, function=function, argument=argument,
        python=sys.executable), flush=True)


def main():
    options = _parse_arguments()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        pool = Pool(hosts=options.hosts, python=options.python, plugins=not options.plugins, plugin_dirs=options.plugins,
                    root=options.root, ip=options.ip, port=options.port, python36_locale=options.python36_locale,
                    has_namespace=options.namespace, xenstore=options.xenstore)
        with pool:
            _print_banner(pool, bool(options.plugins), options.root is not None)
            ended.wait()
    except (OSError, ValueError) as error:
        sys.exit("python3 -m tests.harness: %s" % error)


if __name__ == "__main__":
    main()
