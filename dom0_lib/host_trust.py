# SPDX-License-Identifier: Apache-2.0
"""Hosts that let each other send disks: each tells its ssh key, and learns those of the others.

    ssh_key on A  ->  key, addresses, host keys   ->  trust_keys on B:  A's key may send disks into B's /images, from A's addresses
    ssh_key on B  ->  ...                         ->  trust_keys on A:  A knows by which key B answers
"""

from __future__ import absolute_import, division

import os

from dom0_lib import authorized_keys
from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import faults
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import proc
from dom0_lib import settings
from dom0_lib import this_host
from dom0_lib import trust_args
from dom0_lib import whole_file
from dom0_lib import xapi

_NEW_KEY = paths.ROOT_SSH + '/id_ed25519'
# Those that ssh tries by itself and every ssh in dom0 knows.
_KEYS = (_NEW_KEY, paths.ROOT_SSH + '/id_ecdsa', paths.ROOT_SSH + '/id_rsa')
_SCRATCH = paths.ROOT_SSH + '/.dom0-plugins-key'
_PUBLIC = '.pub'
_HOST_KEYS = tuple('%s/ssh_host_%s_key.pub' % (paths.SSHD, kind) for kind in ('ed25519', 'ecdsa', 'rsa'))
_KEYGEN_TIMEOUT_S = 60
_MAX_KEY_BYTES = 10000


def describe_key(session_ref, dry_run):
    """What another host needs to trust this one: {'host_uuid', 'name', 'public_key', 'addresses', 'host_keys'}.

    A key is made if migrations would find none, or with dry_run public_key is None then.
    Raises errors.PluginError, errors.RetryableError.
    """
    api, host_ref = this_host.find(session_ref, None)
    with xapi.Errors("cannot read this host's records"):
        host = api.host.get_record(host_ref)
        pifs = [record for record in api.PIF.get_all_records().values() if record['host'] == host_ref]
    return {'host_uuid': host['uuid'], 'name': host['name_label'], 'public_key': _find_key(dry_run),
            'addresses': _list_addresses(pifs), 'host_keys': _list_host_keys()}


def _list_addresses(pifs):
    """Management first: it is what a migration comes from, unless the other host's address is on another network."""
    found = []
    for record in sorted(pifs, key=lambda record: (not record['management'], record['device'], record['uuid'])):
        for address in [record['IP']] + [address.partition('/')[0].lower() for address in record['IPv6']]:
            # A link-local one means nothing without its interface.
            if address and address not in found and not address.startswith('fe80:'):
                found.append(address)
    if not found:
        raise errors.PluginError('no network interface of this host has an address, as XAPI knows them')
    return found


def _list_host_keys():
    found = []
    for dom0_path in _HOST_KEYS:
        path = paths.locate(dom0_path)
        if os.path.exists(path):
            try:
                with open(path, 'rb') as source:
                    found.append(_read_key(source.read(_MAX_KEY_BYTES)))
            except (EnvironmentError, ValueError) as error:
                log.warning('ssh_key goes without %s: %s', dom0_path, compat.to_text(error))
    return found


def _read_key(data):
    return trust_args.check_public_key(data.decode('utf-8', 'replace').strip())


def _find_key(dry_run):
    """The public half of the key by which migrations log in.  ssh-keygen says it, so that it can be used by nobody's hand."""
    chosen = settings.load().identity_file
    if chosen:
        if not os.path.exists(paths.locate(chosen)):
            raise errors.PluginError("'identity_file' in [migration] of %s is %s, which is not there: make it with `ssh-keygen -t"
                                     " ed25519 -N '' -f %s`, or remove the setting" % (paths.SETTINGS, chosen, chosen))
        return _ask_for_public(chosen)
    with authorized_keys.Lock(is_needed=not dry_run):
        refusals = []
        for dom0_path in _KEYS:
            if os.path.exists(paths.locate(dom0_path)):
                try:
                    return _ask_for_public(dom0_path)
                except errors.PluginError as error:
                    refusals.append(error)
        if os.path.exists(paths.locate(_NEW_KEY)):
            raise refusals[0]
        if dry_run:
            return None
        _make_key()
        return _ask_for_public(_NEW_KEY)


def _ask_for_public(dom0_path):
    try:
        completed = proc.run(['ssh-keygen', '-y', '-P', '', '-f', paths.locate(dom0_path)], _KEYGEN_TIMEOUT_S)
        return _read_key(completed.output_bytes.strip())
    except errors.CommandFailed as error:
        raise errors.PluginError('migrations cannot use the key %s: %s; it needs to be without a passphrase and for root alone,'
                                 ' or away' % (dom0_path, error))
    except ValueError as error:
        raise errors.PluginError('migrations cannot use the key %s: it %s' % (dom0_path, error))


def _make_key():
    scratch, path = paths.locate(_SCRATCH), paths.locate(_NEW_KEY)
    try:
        for name in (scratch, scratch + _PUBLIC):  # of a killed call
            whole_file.remove(name)
        proc.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'root@' + this_host.read_uuid(), '-f', scratch],
                 _KEYGEN_TIMEOUT_S)
        faults.point('key.made')
        # A link replaces nothing; the private half comes first, as ssh can do with it alone.
        for ending in ('', _PUBLIC):
            whole_file.sync(scratch + ending)
            if ending == '' or not os.path.lexists(path + ending):
                os.link(scratch + ending, path + ending)
            faults.point('key.linked')
        for ending in ('', _PUBLIC):
            whole_file.remove(scratch + ending)
    except EnvironmentError as error:
        raise errors.PluginError('cannot make the key %s: %s' % (_NEW_KEY, compat.to_text(error)))
    log.info('made the key %s', _NEW_KEY)


def trust(_session_ref, keys, dry_run):
    """Let the hosts send disks here, and know them; those that are trusted already stay so.  A list of steps, one for each host.

    keys: {host uuid: {'public_key', 'addresses', 'host_keys'}}
    Raises errors.PluginError, errors.RetryableError.
    """
    own_uuid = this_host.read_uuid()
    with _Files(dry_run) as files:
        steps = [_Step(uuid, 'this host itself') if uuid == own_uuid else _trust(files, uuid, keys[uuid]) for uuid in sorted(keys)]
        return files.finish(steps)


def _trust(files, uuid, entry):
    step = _Step(uuid, 'it may send disks here, and is known')
    step.changes = [name for name, is_new in (
        ('may send disks here', files.admitted.replace(uuid, authorized_keys.make_admission(uuid, entry))),
        ('is known by its host keys', files.known.replace(uuid, authorized_keys.make_acquaintance(uuid, entry)))) if is_new]
    numbers = authorized_keys.find_unlimited(files.admitted, entry)
    if numbers:
        step.remark = '%s of %s admits its key without limits' % (_name_lines(numbers), authorized_keys.AUTHORIZED_KEYS)
        step.fixes.append('remove that line unless the key is also for something else')
    numbers = authorized_keys.find_contradictions(files.known, entry)
    if numbers:
        step.problem = '%s of %s has another key for one of its addresses' % (_name_lines(numbers), authorized_keys.KNOWN_HOSTS)
        step.fixes.append('remove that line if the host was installed anew; if not, find out whose key it is')
    return step


def _name_lines(numbers):
    return 'line %s' % ', '.join(str(number) for number in numbers)


def distrust(_session_ref, host_uuids, dry_run):
    """Take back what trust() has done, for these hosts, or with None for all.  A list of steps, one for each host.

    Raises errors.PluginError, errors.RetryableError.
    """
    with _Files(dry_run) as files:
        if host_uuids is None:
            host_uuids = sorted(set(files.admitted.list_hosts() + files.known.list_hosts()))
        steps = []
        for uuid in host_uuids:
            step = _Step(uuid, 'not trusted')
            step.changes = [name for name, is_new in (('may send no disks here', files.admitted.replace(uuid, [])),
                                                      ('its host keys are forgotten', files.known.replace(uuid, []))) if is_new]
            steps.append(step)
        return files.finish(steps)


class _Step(object):
    """What is done for one host.

    changes         what becomes different
    remark, problem what else the caller should know; what is wrong
    fixes           what to do about either
    """

    def __init__(self, uuid, state):
        self.uuid = uuid
        self._state = state
        self.changes = []
        self.fixes = []
        self.remark = self.problem = None

    def tell(self, dry_run):
        outcome = 'problem' if self.problem else 'already' if not self.changes else 'would' if dry_run else 'done'
        parts = [self.problem] if self.problem else []
        parts += [', '.join(self.changes) or self._state] + ([self.remark] if self.remark else [])
        return {'step': self.uuid, 'outcome': outcome, 'detail': '; '.join(parts), 'fix': '; '.join(self.fixes) or None}


class _Files(object):
    """Both files while no other call changes them: `admitted` is authorized_keys, `known` is known_hosts."""

    def __init__(self, dry_run):
        self._dry_run = dry_run
        self._lock = authorized_keys.Lock(is_needed=not dry_run)
        self.admitted = self.known = None

    def __enter__(self):
        self._lock.__enter__()
        try:
            self.admitted = authorized_keys.LineFile(authorized_keys.AUTHORIZED_KEYS)
            self.known = authorized_keys.LineFile(authorized_keys.KNOWN_HOSTS)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, value, traceback):
        self._lock.__exit__(kind, value, traceback)

    def finish(self, steps):
        """What is answered for the steps, which are written unless it is a dry run."""
        if not self._dry_run:
            for lines in (self.admitted, self.known):
                try:
                    lines.save()
                except EnvironmentError as error:
                    for step in steps:
                        if step.changes:
                            step.problem = 'cannot write %s: %s' % (lines.dom0_path, compat.to_text(error))
                            step.fixes.append('see that root can write there, and repeat this')
            for step in steps:
                if step.changes and not step.problem:
                    log.info('host %s %s', step.uuid, ', '.join(step.changes))
        return [step.tell(self._dry_run) for step in steps]
