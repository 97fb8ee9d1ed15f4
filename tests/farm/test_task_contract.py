"""The task contract: plans are read as they were stored, also those of earlier versions."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm import model_facts, planning
from farm.handed import Handed, HandedArtifact, HandedTask, Member, fingerprint, names_of
from farm.json_values import Unreadable, read_lazily
from farm.plan import (
    VERSION,
    Chosen,
    DecodeTask,
    EncodeTask,
    JobJson,
    JobPart,
    JoinTask,
    Lockstep,
    MuxTask,
    Payload,
    TaskKind,
    WindowTask,
    delivered_frames,
    denoised,
    held_bytes,
    lockstep_group,
    output_suffix_of,
    precision_of,
    prompts_of,
    size_of,
)
from tests.told import JOB, WINDOW, job_part

KINDS: dict[str, type[EncodeTask | WindowTask | JoinTask | DecodeTask | MuxTask]] = {
    "encode": EncodeTask,
    "storyboard": WindowTask,
    "window": WindowTask,
    "join": JoinTask,
    "decode": DecodeTask,
    "mux": MuxTask,
}
STORED = json.loads(Path(__file__).with_name("plans_of_protocol_2.json").read_text())
"""Plans that c1a70c6 made, before what tasks are told had types: a job of each strategy, with clips, images and guidance."""


def fields(stored: Payload | JobJson) -> dict[str, Any]:
    """What is stored, read as JSON: only here may a test look into it."""
    assert isinstance(stored, dict)
    return stored


@pytest.mark.parametrize("plan", STORED, ids=lambda plan: plan["of"])
def test_a_plan_of_before_is_read_and_would_be_stored_as_it_was(plan):
    assert {task["kind"] for task in plan["tasks"]} >= {"encode", "window", "join", "decode", "mux"}
    for task in plan["tasks"]:
        told = KINDS[task["kind"]].of(task["payload"])
        again = json.loads(json.dumps(told.payload()))
        if heal := again.get("heal"):
            assert heal.pop("lockstep") is None, "which heals did not say"
        assert again == task["payload"]
    part = JobPart.of(plan["shared"])
    again = fields(part.json())
    assert {name: again[name] for name in plan["shared"]} == plan["shared"]
    assert part.version == 0 and set(again) - set(plan["shared"]) == {
        "output_suffix",
        "version",
        "sampler",
        "guidance",
        "options",
        "preset",
    }


def test_a_field_that_is_read_by_itself_is_what_the_whole_value_says():
    lockstep = 0
    for plan in STORED:
        part = JobPart.of(plan["shared"])
        assert precision_of(plan["shared"]) == part.precision
        assert prompts_of(plan["shared"]) == [
            (shown.first, shown.last, [part.prompts[index] for index in shown.prompts])
            for shown in part.prompt_frames
        ]
        for payload in (
            task["payload"] for task in plan["tasks"] if task["kind"] in ("storyboard", "window")
        ):
            window = WindowTask.of(payload)
            how = denoised(payload)
            assert (how.sigmas, how.guidance_scale) == (window.sigmas, window.guidance_scale)
            assert size_of(payload) == (window.width, window.height)
            lockstep += window.lockstep is not None
            group = window.lockstep or Lockstep("", 0, ())
            assert (lockstep_group(payload), held_bytes(payload)) == (group.group, group.held_bytes)
        for payload in (task["payload"] for task in plan["tasks"] if task["kind"] == "decode"):
            span = DecodeTask.of(payload)
            assert delivered_frames(plan["shared"], payload) == (
                span.first - part.lead,
                span.last - part.lead,
            )
    assert lockstep, "a plan with windows in lockstep"
    assert (
        output_suffix_of(STORED[0]["shared"]) == "" and output_suffix_of(job_part(output_suffix=".x")) == ".x"
    )
    chosen = replace(WINDOW, sampler=Chosen("ddim", {"eta": 0.5}), guidance=Chosen("comfyui"))
    how = denoised(chosen.payload())
    assert (how.sampler, how.guidance) == (chosen.sampler, chosen.guidance)


def test_a_fault_in_a_field_is_told_where_that_field_is_read_and_nowhere_else():
    spoiled = Payload(
        fields(replace(WINDOW, lockstep=Lockstep("window", 7, ())).payload()) | {"sigmas": "none"}
    )
    assert (lockstep_group(spoiled), held_bytes(spoiled)) == ("window", 7)
    with pytest.raises(Unreadable, match="WindowTask: sigmas: "):
        denoised(spoiled)
    with pytest.raises(Unreadable, match="WindowTask: lockstep.held_bytes: "):
        held_bytes(Payload({"lockstep": {"group": "window", "shared": []}}))
    with pytest.raises(Unreadable, match="JobPart: precision: Field required"):
        precision_of(JobJson({}))
    with pytest.raises(Unreadable, match="WindowTask: Input should be an object"):
        lockstep_group(Payload([]))
    with pytest.raises(AttributeError, match="WindowTask has no field steps"):
        print(read_lazily(WindowTask, WINDOW.payload()).steps)


def test_neither_a_tasks_part_nor_the_jobs_can_be_read_by_key():
    """The type checker proves it: it would complain of a comment for which there is no error."""
    assert WINDOW.payload()["stage"] == 0  # type: ignore[index]
    assert JOB.json()["seed"] == 7  # type: ignore[index]


def test_what_few_windows_have_is_left_out_so_that_older_renderers_know_the_others():
    names = {field.name for field in dataclasses.fields(WindowTask)}
    assert names - set(fields(WINDOW.payload())) == {"prompts", "sampler", "guidance"}


def test_a_plan_from_before_prompts_were_shown_by_latent_is_read():
    stored = fields(WINDOW.payload()) | {"prompts": [[0, 0.25], [1, 0.75]]}
    del stored["shows"]
    told = WindowTask.of(Payload(stored))
    assert told.shows is None and told.prompts == ((0, 0.25), (1, 0.75))
    assert fields(told.payload())["prompts"] == [[0, 0.25], [1, 0.75]]
    assert "prompts" not in fields(WINDOW.payload())


def test_a_plan_of_a_later_version_is_refused_and_says_what_to_do():
    with pytest.raises(
        Unreadable, match=f"version {VERSION + 1}, .* up to version {VERSION}; upgrade the software"
    ):
        JobPart.of(job_part(version=VERSION + 1))


@pytest.mark.parametrize(
    ("spoiled", "named"),
    [({"sigmas": "none"}, "sigmas"), ({"base": {"pieces": [{"start": 0}]}}, "base.pieces.0.stop"), ({"stage": None}, "stage")],
)  # fmt: skip
def test_what_is_wrong_with_a_stored_task_is_named(spoiled, named):
    with pytest.raises(Unreadable, match=f"WindowTask: {named}: "):
        WindowTask.of(Payload(fields(WINDOW.payload()) | spoiled))


def test_what_a_renderer_is_handed_arrives_as_it_was_sent():
    handed = Handed(
        HandedTask("window/1", "window", WINDOW.payload(), "ltx-tiny", "sha256:w"),
        JOB.json(),
        {"encode": {"embeddings": HandedArtifact("a-1", "0" * 64, 7)}},
        Member("j/window", "window/1", "r-1", {"window/0": "r-2"}),
        HandedArtifact("a-2", "1" * 64, 8),
        ("a note",),
    )
    assert Handed.read(handed.sent()) == handed
    with pytest.raises(Unreadable, match="can't be read"):
        Handed.read(b"{")


def test_a_message_to_a_renderer_names_its_job_task_and_node_for_the_logs():
    task = HandedTask("window/1", "window", WINDOW.payload(), "ltx-tiny", "sha256:w")
    sent = Handed(task, JOB.json(), {}, job="j-1", node="north").sent()
    assert names_of(sent) == {"job": "j-1", "task": "window/1", "node": "north"}
    assert [names_of(one) for one in (b"{", b"\xff", b"[]", b"{}", b'{"task": 1}')] == [{}] * 5


def test_a_fingerprint_changes_with_whatever_shapes_the_result():
    def of(key="window/0", model="m", weights="w", shared=None, payload=None):
        return fingerprint(key, "window", model, weights, shared or JOB.json(), payload or WINDOW.payload())

    others = [
        of("window/1"), of(model="n"), of(weights="v"), of(shared=job_part(seed=8)),
        of(payload=Payload(fields(WINDOW.payload()) | {"stage": 1})),
        of(shared=job_part(sampler="ddim")), of(shared=job_part(guidance="comfyui")),
        *(of(shared=job_part(options=given)) for given in ({"sampler": {"eta": 0.5}}, {"sampler": {"eta": 0.6}},
                                                           {"guidance": {"eta": 0.5}}, {"model": {"shift": 2}})),
        *(of(payload=replace(WINDOW, **told).payload()) for told in (
            {"sampler": Chosen("ddim")}, {"sampler": Chosen("ddim", {"eta": 0.5})}, {"guidance": Chosen("comfyui")},
            {"guidance": Chosen("comfyui", {"cfg": [3]})}, {"sigmas": (1.0, 0.5, 0.0)})),
    ]  # fmt: skip
    assert len({of(), *others}) == len(others) + 1 and of() == of()


def test_only_windows_in_lockstep_belong_to_a_group():
    (plan,) = (plan for plan in STORED if plan["of"] == "codenoise")
    groups = {task["kind"]: lockstep_group(task["payload"]) for task in plan["tasks"]}
    assert {kind for kind, group in groups.items() if group} == {"window"}


def test_plugins_find_what_moved_under_its_earlier_name():
    for name in ("LearntSizes", "ModelFacts", "Placing"):
        assert getattr(planning, name) is getattr(model_facts, name)
    assert vars(planning)["TaskKind"] is TaskKind
