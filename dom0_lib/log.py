# SPDX-License-Identifier: Apache-2.0
"""Lines for dom0's syslog.  Callers never pass tokens, passwords, session references or header values."""

from __future__ import absolute_import, division

import os
import time

from dom0_lib import compat
from dom0_lib import paths

_IDENT = 'dom0-plugins'
_FACILITY_USER = 1 << 3
_WARNING, _INFO = 4, 6
_MAX_LINE = 1000


def info(message, *values):
    """Log an action; all placeholders in `message` are %s."""
    _send(_INFO, message, values)


def warning(message, *values):
    """Log a failure or a refusal."""
    _send(_WARNING, message, values)


def _send(severity, message, values):
    # A datagram of our own, not syslog(3), which blocks for ever when the daemon does not read.
    import _socket
    text = compat.to_text(message % tuple(compat.to_text(value) for value in values))
    printable = ''.join(c if ' ' <= c != '\x7f' else ' ' for c in text[:_MAX_LINE])
    line = '<%d>%s %s[%d]: %s' % (_FACILITY_USER | severity, time.strftime('%b %d %H:%M:%S'), _IDENT, os.getpid(), printable)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        connection.setblocking(False)
        connection.connect(paths.locate(paths.SYSLOG_SOCKET))
        connection.send(compat.join_surrogates(line).encode('utf-8'))
    except EnvironmentError:
        pass  # a call must not fail for want of a syslog daemon
    finally:
        connection.close()
