# SPDX-License-Identifier: Apache-2.0
"""dom0-plugins as a process, and plug-ins that answer as a test says."""

import contextlib
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import urllib.request

from dom0_plugins import command_line
from dom0_plugins import pool as pool_of_tool
from tests.harness.system import programs
from tests.harness.system.prompt_server import PromptServer

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMMAND = [sys.executable, "-m", "dom0_plugins"]
DEADLINE_S = 60
PLUGIN = pool_of_tool.PLUGIN

# Writes down what it is asked, and answers by function's name.
_STAND_IN = """#!/usr/bin/python3
import json, os, sys, xmlrpc.client
(_, arguments), function = xmlrpc.client.loads(sys.argv[1])
directory = os.environ["DOM0_ROOT"] + "/opt/harness"
with open(directory + "/calls", "a") as calls:
    calls.write(json.dumps([function, arguments]) + "\\n")
with open(directory + "/replies") as replies:
    reply = json.dumps(json.load(replies)[function])
print(xmlrpc.client.dumps(({"Status": "Success", "Value": reply},), methodresponse=True))
"""
HANGING = "#!/bin/sh\nexec sleep 300\n"


class Result(object):

    def __init__(self, status, stdout, stderr):
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    @property
    def lines(self):
        return self.stdout.splitlines()

    @property
    def data(self):
        return json.loads(self.stdout)

    def host(self, name):
        """The host's part of the JSON."""
        return [host for host in self.data["hosts"] if host["name"] == name][0]

    def row(self, name):
        """The words of the host's line of the table, without it."""
        return [line.split()[1:] for line in self.lines if line.split()[:1] == [name]][0]


def start(urls, *arguments, password="harness", **options):
    """A started process of the tool. password: what its environment has, None for nothing."""
    command = COMMAND + [word for url in urls for word in ("--url", url)] + list(arguments)
    environ = {name: value for name, value in os.environ.items() if name != command_line.PASSWORD_VARIABLE}
    if password is not None:
        environ[command_line.PASSWORD_VARIABLE] = password
    defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                "preexec_fn": programs.reset_interrupts}
    return subprocess.Popen(command, cwd=CHECKOUT, env=environ, universal_newlines=True, **dict(defaults, **options))


def finish(process, text=None):
    stdout, stderr = process.communicate(text, timeout=DEADLINE_S)
    assert "Traceback" not in (stdout or "") + (stderr or "")
    return Result(process.returncode, stdout, stderr)


def run(urls, *arguments, **options):
    return finish(start(urls, *arguments, **options))


def interrupt(process, number=signal.SIGINT):
    process.send_signal(number)
    return finish(process)


def steps(*rows):
    """A reply of prepare and its like; rows: (step, outcome[, detail[, fix]])."""
    return [dict(zip(("step", "outcome", "detail", "fix"), row + ("", None)[len(row) - 2:])) for row in rows]


def stand_in(host, **replies):
    """Give the host a plug-in that answers so."""
    answers = {
        "version": {"release": "0.1.0", "interface": "2.1", "python": "3.6.8"},
        "prepare": steps(("/images", "done"), ("/boot/guest", "already")),
        "undo_prepare": steps(("/images", "done"), ("/boot/guest", "already")),
        "ssh_key": {"host_uuid": host.uuid, "name": host.name, "public_key": "ssh-ed25519 KEY-" + host.name,
                    "addresses": [host.ip], "host_keys": ["ssh-ed25519 HOST-" + host.name]},
        "trust_keys": steps(("other", "done")), "distrust_keys": steps(("other", "done")),
        "doctor": [{"check": "python", "ok": True, "found": "3.6.8", "problem": None, "fix": None}],
    }
    with open(host.dom0.locate("/opt/harness/replies"), "w") as target:
        json.dump(dict(answers, **replies), target)
    host.dom0.add_plugin(PLUGIN, _STAND_IN)


def calls(host):
    """[(function, arguments)] that the stand-in has got."""
    try:
        with open(host.dom0.locate("/opt/harness/calls")) as source:
            return [tuple(json.loads(line)) for line in source]
    except FileNotFoundError:
        return []


def sessions(pool):
    """References of the tool's sessions that are open."""
    return pool.database.refs("session", originator=pool_of_tool.ORIGINATOR)


@contextlib.contextmanager
def tls_front(url, certificate, name="127.0.0.1", ciphers=None):
    """The url of a TLS server that passes everything on to `url`.

    certificate: PEM file that has its key, too; ciphers: the only ones, and nothing newer than TLS 1.2
    """
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with urllib.request.urlopen(url + self.path, body, DEADLINE_S) as response:
                answer = response.read()
            self.send_response(200)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    class Server(PromptServer, http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # a client that does not trust us

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    with Server((name, 0), Handler) as front:
        front.socket = context.wrap_socket(front.socket, server_side=True)
        threading.Thread(target=front.serve_forever, daemon=True).start()
        try:
            yield "https://%s:%d" % (name, front.server_address[1])
        finally:
            front.shutdown()
