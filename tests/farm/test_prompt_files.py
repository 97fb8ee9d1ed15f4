"""Prompt files: what is read of them, and that nothing of them is read wrong in silence."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.prompt_files import read_prompts
from farm.spec import InvalidSpec
from farm.timecode import frame_of

YAML = """\
- text: a ball rolls
- frame: 40
  text: "it stops: here"
- seconds: 12.5
  text: no
- timecode: 00:00:20:12
  text: 5
"""
CSV = """\
text,frame,seconds,timecode
a ball rolls,,,
"it stops: here",40,,
no,,12.5,
5,,,00:00:20:12
"""


def read(tmp_path, text: str | bytes, name: str = "shots.yaml", fps: float = 24.0, frames: int = 750):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_prompts(path, fps=fps, frames=frames)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shots.yaml", YAML),
        ("shots.YML", YAML),
        ("shots.csv", CSV),
        ("shots.csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("shots.csv", CSV.replace(",", ";")),
        ("shots.csv", CSV.replace(",", "\t") + "\n\t\t\t\n"),
        ("shots.csv", CSV.replace("text,frame", "Text, Frame ")),
        ("shots.csv", CSV.replace("\n", "\r")),
        ("shots.csv", "\n;;;\n" + CSV.replace(",", ";")),
        ("shots.csv", "\r\n\t\r\n" + CSV.replace(",", "\t").replace("\n", "\r\n\r\n")),
    ],
)
def test_rows_give_their_time_in_frames_seconds_or_timecode(tmp_path, name, text):
    assert read(tmp_path, text, name) == {
        "prompt": "a ball rolls",
        "later_prompts": [
            {"frame": 40, "text": "it stops: here"},
            {"frame": 300, "text": "no"},
            {"frame": 492, "text": "5"},
        ],
    }


def test_a_file_whose_first_prompt_comes_later_begins_with_none(tmp_path):
    assert read(tmp_path, "- {frame: 9, text: a}") == {
        "prompt": "",
        "later_prompts": [{"frame": 9, "text": "a"}],
    }


def test_a_timecode_that_yaml_would_take_for_a_number_is_a_timecode(tmp_path):
    found = read(tmp_path, "- {timecode: 1:00:00:00, text: a}", frames=100_000)
    assert found["later_prompts"][0]["frame"] == 3600 * 24


@pytest.mark.parametrize(
    "text",
    ["16:9", "9:41", "9:41 am, a clock", "yes", "no", "off", "null", "~", "1e3", "0x10", "1_000", "2026-11-29", "3.10", ".inf", "07"],
)  # fmt: skip
def test_a_text_that_yaml_would_take_for_something_else_is_that_text(tmp_path, text):
    assert read(tmp_path, f"- text: {text}  # a comment\n- frame: 9\n  text: {text}") == {
        "prompt": text,
        "later_prompts": [{"frame": 9, "text": text}],
    }


@pytest.mark.parametrize(
    "row", ["- text: take #3", "- text: shot #red\n  frame: 9", "- frame: 9 #b\n  text: a"]
)
def test_a_text_that_yaml_would_cut_at_a_hash_is_refused(tmp_path, row):
    with pytest.raises(
        InvalidSpec, match=r"^prompts: shots.yaml: line 1: .*'#' would end the text '.+'; put .* in quotes"
    ):
        read(tmp_path, row)
    assert read(tmp_path, "- text: 'take #3'\n- {frame: 9, text: F#5}  # the key")["prompt"] == "take #3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "- text: 2001: a space station",
            "line 1: .*; put quotes around a text that contains a colon and a space",
        ),
        (
            "- text: a\n- text: b",
            'row 2: the row must have exactly one of "frame", "seconds" and "timecode", got none',
        ),
        (
            "- {text: a, frame: 1, seconds: 2}",
            "row 1: the row must have exactly one of .*, got frame and seconds",
        ),
        (
            "- {text: a}\n- {text: b, frame: 750}",
            "row 2: the prompt begins at frame 750, but the video has only 750",
        ),
        (
            "- {text: a, frame: 9}\n- {text: b, frame: 9}",
            "row 2: the prompt begins at frame 9, .* previous row begins at frame 9",
        ),
        (
            "- {text: a, frame: 9}\n- {text: b, frame: 3}",
            "row 2: the prompt begins at frame 3, .* previous row begins at frame 9",
        ),
        ("- {text: a, frame: -1}", "row 1: frame: must be a whole number such as 240, got '-1'"),
        ("- {text: a, frame: 2.5}", "row 1: frame: must be a whole number"),
        ("- {text: a, frame: \u0663}", "row 1: frame: must be a whole number"),
        ("- {text: a, seconds: '2,5'}", "row 1: seconds: must be a number such as 10 or 12.5, got '2,5'"),
        ("- {text: a, seconds: 1e9}", "row 1: seconds: must be a number"),
        ("- {text: a, seconds: .nan}", "row 1: seconds: must be a number"),
        ("- {text: a, timecode: '12:00'}", "row 1: timecode: must be HH:MM:SS:FF"),
        (
            "- {text: a, timecode: '00:00:01:24'}",
            "row 1: timecode: must end in a frame from 00 to 23 at 24 fps",
        ),
        (
            "- {text: a, timecode: 00:00:01;02}",
            r"row 1: timecode: drop-frame timecode \(with ';'\) can't be used at 24 fps",
        ),
        (
            "- {frame: 1, text: a ball, red}",
            "row 1: each key of the row must be .*; got 'red'; put quotes around a text that contains a comma",
        ),
        ("- {frame: 1}", "row 1: text: must not be empty; write what the video shows"),
        ("- {frame: 1, text: ' '}", "row 1: text: must not be empty"),
        ("- {frame: 1, text: [a]}", "row 1: text: must be one value"),
        (
            "- {frame: 1, text: a, frames: 3}",
            "row 1: each key of the row must be one of frame, seconds, timecode, text; got 'frames'",
        ),
        ("- {frame: 1, text: a, text: b}", "line 1: the file is not valid YAML: the key 'text' comes twice"),
        ("- a ball", 'row 1: the row must have "text" and one of'),
        ("text: a", "the file must be a list of rows"),
        ("- [", "line 1: the file is not valid YAML"),
        ("- {frame: 1, text: a, [b]: c}", "line 1: the file is not valid YAML: found unhashable key"),
        ("", "the file has no rows"),
        (b"- text: caf\xe9", "the file must be UTF-8, but byte 12 isn't"),
        (
            "- {frame: 1, text: '" + "x" * 4001 + "'}",
            "row 1: text: must be at most 4000 characters, got 4001",
        ),
        ('- {frame: 1, text: "a\\0b"}', "row 1: text: must not contain NUL"),
        (
            "".join(f"- {{frame: {n}, text: a}}\n" for n in range(102)),
            "row 102: a video can have at most 101 prompts",
        ),
    ],
)
def test_what_is_wrong_in_a_yaml_file_is_refused_by_its_row(tmp_path, text, message):
    with pytest.raises(InvalidSpec, match=f"^prompts: shots.yaml: ({message})") as refused:
        read(tmp_path, text)
    assert str(refused.value).isprintable()


def test_a_file_that_is_nested_without_end_is_refused(tmp_path):
    with pytest.raises(InvalidSpec, match="the file is nested too deeply; it must be a list of rows"):
        read(tmp_path, "[" * 5000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "frame,text\n1,a red, round ball\n",
            "line 2: the row has more cells than the header; .* put quotes around the text",
        ),
        (
            "frame,words\n1,a\n",
            'the first line must name the column "text", .*; no name may come twice; got frame, words',
        ),
        ("frame,text,text\n1,a,b\n", 'the first line must name the column "text"'),
        ("1,a red ball\n", 'the first line must name the column "text"'),
        ('frame,text\n1,"a\n', "line 2: the file is not valid CSV"),
        ("frame,text\n1\n", "line 2: text: must not be empty"),
        ("frame,text\n", "the file has no rows"),
        ("text,frame\n# my shots\na,9\n", "line 2: the line begins with '#'"),
        ("# my, shots\ntext,frame\na,9\n", "line 1: the line begins with '#', .* use a YAML file"),
        (
            'text,frame\n\n,\n"a\nball",1\nb,1\n',
            "line 6: the prompt begins at frame 1, but the prompt of the previous row",
        ),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_refused_by_its_line(tmp_path, text, message):
    with pytest.raises(InvalidSpec, match=f"^prompts: shots.csv: {message}"):
        read(tmp_path, text, "shots.csv")


def test_files_of_another_kind_or_none_and_rates_that_no_video_has_are_refused(tmp_path):
    with pytest.raises(
        InvalidSpec, match=r"^prompts: the name of the file shots.txt must end in .yaml, .yml or .csv"
    ):
        read(tmp_path, "", "shots.txt")
    with pytest.raises(InvalidSpec, match=r"^prompts: none.csv: the file can't be read: No such file"):
        read_prompts(tmp_path / "none.csv", fps=24, frames=9)
    with pytest.raises(InvalidSpec, match="^fps: must be from 1 to 120, got nan"):
        read(tmp_path, YAML, fps=float("nan"))


def drop_frame(frame: int, rate: int) -> str:
    """SMPTE's label of a frame, counted label by label."""
    dropped = rate // 15
    hours = minutes = seconds = number = 0
    for _ in range(frame):
        number += 1
        if number == rate:
            number, seconds = 0, seconds + 1
        if seconds == 60:
            seconds, minutes = 0, minutes + 1
            if minutes % 10:
                number = dropped
        if minutes == 60:
            minutes, hours = 0, hours + 1
    return f"{hours:02}:{minutes:02}:{seconds:02};{number:02}"


@pytest.mark.parametrize(("rate", "ntsc"), [(30, Fraction(30_000, 1001)), (60, Fraction(60_000, 1001))])
@pytest.mark.parametrize("frame", [0, 1799, 1800, 3599, 3600, 17_981, 17_982, 35_964, 36_001])
def test_drop_frame_counts_as_its_labels_do(rate, ntsc, frame):
    assert frame_of(drop_frame(frame, rate), ntsc) == frame


def test_labels_that_drop_frame_leaves_out_are_refused():
    for label in ("00:01:00;00", "00:01:00;01"):
        with pytest.raises(ValueError, match="in drop-frame timecode, no frame has the label"):
            frame_of(label, Fraction(30_000, 1001))
    assert frame_of("00:10:00;00", Fraction(30_000, 1001)) == 17_982
    with pytest.raises(ValueError, match="a timecode can't be used at 12.5 fps"):
        frame_of("00:00:01:00", Fraction(25, 2))


@given(
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.integers(0, 23),
    st.sampled_from([24, 23.976]),
)
def test_timecode_counts_by_whole_rates(hours, minutes, seconds, number, fps):
    rate = Fraction(24) if fps == 24 else Fraction(24_000, 1001)
    label = f"{hours:02}:{minutes:02}:{seconds:02}:{number:02}"
    assert frame_of(label, rate) == ((hours * 60 + minutes) * 60 + seconds) * 24 + number
