# SPDX-License-Identifier: Apache-2.0
"""Paste filter for the real Glance: keystonemiddleware with our token table in place of a Keystone.

Everything but the look-up is the real middleware: which headers it strips and sets, the expiry check, 401 with
WWW-Authenticate. Runs in Glance's environment, with this directory on PYTHONPATH.
"""
from __future__ import absolute_import, division

import datetime
import time

import service_tokens
from keystonemiddleware import auth_token
from keystonemiddleware.auth_token import _exceptions

TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class TableAuth(auth_token.AuthProtocol):
    def fetch_token(self, token, allow_expired=False, **kwargs):
        now = time.time()
        identity = service_tokens.find_identity(token, now)
        if identity is None:
            raise _exceptions.InvalidToken("no such token, or it has expired")
        domain = {"id": "default", "name": "Default"}
        expires = datetime.datetime.fromtimestamp(now + 3600, datetime.timezone.utc)
        if token.startswith(service_tokens.EXPIRING):
            expires = datetime.datetime.fromtimestamp(float(token[len(service_tokens.EXPIRING):]),
                                                      datetime.timezone.utc)
        return {"token": {
            "methods": ["password"],
            "issued_at": datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime(TIME_FORMAT),
            "expires_at": expires.strftime(TIME_FORMAT),
            "user": {"id": identity.user, "name": identity.user, "domain": domain},
            "project": {"id": identity.project, "name": identity.project, "domain": domain},
            "roles": [{"id": role, "name": role} for role in identity.roles],
            "catalog": [],
            "audit_ids": ["stand-in"],
        }}


def filter_factory(global_conf, **local_conf):
    settings = dict(global_conf, **local_conf)
    return lambda app: TableAuth(app, settings)
