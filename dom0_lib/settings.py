# SPDX-License-Identifier: Apache-2.0
"""What the host's administrator has set in /etc/dom0-plugins.conf; every setting has a default and the file may be absent.

    [network]
    connect_timeout = 30        seconds to make a connection
    idle_timeout = 90           seconds without any progress
    total_timeout = 21600       seconds for one transfer
    proxy = http://host:port    for the image service; without it none is used, whatever the environment says
    [tls]
    verify = yes                no: accept any certificate
    verify_hosts = no           yes: also those of hosts that join a pool, which XAPI itself signs and does not verify
    ca_file = /path/ca.pem      accept what these authorities signed, instead of the system's
    [transfer]
    threads = 0                 that deflate an upload; 0: one per processor
    nice = 10                   added to the niceness of transfers: dom0's processors belong to the guests first
    reserve = 512               MiB of an SR that a transfer leaves free
    collection_wait = 60        seconds that an upload waits for the storage manager's garbage collection to end
    detach_wait = 30            seconds for which a disk may refuse to be unplugged from dom0
    [netwrap]
    commands = *                of those that dom0_lib.net_filters allows: patterns of the whole command (ip link *, ovs-vsctl *)
    timeout = 120               seconds for one command
    [migration]
    host_keys = accept-new      accept-new: ssh keeps the key of a host that it has not met; strict: it refuses such a host
    identity_file = /path       root's ssh key for the other hosts, tried before ssh's own
    ciphers =                   what ssh prefers, by its names, with commas; none: what costs the least processor time
    [policy]
    deny =                      calls that are refused, by patterns: see dom0_lib.policy
    require_pool_admin = yes    for calls that act on the host itself
"""

from __future__ import absolute_import, division

import errno
import io

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import paths
from dom0_lib import text_checks

_TRUTHS = {'yes': True, 'true': True, 'on': True, '1': True, 'no': False, 'false': False, 'off': False, '0': False}
_MAX_SECONDS = 7 * 24 * 3600
_MAX_THREADS = 64
_MAX_NICE = 19
_MAX_RESERVE_MIB = 1 << 24
_WORD_MARKS = '@+,-./_'
_WORD_CHARACTERS = frozenset('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789' + _WORD_MARKS)
# With a processor's AES instructions a transfer by the first costs half the processor time of what ssh prefers by itself.
_CIPHERS = 'aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr'


class Settings(object):
    """The settings as attributes, named as in the file."""

    def __init__(self, parser):
        self._parser = parser
        self.connect_timeout_s = self._number('network', 'connect_timeout', 30, 1, _MAX_SECONDS)
        self.idle_timeout_s = self._number('network', 'idle_timeout', 90, 1, _MAX_SECONDS)
        self.total_timeout_s = self._number('network', 'total_timeout', 6 * 3600, 1, _MAX_SECONDS)
        self.proxy = self._text('network', 'proxy', None)
        self.verify = self._truth('tls', 'verify', True)
        self.verify_hosts = self._truth('tls', 'verify_hosts', False)
        self.ca_file = self._text('tls', 'ca_file', None)
        self.threads = self._number('transfer', 'threads', 0, 0, _MAX_THREADS)
        self.nice = self._number('transfer', 'nice', 10, 0, _MAX_NICE)
        self.reserve_bytes = self._number('transfer', 'reserve', 512, 0, _MAX_RESERVE_MIB) << 20
        self.collection_wait_s = self._number('transfer', 'collection_wait', 60, 1, _MAX_SECONDS)
        self.detach_wait_s = self._number('transfer', 'detach_wait', 30, 1, _MAX_SECONDS)
        self.commands = self._patterns('netwrap', 'commands', '*')
        self.command_timeout_s = self._number('netwrap', 'timeout', 120, 1, _MAX_SECONDS)
        self.host_keys = self._choice('migration', 'host_keys', ('accept-new', 'strict'))
        self.identity_file = self._word('migration', 'identity_file', None)
        self.ciphers = self._word('migration', 'ciphers', _CIPHERS)
        self.deny = self._patterns('policy', 'deny', '')
        self.require_pool_admin = self._truth('policy', 'require_pool_admin', True)

    def _text(self, section, name, default):
        if self._parser is None or not self._parser.has_option(section, name):
            return default
        return compat.to_text(self._parser.get(section, name)).strip() or default

    def _patterns(self, section, name, default):
        # Not _text(): what is there and empty lists nothing.
        has = self._parser is not None and self._parser.has_option(section, name)
        text = compat.to_text(self._parser.get(section, name)) if has else default
        return [pattern.strip() for pattern in text.split(',') if pattern.strip()]

    def _choice(self, section, name, choices):
        text = self._text(section, name, choices[0])
        if text not in choices:
            raise _wrong(section, name, 'needs %s' % ' or '.join(choices))
        return text

    def _word(self, section, name, default):
        """Text that can stand in a command which is split at spaces."""
        text = self._text(section, name, default)
        if text and not _WORD_CHARACTERS.issuperset(text):
            raise _wrong(section, name, 'needs letters, digits and any of %s' % _WORD_MARKS)
        return text

    def _number(self, section, name, default, lowest, highest):
        text = self._text(section, name, str(default))
        number = text_checks.parse_number(text, 9)
        if number is None or not lowest <= number <= highest:
            raise _wrong(section, name, 'needs a whole number from %d to %d' % (lowest, highest))
        return number

    def _truth(self, section, name, default):
        text = self._text(section, name, 'yes' if default else 'no').lower()
        if text not in _TRUTHS:
            raise _wrong(section, name, 'needs yes or no')
        return _TRUTHS[text]


def are_given():
    """Whether the file sets anything, or cannot be read; the file that packages bring is section names and comments."""
    try:
        with open(paths.locate(paths.SETTINGS), 'rb') as config_file:
            return any(line.strip()[:1] not in (b'', b'#', b';', b'[') for line in config_file)
    except EnvironmentError as error:
        return error.errno != errno.ENOENT


def load():
    """The Settings of this host.  Raises errors.PluginError that names the setting which cannot be used."""
    try:
        config_file = io.open(paths.locate(paths.SETTINGS), encoding='utf-8', errors='replace')
    except EnvironmentError as error:
        if error.errno == errno.ENOENT:
            return Settings(None)
        raise errors.PluginError('cannot read %s: %s' % (paths.SETTINGS, compat.to_text(error)))
    with config_file:
        module = compat.import_configparser()
        parser = module.RawConfigParser()
        try:
            compat.read_config(parser, config_file)
        except module.Error as error:
            raise errors.PluginError('cannot read %s: %s' % (paths.SETTINGS, u' '.join(compat.to_text(error).split())))
    return Settings(parser)


def _wrong(section, name, reason):
    return errors.PluginError("%s: '%s' in [%s] %s" % (paths.SETTINGS, name, section, reason))
