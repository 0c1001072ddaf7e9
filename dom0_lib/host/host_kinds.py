# SPDX-License-Identifier: Apache-2.0
"""Kinds of arguments that the calls for the host itself take: power, pool, stored settings, PCI devices."""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import light_json
from dom0_lib import text_checks
from dom0_lib.call import binding
from dom0_lib.call import kinds

_MAX_LINE = 1000


def _make_action(action):
    def check(value):
        # nova sends the text as JSON.
        if value not in (action, u'"%s"' % action):
            raise ValueError('needs %s: this call does nothing else' % action)
        return action
    return binding.Kind(check)


def _check_line(value):
    if not isinstance(value, compat.text_type) or not 0 < len(value) <= _MAX_LINE or any(
            c < u' ' or c == u'\x7f' or u'\ud800' <= c <= u'\udfff' for c in value):
        raise ValueError('needs one line of text')
    return value


def _check_address(value):
    value = _check_line(value)
    # An address is a text that makes a URL after http://.
    if u'/' in value or not value.strip(u'.-:[]'):
        raise ValueError('needs the address of a host')
    kinds.ENDPOINT.check(u'http://' + value)
    return value


def _check_config_params(value):
    if isinstance(value, compat.text_type):
        value = light_json.loads(value)
    if not isinstance(value, dict):
        raise ValueError("needs a JSON object of 'key' and, to store something, 'value'")
    key = value.get(u'key')
    if not isinstance(key, compat.text_type):
        raise ValueError("has no text as its 'key'")
    kinds.CONFIG_KEY.check(key)
    return dict((name, value[name]) for name in (u'key', u'value') if name in value)


def _check_config_entry(value):
    value = _check_config_params(value)
    if u'value' not in value:
        raise ValueError("has no 'value'")
    try:
        light_json.dumps(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: nested too deep
        raise ValueError("has a 'value' that JSON cannot hold")
    return value


def _check_pci_device(value):
    if not isinstance(value, compat.text_type):
        raise ValueError('needs text')
    rest, dot, function = value.partition(u'.')
    parts = rest.split(u':')
    widths = [len(part) for part in parts]
    if not dot or widths not in ([2, 2], [4, 2, 2]) or rest.strip(text_checks.HEX_DIGITS + u':') or (
            len(function) != 1 or function not in u'01234567'):
        raise ValueError('needs the address of a PCI device: bus:slot.function, such as 00:1f.2, or domain:bus:slot.function')
    return u':'.join([u'0000'] * (3 - len(parts)) + parts).lower() + dot + function


REBOOT = _make_action(u'reboot')
SHUTDOWN = _make_action(u'shutdown')
STARTUP = _make_action(u'startup')
LINE = binding.Kind(_check_line)
PASSWORD = binding.Kind(_check_line, secret=True)
ADDRESS = binding.Kind(_check_address)
CONFIG_PARAMS = binding.Kind(_check_config_params)
CONFIG_ENTRY = binding.Kind(_check_config_entry)
PCI_DEVICE = binding.Kind(_check_pci_device)
