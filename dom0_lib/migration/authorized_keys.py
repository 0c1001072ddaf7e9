# SPDX-License-Identifier: Apache-2.0
"""Our lines in root's ssh files, for the keys of other hosts.  The last word of a line names the host:

    authorized_keys   from="<addresses>",...,command="<dom0_lib.migration.arrival_gate>" <its key> dom0-plugins:<uuid>
    known_hosts       <addresses> <one of its host keys> dom0-plugins:<uuid>

All other lines stay unchanged, byte for byte.
"""

from __future__ import absolute_import, division

import binascii
import os
import stat

from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.migration import arrival_gate
from dom0_lib.system import durable_file
from dom0_lib.system import os_errors

AUTHORIZED_KEYS = paths.ROOT_SSH + '/authorized_keys'
KNOWN_HOSTS = paths.ROOT_SSH + '/known_hosts'
_MARK = b'dom0-plugins:'
# Not `restrict`, which means all of them: sshd before 7.2 refuses a line with an option that it does not know.
_LIMITS = ('no-port-forwarding', 'no-X11-forwarding', 'no-agent-forwarding', 'no-pty', 'no-user-rc')
_MAX_BYTES = 8 << 20
_HASHED = b'|1|'


class LineFile(object):
    """One of the two files, as lines of bytes.  If it is a symbolic link, the link stays and its target is changed.

    Raises errors.PluginError if the file cannot be read.
    """

    def __init__(self, dom0_path):
        self.dom0_path = dom0_path
        self._path = os.path.realpath(paths.locate(dom0_path))
        self._status = self._look()
        self._lines = self._old_lines = self._read()

    def _look(self):
        return os.stat(self._path) if os.path.exists(self._path) else None

    def _read(self):
        with os_errors.Errors('cannot read %s' % self.dom0_path):
            data = durable_file.read(self._path, _MAX_BYTES + 1)
        if data is None:
            return []
        if len(data) > _MAX_BYTES:
            raise errors.PluginError('%s has more than %d bytes: shorten it' % (self.dom0_path, _MAX_BYTES))
        lines = data.split(b'\n')
        return lines if lines[-1] else lines[:-1]

    def list_hosts(self):
        """The uuids of the hosts in our lines, in the order of the file."""
        found = []
        for line in self._lines:
            uuid = _find_owner(line)
            if uuid and uuid not in found:
                found.append(uuid)
        return found

    def list_keys(self):
        """The keys in our lines, in base64."""
        return [key for line in self._lines if _find_owner(line) for key in line.split()[-2:-1]]

    def replace(self, uuid, lines):
        """Replace our lines for a host, in their place or at the end.  Whether that changes anything."""
        old = [number for number, line in enumerate(self._lines) if _find_owner(line) == uuid]
        if [self._lines[number] for number in old] == lines:
            return False
        place = old[0] if old else len(self._lines)
        kept = [[line for number, line in enumerate(self._lines[start:end], start) if number not in old]
                for start, end in ((0, place), (place, len(self._lines)))]
        self._lines = kept[0] + lines + kept[1]
        return True

    def find_others(self, is_meant):
        """The numbers, from 1, of other lines than ours for whose words is_meant(words) is true."""
        return [number for number, line in enumerate(self._lines, 1)
                if not line.lstrip().startswith(b'#') and not _find_owner(line) and is_meant(line.split())]

    def save(self):
        """Write the file, if it has changed.  Raises EnvironmentError; errors.RetryableError if another program has written it."""
        if self._lines == self._old_lines:
            return
        mode = stat.S_IMODE(self._status.st_mode) if self._status else 0o600
        durable_file.replace(self._path, b''.join(line + b'\n' for line in self._lines), mode, self._check_unchanged)
        faults.point('trust.replaced')

    def _check_unchanged(self):
        """Raises errors.RetryableError after a change by another program: ssh adds to known_hosts, administrators edit both."""
        faults.point('trust.written')
        if _identify(self._look()) != _identify(self._status):
            raise errors.RetryableError('another program has just written %s: repeat the call' % self.dom0_path)


def _identify(status):
    return status and (status.st_ino, status.st_size, status.st_mtime)


def _find_owner(line):
    """The uuid of the host in a line of ours; None for any other line."""
    words = line.split()
    if not words or words[0].startswith(b'#') or not words[-1].startswith(_MARK):
        return None
    uuid = words[-1][len(_MARK):].decode('ascii', 'replace')
    return uuid if text_checks.is_uuid(uuid) else None


def make_admission(uuid, entry):
    """The lines of authorized_keys for a host; entry: {'public_key', 'addresses', 'host_keys'}, checked by trust_kinds."""
    options = ['from="%s"' % ','.join(entry['addresses'])] + list(_LIMITS) + ['command="%s"' % arrival_gate.make_command()]
    return [_encode(','.join(options), entry['public_key'], uuid)]


def make_acquaintance(uuid, entry):
    """The lines of known_hosts for a host."""
    return [_encode(','.join(entry['addresses']), key, uuid) for key in entry['host_keys']]


def _encode(first, key, uuid):
    return ('%s %s ' % (first, key)).encode('ascii') + _MARK + uuid.encode('ascii')


def find_unlimited(admitted, entry):
    """The numbers of the lines of authorized_keys that admit a host's key and are not ours."""
    key = entry['public_key'].encode('ascii').split()[1]
    return admitted.find_others(lambda words: key in words)


def find_bypasses(admitted):
    """The numbers of such lines for the keys of all hosts in our lines."""
    keys = set(admitted.list_keys())
    return admitted.find_others(lambda words: not keys.isdisjoint(words))


def find_contradictions(known, entry):
    """The numbers of the lines of known_hosts that have another key of a same type for one of a host's addresses."""
    keys = [key.encode('ascii').split() for key in entry['host_keys']]
    types = [key[0] for key in keys]

    def is_other(words):
        return len(words) > 2 and words[1] in types and words[1:3] not in keys and any(
            _names(words[0], address.encode('ascii')) for address in entry['addresses'])
    return known.find_others(is_other)


def _names(field, address):
    """Whether the first field of a line of known_hosts, which may be hashed, contains an address."""
    if not field.startswith(_HASHED):
        return address in field.lower().split(b',')
    import hashlib
    import hmac
    try:
        salt, digest = [binascii.a2b_base64(text) for text in field[len(_HASHED):].split(b'|')]
    except (ValueError, binascii.Error):
        return False
    return hmac.new(salt, address, hashlib.sha1).digest() == digest
