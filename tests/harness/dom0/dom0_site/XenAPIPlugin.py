# SPDX-License-Identifier: Apache-2.0
"""Stand-in for the module of this name that xapi installs in dom0, for plug-ins that import it. Python 2.7 and 3.

It has the original's weakness too: text in argv or in a result that the locale cannot express ends in a traceback.
"""

from __future__ import print_function

import os
import sys

import XenAPI

try:
    import xmlrpc.client as xmlrpclib
except ImportError:
    import xmlrpclib


class Failure(Exception):
    """Raised by a plug-in: the caller sees [code] + params as they are."""

    def __init__(self, code, params):
        Exception.__init__(self)
        self.params = [code] + params

    def __str__(self):
        return str(self.params)


def success_message(result):
    return _response({"Status": "Success", "Value": result})


def failure_message(description):
    return _response({"Status": "Failure", "ErrorDescription": description})


def _response(answer):
    return xmlrpclib.dumps((answer,), "", True)


def dispatch(fn_table):
    """Answer the call in argv from {name: function(session, args)}."""
    (session_ref, args), name = xmlrpclib.loads(sys.argv[1])
    if name not in fn_table:
        print(failure_message(["UNKNOWN_XENAPI_PLUGIN_FUNCTION", name]))
        return
    try:
        print(success_message(fn_table[name](_open_session(session_ref), args)))
    except Failure as error:
        print(failure_message(error.params))
    except Exception as error:
        print(failure_message(["XENAPI_PLUGIN_FAILURE", name, error.__class__.__name__, str(error)]))


def _open_session(ref):
    # In dom0 this is XenAPI.xapi_local(); here the host's socket is under DOM0_ROOT. The transport reads _ as /.
    host = (os.environ.get("DOM0_ROOT", "") + "/var/lib/xcp/xapi").replace("/", "_")
    session = XenAPI.Session("http://%s/" % host, transport=XenAPI.UDSTransport())
    session._session = ref
    return session
