"""The farm as a studio runs it: PostgreSQL for the record, a Ray cluster that is there already."""

from __future__ import annotations

import shutil

from sqlalchemy import create_engine, text

from farm.processes.ray_process import RayHead
from farm.v1 import jobs_pb2
from farm.wire.security import ray_token_file
from tests.farm_under_test import SHOT, WALKING, FarmUnderTest


def test_a_farm_on_postgresql_and_somebody_elses_ray_survives_its_daemon(postgres, tmp_path_factory, clip):
    engine = create_engine(postgres.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE production"))
    engine.dispose()
    cluster = tmp_path_factory.mktemp("cluster")
    head = RayHead(cluster, "127.0.0.1", 0, ray_token_file(cluster))
    farm = FarmUnderTest(tmp_path_factory.mktemp("production"), WALKING)
    head.start()
    try:
        head.ready(60)
        # Its token is the cluster's, put there by whoever runs both.
        token = farm.home / "ray" / "token"
        token.parent.mkdir(mode=0o700)
        shutil.copy(head.token_file, token)
        (farm.home / "farm.toml").write_text(
            f'[store]\nurl = "{postgres.format(name="production")}"\n[ray]\naddress = "{head.address}"\n'
        )
        farm.start_daemon()
        farm.start_node("north")
        farm.wait_for_renderers("north")
        job_id = farm.submit(conditions=[clip], **SHOT)
        farm.running(job_id, "window")
        farm.kill_daemon()
        farm.start_daemon()
        answer = farm.succeed(job_id)
        assert [len(task.attempts) for task in answer.tasks] == [1] * len(answer.tasks)
        assert answer.job.state == jobs_pb2.JOB_STATE_SUCCEEDED
        assert not (farm.home / "farm.db").exists()
        assert head.alive()
    finally:
        try:
            farm.close()
            assert head.alive(), "a cluster that the farm joined is not the farm's to end"
        finally:
            head.stop()
