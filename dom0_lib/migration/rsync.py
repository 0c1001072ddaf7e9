# SPDX-License-Identifier: Apache-2.0
"""A file into a directory of another dom0, by rsync over ssh, or of this one, by rsync alone.  Only this module knows the two.

Every dom0's rsync knows the options (3.0.9 and later), and the other end may be anybody's:

    --sparse                  holes stay holes; without any it would only cost time, as the other end looks for zeros
    --compress                when most of the file is holes: what travels is then its data, not its zeros
    --ignore-times            what is there under the name is compared, never believed for its size and date
    --partial-dir             an unfinished file waits there for the next attempt; under its own name a file is whole
    --timeout                 both ends give up when nothing has moved for so long
    --dirs, rules             only the one file is sent
    --rsync-path              what an earlier attempt left goes first.  Not --delete: who may use that can read any file there,
                              see dom0_lib.migration.arrival_gate, which must know every form of what is started at the other end
"""

from __future__ import absolute_import, division

import os
import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import text_checks
from dom0_lib.system import proc

PARTIAL_DIR = '.dom0-plugins-partial'
# What dom0_lib.migration.arrival_gate answers to all that it does not know.
REFUSAL = 'this key may only send disks into /images by rsync'
_USER = 'root'
# Pauses before a transfer that has moved something is continued.
_CONTINUE_AFTER_S = (1.0, 5.0, 15.0)
_ALIVE_PROBES = 3
_REMOVAL_TIMEOUT_S = 60
# Whoever has compressed holes and cannot say it in a way that the other end understands.
_UNSUPPORTED = 4
# The transfer or the connection broke, or somebody ended one of the programs.
_BROKEN = (10, 12, 20, 30, 35, 255)
_ADVICE = (
    ('HOST IDENTIFICATION HAS CHANGED', errors.PluginError,
     'its ssh key is not the one that this host knows; if it was installed anew, remove the old key here with'
     ' `ssh-keygen -R {name}`, if not, somebody stands in between'),
    ('host key is known for', errors.PluginError,
     'ssh does not know its key; add the key to /root/.ssh/known_hosts here, or allow host_keys = accept-new'),
    ('Host key verification failed', errors.PluginError, 'ssh does not trust its key'),
    (REFUSAL, errors.PluginError, 'it admits this host in the form of another release; call dom0_host.py trust_keys there anew'),
    ('Permission denied (13)', errors.PluginError, 'root may not write there'),
    ('Permission denied (', errors.PluginError,
     "it does not let root of this host in; add this host's /root/.ssh/id_*.pub to /root/.ssh/authorized_keys there, or have"
     ' dom0_host.py trust_keys do it'),
    ('Name or service not known', errors.PluginError, 'no address is known for it'),
    ('rsync: command not found', errors.PluginError, 'it has no rsync'),
    ('rsync: not found', errors.PluginError, 'it has no rsync'),
    ('mkdir "{directory}" failed: No such file', errors.PluginError,
     'there is no directory {parent}; make that a link to a directory of the SR'),
    ('No space left on device', errors.StorageError, 'the disk there is full'),
    ('Disk quota exceeded', errors.StorageError, 'the disk there is full'),
    ('Read-only file system', errors.StorageError, 'the disk there is read-only'),
)
# What is wrong when a program ends without a word: rsync may end ssh before it has passed on what the other end said.
_SILENT = {11: 'nothing could be written there; is there a directory {parent}, on a disk that is not full?'}


class Transfer(object):
    """One file on its way to `directory`, an absolute path without anything that a shell would interpret.

    host:   (name or address, ssh's port or None) that dom0_lib.call.kinds has checked; None for this dom0
    host_settings: the host's settings.Settings
    check:  called at least twice a second; what it raises ends the transfer
    """

    def __init__(self, directory, host, host_settings, check):
        self._directory = directory
        self._host = host
        self._settings = host_settings
        self._check = check
        self._host_keys = 'yes' if host_settings.host_keys == 'strict' else 'accept-new'
        self._has_holes = False
        self._compresses = False

    def send(self, path, report, stale_names=()):
        """Make a whole copy of the file `path` in the directory, under its name, and continue what an earlier attempt left.

        report:     called with the fraction that is done; what it raises ends the transfer
        stale_names: files that lie in the directory no longer, then
        Raises errors.RetryableError when a repetition may help, errors.StorageError, errors.PluginError.
        """
        status = os.stat(path)
        allocated_bytes = 512 * status.st_blocks
        self._has_holes = allocated_bytes < status.st_size
        self._compresses = self._host is not None and 2 * allocated_bytes < status.st_size
        ends_at = compat.monotonic_s() + self._settings.total_timeout_s
        stale_paths = ['%s/%s' % (self._directory, name) for name in stale_names]
        if stale_paths and not self._host:
            proc.run(['rm', '-f'] + stale_paths, _REMOVAL_TIMEOUT_S)
        for pause_s in _CONTINUE_AFTER_S + (None,):
            progress = _Progress(report)
            completed = self._run(path, stale_paths, ends_at, progress)
            if completed.status == 0:
                return
            error = self._describe(completed)
            if not isinstance(error, errors.RetryableError) or not progress.has_moved or pause_s is None:
                raise error
            log.info('%s; continuing', error)
            self._wait(pause_s)

    def _run(self, path, stale_paths, ends_at, progress):
        """One attempt, in a form that the programs of both ends understand."""
        while True:
            left_s = ends_at - compat.monotonic_s()
            try:
                completed = proc.run(self._make_command(path, stale_paths), left_s, ok_statuses=None, check=self._check,
                                     take_output=progress.take, starts_others=True)
            except errors.CommandFailed as error:
                if error.status is not None:
                    raise
                raise errors.RetryableError('%s: it did not end within %d s' % (self._label, self._settings.total_timeout_s))
            if not self._concede(completed):
                return completed

    def _concede(self, completed):
        """Whether the attempt failed for a form that one of the programs does not know, and there is another form."""
        text = completed.error_output
        if self._host_keys == 'accept-new' and 'accept-new' in text:
            self._host_keys = 'yes'  # ssh before 7.6: first see whether it knows the host
        elif self._host_keys == 'yes' and self._settings.host_keys != 'strict' and 'host key is known for' in text:
            self._host_keys = 'no'  # it does not: there is no key yet that could be another
        elif self._compresses and completed.status == _UNSUPPORTED:
            self._compresses = False
        else:
            return False
        return True

    def _make_command(self, path, stale_paths):
        source, name = os.path.split(path)
        command = ['rsync', '--dirs', '--copy-links', '--ignore-times', '--no-whole-file', '--progress',
                   '--partial-dir=' + PARTIAL_DIR, '--timeout=%d' % self._settings.idle_timeout_s,
                   '--filter=S /' + name, '--filter=H *']
        if self._has_holes:
            command += ['--sparse']
        if self._compresses:
            command += ['--compress', '--compress-level=1']
        target = self._directory + '/'
        if self._host:
            # In brackets colons are those of an address of IPv6.
            target = '%s@%s:%s' % (_USER, '[%s]' % self._host[0] if ':' in self._host[0] else self._host[0], target)
            command += ['--rsh=' + ' '.join(self._make_ssh())]
            if stale_paths:
                command += ['--rsync-path=rm -f %s ; rsync' % ' '.join(stale_paths)]
        return command + ['--', source + '/', target]

    def _make_ssh(self):
        """ssh's command line but for the host: rsync splits it at spaces, and none of its parts has one."""
        host_settings = self._settings
        options = ['BatchMode=yes', 'LogLevel=ERROR', 'ForwardX11=no', 'ForwardAgent=no',
                   'ConnectTimeout=%d' % host_settings.connect_timeout_s,
                   'ServerAliveInterval=%d' % -(-host_settings.idle_timeout_s // _ALIVE_PROBES),
                   'ServerAliveCountMax=%d' % _ALIVE_PROBES,
                   'StrictHostKeyChecking=' + self._host_keys, 'Ciphers=' + host_settings.ciphers]
        command = ['ssh'] + ['-o' + option for option in options]
        if host_settings.identity_file:
            command += ['-i', host_settings.identity_file]
        if self._host[1]:
            command += ['-p', '%d' % self._host[1]]
        return command

    @property
    def _label(self):
        return 'the transfer to %s' % (self._host[0] if self._host else self._directory)

    def _describe(self, completed):
        """The error that a failed attempt is."""
        facts = {'name': self._host[0] if self._host else '', 'directory': self._directory,
                 'parent': os.path.dirname(self._directory)}
        reason = completed.first_line() or _SILENT.get(completed.status, 'nothing was said').format(**facts)
        for fragment, kind, advice in _ADVICE:
            if fragment.format(**facts) in completed.error_output:
                return kind('%s: %s (%s)' % (self._label, advice.format(**facts), reason))
        is_broken = completed.status in _BROKEN or completed.status < 0
        return (errors.RetryableError if is_broken else errors.PluginError)('%s: rsync ended with status %d: %s' % (
            self._label, completed.status, reason))

    def _wait(self, seconds):
        ends_at = compat.monotonic_s() + seconds
        while compat.monotonic_s() < ends_at:
            self._check()
            time.sleep(min(0.2, seconds))


class _Progress(object):
    """Reads what `rsync --progress` writes: lines, each over the one before, of "<bytes> <n>% ..."."""

    _LINE_BYTES = 200

    def __init__(self, report):
        self._report = report
        self._end = b''
        self.has_moved = False

    def take(self, data):
        self._end = (self._end + data)[-self._LINE_BYTES:]
        words = self._end.rpartition(b'%')[0].split()
        if words and text_checks.is_number(words[-1], 3):
            self.has_moved = True
            self._report(min(1.0, int(words[-1]) / 100))
