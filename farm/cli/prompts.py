"""Prompts as farmctl is told them, and how it shows which frames of a video show which."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from farm.client import InvalidSpec
from farm.outside_text import shown
from farm.prompt_files import read_prompts
from farm.v1 import jobs_pb2

_FROM_FRAME = re.compile(r"\s*(\d{1,9})\s*:(?!\d)\s*(.*)", re.ASCII | re.DOTALL)

_ANOTHER_TIME = re.compile(r"\s*[-+]?\d[\d.,:;]*\s*(f|frames?|s|sec|seconds?)?\s*:|\s*\d+:\d", re.IGNORECASE)
"""A prompt that begins so may be meant to begin at a timecode or a second, or may speak of 10:30 or 16:9."""

_TEXT = 160
"""Characters that are shown of a prompt in a line about frames."""


def asked_prompts(prompts: tuple[str, ...], file: Path | None, fps: float, frames: int) -> dict[str, Any]:
    """The spec's prompts, from --prompt options or from a prompt file. Raises InvalidSpec, for both of them too."""
    if file is None:
        return _timeline(prompts)
    if prompts:
        raise InvalidSpec("prompts", "give either --prompts FILE or --prompt TEXT, not both")
    return read_prompts(file, fps=fps, frames=frames)


def _timeline(prompts: tuple[str, ...]) -> dict[str, Any]:
    """`TEXT` is shown from the first frame on, `FRAME: TEXT` from a later one.

    Raises InvalidSpec for a text that begins with another kind of time: guessing would shift it in silence.
    """
    timed = []
    for prompt in prompts:
        found = _FROM_FRAME.fullmatch(prompt)
        if not found and _ANOTHER_TIME.match(prompt):
            raise InvalidSpec(
                "prompt",
                f"must begin with a frame such as '240: it stops', got '{shown(prompt, 60)}'; seconds and timecode "
                "can be given in a --prompts file, and a text that begins with such a number needs its frame in front, "
                "such as '0: 16:9 footage of a ball'",
            )
        timed.append((int(found[1]), found[2]) if found else (0, prompt))
    timed.sort(key=lambda pair: pair[0])
    if sum(frame == 0 for frame, _ in timed) > 1:
        raise InvalidSpec(
            "prompt",
            "each but the first needs the frame at which it takes over, such as --prompt '240: it stops'",
        )
    first = timed.pop(0)[1] if timed and timed[0][0] == 0 else ""
    return {"prompt": first, "later_prompts": [{"frame": frame, "text": text} for frame, text in timed]}


def frame_lines(spans: Iterable[jobs_pb2.ShownPrompts]) -> list[str]:
    """A line for each run of frames: "frames 0-56: a ball rolls", "frames 57-88: fade to the next prompt".

    Empty where one prompt shows throughout.
    """
    spans = list(spans)
    if len(spans) < 2:
        return []
    return [f"frames {span.first_frame}-{span.last_frame}: {_words(span.prompts)}" for span in spans]


def _words(prompts: Iterable[str]) -> str:
    texts = [shown(text, _TEXT) or "(no prompt)" for text in prompts]
    return texts[0] if len(texts) == 1 else f"fade to: {texts[-1]}"
