"""Specs and plans as the API says them."""

from __future__ import annotations

from farm.plan import JobJson
from farm.spec import parse_spec
from farm.wire.messages import shown_prompts, spec_from_message, spec_message

FIELDS = {
    "frames": 300,
    "width": 64,
    "height": 64,
    "prompt": "a ball rolls",
    "prompt_always": "on grass",
    "later_prompts": [{"frame": 240, "text": "it stops"}],
}


def test_prompts_come_back_from_a_message_as_they_were():
    spec = parse_spec(FIELDS)
    assert spec_from_message(spec_message(spec)) == spec


def test_frames_are_said_with_the_whole_text_of_their_prompts():
    shared = JobJson(
        {
            "prompts": ["a", "b"],
            "prompt_frames": [
                {"first": 0, "last": 9, "prompts": [0, 1]},
                {"first": 10, "last": 20, "prompts": [1]},
            ],
        }
    )
    found = [(span.first_frame, span.last_frame, list(span.prompts)) for span in shown_prompts(shared)]
    assert found == [(0, 9, ["a", "b"]), (10, 20, ["b"])]


def test_a_plan_of_before_says_nothing_of_frames():
    assert shown_prompts(JobJson({"prompts": ["a", "b"]})) == []
