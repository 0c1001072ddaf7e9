#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The agent in a guest: password, files, network, update."""

from __future__ import absolute_import, division

from dom0_lib import agent_args
from dom0_lib.plugin import Arg, Call, dispatch

CALLS = {
    'version': Call(
        'dom0_lib.guest_agent:version',
        Arg('id', agent_args.REQUEST_ID), Arg('dom_id', agent_args.GUEST), Arg('timeout', agent_args.SECONDS, default=30),
        replies_text=True),
    'key_init': Call(
        'dom0_lib.guest_agent:key_init',
        Arg('id', agent_args.REQUEST_ID), Arg('dom_id', agent_args.GUEST), Arg('timeout', agent_args.SECONDS, default=30),
        Arg('pub', agent_args.PUBLIC_KEY),
        replies_text=True),
    'password': Call(
        'dom0_lib.guest_agent:password',
        Arg('id', agent_args.REQUEST_ID), Arg('dom_id', agent_args.GUEST), Arg('timeout', agent_args.SECONDS, default=30),
        Arg('enc_pass', agent_args.SHORT_BASE64),
        replies_text=True),
    'resetnetwork': Call(
        'dom0_lib.guest_agent:reset_network',
        Arg('id', agent_args.REQUEST_ID), Arg('dom_id', agent_args.GUEST), Arg('timeout', agent_args.SECONDS, default=30),
        replies_text=True),
    'inject_file': Call(
        'dom0_lib.guest_agent:inject_file',
        Arg('id', agent_args.REQUEST_ID), Arg('dom_id', agent_args.GUEST), Arg('timeout', agent_args.SECONDS, default=30),
        Arg('b64_path', agent_args.SHORT_BASE64), Arg('b64_contents', agent_args.BASE64),
        replies_text=True),
    'agentupdate': Call(
        'dom0_lib.guest_agent:update',
        Arg('id', agent_args.REQUEST_ID), Arg('dom_id', agent_args.GUEST), Arg('timeout', agent_args.SECONDS, default=30),
        Arg('url', agent_args.URL), Arg('md5sum', agent_args.MD5),
        replies_text=True),
}

if __name__ == '__main__':
    dispatch(CALLS)
