#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A guest's records in xenstore."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib import record_args
from dom0_lib.plugin import Arg, Call, dispatch

CALLS = {
    'read_record': Call(
        'dom0_lib.guest_records:read',
        Arg('dom_id', args.DOM_ID),
        Arg('path', record_args.PATH),
        Arg('ignore_missing_path', record_args.TRUTH, default=False),
        replies_text=True,
    ),
    'write_record': Call(
        'dom0_lib.guest_records:write',
        Arg('dom_id', args.DOM_ID),
        Arg('path', record_args.PATH),
        Arg('value', record_args.VALUE),
        replies_text=True,
    ),
    'list_records': Call(
        'dom0_lib.guest_records:list_all',
        Arg('dom_id', args.DOM_ID),
        Arg('path', record_args.DIRECTORY, default=u''),
        replies_text=True,
    ),
    'delete_record': Call(
        'dom0_lib.guest_records:delete',
        Arg('dom_id', args.DOM_ID),
        Arg('path', record_args.PATH),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
