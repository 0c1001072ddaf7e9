# SPDX-License-Identifier: Apache-2.0
"""XAPI over dom0's local socket, in the caller's session.  The only module that knows XenAPI."""

from __future__ import absolute_import, division

import errno

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths

_TIMEOUT_S = 60


def connect(session_ref, timeout_s=_TIMEOUT_S):
    """A XenAPI session (`.xenapi.class.method(...)`) in the caller's session; it need not be closed.

    timeout_s: limit for the answer to each call
    Every call may raise XenAPI.Failure, and OSError or socket.error after a restart of the toolstack.
    """
    session = require_module().Session('http://localhost', transport=_make_transport(timeout_s))
    session._session = session_ref
    return session


def log_in(exchange, user, password):
    """A new XenAPI session at another XAPI; exchange(bytes of a request) -> bytes of the answer.

    Raises the errors of `exchange` and of the calls of a session.
    """
    xmlrpc_client = compat.import_xmlrpc_client()

    class ExchangeTransport(xmlrpc_client.Transport):
        def request(self, host, handler, request_body, verbose=0):
            parser, unmarshaller = self.getparser()
            parser.feed(exchange(request_body))
            parser.close()
            return unmarshaller.close()

    session = require_module().Session('http://localhost', transport=ExchangeTransport())
    session.login_with_password(user, password)
    return session


def require_module():
    """The XenAPI module.  Raises errors.PluginError where it is not installed."""
    try:
        import XenAPI
    except ImportError:
        raise errors.PluginError('the XenAPI module is not installed for %s' % compat.interpreter())
    return XenAPI


class Errors(object):
    """Within, a refusal by XAPI becomes errors.PluginError; if XAPI cannot be reached, that becomes errors.RetryableError.

    failure: the beginning of the error's text, such as 'cannot list the SRs'
    """

    def __init__(self, failure):
        self._failure = failure

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if not isinstance(value, Exception) or isinstance(value, errors.PluginError):
            return
        code = failure_code(value)
        if code:
            # The details after the code may be secrets, such as the reference of a session.
            raise errors.PluginError('%s: XAPI answered %s' % (self._failure, code))
        raise errors.RetryableError('%s: XAPI cannot be reached: %s' % (self._failure, compat.to_text(value) or kind.__name__))


def failure_code(error):
    """The code with which XAPI refused a call, so that the same call would be refused again; None for other errors."""
    import XenAPI
    if isinstance(error, XenAPI.Failure):
        return error.details[0]
    if isinstance(error, compat.import_xmlrpc_client().Fault):
        # When XAPI says SESSION_INVALID, XenAPI.py logs in again; without a password that ends in this Fault.
        return 'SESSION_INVALID' if error.faultCode == 401 else 'INTERNAL_ERROR'
    return None


def is_failure(error):
    """Whether XAPI itself refused a call."""
    return failure_code(error) is not None


def is_gone(error):
    """Whether an error says that the object, or the session, no longer exists."""
    return failure_code(error) in ('HANDLE_INVALID', 'SESSION_INVALID')


def is_interrupted(error):
    """Whether a signal under a shield interrupted a call, which is an error on Python 2; XAPI may have carried the call out."""
    return isinstance(error, EnvironmentError) and error.errno == errno.EINTR


def _make_transport(timeout_s):
    import socket
    http_client = compat.import_http_client()
    xmlrpc_client = compat.import_xmlrpc_client()
    socket_path = paths.locate(paths.XAPI_SOCKET)

    class LocalConnection(http_client.HTTPConnection):
        def connect(self):
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                link.settimeout(timeout_s)
                link.connect(socket_path)
            except BaseException:
                link.close()
                raise
            self.sock = link

    class LocalTransport(xmlrpc_client.Transport):
        def make_connection(self, host):
            return LocalConnection('localhost')

    return LocalTransport()
