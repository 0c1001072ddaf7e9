#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Run by xapi before a supplemental pack is applied: may this host have these plug-ins?
#
# Another exit status than 0 refuses. xapi decodes <error errorcode="UPDATE_PRECHECK_FAILED_WRONG_SERVER_VERSION">; any other
# output becomes the text of UPDATE_PRECHECK_FAILED_UNKNOWN_ERROR. An answer of 0 says nothing: xapi takes the first word of it.
# @name@ stands for what packaging/make_suppack.py puts in.

plugins=/etc/xapi.d/plugins
status=0

refuse() {
    echo "$1"
    status=1
}

# Python with all that the plug-ins import; the name is that of their first line.
if ! @python@ -c 'import XenAPI, ssl, zlib' >/dev/null 2>&1; then
    echo '<error errorcode="UPDATE_PRECHECK_FAILED_WRONG_SERVER_VERSION">'
    echo '<found>no @python@ that has XenAPI</found><required>@hosts@</required></error>'
    exit 1
fi

free_kib=$(df -Pk /etc | awk 'NR == 2 { print $4 }')
if [ "$free_kib" -lt @need_kib@ ]; then
    refuse "not enough space on /: $free_kib KiB are free, @need_kib@ KiB are needed."
fi

# What the package would write over, or leave beside itself to be called: files of nobody's, or of packages it does not replace.
conflicts=
for name in @plugins@ @old_names@; do
    path=$plugins/$name
    [ -e "$path" ] || [ -L "$path" ] || continue
    owner=$(rpm -qf --qf '%{NAME}\n' "$path" 2>/dev/null) || owner=
    case $owner in
        dom0-xapi-plugins | xenapi-plugins | openstack-xapi-plugins) ;;
        *) conflicts="$conflicts $path${owner:+ (of the package $owner)}" ;;
    esac
done
if [ -d /opt/dom0-xapi-plugins ]; then
    refuse "the plug-ins have been installed by install.sh: remove them with install.sh --uninstall."
elif [ -n "$conflicts" ]; then
    refuse "plug-ins of another origin are in the way; move them out of $plugins and repeat:$conflicts"
fi
exit $status
