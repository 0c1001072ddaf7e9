#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The end of a guest's console log."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib.plugin import Arg, Call, dispatch

CALLS = {
    'get_console_log': Call(
        'dom0_lib.console_log:read_end',
        Arg('dom_id', args.DOM_ID),
        replies_text=True,
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
