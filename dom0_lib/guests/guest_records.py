# SPDX-License-Identifier: Apache-2.0
"""A guest's records in xenstore, below /local/domain/<its number>.

Callers read JSON: a stored text that is JSON is returned as it stands, any other as a JSON string.
"""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib.guests import xenstore

# What callers compare with when there is no record.
_MISSING = u'"None"'

_TIMEOUT_S = 10
# How long a guest that writes all the time can keep us.
_CHANGES_S = 5
_TOKEN = b'list'
# A guest's quota is 1000 records with OCaml's xenstored and about as many with C's; dom0 has more.
_MAX_RECORDS = 20000
# Python 2 needs 30 times as much memory for it, and more where its characters are wide.
_MAX_REPLY_BYTES = 1 << 20


def read(_session_ref, dom_id, path, ignore_missing_path):
    """A record's value as JSON text; '"None"' if there is none and `ignore_missing_path` is set.

    Raises errors.PluginError, errors.RetryableError, as all calls here do.
    """
    with xenstore.Connection(_TIMEOUT_S) as store:
        try:
            return light_json.from_stored(store.read(_locate(dom_id, path)))
        except xenstore.NotFound:
            if not ignore_missing_path:
                raise
            return _MISSING


def write(_session_ref, dom_id, path, value):
    """Set a record to a text; returns what read() would.  A domain that is not there gets no records."""
    data = compat.join_surrogates(value).encode('utf-8')

    def change(changes):
        # Nobody would ever remove them, and the next domain of that number would find them.
        if changes.read_all([_locate(dom_id)]) == [None]:
            raise errors.PluginError('there is no domain %d' % dom_id)
        changes.write(_locate(dom_id, path), data)

    with xenstore.Connection(_TIMEOUT_S) as store:
        store.transact(change, _CHANGES_S)
    return light_json.from_stored(data)


def delete(_session_ref, dom_id, path):
    """Remove a record and what is below it, if it is there; returns an empty text."""
    with xenstore.Connection(_TIMEOUT_S) as store:
        try:
            store.remove(_locate(dom_id, path))
        except xenstore.NotFound:
            pass
    return u''


def list_all(_session_ref, dom_id, path):
    """All records below one, as they were at one moment: JSON text of an object with their paths from there and their values."""
    top = _locate(dom_id, path)
    with xenstore.Connection(_TIMEOUT_S) as store:
        with xenstore.Connection(_TIMEOUT_S) as helper:
            members = _collect_at_once(store, helper, top)
    return u'{%s}' % u', '.join([members[place] for place in sorted(members)])


def _collect_at_once(store, helper, top):
    """What _collect() returns, of one moment.

    A watch tells of every change before the daemon answers what is asked next on the watch's connection: without an event
    between the first question and the answer to one that follows all others there was no change.  In a transaction the same
    takes C's daemon more than twice as long.
    """
    ends_at = compat.monotonic_s() + _CHANGES_S
    store.watch(top, _TOKEN)
    store.wait_event(_TIMEOUT_S)  # the one that every watch begins with
    while True:
        members = _collect(store, helper, top)
        store.read(top)
        # OCaml's tells nobody of what goes with its domain.
        has_changed = None in members.values()
        while store.wait_event(0):
            has_changed = True
        if not has_changed:
            return members
        if compat.monotonic_s() >= ends_at:
            raise errors.RetryableError('the records below %s have changed all the time for %d s' % (
                compat.to_text(top), _CHANGES_S))


def _collect(store, helper, top):
    """{path: member of the JSON object}, level by level; None for a record that has gone meanwhile.

    The members are made here, where it takes no time of its own: the daemon is busy with the next requests.
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
            # xenstore has no names that JSON would write in another way.
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
    return errors.PluginError('below %s is more than %s: list a part of it' % (compat.to_text(top), limit))


def _locate(dom_id, path=u''):
    return ('/local/domain/%d/%s' % (dom_id, path)).rstrip('/').encode('ascii')


def _join(place, name):
    return place + b'/' + name
