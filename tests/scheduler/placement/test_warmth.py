"""What devices hold: as much as fits beside each other; and when their renderers can begin."""

from __future__ import annotations

from scheduler.placement.warmth import STARTING_SECONDS, Warmth

DEVICE, OTHER = ("n", "cuda0"), ("n", "cuda1")


def test_a_model_is_loaded_once_and_stays_beside_another_that_fits():
    warmth = Warmth()
    assert warmth.of(DEVICE) is None
    assert warmth.use(DEVICE, "13b", 26, 48) and warmth.use(DEVICE, "2b", 4, 48)
    assert not warmth.use(DEVICE, "13b", 26, 48) and not warmth.use(DEVICE, "2b", 4, 48)
    assert warmth.of(DEVICE) == frozenset({"13b", "2b"}) and warmth.of(OTHER) is None


def test_models_that_do_not_fit_take_turns():
    warmth = Warmth()
    for _ in range(2):
        assert warmth.use(DEVICE, "13b", 16, 24) and warmth.of(DEVICE) == frozenset({"13b"})
        assert warmth.use(DEVICE, "2b", 4, 24) and warmth.of(DEVICE) == frozenset({"2b"})


def test_what_needs_no_model_changes_nothing():
    warmth = Warmth()
    assert not warmth.use(DEVICE, "13b", 0, 24) and warmth.of(DEVICE) is None


def test_a_renderer_that_began_anew_holds_nothing():
    warmth = Warmth()
    warmth.use(DEVICE, "13b", 26, 48)
    warmth.lost(DEVICE)
    assert warmth.of(DEVICE) == frozenset() and warmth.use(DEVICE, "13b", 26, 48)


def test_a_renderer_is_busy_with_starting_from_when_it_came_up():
    warmth = Warmth()
    assert warmth.starting_for(DEVICE, 100.0) == 0.0, "nothing is known of it"
    warmth.up(DEVICE, 100.0)
    warmth.up(DEVICE, 102.0)
    assert warmth.starting_for(DEVICE, 102.0) == STARTING_SECONDS - 2.0
    assert (
        warmth.starting_for(DEVICE, 100.0 + 2 * STARTING_SECONDS) == 0.0 == warmth.starting_for(OTHER, 100.0)
    )
    warmth.lost(DEVICE)
    warmth.up(DEVICE, 110.0)
    assert warmth.starting_for(DEVICE, 110.0) == STARTING_SECONDS
