"""What a clip or image carries and the reader drops is said, a sentence each; a usual clip has none."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from farm.media.clips import MediaError, probe
from farm.media.ignored import ClipTraits, ImageTraits, ignored_in_clip, ignored_in_image
from farm.media.reader import MediaReader
from tests.farm.media.clips import ffmpeg, grey_clip, quadrants
from tests.farm.media.tiffs import INKS, write_tiff

SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.2")
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


def tagged(primaries: int, transfer: int, matrix: int, codec: str = "h264") -> tuple[str, ...]:
    """Codes of ITU-T H.273, put into the stream as they are: ffmpeg won't code colours that it can't make."""
    codes = f"colour_primaries={primaries}:transfer_characteristics={transfer}:matrix_coefficients={matrix}"
    return ("-bsf:v", f"{codec}_metadata={codes}")


def clip(path: Path, *options: object) -> tuple[str, ...]:
    ffmpeg(*SOURCE, *options, path)
    return probe(path).ignored


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", H264), ("b.mov", (*H264, *tagged(1, 1, 1))),
     ("c.mp4", (*H264, *tagged(6, 6, 6))), ("d.webm", ("-c:v", "libvpx-vp9")),
     ("e.mkv", (*H264, "-map_metadata", -1)), ("h.mov", (*H264, "-timecode", "00:00:00:00")), ("f.gif", ()), ("g.avi", ("-c:v", "mpeg4"))],
)  # fmt: skip
def test_a_usual_clip_has_nothing_that_is_ignored(tmp_path, name, options):
    assert clip(tmp_path / name, *options) == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [((*H264, *tagged(9, 16, 9)), "its high dynamic range (PQ) is not tone-mapped"),
     ((*H264, *tagged(9, 18, 9)), "its high dynamic range (HLG) is not tone-mapped"),
     ((*H264, *tagged(9, 1, 9)), "its colours are in BT.2020, but are read as BT.709"),
     ((*H264, *tagged(12, 1, 1)), "its colours are in Display P3"),
     ((*H264, *tagged(1, 8, 1)), "its brightness is coded by a linear curve"),
     ((*H264, "-timecode", "01:00:05:06"), "its start timecode 01:00:05:06 is dropped"),
     ((*H264, "-r", "30000/1001", "-timecode", "01:00:00;02"), "its start timecode 01:00:00;02 is dropped"),
     (("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"), "its 10 bits a channel are rounded to 8"),
     ((*H264, "-flags", "+ilme+ildct", "-vf", "setfield=tff"), "it is interlaced, and its two fields are read as one")],
)  # fmt: skip
def test_what_a_clip_carries_besides_its_picture_is_said(tmp_path, options, said):
    (note,) = clip(tmp_path / "clip.mov", *options)
    assert said in note


@pytest.mark.parametrize("name", ["a.mov", "b.mxf", "c.mkv"])
def test_a_start_timecode_is_found_in_every_container_that_has_one(tmp_path, name):
    codec = ("-c:v", "mpeg2video") if name.endswith("mxf") else H264
    tag = ("-metadata", "timecode=10:00:00:00") if name.endswith("mkv") else ("-timecode", "10:00:00:00")
    assert clip(tmp_path / name, *codec, *tag) == ("its start timecode 10:00:00:00 is dropped",)


def test_a_high_dynamic_range_of_ten_bits_is_one_sentence(tmp_path):
    hdr = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none")
    (note,) = clip(tmp_path / "clip.mp4", *hdr, *tagged(9, 16, 9, "hevc"))
    assert "(PQ)" in note


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mov", ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")),
     ("c.mov", ("-c:v", "qtrle", "-pix_fmt", "argb")), ("d.gif", ())],
)  # fmt: skip
def test_only_a_clip_that_is_transparent_somewhere_is_said_to_be_shown_over_black(tmp_path, name, codec):
    said = "its transparent parts are shown over black"
    hole = "format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='if(lt(X,32),0,255)'"
    if name.endswith("gif"):
        hole += ",split[a][b];[a]palettegen[p];[b][p]paletteuse"
    assert said in clip(tmp_path / name, "-vf", hole, *codec)
    assert said not in clip(tmp_path / name, "-vf", "format=rgba", *codec)


def test_a_transparency_that_the_decoder_does_not_give_is_said_to_be_dropped(tmp_path):
    for codec in ("libvpx", "libvpx-vp9"):
        (note,) = clip(tmp_path / "clip.webm", "-vf", "format=yuva420p", "-c:v", codec, "-auto-alt-ref", 0)
        assert note.startswith("its transparency is dropped")


def test_further_tracks_subtitles_and_chapters_are_said(tmp_path):
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:00,100\nHello\n")
    (tmp_path / "parts.txt").write_text(";FFMETADATA1\n" + "[CHAPTER]\nTIMEBASE=1/10\nSTART=0\nEND=1\n" * 2)
    more = ("-i", tmp_path / "words.srt", "-i", tmp_path / "parts.txt", "-map_metadata", 2)
    said = clip(tmp_path / "clip.mkv", *more, "-map", 0, "-map", 0, "-map", 1, *H264)
    assert said == (
        "one of its 2 video tracks is read; the others are dropped",
        "its subtitles are dropped",
        "its 2 chapters are dropped",
    )


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_a_chapter_whose_title_is_in_latin_1_is_counted(tmp_path, name):
    (tmp_path / "parts.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/10\nSTART=0\nEND=1\ntitle=Anfang!\n"
    )
    options = ("-i", tmp_path / "parts.txt", "-map_metadata", 1, "-map", "0:v", *H264)
    assert "its 1 chapter is dropped" in clip(tmp_path / name, *options)
    path = tmp_path / name
    path.write_bytes(path.read_bytes().replace(b"Anfang!", b"Anf\xe4nge"))
    assert "its 1 chapter is dropped" in probe(path).ignored


def test_cover_art_is_no_further_video_track(tmp_path):
    Image.fromarray(quadrants()).save(tmp_path / "cover.png")
    art = (
        "-i",
        tmp_path / "cover.png",
        "-map",
        0,
        "-map",
        1,
        "-c:v:1",
        "png",
        "-disposition:v:1",
        "attached_pic",
    )
    assert clip(tmp_path / "clip.mp4", *art, "-c:v:0", "libx264", "-pix_fmt:v:0", "yuv420p") == ()


@pytest.mark.parametrize(
    ("traits", "said"),
    [({"stereo": True}, "stereoscopic"), ({"spherical": True}, "360°"), ({"captions": True}, "subtitles"),
     ({"dolby_vision": True}, "Dolby Vision"), ({"chapters": 1}, "its 1 chapter is dropped"),
     ({"sizes": ((64, 48), (32, 24))}, "(64x48, 32x24)")],
)  # fmt: skip
def test_what_no_encoder_here_writes_is_said_too(traits, said):
    (note,) = ignored_in_clip(replace(ClipTraits(), **traits))
    assert said in note


def test_dolby_vision_over_a_known_curve_is_said_by_the_curve_alone():
    assert len(ignored_in_clip(ClipTraits(transfer=18, dolby_vision=True, bits=10))) == 1
    assert ignored_in_clip(ClipTraits(transfer=1, dolby_vision=True)) == ()


@pytest.mark.parametrize(("matrix", "said"), [(8, "YCgCo"), (14, "ICtCp")])
def test_a_clip_whose_colours_would_be_misread_is_refused(tmp_path, matrix, said):
    path = tmp_path / "clip.mp4"
    ffmpeg("-i", grey_clip(tmp_path / "given.mp4", 3), *H264, *tagged(1, 1, matrix), path)
    with pytest.raises(
        MediaError, match=rf"clip.mp4: its colours are coded as {said}, .*; give a clip in YCbCr"
    ):
        probe(path)


def test_a_clip_of_float_numbers_is_refused(tmp_path):
    # FFV1 in Matroska keeps them; what a renderer of images gives.
    path = tmp_path / "clip.mkv"
    ffmpeg(*SOURCE, "-pix_fmt", "gbrpf32le", "-c:v", "ffv1", "-strict", "experimental", "-level", 4, path)
    with pytest.raises(MediaError, match="its colours are coded as float numbers"):
        probe(path)


def test_what_is_said_comes_out_of_the_process_that_looks_at_media(tmp_path):
    assert clip(tmp_path / "clip.mov", *H264, "-timecode", "01:00:05:06")
    reader = MediaReader(tmp_path)
    assert reader.probe(tmp_path / "clip.mov") == probe(tmp_path / "clip.mov")
    reader.close()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, *chunks: bytes) -> Path:
    """A PNG with chunks of its own behind its header."""
    Image.fromarray(quadrants()).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    return path


ADOBE = Path(__file__).parent / "adobe.png"
"""Its profile has the primaries of Adobe RGB."""

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.webp", "d.tif"])
def test_colours_of_another_profile_than_srgb_are_said_by_its_name(tmp_path, name):
    with Image.open(ADOBE) as still:
        still.save(tmp_path / name, icc_profile=still.info["icc_profile"])
    (note,) = probe(tmp_path / name).ignored
    assert note == "its colours are in Adobe-like RGB, but are read as sRGB: they may differ"


# Named, because a profile holds the time at which it was made: each test worker would collect another test.
@pytest.mark.parametrize("profile", [b"no profile", SRGB[:200]], ids=["of something else", "cut"])
def test_a_broken_profile_is_followed_by_nobody_and_not_said(tmp_path, profile):
    Image.fromarray(quadrants()).save(tmp_path / "still.png", icc_profile=profile)
    assert probe(tmp_path / "still.png").ignored == ()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_a_usual_image_has_nothing_that_is_ignored(tmp_path, mode):
    for name in ("a.png", "b.webp", "c.tif"):
        still = Image.fromarray(quadrants()).convert(mode)
        if name == "b.webp" and mode in ("P", "1"):
            continue
        still.save(tmp_path / name)
        assert probe(tmp_path / name).ignored == ()
    Image.fromarray(quadrants()).save(tmp_path / "d.jpg", icc_profile=SRGB)
    assert probe(tmp_path / "d.jpg").ignored == ()
    assert probe(png(tmp_path / "e.png", chunk(b"gAMA", struct.pack(">I", 45455)))).ignored == ()


@pytest.mark.parametrize(
    ("chunks", "said"),
    [([chunk(b"cICP", bytes([9, 16, 0, 1]))], "high dynamic range (PQ)"), ([chunk(b"cICP", bytes([12, 13, 0, 1]))], "Display P3"),
     ([chunk(b"gAMA", struct.pack(">I", 100_000))], "its gamma of 1.00 is not followed")],
)  # fmt: skip
def test_what_a_png_says_of_its_colours_is_said_where_it_is_not_followed(tmp_path, chunks, said):
    (note,) = probe(png(tmp_path / "still.png", *chunks)).ignored
    assert said in note


def test_an_image_says_what_else_it_has(tmp_path):
    clear = Image.fromarray(quadrants()).convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.arange(96, dtype=np.uint8), (64, 1))))
    clear.save(tmp_path / "clear.png")
    assert probe(tmp_path / "clear.png").ignored == ("its transparent parts are shown over black",)
    write_tiff(tmp_path / "deep.tif", np.full((8, 8, 3), 40_000, np.uint16))
    assert probe(tmp_path / "deep.tif").ignored == ("its 16 bits a channel are rounded to 8",)
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert probe(tmp_path / "deep.png").ignored == ("its 16 bits a channel are rounded to 8",)
    write_tiff(tmp_path / "inks.tif", np.zeros((8, 8, 4), np.uint8), t262=INKS)
    (note,) = probe(tmp_path / "inks.tif").ignored
    assert "it is CMYK" in note
    page = Image.fromarray(quadrants())
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page, page])
    assert probe(tmp_path / "pages.tif").ignored == (
        "the first of its 3 pictures is read; the others are dropped",
    )


def test_smaller_copies_of_a_tiff_are_no_further_pictures(tmp_path):
    page, small = Image.fromarray(quadrants()), Image.fromarray(quadrants(24, 16))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "copies.tif", save_all=True, append_images=[small])
    assert probe(tmp_path / "copies.tif").ignored == ()


def test_of_high_dynamic_range_neither_bits_nor_gamut_are_said():
    assert len(ignored_in_image(ImageTraits(coded=(9, 16), bits=16))) == 1
