# SPDX-License-Identifier: Apache-2.0
"""The commands of network_config, each with its arguments and the program that it runs.

A name is never read as an option, a keyword of ip or a separator of ovs-vsctl: it begins with a letter, a digit or _, and stands
where the program expects a name.
"""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import text_checks
from dom0_lib.call import binding
from dom0_lib.network import command_words

_MAX_TEXT_LENGTH = 255
_TEXT_CHARACTERS = frozenset(text_checks.LETTERS_AND_DIGITS + u'_-.:@+')
# The forward delay of a bridge.
_MAX_DELAY_S = 30


def _check_name(value):
    if not command_words.is_device(value):
        raise ValueError('needs the name of an interface: at most 15 letters, digits, "_", "-", ".", not beginning with "-" or "."')


def _check_key(value):
    if not command_words.is_name(value):
        raise ValueError('needs the name of an external id')


def _check_value(value):
    # ovs-vsctl reads these characters after a `=` as text, but not commas, quotes or brackets.
    if not 0 < len(value) <= _MAX_TEXT_LENGTH or not _TEXT_CHARACTERS.issuperset(value):
        raise ValueError('needs letters, digits, "_", "-", ".", ":", "@", "+"')


def _check_mac(value):
    parts = value.split(u':')
    if [len(part) for part in parts] != [2] * 6 or value.strip(text_checks.HEX_DIGITS + u':'):
        raise ValueError('needs a MAC address: aa:bb:cc:dd:ee:ff')


def _check_delay(value):
    delay_s = text_checks.to_number(value, 2)
    if delay_s is None or delay_s > _MAX_DELAY_S:
        raise ValueError('needs a number of seconds from 0 to %d' % _MAX_DELAY_S)


def _one_of(*choices):
    def check(value):
        if value not in choices:
            raise ValueError('needs %s' % u' or '.join(choices))
    return check


_CHECKS = {'iface-id': _check_value, 'value': _check_value, 'status': _check_value, 'mac': _check_mac, 'extneral_id': _check_key,
           'fd': _check_delay}
_CHECKS.update((name, _check_name) for name in (
    'bridge', 'bridge_name', 'port', 'port_name', 'peer_port_name', 'interface', 'interface_name', 'device_name', 'dev1_name',
    'dev2_name'))

# Without --timeout ovs-vsctl would wait for ovs-vswitchd without a limit.
_OVS = 'ovs-vsctl --timeout=30 -- '
_OVS_PORT = _OVS + '--if-exists del-port {0} -- add-port {1} {0}'
# {name} stands for an argument.
_TEMPLATES = {
    'ovs_create_port': _OVS_PORT.format('{port}', '{bridge}') + (
        ' -- set Interface {port} external_ids:iface-id={iface-id} external_ids:iface-status={status}'
        ' external_ids:attached-mac={mac} external_ids:xs-vif-uuid={iface-id}'),
    'ovs_add_port': _OVS_PORT.format('{port_name}', '{bridge_name}'),
    'ovs_del_port': _OVS + '--if-exists del-port {bridge_name} {port_name}',
    'ovs_del_br': _OVS + '--if-exists del-br {bridge_name}',
    'ovs_add_patch_port': _OVS_PORT.format('{port_name}', '{bridge_name}') + (
        ' -- set Interface {port_name} type=patch options:peer={peer_port_name}'),
    # extneral_id is the callers' spelling
    'ovs_set_if_external_id': _OVS + 'set Interface {interface} external_ids:{extneral_id}={value}',
    'ip_link_add_veth_pair': 'ip link add name {dev1_name} type veth peer name {dev2_name}',
    'ip_link_get_dev': 'ip link show dev {device_name}',
    'ip_link_del_dev': 'ip link delete dev {device_name}',
    'ip_link_set_dev': 'ip link set dev {device_name} {option}',
    'ip_link_set_promisc': 'ip link set dev {device_name} promisc {option}',
    'brctl_add_br': 'brctl addbr {bridge_name}',
    'brctl_del_br': 'brctl delbr {bridge_name}',
    'brctl_add_if': 'brctl addif {bridge_name} {interface_name}',
    'brctl_del_if': 'brctl delif {bridge_name} {interface_name}',
    'brctl_set_fd': 'brctl setfd {bridge_name} {fd}',
    'brctl_set_stp': 'brctl stp {bridge_name} {option}',
}
_OPTIONS = {
    'ip_link_set_dev': _one_of(u'up', u'down'),
    'ip_link_set_promisc': _one_of(u'on', u'off'),
    'brctl_set_stp': _one_of(u'on', u'off', u'yes', u'no'),
}
COMMANDS = frozenset(_TEMPLATES)


def list_arguments(command):
    """The names of a command's arguments."""
    names = [part.partition('}')[0] for part in _TEMPLATES[command].split('{')[1:]]
    return sorted(set(names))


def _check_call(value):
    """[command, argument list of the program] for {'cmd': command, 'args': {name: text}}; unknown arguments are ignored."""
    if not isinstance(value, dict) or not isinstance(value.get(u'args'), dict):
        raise ValueError("needs a map with 'cmd', and with 'args', itself a map")
    command, given = value.get(u'cmd'), value[u'args']
    if not isinstance(command, compat.text_type) or command not in COMMANDS:
        raise ValueError("needs as its 'cmd' one of %s" % ', '.join(sorted(COMMANDS)))
    texts = {}
    for name in list_arguments(command):
        text = given.get(name)
        if not isinstance(text, compat.text_type):
            raise ValueError("lacks the text '%s' in 'args' of %s" % (name, command))
        try:
            (_OPTIONS[command] if name == 'option' else _CHECKS[name])(text)
        except ValueError as error:
            raise ValueError("has a wrong '%s' in 'args': it %s" % (name, error))
        texts[name] = text
    return [command, [word.format(**texts) for word in _TEMPLATES[command].split(' ')]]


CALL = binding.Kind(_check_call, structured=True)
