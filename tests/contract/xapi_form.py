# SPDX-License-Identifier: Apache-2.0
"""The two documents of a plug-in call as XAPI writes and reads them, for every Python that runs a plug-in.

XAPI writes a text bare, without a <string> tag, the empty text as <value/>, no declaration and no line ends, and drops the
control characters that XML cannot hold (xen-api: ocaml/xapi/xapi_plugins.ml, ocaml/libs/xml-light2/xml.ml).
"""

from __future__ import absolute_import, division

from dom0_lib import compat

SESSION_REF = u'OpaqueRef:6a5d8e32-0a7c-4e8f-8b3e-1f6c7a9d2b10'

_ESCAPES = dict((code, None) for code in range(0x20) if code not in (0x09, 0x0a, 0x0d))
_ESCAPES.update({ord('&'): u'&amp;', ord('<'): u'&lt;', ord('>'): u'&gt;', ord('"'): u'&quot;'})


def encode_call(function, arguments, session_ref=SESSION_REF):
    """The one argument of a plug-in: `arguments` is a map of text to text."""
    members = u''.join(u'<member><name>%s</name>%s</member>' % (_escape(name), _encode_value(value))
                       for name, value in arguments.items())
    return (u'<methodCall><methodName>%s</methodName><params><param>%s</param><param><value>%s</value></param></params>'
            u'</methodCall>' % (_escape(function), _encode_value(session_ref),
                                u'<struct>%s</struct>' % members if members else u'<struct/>')).encode('utf-8')


def _encode_value(text):
    return u'<value>%s</value>' % _escape(text) if text else u'<value/>'


def _escape(text):
    return text.translate(_ESCAPES) if isinstance(text, compat.text_type) else _escape(text.decode('ascii'))


def read_reply(data):
    """('Success', text) or ('Failure', [text, ...]) of a reply that XAPI can read: one ASCII document of the two forms."""
    data.decode('ascii')
    (reply,), method = compat.import_xmlrpc_client().loads(data)
    assert method is None and data.count(b'<methodResponse>') == 1
    if reply['Status'] == 'Success':
        assert sorted(reply) == ['Status', 'Value']
        return 'Success', compat.to_text(reply['Value'])
    assert sorted(reply) == ['ErrorDescription', 'Status']
    return reply['Status'], [compat.to_text(item) for item in reply['ErrorDescription']]
