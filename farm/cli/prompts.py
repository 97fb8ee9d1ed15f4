"""The prompts of `farmctl submit`: how its options are read, and which frames show which prompt."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from farm.client import InvalidSpec
from farm.outside_text import shown
from farm.prompt_files import check_text, check_within, read_prompts
from farm.spec import checked_frame_rate
from farm.timecode import frame_at
from farm.v1 import jobs_pb2

_OLD_FORM = re.compile(r"\s*(\d{1,9})\s*:(?!\d)\s*(.*)", re.ASCII | re.DOTALL)
"""The form in which a --prompt named its first frame ("240: it stops") before --prompt-at existed."""

_TIME_BEFORE = re.compile(r"\s*(\S{1,20}?)\s*:\s+(.*)", re.DOTALL)
"""A prompt that may be meant to begin at a time that is no frame, such as "8s: it stops"."""

_TEXT = 160
"""Most characters of a prompt that a line about frames shows."""

_QUOTED = 60
"""Most characters of a prompt that an error or a note shows."""


@dataclass(frozen=True)
class AskedPrompts:
    """What a person asked for with the options --prompt, --prompt-at and --prompts.

    Attributes:
        fields: The fields `prompt` and `later_prompts` of the job's spec.
        notes: Sentences to show to the person. One may say, for example, that the first frames have no prompt.
    """

    fields: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Timed:
    """A prompt that takes over at `frame`. `time` is the text that the person gave for the frame, in the option `field`."""

    field: str
    time: str
    frame: int
    text: str


def asked_prompts(
    prompts: Sequence[str],
    prompts_at: Sequence[tuple[str, str]],
    file: Path | None,
    *,
    fps: float,
    frames: int,
) -> AskedPrompts:
    """Return the prompts that --prompt, --prompt-at and --prompts ask for.

    Args:
        prompts: Texts of --prompt. Each text after the first may begin with a frame number ("240: it stops"). In the
            first text, a number at the beginning is part of the prompt.
        prompts_at: Time and text of each --prompt-at, in any order.
        file: The prompt file of --prompts.
        fps: Frames a second of the video.
        frames: Frames of the video.

    Raises:
        InvalidSpec: An option's value isn't accepted, or two options can't be combined.
    """
    if file is not None:
        if prompts or prompts_at:
            raise InvalidSpec("prompts", "--prompts FILE can't be combined with --prompt or --prompt-at")
        return AskedPrompts(read_prompts(file, fps=fps, frames=frames))
    notes: list[str] = []
    timed: list[_Timed] = []
    if len(prompts) < 2 and not prompts_at:
        return AskedPrompts(
            {"prompt": prompts[0] if prompts else "", "later_prompts": []}, tuple(_about_first(prompts))
        )
    rate = checked_frame_rate(fps)
    if prompts:
        notes += _about_first(prompts)
        later = [_in_old_form(prompt) for prompt in prompts[1:]]
        notes += [
            f"prompt: '{shown(prompt, _QUOTED)}' is in an old form; farmctl starts this prompt at frame {one.time}. "
            f"Write {_option(one.time, one.text)} instead"
            for prompt, one in zip(prompts[1:], later, strict=True)
        ]
        timed += later
    for time, text in prompts_at:
        one = _at(time, text, rate)
        timed.append(one)
        notes += _about_rounding(one, rate)
    timed.sort(key=lambda one: one.frame)
    _check(timed, bool(prompts), frames)
    first = prompts[0] if prompts else timed.pop(0).text if timed and timed[0].frame == 0 else ""
    if timed and not prompts and not first:
        notes.append(f"prompt: frames 0 to {timed[0].frame - 1} have no prompt; give one with --prompt TEXT")
    later_prompts = [{"frame": one.frame, "text": one.text} for one in timed]
    return AskedPrompts({"prompt": first, "later_prompts": later_prompts}, tuple(notes))


def _option(time: str, text: str) -> str:
    return f"--prompt-at {shlex.quote(time)} {shlex.quote(shown(text, _QUOTED))}"


def _about_first(prompts: Sequence[str]) -> list[str]:
    """Return a note if the first --prompt looks like the old form "FRAME: TEXT", because it is used as plain text."""
    old = _OLD_FORM.fullmatch(prompts[0]) if prompts else None
    if not old or (int(old[1]) > 0 and len(prompts) == 1):
        return []
    said = shown(prompts[0], _QUOTED)
    meant = f"if {old[1]} is a frame, write {_option(old[1], old[2])}"
    return [f"prompt: the first --prompt is used as it is, '{said}'; {meant}"]


def _in_old_form(prompt: str) -> _Timed:
    """Read a later --prompt such as "240: it stops". Raises InvalidSpec for a prompt without a frame."""
    old = _OLD_FORM.fullmatch(prompt)
    if not old:
        time, text = _suggested(prompt)
        raise InvalidSpec(
            "prompt",
            f"--prompt is for the first prompt; to give the later prompt '{shown(prompt, _QUOTED)}', write "
            f"{_option(time, text)}"
            + ("" if time != "FRAME" else "; replace FRAME by the frame at which the later prompt begins"),
        )
    try:
        check_text(old[2])
    except ValueError as error:
        raise InvalidSpec("prompt", f"the text of the prompt at {old[1]} {error}") from None
    return _Timed("prompt", old[1], int(old[1]), old[2])


def _suggested(prompt: str) -> tuple[str, str]:
    """Return the time and the text that a --prompt without a frame may mean."""
    found = _TIME_BEFORE.fullmatch(prompt)
    try:
        # Any rate will do: the time is only recognised here.
        if found and frame_at(found[1], Fraction(30)) >= 0:
            return found[1], found[2]
    except ValueError:
        pass
    return "FRAME", prompt


def _at(time: str, text: str, rate: Fraction) -> _Timed:
    time = shown(time.strip(), _QUOTED)
    try:
        frame = frame_at(time, rate)
    except ValueError as error:
        raise InvalidSpec("prompt_at", f'{error}; write, for example, --prompt-at 240 "it stops"') from None
    try:
        check_text(text)
    except ValueError as error:
        raise InvalidSpec("prompt_at", f"the text of the prompt at {time} {error}") from None
    return _Timed("prompt_at", time, frame, text)


def _about_rounding(one: _Timed, rate: Fraction) -> list[str]:
    """Return a note if a time in seconds lies between two frames."""
    seconds = one.time.rstrip("s ")
    if one.time.endswith("s") and Fraction(seconds) * rate != one.frame:
        return [
            f"prompt_at: {one.time} lies between two frames at {float(rate):g} fps; frame {one.frame}, the nearest, is used"
        ]
    return []


def _check(timed: Sequence[_Timed], has_first: bool, frames: int) -> None:
    """Raise InvalidSpec for two prompts at the same frame and for one past the end. `timed` is in the order of frames."""
    for number, one in enumerate(timed):
        try:
            check_within(one.frame, frames)
        except ValueError as error:
            raise InvalidSpec(one.field, f"the time {one.time} is too late: {error}") from None
        if one.frame == 0 and has_first:
            raise InvalidSpec(
                one.field,
                f"the prompt at {one.time} and the first --prompt both begin at frame 0; give only one of them",
            )
        before = timed[number - 1] if number else None
        if before and before.frame == one.frame:
            same = one.time if one.time == before.time else f"{before.time} and {one.time}"
            raise InvalidSpec(
                one.field, f"two prompts begin at frame {one.frame} (given as {same}); give only one of them"
            )


def frame_lines(spans: Iterable[jobs_pb2.ShownPrompts]) -> list[str]:
    """Return lines that say which frames show which prompt, such as "frames 57-88: fade to: it stops".

    Args:
        spans: Runs of frames that show the same prompts, in order.

    Returns:
        A line for each run of frames. The list is empty if there is only one run, because then all frames show
        the same prompts.
    """
    spans = list(spans)
    if len(spans) < 2:
        return []
    return [f"frames {span.first_frame}-{span.last_frame}: {_words(span.prompts)}" for span in spans]


def _words(prompts: Iterable[str]) -> str:
    texts = [shown(text, _TEXT) or "(no prompt)" for text in prompts]
    return texts[0] if len(texts) == 1 else f"fade to: {texts[-1]}"
