# SPDX-License-Identifier: Apache-2.0
"""One end of an exchange of pickles between two Pythons; runs under each of dom0's, in the checkout.

    python -m tests.calls.call.pickle_exchange write ours FILE       by dom0_lib.call.pickles, as a plug-in replies
    python -m tests.calls.call.pickle_exchange read ours FILE        by the standard library, as a client reads it
    python -m tests.calls.call.pickle_exchange write theirs FILE     by the standard library, protocol 0, as a client calls
    python -m tests.calls.call.pickle_exchange read theirs FILE      by dom0_lib.call.pickles

The values are those that were captured from Python 2.7. The reader prints how many arrived as they were.
"""

from __future__ import absolute_import, division, print_function

import json
import pickle
import sys

from dom0_lib import compat
from dom0_lib.call import pickles
from tests.contract import captures
from tests.contract.plain_data import typed

if compat.PYTHON2:
    import cPickle
    clients = [cPickle, pickle]
else:
    clients = [pickle]

# Text that was a byte string of no encoding is left out: a client's pickle of its surrogates arrives as U+FFFD.
VALUES = [value for name, _, value in captures.load('python27_pickles.txt') if 'not utf-8' not in name]


def write(way):
    if way == 'ours':
        return [[pickles.dumps(value)] for value in VALUES]
    return [[module.dumps(value, 0).decode('latin-1') for module in clients] for value in VALUES]


def read(way, written):
    arrived = 0
    for value, texts in zip(VALUES, written):
        for text in texts:
            for found in [pickles.loads(text)] if way == 'theirs' else [module.loads(text.encode('ascii')) for module in clients]:
                assert typed(found) == typed(value), (text, found)
        arrived += 1
    return arrived


def main(action, way, path):
    if action == 'write':
        with open(path, 'w') as target:
            json.dump(write(way), target)
    else:
        with open(path) as source:
            print(read(way, json.load(source)), 'of', len(VALUES))


if __name__ == '__main__':
    main(*sys.argv[1:])
