# SPDX-License-Identifier: Apache-2.0
"""Every fuzz target by name: a function that takes any bytes and returns, or raises what is a finding."""

import collections
import os

from tests.security.fuzz import images
from tests.security.fuzz import isos
from tests.security.fuzz import messages
from tests.security.fuzz import network

CORPUS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "corpus")

# max_bytes: of an input.
Target = collections.namedtuple("Target", "run max_bytes")

TARGETS = {
    "arguments": Target(messages.fuzz_arguments, 2048),
    "command": Target(messages.fuzz_command, 1024),
    "gzip": Target(images.fuzz_gzip, 4096),
    "http": Target(network.fuzz_http, 4096),
    "iso": Target(isos.fuzz_iso, 12288),
    "json": Target(messages.fuzz_json, 1024),
    "pickle": Target(messages.fuzz_pickle, 4096),
    "policy": Target(messages.fuzz_policy, 256),
    "settings": Target(messages.fuzz_settings, 1024),
    "tar": Target(images.fuzz_tar, 8192),
    "vhd": Target(images.fuzz_vhd, 8192),
    "wire": Target(messages.fuzz_wire, 4096),
    "xenstore": Target(network.fuzz_xenstore, 1024),
}


def list_corpus(name):
    """The paths of a target's committed inputs."""
    directory = os.path.join(CORPUS, name)
    return [os.path.join(directory, entry) for entry in sorted(os.listdir(directory))]
