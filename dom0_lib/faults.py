# SPDX-License-Identifier: Apache-2.0
"""Named points at which a test can make this process die or fail; without DOM0_FAULT in the environment they do nothing.

    DOM0_FAULT=<name>:<action>[:<n>]      at the n-th pass (the first, if absent)
        kill                              the process is killed, as by a power cut
        enospc, eio                       the operation fails, as on a full or a broken disk

XAPI gives a plug-in no environment, so on a host no point is ever armed.
"""

from __future__ import absolute_import, division

import errno
import os

_SIGKILL = 9
_ERRORS = {'enospc': errno.ENOSPC, 'eio': errno.EIO}


class _Armed(object):

    def __init__(self, text):
        self.name, _, rest = text.partition(':')
        self.action, _, count = rest.partition(':')
        self.passes_left = int(count or 1)
        if self.action != 'kill' and self.action not in _ERRORS:
            raise ValueError('DOM0_FAULT names no action: %s' % text)


_armed = _Armed(os.environ['DOM0_FAULT']) if 'DOM0_FAULT' in os.environ else None


def point(name):
    """Pass the point `name`: die or fail here if that is armed.  Tests collect the names, so write them out."""
    if _armed is None or _armed.name != name:
        return
    _armed.passes_left -= 1
    if _armed.passes_left:
        return
    if _armed.action == 'kill':
        os.kill(os.getpid(), _SIGKILL)
    number = _ERRORS[_armed.action]
    raise EnvironmentError(number, os.strerror(number))
