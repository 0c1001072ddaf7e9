# SPDX-License-Identifier: Apache-2.0
"""What OpenStack Glance's image APIs v1 and v2 say on the wire, and what their answers mean."""

from __future__ import absolute_import, division

import hashlib
import time

from dom0_lib import compat
from dom0_lib import errors
from dom0_lib import log
from dom0_lib import paths
from dom0_lib import text_checks
from dom0_lib.web import connection
from dom0_lib.web import http_client

_MAX_RECORD_BYTES = 1 << 20
_NO_SIZE = 'the image service sent a record with a size that is no number'
_MD5_HEX_DIGITS = 32
# In the order of preference; Glance's own choice has been SHA-512 since its API 2.7.
_DIGESTS = ('sha512', 'sha384', 'sha256')
# A repetition would meet the same answer.  404 and 410 mean that there is no such image; every other status may pass.
_PERMANENT = frozenset(
    list(range(300, 400)) + [400, 401, 402, 403, 405, 406, 407, 409] + list(range(411, 418)) + [422, 423, 424, 426, 501, 505, 510])
_GONE = (404, 410)
_MAX_CONTINUATIONS = 20
_CONTINUE_AFTER_S = (0.5, 1, 2, 4, 8)
_VERIFY_AFTER_S = (0, 1, 3)
_JSON_PATCH = 'application/openstack-images-v2.1-json-patch'


class RangeIgnored(Exception):
    """The server began again from the start of the data instead of where the connection broke."""


class Image(object):
    """One image of an image service: `endpoint` without a trailing slash, `headers` that authenticate.

    Its methods raise errors.RetryableError, errors.ImageNotFound and errors.PluginError.
    chosen: the host's settings.Settings
    check:  called at least twice a second during waits; what it raises ends them
    """

    def __init__(self, endpoint, image_id, headers, api_version, host_settings, check):
        self.image_id = image_id
        self._headers = headers
        self._is_v1 = api_version == 1
        self._url = '%s/v%d/images/%s' % (endpoint, api_version, image_id)
        self._data_url = self._url if self._is_v1 else self._url + '/file'
        self._check = check
        self._options = _make_options(host_settings, check)

    @property
    def is_out_of_time(self):
        """Whether the host's total timeout has passed."""
        return self._options.is_out_of_time

    def read_record(self, is_upload=False):
        """What the service says of the image: a dict with status, size, checksum and, where known, os_hash_algo and _value."""
        if self._is_v1:
            response = http_client.request('HEAD', self._url, self._headers, options=self._options)
        else:
            response = http_client.get(self._url, self._headers, self._options)
        try:
            if response.status != 200:
                raise self._refusal(response.status, is_upload)
            if not self._is_v1:
                return _parse_record(response.read_all(_MAX_RECORD_BYTES))
        finally:
            response.close()
        size = response.header('x-image-meta-size')
        record = {'status': response.header('x-image-meta-status'), 'checksum': response.header('x-image-meta-checksum'),
                  'size': text_checks.parse_number(size) if size else None}
        if size and record['size'] is None:
            raise errors.RetryableError(_NO_SIZE)
        return record

    def open_data(self):
        """The image's Data."""
        record = {}
        if not self._is_v1:
            try:
                record = self.read_record()
            except errors.RetryableError as error:
                log.info('the record of image %s cannot be read: %s', self.image_id, error)
        return Data(self, record)

    def open_range(self, position):
        """The http_client.Response with the data from `position` on; status 200 or, beyond 0, 206.  May raise RangeIgnored."""
        headers = dict(self._headers, Range='bytes=%d-' % position) if position else self._headers
        response = http_client.get(self._data_url, headers, self._options)
        if response.status == 200 or position and response.status == 206:
            return response
        response.close()
        if position and response.status == 416:
            raise RangeIgnored('the service has no data beyond byte %d' % position)
        raise self._refusal(response.status)

    def wait(self, seconds):
        """Sleep, and raise what `check` raises meanwhile."""
        ends_at = compat.monotonic_s() + seconds
        while compat.monotonic_s() < ends_at:
            self._check()
            time.sleep(min(0.2, seconds))

    def prepare_upload(self, properties):
        """See that the image waits for its data, and set its formats and properties (v2; v1 sends them with the data)."""
        status = self.read_record(is_upload=True).get('status')
        if status != 'queued':
            raise errors.PluginError("image %s cannot take data: its status is '%s', not 'queued'" % (self.image_id, status))
        if self._is_v1:
            return
        self._patch([('container_format', 'ovf'), ('disk_format', 'vhd')])
        try:
            self._patch([('visibility', 'private')] + sorted(properties.items()))
        except (errors.RetryableError, errors.ImageNotFound):
            raise
        except errors.PluginError as error:
            # The data matter more; policies may protect properties.
            log.warning('image %s keeps its properties: %s', self.image_id, error)

    def _patch(self, values):
        import json
        # Property names have no '/' or '~', which a JSON pointer would spell otherwise.
        changes = [{'op': 'add', 'path': '/' + name, 'value': value} for name, value in values]
        response = http_client.request(
            'PATCH', self._url, dict(self._headers, **{'Content-Type': _JSON_PATCH}),
            json.dumps(changes).encode('ascii'), self._options)
        response.close()
        if response.status != 200:
            raise self._refusal(response.status, is_upload=True)

    def open_upload(self, properties):
        """The http_client.Upload that takes the image's data."""
        headers = dict(self._headers, **{'Content-Type': 'application/octet-stream'})
        if self._is_v1:
            headers.update({
                'X-Image-Meta-Is-Public': 'False', 'X-Image-Meta-Status': 'queued', 'X-Image-Meta-Disk-Format': 'vhd',
                'X-Image-Meta-Container-Format': 'ovf', 'X-Glance-Registry-Purge-Props': 'False'})
            for name in properties:
                headers['X-Image-Meta-Property-' + name.replace('_', '-')] = properties[name]
        return http_client.Upload('PUT', self._data_url, headers, self._options)

    def judge_upload(self, status):
        """Raises unless `status`, the answer to an upload, means that the data were accepted."""
        if status != (200 if self._is_v1 else 204):
            raise self._refusal(status, is_upload=True)

    def recover_upload(self, lost):
        """Whether an upload succeeded whose answer was `lost`: returns if the service has taken the data, raises `lost` if not.

        The caller would repeat the upload, and find the image no longer waiting for data.
        """
        for pause_s in _VERIFY_AFTER_S:
            self.wait(pause_s)
            try:
                status = self.read_record().get('status')
            except errors.RetryableError:
                continue
            if status == 'active':
                return
            if status != 'saving':
                break
        raise lost

    def verify_upload(self, size_bytes, md5):
        """See that the service holds what was sent: some servers call a truncated upload complete."""
        for pause_s in _VERIFY_AFTER_S:
            self.wait(pause_s)
            try:
                record = self.read_record()
                break
            except errors.RetryableError as error:
                failure = error
        else:
            raise errors.PluginError('image %s was uploaded, but not verified: %s' % (self.image_id, failure))
        held = (record.get('size'), record.get('checksum'))
        if held != (size_bytes, md5) and held != (size_bytes, None):
            raise errors.PluginError('image %s is damaged: %d bytes with MD5 %s were sent, %s with %s are held; delete it' % (
                self.image_id, size_bytes, md5, held[0], held[1]))

    def _refusal(self, status, is_upload=False):
        if status == 404 and is_upload:
            return errors.ImageNotFound('ImageNotFound')  # callers compare the whole message
        if status in _GONE and not is_upload:
            return errors.ImageNotFound('the image service has no image %s for this token (status %d)' % (self.image_id, status))
        if status == 204:
            # A node of a cluster may lack the data of an active image; another has it.
            return errors.RetryableError('image %s has no data (status 204): is its upload complete?' % self.image_id)
        if status in (401, 403):
            return errors.PluginError(
                'the image service refuses image %s (status %d): the token is not valid for it' % (self.image_id, status))
        if status == 300:
            return errors.PluginError('the image service does not speak the API version asked for (status 300): use api_version 2')
        kind = errors.PluginError if status in _PERMANENT or status == 410 else errors.RetryableError
        return kind('the image service answered status %d for image %s' % (status, self.image_id))


class Data(object):
    """The data of an image as one stream, continued by Range where a connection breaks.

    size_bytes: of all the data, or None if the service does not say; position: bytes read so far
    """

    def __init__(self, image, record):
        self._image = image
        self._response = image.open_range(0)
        self._continuations = 0
        self.position = 0
        recorded_bytes = record.get('size')
        self.size_bytes = recorded_bytes if self._response.length is None else self._response.length
        if recorded_bytes not in (None, self.size_bytes):
            self.close()
            raise errors.RetryableError('the service sends %d bytes of image %s, its record says %s' % (
                self.size_bytes, image.image_id, recorded_bytes))
        self._expected = _find_digest(self._response, record)
        self._digest = hashlib.new(self._expected[0]) if self._expected else None

    def read(self):
        """The next piece; b'' at the end.  Raises RangeIgnored when the transfer must begin again."""
        while True:
            try:
                data = self._response.read()
                if not data and self.size_bytes is not None and self.position < self.size_bytes:
                    # uWSGI ends a body in good form when its own wait for the data has timed out.
                    raise errors.RetryableError('the data ended at byte %d of %d' % (self.position, self.size_bytes))
            except errors.RetryableError as error:
                if self.position == self.size_bytes:
                    return b''  # nothing but the end of the framing is lost
                self._continue(error)
                continue
            self.position += len(data)
            if self._digest:
                self._digest.update(data)
            return data

    def _continue(self, broken):
        self._response.close()
        for pause_s in _CONTINUE_AFTER_S:
            self._continuations += 1
            if self._continuations > _MAX_CONTINUATIONS or self._image.is_out_of_time:
                break
            log.info('image %s: %s; continuing at byte %s', self._image.image_id, broken, self.position)
            self._image.wait(pause_s)
            try:
                response = self._image.open_range(self.position)
            except errors.RetryableError as error:
                broken = error
                continue
            if response.status == 200 and self.position:
                response.close()
                raise RangeIgnored(compat.to_text(broken))
            expected_range = 'bytes %d-' % self.position
            if self.position and not (response.header('content-range') or '').startswith(expected_range):
                response.close()
                raise RangeIgnored('the service sent another range than asked for')
            self._response = response
            return
        raise broken

    @property
    def has_digest(self):
        """Whether the service has announced a digest, so that verify() proves the data whole."""
        return self._expected is not None

    def verify(self):
        """Raises errors.RetryableError if the data are not what the service announced."""
        if self._expected is None:
            log.info('the service announced no digest of image %s', self._image.image_id)
        elif self._digest.hexdigest() != self._expected[1]:
            raise errors.RetryableError('the data of image %s have %s %s, the service announced %s' % (
                self._image.image_id, self._expected[0].upper(), self._digest.hexdigest(), self._expected[1]))

    def close(self):
        self._response.close()


def _find_digest(response, record):
    """(algorithm, hex digest) of the data as announced, or None."""
    algorithm, value = record.get('os_hash_algo'), record.get('os_hash_value')
    if algorithm in _DIGESTS and _is_hex(value, 2 * hashlib.new(algorithm).digest_size):
        return algorithm, value.lower()
    for text in [response.header(name) for name in ('etag', 'content-md5', 'x-image-meta-checksum')] + [record.get('checksum')]:
        text = (text or '').strip('"')
        if _is_hex(text, _MD5_HEX_DIGITS):  # proxies make entity tags of their own
            return 'md5', text.lower()
    return None


def _is_hex(text, digits):
    return isinstance(text, (str, compat.text_type)) and len(text) == digits and not text.strip('0123456789abcdefABCDEF')


def _parse_record(data):
    import json
    try:
        record = json.loads(data.decode('utf-8'))
    except (ValueError, RuntimeError):
        record = None
    if not isinstance(record, dict):
        raise errors.RetryableError('the image service sent a record that is no JSON object')
    if not isinstance(record.get('size'), compat.integer_types + (type(None),)):
        raise errors.RetryableError(_NO_SIZE)
    return record


def _make_options(host_settings, check):
    proxy = None
    if host_settings.proxy:
        try:
            proxy = connection.Url(text_checks.check_url(host_settings.proxy))
        except ValueError as error:
            raise errors.PluginError("%s: 'proxy' in [network] %s" % (paths.SETTINGS, error))
    return connection.Options(
        connect_s=host_settings.connect_timeout_s, idle_s=host_settings.idle_timeout_s, total_s=host_settings.total_timeout_s,
        verify=host_settings.verify, ca_file=host_settings.ca_file, proxy=proxy, check=check)
