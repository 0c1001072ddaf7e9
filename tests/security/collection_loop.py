# SPDX-License-Identifier: Apache-2.0
"""A process that collects the garbage of one SR for ever, as the storage manager does; POSIX locks are a process's.

    python3 -m tests.security.collection_loop DOM0_ROOT SR_UUID     until stdin ends; prints what it did as one line of JSON
"""

import collections
import json
import os
import select
import subprocess
import sys
import time

from tests.harness.storage.garbage_collector import GarbageCollector
from tests.harness.storage.garbage_collector import GarbageCollectorBusy
from tests.harness.storage.repository import Repository
from tests.harness.storage.sm_locks import SmLocks

_PAUSE_S = 0.005


class Programs(object):
    """The part of a host that Repository needs."""

    def __init__(self, root):
        self._environment = {"PATH": os.path.join(root, "opt/harness/bin") + ":/usr/bin:/bin", "DOM0_ROOT": root}

    def run_program(self, *command):
        return subprocess.run(command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=True, universal_newlines=True, timeout=60)


def main(root, sr_uuid):
    repository = Repository(sr_uuid, "%s/run/sr-mount/%s" % (root, sr_uuid), Programs(root), SmLocks(root + "/run/lock/sm"))
    collector = GarbageCollector(repository, is_attached=lambda name: False)
    counts = collections.Counter()
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            counts.update(what for what, _ in collector.collect())
            counts["rounds"] += 1
        except GarbageCollectorBusy:
            counts["busy"] += 1
        time.sleep(_PAUSE_S)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])
