# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the unit tests."""

from __future__ import absolute_import, division

from tests.unit.scripted_xenstored import start_xenstored  # noqa: F401
