# SPDX-License-Identifier: Apache-2.0
"""Who may ask the image service: token -> user, project, roles.

One table for the stand-in and for the real Glance, which imports this file in its own environment
(glance_auth.py), so that a test sends the same token to either.
"""
from __future__ import absolute_import, division

from collections import namedtuple

Identity = namedtuple("Identity", "user project roles")

MEMBER = "token-member"
READER = "token-reader"  # same project as MEMBER, may not write
OTHER = "token-other"    # a member of another project
ADMIN = "token-admin"

TOKENS = {
    MEMBER: Identity("alice", "project-a", ("member", "reader")),
    READER: Identity("carol", "project-a", ("reader",)),
    OTHER: Identity("bob", "project-b", ("member", "reader")),
    ADMIN: Identity("root", "project-admin", ("admin", "member", "reader")),
}

EXPIRING = "token-until-"  # + a Unix time: MEMBER until then


def find_identity(token, now):
    """Identity of a token at the Unix time `now`, None when it is unknown or has expired."""
    if token.startswith(EXPIRING):
        try:
            return TOKENS[MEMBER] if now < float(token[len(EXPIRING):]) else None
        except ValueError:
            return None
    return TOKENS.get(token)
