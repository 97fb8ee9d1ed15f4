"""What people name: jobs, tasks and nodes by whole ids, by beginnings of ids, and by names."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import create_engine

from farm.store import Store
from farm.store.errors import Ambiguous, NotFound
from farm.store.migrations import upgrade
from farm.store.tables import jobs
from tests.farm.store.store_world import join, plan, spec, submit, task


@pytest.fixture
def three(store) -> list[str]:
    """Jobs sh010, sh020 and sh020, some minutes apart, whose ids begin alike; the oldest first."""
    made = []
    store._database.wall.now = 1_799_980_000.0
    for name in ("sh010", "sh020", "sh020"):
        store._database.wall.now += 120
        made.append(submit(store, name=name).id)
    return made


@pytest.mark.parametrize("blanks", ["", " ", "\n"])
@pytest.mark.parametrize("change", [str, str.upper])
@pytest.mark.parametrize("digits", [None, 12])
def test_a_job_is_found_by_its_id_or_the_beginning_of_it(store, three, blanks, change, digits):
    for id in three:
        assert store.lookup.job(blanks + change(id[:digits]) + blanks) == id


def test_a_job_is_found_by_a_name_that_no_other_has(store, three):
    assert store.lookup.job("sh010") == three[0]
    for other in ("SH010", "sh01", "sh0100", "sh", "%", "sh01_"):
        with pytest.raises(NotFound, match=f"no job '{other}'"):
            store.lookup.job(other)


def test_a_name_that_several_jobs_have_is_refused_with_all_of_them_newest_first(store, three):
    with pytest.raises(Ambiguous) as refused:
        store.lookup.job("sh020", "before")
    first, *lines = str(refused.value).splitlines()
    assert first == "before: 'sh020' could be any of 2 jobs; give the whole id of one:"
    assert [line.split()[0] for line in lines] == [three[2], three[1]]
    assert all("  queued  submitted 2027-01-15 0" in line and line.endswith("  sh020") for line in lines)


def test_the_beginning_of_several_ids_is_refused_and_what_is_too_short_is_no_beginning(store, three):
    with pytest.raises(Ambiguous, match="any of 3 jobs"):
        store.lookup.job(three[0][:6])
    for short in (three[0][:5], "j-", "", " "):
        with pytest.raises(NotFound, match="first 6 or more characters .* `farmctl job list`"):
            store.lookup.job(short)


def test_of_very_many_only_the_newest_are_listed(store):
    made = [submit(store, {"encode": []}, name="again").id for _ in range(13)]
    with pytest.raises(Ambiguous, match="any of 13 jobs") as refused:
        store.lookup.job("again")
    lines = str(refused.value).splitlines()[1:]
    assert [line.split()[0] for line in lines[:-1]] == made[:2:-1] and lines[-1] == "  and 3 more"


def test_a_whole_id_wins_over_a_name_and_a_name_that_begins_another_id_is_refused(store):
    first = submit(store).id
    namesake = submit(store, name=first).id
    assert store.lookup.job(first) == first != namesake
    store._database.wall.now += 86_400
    other = submit(store).id
    called = submit(store, name=other[:12]).id
    with pytest.raises(Ambiguous, match="any of"):
        store.lookup.job(other[:12])
    assert store.lookup.job(called) == called


@pytest.mark.parametrize(
    "name", ["shots/sh010", "sh010/window", "sh010/window/3", "a/b/c/d", "50%_off", "Bär 7"]
)
def test_names_may_hold_anything_and_so_may_those_before_a_tasks_key(store, name):
    submit(store, name="other")
    job = submit(store, name=name)
    assert store.lookup.job(name) == job.id
    for key in ("encode", "window/1", "mux"):
        assert store.lookup.task(f"{name}/{key}").id == task(store, job, key).id
        assert store.lookup.task(f" {job.id.upper()}/{key}\n").id == task(store, job, key).id


def test_a_task_is_found_by_its_id_the_beginning_of_it_or_its_job(store, three):
    wanted = task(store, store.jobs.get(three[0]), "window/1")
    for name in (wanted.id, wanted.id.upper(), f" {wanted.id[:-1]} ", f"sh010/{wanted.key}", f"{three[0][:12]}/{wanted.key}"):  # fmt: skip
        assert store.lookup.task(name) == wanted
    with pytest.raises(Ambiguous, match="task: .* any of 15 tasks(?s:.*)\n  and 5 more"):
        store.lookup.task(wanted.id[:6])


def test_a_task_of_a_job_that_is_not_named_for_sure_is_refused(store, three):
    with pytest.raises(Ambiguous, match=f"any of 2 jobs(?s:.*){three[2]}(?s:.*){three[1]}"):
        store.lookup.task("sh020/window/0")
    store.jobs.submit(spec(name="sh010"), plan({"encode": []}))
    with pytest.raises(Ambiguous, match="any of 2 jobs"):
        store.lookup.task("sh010/window/0")  # though only one of them has such a task


def test_what_is_no_task_is_not_found_with_what_would_be(store, three):
    for name in ("window/0", "sh010", "nobody/window/0", "/", "/window/0", "sh010/", three[0]):
        with pytest.raises(NotFound, match="no task .*JOB/window/3"):
            store.lookup.task(name)
    with pytest.raises(NotFound, match=f"no task 'sh010/window/9'; `farmctl task list {three[0]}`"):
        store.lookup.task("sh010/window/9")


def test_a_node_is_found_by_its_id_the_beginning_of_it_or_its_name(store):
    ids = ["0badc0ffee" + "0" * 22, "0badcafe" + "0" * 24]
    for number, id in enumerate(ids):
        join(store, id, name=f"ws{number + 1}0")
    for name in (ids[0], ids[0][:7], ids[0][:8].upper(), "ws10", " ws10\n"):
        assert store.lookup.node(name) == ids[0]
    for name in ("ws1", "WS10", ids[0][:5], "", "ws"):
        with pytest.raises(NotFound, match=f"no node '{name}'; .*`farmctl node list`"):
            store.lookup.node(name)
    join(store, "n" * 32, name="0badc0")
    with pytest.raises(Ambiguous, match="node: '0badc0' could be any of 2 nodes"):
        store.lookup.node("0badc0")
    store.nodes.offline("n" * 32, "silent")
    store.nodes.forget("n" * 32)
    assert store.lookup.node("0badc0") == ids[0]


def test_nodes_of_one_name_are_told_apart_by_id(store):
    join(store, "n1", name="twin")
    join(store, "n2", name="twin")
    with pytest.raises(Ambiguous, match="(?s)any of 2 nodes.*\n  n1  online  twin\n  n2  online  twin"):
        store.lookup.node("twin")
    assert store.lookup.node("n2") == "n2"


def test_jobs_of_an_older_schema_are_found_by_their_names(empty_url):
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        upgrade(connection, "0011_age")
        columns = [column for column in jobs.columns if column.name != "name"]
        for id, name in (("j-1", "sh010"), ("j-2", 'Bär "7"'), ("j-3", "")):
            row: dict[str, Any] = {
                "id": id,
                "state": "queued",
                "spec": spec(name=name).model_dump(mode="json"),
            }
            for column in columns:
                filler: dict[str, Any] | list[Any] | int = (
                    {} if column.name == "shared" else [] if column.name == "notes" else 0
                )
                row.setdefault(column.name, None if column.nullable else filler)
            row |= dict.fromkeys(("strategy", "model", "weights", "precision", "error"), "")
            connection.execute(jobs.insert().inline().values(row))
    engine.dispose()
    with Store.lead(empty_url, "test") as store:
        assert store.lookup.job("sh010") == "j-1" and store.lookup.job('Bär "7"') == "j-2"
        assert store.jobs.get("j-3").spec.name == ""
