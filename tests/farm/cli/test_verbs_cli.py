"""farmctl's verbs about jobs and tasks: what they print, as text and as JSON, and their exit codes."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result

from farm.cli import main
from farm.states import JobState
from tests.farm.cli.runs import variables
from tests.farm.small_daemon import NODE
from tests.farm.store.store_world import dispatch, finish, submit
from tests.farm_under_test import eventually


@pytest.fixture
def farmctl(daemon):
    """Calls farmctl on the daemon without Ray."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments], env=variables(daemon.home))

    return call


@pytest.fixture
def job(daemon, node):
    """A job whose windows are ready."""
    made = submit(daemon.store)
    finish(daemon.store, dispatch(daemon.store, made, "encode", node_id=NODE))
    return made


def test_a_job_is_paused_shown_as_paused_and_resumed(daemon, farmctl, job):
    dispatch(daemon.store, job, "window/0", node_id=NODE)
    paused = farmctl("job", "pause", job.id)
    assert paused.exit_code == 0
    assert paused.stdout == f"job {job.id} is paused; 1 running task will finish\n"
    listed = farmctl("job", "list", "--state", "paused", "--limit", "1")
    assert job.id in listed.stdout and f"farmctl job list --before {job.id}" in listed.stderr
    assert f"no jobs older than {job.id}" in farmctl("job", "list", "--before", job.id).stderr
    shown = farmctl("job", "show", job.id).stdout
    assert re.search(r"state: +paused", shown) and f"farmctl job resume {job.id}" in shown
    assert "1 task still runs and will finish" in farmctl("job", "why", job.id).stdout
    assert (
        json.loads(farmctl("job", "pause", job.id, "-o", "json").stdout)["job"]["state"] == "JOB_STATE_PAUSED"
    )
    assert farmctl("job", "resume", job.id).stdout == f"job {job.id} is running\n"


def test_a_failed_job_is_retried_from_what_is_done(daemon, farmctl, job):
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    daemon.store.attempts.fail(attempt.id, attempt.epoch, "Traceback\nValueError: bad")
    assert (
        "failed once, on host-nn/d0: ValueError: bad; its log: `farmctl task logs"
        in farmctl("job", "why", job.id).stdout
    )
    only = json.loads(farmctl("job", "retry", job.id, "--failed", "-o", "json").stdout)
    assert only["tasks"] == ["window/0"] and only["job"]["state"] == "JOB_STATE_RUNNING"
    answer = farmctl("job", "retry", job.id)
    assert answer.stdout == f"job {job.id} is running; 3 tasks to run again: window/1, decode/0, mux\n"
    again = farmctl("job", "retry", job.id)
    assert (again.exit_code, again.stdout) == (0, f"job {job.id} is running; there was nothing to retry\n")


TRACEBACK = """Traceback (most recent call last):
  File "/x/nodeagent/renderer.py", line 167, in work
    made = self._perform()
  File "/x/plugins/ltx/denoise.py", line 12, in step
    raise RuntimeError(words)
torch.OutOfLuckError: CUDA error: device-side assert triggered
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


@pytest.fixture
def failed(daemon, job):
    """A job that failed with a traceback of window/0."""
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    daemon.store.attempts.fail(attempt.id, attempt.epoch, TRACEBACK + "note 2\n")
    assert daemon.store.jobs.get(job.id).error.endswith(TRACEBACK + "note 2\n")
    return job


def one_line(job_id: str) -> str:
    return (
        "window/0 failed once, on host-nn/d0: OutOfLuckError: CUDA error: device-side assert triggered; "
        f"its log: `farmctl task logs {job_id}/window/0`; `farmctl job retry {job_id}` continues from the finished tasks"
    )


@pytest.mark.parametrize(
    "ask",
    ["job show {}", "job watch {}", "job why {}", "job outputs {}", "job list", "task list {}", "task show {}/window/0",
     "job download {} -o {folder}/v.mp4", "job outputs {} --partial {folder}", "node list"],
)  # fmt: skip
def test_what_failed_is_told_in_a_line_wherever_it_is_shown(farmctl, failed, tmp_path, ask):
    told = farmctl(*ask.format(failed.id, folder=tmp_path).split())
    for hidden in ("Traceback", "File ", "TORCH_USE_CUDA_DSA", "note 2", "\\x0a"):
        assert hidden not in told.output
    if not ask.startswith(("job list", "node", "job outputs {}")) or "--partial" in ask:
        assert "OutOfLuckError: CUDA error: device-side assert triggered" in told.output
    if ask.startswith(("job show", "job watch")):
        assert one_line(failed.id) in told.output
    if not ask.startswith(("job list", "node", "job outputs {}", "task list")) or "--partial" in ask:
        assert f"`farmctl task logs {failed.id}/window/0`" in told.output
    whole = farmctl("job", "show", failed.id, "-o", "json").stdout
    assert json.loads(whole)["job"]["error"].endswith("note 2\n")


def test_the_whole_error_of_an_attempt_is_kept_for_programs(farmctl, failed):
    shown = json.loads(farmctl("task", "show", f"{failed.id}/window/0", "-o", "json").stdout)["task"]
    assert shown["reason"].startswith("Traceback") and shown["attempts"][-1]["error"].endswith("note 2\n")


def test_a_job_in_which_an_old_failure_was_left_names_that_task(daemon, farmctl, failed):
    farmctl("task", "retry", f"{failed.id}/window/1")
    finish(daemon.store, dispatch(daemon.store, failed, "window/1", node_id=NODE))
    ended = daemon.store.jobs.get(failed.id)
    assert ended.state == JobState.FAILED
    assert one_line(failed.id).partition(" once")[0] in farmctl("job", "show", failed.id).stdout
    assert f"`farmctl task logs {failed.id}/window/0`" in farmctl("job", "why", failed.id).stdout


def test_a_priority_is_given_and_refused_out_of_range(farmctl, job):
    assert farmctl("job", "priority", job.id, 90).stdout == f"job {job.id} has priority 90\n"
    assert re.search(r"priority: +90", farmctl("job", "show", job.id).stdout)
    refused = farmctl("job", "priority", job.id, 101)
    assert refused.exit_code == 2 and "0<=x<=100" in refused.stderr


def test_why_names_reasons_and_devices_and_is_json_on_demand(farmctl, job):
    told = farmctl("job", "why", job.id).stdout
    assert re.search(r"2 tasks are ready", told) and re.search(
        r"decode/0 +waiting +needs window/0, window/1", told
    )
    assert re.search(r"host-nn/d0 +4/4", told)
    answer = json.loads(farmctl("job", "why", job.id, "-o", "json").stdout)
    assert {one["key"] for one in answer["tasks"]} == {"window/0", "window/1", "decode/0", "mux"}
    assert answer["devices"][0] == {
        "device": "host-nn/d0", "fits": 4, "of": 4, "usable": True, "task": "", "reason": ""
    }  # fmt: skip


def test_tasks_are_listed_and_shown_with_every_attempt(daemon, farmctl, node, job):
    lost = dispatch(daemon.store, job, "window/0", node_id=NODE)
    daemon.store.attempts.lose(lost.id, lost.epoch, "the renderer died")
    node.deliver(lost, b"step 1 of 8 done\n")
    listed = farmctl("task", "list", job.id, "--state", "ready").stdout
    assert "window/0" in listed and "window/1" in listed and "mux" not in listed
    found = json.loads(farmctl("task", "list", job.id, "-o", "json").stdout)["tasks"]
    assert len(found) == 5
    shown = farmctl("task", "show", f"{job.id}/window/0").stdout
    assert re.search(r"1 +lost +host-nn/d0 .* kept +the renderer died", shown)
    one = json.loads(farmctl("task", "show", found[1]["id"], "-o", "json").stdout)["task"]
    assert one["key"] == "window/0" and one["job_id"] == job.id


def test_the_log_of_a_killed_renderers_attempt_is_printed(daemon, farmctl, node, job):
    lost = dispatch(daemon.store, job, "window/0", node_id=NODE)
    daemon.store.attempts.lose(lost.id, lost.epoch, "the renderer died")
    node.deliver(lost, "schärfe\nstep 1 of 8 done\n".encode())
    printed = farmctl("task", "logs", f"{job.id}/window/0", "--epoch", 1)
    assert (printed.exit_code, printed.stdout) == (0, "schärfe\nstep 1 of 8 done\n")
    assert "epoch 1 on host-nn/d0 (lost)" in printed.stderr
    assert farmctl("task", "logs", "-f", f"{job.id}/window/0").stdout == printed.stdout


def test_one_task_is_retried(daemon, farmctl, job):
    attempt = dispatch(daemon.store, job, "window/0", node_id=NODE)
    daemon.store.attempts.fail(attempt.id, attempt.epoch, "bad")
    answer = farmctl("task", "retry", f"{job.id}/window/0")
    assert answer.stdout == "window/0 is ready; 1 task to run again: window/0\n"


@pytest.mark.parametrize(
    "command",
    ["job pause X", "job resume X", "job retry X", "job priority X 5", "job why X", "task list X", "task show X/a",
     "task logs X/a", "task retry X/a"],
)  # fmt: skip
def test_what_there_is_not_is_a_failure_that_names_it(farmctl, command):
    asked = farmctl(*command.split())
    assert asked.exit_code == 1 and re.search(r"farmctl: there is no (job|task) 'X", asked.stderr)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("ltx-13b-0.9.7-dev", "it offers no ltx-13b-0.9.7-dev: no weights in /srv/m"),
        ("", "it offers no model: no weights in /srv/m"),
    ],
)
def test_a_node_that_does_not_offer_a_model_says_why_until_it_does(daemon, farmctl, node, model, told):
    def shown(expected: bool) -> bool:
        both = [farmctl("node", "list").stdout, farmctl("node", "show", "host-nn").stdout]
        return all((told in " ".join(text.split())) is expected for text in both)

    node.beat(model_troubles={model: "no weights in /srv/m"})
    eventually("why", lambda: shown(True), 10.0)
    node.beat()
    eventually("nothing is wrong any more", lambda: shown(False), 10.0)
