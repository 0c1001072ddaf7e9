# SPDX-License-Identifier: Apache-2.0
"""The logging of guests' consoles on this host: turned on, turned off, and its state.

    /var/log/xen/guest                                       the logs
    /etc/cron.d/dom0-plugins-console                         tends the logs every minute
    /etc/systemd/system/dom0-plugins-console.service         at each boot: removes the logs of the boot before, writes the record
    .../multi-user.target.wants/dom0-plugins-console.service
    xenstore's /local/logconsole/@                           the record: domains that start while it exists are logged

They are made in this order and removed in the reverse order.  A domain that started while the record existed is logged until it
ends.  Therefore cron goes on to tend the logs, after the rest is off, until the last of these domains has ended.
"""

from __future__ import absolute_import, division

import errno
import os

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.guests import console_claims
from dom0_lib.guests import console_files
from dom0_lib.guests import xenstore
from dom0_lib.system import durable_file
from dom0_lib.system import os_errors
from dom0_lib.toolstack import this_host

RECORD = '/local/logconsole/@'
_RECORD_LABEL = "xenstore's " + RECORD
_VALUE = paths.CONSOLE_LOG.encode('ascii')
_TIMEOUT_S = 10
_MAX_FILE_BYTES = 1 << 16
_MARK = '# Made by dom0_host.py of dom0-xapi-plugins; its undo_prepare removes it.\n'

# The unit runs before guests can start.  systemd turns %% into %.  The state file says that no log is of an earlier boot.
_UNIT = _MARK + '''\
[Unit]
Description=Console logs of guests: those of the boot before go, new ones may come
After=xenstored.service
Before=xenconsoled.service xenopsd.service xenopsd-xc.service xapi.service
RequiresMountsFor=%(logs)s
ConditionPathExists=!%(state)s

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=30
ExecStart=/bin/sh -c 'mkdir -p -m 0700 %(logs)s && rm -f %(logs)s/console.* && : >%(state)s'
ExecStart=/bin/sh -c 'exec xenstore-write %(record)s %(logs)s/console.%%%%d'

[Install]
WantedBy=multi-user.target
''' % {'logs': paths.CONSOLE_LOGS, 'record': RECORD, 'state': paths.CONSOLE_STATE}

# The second command starts the plug-in as XAPI does, if XAPI or the pool's coordinator cannot be reached: even then no guest may
# fill dom0's disk.
_CRONTAB = _MARK + '''\
PATH=/opt/xensource/bin:/usr/sbin:/usr/bin:/sbin:/bin
MAILTO=""
* * * * * root timeout 50 xe host-call-plugin host-uuid=%s plugin=dom0_host.py fn=tend_console_logs >/dev/null 2>&1 || \
timeout 30 /etc/xapi.d/plugins/dom0_host.py '<methodCall><methodName>cut_console_logs</methodName><params><param>\
<value>cron</value></param><param><value><struct/></value></param></params></methodCall>' >/dev/null 2>&1
'''


class State(object):
    """
    lacking    names of missing parts; if there are none, logging is on
    present    names of parts that exist, without the directory; if there are none, logging is off
    foreign    (problem, remedy) for each foreign file or record in the place of a part of ours: logging cannot be turned on
    logged     ids of the living domains that have a log
    is_shared  the record exists, but no other part: an administrator logs into the same place, as OpenStack's guide says
    """

    def __init__(self):
        self.lacking, self.present, self.foreign = [], [], []
        self.logged = set()
        self.is_shared = False


def read_state():
    """The State of this host.  Raises errors.PluginError, errors.RetryableError without xenstored."""
    with xenstore.Connection(_TIMEOUT_S) as store:
        return _read_state(store)


def _read_state(store):
    state = State()
    if os.path.isdir(paths.locate(paths.CONSOLE_LOGS)):
        state.logged = list_living(store).intersection(console_files.list_logs())
    else:
        state.lacking.append(paths.CONSOLE_LOGS)
    for path, wanted in _list_files():
        found = _read(path)
        if found is not None and not _is_ours(found):
            state.foreign.append(_describe_foreign(path))
        elif found is not None:
            state.present.append(path)
        if found != wanted:
            state.lacking.append(path)
    link = paths.locate(paths.CONSOLE_WANTED)
    if not os.path.lexists(link):
        state.lacking.append(paths.CONSOLE_WANTED)
    elif os.path.islink(link) and os.path.basename(os.readlink(link)) == os.path.basename(paths.CONSOLE_UNIT):
        state.present.append(paths.CONSOLE_WANTED)  # also a link that systemctl made, relative or absolute
    else:
        state.foreign.append(_describe_foreign(paths.CONSOLE_WANTED))
    found, = store.read_all([RECORD])
    if found is None:
        state.lacking.append(_RECORD_LABEL)
    elif found == _VALUE and state.present:
        state.present.append(_RECORD_LABEL)
    elif found == _VALUE:
        # A record alone is not ours: turn_on() writes it last, and turn_off() removes it first.
        state.is_shared = True
    else:
        text = '%s is %s, which is not ours' % (_RECORD_LABEL, compat.to_text(found)[:100])
        state.foreign.append((text, 'find out which program needs it, then run xenstore-rm %s' % RECORD))
    return state


def _describe_foreign(path):
    return '%s is not ours' % path, 'move %s away, or remove it' % path


def is_on():
    """Whether logging has been turned on, and not off since, on this host.  Raises errors.PluginError."""
    return _is_ours(_read(paths.CONSOLE_UNIT))


def is_tended():
    """Whether cron still tends logs.  Raises errors.PluginError."""
    return _is_ours(_read(paths.CONSOLE_CRONTAB))


def turn_on():
    """Make the missing parts; guests that start from now on are logged.  Returns the names of the parts that were missing.

    Raises errors.PluginError, before any change if a foreign file or record is in the way; errors.RetryableError.
    """
    with xenstore.Connection(_TIMEOUT_S) as store:
        state = _read_state(store)
        if state.foreign:
            raise errors.PluginError('; '.join('%s: %s' % pair for pair in state.foreign))
        if not state.lacking:
            return []
        console_files.make_directory()
        with console_files.locked():
            if not is_on():
                _forget_earlier_boots(list_living(store))
            with os_errors.Errors('cannot turn console logging on'):
                for path, wanted in _list_files():
                    if path in state.lacking:
                        durable_file.replace(paths.locate(path), wanted)
                if paths.CONSOLE_WANTED in state.lacking:
                    _want_unit()
            keep_record(store)
    log.info('console logging is on')
    return state.lacking


def _want_unit():
    path = paths.locate(paths.CONSOLE_WANTED)
    durable_file.make_directory(os.path.dirname(path))
    os.symlink(paths.CONSOLE_UNIT, path)
    durable_file.sync(os.path.dirname(path))


def turn_off(session_ref):
    """Remove all parts of the logging, the logs, which hold tenants' data, and the VMs' claims.  Returns the removed parts' names.

    While logged domains still live, cron tends their logs and finishes the removal later; is_tended() is true until then.
    Raises errors.PluginError, errors.RetryableError, and the errors of console_claims.drop().
    """
    with xenstore.Connection(_TIMEOUT_S) as store:
        state = _read_state(store)
        if not state.present:
            return []
        console_files.make_directory()
        with console_files.locked():
            if _RECORD_LABEL in state.present:
                store.remove(RECORD)
            with os_errors.Errors('cannot turn console logging off'):
                for path in (paths.CONSOLE_WANTED, paths.CONSOLE_UNIT):
                    if path in state.present:
                        durable_file.remove(paths.locate(path))
            finish(session_ref)
    log.info('console logging is off')
    return [item for item in state.present if item != paths.CONSOLE_CRONTAB or not is_tended()]


def finish(session_ref):
    """After turn_off(): remove the logs of domains that have ended and the VMs' claims, and with the last log cron's file.

    The caller holds console_files.locked().  Returns ([domain ids whose logs were removed], number of claims removed).
    Raises errors.PluginError, and the errors of console_claims.drop().
    """
    logs = console_files.list_logs()
    with xenstore.Connection(_TIMEOUT_S) as store:
        living = list_living(store)
    removed = [dom_id for dom_id in sorted(logs) if dom_id not in living and console_files.forget(dom_id, is_alive=False)]
    claims_removed = console_claims.drop(session_ref)
    if len(removed) == len(logs):
        with os_errors.Errors('cannot turn console logging off'):
            if is_tended():
                durable_file.remove(paths.locate(paths.CONSOLE_CRONTAB))
            durable_file.remove(paths.locate(paths.CONSOLE_STATE))
            _remove_if_empty(paths.locate(paths.CONSOLE_LOGS))
    return removed, claims_removed


def _remove_if_empty(path):
    try:
        os.rmdir(path)
    except EnvironmentError as error:
        # The directory is not empty, or a mount point, or a link.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR):
            raise


def keep_record(store):
    """Write the record if there is none; a foreign one stays."""
    if store.read_all([RECORD]) == [None]:
        store.write(RECORD, _VALUE)


def list_living(store):
    """The ids of this host's domains, without dom0, as a set."""
    try:
        names = store.list('/local/domain')
    except xenstore.NotFound:
        names = []
    return set(int(name) for name in names if text_checks.is_number(name) and name != b'0')


def _forget_earlier_boots(living):
    """Remove logs that were there before logging is turned on for the first time, if nobody has written to them since the boot."""
    booted_at = _read_boot_time()
    for dom_id, status in console_files.list_logs().items():
        if status.st_mtime < booted_at:
            console_files.forget(dom_id, dom_id in living)
    with os_errors.Errors('cannot write %s' % paths.CONSOLE_STATE):
        durable_file.replace(paths.locate(paths.CONSOLE_STATE), b'')


def _read_boot_time():
    with os_errors.Errors('cannot read %s' % paths.KERNEL_COUNTERS), open(paths.locate(paths.KERNEL_COUNTERS), 'rb') as source:
        for line in source:
            name, _, value = line.partition(b' ')
            if name == b'btime':
                return int(value)
    raise errors.PluginError('%s has no btime' % paths.KERNEL_COUNTERS)


def _list_files():
    """[(path, content)] of our files, in the order in which they are made."""
    return [(paths.CONSOLE_CRONTAB, (_CRONTAB % this_host.read_uuid()).encode('ascii')),
            (paths.CONSOLE_UNIT, _UNIT.encode('ascii'))]


def _read(path):
    """The content of a file, None if it does not exist."""
    with os_errors.Errors('cannot read %s' % path):
        return durable_file.read(paths.locate(path), _MAX_FILE_BYTES)


def _is_ours(data):
    return data is not None and data.startswith(_MARK.encode('ascii'))
