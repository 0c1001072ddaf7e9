# SPDX-License-Identifier: Apache-2.0
"""The settings that a host's administrator makes in /etc/dom0-plugins.conf.  Each has a default; the file may be absent."""

from __future__ import absolute_import, division

from dom0_lib import errors
from dom0_lib import settings_file
from dom0_lib import text_checks

_TRUTHS = {'yes': True, 'true': True, 'on': True, '1': True, 'no': False, 'false': False, 'off': False, '0': False}
_MAX_SECONDS = 7 * 24 * 3600
_WORD_MARKS = '@+,-./_'
_WORD_CHARACTERS = frozenset(text_checks.LETTERS_AND_DIGITS + _WORD_MARKS)
# With a processor's AES instructions a transfer with the first of these costs half the processor time of ssh's own choice.
_CIPHERS = 'aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr'


def _number(lowest, highest, factor=1):
    def parse(text):
        number = text_checks.parse_number(text, 9)
        if number is None or not lowest <= number <= highest:
            raise ValueError('needs a whole number from %d to %d' % (lowest, highest))
        return number * factor
    return parse


def _truth(text):
    if text.lower() not in _TRUTHS:
        raise ValueError('needs yes or no')
    return _TRUTHS[text.lower()]


def _text(text):
    return text or None


def _word(text):
    """Text that can stand in a command which is split at spaces."""
    if not _WORD_CHARACTERS.issuperset(text):
        raise ValueError('needs letters, digits and any of %s' % _WORD_MARKS)
    return text or None


def _choice(*choices):
    def parse(text):
        if text not in choices:
            raise ValueError('needs %s' % ' or '.join(choices))
        return text
    return parse


def _patterns(text):
    stripped = [pattern.strip(settings_file.BLANKS) for pattern in text.split(',')]
    return [pattern for pattern in stripped if pattern]


class Setting(object):
    """One setting of the file, and one line of the table below.

    attribute  its name in Settings, with the unit
    parse      function(text in the file) -> value; raises ValueError with the reason
    default    the text for which the file need not be changed
    meaning    for the sample of the file
    shown      the text there, where the default would help nobody
    """

    def __init__(self, section, name, attribute, parse, default, meaning, shown=None):
        self.section = section
        self.name = name
        self.attribute = attribute
        self.parse = parse
        self.default = default
        self.meaning = meaning
        self.shown = default if shown is None else shown

    def choose(self, text):
        """The text to parse if the file has `text`, or None: nothing but a list of patterns can be empty."""
        is_set = text is not None and (text or self.parse is _patterns)
        return text if is_set else self.default


_SECONDS = _number(1, _MAX_SECONDS)

# The sample of the file has them in this order.
SETTINGS = (
    Setting('network', 'connect_timeout', 'connect_timeout_s', _SECONDS, '30', 'seconds to make a connection'),
    Setting('network', 'idle_timeout', 'idle_timeout_s', _SECONDS, '90', 'seconds without any progress'),
    Setting('network', 'total_timeout', 'total_timeout_s', _SECONDS, '21600', 'seconds for one transfer'),
    Setting('network', 'proxy', 'proxy', _text, '',
            'a proxy for the image service; without one none is used, whatever the environment says', shown='http://host:port'),
    Setting('tls', 'verify', 'verify', _truth, 'yes', 'no: accept any certificate'),
    Setting('tls', 'verify_hosts', 'verify_hosts', _truth, 'no',
            'yes: also those of hosts that join a pool, which XAPI itself signs and does not verify'),
    Setting('tls', 'ca_file', 'ca_file', _text, '',
            "accept certificates that these authorities signed, instead of the system's", shown='/path/ca.pem'),
    Setting('transfer', 'threads', 'threads', _number(0, 64), '0', 'threads that deflate an upload; 0: one per processor'),
    Setting('transfer', 'nice', 'nice', _number(0, 19), '10',
            "added to the niceness of transfers: dom0's processors belong to the guests first"),
    Setting('transfer', 'reserve', 'reserve_bytes', _number(0, 1 << 24, 1 << 20), '512',
            'MiB of an SR that a transfer leaves free'),
    Setting('transfer', 'collection_wait', 'collection_wait_s', _SECONDS, '60',
            "seconds that an upload waits for the storage manager's garbage collection to end"),
    Setting('transfer', 'detach_wait', 'detach_wait_s', _SECONDS, '30',
            'seconds for which a disk may refuse to be unplugged from dom0'),
    Setting('netwrap', 'commands', 'commands', _patterns, '*',
            'patterns of whole commands (ip link *, ovs-vsctl *), among those that dom0_lib.network.net_filters allows'),
    Setting('netwrap', 'timeout', 'command_timeout_s', _SECONDS, '120', 'seconds for one command'),
    Setting('migration', 'host_keys', 'host_keys', _choice('accept-new', 'strict'), 'accept-new',
            'accept-new: ssh keeps the key of a host that it has not met; strict: it refuses such a host'),
    Setting('migration', 'identity_file', 'identity_file', _word, '',
            "root's ssh key for the other hosts, tried before ssh's own", shown='/path'),
    Setting('migration', 'ciphers', 'ciphers', _word, _CIPHERS,
            "ssh's ciphers by its names, with commas, the preferred first; none: those that cost the least processor time",
            shown=''),
    Setting('policy', 'deny', 'deny', _patterns, '',
            'calls that are refused, with commas: plug-in.function, with * for any text (glance.sweep, netwrap.*)'),
    Setting('policy', 'require_pool_admin', 'require_pool_admin', _truth, 'yes',
            'yes: only a pool administrator may make calls that act on the host itself'),
)
NAMES = [(setting.section, setting.name) for setting in SETTINGS]


class Settings(object):
    """The values of the settings, as attributes that the table names.

    texts: {(section, name): (line, text)}
    problems: a list that gets (line, sentence) for each text that cannot be used
    """

    def __init__(self, texts, problems):
        self._changes = []
        self._are_given = bool(texts)
        for setting in SETTINGS:
            line, given = texts.get((setting.section, setting.name), (0, None))
            value = default = setting.parse(setting.default)
            try:
                value = setting.parse(setting.choose(given))
            except ValueError as error:
                problems.append((line, '%s %s' % (settings_file.describe_place(setting.name, setting.section), error)))
            if value != default:
                self._changes.append((setting.section, setting.name, given))
            setattr(self, setting.attribute, value)

    def are_given(self):
        """Whether the file sets anything."""
        return self._are_given

    def describe_changes(self):
        """The settings that differ from their defaults, as text without passwords; '' if none does."""
        described, last = [], None
        for section, name, text in self._changes:
            shown = '%s = %s' % (name, text.rpartition('@')[2] if name == 'proxy' else text)
            described.append(shown if section == last else '[%s] %s' % (section, shown))
            last = section
        return '; '.join(described)


def find_near(text, names):
    """The name among `names` that `text` probably means, or None."""
    text = text[:settings_file.MAX_SHOWN].lower()
    # Two swapped letters count as one edit.
    edits, name = min((1 if sorted(text) == sorted(name) else _count_edits(text, name), name) for name in names)
    return name if edits <= (len(name) + 2) // 3 else None


def _count_edits(first, second):
    """The number of letters to insert, remove or replace in `first` to get `second`."""
    counts = list(range(len(second) + 1))
    for row, letter in enumerate(first, 1):
        above, counts = counts, [row]
        for column, other in enumerate(second, 1):
            counts.append(min(counts[-1] + 1, above[column] + 1, above[column - 1] + (letter != other)))
    return counts[-1]


def _find_unknown(reading, names):
    """[(line, sentence)] of sections and settings that do not exist, at most the first few."""
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
    """Whether the file sets anything, or cannot be used.  The file in the packages has only section names and comments."""
    try:
        return load().are_given()
    except errors.PluginError:
        return True


def load():
    """The Settings of this host.  Raises errors.PluginError that names each section and setting which cannot be used."""
    return parse(settings_file.read())


def parse(data):
    """The Settings in the bytes of a file.  Raises errors.PluginError."""
    reading = settings_file.Reading(data)
    host_settings = Settings(reading.texts, reading.problems)
    if reading.sections or reading.texts:
        reading.problems.extend(_find_unknown(reading, NAMES))
    if reading.problems:
        raise settings_file.make_error([sentence for _, sentence in sorted(reading.problems)])
    return host_settings
