# SPDX-License-Identifier: Apache-2.0
"""A guest's records in xenstore, below /local/domain/<domain id>.

Callers read JSON: a value that is JSON is returned as it is, any other value as a JSON string.
"""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib.guests import xenstore

# Callers compare with this text to find that there is no record.
_MISSING = u'"None"'

_TIMEOUT_S = 10
# How long to retry when the guest keeps changing its records.
_CHANGES_S = 5
_TOKEN = b'list'
# A guest's quota is 1000 records in OCaml's xenstored and about as many in C's; dom0 itself may have more.
_MAX_RECORDS = 20000
# Python 2 needs 30 times as much memory as the reply has bytes, and more if its characters are wide.
_MAX_REPLY_BYTES = 1 << 20


def read(_session_ref, dom_id, path, ignore_missing_path):
    """A record's value as JSON text; '"None"' if there is none and `ignore_missing_path` is set.

    Like all functions here it raises errors.PluginError and errors.RetryableError.
    """
    with xenstore.Connection(_TIMEOUT_S) as store:
        try:
            return light_json.from_stored(store.read(_locate(dom_id, path)))
        except xenstore.NotFound:
            if not ignore_missing_path:
                raise
            return _MISSING


def write(_session_ref, dom_id, path, value):
    """Set a record to a text and return its value as read() does.  There must be such a domain."""
    data = compat.join_surrogates(value).encode('utf-8')

    def change(changes):
        # Nobody would ever remove the records of a missing domain, and the next domain with this id would find them.
        if changes.read_all([_locate(dom_id)]) == [None]:
            raise errors.PluginError('there is no domain %d' % dom_id)
        changes.write(_locate(dom_id, path), data)

    with xenstore.Connection(_TIMEOUT_S) as store:
        store.transact(change, _CHANGES_S)
    return light_json.from_stored(data)


def delete(_session_ref, dom_id, path):
    """Remove a record and all records below it, if there are any; returns an empty text."""
    with xenstore.Connection(_TIMEOUT_S) as store:
        try:
            store.remove(_locate(dom_id, path))
        except xenstore.NotFound:
            pass
    return u''


def list_all(_session_ref, dom_id, path):
    """All records below a path at one moment: JSON text of an object {path below that path: value}."""
    top = _locate(dom_id, path)
    with xenstore.Connection(_TIMEOUT_S) as store:
        with xenstore.Connection(_TIMEOUT_S) as helper:
            members = _collect_at_once(store, helper, top)
    return u'{%s}' % u', '.join([members[place] for place in sorted(members)])


def _collect_at_once(store, helper, top):
    """The result of _collect() for one moment.

    On the connection of a watch, the daemon sends the event of a change before its next answer.  So if no event comes between the
    first request and the answer to a last one after all others, nothing has changed.  A transaction would do the same, but takes
    C's daemon more than twice as long.
    """
    ends_at = compat.monotonic_s() + _CHANGES_S
    store.watch(top, _TOKEN)
    store.wait_event(_TIMEOUT_S)  # every watch begins with an event
    while True:
        members = _collect(store, helper, top)
        store.read(top)
        # OCaml's daemon sends no event for records that end with their domain.
        has_changed = None in members.values()
        while store.wait_event(0):
            has_changed = True
        if not has_changed:
            return members
        if compat.monotonic_s() >= ends_at:
            raise errors.RetryableError('the records below %s kept changing for %d s' % (
                compat.to_text(top), _CHANGES_S))


def _collect(store, helper, top):
    """{path: member of the JSON object}, read level by level; None for a record that was removed meanwhile.

    The members are made in this loop because it costs no extra time: meanwhile the daemon works on the next requests.
    """
    level = [_join(top, name) for name in store.list(top)]
    members = {}
    left_bytes = _MAX_REPLY_BYTES
    while level:
        if len(members) + len(level) > _MAX_RECORDS:
            raise _too_much(top, '%d records' % _MAX_RECORDS)
        below = []
        for place, value, names in store.survey(helper, level):
            if value is None or names is None:
                members[place] = None
                continue
            # Names in xenstore have no characters that JSON would escape.
            member = '"%s": %s' % (compat.native_ascii(place[len(top) + 1:]), light_json.from_stored(value))
            members[place] = member
            left_bytes -= len(member)
            if left_bytes < 0:
                raise _too_much(top, '%d MiB' % (_MAX_REPLY_BYTES >> 20))
            for name in names:
                below.append(_join(place, name))
        level = below
    return members


def _too_much(top, limit):
    return errors.PluginError('there is more than %s below %s: list a part of it' % (limit, compat.to_text(top)))


def _locate(dom_id, path=u''):
    return ('/local/domain/%d/%s' % (dom_id, path)).rstrip('/').encode('ascii')


def _join(place, name):
    return place + b'/' + name
