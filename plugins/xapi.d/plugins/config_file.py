#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Settings of XAPI itself."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch

CALLS = {
    'get_val': Call(
        'dom0_lib.host.xapi_conf:get_xapi_setting',
        Arg('key', kinds.CONFIG_KEY),
        replies_text=True,
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
