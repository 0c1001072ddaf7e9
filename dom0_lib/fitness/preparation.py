# SPDX-License-Identifier: Apache-2.0
"""The preparation of a freshly installed host, so that all plug-ins work on it, and its reversal.

The steps are independent: one with a problem does not stop the others.  A repeated call repeats no step that is done.
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
    """Make the directories, and on request the settings, that the plug-ins need on this host.  A list of steps; see step_report.

    sr_uuid: the SR for /images and /boot/guest; None: the one that attached_sr.choose() finds
    Raises errors.ArgumentError for an unsuitable SR, before anything has changed; errors.PluginError, errors.RetryableError.
    """
    host = _Host(session_ref)
    wanted = None if sr_uuid is None else attached_sr.choose(host.attached, sr_uuid)
    work = [(directory.path, _make_directory, (host, directory, wanted)) for directory in _DIRECTORIES]
    if bridge:
        work.append((_BRIDGE, _lift_blacklist, ()))
    if console_log:
        work.append((_CONSOLE_LOG, _turn_console_log_on, ()))
    return _run(work, dry_run)


def undo(session_ref, dry_run):
    """Reverse all earlier calls of prepare() on this host.  A list of the steps for everything that it can make.

    Raises errors.PluginError, errors.RetryableError.
    """
    host = _Host(session_ref)
    work = [(directory.path, _remove_directory, (host, directory)) for directory in _DIRECTORIES]
    work += [(_BRIDGE, _restore_blacklist, ()), (_CONSOLE_LOG, _turn_console_log_off, (session_ref,))]
    return _run(work, dry_run)


def _run(work, dry_run):
    """The reports of the steps `work`: (name, function(step, *arguments), arguments)."""
    steps = []
    for name, function, arguments in work:
        step = _Step(name, dry_run)
        try:
            function(step, *arguments)
        except (EnvironmentError, errors.PluginError) as error:
            step.fail(compat.to_text(error), 'remove the cause, and repeat the call')
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
        """The paths of this host's file based SRs.  Raises errors.StorageError if the file server of one does not answer."""
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
        """Nothing needs to be done."""
        self.outcome, self.detail = step_report.ALREADY, detail

    def change(self, detail):
        """The step is done; with is_dry, it would be."""
        self.outcome, self.detail = step_report.choose_outcome(True, self.is_dry), detail

    def fail(self, detail, fix):
        self.outcome, self.detail, self._fix = step_report.PROBLEM, detail, fix

    def tell(self):
        return step_report.make(self._name, self.outcome, self.detail, self._fix)


def _make_directory(step, host, directory, wanted):
    """Make a directory in an SR and the link to it, or judge the directory or link that exists.

    wanted: the attached_sr.AttachedSr that the caller has named, or None
    """
    state = directory.inspect()
    if state.kind == dom0_directories.MISSING:
        try:
            return _link_directory(step, host, directory, wanted or attached_sr.choose(host.attached, None))
        except EnvironmentError as error:
            if error.errno != errno.EEXIST:
                raise
        # Another call came first.
        state = directory.inspect()
    if wanted is not None and state.target is not None and state.sr_path != wanted.path:
        return step.fail('%s leads to %s, which is not in that SR' % (directory.path, state.target),
                         'call undo_prepare, or rm %s, when nothing uses it; then repeat the call' % directory.path)
    if state.kind == dom0_directories.DANGLING and host.is_attached(state.sr_path):
        return _fill_link(step, host, directory, state)
    found = directory.find_problem(state, 'repeat the call')
    return step.fail(*found) if found else step.settle(directory.describe(state))


def _link_directory(step, host, directory, chosen):
    if not step.is_dry:
        directory.make(chosen.path, host.uuid)
    step.change('a link into SR %s' % chosen.describe())


def _fill_link(step, host, directory, state):
    """Make the directory of a dangling link into an attached SR, if the link is ours."""
    if not directory.is_ours(state, host.uuid):
        return step.fail('%s leads to %s, which does not exist' % (directory.path, state.target), 'mkdir -p %s' % state.target)
    if not step.is_dry:
        directory.make_again()
    step.change('the directory that the link leads to, %s' % state.target)


def _remove_directory(step, host, directory):
    """Remove the link, and the directories in SRs that make() has made for this host."""
    state = directory.inspect()
    is_ours = directory.is_ours(state, host.uuid)
    # A call that was killed before it made the link, or after it removed it, has left a directory without a link.
    left = set(directory.find_left(host.list_answering(), host.uuid))
    if is_ours:
        left.add(state.sr_path)
    if not left:
        return step.settle('prepare has made none')
    for sr_path in sorted(left):
        count = directory.count_entries(sr_path, host.uuid)
        if count:
            return step.fail('its directory in %s is not empty (entries: %d)' % (sr_path, count),
                             'let migrations end, delete VMs that boot from there, or call kernel.py sweep; then repeat the call')
    for sr_path in sorted(left):
        if not step.is_dry:
            directory.remove(sr_path, host.uuid)
    detail = 'the %s in %s' % ('link, and its directory' if is_ours else 'directory, which had no link,', ', '.join(sorted(left)))
    if is_ours and not host.is_attached(state.sr_path):
        detail += '; the directory in an SR that is not attached stays'
    step.change(detail)


def _lift_blacklist(step):
    names = bridge_blacklist.list_in_force()
    if not names:
        return step.settle("no blacklist keeps Linux' bridge module out")
    if _refuse_twins(step, names):
        return
    for name in names:
        if not step.is_dry:
            bridge_blacklist.lift(name)
    step.change("%s: out of force, so that dom0 can load Linux' bridge module" % _name_files(names))


def _restore_blacklist(step):
    names = bridge_blacklist.list_lifted()
    if not names:
        return step.settle('prepare has lifted no blacklist')
    if bridge_blacklist.is_bridge_needed():
        return step.fail("this host's networks need Linux' bridge module: %s says bridge" % paths.NETWORK_CONF,
                         'remove /etc/modprobe.d/blacklist-bridge*.lifted-by-dom0-plugins')
    if _refuse_twins(step, names):
        return
    for name in names:
        if not step.is_dry:
            bridge_blacklist.restore(name)
    step.change("%s: in force again, from the next boot on" % _name_files(names))


def _refuse_twins(step, names):
    twins = [name for name in names if bridge_blacklist.has_twin(name)]
    if twins:
        step.fail('%s exists twice, in force and lifted, with different content' % _name_files(twins),
                  'remove the one that you do not want, and repeat the call')
    return bool(twins)


def _name_files(names):
    return ', '.join('%s/%s' % (paths.MODPROBE, name) for name in names)


def _turn_console_log_on(step):
    state = console_logging.read_state()
    if state.foreign:
        return step.fail('; '.join(problem for problem, _ in state.foreign),
                         '%s; then repeat the call' % '; '.join(fix for _, fix in state.foreign))
    if not state.lacking:
        return step.settle('consoles are logged')
    if not step.is_dry:
        console_logging.turn_on()
    step.change('%s: guests that start from now on are logged' % ', '.join(state.lacking))


def _turn_console_log_off(step, session_ref):
    present = console_logging.read_state().present
    if not present:
        return step.settle('consoles are not logged')
    if step.is_dry:
        return step.change('%s, and the logs' % ', '.join(present))
    removed = console_logging.turn_off(session_ref)
    text = 'running guests are logged until they end: do not remove the plug-ins before'
    if not removed:
        return step.settle(text)
    rest = '; ' + text if console_logging.is_tended() else ''
    step.change('%s, and the logs of guests that do not run%s' % (', '.join(removed), rest))
