#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The end of a guest's console log."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch

CALLS = {
    'get_console_log': Call(
        'dom0_lib.guests.console_end:read_end',
        Arg('dom_id', kinds.DOM_ID),
        replies_text=True,
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
