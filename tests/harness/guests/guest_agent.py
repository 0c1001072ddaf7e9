# SPDX-License-Identifier: Apache-2.0
"""An agent in a guest, with the commands of rackerlabs' openstack-guest-agents-unix. It keeps the values that it receives.

    request  {"name": "<command>", "value": <text, or an object>}
    answer   {"returncode": "<text>", "message": "<text>"}: 404 for an unknown command, 500 for any other error

A password comes encrypted: Diffie-Hellman, then AES-128-CBC with key and IV that openssl makes of the shared number by MD5.
"""

import base64
import hashlib
import json
import secrets

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers import modes

PRIME = 162259276829213363391578010288127
BASE = 5
_BLOCK_BITS = 128


class KeyPair(object):
    """One side of the exchange; `public` goes to the other side."""

    def __init__(self):
        self._private = secrets.randbits(128)
        self.public = pow(BASE, self._private, PRIME)

    def agree(self, other_public):
        """The Secret that both sides have then."""
        return Secret(pow(other_public, self._private, PRIME))


class Secret(object):

    def __init__(self, number):
        text = b"%d" % number
        key = hashlib.md5(text).digest()
        self._cipher = Cipher(algorithms.AES(key), modes.CBC(hashlib.md5(key + text).digest()))

    def encrypt(self, text):
        """Base64, as `openssl aes-128-cbc -md md5 -nosalt -a -A` writes it."""
        padder, encryptor = padding.PKCS7(_BLOCK_BITS).padder(), self._cipher.encryptor()
        padded = padder.update(text.encode("utf-8")) + padder.finalize()
        return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode("ascii")

    def decrypt(self, text):
        """Raises ValueError."""
        unpadder, decryptor = padding.PKCS7(_BLOCK_BITS).unpadder(), self._cipher.decryptor()
        padded = decryptor.update(base64.b64decode(text)) + decryptor.finalize()
        return (unpadder.update(padded) + unpadder.finalize()).decode("utf-8")


class Agent(object):
    """
    version         the version that it answers
    injection       the command by which it takes files: "injectfile", "file_inject", or None
    password        the last one that was set, with the end of line it came with
    files           {path: content}, bytes
    updates         [(url, md5sum)]
    network_resets  how often it was asked for that
    """

    def __init__(self, version="1.39.1", injection="injectfile"):
        self.version = version
        self.password = None
        self.files = {}
        self.updates = []
        self.network_resets = 0
        self._secret = None
        self.commands = {"version": lambda value: ("0", self.version), "features": self._features, "keyinit": self._keyinit,
                         "password": self._password, "resetnetwork": self._resetnetwork, "agentupdate": self._agentupdate}
        if injection:
            self.commands[injection] = {"injectfile": self._injectfile, "file_inject": self._file_inject}[injection]

    def answer(self, data):
        """The bytes to answer a request's bytes with."""
        try:
            request = json.loads(data.decode("utf-8"))
            command = self.commands.get(request["name"])
            code, message = command(request.get("value", "")) if command else ("404", "no command %s" % request["name"])
        except Exception as error:
            code, message = "500", str(error) or type(error).__name__
        return json.dumps({"returncode": code, "message": message}).encode("utf-8")

    def _features(self, value):
        return "0", ",".join(sorted(self.commands))

    def _keyinit(self, value):
        # Some agents cannot take a number.
        if not isinstance(value, str):
            raise TypeError("the public key is no text")
        pair = KeyPair()
        self._secret = pair.agree(int(value))
        return "D0", "%d" % pair.public

    def _password(self, value):
        if self._secret is None:
            raise ValueError("a password without an exchange of keys")
        self.password = self._secret.decrypt(value)
        self._secret = None
        return "0", ""

    def _resetnetwork(self, value):
        self.network_resets += 1
        return "0", ""

    def _agentupdate(self, value):
        url, md5sum = value.split(",", 1)
        self.updates.append((url, md5sum))
        return "0", ""

    def _injectfile(self, value):
        path, content = base64.b64decode(value, validate=True).split(b",", 1)
        self.files[path] = content
        return "0", ""

    def _file_inject(self, value):
        self.files[base64.b64decode(value["b64_path"], validate=True)] = base64.b64decode(value["b64_file"], validate=True)
        return "0", ""
