# SPDX-License-Identifier: Apache-2.0
"""Captured requests of Python 2.7 clients; data/capture_python27.py describes and makes the files."""

from __future__ import absolute_import, division

import ast
import io
import os

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data')


def load(file_name):
    """The triples (name, bytes, expected) of a file."""
    with io.open(os.path.join(DIRECTORY, file_name), encoding='ascii') as source:
        return ast.literal_eval(source.read())


def read(file_name):
    """The same as parameters of a test."""
    import pytest  # load() is for programs, too, which start in a tenth of the time without it
    return [pytest.param(data, expected, id=name) for name, data, expected in load(file_name)]
