"""Tell people what the farm's media reader ignores in a clip or image.

Each text names one ignored part, such as "its subtitles are dropped". There are texts only about losses that may
surprise people, so there are few for an ordinary clip from a phone or camera. Callers put the name of the file before
each text, as in "clip 2: its subtitles are dropped".

Pure: no I/O.
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
"""Bits a channel of a frame that the reader returns."""


@dataclass(frozen=True)
class ClipTraits:
    """What the container and the frames of a clip say about the clip.

    Attributes:
        transfer: The code of the clip's transfer curve (ITU-T H.273); 2: unspecified.
        primaries: The code of the clip's gamut (ITU-T H.273); 2: unspecified.
        bits: Bits a channel.
        timecode: The start timecode; empty: none.
        videos: The number of video tracks.
        subtitles: The number of subtitle tracks.
        captions: Whether the frames carry closed captions.
        chapters: The number of chapters.
        transparent: Whether any part of a frame is transparent.
        unread_alpha: Whether the clip has transparent parts that the decoder doesn't return (VP8 and VP9 in WebM).
        interlaced: Whether the clip is interlaced.
        stereo: Whether the clip is stereoscopic (3D).
        spherical: Whether the clip is a 360° picture.
        dolby_vision: Whether the clip carries Dolby Vision.
        sizes: The different sizes of the frames, as width and height in pixels, in the order in which they first occur.
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
    """What the file of an image says about the image.

    Attributes:
        profile: The name of the image's colour profile; empty if the profile's colours are the same as sRGB's.
        coded: The codes of the image's gamut and transfer curve (ITU-T H.273); None if the file doesn't state them.
        gamma: The image's gamma; 0 if the gamma is close to that of sRGB.
        inks: Whether the image is in CMYK.
        bits: Bits a channel.
        pictures: The number of pictures in the file.
        transparent: Whether any part is transparent.
    """

    profile: str = ""
    coded: tuple[int, int] | None = None
    gamma: float = 0.0
    inks: bool = False
    bits: int = 8
    pictures: int = 1
    transparent: bool = False


def ignored_in_clip(clip: ClipTraits) -> tuple[str, ...]:
    """Return a text such as "its subtitles are dropped" for each part of a clip that the media reader ignores."""
    said = _colours(clip.primaries, clip.transfer)
    if clip.dolby_vision and clip.transfer == 2:
        said.append("its Dolby Vision is not followed: its colours may be wrong")
    said += _depth(clip.bits, clip.transfer)
    if clip.transparent:
        said.append(_OVER_BLACK)
    if clip.unread_alpha:
        said.append("its transparency is dropped: transparent parts show the colour that is stored below")
    if clip.interlaced:
        said.append(
            "it is interlaced, and its two fields are read as one frame: moving edges may look combed"
        )
    if clip.stereo:
        said.append("it is stereoscopic (3D), but is read as one flat picture")
    if clip.spherical:
        said.append("it is a 360° picture, but is read as a flat picture")
    if len(clip.sizes) > 1:
        sizes = ", ".join(f"{width}x{height}" for width, height in clip.sizes[:4])
        said.append(f"its frames change their size ({sizes}), and each is scaled by itself")
    if clip.videos > 1:
        said.append(f"one of its {clip.videos} video tracks is read; the others are dropped")
    if clip.timecode:
        said.append(f"its start timecode {clip.timecode} is dropped")
    if clip.subtitles or clip.captions:
        said.append("its subtitles are dropped")
    if clip.chapters:
        said.append(f"its {clip.chapters} chapter{'s are' if clip.chapters > 1 else ' is'} dropped")
    return tuple(said)


def ignored_in_image(image: ImageTraits) -> tuple[str, ...]:
    """Return a text for each part of an image that the media reader ignores.

    A text is, for example, "its gamma of 1.00 is not followed".
    """
    primaries, transfer = image.coded or (2, 2)
    said = _colours(primaries, transfer)
    if image.inks:
        said.append("it is CMYK, and is converted to RGB without a profile: its colours may differ")
    elif image.profile:
        said.append(f"its colours are in {image.profile}, but are read as sRGB: they may differ")
    elif image.gamma:
        said.append(f"its gamma of {image.gamma:.2f} is not followed: its brightness may be wrong")
    said += _depth(image.bits, transfer)
    if image.transparent:
        said.append(_OVER_BLACK)
    if image.pictures > 1:
        said.append(f"the first of its {image.pictures} pictures is read; the others are dropped")
    return tuple(said)


def _colours(primaries: int, transfer: int) -> list[str]:
    """Return at most one note about colours and brightness; high dynamic range comes first."""
    if transfer in _HDR:
        return [f"its high dynamic range ({_HDR[transfer]}) is not tone-mapped: it looks paler than it is"]
    if transfer in _CURVES:
        return [f"its brightness is coded by {_CURVES[transfer]}, but is read as ordinary video"]
    if primaries in _GAMUTS:
        return [f"its colours are in {_GAMUTS[primaries]}, but are read as BT.709: they look paler"]
    return []


def _depth(bits: int, transfer: int) -> list[str]:
    rounded = bits > DIGITS and transfer not in _HDR
    return [f"its {bits} bits a channel are rounded to {DIGITS}"] if rounded else []


_OVER_BLACK = "its transparent parts are shown over black"
