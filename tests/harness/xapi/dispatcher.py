# SPDX-License-Identifier: Apache-2.0
"""The dispatcher: from a method's name and parameters to a result, in the order in which xapi checks things.

    known method? -> number of parameters -> their types -> session -> role -> run, in the foreground or as a task

Sources: ocaml/idl/ocaml_backend/gen_server.ml, ocaml/xapi/server_helpers.ml in xapi-project/xen-api.
"""

import threading
import traceback

from tests.harness.xapi.failures import Failure, Fault
from tests.harness.xapi.faults import XapiDied
from tests.harness.xapi.messages import Context, convert

_ASYNC = "Async."


class Xapi(object):

    def __init__(self, messages, sessions, tasks, faults, on_death):
        """on_death: called when a fault ends xapi."""
        self._messages = {message.name: message for message in messages}
        self._sessions = sessions
        self._tasks = tasks
        self._faults = faults
        self._on_death = on_death
        sessions.grant({message.name: message.role for message in self._messages.values()})

    def method_names(self):
        return sorted(self._messages)

    def serve(self, host, method, params):
        """The result of one call that `host` has received. Raises Failure, Fault, XapiDied."""
        is_async = method.startswith(_ASYNC)
        name = method[len(_ASYNC):] if is_async else method
        message = self._messages.get(name)
        if message is None:
            raise Failure("MESSAGE_METHOD_UNKNOWN", name)
        session_ref, arguments = _bind(message, params)
        if message.has_session:
            self._sessions.check(session_ref)
            self._sessions.check_role(session_ref, name, message.role)
        if not is_async:
            return self._run(message, Context(session_ref, host, None), arguments)
        if not message.has_async:
            raise Fault("No async mode for this operation (rpc: %s)" % name)
        task_ref = self._tasks.start(method, session_ref, host.ref)
        threading.Thread(target=self._run_task, args=(message, Context(session_ref, host, task_ref), arguments),
                         name=method, daemon=True).start()
        return task_ref

    def _run(self, message, context, arguments):
        try:
            self._faults.apply(message.name)
            return message.run(context, *arguments)
        except XapiDied:
            self._on_death()
            raise
        except (Failure, Fault):
            raise
        except Exception as error:
            # An error of the simulated host itself: the client gets what XAPI makes of any exception, its developer the rest.
            context.host.dom0.log.write("xapi: %s" % traceback.format_exc())
            raise Failure("INTERNAL_ERROR", "%s: %s" % (type(error).__name__, error))

    def _run_task(self, message, context, arguments):
        try:
            self._tasks.complete(context.task_ref, self._run(message, context, arguments))
        except Failure as failure:
            self._tasks.fail(context.task_ref, failure.details)
        except XapiDied:
            # The task went with the process that would have finished it.
            pass


def _bind(message, params):
    """The session reference (None if the message takes none) and the arguments, converted."""
    given = len(params) - message.has_session
    if not message.required <= given <= len(message.kinds):
        raise Failure("MESSAGE_PARAMETER_COUNT_MISMATCH", message.name, str(message.required), str(given))
    values = [convert(kind, value)
              for kind, value in zip((("ref",) if message.has_session else ()) + message.kinds, params)]
    return (values[0], values[1:]) if message.has_session else (None, values)
