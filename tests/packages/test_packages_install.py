# SPDX-License-Identifier: Apache-2.0
"""install.sh: over ssh to real sshds, in dom0s whose plug-ins xapi then calls."""

import contextlib
import os
import re
import tarfile
import threading
import time

import pytest

from tests.packages import packages
from tests.packages.installed_dom0 import BASE, PLUGINS, START_DEADLINE_S, Dom0, call_slowly, wait_for
from tests.packages.packages import PYTHONS, VERSION, add_program, artefacts, run  # noqa: F401

pytestmark = [pytest.mark.needs("sshd", "busybox"),
              pytest.mark.skipif(os.geteuid() != 0, reason="not applicable: install.sh is root's, as is sshd")]

# A plug-in that waits in the middle of its call, and then imports what it has not needed before.
SLOW_PLUGIN = """#!/usr/bin/python
from __future__ import absolute_import, division
from dom0_lib.call.dispatch import Call, dispatch
CALLS = {'wait': Call('dom0_lib.slow:wait')}
if __name__ == '__main__':
    dispatch(CALLS)
"""
SLOW_MODULE = """
import os
import time
def wait(_session_ref):
    open('/images/started', 'w').close()
    while not os.path.exists('/images/go'):
        time.sleep(0.02)
    from dom0_lib import late
    return late.VERSION
"""


@pytest.fixture
def stack():
    with contextlib.ExitStack() as exits:
        yield exits


@pytest.fixture
def host(stack, tmp_path):
    return Dom0(stack, str(tmp_path / "host"))


@pytest.fixture
def make_tree(artefacts, tmp_path):  # noqa: F811
    """Function(name, {file: text}) -> an unpacked tarball whose version is `name`, with more files in it."""
    archive = os.path.join(artefacts("tarball"), "dom0-xapi-plugins-%s-python3.tar.gz" % VERSION)

    def unpack(name, files=()):
        top = str(tmp_path / ("tree-" + name))
        with tarfile.open(archive) as packed:
            packed.extractall(top)
        tree = os.path.join(top, "dom0-xapi-plugins-" + VERSION)
        files = dict(files, **{"dom0_lib/__init__.py": "__version__ = '%s'\n" % name,
                               "slow.py": SLOW_PLUGIN, "dom0_lib/slow.py": SLOW_MODULE,
                               "dom0_lib/late.py": "VERSION = '%s'\n" % name})
        for path, text in files.items():
            with open(os.path.join(tree, "xapi.d/plugins", path), "w") as target:
                target.write(text)
        return tree
    return unpack


def test_hosts_of_both_families_get_their_python_over_ssh(stack, make_tree, tmp_path):
    tree = make_tree("1")
    hosts = [Dom0(stack, str(tmp_path / "new"), "3.6", "/usr/bin/python3"),
             Dom0(stack, str(tmp_path / "old"), "2.7", "/usr/bin/python2.7")]
    # An old host may have somebody's Python 3, without XAPI's module.
    add_program(hosts[1].pool.hosts[0], "/usr/bin/python3", 'exec %s -S "$@"' % PYTHONS["3.6"])
    hosts[1].open()
    for host, interpreter in zip(hosts, ("/usr/bin/python3", "/usr/bin/python2.7")):
        ssh = host.start_sshd(stack)
        process = run(os.path.join(tree, "install.sh"), "root@127.0.0.1", env=dict(os.environ, SSH=ssh))
        assert process.stdout == "root@127.0.0.1: version 1, for %s\n" % interpreter
        assert host.version() == '"2.1"'
        assert host.run("head", "-n", "1", PLUGINS + "/glance.py").stdout == "#!%s\n" % interpreter
        assert host.run("cat", "/etc/dom0-plugins.conf").stdout.startswith("# Settings of")
        assert os.listdir(host.temporary) == []
        # Python need not compile anything at the first call.
        assert host.run("find", BASE, "-name", "wire*.pyc").stdout != ""
        for verb, words in (("--rollback", "FAILED: install.sh: there is no earlier release"), ("--uninstall", "removed")):
            process = run(os.path.join(tree, "install.sh"), verb, "root@127.0.0.1", check=False, env=dict(os.environ, SSH=ssh))
            assert "root@127.0.0.1: " + words in process.stdout
        assert host.links() == {}


def test_a_host_that_fails_does_not_stop_the_others(stack, host, make_tree):
    ssh = host.start_sshd(stack)
    process = run(os.path.join(make_tree("1"), "install.sh"), "nobody@127.0.0.1", "root@127.0.0.1", "root@127.0.0.1:x", check=False,
                  env=dict(os.environ, SSH=ssh))
    assert process.returncode == 1
    lines = process.stdout.splitlines()
    assert lines[0].startswith("nobody@127.0.0.1: FAILED:") and "root@127.0.0.1: version 1, for /usr/bin/python3" in lines
    assert lines[-1] == "install.sh: failed: nobody@127.0.0.1 root@127.0.0.1:x"
    assert host.version() == '"2.1"'


def test_the_pipe_of_openstacks_guide(stack, host, artefacts, tmp_path):  # noqa: F811
    """The commands of docs/OPERATING.md, which are those of the guide."""
    ssh = host.start_sshd(stack)
    archive = os.path.join(artefacts("tarball"), "dom0-xapi-plugins-%s-python3.tar.gz" % VERSION)
    run("sh", "-c", "%s root@127.0.0.1 'cd /etc/xapi.d/plugins && mkdir dom0_lib && touch dom0_lib/gone.py'" % ssh)
    run("sh", "-ec", """
        tar -xzf %s
        PLUGINPATH=$(find dom0-xapi-plugins-* -path '*/xapi.d/plugins' -type d -print)
        %s root@127.0.0.1 rm -rf /etc/xapi.d/plugins/dom0_lib
        tar -czf - -C "$PLUGINPATH" ./ |
            %s root@127.0.0.1 tar -xozf - -C /etc/xapi.d/plugins""" % (archive, ssh, ssh), cwd=str(tmp_path))
    assert host.version() == '"2.1"'
    names = run("sh", "-c", "%s root@127.0.0.1 ls /etc/xapi.d/plugins/dom0_lib" % ssh).stdout.split()
    assert "__init__.py" in names and "gone.py" not in names, "a module of an earlier version is left"


def test_one_pipe_without_unpacking(stack, host, artefacts):  # noqa: F811
    ssh = host.start_sshd(stack)
    archive = os.path.join(artefacts("tarball"), "dom0-xapi-plugins-%s-python3.tar.gz" % VERSION)
    run("sh", "-c", "cat %s | %s root@127.0.0.1 'd=$(mktemp -d); tar -xzf - -C $d && $d/*/install.sh --here; rm -rf $d'"
        % (archive, ssh))
    assert host.release().startswith(VERSION + "-") and host.version() == '"2.1"'


@pytest.mark.parametrize("shell", [["dash"], ["bash", "--posix"], ["busybox", "sh"]], ids=lambda shell: shell[0])
def test_it_runs_in_every_shell(host, make_tree, shell):
    add_program(host.pool.hosts[0], "/opt/harness/bin/sh", "exec %s \"$@\"" % " ".join(shell))
    host.open()
    one, two = make_tree("1"), make_tree("2")
    before = host.listing()
    for tree, verb in ((one, "--install"), (two, "--install"), (two, "--rollback"), (two, "--rollback"), (two, "--uninstall")):
        host.install(tree, verb)
    assert host.listing() == before


def test_a_call_in_flight_keeps_its_library(host, make_tree):
    host.install(make_tree("1"))
    finish = call_slowly(host)
    host.install(make_tree("2"))
    host.install(make_tree("3"))
    assert len(host.releases()) == 3, "a call that runs may need any of them"
    assert finish() == '"1"'
    assert call_slowly(host)() == '"3"'
    # install.sh sees the plug-ins that other tests run on this machine, too, and keeps all releases while there are any.
    tree, deadline = make_tree("4"), time.monotonic() + START_DEADLINE_S
    host.install(tree)
    while [name.partition("-")[0] for name in host.releases()] != ["3", "4"]:
        assert time.monotonic() < deadline, host.releases()
        host.install(tree)


def test_an_upgrade_and_back_and_forth(host, make_tree):
    host.install(make_tree("1", {"old.py": SLOW_PLUGIN}))
    first = host.release()
    output = host.install(make_tree("2")).stdout
    second = host.release()
    assert output == "version 2, for /usr/bin/python3, was %s\n" % first
    assert "old.py" not in host.links()
    tree = make_tree("3")
    assert host.install(tree, "--rollback").stdout == "back to %s, was %s\n" % (first, second)
    assert host.release() == first and "old.py" in host.links() and call_slowly(host)() == '"1"'
    host.install(tree, "--rollback")
    assert host.release() == second and "old.py" not in host.links()


def test_the_same_again_changes_nothing(host, make_tree):
    host.install(make_tree("1"))
    host.install(make_tree("2"))
    before = host.listing()
    host.install(make_tree("2"))
    assert host.listing() == before
    # Somebody has changed a file of it: that is repaired beside it.
    host.run("sh", "-c", "echo '# by hand' >> %s/releases/%s/dom0_lib/late.py" % (BASE, host.release()))
    old = host.release()
    host.install(make_tree("2"))
    assert host.release() != old and host.release().startswith("2-")
    assert "by hand" not in host.run("cat", "%s/releases/%s/dom0_lib/late.py" % (BASE, host.release())).stdout


def test_what_was_there_before_comes_back(host, make_tree):
    for name, text in (("glance.py", "#!/bin/sh\necho os-xenapi\n"), ("others.py", "#!/bin/sh\n")):
        host.dom0.add_plugin(name, text)
    os.symlink("/opt/somewhere/else", os.path.join(host.dom0.plugin_dir, "slow.py"))
    before = host.listing()
    host.install(make_tree("1"))
    host.install(make_tree("2"))
    assert set(host.links()) == set(os.listdir(host.dom0.plugin_dir)) - {"others.py"}
    assert host.install(make_tree("3"), "--uninstall").stdout == "removed; put back: glance.py slow.py \n"
    assert host.listing() == before


def test_settings_of_ones_own_stay(host, make_tree):
    host.run("sh", "-c", "echo '[policy]' > /etc/dom0-plugins.conf; echo 'deny = *' >> /etc/dom0-plugins.conf")
    host.install(make_tree("1"))
    assert host.run("cat", "/etc/dom0-plugins.conf").stdout == "[policy]\ndeny = *\n"
    assert host.install(make_tree("2"), "--uninstall").stdout == "removed; /etc/dom0-plugins.conf is kept\n"
    assert host.run("cat", "/etc/dom0-plugins.conf").stdout == "[policy]\ndeny = *\n"


def test_settings_that_cannot_be_used_stop_no_upgrade(host, make_tree):
    host.run("sh", "-c", "echo '[polcy]' > /etc/dom0-plugins.conf")
    for number in "12":
        output = host.install(make_tree(number)).stdout
        assert "every call is refused, because /etc/dom0-plugins.conf cannot be used" in output and "version " in output
    host.run("rm", "/etc/dom0-plugins.conf")
    assert "refused" not in host.install(make_tree("3")).stdout


BROKEN = "#!/usr/bin/python3\nimport sys\nsys.exit('no good' if %s else 0)\n"


@pytest.mark.parametrize("condition, reason", [
    ("True", "the plug-ins do not answer, so nothing was changed: no good"),
    ("sys.argv[0].startswith('/etc')", "the plug-ins do not answer, so nothing was changed: "),
])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_version_that_does_not_answer_is_not_installed(host, make_tree, condition, reason, is_first):
    host.dom0.add_plugin("glance.py", "#!/bin/sh\necho os-xenapi\n")
    if not is_first:
        host.install(make_tree("1"))
    before = host.listing()
    process = host.install(make_tree("2", {"dom0_plugin_version.py": BROKEN % condition}), check=False)
    assert process.returncode == 1 and "install.sh: " + reason in process.stdout
    assert host.listing() == before


def test_a_version_that_answers_until_xapi_calls_it_is_taken_back(host, make_tree):
    """As on a host whose /etc does not allow programs."""
    host.dom0.add_plugin("glance.py", "#!/bin/sh\necho os-xenapi\n")
    host.install(make_tree("1"))
    first, links = host.release(), host.links()
    choosy = ("#!/usr/bin/python3\nimport sys\nif sys.argv[0].startswith('/etc'):\n    sys.exit('not here')\n"
              "print('<methodResponse>Success</methodResponse>')\n")
    process = host.install(make_tree("2", {"dom0_plugin_version.py": choosy}), check=False)
    assert process.returncode == 1
    assert "the plug-ins do not answer where xapi finds them; everything is as it was: not here" in process.stdout
    assert host.release() == first and host.links() == links and host.version() == '"2.1"'
    host.install(make_tree("3"))
    host.install(make_tree("4"), "--rollback")
    assert host.release() == first


def break_link(host, name, count):
    """Make `ln` send a signal to the script that calls it the `count`-th time."""
    add_program(host.pool.hosts[0], "/opt/harness/bin/ln", """
        echo >> /images/links
        if [ $(wc -l < /images/links) = %d ]; then kill -%s $PPID; sleep 0.2; fi
        exec /usr/bin/ln "$@" """ % (count, name))


def mend_link(host):
    add_program(host.pool.hosts[0], "/opt/harness/bin/ln", 'exec /usr/bin/ln "$@"')
    with contextlib.suppress(FileNotFoundError):
        os.unlink(host.dom0.locate("/images/links"))


def all_plugins_answer(host):
    for name in host.links():
        reply = host.run(PLUGINS + "/" + name, "<methodCall><methodName>x</methodName><params/></methodCall>").stdout
        assert "<methodResponse>" in reply, reply


@pytest.mark.parametrize("count, verb, expected", [
    (1, "--install", "2"), (2, "--rollback", "1"), (2, "--uninstall", None), ("last", "--rollback", "1"),
    ("last", "--install", "2"),
])
def test_a_kill_while_links_change(host, make_tree, count, verb, expected):
    """Each plug-in answers, of one version or the other, and the next run finishes or takes back what was begun."""
    mend_link(host)
    host.open()
    before = host.listing()
    host.install(make_tree("1"))
    mend_link(host)
    break_link(host, "KILL", len(host.links()) if count == "last" else count)
    tree = make_tree("2")
    process = host.install(tree, check=False)
    assert process.returncode == 1 and process.stdout.endswith("install.sh: failed: this-host\n")
    assert "everything is as it was" not in process.stdout
    all_plugins_answer(host)
    mend_link(host)
    process = host.install(tree, verb, check=False)
    if verb == "--rollback":
        # The change has not happened, so there is no earlier release; but what was begun is taken back.
        assert "there is no earlier release" in process.stdout
    if expected:
        assert host.release().partition("-")[0] == expected
        all_plugins_answer(host)
    else:
        assert host.listing() == before


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_a_signal_takes_back_what_was_begun(host, make_tree, name):
    mend_link(host)
    host.open()
    host.install(make_tree("1"))
    first, links = host.release(), host.links()
    mend_link(host)
    break_link(host, name, 2)
    process = host.install(make_tree("2"), check=False)
    assert process.returncode == 1 and "interrupted; everything is as it was" in process.stdout
    assert host.release() == first and host.links() == links


@pytest.mark.parametrize("prepare, reason", [
    ("mkdir %s/glance.py" % PLUGINS, "/etc/xapi.d/plugins/glance.py is a directory: move it away"),
    ("mv %s /etc/xapi.d/other" % PLUGINS, "there is no /etc/xapi.d/plugins: is this a XenServer or XCP-ng host?"),
])
def test_what_is_refused(host, make_tree, prepare, reason):
    host.run("sh", "-c", prepare)
    before = host.run("ls", "-A", "/etc/xapi.d").stdout
    process = host.install(make_tree("1"), check=False)
    assert process.returncode == 1 and "install.sh: " + reason in process.stdout
    assert host.run("ls", "-A", "/etc/xapi.d").stdout == before


def test_two_at_once_are_refused(host, make_tree):
    """The first one is held while it writes."""
    add_program(host.pool.hosts[0], "/opt/harness/bin/sync",
                "touch /images/syncing\nwhile [ ! -e /images/go ]; do sleep 0.02; done")
    host.open()
    tree = make_tree("1")
    first = threading.Thread(target=host.install, args=(tree,), daemon=True)
    first.start()
    wait_for(host.dom0.locate("/images/syncing"))
    process = host.install(tree, check=False)
    assert process.returncode == 1 and "another install.sh is at work on this host" in process.stdout
    open(host.dom0.locate("/images/go"), "w").close()
    first.join(START_DEADLINE_S)
    assert host.version() == '"2.1"'


def test_a_host_with_the_package_keeps_it(host, make_tree):
    add_program(host.pool.hosts[0], "/opt/harness/bin/rpm", '[ "$*" = "-q dom0-xapi-plugins" ]')
    host.open()
    process = host.install(make_tree("1"), check=False)
    assert process.returncode == 1 and "this host has the plug-ins as a package" in process.stdout
    assert host.links() == {} and host.run("ls", BASE, check=False).returncode != 0


def test_a_host_without_a_python_for_them(host, make_tree):
    add_program(host.pool.hosts[0], "/usr/bin/python3", 'exec %s -S "$@"' % PYTHONS["3.6"])
    host.open()
    for arguments, name in (((), "/usr/bin/python3 or /usr/bin/python2.7"), (("--python", "/opt/python"), "/opt/python")):
        process = host.install(make_tree("1"), *arguments, check=False)
        assert process.returncode == 1
        assert "install.sh: no Python for the plug-ins: it takes %s, 3.6 or later or 2.7" % name in process.stdout
        assert host.links() == {}


@pytest.mark.parametrize("arguments, status, words", [
    ((), 2, "install.sh --rollback root@HOST ..."),
    (("--help",), 2, "install.sh --uninstall root@HOST ..."),
    (("--python",), 2, "install.sh [--python PATH] root@HOST ..."),
    (("--python", "python3", "x"), 1, "--python: python3 is not an absolute path"),
    (("--python", "/opt/my python", "x"), 1, "a character that the first line of a script cannot hold"),
    (("--python", "/opt/$(id)", "x"), 1, "a character that the first line of a script cannot hold"),
])
def test_a_wrong_command_line(arguments, status, words):
    process = run(os.path.join(packages.CHECKOUT, "packaging/install.sh"), *arguments, check=False)
    assert process.returncode == status and words in process.stdout


def test_it_runs_from_a_checkout(host):
    process = host.run("sh", os.path.join(packages.CHECKOUT, "packaging/install.sh"), "--here")
    assert re.match(r"version %s, for /usr/bin/python3$" % re.escape(VERSION), process.stdout)
    assert host.version() == '"2.1"'
