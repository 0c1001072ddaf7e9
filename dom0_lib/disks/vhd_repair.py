# SPDX-License-Identifier: Apache-2.0
"""What can safely be put right in a VHD that nobody uses yet: what its other parts say without doubt.

    geometry                 qemu-img's force_size writes one that spans more than the disk: computed anew
    backup footer damaged    written from the primary one
    primary footer damaged   written from the backup, in its place at the end; not if the file was cut off there, which
                             vhd_check tells by a block that reaches over the end
"""

from __future__ import absolute_import, division

REPAIRABLE = frozenset(['geometry', 'primary_footer_missing', 'primary_footer_checksum', 'backup_footer_missing',
                        'backup_footer_checksum'])


def can_repair(problems):
    """Whether everything that vhd_check found can be repaired."""
    return all(problem.name in REPAIRABLE for problem in problems)


def repair(fileobj, metadata):
    """Write the trusted footer, with a geometry that fits its size, to both places of a dynamic or differencing disk."""
    footer = metadata.footer
    footer.set_size(footer.current_size)
    footer.seal()
    for offset in (metadata.primary_offset, 0):
        fileobj.seek(offset)
        fileobj.write(footer.pack())
    fileobj.flush()
