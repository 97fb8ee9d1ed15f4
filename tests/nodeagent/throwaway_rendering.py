"""The rendering half of a third party's plugin: a model that counts and sleeps, and frames one after the other."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np

from farm.hookspecs import hookimpl
from farm.rendering import OutOfMemory


class NobodyCatches(BaseException):
    """What no library should raise."""


@hookimpl
def farm_load_model(model: str, source: str, precision: str, device):
    return Counter(device)


@hookimpl
def farm_open_output(output: str):
    return Raw()


class Counter:
    """Window: `steps` steps of `sleep` seconds; the result tells how it came about."""

    loaded = 0

    def __init__(self, device):
        Counter.loaded += 1
        self.device = device

    def encode(self, task):
        path = task.folder / "embeddings"
        path.write_text(task.shared["prompts"][0])
        return {"embeddings": path}

    def window(self, task):
        if "says" in task.payload:
            print(task.payload["says"])
            os.write(2, b"a native library complains\n")
        if task.payload.get("fail") == "memory":
            raise OutOfMemory("not enough")
        if task.payload.get("fail") == "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(task.folder))
        if task.payload.get("fail") == "library":
            raise RuntimeError("Error while serializing: No space left on device (os error 28)")
        if task.payload.get("fail") == "vanished":
            shutil.rmtree(task.folder.parent)
            task.folder.parent.write_text("no folder any more")
        if task.payload.get("fail") == "exit":
            raise SystemExit("a library has ended the program")
        if task.payload.get("fail") == "silence":
            raise NobodyCatches
        if task.payload.get("fail"):
            raise ValueError(task.payload["fail"])
        saved = task.saved() if task.payload.get("keeps") else None
        first = int(saved.read_text()) if saved else 0
        for done in range(first, task.payload["steps"]):
            keep = [lambda path, done=done: path.write_text(str(done))] if task.payload.get("keeps") else []
            task.step(done, task.payload["steps"], *keep)
            time.sleep(task.payload.get("sleep", 0))
            while done == task.payload.get("hangs"):
                time.sleep(1)
        if "tells" in task.payload:
            task.report("counted", {"steps": 0})
            task.report("counted to the end", task.payload["tells"])
        if "loads" in task.payload:
            with self.device.loading("counter"):
                _wait_while_there(Path(task.payload["loads"]))
            _wait_while_there(Path(task.payload["loads"] + ".loaded"))
        base = [task.fetch(key, "latents").read_text() for key in task.payload.get("base", [])]
        made = {
            "base": base,
            "loaded": Counter.loaded,
            "threads": os.environ["OMP_NUM_THREADS"],
            "torch_cache": os.environ["TORCHINDUCTOR_CACHE_DIR"],
            "device": [self.device.backend, self.device.index, self.device.threads],
        }
        path = task.folder / "latents"
        path.write_text(json.dumps(made))
        return {"latents": path}

    def join(self, task):
        return self.window(task)

    def decode(self, task):
        for number in range(task.payload["frames"]):
            task.step(number, task.payload["frames"])
            yield np.full((task.shared["height"], task.shared["width"], 3), number, dtype=np.uint8)


def _wait_while_there(path: Path) -> None:
    path.touch()
    while path.exists():
        time.sleep(0.02)


class Raw:
    """Frames' bytes; joined by putting them one after the other."""

    def write_segment(self, frames, path, *, width, height, fps, threads):
        path.write_bytes(b"".join(frame.tobytes() for frame in frames))

    def join_segments(self, segments, path, *, frames, fps, sidecar):
        path.write_bytes(b"".join(segment.read_bytes() for segment in segments))
        path.with_suffix(".json").write_text(
            json.dumps(
                {"frames": frames, "fps": str(fps), "seed": sidecar["seed"], "notes": sidecar["notes"]}
            )
        )
