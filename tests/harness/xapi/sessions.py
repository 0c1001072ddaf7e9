# SPDX-License-Identifier: Apache-2.0
"""Sessions: the users that are logged in, and their roles."""

import collections

from tests.harness.xapi.failures import Failure
from tests.harness.xapi.messages import ROLES, message
from tests.harness.xapi.schema import NULL_REF

# sid "" is the local superuser, who is not looked up in a directory.
User = collections.namedtuple("User", "name password role sid")


class Sessions(object):

    def __init__(self, database, clock, users):
        self._database = database
        self._clock = clock
        self._users = {user.name: user for user in users}
        self._roles = {}
        self._permissions = {}

    def grant(self, permissions):
        """Tell which message needs which role: {message name: role}."""
        self._permissions = {name.lower(): role for name, role in permissions.items()}

    def open(self, host_ref, user=None, parent=NULL_REF, originator=""):
        """A session of `user`; without one, the pool's own: a superuser whom no directory knows."""
        role = user.role if user else "pool-admin"
        sid = user.sid if user else ""
        now = self._clock.timestamp()
        ref = self._database.create(
            "session", this_host=host_ref, pool=user is None, is_local_superuser=not sid, auth_user_sid=sid,
            auth_user_name=user.name if user else "", parent=parent, originator=originator, last_active=now, validation_time=now,
            rbac_permissions=self._list_permissions(role) if sid else [])
        self._roles[ref] = role
        return ref

    def close(self, ref):
        self._database.destroy("session", ref)
        self._roles.pop(ref, None)

    def close_all(self):
        for ref in self._database.refs("session"):
            self.close(ref)

    def check(self, ref):
        """Raises Failure SESSION_INVALID."""
        if not self._database.exists("session", ref):
            raise Failure("SESSION_INVALID", ref)
        self._database.update("session", ref, last_active=self._clock.timestamp())

    def check_role(self, ref, permission, role):
        """Raises Failure RBAC_PERMISSION_DENIED if the session's role is below `role`."""
        if ROLES.index(self._roles[ref]) < ROLES.index(role):
            allowed = ", ".join(reversed(ROLES[ROLES.index(role):]))
            raise Failure("RBAC_PERMISSION_DENIED", permission.lower(),
                          "No permission in user session. (Roles with this permission: %s)" % allowed)

    def _list_permissions(self, role):
        rank = ROLES.index(role)
        return [role] + sorted(name for name, least in self._permissions.items() if ROLES.index(least) <= rank)

    def _authenticate(self, name, password):
        user = self._users.get(name)
        if not user or user.password != password:
            raise Failure("SESSION_AUTHENTICATION_FAILED", name, "Authentication failure")
        return user

    @message("session.login_with_password", "string", "string", "string", "string", required=2, has_session=False)
    def login_with_password(self, context, name, password, version="", originator=""):
        if not context.host.is_coordinator:
            raise Failure("HOST_IS_SLAVE", context.host.coordinator_address)
        return self.open(context.host.ref, self._authenticate(name, password), originator=originator)

    @message("session.slave_local_login_with_password", "string", "string", has_session=False)
    def slave_local_login_with_password(self, context, name, password):
        return self.open(context.host.ref, self._authenticate(name, password))

    @message("session.logout")
    def logout(self, context):
        self.close(context.session_ref)

    @message("session.local_logout")
    def local_logout(self, context):
        self.close(context.session_ref)
