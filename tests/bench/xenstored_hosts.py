# SPDX-License-Identifier: Apache-2.0
"""Hosts with a real xenstored, for benchmarks that compare calls with both and, with C's, with os-xenapi's."""

import contextlib

from tests.bench import hosts
from tests.harness.guests import xenstored

PYTHONS = ("2.7", "3.6", "3.12")
DOMID = 5


def run(name, options, report, compare, compare_os_xenapi, rounds, os_xenapi_rounds):
    """Report compare(kind, python, version, stack) for each xenstored and Python, and compare_os_xenapi(python, pythons, stack).

    Each returns a Comparison; its processes end with `stack`. rounds: where the options do not say how many
    """
    missing = xenstored.list_missing()
    if missing:
        report.print_line("\n%s: LEFT OUT, needs %s" % (name, ", ".join(missing)))
        return
    for kind in xenstored.REAL:
        for version in PYTHONS:
            if version in options.pythons:
                with contextlib.ExitStack() as stack:
                    comparison = compare(kind, hosts.find_plain(version, options.pythons[version]), version, stack)
                    report.print_outcome(comparison.measure(options.rounds or rounds, with_memory=False))
    if hosts.has_os_xenapi(options.pythons):
        version = hosts.OS_XENAPI_PYTHON
        with contextlib.ExitStack() as stack:
            comparison = compare_os_xenapi(hosts.find_plain(version, options.pythons[version]), options.pythons, stack)
            report.print_outcome(comparison.measure(min(options.rounds or os_xenapi_rounds, os_xenapi_rounds), with_memory=False))


def make_dom0(kind, python, stack):
    """(Dom0 without plug-ins, its xenstored): the guest DOMID runs, and programs find the xenstore-* tools."""
    dom0 = stack.enter_context(hosts.make_dom0(python))
    store = xenstored.make(kind, dom0.locate("/var/run/xenstored/socket"))
    stack.callback(store.stop)
    store.start()
    store.introduce(DOMID)
    dom0.environment.update(xenstored.tool_environment(store.socket))
    hosts.add_xenstore_tools(dom0)
    return dom0, store
