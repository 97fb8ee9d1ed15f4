"""Whose a workstation is: for every history of looks, and for those that people will meet."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.owner.owner import NUDGE_SECONDS, Owner, OwnerTerms, Sample, Stage

TERMS = OwnerTerms(idle=600.0, grace=30.0)
AWAY, THERE, UNKNOWN = Sample(math.inf), Sample(0.0), Sample(None, "no logind")

samples = st.one_of(
    st.just(UNKNOWN), st.just(AWAY), st.builds(Sample, st.one_of(st.just(0.0), st.floats(0, 2000)))
)
looks = st.tuples(st.floats(0.1, 400), samples, st.sampled_from(["", "", "", "was claimed by its owner"]))
terms = st.builds(OwnerTerms, st.floats(0, 1000), st.floats(0, 200))


def after(*history, terms=TERMS, owner=None, now=0.0):
    """`history`: (seconds since the look before, sample)."""
    owner = owner or Owner()
    for gap, sample in history:
        now += gap
        owner = owner.observe(now, sample, terms)
    return owner, now


@given(st.lists(looks, max_size=25), terms)
def test_in_no_history_does_it_take_work_when_it_must_not(history, terms):
    owner, now = Owner(), 1000.0
    touched, seen_since = -math.inf, None
    assert owner.reason and owner.stage is Stage.BACK, "it takes no work before the first look"
    for gap, sample, claimed in history:
        now += gap
        before, owner = owner, owner.observe(now, sample, terms, claimed)
        if sample.idle is not None:
            touched = max(touched, now - sample.idle)
        assert (owner.stage is Stage.LENT) == (not owner.reason), "whoever takes no work says why"
        if sample.idle is None or claimed:
            assert owner.stage is not Stage.LENT, "it fails closed"
            assert claimed in owner.reason and (claimed or sample.why in owner.reason)
        if claimed:
            assert owner.stage is Stage.BACK
        if owner.stage is Stage.LENT and now - touched < terms.idle:
            # Only a nudge is forgiven: of what was the farm's, and nothing after it.
            assert before.stage in (Stage.LENT, Stage.SEEN) and touched <= owner.forgiven
        if before.stage is Stage.BACK:
            assert owner.stage is not Stage.SEEN, "what is the owner's stays so until nobody is there"
        if owner.stage is Stage.SEEN:
            seen_since = now if before.stage is not Stage.SEEN else seen_since
            assert now - seen_since < terms.grace
        elif before.stage is Stage.SEEN:
            assert owner.stage is Stage.LENT or claimed or now - seen_since >= terms.grace, "not before"
        if before.stage is Stage.LENT and owner.stage is Stage.BACK:
            assert claimed or not terms.grace


@given(st.lists(looks, max_size=25), terms)
def test_looking_twice_at_once_says_the_same(history, terms):
    owner, now = Owner(), 1000.0
    for gap, sample, claimed in history:
        now += gap
        owner = owner.observe(now, sample, terms, claimed)
        assert owner.observe(now, sample, terms, claimed) == owner


def test_it_is_lent_once_nobody_has_touched_it_for_long_enough():
    assert after((0, Sample(599.0)))[0].stage is Stage.BACK
    assert after((0, Sample(599.0)), (1, Sample(600.0)))[0].stage is Stage.LENT


def test_a_hook_that_knows_only_there_and_away_must_have_said_away_for_as_long():
    assert after((0, AWAY))[0].stage is Stage.LENT
    owner, now = after((0, THERE), (599, AWAY))
    assert owner.stage is Stage.BACK
    assert after((1, AWAY), owner=owner, now=now)[0].stage is Stage.LENT


def test_an_owner_who_stays_has_the_machine_after_the_grace_and_nothing_new_comes_meanwhile():
    owner, now = after((0, AWAY), (5, Sample(1.0)))
    assert owner.stage is Stage.SEEN and owner.reason
    owner, now = after((29, Sample(2.0)), owner=owner, now=now)
    assert owner.stage is Stage.SEEN
    assert after((1, Sample(3.0)), owner=owner, now=now)[0].stage is Stage.BACK


def test_a_nudge_is_forgiven_after_the_grace_and_the_next_touch_is_not():
    owner, now = after((0, AWAY), (5, Sample(1.0)), (5, Sample(6.0)), (25, Sample(31.0)))
    assert owner.stage is Stage.LENT
    owner, now = after((5, Sample(36.0)), (5, Sample(41.0)), owner=owner, now=now)
    assert owner.stage is Stage.LENT, "and stays forgiven"
    owner, now = after((5, Sample(0.0)), owner=owner, now=now)
    assert owner.stage is Stage.SEEN


def test_who_types_on_after_the_first_seconds_is_no_nudge():
    touched_for = NUDGE_SECONDS + 1
    owner, _ = after((0, AWAY), (5, Sample(0.0)), (touched_for, Sample(0.0)), (26, Sample(26.0)))
    assert owner.stage is Stage.BACK


def test_a_sensor_that_stumbles_once_costs_no_window():
    owner, now = after((0, AWAY), (5, UNKNOWN))
    assert owner.stage is Stage.SEEN and "no logind" in owner.reason
    assert after((5, AWAY), owner=owner, now=now)[0].stage is Stage.LENT
    assert after((5, UNKNOWN), (25, UNKNOWN), owner=owner, now=now)[0].stage is Stage.BACK


def test_without_grace_it_is_the_owners_at_once():
    terms = OwnerTerms(idle=600.0, grace=0.0)
    assert after((0, AWAY), (5, THERE), terms=terms)[0].stage is Stage.BACK
