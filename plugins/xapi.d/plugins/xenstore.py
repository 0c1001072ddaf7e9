#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A guest's records in xenstore."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch
from dom0_lib.guests import record_kinds

CALLS = {
    'read_record': Call(
        'dom0_lib.guests.guest_records:read',
        Arg('dom_id', kinds.DOM_ID),
        Arg('path', record_kinds.PATH),
        Arg('ignore_missing_path', record_kinds.TRUTH, default=False),
        replies_text=True,
    ),
    'write_record': Call(
        'dom0_lib.guests.guest_records:write',
        Arg('dom_id', kinds.DOM_ID),
        Arg('path', record_kinds.PATH),
        Arg('value', record_kinds.VALUE),
        replies_text=True,
    ),
    'list_records': Call(
        'dom0_lib.guests.guest_records:list_all',
        Arg('dom_id', kinds.DOM_ID),
        Arg('path', record_kinds.DIRECTORY, default=u''),
        replies_text=True,
    ),
    'delete_record': Call(
        'dom0_lib.guests.guest_records:delete',
        Arg('dom_id', kinds.DOM_ID),
        Arg('path', record_kinds.PATH),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
