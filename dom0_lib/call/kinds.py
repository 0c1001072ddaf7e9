# SPDX-License-Identifier: Apache-2.0
"""The kinds of arguments that calls of several plug-ins declare; see binding for kinds in general.
"""

from __future__ import absolute_import, division

from dom0_lib import compat
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.call import binding

_HEADER_NAME_CHARACTERS = text_checks.NAME_CHARACTERS - frozenset('.')
# Headers that frame the request or address it: a caller's copy could smuggle a second request past a proxy.
_OWN_HEADERS = frozenset(['host', 'connection', 'content-length', 'transfer-encoding', 'te', 'trailer', 'upgrade',
                          'expect', 'range', 'accept-encoding', 'proxy-authorization'])
_TRUTHS = {u'true': True, u'false': False, True: True, False: False}
# Xen's DOMID_FIRST_RESERVED is 0x7ff0.
_MAX_DOM_ID = 0x7fef


def _check_uuid(value):
    if not text_checks.is_uuid(text_checks.require(value)):
        raise ValueError('needs a uuid in lower case')
    return value


def _check_uuid_list(value):
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError('needs a list of uuids')
    uuids = [_check_uuid(item) for item in value]
    if len(set(uuids)) != len(uuids):
        raise ValueError('names a uuid twice')
    return uuids


def _check_image_id(value):
    value = text_checks.require(value)
    if len(value) > 255 or not text_checks.NAME_CHARACTERS.issuperset(value) or value[0] in u'.-':
        raise ValueError('needs an image id: letters, digits, "-", "_", "."')
    return value


def _check_headers(value):
    if not isinstance(value, dict):
        raise ValueError('needs a map of header names to texts')
    headers = {}
    for name in value:
        if not isinstance(name, compat.text_type) or not name or not _HEADER_NAME_CHARACTERS.issuperset(name):
            raise ValueError('has a name that is not a header name')
        if name.lower() in _OWN_HEADERS:
            raise ValueError('must not set %s' % name)
        if value[name] is None:
            continue
        if not isinstance(value[name], compat.text_type):
            raise ValueError('has a value of %s that is not text' % name)
        headers[name] = _check_line(value[name], name)
    return headers


def _check_properties(value):
    if not isinstance(value, dict):
        raise ValueError('needs a map of property names to values')
    properties = {}
    for name in value:
        if not isinstance(name, compat.text_type) or not 0 < len(name) <= 255 or not text_checks.NAME_CHARACTERS.issuperset(name):
            raise ValueError('has a name that is not a property name')
        if value[name] is None:
            continue
        if not isinstance(value[name], (compat.text_type, bool) + compat.integer_types):
            raise ValueError('has a value of %s that is neither text nor a number' % name)
        properties[name] = _check_line(compat.to_text(value[name]), name)
    return properties


def _check_line(text, name):
    if any(c < u' ' and c != u'\t' or c == u'\x7f' or u'\ud800' <= c <= u'\udfff' for c in text):
        raise ValueError('has a control character in the value of %s' % name)
    return text


def _check_task(value):
    value = text_checks.require(value)
    prefix, colon, name = value.partition(u':')
    if prefix != u'OpaqueRef' or not 0 < len(name) <= 100 or not text_checks.NAME_CHARACTERS.issuperset(name):
        raise ValueError('needs the reference of a task: OpaqueRef:...')
    return value


def _check_truth(value):
    if not isinstance(value, (compat.text_type, bool)) or value not in _TRUTHS:
        raise ValueError('needs true or false')
    return _TRUTHS[value]


def _check_dom_id(value):
    number = text_checks.to_number(value, 5)
    if number is None or number > _MAX_DOM_ID:
        raise ValueError('needs the number of a domain')
    return number


def _check_config_key(value):
    value = text_checks.require(value)
    if len(value) > 255 or not text_checks.NAME_CHARACTERS.issuperset(value):
        raise ValueError('needs the name of a setting: letters, digits, "-", "_", "."')
    return value


def _check_api_version(value):
    if isinstance(value, bool) or value not in (1, 2, u'1', u'2'):
        raise ValueError('needs 1 or 2')
    return int(value)


def _check_sr_path(value):
    value = text_checks.require(value)
    path = value.rstrip(u'/')
    # In XAPI's empty environment Python 2.7 and 3.6 cannot encode the name of a file that is not ASCII.
    if not path.startswith(u'/') or u'..' in path.split(u'/') or not all(u' ' <= c <= u'~' for c in path):
        raise ValueError('needs an absolute path of printable ASCII without ".."')
    return path


def _check_sr_uuid(value):
    return u'%s/%s' % (paths.SR_MOUNT, _check_uuid(value))


UUID = binding.Kind(_check_uuid)
UUID_LIST = binding.Kind(_check_uuid_list, structured=True)
IMAGE_ID = binding.Kind(_check_image_id)
ENDPOINT = binding.Kind(text_checks.check_url)
HEADERS = binding.Kind(_check_headers, structured=True, secret=True)
API_VERSION = binding.Kind(_check_api_version)
SR_PATH = binding.Kind(_check_sr_path)
SR_UUID = binding.Kind(_check_sr_uuid)
PROPERTIES = binding.Kind(_check_properties, structured=True, secret=True)
TASK = binding.Kind(_check_task)
TRUTH = binding.Kind(_check_truth)
DOM_ID = binding.Kind(_check_dom_id)
CONFIG_KEY = binding.Kind(_check_config_key)
