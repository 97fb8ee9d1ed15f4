"""The renderer: a process that keeps models loaded on one device, and does tasks there.

It does one task at a time, or the tasks of one lockstep group, which take each denoising step together.
"""

SOCKET_VARIABLE = "FARM_AGENT_SOCKET"
"""Environment of renderers: where the agent of this machine listens."""

HOME_VARIABLE = "FARM_AGENT_HOME"
"""Environment of renderers: the agent's folder, in which renderers have theirs."""

ALLOCATION = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
}
"""Environment of renderers: glibc keeps what tensors free and gives it out again.

By default it returns large blocks to the system and has every page of the next one cleared; on a CPU that costs an
eighth of the time (ltx-tiny at 512x288, 249 frames: 7.7 s became 6.7 s).
"""
