# SPDX-License-Identifier: Apache-2.0
"""A thief with a host's ssh key and its address can write files into /images/instance<label>/, and nothing else.

First word by word, in the shells that a dom0's root may have; then through real sshd, with the real ssh, scp, sftp and rsync.
"""

import glob
import os
import re
import shutil
import stat
import struct
import subprocess

import pytest

from dom0_lib.migration import arrival_gate
from dom0_lib.migration import rsync
from tests import patience
from tests.calls import pythons
from tests.calls.migration import test_host_trust as trust

pytestmark = pytest.mark.needs("rsync", "ssh", "sshd", "ssh-keygen")

SHELLS = {"bash": ["bash"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
LABEL = "11111111-2222-4333-8444-555555555555_ephemeral_2"
DIRECTORY = "/images/instance%s/" % LABEL
END = " . " + DIRECTORY
SERVER = "rsync --server "
RECORDER = "#!/bin/sh\necho \"${0##*/} $*\"\n"
TIMEOUT_S = patience.LIMIT_S

# The receiving rsync's command line as these senders request it: 3.2.7, then 3.0.9 and 3.1.2.
ACCEPTED = [
    (SERVER + "-vlogDtpre.iLsfxCIvu" + END, [SERVER + "-vogtre.iLsfxCIvu" + END]),
    (SERVER + "-vlogDtpre.iLs" + END, [SERVER + "-vogtre.iLs" + END]),
    (SERVER + "-dIe31.14LsfxC" + END, [SERVER + "-dIe31.14LsfxC" + END]),
    (SERVER + "-dIe.LsfxCIvu --log-format=X --timeout=90 --partial-dir .dom0-plugins-partial" + END,
     [SERVER + "-dIe.LsfxCIvu --log-format=X --timeout=90 --partial-dir=.dom0-plugins-partial" + END]),
    ("rm -f %s2.vhd %s15.vhd ; " % (DIRECTORY, DIRECTORY) + SERVER
     + "-dISze.Lsf --compress-level=1 --log-format=X --timeout=90 --partial-dir=.dom0-plugins-partial" + END,
     ["rm -f %s2.vhd %s15.vhd" % (DIRECTORY, DIRECTORY), SERVER
      + "-dISze.Lsf --compress-level=1 --log-format=X --timeout=90 --partial-dir=.dom0-plugins-partial" + END]),
]
# A right request but for the values of its placeholders.
RIGHT = SERVER + "-de.L" + END
REFUSED = [
    None, "", " ", ";", "id", "sh", "/usr/lib/openssh/sftp-server", "internal-sftp", "scp -t /images", "rsync",
    "rsync --daemon", "rsync --server", "rsync --server .", SERVER + ". ", "rsync --server" + END + " x", "rsync" + END,
    RIGHT + "\nid", "id\n" + RIGHT, "/tmp/" + RIGHT, "'" + RIGHT + "'", RIGHT + ";id", RIGHT + " ; id",
    RIGHT + " " + RIGHT, RIGHT + " && id", RIGHT + " >/x",
]
REFUSED += [SERVER + "-de.L " + end for end in (
    ". /", ". /etc/", ". /images/", ". /images/instance/", ". /images/instance../", ". /images/instance1/../../etc/",
    ". " + DIRECTORY[:-1], ". /images/instance1//", ". /images/instance1/x/", ". /images/instance*/",
    ". /images/instance$HOME/", ". images/instance1/", ". x/images/instance1/", END + " /etc/", "/etc/" + END,
    "/ " + DIRECTORY, ". /images/instance\xe9/", ". $(id)", ". `id`", ". '%s'" % DIRECTORY, "--" + END)]
REFUSED += [SERVER + options + END for options in (
    "-s", "-sde.L", "-dKe.L", "-dHe.L", "-dRe.L", "-dbe.L", "-dLe.L", "-dke.L", "-dXe.L", "-dAe.L", "-dTe.L", "-dMe.L",
    "-dme.L", "-e", "-d", "-e. -x", "-e.L/", "-e.$x", "-e.\xe9", "- e.L", "-d-e.L", "--sender -de.L")]
REFUSED += [SERVER + "-de.L --%s" % option + END for option in (
    "sender", "daemon", "config=/x", "rsh=sh", "delete", "delete-before", "prune-empty-dirs", "timeout=", "timeout=9x",
    "timeout", "compress-level=-1", "log-format=%f", "log-file=/x", "partial-dir", "partial-dir=..", "partial-dir /etc",
    "partial-dir=/etc", "partial-dir .dom0-plugins-partial /etc", "partial-dir=.dom0-plugins-partial/..",
    "files-from=/etc/passwd", "temp-dir=/etc", "backup-dir=/etc", "copy-dest=/etc", "compare-dest=/etc", "link-dest=/etc",
    "write-batch=/x", "only-write-batch=/x", "read-batch=/x", "filter=x", "exclude-from=/etc/passwd", "links",
    "copy-unsafe-links", "devices", "write-devices", "super", "fake-super", "inplace", "append", "backup", "suffix=/x",
    "usermap=0:1", "chmod=u+s", "iconv=x", "keep-dirlinks", "relative", "remove-source-files", "old-args",
    "secluded-args", "protect-args", "debug=ALL")]
REFUSED += ["rm -f " + files for files in ("", ";", DIRECTORY + "2.vhd", DIRECTORY + "2.vhd ;", DIRECTORY + "2.vhd ; id")]
REFUSED += ["rm -f %s ; " % files + RIGHT for files in (
    "/etc/2.vhd", DIRECTORY + "*", DIRECTORY + "?.vhd", DIRECTORY + "30.vhd", DIRECTORY + "../2.vhd",
    DIRECTORY + "x/2.vhd", "2.vhd", "-r " + DIRECTORY + "2.vhd", DIRECTORY, DIRECTORY + "2.vhd ;id", "$(id)",
    "%s2.vhd ; rm -f %s2.vhd" % (DIRECTORY, DIRECTORY))]
REFUSED += ["rm -rf %s2.vhd ; " % DIRECTORY + RIGHT, "rm -f %s2.vhd ;" % DIRECTORY + RIGHT,
            "rm -f %s2.vhd ; " % DIRECTORY + SERVER + "-e.L . /etc/",
            "rm -f %s2.vhd ; " % DIRECTORY + SERVER + "--sender -e.L" + END]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """PATH with programs that say how they were called, and nothing that does anything."""
    directory = tmp_path_factory.mktemp("bin")
    for name in ("rsync", "rm", "id", "sh"):
        (directory / name).write_text(RECORDER)
        (directory / name).chmod(0o755)
    return str(directory)


def ask(shell, programs, request, **environment):
    """(status, lines of the programs that ran, stderr)"""
    environment = dict(environment, PATH=programs)
    if request is not None:
        environment["SSH_ORIGINAL_COMMAND"] = request
    command = [shutil.which(shell[0])] + shell[1:] + ["-c", arrival_gate.make_command()]
    process = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, universal_newlines=True, timeout=TIMEOUT_S)
    return process.returncode, process.stdout.splitlines(), process.stderr


@pytest.mark.needs("busybox", "dash")
@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_what_is_started(programs, shell):
    for request, lines in ACCEPTED:
        assert ask(shell, programs, request) == (0, lines, "")


@pytest.mark.needs("busybox", "dash")
@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_what_is_refused(programs, shell):
    for request in REFUSED:
        assert ask(shell, programs, request) == (1, [], "dom0-plugins: %s\n" % rsync.REFUSAL), request


# A locale that sorts A between a and b, as most do: before bash 4.3 a range of letters followed the locale.
MIXED_LETTERS = "escape_char /\nLC_COLLATE\norder_start forward\n%s\norder_end\nEND LC_COLLATE\n" % "\n".join(
    "<U%04X>" % code for small in range(ord("a"), ord("z") + 1) for code in (small, small - 32))


@pytest.fixture
def mixed_locale(tmp_path):
    """An environment in which `[a-z]` of an old bash has capitals in it."""
    (tmp_path / "source").write_text(MIXED_LETTERS)
    # It is made, and grumbled at for all that it leaves out.
    subprocess.run(["localedef", "-c", "-i", str(tmp_path / "source"), "-f", "ANSI_X3.4-1968", str(tmp_path / "mixed")],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=TIMEOUT_S)
    return {"LOCPATH": str(tmp_path), "LC_ALL": "mixed"}


@pytest.mark.needs("localedef")
@pytest.mark.skipif(not glob.glob("/usr/share/i18n/charmaps/ANSI_X3.4-1968*"), reason="needs the package locales")
def test_a_range_of_letters_has_no_others_in_any_locale(programs, mixed_locale):
    """sshd passes LC_* of the sender on."""
    shell = ["bash", "+O", "globasciiranges"]
    probe = [shutil.which("bash")] + shell[1:] + ["-c", "case A in [a-z]) exit 0;; *) exit 1;; esac"]
    assert subprocess.run(probe, env=mixed_locale, timeout=TIMEOUT_S).returncode == 0, "the locale is not used"
    for label in ("A", "1A", "a-Z"):
        request = SERVER + "-de.L . /images/instance%s/" % label
        assert ask(shell, programs, request, **mixed_locale) == (1, [], "dom0-plugins: %s\n" % rsync.REFUSAL)


# Through real sshd

class Thief(object):
    """An attacker on the source host, with its key."""

    def __init__(self, pair):
        self.pair = pair
        self.secret = pair.target.dom0.locate("/opt/harness/secret")
        with open(self.secret, "w") as target:
            target.write(trust.SECRET + "\n")

    def run(self, *command):
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=TIMEOUT_S, universal_newlines=True,
                              preexec_fn=self.pair.source.dom0.processes.namespace.enter)

    def ssh(self, *arguments):
        return self.run("ssh", "-oBatchMode=yes", *arguments)

    def rsync(self, *arguments):
        return self.run("rsync", "-e", "ssh -oBatchMode=yes", *arguments)

    @property
    def place(self):
        return "root@%s:" % self.pair.target.ip

    def look(self):
        """Names and kinds of all that is below /images of the target, and the secret."""
        found = {}
        images = self.pair.target.dom0.locate("/images")
        for parent, directories, files in os.walk(images):
            for name in directories + files:
                path = os.path.join(parent, name)
                found[os.path.relpath(path, images)] = stat.S_IFMT(os.lstat(path).st_mode) | os.lstat(path).st_mode & 0o7000
        with open(self.secret) as source:
            return found, source.read()


@pytest.fixture(scope="module")
def thief():
    with trust.open_trusting_pair(pythons.NEWEST, "Subsystem sftp internal-sftp") as pair:
        yield Thief(pair)


@pytest.fixture
def untouched(thief):
    before = thief.look()
    yield
    assert thief.look() == before


def expect_refusal(process):
    assert process.returncode != 0 and trust.SECRET not in process.stdout
    assert rsync.REFUSAL in process.stdout, process.stdout


@pytest.mark.parametrize("command", [["id"], ["cat /opt/harness/secret"], [], ["-T", "sh"]])
def test_no_command(thief, untouched, command):
    options = [word for word in command if word.startswith("-")]
    expect_refusal(thief.ssh(*options, thief.place[:-1], *[word for word in command if word not in options]))


@pytest.mark.parametrize("program", [["scp"], ["scp", "-O"]], ids=["sftp", "the old protocol"])
@pytest.mark.parametrize("is_out", [True, False], ids=["out", "in"])
def test_no_scp(thief, untouched, tmp_path, program, is_out):
    there = thief.place + "/opt/harness/secret"
    process = thief.run(*program, "-B", *([there, "%s/stolen" % tmp_path] if is_out else ["/etc/passwd", there]))
    assert process.returncode != 0 and not os.listdir(tmp_path)


@pytest.mark.parametrize("forward, words", [
    (["-N", "-R", "0:127.0.0.1:1"], "forwarding failed"),
    (["-N", "-R", "/tmp/forwarded:127.0.0.1:1"], "forwarding failed"),
    (["-W", "127.0.0.1:1"], "administratively prohibited"),
    (["-tt"], "PTY allocation request failed"),
], ids=["a port", "a socket", "a connection", "a terminal"])
def test_no_forwarding(thief, untouched, forward, words):
    process = thief.ssh("-oExitOnForwardFailure=yes", *forward, thief.place[:-1])
    assert process.returncode != 0 and words in process.stdout


@pytest.mark.parametrize("arguments", [
    ["{place}/opt/harness/secret", "{here}/stolen"],
    ["{place}/images/", "{here}/stolen"],
    ["/etc/hostname", "{place}/opt/harness/secret"],
    ["/etc/hostname", "{place}/etc/cron.d/"],
    ["/etc/hostname", "{place}/images/../etc/cron.d/"],
    ["/etc/hostname", "{place}/images/instance1/../../etc/"],
    ["--files-from=:/opt/harness/secret", "/", "{place}/images/instance1/"],
    ["--log-file=/x", "--rsync-path=rsync --log-file=/opt/harness/secret", "/etc/hostname", "{place}/images/instance1/"],
    ["--temp-dir=/etc", "/etc/hostname", "{place}/images/instance1/"],
    ["--backup", "--backup-dir=/etc", "/etc/hostname", "{place}/images/instance1/"],
    ["--copy-dest=/etc", "/etc/hostname", "{place}/images/instance1/"],
    ["--rsync-path=id; rsync", "/etc/hostname", "{place}/images/instance1/"],
    ["--rsync-path=rm -f /opt/harness/secret ; rsync", "/etc/hostname", "{place}/images/instance1/"],
    ["-M--write-batch=/x", "/etc/hostname", "{place}/images/instance1/"],
    ["-K", "-r", "/etc/ssh", "{place}/images/instance1/"],
    ["-s", "/etc/hostname", "{place}/etc/"],
    ["-d", "--delete", "/etc/ssh/", "{place}/images/instance1/"],
])
def test_no_other_rsync(thief, untouched, tmp_path, arguments):
    expect_refusal(thief.rsync(*[argument.format(place=thief.place, here=tmp_path) for argument in arguments]))
    assert not os.listdir(tmp_path)


def ask_for_rule(option, tmp_path):
    """Whether the receiving rsync, started with `option`, tells a sender the content of a file of its own.

    The sender speaks the protocol by hand: its rule names the file, and the receiver reads rules there.
    """
    secret = tmp_path / "secret"
    secret.write_text(trust.SECRET + "\n")
    rule = b". " + os.fsencode(secret)
    words = [struct.pack("<I", 29), struct.pack("<I", len(rule)) + rule, struct.pack("<I", 0)]
    process = subprocess.run(["rsync", "--server", "-de.L", option, ".", str(tmp_path / "images")], input=b"".join(words),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S)
    return trust.SECRET.encode("ascii") in process.stdout


def test_what_is_accepted_reads_no_rules(tmp_path):
    assert not ask_for_rule("--timeout=9", tmp_path)


def test_what_delete_is_refused_for(tmp_path):
    """With --delete every dom0's rsync so far, 3.0.9 to 3.4.1, shows lines of a file. The gate refuses it for newer ones, too."""
    version = subprocess.run(["rsync", "--version"], stdout=subprocess.PIPE, check=True, universal_newlines=True,
                             timeout=TIMEOUT_S).stdout
    if tuple(map(int, re.search(r"version v?(\d+)\.(\d+)", version).groups())) >= (3, 5):
        pytest.skip("not applicable: rsync 3.5.0 no longer tells")
    assert ask_for_rule("--delete", tmp_path)


@pytest.fixture
def sent(thief, tmp_path):
    """A directory to send; its copy on the target is removed after the test."""
    yield tmp_path
    shutil.rmtree(thief.pair.target.dom0.locate("/images/instance" + LABEL), ignore_errors=True)


def test_os_xenapi_sends(thief, sent):
    """The command line for a directory of plain files."""
    (sent / "0.vhd").write_bytes(b"leaf" * 100000)
    (sent / "1.vhd").write_bytes(b"base")
    shell = "ssh -o StrictHostKeyChecking=no"
    process = thief.run("rsync", "-av", "--progress", "-e", shell, "%s/" % sent, thief.place + DIRECTORY)
    assert process.returncode == 0, process.stdout
    for name in ("0.vhd", "1.vhd"):
        with open(thief.pair.target.dom0.locate(DIRECTORY + name), "rb") as arrived:
            assert arrived.read() == (sent / name).read_bytes()


@pytest.mark.parametrize("name, make", [
    ("link", lambda path: os.symlink("/opt/harness", path)),
    ("fifo", os.mkfifo),
    ("device", lambda path: os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 0))),
])
def test_no_link_and_no_device(thief, sent, name, make):
    make(str(sent / name))
    before = thief.look()
    # The receiving rsync does not take the entry for a link, and waits for the rest of a file.
    assert thief.rsync("-a", "--timeout=1", "%s/" % sent, thief.place + DIRECTORY).returncode != 0 or name == "fifo"
    found = thief.look()
    assert found[1] == before[1]
    assert {kind for path, kind in found[0].items() if path not in before[0]} <= {stat.S_IFREG, stat.S_IFDIR}


def test_a_link_is_not_written_through(thief, sent):
    """The link is sent first, then a file through it."""
    os.symlink("/opt/harness", str(sent / "x"))
    thief.rsync("-a", "--timeout=1", "%s/" % sent, thief.place + DIRECTORY)
    (sent / "x").unlink()
    (sent / "x").mkdir()
    (sent / "x" / "secret").write_text("taken over")
    thief.rsync("-a", "%s/" % sent, thief.place + DIRECTORY)
    assert thief.look()[1] == trust.SECRET + "\n"


def test_no_program_for_everybody(thief, sent):
    (sent / "sh").write_text("x")
    (sent / "sh").chmod(0o6755)
    assert thief.rsync("-a", "%s/" % sent, thief.place + DIRECTORY).returncode == 0
    assert not os.stat(thief.pair.target.dom0.locate(DIRECTORY + "sh")).st_mode & 0o7000


@pytest.fixture
def disks_of_others(thief):
    """Disks of two other guests that arrive on the target just now."""
    labels = ["1", "a"]
    for label in labels:
        directory = thief.pair.target.dom0.locate("/images/instance" + label)
        os.makedirs(directory)
        for name in ("0.vhd", "1.vhd"):
            with open(os.path.join(directory, name), "w") as target:
                target.write(label)
    yield
    for label in labels:
        shutil.rmtree(thief.pair.target.dom0.locate("/images/instance" + label))


@pytest.mark.parametrize("command", [
    "rm -f /images/instance*/0.vhd ; " + RIGHT,
    "rm -f /images/instance?/1.vhd ; " + RIGHT,
    "rm -f /images/instance[a-z]/0.vhd ; " + RIGHT,
    "rm -f /images/instance1/?.vhd ; " + RIGHT,
    "rm -f /images/*/0.vhd ; " + RIGHT,
    SERVER + "-de.L . /images/instance?/",
    SERVER + "-de.L . /images/instance[1]/",
    SERVER + "-de.L . /images/*1/",
])
def test_no_word_means_several_files(thief, disks_of_others, untouched, command):
    """A shell makes of a pattern the files that are there, whose names would be right."""
    expect_refusal(thief.ssh(thief.place[:-1], command))


def test_not_from_another_address(thief, untouched):
    process = thief.ssh("-b", "127.0.0.99", thief.place[:-1], RIGHT)
    assert process.returncode == 255 and "Permission denied" in process.stdout
