# SPDX-License-Identifier: Apache-2.0
"""Values that each kind of argument of agent.py takes, and values that it refuses."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib import light_json
from dom0_lib.call import binding
from dom0_lib.guests import agent_kinds
from dom0_lib.guests import guest_agent
from dom0_lib.guests import xenstore

UUID = u'11111111-2222-4333-8444-555555555555'
SECRET = u'gAAAAAB-s3cr3t'
NO_TEXTS = [5, 1.5, True, None, [], [u'5'], {}]
NO_NUMBERS = [u'', u'x', u'-', u'--1', u'1-', u'1-2', u' 7', u'7 ', u'7\n', u'+7', u'7.0', u'7e0', u'0x7', u'\u0667', u'\xb2', u'1' * 11, 7.5, True,
              False, float('nan'), 10 ** 300, [], [7], {}]
NO_BASE64 = [u'x', u'eA=', u'eA', u'eHh4eA', u'=', u'====', u'e===', u'eA==eHh4', u'eH-_', u'eH\xe9h', u'eHh\0', SECRET] + NO_TEXTS

# For each kind: pairs of a value that it takes and the value that the function gets; part of the reason, and values that it refuses.
TAKEN = {
    'GUEST': [(u'7', 7), (7, 7), (u'0', 0), (u'-1', -1), (-1, -1), (u'32751', 32751), (u'007', 7)],
    'SECONDS': [(u'30', 30), (30, 30), (u'1', 1), (u'86400', 86400)],
    'REQUEST_ID': [(UUID, UUID), (u'a_B-9@', u'a_B-9@'), (u'x' * 100, u'x' * 100)],
    'PUBLIC_KEY': [(u'162259276829213363391578010288126', u'162259276829213363391578010288126'), (u'007', u'007'), (u'9' * 900, u'9' * 900)],
    'BASE64': [(u'', u''), (u'eA==', u'eA=='), (u'eHg=', u'eHg='), (u'eHh4', u'eHh4'), (u'+/+/', u'+/+/'), (u'eHh4\neHh4\n', u'eHh4eHh4'),
               (u' eH h4\r\n\t', u'eHh4'), (u'AAAA' * 30000, u'AAAA' * 30000)],
    'SHORT_BASE64': [(u'eA==', u'eA=='), (u'eHh4\neHh4\n', u'eHh4eHh4'), (u'AAAA' * 225, u'AAAA' * 225)],
    'URL': [(u'http://10.0.0.5/agent.zip', u'http://10.0.0.5/agent.zip'), (u'https://h/a%2Cb?x=y#z', u'https://h/a%2Cb?x=y#z'),
            (u'ftp://h/' + u'x' * 892, u'ftp://h/' + u'x' * 892)],
    'MD5': [(u'd41d8cd98f00b204e9800998ecf8427e', u'd41d8cd98f00b204e9800998ecf8427e'),
            (u'D41D8CD98F00B204E9800998ECF8427E', u'D41D8CD98F00B204E9800998ECF8427E')],
}
REFUSED = {
    'GUEST': ('needs the number of a domain', [u'-2', -2, u'32752', 32752] + NO_NUMBERS),
    'SECONDS': ('needs a number of seconds, from 1 to 86400', [u'0', 0, u'-1', -1, u'86401', 86401] + NO_NUMBERS),
    'REQUEST_ID': ('needs a uuid, or', [u'', u'a/b', u'..', u'a.b', u'a b', UUID + u'\n', u'a\0', u'caf\xe9', u'x' * 101] + NO_TEXTS),
    'PUBLIC_KEY': ('needs a decimal number, as text', [u'', u'x', u'-5', u'1 2', u'5\n', u'0x5', u'\u0665', u'9' * 901] + NO_TEXTS),
    'BASE64': ('needs base64', NO_BASE64),
    'SHORT_BASE64': ('needs base64', NO_BASE64 + [u'', u' \n', u'AAAA' * 226]),
    'URL': ('needs a URL', [u'', u'agent.zip', u'/agent.zip', u'http:/h', u'http://h/a,b', u'http://h/a b', u'http://h/a\n', u'http://h/\0',
                            u'http://h/\xe9', u'http://h/' + u'x' * 892] + NO_TEXTS),
    'MD5': ('needs 32', [u'', u'd41d8cd98f00b204e9800998ecf8427', u'd41d8cd98f00b204e9800998ecf8427e0', u'g' * 32, u' ' * 32,
                         u'd41d8cd98f00b204e9800998ecf8427\n', u'\u0661' * 32] + NO_TEXTS),
}


def test_every_kind_is_in_the_tables():
    names = [name for name in dir(agent_kinds) if isinstance(getattr(agent_kinds, name), binding.Kind)]
    assert sorted(TAKEN) == sorted(REFUSED) == sorted(names)


@pytest.mark.parametrize('name, value, expected', [
    (name, value, expected) for name in sorted(TAKEN) for value, expected in TAKEN[name]])
def test_a_right_value(name, value, expected):
    result = getattr(agent_kinds, name).check(value)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize('name, value', [(name, value) for name in sorted(REFUSED) for value in REFUSED[name][1]])
def test_a_wrong_value(name, value):
    with pytest.raises(ValueError) as caught:
        getattr(agent_kinds, name).check(value)
    assert REFUSED[name][0] in str(caught.value)


@pytest.mark.parametrize('name', ['BASE64', 'SHORT_BASE64', 'URL'])
def test_what_may_be_secret_is_not_shown(name):
    with pytest.raises(errors.ArgumentError) as caught:
        binding.bind_plain([binding.Arg('x', getattr(agent_kinds, name))], {u'x': SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize('name, value', [
    (u'keyinit', u'9' * 900), (u'password', u'AAAA' * 225), (u'agentupdate', u'ftp://h/' + u'"' * 892 + u',' + u'0' * 32)],
    ids=['key', 'password', 'url'])
def test_the_longest_values_fit_into_a_record(name, value):
    """So the error for a request that is too long can speak of a file."""
    assert len(light_json.dumps({u'name': name, u'value': value})) <= xenstore.MAX_VALUE_BYTES
    assert guest_agent._encode(name, value)
