# SPDX-License-Identifier: Apache-2.0
"""Settings files that cannot be used, with the sentence that every call gives, and strange ones that can."""

from __future__ import absolute_import, division

import os

_SECTIONS = '[migration], [network], [netwrap], [policy], [tls], [transfer]'

# name: (bytes of the file, the error behind the file's name)
FILES = {
    'section': (b'[polcy]\ndeny = *\n', '[polcy] is no section: [policy] is meant?'),
    'empty section': (b'[polcy]\n', '[polcy] is no section: [policy] is meant?'),
    'section in capitals': (b'[POLICY]\ndeny = *\n', '[POLICY] is no section: [policy] is meant?'),
    'section between blanks': (b'[ policy ]\ndeny = *\n', '[ policy ] is no section: [policy] is meant?'),
    'section of defaults': (b'[DEFAULT]\ndeny = *\n', '[DEFAULT] is no section: there are ' + _SECTIONS),
    'section without a name': (b'[]\n', '[] is no section: there are ' + _SECTIONS),
    'section in another script': (u'[p\u043elicy]\ndeny = *\n'.encode('utf-8'), '[p\\u043elicy] is no section: [policy] is meant?'),
    'section not closed': (b'[policy\ndeny = *\n', 'line 1 needs a section in brackets and nothing behind it'),
    'setting behind the section': (b'\n[policy] deny = *\n', 'line 2 needs a section in brackets and nothing behind it'),
    'section twice': (b'[policy]\ndeny = *\n[tls]\n[policy]\n', '[policy] is in lines 1 and 4: make them one'),
    'name': (b'[policy]\ndenny = *\n', "'denny' in [policy] is no setting: 'deny' is meant?"),
    'name like none': (b'[policy]\nforbid = *\n', "'forbid' in [policy] is no setting: there are deny, require_pool_admin"),
    'name with a blank of another kind': (u'[policy]\ndeny\xa0= *\n'.encode('utf-8'),
                                          "'deny\\xa0' in [policy] is no setting: 'deny' is meant?"),
    'name of another section': (b'[network]\nthreads = 1\n', "'threads' in [network] belongs in [transfer]"),
    'no section': (b'deny = *\n', "'deny' in no section belongs in [policy]"),
    'no section, no name': (b'verifi = *\n[tls]\n', "'verifi' in no section is no setting: 'verify' is meant?"),
    'name twice': (b'[policy]\ndeny = glance.*\nDeny = netwrap.*\n', "'deny' in [policy] is in lines 2 and 3: remove one"),
    'no name': (b'[policy]\n= *\n', 'line 2 is not name = value; a value does not go on in a second line'),
    'no equals sign': (b'[policy]\ndeny *\n', 'line 2 is not name = value; a value does not go on in a second line'),
    'value of two lines': (b'[policy]\ndeny = glance.*,\n    netwrap.*\n',
                           'line 3 is not name = value; a value does not go on in a second line'),
    'value of two lines with a colon': (b'[network]\nproxy =\n    http://p:3128\n',
                                        "'http' in [network] is no setting: there are connect_timeout, idle_timeout, total_timeout, proxy"),
    'comment behind a value': (b'[policy]\ndeny = glance.*  ; for ever\n',
                               "'deny' in [policy] has a comment behind it: give that a line of its own"),
    'comment in place of a value': (b'[policy]\ndeny =# *\n', "'deny' in [policy] has a comment behind it: give that a line of its own"),
    'comment behind a tab': (b'[transfer]\nnice = 5\t# more\n',
                             "'nice' in [transfer] has a comment behind it: give that a line of its own"),
    'two comments behind a value': (b'[transfer]\nnice = 5 # more ; or less\n',
                                    "'nice' in [transfer] has a comment behind it: give that a line of its own"),
    'byte order mark': (b'\xef\xbb\xbf[policy]\ndeny = *\n', 'it begins with a byte order mark: save it without one'),
    'two bytes for each character': (u'[policy]\n'.encode('utf-16-le'), 'line 1 has bytes of zero: the file is damaged; '
                                     'line 2 has bytes of zero: the file is damaged'),
    'zeros': (b'\0' * 4096, 'line 1 has bytes of zero: the file is damaged'),
    'zeros in a comment': (b'[policy]\n# deny' + b'\0' * 100, 'line 2 has bytes of zero: the file is damaged'),
    'zeros in a section': (b'[pol\0icy]\ndeny = *\n', 'line 1 has bytes of zero: the file is damaged'),
    'control character': (b'[policy]\ndeny = *\x1b[0m\n', 'line 2 has a control character, or is not UTF-8'),
    'control character in a section': (b'[policy\x7f]\ndeny = *\n', 'line 1 has a control character, or is not UTF-8'),
    'form feed': (b'[policy]\x0cdeny = *\n', 'line 1 has a control character, or is not UTF-8'),
    'Latin-1': (b'[policy]\nd\xe9ny = *\n', 'line 2 has a control character, or is not UTF-8'),
    'number': (b'[transfer]\nthreads = 65\n', "'threads' in [transfer] needs a whole number from 0 to 64"),
    'several': (b'[transfer]\nthreads = 65\nnise = 5\n[tsl]\n[policy]\nrequire_pool_admin = perhaps\n',
                "'threads' in [transfer] needs a whole number from 0 to 64; 'nise' in [transfer] is no setting: 'nice' is meant?; "
                "[tsl] is no section: [tls] is meant?; 'require_pool_admin' in [policy] needs yes or no"),
    'more than five': (b'[tls]\n' + b''.join(('verify%d = no\n' % number).encode('ascii') for number in range(8)),
                       '; '.join("'verify%d' in [tls] is no setting: 'verify' is meant?" % number for number in range(5)) + '; and more'),
    'five': (b'[tls]\na = 1\nb = 1\nc = 1\nd = 1\ne = 1\n',
             '; '.join("'%s' in [tls] is no setting: there are verify, verify_hosts, ca_file" % name for name in 'abcde')),
    'long name': (b'[policy]\n' + b'x' * 100 + b' = 1\n',
                  "'%s' in [policy] is no setting: there are deny, require_pool_admin" % ('x' * 60)),
    'plug-in without its calls': (b'[policy]\ndeny = glance\n', "'deny' in [policy] has 'glance', which is no call: 'glance.*' is meant?"),
    'one of several patterns': (b'[policy]\ndeny = glance.*, netwarp.*,kernel.*\n',
                                "'deny' in [policy] has 'netwarp.*', which is no call: 'netwrap.*' is meant?"),
    'pattern like none': (b'[policy]\ndeny = everything\n', "'deny' in [policy] has 'everything', which is no call: "
                          'a pattern is plug-in.function, such as glance.sweep or netwrap.*'),
    'pattern that cannot be seen': (u'[policy]\ndeny = \u200bglance.*\n'.encode('utf-8'),
                                    "'deny' in [policy] has '\\u200bglance.*', which is no call: 'glance.*' is meant?"),
    'patterns without commas': (b'[policy]\ndeny = glance.* kernel.*\n', "'deny' in [policy] has 'glance.* kernel.*', which is no call: "
                                'a pattern is plug-in.function, such as glance.sweep or netwrap.*'),
    'too large': (b'#' * ((1 << 16) + 1), 'it has more than 65536 bytes'),
}

# name: (function(path) that makes it, the error)
_NOT_PLAIN = '/etc/dom0-plugins.conf: it is not a plain file'
PLACES = {
    'directory': (os.mkdir, _NOT_PLAIN),
    'pipe': (os.mkfifo, _NOT_PLAIN),
    'device': (lambda path: os.symlink('/dev/zero', path), _NOT_PLAIN),
    'link to nothing': (lambda path: os.symlink('/nowhere/dom0-plugins.conf', path),
                        'cannot read /etc/dom0-plugins.conf: No such file or directory'),
    'link to itself': (lambda path: os.symlink(path, path),
                       'cannot read /etc/dom0-plugins.conf: Too many levels of symbolic links'),
}

# (bytes of the file, the settings that differ from the defaults)
SOUND_FILES = [
    (b'# caf\xe9 in a comment\n; and \x07\n', ''),
    (b'[policy]\r\ndeny = glance.*\r\n', '[policy] deny = glance.*'),
    (b'[policy]\rdeny = glance.*\r', '[policy] deny = glance.*'),
    (b'  [policy]\n\tdeny = glance.*\n\trequire_pool_admin = no', '[policy] deny = glance.*; require_pool_admin = no'),
    (b'[policy]\nDENY:glance.*\n', '[policy] deny = glance.*'),
    (b'[tls]\nca_file = /etc/a;b#c=d:e.pem\n[transfer]\nnice=0\n', '[tls] ca_file = /etc/a;b#c=d:e.pem; [transfer] nice = 0'),
    (b'[network]\nproxy = http://user:secret@proxy:3128\n', '[network] proxy = proxy:3128'),
    (b'[netwrap]\ncommands =\n', '[netwrap] commands = '),
    (u'[tls]\nca_file = /etc/\xe9.pem\n'.encode('utf-8'), u'[tls] ca_file = /etc/\xe9.pem'),
]
