"""Recognises file formats that the farm's media reader can't read, or would misread. Pure.

An error message can then name the format. Without this check, the reader would also mistake some formats for others: a
phone's HEIC looks like a MOV, and a camera's raw image looks like a TIFF.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = 4096
"""Bytes at the beginning of a file that `kind_of` looks at."""

TAIL = 26
"""Bytes at the end of a file that `kind_of` looks at."""

MOVING_WEBP = "an animated WebP image"
"""The name that `kind_of` gives to an animated WebP. Pillow can open the first picture of such a file."""

_ANIMATED = "an animated"

_BRANDS = {
    "avif": "an AVIF image",
    "avis": "an animated AVIF image",
    "heic": "a HEIC image, as phones write it",
    "heix": "a HEIC image, as phones and cameras write it",
    "heim": "a HEIC image, as phones write it",
    "heis": "a HEIC image, as phones write it",
    "hevc": "an animated HEIC image",
    "hevx": "an animated HEIC image",
    "hevm": "an animated HEIC image",
    "hevs": "an animated HEIC image",
    "jpeg": "a HEIF image",
    "jpgs": "an animated HEIF image",
    "vvic": "a HEIF image",
    "mif1": "a HEIF image",
    "mif2": "a HEIF image",
    "msf1": "an animated HEIF image",
    "crx ": "a camera's raw image (CR3)",
}
"""Brands of files in the ISO base media format that hold an image, not a clip (ISO/IEC 23008-12, annex B; mp4ra.org)."""

_GENERAL = ("mif1", "mif2", "msf1")
"""Brands that don't say how the image is coded; another brand of the file does."""

_HEADS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL \r\n\x87\n", "a JPEG XL image"),
    (4, b"jP  \r\n\x87\n", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"SDPX", "a DPX image"),
    (0, b"XPDS", "a DPX image"),
    (0, b"\x80\x2a\x5f\xd7", "a Cineon image"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP document"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"#?RGBE", "a Radiance HDR image"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw image (RAF)"),
    (0, b"FOVb", "a camera's raw image (X3F)"),
    (0, b"\0MRM", "a camera's raw image (MRW)"),
    (0, b"IIRO", "a camera's raw image (ORF)"),
    (0, b"IIRS", "a camera's raw image (ORF)"),
    (0, b"MMOR", "a camera's raw image (ORF)"),
    (0, b"IIU\0", "a camera's raw image (RW2)"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (6, b"HEAPCCDR", "a camera's raw image (CRW)"),
    (0, b"ARRI\x12\x34\x56\x78", "a camera's raw image (ARI)"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"qoif", "a QOI image"),
)
"""Offset, the bytes there, and the kind of file that has them, from the specification of the format or its maker."""

_ANYMAP = re.compile(rb"P(?:[1-7]|[Ff])\s+(?:#[^\n]*\n|[0-9W])")
_SVG = re.compile(rb"\s*(?:<\?xml|<!--|<!DOCTYPE)?[^\0]{0,2000}?<svg[\s>]", re.IGNORECASE)
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SAMPLE_FORMAT = 258, 259, 262, 277, 284, 339
SUBFILE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706
TIFF_TAGS = (
    *(BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _SAMPLE_FORMAT),
    *(SUBFILE, _SUB_IFDS, _DNG_VERSION),
)
"""Tags of a TIFF's picture that describe its layout."""

REDUCED, MASK = 1, 4
"""Bits of the tag `SUBFILE`: a smaller copy of another picture, and a mask for one."""

_UNCOMPRESSED, _OLD_JPEG, _JPEG = 1, 6, 7
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_WHITE_IS_ZERO, _YCBCR = 0, 6
_LAB = (8, 9, 10)
_SENSOR = (32803, 34892)
_LOG_LUV = (32844, 32845)


def kind_of(head: bytes, tail: bytes = b"") -> str | None:
    """Recognise a file of a kind that the farm's media reader can't read.

    Args:
        head: The file's first `HEAD` bytes.
        tail: The file's last `TAIL` bytes.

    Returns:
        The name of the kind, such as "a HEIC image". None if no such kind is recognised. The file may then be
        readable.
    """
    if head[4:8] == b"ftyp":
        return _boxes(head)
    for at, mark, name in _HEADS:
        # Motion JPEG 2000 is a clip, but begins like a JPEG 2000 image.
        if head.startswith(mark, at) and head[16:24] != b"ftypmjp2":
            return name
    if head.startswith(_TIFF_HEADS) and head[8:10] == b"CR":
        return "a camera's raw image (CR2)"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and head[12:16] == b"VP8X" and head[20:21]:
        # Bit 1 of the flags (RFC 9649, section 2.7.1).
        return MOVING_WEBP if head[20] & 2 else None
    if _ANYMAP.match(head):
        return "a PNM or PFM image"
    if _SVG.match(head):
        return "an SVG drawing"
    if tail.endswith(b"TRUEVISION-XFILE.\0"):
        return "a TGA image"
    return None


def way_out(kind: str) -> str:
    """Return advice on how to convert a file, such as "export it as a clip".

    `kind`: what `kind_of` or `unread_tiff` returned for the file.
    """
    if kind.startswith(_ANIMATED):
        return "export it as a clip"
    return "export it as a PNG, a JPEG, or a TIFF with whole numbers of 8 or 16 bits"


def _boxes(head: bytes) -> str | None:
    """Return the kind of a file in the ISO base media format if it is an image; None if it is a clip."""
    size = int.from_bytes(head[:4])
    brands = [head[at : at + 4].decode("latin-1") for at in (8, *range(16, min(size, len(head)) - 3, 4))]
    if brands[0] not in _BRANDS:
        # The first brand is a clip's; an image brand may follow. Without an index (moov) the file is no clip.
        following = head[size + 4 : size + 8]
        if following != b"meta" or not set(brands) & _BRANDS.keys():
            return None
    known = [brand for brand in brands if brand in _BRANDS]
    return _BRANDS[next((brand for brand in known if brand not in _GENERAL), known[0])]


def is_tiff(head: bytes) -> bool:
    """Return whether a file begins as a TIFF does, BigTIFF included."""
    return head.startswith(_TIFF_HEADS)


def unread_tiff(tags: Mapping[int, Any]) -> str | None:
    """Recognise a TIFF that the farm's media reader would misread.

    The reader uses Pillow. There are kinds of TIFF that Pillow 13 can't read, or that it turns into a black, white,
    scrambled or negative picture.

    Args:
        tags: The tags of the file's first picture (TIFF 6.0). Their values are numbers, or sequences of numbers.

    Returns:
        The name of the kind, such as "a TIFF in CIE Lab"; None if the reader reads the file correctly.
    """
    photometric = _first(tags, _PHOTOMETRIC, _WHITE_IS_ZERO)
    samples = int(_first(tags, _SAMPLES, 1))
    bits = _all(tags, BITS, 1)
    formats = set(_all(tags, _SAMPLE_FORMAT, _UNSIGNED)) or {_UNSIGNED}
    compression = _first(tags, _COMPRESSION, _UNCOMPRESSED)
    most = max(bits)
    if _DNG_VERSION in tags:
        return "a camera's raw image (DNG)"
    if photometric in _SENSOR or (_first(tags, SUBFILE, 0) & REDUCED and _SUB_IFDS in tags):
        # The first picture of a raw file is a preview; the sensor's own lies below it.
        return "a camera's raw image"
    if formats & {_FLOAT}:
        return f"a TIFF of {most}-bit float numbers"
    if formats & {_SIGNED}:
        return f"a TIFF of {most}-bit signed numbers"
    if formats - {_UNSIGNED}:
        return "a TIFF of numbers without a known meaning"
    if most > 16 or len(set(bits)) > 1 or most not in (1, 2, 4, 8, 16):
        return f"a TIFF of {'+'.join(map(str, bits)) if len(set(bits)) > 1 else most}-bit numbers"
    if photometric in _LAB:
        return "a TIFF in CIE Lab"
    if photometric in _LOG_LUV:
        return "a TIFF in LogLuv"
    if photometric == _YCBCR and compression not in (_OLD_JPEG, _JPEG):
        return "a TIFF in YCbCr"
    if photometric == _WHITE_IS_ZERO and most == 16:
        return "a TIFF of 16 bits in which 0 is white"
    if samples == 2 and most == 16:
        return "a TIFF of 16-bit grey with a second channel"
    if _first(tags, _PLANAR, 1) == 2 and samples > 1 and most == 16 and compression == _UNCOMPRESSED:
        return "a TIFF of 16 bits with one plane a channel"
    return None


def as_many(value: Any) -> tuple[Any, ...]:
    """Return the value of a TIFF tag as a tuple. A single value becomes a tuple of one."""
    return tuple(value) if isinstance(value, Sequence) else (value,)


def _all(tags: Mapping[int, Any], tag: int, otherwise: int) -> tuple[int, ...]:
    return as_many(tags.get(tag, otherwise)) or (otherwise,)


def _first(tags: Mapping[int, Any], tag: int, otherwise: int) -> int:
    return _all(tags, tag, otherwise)[0]
