# SPDX-License-Identifier: Apache-2.0
"""Files of a dom0 under DOM0_ROOT, for modules that read them."""

from __future__ import absolute_import, division

import os


class Tree(object):
    """A dom0's / at `root`, a pytest tmpdir."""

    def __init__(self, root):
        self.root = str(root)

    def locate(self, dom0_path):
        return self.root + dom0_path

    def write(self, dom0_path, data):
        """Write a file (data: bytes) and what directories it needs; returns its real path."""
        path = self.locate(dom0_path)
        if not os.path.isdir(os.path.dirname(path)):
            os.makedirs(os.path.dirname(path))
        with open(path, 'wb') as target:
            target.write(data)
        return path

    def read(self, dom0_path):
        with open(self.locate(dom0_path), 'rb') as source:
            return source.read()
