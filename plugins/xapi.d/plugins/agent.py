#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The agent in a guest: password, files, network, update."""

from __future__ import absolute_import, division

from dom0_lib.call.dispatch import Arg, Call, dispatch
from dom0_lib.guests import agent_kinds

REQUEST = (
    Arg('id', agent_kinds.REQUEST_ID, into='request_id'),
    Arg('dom_id', agent_kinds.GUEST),
    Arg('timeout', agent_kinds.SECONDS, into='timeout_s', default=30),
)

CALLS = {
    'version': Call(
        'dom0_lib.guests.guest_agent:version',
        *REQUEST,
        replies_text=True),
    'key_init': Call(
        'dom0_lib.guests.guest_agent:key_init',
        *REQUEST + (Arg('pub', agent_kinds.PUBLIC_KEY),),
        replies_text=True),
    'password': Call(
        'dom0_lib.guests.guest_agent:password',
        *REQUEST + (Arg('enc_pass', agent_kinds.SHORT_BASE64),),
        replies_text=True),
    'resetnetwork': Call(
        'dom0_lib.guests.guest_agent:reset_network',
        *REQUEST,
        replies_text=True),
    'inject_file': Call(
        'dom0_lib.guests.guest_agent:inject_file',
        *REQUEST + (Arg('b64_path', agent_kinds.SHORT_BASE64), Arg('b64_contents', agent_kinds.BASE64)),
        replies_text=True),
    'agentupdate': Call(
        'dom0_lib.guests.guest_agent:update',
        *REQUEST + (Arg('url', agent_kinds.URL), Arg('md5sum', agent_kinds.MD5)),
        replies_text=True),
}

if __name__ == '__main__':
    dispatch(CALLS)
