# SPDX-License-Identifier: Apache-2.0
"""`make suppack`: signed, the same bytes from the same commit and key, and taken by readers that nobody here wrote.

The rules of xapi are those of `make check-suppack`, which is shown each way to break one.
"""

import functools
import http.server
import os
import re
import shutil
import subprocess
import tempfile
import threading
import uuid
from xml.etree import ElementTree

import pytest

from tests.harness.system.prompt_server import PromptServer
from tests.packages import packages
from tests.packages.packages import CHECKOUT, FAMILIES, PYTHONS, VERSION, artefacts, make, run  # noqa: F401
from tests.packages.test_packages_rpm import PLUGINS, Root, build_package, copy_checkout, rpm_of

pytestmark = pytest.mark.needs("createrepo_c", "gpg", "rpmbuild", "xorriso")

NAME = "dom0-xapi-plugins"
LABEL = "%s-%s" % (NAME, VERSION.replace(".", "_"))
PACKAGES = ["control-" + LABEL, NAME, "update-" + LABEL]


class Keyring(object):
    """A gpg directory with one secret key."""

    def __init__(self, algorithm="rsa2048"):
        # gpg's agent needs a short path for its socket.
        self.home = tempfile.mkdtemp(prefix="dom0-gpg-", dir="/tmp")
        self.gpg("--passphrase", "", "--quick-generate-key", "Tester <tester@example.org>", algorithm, "sign", "never")
        self.fingerprint = re.search(r"(?m)^fpr:+(\w+):", self.gpg("--with-colons", "--list-keys")).group(1)

    def gpg(self, *arguments):
        return run("gpg", "--homedir", self.home, "--batch", "--quiet", *arguments).stdout

    def sign(self, path):
        self.gpg("--yes", "--digest-algo", "SHA256", "--armor", "--output", path + ".asc", "--detach-sign", path)

    def close(self):
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=True, timeout=30)
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture(scope="module")
def keyring():
    ring = Keyring()
    yield ring
    ring.close()


@pytest.fixture(scope="module")
def stranger():
    ring = Keyring()
    yield ring
    ring.close()


@pytest.fixture(scope="module")
def packs(keyring, tmp_path_factory):
    """The directory of the packs for both families, signed with `keyring`."""
    directory = str(tmp_path_factory.mktemp("packs"))
    output = make("suppack", directory, "--key", keyring.fingerprint, environment={"GNUPGHOME": keyring.home})
    assert "throw-away" not in output
    return directory


def iso_of(directory, family, version=VERSION):
    return os.path.join(directory, "%s-%s-%s.iso" % (NAME, version, family))


@pytest.fixture(scope="module")
def extracted(packs, tmp_path_factory):
    """Function(family) -> a directory with the content of its pack, not to be changed."""
    return functools.lru_cache(None)(
        lambda family: unpack(iso_of(packs, family), str(tmp_path_factory.mktemp("extracted") / family)))


def unpack(iso, root):
    run("xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", root)
    run("chmod", "-R", "u+w", root)
    return root


@pytest.fixture
def pack(extracted, tmp_path):
    """A copy of the pack for Python 3, to be broken."""
    root = str(tmp_path / "pack")
    shutil.copytree(extracted("python3"), root)
    return root


def key_file_of(root):
    (name,) = [name for name in os.listdir(root) if name.startswith("RPM-GPG-KEY-")]
    return os.path.join(root, name)


def check(root, key_file=None):
    """(whether the validator takes the pack, names of the checks that failed, all that it says)"""
    arguments = ["check-suppack", "ISO=" + root] + (["KEYFILE=" + key_file] if key_file else [])
    process = run("make", *arguments, cwd=CHECKOUT, check=False)
    return process.returncode == 0, re.findall(r"(?m)^(?!make: )([a-z-]+): ", process.stdout), process.stdout


# The pack itself.

@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_the_validator_takes_it(packs, family, version, interpreter):
    passed, failed, report = check(iso_of(packs, family), key_file_of(packs))
    assert passed and failed == [] and "all 18 checks passed\n" in report


def test_the_same_commit_and_key_make_the_same_bytes(packs, keyring, tmp_path):
    make("suppack", tmp_path, "--key", keyring.fingerprint, environment={"GNUPGHOME": keyring.home, "TZ": "Asia/Tokyo"})
    assert len(os.listdir(packs)) == 3
    for name in os.listdir(packs):
        with open(os.path.join(packs, name), "rb") as first, open(str(tmp_path / name), "rb") as second:
            assert first.read() == second.read(), name


def test_what_it_is(extracted):
    uuids = set()
    for family, _, _ in FAMILIES:
        root = extracted(family)
        update = ElementTree.parse(os.path.join(root, "update.xml")).getroot()
        assert update.get("name-label") == LABEL and update.get("version") == VERSION + "-1"
        # Another uuid for each version and family, the same in every build.
        assert update.get("uuid") == str(uuid.uuid5(uuid.NAMESPACE_URL, "%s/%s-1.%s" % (NAME, VERSION, family)))
        uuids.add(update.get("uuid"))
        assert update.get("key") == os.path.basename(key_file_of(root))
        assert update.get("after-apply-guidance") is None, "nothing has to be restarted"
        files = ["%s-%s-1.%s.noarch.rpm" % (name, VERSION, family) for name in PACKAGES]
        assert sorted(os.listdir(os.path.join(root, "Packages"))) == sorted(files)
        query = ["rpm", "-qp", "--nosignature", "--qf", "%{SIZE}\n"] + [os.path.join(root, "Packages", name) for name in files[:2]]
        assert update.get("installation-size") == str(sum(int(size) for size in run(*query).stdout.split()))
        for name in files:
            package = os.path.join(root, "Packages", name)
            assert run("rpm", "-qp", "--nosignature", "--scripts", package).stdout == ""
    assert len(uuids) == 2


def test_a_throw_away_key_is_gone_and_the_output_says_what_to_do(tmp_path):
    temporary = tempfile.mkdtemp(prefix="dom0-", dir="/tmp")
    output = make("suppack", tmp_path, "--family", "python3", environment={"TMPDIR": temporary})
    assert os.listdir(temporary) == []
    os.rmdir(temporary)
    key = os.path.basename(key_file_of(str(tmp_path)))
    assert "/opt/xensource/debug/import-update-key /root/%s" % key in output and "Not in production" in output
    passed, failed, _ = check(iso_of(str(tmp_path), "python3"))
    assert passed and failed == []


@pytest.mark.parametrize("key, reason", [
    ("nobody@example.org", r"KEY: no secret key 'nobody@example.org' in the keyring"),
    ("Tester", r"KEY: 'Tester' is the name of 2 secret keys: give a fingerprint"),
    ("Elliptic", r"KEY: \S+ is no RSA key of 2048 bits or more, and hosts cannot verify others"),
])
def test_a_key_that_cannot_sign_is_refused(keyring, tmp_path, key, reason):
    ring = Keyring()
    try:
        ring.gpg("--passphrase", "", "--quick-generate-key", "Tester two", "rsa2048", "sign", "never")
        ring.gpg("--passphrase", "", "--quick-generate-key", "Elliptic", "ed25519", "sign", "never")
        process = run("make", "suppack", "KEY=" + key, "ARGS=--output %s" % tmp_path, cwd=CHECKOUT, check=False,
                      env=dict(os.environ, GNUPGHOME=ring.home))
    finally:
        ring.close()
    assert process.returncode != 0 and re.search("(?m)^make_suppack: " + reason, process.stdout), process.stdout
    assert os.listdir(str(tmp_path)) == []


# Each way to break it. A change of what is signed is signed again, so that one thing alone is wrong.

def change_update(pack, keyring, old, new):
    path = os.path.join(pack, "update.xml")
    with open(path) as source:
        text = source.read()
    assert re.search(old, text)
    with open(path, "w") as target:
        target.write(re.sub(old, new, text, count=1))
    keyring.sign(path)


@pytest.mark.parametrize("old, new, failed", [
    (r"<name-description>.*</name-description>", "", ["description"]),
    (r"<name-description>.*<", "<name-description> <", ["description"]),
    (r"<name-description>.*<", "<name-description><b>plug-ins</b><", ["description"]),
    (r"  (<name-description>.*>)", r"\1\1", ["description"]),
    (r"<update ", '<update after-apply-guidance="restartHVM, restartXAPI" ', ["guidance"]),
    (r"<update ", '<update after-apply-guidance="restart" ', ["guidance"]),
    (r"<update ", '<update after-apply-guidance="" ', ["guidance"]),
    (r"<update ", '<update enforce-homogeneity="yes" ', ["homogeneity"]),
    (r'installation-size="\d+"', "", ["installation-size"]),
    (r'installation-size="\d+"', 'installation-size="1 MB"', ["installation-size"]),
    (r'control="[^"]+"', "", ["control"]),
    (r'control="[^"]+"', 'control="control-other"', ["control"]),
    (r'version="[^"]+"', "", ["attributes", "stamp"]),
    (r'version="[^"]+"', 'version="9-9"', ["stamp"]),
    (r'uuid="[^"]+"', "", ["attributes", "uuid", "stamp", "control"]),
    (r'uuid="([^"]+)"', lambda found: found.group(0).upper().replace("UUID", "uuid"), ["uuid", "stamp", "control"]),
    (r'uuid="[^"]+"', 'uuid="3b241101-e2bb-4255-8caf-4136c566a962"', ["stamp", "control"]),
    (r'name-label="[^"]+"', 'name-label="dom0 plugins"', ["label", "groups", "stamp"]),
    (r'name-label="[^"]+"', "", ["attributes", "label", "groups", "stamp"]),
    (r"<(/?)update\b", r"<\1updates", ["root"]),
])
def test_a_wrong_update_xml(pack, keyring, old, new, failed):
    if old.startswith("<(/?)update"):
        change_update(pack, keyring, r"</update>", "</updates>")
        old = "<update "
        new = "<updates "
    key_file = key_file_of(pack)
    change_update(pack, keyring, old, new)
    assert check(pack, key_file)[:2] == (False, failed)


def test_an_update_xml_without_a_key(pack, keyring):
    change_update(pack, keyring, r' key="[^"]+"', "")
    assert check(pack, key_file_of(pack))[:2] == (False, ["key"])
    assert check(pack)[:2] == (False, ["key", "update-signature", "index-signature", "package-signatures"])


def test_an_update_xml_whose_key_is_a_path(pack, keyring):
    change_update(pack, keyring, r' key="', ' key="../')
    assert check(pack, key_file_of(pack))[:2] == (False, ["key"])
    assert check(pack)[1][0] == "key"


def damage(path):
    """Change one byte of what is packed."""
    with open(path, "r+b") as target:
        target.seek(-40, os.SEEK_END)
        byte = target.read(1)
        target.seek(-1, os.SEEK_CUR)
        target.write(bytes([byte[0] ^ 1]))


def package_path(pack, prefix=NAME):
    (name,) = [name for name in os.listdir(os.path.join(pack, "Packages")) if name.startswith(prefix + "-" + VERSION)]
    return os.path.join(pack, "Packages", name)


def index_again(pack, keyring, compression="gz"):
    """Make the index of what is there, and sign it."""
    groups = os.path.join(pack, "..", "comps.xml")
    shutil.copy(os.path.join(pack, "repodata", "comps.xml"), groups)
    shutil.rmtree(os.path.join(pack, "repodata"))
    run("createrepo_c", "--quiet", "--general-compress-type", compression, "--no-database", "-g", groups, pack)
    keyring.sign(os.path.join(pack, "repodata", "repomd.xml"))


@pytest.mark.parametrize("name, failed", [
    ("update.xml.asc", ["files", "update-signature"]),
    ("repodata/repomd.xml.asc", ["files", "index-signature"]),
    ("repodata/comps.xml", ["index", "groups"]),
    ("update.xml", None),
    ("repodata/repomd.xml", None),
])
def test_a_file_that_is_missing(pack, name, failed):
    os.unlink(os.path.join(pack, name))
    passed, found, report = check(pack, key_file_of(pack))
    assert not passed and "files: the pack lacks %s" % name in report or name == "repodata/comps.xml"
    assert failed in (None, found)


def test_a_public_key_that_is_missing(pack):
    os.unlink(key_file_of(pack))
    assert check(pack)[:2] == (False, ["update-signature", "index-signature", "package-signatures"])


@pytest.mark.parametrize("name, failed", [("update.xml", "update-signature"), ("repodata/repomd.xml", "index-signature")])
def test_what_has_been_changed_after_it_was_signed(pack, name, failed):
    with open(os.path.join(pack, name), "a") as target:
        target.write("<!-- -->\n")
    passed, found, report = check(pack, key_file_of(pack))
    assert (passed, found) == (False, [failed]) and "BADSIG" in report


@pytest.mark.parametrize("name, failed", [("update.xml", "update-signature"), ("repodata/repomd.xml", "index-signature")])
def test_what_a_stranger_has_signed(pack, stranger, name, failed):
    stranger.sign(os.path.join(pack, name))
    passed, found, report = check(pack, key_file_of(pack))
    assert (passed, found) == (False, [failed]) and "NO_PUBKEY" in report or "ERRSIG" in report


def test_a_key_that_hosts_have_not_imported(pack, stranger, tmp_path):
    other = str(tmp_path / "other")
    with open(other, "w") as target:
        target.write(stranger.gpg("--armor", "--export"))
    assert check(pack, other)[:2] == (False, ["update-signature", "index-signature", "package-signatures"])


@pytest.mark.parametrize("prefix", PACKAGES)
def test_a_damaged_package(pack, keyring, prefix):
    damage(package_path(pack, prefix))
    passed, found, _ = check(pack)
    assert not passed and {"index", "package-signatures"} <= set(found)
    # Whoever may sign an index may not sign packages thereby.
    index_again(pack, keyring)
    passed, found, _ = check(pack)
    assert not passed and "package-signatures" in found and "index" not in found


def test_a_package_that_nobody_has_signed(pack, keyring):
    run("rpmsign", "--delsign", package_path(pack))
    index_again(pack, keyring)
    assert check(pack)[:2] == (False, ["package-signatures"])


def test_a_package_that_a_stranger_has_signed(pack, keyring, stranger):
    path = package_path(pack)
    run("rpmsign", "--delsign", path)
    run("rpmsign", "--define", "__gpg /usr/bin/gpg", "--define", "_gpg_name " + stranger.fingerprint, "--addsign", path,
        env=dict(os.environ, GNUPGHOME=stranger.home))
    index_again(pack, keyring)
    assert check(pack)[:2] == (False, ["package-signatures"])


def test_packages_that_the_index_does_not_have(pack, keyring, tmp_path):
    os.rename(package_path(pack, "update-" + LABEL), str(tmp_path / "update.rpm"))
    assert check(pack)[:2] == (False, ["index", "stamp"])
    index_again(pack, keyring)
    assert check(pack)[:2] == (False, ["stamp"])
    shutil.copy(package_path(pack), os.path.join(pack, "Packages", "more.rpm"))
    assert check(pack)[:2] == (False, ["index", "stamp"])


def test_an_index_that_the_host_installer_cannot_read(pack, keyring):
    index_again(pack, keyring, "xz")
    passed, failed, report = check(pack)
    assert not passed and "index" in failed and "the host installer reads nothing else" in report


@pytest.mark.parametrize("old, new", [("<id>update<", "<id>updates<"), ('"mandatory"', '"optional"'), (">update-", ">updates-")])
def test_groups_that_install_nothing(pack, keyring, old, new):
    path = os.path.join(pack, "repodata", "comps.xml")
    with open(path) as source:
        text = source.read()
    assert old in text
    with open(path, "w") as target:
        target.write(text.replace(old, new))
    index_again(pack, keyring)
    assert check(pack)[:2] == (False, ["groups"])


def test_a_package_that_old_hosts_cannot_read(pack, keyring, tmp_path):
    package = os.path.join(pack, "Packages", "new.rpm")
    shutil.copy(build_package(tmp_path, "new", "1", "opt/new", "%define _binary_payload w19.zstdio"), package)
    run("rpmsign", "--define", "__gpg /usr/bin/gpg", "--define", "_gpg_name " + keyring.fingerprint, "--addsign", package,
        env=dict(os.environ, GNUPGHOME=keyring.home))
    index_again(pack, keyring)
    assert check(pack)[:2] == (False, ["old-hosts"])


def test_what_is_no_pack_at_all(tmp_path):
    assert check("README.md")[0] is False and "README.md is no ISO" in check("README.md")[2]
    assert check(str(tmp_path / "nothing.iso"))[0] is False
    assert not os.path.exists(str(tmp_path / "nothing.iso"))
    passed, failed, report = check(str(tmp_path))
    assert not passed and failed[0] == "files" and "of 18 checks failed" in report
    (tmp_path / "update.xml").write_text("<update")
    assert "root: update.xml is no XML" in check(str(tmp_path))[2]


# Its precheck, on a host.

def precheck_of(root):
    package = package_path(root, "control-" + LABEL)
    work = tempfile.mkdtemp(prefix="dom0-pack-", dir=os.path.dirname(root))
    run("sh", "-c", 'rpm2cpio "$0" | cpio --quiet -id', package, cwd=work)
    (path,) = [os.path.join(parent, "precheck") for parent, _, names in os.walk(work) if "precheck" in names]
    with open(path) as script:
        return script.read()


@pytest.fixture
def prechecked(extracted, tmp_path):
    """Function(family) -> (a pool of one host without plug-ins, function() -> (status, output) of the pack's precheck there)."""
    pools = []

    def open_host(family):
        (version, interpreter), = [(version, interpreter) for name, version, interpreter in FAMILIES if name == family]
        pool = packages.open_dom0(PYTHONS[version], interpreter)
        pools.append(pool)
        pool.__enter__()
        host = pool.hosts[0]
        # Debian's rpm has its database elsewhere.
        packages.add_program(host, "/opt/harness/bin/rpm", 'exec /usr/bin/rpm --dbpath /var/lib/rpm "$@"')
        packages.add_program(host, "/opt/harness/precheck", precheck_of(extracted(family)).partition("\n")[2])

        def precheck():
            host.dom0.open_namespace()
            process = run("/opt/harness/precheck", check=False, preexec_fn=host.dom0.processes.namespace.enter,
                          env={"PATH": "/opt/harness/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
            return process.returncode, process.stdout
        return pool, precheck
    yield open_host
    for pool in pools:
        pool.__exit__(None, None, None)


@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_a_host_that_is_fit_says_nothing(artefacts, prechecked, tmp_path, family, version, interpreter):  # noqa: F811
    """Nor does one that has an earlier version, or the package that this one replaces."""
    pool, precheck = prechecked(family)
    assert precheck() == (0, "")
    root = Root(pool.hosts[0].root)
    root.rpm("-i", build_package(tmp_path, "xenapi-plugins", "14.0", PLUGINS + "/glance.py"))
    assert precheck() == (0, "")
    root.rpm("-U", "--nodeps", rpm_of(artefacts("rpm"), family))
    assert precheck() == (0, "")


@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_a_host_without_python(prechecked, family, version, interpreter):
    """In the form that xapi takes apart: pool_update.precheck looks for this element and reads `found` and `required`."""
    pool, precheck = prechecked(family)
    for script in ("exit 1", 'case "$2" in *XenAPI*) exit 1; esac'):
        packages.add_program(pool.hosts[0], interpreter, script)
        status, output = precheck()
        element = ElementTree.fromstring(re.search("<error errorcode=.+</error>", output, re.DOTALL).group(0))
        assert status == 1 and element.get("errorcode") == "UPDATE_PRECHECK_FAILED_WRONG_SERVER_VERSION"
        assert element.find("found").text == "no %s that has XenAPI" % interpreter
        assert element.find("required").text.startswith("XenServer 7.1" if family == "python2" else "XenServer 8")


def test_a_host_with_plugins_of_another_origin(prechecked, tmp_path):
    pool, precheck = prechecked("python3")
    root = Root(pool.hosts[0].root)
    for name in ("glance.py", "dom0_pluginlib.py", "others.py"):
        root.write(PLUGINS + "/" + name, "")
    root.rpm("-i", build_package(tmp_path, "somebody", "1", PLUGINS + "/dom0_plugin_version.py"))
    status, output = precheck()
    assert status == 1 and output.startswith("plug-ins of another origin are in the way")
    assert output.split(":")[1].split() == [
        "/etc/xapi.d/plugins/dom0_plugin_version.py", "(of", "the", "package", "somebody)", "/etc/xapi.d/plugins/glance.py",
        "/etc/xapi.d/plugins/dom0_pluginlib.py"]
    root.write("opt/dom0-xapi-plugins/current", "")
    assert precheck() == (1, "the plug-ins have been installed by install.sh: remove them with install.sh --uninstall.\n")


def test_a_host_whose_disk_is_full(prechecked):
    pool, precheck = prechecked("python3")
    packages.add_program(pool.hosts[0], "/opt/harness/bin/df", "printf 'Filesystem\\n/dev/sda1 100 90 10 90%% /\\n'")
    status, output = precheck()
    assert status == 1 and re.match(r"not enough space on /: 10 KiB are free, \d{4} KiB are needed.\n\Z", output)


# dnf.

@pytest.fixture
def serve():
    """Function(directory) -> URL."""
    servers = []

    def start(directory):
        handler = functools.partial(QuietHandler, directory=directory)
        server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return "http://127.0.0.1:%d" % server.server_port
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Server(PromptServer, http.server.ThreadingHTTPServer):
    pass


class QuietHandler(http.server.SimpleHTTPRequestHandler):

    def log_message(self, *_):
        pass


@pytest.fixture
def install_with_dnf(serve, tmp_path):
    """Function(root of a pack, interpreter) -> (Root, finished dnf): as xapi's pool_update.apply does, in an empty root."""
    if os.geteuid() != 0:
        pytest.skip("not applicable: dnf --installroot is root's")

    def install(pack, interpreter, *targets):
        root = Root(tmp_path / "host")
        platform = tmp_path / "platform"
        if not platform.exists():
            platform.mkdir()
            package = build_package(tmp_path, "xapi-core", "1", "opt/xensource/bin/xapi", "Provides: " + interpreter)
            shutil.copy(package, str(platform))
            run("createrepo_c", "--quiet", "--general-compress-type", "gz", "--no-database", str(platform))
        # What xapi writes (xapi_pool_update.ml), and a repository that stands for what the host has.
        configuration = tmp_path / "yum.conf"
        configuration.write_text(
            "[main]\nkeepcache=0\nreposdir=/dev/null\ngpgcheck=1\nrepo_gpgcheck=1\ninstallonly_limit=5\ndistroverpkg=xenserver-release\n"
            "metadata_expire=0\ncachedir=%s\n"
            "[%s]\nname=%s\nbaseurl=%s\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file://%s\n"
            "[platform]\nname=platform\nbaseurl=file://%s\ngpgcheck=0\nrepo_gpgcheck=0\n"
            % (tmp_path / "cache", LABEL, LABEL, serve(pack), key_file_of(pack), platform))
        process = run("dnf", "--noplugins", "-y", "-c", str(configuration), "--installroot", root.path, "--releasever", "8",
                      "--setopt", "persistdir=%s" % (tmp_path / "persist"), "--setopt", "logdir=%s" % tmp_path,
                      "install", *targets or ("@update",), check=False, env=dict(os.environ, LANG="C"))
        return root, process
    return install


@pytest.mark.needs("dnf")
@pytest.mark.parametrize("family, version, interpreter", FAMILIES)
def test_dnf_installs_the_group(extracted, install_with_dnf, family, version, interpreter):
    control = install_with_dnf(extracted(family), interpreter, "control-" + LABEL)[1]
    assert control.returncode == 0, control.stdout
    root, process = install_with_dnf(extracted(family), interpreter)
    assert process.returncode == 0, process.stdout
    update = ElementTree.parse(os.path.join(extracted(family), "update.xml")).getroot()
    stamp = ElementTree.parse(root.locate("var/update/applied/" + update.get("uuid"))).getroot()
    assert stamp.get("name-label") == LABEL and stamp.get("key") is None
    assert os.access(root.locate("var/update/%s/precheck" % update.get("uuid")), os.X_OK)
    assert os.path.exists(root.locate(PLUGINS + "/glance.py"))


@pytest.mark.needs("dnf")
def test_dnf_upgrades_to_the_next_version(extracted, keyring, install_with_dnf, tmp_path):
    """In the two steps of xapi: the control package, whose precheck is run, and then the group."""
    make("suppack", tmp_path, "--family", "python3", "--key", keyring.fingerprint, checkout=copy_checkout(tmp_path),
         environment={"GNUPGHOME": keyring.home, "SOURCE_DATE_EPOCH": "1800000000"})
    following = unpack(iso_of(str(tmp_path), "python3", "99.1"), str(tmp_path / "99.1"))
    assert check(following)[:2] == (True, [])
    for pack in (extracted("python3"), following):
        update = ElementTree.parse(os.path.join(pack, "update.xml")).getroot()
        for target in (update.get("control"), "@update"):
            root, process = install_with_dnf(pack, "/usr/bin/python3", target)
            assert process.returncode == 0, process.stdout
            assert os.access(root.locate("var/update/%s/precheck" % update.get("uuid")), os.X_OK)
        assert os.listdir(root.locate("var/update/applied")) == [update.get("uuid")]
    assert os.listdir(root.locate("etc/xapi.d/dom0-xapi-plugins")) == ["99.1-1.python3"]
    assert not os.path.lexists(root.locate(PLUGINS + "/glance.py"))
    assert sorted(os.listdir(root.locate("var/update"))) == sorted(["applied", update.get("uuid")])


@pytest.mark.needs("dnf")
@pytest.mark.parametrize("name", ["unsigned package", "damaged package", "index of a stranger", "no signature of the index"])
def test_dnf_refuses_what_the_validator_refuses(pack, keyring, stranger, install_with_dnf, name):
    if name == "unsigned package":
        run("rpmsign", "--delsign", package_path(pack))
        index_again(pack, keyring)
    elif name == "damaged package":
        damage(package_path(pack))
    elif name == "index of a stranger":
        stranger.sign(os.path.join(pack, "repodata", "repomd.xml"))
    else:
        os.unlink(os.path.join(pack, "repodata", "repomd.xml.asc"))
    root, process = install_with_dnf(pack, "/usr/bin/python3")
    assert process.returncode != 0
    assert not os.path.exists(root.locate(PLUGINS)), process.stdout
