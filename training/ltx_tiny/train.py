"""Trains the checkpoint of ltx-tiny, stage by stage. If a stage is run again, it continues from its saved state.

    python -m training.ltx_tiny.train --run RUN vae        train encoder and decoder
    python -m training.ltx_tiny.train --run RUN latents    encode scenes for the stages below
    python -m training.ltx_tiny.train --run RUN decoder    train only the decoder; the encoder stays
    python -m training.ltx_tiny.train --run RUN flow       train transformer and text encoder
    python -m training.ltx_tiny.train --run RUN few-step   distil both to 8 sampling steps
    python -m training.ltx_tiny.train --run RUN export FOLDER

An exported checkpoint can be trained further from its folder alone:

    python -m training.ltx_tiny.train --run RUN import FOLDER
    python -m training.ltx_tiny.train --run RUN latents
    python -m training.ltx_tiny.train --run RUN onward     train transformer and text encoder further
    python -m training.ltx_tiny.train --run RUN few-step
    python -m training.ltx_tiny.train --run RUN export FOLDER
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.loading import Ltx
from training.ltx_tiny import autoencoder, flow, parts, pool
from training.ltx_tiny.progress import Record

_STAGES = ["few-step", "onward", "flow"]


def _minutes(default: float) -> Any:
    return click.option(
        "--minutes",
        default=default,
        help="Total minutes to train this stage. The minutes already trained in RUN count too.",
    )


def _rate(default: float) -> Any:
    return click.option("--rate", default=default, help="Highest learning rate.")


@click.group(context_settings={"show_default": True})
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), required=True, help="Folder of this training run."
)
@click.option("--device", default="cpu", help="Torch device, such as cpu or cuda.")
@click.option("--threads", default=2, help="Number of CPU threads.")
@click.pass_context
def main(context: click.Context, folder: Path, device: str, threads: int) -> None:
    """Train the reference checkpoint: run the commands vae, latents, decoder, flow, few-step and export, in this order.

    To train an exported checkpoint further, run the commands import, latents, onward, few-step and export, in this order.

    Every stage keeps its state, log.csv and curves.png under RUN. If the command of a stage is run again, the
    stage continues where it stopped.
    """
    torch.set_num_threads(threads)
    context.obj = {"folder": folder, "device": device}


@main.command()
@_minutes(20.0)
@_rate(1e-3)
@click.option(
    "--start", type=click.Path(path_type=Path, exists=True), help="Folder of the VAE to start from."
)
@click.pass_obj
def vae(run: dict[str, Any], minutes: float, rate: float, start: Path | None) -> None:
    """Train both parts of the VAE together, the encoder and the decoder."""
    autoencoder.train(run["folder"] / "vae", minutes=minutes, start=start, device=run["device"], rate=rate)


@main.command(name="import")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.pass_obj
def import_(run: dict[str, Any], source: Path) -> None:
    """Begin RUN with the exported checkpoint SOURCE. RUN uses that checkpoint's VAE and latent scale unchanged."""
    ltx = Ltx(source, max_tokens=parts.MAX_TOKENS)
    network = flow.Network(ltx.transformer, ltx.text_encoder, "cpu")
    Record(run["folder"] / "vae").save({"vae": ltx.vae.state_dict()})
    mean, std = ltx.space
    Record(run["folder"] / "imported").save(
        {"average": network.state_dict(), "mean": mean.float(), "std": std.float()}
    )


@main.command()
@click.option(
    "--clips", default=1500, help="Total number of scenes to encode. Scenes already encoded count too."
)
@click.pass_obj
def latents(run: dict[str, Any], clips: int) -> None:
    """Encode the scenes for the transformer's training.

    Don't run the command vae afterwards, because it makes the latents invalid.
    """
    pool.fill(run["folder"] / "pool", _vae(run).to(run["device"]), clips, run["device"])


@main.command()
@_minutes(8.0)
@_rate(6e-4)
@click.pass_obj
def decoder(run: dict[str, Any], minutes: float, rate: float) -> None:
    """Train only the VAE's decoder.

    A step costs half as much as a step of the command `vae`, and existing latents stay valid.
    """
    autoencoder.train_decoder(
        run["folder"] / "decoder",
        pool.read(run["folder"] / "pool"),
        minutes=minutes,
        start=run["folder"] / "vae",
        device=run["device"],
        rate=rate,
    )


@main.command(name="flow")
@_minutes(35.0)
@_rate(2e-3)
@click.option("--tokens", default=flow.TOKENS, help="Approximate number of tokens in a batch.")
@click.pass_obj
def flow_stage(run: dict[str, Any], minutes: float, rate: float, tokens: int) -> None:
    """Train the transformer and its text encoder by rectified flow."""
    _train(run, "flow", minutes, rate, tokens)


@main.command()
@_minutes(480.0)
@_rate(7e-4)
@click.option("--tokens", default=flow.TOKENS, help="Approximate number of tokens in a batch.")
@click.pass_obj
def onward(run: dict[str, Any], minutes: float, rate: float, tokens: int) -> None:
    """Train the imported transformer and text encoder further by rectified flow.

    Like the imported model, the trained model needs no guidance when it samples.
    """
    _train(run, "onward", minutes, rate, tokens, start="imported", guidance=flow.GUIDANCE)


@main.command(name="few-step")
@_minutes(8.0)
@_rate(5e-4)
@click.option("--tokens", default=flow.TOKENS, help="Approximate number of tokens in a batch.")
@click.pass_obj
def few_step(run: dict[str, Any], minutes: float, rate: float, tokens: int) -> None:
    """Distil the transformer so that it needs only the 8 sampling steps that the farm uses."""
    if (run["folder"] / "onward" / "state.pt").is_file():
        _train(run, "few-step", minutes, rate, tokens, start="onward", distil=True)
    else:
        _train(run, "few-step", minutes, rate, tokens, start="flow", distil=True, guidance=flow.GUIDANCE)


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--stage",
    type=click.Choice(_STAGES),
    help="Stage to export. Default: the last stage that RUN has reached.",
)
@click.pass_obj
def export(run: dict[str, Any], target: Path, stage: str | None) -> None:
    """Write the result of a stage of RUN to TARGET, as a diffusers folder."""
    stages = [stage] if stage else _STAGES
    found = next((state for name in stages if (state := Record(run["folder"] / name).load())), None)
    if found is None:
        raise click.ClickException(
            f"--run: the folder {run['folder']} has no saved state of the stage {' or '.join(stages)}"
        )
    network = flow.Network(parts.transformer(), parts.text_encoder(), "cpu")
    network.load_state_dict(found["average"])
    parts.export(target, _vae(run), _statistics(run), network.model, network.text)


def _train(
    run: dict[str, Any], stage: str, minutes: float, rate: float, tokens: int, *, start: str = "", **how: Any
) -> None:
    """A stage of the transformer; ``start`` is the stage that it begins from, ``how`` as ``flow.train`` has it."""
    flow.train(
        run["folder"] / stage,
        pool.read(run["folder"] / "pool"),
        _statistics(run),
        minutes=minutes,
        device=run["device"],
        rate=rate,
        start=run["folder"] / start if start else None,
        tokens=tokens,
        **how,
    )


def _statistics(run: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of latents by channel: an imported checkpoint's own, or the pool's."""
    if imported := Record(run["folder"] / "imported").load():
        return imported["mean"], imported["std"]
    return pool.statistics(pool.read(run["folder"] / "pool"))


def _vae(run: dict[str, Any]) -> AutoencoderKLLTXVideo:
    """The VAE as trained so far, its decoder from the decoder stage where there is one."""
    whole = Record(run["folder"] / "vae").load()
    if whole is None:
        raise click.ClickException(
            f"--run: the folder {run['folder']} has no saved state of the stage `vae`; first train this stage with the "
            "command `vae`"
        )
    model = AutoencoderKLLTXVideo(**parts.VAE).to(memory_format=torch.channels_last_3d)
    model.load_state_dict(whole["vae"])
    if alone := Record(run["folder"] / "decoder").load():
        model.load_state_dict(alone["vae"])
    return model


if __name__ == "__main__":
    main()
