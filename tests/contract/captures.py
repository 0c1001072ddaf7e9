# SPDX-License-Identifier: Apache-2.0
"""What Python 2.7 clients really sent: data/capture_python27.py describes and makes the files."""

from __future__ import absolute_import, division

import ast
import io
import os

import pytest

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data')


def read(file_name):
    """The triples (name, bytes, expected) of a file, as parameters of a test."""
    with io.open(os.path.join(DIRECTORY, file_name), encoding='ascii') as source:
        triples = ast.literal_eval(source.read())
    return [pytest.param(data, expected, id=name) for name, data, expected in triples]
