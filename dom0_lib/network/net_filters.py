# SPDX-License-Identifier: Apache-2.0
"""The commands that neutron may run in dom0, with the words that may follow each: one table.

The commands are those of os-xenapi's netwrap, with the words that neutron's agents send (ip_lib, ovs_lib, iptables_manager,
ipset_manager, ip_conntrack).  All commands run as root, so no word may name a file, a program or another server.  The dangers:

    ip              batch files; `netns exec` and `vrf exec` run programs; ip reads the beginning of a word as the whole word
    sysctl          reads files; outside net.* are kernel.core_pattern and kernel.modprobe, which name programs
    iptables-*      --modprobe names a program, on the command line and in each line of input; the last word may name a file
    ipset           -file
    ovs-*           --log-file, --unixctl, --private-key and so on; --db and words with a colon name servers; columns of the
                    database hold paths, and punix: removes a file to make its socket
    ovsdb-client    monitor never ends
    conntrack       -E never ends
"""

from __future__ import absolute_import, division

from dom0_lib import text_checks
from dom0_lib.network import command_words

# iptables-restore and ipset read lines with fgets() of 10,240 and 1,024 bytes: they would read the rest as a line of its own.
_RULE_MAX = 8192
_SET_LINE_MAX = 1000
_SYSCTL_VALUE = frozenset(text_checks.LETTERS_AND_DIGITS + u' .,:-')

_ON_OFF = command_words.one_of('on', 'off')
_SCOPE = command_words.one_of('global', 'link', 'host', 'site')
_DEVICE, _ADDRESS = command_words.is_device, command_words.is_address
_NUMBER, _NAME = command_words.is_number, command_words.is_name


def check(argv, input_data):
    """Raises command_words.Refused unless `argv`, a list of printable texts, is allowed with this input."""
    if argv[0] not in _FILTERS:
        raise command_words.Refused(argv[0])
    _FILTERS[argv[0]](argv[1:], input_data)


def _is_default_or_address(text):
    return text == 'default' or _ADDRESS(text)


def _is_all_or_address(text):
    return text == 'all' or _ADDRESS(text)


def _is_mark(text):
    return all(_NAME(part) for part in text.split('/', 1))


def _is_broadcast(text):
    return text == '+' or _ADDRESS(text)


_ADDRESS_SHOW = command_words.Words(
    flags=('permanent', 'dynamic', 'up', 'tentative', 'primary', 'secondary', 'deprecated'),
    valued={'dev': _DEVICE, 'scope': _SCOPE, 'to': _ADDRESS, 'label': _DEVICE}, free=_DEVICE, free_max=1)
_ADDRESS_CHANGE = command_words.Words(
    flags=('nodad', 'noprefixroute'),
    valued={'dev': _DEVICE, 'scope': _SCOPE, 'brd': _is_broadcast, 'broadcast': _is_broadcast, 'label': _DEVICE,
            'valid_lft': _NAME, 'preferred_lft': _NAME}, free=_ADDRESS, free_max=1)
_ROUTE = command_words.Words(
    flags=('onlink', 'unicast', 'blackhole', 'unreachable', 'prohibit', 'local', 'cached'),
    valued={'dev': _DEVICE, 'via': _ADDRESS, 'src': _ADDRESS, 'scope': _NAME, 'proto': _NAME, 'protocol': _NAME, 'metric': _NUMBER,
            'table': _NAME, 'mtu': _NUMBER, 'to': _is_default_or_address, 'root': _is_default_or_address,
            'exact': _is_default_or_address, 'match': _is_default_or_address, 'from': _ADDRESS, 'iif': _DEVICE, 'oif': _DEVICE},
    free=_is_default_or_address, free_max=1)
_RULE = command_words.Words(
    flags=('not',),
    valued={'from': _is_all_or_address, 'to': _is_all_or_address, 'iif': _DEVICE, 'oif': _DEVICE, 'table': _NAME, 'lookup': _NAME,
            'priority': _NUMBER, 'pref': _NUMBER, 'type': _NAME, 'fwmark': _is_mark})
_NEIGHBOUR = command_words.Words(
    flags=('proxy',),
    valued={'dev': _DEVICE, 'lladdr': _ADDRESS, 'nud': _NAME, 'to': _ADDRESS}, free=_ADDRESS, free_max=1)
_LINK_SHOW = command_words.Words(flags=('up',), valued={'dev': _DEVICE, 'type': _NAME, 'master': _DEVICE}, free=_DEVICE, free_max=1)
_LINK_SET = command_words.Words(
    flags=('up', 'down', 'nomaster'),
    valued={'dev': _DEVICE, 'mtu': _NUMBER, 'address': _ADDRESS, 'name': _DEVICE, 'master': _DEVICE, 'txqueuelen': _NUMBER,
            'alias': command_words.is_any, 'promisc': _ON_OFF, 'allmulticast': _ON_OFF, 'multicast': _ON_OFF, 'arp': _ON_OFF},
    free=_DEVICE, free_max=1)
_LINK_ADD = command_words.Words(
    flags=('up', 'peer', 'proxy'),
    valued={'link': _DEVICE, 'name': _DEVICE, 'dev': _DEVICE, 'mtu': _NUMBER, 'address': _ADDRESS, 'id': _NUMBER,
            'type': command_words.one_of('veth', 'vlan', 'vxlan', 'bridge', 'dummy', 'macvtap', 'macvlan'), 'mode': _NAME,
            'group': _ADDRESS, 'remote': _ADDRESS, 'local': _ADDRESS, 'ttl': _NAME, 'tos': _NAME, 'dstport': _NUMBER,
            'protocol': command_words.one_of('802.1Q', '802.1ad')}, free=_DEVICE, free_max=1)
_NAMESPACE = command_words.Words(free=_NAME, free_max=1)
_TAP = command_words.Words(
    valued={'dev': _DEVICE, 'name': _DEVICE, 'mode': command_words.one_of('tap', 'tun')}, free=_DEVICE, free_max=1)


def _make_actions(show, change, *names):
    actions = dict.fromkeys(names, change)
    actions.update(show=show)
    return actions


_IP_OPTIONS = frozenset(['-o', '-oneline', '-4', '-6', '-d', '-details', '-s', '-statistics', '-br', '-brief', '-j', '-json',
                         '-V'])
_IP_OBJECTS = {'addr': 'address', 'neigh': 'neighbour', 'neighbor': 'neighbour'}
_IP_VERBS = {'list': 'show', 'ls': 'show', 'lst': 'show', 'del': 'delete'}
_IP_ACTIONS = {
    'link': {'show': _LINK_SHOW, 'set': _LINK_SET, 'add': _LINK_ADD, 'delete': _LINK_SHOW},
    'address': dict(_make_actions(_ADDRESS_SHOW, _ADDRESS_CHANGE, 'add', 'replace', 'change', 'delete'), flush=_ADDRESS_SHOW),
    'route': _make_actions(_ROUTE, _ROUTE, 'get', 'add', 'append', 'replace', 'change', 'delete', 'flush'),
    'rule': _make_actions(_RULE, _RULE, 'add', 'delete'),
    'neighbour': _make_actions(_NEIGHBOUR, _NEIGHBOUR, 'add', 'replace', 'change', 'delete', 'flush'),
    'netns': _make_actions(command_words.Words(), _NAMESPACE, 'add', 'delete'),
    'tuntap': _make_actions(command_words.Words(), _TAP, 'add', 'delete'),
}


def _check_ip(argv, _input_data):
    left = list(argv)
    while left and left[0][:1] == '-':
        option = left.pop(0)
        if option in ('-f', '-family') and left[:1] in (['inet'], ['inet6'], ['link']):
            left.pop(0)
        elif option not in _IP_OPTIONS:
            raise command_words.Refused(option)
    if not left:
        return
    actions = _IP_ACTIONS.get(_IP_OBJECTS.get(left[0], left[0]), {})
    verb = _IP_VERBS.get(left[1], left[1]) if len(left) > 1 else 'show'
    if verb not in actions:
        raise command_words.Refused(' '.join(left[:2]))
    actions[verb].check(left[2:])


def _check_sysctl(argv, _input_data):
    command_words.Words(flags=('-w', '-b', '-n', '-e', '-q'), free=_is_net_setting, free_max=16).check(argv)


def _is_net_setting(text):
    """Whether `text` is `net.a.b` or `net.a.b=value`.

    A slash stands for a dot in a device's name; of `.//` and `/./` sysctl would make `../`.
    """
    key, _, value = text.partition('=')
    parts = key.split('.')
    return (parts[0] == 'net' and len(parts) > 1 and all(_NAME(piece) for part in parts for piece in part.split('/'))
            and _SYSCTL_VALUE.issuperset(value))


_RULES_TABLE = command_words.one_of('filter', 'nat', 'mangle', 'raw', 'security')
_RULES_SAVE = command_words.Words(flags=('-c', '--counters'), valued={'-t': _RULES_TABLE, '--table': _RULES_TABLE})
_RULES_RESTORE = command_words.Words(
    flags=('-n', '--noflush', '-c', '--counters', '-v', '--verbose', '--test'),
    valued={'-W': _NUMBER, '--wait-interval': _NUMBER, '-T': _RULES_TABLE, '--table': _RULES_TABLE},
    optional={'-w': _NUMBER, '--wait': _NUMBER})
# Single letters that a rule may hold.  Not among them: -M, which names a program, and -t, which has no place in the input.
_RULE_LETTERS = frozenset('ADIRNXFPZECsdpiojgmfcnvw46')
# Long options that a rule must not hold, nor any beginning of them, which getopt_long() would take for the whole.
_RULE_OPTIONS_REFUSED = ('modprobe', 'table', 'object-pinned', 'l7dir')
_QUOTES = '"\'\\'


def _check_rules_save(argv, _input_data):
    _RULES_SAVE.check(argv)


def _check_rules_restore(argv, input_data):
    _RULES_RESTORE.check(argv)
    for line in _split_input(input_data, _RULE_MAX):
        # Quotes decide where words end, and their rules differ between versions: no way to read them may find an option.
        joined, parted = line, line
        for quote in _QUOTES:
            joined, parted = joined.replace(quote, ''), parted.replace(quote, ' ')
        for word in joined.split() + parted.split():
            _check_rule_word(word)


def _check_rule_word(word):
    if word.startswith('--'):
        name = word[2:].partition('=')[0]
        if name and any(option.startswith(name) for option in _RULE_OPTIONS_REFUSED):
            raise command_words.Refused(word)
    elif word[:1] == '-' and not _RULE_LETTERS.issuperset(word[1:]):
        raise command_words.Refused(word)


def _split_input(data, line_max):
    text = data.decode('latin-1')
    lines = text.split('\n')
    for line in lines:
        if len(line) > line_max:
            raise command_words.Refused('a line of %d bytes' % len(line))
        if any(c < ' ' and c != '\t' for c in line):
            raise command_words.Refused('a control character in the input')
    return lines


_SET_COMMANDS = ('create', 'add', 'del', 'destroy', 'flush', 'rename', 'swap')
_SET_FLAGS = ('-exist', '-!')
_SET_CHARACTERS = frozenset(text_checks.LETTERS_AND_DIGITS + u'_.:,/-')


def _is_set_word(text):
    return _SET_CHARACTERS.issuperset(text) and text[:1] not in '-/.'


_SET_FORMAT = command_words.one_of('plain', 'save', 'xml')
_SETS = command_words.Words(
    flags=_SET_FLAGS + ('-q', '-quiet', '-n', '-name', '-t', '-terse', '-s', '-sorted', '-V', '--version'),
    valued={'-o': _SET_FORMAT, '-output': _SET_FORMAT}, free=_is_set_word, free_max=32)
_SET_LINE = command_words.Words(flags=_SET_FLAGS, free=_is_set_word, free_max=32)


def _check_ipset(argv, input_data):
    _check_first(_SETS.check(argv), _SET_COMMANDS + ('test', 'list', 'save', 'restore', 'version'))
    for line in _split_input(input_data, _SET_LINE_MAX):
        _check_first(_SET_LINE.check(line.split()), _SET_COMMANDS + ('COMMIT',))


def _check_first(free, commands):
    if free and free[0] not in commands:
        raise command_words.Refused(free[0])


_FAMILY = command_words.one_of('ipv4', 'ipv6')
_CONNECTIONS = command_words.Words(
    flags=('-D', '--delete', '-L', '--dump', '-n', '--src-nat', '-g', '--dst-nat'),
    valued={'-f': _FAMILY, '--family': _FAMILY, '-p': _NAME, '--proto': _NAME, '-s': _ADDRESS, '--orig-src': _ADDRESS,
            '--src': _ADDRESS, '-d': _ADDRESS, '--orig-dst': _ADDRESS, '--dst': _ADDRESS, '-r': _ADDRESS, '--reply-src': _ADDRESS,
            '-q': _ADDRESS, '--reply-dst': _ADDRESS, '-w': _NUMBER, '--zone': _NUMBER, '-m': _NAME, '--mark': _NAME,
            '--sport': _NUMBER, '--dport': _NUMBER, '--orig-port-src': _NUMBER, '--orig-port-dst': _NUMBER,
            '--icmp-type': _NUMBER, '--icmp-code': _NUMBER, '--icmp-id': _NUMBER,
            '--icmpv6-type': _NUMBER, '--icmpv6-code': _NUMBER, '--icmpv6-id': _NUMBER})


def _check_conntrack(argv, _input_data):
    _CONNECTIONS.check(argv)


_FORMAT = command_words.one_of('table', 'list', 'html', 'csv', 'json')
_DATA_FORMAT = command_words.one_of('string', 'bare', 'json')
_OVSDB_OPTIONS = {'-t': _NUMBER, '--timeout': _NUMBER, '-f': _FORMAT, '--format': _FORMAT, '-d': _DATA_FORMAT,
                  '--data': _DATA_FORMAT}
_VERSION_FLAGS = ('-V', '--version')
_VSCTL_FLAGS = _VERSION_FLAGS + (
    '--oneline', '--no-wait', '--no-syslog', '--dry-run', '--bare', '--pretty', '--no-heading', '--no-headings', '--may-exist',
    '--if-exists', '--if-exist', '--all', '--with-iface', '--real', '--fake', '--fake-iface')
_VSCTL = command_words.Words(
    flags=_VSCTL_FLAGS,
    valued=dict(_OVSDB_OPTIONS, **{'--columns': command_words.is_name_list,
                                   '--id': lambda text: text[:1] == '@' and _NAME(text[1:])}),
    free=command_words.is_any, free_max=64)
_VSCTL_TABLES = frozenset([
    'open_vswitch', 'bridge', 'port', 'interface', 'controller', 'manager', 'qos', 'queue', 'mirror', 'netflow', 'sflow', 'ipfix',
    'flow_table', 'flow_sample_collector_set', 'ct_zone', 'ct_timeout_policy', 'datapath'])
_VSCTL_TABLE_COMMANDS = frozenset(['list', 'find', 'get', 'set', 'add', 'remove', 'clear', 'create', 'destroy', 'wait-until'])
_VSCTL_COMMANDS = frozenset([
    'show', 'add-br', 'del-br', 'list-br', 'br-exists', 'br-to-vlan', 'br-to-parent', 'br-set-external-id', 'br-get-external-id',
    'list-ports', 'add-port', 'add-bond', 'del-port', 'port-to-br', 'list-ifaces', 'iface-to-br', 'get-controller',
    'set-controller', 'del-controller', 'get-manager', 'set-manager', 'del-manager', 'get-fail-mode', 'set-fail-mode',
    'del-fail-mode'])
# Refused in any word, after each - has become _: paths, local sockets, columns that name files or hold arguments of other programs;
# and escapes, by which a quoted value could spell any of these.
_VSCTL_PARTS_REFUSED = ('/', '\\', 'unix:', 'dpdk', 'vhost', 'private_key', 'certificate', 'ca_cert')


def _check_vsctl(argv, _input_data):
    """Check one command, or several with `--` between them; options come before their command."""
    commands = [[]]
    for word in argv:
        if word == '--':
            commands.append([])
        else:
            commands[-1].append(word)
    for command in commands:
        free = _VSCTL.check(command)
        for word in free:
            if any(part in word.lower().replace('-', '_') for part in _VSCTL_PARTS_REFUSED):
                raise command_words.Refused(word)
        if free and free[0] in _VSCTL_TABLE_COMMANDS:
            if len(free) > 1 and free[1].lower().replace('-', '_') not in _VSCTL_TABLES:
                raise command_words.Refused(free[1])
        elif free and free[0] not in _VSCTL_COMMANDS:
            raise command_words.Refused(free[0])


_OFCTL = command_words.Words(
    flags=_VERSION_FLAGS + ('--strict', '--bundle', '--readd', '--names', '--no-names', '--stats', '--no-stats'),
    valued={'-O': command_words.is_name_list, '--protocols': command_words.is_name_list, '-t': _NUMBER, '--timeout': _NUMBER,
            '-F': _NAME, '--flow-format': _NAME},
    free=lambda text: True, free_max=3)
_NOTHING, _STDIN, _FLOW = command_words.one_of(), command_words.one_of('-'), command_words.is_any


def _is_flow_or_stdin(text):
    return text == '-' or _FLOW(text)


# The check of the words after the bridge, which never name a file.
_OFCTL_COMMANDS = {
    'show': _NOTHING, 'dump-tables': _NOTHING, 'dump-ports': _NAME, 'dump-ports-desc': _NAME, 'dump-flows': _FLOW,
    'dump-aggregate': _FLOW, 'add-flow': _is_flow_or_stdin, 'add-flows': _STDIN, 'replace-flows': _STDIN,
    'mod-flows': _is_flow_or_stdin, 'del-flows': _is_flow_or_stdin,
}


def _check_ofctl(argv, _input_data):
    free = _OFCTL.check(argv)
    if not free:
        return
    if free[0] not in _OFCTL_COMMANDS:
        raise command_words.Refused(free[0])
    if not all(_DEVICE(bridge) for bridge in free[1:2]) or not all(_OFCTL_COMMANDS[free[0]](text) for text in free[2:]):
        raise command_words.Refused(' '.join(free))


_OVSDB_CLIENT = command_words.Words(
    flags=_VERSION_FLAGS + ('--no-headings', '--pretty', '--bare'), valued=_OVSDB_OPTIONS, free=_NAME, free_max=8)


def _check_ovsdb_client(argv, _input_data):
    _check_first(_OVSDB_CLIENT.check(argv), ('list-dbs', 'get-schema-version', 'get-schema', 'list-tables', 'list-columns', 'dump'))


_FILTERS = {
    'ip': _check_ip,
    'sysctl': _check_sysctl,
    'iptables-save': _check_rules_save,
    'ip6tables-save': _check_rules_save,
    'iptables-restore': _check_rules_restore,
    'ip6tables-restore': _check_rules_restore,
    'ipset': _check_ipset,
    'conntrack': _check_conntrack,
    'ovs-vsctl': _check_vsctl,
    'ovs-ofctl': _check_ofctl,
    'ovsdb-client': _check_ovsdb_client,
}
