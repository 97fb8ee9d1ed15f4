"""Shortens errors to one line for people. The log of the attempt still has the whole error.

Pure: no clock, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from farm.outside_text import shown

_HEADER = re.compile(r"Traceback( \(most recent call last\):)?")
_FRAME = re.compile(r'\s+File "(?:.*[\\/])?(?P<file>[^"]*)", line (?P<line>\d+)(?:, in (?P<name>.+))?')
_MARGIN = re.compile(r" *(?:[|+] ?)+(?=Exception Group Traceback|Traceback|\S+(?::|$)| +File )")
"""The margin that Python draws before the lines of an exception group."""
_PACKAGE = re.compile(r"(?:\w+\.)+(?=[A-Za-z_]\w*(?::|$))")
_CHAINED = ("The above exception was", "During handling of the above exception")
LAST_ATTEMPT = "; the last was attempt "
"""Words of a job's error, before the id of an attempt. `failure` finds the parts of the error by them."""

_OF_A_JOB = re.compile(
    rf"(?P<what>(?P<task>[a-z_]+(?:/[\w-]+)?) (?:failed|[^\n]+(?={LAST_ATTEMPT})))"
    rf"(?:{LAST_ATTEMPT}[^\s:]+)?:\n(?P<why>.+)",
    re.DOTALL,
)
"""The form of a job's error, as farm.store writes it."""


_LINE = 2000
"""Most characters that are shown of a text of a single line, which was written for people."""


def gist(text: str, otherwise: str = "no reason given") -> str:
    """Return one line that says what went wrong, taken from the text of an error.

    Args:
        text: The error, perhaps with a traceback.
        otherwise: What to return if `text` is empty.

    Returns:
        One of these lines:

        - If `text` has no traceback: the first line. If the first line ends in a colon, the second line follows.
        - If `text` has a traceback: the sentence that the farm wrote before the traceback.
        - If the farm wrote no such sentence: the last exception, without the name of the exception's package. If the
          exception has no message, the place where it was raised follows.
    """
    if "\n" not in text.strip():
        return shown(text.strip(), _LINE) or otherwise
    lines = [_MARGIN.sub("", line, count=1).rstrip() for line in text.splitlines()]
    headers = [index for index, line in enumerate(lines) if _HEADER.fullmatch(line)]
    frames = [(index, found) for index, line in enumerate(lines) if (found := _FRAME.fullmatch(line))]
    if not headers and not frames:
        return shown(_sentence(lines)) or otherwise
    before = lines[: headers[0]] if headers else []
    # An exception that was never raised has no traceback of its own.
    told = "" if any(line.startswith(_CHAINED) for line in before) else _sentence(before)
    if told and not told.endswith(":"):
        return shown(told)
    end = max(index for index in (*headers[-1:], *(index for index, _ in frames[-1:])))
    begins = next((index for index in range(end + 1, len(lines)) if lines[index][:1].strip()), None)
    if begins is None:
        return shown(_sentence(lines[end + 1 :]) or told or otherwise)
    said = _PACKAGE.sub("", _sentence(lines[begins:]), count=1)
    if frames and re.fullmatch(r"\w+:?", said):
        place = frames[-1][1]
        said = f"{said.rstrip(':')} at {place['file']} line {place['line']}"
    return shown(said)


def failure(error: str, job_id: str = "") -> str:
    """Return why a job failed, in one line.

    The line names the failed task, says how often and where the task failed, and ends with the task's last error in
    short.

    Args:
        error: The error that is stored for the job.
        job_id: The job's id. If it is given, the line also names the command that prints the log of the failed task.
    """
    found = _OF_A_JOB.fullmatch(error)
    if not found:
        return gist(error)
    log = f"; its log: `farmctl task logs {job_id}/{found['task']}`" if job_id else ""
    return f"{found['what']}: {gist(found['why'])}{log}"


def _sentence(lines: Sequence[str]) -> str:
    """Return the first line that isn't empty, and the next one too if the first ends in a colon."""
    full = [line.strip() for line in lines if line.strip()]
    return " ".join(full[: 2 if full[0].endswith(":") else 1]) if full else ""
