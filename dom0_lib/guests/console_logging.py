# SPDX-License-Identifier: Apache-2.0
"""Whether guests' consoles are logged on this host: what must be there for it, on, off and how far.

    /var/log/xen/guest                                       where the logs are
    /etc/cron.d/dom0-plugins-console                         tends them every minute
    /etc/systemd/system/dom0-plugins-console.service         at each boot: removes those of the boot before, and writes the record
    .../multi-user.target.wants/dom0-plugins-console.service
    xenstore's /local/logconsole/@                           a domain that begins is logged if it is there

In this order they are made, and the other way round they go.  A domain that has begun with the record is logged to its end:
therefore cron tends on, after the rest is off, until the last of them has ended, and then its file goes, too.
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

# Before guests can start.  systemd makes %% one %.  While the state file is there, this boot's logs are the only ones.
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

# The second command is for when XAPI, or the pool's coordinator, cannot be reached: a guest must not fill dom0 then either.  It is
# how XAPI starts a plug-in.
_CRONTAB = _MARK + '''\
PATH=/opt/xensource/bin:/usr/sbin:/usr/bin:/sbin:/bin
MAILTO=""
* * * * * root timeout 50 xe host-call-plugin host-uuid=%s plugin=dom0_host.py fn=tend_console_logs >/dev/null 2>&1 || \
timeout 30 /etc/xapi.d/plugins/dom0_host.py '<methodCall><methodName>cut_console_logs</methodName><params><param>\
<value>cron</value></param><param><value><struct/></value></param></params></methodCall>' >/dev/null 2>&1
'''


class State(object):
    """
    lacking   what is missing for the logging, as texts; empty: it is on
    present   what there is of it; empty: it is off.  The directory is not counted
    foreign   what somebody else has in the place of ours, so that it cannot be turned on: pairs of a problem and what to do
    logged    ids of the living domains that have a log
    is_shared  the record is there and nothing else of ours: somebody else, as OpenStack's guide has it, logs into the same place
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
        state.present.append(paths.CONSOLE_WANTED)  # systemctl may have made it, relative or not
    else:
        state.foreign.append(_describe_foreign(paths.CONSOLE_WANTED))
    found, = store.read_all([RECORD])
    if found is None:
        state.lacking.append(_RECORD_LABEL)
    elif found == _VALUE and state.present:
        state.present.append(_RECORD_LABEL)
    elif found == _VALUE:
        # turn_on() writes it last, and turn_off() removes it first.
        state.is_shared = True
    else:
        text = '%s is %s, which is not ours' % (_RECORD_LABEL, compat.to_text(found)[:100])
        state.foreign.append((text, 'find out who wants that, then xenstore-rm %s' % RECORD))
    return state


def _describe_foreign(path):
    return '%s is not ours' % path, 'move %s away, or remove it' % path


def is_on():
    """Whether it has been turned on, and not off since, on this host.  Raises errors.PluginError."""
    return _is_ours(_read(paths.CONSOLE_UNIT))


def is_tended():
    """Whether cron still tends logs.  Raises errors.PluginError."""
    return _is_ours(_read(paths.CONSOLE_CRONTAB))


def turn_on():
    """Make what lacks; guests that start from now on are logged.  Returns what was lacking, as texts.

    Raises errors.PluginError, before anything has changed where something foreign is in the way; errors.RetryableError.
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
    """Remove what there is of ours, with the logs, which are tenants' texts, and the VMs' claims.  Returns what has gone, as texts.

    While domains that are logged still live, cron tends them and finishes this later: is_tended() tells.
    Raises errors.PluginError, errors.RetryableError, and what console_claims.drop() raises.
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
    """While it is off: remove logs of domains that have ended, and the VMs' claims; and with the last log cron's file.

    The caller holds console_files.locked().  Returns ([domain ids whose logs were removed], number of claims removed).
    Raises errors.PluginError, and what console_claims.drop() raises.
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
        # Not empty; a mount; a link.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR):
            raise


def keep_record(store):
    """Write the record, where there is none.  Somebody else's stays."""
    if store.read_all([RECORD]) == [None]:
        store.write(RECORD, _VALUE)


def list_living(store):
    """The ids of this host's domains but dom0, as a set."""
    try:
        names = store.list('/local/domain')
    except xenstore.NotFound:
        names = []
    return set(int(name) for name in names if text_checks.is_number(name) and name != b'0')


def _forget_earlier_boots(living):
    """Before the first time: logs that somebody else has left.  What nobody has written to since the boot is of one before."""
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
    """[(path, what is in it)]: the files of ours, in the order in which they are made."""
    return [(paths.CONSOLE_CRONTAB, (_CRONTAB % this_host.read_uuid()).encode('ascii')),
            (paths.CONSOLE_UNIT, _UNIT.encode('ascii'))]


def _read(path):
    """What is in a file; None where there is none."""
    with os_errors.Errors('cannot read %s' % path):
        return durable_file.read(paths.locate(path), _MAX_FILE_BYTES)


def _is_ours(data):
    return data is not None and data.startswith(_MARK.encode('ascii'))
