# SPDX-License-Identifier: Apache-2.0
"""A VDI's content over HTTP, to the simulated host and from it."""

import http.client
import os
import random

import pytest

from dom0_lib.disks import vhd
from tests.harness.pool import Pool
from tests.harness.vhd import vhd_reader
from tests.harness.vhd import vhd_writer

SIZE = 8 * vhd.BLOCK_SIZE
PLACES = (1, 4)


@pytest.fixture
def pool():
    with Pool(plugins=False) as pool:
        yield pool


@pytest.fixture
def session(pool):
    return pool.login()


def make_content():
    return [(place * vhd.BLOCK_SIZE, random.Random(place).randbytes(vhd.BLOCK_SIZE)) for place in PLACES]


def add_vdi(pool, session):
    """(reference, path) of an empty disk."""
    ref = session.xenapi.VDI.create({"SR": pool.srs[0].ref, "virtual_size": str(SIZE), "type": "user", "sharable": False,
                                     "read_only": False, "other_config": {}})
    return ref, os.path.join(pool.srs[0].path, session.xenapi.VDI.get_uuid(ref) + ".vhd")


def ask(pool, session, method, action, body=None, **changes):
    """(status, content) of one request, and the status of its task."""
    task = session.xenapi.task.create("transfer", "")
    query = dict({"session_id": session.handle, "task_id": task}, **changes)
    connection = http.client.HTTPConnection(pool.hosts[0].address, timeout=60)
    try:
        connection.request(method, "/%s?%s" % (action, "&".join("%s=%s" % pair for pair in query.items())), body)
        answer = connection.getresponse()
        return (answer.status, answer.read()), session.xenapi.task.get_status(task)
    finally:
        connection.close()


def read_content(path):
    with vhd_reader.open_chain(path) as chain:
        return [(offset, bytes(data)) for offset, data in chain.extents()]


def test_a_vhd_there_and_back(pool, session, tmp_path):
    source, copy = tmp_path / "source.vhd", tmp_path / "copy.vhd"
    vhd_writer.write_dynamic(str(source), make_content(), SIZE)
    vdi, path = add_vdi(pool, session)
    (status, _), task = ask(pool, session, "PUT", "import_raw_vdi", source.read_bytes(), vdi=vdi, format="vhd")
    assert (status, task) == (200, "success") and read_content(path) == make_content()
    (status, data), task = ask(pool, session, "GET", "export_raw_vdi", vdi=vdi, format="vhd")
    copy.write_bytes(data)
    assert (status, task) == (200, "success") and read_content(copy) == make_content()
    # Nothing between the blocks.
    assert len(data) == 1536 + 512 + len(PLACES) * (512 + vhd.BLOCK_SIZE) + 512


def test_a_chain_is_one_vhd(pool, session, tmp_path):
    vdi, path = add_vdi(pool, session)
    ask(pool, session, "PUT", "import_raw_vdi", make_content()[0][1], vdi=vdi)
    session.xenapi.VDI.snapshot(vdi)
    _, data = ask(pool, session, "GET", "export_raw_vdi", vdi=vdi, format="vhd")[0]
    (tmp_path / "copy.vhd").write_bytes(data)
    assert read_content(str(tmp_path / "copy.vhd")) == [(0, make_content()[0][1])]


def test_bytes_as_they_are(pool, session):
    vdi, path = add_vdi(pool, session)
    (status, _), task = ask(pool, session, "PUT", "import_raw_vdi", b"x" * 700, vdi=vdi, format="raw")
    assert (status, task) == (200, "success")
    (status, data), _ = ask(pool, session, "GET", "export_raw_vdi", vdi=vdi)
    assert (status, data) == (200, b"x" * 700 + bytes(SIZE - 700))


@pytest.mark.parametrize("change, expected", [
    ({"session_id": "OpaqueRef:nobody"}, (401, "pending")), ({"format": "qcow3"}, (404, "failure")),
    ({"vdi": "OpaqueRef:none"}, (404, "failure"))], ids=["session", "format", "vdi"])
def test_what_is_refused(pool, session, change, expected):
    vdi, path = add_vdi(pool, session)
    for method, action in (("PUT", "import_raw_vdi"), ("GET", "export_raw_vdi")):
        body = b"x" * 512 if method == "PUT" else None
        (status, _), task = ask(pool, session, method, action, body, **dict({"vdi": vdi}, **change))
        assert (status, task) == expected
    assert read_content(path) == []


def test_more_than_there_is_room_for(pool, session):
    vdi, path = add_vdi(pool, session)
    (status, _), task = ask(pool, session, "PUT", "import_raw_vdi", bytes(SIZE + 512), vdi=vdi)
    assert (status, task) == (500, "failure")


def test_another_path(pool, session):
    assert ask(pool, session, "GET", "nothing")[0][0] == 404
    assert ask(pool, session, "GET", "import_raw_vdi")[0][0] == 404
