"""TIFF files as programs of all kinds write them, made tag by tag: Pillow writes few of those that it reads."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

SHORT, LONG = 3, 4
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, INKS, YCBCR, LAB, MOSAIC, LINEAR_RAW = 0, 1, 2, 5, 6, 8, 32803, 34892
_FORMATS = {"u": UNSIGNED, "i": SIGNED, "f": FLOAT}

BITS, PHOTOMETRIC, SAMPLE_FORMAT, SUBFILE, SUB_IFDS, DNG_VERSION = 258, 262, 339, 254, 330, 50706


def write_tiff(
    path: Path, pixels: np.ndarray, planar: bool = False, packed: bool = False, **tags: int | list[int]
) -> Path:
    """Write `pixels` [height, width] or [height, width, samples] as they are, one strip (or one a plane).

    `packed`: deflated. `tags` are named t258, t262 and so on, and come on top of those that follow from the pixels.
    """
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    planes = [pixels[..., k] for k in range(samples)] if planar else [pixels]
    strips = [np.ascontiguousarray(plane).tobytes() for plane in planes]
    strips = [zlib.compress(strip) if packed else strip for strip in strips]
    offsets = [8 + sum(map(len, strips[:k])) for k in range(len(strips))]
    found = {
        256: width,
        257: height,
        BITS: [pixels.dtype.itemsize * 8] * samples,
        259: 8 if packed else 1,
        PHOTOMETRIC: BLACK_IS_ZERO if samples < 3 else RGB,
        273: offsets,
        277: samples,
        278: height,
        279: [len(strip) for strip in strips],
        284: 2 if planar else 1,
        SAMPLE_FORMAT: [_FORMATS[pixels.dtype.kind]] * samples,
    } | {int(name[1:]): value for name, value in tags.items()}
    data = b"".join(strips)
    at = 8 + len(data)
    rows, beyond = [], b""
    room = at + 2 + 12 * len(found) + 4
    for tag, value in sorted(found.items()):
        values = value if isinstance(value, list) else [value]
        kind = LONG if tag in (273, 279, SUB_IFDS) else SHORT
        written = struct.pack(f"<{len(values)}{'HI'[kind - SHORT]}", *values)
        if len(written) > 4:
            place = struct.pack("<I", room + len(beyond))
            beyond += written + b"\0" * (len(written) % 2)
        else:
            place = written.ljust(4, b"\0")
        rows.append(struct.pack("<HHI", tag, kind, len(values)) + place)
    table = struct.pack("<H", len(rows)) + b"".join(rows) + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", at) + data + table + beyond)
    return path
