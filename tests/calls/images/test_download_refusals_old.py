# SPDX-License-Identifier: Apache-2.0
"""The refusals whose way through sockets, ssl, zlib, processes or files is another on old Pythons."""

import pytest

from tests import conftest
from tests.calls.images import downloads
from tests.calls.images import test_download_refusals

OLD_PYTHONS = [pair for pair in conftest.DOM0_PYTHONS if pair[0] in ("2.7", "3.6")]


@pytest.fixture(scope="module", params=OLD_PYTHONS, ids=downloads.describe_python)
def dom0_python(request):
    return request.param[1]


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("case, error_class, fragment", test_download_refusals.CASES_FOR_OLD_PYTHONS)
def test_refusals(cloud, case, error_class, fragment):
    test_download_refusals.check_refusal(cloud, case, error_class, fragment)
