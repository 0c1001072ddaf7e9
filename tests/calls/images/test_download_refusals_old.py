# SPDX-License-Identifier: Apache-2.0
"""The refusals that old Pythons handle with other code for sockets, ssl, zlib, processes or files."""

import pytest

from tests.calls import pythons
from tests.calls.images import test_download_refusals


@pytest.fixture(scope="module", params=pythons.OLD, ids=pythons.version_of)
def dom0_python(request):
    return request.param


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("case, error_class, fragment", test_download_refusals.CASES_FOR_OLD_PYTHONS)
def test_refusals(site, case, error_class, fragment):
    test_download_refusals.check_refusal(site, case, error_class, fragment)
