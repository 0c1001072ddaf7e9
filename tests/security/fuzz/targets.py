# SPDX-License-Identifier: Apache-2.0
"""Every fuzz target by name: a function of any bytes; an exception that it raises is a finding."""

import collections
import os

from tests.security.fuzz import formats
from tests.security.fuzz import images
from tests.security.fuzz import isos
from tests.security.fuzz import messages
from tests.security.fuzz import network

CORPUS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "corpus")

# max_bytes: of an input; smoke_inputs: how many CI tries, in about 9 s each.
Target = collections.namedtuple("Target", "run max_bytes smoke_inputs")

TARGETS = {
    "arguments": Target(messages.fuzz_arguments, 2048, 250000),
    "command": Target(messages.fuzz_command, 1024, 250000),
    "gzip": Target(images.fuzz_gzip, 4096, 80000),
    "http": Target(network.fuzz_http, 4096, 60000),
    "iso": Target(isos.fuzz_iso, 12288, 200000),
    "json": Target(messages.fuzz_json, 1024, 800000),
    "pickle": Target(messages.fuzz_pickle, 4096, 90000),
    "policy": Target(messages.fuzz_policy, 256, 300000),
    "settings": Target(messages.fuzz_settings, 1024, 30000),
    "tar": Target(images.fuzz_tar, 8192, 6000),
    "vhd_decoder": Target(formats.fuzz_vhd_decoder, 8192, 2000),
    "wire": Target(messages.fuzz_wire, 4096, 220000),
    "xenstore": Target(network.fuzz_xenstore, 1024, 100000),
}


def list_corpus(name):
    """The paths of a target's committed inputs."""
    directory = os.path.join(CORPUS, name)
    return [os.path.join(directory, entry) for entry in sorted(os.listdir(directory))]
