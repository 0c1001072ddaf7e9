# SPDX-License-Identifier: Apache-2.0
"""Archives that try to write, read or fill more than a VHD of the image; each is a function that returns the image's bytes."""

import gzip
import io
import struct
import tarfile
import zlib

from tests.security.hostile_images import harmless, hostile

END = bytes(1024)
GIB = 1 << 30


def header(name="0.vhd", size_bytes=0, kind=b"0", **fields):
    """A GNU header; `fields` are attributes of tarfile.TarInfo."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size_bytes, kind
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def member(name, data, **fields):
    return header(name, len(data), **fields) + data + bytes(-len(data) % 512)


def patch_header(data, offset, replacement):
    """The archive with bytes of its first header replaced and the checksum made right."""
    patched = data[:offset] + replacement + data[offset + len(replacement):512]
    checksum = sum(patched[:148]) + 8 * 0x20 + sum(patched[156:])
    return patched[:148] + b"%06o\0 " % checksum + patched[156:] + data[512:]


def pax(name, data, **records):
    """A member with pax records before it."""
    lines = b"".join(_pax_record(key.replace("__", "."), value) for key, value in records.items())
    return member("PaxHeaders/0", lines, kind=b"x") + member(name, data)


def _pax_record(key, value):
    text = (" %s=%s\n" % (key, value)).encode("ascii")
    length = len(text) + len(str(len(text) + 2))
    return str(length).encode("ascii") + text


def zeros_bomb(beginning, size_bytes):
    """A gzip file that inflates to `beginning` and then zeros, a thousandth of it long."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = stream.compress(beginning) + stream.flush(zlib.Z_FULL_FLUSH)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = raw.compress(bytes(1 << 24)) + raw.flush(zlib.Z_FULL_FLUSH)
    return start + block * (size_bytes >> 24)


# Members that are no regular files

@hostile("UnsafeImage", "member '0.vhd' of the archive is not a regular file", is_for_old_python=True)
def symbolic_link_to_a_file(scene):
    return header(kind=tarfile.SYMTYPE, linkname="/etc/passwd") + END


@hostile("UnsafeImage", "member '0.vhd' of the archive is not a regular file")
def symbolic_link_to_another_disk(scene):
    return header(kind=tarfile.SYMTYPE, linkname="../%s" % scene.neighbour_name) + END


@hostile("UnsafeImage", "member '0.vhd' of the archive is not a regular file")
def hard_link_to_another_disk(scene):
    return header(kind=tarfile.LNKTYPE, linkname=scene.neighbour_name) + END


@hostile("UnsafeImage", "member 'd' of the archive is not a regular file")
def file_through_a_link(scene):
    return header("d", kind=tarfile.SYMTYPE, linkname="..") + member("d/0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "member '0.vhd' of the archive is not a regular file")
def block_device(scene):
    return header(kind=tarfile.BLKTYPE, devmajor=8) + END


@hostile("UnsafeImage", "member '0.vhd' of the archive is not a regular file")
def character_device(scene):
    return header(kind=tarfile.CHRTYPE, devmajor=1, devminor=5) + END


@hostile("UnsafeImage", "member '0.vhd' of the archive is not a regular file", is_for_old_python=True)
def fifo(scene):
    return header(kind=tarfile.FIFOTYPE) + END


@hostile("UnsafeImage", "member '0.vhd' of the archive is not a regular file")
def directory_with_data(scene):
    return patch_header(member("0.vhd", scene.good_disk()), 156, b"5") + END


@hostile("InvalidImage", "the image has no VHD")
def gnu_dump_directory(scene):
    return header(kind=b"D") + END


@hostile("UnsafeImage", "member '0.vhd' of the archive is not a regular file")
def gnu_multi_volume(scene):
    return header(kind=b"M") + END


@hostile("UnsafeImage", "is not a regular file")
def gnu_long_link_target(scene):
    return member("././@LongLink", b"/" * 200 + b"\0", kind=b"K") + header(kind=tarfile.SYMTYPE) + END


@hostile("InvalidImage", "the archive has a member without a proper size", is_for_old_python=True)
def gnu_sparse_member(scene):
    return member("0.vhd", scene.good_disk(), kind=tarfile.GNUTYPE_SPARSE) + END


@hostile("StorageError", "MiB free, this needs ")
def pax_sparse_member_of_one_tib(scene):
    return pax("0.vhd", b"0\n" + bytes(510), GNU__sparse__major="1", GNU__sparse__minor="0",
               GNU__sparse__realsize=str(1 << 40)) + END


# Names

@hostile("UnsafeImage", "a member named '/0.vhd'", is_for_old_python=True)
def absolute_name(scene):
    return member("/0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "a member named '../../../../tmp/0.vhd'")
def name_of_dots(scene):
    return member("../../../../tmp/0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "a member named 'a/../../")
def dots_after_a_directory(scene):
    return member("a/../../%s" % scene.neighbour_name, scene.good_disk()) + END


@hostile("UnsafeImage", "a member named './/etc/0.vhd'")
def absolute_after_a_dot(scene):
    return member(".//etc/0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "a member named '../'")
def directory_named_dots(scene):
    return header("..", kind=tarfile.DIRTYPE) + END


@hostile("UnsafeImage", "a member named '../x/0.vhd'")
def dots_in_the_prefix(scene):
    data = patch_header(member("0.vhd", scene.good_disk()), 257, b"ustar\00000")
    return patch_header(data, 345, b"../x\0".ljust(155, b"\0")) + END


@hostile("InvalidImage", "VHD 'd/0.vhd' is not at the top of the archive")
def disk_in_a_directory(scene):
    return member("d/0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "a member named ''")
def no_name(scene):
    return patch_header(member("0", scene.good_disk()), 0, bytes(100)) + END


@hostile("UnsafeImage", "the archive has '0.vhd' twice", is_for_old_python=True)
def same_member_twice(scene):
    return member("0.vhd", scene.good_disk()) + member("0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "the archive has '0.vhd' twice")
def same_member_twice_in_other_words(scene):
    return member("0.vhd", scene.good_disk()) + member("././0.vhd", scene.good_disk()) + END


@hostile("InvalidImage", "the image has no VHD")
def names_of_our_own_staging(scene):
    return member("owner", b"x") + member("journal", b"1 %s\nend\n" % scene.neighbour_name.encode("ascii")) + END


@hostile("UnsafeImage", "the archive has a member named '/etc/cron.d/0.vhd'", is_for_old_python=True)
def pax_path(scene):
    return pax("0.vhd", scene.good_disk(), path="/etc/cron.d/0.vhd") + END


@harmless
def pax_path_of_another_disk(scene):
    return pax("0.vhd", scene.good_disk(), path=scene.neighbour_name) + END


@hostile("UnsafeImage", "changes names or sizes in a global header")
def pax_global_path(scene):
    return member("g", _pax_record("path", "../0.vhd"), kind=b"g") + member("0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "the archive has a member named '../../etc/cron.d/x'")
def gnu_long_name(scene):
    return member("././@LongLink", b"../../etc/cron.d/x\0", kind=b"L") + member("0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "a member named '%s" % ("d" * 97))
def gnu_long_name_with_dots(scene):
    name = b"d" * 97 + b"/../../../etc/0.vhd"
    return member("././@LongLink", name + b"\0", kind=b"L") + member(name[:100].decode("ascii"), scene.good_disk()) + END


# Sizes

@hostile("UnsafeImage", "bytes, more than a disk of 16777216 bytes needs", is_for_old_python=True)
def pax_size_far_beyond_the_disk(scene):
    return pax("0.vhd", scene.good_disk(), size=str(32 * GIB if scene.free_bytes > 40 * GIB else 2 * GIB)) + END


@hostile("InvalidImage", "pax size that is not a number")
def pax_size_below_zero(scene):
    return pax("0.vhd", scene.good_disk(), size="-512") + END


@hostile("InvalidImage", "pax size that is not a number")
def pax_size_of_a_thousand_digits(scene):
    return pax("0.vhd", scene.good_disk(), size="9" * 1000) + END


@hostile("InvalidImage", "damaged pax header")
def pax_record_longer_than_its_header(scene):
    return member("x", b"9999 path=x\n", kind=b"x") + member("0.vhd", scene.good_disk()) + END


@hostile("UnsafeImage", "bytes of extended header")
def pax_header_of_a_gibibyte(scene):
    return header("x", GIB, kind=b"x") + END


@hostile("InvalidImage", "a member without a proper size")
def size_below_zero(scene):
    return patch_header(member("0.vhd", scene.good_disk()), 124, b"\xff" * 12) + END


@hostile("InvalidImage", "a member without a proper size")
def size_of_two_to_the_eighty(scene):
    return patch_header(member("0.vhd", scene.good_disk()), 124, b"\x80\xff" + b"\xff" * 10) + END


@hostile("InvalidImage", "a member without a proper size")
def size_that_is_no_number(scene):
    return patch_header(member("0.vhd", scene.good_disk()), 124, b"0x7fffffff\0 ") + END


@hostile("UnsafeImage", "0.vhd: the file has 1099511627776 bytes, more than a disk of 16777216 bytes needs")
def one_tebibyte_announced(scene):
    return patch_header(member("0.vhd", scene.good_disk()), 124, b"\x80\0\0\0" + struct.pack(">Q", 1 << 40)) + END


@hostile("InvalidImage", "the archive is cut short", is_for_old_python=True)
def member_cut_short(scene):
    return member("0.vhd", scene.good_disk())[:-100000]


@harmless
def no_end(scene):
    return member("0.vhd", scene.good_disk())


@hostile("UnsafeImage", "the archive has more than 128 members", is_for_old_python=True)
def too_many_members(scene):
    return header("0.txt") * 70000 + END


@hostile("UnsafeImage", "the archive has more than 30 VHDs")
def thirty_one_disks(scene):
    return b"".join(member("%d.vhd" % number, scene.good_disk()) for number in range(31)) + END


@hostile("InvalidImage", "0.vhd, 1.vhd, it has 0.vhd, 2.vhd")
def gap_in_the_sequence(scene):
    return member("0.vhd", scene.good_disk()) + member("2.vhd", scene.good_disk()) + END


# Two readings of one file

@hostile("InvalidImage", "the archive is damaged: member 2 has a wrong checksum")
def checksum_of_the_second_header(scene):
    wrong = bytearray(member("1.vhd", scene.good_disk()))
    wrong[0] ^= 1
    return member("0.vhd", scene.good_disk()) + bytes(wrong) + END


@hostile("InvalidImage", "0.vhd: 0 bytes are too few for a VHD")
def checksum_by_signed_bytes(scene):
    """Old tars summed signed characters, so a name beyond ASCII has two checksums."""
    data = header("0.vhd\0\xff".encode("latin-1").decode("latin-1"))
    data = data[:20] + b"\xff" + data[21:]
    signed = sum(struct.unpack("148b", data[:148])) + 8 * 0x20 + sum(struct.unpack("356b", data[156:]))
    return data[:148] + b"%06o\0 " % signed + data[156:] + END


@hostile("InvalidImage", "other data after its end", is_for_old_python=True)
def second_archive_after_the_end(scene):
    return member("0.vhd", scene.good_disk()) + END + member("0.vhd", scene.good_disk()) + END


@hostile("InvalidImage", "a member after its end")
def member_after_half_an_end(scene):
    return member("0.vhd", scene.good_disk()) + bytes(512) + member("1.vhd", scene.good_disk()) + END


@hostile("InvalidImage", "other data after its end")
def second_archive_in_a_second_gzip_member(scene):
    archive = member("0.vhd", scene.good_disk()) + END
    return gzip.compress(archive, 1) + gzip.compress(archive, 1)


@hostile("InvalidImage", "other data after the end of its gzip data", is_for_old_python=True)
def plain_archive_after_the_gzip_member(scene):
    archive = member("0.vhd", scene.good_disk()) + END
    return gzip.compress(archive, 1) + archive


@hostile("InvalidImage", "the gzip data of the image is damaged")
def gzip_checksum_of_other_data(scene):
    packed = bytearray(gzip.compress(member("0.vhd", scene.good_disk()) + END, 1))
    packed[-8] ^= 1
    return bytes(packed)


@hostile("InvalidImage", "the gzip data of the image is cut short")
def gzip_cut_short(scene):
    return gzip.compress(member("0.vhd", scene.good_disk()) + END, 1)[:-6]


# Bombs

@hostile("InvalidImage", "the image is compressed with gzip once more")
def nested_gzip(scene):
    data = bytes(1 << 26)
    for _ in range(3):
        data = gzip.compress(data, 9)
    return data


@hostile("StorageError", "MiB free, this needs ", is_for_old_python=True)
def bomb_of_zeros_for_a_disk(scene):
    """Any bytes can begin a fixed disk."""
    return zeros_bomb(header("0.vhd", scene.free_bytes + GIB), 24 * GIB)


@hostile("UnsafeImage", "0.vhd: a disk of 4398046510592 bytes; a VHD here has at most ")
def bomb_of_zeros_for_a_disk_beyond_the_limit(scene):
    return zeros_bomb(header("0.vhd", 4 << 40), 24 * GIB)


@hostile("InvalidImage", "0.vhd: no VHD: neither the first nor the last sector is an intact footer")
def zeros_for_a_disk(scene):
    return gzip.compress(header("0.vhd", GIB // 2) + bytes(GIB // 2) + END, 1)


@hostile("StorageError", "MiB free, this needs ", is_for_old_python=True)
def bomb_for_a_second_look(scene):
    """The copy of the footer is damaged: nothing tells the length of the disk before the end."""
    disk = b"x" + scene.good_disk()[1:]
    return zeros_bomb(header("0.vhd", scene.free_bytes + GIB) + disk + bytes(-len(disk) % 512), 24 * GIB)


@hostile("UnsafeImage", "0.vhd: the file has ")
def bomb_behind_a_good_beginning(scene):
    disk = scene.good_disk()
    return zeros_bomb(header("0.vhd", scene.free_bytes // 2) + disk + bytes(-len(disk) % 512), 24 * GIB)


@hostile("InvalidImage", "files that are no VHDs", is_for_old_python=True)
def bomb_beside_the_disk(scene):
    return zeros_bomb(patch_header(header("readme.txt"), 124, b"\x80\0\0\0" + struct.pack(">Q", 1 << 40)), 24 * GIB)


@hostile("InvalidImage", "bytes in files that are no VHDs")
def bomb_as_a_swap_disk(scene):
    return zeros_bomb(header("swap.vhd", 24 * GIB), 24 * GIB)


@hostile("InvalidImage", "zeros after its end")
def bomb_after_the_end(scene):
    return zeros_bomb(member("0.vhd", scene.good_disk()) + END, 24 * GIB)


@hostile("InvalidImage", "the image is empty")
def empty_gzip_members(scene):
    return gzip.compress(b"") * 20000


@hostile("InvalidImage", "the image is empty")
def nothing(scene):
    return b""


@hostile("InvalidImage", "the image is compressed with xz")
def other_compression(scene):
    import lzma
    return lzma.compress(member("0.vhd", scene.good_disk()[:4096]) + END)


@hostile("InvalidImage", "the image is no tar archive of VHDs, and as a VHD it is damaged")
def python_pickle(scene):
    return b"cos\nsystem\n(S'touch /tmp/x'\ntR." + bytes(1024)


def pack(disks):
    """The archive of a chain, leaf first."""
    target = io.BytesIO()
    for number, disk in enumerate(disks):
        target.write(member("%d.vhd" % number, disk))
    return target.getvalue() + END
