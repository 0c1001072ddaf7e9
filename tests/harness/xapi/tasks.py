# SPDX-License-Identifier: Apache-2.0
"""Tasks, and their garbage collection (ocaml/xapi/xapi_task.ml, taskHelper.ml, db_gc_util.ml).

Two things that callers trip over are here on purpose: task.set_status leaves `finished` in 1970, so that the next garbage
collection destroys the task; and task.cancel only notes the wish in current_operations, nobody is told.
"""

from tests.harness.xapi import xapi_xml
from tests.harness.xapi.clock import parse_timestamp
from tests.harness.xapi.failures import type_error
from tests.harness.xapi.messages import message
from tests.harness.xapi.schema import EPOCH, NULL_REF

COMPLETED_TASK_TIMEOUT_S = 65 * 60
PENDING_TASK_TIMEOUT_S = 24 * 60 * 60

_COMPLETED = ("success", "failure", "cancelled")
_STATUSES = ("pending", "cancelling") + _COMPLETED


class Tasks(object):

    def __init__(self, database, clock, sessions):
        self._database = database
        self._clock = clock
        self._sessions = sessions
        self._probation = {}

    # For the dispatcher: the task of an asynchronous call.

    def start(self, label, session_ref, host_ref):
        return self._database.create("task", name_label=label, session=session_ref, resident_on=host_ref,
                                     created=self._clock.timestamp(), finished=EPOCH)

    def complete(self, ref, result):
        self._finish(ref, "success", result=xapi_xml.encode_value(result))

    def fail(self, ref, details):
        self._finish(ref, "cancelled" if details[0] == "TASK_CANCELLED" else "failure", error_info=details)

    def _finish(self, ref, status, **values):
        # The task may have been collected meanwhile; and a status somebody has set stays.
        if self._database.exists("task", ref) and self._database.get("task", ref, "status") == "pending":
            self._database.update("task", ref, status=status, progress=1.0, finished=self._clock.timestamp(),
                                  allowed_operations=[], **values)

    def destroy_all(self):
        for ref in self._database.refs("task"):
            self._database.destroy("task", ref)

    def collect_garbage(self):
        """Destroy old tasks, as db_gc does every 30 seconds. Returns their references."""
        records = self._database.records("task")
        doomed = [ref for ref, record in records.items() if self._is_garbage(record)]
        old = {ref: record["progress"] for ref, record in records.items() if self._is_pending_too_long(record)}
        # A day-old task lives as long as its progress moves between two passes.
        doomed += [ref for ref, progress in old.items() if ref in self._probation and progress <= self._probation[ref]]
        self._probation = old
        for ref in doomed:
            self._database.destroy("task", ref)
        return doomed

    def _is_garbage(self, record):
        if record["status"] not in _COMPLETED:
            return False
        if "destroy" in record["current_operations"].values():
            return True
        return parse_timestamp(record["finished"]) < self._clock.now() - COMPLETED_TASK_TIMEOUT_S

    def _is_pending_too_long(self, record):
        return (record["status"] not in _COMPLETED
                and parse_timestamp(record["created"]) < self._clock.now() - PENDING_TASK_TIMEOUT_S)

    def _check_access(self, context, ref):
        """One's own tasks are those of any session of the same user; others need a role."""
        owner = self._database.get("task", ref, "session")
        sids = [self._database.get("session", session, "auth_user_sid")
                for session in (owner, context.session_ref) if self._database.exists("session", session)]
        if len(sids) != 2 or sids[0] != sids[1]:
            self._sessions.check_role(context.session_ref, "task.destroy/any", "pool-operator")

    @message("task.create", "string", "string")
    def create(self, context, label, description):
        ref = self.start(label, context.session_ref, context.host.ref)
        self._database.update("task", ref, name_description=description, subtask_of=context.task_ref or NULL_REF)
        return ref

    @message("task.destroy", "ref")
    def destroy(self, context, ref):
        self._check_access(context, ref)
        if self._database.get("task", ref, "status") in _COMPLETED:
            self._database.destroy("task", ref)
        else:
            operations = self._database.get("task", ref, "current_operations")
            self._database.update("task", ref, current_operations=dict(operations, task="destroy"))

    @message("task.cancel", "ref", has_async=True)
    def cancel(self, context, ref):
        self._check_access(context, ref)
        self._database.update("task", ref, current_operations={context.task_ref or "DummyRef:|task.cancel": "cancel"})

    @message("task.set_status", "ref", "string")
    def set_status(self, context, ref, status):
        if status not in _STATUSES:
            raise type_error("task_status_type", "S(%s)" % status)
        self._set(context, ref, status=status)

    @message("task.set_progress", "ref", "float")
    def set_progress(self, context, ref, progress):
        self._set(context, ref, progress=progress)

    @message("task.set_result", "ref", "string")
    def set_result(self, context, ref, result):
        self._set(context, ref, result=result)

    @message("task.set_error_info", "ref", "strings")
    def set_error_info(self, context, ref, error_info):
        self._set(context, ref, error_info=error_info)

    def _set(self, context, ref, **values):
        self._check_access(context, ref)
        self._database.update("task", ref, **values)
