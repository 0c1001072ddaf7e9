# SPDX-License-Identifier: Apache-2.0
"""Calls in a thread of their own."""

import threading
import time

import XenAPI

_LIMIT_S = 100


class Background(object):
    """A call that is under way. After join(): `reply`, or `failure`, the details of one; and `took_s`."""

    def __init__(self, call, *arguments, **options):
        self.reply = self.failure = self.took_s = None
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments, options), daemon=True)
        self._thread.start()

    def _run(self, call, arguments, options):
        started = time.monotonic()
        try:
            self.reply = call(*arguments, **options)
        except XenAPI.Failure as failure:
            self.failure = failure.details
        except BaseException as error:
            self._error = error
        self.took_s = time.monotonic() - started

    @property
    def is_running(self):
        return self._thread.is_alive()

    def join(self, limit_s=_LIMIT_S):
        """Wait for the call's end. Raises an error of the test's own that ended it, such as a failed assertion. Returns self."""
        self._thread.join(limit_s)
        assert not self._thread.is_alive(), "the call did not end within %d s" % limit_s
        if self._error:
            raise self._error
        return self
