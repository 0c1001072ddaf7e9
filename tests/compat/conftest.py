# SPDX-License-Identifier: Apache-2.0
"""A pool on port 80, its plug-ins under the Pythons of XenServer 7, 8 and 9, and os-xenapi's client with a session there."""

import contextlib
import os

import pytest

from tests import conftest
from tests.compat import client as compat_client
from tests.harness.image_service.service import ImageService

PYTHONS = [pytest.param(path, id=version) for version, path in conftest.DOM0_PYTHONS if version in ("2.7", "3.6", "3.12")]


@pytest.fixture(scope="session")
def client_python():
    if not os.path.exists(compat_client.PYTHON):
        pytest.skip("needs .venvs/nova, which `make compat` makes")


@pytest.fixture(scope="session")
def nova_python(client_python):
    if os.geteuid():
        pytest.skip("not applicable: port 80 needs root")


@pytest.fixture(scope="session")
def images_of_nova():
    """An image service as servers since 2018: without v1."""
    with ImageService() as service:
        yield service


@pytest.fixture(scope="module", params=PYTHONS)
def compat_pool(request, client_python):
    """Two hosts; the second is a member."""
    with open_pool(python=request.param, hosts=2, python36_locale=True) as pool:
        yield pool


@pytest.fixture(scope="module")
def client(compat_pool):
    with compat_client.Client(compat_pool.hosts[0].url) as client:
        yield client


@contextlib.contextmanager
def open_pool(**options):
    pool = compat_client.make_pool(**options)
    try:
        pool.start_xapi()
        yield pool
    except PermissionError as error:
        pytest.skip("not applicable: port 80 needs root: %s" % error)
    finally:
        pool.stop()
