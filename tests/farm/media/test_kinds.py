"""Files that were read as something else than they show are refused by the name of what they are, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm.media.clips import MediaError, probe, read_frames
from farm.media.file_kinds import kind_of
from farm.media.reader import MediaReader
from tests.farm.media import tiffs
from tests.farm.media.clips import HEIC, ffmpeg, noise_clip, quadrants
from tests.farm.media.tiffs import write_tiff

RAMP = np.repeat(np.linspace(0, 1, 64)[None], 8, 0)
COLOURS = np.stack([RAMP, RAMP[:, ::-1], RAMP * 0.5], -1)
SHOWN = np.rint(RAMP[0] * 255)


def refusal(path: Path) -> str:
    with pytest.raises(MediaError) as refused:
        probe(path)
    with pytest.raises(MediaError) as again:
        read_frames(path, 64, 48, 30)
    assert str(again.value) == str(refused.value)
    said = str(refused.value)
    assert (
        said.startswith(f"{path}: is a") and "; accepted: a clip (MP4" in said and "; export it as a" in said
    )
    return said


@pytest.mark.parametrize("name", ["photo.heic", "photo.jpg", "photo.mov", "photo"])
def test_a_phone_image_is_refused_by_its_kind_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(HEIC.read_bytes())
    assert "is a HEIC image, as phones write it" in refusal(path)


def test_the_process_that_looks_at_media_for_the_farm_refuses_it_alike(tmp_path):
    reader = MediaReader(tmp_path)
    with pytest.raises(MediaError, match="photo.heic: is a HEIC image"):
        reader.probe(HEIC)
    reader.close()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.avif", "an AVIF image"), ("b.jp2", "a JPEG 2000 image"), ("c.j2k", "a JPEG 2000 image"),
     ("d.tga", "a TGA image"), ("e.ppm", "a PNM or PFM image"), ("f.pdf", "a PDF document"), ("g.eps", "a PostScript document"),
     ("h.qoi", "a QOI image"), ("i.dds", "a DDS texture")],
)  # fmt: skip
def test_images_of_other_formats_are_refused_by_name(tmp_path, name, kind):
    Image.fromarray(quadrants()).save(tmp_path / name)
    path = (tmp_path / name).rename(tmp_path / "picture.png")
    assert f"is {kind};" in refusal(path)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.exr", "an OpenEXR image"), ("b.dpx", "a DPX image"), ("c.hdr", "a Radiance HDR image"),
                       ("d.pfm", "a PNM or PFM image"), ("e.jxl", "a JPEG XL image")],
)  # fmt: skip
def test_images_of_compositing_are_refused_by_name(tmp_path, name, kind):
    Image.fromarray(quadrants()).save(tmp_path / "given.png")
    pixels = {".exr": "gbrpf32le", ".hdr": "gbrpf32le", ".pfm": "gbrpf32le"}.get(Path(name).suffix, "rgb24")
    ffmpeg("-i", tmp_path / "given.png", "-pix_fmt", pixels, tmp_path / name)
    assert f"is {kind};" in refusal(tmp_path / name)


@pytest.mark.parametrize(("name", "kind"), [("a.avif", "AVIF"), ("b.webp", "WebP")])
def test_animated_images_that_are_not_read_are_told_to_be_exported_as_a_clip(tmp_path, name, kind):
    still = Image.fromarray(quadrants())
    still.save(tmp_path / name, save_all=True, append_images=[still.rotate(180)])
    said = refusal(tmp_path / name)
    assert f"is an animated {kind} image" in said and said.endswith("export it as a clip")


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw image (CR3)"),
     (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "an AVIF image"),
     (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "a HEIC image, as phones write it"),
     (b"\0\0\0\x14ftypmif1\0\0\0\0mif1", "a HEIF image"),
     (b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc", "an animated HEIC image"),
     (b"\0\0\0\x18ftypmp42\0\0\0\0mp42heic\0\0\0\x20meta", "a HEIC image, as phones write it"),
     (b"II*\0\x10\0\0\0CR\x02\0", "a camera's raw image (CR2)"),
     (b"FUJIFILMCCD-RAW 0201", "a camera's raw image (RAF)"), (b"IIU\0\x18\0\0\0", "a camera's raw image (RW2)"),
     (b"IIRO\x08\0\0\0", "a camera's raw image (ORF)"), (b"8BPS\0\1", "a Photoshop document"),
     (b'<?xml version="1.0"?>\n<svg xmlns="x">', "an SVG drawing"), (b"<svg width='1'>", "an SVG drawing"),
     (b"\xff\x0a\xfa", "a JPEG XL image"), (b"\x80\x2a\x5f\xd7", "a Cineon image")],
)  # fmt: skip
def test_a_kind_is_told_by_the_first_bytes(head, kind):
    assert kind_of(head) == kind


@pytest.mark.parametrize(
    "head",
    [b"\0\0\0\x18ftypmp42\0\0\0\0mp42heic\0\0\0\x20moov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", b"\0\0\1\0moov",
     b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypmjp2", b"", b"\0", b"\0\0\0\x08ftyp", b"RIFF", b"RIFF\0\0\0\0WEBPVP8X"],
)  # fmt: skip
def test_clips_and_stumps_are_taken_for_none_of_these(head):
    assert kind_of(head) is None


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi", "ts", "mxf", "gif"])
def test_clips_are_still_read(tmp_path, ending):
    path = tmp_path / f"clip.{ending}"
    ffmpeg(
        "-i",
        noise_clip(tmp_path / "given.mp4", 6),
        "-pix_fmt",
        "rgb8" if ending == "gif" else "yuv420p",
        path,
    )
    assert probe(path).frames == 6 and probe(path).kind == "video"


SCALES = {"u1": 255, "u2": 65535, "u4": 2**32 - 1, "i1": 127, "i2": 32767, "i4": 2**31 - 1}


def scaled(pixels: np.ndarray, numbers: str) -> np.ndarray:
    return np.asarray(pixels * SCALES.get(numbers, 1)).astype(f"<{numbers}")


@pytest.mark.parametrize("pixels", [RAMP, COLOURS], ids=["grey", "rgb"])
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "deflate"])
@pytest.mark.parametrize(
    ("numbers", "kind"),
    [("f2", "16-bit float"), ("f4", "32-bit float"), ("f8", "64-bit float"), ("i1", "8-bit signed"),
     ("i2", "16-bit signed"), ("i4", "32-bit signed"), ("u4", "32-bit")],
)  # fmt: skip
def test_a_tiff_of_other_numbers_than_8_or_16_bits_is_refused_by_them(
    tmp_path, numbers, kind, packed, pixels
):
    path = write_tiff(tmp_path / "ramp.tif", scaled(pixels, numbers), packed=packed)
    assert f"is a TIFF of {kind} numbers;" in refusal(path)


@pytest.mark.parametrize(
    ("pixels", "numbers", "tags", "kind"),
    [(COLOURS, "u1", {"t262": tiffs.LAB}, "a TIFF in CIE Lab"),
     (COLOURS, "u1", {"t262": tiffs.YCBCR}, "a TIFF in YCbCr"),
     (COLOURS, "u1", {"t262": tiffs.YCBCR, "t530": [2, 2]}, "a TIFF in YCbCr"),
     (RAMP, "u2", {"t262": 32844}, "a TIFF in LogLuv"),
     (RAMP, "u2", {"t262": tiffs.WHITE_IS_ZERO}, "a TIFF of 16 bits in which 0 is white"),
     (COLOURS, "u2", {"planar": True}, "a TIFF of 16 bits with one plane a channel"),
     (COLOURS[..., :2], "u2", {"t338": 2}, "a TIFF of 16-bit grey with a second channel"),
     (RAMP, "u2", {"t262": tiffs.MOSAIC}, "a camera's raw image"),
     (COLOURS, "u2", {"t262": tiffs.LINEAR_RAW}, "a camera's raw image"),
     (COLOURS, "u1", {"t254": 1, "t330": 8}, "a camera's raw image"),
     (COLOURS, "u1", {"t50706": [1, 4]}, "a camera's raw image (DNG)"),
     (RAMP, "u1", {"t339": 4}, "a TIFF of numbers without a known meaning"),
     (RAMP[:, :48], "u2", {"t258": 12}, "a TIFF of 12-bit numbers"),
     (RAMP, "u1", {"t259": 34712}, "a TIFF of an unknown kind")],
)  # fmt: skip
def test_a_tiff_whose_layout_was_misread_is_refused_by_it(tmp_path, pixels, numbers, tags, kind):
    assert f"is {kind};" in refusal(write_tiff(tmp_path / "ramp.tif", scaled(pixels, numbers), **tags))


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "deflate"])
@pytest.mark.parametrize("numbers", ["u1", "u2"])
@pytest.mark.parametrize(
    ("pixels", "tags"),
    [(RAMP, {}), (COLOURS, {}), (np.dstack([COLOURS, np.ones_like(RAMP)]), {"t338": 2}),
     (np.dstack([COLOURS, np.ones_like(RAMP)]), {"t338": 0})],
    ids=["grey", "rgb", "alpha", "spare"],
)  # fmt: skip
def test_a_tiff_of_8_or_16_bits_is_read_as_it_shows(tmp_path, pixels, tags, numbers, packed):
    path = write_tiff(tmp_path / "ramp.tif", scaled(pixels, numbers), packed=packed, **tags)
    row = read_frames(path, 64, 8, 30)[0, 4].astype(int)
    right = np.rint(255 * (pixels[4, :, :3] if pixels.ndim == 3 else np.stack([RAMP[4]] * 3, -1)))
    assert np.abs(row - right).max() <= 1


def test_16_bit_planes_are_read_where_they_are_packed(tmp_path):
    path = write_tiff(tmp_path / "ramp.tif", scaled(COLOURS, "u2"), planar=True, packed=True)
    assert np.abs(read_frames(path, 64, 8, 30)[0, 4] - np.rint(255 * COLOURS[4])).max() <= 1


@pytest.mark.parametrize(
    ("numbers", "tags"),
    [("u1", {"t262": tiffs.WHITE_IS_ZERO}), ("u1", {"planar": True})],
    ids=["white is zero", "planes"],
)
def test_layouts_of_8_bits_are_read(tmp_path, numbers, tags):
    pixels = COLOURS if "planar" in tags else 1 - RAMP
    path = write_tiff(tmp_path / "ramp.tif", scaled(pixels, numbers), **tags)
    assert np.abs(read_frames(path, 64, 8, 30)[0, 4, :, 0] - SHOWN).max() <= 1


def test_grey_with_alpha_that_is_multiplied_in_is_read(tmp_path):
    pixels = np.dstack([RAMP, np.ones_like(RAMP)])
    path = write_tiff(tmp_path / "ramp.tif", scaled(pixels, "u1"), t338=1)
    assert np.abs(read_frames(path, 64, 8, 30)[0, 4, :, 0] - SHOWN).max() <= 1


def test_a_16_bit_png_is_read_with_what_it_calls_transparent_black(tmp_path):
    grey = Image.fromarray(np.where(RAMP > 0.5, 65535, 30000).astype(np.uint16))
    grey.save(tmp_path / "grey.png")
    assert set(np.unique(read_frames(tmp_path / "grey.png", 64, 8, 30))) == {30000 >> 8, 255}
    grey.save(tmp_path / "clear.png", transparency=65535)
    assert set(np.unique(read_frames(tmp_path / "clear.png", 64, 8, 30))) == {30000 >> 8, 0}
