# SPDX-License-Identifier: Apache-2.0
"""The arguments of a call find the parameters of a function, or are refused."""

from __future__ import absolute_import, division

import pytest

from dom0_lib import errors
from dom0_lib.call import binding
from dom0_lib.call import kinds
from dom0_lib.call.binding import Arg
from tests.unit.call.kind_cases import check_message

UUID_A = u'11111111-2222-4333-8444-555555555555'
UUID_B = u'66666666-7777-4888-9999-aaaaaaaaaaaa'
ROWS = [
    Arg('image_id', kinds.IMAGE_ID),
    Arg('sr_path', kinds.SR_PATH),
    Arg('sr_uuid', kinds.SR_UUID, alias_of='sr_path'),
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
    rows = [Arg('vdi-ref', kinds.IMAGE_ID), Arg('image-size', kinds.IMAGE_ID, default=None), Arg('uuid', kinds.IMAGE_ID, alias_of='vdi-ref')]
    for values in (binding.bind_plain(rows, {u'vdi-ref': u'x'}), binding.bind_legacy(rows, (u'x',), {}), binding.bind_plain(rows, {u'uuid': u'x'})):
        assert values == {'vdi_ref': u'x', 'image_size': None}
    for texts, message in (({}, "argument 'vdi-ref': missing (or 'uuid')"),
                           ({u'vdi-ref': u'x', u'uuid': u'x'}, "argument 'uuid': cannot be combined with 'vdi-ref'"),
                           ({u'vdi_ref': u'x'}, "argument 'vdi_ref': unknown; this call takes image-size, uuid, vdi-ref")):
        with pytest.raises(errors.ArgumentError) as caught:
            binding.bind_plain(rows, texts)
        assert check_message(caught.value) == message


def test_a_parameter_with_a_better_name():
    rows = [Arg('timeout', kinds.IMAGE_ID, into='timeout_s'), Arg('limit', kinds.IMAGE_ID, into='timeout_s', alias_of='timeout'),
            Arg('other', kinds.IMAGE_ID, default=None)]
    for values in (binding.bind_plain(rows, {u'timeout': u'x', u'other': u'y'}), binding.bind_legacy(rows, (u'x', u'y'), {}),
                   binding.bind_plain(rows, {u'limit': u'x', u'other': u'y'}), binding.bind_legacy(rows, (), {u'limit': u'x', u'other': u'y'})):
        assert values == {'timeout_s': u'x', 'other': u'y'}
    for texts, message in (({}, "argument 'timeout': missing (or 'limit')"), ({u'timeout': u'?'}, "argument 'timeout': needs an image id"),
                           ({u'timeout_s': u'x'}, "argument 'timeout_s': unknown; this call takes limit, other, timeout"),
                           ({u'timeout': u'x', u'limit': u'y'}, "argument 'limit': cannot be combined with 'timeout'")):
        with pytest.raises(errors.ArgumentError) as caught:
            binding.bind_plain(rows, texts)
        assert str(caught.value).startswith(message)
