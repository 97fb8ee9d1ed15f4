"""Mistyped words: the nearest accepted one is suggested, and nothing where none is like it."""

from __future__ import annotations

import pytest

from farm.nearest import did_you_mean, nearest
from farm.plugins import planning_plugins
from nodeagent.offers import offers

MODELS = ("ltx-tiny", "ltx-2b-0.9.5", "ltx-13b-0.9.7-dev", "ltx-13b-0.9.8-distilled")
STRATEGIES = ("autoregressive", "codenoise", "hierarchical")


@pytest.mark.parametrize(
    ("word", "accepted", "found"),
    [
        ("ltx-tny", MODELS, "ltx-tiny"), ("LTX-Tiny", MODELS, "ltx-tiny"), ("ltx-2b", MODELS, "ltx-2b-0.9.5"),
        ("ltx-13b-0.9.8", MODELS, "ltx-13b-0.9.8-distilled"), ("hirarchical", STRATEGIES, "hierarchical"),
        ("auto", STRATEGIES, "autoregressive"), ("Codenose", STRATEGIES, "codenoise"), ("host-N1", ["Host-n1"], "Host-n1"),
        ("sora", MODELS, ""), ("magic", STRATEGIES, ""), ("", STRATEGIES, ""), ("x", [], ""),
    ],
)  # fmt: skip
def test_the_nearest_word_is_the_one_that_was_begun_or_is_alike(word, accepted, found):
    assert nearest(word, accepted) == found
    assert did_you_mean(word, accepted) == (f"; did you mean {found!r}?" if found else "")


def test_a_beginning_that_several_words_share_suggests_none_of_them_by_itself():
    assert nearest("st", ["start-of-it", "stop-all-of-it"]) == ""


def test_a_model_that_a_node_config_mistypes_is_told_the_nearest_one(tmp_path):
    known = ["ltx-tiny", "ltx-2b-0.9.5"]
    found = next(offers(planning_plugins(), {"ltx-tny": "/srv/models"}, tmp_path, known))
    assert found["model"] == "ltx-tny" and found["problem"].endswith("; did you mean 'ltx-tiny'?")
