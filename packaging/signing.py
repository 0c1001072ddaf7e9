# SPDX-License-Identifier: Apache-2.0
"""The key that signs a supplemental pack: one of the builder's own, or one that is made for this build and thrown away.

Hosts up to XenServer 8 and XCP-ng 8.3 verify with gpg 2.0 and rpm 4.11, which know RSA and DSA only.
"""

import os
import shutil
import tempfile

import release

# The start of the public key's file name; a host finds the key by that name, so each key has its own.
KEY_FILE_PREFIX = "RPM-GPG-KEY-DOM0-XAPI-PLUGINS-"
THROW_AWAY_NAME = "dom0-xapi-plugins throw-away key (do not trust)"
_RSA = "1"
_MIN_BITS = 2048
_SHORT_BYTES = 60


class Signer(object):
    """Signs with one secret key of a keyring.

    home           the keyring's directory, None for the user's own (GNUPGHOME or ~/.gnupg)
    fingerprint    of the primary key
    key_file       name of the public key's file on hosts
    is_throw_away  whether the secret key is gone after this build
    """

    def __init__(self, home, key, epoch, is_throw_away):
        self._home = home
        self.fingerprint, created, algorithm, bits = _find_secret_key(home, key)
        self.is_throw_away = is_throw_away
        self.key_file = KEY_FILE_PREFIX + self.fingerprint[-8:]
        if algorithm != _RSA or bits < _MIN_BITS:
            raise release.BuildError("KEY: %s is no RSA key of %d bits or more, and hosts cannot verify others" % (key, _MIN_BITS))
        # The same key at the same moment makes the same signature. None can be older than its key.
        self._clock = ["--batch", "--faked-system-time", "%d!" % max(epoch, created)]

    def export(self):
        """The public key, ASCII armoured."""
        return run_gpg(self._home, "--armor", "--export-options", "export-minimal", "--export", self.fingerprint)

    def sign_file(self, path):
        """Write <path>.asc, a detached ASCII signature."""
        run_gpg(self._home, *self._clock + ["--local-user", self.fingerprint + "!", "--digest-algo", "SHA256", "--armor", "--yes",
                                            "--output", path + ".asc", "--detach-sign", path])

    def sign_packages(self, paths):
        """Sign RPMs in place, in the form that rpm 4.11 verifies, too."""
        environment = dict(os.environ, LC_ALL="C.UTF-8")
        if self._home:
            environment["GNUPGHOME"] = self._home
        gpg = shutil.which("gpg")
        if not gpg:
            raise release.BuildError("gpg is not installed; docs/OPERATING.md lists what a build needs")
        release.run(["rpmsign", "--define", "__gpg " + gpg, "--define", "_gpg_name " + self.fingerprint,
                     "--define", "_gpg_digest_algo sha256", "--define", "_gpg_sign_cmd_extra_args " + " ".join(self._clock),
                     "--rpmv3", "--addsign"] + list(paths), env=environment)


def open_signer(key, epoch, stack):
    """The Signer for `key`, as gpg finds it in the user's keyring; for no key, one that is gone when `stack` closes."""
    if key:
        return Signer(None, key, epoch, is_throw_away=False)
    home = make_short_directory("dom0-gpg-")
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    stack.callback(release.run, ["gpgconf", "--homedir", home, "--kill", "all"])
    run_gpg(home, "--batch", "--faked-system-time", "%d!" % epoch, "--passphrase", "", "--quick-generate-key", THROW_AWAY_NAME,
            "rsa2048", "sign", "never")
    return Signer(home, THROW_AWAY_NAME, epoch, is_throw_away=True)


def make_short_directory(prefix):
    """A temporary directory whose path leaves room for the name of gpg's socket, which Unix limits to 107 bytes."""
    top = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix=prefix, dir=top if len(os.fsencode(top)) <= _SHORT_BYTES else "/tmp")


def run_gpg(home, *arguments):
    """gpg's stdout, as bytes."""
    return release.run(["gpg", "--quiet", "--no-tty"] + (["--homedir", home] if home else []) + list(arguments))


def _find_secret_key(home, key):
    """(fingerprint, seconds since 1970 of its creation, algorithm, bits) of the one secret key that gpg finds for `key`."""
    try:
        listing = run_gpg(home, "--batch", "--with-colons", "--list-secret-keys", key).decode("utf-8")
    except release.BuildError as error:
        raise release.BuildError("KEY: no secret key %r in the keyring: %s" % (key, str(error).splitlines()[-1]))
    records = [line.split(":") for line in listing.splitlines()]
    primary = [record for record in records if record[0] == "sec"]
    if len(primary) != 1:
        raise release.BuildError("KEY: %r is the name of %d secret keys: give a fingerprint" % (key, len(primary)))
    fingerprint = [record[9] for record in records if record[0] == "fpr"][0]
    return fingerprint, int(primary[0][5]), primary[0][3], int(primary[0][2])
