# SPDX-License-Identifier: Apache-2.0
"""The site of the download tests, as fixtures."""

import pytest

from tests.calls import sr_disks
from tests.calls.images.transfers import Site
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool


@pytest.fixture(scope="module")
def site(dom0_python, tmp_path_factory):
    """One for all tests of a module on a Python: each leaves its VDIs behind, as users do."""
    with Pool(python=dom0_python, python36_locale=True) as pool, ImageService(has_v1=True) as service:
        yield Site(pool, service, directory=str(tmp_path_factory.mktemp("images")))


@pytest.fixture
def nothing_is_left(site):
    """After the test there is no staging directory, no process, nothing in the SR but VHDs, and SR.scan works."""
    site.service.faults.clear()
    del site.service.requests[:]
    yield
    sr_disks.list_vhds(site.sr)
    assert site.find_programs() == []
    site.sr.scan()
