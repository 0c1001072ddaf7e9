# SPDX-License-Identifier: Apache-2.0
"""The XAPI task that a caller made for a long call: it shows the progress, and cancels the call.

XAPI sends no signal: `task.cancel` only adds an entry to the task's current_operations.  A thread of its own reads them: XAPI
may be slow, refuse, or have lost the task, and none of that may disturb the transfer.
"""

from __future__ import absolute_import, division

import threading

from dom0_lib import errors
from dom0_lib import log
from dom0_lib.toolstack import xapi

_POLL_S = 0.5
# Each report is a write to XAPI's database and an event to all its clients.  A task of more than a day is collected unless
# its progress moves every 30 s.
_REPORT_STEP = 0.01
_REPORT_EVERY_S = 10.0
_REPORT_AT_MOST_EVERY_S = 1.0


class Watch(object):
    """`with Watch(session_ref, task_ref) as watch:` around the work; without a task_ref it does nothing.

    Set `fraction` (0 to 1) as the work goes on, and call check() at least every half second.
    """

    def __init__(self, session_ref, task_ref):
        self._session_ref = session_ref
        self._task_ref = task_ref
        self._is_cancelled = False
        self._ended = threading.Event()
        self.fraction = 0.0

    def __enter__(self):
        if self._task_ref:
            thread = threading.Thread(target=self._follow)
            thread.daemon = True
            thread.start()
        return self

    def __exit__(self, kind, value, traceback):
        self._ended.set()

    def report(self, fraction):
        """Set `fraction`, and check()."""
        self.fraction = min(1.0, fraction)
        self.check()

    def check(self):
        """Raises errors.Failure TASK_CANCELLED if the task has been cancelled."""
        if self._is_cancelled:
            raise errors.Failure('TASK_CANCELLED', [self._task_ref])

    def _follow(self):
        can_report = True
        reported, since_report_s = None, _REPORT_EVERY_S
        task = None
        while not self._ended.wait(_POLL_S) and not self._is_cancelled:
            since_report_s += _POLL_S
            try:
                task = task or xapi.connect(self._session_ref).xenapi.task
                self._is_cancelled = 'cancel' in task.get_current_operations(self._task_ref).values()
            except Exception as error:
                task = None
                if xapi.is_gone(error):
                    log.warning('the task of this call is gone: it cannot be cancelled any more')
                    return
                continue
            fraction = self.fraction
            if can_report and fraction != reported and since_report_s >= _REPORT_AT_MOST_EVERY_S and (
                    reported is None or fraction - reported >= _REPORT_STEP or since_report_s >= _REPORT_EVERY_S):
                can_report = self._report(task, fraction)
                reported, since_report_s = fraction, 0.0

    def _report(self, task, fraction):
        """Report the progress.  False if XAPI refuses: releases before 8.2 have no task.set_progress, and a role may lack it."""
        try:
            task.set_progress(self._task_ref, fraction)
        except Exception as error:
            if xapi.is_failure(error):
                log.info('XAPI takes no progress for the task of this call: %s', error)
                return False
        return True
