"""What can be set: farm.toml for the daemon, node.toml for an agent, environment and flags on top.

Every setting, its default and its words live in the models below; the commented examples are made of them.
How they are read, layered and refused is farm.settings' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from farm.policy import hours
from farm.policy.failures import Terms
from farm.policy.retention import Keeping
from farm.settings import (
    Address,
    Addresses,
    Bytes,
    DatabaseUrl,
    Folder,
    Folders,
    InvalidConfig,
    Ipv4,
    ModelSources,
    OptionalAddress,
    Settings,
    StoreUrl,
    Words,
    anchored_environment,
    example,
    load,
)
from farm.wire import addresses

__all__ = [
    "DeclaredDevice",
    "FarmConfig",
    "InvalidConfig",
    "NodeConfig",
    "environment_for_children",
    "example_toml",
    "load_config",
    "load_node_config",
]

Seconds = Annotated[float, Field(gt=0, le=3600)]
Span = Annotated[float, Field(gt=0, le=30 * 86_400)]
Patience = Annotated[float, Field(ge=0, le=86_400)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Server(Settings):
    """The daemon's gRPC port. TLS and tokens are always on, so it may listen beyond loopback."""

    listen: Address = Field(
        "127.0.0.1:7433",
        description="Address and port to listen on. For workstations on the network: 0.0.0.0:7433.",
    )
    advertise: Addresses = Field(
        (),
        description="Addresses or names (host:port) at which workstations reach this daemon: in what "
        "`farmctl node enroll` prints, in client profiles and in the certificate. Ray is at the first of them "
        "that is an IPv4 address of this machine. Empty: this machine's address towards the network.",
    )


class Store(Settings):
    """Where jobs are kept. One daemon at a time leads the farm in a database; a second one is refused."""

    url: DatabaseUrl = Field(
        "",
        repr=False,
        description="SQLAlchemy URL. Empty: SQLite, farm.db in the home. For production: "
        "postgresql+psycopg://user:password@host/farm, a database of the farm's own, reached directly and not "
        "through a pooler that shares sessions.",
    )


class Artifacts(Settings):
    """Where latents, segments, media and videos are kept."""

    url: StoreUrl = Field(
        "",
        repr=False,
        description="fsspec URL or folder, such as s3://bucket/farm. Empty: artifacts in the home.",
    )


class Keep(Settings):
    """What is kept of jobs that have ended. Their videos, sidecars and logs always are, and the clips of those that
    failed or were cancelled: a retry makes again whatever else is gone."""

    days: float = Field(
        14.0,
        ge=0,
        le=36_500,
        description="Days after the end of a job for which its latents, segments and the like are kept, and clips "
        "after the last of their jobs has succeeded. Uploads for which no job comes are kept as long, and a day at "
        "least.",
    )
    max_bytes: Bytes = Field(
        100 * 2**30,
        description='How much all jobs that have ended may leave, in bytes or as "100GiB"; where it is more, what the '
        "oldest left goes sooner.",
    )


class MediaRoots(Settings):
    """Which files on the daemon's host jobs may name by path."""

    roots: Folders = Field(
        (), description="Folders under which clips may be read. Empty: none, clips are uploaded."
    )


class Leases(Settings):
    """How long silence is trusted, in seconds. Twice the heartbeat <= lease < requeue."""

    heartbeat: Seconds = Field(2.0, description="Seconds between heartbeats of an agent.")
    lease: Seconds = Field(
        10.0, description="Seconds after a heartbeat until a renderer that hears nothing stops by itself."
    )
    requeue: Seconds = Field(
        15.0, description="Seconds of silence after which a task is given to another device."
    )

    @model_validator(mode="after")
    def _renderers_stop_before_tasks_move(self) -> Self:
        if self.heartbeat * 2 > self.lease:
            raise ValueError(
                f"heartbeat must be at most half of lease ({self.lease:g} s), got {self.heartbeat:g}"
            )
        if self.lease >= self.requeue:
            raise ValueError(f"lease must be shorter than requeue ({self.requeue:g} s), got {self.lease:g}")
        return self


class RayHead(Settings):
    """The Ray cluster that carries calls and tensors. It always runs in token mode."""

    address: OptionalAddress = Field(
        "",
        description="host:port of an existing Ray cluster to join, whose token goes to ray/token in the home. "
        "Empty: the daemon starts its own head.",
    )
    node_ip: Ipv4 = Field(
        "",
        description="IPv4 address of this machine at which workstations reach the head. Empty: as server.advertise "
        "and server.listen have it.",
    )
    port: Port = Field(0, description="Port of the head's control store. 0: a free one.")


class Limits(Settings):
    """What one job may ask for."""

    max_side: int = Field(4096, ge=32, le=4096, description="Width and height in pixels.")
    max_frames: int = Field(100_000, ge=1, le=100_000, description="Frames.")
    max_upload_bytes: Bytes = Field(20 * 2**30, description='Size of one upload, in bytes or as "20GiB".')
    max_failures: int = Field(
        3, ge=1, le=100, description="Failures of the work itself after which a task fails its job."
    )
    max_job_failures: int = Field(
        30, ge=1, le=100_000, description="Failures of all tasks of a job together after which it fails."
    )


class Timeouts(Settings):
    """How long a task may take before it counts as failed and is tried elsewhere, in seconds."""

    total: Span = Field(86_400.0, description="From when it is given to a device to its result.")
    no_progress: Span = Field(
        1800.0,
        description="Without a step, loading the model included. What steps slowly is given ten times the "
        "longest that a step of its own has taken, where that is more.",
    )


class ModelPin(Settings):
    """A model whose weights are fixed by hand."""

    weights: str = Field(
        "",
        description="Hash of the only weights that jobs may use. Empty: those that the farm's nodes "
        "offer when a job is submitted.",
    )


class Log(Settings):
    """What this process, and those that it starts, write of themselves: see "Follow an attempt" in docs/server.md."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level written.")
    format: Literal["text", "json"] = Field("text", description="Lines for people or one JSON object each.")


class FarmConfig(Settings):
    """Settings of the daemon (farmd)."""

    home: Folder = Field(
        Path("~/.farm"), description="Folder of this farm's keys, job store, artifacts and logs."
    )
    name: str = Field("", max_length=100, description="Name of the farm, for people. Empty: the host's name.")
    server: Server = Field(default_factory=Server)
    store: Store = Field(default_factory=Store)
    artifacts: Artifacts = Field(default_factory=Artifacts)
    keep: Keep = Field(default_factory=Keep)
    media: MediaRoots = Field(default_factory=MediaRoots)
    leases: Leases = Field(default_factory=Leases)
    ray: RayHead = Field(default_factory=RayHead)
    limits: Limits = Field(default_factory=Limits)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    models: dict[str, ModelPin] = Field(
        default_factory=dict,
        description="Models whose weights are pinned, a section each.",
        examples=[{"ltx-tiny": ModelPin()}],
    )
    log: Log = Field(default_factory=Log)

    @model_validator(mode="after")
    def _a_port_each(self) -> Self:
        _, port = addresses.split(self.server.listen)
        if port and port == self.ray.port and not self.ray.address:
            raise ValueError(
                f"ray.port: must be another port than that of server.listen, {port}; 0 is a free one"
            )
        return self

    @property
    def store_url(self) -> str:
        """SQLAlchemy URL of the job store, the default filled in."""
        return self.store.url or f"sqlite:///{self.home / 'farm.db'}"

    @property
    def terms(self) -> Terms:
        """How much failure the farm bears with."""
        return Terms(
            max_failures=self.limits.max_failures,
            max_job_failures=self.limits.max_job_failures,
            total=self.timeouts.total,
            no_progress=self.timeouts.no_progress,
        )

    @property
    def keeping(self) -> Keeping:
        """How much is kept of ended jobs."""
        return Keeping(seconds=self.keep.days * 86_400, max_bytes=self.keep.max_bytes)

    @property
    def artifact_url(self) -> str:
        """fsspec URL or folder of the artifact store, the default filled in."""
        return self.artifacts.url or str(self.home / "artifacts")


class Raylet(Settings):
    """This machine's part of the farm's Ray cluster."""

    node_ip: Ipv4 = Field(
        "",
        description="IPv4 address of this machine at which the farm's others reach it. Empty: the one it reaches "
        "the daemon from.",
    )


class OwnerSettings(Settings):
    """What the person whose workstation this is gets before the farm does. See docs/owners.md."""

    presence: str = Field(
        "none",
        description="How it is told whether they are there: none (nobody is looked for), idle (idle times of sessions "
        "from logind, and of X11 by xprintidle), command, or what a plugin offers. Where it can't be told, the node "
        "takes no work.",
    )
    command: str = Field(
        "",
        description="For presence = command: run by /bin/sh in the node's home; ends with 0 when nobody is there, with 1 when somebody "
        "is. Anything else, or no end within 5 s: it can't be told.",
    )
    when_back: Literal["finish", "stop", "free"] = Field(
        "stop",
        description="When they are back: finish (what runs is finished, nothing more taken), stop (it stops at its "
        "next step and goes on elsewhere from there), free (likewise, and the renderer ends, so that its memory is "
        "free).",
    )
    idle: Patience = Field(600.0, description="Seconds without a touch before the farm may work.")
    grace: Patience = Field(
        30.0,
        description="Seconds from when they are seen until when_back is done; nothing new is taken meanwhile. A nudge "
        "of the mouse that nothing follows is forgiven.",
    )
    every: Seconds = Field(5.0, description="Seconds between two looks.")
    quiet_hours: Words = Field(
        (),
        description="Local times at which the farm never works here, whoever is there, such as "
        '"mon-fri 09:00-18:30" or "22:00-06:00".',
    )

    @field_validator("quiet_hours")
    @classmethod
    def _times_of_day(cls, quiet: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(hours.parse(text)) for text in quiet)

    @model_validator(mode="after")
    def _a_command_for_the_command(self) -> Self:
        if (self.presence == "command") != bool(self.command):
            raise ValueError('command and presence = "command" go together; give both or neither')
        return self


class DeclaredDevice(Settings):
    """A device stated for trials, offered instead of those that would be found; shown as declared."""

    name: str = Field(
        "cpu",
        # It names folders that are removed: neither "." nor ".." may be one.
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,59}$",
        description="Unique on this machine; letters, digits, _.-; no dot first",
    )
    backend: Literal["cuda", "rocm", "mps", "cpu"] = Field("cpu", description="cuda, rocm, mps or cpu.")
    vram_bytes: Bytes = Field(24 * 2**30, alias="vram", description='Memory in bytes or as "24GiB".')
    compute_capability: str = Field(
        "", pattern=r"^(\d+\.\d+)?$", description='Of a CUDA device, such as "8.9".'
    )
    fp8: bool = Field(False, description="Whether matrix products in fp8 are available.")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of its renderer. 0: an equal share.")


class NodeConfig(Settings):
    """Settings of an agent (farm-node)."""

    home: Folder = Field(
        Path("~/.farm/node"), description="Folder of this node's identity, journal, cache and logs."
    )
    server: OptionalAddress = Field(
        "", description="The daemon as host:port. Needed at the first start, then remembered."
    )
    join_token: str = Field(
        "", repr=False, description="What `farmctl node enroll` prints. Needed at the first start only."
    )
    name: str = Field(
        "", max_length=100, description="Name of this node, for people. Empty: the host's name."
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads for all of this node's renderers together. 0: every core."
    )
    drain_deadline: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="Seconds that running windows have to end when farm-node is told to end with SIGTERM; then they "
        "are stopped at their next step and handed back. What ends it needs ten seconds more.",
    )
    models: ModelSources = Field(
        default_factory=dict,
        description="Where this machine finds models: a folder or a hub id by the model's name. OWNER/NAME is a hub "
        "id unless such a folder lies beside this file; a name that begins with ./ is always a folder.",
        examples=[{"ltx-tiny": "/srv/models/ltx-tiny"}],
    )
    raylet: Raylet = Field(default_factory=Raylet)
    owner: OwnerSettings = Field(default_factory=OwnerSettings)
    device: tuple[DeclaredDevice, ...] = Field(
        (),
        description="Devices stated for trials, a [[device]] each, offered instead of those that are found.",
        examples=[(DeclaredDevice(),)],
    )
    log: Log = Field(default_factory=Log)

    @field_validator("device")
    @classmethod
    def _names_differ(cls, devices: tuple[DeclaredDevice, ...]) -> tuple[DeclaredDevice, ...]:
        names = [device.name for device in devices]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two devices are named {name!r}; names must differ")
        return devices


def load_config(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> FarmConfig:
    """The daemon's settings. Raises InvalidConfig.

    `path`: farm.toml; None: FARM_CONFIG, else farm.toml in the home where there is one. The environment is
    FARM_<SECTION>_<KEY>, FARM_HOME and FARM_NAME. `overrides`: flags by dotted key, such as
    {"server.listen": "0.0.0.0:7433"}; None means not given.
    """
    return load(FarmConfig, "farm.toml", path, "FARM_", environ, overrides or {})


def environment_for_children(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environ` that set paths of farmd or farm-node, absolute. Raises InvalidConfig."""
    return {
        **anchored_environment(FarmConfig, "FARM_", environ),
        **anchored_environment(NodeConfig, "FARM_NODE_", environ),
    }


def load_node_config(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> NodeConfig:
    """An agent's settings, from node.toml, FARM_NODE_<KEY> or FARM_NODE_<SECTION>_<KEY>, and flags.

    As load_config. Raises InvalidConfig.
    """
    return load(NodeConfig, "node.toml", path, "FARM_NODE_", environ, overrides or {})


def example_toml(model: type[FarmConfig | NodeConfig] = FarmConfig) -> str:
    """A farm.toml (or, of NodeConfig, a node.toml) with every setting, its meaning and its default."""
    if model is FarmConfig:
        return example(model, "farm.toml", "farmd", "FARM_")
    return example(model, "node.toml", "farm-node", "FARM_NODE_")
