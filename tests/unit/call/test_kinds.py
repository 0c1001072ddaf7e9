# SPDX-License-Identifier: Apache-2.0
"""What each kind of argument takes and refuses, and how a call's arguments find their parameters."""

from __future__ import absolute_import, division

import base64
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dom0_lib import errors
from dom0_lib.call import binding
from dom0_lib.call import kinds
from dom0_lib.call.binding import Arg
from dom0_lib.network import network_kinds
from tests.unit.texts import texts_with

UUID_A = u'11111111-2222-4333-8444-555555555555'
UUID_B = u'66666666-7777-4888-9999-aaaaaaaaaaaa'
SECRET = u'gAAAAABs3cr3t'
# tests/unit/host/test_host_kinds.py has PROGRAM_TEXT.
KINDS = dict((name, value) for room in (kinds, network_kinds) for name, value in vars(room).items()
             if isinstance(value, binding.Kind) and name != 'PROGRAM_TEXT')


def deflate(data):
    return base64.b64encode(zlib.compress(data)).decode('ascii')


# Each kind: (value, what the function gets) that it takes, and (value, reason) that it refuses. Values of structured kinds are
# sent as JSON in a plain call, the texts of others as they are; what is no text can come in a legacy call only.
NO_TEXTS = [(5, 'needs text'), (True, 'needs text'), (1.5, 'needs text'), ([u'x'], 'needs text'), ({u'x': u'y'}, 'needs text'),
            ((), 'needs text'), ([], 'needs text')]
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
    'COMMAND': [
        ([u'ip'], ['ip']), ([u'ip', u'', u'a b~'], ['ip', '', 'a b~']),
    ],
    'PROGRAM_INPUT': [
        (u'', b''), (u'x\n\0', b'x\n\0'), (u'caf\xe9 \udcff', b'caf\xc3\xa9 \xff'),
    ],
    'DEFLATED_INPUT': [
        (deflate(b''), b''), (deflate(b'\xff\0\n'), b'\xff\0\n'), (deflate(b'x' * (8 << 20)), b'x' * (8 << 20)),
        (deflate(b'x') + u'\n', b'x'),
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
] + NO_TEXTS
REFUSED = {
    'IMAGE_ID': [
        (u'', 'is empty'), (u'..', 'needs an image id'), (u'.hidden', 'needs an image id'), (u'-rf', 'needs an image id'),
        (u'a/b', 'needs an image id'), (u'a b', 'needs an image id'), (u'a?b', 'needs an image id'),
        (u'a%2fb', 'needs an image id'),
        (u'a\n', 'needs an image id'), (u'\0', 'needs an image id'), (u'caf\xe9', 'needs an image id'),
        (u'x' * 256, 'needs an image id'),
        (u'\ud800', 'needs an image id'),
    ] + NO_TEXTS,
    'UUID': NO_TEXTS + [
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
    ] + NO_TEXTS,
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
    ] + NO_TEXTS,
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
    'COMMAND': [
        (value, 'needs a list of texts') for value in (u'', u'ip link', [], {}, 5, [5], [u'ip', None], [[u'ip']])
    ] + [
        ([u'ip', text], 'needs printable ASCII') for text in (u'a\n', u'\n', u'a\0b', u'\t', u'\x7f', u'caf\xe9', u'\udcff')
    ],
    'PROGRAM_INPUT': [
        (value, 'needs text or null') for value in (5, True, [u'x'], {})
    ] + [
        (text, 'has half a character') for text in (u'\ud800', u'x\udc7f', u'\udfff', u'\udc00')
    ],
    'DEFLATED_INPUT': NO_TEXTS + [(u'', 'is empty'), (deflate(b'x' * ((8 << 20) + 1)), 'inflates to more than 8388608 bytes')] + [
        (text, 'needs what zlib has deflated')
        for text in (u'x', u'eNo', u'caf\xe9', u'eJw=', deflate(b'x' * 1000)[:-8], base64.b64encode(b'plain').decode('ascii'),
                     base64.b64encode(zlib.compress(b'x') + b'more').decode('ascii'))
    ],
    'DOM_ID': [
        (value, 'needs the number of a domain')
        for value in (u'', u'-1', u'+5', u' 5', u'5\n', u'0x5', u'\xb2', u'\u0665', u'32752', u'123456', -1, 32752, 5.0, True, [5])
    ],
    'CONFIG_KEY': NO_TEXTS + [
        (u'', 'is empty'), (u'a b', 'name of a setting'), (u'a=b', 'name of a setting'), (u'#a', 'name of a setting'),
        (u'k' * 256, 'name of a setting'), (u'caf\xe9', 'name of a setting'),
    ],
    'TRUTH': [(value, 'needs true or false') for value in (u'', u'True', u'TRUE', u'yes', u'1', 1, 0, [], [True], {}, 1.0)],
    'TASK': [
        (u'', 'is empty'), (UUID_A, 'needs the reference'), (u'opaqueref:' + UUID_A, 'needs the reference'),
        (u'OpaqueRef:' + UUID_A + u'\n', 'needs the reference'), (u'OpaqueRef:a b', 'needs the reference'),
        (u'OpaqueRef:' + u'x' * 101, 'needs the reference'), (u'OpaqueRef:<x/>', 'needs the reference'),
        (u'OpaqueRef:', 'needs the reference'),
    ] + NO_TEXTS,
}


def list_cases(table):
    return [pytest.param(KINDS[name], value, outcome, id='%s %d' % (name, number))
            for name in sorted(table) for number, (value, outcome) in enumerate(table[name])]


def bind_legacy(kind, value):
    return binding.bind_legacy([Arg('thing', kind)], (), {u'thing': value})['thing']


def bind_plain(kind, value):
    return binding.bind_plain([Arg('thing', kind)], {u'thing': json.dumps(value) if kind.structured else value})['thing']


def check_message(error, *secrets):
    """One line of printable ASCII, not too long, with the argument's name and without the secrets."""
    message = str(error)
    assert all(' ' <= c <= '~' for c in message)
    assert len(message) < 250
    for secret in secrets:
        assert secret not in message and secret not in repr(error.args)
    return message


def is_text(value):
    return isinstance(value, type(u''))


def test_every_kind_is_in_the_tables():
    assert sorted(KINDS) == sorted(TAKEN) == sorted(REFUSED)


@pytest.mark.parametrize('kind, value, expected', list_cases(TAKEN))
def test_a_right_value_is_taken(kind, value, expected):
    for result in [bind_legacy(kind, value)] + ([bind_plain(kind, value)] if kind.structured or is_text(value) else []):
        assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize('kind, value, reason', list_cases(REFUSED))
def test_a_wrong_value_is_refused_by_name(kind, value, reason):
    for bind in [bind_legacy] + ([bind_plain] if kind.structured or is_text(value) else []):
        with pytest.raises(errors.ArgumentError) as caught:
            bind(kind, value)
        message = check_message(caught.value, SECRET)
        assert message.startswith("argument 'thing': ") and reason in message
        assert caught.value.argument == 'thing'


@pytest.mark.parametrize('name', [5, None, True, 1.5])
def test_a_name_that_is_no_text_is_refused(name):
    for kind in (kinds.HEADERS, kinds.PROPERTIES):
        with pytest.raises(errors.ArgumentError) as caught:
            bind_legacy(kind, {name: u'x'})
        assert 'has a name that is not a' in check_message(caught.value)


@pytest.mark.parametrize('kind', [kinds.HEADERS, kinds.PROPERTIES])
@pytest.mark.parametrize('breaks', [u'\r', u'\n', u'\r\n', u'\n\r'] + [u'%c' % code for code in range(0x20) if code not in (9, 10, 13)] + [u'\x7f'])
def test_a_value_that_could_begin_another_line_is_refused(kind, breaks):
    for value in (SECRET + breaks + u'Host: evil', breaks + SECRET, SECRET + breaks, breaks):
        for bind in (bind_legacy, bind_plain):
            with pytest.raises(errors.ArgumentError) as caught:
                bind(kind, {u'X-Auth-Token': value})
            assert 'control character in the value of X-Auth-Token' in check_message(caught.value, SECRET)


@pytest.mark.parametrize('kind', [kinds.HEADERS, kinds.PROPERTIES])
def test_a_value_may_have_tabs_and_any_printed_character(kind):
    assert bind_legacy(kind, {u'X-A': u'\ta \xb2 \u263a~'}) == {u'X-A': u'\ta \xb2 \u263a~'}


def test_a_tuple_is_a_list():
    assert bind_legacy(kinds.UUID_LIST, (UUID_A, UUID_B)) == [UUID_A, UUID_B]


@pytest.mark.parametrize('text', [u'', u'[', u'{', u"['x']", u'x', u'[1,]', u'\0', u'[]]', u'"' + SECRET, SECRET,
                                  u'{"a": "%s}' % SECRET])
def test_what_is_no_json_is_refused(text):
    for kind in (kinds.UUID_LIST, kinds.HEADERS):
        with pytest.raises(errors.ArgumentError) as caught:
            binding.bind_plain([Arg('thing', kind)], {u'thing': text})
        message = check_message(caught.value, *[SECRET] if kind.secret else [])
        assert message.startswith("argument 'thing': is not JSON")


@pytest.mark.parametrize('depth', list(range(10, 1000, 45)) + [5000, 60000])
def test_deep_json_is_refused(depth):
    """Python stops somewhere between 300 and 50,000 levels, in json, in repr() or in neither."""
    for text in (u'[' * depth + u']' * depth, u'{"a":' * depth + u'1' + u'}' * depth, u'[' * depth):
        for kind in (kinds.UUID_LIST, kinds.HEADERS):
            with pytest.raises(errors.ArgumentError) as caught:
                binding.bind_plain([Arg('thing', kind)], {u'thing': text})
            check_message(caught.value)


ANY_TEXT = texts_with(u'\0\n\x7f/.:-[]\xe9\ud800', exclude_surrogates=False)
ANY_DATA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT),
    lambda values: st.one_of(st.lists(values, max_size=3), st.lists(values, max_size=3).map(tuple),
                             st.dictionaries(st.one_of(ANY_TEXT, st.integers(), st.none()), values, max_size=3)), max_leaves=6)


@settings(max_examples=60)
@given(ANY_DATA, ANY_TEXT, st.sampled_from(sorted(TAKEN)))
def test_nothing_but_an_argument_error_comes_out(value, text, name):
    kind = KINDS[name]
    for bind, sent in ((binding.bind_legacy, ((), {u'thing': value})), (binding.bind_plain, ({u'thing': text},))):
        try:
            bind([Arg('thing', kind, default=None)], *sent)
        except errors.ArgumentError as error:
            check_message(error)


def test_a_long_value_is_shown_in_part():
    with pytest.raises(errors.ArgumentError) as caught:
        bind_legacy(kinds.IMAGE_ID, u'/' + u'x' * 100000)
    assert check_message(caught.value).endswith(u'(got /%s...)' % (u'x' * 59))


# How arguments find their parameters.

ROWS = [
    Arg('image_id', kinds.IMAGE_ID),
    Arg('sr_path', kinds.SR_PATH),
    Arg('sr_uuid', kinds.SR_UUID, into='sr_path'),
    Arg('extra_headers', kinds.HEADERS, default={}),
    Arg('api_version', kinds.API_VERSION, default=1, plain_default=2),
]
SR = u'/var/run/sr-mount/' + UUID_A
BOUND = {'image_id': u'x', 'sr_path': SR, 'extra_headers': {}, 'api_version': 1}


@pytest.mark.parametrize('positional, keywords, expected', [
    ((), {u'image_id': u'x', u'sr_path': SR}, {}),
    ((u'x', SR), {}, {}),
    ([u'x', SR], {}, {}),
    ((u'x',), {u'sr_path': SR}, {}),
    ((u'x',), {u'sr_uuid': UUID_A}, {}),
    ((u'x', None), {u'sr_uuid': UUID_A}, {}),
    ((u'x', SR), {u'sr_uuid': None}, {}),
    ((u'x', SR, {u'X-A': u'b'}, 2), {}, {'extra_headers': {u'X-A': u'b'}, 'api_version': 2}),  # the alias has no position
    ((u'x', SR, None, None), {}, {}),
    ((u'x', SR), {u'extra_headers': None, u'api_version': u'2'}, {'api_version': 2}),
    ((u'x', SR), {u'host_uuid': UUID_B, u'num_retries': 3, u'callback': None}, {}),
    ((u'x', SR), {5: u'x', None: u'y', u'\xe9\n': u'z'}, {}),
])
def test_legacy_arguments_find_their_parameters(positional, keywords, expected):
    assert binding.bind_legacy(ROWS, positional, keywords) == dict(BOUND, **expected)


@pytest.mark.parametrize('positional, keywords, message', [
    ((), {}, "argument 'image_id': missing"),
    ((u'x',), {}, "argument 'sr_path': missing (or 'sr_uuid')"),
    ((u'x', None), {}, "argument 'sr_path': missing (or 'sr_uuid')"),
    ((None, SR), {}, "argument 'image_id': missing"),
    ((u'x', SR), {u'image_id': u'x'}, "argument 'image_id': is given by position and by name"),
    ((u'x', SR), {u'image_id': None}, "argument 'image_id': is given by position and by name"),
    ((u'x', SR), {u'sr_uuid': UUID_A}, "argument 'sr_uuid': cannot be combined with 'sr_path'"),
    ((u'x', SR, {}, 2, 5), {}, "argument 'params': has 5 positional values, the call takes 4"),
    ((u'x', SR), {u'api_version': 3}, "argument 'api_version': needs 1 or 2 (got 3)"),
    ((u'x', 5), {}, "argument 'sr_path': needs text (got 5)"),
])
def test_legacy_arguments_that_do_not_fit_are_refused(positional, keywords, message):
    with pytest.raises(errors.ArgumentError) as caught:
        binding.bind_legacy(ROWS, positional, keywords)
    assert check_message(caught.value) == message


@pytest.mark.parametrize('texts, expected', [
    ({u'image_id': u'x', u'sr_path': SR}, {}),
    ({u'image_id': u'x', u'sr_uuid': UUID_A}, {}),
    ({u'image_id': u'x', u'sr_path': SR, u'host_uuid': UUID_B}, {}),
    ({u'image_id': u'x', u'sr_path': SR, u'api_version': u'1', u'extra_headers': u'{"X-A": "b"}'},
     {'api_version': 1, 'extra_headers': {u'X-A': u'b'}}),
])
def test_plain_arguments_find_their_parameters(texts, expected):
    assert binding.bind_plain(ROWS, texts) == dict(BOUND, **dict({'api_version': 2}, **expected))


@pytest.mark.parametrize('texts, message', [
    ({}, "argument 'image_id': missing"),
    ({u'image_id': u'x'}, "argument 'sr_path': missing (or 'sr_uuid')"),
    ({u'image_id': u'x', u'sr_path': u''}, "argument 'sr_path': is empty (got )"),
    ({u'image_id': u'x', u'sr_path': SR, u'sr_uuid': UUID_A}, "argument 'sr_uuid': cannot be combined with 'sr_path'"),
    ({u'image_id': u'x', u'sr_path': SR, u'uuid': u'x'},
     "argument 'uuid': unknown; this call takes api_version, extra_headers, image_id, sr_path, sr_uuid"),
    ({u'image_id': u'x', u'sr_path': SR, u'': u'x'},
     "argument '': unknown; this call takes api_version, extra_headers, image_id, sr_path, sr_uuid"),
    ({u'image_id': u'x', u'sr_path': SR, u'Image_id\n\xe9': u'x'},
     "argument 'Image_id??': unknown; this call takes api_version, extra_headers, image_id, sr_path, sr_uuid"),
    ({u'image_id': u'x', u'sr_path': SR, u'z' * 500: u'x'},
     "argument '%s...': unknown; this call takes api_version, extra_headers, image_id, sr_path, sr_uuid" % (u'z' * 60)),
])
def test_plain_arguments_that_do_not_fit_are_refused(texts, message):
    with pytest.raises(errors.ArgumentError) as caught:
        binding.bind_plain(ROWS, texts)
    assert check_message(caught.value) == message


def test_a_call_without_arguments():
    assert binding.bind_plain([], {u'host_uuid': UUID_A}) == binding.bind_legacy([], (), {u'host_uuid': UUID_A, u'x': 1}) == {}
    with pytest.raises(errors.ArgumentError) as caught:
        binding.bind_plain([], {u'x': u'1'})
    assert str(caught.value) == "argument 'x': unknown; this call takes none"
    with pytest.raises(errors.ArgumentError) as caught:
        binding.bind_legacy([], (u'x',), {})
    assert str(caught.value) == "argument 'params': has 1 positional values, the call takes 0"


def test_a_default_is_not_checked():
    """A default may be what no caller can send."""
    rows = [Arg('thing', kinds.IMAGE_ID, default=None)]
    assert binding.bind_legacy(rows, (), {}) == binding.bind_plain(rows, {}) == {'thing': None}


def test_a_row_knows_whether_it_is_required():
    assert [row.required for row in ROWS] == [True, True, True, False, False]


def test_a_dash_in_a_name():
    """kernel.py's callers spell their arguments with dashes, which no parameter of a function has."""
    rows = [Arg('vdi-ref', kinds.IMAGE_ID), Arg('image-size', kinds.IMAGE_ID, default=None), Arg('uuid', kinds.IMAGE_ID, into='vdi-ref')]
    assert [row.is_alias for row in rows] == [False, False, True]
    for values in (binding.bind_plain(rows, {u'vdi-ref': u'x'}), binding.bind_legacy(rows, (u'x',), {}), binding.bind_plain(rows, {u'uuid': u'x'})):
        assert values == {'vdi_ref': u'x', 'image_size': None}
    for texts, message in (({}, "argument 'vdi-ref': missing (or 'uuid')"),
                           ({u'vdi-ref': u'x', u'uuid': u'x'}, "argument 'uuid': cannot be combined with 'vdi-ref'"),
                           ({u'vdi_ref': u'x'}, "argument 'vdi_ref': unknown; this call takes image-size, uuid, vdi-ref")):
        with pytest.raises(errors.ArgumentError) as caught:
            binding.bind_plain(rows, texts)
        assert check_message(caught.value) == message
