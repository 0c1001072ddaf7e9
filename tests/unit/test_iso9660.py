# SPDX-License-Identifier: Apache-2.0
"""What fuzzing found in the reader of ISO images; what it reads right is tested with real ones, in tests/integration/test_ipxe.py."""

from __future__ import absolute_import, division

import io
import os

from dom0_lib import iso9660
from tests.contract import plugin_host

CORPUS = os.path.join(plugin_host.CHECKOUT, 'tests', 'security', 'corpus', 'iso')


def test_a_field_that_ends_before_its_last_byte(tmpdir):
    """It says nothing, so the image has no Rock Ridge names."""
    with io.open(os.path.join(CORPUS, 'found-short-field'), 'rb') as found:
        tmpdir.join('x.iso').write_binary(b'\0' * 32768 + found.read())
    with io.open(str(tmpdir.join('x.iso')), 'rb') as source:
        assert iso9660.Image(source).files == []
