# SPDX-License-Identifier: Apache-2.0
"""The examination of a host: every check runs and reports, even after another check has found a problem or has broken."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib.call import policy
from dom0_lib.fitness import attached_sr
from dom0_lib.toolstack import this_host
from dom0_lib.toolstack import xapi

# For each answer of XAPI.
_XAPI_TIMEOUT_S = 10


class Unfit(Exception):
    """A check raises this: `problem` is one line, `fix` the remedy, `found` the present state or None."""

    def __init__(self, problem, fix, found=None):
        super(Unfit, self).__init__(problem)
        self.problem = problem
        self.fix = fix
        self.found = found


class Host(object):
    """This host, with the facts that several checks need: each is asked for once, by the first check that needs it.

    sr_uuid: the SR that the caller has named, or None.  Methods raise errors.PluginError, and the same one when repeated.
    """

    def __init__(self, session_ref, sr_uuid):
        self._session_ref = session_ref
        self._sr_uuid = sr_uuid
        self._known = {}

    def _once(self, name, function):
        if name not in self._known:
            try:
                self._known[name] = function(), None
            except errors.PluginError as error:
                self._known[name] = None, error
        value, error = self._known[name]
        if error is not None:
            raise error
        return value

    def find_host(self):
        """(XAPI, reference of this host)"""
        return self._once('host', self._find_host)

    def _find_host(self):
        uuid = this_host.read_uuid()
        api = xapi.connect(self._session_ref, _XAPI_TIMEOUT_S).xenapi
        with xapi.Errors('cannot find this host'):
            return api, api.host.get_by_uuid(uuid)

    def find_sr(self):
        """The attached_sr.AttachedSr that the caller has named, or that attached_sr.choose() finds."""
        return self._once('SR', lambda: attached_sr.choose(attached_sr.list_attached(*self.find_host()), self._sr_uuid))

    def load_settings(self):
        """The settings.Settings of this host.  Their mistakes are reported by the check of the settings alone."""
        try:
            return self._once('settings', policy.load_settings)
        except errors.PluginError:
            raise Unfit("this check needs the host's settings, which cannot be used", "correct what the check 'settings' names")

    def list_others(self):
        """[(reference, record)] of the pool's other hosts that are live, by name."""
        return self._once('others', self._list_others)

    def _list_others(self):
        api, host_ref = self.find_host()
        with xapi.Errors("cannot list the pool's hosts"):
            live = set(ref for ref, record in api.host_metrics.get_all_records().items() if record['live'])
            hosts = api.host.get_all_records().items()
        others = [(ref, record) for ref, record in hosts if ref != host_ref and record['metrics'] in live]
        return sorted(others, key=lambda item: item[1]['name_label'])


def examine(checks, host, limit_s):
    """A list of {'check', 'ok', 'found', 'problem', 'fix'}, one for each of `checks`: (name, function(host) -> text or None).

    limit_s: no check begins after so many seconds
    Any exception of a check becomes its problem, and the next check runs.
    """
    began_at = compat.monotonic_s()
    return [_run(name, check, host, compat.monotonic_s() - began_at, limit_s) for name, check in checks]


def _run(name, check, host, passed_s, limit_s):
    if passed_s > limit_s:
        return _tell(name, None, 'not run: the checks before it took %d s' % passed_s, 'solve their problems, and repeat the call')
    try:
        return _tell(name, check(host))
    except Unfit as unfit:
        return _tell(name, unfit.found, unfit.problem, unfit.fix)
    except errors.PluginError as error:
        return _tell(name, None, compat.to_text(error), 'remove the cause, and repeat the call')
    except EnvironmentError as error:
        return _tell(name, None, 'the check failed: %s' % compat.to_text(error), 'remove the cause, and repeat the call')
    except Exception as error:
        text = 'the check failed: %s: %s' % (type(error).__name__, compat.to_text(error))
        return _tell(name, None, text, 'this is a defect of the plug-in: report it')


def _tell(name, found, problem=None, fix=None):
    # On Python 2 a text with a path in it may be bytes of any encoding.
    found, problem, fix = [text and compat.to_text(text) for text in (found, problem, fix)]
    return {'check': name, 'ok': problem is None, 'found': found, 'problem': problem, 'fix': fix}
