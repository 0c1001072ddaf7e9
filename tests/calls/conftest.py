# SPDX-License-Identifier: Apache-2.0
"""The simulated host and the image service, as fixtures."""

from tests.calls.network.virtual_network import network, network_pool  # noqa: F401
from tests.harness.fixtures import *  # noqa: F401,F403
