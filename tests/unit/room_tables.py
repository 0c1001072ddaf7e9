# SPDX-License-Identifier: Apache-2.0
"""The tables of rooms in the documents, made of the docstrings and `Uses:` lines of the rooms themselves.

    python3 -m tests.unit.room_tables          writes the tables anew (part of `make docs`)

A table stands between two comments, BEGIN and END; the text around them is written by hand.
"""

from __future__ import absolute_import, division

import io
import os
import sys

from tests.unit import rooms

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# package: the document that has the table of its rooms
DOCUMENTS = {'dom0_lib': os.path.join('docs', 'DESIGN.md'), 'tests.harness': os.path.join('tests', 'harness', 'README.md')}
BEGIN = u'<!-- rooms of %s: `make docs` writes this table -->\n'
END = u'<!-- end of the rooms -->\n'


def describe(house):
    """The table of a house, a row for each room."""
    rows = [u'| room | for | uses |', u'|---|---|---|']
    for room in house.rooms:
        uses = u', '.join(u'`%s`' % name for name in house.read_uses(room))
        rows.append(u'| `%s` | %s | %s |' % (room, house.read_purpose(room), uses or u'-'))
    return u''.join(row + u'\n' for row in rows)


def fill_in(text, house):
    """`text` of a document with the table of `house` between the comments. Raises ValueError if they are not there, once and in order."""
    begin = BEGIN % house.package
    before, found, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end or begin in after:
        raise ValueError('the document needs the line %r once, and %r after it' % (str(begin.strip()), str(END.strip())))
    return before + begin + describe(house) + end + after


def read(package):
    """The document that has the table of a package's rooms."""
    with io.open(os.path.join(CHECKOUT, DOCUMENTS[package]), encoding='utf-8') as source:
        return source.read()


def main():
    for package, document in sorted(DOCUMENTS.items()):
        try:
            text = fill_in(read(package), rooms.House(CHECKOUT, package))
        except ValueError as error:
            return '%s: %s' % (document, error)
        with io.open(os.path.join(CHECKOUT, document), 'w', encoding='utf-8') as target:
            target.write(text)


if __name__ == '__main__':
    sys.exit(main())
