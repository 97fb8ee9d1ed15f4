"""Options as people write them, and what is refused."""

from __future__ import annotations

import itertools

import pytest

from farm.options import Offer, assigned, assignments, listed, options_of, settle
from farm.plugins import catalogue, planning_plugins
from farm.spec import InvalidSpec

OFFERS = catalogue(planning_plugins())
CHOSEN: dict[str, Offer] = {
    "model": OFFERS.models["ltx-tiny"],
    "strategy": OFFERS.strategies["autoregressive"],
    "sampler": OFFERS.samplers["ddim"],
    "guidance": OFFERS.guidances["lightricks"],
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("eta=0.5", ("eta", 0.5)),
        (" eta = 1 ", ("eta", 1)),
        ("stg_mode=attention_skip", ("stg_mode", "attention_skip")),
        ("skip_block_list=[[1, 2], []]", ("skip_block_list", [[1, 2], []])),
        ("cfg_star_rescale=true", ("cfg_star_rescale", True)),
        ('preset="2b"', ("preset", "2b")),
        ("a=b=c", ("a", "b=c")),
        ("timesteps=1,.5,.2", ("timesteps", [1, 0.5, 0.2])),
        ("timesteps=[1, .5, 2e-1]", ("timesteps", [1, 0.5, 0.2])),
        ("skip_block_list=[14,]", ("skip_block_list", [14])),
        ("eta=.5", ("eta", 0.5)),
        ("seed=+7", ("seed", 7)),
        ("preset=1,2b", ("preset", "1,2b")),
        ("timesteps=[1,.5", ("timesteps", "[1,.5")),
        ("eta=NaN", ("eta", "NaN")),
        ("eta=", ("eta", "")),
    ],
)
def test_an_option_is_json_or_else_text(text, wanted):
    assert assigned(text) == wanted


NONSENSE: tuple[object, ...] = ("nonsense", True, None, -1e9, [["x"]], {}, {"a": "b"}, [], [True], ["x"])


@pytest.mark.parametrize(
    ("kind", "offer"),
    [
        (kind, offer)
        for kind, some in OFFERS.offers().items()
        for offer in some
        if options_of(offer).model_fields
    ],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
def test_every_option_says_in_the_farms_words_what_it_accepts(kind, offer):
    """Not in those of the library that checks it."""
    refused = 0
    for name, value in itertools.product(options_of(offer).model_fields, NONSENSE):
        try:
            settle({name: value}, {kind: offer}, OFFERS.offers())
        except InvalidSpec as refusal:
            assert refusal.field.startswith(f"options.{name}") and "must " in refusal.problem, refusal
            assert "should" not in refusal.problem, refusal
            refused += 1
    assert refused >= 4 * len(options_of(offer).model_fields)


def test_an_entry_of_the_wrong_kind_is_named_and_an_empty_list_is_told_what_it_lacks():
    chosen = {"guidance": OFFERS.guidances["lightricks"]}
    for value, words in (
        ([1, "x"], r"\.1: must be a number"),
        ([], ": must be a list with 1 or more entries"),
    ):
        with pytest.raises(InvalidSpec, match=f"^options.guidance_scale{words}"):
            settle({"guidance_scale": value}, chosen, OFFERS.offers())


@pytest.mark.parametrize("text", ["eta", "=1", " =1", ""])
def test_an_option_without_a_name_or_sign_is_refused(text):
    with pytest.raises(InvalidSpec, match="^options: must be name=value"):
        assigned(text)


def test_an_option_that_is_given_twice_is_refused_by_its_name():
    assert assignments(["eta=1", "s_noise=1"]) == {"eta": 1, "s_noise": 1}
    with pytest.raises(InvalidSpec, match="^options.eta: the option is given twice"):
        assignments(["eta=1", "eta=1"])
    with pytest.raises(InvalidSpec, match="^options.sampler.eta: the option is also given as eta"):
        settle({"eta": 1, "sampler.eta": 0.5}, CHOSEN, OFFERS.offers())


@pytest.mark.parametrize("guidance", ["lightricks", "comfyui"])
@pytest.mark.parametrize("name", ["cfg_values", "guidance.cfg_values"])
def test_a_name_of_another_program_is_refused_with_the_farms_own(guidance, name):
    chosen = {**CHOSEN, "guidance": OFFERS.guidances[guidance]}
    with pytest.raises(InvalidSpec, match="option of this name; guidance comfyui calls it 'cfg'$"):
        settle({name: [3]}, chosen, OFFERS.offers())


@pytest.mark.parametrize(
    ("kind", "offer"), [(kind, offer) for kind, some in OFFERS.offers().items() for offer in some]
)
def test_what_another_program_calls_differently_is_an_option(kind, offer):
    options = options_of(offer)
    assert set(options.other_names.values()) <= set(options.model_fields)
    assert not options.other_names.keys() & options.model_fields.keys()


def test_what_an_option_accepts_is_told_in_words():
    told = {
        option.name: option.accepts
        for kind in ("model", "sampler", "guidance")
        for option in listed(options_of(CHOSEN[kind]))
    }
    assert told["eta"] == "a number from 0 to 1"
    assert told["shift_terminal"] == "a number above 0 and below 1"
    assert told["schedule"] == "linear-quadratic, uniform, sd3, constant"
    assert told["cfg_star_rescale"] == "true or false"
