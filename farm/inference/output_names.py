"""The names that Lightricks' `inference.py` gives its files."""

from __future__ import annotations

from pathlib import Path

from farm.spec import InvalidSpec

_MOST = 1_000
"""Files of one name that differ by their number alone."""

_LETTERS = 30
"""Most letters of the prompt."""


def words_of(prompt: str, most: int) -> str:
    """Return the prompt's first words in lower case, joined by hyphens.

    Only letters are kept. Words are added as long as the result has at most `most` letters, hyphens not counted.
    """
    letters = "".join(letter.lower() for letter in prompt if letter.isalpha() or letter.isspace())
    kept: list[str] = []
    for word in letters.split():
        if sum(map(len, kept)) + len(word) > most:
            break
        kept.append(word)
    return "-".join(kept)


def output_name(folder: Path, prompt: str, seed: int, size: tuple[int, int], frames: int) -> Path:
    """Return the path of a new file for the video: an MP4, or a PNG if the video has only one frame.

    `size`: the video's width and height in pixels.

    Raises:
        InvalidSpec: The folder already has a thousand files of this name.
    """
    width, height = size
    kind, ending = ("image", ".png") if frames == 1 else ("video", ".mp4")
    stem = f"{kind}_output_0_{words_of(prompt, _LETTERS)}_{seed}_{height}x{width}x{frames}"
    for number in range(_MOST):
        path = folder / f"{stem}_{number}{ending}"
        if not path.exists():
            return path
    raise InvalidSpec(
        "output_path",
        f"the folder {folder} already has {_MOST} files named {stem}_…{ending}; give another folder",
    )
