# SPDX-License-Identifier: Apache-2.0
"""A plug-in file is a table of calls; this module answers the one call that the process was started for.

    decode -> check -> authorize -> run -> encode      exactly one response, exit status 0, whatever happens
"""

from __future__ import absolute_import, division

import os
import sys

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import termination
from dom0_lib.call import binding
from dom0_lib.call import wire

# Legacy callers put pickled arguments here and want a pickle back.
_LEGACY_KEY = u'params'
_PLUGIN_FAILURE = 'XENAPI_PLUGIN_FAILURE'

Arg = binding.Arg


class Call(object):
    """One call: `target` ("dom0_lib.<room>.<module>:<function>") and the arguments it declares.

    The function gets the session reference and one keyword argument per declared parameter, and returns plain data.

    Options, each a truth:
    acts_on_host       the call acts on the host itself, not on things of one guest: policy asks for a pool administrator
    needs_no_settings  a pool administrator may make the call although the host's settings cannot be used; it changes nothing
    replies_text       the function's text is the reply as it stands, not as JSON; so it was in os-xenapi
    ignores_unknown    arguments that the call does not take are ignored, not refused; so it was in os-xenapi
    is_plain           the call has no legacy form: os-xenapi did not have it
    """

    def __init__(self, target, *rows, **options):
        self.target = target
        self.rows = rows
        self.acts_on_host = options.pop('acts_on_host', False)
        self.needs_no_settings = options.pop('needs_no_settings', False)
        self.replies_text = options.pop('replies_text', False)
        self.ignores_unknown = options.pop('ignores_unknown', False)
        self.is_plain = options.pop('is_plain', False)
        if options:
            raise TypeError('a call has no option %s' % ', '.join(sorted(options)))


def dispatch(calls):
    """Answer the call in argv from the table `calls` (wire name: Call), and end the process."""
    # dom0_lib is found by now.  The standard library must not be searched for in the directory of other people's plug-ins.
    sys.path.pop(0)
    termination.install()
    try:
        reply_fd = _take_stdout()
        try:
            reply = answer(calls, _request(), os.path.splitext(os.path.basename(sys.argv[0]))[0])
        except Exception as error:
            reply = wire.encode_failure(describe_failure(u'', error))
        _write(reply_fd, reply)
        # All cleaning up is done; the interpreter's own teardown costs 2-4 ms.
        os._exit(0)
    except errors.Terminated as error:
        termination.die_of(error.signal_number)


def answer(calls, request_data, plugin):
    """The response, as bytes, to a methodCall given as bytes.  Every error but errors.Terminated becomes a response.

    plugin: the plug-in's name as policies spell it, without .py
    """
    function = u''
    try:
        try:
            request = wire.decode_request(request_data)
        except errors.RequestError as error:
            function = error.function
            raise
        function = request.function
        return wire.encode_success(_run(calls, request, plugin))
    except (Exception, SystemExit) as error:
        details = describe_failure(function, error)
        # The parameters of XAPI's own codes may be secrets, such as the reference of a session.
        reason = details[2:] if details[0] == _PLUGIN_FAILURE else details[:1]
        log.warning('%s failed: %s', function, ': '.join(compat.to_text(item) for item in reason))
        return wire.encode_failure(details)


def _run(calls, request, plugin):
    call = calls.get(request.function)
    if call is None:
        raise errors.UnknownFunction(request.function)
    is_legacy = _holds_pickle(request.arguments)
    if is_legacy and call.is_plain:
        raise errors.ArgumentError(_LEGACY_KEY, 'this call takes no pickle, but one text for each argument')
    if is_legacy:
        from dom0_lib.call import pickles
        values = binding.bind_legacy(call.rows, *_unpickle(request.arguments[_LEGACY_KEY]))
    else:
        values = binding.bind_plain(call.rows, request.arguments, call.ignores_unknown)
    _authorize(call, request, plugin)
    # The last import of a call: an upgrade may remove the library's files while the function runs.
    module_name, _, function_name = call.target.partition(':')
    __import__(module_name)
    result = getattr(sys.modules[module_name], function_name)(request.session_ref, **values)
    if is_legacy:
        return pickles.dumps(result)
    return result if call.replies_text else light_json.dumps(result)


def _holds_pickle(arguments):
    # The argument of xenhost's get_config has the same name, and is a JSON object.  No pickle begins with a brace.
    return not arguments.get(_LEGACY_KEY, u'{').startswith(u'{')


def _authorize(call, request, plugin):
    # Most hosts have no settings file, or one with comments only.  A dangling link may be a file of settings that is out of reach.
    is_asked = call.acts_on_host
    if not is_asked and os.path.lexists(paths.locate(paths.SETTINGS)):
        from dom0_lib import settings
        is_asked = settings.are_given()
    if is_asked:
        from dom0_lib.call import policy
        policy.authorize(request.session_ref, plugin, request.function, call.acts_on_host, call.needs_no_settings)


def _unpickle(text):
    from dom0_lib.call import pickles
    try:
        call = pickles.loads(text)
    except pickles.PickleError as error:
        raise errors.ArgumentError(_LEGACY_KEY, 'the pickle %s' % error)
    if not isinstance(call, dict) or not isinstance(call.get(u'args'), (tuple, list)) or not isinstance(call.get(u'kwargs'), dict):
        raise errors.ArgumentError(_LEGACY_KEY, "the pickle is not a map of 'args' and 'kwargs'")
    return call[u'args'], call[u'kwargs']


def describe_failure(function, error):
    """The ErrorDescription of an exception: what XAPI passes to the client as Failure.details."""
    if isinstance(error, errors.Failure):
        return [error.code] + error.params
    if isinstance(error, errors.UnknownFunction):
        return ['UNKNOWN_XENAPI_PLUGIN_FUNCTION', error.function]
    name = type(error).__name__
    # Callers read the last line of the message, so it must not be empty.
    return [_PLUGIN_FAILURE, function, name, compat.to_text(error).strip() or name]


def _request():
    if len(sys.argv) != 2:
        raise errors.RequestError('this is a XAPI plug-in: it takes one argument, an XML-RPC call, from XAPI')
    return compat.argument_bytes(1)


def _take_stdout():
    """A descriptor for the reply.  Anything else that is printed goes to stderr, which XAPI drops."""
    reply_fd = os.dup(1)
    compat.keep_from_children(reply_fd)
    os.dup2(2, 1)
    return reply_fd


def _write(fd, data):
    while data:
        data = data[os.write(fd, data):]
