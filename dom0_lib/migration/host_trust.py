# SPDX-License-Identifier: Apache-2.0
"""Trust between hosts: each host tells its ssh key and learns the keys of the others, so that they may send disks to each other.

    ssh_key on A  ->  key, addresses, host keys   ->  trust_keys on B:  A's key may send disks into B's /images, from A's addresses
    ssh_key on B  ->  ...                         ->  trust_keys on A:  A knows B's host keys
"""

from __future__ import absolute_import, division

import os

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import settings
from dom0_lib import step_report
from dom0_lib.migration import authorized_keys
from dom0_lib.migration import public_key
from dom0_lib.migration import ssh_directory
from dom0_lib.toolstack import this_host
from dom0_lib.toolstack import xapi

_HOST_KEYS = tuple('%s/ssh_host_%s_key.pub' % (paths.SSHD, kind) for kind in ('ed25519', 'ecdsa', 'rsa'))
_MAX_KEY_BYTES = 10000


def describe_key(session_ref, dry_run):
    """The facts that another host needs to trust this one: {'host_uuid', 'name', 'public_key', 'addresses', 'host_keys'}.

    If root has no usable key, one is made; with dry_run, public_key is None instead.
    Raises errors.PluginError, errors.RetryableError.
    """
    api, host_ref = this_host.find(session_ref, None)
    with xapi.Errors("cannot read this host's records"):
        host = api.host.get_record(host_ref)
        pifs = [record for record in api.PIF.get_all_records().values() if record['host'] == host_ref]
    return {'host_uuid': host['uuid'], 'name': host['name_label'], 'public_key': _find_key(dry_run),
            'addresses': _list_addresses(pifs), 'host_keys': _list_host_keys()}


def _list_addresses(pifs):
    """Addresses, management first: migrations come from that one, except to hosts on another network."""
    found = []
    for record in sorted(pifs, key=lambda record: (not record['management'], record['device'], record['uuid'])):
        for address in [record['IP']] + [address.partition('/')[0].lower() for address in record['IPv6']]:
            # A link-local address is meaningless without its interface.
            if address and address not in found and not address.startswith('fe80:'):
                found.append(address)
    if not found:
        raise errors.PluginError('XAPI knows no address of any network interface of this host')
    return found[:public_key.MAX_ADDRESSES]


def _list_host_keys():
    found = []
    for dom0_path in _HOST_KEYS:
        path = paths.locate(dom0_path)
        if os.path.exists(path):
            try:
                with open(path, 'rb') as source:
                    text = source.read(_MAX_KEY_BYTES).decode('utf-8', 'replace')
                found.append(public_key.check_public_key(text.strip()))
            except (EnvironmentError, ValueError) as error:
                log.warning('ssh_key leaves out %s: %s', dom0_path, compat.to_text(error))
    return found


def _find_key(dry_run):
    identity_file = settings.load().identity_file
    key = ssh_directory.find_public_key(identity_file)
    if key or dry_run:
        return key
    with ssh_directory.locked():
        # Another call may have made the key meanwhile.
        if not ssh_directory.find_public_key(identity_file):
            ssh_directory.make_key('root@' + this_host.read_uuid())
        return ssh_directory.find_public_key(identity_file)


def trust(_session_ref, keys, dry_run):
    """Let hosts send disks here, and accept their host keys.  Hosts trusted earlier stay so.  A list of steps, one for each host.

    keys: {host uuid: {'public_key', 'addresses', 'host_keys'}}
    Raises errors.PluginError, errors.RetryableError.
    """
    own_uuid = this_host.read_uuid()

    def change(files):
        steps = [_Step(uuid, 'this host itself') if uuid == own_uuid else _trust(files, uuid, keys[uuid]) for uuid in sorted(keys)]
        # After all changes, because findings name lines by their numbers.
        for step in steps:
            if step.uuid != own_uuid:
                _review(files, step, keys[step.uuid])
        return steps
    return _run(change, dry_run)


def distrust(_session_ref, host_uuids, dry_run):
    """Reverse trust() for these hosts, or for all if host_uuids is None.  A list of steps, one for each host.

    Raises errors.PluginError, errors.RetryableError.
    """
    def change(files):
        uuids = files.list_hosts() if host_uuids is None else host_uuids
        return [_distrust(files, uuid) for uuid in uuids]
    return _run(change, dry_run)


def _run(change, dry_run):
    """Do change(files), which returns steps, and write the files.  The reports of the steps."""
    if dry_run:
        return [step.tell(True) for step in change(_Files())]
    with ssh_directory.locked():
        files = _Files()
        steps = change(files)
        files.save(steps)
    for step in steps:
        if step.changes and not step.problem:
            log.info('host %s %s', step.uuid, ', '.join(step.changes))
    return [step.tell(False) for step in steps]


def _trust(files, uuid, entry):
    step = _Step(uuid, 'it may send disks here, and is known by its host keys')
    step.take(files.admitted.replace(uuid, authorized_keys.make_admission(uuid, entry)), 'may send disks here')
    step.take(files.known.replace(uuid, authorized_keys.make_acquaintance(uuid, entry)), 'is known by its host keys')
    return step


def _review(files, step, entry):
    """Add to a trusted host's step the lines of others that admit its key without limits or contradict its host keys."""
    numbers = authorized_keys.find_unlimited(files.admitted, entry)
    if numbers:
        step.remarks.append('%s admits its key without limits' % _name_lines(files.admitted, numbers))
        step.fixes.append('remove such a line, unless the key has another purpose, too')
    numbers = authorized_keys.find_contradictions(files.known, entry)
    if numbers:
        step.problem = '%s has another key for one of its addresses' % _name_lines(files.known, numbers)
        step.fixes.append('remove such a line if the host was reinstalled; if not, find out whose key it is')


def _distrust(files, uuid):
    step = _Step(uuid, 'it was not trusted')
    step.take(files.admitted.replace(uuid, []), 'may send no disks here')
    step.take(files.known.replace(uuid, []), 'its host keys are forgotten')
    return step


def _name_lines(lines, numbers):
    return 'line %s of %s' % (', '.join(str(number) for number in numbers), lines.dom0_path)


class _Step(object):
    """The step for one host.

    changes             the changes to the two files, in words
    remarks, problem    findings that are no failure, and the failure, or None
    fixes               remedies for remarks and problem
    """

    def __init__(self, uuid, state):
        self.uuid = uuid
        self._state = state
        self.changes = []
        self.remarks = []
        self.problem = None
        self.fixes = []

    def take(self, is_new, change):
        if is_new:
            self.changes.append(change)

    def fail(self, problem, fix):
        """Record a failed write.  Forget the planned changes: nobody knows which of them reached the disk."""
        self.problem, self.fixes, self.changes, self.remarks, self._state = problem, [fix], [], [], None

    def tell(self, dry_run):
        outcome = step_report.PROBLEM if self.problem else step_report.choose_outcome(self.changes, dry_run)
        parts = [self.problem, ', '.join(self.changes) or self._state] + self.remarks
        return step_report.make(self.uuid, outcome, '; '.join(part for part in parts if part), '; '.join(self.fixes) or None)


class _Files(object):
    """`admitted` is authorized_keys, `known` is known_hosts.  Raises errors.PluginError."""

    def __init__(self):
        self.admitted = authorized_keys.LineFile(authorized_keys.AUTHORIZED_KEYS)
        self.known = authorized_keys.LineFile(authorized_keys.KNOWN_HOSTS)

    def list_hosts(self):
        return sorted(set(self.admitted.list_hosts() + self.known.list_hosts()))

    def save(self, steps):
        for lines in (self.admitted, self.known):
            try:
                lines.save()
            except EnvironmentError as error:
                for step in steps:
                    if step.changes:
                        step.fail('cannot write %s: %s' % (lines.dom0_path, compat.to_text(error)),
                                  'make it writable for root, and repeat the call')
