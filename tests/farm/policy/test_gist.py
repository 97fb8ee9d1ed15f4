"""What of an error's text is shown in one line: real tracebacks, and texts of other programs."""

from __future__ import annotations

import traceback
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.outside_text import shown
from farm.policy.gist import failure, gist


class OutputError(RuntimeError):
    pass


def raising(error: BaseException, cause: BaseException | None = None) -> str:
    """The traceback of an error that is raised three calls deep."""

    def deep(left: int) -> NoReturn:
        if left:
            deep(left - 1)
        raise error from cause

    try:
        deep(3)
    except BaseException:  # noqa: BLE001 - a SystemExit too
        return traceback.format_exc()


def _with_note(error: Exception) -> Exception:
    error.add_note("while window/3 was refined")
    error.add_note("Traceback is in the log")
    return error


CUDA = "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`\n\nframe #0: c10::Error\nframe #1: clone"
STATE = 'Error(s) in loading state_dict for LTX:\n\tMissing key(s) in state_dict: "x".'


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("bad latents"), "RuntimeError: bad latents"),
        (RuntimeError(CUDA), "RuntimeError: CUDA error: device-side assert triggered"),
        (RuntimeError(STATE), 'RuntimeError: Error(s) in loading state_dict for LTX: Missing key(s) in state_dict: "x".'),
        (RuntimeError("\nlate words"), "RuntimeError: late words"),
        (OutputError("ffmpeg failed with status 1: No such filter\nConversion failed!"), "OutputError: ffmpeg failed with status 1: No such filter"),
        (OSError(28, "No space left on device", "/srv/x"), "OSError: [Errno 28] No space left on device: '/srv/x'"),
        (KeyError("model"), "KeyError: 'model'"),
        (SystemExit(3), "SystemExit: 3"),
        (_with_note(ValueError("bad")), "ValueError: bad"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("after", ["", "\n\n", " \n"])
def test_of_a_traceback_it_is_what_the_exception_says(error, line, after):
    assert gist(raising(error) + after) == line


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError(""), NotImplementedError()])
def test_an_exception_without_a_text_is_told_with_its_place(error):
    assert gist(raising(error)).startswith(f"{type(error).__name__} at test_gist.py line ")


def test_of_chained_exceptions_it_is_the_last():
    assert gist(raising(OutputError("no ffmpeg"), KeyError("x"))) == "OutputError: no ffmpeg"
    try:
        try:
            raise ValueError("first")
        except ValueError:
            raise RuntimeError("second")  # noqa: B904 - this is the chain
    except RuntimeError:
        assert gist(traceback.format_exc()) == "RuntimeError: second"


def test_of_a_group_it_is_one_of_its_exceptions():
    group = ExceptionGroup("two tiles", [ValueError("tile 1"), OSError("tile 2")])
    assert gist(raising(group)) in (
        "ValueError: tile 1",
        "OSError: tile 2",
        "ExceptionGroup: two tiles (2 sub-exceptions)",
    )


def test_of_an_error_of_syntax_it_is_not_the_line_of_code():
    try:
        compile("a b", "x.py", "exec")
    except SyntaxError:
        assert gist(traceback.format_exc()).startswith("SyntaxError: invalid syntax")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "no reason given"),
        (" \n\n", "no reason given"),
        ("no step for 1800 s", "no step for 1800 s"),
        ("Fatal Python error: Aborted\n\nThread 0x1:\n  in f", "Fatal Python error: Aborted"),
        ("Traceback\nValueError: bad", "ValueError: bad"),
        ("ray::Renderer() (pid=1)\n  File \"a/b.py\", line 3, in f\nModuleNotFoundError: No module named 'x'",
         "ModuleNotFoundError: No module named 'x'"),
        ("this machine's disk: [Errno 28] full\n" + raising(OutputError("ffmpeg failed")), "this machine's disk: [Errno 28] full"),
        ("cut before its end\nTraceback (most recent call last):", "cut before its end"),
        ("Traceback (most recent call last):\n  File \"x.py\", line 3, in f", "no reason given"),
    ],
)  # fmt: skip
def test_of_another_text_it_is_the_first_line(text, line):
    assert gist(text) == line


@given(st.text(max_size=400), st.text(max_size=400))
def test_whatever_an_error_is_it_is_told_in_one_short_line(before, after):
    for text in (
        before + after,
        f"{before}\nTraceback (most recent call last):\n{after}",
        raising(RuntimeError(before)),
    ):
        line = gist(text)
        assert (
            line
            and len(line) <= 300 + len(text) * ("\n" not in text)
            and line == shown(line, 9999)
            and "\n" not in line
        )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("window/3 failed 3 times, on a/cuda:0 and b/cuda:0; the last was attempt 01JD:\n" + raising(RuntimeError("bad")),
         "window/3 failed 3 times, on a/cuda:0 and b/cuda:0: RuntimeError: bad; its log: `farmctl task logs J/window/3`"),
        ("mux failed:\n" + raising(OutputError("truncated")), "mux failed: OutputError: truncated; its log: `farmctl task logs J/mux`"),
        ("encode crashed its renderer 3 times, on a/d0; the last was attempt 01JD:\nrenderer of d0 (process 7) died",
         "encode crashed its renderer 3 times, on a/d0: renderer of d0 (process 7) died; its log: `farmctl task logs J/encode`"),
        (raising(RuntimeError("bad")), "RuntimeError: bad"),
        ("2 of its tasks were cancelled and not retried since", "2 of its tasks were cancelled and not retried since"),
    ],
)  # fmt: skip
def test_why_a_job_failed_names_the_task_the_places_the_error_and_the_log(error, line):
    assert failure(error, "J") == line
    assert failure(error) == line.partition("; its log")[0]
