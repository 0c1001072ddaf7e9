# SPDX-License-Identifier: Apache-2.0
"""The forced command of a sender's key, in its line of authorized_keys: a program for any POSIX sh.

sshd runs it in place of the requested command.  That must be, word by word, the command that a sender's rsync requests:

    [rm -f <directory><n>.vhd ... ;] rsync --server <options> . <directory>

with a directory /images/instance<label>/.  Everything else is refused: a shell, sftp, rsync as a sender.  Rsync's options:

    links, devices       (in os-xenapi's -a) are dropped: rsync would write through a link that it has just received
    permissions          are dropped: no received file becomes a set-uid program
    --delete             is refused: rsync would then read the sender's rules here, and a rule can name a file whose content
                         an error message sends back
    any with a path      is refused, except for the one name of the directory of unfinished files
    --protect-args       is refused: the options would not arrive as words
"""

from __future__ import absolute_import, division

from dom0_lib.migration import rsync
from dom0_lib.storage import arrival_files

# No quotes around variables: with `set -f` a word without white space stays one word.  So the line needs no escapes for sshd.
_LINES = (
    "LC_ALL=C; set -f;",
    "refuse() { echo '%(refusal)s' >&2; exit 1; };",
    "is_directory() { case $1 in %(instances)s*/) ;; *) return 1;; esac;"
    " label=${1#%(instances)s}; case ${label%%/} in ''|*[!0-9a-z_-]*) return 1;; esac; };",
    "set -- $SSH_ORIGINAL_COMMAND; stale=; options=;",
    # Files that an earlier attempt has left.
    "case $1/$2 in rm/-f) shift 2;"
    " while :; do"
    " case $1 in ';') shift; break;; */[0-9].vhd|*/[12][0-9].vhd) is_directory ${1%%/*}/ || refuse;; *) refuse;; esac;"
    " stale=$stale' '$1; shift; done;; esac;",
    "case $1/$2 in rsync/--server) shift 2;; *) refuse;; esac;",
    "while test $# -gt 2; do case $1 in"
    " --timeout=*|--compress-level=*) case ${1#*=} in ''|*[!0-9]*) refuse;; esac; options=$options' '$1;;"
    " --log-format=X) options=$options' '$1;;"
    # Some versions of rsync send it as one word, others as two.
    " --partial-dir=%(partial)s) options=$options' '$1;;"
    " --partial-dir) shift; case $1 in %(partial)s) options=$options' --partial-dir='$1;; *) refuse;; esac;;"
    " --*) refuse;;"
    # The short options in one word; the capabilities of the sender's rsync follow the e.
    " -*e*.*) flags=${1%%%%e*}; able=${1#*e};"
    " case $flags in -*[!DISdgloprtvz]*) refuse;; esac; case $able in *[!.0-9A-Za-z]*) refuse;; esac;"
    " while :; do case $flags in *[Dlp]*) flags=${flags%%%%[Dlp]*}${flags#*[Dlp]};; *) break;; esac; done;"
    " options=$options' '${flags}e$able;;"
    " *) refuse;; esac; shift; done;",
    "case $1 in .) is_directory $2 || refuse;; *) refuse;; esac;",
    "case $stale in '') ;; *) rm -f $stale;; esac;",
    "exec rsync --server $options . $2",
)


def make_command():
    """The program, one line without double quotes."""
    return ' '.join(_LINES) % {'refusal': 'dom0-plugins: ' + rsync.REFUSAL, 'instances': arrival_files.directory(''),
                               'partial': rsync.PARTIAL_DIR}
