"""Prompts as --prompt gives them: no time that begins a prompt is read wrong in silence."""

from __future__ import annotations

import pytest

from farm.cli.prompts import asked_prompts
from farm.client import InvalidSpec


@pytest.mark.parametrize(
    "given", ["240: it stops", "240:it stops", " 240: it stops", "240 : it stops", "0240:\nit stops"]
)
def test_a_frame_and_a_colon_before_a_prompt_say_when_it_takes_over(given):
    assert asked_prompts((given, "a ball rolls"), None, 30.0, 500) == {
        "prompt": "a ball rolls",
        "later_prompts": [{"frame": 240, "text": "it stops"}],
    }


@pytest.mark.parametrize(
    "text", ["3d: a ball", "a ball: 240: red", "5 balls roll", "5. a ball: red", "", "16 by 9", "#3: a"]
)
def test_a_prompt_that_begins_with_no_time_is_a_text(text):
    assert asked_prompts((text,), None, 30.0, 500)["prompt"] == text


@pytest.mark.parametrize(
    "given",
    [
        "01:00:08:00: it stops", "00:00:08;00 it stops", "10:30 on a clock", "16:9 footage", "12.5: it stops",
        "8s: it stops", "8 sec: it stops", "240 frames: it stops", "-5: it stops", "1,000: it stops",
        "\u0662\u0664: it stops", "9" * 5000 + ": it stops",
    ],
)  # fmt: skip
def test_a_prompt_that_begins_with_another_kind_of_time_is_refused_and_told_what_to_write(given):
    with pytest.raises(
        InvalidSpec, match="^prompt: must begin with a frame such as '240: it stops', got '"
    ) as refused:
        asked_prompts((given,), None, 30.0, 500)
    assert len(str(refused.value)) < 400
    assert asked_prompts((f"0: {given}",), None, 30.0, 500)["prompt"] == given
