# SPDX-License-Identifier: Apache-2.0
"""The calls that this host's administrator allows.

    [policy] in /etc/dom0-plugins.conf
    deny = xenhost.host_*, netwrap.*      calls as plug-in.function; * stands for any text
    require_pool_admin = yes              the caller of a call with acts_on_host must be a pool administrator

Since xapi 25.22 VM.call_host_plugin lets a VM operator call any plug-in.  On the coordinator the session is the caller's, and
shows the role; on another member it is always the coordinator's own, and does not.

If the settings cannot be used, or a pattern of `deny` matches no call, the policy is unknown, and no call is allowed.  The one
exception is a call that needs no settings (doctor, which names their mistakes), when XAPI confirms a pool administrator.
"""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib import settings
from dom0_lib import settings_file
from dom0_lib.call import call_names
from dom0_lib.call import session_role
from dom0_lib.toolstack import xapi


def authorize(session_ref, plugin, function, is_host_level, needs_no_settings=False):
    """Raises errors.Denied, or errors.PluginError for settings that cannot be used."""
    try:
        host_settings = load_settings()
    except errors.PluginError:
        # The unknown policy may deny this call, too: so it must be harmless, and the role counts whatever the file says.
        if needs_no_settings and session_role.is_surely_pool_admin(session_ref):
            return
        raise
    call = '%s.%s' % (plugin, function)
    for pattern in host_settings.deny:
        if matches(pattern, call):
            raise errors.Denied("%s is denied by '%s' in the settings of this host" % (call, pattern))
    if is_host_level and host_settings.require_pool_admin and not _is_pool_admin(session_ref):
        raise errors.Denied('%s acts on the host itself: it needs the role of a pool administrator' % call)


def load_settings():
    """The settings.Settings of this host.  Raises errors.PluginError, also for a pattern of `deny` that denies nothing."""
    host_settings = settings.load()
    if host_settings.deny:
        void = [pattern for pattern in host_settings.deny if not any(matches(pattern, call) for call in call_names.CALLS)]
        if void:
            few = void[:settings_file.MAX_PROBLEMS + 1]
            raise settings_file.make_error([_describe_void(pattern, call_names.CALLS) for pattern in few])
    return host_settings


def _describe_void(pattern, calls):
    """A sentence for a pattern that matches none of `calls`."""
    plugins = sorted(set(call.partition('.')[0] for call in calls))
    plain = pattern.replace('.py', '', 1)
    for choice in (plain, plain + '.*'):
        if any(matches(choice, call) for call in calls):
            return _refuse_pattern(pattern, choice)
    meant = [plugin + '.' + pattern.partition('.')[2] for plugin in plugins] + ['*.' + pattern]
    meant = [choice for choice in meant if any(matches(choice, call) for call in calls)]
    near = settings.find_near(pattern, meant + [plugin + '.*' for plugin in plugins] + list(calls))
    return _refuse_pattern(pattern, near)


def _refuse_pattern(pattern, near):
    advice = "'%s' is meant?" % near if near else 'a pattern is plug-in.function, such as glance.sweep or netwrap.*'
    return "'deny' in [policy] has '%s', which is no call: %s" % (settings_file.show(pattern), advice)


def matches(pattern, text):
    """Whether `text` is the parts of `pattern` with any text in place of each *."""
    parts = pattern.split('*')
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return text == first
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in parts[1:-1]:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def _is_pool_admin(session_ref):
    if session_role.is_surely_pool_admin(session_ref):
        return True
    with xapi.Errors("cannot ask for the caller's role"):
        session = xapi.connect(session_ref).xenapi.session
        return session.get_is_local_superuser(session_ref) or session_role.PERMISSION in session.get_rbac_permissions(session_ref)
