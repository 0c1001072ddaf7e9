# SPDX-License-Identifier: Apache-2.0
"""The end of a guest's console log, which xenconsoled writes.

xenstore's /local/logconsole/@ must be /var/log/xen/guest/console.%d.  console_tending only punches a hole into the beginning of a
log.  But on some hosts scripts rotate the logs every minute, by a rename or by copying and truncating, so a log may vanish,
shrink or begin anew at any moment.
"""

from __future__ import absolute_import, division

import binascii
import errno
import os
import time
import zlib

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths
from dom0_lib.system import durable_file

_LAST_BYTES = 102400
# After a rename it takes a moment until xenconsoled is told and opens the new log.
_ATTEMPTS = 5
_PAUSE_S = 0.2


def read_end(_session_ref, dom_id):
    """The last 102,400 bytes of a guest's console, deflated (zlib) and in base64, as text.  Raises errors.PluginError."""
    data = None
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_S)
        try:
            data, is_whole = _read_log(dom_id)
        except EnvironmentError as error:
            if error.errno != errno.ENOENT:
                raise errors.PluginError('cannot read the console log of domain %d: %s' % (dom_id, compat.to_text(error)))
            continue
        if is_whole:
            break
    if data is None:
        raise errors.PluginError(
            "domain %d has no console log %s: xenconsoled writes one while the guest runs, if xenstore's /local/logconsole/@ "
            'is %s' % (dom_id, paths.CONSOLE_LOG % dom_id, paths.CONSOLE_LOG))
    return binascii.b2a_base64(zlib.compress(data)).strip().decode('ascii')


def _read_log(dom_id):
    """(the end of the log as bytes, whether it is complete): bytes are missing if the log is truncated while it is read."""
    name = paths.CONSOLE_LOG % dom_id
    path = paths.locate(name)
    real_path = os.path.realpath(path)
    if os.path.dirname(real_path) != os.path.realpath(os.path.dirname(path)):
        raise errors.PluginError('%s leads out of %s' % (name, paths.CONSOLE_LOGS))
    fd = durable_file.open_regular(real_path)
    if fd is None:
        raise errors.PluginError('%s is not a file' % name)
    try:
        opened = os.fstat(fd)
        os.lseek(fd, max(0, opened.st_size - _LAST_BYTES), os.SEEK_SET)
        data = _read_up_to(fd, min(opened.st_size, _LAST_BYTES))
    finally:
        os.close(fd)
    return data, len(data) == min(opened.st_size, _LAST_BYTES)


def _read_up_to(fd, size_bytes):
    pieces = []
    while size_bytes:
        piece = os.read(fd, size_bytes)
        if not piece:
            break
        pieces.append(piece)
        size_bytes -= len(piece)
    return b''.join(pieces)
