"""How much faster a job gets with more devices.

Part `virtual`: the real planner and placement on a farm under a virtual clock (virtual_farm.py says what is real and
what a model). One `hierarchical` job of 1024x576, 753 frames, for a 13B and a 2B model, with 8 refining steps and no
guidance, in the model's default precision. Prints one JSON object on its last line:

    equal           {model: {devices: speed-up}}: seconds on one device that is the daemon's own host, so that nothing
                    travels, over seconds on that many such devices, a node each, on 1 GbE
                    (goals: 13b 1.85 / 3.5 / 6.5, 2b 1.8 / 3.2 / 5.4 on 2 / 4 / 8)
    mixed_of_ideal  {model: {layout: share}}: speed-up on nodes of rates 1, 1, .6, .6, .4, .25 over one device of
                    rate 1, as a share of the sum of the rates (goal: `farm` 0.9)
    bytes_per_job   {model: bytes} over the network, up and down, without segments and video, on 8 equal devices
                    (goal: at most 90 MB at bf16, 180 MB at fp32)
    seconds         {model: {devices: seconds}} under the virtual clock
    cost_model      what all that rests on

    python benchmarks/speedup.py [virtual] [--rate 100] [--link 1] [--explain]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from virtual_farm import Device, Network, Run, simulate
from virtual_work import Work, work_of

from farm.planning import Plan, TaskKind
from farm.plugins import Catalogue, catalogue, planning_plugins
from farm.spec import parse_spec
from scheduler.estimate import SECONDS_PER_TASK
from scheduler.layout import Lender
from scheduler.plan import make_plan

GIB = 2**30
VIDEO = {"frames": 753, "width": 1024, "height": 576, "prompt": "a red ball", "guidance_scale": 1.0}
MODELS = {"13b": "ltx-13b-0.9.8-distilled", "2b": "ltx-2b-0.9.5"}
STORYBOARDS = {"ltx-13b-0.9.8-distilled": "ltx-2b-0.9.8-distilled", "ltx-2b-0.9.5": "ltx-2b-0.9.8-distilled"}
"""By whom the storyboard is drawn, where not by the model itself."""
REFINING_STEPS = 8
COUNTS = (2, 4, 8)
LAYOUTS = ("fixed", "farm")
MIXED = (1.0, 1.0, 0.6, 0.6, 0.4, 0.25)


def plan_of(offers: Catalogue, model: str, layout: str, devices: Sequence[Device]) -> Plan:
    """The job's plan for those devices."""
    for steps in range(REFINING_STEPS, 10 * REFINING_STEPS):
        plan = make_plan(
            parse_spec({**VIDEO, "model": model, "steps": steps, "layout": layout}),
            model=offers.models[model],
            weights="sha256:none",
            strategy=offers.strategies["hierarchical"],
            output=offers.outputs["mp4"],
            storyboard=(offers.models[STORYBOARDS[model]], "sha256:none") if model in STORYBOARDS else None,
            lenders=[Lender(device.node, device.flops_per_second, device.vram_bytes) for device in devices],
        )
        windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
        # A schedule of this many steps leaves fewer of them below the sigma that refining starts from.
        if all(len(window.payload["sigmas"]) == REFINING_STEPS + 1 for window in windows):
            return plan
    raise RuntimeError(f"no schedule of {model} refines in {REFINING_STEPS} steps")


def virtual(options: argparse.Namespace) -> dict:
    """The measures under the virtual clock."""
    offers = catalogue(planning_plugins())
    network = Network(options.link * Network.bytes_per_second)

    def farm(*rates: float) -> list[Device]:
        return [
            Device(f"node{number}", rate * options.rate * 1e12, int(options.vram * GIB), local=not number)
            for number, rate in enumerate(rates)
        ]

    def work(layout: str, name: str, devices: Sequence[Device]) -> tuple[Work, ...]:
        plan = plan_of(offers, MODELS[name], layout, devices)
        return work_of(plan, offers.models, offers.outputs["mp4"])

    result: dict[str, dict] = {
        key: {name: {} for name in MODELS} for key in ("equal", "mixed_of_ideal", "seconds")
    }
    result["bytes_per_job"] = {}
    for name in MODELS:
        alone = simulate(work("fixed", name, farm(1.0)), farm(1.0), None)
        result["seconds"][name]["1"] = round(alone.seconds, 1)
        for count in COUNTS:
            devices = farm(*[1.0] * count)
            run = simulate(work("fixed", name, devices), devices, network)
            result["equal"][name][str(count)] = round(alone.seconds / run.seconds, 2)
            result["seconds"][name][str(count)] = round(run.seconds, 1)
            if options.explain:
                explain(f"{name}, {count} equal devices", run)
            if count == max(COUNTS):
                result["bytes_per_job"][name] = run.bytes_moved(outputs=False)
        devices = farm(*MIXED)
        for layout in LAYOUTS:
            run = simulate(work(layout, name, devices), devices, network)
            result["mixed_of_ideal"][name][layout] = round(alone.seconds / run.seconds / sum(MIXED), 3)
            if options.explain:
                explain(f"{name}, mixed devices, layout {layout}", run)
    result["cost_model"] = {
        "teraflops_per_second": options.rate,
        "vram_gib": options.vram,
        "seconds_per_task": SECONDS_PER_TASK,
        **asdict(network),
    }
    return result


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


PARTS: dict[str, Callable[[argparse.Namespace], dict]] = {"virtual": virtual}
"""What this script can measure; each part gives some of the keys."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rate", type=float, default=100.0, help="TFLOP/s a device of rate 1 sustains")
    parser.add_argument("--link", type=float, default=1.0, help="Gbit/s of each link, and of the daemon's")
    parser.add_argument("--vram", type=float, default=48.0, help="GiB of memory a device has")
    parser.add_argument("--explain", action="store_true", help="also print what each run waited for")
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"part: must be of {', '.join(PARTS)}, got {unknown[0]!r}")
    result: dict = {}
    for part in options.parts or PARTS:
        result |= PARTS[part](options)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
