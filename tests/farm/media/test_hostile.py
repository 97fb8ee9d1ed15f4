"""What a file says of itself, and what it is called, never decides whether it is read, and is shown without harm."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from farm.media.clips import MediaError, probe, read_frames
from tests.farm.media.clips import ffmpeg, grey_clip

MARK = "Montblanc"
LATIN_1 = "Montr\u00e9al".encode("latin-1") + b"\xff"


@pytest.mark.parametrize("name", ["tagged.mp4", "tagged.mov", "tagged.mkv", "tagged.webm"])
@pytest.mark.parametrize("where", ["-metadata", "-metadata:s:v"])
def test_a_clip_with_a_tag_in_latin_1_is_read_as_one_without(tmp_path, name, where):
    codec = ("-c:v", "libvpx") if name.endswith("webm") else ("-c", "copy")
    plain, tagged = grey_clip(tmp_path / "plain.mp4", 4), tmp_path / name
    tag = "handler_name" if where.endswith("v") and name[-3:] in ("mp4", "mov") else "title"
    ffmpeg("-i", plain, *codec, where, f"{tag}={MARK}", tagged)
    data = tagged.read_bytes()
    assert MARK.encode() in data and len(LATIN_1) == len(MARK)
    tagged.write_bytes(data.replace(MARK.encode(), LATIN_1))
    assert probe(tagged).frames == 4
    assert np.abs(read_frames(tagged, 64, 48, 30).astype(int) - read_frames(plain, 64, 48, 30)).max() <= 6


def test_chapters_with_titles_in_latin_1_are_no_hindrance(tmp_path):
    plain, chapters, tagged = grey_clip(tmp_path / "plain.mp4", 4), tmp_path / "chapters", tmp_path / "a.mkv"
    chapters.write_text(f";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=50\ntitle={MARK}\n")
    ffmpeg("-i", plain, "-i", chapters, "-map_metadata", "1", "-c", "copy", tagged)
    data = tagged.read_bytes()
    assert MARK.encode() in data
    tagged.write_bytes(data.replace(MARK.encode(), LATIN_1))
    assert probe(tagged).frames == 4


@pytest.mark.parametrize(
    "name",
    [
        "\x1b]0;owned\x07.mp4",
        "two\nlines.mp4",
        "gpj.\u202e4pm",
        b"caf\xe9.mp4".decode(errors="surrogateescape"),
        "[red]x[bold].mp4",
        "x" * 250 + ".mp4",
    ],
)
def test_a_file_with_any_name_is_read_and_a_broken_one_named_in_one_printable_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(grey_clip(tmp_path / "whole.mp4", 3).read_bytes())
    assert probe(path).frames == 3
    path.write_bytes(b"no media")
    with pytest.raises(MediaError) as refusal:
        probe(path)
    said = str(refusal.value)
    assert said.isprintable() and len(said) < 1000 and "accepted" in said
    said.encode()


@pytest.mark.parametrize("name", ["x" * 4000 + ".mp4", "a\0b.mp4"])
def test_a_name_that_no_file_can_have_is_refused_in_one_short_line(tmp_path, name):
    with pytest.raises(MediaError) as refusal:
        probe(tmp_path / name)
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 1000


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"\0" * 100)) + _chunk(b"IEND", b"")


def _gif(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0xF0, 0, 0) + bytes(6)
    image = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + screen + image + b";"


def _tiff(width: int, height: int) -> bytes:
    tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 200),
        (277, 1),
        (278, height),
        (279, 100),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(400)


def _y4m(width: int, height: int) -> bytes:
    return f"YUV4MPEG2 W{width} H{height} F25:1\nFRAME\n".encode() + bytes(1000)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", _png(100_000, 100_000)),
        ("b.png", _png(12_000, 11_000)),
        ("a.gif", _gif(65_535, 65_535)),
        ("a.tif", _tiff(100_000, 100_000)),
        ("a.y4m", _y4m(100_000, 100_000)),
    ],
)
def test_a_header_that_claims_a_huge_picture_is_refused(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(MediaError, match=name):
        probe(path)


def test_a_text_chunk_that_unpacks_to_a_gigabyte_is_refused_by_its_file(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("RGB", (8, 8)).save(path)
    data = path.read_bytes()
    bomb = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\x1b" * (PngImagePlugin.MAX_TEXT_CHUNK * 8)))
    path.write_bytes(data[:33] + bomb + data[33:])
    with pytest.raises(MediaError, match=r"bomb\.png: .*accepted"):
        probe(path)


def test_a_broken_exif_block_is_no_traceback(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(
        path, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x07\0\xff\xff\xff\x7f" * 9
    )
    try:
        assert probe(path).width == 8
    except MediaError as refusal:
        assert "a.jpg" in str(refusal)
