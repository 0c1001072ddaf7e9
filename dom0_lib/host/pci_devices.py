# SPDX-License-Identifier: Apache-2.0
"""PCI devices that may be passed through to guests."""

from __future__ import absolute_import, division

import os

from dom0_lib import errors
from dom0_lib import paths
from dom0_lib.system import proc

_DEADLINE_S = 60


def list_details(_session_ref):
    """The text of `lspci -vmmnk`: records separated by empty lines, ids as numbers, with the driver of each device."""
    return proc.run(['lspci', '-vmmnk'], _DEADLINE_S).output


def find_type(_session_ref, pci_device):
    """'type-VF' for a virtual function, 'type-PF' for a device that has virtual functions, else 'type-PCI'.

    pci_device: domain:bus:slot.function.  Raises errors.PluginError if there is no such device.
    """
    try:
        names = os.listdir(paths.locate('%s/%s' % (paths.PCI_DEVICES, pci_device)))
    except EnvironmentError as error:
        raise errors.PluginError('no PCI device %s: %s' % (pci_device, os.strerror(error.errno)))
    if 'physfn' in names:
        return u'type-VF'
    if any(name.startswith('virtfn') for name in names):
        return u'type-PF'
    return u'type-PCI'
