"""Given frames that the windows didn't follow: they are measured, and who asked for them is told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farm.plan import LATENTS, JobPart, TaskKind
from farm.planning import Plan
from farm.rendering import MAX_FACTS, DeviceInfo
from farm.spec import parse_spec
from plugins.ltx.given import MOST_NOTES, NOT_FOLLOWED, Difference, report
from plugins.ltx.loading import Ltx
from plugins.ltx.rendering import LtxModel
from plugins.ltx.vae import encode_clip
from plugins.outputs.mp4 import encode_segment
from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.plan import make_plan
from tests.plugins.ltx.local_plans import OFFERS, local_job
from tests.plugins.ltx.moving_scene import SIZE, moving
from tests.plugins.ltx.older_plans import fields_of


@pytest.fixture(scope="module")
def model(ltx: Ltx) -> LtxModel:
    return LtxModel(ltx, DeviceInfo(backend="cpu", index=0, threads=2, vram_bytes=0))


def told_by_decodes(model: LtxModel, plan: Plan, folder: Path, windows: np.ndarray) -> dict[str, dict]:
    """What each decode of a plan tells where its windows made the frames ``windows``, which follow nothing or all."""
    latents = encode_clip(model._ltx, windows)
    job = local_job(model, plan, folder)
    for task in plan.tasks:
        if task.kind is TaskKind.ENCODE:
            job.do(task)
        elif task.kind in (TaskKind.WINDOW, TaskKind.JOIN):
            span = latents[:, task.start : task.stop]
            job.files[task.key, LATENTS] = model._saved(job.context(task), span, task.start)
        elif task.kind is TaskKind.DECODE:
            list(model.decode(job.context(task)))
    return job.facts


def plan_with(folder: Path, given: list[tuple[np.ndarray, int]], frames: int, strength: float = 1.0) -> Plan:
    folder.mkdir()
    media = []
    for index, (pictures, frame) in enumerate(given):
        encode_segment(pictures, folder / f"{index}.mp4", *SIZE, Fraction(24), crf=0)
        media.append(PreparedMedia(f"a-{index}", frame, len(pictures), strength))
    spec = {"frames": frames, "width": SIZE[0], "height": SIZE[1], "fps": 24}
    return make_plan(
        parse_spec(spec), model=OFFERS.models["ltx-tiny"], weights="w",
        strategy=OFFERS.strategies["autoregressive"], output=OFFERS.outputs["mp4"], media=media,
    )  # fmt: skip


def test_a_given_frame_that_the_windows_did_not_follow_is_told_with_its_frame_and_decibels(model, tmp_path):
    shot, strange = moving(5).render(0, 249), moving(6).render(0, 20)
    # Listed last first: what is told keeps the numbers of the list. Both lie in the second span, where it isn't lost.
    given = [(strange[:14], 230), (strange[:1], 120), (shot[200:201], 200)]
    plan = plan_with(tmp_path / "a", given, 249)
    assert sum(task.kind is TaskKind.DECODE for task in plan.tasks) > 1
    lead = JobPart.of(plan.shared).lead
    rendered = np.concatenate([shot[:1].repeat(lead, 0), shot, shot[-1:].repeat(8, 0)])
    rendered = rendered[: 8 * (plan.latents - 1) + 1]
    told = told_by_decodes(model, plan, tmp_path / "a", rendered)
    measures = {one["condition"]: one for facts in told.values() for one in facts["given"]}
    assert sorted(one["condition"] for facts in told.values() for one in facts["given"]) == [0, 1, 2], "once"
    assert measures[1]["frame"] == 120 and 230 <= measures[0]["frame"] < 244 and measures[2]["frame"] == 200
    assert measures[2]["db"] > NOT_FOLLOWED + 3 > NOT_FOLLOWED > max(measures[0]["db"], measures[1]["db"])
    notes = [note for facts in told.values() for note in facts.get("notes", [])]
    assert len(notes) == 2
    assert notes[0].startswith(
        f"the image at frame 120 of the video differs from what the model rendered there "
        f"(PSNR {measures[1]['db']:.0f} dB; the farm reports values below 22 dB"
    )
    assert notes[1].startswith(
        "the clip at frames 230 to 243 of the video differs from what the model rendered there (PSNR "
    )
    assert f"at frame {measures[0]['frame']}" in notes[1]


def test_what_is_given_at_less_than_full_strength_is_not_put_in_and_not_told(model, tmp_path):
    plan = plan_with(tmp_path / "a", [(moving(6).render(0, 1), 20)], 41, strength=0.9)
    assert told_by_decodes(model, plan, tmp_path / "a", moving(5).render(0, 41)) == {}


def test_a_plan_of_an_earlier_version_is_decoded_without_a_word(model, tmp_path):
    plan = plan_with(tmp_path / "a", [(moving(6).render(0, 1), 20)], 41)
    for task in plan.tasks:
        for one in fields_of(task.payload).get("given", []):
            del one["condition"]
    assert told_by_decodes(model, plan, tmp_path / "a", moving(5).render(0, 41)) == {}


decibels = st.floats(0.0, 60.0) | st.just(math.inf)


@given(st.lists(st.tuples(decibels, st.integers(1, 3)), min_size=1, max_size=1_000))
@example([(0.0, 1)] * (MOST_NOTES + 2))
def test_a_report_has_every_measure_notes_the_worst_and_stays_small(measured):
    differences = [Difference(at, 10 * at, length, 10 * at, db) for at, (db, length) in enumerate(measured)]
    summary, facts = report(differences)
    missed = [one for one in differences if one.db < NOT_FOLLOWED]
    assert sorted(one["frame"] for one in facts["given"]) == [one.frame for one in differences]
    assert len(json.dumps(facts | {"summary": summary}, allow_nan=False)) < MAX_FACTS
    notes = facts.get("notes", [])
    assert len(notes) == min(len(missed), MOST_NOTES + 1)
    if len(missed) > MOST_NOTES:
        assert notes.pop().startswith(
            f"{len(missed) - MOST_NOTES} more images and clips of the job differ from what the model rendered there"
        )
    assert {one.note for one in sorted(missed, key=lambda one: (one.db, one.frame))[:MOST_NOTES]} == set(
        notes
    )


def test_the_words_say_image_or_clip_frame_and_decibels():
    image = Difference(0, 120, 1, 120, 21.4)
    assert image.note.startswith(
        "the image at frame 120 of the video differs from what the model rendered there "
        "(PSNR 21 dB; the farm reports values below 22 dB). "
    )
    clip = replace(image, frames=14, frame=133)
    assert clip.note.startswith(
        "the clip at frames 120 to 133 of the video differs from what the model rendered there "
        "(PSNR 21 dB at frame 133; the farm reports values below 22 dB"
    )
