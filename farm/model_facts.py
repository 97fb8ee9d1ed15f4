"""What planning knows of a model: its sizes and defaults, and what its work costs in FLOPs and memory. Pure.

A model's plugin describes the model with `ModelFacts`. Nothing in this module needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from farm.options import NoOptions, Options
from farm.plan import TaskKind
from farm.timeline import frames_of, tokens_of


def weight_bytes(precision: str) -> int:
    """Return the size of a transformer weight in bytes. With fp8, only weights are fp8; the model computes in bf16."""
    return {"fp32": 4, "bf16": 2, "fp8": 1}[precision]


def value_bytes(precision: str) -> int:
    """Return the size in bytes of an activation or latent value. With fp8, the value is bf16; only weights are fp8."""
    return max(weight_bytes(precision), 2)


@dataclass(frozen=True)
class LearntSizes:
    """The sizes that a model draws well: those it was trained on, or those its authors advise.

    Attributes:
        least: The shortest side in pixels that the model draws well; `SPATIAL` if no lower limit is known.
        largest: The largest size, as width and height in pixels. The model draws a size well if that size has
            no more pixels than `largest`, and no side longer than the longer side of `largest`.
        elsewhere: A warning about other sizes. It completes the sentence "its pictures ...", such as "may be worse".
    """

    least: int
    largest: tuple[int, int]
    elsewhere: str

    def hold(self, width: int, height: int) -> bool:
        """Return whether the model draws `width` x `height` pixels well. Portrait and landscape are judged alike."""
        return (
            self.least <= min(width, height)
            and max(width, height) <= max(self.largest)
            and width * height <= self.largest[0] * self.largest[1]
        )


@dataclass(frozen=True)
class Placing:
    """How a job's images and clips are placed on the timeline.

    Attributes:
        fill: Whether images and clips are made to fill whole latents. Then up to 7 frames are rendered before the first
            delivered frame, and an image that ends the video is repeated. Otherwise, every image after frame 0 is
            shown to the model as a single frame.
        beside: How many latents of a clip the model sees beside the video's own latents, if the clip begins after
            frame 0. They are the clip's first latents.
        rework_below: A clip that covers all frames is reworked (re-noised and rendered again) if its strength is below
            this number. Otherwise, the windows keep the clip's latents.
    """

    fill: bool = True
    beside: int = 0
    rework_below: float = 1.0


@dataclass(frozen=True)
class ModelFacts:
    """The facts of a model that planning needs. FLOPs count a multiply-add as two.

    Attributes:
        name: The name by which jobs ask for the model.
        description: What the model is, for people.
        latent_channels: Channels of a latent.
        depth: Transformer blocks.
        width: Width of the transformer: the length of each token's vector.
        text_tokens: Text tokens that the cross-attention sees.
        transformer_parameters: Parameters of the transformer.
        vae_parameters: Parameters of the VAE.
        text_parameters: Parameters of the text encoder.
        decode_flops_per_pixel: FLOPs to decode one pixel. A pixel is one of width x height x frames.
        encode_flops_per_pixel: FLOPs to encode one pixel.
        decode_bytes_per_pixel: Peak memory of one decoding, in bytes per decoded pixel (halo included).
        encode_bytes_per_pixel: Peak memory of one encoding, in bytes per encoded pixel (see `encode_pixels`).
        precisions: The precisions in which the model can run ("fp32", "bf16", "fp8"). The first is the default.
        steps: The default number of denoising steps.
        guidance_scale: The default guidance scale. 1 switches guidance off.
        sigmas: `sigmas(steps)` returns the denoising schedule: steps+1 falling sigmas, the last of which is 0.
        decode_span: The number of latents to decode at a time.
        decode_halo: The number of extra latents to decode before and after each `decode_span` latents. The frames of
            these extra latents are thrown away.
        encode_pixels: The number of pixels of a clip to encode at a time.
        learnt: The sizes that the model draws well. None if they are unknown. Then the farm warns of no size.
        max_window: The longest window that the model draws well, in latents (33 latents are 257 frames).
        clock_seconds: The longest time that the model's position encoding covers, in seconds. Longer windows look
            worse.
        latent_space: A name for the model's latent space. Models that give the same name can read each other's latents.
            Empty: no other model can read them.
        storyboard_model: The name of a smaller model that can draw this model's storyboards. It has the same latent
            space. Empty: none is known.
        sink_frames: How many pixel frames before a window's start its sink seems to lie (see Sink). 0: no sinks.
        tail_strength: How firmly a window keeps to the end of the earlier window that it continues, from 0 to 1.
        colour_factor: How far a window's colours are moved towards the colours of the first window in its chain, from
            0 to 1. In a chain, each window continues the one before.
        refine_sigma: The sigma to which an enlarged storyboard is re-noised.
        grid: The only sigmas at which a distilled model can begin a step, from high to low. Empty: the model can begin
            a step at any sigma.
        options: The class of the model's options.
        schedule: `schedule(options, steps, tokens)` returns the schedule that a job's options choose; see `scheduled`.
            None: the options don't change the schedule, so `sigmas` gives it.
        sampler: The name of the sampler that jobs get if they name none.
        ignores: Names of the model's options that have no effect on this model.
        notes: `notes(options, given)` returns sentences for the user: the remarks that the options make on the job, and
            a sentence for each option in `given` that has no effect because of the other options. None: there are no
            sentences.
        placing: `placing(options)` returns how images and clips are placed. None: as `Placing()` says.
        negative_prompt: The negative prompt of jobs that give none, if their guidance uses a negative prompt.
    """

    name: str
    description: str
    latent_channels: int
    depth: int
    width: int
    text_tokens: int
    transformer_parameters: int
    vae_parameters: int
    text_parameters: int
    decode_flops_per_pixel: float
    encode_flops_per_pixel: float
    decode_bytes_per_pixel: float
    encode_bytes_per_pixel: float
    precisions: tuple[str, ...]
    steps: int
    guidance_scale: float
    sigmas: Callable[[int], tuple[float, ...]]
    decode_span: int
    decode_halo: int
    encode_pixels: int = 24_000_000
    learnt: LearntSizes | None = None
    max_window: int = 33
    clock_seconds: float = 20.0
    latent_space: str = ""
    storyboard_model: str = ""
    sink_frames: int = 0
    tail_strength: float = 0.5
    colour_factor: float = 0.25
    refine_sigma: float = 0.85
    grid: tuple[float, ...] = ()
    options: type[Options] = NoOptions
    schedule: Callable[[Options, int, int], tuple[float, ...]] | None = None
    sampler: str = "euler"
    negative_prompt: str = ""
    ignores: tuple[str, ...] = ()
    notes: Callable[[Options, frozenset[str]], list[str]] | None = None
    placing: Callable[[Options], Placing] | None = None

    def scheduled(self, options: Options, steps: int, tokens: int) -> tuple[float, ...]:
        """Return the denoising schedule of a job: falling sigmas that end with 0.

        Args:
            options: The job's options for the model.
            steps: Denoising steps of the whole schedule.
            tokens: Latent tokens of a window.

        Raises:
            farm.spec.InvalidSpec: The options don't fit each other or the steps.
        """
        return self.schedule(options, steps, tokens) if self.schedule else self.sigmas(steps)

    def placed(self, options: Options) -> Placing:
        """Return how the images and clips of a job with these options for the model are placed."""
        return self.placing(options) if self.placing else Placing()

    def forward_flops(self, tokens: int) -> float:
        """Return the FLOPs of one forward pass over `tokens` latent tokens (docs/ltx.md, Cost)."""
        n, d, text = tokens, self.width, self.text_tokens
        return self.depth * (28 * n * d**2 + 4 * n**2 * d + 4 * text * d**2 + 4 * text * n * d)

    def load_bytes(self, kind: TaskKind, precision: str) -> int:
        """Return the bytes that a task of `kind` must load into a device's memory if the model isn't loaded yet."""
        if kind in (TaskKind.STORYBOARD, TaskKind.WINDOW):
            return self.transformer_parameters * weight_bytes(precision)
        in_use = kind in (TaskKind.ENCODE, TaskKind.DECODE)
        return self.vae_parameters * value_bytes(precision) if in_use else 0

    def resident_bytes(self, precision: str) -> int:
        """Return the device memory, in bytes, that the loaded transformer and VAE take."""
        return self.load_bytes(TaskKind.WINDOW, precision) + self.load_bytes(TaskKind.DECODE, precision)

    def denoise_bytes(self, tokens: int, precision: str, batch: int) -> int:
        """Return the peak device memory, in bytes, of denoising: transformer weights and activations.

        Activations are 28·D·N·batch values, where N is `tokens` and D is the transformer's width (`self.width`).

        Args:
            tokens: The number of latent tokens in the window.
            precision: The precision in which the transformer runs, such as "bf16".
            batch: 2 if one pass takes the prompt and the negative prompt at once, else 1.
        """
        weights = self.transformer_parameters * weight_bytes(precision)
        return weights + 28 * value_bytes(precision) * self.width * tokens * batch

    def latent_bytes(self, latents: int, width: int, height: int, precision: str) -> int:
        """Return the size in bytes of stored or sent latents.

        Args:
            latents: The number of latents.
            width: Width in pixels.
            height: Height in pixels.
            precision: The precision of the values, such as "bf16".
        """
        return self.latent_channels * tokens_of(latents, width, height) * value_bytes(precision)

    def decode_flops(self, latents: int, width: int, height: int) -> float:
        """Return the FLOPs of decoding latents.

        Args:
            latents: The number of decoded latents, including those whose frames are thrown away.
            width: Width in pixels.
            height: Height in pixels.
        """
        return frames_of(latents) * width * height * self.decode_flops_per_pixel

    def decode_bytes(self, latents: int, width: int, height: int, precision: str) -> int:
        """Return the peak device memory, in bytes, of decoding: VAE weights and activations.

        Args:
            latents: The number of latents decoded at once, including those whose frames are thrown away.
            width: Width in pixels.
            height: Height in pixels.
            precision: The precision in which the VAE runs, such as "bf16".
        """
        pixels = frames_of(latents) * width * height
        return int(self.vae_parameters * value_bytes(precision) + pixels * self.decode_bytes_per_pixel)

    def held_bytes(self, tokens: int, batch: int) -> int:
        """Return the device memory, in bytes, that a window takes between two steps.

        The window keeps float32 copies of its latents, and the embeddings of its text.
        """
        return 6 * 4 * self.latent_channels * tokens + 4 * batch * self.text_tokens * self.width
