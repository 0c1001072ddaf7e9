# SPDX-License-Identifier: Apache-2.0
"""os-xenapi's client in a process of its own, under Python 2.7 as nova runs it; nothing of it is replaced.

Each line of stdin is a call in JSON, each line of stdout how it ended:

    {"session": [url, user, password]}                      opens the session that later calls use
    {"function": "host_agent.version", "args": [...], "kwargs": {...}}
    {"method": "call_plugin", "args": [...], "kwargs": {...}}
    {"list": ["host_agent", ...]}                           names of all functions of these modules
    -> {"value": ..., "seconds": 0.1, "retries": [class or details of each error that was retried]}
    -> {"error": class, "text": ..., "details": XenAPI.Failure's or null, "retries": [...]}

The text "<callback>" among the arguments stands for what nova passes there: it chooses the image service for each attempt, and
"<retry callback>" is told of each failure. Values of bytes are shown as {"bytes": text}, so that both kinds of text can be told.
"""

from __future__ import absolute_import, division

import importlib
import inspect
import json
import os
import sys
import time

from os_xenapi.client import session as client_session
from os_xenapi.client import XenAPI


class Driver(object):

    def __init__(self):
        self._session = None
        self._retries = []

    def run(self, call):
        del self._retries[:]
        started = time.time()
        try:
            result = {'value': encode(self._call(call))}
        except Exception as error:
            result = {'error': type(error).__name__, 'text': str(error), 'details': getattr(error, 'details', None)}
        return dict(result, seconds=time.time() - started, retries=list(self._retries))

    def _call(self, call):
        if 'session' in call:
            self._session = client_session.XenAPISession(*native(call['session']))
            return describe(self._session)
        if 'list' in call:
            return [name + '.' + function for name in native(call['list']) for function in list_functions(name)]
        args = [self._find_callback(value, call) for value in native(call['args'])]
        kwargs = native(call.get('kwargs', {}))
        if 'method' in call:
            return getattr(self._session, call['method'])(*args, **kwargs)
        module, _, function = call['function'].partition('.')
        return getattr(importlib.import_module('os_xenapi.client.' + module), function)(self._session, *args, **kwargs)

    def _find_callback(self, value, call):
        if value == '<callback>':
            return lambda kwargs: kwargs.update(endpoint=str(call['endpoint']), api_version=2)
        if value == '<retry callback>':
            return lambda exc: self._retries.append(exc.details if isinstance(exc, XenAPI.Failure) else type(exc).__name__)
        return value


def list_functions(module_name):
    """Those that are defined there and take a session."""
    module = importlib.import_module('os_xenapi.client.' + module_name)
    return [name for name, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__
            and inspect.getargspec(value)[0][:1] == ['session']]


def describe(session):
    return {'host_ref': session.host_ref, 'host_uuid': session.host_uuid, 'is_slave': session.is_slave, 'url': session.url,
            'master_url': session.master_url, 'product_version': session.product_version,
            'product_brand': session.product_brand, 'platform_version': session.platform_version}


def native(value):
    """nova's arguments are byte strings where they are ASCII."""
    if isinstance(value, type(u'')):
        try:
            return value.encode('ascii')
        except UnicodeError:
            return value
    if isinstance(value, list):
        return [native(item) for item in value]
    if isinstance(value, dict):
        return dict((native(key), native(value[key])) for key in value)
    return value


def encode(value):
    if isinstance(value, bytes):
        return {'bytes': value.decode('latin-1')}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {'items': [[encode(key), encode(value[key])] for key in sorted(value)]}
    return value


def serve(run):
    """Answer each line of stdin by run(call)."""
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    for line in iter(sys.stdin.readline, ''):
        answers.write(json.dumps(run(json.loads(line))) + '\n')
        answers.flush()


if __name__ == '__main__':
    serve(Driver().run)
