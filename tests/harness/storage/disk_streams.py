# SPDX-License-Identifier: Apache-2.0
"""XAPI's HTTP handlers for what a VDI holds: PUT /import_raw_vdi and GET /export_raw_vdi, raw or as a VHD.

Who is asked needs no more than a session; the task in the query ends with the transfer, in its success or its failure.
Sources: ocaml/xapi/import_raw_vdi.ml, export_raw_vdi.ml in xapi-project/xen-api, and for the stream of a VHD what vhd-tool sends:
footer, header, BAT, and blocks without gaps between them, by which os-xenapi's client computes the length.
"""

import struct
import tempfile

from dom0_lib.disks import vhd
from tests.harness.vhd import vhd_image
from tests.harness.vhd import vhd_reader
from tests.harness.xapi.failures import Failure
from tests.harness.xapi.rpc_server import Reply

_TABLE_OFFSET = 1536
_TYPES = {"raw": "application/octet-stream", "vhd": "application/vhd"}


class DiskStreams(object):

    def __init__(self, database, storage, sessions, tasks):
        self._database = database
        self._storage = storage
        self._sessions = sessions
        self._tasks = tasks

    def handlers(self):
        """{"METHOD /path": function(query, headers, body) -> Reply}"""
        return {"PUT /import_raw_vdi": lambda *request: self._handle(self._import, *request),
                "GET /export_raw_vdi": lambda *request: self._handle(self._export, *request)}

    def _handle(self, run, query, headers, body):
        task_ref = query.get("task_id", "")
        try:
            self._sessions.check(query.get("session_id", ""))
        except Failure as failure:
            return Reply(401, "text/plain", [str(failure).encode("utf-8")])
        try:
            if query.get("format", "raw") not in _TYPES:
                raise Failure("INTERNAL_ERROR", "Unknown format %s" % query["format"])
            repository, name = self._storage.disk_of(query.get("vdi", ""))
            reply = run(repository.disk_path(name), query.get("format", "raw"), headers, body)
        except Failure as failure:
            self._tasks.fail(task_ref, failure.details)
            return Reply(404, "text/plain", [str(failure).encode("utf-8")])
        except (OSError, ValueError) as error:
            self._tasks.fail(task_ref, ["VDI_IO_ERROR", str(error)])
            return Reply(500, "text/plain", [str(error).encode("utf-8")])
        self._tasks.complete(task_ref, query["vdi"] if run == self._import else "")
        return reply

    def _import(self, path, form, headers, body):
        left = int(headers["Content-Length"])
        with vhd_image.Image.open(path, writable=True) as image, tempfile.NamedTemporaryFile() as received:
            while left:
                data = body.read(min(left, vhd.BLOCK_SIZE))
                if not data:
                    raise ValueError("%d bytes are missing" % left)
                left -= len(data)
                received.write(data)
            received.flush()
            for offset, data in _read_content(received, form):
                image.write(offset, data)
            image.flush()
        return Reply(200, "application/octet-stream", [])

    def _export(self, path, form, headers, body):
        chain = vhd_reader.open_chain(path)
        return Reply(200, _TYPES[form], _write_vhd(chain) if form == "vhd" else _write_raw(chain))


def _read_content(received, form):
    """Yield (offset, whole sectors)."""
    if form == "vhd":
        with vhd_reader.open_chain(received.name) as chain:
            for offset, data in chain.extents():
                yield offset, bytes(data)
        return
    received.seek(0)
    for offset, data in enumerate(iter(lambda: received.read(vhd.BLOCK_SIZE), b"")):
        yield offset * vhd.BLOCK_SIZE, data + bytes(-len(data) % vhd.SECTOR_SIZE)


def _write_raw(chain):
    with chain:
        for offset in range(0, chain.size_bytes, vhd.BLOCK_SIZE):
            size = min(vhd.BLOCK_SIZE, chain.size_bytes - offset)
            yield bytes(chain.read(offset, size) or bytes(size))


def _write_vhd(chain):
    with chain:
        blocks = [offset // vhd.BLOCK_SIZE for offset, _ in chain.extents()]
        footer, header, table_bytes = _make_metadata(chain.size_bytes)
        table = [vhd.UNUSED_ENTRY] * (table_bytes // 4)
        first, step = (_TABLE_OFFSET + table_bytes) // vhd.SECTOR_SIZE, 1 + vhd.BLOCK_SIZE // vhd.SECTOR_SIZE
        for place, block in enumerate(blocks):
            table[block] = first + place * step
        yield footer + header + struct.pack(">%dI" % len(table), *table)
        for _, data in chain.extents():
            yield b"\xff" * vhd.SECTOR_SIZE + bytes(data) + bytes(vhd.BLOCK_SIZE - len(data))
        yield footer


def _make_metadata(size_bytes):
    """The footer and the header of a dynamic disk of this size without a batmap, and the length of its BAT."""
    with tempfile.NamedTemporaryFile() as scratch, vhd_image.Image.create(scratch.name, size_bytes, batmap=False) as image:
        header = image.header
        header.table_offset = _TABLE_OFFSET
        return image.footer.seal(), header.seal(), vhd.round_up(4 * header.max_bat_entries, vhd.SECTOR_SIZE)
