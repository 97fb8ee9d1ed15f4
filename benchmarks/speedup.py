"""How much faster a job gets with more devices.

Part `virtual`: the real planner and placement on a farm under a virtual clock (virtual_farm.py says what is real and
what a model). One `hierarchical` job of 1024x576, 753 frames, for a 13B and a 2B model whose storyboards the distilled
2B draws in its 8 steps, with 8 refining steps and no guidance, in the model's default precision. Part `real`: a whole
farm on this machine (two_nodes.py). Prints one JSON object on its last line:

    equal           {model: {devices: speed-up}}: seconds on one device that is the daemon's own host, so that nothing
                    travels, over seconds on that many such devices, a node each, on 1 GbE, the first of them the
                    daemon's own host as before
                    (goals: 13b 1.85 / 3.5 / 6.5, 2b 1.8 / 3.2 / 5.4 on 2 / 4 / 8)
    equal_apart     the same with the daemon on a host of its own
    equal_own_storyboard  the same as `equal`, with storyboards that the model draws itself
    mixed_of_ideal  {model: {layout: share}}: speed-up on nodes of rates 1, 1, .6, .6, .4, .25 over one device of
                    rate 1, as a share of the sum of the rates (goal: `farm` 0.9)
    bytes_per_job   {model: bytes} over the network, up and down, without segments and video, on 8 equal devices of
                    which none is the daemon's host (goal: at most 90 MB at bf16)
    bytes_per_job_fp32  the same at fp32 (goal: at most 180 MB)
    codenoise       {model: {devices: speed-up}}: as `equal`, with windows in lockstep
    codenoise_bytes {model: {precision: bytes}}: as `bytes_per_job` (goal: at most 210 MB at bf16 and 300 MB at fp32,
                    which is 15 MB for each of 8 steps more)
    seconds         {model: {devices: seconds}} of `equal`, under the virtual clock
    cost_model      what all that rests on
    two_nodes_denoise  speed-up of the windows' stage on two nodes of one thread over one, for real (goal: 1.7)
    two_nodes_job   speed-up of the whole job (goal: 1.5)
    two_nodes_rounds  {nodes: [[seconds of the windows' stage, of the job], …]}

    python benchmarks/speedup.py [virtual] [real] [--rate 100] [--link 1] [--rounds 3] [--explain]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import two_nodes
from virtual_farm import simulate
from virtual_run import Device, Network, Run
from virtual_work import Work, work_of

from farm.model_facts import ModelFacts
from farm.plan import TaskKind, WindowTask
from farm.planning import Plan
from farm.plugins import catalogue, planning_plugins
from farm.spec import parse_spec
from scheduler.placement.estimate import SECONDS_PER_TASK
from scheduler.planning.layout import CandidateDevice
from scheduler.planning.plan import make_plan

GIB = 2**30
VIDEO = {"frames": 753, "width": 1024, "height": 576, "prompt": "a red ball", "guidance_scale": 1.0}
MODELS = {"13b": "ltx-13b-0.9.7-dev", "2b": "ltx-2b-0.9.5"}
STORYBOARD = "ltx-2b-0.9.8-distilled"
REFINING_STEPS = 8
COUNTS = (2, 4, 8)
MIXED = (1.0, 1.0, 0.6, 0.6, 0.4, 0.25)
LAYOUTS = ("fixed", "farm")


class Studio:
    """One job's plans, and farms to run them on under the virtual clock. `precision`: empty is the model's own."""

    def __init__(
        self, options: argparse.Namespace, model: str, precision: str = "", strategy: str = "hierarchical"
    ):
        offers = catalogue(planning_plugins())
        self.options, self.model, self.output = options, model, offers.outputs["mp4"]
        self.strategy = offers.strategies[strategy]
        self.models: dict[str, ModelFacts] = {
            name: replace(facts, precisions=(precision,)) if precision else facts
            for name, facts in offers.models.items()
        }
        self.network = Network(options.link * Network.bytes_per_second)

    def farm(self, *rates: float, apart: bool = False) -> list[Device]:
        """A node for each rate; unless they are `apart` from it, the first is the daemon's own host."""
        # At twice the width a model needs twice the memory.
        vram = self.options.vram * (2 if self.models[self.model].precisions[0] == "fp32" else 1)
        return [
            Device(
                f"node{number}", rate * self.options.rate * 1e12, int(vram * GIB), local=not (number or apart)
            )
            for number, rate in enumerate(rates)
        ]

    def work(self, devices: Sequence[Device], layout: str, storyboard: str) -> tuple[Work, ...]:
        """The job's tasks as it is laid out for these devices."""
        plan = self._plan(devices, layout, storyboard, self._steps)
        return work_of(plan, self.models, self.output)

    @cached_property
    def _steps(self) -> int:
        """Of a schedule that has REFINING_STEPS of them below the sigma that refining starts from."""
        for steps in range(REFINING_STEPS, 10 * REFINING_STEPS):
            plan = self._plan((), "fixed", "", steps)
            windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
            if all(WindowTask.of(window.payload).steps == REFINING_STEPS for window in windows):
                return steps
        raise RuntimeError(f"no schedule of {self.model} refines in {REFINING_STEPS} steps")

    def _plan(self, devices: Sequence[Device], layout: str, storyboard: str, steps: int) -> Plan:
        return make_plan(
            parse_spec({**VIDEO, "model": self.model, "steps": steps, "layout": layout}),
            model=self.models[self.model],
            weights="sha256:none",
            strategy=self.strategy,
            output=self.output,
            candidates=[CandidateDevice(d.node, d.flops_per_second, d.vram_bytes, d.local) for d in devices],
            storyboard=(self.models[storyboard], "sha256:none") if storyboard else None,
        )

    def run(self, devices: Sequence[Device], layout: str = "fixed", storyboard: str = STORYBOARD) -> Run:
        """The job on these devices. `storyboard`: the model that draws it; empty: the job's own."""
        return simulate(self.work(devices, layout, storyboard), devices, self.network)


def virtual(options: argparse.Namespace) -> dict[str, Any]:
    """The measures under the virtual clock."""
    keys = (
        "equal",
        "equal_apart",
        "equal_own_storyboard",
        "mixed_of_ideal",
        "seconds",
        "codenoise",
        "codenoise_bytes",
    )
    result: dict[str, dict[str, Any]] = {key: {name: {} for name in MODELS} for key in keys}
    result |= {"bytes_per_job": {}, "bytes_per_job_fp32": {}}
    for name, model in MODELS.items():
        studio = Studio(options, model)
        alone, by_itself = (studio.run(studio.farm(1.0), storyboard=drawer) for drawer in (STORYBOARD, ""))
        result["seconds"][name]["1"] = round(alone.seconds, 1)
        for count in COUNTS:
            devices = studio.farm(*[1.0] * count)
            run, own = studio.run(devices), studio.run(devices, storyboard="")
            apart = studio.run(studio.farm(*[1.0] * count, apart=True))
            result["seconds"][name][str(count)] = round(run.seconds, 1)
            for key, one, many in (
                ("equal", alone, run),
                ("equal_apart", alone, apart),
                ("equal_own_storyboard", by_itself, own),
            ):
                result[key][name][str(count)] = round(one.seconds / many.seconds, 2)
            if options.explain:
                explain(f"{name}, {count} equal devices", run)
        for layout in LAYOUTS:
            run = studio.run(studio.farm(*MIXED), layout=layout)
            result["mixed_of_ideal"][name][layout] = round(alone.seconds / run.seconds / sum(MIXED), 3)
            if options.explain:
                explain(f"{name}, mixed devices, layout {layout}", run)
        for key, precision in (("bytes_per_job", ""), ("bytes_per_job_fp32", "fp32")):
            wide = Studio(options, model, precision)
            run = wide.run(wide.farm(*[1.0] * max(COUNTS), apart=True))
            result[key][name] = run.bytes_moved(outputs=False)
        result["codenoise"][name], result["codenoise_bytes"][name] = codenoise(options, name, model)
    result["cost_model"] = {
        "teraflops_per_second": options.rate,
        "vram_gib": options.vram,
        "seconds_per_task": SECONDS_PER_TASK,
        **asdict(studio.network),
    }
    return result


def codenoise(options: argparse.Namespace, name: str, model: str) -> tuple[dict[str, float], dict[str, int]]:
    """Speed-ups by devices, and bytes by precision, of the job with its windows in lockstep."""
    studio = Studio(options, model, strategy="codenoise")
    alone = studio.run(studio.farm(1.0)).seconds
    speedups, moved = {}, {}
    for count in COUNTS:
        run = studio.run(studio.farm(*[1.0] * count))
        speedups[str(count)] = round(alone / run.seconds, 2)
        if options.explain:
            explain(f"{name}, codenoise, {count} equal devices", run)
    for precision in ("bf16", "fp32"):
        wide = Studio(options, model, precision, "codenoise")
        run = wide.run(wide.farm(*[1.0] * max(COUNTS), apart=True))
        moved[precision] = run.bytes_moved(outputs=False)
    return speedups, moved


def explain(title: str, run: Run) -> None:
    """Prints what the end of a run waited for, and how busy each device was."""
    print(f"{title}: {run.seconds:.2f} s, of outputs {run.bytes_moved(outputs=True) / 1e6:.0f} MB moved")
    for a in run.critical_path():
        print(
            f"  {a.start:8.2f} {a.task.key:13} on {a.device.node:6} wait and fetch {a.began - a.start:5.2f}"
            f"  work {a.computed - a.began:6.2f}  upload {a.end - a.computed:5.2f}"
        )
    for device in dict.fromkeys(a.device for a in run.attempts):
        own = [a for a in run.attempts if a.device == device]
        busy = sum(a.end - a.start for a in own) / run.seconds
        print(f"  {device.node} busy {busy:4.0%}: {' '.join(a.task.key for a in own)}")


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "virtual": virtual,
    "real": two_nodes.measure,
}
"""What this script can measure; each part gives some of the keys."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rate", type=float, default=100.0, help="TFLOP/s a device of rate 1 sustains")
    parser.add_argument("--link", type=float, default=1.0, help="Gbit/s of each link, and of the daemon's")
    parser.add_argument("--vram", type=float, default=48.0, help="GiB of memory a device has")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the part that is real")
    parser.add_argument("--explain", action="store_true", help="also print what each run waited for")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"part: must be of {', '.join(PARTS)}, got {unknown[0]!r}")
    result: dict[str, Any] = {}
    for part in options.parts or PARTS:
        result |= PARTS[part](options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
