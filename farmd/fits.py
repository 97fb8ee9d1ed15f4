"""Finds which devices could take the tasks of a job, and why other devices can't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from farm.plan import JobJson
from farm.policy.explain import DeviceFit, Fit
from farm.records import ReadyRecord, TaskRecord
from farm.store.store import Store
from scheduler.dispatch.snapshot import ready_task, slots_of
from scheduler.placement.place import misfit
from scheduler.placement.values import ReadyTask, Slot


def fit(tasks: Sequence[ReadyTask], slots: Sequence[Slot], busy_with: Callable[[Slot], str]) -> Fit:
    """Find out how many of `tasks` each device could take, and which tasks no device could take.

    `busy_with` is called with a device, and returns the device's current task, or "" if there is none.
    """
    # A job's windows are much alike, and there may be thousands of them.
    kinds: dict[tuple[object, ...], list[ReadyTask]] = {}
    for task in tasks:
        kinds.setdefault((task.model, task.weights, task.vram_bytes, task.fp8), []).append(task)
    problems = {kind: {slot.key: misfit(alike[0], slot) for slot in slots} for kind, alike in kinds.items()}
    devices = []
    for slot in slots:
        why = Counter({problems[kind][slot.key]: len(alike) for kind, alike in kinds.items()})
        unfit = next((problem for problem, _ in why.most_common() if problem), "")
        devices.append(
            DeviceFit(
                device=slot.name,
                fits=sum(len(alike) for kind, alike in kinds.items() if problems[kind][slot.key] is None),
                of=len(tasks),
                usable=slot.usable,
                task=busy_with(slot),
                reason=unfit if slot.usable else slot.reason,
            )
        )
    homeless: dict[str, str] = {}
    if slots:
        biggest = max(slots, key=lambda slot: slot.vram_bytes)
        for kind, alike in kinds.items():
            if all(problems[kind].values()):
                homeless |= {task.key: f"{biggest.name} {problems[kind][biggest.key]}" for task in alike}
    return Fit(tuple(devices), homeless)


_NOTHING = JobJson({})
"""Of a job nothing is asked here that its tasks don't say."""


class Fits:
    """Finds out which of the farm's devices could take given tasks.

    Args:
        renderer_up: Returns whether a device's renderer can take work. Called with node id and device name.
        trouble: Returns why a device's renderer can't take work. Called with node id and device name.
        lacks: Returns the models that a node should offer but doesn't, each with the reason. Called with the node id.
    """

    def __init__(
        self,
        store: Store,
        renderer_up: Callable[[str, str], bool],
        trouble: Callable[[str, str], str],
        lacks: Callable[[str], Mapping[str, str]] = lambda node_id: {},
    ):
        self._store, self._renderer_up, self._trouble, self._lacks = store, renderer_up, trouble, lacks

    def fit(self, tasks: Sequence[TaskRecord]) -> Fit:
        """Find out how many of `tasks` each device could take, and which tasks no device could take. Blocks."""
        nodes = self._store.nodes.list()
        doing = {(node.id, device.name): device.task for node in nodes for device in node.devices}
        wanted = [ready_task(ReadyRecord(task, 0, 0.0, _NOTHING, {})) for task in tasks]
        slots = slots_of(nodes, self._renderer_up, self._trouble, lacks=self._lacks)
        return fit(wanted, slots, lambda slot: doing[slot.key])
