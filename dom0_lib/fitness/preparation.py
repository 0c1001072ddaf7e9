# SPDX-License-Identifier: Apache-2.0
"""Making of a host as it is installed one on which all plug-ins work, and taking that back.

Each step stands for itself: one with a problem does not stop the others, and what is done already is not done again.
"""

from __future__ import absolute_import, division

import errno

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import step_report
from dom0_lib.fitness import attached_sr
from dom0_lib.fitness import bridge_blacklist
from dom0_lib.fitness import dom0_directories
from dom0_lib.guests import console_logging
from dom0_lib.toolstack import this_host

_BRIDGE, _CONSOLE_LOG = 'bridge', 'console log'
_DIRECTORIES = (dom0_directories.IMAGES, dom0_directories.BOOT_GUEST)


def prepare(session_ref, sr_uuid, bridge, console_log, dry_run):
    """Make what the plug-ins need on this host.  A list of steps; see step_report.

    sr_uuid: where /images and /boot/guest shall lead to; None: the SR that attached_sr.choose() finds
    Raises errors.ArgumentError for an SR that cannot be it, before anything has changed; errors.PluginError, errors.RetryableError.
    """
    host = _Host(session_ref)
    work = [(directory.path, _Making(host, directory, sr_uuid).run) for directory in _DIRECTORIES]
    if bridge:
        work.append((_BRIDGE, _lift_blacklist))
    if console_log:
        work.append((_CONSOLE_LOG, _turn_console_log_on))
    return _run(work, dry_run)


def undo(session_ref, dry_run):
    """Take back what prepare() has made here, at any time, with whatever arguments.  A list of steps, of all that it can make.

    Raises errors.PluginError, errors.RetryableError.
    """
    host = _Host(session_ref)
    work = [(directory.path, _Removal(host, directory).run) for directory in _DIRECTORIES]
    work.append((_BRIDGE, _restore_blacklist))
    work.append((_CONSOLE_LOG, lambda step: _turn_console_log_off(step, session_ref)))
    return _run(work, dry_run)


def _run(work, dry_run):
    steps = []
    for name, function in work:
        step = _Step(name, dry_run)
        try:
            function(step)
        except EnvironmentError as error:
            step.fail(compat.to_text(error), 'see to that, and repeat the call')
        except errors.PluginError as error:
            step.fail(compat.to_text(error), 'see to that, and repeat the call')
        if step.outcome == step_report.DONE:
            log.info('%s: %s', name, step.detail)
        steps.append(step.tell())
    return steps


class _Host(object):

    def __init__(self, session_ref):
        api, host_ref = this_host.find(session_ref, None)
        self.uuid = this_host.read_uuid()
        self.attached = attached_sr.list_attached(api, host_ref)

    def is_attached(self, sr_path):
        return sr_path in self._list_paths()

    def list_answering(self):
        """The directories of its file based SRs.  Raises errors.StorageError for one whose server is away."""
        for path in self._list_paths():
            attached_sr.probe(path)
        return self._list_paths()

    def _list_paths(self):
        return [found.path for found in self.attached if found.is_file_based]


class _Step(object):

    def __init__(self, name, is_dry):
        self._name = name
        self.is_dry = is_dry
        self.outcome = self.detail = self._fix = None

    def settle(self, detail):
        """Nothing is to be done."""
        self.outcome, self.detail = step_report.ALREADY, detail

    def change(self, detail):
        """It is done, or would be."""
        self.outcome, self.detail = step_report.choose_outcome(True, self.is_dry), detail

    def fail(self, detail, fix):
        self.outcome, self.detail, self._fix = step_report.PROBLEM, detail, fix

    def tell(self):
        return step_report.make(self._name, self.outcome, self.detail, self._fix)


class _Making(object):
    """sr_uuid: of the SR that the caller named, or None"""

    def __init__(self, host, directory, sr_uuid):
        self._host = host
        self._directory = directory
        self._sr_uuid = sr_uuid
        self._wanted = None if sr_uuid is None else attached_sr.choose(host.attached, sr_uuid)

    def run(self, step):
        state = self._directory.inspect()
        if state.kind == dom0_directories.MISSING:
            try:
                return self._make(step)
            except EnvironmentError as error:
                if error.errno != errno.EEXIST:
                    raise
            # Another call came first.
            state = self._directory.inspect()
        if self._wanted is not None and state.target is not None and state.sr_path != self._wanted.path:
            step.fail('%s leads to %s, which is not in that SR' % (self._directory.path, state.target),
                      'take it back first, by undo_prepare or rm %s, when nothing uses it' % self._directory.path)
        elif state.kind == dom0_directories.DANGLING:
            self._mend(step, state)
        elif state.kind == dom0_directories.LINK and not state.is_on_root:
            step.settle('it leads to %s' % state.target)
        elif state.kind in (dom0_directories.LINK, dom0_directories.DIRECTORY):
            self._judge_directory(step, state)
        else:
            step.fail('%s is there, and is no directory' % self._directory.path, 'move it away, and repeat the call')

    def _make(self, step):
        chosen = attached_sr.choose(self._host.attached, self._sr_uuid)
        if not step.is_dry:
            self._directory.make(chosen.path, self._host.uuid)
        step.change('a link into SR %s' % chosen.describe())

    def _mend(self, step, state):
        is_attached = self._host.is_attached(state.sr_path)
        if self._directory.is_ours(state, self._host.uuid) and is_attached:
            if not step.is_dry:
                self._directory.make_again()
            step.change('the directory that it leads to, %s' % state.target)
        else:
            step.fail('%s leads to %s, which is not there' % (self._directory.path, state.target),
                      'mkdir -p %s' % state.target if is_attached else 'attach its SR (xe pbd-plug) if it is in one; else rm %s,'
                      ' and repeat the call' % self._directory.path)

    def _judge_directory(self, step, state):
        if not state.is_on_root:
            step.settle('it is on a file system of its own')
        elif self._directory is dom0_directories.IMAGES:
            step.fail("%s is in dom0's own file system, which disks that arrive would fill" % self._directory.path,
                      'when no migration runs, move away what is in it, remove it, and repeat the call')
        else:
            step.settle("it is in dom0's own file system, which kernels are small enough for")


class _Removal(object):

    def __init__(self, host, directory):
        self._host = host
        self._directory = directory

    def run(self, step):
        state = self._directory.inspect()
        is_ours = self._directory.is_ours(state, self._host.uuid)
        # Also that of a call which was killed before it made the link, or after it removed it.
        left = set(self._directory.find_left(self._host.list_answering(), self._host.uuid))
        if is_ours:
            left.add(state.sr_path)
        if not left:
            return step.settle('there is none of ours')
        for sr_path in sorted(left):
            count = self._directory.count_entries(sr_path, self._host.uuid)
            if count:
                return step.fail('%d files or directories are in what was made in %s' % (count, sr_path),
                                 'let migrations end, delete VMs that boot from there, or call kernel.py sweep; then repeat it')
        for sr_path in sorted(left):
            if not step.is_dry:
                self._directory.remove(sr_path, self._host.uuid)
        step.change('%s what was made in %s' % ('the link, and' if is_ours else 'without a link,', ', '.join(sorted(left))))
        if is_ours and not self._host.is_attached(state.sr_path):
            step.detail += '; in an SR that is not attached it stays'


def _lift_blacklist(step):
    names = bridge_blacklist.list_in_force()
    if not names:
        return step.settle("nothing keeps Linux' bridge module out")
    if _refuse_twins(step, names):
        return
    for name in names:
        if not step.is_dry:
            bridge_blacklist.lift(name)
    step.change("%s: out of force, so Linux' bridge module can be loaded" % _name_files(names))


def _restore_blacklist(step):
    names = bridge_blacklist.list_lifted()
    if not names:
        return step.settle('no blacklist was lifted')
    if bridge_blacklist.is_bridge_needed():
        return step.fail("this host's networks need Linux' bridge module: %s says bridge" % paths.NETWORK_CONF,
                         'remove what was lifted, /etc/modprobe.d/blacklist-bridge*.lifted-by-dom0-plugins')
    if _refuse_twins(step, names):
        return
    for name in names:
        if not step.is_dry:
            bridge_blacklist.restore(name)
    step.change("%s: in force again, from the next boot on" % _name_files(names))


def _refuse_twins(step, names):
    twins = [name for name in names if bridge_blacklist.has_twin(name)]
    if twins:
        step.fail('of %s there are two, in force and lifted, that differ' % _name_files(twins), 'remove the one that is not wanted')
    return bool(twins)


def _name_files(names):
    return ', '.join('%s/%s' % (paths.MODPROBE, name) for name in names)


def _turn_console_log_on(step):
    state = console_logging.read_state()
    if state.foreign:
        return step.fail('; '.join(problem for problem, _ in state.foreign),
                         '%s; then repeat the call' % '; '.join(fix for _, fix in state.foreign))
    if not state.lacking:
        return step.settle('guests are logged')
    if not step.is_dry:
        console_logging.turn_on()
    step.change('for guests that start from now on: %s' % ', '.join(state.lacking))


def _turn_console_log_off(step, session_ref):
    present = console_logging.read_state().present
    if not present:
        return step.settle('it is off')
    if step.is_dry:
        return step.change('%s, and the logs' % ', '.join(present))
    removed = console_logging.turn_off(session_ref)
    text = 'guests that run are logged, and tended, until they end: do not remove the plug-ins before'
    if not removed:
        return step.settle(text)
    rest = '; ' + text if console_logging.is_tended() else ''
    step.change('%s, and the logs of guests that do not run%s' % (', '.join(removed), rest))
