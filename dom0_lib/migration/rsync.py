# SPDX-License-Identifier: Apache-2.0
"""The transfer of a file into a directory of another dom0, by rsync over ssh, or of this dom0, by rsync alone.  Only this module
runs the two programs.  The rsync of every dom0 (3.0.9 and later) knows these options; the other end may be an os-xenapi plug-in's:

    --sparse                  holes stay holes; not for a file without: that would only cost time
    --compress                if most of the file is holes, which would be sent as zeros otherwise
    --ignore-times            an existing file of that name is compared, not trusted because its size and date are equal
    --partial-dir             the directory of an unfinished file until the next attempt; under its own name a file is whole
    --timeout                 both ends give up if no data have moved for this time
    --dirs, rules             only the one file is sent
    --rsync-path              removes files of an earlier attempt first.  Not --delete: a sender could read any file with it,
                              see dom0_lib.migration.arrival_gate, which must know every form of the command that is started there
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
# The answer of dom0_lib.migration.arrival_gate to any other command than ours.
REFUSAL = 'this key may only send disks into /images by rsync'
_USER = 'root'
# Pauses before a transfer that has moved data is continued.
_CONTINUE_AFTER_S = (1.0, 5.0, 15.0)
_ALIVE_PROBES = 3
_REMOVAL_TIMEOUT_S = 60
# rsync's exit status when the two ends share no way to compress.
_UNSUPPORTED = 4
# rsync's exit statuses after a broken transfer or connection, or after the end of one of the programs by a signal.
_BROKEN = (10, 12, 20, 30, 35, 255)
_ADVICE = (
    ('HOST IDENTIFICATION HAS CHANGED', errors.PluginError,
     'its ssh key is not the one that this host knows; if it was reinstalled, remove the old key here with'
     ' `ssh-keygen -R {name}`; if not, another machine answers in its place'),
    ('host key is known for', errors.PluginError,
     'ssh does not know its key; add the key to /root/.ssh/known_hosts here, or allow host_keys = accept-new'),
    ('Host key verification failed', errors.PluginError, 'ssh does not trust its key'),
    (REFUSAL, errors.PluginError, 'its forced command is of another release; call dom0_host.py trust_keys there again'),
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
# Reasons when rsync ends without a message: it may stop ssh before it has passed on the message of the other end.
_SILENT = {11: 'nothing could be written there; is there a directory {parent}, on a disk that is not full?'}


class Transfer(object):
    """The transfer of one file into `directory`, an absolute path without characters that are special in a shell.

    host:   (name or address, ssh's port or None) that dom0_lib.call.kinds has checked; None for this dom0
    host_settings: the host's settings.Settings
    check:  called at least twice a second; its exceptions end the transfer
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
        """Make a whole copy of the file `path` in the directory, under its name; an interrupted earlier attempt is continued.

        report:      called with the fraction that is done; its exceptions end the transfer
        stale_names: names of files that are removed from the directory first
        Raises errors.RetryableError if a repetition may help, errors.StorageError, errors.PluginError.
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
        """One attempt, with the options that the programs of both ends understand."""
        while True:
            left_s = ends_at - compat.monotonic_s()
            try:
                completed = proc.run(self._make_command(path, stale_paths), left_s, ok_statuses=None, check=self._check,
                                     take_output=progress.take, starts_others=True)
            except errors.CommandFailed as error:
                if error.status is not None:
                    raise
                raise errors.RetryableError('%s did not end within %d s' % (self._label, self._settings.total_timeout_s))
            if not self._concede(completed):
                return completed

    def _concede(self, completed):
        """Whether the attempt failed at an option that one of the programs does not know, and can be repeated without that."""
        text = completed.error_output
        if self._host_keys == 'accept-new' and 'accept-new' in text:
            self._host_keys = 'yes'  # ssh before 7.6 lacks accept-new: first find out whether it knows the host
        elif self._host_keys == 'yes' and self._settings.host_keys != 'strict' and 'host key is known for' in text:
            self._host_keys = 'no'  # ssh does not know the host, so no key can have changed
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
            # Brackets keep the colons of an IPv6 address apart from rsync's.
            target = '%s@%s:%s' % (_USER, '[%s]' % self._host[0] if ':' in self._host[0] else self._host[0], target)
            command += ['--rsh=' + ' '.join(self._make_ssh())]
            if stale_paths:
                command += ['--rsync-path=rm -f %s ; rsync' % ' '.join(stale_paths)]
        return command + ['--', source + '/', target]

    def _make_ssh(self):
        """ssh's command line without the host.  No part of it has a space, because rsync splits it there."""
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
        """The exception for a failed attempt."""
        facts = {'name': self._host[0] if self._host else '', 'directory': self._directory,
                 'parent': os.path.dirname(self._directory)}
        reason = completed.first_line() or _SILENT.get(completed.status, 'without a message').format(**facts)
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
    """Reads the output of `rsync --progress`: lines "<bytes> <n>% ...", each of which overwrites the one before."""

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
