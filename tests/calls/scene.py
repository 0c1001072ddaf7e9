# SPDX-License-Identifier: Apache-2.0
"""The base of the scenes on which tests make calls."""

import json

import XenAPI

from tests.calls import calls


class Scene(object):
    """One host of a pool with its SR, and calls of one plug-in there.

    plugin: the one that call() and ask() call; most scenes have it from their class
    """

    plugin = None

    def __init__(self, pool, number=0, sr=None, plugin=None):
        self.plugin = plugin or self.plugin
        self.pool = pool
        self.number = number
        self.host = pool.hosts[number]
        self.sr = sr or pool.srs[number]

    def call(self, function, **arguments):
        """The text that a plain call answers; None stands for an argument that is not sent. Raises XenAPI.Failure."""
        sent = {name: value for name, value in arguments.items() if value is not None}
        return self.pool.call(self.plugin, function, calls.encode_plain(sent), host=self.number)

    def ask(self, function, **arguments):
        """The value in the JSON that a plain call answers."""
        return json.loads(self.call(function, **arguments))

    @staticmethod
    def attempt(call):
        """The details of a call's failure; None if it succeeded."""
        try:
            call()
        except XenAPI.Failure as failure:
            return failure.details
        return None

    def locate(self, dom0_path):
        """The path, on this machine, of a file of dom0."""
        return self.host.dom0.locate(dom0_path)

    def read(self, dom0_path):
        with open(self.locate(dom0_path), "rb") as source:
            return source.read()

    def fault(self, text):
        """Within, calls on the host pass fault points with this DOM0_FAULT."""
        return calls.fault(self.host, text)

    def write_settings(self, text):
        calls.write_settings(self.host, text)
