# SPDX-License-Identifier: Apache-2.0
"""What a sender's key may do here: the forced command of its line in authorized_keys, a program for any POSIX sh.

sshd runs it in the place of whatever the other end asks for.  That must be, word by word, what a sender's rsync starts here:

    [rm -f <directory><n>.vhd ... ;] rsync --server <options> . <directory>

with a directory /images/instance<label>/.  All else is refused: a shell, sftp, rsync as a sender.  Of rsync's options

    links, devices       (os-xenapi's -a) are left out: rsync would write through a link that it was sent before
    permissions          too: what is sent becomes nobody's set-uid program
    --delete             is refused: with it the sender's rules are read here, and a rule can name a file whose content
                         then comes back in an error
    any with a path      is refused, but for the one name of the directory in which unfinished files wait
    --protect-args       is refused: with it the options do not come as words
"""

from __future__ import absolute_import, division

from dom0_lib.migration import rsync
from dom0_lib.storage import arrival_files

# No quotes around variables: with `set -f` a word without white space stays one word.  So sshd has none to unescape.
_LINES = (
    "LC_ALL=C; set -f;",
    "refuse() { echo '%(refusal)s' >&2; exit 1; };",
    "is_directory() { case $1 in %(instances)s*/) ;; *) return 1;; esac;"
    " label=${1#%(instances)s}; case ${label%%/} in ''|*[!0-9a-z_-]*) return 1;; esac; };",
    "set -- $SSH_ORIGINAL_COMMAND; stale=; options=;",
    # What an earlier attempt has left.
    "case $1/$2 in rm/-f) shift 2;"
    " while :; do"
    " case $1 in ';') shift; break;; */[0-9].vhd|*/1[0-5].vhd) is_directory ${1%%/*}/ || refuse;; *) refuse;; esac;"
    " stale=$stale' '$1; shift; done;; esac;",
    "case $1/$2 in rsync/--server) shift 2;; *) refuse;; esac;",
    "while test $# -gt 2; do case $1 in"
    " --timeout=*|--compress-level=*) case ${1#*=} in ''|*[!0-9]*) refuse;; esac; options=$options' '$1;;"
    " --log-format=X) options=$options' '$1;;"
    # By one version as one word, by another as two.
    " --partial-dir=%(partial)s) options=$options' '$1;;"
    " --partial-dir) shift; case $1 in %(partial)s) options=$options' --partial-dir='$1;; *) refuse;; esac;;"
    " --*) refuse;;"
    # The short options in one word; behind the e, what the sender's rsync is able to.
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
