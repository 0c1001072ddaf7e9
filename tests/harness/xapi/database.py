# SPDX-License-Identifier: Apache-2.0
"""The pool's objects: one table per class of schema.py, records found by reference or uuid."""

import collections
import copy
import threading
import uuid

from tests.harness.xapi import database_query
from tests.harness.xapi.failures import Failure
from tests.harness.xapi.schema import CLASSES, NULL_REF, column_name

# Fields that list the records which point back: (class, field) = (class that points, its field).
_REVERSE = {
    ("session", "tasks"): ("task", "session"),
    ("task", "subtasks"): ("task", "subtask_of"),
    ("host", "PIFs"): ("PIF", "host"), ("host", "PBDs"): ("PBD", "host"), ("host", "resident_VMs"): ("VM", "resident_on"),
    ("network", "PIFs"): ("PIF", "network"), ("network", "VIFs"): ("VIF", "network"),
    ("VM", "VBDs"): ("VBD", "VM"), ("VM", "VIFs"): ("VIF", "VM"), ("VM", "snapshots"): ("VM", "snapshot_of"),
    ("VDI", "VBDs"): ("VBD", "VDI"), ("VDI", "snapshots"): ("VDI", "snapshot_of"),
    ("SR", "VDIs"): ("VDI", "SR"), ("SR", "PBDs"): ("PBD", "SR"),
}


class Database(object):
    """All methods are safe from any thread. Records handed out are copies; update() changes the stored one."""

    def __init__(self):
        self._lock = threading.RLock()
        self._tables = {name: collections.OrderedDict() for name in CLASSES}

    def create(self, class_name, **values):
        """Make an object and return its reference. Fields not given have the schema's defaults."""
        fields = CLASSES[class_name].fields
        unknown = set(values) - set(fields)
        if unknown:
            raise TypeError("%s has no field %s" % (class_name, ", ".join(sorted(unknown))))
        record = {name: copy.deepcopy(field.default) for name, field in fields.items()}
        record["uuid"] = str(uuid.uuid4())
        record.update(copy.deepcopy(values))
        ref = "OpaqueRef:%s" % uuid.uuid4()
        with self._lock:
            self._tables[class_name][ref] = record
        return ref

    def exists(self, class_name, ref):
        with self._lock:
            return ref in self._tables[class_name]

    def record(self, class_name, ref):
        """A copy of the record, with the lists of records that point to it. Raises Failure HANDLE_INVALID."""
        with self._lock:
            record = copy.deepcopy(self._stored(class_name, ref))
            for name in CLASSES[class_name].fields:
                if (class_name, name) in _REVERSE:
                    record[name] = self._pointing(class_name, name, ref)
            return record

    def get(self, class_name, ref, field):
        with self._lock:
            stored = self._stored(class_name, ref)
            if (class_name, field) in _REVERSE:
                return self._pointing(class_name, field, ref)
            return copy.deepcopy(stored[field])

    def update(self, class_name, ref, **values):
        with self._lock:
            stored = self._stored(class_name, ref)
            for name, value in values.items():
                if name not in stored:
                    raise TypeError("%s has no field %s" % (class_name, name))
                stored[name] = copy.deepcopy(value)

    def destroy(self, class_name, ref):
        with self._lock:
            self._stored(class_name, ref)
            del self._tables[class_name][ref]

    def refs(self, class_name, **values):
        """References of the objects whose fields have these values, oldest first."""
        with self._lock:
            return [ref for ref, record in self._tables[class_name].items()
                    if all(record[name] == value for name, value in values.items())]

    def ref_by_uuid(self, class_name, object_uuid):
        refs = self.refs(class_name, uuid=object_uuid)
        if not refs:
            raise Failure("UUID_INVALID", class_name, object_uuid)
        return refs[0]

    def records(self, class_name):
        """Copies of all records of a class, by reference."""
        with self._lock:
            return {ref: self.record(class_name, ref) for ref in self._tables[class_name]}

    def records_where(self, class_name, expression):
        """The records that a query finds.  Raises Failure INVALID_VALUE, and INTERNAL_ERROR for an unknown column."""
        matches = database_query.compile_query(expression)
        names = {column_name(class_name, name): name for name in CLASSES[class_name].fields}

        def find(column):
            if column == "_ref":
                return ref
            if column not in names:
                raise Failure("INTERNAL_ERROR", "missing field", column, "")
            return _to_text(record[names[column]])

        found = {}
        for ref, record in self.records(class_name).items():
            if matches(find):
                found[ref] = record
        return found

    def _stored(self, class_name, ref):
        try:
            return self._tables[class_name][ref]
        except KeyError:
            raise Failure("HANDLE_INVALID", class_name, ref)

    def _pointing(self, class_name, field, ref):
        other_class, other_field = _REVERSE[class_name, field]
        return self.refs(other_class, **{other_field: ref}) if ref != NULL_REF else []


def _to_text(value):
    """A value as the database keeps it, and as queries compare it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "(%s)" % " ".join("(%s %s)" % (_quote(key), _quote(item)) for key, item in value.items())
    if isinstance(value, list):
        return "(%s)" % " ".join(_quote(item) for item in value)
    if isinstance(value, float):
        return "%.18g" % value
    return str(value)


def _quote(value):
    return "'%s'" % str(value).replace("\\", "\\\\").replace("'", "\\'")
