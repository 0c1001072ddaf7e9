# SPDX-License-Identifier: Apache-2.0
"""The commands and options of dom0-plugins.

Exit status: 0 success; 1 problems, or hosts that were not reached; 2 wrong usage, or no pool accepts the login; 130 after Ctrl-C.
"""

import os
import re
import signal
import ssl
import sys
import threading
import urllib.parse

import click

import dom0_lib
from dom0_plugins import crew
from dom0_plugins import pool as pools_of
from dom0_plugins import problems
from dom0_plugins import progress
from dom0_plugins import report
from dom0_plugins import stages

PASSWORD_VARIABLE = "DOM0_PLUGINS_PASSWORD"
INTERRUPTED = 130
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class Options(object):
    """The options before the command."""

    def __init__(self, **values):
        self.__dict__.update(values)
        self.stopping = threading.Event()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--url", "urls", multiple=True, metavar="https://HOST",
              help="A host of the pool, any one. Several: each is a pool; trust is set up among the hosts of all of them.")
@click.option("--user", default="root", show_default=True, help="The user that logs in; a pool administrator.")
@click.option("--password-file", type=click.File(), metavar="FILE",
              help="Its first line is the password (- is stdin). Otherwise %s has it, or you are asked." % PASSWORD_VARIABLE)
@click.option("--ca-file", metavar="FILE", help="Certificates to trust, PEM: a pool's own, or its authority's.")
@click.option("--insecure", is_flag=True, help="Do not verify certificates: any machine that answers gets the password.")
@click.option("--host", "host_names", multiple=True, metavar="NAME|UUID", help="Only this host; may be repeated.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=120, show_default=True,
              metavar="SECONDS", help="How long a call on a host may take.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")
@click.version_option(dom0_lib.__version__)
@click.pass_context
def commands(context, **values):
    """Prepare the hosts of XenServer and XCP-ng pools for the plug-ins, and check them.

    Hosts that cannot be reached are named, and the others are done.
    """
    context.obj = Options(**values)


def _dry_run(function):
    return click.option("--dry-run", "is_dry_run", is_flag=True, help="Only tell what would be done.")(function)


def _sr_uuid(function):
    return click.option("--sr-uuid", metavar="UUID",
                        help="The SR that the cloud uses, if all hosts share it; otherwise each host's local SR.")(function)


def _preparation(function):
    for name, text in (("--bridge", "Let dom0 load Linux' bridge module, for nova's security groups."),
                       ("--console-log", "Log guests' consoles.")):
        function = click.option(name, is_flag=True, help=text)(function)
    return _dry_run(_sr_uuid(function))


def _arguments(sr_uuid=None, console_log=False, bridge=False):
    given = {"sr_uuid": sr_uuid, "console_log": console_log and "true", "bridge": bridge and "true"}
    return {name: value for name, value in given.items() if value}


@commands.command()
@_preparation
@click.pass_obj
def setup(options, is_dry_run, **choices):
    """Do prepare, trust and doctor in turn.

    With --dry-run without the last.
    """
    def work(todo):
        todo.prepare(_arguments(**choices))
        todo.trust()
        if not is_dry_run:
            todo.doctor(_arguments(sr_uuid=choices["sr_uuid"]))
    _run("setup", options, work, is_dry_run)


@commands.command()
@_preparation
@click.pass_obj
def prepare(options, is_dry_run, **choices):
    """Make what the plug-ins need on hosts."""
    _run("prepare", options, lambda todo: todo.prepare(_arguments(**choices)), is_dry_run)


@commands.command("undo-prepare")
@_dry_run
@click.pass_obj
def undo_prepare(options, is_dry_run):
    """Take back what prepare has made."""
    _run("undo-prepare", options, lambda todo: todo.undo_prepare(), is_dry_run)


@commands.command()
@_dry_run
@click.pass_obj
def trust(options, is_dry_run):
    """Let hosts send disks to each other, for migrations, and do nothing else.

    root of each host has a key then, with which every other host lets it write into /images by rsync over ssh.
    """
    _run("trust", options, lambda todo: todo.trust(), is_dry_run)


@commands.command()
@click.argument("hosts", nargs=-1, metavar="[HOST-UUID]...")
@click.option("--all", "is_all", is_flag=True, help="Every host that trust has let in.")
@_dry_run
@click.pass_obj
def distrust(options, hosts, is_all, is_dry_run):
    """Let hosts send disks to each other no more.

    Those that are named, or with --all all that trust has let in, lose that on every host of the pools.
    """
    if is_all == bool(hosts):
        raise click.UsageError("distrust: name the uuids of hosts, or --all")
    for text in hosts:
        if not UUID.match(text):
            raise click.UsageError("distrust: %r is no uuid of a host" % text)
    _run("distrust", options, lambda todo: todo.distrust(None if is_all else list(hosts)), is_dry_run)


@commands.command()
@_sr_uuid
@click.pass_obj
def doctor(options, sr_uuid):
    """Check whether hosts are fit for the plug-ins."""
    _run("doctor", options, lambda todo: todo.doctor(_arguments(sr_uuid=sr_uuid)))


@commands.command()
@click.pass_obj
def version(options):
    """Tell which plug-ins hosts have."""
    _run("version", options, lambda todo: todo.version())


def _run(command, options, work, is_dry_run=False):
    """Log in, do work(stages.Stages), print the report, end with its exit status."""
    pools = _make_pools(options)
    shown = progress.Progress()
    try:
        _log_in(pools, options, shown)
        distinct = _drop_repeated(pools)
        hosts = _list_hosts(distinct)
        todo = stages.Stages(_choose(hosts, options.host_names, distinct), options.stopping, shown, is_dry_run)
        work(todo)
    finally:
        options.stopping.set()
        for pool in pools:
            pool.log_out()
    outcome = report.Report(command, distinct, todo)
    if options.is_json:
        outcome.print_json()
    else:
        outcome.print_table()
    is_in = any(not pool.problem for pool in distinct)
    sys.exit(0 if outcome.is_well else 1 if is_in else 2)


def _make_pools(options):
    if not options.urls:
        raise click.UsageError("--url: name a host of the pool")
    if options.ca_file and options.insecure:
        raise click.UsageError("--ca-file and --insecure exclude each other")
    try:
        tls = pools_of.make_tls(options.ca_file, not options.insecure)
    except (OSError, ssl.SSLError) as error:
        raise click.UsageError("--ca-file: %s: %s" % (options.ca_file, error.strerror or error))
    urls = [_check_url(url) for url in options.urls]
    access = pools_of.Access(options.user, _read_password(options), tls, options.timeout_s)
    return [pools_of.Pool(url, access, options.stopping) for url in dict.fromkeys(urls)]


def _check_url(text):
    url = text if "://" in text else "https://" + text
    try:
        parts = urllib.parse.urlsplit(url)
        is_good = parts.scheme in ("https", "http") and parts.hostname and (parts.port or 1)
    except ValueError:
        is_good = False
    if "@" in text:
        raise click.UsageError("--url: no user and no password belong in it; --user and --password-file are for that")
    if not is_good or parts.path.strip("/") or parts.query or parts.fragment:
        raise click.UsageError("--url: %r is not of the form https://HOST" % text)
    return "%s://%s" % (parts.scheme, parts.netloc)


def _read_password(options):
    if options.password_file:
        return options.password_file.readline().rstrip("\r\n")
    if PASSWORD_VARIABLE in os.environ:
        return os.environ[PASSWORD_VARIABLE]
    if not sys.stdin.isatty():
        raise click.UsageError("no password: --password-file, or the environment's %s" % PASSWORD_VARIABLE)
    return click.prompt("Password of %s" % options.user, hide_input=True, err=True)


def _log_in(pools, options, shown):
    def do(pool):
        try:
            pool.log_in()
        except problems.NotReached as problem:
            pool.problem = problem
    with shown.stage("log in", len(pools)) as advance:
        crew.do_all(do, pools, options.stopping, advance)


def _drop_repeated(pools):
    """The pools, each once, even if it has several urls."""
    distinct = {}
    for pool in pools:
        distinct.setdefault(pool.uuid or pool.url, pool)
    return list(distinct.values())


def _list_hosts(pools):
    found = []
    for pool in pools:
        try:
            found += [] if pool.problem else pool.list_hosts()
        except problems.NotReached as problem:
            pool.problem = problem
    return found


def _choose(hosts, names, pools):
    """The hosts of these names or uuids; all, if no name is given."""
    chosen = []
    for name in names:
        found = [host for host in hosts if name in host.names]
        if len(found) > 1:
            raise click.UsageError("--host: %s is the name of several hosts: take the uuid" % name)
        if not found:
            raise click.UsageError("; ".join(["--host: no pool has a host %s" % name] +
                                             [pool.problem.text for pool in pools if pool.problem]))
        chosen += found
    return [host for host in hosts if not names or host in chosen]


def main():
    """The console script."""
    def interrupt(*_):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup ignores SIGHUP so that the work goes on.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(commands.main(prog_name="dom0-plugins", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted; calls that had begun go on on their hosts", err=True)
        sys.exit(INTERRUPTED)
