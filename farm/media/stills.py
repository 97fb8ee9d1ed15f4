"""Opens images as a viewer shows them: upright, in RGB, with transparent parts over black.

Images are read with Pillow. farm.media.file_kinds recognises the kinds of files that the farm can't read.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from farm.media.facts import ACCEPTED, MediaError
from farm.media.file_kinds import (
    BITS,
    HEAD,
    MASK,
    MOVING_WEBP,
    REDUCED,
    SUBFILE,
    TAIL,
    TIFF_TAGS,
    as_many,
    is_tiff,
    kind_of,
    unread_tiff,
    way_out,
)
from farm.media.ignored import ImageTraits
from farm.outside_text import shown

MAX_PIXELS = 16384 * 8192
"""Most pixels of a frame that is decoded: a larger frame, of twice 16K in area, means a broken or hostile file."""

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")

VISIBLE = 2
"""Levels of 255 by which a profile's colours must differ from sRGB's before a note mentions them."""

USUAL_GAMMA = (0.42, 0.49)
"""The range of gammas that need no note: that of sRGB, which PNG writes as 1/2.2, and a little to both sides."""


@dataclass(frozen=True)
class Still:
    """An upright image in RGB, and what its file states besides the picture, such as a colour profile."""

    image: Image.Image
    traits: ImageTraits


def check_size(path: Path, width: int, height: int) -> None:
    """Raise MediaError for a frame of more than MAX_PIXELS pixels."""
    if width * height > MAX_PIXELS:
        raise MediaError(
            f"{shown(path)}: the size {width}x{height} is too large; at most {MAX_PIXELS} pixels are accepted"
        )


def open_still(path: Path, *, as_stored: bool = False) -> Still | None:
    """Open the image in `path`; return None if the file holds no image.

    Args:
        path: The file.
        as_stored: If True, an animated PNG, WebP or GIF gives its first picture, and transparent parts keep the colours
            stored in the file. If False, animated PNGs and all GIFs count as no image, animated WebPs raise MediaError,
            and transparent parts become black.

    Raises:
        MediaError: The file can't be read, is empty, is a broken image, or is of a kind that Pillow would misread.
    """
    try:
        if not path.is_file():
            raise MediaError(f"{shown(path)}: {_no_file(path)}; {ACCEPTED}")
        size = path.stat().st_size
        if size == 0:
            raise MediaError(f"{shown(path)}: is empty (0 bytes); {ACCEPTED}")
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(max(0, size - TAIL))
            tail = file.read(TAIL)
        tags = _tiff_tags(path) if is_tiff(head) else {}
        unread = kind_of(head, tail) or (unread_tiff(tags) if tags else None)
        if unread and not (as_stored and unread == MOVING_WEBP):
            raise _unread(path, unread)
        image = Image.open(path, formats=(*IMAGE_FORMATS, "GIF") if as_stored else IMAGE_FORMATS)
    except UnidentifiedImageError:
        if is_tiff(head):
            raise _unread(path, "a TIFF of an unknown kind") from None
        return None
    except Image.DecompressionBombError as error:
        raise MediaError(f"{shown(path)}: the image is too large: {shown(error)}") from error
    except OSError as error:
        raise MediaError(f"{shown(path)}: can't be read: {shown(error.strerror or error)}") from error
    with image:
        if not as_stored and getattr(image, "is_animated", False) and image.format in ("PNG", "WEBP"):
            return None
        check_size(path, image.width, image.height)
        try:
            upright = ImageOps.exif_transpose(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise MediaError(
                f"{shown(path)}: is a truncated or broken {image.format} image: {shown(error)}"
            ) from error
        pictures = _pictures(image)
    profile, coded = upright.info.get("icc_profile"), _cicp(path) if image.format == "PNG" else None
    in_8_bits = _in_8_bits(upright)
    picture, transparent = (in_8_bits.convert("RGB"), False) if as_stored else _over_black(in_8_bits)
    traits = ImageTraits(
        profile=_other_colours(profile, upright) if profile and not coded else "",
        coded=coded,
        gamma=0.0 if profile or coded else _unusual_gamma(cast(Mapping[str, Any], upright.info)),
        inks=upright.mode == "CMYK",
        bits=head[24] if image.format == "PNG" else max(as_many(tags.get(BITS, 8))),
        pictures=pictures,
        transparent=transparent,
    )
    return Still(picture, traits)


def _no_file(path: Path) -> str:
    """Return what `path` is instead of a file. People often mean a folder or a pattern of numbered images as a clip."""
    numbered = "; numbered images aren't read as a clip, so make a clip of them first"
    if path.is_dir():
        return f"is a folder{numbered}"
    if path.exists():
        return "is not a file"
    return "does not exist" + (numbered if re.search(r"%\d*d|#|\*", path.name) else "")


def _unread(path: Path, kind: str) -> MediaError:
    return MediaError(f"{shown(path)}: is {kind}; {ACCEPTED}; {way_out(kind)}")


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, because Pillow would clip it at 255; return other images as they are."""
    if not image.mode.startswith("I"):
        return image.convert("LA") if image.mode == "La" else image
    values = np.asarray(image).clip(0, 65535)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))


def _over_black(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return the image in RGB over black, and whether any part of it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB"), False
    rgba = image.convert("RGBA")
    black = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return black.convert("RGB"), bool((np.asarray(rgba)[..., 3] < 255).any())


def _tiff_tags(path: Path) -> Mapping[int, Any]:
    """Return the tags of a TIFF's first picture; none if they can't be read, for Pillow then says why."""
    # A file is broken in more ways than can be listed.
    with contextlib.suppress(Exception), path.open("rb") as file:
        header = file.read(8)
        if 43 in header[2:4]:
            header += file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
        return {tag: tags[tag] for tag in TIFF_TAGS if tag in tags}
    return {}


def _pictures(image: Image.Image) -> int:
    """Return the number of pictures in a TIFF, without reduced copies and masks; 1 for any other image.

    The second picture of a phone's JPEG is only for the phone's gallery (a depth or gain map) and doesn't count.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    found = 1
    # Damage after the first picture doesn't matter.
    with contextlib.suppress(Exception):
        for number in range(1, image.n_frames):
            image.seek(number)
            found += not image.tag_v2.get(SUBFILE, 0) & (REDUCED | MASK)
    return found


def _cicp(path: Path) -> tuple[int, int] | None:
    """Return primaries and transfer of a PNG's cICP chunk (PNG 3rd edition, 11.3.2.6), which Pillow doesn't read."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
            if head[4:] == b"cICP":
                codes = file.read(2)
                return (codes[0], codes[1]) if len(codes) == 2 else None
            file.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
    return None


def _other_colours(profile: bytes, image: Image.Image) -> str:
    """Return the name of a colour profile if its colours differ visibly from sRGB's; empty if they don't.

    Colours are compared, not names: there are a dozen profiles of sRGB.
    """
    # Few images have a profile.
    from PIL import ImageCms

    mode = "L" if image.mode.startswith(("L", "I", "1")) else "RGB"
    levels = np.linspace(0, 255, 6).astype(np.uint8)
    numbers = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    given = Image.fromarray(numbers if mode == "RGB" else levels[None])
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        turn = ImageCms.buildTransform(
            own, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
        meant = np.asarray(ImageCms.applyTransform(given, turn), np.int16)
        name = ImageCms.getProfileDescription(own).strip()
    except (ImageCms.PyCMSError, OSError):
        # No viewer follows a broken profile, or a profile of inks.
        return ""
    apart = np.abs(meant - np.asarray(given.convert("RGB"), np.int16)).max()
    return (shown(name, 60) or "a profile without a name") if apart > VISIBLE else ""


def _unusual_gamma(info: Mapping[str, Any]) -> float:
    """Return the gamma of a PNG without other colour facts, if it is far from sRGB's; else 0."""
    gamma = info.get("gamma", 0.0)
    return gamma if gamma and "srgb" not in info and not USUAL_GAMMA[0] <= gamma <= USUAL_GAMMA[1] else 0.0
