#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Is this host fit for the other plug-ins? Make it so, and undo that."""

from __future__ import absolute_import, division

from dom0_lib.plugin import Call, dispatch

CALLS = {
    'version': Call('dom0_lib.plugin_version:describe', is_plain=True),
}

if __name__ == '__main__':
    dispatch(CALLS)
