# SPDX-License-Identifier: Apache-2.0
"""Paths in dom0.  For tests the environment variable DOM0_ROOT prefixes every one of them.

XAPI gives a plug-in PATH and nothing else, so on a host the prefix is always empty.
"""

from __future__ import absolute_import, division

import os

SR_MOUNT = '/var/run/sr-mount'
# /var/run is a link to /run in dom0; callers and administrators write either.
SR_MOUNTS = (SR_MOUNT, '/run/sr-mount')
XAPI_SOCKET = '/var/lib/xcp/xapi'
SM_LOCKS = '/var/lock/sm'
SM_IPC = '/run/sm/ipc'
XENSTORE_SOCKET = '/var/run/xenstored/socket'
SYSLOG_SOCKET = '/dev/log'
IMAGES = '/images'
SETTINGS = '/etc/dom0-plugins.conf'
NETWORK_COUNTERS = '/proc/net/dev'
CONSOLE_LOGS = '/var/log/xen/guest'
# With the id of a guest's domain; xenstore's /local/logconsole/@ has the pattern itself.
CONSOLE_LOG = CONSOLE_LOGS + '/console.%d'
CONSOLE_UNIT = '/etc/systemd/system/dom0-plugins-console.service'
CONSOLE_WANTED = '/etc/systemd/system/multi-user.target.wants/dom0-plugins-console.service'
CONSOLE_CRONTAB = '/etc/cron.d/dom0-plugins-console'
CONSOLE_STATE = '/run/dom0-plugins-console'
MODPROBE = '/etc/modprobe.d'
NETWORK_CONF = '/etc/xensource/network.conf'
XAPI_CONF = '/etc/xapi.conf'
BOOT_GUEST = '/boot/guest'
DEVICES = '/dev'
INVENTORY = '/etc/xensource-inventory'
XENHOST_CONF = '/usr/etc/xenhost.conf'
UPTIME = '/proc/uptime'
LOAD = '/proc/loadavg'
KERNEL_COUNTERS = '/proc/stat'
BOOT_ID = '/proc/sys/kernel/random/boot_id'
LOGINS = '/var/run/utmp'
PCI_DEVICES = '/sys/bus/pci/devices'
ROOT_SSH = '/root/.ssh'
SSHD = '/etc/ssh'


def locate(dom0_path):
    """The real path of an absolute dom0 path."""
    return os.environ.get('DOM0_ROOT', '') + dom0_path


def are_moved():
    """Whether dom0's paths are a test's, where a disk is a plain file."""
    return bool(os.environ.get('DOM0_ROOT'))
