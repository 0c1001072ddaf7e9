#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Disk images between OpenStack Glance and a storage repository."""

from __future__ import absolute_import, division

from dom0_lib.call import kinds
from dom0_lib.call.dispatch import Arg, Call, dispatch

CALLS = {
    'download_vhd2': Call(
        'dom0_lib.images.download:download',
        Arg('image_id', kinds.IMAGE_ID),
        Arg('endpoint', kinds.ENDPOINT),
        Arg('uuid_stack', kinds.UUID_LIST),
        Arg('sr_path', kinds.SR_PATH),
        Arg('sr_uuid', kinds.SR_UUID, alias_of='sr_path'),
        Arg('extra_headers', kinds.HEADERS, default={}),
        Arg('api_version', kinds.API_VERSION, default=1, plain_default=2),
        Arg('task', kinds.TASK, default=None),
    ),
    'upload_vhd2': Call(
        'dom0_lib.images.upload:upload',
        Arg('vdi_uuids', kinds.UUID_LIST),
        Arg('image_id', kinds.IMAGE_ID),
        Arg('endpoint', kinds.ENDPOINT),
        Arg('sr_path', kinds.SR_PATH),
        Arg('sr_uuid', kinds.SR_UUID, alias_of='sr_path'),
        Arg('extra_headers', kinds.HEADERS, default={}),
        Arg('properties', kinds.PROPERTIES, default={}),
        Arg('api_version', kinds.API_VERSION, default=1, plain_default=2),
        Arg('task', kinds.TASK, default=None),
    ),
    'sweep': Call(
        'dom0_lib.storage.sr_calls:sweep',
        Arg('sr_path', kinds.SR_PATH),
        Arg('sr_uuid', kinds.SR_UUID, alias_of='sr_path'),
    ),
}

if __name__ == '__main__':
    dispatch(CALLS)
