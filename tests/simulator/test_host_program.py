# SPDX-License-Identifier: Apache-2.0
"""The simulated host as a program, used from a shell as its banner says."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEADLINE_S = 60



def run(*arguments):
    """Exit status, stdout, stderr of `python -m <arguments>`."""
    process = subprocess.run([sys.executable, "-m"] + list(arguments), cwd=CHECKOUT, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, universal_newlines=True, timeout=DEADLINE_S)
    return process.returncode, process.stdout, process.stderr


class Program(object):
    """`python -m tests.harness` with options, up to the end of its banner."""

    def __init__(self, *options):
        self.process = subprocess.Popen([sys.executable, "-m", "tests.harness"] + list(options), cwd=CHECKOUT,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        self.banner = ""
        for line in self.process.stdout:
            self.banner += line
            if line.startswith("  print("):
                break
        self.url = re.search(r"URL +(\S+)", self.banner).group(1)
        self.uuids = re.findall(r"^  h\d+ +(\S+)", self.banner, re.MULTILINE)
        self.roots = re.findall(r"dom0 is (\S+)", self.banner)

    def xe(self, *words):
        return run("tests.harness.xe", "-s", self.url, *words)

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, errors


@pytest.fixture
def start():
    programs = []

    def start(*options):
        programs.append(Program(*options))
        return programs[-1]
    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
            program.process.communicate(timeout=DEADLINE_S)
            for root in program.roots:
                shutil.rmtree(os.path.dirname(root), ignore_errors=True)


def test_commands_of_the_banner_work_as_they_stand(start):
    program = start()
    command = re.search(r"as xe does:\n\n(.*?)\n\n", program.banner, re.DOTALL).group(1)
    output = subprocess.check_output(["sh", "-c", command], cwd=CHECKOUT, universal_newlines=True, timeout=DEADLINE_S)
    assert re.match(r'"2\.\d', output)
    code = "\n".join(line.strip() for line in program.banner.partition("from Python:")[2].splitlines())
    assert subprocess.check_output([sys.executable, "-c", code], universal_newlines=True, timeout=DEADLINE_S) == output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_without_a_word_and_leaves_nothing(start, number):
    program = start("--hosts", "2")
    assert len(program.roots) == 2 and os.path.isdir(program.roots[0])
    assert program.end(number) == (0, "")
    assert not os.path.exists(os.path.dirname(program.roots[0]))


def test_other_peoples_plugins_in_a_given_place(start, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "echo").write_text(
        "#!/usr/bin/env python\nimport sys\nimport XenAPIPlugin\n"
        "XenAPIPlugin.dispatch({'say': lambda session, args: ' '.join(sorted(args)) + args.get('text', '')})\n")
    root = "/tmp/dom0-kept-%d" % os.getpid()
    try:
        for _ in range(2):
            program = start("--plugins", str(plugins), "--root", root)
            (tmp_path / "text").write_text("from a file")
            words = ["host-call-plugin", "host-uuid=" + program.uuids[0], "plugin=echo", "fn=say"]
            assert program.xe(*words, "args:a=1", "args:text:file=%s" % (tmp_path / "text")) == (0, "a textfrom a file\n", "")
            status, output, errors = program.xe(*words[:2], "plugin=dom0_plugin_version.py", "fn=get_version")
            assert (status, output) == (1, "") and "XENAPI_MISSING_PLUGIN" in errors
            assert program.end()[0] == 0
            assert os.path.exists(root + "/h0/etc/xapi.d/plugins/echo")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def test_xe_of_the_simulated_host(start):
    program = start("--hosts", "2")
    status, output, _ = program.xe("host-list")
    assert status == 0 and sorted(re.findall(r"uuid : (\S+)", output)) == sorted(program.uuids)
    sr = re.search(r"SR (\S+) is (\S+)", program.banner)
    assert program.xe("sr-scan", "uuid=" + sr.group(1)) == (0, "", "")
    assert program.xe("host-call-plugin", "host-uuid=" + program.uuids[0], "plugin=a")[2] == (
        "xe: required parameter not found: fn\n")
    assert program.xe("host-call-plugin", "nonsense")[2] == "xe: nonsense: expected name=value\n"
    assert program.xe("vm-fly")[2] == "xe: unknown command vm-fly\n"
    assert program.xe("sr-scan", "uuid=x")[2] == "Error code: UUID_INVALID\nError parameters: SR, x\n"


@pytest.mark.parametrize("options, error", [
    (["--python", "/no/such/python"], "argument --python: /no/such/python is no program"),
    (["--hosts", "0"], "argument --hosts: at least 1"),
    (["--plugins", "/no/such/directory"], "argument --plugins: /no/such/directory is no directory"),
    (["--root", "/tmp/with_underscore"], "use a root without _"),
    (["--root", "/tmp/" + "x" * 100], "use a shorter root"),
], ids=lambda value: value if isinstance(value, str) else value[0])
def test_bad_option_is_one_line(options, error):
    status, output, errors = run("tests.harness", *options)
    assert status in (1, 2) and output == ""
    assert errors.strip().splitlines()[-1].endswith(error)
    assert "Traceback" not in errors


def test_port_in_use_is_one_line(start):
    program = start()
    status, _, errors = run("tests.harness", "--port", program.url.rpartition(":")[2])
    assert status == 1 and "Address already in use" in errors and "Traceback" not in errors


def test_help_names_every_option():
    status, output, _ = run("tests.harness", "--help")
    assert status == 0
    for option in ("--hosts", "--python", "--plugins", "--root", "--ip", "--port", "--python36-locale", "--namespace"):
        assert option in output
