"""What the store keeps of nodes, and what a reboot means."""

from __future__ import annotations

import pytest

from farm.policy.failures import Cause
from farm.records import DeviceRecord, ModelOffer
from farm.states import NodeState
from farm.store.errors import NotFound
from tests.farm.store.store_world import GIB, dispatch, finish, join, run, stage, submit, task


def test_a_node_is_kept_as_it_described_itself_last(store):
    join(store)
    card = DeviceRecord(
        "cuda0", "cuda", "RTX 4090", 24 * GIB, "8.9", True, "550.1", False, flops_per_second=8e13
    )
    join(store, devices=[card], name="ws7", models=[("ltx-13b", "w9")], ray_node_id="r1")
    node = store.nodes.get("n1")
    assert store.lookup.node("ws7") == "n1"
    assert (node.name, node.state, node.ray_node_id) == ("ws7", NodeState.ONLINE, "r1")
    assert node.devices == (card,)
    assert node.models == (ModelOffer("ltx-13b", "w9"),)


def test_a_node_shows_what_its_devices_do(store):
    join(store)
    job = submit(store)
    dispatch(store, job, "encode", device="d1")
    assert [device.task for device in store.nodes.list()[0].devices] == ["", f"{job.id}/encode"]


def test_a_reboot_loses_what_ran_at_once_and_a_reconnection_does_not(store):
    join(store)
    attempt = dispatch(store, submit(store), "encode")
    join(store)
    assert store.attempts.live() == [attempt]
    lost = store.nodes.hello("n1", "ws7", "127.0.0.1", "0.1.0", "b2", [DeviceRecord("d0", "cpu")])
    assert [one.id for one in lost] == [attempt.id]
    assert store.attempts.live() == []
    assert len(store.tasks.ready()) == 1


@pytest.mark.parametrize("boot_id", ["b1", "b2"])
def test_what_ran_on_a_device_that_its_node_no_longer_offers_is_lost_unless_the_node_will_tell_its_end(
    store, boot_id
):
    join(store, devices=[DeviceRecord(device, "cpu") for device in ("d0", "d1", "d2")])
    there, gone, told = (
        dispatch(store, submit(store), "encode", device=device) for device in ("d0", "d1", "d2")
    )
    held = [there.ref, told.ref]
    lost = store.nodes.hello(
        "n1", "ws7", "127.0.0.1", "0.1.0", boot_id, [DeviceRecord("d0", "cpu")], held=held
    )
    assert [one.id for one in lost] == [gone.id]
    why = "the node ws7 no longer offers d1" if boot_id == "b1" else "the node was rebooted"
    assert store.attempts.get(gone.id).error == why
    assert store.attempts.renew("n1", [gone.ref], 1e9) == [], "whoever still holds it may not go on"
    assert finish(store, told).committed, "it had ended before"


def test_a_silent_node_is_offline_until_it_is_heard_of_and_its_work_is_left_alone(store):
    join(store)
    attempt = dispatch(store, submit(store), "encode")
    store.nodes.offline("n1", "silent for 15 s")
    store.nodes.offline("n1", "silent for 20 s")
    node = store.nodes.get("n1")
    assert (node.state, node.reason) == (NodeState.OFFLINE, "silent for 15 s")
    assert store.attempts.live() == [attempt]
    store.nodes.seen("n1", ray_node_id="r2")
    back = store.nodes.get("n1")
    assert (back.state, back.reason, back.ray_node_id) == (NodeState.ONLINE, "", "r2")
    assert back.last_seen_at > node.last_seen_at
    store.nodes.seen("n1")
    assert store.nodes.get("n1").ray_node_id == "", "its raylet ended"
    assert [e.kind for e in store.events.after(0) if e.node_id == "n1" and not e.job_id] == [
        "joined",
        "offline",
        "online",
    ]


def test_why_a_node_gets_no_work_outlives_a_silence(store):
    join(store, reason="its Ray is another version")
    store.nodes.offline("n1", "silent")
    store.nodes.seen("n1")
    assert store.nodes.get("n1").reason == "its Ray is another version"


def test_unknown_nodes_are_refused_by_name(store):
    for ask in (store.nodes.get, store.nodes.seen, lambda id: store.nodes.offline(id, "")):
        with pytest.raises(NotFound, match="there is no node 'nobody'"):
            ask("nobody")
    join(store, "n3", name="workstation-3")
    with pytest.raises(NotFound, match=r"no node 'wrokstation-3'; .*; did you mean 'workstation-3'\?"):
        store.lookup.node("wrokstation-3")


def test_weights_on_offer_are_counted_over_online_nodes_first(store):
    for node_id, weights in (("n1", "w1"), ("n2", "w1"), ("n3", "w2")):
        join(store, node_id, models=[("ltx-tiny", weights), ("other", "w7")])
    assert store.nodes.weights_of("ltx-tiny") == {"w1": 2, "w2": 1}
    store.nodes.offline("n2", "silent")
    assert store.nodes.weights_of("ltx-tiny") == {"w1": 1, "w2": 1}
    store.nodes.offline("n1", "silent")
    store.nodes.offline("n3", "silent")
    assert store.nodes.weights_of("ltx-tiny") == {"w1": 2, "w2": 1}
    assert store.nodes.weights_of("unknown") == {}


def render(store, seconds: float, key: str = "window/0") -> None:
    """A job's encode and one more task, whose steps take `seconds`; its estimate is 1e9 FLOPs."""
    job = submit(store)
    finish(store, dispatch(store, job, "encode"))
    attempt = dispatch(store, job, key)
    store.attempts.succeed(attempt.id, 1, [stage(store, attempt)], 99.0, working_seconds=seconds)


def speeds(store, device: int = 0) -> list[tuple[str, float, int]]:
    return [tuple(speed) for speed in store.nodes.get("n1").devices[device].speeds]


def test_the_speed_of_windows_is_kept_by_device_and_model_and_follows_what_is_seen(store):
    join(store)
    render(store, 2.0)
    assert speeds(store) == [("ltx-tiny", 0.5e9, 1)] and speeds(store, 1) == []
    render(store, 1.0)
    assert speeds(store) == [("ltx-tiny", 0.75e9, 2)]
    for _ in range(40):
        render(store, 4.0)
    ((_, rate, windows),) = speeds(store)
    assert windows == 42 and rate == pytest.approx(0.25e9, rel=0.02), "what was long ago is forgotten"
    join(store, boot_id="b2")
    assert speeds(store)[0][2] == 42, "a reboot changes no card"


def test_only_a_committed_window_tells_of_speed(store):
    join(store)
    job = submit(store)
    encode = dispatch(store, job, "encode")
    store.attempts.succeed(encode.id, 1, [stage(store, encode)], 1.0, working_seconds=1.0)
    attempt = dispatch(store, job, "window/0")
    made = stage(store, attempt)
    store.attempts.lose(attempt.id, 1, "the renderer died", Cause.RENDERER_DIED)
    store.attempts.succeed(attempt.id, 1, [made], 1.0, working_seconds=1.0)
    assert speeds(store) == []


def test_a_storyboard_makes_no_device_look_slow(store):
    join(store)
    job = submit(store, {"storyboard/0": []})
    drawn = dispatch(store, job, "storyboard/0")
    store.attempts.succeed(drawn.id, 1, [stage(store, drawn)], 9.0, working_seconds=9.0)
    assert speeds(store) == []


def test_another_card_under_the_same_name_begins_anew(store):
    join(store)
    render(store, 2.0)
    join(store, devices=[DeviceRecord("d0", "cpu", model="another", vram_bytes=8 * GIB)])
    assert speeds(store) == []


def test_a_node_that_its_owner_wants_gets_nothing_new_and_keeps_what_it_has(store):
    join(store)
    job = submit(store)
    run(store, job, "encode")
    has = dispatch(store, job, "window/0")
    store.nodes.seen("n1", "r1", owner_reason="leaves the machine to its owner")
    assert store.nodes.get("n1").reason == "leaves the machine to its owner"
    ready = task(store, job, "window/1")
    assert store.attempts.dispatch(ready.id, ready.epoch, "n1", "d1", 10.0) is None
    # Also what was thought lost meanwhile and is heard of again.
    assert store.attempts.expire(11.0) and store.attempts.renew("n1", [has.ref], 20.0) == [has.ref]
    assert finish(store, has).committed
    store.nodes.seen("n1", "r1", owner_reason="leaves the machine to its owner")
    store.nodes.seen("n1", "r1")
    assert store.nodes.get("n1").reason == ""
    dispatch(store, job, "window/1")
    assert [event.message for event in store.events.after(0) if event.kind == "owner"] == [
        "host-n1 takes no work: it leaves the machine to its owner",
        "host-n1 takes work again",
    ]


def test_a_node_may_come_with_an_owner_at_it(store):
    join(store, owner_reason="has quiet hours now (22:00-06:00)")
    assert store.nodes.get("n1").reason == "has quiet hours now (22:00-06:00)"
    store.nodes.offline("n1", "is offline")
    assert store.nodes.get("n1").reason == "is offline"
