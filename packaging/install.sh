#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Install the plug-ins on hosts over ssh, without packages:
#
#     install.sh [--python PATH] root@HOST ...     install, or upgrade
#     install.sh --rollback root@HOST ...          back to what was there before the last upgrade, and forth again
#     install.sh --uninstall root@HOST ...         remove, and put back the plug-ins that were there before
#
# --here in place of hosts means this machine. SSH='ssh -p 2222' chooses how hosts are reached. Each host is done by itself; the
# exit status is 1 if one has failed, and that host is as it was.
#
# On a host:
#     /opt/dom0-xapi-plugins/releases/<version>-<digest>/    plug-ins and dom0_lib of one version
#     /opt/dom0-xapi-plugins/{previous,pending,replaced/}    what --rollback and --uninstall need
#     /etc/xapi.d/plugins/<name>.py                          symbolic links to one release, renamed into place
# Python looks for dom0_lib where a link leads, so that a call is of one version from beginning to end, and goes on with it while
# the next one is installed. dom0_plugin_version.py is linked last: where it leads is the version that the host has.
#
# Works in dash, bash and busybox sh, for that is what dom0s and installers' machines have.

set -eu

base=/opt/dom0-xapi-plugins
plugins=/etc/xapi.d/plugins
settings=/etc/dom0-plugins.conf
# Beside the plug-ins, not among them: xapi may start whatever is there.
new_link=/etc/xapi.d/.dom0-plugins-new
last=dom0_plugin_version.py
request='<methodCall><methodName>get_version</methodName><params><param><value>OpaqueRef:install</value></param>'
request=$request'<param><value><struct></struct></value></param></params></methodCall>'

say() { printf '%s\n' "$*"; }
die() {
    say "install.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '/^# Install/,/^# exit status/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# --- On the host.

# The release that the host has: a name below releases/, or nothing.
find_current() {
    target=$(readlink "$plugins/$last" 2>/dev/null) || target=
    case $target in
        "$base"/releases/*/"$last") target=${target#"$base/releases/"} && say "${target%/*}" ;;
    esac
}

read_file() { cat "$1" 2>/dev/null || :; }

# write_file PATH TEXT: wholly or not at all.
write_file() {
    say "$2" > "$1.new"
    mv -f "$1.new" "$1"
}

# The digest of what a release is made of. Byte-code is not: Python writes it.
digest_of() {
    (cd "$1" && find . -type f \( -name '*.py' -o -name '*.conf' \) | LC_ALL=C sort | while read -r name; do
        say "$name"
        cat "$name"
    done) | sha256sum | cut -c 1-12
}

# Names of the links to our releases among the plug-ins.
list_links() {
    for path in "$plugins"/*; do
        case $(readlink "$path" 2>/dev/null) in
            "$base"/releases/*) say "${path##*/}" ;;
        esac
    done
}

exists() { [ -e "$1" ] || [ -L "$1" ]; }

# set -e does not hold in functions whose success is asked for: these say themselves where they stop.

# link NAME RELEASE: what was there and is not ours is saved first.
link() {
    case $(readlink "$plugins/$1" 2>/dev/null) in
        "$base"/releases/*) ;;
        *)
            if exists "$plugins/$1"; then
                mkdir -p "$base/replaced" && cp -pP "$plugins/$1" "$base/replaced/.new" &&
                    mv -f "$base/replaced/.new" "$base/replaced/$1" || return 1
            fi ;;
    esac
    rm -f "$new_link" && ln -s "$base/releases/$2/$1" "$new_link" && mv -f "$new_link" "$plugins/$1"
}

# unlink_plugin NAME: what was there before comes back.
unlink_plugin() {
    if exists "$base/replaced/$1"; then
        rm -f "$new_link" && cp -pP "$base/replaced/$1" "$new_link" && mv -f "$new_link" "$plugins/$1" &&
            rm -f "$base/replaced/$1"
    else
        rm -f "$plugins/$1"
    fi
}

# switch_to RELEASE; for none, the plug-ins are as they were before the first one.
switch_to() {
    wanted=' '
    if [ -n "$1" ]; then
        for path in "$base/releases/$1"/*.py; do
            name=${path##*/}
            wanted="$wanted$name "
            [ "$name" = "$last" ] || link "$name" "$1" || return 1
        done
    fi
    for name in $(list_links); do
        case $wanted in
            *" $name "*) ;;
            *) unlink_plugin "$name" || return 1 ;;
        esac
    done
    [ -z "$1" ] || link "$last" "$1"
}

# works PATH: does this plug-in answer? A host's policy may deny even this call, and settings that cannot be used refuse every call:
# both are answers.
works() {
    reply=$(timeout 60 env -i PATH=/sbin:/usr/sbin:/bin:/usr/bin "$1" "$request" 2>&1 < /dev/null 9>&-) || return 1
    case $reply in
        *'<methodResponse>'*Success*'</methodResponse>'* | *'<methodResponse>'*Denied*'</methodResponse>'*) return 0 ;;
        *'<methodResponse>'*PluginError*/etc/dom0-plugins.conf*'</methodResponse>'*) return 0 ;;
    esac
    return 1
}

# Replace the current release by RELEASE, or by nothing; on any failure or signal the host is as it was.
change_to() {
    old=$(find_current)
    write_file "$base/pending" "$old"
    trap 'trap - HUP INT TERM; undo; give_up "$1" "interrupted; everything is as it was"' HUP INT TERM
    if ! switch_to "$1"; then
        undo
        give_up "$1" "cannot write into $plugins; everything is as it was"
    fi
    if [ -n "$1" ] && ! works "$plugins/$last"; then
        undo
        give_up "$1" "the plug-ins do not answer where xapi finds them; everything is as it was: $reply"
    fi
    trap - HUP INT TERM
    settle
}

# give_up RELEASE WORDS: without the release, and without a trace if nothing else is installed.
give_up() {
    [ "$1" = "$(read_file "$base/previous")" ] || rm -rf "$base/releases/$1"
    [ -n "$(find_current)" ] || rm -rf "$base"
    die "$2"
}

undo() {
    switch_to "$(read_file "$base/pending")"
    rm -f "$base/pending"
}

# After a change, or after one that was killed: either it has happened, or it is taken back.
settle() {
    [ -e "$base/pending" ] || return 0
    old=$(read_file "$base/pending")
    current=$(find_current)
    if [ "$current" = "$old" ]; then
        switch_to "$current"
        rm -f "$base/pending"
    else
        mv -f "$base/pending" "$base/previous"
    fi
}

# Releases that nobody needs: neither the current one nor the one before, and none at all while a plug-in runs.
remove_stale() {
    if cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -q "^$plugins/.*\.py\$"; then
        return 0
    fi
    current=$(find_current)
    previous=$(read_file "$base/previous")
    for path in "$base"/releases/*; do
        case ${path##*/} in
            "$current" | "$previous") ;;
            *) rm -rf "$path" ;;
        esac
    done
}

fits() {
    timeout 30 env -i PATH=/sbin:/usr/sbin:/bin:/usr/bin "$1" -c 'if True:
        import sys, ssl, zlib, XenAPI
        sys.exit(not (sys.version_info[:2] == (2, 7) or sys.version_info >= (3, 6)))' > /dev/null 2>&1 < /dev/null 9>&-
}

choose_python() {
    for candidate in ${python:-/usr/bin/python3 /usr/bin/python2.7}; do
        if fits "$candidate"; then
            say "$candidate"
            return 0
        fi
    done
    return 1
}

begin() {
    [ "$(id -u)" = 0 ] || die "this needs root"
    [ -d "$plugins" ] || die "there is no $plugins: is this a XenServer or XCP-ng host?"
    mkdir -p "$base/releases"
    exec 9> "$base/lock"
    flock -n 9 || die "another install.sh is at work on this host"
    rm -rf "$base"/releases/.new* "$base"/*.new "$new_link"
    settle
}

install_here() {
    if rpm -q dom0-xapi-plugins > /dev/null 2>&1; then
        die "this host has the plug-ins as a package: upgrade that, or remove it first (rpm -e dom0-xapi-plugins)"
    fi
    begin
    chosen=$(choose_python) || die "no Python for the plug-ins: it takes ${python:-/usr/bin/python3 or /usr/bin/python2.7}," \
        "3.6 or later or 2.7, with the modules XenAPI, ssl and zlib"
    stage=$base/releases/.new
    trap 'rm -rf "$stage"' EXIT
    umask 022
    cp -R "$source_dir/plugins" "$stage"
    [ ! -e "$source_dir/dom0-plugins.conf" ] || cp "$source_dir/dom0-plugins.conf" "$stage/"
    chmod -R u=rwX,go=rX "$stage"
    for path in "$stage"/*.py; do
        [ ! -d "$plugins/${path##*/}" ] || die "$plugins/${path##*/} is a directory: move it away"
        sed -i "1s|.*|#!$chosen|" "$path"
        chmod 755 "$path"
    done
    version=$(sed -n "s/^__version__ = '\\(.*\\)'/\\1/p" "$stage/dom0_lib/__init__.py")
    digest=$(digest_of "$stage")
    release=$version-$digest
    if [ -d "$base/releases/$release" ] && [ "$(digest_of "$base/releases/$release")" != "$digest" ]; then
        # Somebody has changed it; calls may be using it.
        release=$release.$$
    fi
    if [ ! -d "$base/releases/$release" ]; then
        "$chosen" -m compileall -q -d "$base/releases/$release/dom0_lib" "$stage/dom0_lib" > /dev/null ||
            die "cannot compile dom0_lib"
        sync
        mv "$stage" "$base/releases/$release"
    fi
    before=$(find_current)
    works "$base/releases/$release/$last" || give_up "$release" "the plug-ins do not answer, so nothing was changed: $reply"
    if [ "$before" = "$release" ]; then
        switch_to "$release"
    else
        change_to "$release"
    fi
    remove_stale
    if [ ! -e "$settings" ] && [ -e "$base/releases/$release/dom0-plugins.conf" ]; then
        cp "$base/releases/$release/dom0-plugins.conf" "$settings.new"
        mv -f "$settings.new" "$settings"
    fi
    case $reply in
        *Success* | *Denied*) ;;
        *) say "every call is refused, because $settings cannot be used: dom0_host.py doctor says why" ;;
    esac
    say "version $version, for $chosen${before:+, was $before}"
}

rollback_here() {
    begin
    before=$(find_current)
    previous=$(read_file "$base/previous")
    [ -n "$before" ] || die "install.sh has installed nothing here"
    if [ -z "$previous" ] || [ ! -d "$base/releases/$previous" ]; then
        die "there is no earlier release to go back to; --uninstall puts back what was there before the first one"
    fi
    works "$base/releases/$previous/$last" || die "the plug-ins of $previous do not answer, so nothing was changed: $reply"
    change_to "$previous"
    say "back to $previous, was $before"
}

uninstall_here() {
    [ -d "$base" ] || die "install.sh has installed nothing here"
    begin
    current=$(find_current)
    sample=$base/releases/$current/dom0-plugins.conf
    if [ -n "$current" ] && cmp -s "$settings" "$sample"; then
        rm -f "$settings"
    fi
    put_back=$(cd "$base/replaced" 2>/dev/null && printf '%s ' *) || put_back=
    switch_to ''
    rm -rf "$base"
    say "removed${put_back:+; put back: $put_back}$([ ! -e "$settings" ] || say "; $settings is kept")"
}

# --- Where install.sh is started.

# The sources of a library, folder by folder, without byte-code of this machine.
copy_library() {
    (cd "$1" && find . -name '*.py' -print) | while IFS= read -r module; do
        mkdir -p "$2/${module%/*}" && cp -p "$1/$module" "$2/$module" || exit 1
    done
}

# The directory that has plug-ins and dom0_lib side by side, as hosts have them.
lay_out() {
    here=$(cd "$(dirname "$0")" && pwd)
    mkdir -p "$1/plugins/dom0_lib"
    if [ -d "$here/xapi.d/plugins" ]; then
        cp -p "$here"/xapi.d/plugins/*.py "$1/plugins/"
        copy_library "$here/xapi.d/plugins/dom0_lib" "$1/plugins/dom0_lib"
    elif [ -d "$here/../plugins/xapi.d/plugins" ]; then
        cp -p "$here"/../plugins/xapi.d/plugins/*.py "$1/plugins/"
        copy_library "$here/../dom0_lib" "$1/plugins/dom0_lib"
    else
        die "there are no plug-ins beside $0: run it where the tarball is unpacked"
    fi
    [ ! -e "$here/dom0-plugins.conf" ] || cp -p "$here/dom0-plugins.conf" "$1/"
    cp -p "$0" "$1/install.sh"
}

on_host() {
    # shellcheck disable=SC2016 # $d is the host's
    # One connection: the archive goes to its stdin. What tar unpacks runs this script again, with --from.
    tar -cf - -C "$work" . | ${SSH:-ssh} "$1" 'umask 077; d=$(mktemp -d "${TMPDIR:-/tmp}/dom0-plugins-XXXXXX") || exit 1
        tar -xof - -C "$d" && sh "$d/install.sh" --from "$d" '"$verb ${python:+--python $python}"' < /dev/null
        status=$?; rm -rf "$d"; exit $status'
}

verb=--install python='' hosts='' source_dir='' is_here=''
while [ $# -gt 0 ]; do
    case $1 in
        --install | --rollback | --uninstall) verb=$1 ;;
        --python | --from)
            [ $# -gt 1 ] || usage
            if [ "$1" = --from ]; then source_dir=$2; else python=$2; fi
            shift ;;
        --here) is_here=yes ;;
        -*) usage ;;
        *) hosts="$hosts $1" ;;
    esac
    shift
done
case $python in
    '' | /*) ;;
    *) die "--python: $python is not an absolute path" ;;
esac
case $python in
    *[!A-Za-z0-9/._+-]*) die "--python: $python has a character that the first line of a script cannot hold" ;;
esac

if [ -n "$source_dir" ]; then
    "${verb#--}_here"
    exit
fi
[ -n "$is_here$hosts" ] || usage
work=$(mktemp -d "${TMPDIR:-/tmp}/dom0-plugins-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
lay_out "$work"
failed=
if [ -n "$is_here" ]; then
    sh "$work/install.sh" --from "$work" "$verb" ${python:+--python "$python"} || failed=" this-host"
fi
for host in $hosts; do
    if words=$(on_host "$host" 2>&1); then
        say "$host: $words"
    else
        say "$host: FAILED: $words" >&2
        failed="$failed $host"
    fi
done
[ -z "$failed" ] || die "failed:$failed"
