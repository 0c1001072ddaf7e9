# SPDX-License-Identifier: Apache-2.0
"""`make demo`, as far as it goes without make: a small disk, in an environment that holds next to nothing."""

import os
import pty
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE_S = 120
DIGEST = r"\n  put on the disk, SHA-256\n      ([0-9a-f]{64})\n  read from the SR\n      ([0-9a-f]{64})\n"
# Half-way is seen late, and never early; some of the image was there by then.
CANCELLATION = (
    r"\n  import +task\.cancel at [5-9][0-9] %; ended [0-9.]+ s after that +[0-9.]+ s"
    r"\n  task     XAPI saw (?:[0-9]+ %, )*[5-9][0-9] %"
    r"\n      TASK_CANCELLED\n      OpaqueRef:.*"
    r"\n  When it was cancelled, [0-9.]+ MB of VHDs were in the SR already\."
    r"\n  The SR is as it was: 10 files, none changed, none more\.\n")

PASSWORD = (
    r"\n  agent    has answered .*\n  reply    {\"returncode\": \"D0\", \"message\": \"[0-9]+\"}\n(?:.*\n)+"
    r"  agent    has answered .*\n  reply    {\"returncode\": \"0\", \"message\": \"\"}"
    r"\n  chosen here +([a-z2-9]{12})\n  what dom0 passed on +[A-Za-z0-9+/]{22}==\n  set in the guest +\1\n")


@pytest.fixture
def directory():
    """For temporary files. Short, so that all of them are in it."""
    path = os.path.join(tempfile.gettempdir(), "demo-%s" % secrets.token_hex(4))
    os.mkdir(path)
    yield path
    shutil.rmtree(path)


def start(directory, *options, **streams):
    environ = {"PATH": os.environ["PATH"], "HOME": directory, "TMPDIR": directory, "TERM": "xterm"}
    return subprocess.Popen([sys.executable, "-m", "tests.demo"] + list(options), cwd=CHECKOUT, env=environ,
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, universal_newlines=True, **streams)


def run(directory, *options):
    """Exit status, stdout, stderr."""
    process = start(directory, *options, stdout=subprocess.PIPE)
    output, errors = process.communicate(timeout=DEADLINE_S)
    return process.returncode, output, errors


def test_a_disk_arrives_as_it_was(directory):
    status, output, errors = run(directory, "--size", "16")
    assert errors == ""
    assert status == 0
    digests = re.findall(DIGEST, output)
    assert len(digests) == 2
    assert len({digest for pair in digests for digest in pair}) == 1
    assert re.search(r"\n  etc/motd: written to the leaf, over what the base has\n", output)
    for name in ("disk", "pack", "upload", "import", "export"):
        assert re.search(r"\n  %-8s .+ [0-9.]+ s +[0-9.]+ MB/s\n" % name, output)
    assert len(re.findall(r"  base copy  ", output)) == 2
    assert re.search(r"\n  export +4 VHDs, gzip level 1", output)
    assert re.search(CANCELLATION, output)
    assert re.search(PASSWORD, output)
    assert re.search(r"\n      UnsafeImage\n      0\.vhd: .*\n.*\n  The SR is as it was: 10 files", output)
    assert os.listdir(directory) == []
    # A pipe gets plain lines, and a terminal has room for them.
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", output)
    assert [line for line in output.splitlines() if len(line) > 80] == []


def test_a_terminal_gets_bars(directory):
    reader, writer = pty.openpty()
    process = start(directory, "--size", "8", stdout=writer)
    os.close(writer)
    output = b""
    try:
        for data in iter(lambda: os.read(reader, 65536), b""):
            output += data
    except OSError:
        pass  # how the end of a terminal reads
    finally:
        os.close(reader)
    assert process.communicate(timeout=DEADLINE_S) == (None, "")
    assert process.returncode == 0
    for name in (b"pack", b"upload", b"import"):
        assert re.search(rb"\r[^\n]*%s +\x1b[^\n]* of [0-9.]+ MB" % name, output)
    # A task's progress has no unit.
    assert re.search(rb"\r[^\n]*import +\x1b[^\n]*m [5-9][0-9] %", output)
    # The cursor is visible again.
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")


@pytest.mark.parametrize("title", [
    "A disk with files", "      \"extra_headers\"", "      \"task\"", "  from a service", "  guest    domain"])
def test_an_interruption_leaves_nothing(directory, title):
    process = start(directory, "--size", "24", stdout=subprocess.PIPE)
    for line in process.stdout:
        if line.startswith(title):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (128 + signal.SIGINT, "demo: interrupted; nothing is left behind\n")
    assert os.listdir(directory) == []


def test_too_little_space_is_one_line(directory):
    status, output, errors = run(directory, "--size", str(10 ** 9))
    assert (status, output) == (1, "")
    assert re.match(r"demo: %s has less than [0-9.]+ PB free: .*TMPDIR.*\n\Z" % directory, errors)
    assert os.listdir(directory) == []
