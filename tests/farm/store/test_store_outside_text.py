"""Any text can be stored and looked for, alike in both databases: PostgreSQL would refuse NUL and half characters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.plan import JobJson
from farm.store.errors import NotFound
from tests.farm.store.store_world import dispatch, join, plan, spec, submit

NASTY = "ESC \x1b[31m, NUL \x00, half \ud800, end"
KEPT = "ESC \x1b[31m, NUL \ufffd, half \ufffd, end"


def test_text_and_json_are_kept_with_replacements(store):
    job, _ = store.jobs.submit(
        spec(prompt=NASTY.replace("\ud800", "")),
        replace(plan({"encode": []}), shared=JobJson({NASTY: [NASTY, 1]})),
        [NASTY],
    )
    assert job.notes == (KEPT,)
    assert job.shared == {KEPT: [KEPT, 1]}
    assert job.spec.prompt == KEPT.replace("half \ufffd", "half ")
    assert store.jobs.get(job.id) == job


def test_an_event_and_an_artifact_keep_their_words(store):
    job = submit(store)
    assert store.events.add("trouble", NASTY, job_id=job.id).message == KEPT
    join(store)
    attempt = dispatch(store, job, "encode")
    staged = store.artifacts.stage(
        name="latents",
        filename=NASTY,
        size=1,
        sha256="0" * 64,
        location="a/b/c",
        attempt_id=attempt.id,
        epoch=1,
    )
    assert store.artifacts.get(staged.id).filename == KEPT


def test_what_no_database_can_hold_is_simply_not_found(store):
    with pytest.raises(NotFound):
        store.jobs.get("j\x00")
