# SPDX-License-Identifier: Apache-2.0
"""Virtual environments under .venvs/: `host` drives the tests, `harness` has the simulated host and the demo alone, and one
for each dom0 Python runs the plug-ins.

An environment is made anew when its recipe (interpreter, requirements) changes. Its stamp holds the recipe and is written
last, so a directory without one is a half-made environment. tests/conftest.py finds the dom0 Pythons by their stamps.
"""

import ast
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time

from tests.run import interpreters
from tests.run import system_tools

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENVIRONMENTS_NAME = ".venvs"
ENVIRONMENTS = os.path.join(CHECKOUT, ENVIRONMENTS_NAME)
STAMP = ".ready"

# An environment's first packages: these Pythons run no later pip, and with an earlier one they are handed packages that
# are not for them.
OLD_PIP = {"2.7": "20.3.4", "3.6": "21.3.1"}

OLD_REQUIREMENTS = {
    "2.7": ["pytest==4.6.11", "mock==3.0.5", "hypothesis==4.57.1", "XenAPI==24.26.0", "six==1.16.0"],
    "3.6": ["pytest==7.0.1", "hypothesis==6.31.6", "XenAPI==24.26.0", "six==1.16.0"],
}
RECENT_REQUIREMENTS = ["pytest>=8.4,<10", "hypothesis>=6.100,<7", "XenAPI>=24.26,<27", "six>=1.16,<2"]

# The implementation that this one replaces, unpacked: the benchmark's yardstick, and plug-ins that nobody here wrote.
OS_XENAPI = "os-xenapi==0.3.4"

# The same package as its user has it, and that user: nova's xenapi driver.  A minute, 200 MB: made in CI and by `make compat`.
NOVA_REQUIREMENTS = os.path.join("tests", "run", "nova_requirements.txt")
NOVA_PYTHON = "2.7"

# The real image service, whose 260 MB take a minute: made in CI, and where somebody asks for it.
WANTS_GLANCE = os.environ.get("CI") == "true" or os.environ.get("DOM0_REAL_GLANCE") == "1"
GLANCE = ["glance==33.0.0", "gunicorn==27.0.1", "pyuwsgi==2.0.30.post1"]
GLANCE_PYTHONS = ("3.11", "3.12", "3.13")

# Coverage-guided fuzzing of Python code; it has wheels for these.
FUZZER = ["atheris >= 3, < 4"]
FUZZER_PYTHONS = ("3.11", "3.12", "3.13")

# Both real xenstored daemons and the xenstore-* tools, unpacked and not installed: installing them upgrades systemd.
XENSTORED_PACKAGES = [
    "xen-utils-4.17", "xenstore-utils", "libxenstore4", "libxenmisc4.17", "libxenevtchn1", "libxengnttab1", "libxencall1",
    "libxenforeignmemory1", "libxendevicemodel1", "libxentoollog1", "libxentoolcore1"]

COMMAND_DEADLINE_S = 900
LOCK_DEADLINE_S = 1800

# Variables of a caller's shell that would bring other modules into an environment, or install to another place.
LEAKS = ("PIP_PREFIX", "PIP_TARGET", "PIP_USER", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
LEAK_PREFIXES = ("PYTHON", "VIRTUALENV_")


class EnvironmentFailed(Exception):
    """An environment cannot be made; the text names the reason and the fix."""


def python_of(name):
    return os.path.join(ENVIRONMENTS, name, "bin", "python")


def clean_environ():
    """os.environ for children, without the variables of the caller's shell for Python."""
    environ = {name: value for name, value in os.environ.items()
               if name not in LEAKS and not name.startswith(LEAK_PREFIXES)}
    # Output that waits in a buffer makes a CI log look dead.
    environ.update(PYTHONUNBUFFERED="1", VIRTUALENV_OVERRIDE_APP_DATA=os.path.join(ENVIRONMENTS, ".virtualenv"))
    return environ


def has_venv(python):
    """Whether `python -m venv` works: Debian has a separate package for it."""
    return _imports(python, "ensurepip, venv")


def prepare_host():
    """Make .venvs/host; returns the interpreter that it is made from."""
    lists = ("HARNESS_REQUIREMENTS", "TOOL_REQUIREMENTS", "TEST_REQUIREMENTS")
    return _prepare_driver("host", sorted({requirement for name in lists for requirement in _read_requirements(name)}))


def prepare_harness():
    """Make .venvs/harness, in a fraction of the time that .venvs/host takes."""
    _prepare_driver("harness", _read_requirements("HARNESS_REQUIREMENTS"))


def _prepare_driver(name, requirements):
    python = interpreters.find_host()
    if not python:
        raise EnvironmentFailed("no Python >= %d.%d found on PATH or in pyenv" % interpreters.HOST_MINIMUM)

    def make(directory):
        _make_with_venv(directory, python)
        _install(directory, requirements)
    _prepare(name, [python, requirements], make)
    return python


def prepare_dom0(version, python):
    """Make .venvs/<version> from the interpreter `python`; needs the host environment."""
    old_pip = OLD_PIP.get(version)
    requirements = OLD_REQUIREMENTS.get(version, RECENT_REQUIREMENTS)

    def make(directory):
        if old_pip:
            _make_with_virtualenv(directory, python, old_pip)
        else:
            _make_with_venv(directory, python)
        _install(directory, requirements)
    _prepare(version, [python, old_pip, requirements], make)


def prepare_os_xenapi():
    """Unpack os-xenapi into .venvs/os-xenapi, where nothing imports it unasked; needs the host environment."""
    def make(directory):
        # Byte-code of Python 2 code cannot be made by the host's Python 3.
        _run([python_of("host"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", directory,
              OS_XENAPI])
    _prepare("os-xenapi", [OS_XENAPI], make)


def prepare_nova():
    """Make .venvs/nova, nova's xenapi driver with os-xenapi; False without a Python for it.  Needs the host environment."""
    python = interpreters.find_dom0(NOVA_PYTHON)
    if not python:
        return False

    def make(directory):
        _make_with_virtualenv(directory, python, OLD_PIP[NOVA_PYTHON])
        _install(directory, ["--no-deps", "--requirement", NOVA_REQUIREMENTS])
    _prepare("nova", [python, _read(os.path.join(CHECKOUT, NOVA_REQUIREMENTS))], make)
    return True


def prepare_glance():
    """Make .venvs/glance, the image service with both servers that run it; False without a Python for it."""
    return _prepare_with_one_of("glance", GLANCE_PYTHONS, GLANCE)


def prepare_fuzzer():
    """Make .venvs/fuzz; False without a Python for it."""
    return _prepare_with_one_of("fuzz", FUZZER_PYTHONS, FUZZER)


def _prepare_with_one_of(name, versions, requirements):
    found = [python for python in map(interpreters.find_dom0, versions) if python]
    if not found:
        return False

    def make(directory):
        _make_with_venv(directory, found[0])
        _install(directory, requirements)
    _prepare(name, [found[0], requirements], make)
    return True


def prepare_xenstored():
    """Unpack the real xenstored daemons into .venvs/xenstored; None, or why that cannot be done."""
    def make(directory):
        os.makedirs(directory)
        reason = system_tools.unpack(XENSTORED_PACKAGES, directory)
        if reason:
            raise EnvironmentFailed(reason)
    try:
        _prepare("xenstored", XENSTORED_PACKAGES, make)
    except (EnvironmentFailed, subprocess.TimeoutExpired) as error:
        return str(error)
    return None


@contextlib.contextmanager
def locked():
    """Two runs in one checkout take turns."""
    os.makedirs(ENVIRONMENTS, exist_ok=True)
    with open(os.path.join(ENVIRONMENTS, ".lock"), "w") as lock:
        deadline = time.monotonic() + LOCK_DEADLINE_S
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EnvironmentFailed("%s: another run has held this lock for %d s" % (lock.name, LOCK_DEADLINE_S))
                if not told:
                    print("waiting for another run in this checkout to make its environments", flush=True)
                    told = True
                time.sleep(0.5)
        yield


def _prepare(name, recipe, make):
    directory = os.path.join(ENVIRONMENTS, name)
    stamp = os.path.join(directory, STAMP)
    # A virtual environment does not survive a move.
    recipe = json.dumps([directory, recipe], indent=1)
    if _read(stamp) == recipe:
        return
    print("making .venvs/%s ..." % name, flush=True)
    started = time.monotonic()
    shutil.rmtree(directory, ignore_errors=True)
    make(directory)
    with open(stamp, "w") as target:
        target.write(recipe)
    print("made .venvs/%s in %.0f s" % (name, time.monotonic() - started), flush=True)


def _make_with_venv(directory, python):
    if has_venv(python):
        _run([python.path, "-E", "-m", "venv", directory])
    elif _imports(python, "virtualenv"):
        _run([python.path, "-E", "-m", "virtualenv", "--quiet", directory])
    else:
        raise EnvironmentFailed("%s makes no virtual environments: on Debian, apt-get install python%s-venv"
                                % (python.path, python.release.rpartition(".")[0]))


def _imports(python, names):
    command = [python.path, "-E", "-c", "import " + names]
    return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=interpreters.PROBE_DEADLINE_S).returncode == 0


def _make_with_virtualenv(directory, python, pip):
    # virtualenv carries this pip's wheel, so that no other pip ever runs there.
    _run([python_of("host"), "-m", "virtualenv", "--quiet", "--python", python.path, "--pip", pip, "--never-download",
          "--no-periodic-update", directory])


def _install(directory, requirements):
    _run([os.path.join(directory, "bin", "python"), "-m", "pip", "install", "--quiet"] + requirements)


def _run(command):
    """Run quietly; on failure its output is the reason."""
    environ = dict(clean_environ(), PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    try:
        process = subprocess.run(command, cwd=CHECKOUT, env=environ, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=COMMAND_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed("not done after %d s: %s" % (COMMAND_DEADLINE_S, " ".join(command)))
    if process.returncode != 0:
        raise EnvironmentFailed("failed: %s\n%s" % (" ".join(command), process.stdout.decode("utf-8", "replace").strip()))


def _read(path):
    try:
        with open(path) as source:
            return source.read()
    except OSError:
        return None


def _read_requirements(name):
    """setup.py's own list, read without executing it: setuptools may not be there yet."""
    with open(os.path.join(CHECKOUT, "setup.py")) as source:
        tree = ast.parse(source.read())
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == name:
            return ast.literal_eval(statement.value)
    raise EnvironmentFailed("setup.py has no %s" % name)
