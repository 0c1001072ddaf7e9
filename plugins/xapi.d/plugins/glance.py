#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Disk images between OpenStack Glance and a storage repository."""

from __future__ import absolute_import, division

from dom0_lib import args
from dom0_lib.plugin import Arg, Call, dispatch

CALLS = {
    'download_vhd2': Call(
        'dom0_lib.image_transfer:download',
        Arg('image_id', args.IMAGE_ID),
        Arg('endpoint', args.ENDPOINT),
        Arg('uuid_stack', args.UUID_LIST),
        Arg('sr_path', args.SR_PATH),
        Arg('sr_uuid', args.SR_UUID, into='sr_path'),
        Arg('extra_headers', args.HEADERS, default={}),
        Arg('api_version', args.API_VERSION, default=1, plain_default=2),
        Arg('task', args.TASK, default=None),
    ),
    'upload_vhd2': Call(
        'dom0_lib.image_transfer:upload',
        Arg('vdi_uuids', args.UUID_LIST),
        Arg('image_id', args.IMAGE_ID),
        Arg('endpoint', args.ENDPOINT),
        Arg('sr_path', args.SR_PATH),
        Arg('sr_uuid', args.SR_UUID, into='sr_path'),
        Arg('extra_headers', args.HEADERS, default={}),
        Arg('properties', args.PROPERTIES, default={}),
        Arg('api_version', args.API_VERSION, default=1, plain_default=2),
        Arg('task', args.TASK, default=None),
    ),
    'sweep': Call(
        'dom0_lib.image_transfer:sweep',
        Arg('sr_path', args.SR_PATH),
        Arg('sr_uuid', args.SR_UUID, into='sr_path'),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
