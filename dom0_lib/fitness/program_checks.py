# SPDX-License-Identifier: Apache-2.0
"""Checks of the programs and daemons of dom0: each takes a checkup.Host, returns a text, and raises checkup.Unfit."""

from __future__ import absolute_import, division

import sys

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.call import policy
from dom0_lib.fitness import checkup
from dom0_lib.guests import console_logging
from dom0_lib.guests import xenstore
from dom0_lib.system import proc
from dom0_lib.toolstack import xapi
from dom0_lib.web import connection

_PROGRAM_TIMEOUT_S = 5
_DAEMON_TIMEOUT_S = 3
# Older versions accept absolute names from a sender, so that another tenant could write anywhere (rsync's NEWS for 3.1.1).  3.1.2
# fixed links that the sender has just made (CVE-2014-9512); arrival_gate lets none through.
_OLDEST_RSYNC = (3, 1, 1)
_REINSTALL = "the host's own package %s is missing or damaged: install it again"
_SSHD_CONFIG = paths.SSHD + '/sshd_config'
_MAX_CONFIG_BYTES = 1 << 20
_SSH_PORT = 22


def check_xapi(host):
    api, host_ref = host.find_host()
    with xapi.Errors("cannot read this host's record"):
        version = api.host.get_software_version(host_ref)
    return ' '.join(version.get(name, '?') for name in ('product_brand', 'product_version'))


def check_python(_host):
    xapi.require_module()
    return '%d.%d.%d, with XenAPI' % sys.version_info[:3]


def check_settings(_host):
    try:
        return policy.load_settings().describe_changes() or 'all defaults'
    except errors.PluginError as error:
        fix = 'correct %s, or remove it: until then this host refuses all other calls' % paths.SETTINGS
        raise checkup.Unfit(compat.to_text(error), fix)


def check_vhd_util(_host):
    done = _ask(['vhd-util'], 'blktap', ok_statuses=None)
    if 'coalesce' not in done.output:
        raise checkup.Unfit('vhd-util does not list its commands; it says: %s' % (done.first_line() or 'nothing'),
                            _REINSTALL % 'blktap', done.first_line())
    return 'answers'


def _ask(command, package, **options):
    try:
        return proc.run(command, _PROGRAM_TIMEOUT_S, **options)
    except errors.PluginError as error:
        raise checkup.Unfit(compat.to_text(error), _REINSTALL % package)


def check_rsync(_host):
    line = _ask(['rsync', '--version'], 'rsync').first_line()
    version = text_checks.parse_version((line.partition('version')[2].split() or [''])[0])
    if version is None:
        raise checkup.Unfit('rsync does not tell its version; it says: %s' % line, _REINSTALL % 'rsync', line)
    text = '.'.join(str(part) for part in version)
    if version < _OLDEST_RSYNC:
        raise checkup.Unfit('rsync %s lets a hostile sender write outside /images' % text,
                            'update the host until it has rsync 3.1.1 or later; until then let no host send disks here', text)
    return text


def check_ssh(_host):
    try:
        proc.require('ssh-keygen')
    except errors.CommandNotFound as error:
        raise checkup.Unfit(compat.to_text(error), _REINSTALL % 'openssh')
    return _ask(['ssh', '-V'], 'openssh-clients').first_line()


def check_sshd(host):
    """Whether sshd answers at the management address, where other hosts look for it."""
    api, host_ref = host.find_host()
    with xapi.Errors("cannot read this host's address"):
        address = api.host.get_address(host_ref)
    place = '[%s]:%d' % (address, _read_port()) if ':' in address else '%s:%d' % (address, _read_port())
    fix = 'start it (systemctl start sshd), and see that the firewall lets other hosts in'
    try:
        link = connection.Connection(connection.Url('http://' + place), connection.Options(_DAEMON_TIMEOUT_S, _DAEMON_TIMEOUT_S))
        try:
            banner = link.receive(255)
        finally:
            link.close()
    except errors.RetryableError as error:
        raise checkup.Unfit('sshd does not answer: %s' % compat.to_text(error), fix)
    line = banner.decode('ascii', 'replace').splitlines()[:1]
    if not banner.startswith(b'SSH-'):
        raise checkup.Unfit('the program that answers at %s is not sshd' % place, fix)
    return '%s at %s' % (line[0], place)


def _read_port():
    """The first port of sshd's configuration: sshd uses the first value of a setting."""
    try:
        with open(paths.locate(_SSHD_CONFIG), 'rb') as source:
            for line in source.read(_MAX_CONFIG_BYTES).decode('utf-8', 'replace').splitlines():
                words = line.replace('=', ' ').split()
                if len(words) > 1 and words[0].lower() == 'port' and text_checks.is_number(words[1], 5):
                    return int(words[1])
    except EnvironmentError:
        pass  # without the file sshd is not installed, and the check finds that out
    return _SSH_PORT


def check_xenstore(_host):
    try:
        with xenstore.Connection(_DAEMON_TIMEOUT_S) as store:
            return 'answers, %d guests' % len(console_logging.list_living(store))
    except errors.PluginError as error:
        raise checkup.Unfit(compat.to_text(error), 'read systemctl status xenstored; if xenstored has ended, reboot the host')


def check_console_logs(_host):
    try:
        state = console_logging.read_state()
    except errors.RetryableError as error:
        raise checkup.Unfit('cannot find out whether consoles are logged: %s' % compat.to_text(error),
                            "correct what the check 'xenstore' names")
    if state.foreign:
        raise checkup.Unfit('; '.join(problem for problem, _ in state.foreign), '; '.join(fix for _, fix in state.foreign))
    if state.is_shared:
        return 'logs in %s are made by other software, %d guests logged' % (paths.CONSOLE_LOGS, len(state.logged))
    if not console_logging.is_on():
        return 'off, %d guests logged until they end' % len(state.logged) if console_logging.is_tended() else 'off'
    if state.lacking:
        raise checkup.Unfit('consoles are logged, but this is missing: %s' % ', '.join(state.lacking),
                            'call prepare of dom0_host.py with console_log=true')
    return 'on, %d guests logged' % len(state.logged)
