# SPDX-License-Identifier: Apache-2.0
"""Everything that a host, its pool and an image service have: before and after, to see what a server has left."""

import os

from tests.harness.guests import xenstore_client

# Logs, sockets and locks stay, and belong to no server.
_NOT_LISTED = ("/var/log/messages", "/opt/harness/spool", "/run/lock", "/run/xenstored", "/var/log/xen/guest",
               "/dev/log", "/proc", "/sys")
_CLASSES = ("VM", "VDI", "VBD", "VIF", "network", "task")


def list_traces(pools, service):
    """Sorted lines, one for each file, record, path in xenstore and image."""
    found = ["image %s %s" % (image.id, image.status) for image in service.images]
    for number, pool in enumerate(pools):
        for sr in pool.srs:
            sr.collect_garbage()
            sr.scan()
        found += ["pool %d %s" % (number, line) for line in _list_records(pool.database)]
        for host in pool.hosts:
            found += ["pool %d %s %s" % (number, host.name, line) for line in _list_files(host.root) + _list_store(host.xenstore)]
    return sorted(found)


def _list_records(database):
    found = []
    for class_name in _CLASSES:
        for record in database.records(class_name).values():
            name = record.get("name_label") or record["uuid"]
            found.append("%s %s" % (class_name, name if class_name != "VDI" else "%s %s" % (name, record["uuid"])))
    return found


def _list_files(root):
    found = []
    for parent, directories, files in os.walk(root):
        inside = parent[len(root):]
        directories[:] = [name for name in directories if not (inside + "/" + name).startswith(_NOT_LISTED)]
        found += [inside + "/" + name for name in directories + files if not (inside + "/" + name).startswith(_NOT_LISTED)]
    return found


def _list_store(xenstore):
    found = []

    def walk(client, path):
        try:
            names = client.directory(path)
        except xenstore_client.Refused:
            return
        for name in names:
            found.append("xenstore %s" % (path + b"/" + name).decode("utf-8", "replace"))
            walk(client, path + b"/" + name)
    with xenstore.client() as client:
        walk(client, b"/local/domain")
    return found
