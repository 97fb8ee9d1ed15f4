"""Prompts as --prompt and --prompt-at give them: no time is read wrong in silence, and no text for a time."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from farm.cli import main
from farm.cli.prompts import asked_prompts
from farm.spec import InvalidSpec


def asked(*prompts: str, at: tuple[tuple[str, str], ...] = (), fps: float = 30.0, frames: int = 500):
    return asked_prompts(prompts, at, None, fps=fps, frames=frames)


@pytest.mark.parametrize(
    "text",
    [
        "16:9 film look", "2001: A space odyssey", "9:41 am, a clock", "01:00:08:00: it stops", "8s: it stops",
        "-5: it stops", "1,000: it stops", "240: it stops", "3d: a ball", "a ball: 240: red", "",
    ],
)  # fmt: skip
def test_the_first_prompt_is_a_text_whatever_it_begins_with(text):
    found = asked(text)
    assert found.fields == {"prompt": text, "later_prompts": []} and not found.notes
    assert asked(text, at=(("9", "b"),)).fields["prompt"] == text


@pytest.mark.parametrize(
    ("first", "later"), [("0: a ball", ()), ("16: a ball", ("240: it stops",)), ("2001: a", ("16: b",))]
)
def test_a_first_prompt_that_may_be_in_the_old_form_is_a_text_and_a_note_says_so(first, later):
    found = asked(first, *later)
    frame, text = first.split(": ")
    assert found.fields["prompt"] == first
    assert f"if {frame} is a frame, write --prompt-at {frame} {text!r}".replace("'a'", "a") in found.notes[0]


@pytest.mark.parametrize(
    ("time", "fps", "frame"),
    [
        ("240", 30, 240), ("240f", 30, 240), (" 240 ", 30, 240), ("0240", 30, 240), ("8s", 30, 240), ("1.5s", 30, 45),
        ("8 s", 30, 240), ("00:00:08:00", 30, 240), ("0:0:8:5", 25, 205), ("00:01:00;02", 29.97, 1800),
        ("00:00:10:00", 23.976, 240),
    ],
)  # fmt: skip
def test_a_time_is_a_frame_seconds_or_timecode(time, fps, frame):
    found = asked("a ball rolls", at=((time, "it stops"),), fps=fps, frames=2000)
    assert found.fields == {"prompt": "a ball rolls", "later_prompts": [{"frame": frame, "text": "it stops"}]}
    assert not found.notes


def test_seconds_between_two_frames_are_the_nearest_and_a_note_says_so():
    found = asked("a", at=(("8s", "b"),), fps=29.97)
    assert found.fields["later_prompts"][0]["frame"] == 240
    assert found.notes == (
        "prompt_at: 8s lies between two frames at 29.97 fps; frame 240, the nearest, is used",
    )


def test_timed_prompts_are_put_in_order_and_one_at_the_start_is_the_first():
    found = asked(at=(("8s", "c"), ("0", "a"), ("00:00:02:00", "b")))
    assert found.fields == {
        "prompt": "a",
        "later_prompts": [{"frame": 60, "text": "b"}, {"frame": 240, "text": "c"}],
    }
    assert not found.notes


def test_frames_before_the_first_timed_prompt_have_none_and_a_note_says_so():
    found = asked(at=(("9", "a"),))
    assert found.fields == {"prompt": "", "later_prompts": [{"frame": 9, "text": "a"}]}
    assert found.notes == ("prompt: frames 0 to 8 have no prompt; give one with --prompt TEXT",)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ([("500", "b")], "the time 500 is too late: the prompt begins at frame 500, but the video has only 500 frames"),
        ([("17s", "b")], "the time 17s is too late: the prompt begins at frame 510, but the video has only"),
        ([("8s", "b"), ("240", "c")], r"two prompts begin at frame 240 \(given as 8s and 240\)"),
        ([("9", "b"), ("9", "c")], r"two prompts begin at frame 9 \(given as 9\)"),
        ([("0", "b")], "the prompt at 0 and the first --prompt both begin at frame 0"),
        ([("0.01s", "b")], "the prompt at 0.01s and the first --prompt both begin at frame 0"),
        ([("00:00:08:30", "b")], "must end in a frame from 00 to 29 at 30 fps, got '00:00:08:30'"),
        ([("00:00:08;00", "b")], r"drop-frame timecode \(with ';'\) can't be used at 30 fps"),
        *(([(time, "b")], r"must be a frame \(240 or 240f\), seconds .* or timecode .*, got '")
          for time in ("-5", "-1s", "2.5", "1,000", "16:9", "1m", "it stops", "", "9" * 50, "\u0662\u0664", "nans")),
        ([("9", " ")], "the text of the prompt at 9 must not be empty; write what the video shows"),
        ([("9", "x" * 4001)], "the text of the prompt at 9 must be at most 4000 characters"),
        ([("9", "a\0b")], "the text of the prompt at 9 must not contain NUL"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_timed_prompt_is_refused_by_its_time(at, message):
    with pytest.raises(InvalidSpec, match=f"^prompt_at: {message}") as refused:
        asked("a", at=tuple(at))
    assert len(str(refused.value)) < 300


def test_a_rate_that_no_video_has_is_refused_before_a_time_is_read():
    with pytest.raises(InvalidSpec, match="^fps: must be from 1 to 120, got nan"):
        asked("a", at=(("8s", "b"),), fps=float("nan"))
    with pytest.raises(InvalidSpec, match="^fps: must be from 1 to 120, got 0"):
        asked_prompts(
            ("a", "240: b"),
            (),
            None,
            fps=0,
            frames=500,
        )


@pytest.mark.parametrize("given", ["240: it stops", "240:it stops", " 240: it stops", "240 : it stops"])
def test_a_later_prompt_in_the_old_form_is_read_and_a_note_names_the_new_one(given):
    found = asked("a ball rolls", given)
    assert found.fields["later_prompts"] == [{"frame": 240, "text": "it stops"}]
    assert found.notes[0].endswith(
        "is in an old form; farmctl starts this prompt at frame 240. Write --prompt-at 240 'it stops' instead"
    )


@pytest.mark.parametrize(
    ("later", "option"),
    [
        ("it stops", "--prompt-at FRAME 'it stops'"),
        ("16:9 film", "--prompt-at FRAME '16:9 film'"),
        ("9:41 am, a clock", "--prompt-at FRAME '9:41 am, a clock'"),
        ("8s: it stops", "--prompt-at 8s 'it stops'"),
        ("00:00:08:00: it stops", "--prompt-at 00:00:08:00 'it stops'"),
        ("90f: it stops", "--prompt-at 90f 'it stops'"),
        ("don't: stop", """--prompt-at FRAME 'don'"'"'t: stop'"""),
    ],
)
def test_a_later_prompt_without_a_frame_is_told_the_option_to_write(later, option):
    with pytest.raises(
        InvalidSpec, match="^prompt: --prompt is for the first prompt; to give the later prompt '"
    ) as refused:
        asked("a ball rolls", later)
    assert f"write {option}" in str(refused.value)


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ("0: b", "the prompt at 0 and the first"),
        ("900: b", "the time 900 is too late: the prompt begins"),
        ("9:", "the text of the prompt at 9 must not be empty"),
    ],
)
def test_a_later_prompt_in_the_old_form_is_checked_as_a_timed_one_is(later, message):
    with pytest.raises(InvalidSpec, match=f"^prompt: {message}"):
        asked("a", later)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt-at", "240"], "requires 2 arguments"),
        (
            ["--prompt-at", "240", "--dry-run"],
            "'240' needs a text after it, but the option --dry-run follows",
        ),
        (["--prompt-at", "240", "--seed=3"], "'240' needs a text after it, but the option --seed=3 follows"),
    ],
)
def test_a_time_whose_text_was_forgotten_is_refused(arguments, message):
    told = CliRunner().invoke(main, ["submit", "text", "--frames", "300", *arguments])
    assert told.exit_code == 2 and message in told.stderr
