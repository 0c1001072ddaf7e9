# SPDX-License-Identifier: Apache-2.0
"""Values that each kind of argument takes, and values that it refuses."""

from __future__ import absolute_import, division

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dom0_lib import errors
from dom0_lib.call import binding
from dom0_lib.call import kinds
from dom0_lib.call.binding import Arg
from tests.unit.call import kind_cases

UUID_A = u'11111111-2222-4333-8444-555555555555'
UUID_B = u'66666666-7777-4888-9999-aaaaaaaaaaaa'
SECRET = u'gAAAAABs3cr3t'
KINDS = dict((name, value) for name, value in vars(kinds).items() if isinstance(value, binding.Kind))

# Each kind: (value, what the function gets) that it takes, and (value, reason) that it refuses. Values of structured kinds are
# sent as JSON in a plain call, the texts of others as they are; a value that is no text can come in a legacy call only.
TAKEN = {
    'IMAGE_ID': [
        (UUID_A, UUID_A), (u'55DE8B1A', u'55DE8B1A'), (u'_x-1.2', u'_x-1.2'), (u'x' * 255, u'x' * 255),
    ],
    'UUID': [
        (UUID_A, UUID_A),
    ],
    'UUID_LIST': [
        ([UUID_A], [UUID_A]), ([UUID_B, UUID_A], [UUID_B, UUID_A]),
    ],
    'ENDPOINT': [
        (u'http://10.0.0.5:9292', u'http://10.0.0.5:9292'), (u'https://glance', u'https://glance'),
        (u'http://glance.example.com/', u'http://glance.example.com'), (u'http://h/image//', u'http://h/image'),
        (u'https://[fd00::5]:9292/v2', u'https://[fd00::5]:9292/v2'), (u'http://[::1]', u'http://[::1]'),
        (u'http://h:1', u'http://h:1'), (u'http://h:65535', u'http://h:65535'),
    ],
    'HEADERS': [
        ({}, {}), ({u'X-Auth-Token': SECRET}, {u'X-Auth-Token': SECRET}), ({u'X-Tenant-Id': None}, {}),
        ({u'X-Roles': u'admin, member\t', u'X-Name': u'gr\xfc\xdfe'}, {u'X-Roles': u'admin, member\t', u'X-Name': u'gr\xfc\xdfe'}),
        ({u'X-Empty': u''}, {u'X-Empty': u''}),
    ],
    'API_VERSION': [
        (u'1', 1), (u'2', 2), (1, 1), (2, 2),
    ],
    'SR_PATH': [
        (u'/var/run/sr-mount/' + UUID_A, u'/var/run/sr-mount/' + UUID_A), (u'/srv/images/', u'/srv/images'),
        (u'/a b/..c', u'/a b/..c'),
    ],
    'SR_UUID': [
        (UUID_A, u'/var/run/sr-mount/' + UUID_A),
    ],
    'PROPERTIES': [
        ({}, {}), ({u'os_type': u'linux', u'auto_disk_config': True, u'level': 6, u'none': None},
                   {u'os_type': u'linux', u'auto_disk_config': u'True', u'level': u'6'}),
        ({u'x' * 255: u'gr\xfc\xdfe\t'}, {u'x' * 255: u'gr\xfc\xdfe\t'}),
    ],
    'DOM_ID': [
        (u'0', 0), (u'5', 5), (5, 5), (u'32751', 32751), (u'00007', 7),
    ],
    'CONFIG_KEY': [
        (u'relax-xsm-sr-check', u'relax-xsm-sr-check'), (u'a_b.c', u'a_b.c'),
    ],
    'TRUTH': [(u'true', True), (u'false', False), (True, True), (False, False)],
    'TASK': [
        (u'OpaqueRef:' + UUID_A, u'OpaqueRef:' + UUID_A),
    ],
}
BAD_UUIDS = [
    (u'', 'is empty'), (u'x', 'needs a uuid'), (UUID_B.upper(), 'needs a uuid'), (UUID_A + u'\n', 'needs a uuid'),
    (u' ' + UUID_A, 'needs a uuid'), (UUID_A[:-1], 'needs a uuid'), (UUID_A + u'5', 'needs a uuid'),
    (UUID_A[:-1] + u'g', 'needs a uuid'),
    (UUID_A.replace(u'-', u''), 'needs a uuid'), (UUID_A.replace(u'-', u'1'), 'needs a uuid'), (u'-' * 36, 'needs a uuid'),
    (u'1' * 7 + u'-1' + UUID_A[9:], 'needs a uuid'), (u'{%s}' % UUID_A[1:-1], 'needs a uuid'),
    (u'../' + UUID_A[3:], 'needs a uuid'),
    (u'\u0661' * 8 + UUID_A[8:], 'needs a uuid'), (UUID_A[:-1] + u'\0', 'needs a uuid'),
] + kind_cases.NO_TEXTS
REFUSED = {
    'IMAGE_ID': [
        (u'', 'is empty'), (u'..', 'needs an image id'), (u'.hidden', 'needs an image id'), (u'-rf', 'needs an image id'),
        (u'a/b', 'needs an image id'), (u'a b', 'needs an image id'), (u'a?b', 'needs an image id'),
        (u'a%2fb', 'needs an image id'),
        (u'a\n', 'needs an image id'), (u'\0', 'needs an image id'), (u'caf\xe9', 'needs an image id'),
        (u'x' * 256, 'needs an image id'),
        (u'\ud800', 'needs an image id'),
    ] + kind_cases.NO_TEXTS,
    'UUID': kind_cases.NO_TEXTS + [
        (value, 'uuid in lower case') for value in (u'x', UUID_B.upper(), UUID_A[:-1], UUID_A + u'\n', u' ' + UUID_A, UUID_A + u'0')],
    'UUID_LIST': [
        ([], 'needs a list'), ({}, 'needs a list'), ({UUID_A: UUID_B}, 'needs a list'), (UUID_A, 'needs a list'),
        (5, 'needs a list'),
        (True, 'needs a list'), (u'', 'needs a list'), ([UUID_A, UUID_A], 'names a uuid twice'), ([UUID_A, None], 'needs text'),
        ([[UUID_A]], 'needs text'), ([5], 'needs text'),
    ] + [([UUID_B, value], reason) for value, reason in BAD_UUIDS],
    'ENDPOINT': [
        (u'', 'is empty'), (u'glance', 'needs a URL'), (u'glance:9292', 'needs a URL'), (u'ftp://glance', 'needs a URL'),
        (u'file:///etc/passwd', 'needs a URL'), (u'HTTP://glance', 'needs a URL'), (u'http:glance', 'needs a URL'),
        (u'http:/glance', 'needs a URL'), (u' http://glance', 'needs a URL'), (u'http://', 'names no host'),
        (u'http:///v2', 'names no host'),
        (u'http://:9292', 'names no host'), (u'http://[]:9292', 'names no host'), (u'http://gl ance', 'nothing else'),
        (u'http://glance\r\nX: y', 'nothing else'), (u'http://glance\n', 'nothing else'), (u'http://glance\0', 'nothing else'),
        (u'http://user:%s@glance' % SECRET, 'nothing else'), (u'http://%s@glance' % SECRET, 'nothing else'), (u'http://glance/v2?x=y', 'nothing else'),
        (u'http://glance/#x', 'nothing else'),
        (u'http://glance\\@evil', 'nothing else'), (u'http://gl\xe4nce', 'nothing else'), (u'http://glance:', 'has a port'),
        (u'http://glance:0', 'has a port'), (u'http://glance:65536', 'has a port'), (u'http://glance:x', 'has a port'),
        (u'http://glance:-1', 'has a port'), (u'http://glance:80:80', 'has a port'), (u'http://glance:000080', 'has a port'),
        (u'http://[::1', 'broken IPv6'), (u'http://[::1]80', 'broken IPv6'), (u'http://[::1]:', 'has a port'),
        (u'http://[::1]:x', 'has a port'),
    ] + kind_cases.NO_TEXTS,
    'HEADERS': [
        ([], 'needs a map'), (SECRET, 'needs a map'), (5, 'needs a map'), (True, 'needs a map'),
        ([[u'X-Auth-Token', SECRET]], 'needs a map'),
        ({u'': SECRET}, 'not a header name'), ({u'X Auth': SECRET}, 'not a header name'),
        ({u'X-Auth:': SECRET}, 'not a header name'),
        ({u'X\r\nY': SECRET}, 'not a header name'), ({u'X-T\xf6ken': SECRET}, 'not a header name'),
        ({u'X-Auth-Token': SECRET + u'\r\nHost: evil'}, 'control character in the value of X-Auth-Token'),
        ({u'X-Auth-Token': SECRET + u'\n'}, 'control character'), ({u'X-Auth-Token': SECRET + u'\0'}, 'control character'),
        ({u'X-Auth-Token': SECRET + u'\x7f'}, 'control character'), ({u'X-Auth-Token': SECRET + u'\ud800'}, 'control character'),
        ({u'Host': u'evil'}, 'must not set Host'), ({u'content-length': u'0'}, 'must not set content-length'),
        ({u'Transfer-Encoding': u'chunked'}, 'must not set'), ({u'CONNECTION': u'close'}, 'must not set'),
        ({u'Range': u'x'}, 'must not set'),
        ({u'X-Number': 5}, 'value of X-Number that is not text'), ({u'X-List': [SECRET]}, 'value of X-List that is not text'),
        ({u'X-Map': {SECRET: 1}}, 'value of X-Map that is not text'),
        ({u'Expect': u'100-continue'}, 'must not set'), ({u'Accept-Encoding': u'gzip'}, 'must not set'),
    ],
    'API_VERSION': [
        (u'', 'needs 1 or 2'), (u'3', 'needs 1 or 2'), (u'0', 'needs 1 or 2'), (u'02', 'needs 1 or 2'), (u'2 ', 'needs 1 or 2'),
        (u'2.0', 'needs 1 or 2'), (u'v2', 'needs 1 or 2'), (u'\u0662', 'needs 1 or 2'), (u'\xb2', 'needs 1 or 2'),
        (0, 'needs 1 or 2'),
        (3, 'needs 1 or 2'), (-1, 'needs 1 or 2'), (10 ** 300, 'needs 1 or 2'), (1.5, 'needs 1 or 2'),
        (float('nan'), 'needs 1 or 2'),
        (True, 'needs 1 or 2'), (False, 'needs 1 or 2'), ([], 'needs 1 or 2'), ([2], 'needs 1 or 2'), ({}, 'needs 1 or 2'),
    ],
    'SR_PATH': [
        (u'', 'is empty'), (u'var/run', 'needs an absolute path'), (u'.', 'needs an absolute path'),
        (u'..', 'needs an absolute path'),
        (u'/..', 'needs an absolute path'), (u'/a/../b', 'needs an absolute path'), (u'/a/..', 'needs an absolute path'),
        (u'/a\0', 'needs an absolute path'), (u'/a\n', 'needs an absolute path'), (u' /a', 'needs an absolute path'),
        (u'/', 'needs an absolute path'), (u'//', 'needs an absolute path'), (u'/caf\xe9', 'needs an absolute path'),
        (u'/\udcff', 'needs an absolute path'), (u'~', 'needs an absolute path'),
    ] + kind_cases.NO_TEXTS,
    'SR_UUID': BAD_UUIDS,
    'PROPERTIES': [
        ([], 'needs a map'), (u'', 'needs a map'), (5, 'needs a map'), (True, 'needs a map'), ({u'': u'x'}, 'not a property name'),
        ({u'a b': u'x'}, 'not a property name'), ({u'caf\xe9': u'x'}, 'not a property name'),
        ({u'x' * 256: u'x'}, 'not a property name'),
        ({u'a/b': u'x'}, 'not a property name'), ({u'a': u'x\r\n'}, 'control character in the value of a'),
        ({u'a': u'\0'}, 'control character in the value of a'), ({u'a': u'\udfff'}, 'control character in the value of a'),
        ({u'a': [u'x']}, 'neither text nor a number'), ({u'a': {}}, 'neither text nor a number'),
        ({u'a': 1.5}, 'neither text nor a number'),
    ],
    'DOM_ID': [
        (value, 'needs the number of a domain')
        for value in (u'', u'-1', u'+5', u' 5', u'5\n', u'0x5', u'\xb2', u'\u0665', u'32752', u'123456', -1, 32752, 5.0, True, [5])
    ],
    'CONFIG_KEY': kind_cases.NO_TEXTS + [
        (u'', 'is empty'), (u'a b', 'name of a setting'), (u'a=b', 'name of a setting'), (u'#a', 'name of a setting'),
        (u'k' * 256, 'name of a setting'), (u'caf\xe9', 'name of a setting'),
    ],
    'TRUTH': [(value, 'needs true or false') for value in (u'', u'True', u'TRUE', u'yes', u'1', 1, 0, [], [True], {}, 1.0)],
    'TASK': [
        (u'', 'is empty'), (UUID_A, 'needs the reference'), (u'opaqueref:' + UUID_A, 'needs the reference'),
        (u'OpaqueRef:' + UUID_A + u'\n', 'needs the reference'), (u'OpaqueRef:a b', 'needs the reference'),
        (u'OpaqueRef:' + u'x' * 101, 'needs the reference'), (u'OpaqueRef:<x/>', 'needs the reference'),
        (u'OpaqueRef:', 'needs the reference'),
    ] + kind_cases.NO_TEXTS,
}


def test_every_kind_is_in_the_tables():
    assert sorted(KINDS) == sorted(TAKEN) == sorted(REFUSED)


@pytest.mark.parametrize('name, value, expected', kind_cases.list_cases(TAKEN))
def test_a_right_value_is_taken(name, value, expected):
    kind_cases.check_taken(KINDS[name], value, expected)


@pytest.mark.parametrize('name, value, reason', kind_cases.list_cases(REFUSED))
def test_a_wrong_value_is_refused_by_name(name, value, reason):
    kind_cases.check_refused(KINDS[name], value, reason, SECRET)


@pytest.mark.parametrize('name', [5, None, True, 1.5])
def test_a_name_that_is_no_text_is_refused(name):
    for kind in (kinds.HEADERS, kinds.PROPERTIES):
        with pytest.raises(errors.ArgumentError) as caught:
            kind_cases.bind_legacy(kind, {name: u'x'})
        assert 'has a name that is not a' in kind_cases.check_message(caught.value)


@pytest.mark.parametrize('kind', [kinds.HEADERS, kinds.PROPERTIES])
@pytest.mark.parametrize('breaks', [u'\r', u'\n', u'\r\n', u'\n\r'] + [u'%c' % code for code in range(0x20) if code not in (9, 10, 13)] + [u'\x7f'])
def test_a_value_that_could_begin_another_line_is_refused(kind, breaks):
    for value in (SECRET + breaks + u'Host: evil', breaks + SECRET, SECRET + breaks, breaks):
        for bind in (kind_cases.bind_legacy, kind_cases.bind_plain):
            with pytest.raises(errors.ArgumentError) as caught:
                bind(kind, {u'X-Auth-Token': value})
            assert 'control character in the value of X-Auth-Token' in kind_cases.check_message(caught.value, SECRET)


@pytest.mark.parametrize('kind', [kinds.HEADERS, kinds.PROPERTIES])
def test_a_value_may_have_tabs_and_any_printed_character(kind):
    assert kind_cases.bind_legacy(kind, {u'X-A': u'\ta \xb2 \u263a~'}) == {u'X-A': u'\ta \xb2 \u263a~'}


def test_a_tuple_is_a_list():
    assert kind_cases.bind_legacy(kinds.UUID_LIST, (UUID_A, UUID_B)) == [UUID_A, UUID_B]


@pytest.mark.parametrize('text', [u'', u'[', u'{', u"['x']", u'x', u'[1,]', u'\0', u'[]]', u'"' + SECRET, SECRET,
                                  u'{"a": "%s}' % SECRET])
def test_what_is_no_json_is_refused(text):
    for kind in (kinds.UUID_LIST, kinds.HEADERS):
        with pytest.raises(errors.ArgumentError) as caught:
            binding.bind_plain([Arg('thing', kind)], {u'thing': text})
        message = kind_cases.check_message(caught.value, *[SECRET] if kind.secret else [])
        assert message.startswith("argument 'thing': is not JSON")


@pytest.mark.parametrize('depth', list(range(10, 1000, 45)) + [5000, 60000])
def test_deep_json_is_refused(depth):
    """Python stops somewhere between 300 and 50,000 levels, in json, in repr() or in neither."""
    for text in (u'[' * depth + u']' * depth, u'{"a":' * depth + u'1' + u'}' * depth, u'[' * depth):
        for kind in (kinds.UUID_LIST, kinds.HEADERS):
            with pytest.raises(errors.ArgumentError) as caught:
                binding.bind_plain([Arg('thing', kind)], {u'thing': text})
            kind_cases.check_message(caught.value)


@settings(max_examples=60)
@given(kind_cases.ANY_DATA, kind_cases.ANY_TEXT, st.sampled_from(sorted(TAKEN)))
def test_nothing_but_an_argument_error_comes_out(value, text, name):
    kind_cases.check_errors(KINDS[name], value, text)


def test_a_long_value_is_shown_in_part():
    with pytest.raises(errors.ArgumentError) as caught:
        kind_cases.bind_legacy(kinds.IMAGE_ID, u'/' + u'x' * 100000)
    assert kind_cases.check_message(caught.value).endswith(u'(got /%s...)' % (u'x' * 59))
