"""Text in a spec is refused by its field where it can be neither sent nor stored."""

from __future__ import annotations

import pytest

from farm.spec import InvalidSpec, JobSpec, parse_spec

FIELDS = {"frames": 9, "width": 64, "height": 64}


@pytest.mark.parametrize("text", ["a\x00b", "caf\udce9"])
@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("prompt", lambda text: {"prompt": text}),
        ("name", lambda text: {"name": text}),
        ("later_prompts.0.text", lambda text: {"later_prompts": [{"frame": 1, "text": text}]}),
        ("conditions.0.media.path", lambda text: {"conditions": [{"media": {"path": text}}]}),
    ],
)
def test_text_that_cannot_be_stored_is_refused_by_its_field(field, fields, text):
    with pytest.raises(InvalidSpec, match=r"must be UTF-8 text without NUL characters, got") as refused:
        parse_spec(FIELDS | fields(text))
    assert refused.value.field == field and str(refused.value).isprintable()


def test_a_job_that_was_stored_before_stays_readable():
    assert JobSpec.model_validate(FIELDS | {"prompt": "a\x00b"}).prompt == "a\x00b"


def test_what_holds_throughout_stands_before_every_prompt():
    spec = parse_spec(dict(FIELDS, prompt="", prompt_always="a man in a red hat"))
    assert (
        spec.prompt_of("walks") == "a man in a red hat walks" and spec.prompt_of("") == "a man in a red hat"
    )
    assert parse_spec(FIELDS).prompt_of("walks") == "walks"
    with pytest.raises(InvalidSpec, match="^prompt_always: must be at most 4000 characters"):
        parse_spec(dict(FIELDS, prompt_always="x" * 4001))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"promt": "x"}, "promt: there is no such field; did you mean 'prompt'?"),
        ({"colour": "x"}, "colour: there is no such field"),
        ({"conditions": [{"fram": 3}]}, "conditions.0.fram: there is no such field; did you mean 'frame'?"),
        ({"later_prompts": [{"frame": 3, "txt": "a", "text": "b"}]}, "later_prompts.0.txt: there is no such field; did you mean 'text'?"),
        ({"layout": "Fixed"}, "layout: must be 'fixed' or 'farm', got 'Fixed'; did you mean 'fixed'?"),
    ],
)  # fmt: skip
def test_a_mistyped_field_or_word_is_told_the_nearest_one(fields, problem):
    if "conditions" in fields:
        fields["conditions"][0]["media"] = {"path": "/a.png"}
    with pytest.raises(InvalidSpec) as refused:
        parse_spec({"frames": 9, "width": 64, "height": 64, **fields})
    assert str(refused.value) == problem
