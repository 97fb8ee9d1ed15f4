"""The settings of the daemon (farm.toml) and of an agent (node.toml).

The classes below define every setting, with its default and its description. The commented example files are generated
from these classes. farm.settings reads and checks the settings. Environment variables override the files, and flags
override both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from farm.policy import hours
from farm.policy.failures import Terms
from farm.policy.retention import Keeping
from farm.presets import Preset, PresetName
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
    """The daemon's gRPC port. TLS and tokens are always on, so the port may be open to other machines."""

    listen: Address = Field(
        "127.0.0.1:7433",
        description="Address and port to listen on. For workstations on the network: 0.0.0.0:7433.",
    )
    advertise: Addresses = Field(
        (),
        description="Addresses or names (host:port) at which workstations reach this daemon. They are used in what "
        "`farmctl node enroll` prints, in client profiles and in the certificate. Ray uses the first of them "
        "that is an IPv4 address of this machine. Empty: this machine's address towards the network.",
    )


class StoreSettings(Settings):
    """The database that holds the jobs. Only one daemon at a time may use it; a second daemon is refused."""

    url: DatabaseUrl = Field(
        "",
        repr=False,
        description="SQLAlchemy URL. Empty: SQLite, farm.db in the home. For production: "
        "postgresql+psycopg://user:password@host/farm, a database that only the farm uses, connected directly and not "
        "through a pooler that shares sessions.",
    )


class ArtifactsSettings(Settings):
    """The store of latents, segments, media and videos."""

    url: StoreUrl = Field(
        "",
        repr=False,
        description="fsspec URL or folder, such as s3://bucket/farm. Empty: artifacts in the home.",
    )


class Keep(Settings):
    """How long the farm keeps the artifacts of ended jobs. It never removes finished videos, sidecars and logs, nor the
    clips that a failed or cancelled job was given. If such a job is retried, the farm makes its removed artifacts
    again."""

    days: float = Field(
        14.0,
        ge=0,
        le=36_500,
        description="Days for which the farm keeps latents, segments and the like after the end of their job, and clips "
        "after the last of their jobs has succeeded. Uploads that no job uses are kept equally long, but at least one "
        "day.",
    )
    max_bytes: Bytes = Field(
        100 * 2**30,
        description='Most space for the artifacts of all ended jobs, in bytes or as "100GiB". If they take more, those of '
        "the oldest jobs are removed sooner.",
    )


class MediaRoots(Settings):
    """The files on the daemon's host that jobs may name by path."""

    roots: Folders = Field(
        (), description="Folders below which clips may be read. Empty: none; clips must be uploaded."
    )


class Leases(Settings):
    """How many seconds a node may be silent. `lease` must be at least twice `heartbeat`, and less than `requeue`."""

    heartbeat: Seconds = Field(2.0, description="Seconds between heartbeats of an agent.")
    lease: Seconds = Field(
        10.0,
        description="Seconds after a heartbeat until a renderer that hears nothing more stops by itself.",
    )
    requeue: Seconds = Field(
        15.0, description="Seconds of a node's silence after which its tasks are given to other devices."
    )

    @model_validator(mode="after")
    def _renderers_stop_before_tasks_move(self) -> Self:
        if self.heartbeat * 2 > self.lease:
            raise ValueError(
                f"the setting `heartbeat` must be at most half of the setting `lease` ({self.lease:g} s), "
                f"got {self.heartbeat:g} s"
            )
        if self.lease >= self.requeue:
            raise ValueError(
                f"the setting `lease` must be shorter than the setting `requeue` ({self.requeue:g} s), "
                f"got {self.lease:g} s"
            )
        return self


class RaySettings(Settings):
    """The Ray cluster that carries calls and tensors between processes. Ray's token authentication is always on."""

    address: OptionalAddress = Field(
        "",
        description="host:port of an existing Ray cluster to join. Put its token into ray/token in the home. "
        "Empty: the daemon starts its own head.",
    )
    node_ip: Ipv4 = Field(
        "",
        description="IPv4 address of this machine at which workstations reach the head. Empty: the address that "
        "server.advertise or server.listen gives.",
    )
    port: Port = Field(0, description="Port of the head's control store. 0: any free port.")


class Limits(Settings):
    """Limits of one job."""

    max_side: int = Field(4096, ge=32, le=4096, description="Greatest width and height in pixels.")
    max_frames: int = Field(100_000, ge=1, le=100_000, description="Most frames.")
    max_upload_bytes: Bytes = Field(
        20 * 2**30, description='Greatest size of one upload, in bytes or as "20GiB".'
    )
    max_failures: int = Field(
        3, ge=1, le=100, description="Failures of a task's own work after which its job fails."
    )
    max_job_failures: int = Field(
        30, ge=1, le=100_000, description="Failures of all tasks of a job together after which the job fails."
    )


class Timeouts(Settings):
    """Time limits of a task, in seconds. A task that exceeds one of them counts as failed and is tried elsewhere."""

    total: Span = Field(
        86_400.0, description="Most seconds from the moment that a device gets the task to its result."
    )
    no_progress: Span = Field(
        1800.0,
        description="Most seconds without a step, loading the model included. A task with slow steps gets ten times "
        "the longest of its steps, if that is more.",
    )


class ModelPin(Settings):
    """A model whose weights are pinned by hand."""

    weights: str = Field(
        "",
        description="Hash of the only weights that jobs may use. Empty: the weights that the farm's nodes "
        "offer when the job is submitted.",
    )


class Log(Settings):
    """The log of this process and of the processes that it starts: see "Follow an attempt" in docs/server.md."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level written.")
    format: Literal["text", "json"] = Field("text", description="Lines for people or one JSON object each.")


class FarmConfig(Settings):
    """Settings of the daemon (farmd)."""

    home: Folder = Field(
        Path("~/.farm"), description="Folder of this farm's keys, job store, artifacts and logs."
    )
    name: str = Field("", max_length=100, description="Name of the farm, for people. Empty: the host's name.")
    server: Server = Field(default_factory=Server)
    store: StoreSettings = Field(default_factory=StoreSettings)
    artifacts: ArtifactsSettings = Field(default_factory=ArtifactsSettings)
    keep: Keep = Field(default_factory=Keep)
    media: MediaRoots = Field(default_factory=MediaRoots)
    leases: Leases = Field(default_factory=Leases)
    ray: RaySettings = Field(default_factory=RaySettings)
    limits: Limits = Field(default_factory=Limits)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    models: dict[str, ModelPin] = Field(
        default_factory=dict,
        description="Models whose weights are pinned, one section for each model.",
        examples=[{"ltx-tiny": ModelPin()}],
    )
    presets: dict[PresetName, Preset] = Field(
        default_factory=dict,
        description="Presets of this farm for `farmctl submit --preset NAME`, beside the built-in quality, balanced and "
        "speed, one section for each preset. This is an example with every field; all of them may be left out.",
        examples=[
            {
                "dailies": Preset(
                    description="a quick look for the dailies",
                    steps=20,
                    guidance_scale=3.0,
                    sampler="heun",
                    guidance="lightricks",
                    width=768,
                    height=448,
                    fps=24.0,
                    negative_prompt="blurry",
                    options={"stg_scale": 1, "skip_block_list": [3]},
                )
            }
        ],
    )
    log: Log = Field(default_factory=Log)

    @model_validator(mode="after")
    def _a_port_each(self) -> Self:
        _, port = addresses.split(self.server.listen)
        if port and port == self.ray.port and not self.ray.address:
            raise ValueError(
                f"ray.port: must differ from the port in server.listen ({port}); give 0 to take any free port"
            )
        return self

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL of the job store, with the default filled in."""
        return self.store.url or f"sqlite:///{self.home / 'farm.db'}"

    @property
    def terms(self) -> Terms:
        """How many failures, and how much time, the farm allows before it gives up a task or a job."""
        return Terms(
            max_failures=self.limits.max_failures,
            max_job_failures=self.limits.max_job_failures,
            total=self.timeouts.total,
            no_progress=self.timeouts.no_progress,
        )

    @property
    def keeping(self) -> Keeping:
        """How long, and up to what total size, the farm keeps the artifacts of ended jobs."""
        return Keeping(seconds=self.keep.days * 86_400, max_bytes=self.keep.max_bytes)

    @property
    def artifact_url(self) -> str:
        """The fsspec URL or folder of the artifact store, with the default filled in."""
        return self.artifacts.url or str(self.home / "artifacts")


class RayletSettings(Settings):
    """The raylet: this machine's part of the farm's Ray cluster."""

    node_ip: Ipv4 = Field(
        "",
        description="IPv4 address at which the farm's other machines reach this one. Empty: the address from which it "
        "reaches the daemon.",
    )


class OwnerSettings(Settings):
    """Settings for the owner of this workstation, who has priority over the farm. See docs/owners.md."""

    presence: str = Field(
        "none",
        description="How the agent tells whether the owner is present: none (it doesn't look), idle (by the idle times of "
        "sessions from logind, and of X11 from xprintidle), command, or a way that a plugin offers. If the agent can't "
        "tell, the node takes no work.",
    )
    command: str = Field(
        "",
        description="For presence = command: /bin/sh runs it in the node's home. It exits with 0 if nobody is present, and "
        "with 1 if somebody is. With any other status, or after more than 5 s, the agent can't tell.",
    )
    when_back: Literal["finish", "stop", "free"] = Field(
        "stop",
        description="What happens when the owner is back: finish (running tasks finish, and no more are taken), stop "
        "(running tasks stop at their next step and go on elsewhere from there), free (as stop, and renderers end, so that "
        "their memory is free).",
    )
    idle: Patience = Field(
        600.0, description="Seconds without input from the owner before the farm may work."
    )
    grace: Patience = Field(
        30.0,
        description="Seconds from the moment that the owner is seen until when_back is done; no new work is taken "
        "meanwhile. A single nudge of the mouse is forgiven.",
    )
    every: Seconds = Field(5.0, description="Seconds between two checks for the owner.")
    quiet_hours: Words = Field(
        (),
        description="Local times at which the farm never works here, even if nobody is present, such as "
        '"mon-fri 09:00-18:30" or "22:00-06:00".',
    )

    @field_validator("quiet_hours")
    @classmethod
    def _times_of_day(cls, quiet: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(hours.parse(text)) for text in quiet)

    @model_validator(mode="after")
    def _a_command_for_the_command(self) -> Self:
        if (self.presence == "command") != bool(self.command):
            raise ValueError(
                'presence = "command" needs the setting `command`, and `command` needs presence = "command"; give both or neither'
            )
        return self


class DeclaredDevice(Settings):
    """A device that node.toml declares, for trials. A node with such devices offers no others."""

    name: str = Field(
        "cpu",
        # It names folders that are removed: neither "." nor ".." may be one.
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,59}$",
        description="Name, unique on this machine; letters, digits and _.-, not beginning with a dot.",
    )
    backend: Literal["cuda", "rocm", "mps", "cpu"] = Field(
        "cpu", description="Backend: cuda, rocm, mps or cpu."
    )
    vram_bytes: Bytes = Field(24 * 2**30, alias="vram", description='Memory in bytes or as "24GiB".')
    compute_capability: str = Field(
        "", pattern=r"^(\d+\.\d+)?$", description='Compute capability of a CUDA device, such as "8.9".'
    )
    fp8: bool = Field(False, description="Whether the device has matrix products in fp8.")
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of its renderer. 0: an equal share.")


class NodeConfig(Settings):
    """Settings of an agent (farm-node)."""

    home: Folder = Field(
        Path("~/.farm/node"), description="Folder of this node's identity, journal, cache and logs."
    )
    server: OptionalAddress = Field(
        "", description="The daemon's address, as host:port. Needed at the first start, then remembered."
    )
    join_token: str = Field(
        "",
        repr=False,
        description="The token that `farmctl node enroll` prints. Needed only at the first start.",
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
        description="Seconds that running windows have to finish after SIGTERM to farm-node. Then they are stopped at "
        "their next step and handed back. A service manager must allow ten seconds more.",
    )
    models: ModelSources = Field(
        default_factory=dict,
        description="Where this machine finds models: a folder or a hub id for each model's name. OWNER/NAME is a hub "
        "id unless a folder of that name lies beside this file; a name that begins with ./ is always a folder.",
        examples=[{"ltx-tiny": "/srv/models/ltx-tiny"}],
    )
    raylet: RayletSettings = Field(default_factory=RayletSettings)
    owner: OwnerSettings = Field(default_factory=OwnerSettings)
    device: tuple[DeclaredDevice, ...] = Field(
        (),
        description="Devices declared for trials, one [[device]] for each, offered instead of the detected devices.",
        examples=[(DeclaredDevice(),)],
    )
    log: Log = Field(default_factory=Log)

    @field_validator("device")
    @classmethod
    def _names_differ(cls, devices: tuple[DeclaredDevice, ...]) -> tuple[DeclaredDevice, ...]:
        names = [device.name for device in devices]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two devices are named {name!r}; give each its own name")
        return devices


def load_config(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> FarmConfig:
    """Return the daemon's settings.

    Args:
        path: The settings file. If this is None, the file that the variable FARM_CONFIG names is read. If that variable
            isn't set either, farm.toml in the farm's home folder is read, if it exists.
        environ: The environment variables, such as FARM_<SECTION>_<KEY>, FARM_HOME and FARM_NAME.
        overrides: Values of flags by dotted key, such as {"server.listen": "0.0.0.0:7433"}. A flag with the value
            None was not given.

    Raises:
        InvalidConfig: A setting is refused, or the file can't be read.
    """
    return load(FarmConfig, "farm.toml", path, "FARM_", environ, overrides or {})


def environment_for_children(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that set paths for farmd and farm-node, with these paths made absolute.

    A child process that runs in another folder then finds the same files.

    Args:
        environ: The environment variables of this process.

    Raises:
        InvalidConfig: A variable's value is refused.
    """
    return {
        **anchored_environment(FarmConfig, "FARM_", environ),
        **anchored_environment(NodeConfig, "FARM_NODE_", environ),
    }


def load_node_config(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> NodeConfig:
    """Return the settings of an agent.

    Args:
        path: The settings file. If this is None, the file that the variable FARM_NODE_CONFIG names is read. If that
            variable isn't set either, node.toml in the agent's home folder is read, if it exists.
        environ: The environment variables, such as FARM_NODE_<KEY> and FARM_NODE_<SECTION>_<KEY>.
        overrides: Values of flags by dotted key, such as {"owner.idle": 300}. A flag with the value None was not
            given.

    Raises:
        InvalidConfig: A setting is refused, or the file can't be read.
    """
    return load(NodeConfig, "node.toml", path, "FARM_NODE_", environ, overrides or {})


def example_toml(model: type[FarmConfig | NodeConfig] = FarmConfig) -> str:
    """Return the text of an example settings file, with the meaning and the default of every setting.

    The file is a farm.toml for FarmConfig, and a node.toml for NodeConfig.
    """
    if model is FarmConfig:
        return example(model, "farm.toml", "farmd", "FARM_")
    return example(model, "node.toml", "farm-node", "FARM_NODE_")
