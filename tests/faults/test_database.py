"""The database under a rendering farm: restarted, taken by another daemon, lost and restored from a backup."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from farm.client import FarmClient, Unreachable
from farm.v1 import jobs_pb2
from tests.farm.cli.runs import PROGRAM
from tests.farm_under_test import SHOT, WALKING, FarmUnderTest, eventually
from tests.postgres_server import PostgresServer

# Short, so that the database can be away for longer without the tests taking minutes.
LEASES = "[leases]\nheartbeat = 1.0\nlease = 5.0\nrequeue = 8.0\n"
LOST, SUCCEEDED = jobs_pb2.ATTEMPT_STATE_LOST, jobs_pb2.ATTEMPT_STATE_SUCCEEDED
TASK_SUCCEEDED = jobs_pb2.TASK_STATE_SUCCEEDED


def execute(server: PostgresServer, *statements: str) -> None:
    """In the server's own database."""
    engine = create_engine(server.url.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture(scope="module")
def farm(own_postgres, tmp_path_factory) -> Iterator[FarmUnderTest]:
    """One node of one thread, the record on a PostgreSQL of its own."""
    execute(own_postgres, "CREATE DATABASE farm")
    farm = FarmUnderTest(tmp_path_factory.mktemp("database"), WALKING)
    (farm.home / "farm.toml").write_text(f'[store]\nurl = "{own_postgres.url.format(name="farm")}"\n{LEASES}')
    try:
        farm.start_daemon()
        farm.start_node("north")
        farm.wait_for_renderers("north")
        yield farm
    finally:
        farm.close()


def farmctl(farm: FarmUnderTest, *arguments: object) -> subprocess.CompletedProcess:
    """farmctl db on this farm's home."""
    return subprocess.run(
        [*PROGRAM, "db", "--home", str(farm.home), *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def tried(answer: jobs_pb2.GetJobResponse) -> dict[str, list[int]]:
    """States of the attempts of each task."""
    return {task.key: [attempt.state for attempt in task.attempts] for task in answer.tasks}


def test_a_database_away_for_longer_than_the_requeue_delay_costs_no_window(farm, own_postgres):
    daemon = farm.daemon_pid
    job_id = farm.submit(**SHOT)
    farm.running(job_id, "window", steps=2, seconds=90)
    own_postgres.stop(signal.SIGINT)
    gone = time.monotonic()
    with FarmClient.from_profile(farm.home / "client.json", patience=0.0) as client:
        with pytest.raises(Unreachable, match="answers, but its database can't be used now"):
            client.job(job_id)
        with pytest.raises(Unreachable, match="goes on by itself when it is back"):
            client.submit(frames=49, width=128, height=96, prompt="a red ball")
    time.sleep(max(0.0, gone + 10.0 - time.monotonic()))
    own_postgres.start()
    answer = farm.succeed(job_id, 240)
    assert tried(answer) == {task.key: [SUCCEEDED] for task in answer.tasks}, "nothing is rendered again"
    assert farm.daemon_pid == daemon, "it went on by itself"
    with farm.client as client:
        assert len(client.jobs(limit=10)) == 1, "what was refused was not done"


def test_a_backup_taken_while_rendering_restores_to_a_farm_that_finishes(farm, own_postgres, tmp_path):
    job_id = farm.submit(**SHOT)
    window, interrupted = farm.running(job_id, "window", steps=2, seconds=90)
    # It must not be through before the backup is made.
    os.kill(farm.renderer_of("north"), signal.SIGSTOP)
    with farm.client as client:
        at_backup = client.job(job_id)
    before = {t.key: tried(at_backup)[t.key] for t in at_backup.tasks if t.state == TASK_SUCCEEDED}
    made = farmctl(farm, "backup", tmp_path / "night.backup")
    assert made.returncode == 0, made.stderr
    refused = farmctl(farm, "restore", tmp_path / "night.backup", "--force")
    assert refused.returncode == 1 and f"farmd, pid {farm.daemon_pid} on" in refused.stderr
    # The night: everything dies, and the database with it.
    farm.kill_daemon()
    farm.kill_node("north")
    execute(own_postgres, "DROP DATABASE farm WITH (FORCE)", "CREATE DATABASE farm")
    restored = farmctl(farm, "restore", tmp_path / "night.backup")
    assert restored.returncode == 0, restored.stderr
    farm.start_daemon()
    farm.start_node("north")
    answer = farm.succeed(job_id, 240)
    assert before and before == {key: tried(answer)[key] for key in before}, "what was done stays done"
    (found,) = [task for task in answer.tasks if task.key == window.key]
    states = {attempt.epoch: attempt.state for attempt in found.attempts}
    why = [attempt.error for attempt in found.attempts]
    assert states[interrupted.epoch] == LOST and states[max(states)] == SUCCEEDED, why


def test_a_second_daemon_waits_its_turn_and_a_deposed_one_ends(farm, own_postgres, tmp_path_factory):
    other = FarmUnderTest(tmp_path_factory.mktemp("second"))
    (other.home / "farm.toml").write_text((farm.home / "farm.toml").read_text())
    try:
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "farmd.main",
            "--home",
            other.home,
            "--listen",
            other.listen,
        ]
        refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1
        assert (
            f"led by farmd, pid {farm.daemon_pid} on" in refused.stderr and "farmctl down" in refused.stderr
        )
        assert not (other.home / "ray" / "ray-head.pid").exists(), "nothing was started"

        first = farm.daemon_pid
        os.kill(first, signal.SIGSTOP)
        execute(
            own_postgres,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'farm'",
        )
        other.start_daemon()
        job_id = other.submit()
        os.kill(first, signal.SIGCONT)
        eventually("the deposed daemon ends", lambda: farm.daemon_ended() == 1, 30)
        assert f"farmd, pid {other.daemon_pid} on" in (farm.home / "farmd.log").read_text().splitlines()[-1]

        other.kill_daemon()
        began = time.monotonic()
        farm.start_daemon()
        assert time.monotonic() - began < 20, "at once, but for starting"
        with farm.client as client:
            assert client.job(job_id).job.id == job_id
    finally:
        other.close()
