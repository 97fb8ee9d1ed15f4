"""What a clip or an image carries that the reader drops or doesn't follow, in sentences for people.

Pure. A sentence is read after the name of the file ("clip 2: its sound is dropped"). Only what may surprise has one: a
usual clip of a phone or camera must not drown in them.
"""

from __future__ import annotations

from dataclasses import dataclass

_HDR = {16: "PQ", 18: "HLG"}
_CURVES = {
    8: "a linear curve",
    9: "a logarithmic curve",
    10: "a logarithmic curve",
    17: "the curve of cinema (DCI)",
}
_GAMUTS = {9: "BT.2020", 10: "CIE XYZ", 11: "DCI-P3", 12: "Display P3"}

DIGITS = 8
"""Bits a channel that a frame has from here on."""


@dataclass(frozen=True)
class ClipTraits:
    """What a clip's container and frames say. Codes are those of ITU-T H.273; those that say nothing are 2.

    `transfer`, `primaries`: of the curve and the gamut. `bits`: of a channel. `timecode`: at which it begins; empty:
    none. `videos`, `subtitles`, `chapters`: how many there are. `sizes`: of its frames, width and height in pixels, as
    they first come. `unread_alpha`: it has transparent parts that its decoder doesn't give (VP8 and VP9 in WebM).
    """

    transfer: int = 2
    primaries: int = 2
    bits: int = 8
    timecode: str = ""
    videos: int = 1
    subtitles: int = 0
    captions: bool = False
    chapters: int = 0
    transparent: bool = False
    unread_alpha: bool = False
    interlaced: bool = False
    stereo: bool = False
    spherical: bool = False
    dolby_vision: bool = False
    sizes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class ImageTraits:
    """What an image's file says.

    `profile`: the colour space of its numbers, where they mean other colours than sRGB's; empty: they don't.
    `coded`: primaries and transfer as of a clip, where it says them. `pictures`: in the file.
    """

    profile: str = ""
    coded: tuple[int, int] | None = None
    gamma: float = 0.0
    inks: bool = False
    bits: int = 8
    pictures: int = 1
    transparent: bool = False


def ignored_in_clip(clip: ClipTraits) -> tuple[str, ...]:
    """Say what of a clip is dropped or not followed."""
    said = _colours(clip.primaries, clip.transfer)
    if clip.dolby_vision and clip.transfer == 2:
        said.append("its Dolby Vision is not followed: its colours may be wrong")
    said += _depth(clip.bits, clip.transfer)
    if clip.transparent:
        said.append(_OVER_BLACK)
    if clip.unread_alpha:
        said.append("its transparency is dropped: transparent parts show whatever colour they have")
    if clip.interlaced:
        said.append(
            "it is interlaced, and its two fields are read as one frame: what moves may have combed edges"
        )
    if clip.stereo:
        said.append("it is stereoscopic (3D), and read as one flat picture")
    if clip.spherical:
        said.append("it is a 360° picture, and read as a flat one")
    if len(clip.sizes) > 1:
        sizes = ", ".join(f"{width}x{height}" for width, height in clip.sizes[:4])
        said.append(f"its frames change their size ({sizes}), and each is scaled by itself")
    if clip.videos > 1:
        said.append(f"one of its {clip.videos} video tracks is read, the others are dropped")
    if clip.timecode:
        said.append(f"its start timecode {clip.timecode} is dropped")
    if clip.subtitles or clip.captions:
        said.append("its subtitles are dropped")
    if clip.chapters:
        said.append(f"its {clip.chapters} chapter{'s are' if clip.chapters > 1 else ' is'} dropped")
    return tuple(said)


def ignored_in_image(image: ImageTraits) -> tuple[str, ...]:
    """Say what of an image is dropped or not followed."""
    primaries, transfer = image.coded or (2, 2)
    said = _colours(primaries, transfer)
    if image.inks:
        said.append("it is CMYK, and turned into RGB without a profile: its colours may differ")
    elif image.profile:
        said.append(f"its colours are those of {image.profile}, and are read as sRGB's: they may differ")
    elif image.gamma:
        said.append(f"its gamma of {image.gamma:.2f} is not followed: its brightness may be wrong")
    said += _depth(image.bits, transfer)
    if image.transparent:
        said.append(_OVER_BLACK)
    if image.pictures > 1:
        said.append(f"the first of its {image.pictures} pictures is read, the others are dropped")
    return tuple(said)


def _colours(primaries: int, transfer: int) -> list[str]:
    """Of a file with high dynamic range one sentence is enough."""
    if transfer in _HDR:
        return [f"its high dynamic range ({_HDR[transfer]}) is not tone-mapped: it looks paler than it is"]
    if transfer in _CURVES:
        return [f"its brightness is coded by {_CURVES[transfer]}, and read as if it were ordinary video"]
    if primaries in _GAMUTS:
        return [f"its colours are those of {_GAMUTS[primaries]}, and are read as BT.709's: they look paler"]
    return []


def _depth(bits: int, transfer: int) -> list[str]:
    rounded = bits > DIGITS and transfer not in _HDR
    return [f"its {bits} bits a channel are rounded to {DIGITS}"] if rounded else []


_OVER_BLACK = "its transparent parts are shown over black"
