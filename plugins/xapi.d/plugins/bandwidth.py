#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Traffic of the guests' virtual interfaces."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch

CALLS = {
    'fetch_all_bandwidth': Call(
        'dom0_lib.guests.vif_counters:fetch_bandwidth',
        Arg('dom_id', kinds.DOM_ID, default=None),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
