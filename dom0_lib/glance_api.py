# SPDX-License-Identifier: Apache-2.0
"""What OpenStack Glance's image APIs v1 and v2 say on the wire, and what their answers mean."""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib import http_client

_MD5_HEX_DIGITS = 32
# A repetition would meet the same answer.  404 and 410 mean that there is no such image; every other status may pass.
_PERMANENT = frozenset(
    list(range(300, 400)) + [400, 401, 402, 403, 405, 406, 407, 409] + list(range(411, 418)) + [422, 423, 424, 426, 501, 505, 510])
_GONE = (404, 410)


class Image(object):
    """One image of an image service: `endpoint` without a trailing slash, `headers` that authenticate."""

    def __init__(self, endpoint, image_id, headers, api_version):
        self._image_id = image_id
        self._headers = headers
        self._data_url = '%s/v1/images/%s' if api_version == 1 else '%s/v2/images/%s/file'
        self._data_url %= (endpoint, image_id)

    def open_data(self):
        """The http_client.Response that streams the image's data; the caller closes it.

        Raises errors.RetryableError, errors.ImageNotFound, errors.PluginError.
        """
        response = http_client.get(self._data_url, self._headers)
        if response.status != 200:
            response.close()
            raise self._refusal(response.status)
        return response

    def _refusal(self, status):
        if status in _GONE:
            return errors.ImageNotFound('the image service has no image %s for this token (status %d)' % (self._image_id, status))
        if status == 204:
            # A node of a cluster may lack the data of an active image; another has it.
            return errors.RetryableError('image %s has no data (status 204): is its upload complete?' % self._image_id)
        if status in (401, 403):
            return errors.PluginError(
                'the image service refuses image %s (status %d): the token is not valid for it' % (self._image_id, status))
        if status == 300:
            return errors.PluginError('the image service does not speak the API version asked for (status 300): use api_version 2')
        kind = errors.PluginError if status in _PERMANENT else errors.RetryableError
        return kind('the image service answered status %d for image %s' % (status, self._image_id))


def find_md5(response):
    """The MD5 of the image's data as hex text, from whichever header carries it, or None."""
    for name in ('etag', 'content-md5', 'x-image-meta-checksum'):
        value = (response.header(name) or '').strip('"').lower()
        # Proxies make entity tags of their own.
        if len(value) == _MD5_HEX_DIGITS and not value.strip('0123456789abcdef'):
            return value
    return None
