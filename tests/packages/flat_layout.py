# SPDX-License-Identifier: Apache-2.0
"""The plug-ins before dom0_lib had rooms, with all modules in one directory: the names of then, with made-up content."""

import os
import shutil

from tests.packages.packages import CHECKOUT, VERSION

OLDER_VERSION = "0.0.9"
# All modules of then; some names, such as errors and settings, are still in use at the top of dom0_lib.
MODULES = """
    agent_args args arrival_gate arrivals authorized_keys block_deflate block_device boot_args boot_directory boot_iso
    bridge_blacklist collection_state command_words compat connection console_claims console_files console_log console_logging
    console_tending diagnosis disk_copy disk_format dom0_directories errors faults file_front file_lock firewall_tables
    glance_api guest_agent guest_kernel guest_records gzip_stream host_args host_config host_data host_doctor host_network
    host_notes host_power host_preparation host_trust http_client image_transfer iso9660 json_reply local_sr log loop_device
    move_args net_addresses net_counters net_filters network_commands netwrap paths pci_devices pickles pipeline plugin
    plugin_version policy pool_checks pool_join proc program_checks publication record_args rsync session_role settings sr
    sr_lock ssh_directory staging storage_checks storage_file tarball task_watch termination this_host trust_args vbd vhd
    vhd_chain vhd_check vhd_repair vhd_util vm_move whole_file wire xapi xenstore xenstore_link
""".split()

# Where each module of the flat layout that is imported writes its name, in dom0.
IMPORTED = "/images/imported"
ANSWER = '"flat"'
_PLUGIN = """#!/usr/bin/python
from dom0_lib import plugin
plugin.answer()
"""
_MODULE = '''"""A module of the flat layout."""
import os
if os.path.isdir(os.path.dirname('%s')):
    with open('%s', 'a') as names:
        names.write(__name__ + '\\n')
''' % (IMPORTED, IMPORTED)
# The packages' sample of the settings file comes from here.
_SETTINGS = "SETTINGS = ()\n"
# It waits in a call of `wait`, and has then all that it needs.
_DISPATCH = '''
import os
import sys
import time
from dom0_lib import errors, host_doctor, sr, wire
REPLY = ('<methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>'
         '<member><name>Value</name><value>%s</value></member></struct></value></param></params></methodResponse>')
def answer():
    if '>wait<' in sys.argv[1]:
        open('/images/started', 'w').close()
        while not os.path.exists('/images/go'):
            time.sleep(0.02)
    sys.stdout.write(REPLY)
''' % ANSWER


def make_checkout(path, version=VERSION):
    """A copy of the checkout at `path` whose plug-ins and dom0_lib are of the flat layout."""
    shutil.copytree(CHECKOUT, path, ignore=shutil.ignore_patterns(".venvs", ".git", "dist", "build", "dom0_lib", "data"))
    library, plugins = os.path.join(path, "dom0_lib"), os.path.join(path, "plugins/xapi.d/plugins")
    os.mkdir(library)
    for name in MODULES:
        _write(os.path.join(library, name + ".py"), _MODULE + {"plugin": _DISPATCH, "settings": _SETTINGS}.get(name, ""))
    _write(os.path.join(library, "__init__.py"), "__version__ = '%s'\n" % version)
    for name in os.listdir(plugins):
        _write(os.path.join(plugins, name), _PLUGIN)
    _write(os.path.join(path, "CHANGES.md"), "# Changes\n\n## %s (2026-11-26)\n\n* flat\n" % version)
    return path


def _write(path, text):
    with open(path, "w") as target:
        target.write(text)
