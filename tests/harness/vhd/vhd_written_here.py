# SPDX-License-Identifier: Apache-2.0
"""The invariant of every import: each byte of a VHD that enters an SR is one that the library's encoder writes for its disk."""

import os

from dom0_lib.formats import vhd_proof


def expect_written_here(path):
    """Raises AssertionError if the file at `path` has a byte of metadata that another program wrote."""
    fd = os.open(path, os.O_RDONLY)
    try:
        deviation = vhd_proof.find_deviation(fd)
    finally:
        os.close(fd)
    assert deviation is None, "%s: %s" % (path, deviation)
