# SPDX-License-Identifier: Apache-2.0
"""Writes the inputs that the fuzzers begin with, made by the generators of the tests: python3 -m tests.security.fuzz.seeds

What fuzzing has found stays beside them; only files that are named seed-... are written anew.
"""

import glob
import gzip
import json
import os
import pickle
import struct
import tarfile
import tempfile
import uuid

from dom0_lib.disks import vhd
from tests.contract import calls
from tests.contract import captures
from tests.harness.vhd import vhd_writer
from tests.security import hostile_archives
from tests.security.fuzz import isos
from tests.security.fuzz import messages
from tests.security.fuzz.images import NOW
from tests.security.fuzz.targets import CORPUS, TARGETS

_UUID = uuid.UUID(int=5)


def make_vhds(directory):
    """Disks without and with a block, of blktap and of others; a child; every flag of unpack_vhd."""
    made_at = {"created_at": NOW - 1000, "uuid_text": str(_UUID)}
    paths = [os.path.join(directory, name) for name in ("empty", "block", "other", "child")]
    vhd_writer.write_dynamic(paths[0], [], 4 << 20, **made_at)
    vhd_writer.write_dynamic(paths[1], [(0, b"\xff" * 512)], 2 << 20, **made_at)
    vhd_writer.write_dynamic(paths[2], [], 6 << 20, batmap=False, **made_at)
    vhd_writer.write_differencing(paths[3], paths[0], [], **made_at)
    os.utime(paths[0], (NOW - 1000, NOW - 1000))
    vhd_writer.edit_header(paths[3], parent_timestamp=NOW - 1000 - vhd.EPOCH_UNIX_S)
    for path in paths:
        with open(path, "rb") as source:
            data = source.read()
        zeros = 2 if "block" in path else 0
        kept = data[:len(data) - 512 - (zeros << 20)].rstrip(b"\0") if zeros else data[:-512]
        if zeros:  # the block's bitmap and data are zeros here, which no check looks at
            end = vhd.round_up(len(kept), 512)
            kept = data[:len(data) - 512 - (zeros << 20)][:max(end, 4096)]
        for flags in (0, 15):
            yield bytes([flags, zeros]) + kept + data[-512:]


def make_decodings(directory):
    """The same in pieces of each size, with and without a known length."""
    for choice, data in enumerate(make_vhds(directory)):
        yield bytes([choice]) + data


def make_tars():
    member, end = hostile_archives.member, hostile_archives.END
    archives = [
        member("0.vhd", b"disk") + end, member("./0.vhd", b"x" * 513) + member("1.vhd", b"") + end,
        hostile_archives.header("./", kind=tarfile.DIRTYPE) + member("0.vhd", b"disk") + end,
        hostile_archives.pax("0.vhd", b"disk", mtime="1.5") + end, hostile_archives.pax("0.vhd", b"disk", size="4") + end,
        hostile_archives.pax("d" * 100, b"disk", path="d" * 101) + end,
        member("././@LongLink", b"e" * 120 + b"\0", kind=b"L") + member("e" * 100, b"disk") + end,
        hostile_archives.header(kind=tarfile.SYMTYPE, linkname="/etc/passwd") + end,
        hostile_archives.member("x.txt", b"1", kind=b"7") + end,
        hostile_archives.patch_header(member("0.vhd", b"12345678"), 124, b"\x80" + b"\0" * 10 + b"\x08") + end,
        hostile_archives.patch_header(member("0.vhd", b"disk"), 257, b"ustar\00000") + end,
    ]
    for archive in archives:
        yield b"\1" + archive
        yield b"\x65" + archive[:-512]


def make_gzips():
    for data in (b"", b"plain", gzip.compress(b"", mtime=0), gzip.compress(b"text" * 99, mtime=0),
                 gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0), gzip.compress(b"x", mtime=0) + bytes(40),
                 gzip.compress(bytes(1 << 20), mtime=0), b"\x1f\x8b\x08\x1c" + bytes(6) + b"\2\0ab" + b"name\0note\0"):
        yield b"\0" + data
        yield b"\7" + data


def make_pickles():
    for _, data, _ in captures.load("python27_pickles.txt"):
        yield data if isinstance(data, bytes) else data.encode("latin-1")
    for value in (None, True, 5, 1 << 70, 2.5, "x", "\u20ac", [1, [2]], (1, 2, 3), {"args": (1,), "kwargs": {"a": None}}, {}):
        yield pickle.dumps(value, 0)


def make_calls():
    for _, _, request, _ in calls.EXCHANGES:
        yield request
    yield b"<methodCall><methodName>f</methodName><params><param><value><string>s</string></value></param>" \
          b"<param><value><struct><member><name>a&amp;b</name><value/></member></struct></value></param></params></methodCall>"


def make_jsons():
    for value in (None, True, -1, 1.5e300, "a\u20ac\n", [1, []], {"a": {"b": "\ud83d\ude00"}}, [[[[]]]]):
        yield json.dumps(value).encode("ascii")
    yield b'"\\u00e9 \xc3\xa9"'
    yield b" [NaN, Infinity] "


def make_arguments():
    for number, (name, function, call) in enumerate(messages.CALLS):
        rights = {row.name: calls.CALLS.get((name, function), {}).get(row.name, calls.ARGUMENTS.get(row.name))[0]
                  for row in call.rows}
        texts = ["%s=%s" % (argument, json.dumps(value) if isinstance(value, (dict, list)) else value)
                 for argument, value in rights.items()]
        yield bytes([number, 1]) + "\0".join(texts).encode("utf-8", "surrogateescape")
        yield bytes([number, 0]) + pickle.dumps(rights, 0)


def make_commands():
    for command in (b"ip link show dev eth0", b"ip -o -4 addr add 10.0.0.1/24 dev x", b"ovs-vsctl --timeout=10 -- list-br",
                    b"iptables-restore -n\n*filter\nCOMMIT\n", b"ipset restore\ncreate x hash:ip\n",
                    b"sysctl -w net.ipv4.ip_forward=1",
                    b"conntrack -D -f ipv4 -z 5", b"ovs-ofctl add-flows br0 -\ntable=0 actions=drop\n"):
        yield command


def make_settings():
    yield b""
    yield b"[network]\nconnect_timeout = 30\nproxy = http://p:1\n[tls]\nverify = no\n[transfer]\nthreads=2\nreserve=1\n"
    yield b"[policy]\ndeny = xenhost.host_*, netwrap.*\nrequire_pool_admin = off\n"
    yield b"[policy\n"
    yield "[transfer]\nnice = \u00b2\n".encode("utf-8")
    yield b"[a]\nx=1\nx=2\n[a]\n"


def make_policies():
    for pattern, text in (("glance.*", "glance.sweep"), ("*", ""), ("a*b*c", "aXbYc"), ("x", "x"), ("**", "y"), ("a*a", "a")):
        yield ("%s\n%s" % (pattern, text)).encode("ascii")


def make_answers():
    for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
                 b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n",
                 b"HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n",
                 b"HTTP/1.1 200 OK\r\nETag: \"" + b"a" * 32 + b"\"\r\nContent-Length: 100\r\n\r\n"
                 + b'{"status": "active", "size": 3, "os_hash_algo": "sha512", "checksum": null}'.ljust(100)):
        yield b"\0\xff" + head
        yield b"\1\3" + head


def make_messages():
    for kind, payload in ((2, b"value"), (16, b"ENOENT\0"), (15, b"path\0token\0"), (1, b"a\0b\0"), (22, b"7\0a\0\0")):
        message = struct.pack("=IIII", kind, 1, 0, len(payload)) + payload
        yield b"\x40" + message
        yield b"\4" + message + message


def write_seeds():
    with tempfile.TemporaryDirectory() as directory:
        makers = {
            "arguments": make_arguments(), "command": make_commands(), "gzip": make_gzips(), "http": make_answers(),
            "iso": isos.make_seeds(), "json": make_jsons(), "pickle": make_pickles(), "policy": make_policies(),
            "settings": make_settings(), "tar": make_tars(), "vhd": make_vhds(directory),
            "vhd_decoder": make_decodings(directory), "wire": make_calls(), "xenstore": make_messages()}
        assert set(makers) == set(TARGETS)
        for name, seeds in makers.items():
            target = os.path.join(CORPUS, name)
            os.makedirs(target, exist_ok=True)
            for path in glob.glob(target + "/seed-*"):
                os.unlink(path)
            for number, data in enumerate(seed for seed in seeds if len(seed) <= TARGETS[name].max_bytes):
                with open(os.path.join(target, "seed-%02d" % number), "wb") as seed_file:
                    seed_file.write(data)


if __name__ == "__main__":
    write_seeds()
