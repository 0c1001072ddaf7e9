#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The version of the plug-ins' interface, which clients ask for when they open a session."""

from __future__ import absolute_import, division

from dom0_lib.call.dispatch import Call, dispatch

CALLS = {
    'get_version': Call('dom0_lib.host.plugin_version:get_version'),
}

if __name__ == '__main__':
    dispatch(CALLS)
