# SPDX-License-Identifier: Apache-2.0
"""A directory in which rpm installs, and the packages that tests install there."""

import os

from tests.packages.packages import VERSION, list_tree, run

PLUGINS = "etc/xapi.d/plugins"
SETTINGS = "etc/dom0-plugins.conf"
# rpm's own files in a root.
DATABASE = ("var/lib/rpm", "usr/lib/sysimage")


def rpm_of(directory, family, release="1", version=VERSION):
    return os.path.join(directory, "dom0-xapi-plugins-%s-%s.%s.noarch.rpm" % (version, release, family))


class Root(object):
    """A directory that rpm takes for /."""

    def __init__(self, path):
        self.path = str(path)
        # Of the system, not of a package.
        for name in ("usr/share/doc", "usr/share/licenses"):
            os.makedirs(os.path.join(self.path, name), exist_ok=True)

    def rpm(self, *arguments, check=True):
        return run("rpm", "--root", self.path, "--dbpath", "/var/lib/rpm", "--nosignature", *arguments, check=check)

    def locate(self, name):
        return os.path.join(self.path, name)

    def home(self):
        """The directory of the version that the plug-ins are of."""
        return os.path.dirname(os.path.realpath(self.locate(PLUGINS + "/dom0_plugin_version.py")))

    def list_files(self):
        return [name for name in list_tree(self.path)
                if not name.startswith(DATABASE) and not any(top.startswith(name) for top in DATABASE)]

    def read(self, name):
        with open(self.locate(name)) as source:
            return source.read()

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.locate(name)), exist_ok=True)
        with open(self.locate(name), "w") as target:
            target.write(text)
