# SPDX-License-Identifier: Apache-2.0
"""The rows that tests/contract/test_calls.py runs: a new call needs one in CALLS, and one in ARGUMENTS for each new argument."""

from __future__ import absolute_import, division

UUID_A = u'11111111-2222-4333-8444-555555555555'
UUID_B = u'66666666-7777-4888-9999-aaaaaaaaaaaa'
SR_UUID = u'0f6c5b7e-2a43-4f0f-9d0c-6a1f2b3c4d5e'
SR_PATH = u'/var/run/sr-mount/' + SR_UUID
# As it is base64, too, it can be a password that comes so.
SECRET = u'gAAAAABs3cr3tX9w'

# An ed25519 key of no host's.
PUBLIC_KEY = u'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f'

# Stands for a listening port of this machine that nothing may connect to.
ENDPOINT = u'http://127.0.0.1:1'


def _make_trusted(**changes):
    return {UUID_A: dict({u'public_key': PUBLIC_KEY + u' root@a', u'addresses': [u'10.0.0.7', u'fd00::7'], u'host_keys': [PUBLIC_KEY]}, **changes)}


# name: (a right value, wrong values). A wrong value that is not text goes into plain calls if the kind is structured. XAPI and XML
# let no control character but LF and TAB arrive as it was.
ARGUMENTS = {
    'image_id': (UUID_A, [u'', u'../x', u'a b', u'x\n', 5, [UUID_A]]),
    'endpoint': (ENDPOINT, [u'', u'glance:9292', u'file:///etc/passwd', u'http://user:' + SECRET + u'@glance', u'http://glance/\nX: y', 5]),
    'uuid_stack': ([UUID_A, UUID_B], [[], UUID_A, [UUID_A, UUID_A], [UUID_A.upper()[:-1] + u'G'], [u'../' + UUID_A], [5], {}]),
    'vdi_uuids': ([UUID_A, UUID_B], [[], UUID_A, [UUID_A, UUID_A], [UUID_A.upper()[:-1] + u'G'], [u'../' + UUID_A], [5], {}]),
    'sr_path': (SR_PATH, [u'', u'var/run/sr-mount', SR_PATH + u'/../x', SR_PATH + u'\n', 5, [SR_PATH]]),
    'sr_uuid': (SR_UUID, [u'', u'x', SR_PATH, SR_UUID.upper(), u'../' + SR_UUID, 5]),
    'extra_headers': ({u'X-Auth-Token': SECRET}, [
        SECRET, [SECRET], {u'X-Auth-Token': SECRET + u'\nX: y'}, {u'Host': SECRET}, {u'a b': SECRET}, {u'X-Auth-Token': [SECRET]}]),
    'properties': ({u'os_type': u'linux', u'note': SECRET}, [
        SECRET, [SECRET], {u'a b': SECRET}, {u'os_type': SECRET + u'\n'}, {u'os_type': [SECRET]}]),
    'api_version': (2, [u'', u'3', u'v2', 3, True, [2]]),
    'dom_id': (u'5', [u'', u'-1', u'5x', u'0x5', u'\u0665', u'32752', u'5' * 20, True, [5]]),
    'key': (u'relax-xsm-sr-check', [u'', u'a b', u'a=b', u'a\n', 5, [u'x'], u'k' * 256]),
    'vdi-ref': (u'OpaqueRef:' + UUID_A, [u'', UUID_A, u'OpaqueRef:', u'OpaqueRef:<x>', 5]),
    'image-size': (u'4096', [u'', u'0', u'-1', u'4k', u'4096.0', u'\u0664', u'9' * 16, True]),
    'cached-image': (UUID_A, [u'../x', u'a b', u'x\n', u'.x', 5, [UUID_A]]),
    'new-image-uuid': (UUID_A, [u'', u'x', UUID_A.upper()[:-1] + u'G', u'../' + UUID_A, 5]),
    'kernel-file': (u'/boot/guest/' + UUID_A, [u'boot/guest/x', u'/boot/guest/../x', u'/boot/guest/', u'/boot/guest/.x', u'/boot/guest/x\n', 5]),
    'ramdisk-file': (u'/boot/guest/' + UUID_A, [u'boot/guest/x', u'/boot/guest/../x', u'/', u'/boot/guest/-x', u'/boot/guest/x\n', 5]),
    'boot_menu_url': (u'http://boot.example.org/menu.ipxe', [
        u'', u'boot.example.org', u'file:///etc/passwd', u'http://x/ y', u'http://x/\nshell', u'http://\xe9/', u'http://' + u'x' * 1000, 5]),
    'ip_address': (u'10.1.2.3', [u'', u'10.1.2', u'10.1.2.256', u'10.1.2.03', u'10.1.2.3\n', u'fe80::1', u'10.1.2.-3', 5]),
    'netmask': (u'255.255.252.0', [u'', u'255.0.255.0', u'0.0.0.0', u'24', u'255.255.252.0 ', 24]),
    'gateway': (u'10.1.0.1', [u'', u'gateway', u'10.1.0.1/24', u'${net0/ip}', 5]),
    'dns': (u'10.1.0.2', [u'', u'dns.example.org', u'10.1.0.2,10.1.0.3', 5]),
    'mkisofs_cmd': (u'mkisofs', [u'', u'sh', u'./mkisofs', u'/tmp/mkisofs', u'/usr/bin/../../tmp/mkisofs', u'mkisofs -quiet', u'/mkisofs', 5]),
    'dev': (u'xvdb', [u'', u'/xvdb', u'../sda', u'sm/../../etc/passwd', u'xvdb/', u'sm//x', u'./x', u'xvdb\n', u'a b', u'x' * 256, 5]),
    'partition_start': (u'2048', [u'', u'0', u'-1', u'2048s', u'4294967296', True, [2048]]),
    'partition_end': (u'-', [u'', u'4096', u'-1', 5]),
    'partnum': (u'1', [u'', u'0', u'5', u'-1', u'1p', True]),
    'fs_type': (u'ext3', [u'', u'ext4', u'swap\n', u'-t', 3]),
    'fs_label': (u'ephemeral', [u'-n', u'x' * 17, u'a\nb', u'\xe9', 5]),
    'dev_path': (u'/dev/xvdb', [u'', u'xvdb', u'/dev/', u'/dev/../etc', u'/devices/x', u'/dev/x\n', 5]),
    'max_seconds': (u'10', [u'', u'-1', u'3601', u'1.5', True]),
    'remove': (u'true', [u'', u'yes', u'True', 1, []]),
    'grace': (u'3600', [u'', u'0', u'-1', u'1h', u'9' * 10, False]),
    'keep': ([UUID_A], [UUID_A, {}, [u'../x'], [5], [u'']]),
    'cmd': ([u'ip', u'link'], [[], u'ip link', [u'ip', 5], [[u'ip']], [u'ip', u'a\nb'], [u'ip', u'\xe9'], {}, 5]),
    'cmd_input': (u'*filter\n', [5, [u'x'], {}, True]),
    'cmd_input_deflated': (u'eJzTSsvMKUkt4gIADKECuw==', [u'', u'x', u'eJw=', u'\xe9', 5, [u'x']]),
    'host_uuid': (UUID_A, [u'', u'x', UUID_A.upper()[:-1] + u'G', u'../' + UUID_A, 5]),
    'vdi_uuid': (UUID_A, [u'', u'x', UUID_A.upper()[:-1] + u'G', u'../' + UUID_A, 5]),
    'compute_uuid': (UUID_A, [u'', u'x', UUID_A.upper()[:-1] + u'G', u'../' + UUID_A, 5]),
    'enabled': (u'true', [u'', u'True', u'1', u'"true"', 1, [True]]),
    'force': (u'true', [u'', u'True', u'1', u'"true"', 1, [True]]),
    'url': (ENDPOINT, [u'', u'10.0.0.5', u'unix://local', u'http://root:' + SECRET + u'@10.0.0.5', 5]),
    'user': (u'root', [u'', u'a\nb', 5, u'x' * 1001]),
    'master_user': (u'root', [u'', u'a\nb', 5, u'x' * 1001]),
    'password': (SECRET, [u'', SECRET + u'\nb', [SECRET]]),
    'master_pass': (SECRET, [u'', SECRET + u'\nb', [SECRET]]),
    'master_addr': (u'10.0.0.5', [u'', u'http://10.0.0.5', u'10.0.0.5/x', u'a b', u'root@10.0.0.5', u'10.0.0.5:x', 5]),
    'params': (u'{"key": "zone", "value": "a"}', [
        u'{', u'{}', u'{"key": 5, "value": 1}', u'{"key": "a b", "value": 1}', u'{"key": "", "value": 1}', [u'key'], 5]),
    'pci_device': (u'0000:00:1f.2', [
        u'', u'00:1f', u'00:1f.8', u'00:1f.22', u'0:1f.2', u'00:1g.2', u'000:00:1f.2', u'../00:1f.2', u'00:1f.2/..', u'00:1f.2\n', 5]),
    'args': ({u'cmd': u'brctl_add_br', u'args': {u'bridge_name': u'xapi1'}}, [
        u'brctl_add_br', [], {}, {u'cmd': u'brctl_add_br'}, {u'args': {u'bridge_name': u'xapi1'}}, {u'cmd': u'sh', u'args': {}},
        {u'cmd': [u'brctl_add_br'], u'args': {u'bridge_name': u'x'}}, {u'cmd': u'brctl_add_br', u'args': [u'x']},
        {u'cmd': u'brctl_add_br', u'args': {}}, {u'cmd': u'brctl_add_br', u'args': {u'bridge_name': u'-h'}}]),
    'cmd_args': ([u'iptables-save'], [[], u'iptables-save', [u'iptables-save', 5], [u'iptables-save', u'a\nb'], {}, 5]),
    'process_input': (u'*filter\n', [5, [u'x'], {}, True]),
    'process_input_deflated': (u'eJzTSsvMKUkt4gIADKECuw==', [u'', u'x', u'eJw=', u'\xe9', 5, [u'x']]),
    'instance_uuid': (UUID_A, [u'', u'x', UUID_A[:-1] + u'G', u'../' + UUID_A, UUID_A + u'/', UUID_A + u'_ephemeral_0', UUID_A + u'_ephemeral_',
                               UUID_A + u'_ephemeral_1 ', UUID_A + u'_ephemeral_\u0661', u'-' + UUID_A, 5, [UUID_A]]),
    'host': (u'10.0.0.7', [u'', u'-oProxyCommand=reboot', u'a b', u'a;b', u'a\n', u'root@a', u'a:b', u'a:0', u'a:99999', u'a:22:22x',
                           u'a/b', u'[::1', u'[a]', u'::1 ', u'h\xf6st', u'a' * 254, 5, [u'a']]),
    'seq_num': (0, [u'', u'30', u'-1', u'0x1', u'1.0', u'\u0661', 30, -1, True, 1.5, [0]]),
    'path': (u'vm-data/hostname', [u'', u'/vm-data', u'../6/vm-data', u'vm-data//x', u'a.b', u'x' * 2049, 5, [u'x']]),
    'ignore_missing_path': (u'False', [u'', u'yes', u'0', 1, [True]]),
    'value': (u'{"a": "b"}', [SECRET * 200, u'\xe9' * 1025, 5, [u'x']]),
    'task': (u'OpaqueRef:' + UUID_A, [u'', UUID_A, u'OpaqueRef:', u'OpaqueRef:<x>', 5]),
    'id': (UUID_A, [u'', u'../name', u'a/b', u'a b', u'x\n', 5]),
    'timeout': (u'5', [u'', u'0', u'-1', u'soon', u'1e3', u'86401', True]),
    'pub': (u'162259276829213363391578010288126', [u'', u'x', u'-5', u'1 2', 5]),
    'enc_pass': (SECRET, [u'', SECRET + u'x', SECRET + u'-_-_', u'ab==' + SECRET, SECRET * 60, 5]),
    'b64_path': (SECRET, [u'', u'/' + SECRET, SECRET + u'x', u'ab==' + SECRET, SECRET * 60, 5]),
    'b64_contents': (SECRET, [SECRET + u'x', SECRET + u'-_-_', u'ab==' + SECRET, 5]),
    'keys': (_make_trusted(), [
        {}, [], UUID_A, {u'x': _make_trusted()[UUID_A]}, {UUID_A: PUBLIC_KEY}, {UUID_A: {}}, _make_trusted(more=1), _make_trusted(host_uuid=UUID_B),
        _make_trusted(public_key=u'ssh-ed25519'), _make_trusted(public_key=u'ssh-rsa' + PUBLIC_KEY[11:]), _make_trusted(public_key=PUBLIC_KEY[:-4]),
        _make_trusted(public_key=u'command="reboot" ' + PUBLIC_KEY), _make_trusted(public_key=u'\n' + PUBLIC_KEY), _make_trusted(public_key=5),
        _make_trusted(public_key=PUBLIC_KEY.replace(u'AAB', u'AA*B')), _make_trusted(addresses=[]), _make_trusted(addresses=u'10.0.0.7'),
        _make_trusted(addresses=[u'*']), _make_trusted(addresses=[u'10.0.0.0/8']), _make_trusted(addresses=[u'!10.0.0.7']),
        _make_trusted(addresses=[u'host7']), _make_trusted(addresses=[u'10.0.0.7,10.0.0.8']), _make_trusted(addresses=[u'10.0.0.7"']),
        _make_trusted(addresses=[u'fe80::1%eth0']), _make_trusted(addresses=[u'1::2::3']), _make_trusted(host_keys=PUBLIC_KEY), _make_trusted(host_keys=[u''])]),
    'host_uuids': ([UUID_A], [[], UUID_A, {}, [UUID_A, UUID_A], [u'*'], [5]]),
    'dry_run': (u'true', [u'', u'yes', u'True', 1, []]),
    'bridge': (u'true', [u'', u'yes', u'1', 1, []]),
    'console_log': (u'true', [u'', u'on', u'TRUE', 1, []]),
    'md5sum': (u'd41d8cd98f00b204e9800998ecf8427e', [u'', u'x' * 32, u'd41d8cd98f00b204e9800998ecf8427', 5]),
}

# XAPI says -1 of a guest that is between two domains; its agent cannot be asked, and the caller learns to wait.
_OF_A_GUEST = {
    'dom_id': (u'5', [u'', u'-2', u'5x', u'5/../0', u'\u0665', u'32752', True, [5]]),
    'url': (u'http://user:' + SECRET + u'@10.0.0.5/agent.zip', [
        u'', SECRET, u'http://h/' + SECRET + u',b', u'http://h/' + SECRET + u' b', u'http://h/' + SECRET + u'\n', 5]),
}

# (plug-in, call): {argument: (a right value, wrong values)} where an argument means something else in this call.
CALLS = {
    ('dom0_plugin_version.py', 'get_version'): {},
    ('bandwidth.py', 'fetch_all_bandwidth'): {},
    ('config_file.py', 'get_val'): {},
    ('console.py', 'get_console_log'): {},
    ('dom0_host.py', 'cut_console_logs'): {},
    ('dom0_host.py', 'tend_console_logs'): {},
    ('dom0_host.py', 'distrust_keys'): {},
    ('dom0_host.py', 'doctor'): {},
    ('dom0_host.py', 'prepare'): {},
    ('dom0_host.py', 'undo_prepare'): {},
    ('dom0_host.py', 'ssh_key'): {},
    ('dom0_host.py', 'trust_keys'): {},
    ('dom0_host.py', 'version'): {},
    ('glance.py', 'download_vhd2'): {},
    ('glance.py', 'upload_vhd2'): {},
    ('glance.py', 'sweep'): {},
    ('ipxe.py', 'inject'): {},
    ('kernel.py', 'copy_vdi'): {},
    ('kernel.py', 'create_kernel_ramdisk'): {'cached-image': (UUID_A, [u'', u'../x', u'a b', u'x\n', u'.x', 5, [UUID_A]])},
    ('kernel.py', 'remove_kernel_ramdisk'): {},
    ('kernel.py', 'sweep'): {},
    ('migration.py', 'transfer_vhd'): {},
    ('migration.py', 'move_vhds_into_sr'): {},
    ('netwrap.py', 'run_command'): {},
    ('partition_utils.py', 'make_partition'): {},
    ('partition_utils.py', 'mkfs'): {},
    ('partition_utils.py', 'wait_for_dev'): {},
    ('xenhost.py', 'get_config'): {
        'params': (u'{"key": "zone"}', [u'{', u'{}', u'{"key": 5}', u'{"key": "a b"}', u'{"key": ""}', [u'key'], 5])},
    ('xenhost.py', 'get_pci_device_details'): {},
    ('xenhost.py', 'get_pci_type'): {},
    ('xenhost.py', 'host_data'): {},
    ('xenhost.py', 'host_join'): {},
    ('xenhost.py', 'host_reboot'): {'action': (u'"reboot"', [u'', u'shutdown', u'"reboot', u'Reboot', 5])},
    ('xenhost.py', 'host_shutdown'): {'action': (u'"shutdown"', [u'', u'reboot', u'shutdown"', 5])},
    ('xenhost.py', 'host_start'): {'action': (u'startup', [u'', u'reboot', u"'startup'", 5])},
    ('xenhost.py', 'host_uptime'): {},
    ('xenhost.py', 'iptables_config'): {},
    ('xenhost.py', 'network_config'): {},
    ('xenhost.py', 'query_gc'): {'sr_uuid': (SR_UUID, [u'', u'x', SR_UUID.upper(), u'../' + SR_UUID, 5])},
    ('xenhost.py', 'set_config'): {},
    ('xenhost.py', 'set_host_enabled'): {},
    ('agent.py', 'version'): _OF_A_GUEST,
    ('agent.py', 'key_init'): _OF_A_GUEST,
    ('agent.py', 'password'): _OF_A_GUEST,
    ('agent.py', 'resetnetwork'): _OF_A_GUEST,
    ('agent.py', 'inject_file'): _OF_A_GUEST,
    ('agent.py', 'agentupdate'): _OF_A_GUEST,
    ('workarounds.py', 'safe_copy_vdis'): {},
    ('xenstore.py', 'read_record'): {},
    ('xenstore.py', 'write_record'): {},
    ('xenstore.py', 'list_records'): {'path': (u'', [u'/vm-data', u'../6/vm-data', u'vm-data/', u'a.b', u'x' * 2049, 5, [u'x']])},
    ('xenstore.py', 'delete_record'): {},
}


def _call(function, members):
    return (b'<methodCall><methodName>' + function + b'</methodName><params><param><value>OpaqueRef:6a5d8e32</value></param>'
            b'<param><value><struct>' + members + b'</struct></value></param></params></methodCall>')


def _success(value):
    return (b'<?xml version="1.0"?>\n<methodResponse><params><param><value><struct><member><name>Status</name><value>'
            b'<string>Success</string></value></member><member><name>Value</name><value><string>' + value + b'</string></value>'
            b'</member></struct></value></param></params></methodResponse>\n')


def _failure(*details):
    return (b'<?xml version="1.0"?>\n<methodResponse><params><param><value><struct><member><name>Status</name><value>'
            b'<string>Failure</string></value></member><member><name>ErrorDescription</name><value><array><data>'
            + b''.join(b'<value><string>' + detail + b'</string></value>' for detail in details) +
            b'</data></array></value></member></struct></value></param></params></methodResponse>\n')


_HOST = b'<member><name>host_uuid</name><value>4d9c3f1e-7f6b-4b56-9a4e-2f1d0c8b7a65</value></member>'

# (name, plug-in, bytes in, bytes out): XAPI's form around the pickles of os-xenapi 0.3.4 under Python 2.7, and around plain texts.
EXCHANGES = [
    ('legacy', 'dom0_plugin_version.py',
     _call(b'get_version', b"<member><name>params</name><value>(dp1\nS'args'\np2\n(tsS'kwargs'\np3\n(dp4\ns.</value></member>" + _HOST),
     _success(b"S'2.1'\n.")),
    ('legacy with keywords of others', 'dom0_plugin_version.py',
     _call(b'get_version', b"<member><name>params</name><value>(dp1\nS'args'\np2\n(tsS'kwargs'\np3\n(dp4\nS'x'\nI1\nss.</value></member>"),
     _success(b"S'2.1'\n.")),
    ('plain', 'dom0_plugin_version.py', _call(b'get_version', _HOST), _success(b'"2.1"')),
    ('plain, empty map', 'dom0_plugin_version.py', _call(b'get_version', b''), _success(b'"2.1"')),
    ('plain, unknown argument', 'dom0_plugin_version.py', _call(b'get_version', b'<member><name>x</name><value>1</value></member>'),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'get_version', b'ArgumentError', b"argument 'x': unknown; this call takes none")),
    ('legacy, a value too many', 'dom0_plugin_version.py',
     _call(b'get_version', b"<member><name>params</name><value>(dp1\nS'args'\np2\n(I1\ntsS'kwargs'\np3\n(dp4\ns.</value></member>"),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'get_version', b'ArgumentError',
              b"argument 'params': has 1 positional values, the call takes 0")),
    ('legacy, dangerous pickle', 'dom0_plugin_version.py',
     _call(b'get_version', b"<member><name>params</name><value>cos\nsystem\n(S'true'\ntR.</value></member>"),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'get_version', b'ArgumentError',
              b"argument 'params': the pickle has a record of code 0x63, which plain data does not need")),
    ('unknown function', 'dom0_plugin_version.py', _call(b'get_versions', b''),
     _failure(b'UNKNOWN_XENAPI_PLUGIN_FUNCTION', b'get_versions')),
    ('unknown function', 'glance.py', _call(b'download_vhd', b''), _failure(b'UNKNOWN_XENAPI_PLUGIN_FUNCTION', b'download_vhd')),
    ('a domain that is none', 'bandwidth.py', _call(b'fetch_all_bandwidth', b'<member><name>dom_id</name><value>-1</value></member>'),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'fetch_all_bandwidth', b'ArgumentError',
              b"argument 'dom_id': needs the number of a domain (got -1)")),
    ('no log', 'console.py',
     _call(b'get_console_log', b'<member><name>dom_id</name><value>5</value></member>' + _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'get_console_log', b'PluginError',
              b"domain 5 has no console log /var/log/xen/guest/console.5: xenconsoled writes one while the guest runs, if "
              b"xenstore's /local/logconsole/@ is /var/log/xen/guest/console.%d")),
    ('nothing stored', 'xenhost.py',
     _call(b'get_config', b'<member><name>params</name><value>{"key": "zone"}</value></member>' + _HOST), _success(b'"None"')),
    ('nothing stored, legacy', 'xenhost.py',
     _call(b'get_config', b"<member><name>params</name><value>(dp1\nS'args'\np2\n(tsS'kwargs'\np3\n(dp4\nS'params'\np5\n(dp6\nS'key'"
           b"\np7\nS'zone'\np8\nsss.</value></member>"), _success(b"S'None'\n.")),
    ('no such device', 'xenhost.py', _call(b'get_pci_type', b'<member><name>pci_device</name><value>00:1f.2</value></member>'),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'get_pci_type', b'PluginError',
              b"no PCI device 0000:00:1f.2: No such file or directory")),
    ('no such setting', 'config_file.py', _call(b'get_val', b'<member><name>key</name><value>relax-xsm-sr-check</value></member>'),
     _success(b'')),
    ('no arguments', 'kernel.py', _call(b'copy_vdi', _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'copy_vdi', b'ArgumentError', b"argument 'vdi-ref': missing")),
    ('plain, text for a reply', 'kernel.py', _call(b'remove_kernel_ramdisk', _HOST), _success(b'ok')),
    ('plain, an empty reply', 'kernel.py',
     _call(b'create_kernel_ramdisk', b'<member><name>cached-image</name><value>x</value></member><member><name>new-image-uuid</name>'
           b'<value>11111111-2222-4333-8444-555555555555</value></member>' + _HOST), _success(b'')),
    ('legacy', 'kernel.py',
     _call(b'remove_kernel_ramdisk', b"<member><name>params</name><value>(dp1\nS'args'\np2\n(tsS'kwargs'\np3\n(dp4\ns.</value></member>"),
     _success(b"S'ok'\n.")),
    ('no arguments', 'netwrap.py', _call(b'run_command', _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'run_command', b'ArgumentError', b"argument 'cmd': missing")),
    ('legacy, a value that would be a line of a script', 'ipxe.py',
     _call(b'inject', b"<member><name>params</name><value>(dp1\nS'args'\np2\n(S'/var/run/sr-mount/x'\nS'11111111-2222-4333-8444-555555555555'\n"
           b"S'http://x/\\nshell'\ntp3\nsS'kwargs'\np4\n(dp5\ns.</value></member>" + _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'inject', b'ArgumentError',
              b"argument 'boot_menu_url': needs a URL of at most 1000 printable ASCII characters without spaces (got http://x/?shell)")),
    ('a device outside /dev', 'partition_utils.py', _call(b'wait_for_dev', b'<member><name>dev_path</name><value>/etc</value></member>'),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'wait_for_dev', b'ArgumentError',
              b"argument 'dev_path': needs the path of a device: /dev/... (got /etc)")),
    ('legacy, by position', 'partition_utils.py',
     _call(b'wait_for_dev', b"<member><name>params</name><value>(dp1\nS'args'\np2\n(S'/dev/xvdb'\np3\nI0\ntp4\nsS'kwargs'\np5\n(dp6\n"
           b"s.</value></member>" + _HOST), _success(b"S''\n.")),
    ('legacy, by position', 'migration.py',
     _call(b'transfer_vhd',
           b"<member><name>params</name><value>(dp1\nS'args'\np2\n(S'11111111-2222-4333-8444-555555555555'\np3\n"
           b"S'-oProxyCommand=reboot'\np4\nS'66666666-7777-4888-9999-aaaaaaaaaaaa'\np5\n"
           b"S'/var/run/sr-mount/0f6c5b7e-2a43-4f0f-9d0c-6a1f2b3c4d5e'\np6\nI0\ntp7\nsS'kwargs'\np8\n(dp9\ns.</value></member>" + _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'transfer_vhd', b'ArgumentError',
              b"argument 'host': needs a host name, an IPv4 address or an IPv6 address, with or without a port "
              b"(got -oProxyCommand=reboot)")),
    ('nothing has arrived', 'migration.py',
     _call(b'move_vhds_into_sr',
           b'<member><name>instance_uuid</name><value>11111111-2222-4333-8444-555555555555_ephemeral_1</value></member><member><name>'
           b'sr_uuid</name><value>0f6c5b7e-2a43-4f0f-9d0c-6a1f2b3c4d5e</value></member><member><name>uuid_stack</name>'
           b'<value>["11111111-2222-4333-8444-555555555555"]</value></member>'),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'move_vhds_into_sr', b'StorageError',
              b'nothing has arrived: there is no directory /images/instance11111111-2222-4333-8444-555555555555_ephemeral_1')),
    ('legacy, an empty stack', 'workarounds.py',
     _call(b'safe_copy_vdis',
           b"<member><name>params</name><value>(dp1\nS'args'\np2\n(tsS'kwargs'\np3\n(dp4\nS'sr_path'\np5\n"
           b"S'/var/run/sr-mount/0f6c5b7e-2a43-4f0f-9d0c-6a1f2b3c4d5e'\np6\nsS'uuid_stack'\np7\n(lp8\nsS'vdi_uuids'\np9\n(lp10\n"
           b"S'11111111-2222-4333-8444-555555555555'\np11\nass.</value></member>"),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'safe_copy_vdis', b'ArgumentError',
              b"argument 'uuid_stack': needs a list of uuids (got [])")),
    ('False means it', 'xenstore.py',
     _call(b'read_record', b'<member><name>dom_id</name><value>5</value></member><member><name>path</name><value>vm-data/x</value>'
           b'</member><member><name>ignore_missing_path</name><value>False</value></member>' + _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'read_record', b'RetryableError',
              b'xenstored cannot be reached at /var/run/xenstored/socket: [Errno 2] No such file or directory')),
    ('a path that leads out', 'xenstore.py',
     _call(b'delete_record', b'<member><name>dom_id</name><value>5</value></member><member><name>path</name><value>../6</value>'
           b'</member>'),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'delete_record', b'ArgumentError',
              b"argument 'path': needs a path below the domain's: letters, digits, \"-\", \"_\", \"@\", with \"/\" between "
              b'names; at most 2048 characters (got ../6)')),
    ('no arguments', 'glance.py', _call(b'download_vhd2', _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'download_vhd2', b'ArgumentError', b"argument 'image_id': missing")),
    ('no arguments', 'agent.py', _call(b'version', _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'version', b'ArgumentError', b"argument 'id': missing")),
    ('no xenstored', 'agent.py', _call(
        b'password', b'<member><name>id</name><value>11111111-2222-4333-8444-555555555555</value></member>'
        b'<member><name>dom_id</name><value>7</value></member><member><name>timeout</name><value>30</value></member>'
        b'<member><name>enc_pass</name><value>VGhpcyBpcyBhIHNlY3JldA==</value></member>' + _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'password', b'RetryableError',
              b'xenstored cannot be reached at /var/run/xenstored/socket: [Errno 2] No such file or directory')),
    ('the name that is not the call', 'agent.py', _call(b'agent_update', _HOST),
     _failure(b'UNKNOWN_XENAPI_PLUGIN_FUNCTION', b'agent_update')),
    ('a pickle where none is taken', 'dom0_host.py',
     _call(b'version', b"<member><name>params</name><value>(dp1\nS'args'\np2\n(tsS'kwargs'\np3\n(dp4\ns.</value></member>" + _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'version', b'ArgumentError',
              b"argument 'params': this call takes no pickle, but one text for each argument")),
    ('consoles are not logged', 'dom0_host.py', _call(b'cut_console_logs', _HOST),
     _failure(b'XENAPI_PLUGIN_FAILURE', b'cut_console_logs', b'PluginError',
              b'console logging is not on here: call prepare of dom0_host.py with console_log=true')),
]
