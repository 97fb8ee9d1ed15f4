"""Train the VAE on scenes of mixed sizes and lengths.

In a later stage only the VAE's decoder is trained, so that existing latents stay valid.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo

from plugins.ltx.conditioning import FRAMES_PER_LATENT
from training.ltx_tiny import parts
from training.ltx_tiny.pool import Group, drawn, number
from training.ltx_tiny.progress import Clock, Record, cosine
from training.ltx_tiny.scenes import HELD_OUT, scene

# clips, frames, width, height, and how often: many small crops for their many colours, some whole frames.
BATCHES = (
    ((8, 9, 96, 96), 4),
    ((6, 9, 128, 96), 2),
    ((4, 17, 96, 96), 2),
    ((3, 9, 160, 128), 1),
    ((2, 9, 256, 160), 2),
    ((1, 17, 256, 160), 1),
)
_DECK = [shape for shape, times in BATCHES for _ in range(times)]
_KL_WEIGHT = 1e-3
_DECODED_LATENTS = 320  # a batch, about: 2.6 megapixels of decoding, or two of whole frames
_SAVE_SECONDS = 60.0


def fresh(start: Path | None) -> AutoencoderKLLTXVideo:
    """Return ltx-tiny's VAE in float32, to begin a training with.

    The VAE is loaded from the folder ``start``. If ``start`` is None, the VAE is untrained.

    In an untrained VAE only the shortcut connections have an effect. The encoder's shortcuts average pixels and frames;
    the decoder's shortcuts repeat them. So plain colours come out right from the start.
    """
    if start is not None:
        return AutoencoderKLLTXVideo.from_pretrained(start, dtype=torch.float32)
    vae = AutoencoderKLLTXVideo(**parts.VAE)
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if ".conv2." in name or "samplers." in name:
                parameter.zero_()
        for part in (vae.encoder, vae.decoder):
            # Something that doesn't vary: a norm over channels would otherwise lose how bright a pixel is.
            part.conv_in.conv.bias[::4] = 1.0
    return vae


def clips(first: int, shape: tuple[int, int, int, int]) -> torch.Tensor:
    """Return random clips, float32 in [-1, 1], shaped [clips, 3, frames, height, width].

    Args:
        first: The seed of the first clip. Each further clip has the next seed.
        shape: The number of clips, then the frames, width and height of each.
    """
    count, frames, width, height = shape
    made = []
    for seed in range(first, first + count):
        rng = np.random.Generator(np.random.Philox(seed + 1))
        # Later parts of a scene hold bounces and turned cameras, which its first second seldom does.
        whole = None if max(width, height) <= 96 else (max(width, 256), max(height, 160))
        start, seen = int(rng.integers(40)), scene(seed, size=whole)
        left, top = (
            int(rng.integers(side - crop + 1)) for side, crop in ((seen.width, width), (seen.height, height))
        )
        made.append(seen.render(start, frames)[:, top : top + height, left : left + width])
    return _pixels(np.stack(made))


def psnr(decoded: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the PSNR in dB of each clip.

    Args:
        decoded: Decoded clips [B, 3, F, H, W] in [-1, 1]. They are first clipped and rounded to 8 bits.
        truth: The true clips, in the same shape and range.
    """
    shown = ((decoded.float().clamp(-1, 1) + 1.0) * 127.5).round() / 127.5 - 1.0
    return -10.0 * torch.log10((shown - truth).square().mean((1, 2, 3, 4)) / 4.0)


def train(folder: Path, *, minutes: float, start: Path | None, device: str, rate: float) -> None:
    """Train encoder and decoder. If ``folder`` has a saved state, resume from it.

    Args:
        folder: The folder of this training stage.
        minutes: How long to train, including the time before a resume.
        start: The folder of the VAE to start from; None for an untrained VAE.
        device: A torch device.
        rate: The highest learning rate.
    """
    torch.manual_seed(0)
    vae = fresh(start).to(device, memory_format=torch.channels_last_3d)

    def loss(truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = vae.encode(truth).latent_dist
        decoded = vae.decode(posterior.sample()).sample.float()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        found, error = _reconstruction(decoded, truth)
        return found + _KL_WEIGHT * kl, error

    def batch(step: int) -> tuple[torch.Tensor]:
        rng = np.random.Generator(np.random.Philox(step))
        return (clips(8 * step, _DECK[int(rng.integers(len(_DECK)))]),)

    _fit(Record(folder), vae, list(vae.parameters()), batch, loss, minutes, rate, device)


def train_decoder(
    folder: Path, groups: list[Group], *, minutes: float, start: Path, device: str, rate: float
) -> None:
    """Train only the decoder, on existing latents. If ``folder`` has a saved state, resume from it.

    Args:
        folder: The folder of this training stage.
        groups: The clips and their latents.
        minutes: How long to train, including the time before a resume.
        start: The folder in which ``train`` has saved its state.
        device: A torch device.
        rate: The highest learning rate.

    Raises:
        FileNotFoundError: ``start`` has no saved state.
    """
    torch.manual_seed(0)
    found = Record(start).load()
    if found is None:
        raise FileNotFoundError(f"start: {start} has no saved training state")
    vae = fresh(None)
    vae.load_state_dict(found["vae"])
    vae.to(device, memory_format=torch.channels_last_3d).encoder.requires_grad_(False)
    sizes = np.array([len(group.captions) for group in groups], float)

    def loss(truth: torch.Tensor, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _reconstruction(vae.decode(latents).sample.float(), truth)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.Generator(np.random.Philox(step))
        index = int(rng.choice(len(groups), p=sizes / sizes.sum()))
        group = groups[index]
        length = number(rng, 2, 4)
        count = max(1, round(_DECODED_LATENTS / (length * group.latents[0, 0, 0].numel())))
        chosen = rng.integers(len(group.captions), size=count)
        frames = np.stack(
            [drawn(index, int(clip)).render(0, FRAMES_PER_LATENT * (length - 1) + 1) for clip in chosen]
        )
        # A transformer's latents are never quite an encoder's.
        shaken = group.latents[chosen][:, :, :length].float()
        shaken += 0.05 * shaken.std() * torch.from_numpy(rng.standard_normal(shaken.shape, np.float32))
        return _pixels(frames), shaken

    _fit(Record(folder), vae, list(vae.decoder.parameters()), batch, loss, minutes, rate, device)


def _fit(
    record: Record,
    vae: AutoencoderKLLTXVideo,
    trained: list[torch.nn.Parameter],
    batch: Callable[[int], tuple[torch.Tensor, ...]],
    loss: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    minutes: float,
    rate: float,
    device: str,
) -> None:
    """Minimise ``loss(*batch(step))``; it gives the loss and every clip's squared error."""
    clock, step, kind = Clock(), 0, torch.device(device).type
    optimiser = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    if state := record.load():
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        clock.spent, step = state["seconds"], state["step"]
    saved, losses, scores = clock.spent, [], []
    # Batches are drawn beside the step before, not between steps.
    ahead = ThreadPoolExecutor(1)
    coming = ahead.submit(batch, step)
    while clock.spent < 60.0 * minutes:
        torch.manual_seed(step)
        for group in optimiser.param_groups:
            group["lr"] = cosine(clock.spent / (60.0 * minutes), peak=rate, floor=rate / 50)
        drawn_batch = [part.to(device) for part in coming.result()]
        coming = ahead.submit(batch, step + 1)
        with torch.autocast(kind, torch.bfloat16):
            found, error = loss(*drawn_batch)
        optimiser.zero_grad(set_to_none=True)
        found.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        step += 1
        losses.append(float(found.detach()))
        scores.append(float((-10.0 * torch.log10(error.detach() / 4.0)).mean()))
        clock.tick()
        if clock.spent - saved > _SAVE_SECONDS or clock.spent >= 60.0 * minutes:
            saved = clock.spent
            state = {"vae": vae.state_dict(), "optimiser": optimiser.state_dict()}
            record.save(state | {"seconds": clock.spent, "step": step})
            held_out, rows = _measure(vae, device)
            record.log(
                step=step,
                seconds=clock.spent,
                loss=float(np.mean(losses)),
                psnr_db=float(np.mean(scores)),
                held_out_psnr_db=held_out,
            )
            record.draw_curves()
            record.draw_samples(rows)
            losses, scores = [], []
            clock.skip()


def _pixels(frames: np.ndarray) -> torch.Tensor:
    """uint8 [B, F, H, W, 3] as float32 [B, 3, F, H, W] in [-1, 1]."""
    pixels = torch.from_numpy(frames).permute(0, 4, 1, 2, 3)
    return pixels.contiguous(memory_format=torch.channels_last_3d).float() / 127.5 - 1.0


def _reconstruction(decoded: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, and each clip's mean squared error [B]."""
    error = (decoded - truth).square().mean((1, 2, 3, 4))
    # The logarithm is the PSNR itself: a clip that is nearly right counts as much as one that isn't.
    return (error + 1e-4).log().mean() + 4.0 * (decoded - truth).abs().mean(), error


@torch.no_grad()
def _measure(vae: AutoencoderKLLTXVideo, device: str, count: int = 4) -> tuple[float, list[np.ndarray]]:
    scores, rows = [], []
    for index in range(count):
        truth = clips(HELD_OUT + index, (1, 25, 256, 160)).to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            decoded = vae.decode(vae.encode(truth).latent_dist.mode()).sample
        scores.append(float(psnr(decoded, truth).mean()))
        for clip in (truth, decoded.float().clamp(-1, 1)):
            rows.append(((clip[0, :, ::6] + 1.0) * 127.5).byte().permute(1, 2, 3, 0).cpu().numpy())
    return float(np.mean(scores)), rows
