"""Reads prompt files: tables of prompts and their times, in YAML or CSV.

A YAML file is a list of rows. A CSV file has a header and then rows. Each row has the field `text` and one field for
the time: `frame`, `seconds` or `timecode`. The first row may have no time; its prompt then begins at the first frame.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from farm.outside_text import shown, storable
from farm.spec import MAX_PROMPT, MAX_PROMPTS, InvalidSpec, checked_frame_rate
from farm.strict_yaml import Strict
from farm.timecode import frame_of, frame_of_number, frame_of_seconds

_TIMES = ("frame", "seconds", "timecode")
_COLUMNS = (*_TIMES, "text")
_MOST_BYTES = 4 << 20
_DELIMITERS = (",", ";", "\t")


class _Wrong(ValueError):
    """A problem of a file or a row. The message doesn't name the file; the caller adds the name."""


def read_prompts(path: Path | str, *, fps: float, frames: int) -> dict[str, Any]:
    """Read a prompt file, and return the fields `prompt` and `later_prompts` of a job's spec.

    Args:
        path: A .yaml, .yml or .csv file in UTF-8.
        fps: Frames a second of the video, for rows that give seconds or timecode.
        frames: The number of frames of the video. Every row's prompt must begin within these frames.

    Raises:
        InvalidSpec: The file is refused. The message names the file and the row (YAML) or line (CSV), counted from 1.
    """
    rate = checked_frame_rate(fps)
    path = Path(path)
    name = shown(path.name)
    kind = {".yaml": _yaml_rows, ".yml": _yaml_rows, ".csv": _csv_rows}.get(path.suffix.lower())
    if kind is None:
        raise InvalidSpec("prompts", f"the name of the file {name} must end in .yaml, .yml or .csv")
    timed: list[tuple[int, str]] = []
    try:
        for place, row in kind(_text_of(path)):
            try:
                frame, text = _prompt(row, first=not timed, rate=rate)
                _check(frame, timed, frames)
            except ValueError as error:
                raise _Wrong(f"{place}: {error}") from None
            timed.append((frame, text))
        if not timed:
            raise _Wrong(
                'the file has no rows; give each prompt a row with "text" and one of "frame", "seconds" and "timecode"'
            )
    except ValueError as error:
        raise InvalidSpec("prompts", f"{name}: {error}") from None
    first = timed.pop(0)[1] if timed[0][0] == 0 else ""
    return {"prompt": first, "later_prompts": [{"frame": frame, "text": text} for frame, text in timed]}


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _Wrong(f"the file can't be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise _Wrong(f"the file must be at most {_MOST_BYTES >> 20} MiB")
    try:
        # Spreadsheets put a byte order mark before UTF-8.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Wrong(
            f"the file must be UTF-8, but byte {error.start + 1} isn't valid; save the file as UTF-8"
        ) from None


class _Loader(Strict, yaml.BaseLoader):
    """A YAML loader that keeps every value as the text in the file.

    YAML 1.1 would turn the text 16:9 into 969, and the prompt "no" into False. YAML would also drop, without a word, the
    first of two values for the same key and the end of a text such as "take #3". This loader refuses both.
    """


def _yaml_rows(text: str) -> Iterator[tuple[str, Any]]:
    """Yield each row of a YAML file with its place."""
    try:
        rows = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise _Wrong(
            f"{place}the file is not valid YAML: {shown(problem or error)}{_advice(problem)}"
        ) from None
    except RecursionError:
        raise _Wrong("the file is nested too deeply; it must be a list of rows") from None
    if not rows:
        return
    if not isinstance(rows, list):
        raise _Wrong(
            "the file must be a list of rows; for example, write '- frame: 240' and, on the next line, "
            "'  text: the river freezes'"
        )
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _advice(problem: str | None) -> str:
    """Return what to do about a problem that YAML's own words don't explain: a text such as 2001: A space odyssey."""
    if problem == "mapping values are not allowed here":
        return '; put quotes around a text that contains a colon and a space, as in `text: "2001: a space station"`'
    return ""


def _csv_rows(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row of a CSV file with its place. Empty rows are left out."""
    # A spreadsheet may leave empty rows above the header, with or without separators.
    header = next((line for line in text.splitlines() if line.strip(' ,;\t"')), "")
    delimiter = next((one for one in _DELIMITERS if one in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    before = 0
    try:
        for cells in reader:
            # A cell in quotes may have several lines.
            place, before = f"line {before + 1}", reader.line_num
            filled = [cell.strip() for cell in cells if cell.strip()]
            if not filled:
                continue
            if filled[0].startswith("#") and (len(filled) == 1 or not columns):
                raise _Wrong(
                    f"{place}: the line begins with '#', but CSV has no comments; remove the line, or use a YAML file"
                )
            if not columns:
                columns = [cell.strip().lower() for cell in cells]
                _check_header(columns)
            elif len(cells) > len(columns):
                yield place, {_TOO_MANY: len(cells) - len(columns)}
            else:
                yield place, {column: cell for column, cell in zip(columns, cells) if cell.strip()}
    except csv.Error as error:
        raise _Wrong(f"line {reader.line_num}: the file is not valid CSV: {error}") from None


_TOO_MANY = "more cells than columns"


def _check_header(columns: list[str]) -> None:
    unknown = [shown(column, 60) for column in columns if column not in _COLUMNS]
    if unknown or "text" not in columns or len(set(columns)) < len(columns):
        found = ", ".join(shown(column, 60) for column in columns)
        raise _Wrong(
            'the first line must name the column "text", and may name "frame", "seconds" and "timecode"; '
            f"no name may come twice; got {found}"
        )


def _prompt(row: Any, *, first: bool, rate: Fraction) -> tuple[int, str]:
    """Return the frame and the text of a row. Raises ValueError."""
    if not isinstance(row, Mapping):
        raise _Wrong(
            'the row must have "text" and one of "frame", "seconds" and "timecode"; '
            "for example, 'frame: 240' and 'text: the river freezes'"
        )
    if _TOO_MANY in row:
        raise _Wrong(
            "the row has more cells than the header; if a text contains the separator, put quotes around the text"
        )
    unknown = [key for key in row if key not in _COLUMNS]
    if unknown:
        # Between braces a comma ends a text.
        advice = "" if row[unknown[0]] else "; put quotes around a text that contains a comma"
        raise _Wrong(
            f"each key of the row must be one of {', '.join(_COLUMNS)}; got {shown(unknown[0], 60)!r}{advice}"
        )
    for key, value in row.items():
        if not isinstance(value, str):
            raise _Wrong(f"{key}: must be one value, not a list or a mapping")
    text = row.get("text", "").strip()
    try:
        check_text(text)
    except ValueError as error:
        raise _Wrong(f"text: {error}") from None
    times = {key: row[key].strip() for key in _TIMES if row.get(key, "").strip()}
    if not times and first:
        return 0, text
    if len(times) != 1:
        got = " and ".join(times) or "none"
        raise _Wrong(f'the row must have exactly one of "frame", "seconds" and "timecode", got {got}')
    ((key, value),) = times.items()
    try:
        return _frame(key, value, rate), text
    except ValueError as error:
        raise _Wrong(f"{key}: {error}") from None


def _frame(key: str, value: str, rate: Fraction) -> int:
    value = shown(value, 60)
    if key == "timecode":
        return frame_of(value, rate)
    return frame_of_number(value) if key == "frame" else frame_of_seconds(value, rate)


def check_text(text: str) -> None:
    """Raise ValueError if `text` can't be a timed prompt: it is empty, too long or not UTF-8, or contains NUL."""
    if not text.strip():
        raise ValueError("must not be empty; write what the video shows")
    if len(text) > MAX_PROMPT:
        raise ValueError(f"must be at most {MAX_PROMPT} characters, got {len(text)}")
    if storable(text) != text:
        raise ValueError("must not contain NUL characters or bytes that aren't UTF-8")


def check_within(frame: int, frames: int) -> None:
    """Raise ValueError if a prompt at `frame` would begin after the end of a video of `frames` frames."""
    if frame >= frames:
        raise ValueError(
            f"the prompt begins at frame {frame}, but the video has only {frames} frames (the first is frame 0)"
        )


def _check(frame: int, before: list[tuple[int, str]], frames: int) -> None:
    if len(before) > MAX_PROMPTS:
        raise _Wrong(f"a video can have at most {MAX_PROMPTS + 1} prompts; remove this row")
    check_within(frame, frames)
    if before and frame <= before[-1][0]:
        raise _Wrong(
            f"the prompt begins at frame {frame}, but the prompt of the previous row begins at frame {before[-1][0]}; "
            "each prompt must begin after the previous prompt"
        )
