# SPDX-License-Identifier: Apache-2.0
"""An SR of ISOs: each is a file <uuid>.img in a directory, as nova's support for iPXE wants it."""

import os
import uuid

from tests.harness.storage.repository import Disk, Repository

_EXTENSION = ".img"


class IsoRepository(Repository):

    def raw_path(self, vdi_uuid):
        return os.path.join(self.path, vdi_uuid + _EXTENSION)

    def list_disks(self):
        found = {}
        for name in os.listdir(self.path):
            if name.endswith(_EXTENSION):
                path = os.path.join(self.path, name)
                size = os.path.getsize(path)
                found[name[:-len(_EXTENSION)]] = Disk(name[:-len(_EXTENSION)], path, size, size, False, None, True)
        return found

    def create_disk(self, virtual_size):
        name = str(uuid.uuid4())
        with open(self.raw_path(name), "wb") as disk:
            disk.truncate(virtual_size)
        return name

    def delete_disk(self, name):
        os.unlink(self.raw_path(name))
