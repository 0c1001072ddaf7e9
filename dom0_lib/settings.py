# SPDX-License-Identifier: Apache-2.0
"""What the host's administrator has set in /etc/dom0-plugins.conf; every setting has a default and the file may be absent.

    [network]
    connect_timeout = 30        seconds to make a connection
    idle_timeout = 90           seconds without any progress
    total_timeout = 21600       seconds for one transfer
    proxy = http://host:port    for the image service; without it none is used, whatever the environment says
    [tls]
    verify = yes                no: accept any certificate
    verify_hosts = no           yes: also those of hosts that join a pool, which XAPI itself signs and does not verify
    ca_file = /path/ca.pem      accept what these authorities signed, instead of the system's
    [transfer]
    threads = 0                 that deflate an upload; 0: one per processor
    nice = 10                   added to the niceness of transfers: dom0's processors belong to the guests first
    reserve = 512               MiB of an SR that a transfer leaves free
    collection_wait = 60        seconds that an upload waits for the storage manager's garbage collection to end
    detach_wait = 30            seconds for which a disk may refuse to be unplugged from dom0
    [netwrap]
    commands = *                of those in dom0_lib.network.net_filters: patterns of the whole command (ip link *, ovs-vsctl *)
    timeout = 120               seconds for one command
    [migration]
    host_keys = accept-new      accept-new: ssh keeps the key of a host that it has not met; strict: it refuses such a host
    identity_file = /path       root's ssh key for the other hosts, tried before ssh's own
    ciphers =                   what ssh prefers, by its names, with commas; none: what costs the least processor time
    [policy]
    deny =                      calls that are refused, with commas: plug-in.function, with * for any text (glance.sweep, netwrap.*)
    require_pool_admin = yes    for calls that act on the host itself
"""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib import settings_file
from dom0_lib import text_checks

_TRUTHS = {'yes': True, 'true': True, 'on': True, '1': True, 'no': False, 'false': False, 'off': False, '0': False}
_MAX_SECONDS = 7 * 24 * 3600
_MAX_THREADS = 64
_MAX_NICE = 19
_MAX_RESERVE_MIB = 1 << 24
_WORD_MARKS = '@+,-./_'
_WORD_CHARACTERS = frozenset(text_checks.LETTERS_AND_DIGITS + _WORD_MARKS)
# With a processor's AES instructions a transfer by the first costs half the processor time of what ssh prefers by itself.
_CIPHERS = 'aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr'


class Settings(object):
    """The settings as attributes, named as in the file.

    texts: {(section, name): (line, text)}
    problems: a list that gets (line, sentence) for each text that cannot be used
    """

    def __init__(self, texts, problems):
        self._texts = texts
        self._problems = problems
        self._names = []
        self._changes = []
        self.connect_timeout_s = self._number('network', 'connect_timeout', 30, 1, _MAX_SECONDS)
        self.idle_timeout_s = self._number('network', 'idle_timeout', 90, 1, _MAX_SECONDS)
        self.total_timeout_s = self._number('network', 'total_timeout', 6 * 3600, 1, _MAX_SECONDS)
        self.proxy = self._text('network', 'proxy', None)
        self.verify = self._truth('tls', 'verify', True)
        self.verify_hosts = self._truth('tls', 'verify_hosts', False)
        self.ca_file = self._text('tls', 'ca_file', None)
        self.threads = self._number('transfer', 'threads', 0, 0, _MAX_THREADS)
        self.nice = self._number('transfer', 'nice', 10, 0, _MAX_NICE)
        self.reserve_bytes = self._number('transfer', 'reserve', 512, 0, _MAX_RESERVE_MIB) << 20
        self.collection_wait_s = self._number('transfer', 'collection_wait', 60, 1, _MAX_SECONDS)
        self.detach_wait_s = self._number('transfer', 'detach_wait', 30, 1, _MAX_SECONDS)
        self.commands = self._patterns('netwrap', 'commands', '*')
        self.command_timeout_s = self._number('netwrap', 'timeout', 120, 1, _MAX_SECONDS)
        self.host_keys = self._choice('migration', 'host_keys', ('accept-new', 'strict'))
        self.identity_file = self._word('migration', 'identity_file', None)
        self.ciphers = self._word('migration', 'ciphers', _CIPHERS)
        self.deny = self._patterns('policy', 'deny', '')
        self.require_pool_admin = self._truth('policy', 'require_pool_admin', True)

    def list_names(self):
        """[(section, name)] of all settings that there are, in order."""
        return self._names

    def list_given(self):
        """[(section, name)] of those that the file has."""
        return list(self._texts)

    def describe_changes(self):
        """The settings that differ from their defaults, as text without passwords; '' if none does."""
        described, last = [], None
        for section, name, text in self._changes:
            shown = '%s = %s' % (name, text.rpartition('@')[2] if name == 'proxy' else text)
            described.append(shown if section == last else '[%s] %s' % (section, shown))
            last = section
        return '; '.join(described)

    def _find(self, section, name):
        """The text in the file, or None."""
        self._names.append((section, name))
        return self._texts.get((section, name), (0, None))[1]

    def _choose(self, section, name, value, default):
        if value != default:
            self._changes.append((section, name, self._texts[section, name][1]))
        return value

    def _refuse(self, section, name, reason):
        self._problems.append((self._texts[section, name][0], '%s %s' % (settings_file.describe_place(name, section), reason)))

    def _text(self, section, name, default):
        return self._choose(section, name, self._find(section, name) or default, default)

    def _patterns(self, section, name, default):
        # Not _text(): what is there and empty lists nothing.
        text = self._find(section, name)
        return self._choose(section, name, _split_patterns(default if text is None else text), _split_patterns(default))

    def _choice(self, section, name, choices):
        text = self._find(section, name) or choices[0]
        if text not in choices:
            self._refuse(section, name, 'needs %s' % ' or '.join(choices))
        return self._choose(section, name, text, choices[0])

    def _word(self, section, name, default):
        """Text that can stand in a command which is split at spaces."""
        text = self._find(section, name) or default
        if text and not _WORD_CHARACTERS.issuperset(text):
            self._refuse(section, name, 'needs letters, digits and any of %s' % _WORD_MARKS)
        return self._choose(section, name, text, default)

    def _number(self, section, name, default, lowest, highest):
        number = text_checks.parse_number(self._find(section, name) or str(default), 9)
        if number is None or not lowest <= number <= highest:
            self._refuse(section, name, 'needs a whole number from %d to %d' % (lowest, highest))
            return default
        return self._choose(section, name, number, default)

    def _truth(self, section, name, default):
        text = (self._find(section, name) or ('yes' if default else 'no')).lower()
        if text not in _TRUTHS:
            self._refuse(section, name, 'needs yes or no')
        return self._choose(section, name, _TRUTHS.get(text, default), default)


def _split_patterns(text):
    stripped = [pattern.strip(settings_file.BLANKS) for pattern in text.split(',')]
    return [pattern for pattern in stripped if pattern]


def find_near(text, names):
    """The one of `names` that is probably meant by `text`, or None."""
    text = text[:settings_file.MAX_SHOWN].lower()
    # Two letters in each other's place are one slip.
    edits, name = min((1 if sorted(text) == sorted(name) else _count_edits(text, name), name) for name in names)
    return name if edits <= (len(name) + 2) // 3 else None


def _count_edits(first, second):
    """How many letters to insert, remove or replace in `first` to get `second`."""
    counts = list(range(len(second) + 1))
    for row, letter in enumerate(first, 1):
        above, counts = counts, [row]
        for column, other in enumerate(second, 1):
            counts.append(min(counts[-1] + 1, above[column] + 1, above[column - 1] + (letter != other)))
    return counts[-1]


def _find_unknown(reading, names):
    """[(line, sentence)] of sections and settings that do not exist; of many only the first."""
    sections = sorted(set(section for section, _ in names))
    unknown = [(line, section, None) for section, line in reading.sections.items() if section not in sections]
    unknown += [(line, section, name) for (section, name), (line, _) in reading.texts.items()
                if (section is None or section in sections) and (section, name) not in names]
    first = sorted(unknown, key=lambda item: item[0])[:settings_file.MAX_PROBLEMS + 1]
    return [(line, _describe_unknown_section(section, sections) if name is None else _describe_unknown(section, name, names))
            for line, section, name in first]


def _describe_unknown_section(section, sections):
    near = find_near(section, sections)
    advice = '[%s] is meant?' % near if near else 'there are %s' % ', '.join('[%s]' % known for known in sections)
    return '[%s] is no section: %s' % (settings_file.show(section), advice)


def _describe_unknown(section, name, names):
    place = settings_file.describe_place(name, section)
    homes = [home for home, known in names if known == name]
    if homes:
        return '%s belongs in [%s]' % (place, homes[0])
    choices = [known for home, known in names if section in (home, None)]
    near = find_near(name, choices)
    return '%s is no setting: %s' % (place, "'%s' is meant?" % near if near else 'there are ' + ', '.join(choices))


def are_given():
    """Whether the file sets anything, or cannot be used; the file that packages bring is section names and comments."""
    try:
        return bool(load().list_given())
    except errors.PluginError:
        return True


def load():
    """The Settings of this host.  Raises errors.PluginError that names each section and setting which cannot be used."""
    return parse(settings_file.read())


def parse(data):
    """The Settings in the bytes of a file.  Raises errors.PluginError."""
    reading = settings_file.Reading(data)
    chosen = Settings(reading.texts, reading.problems)
    if reading.sections or reading.texts:
        reading.problems.extend(_find_unknown(reading, chosen.list_names()))
    if reading.problems:
        raise settings_file.make_error([sentence for _, sentence in sorted(reading.problems)])
    return chosen
