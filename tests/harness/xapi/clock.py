# SPDX-License-Identifier: Apache-2.0
"""The pool's clock, which a test may move: tasks die of old age after hours."""

import calendar
import time

from tests.harness.xapi.xapi_xml import DateTime


class Clock(object):

    def __init__(self):
        self._offset_s = 0.0

    def now(self):
        """Seconds since 1970."""
        return time.time() + self._offset_s

    def advance(self, seconds):
        self._offset_s += seconds

    def timestamp(self):
        return format_timestamp(self.now())


def format_timestamp(seconds):
    return DateTime(time.strftime("%Y%m%dT%H:%M:%SZ", time.gmtime(seconds)))


def parse_timestamp(text):
    """Seconds since 1970."""
    return calendar.timegm(time.strptime(text, "%Y%m%dT%H:%M:%SZ"))
