# SPDX-License-Identifier: Apache-2.0
"""kernel.py killed or failing anywhere: after the next call /boot/guest has the whole kernel or none, and nothing is plugged."""

import os
import random
import uuid

import pytest

from tests import fault_points
from tests.calls import pythons
from tests.calls.boot.kernel_host import KERNEL, open_kernel_host
from tests.security.random_kills import RandomKills

_POINTS = [name for name in fault_points.NAMES if name.startswith(("vbd.", "kernel.")) or name in (
    "staging.made", "staging.file_made", "staging.written", "staging.file_finished", "staging.cleaning", "staging.cleaned")]
# The number of names of the kernel that are left by a call that died at this point.
_KERNELS_AFTER = {"kernel.linked": 1, "staging.cleaning": 2, "staging.cleaned": 2}
_RANDOM_KILLS = 25


@pytest.fixture(scope="module")
def kernel_host():
    with open_kernel_host(pythons.NEWEST) as host:
        yield host


def check(host, names, before):
    """Sweep: then no file is left but whole kernels among `names`. Returns the number of these."""
    host.sweep()
    host.check_nothing_plugged()
    there = set(os.listdir(host.directory)) - before
    assert there <= set(names), "left in /boot/guest: %s" % sorted(there)
    assert all(host.read_kernel(name) == KERNEL for name in there)
    return len(there)


@pytest.fixture
def case(kernel_host):
    """(host, VDI's reference, [name of the kernel, name in the cache], names in /boot/guest)"""
    vdi_uuid, ref = kernel_host.add_disk()
    return kernel_host, ref, [vdi_uuid, str(uuid.uuid4())], set(os.listdir(kernel_host.directory))


@pytest.mark.parametrize("point", _POINTS)
def test_killed_while_copying(case, point):
    host, ref, names, before = case
    with host.fault(point + ":kill"):
        details = host.attempt(lambda: host.copy(ref, cached_image=names[1]))
    assert details[:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL"]
    assert check(host, names, before) == _KERNELS_AFTER.get(point, 0)
    host.copy(ref, cached_image=names[1])
    assert check(host, names, before) == 2


@pytest.mark.parametrize("error", ["enospc", "eio"])
@pytest.mark.parametrize("point", [name for name in _POINTS if name not in ("staging.cleaning", "staging.cleaned")])
def test_a_disk_that_fails_while_copying(case, point, error):
    host, ref, names, before = case
    with host.fault("%s:%s" % (point, error)):
        details = host.attempt(lambda: host.copy(ref, cached_image=names[1]))
    assert details[2] in ("StorageError", "RetryableError"), details
    assert check(host, names, before) == 0


@pytest.mark.parametrize("point", ["sweep.found", "vbd.unplugging", "vbd.unplugged", "vbd.destroyed"])
def test_killed_while_sweeping_after_a_kill(case, point):
    host, ref, names, before = case
    with host.fault("kernel.copied:kill"):
        assert host.attempt(lambda: host.copy(ref, cached_image=names[1]))
    with host.fault(point + ":kill"):
        assert host.attempt(host.sweep)[1] == "signal: SIGKILL"
    assert check(host, names, before) == 0


def test_killed_at_random_moments(kernel_host):
    kills = RandomKills(kernel_host.host.dom0.processes, random.Random(5))
    failures = []
    for _ in range(_RANDOM_KILLS):
        vdi_uuid, ref = kernel_host.add_disk()
        names, before = [vdi_uuid, str(uuid.uuid4())], set(os.listdir(kernel_host.directory))
        details = kills.meet(lambda ref=ref, names=names: kernel_host.attempt(lambda: kernel_host.copy(ref, cached_image=names[1])))
        assert details is None or details[:2] == ["XENAPI_PLUGIN_FAILURE", "signal: SIGKILL"]
        count = check(kernel_host, names, before)
        assert details or count == 2, "the call answered, and its files are not there"
        failures.append(details)
    assert any(failures)
