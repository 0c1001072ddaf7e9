# SPDX-License-Identifier: Apache-2.0
"""The problems of pools, hosts and calls, in words for the administrator who runs the command."""

import http.client
import socket
import ssl
import xml.parsers.expat
import xmlrpc.client

import XenAPI

# What the XenAPI module raises besides XenAPI.Failure: no connection, or an answer that is none of XAPI's.
BROKEN = (OSError, http.client.HTTPException, xmlrpc.client.Error, xml.parsers.expat.ExpatError)


class Problem(Exception):
    """One call came to nothing. text: what is wrong; fix: what to do about it, or None."""

    def __init__(self, text, fix=None):
        Exception.__init__(self, text)
        self.text = text
        self.fix = fix


class NotReached(Problem):
    """No call gets through to the host, or to the pool: there is no use in further ones."""


def of_login(url, user, error):
    """The NotReached of a login. Only the code of a failure is told: it came of a request that had the password."""
    if isinstance(error, XenAPI.Failure):
        if error.details[0] == "SESSION_AUTHENTICATION_FAILED":
            return NotReached("%s does not let %s in with this password" % (url, user),
                              "--user and --password-file, or DOM0_PLUGINS_PASSWORD")
        return NotReached("%s does not let %s in: %s" % (url, user, error.details[0]))
    if isinstance(error, ssl.SSLCertVerificationError):
        return NotReached("the certificate of %s is not trusted: %s" % (url, error.verify_message),
                          "--ca-file with the certificate of the pool, and the name that is in it in --url; or --insecure")
    return NotReached("%s cannot be reached: %s" % (url, describe_break(error)))


def of_call(function, host_address, details):
    """The Problem of a failed host.call_plugin: details of its XenAPI.Failure."""
    code, rest = details[0], list(details[1:])
    if code == "XENAPI_MISSING_PLUGIN":
        return NotReached("the plug-ins are not installed there",
                          "packaging/install.sh root@%s, or as docs/OPERATING.md tells" % host_address)
    if code in ("HOST_OFFLINE", "HOST_NOT_LIVE", "CANNOT_CONTACT_HOST"):
        return NotReached("its pool cannot reach it (%s)" % code, "is it on, and its toolstack running?")
    if code == "UNKNOWN_XENAPI_PLUGIN_FUNCTION":
        return Problem("its plug-ins are of a version without %s" % function,
                       "upgrade them: packaging/install.sh root@%s, or as docs/OPERATING.md tells" % host_address)
    if code == "RBAC_PERMISSION_DENIED":
        return Problem("this user may not call plug-ins", "log in as a pool administrator (--user)")
    if code == "XENAPI_PLUGIN_FAILURE":
        return Problem(_describe_plugin_failure(function, rest))
    return Problem(": ".join(details))


def _describe_plugin_failure(function, rest):
    if len(rest) >= 3 and rest[0] == function:
        return "%s: %s" % (rest[1], rest[2])
    # The plug-in's process did not end as it should: how, what it wrote to stdout, to stderr.
    last = (rest[-1].strip().splitlines() or [""])[-1] if len(rest) > 1 else ""
    return "the plug-in failed (%s)%s" % (rest[0] if rest else "no reason given", ": " + last if last else "")


def describe_break(error):
    """One of BROKEN in a few words."""
    if isinstance(error, socket.timeout):
        return "no answer in time"
    if isinstance(error, xmlrpc.client.ProtocolError):
        return "HTTP status %s %s" % (error.errcode, error.errmsg)
    if isinstance(error, xmlrpc.client.Fault):
        return error.faultString
    if isinstance(error, (xml.parsers.expat.ExpatError, xmlrpc.client.ResponseError)):
        return "the server that answers is not XAPI"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
