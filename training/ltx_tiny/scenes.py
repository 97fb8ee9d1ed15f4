"""Makes synthetic scenes with captions, in which coloured shapes move.

A scene is made from a seed, and always the same from the same seed. It knows where each shape is in every frame. Shapes
are bright and backgrounds dark, so that ``training.ltx_tiny.measure`` finds a shape even in a blurred picture. This
module needs only numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

COLOURS = {
    "red": (235, 45, 45),
    "green": (50, 215, 70),
    "blue": (60, 110, 250),
    "yellow": (245, 230, 50),
    "orange": (250, 140, 25),
    "magenta": (235, 60, 225),
    "cyan": (50, 225, 235),
    "white": (245, 245, 245),
}
"""RGB of the shapes."""

BACKGROUNDS = {
    "black": (12, 12, 16),
    "navy": (12, 22, 92),
    "maroon": (95, 16, 28),
    "forest": (16, 76, 36),
    "grey": (88, 88, 90),
    "brown": (92, 60, 28),
}
"""RGB of the backgrounds; none has a channel above 100, every shape has one above 200."""

SHAPES = ("ball", "box", "triangle")
MOTIONS = ("horizontal", "vertical", "diagonal", "pan")
SIZES = ((256, 160), (160, 256), (192, 128), (128, 192), (160, 160), (128, 128), (160, 96), (96, 96))
"""Width and height in pixels of the frames to draw from; the first is drawn for half of the scenes."""
FPS = (16, 24, 30)

HELD_OUT = 1 << 40
"""Seeds from here on are for measuring: training draws below."""


@dataclass(frozen=True)
class Shape:
    """One shape of a scene.

    ``radius`` is in pixels. ``start`` is the centre (x, y) at time 0, in pixels. ``velocity`` (x, y) is in pixels a
    second.
    """

    kind: str
    colour: str
    radius: float
    start: tuple[float, float]
    velocity: tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """One scene of any length. ``width`` and ``height`` are in pixels, ``fps`` in frames a second.

    ``background`` names one colour, or two colours for a gradient. ``axis`` is the direction of the gradient: 0 across,
    1 down. ``pan`` is the camera's velocity (x, y) in pixels a second. In a scene with a pan, the shapes don't move.
    """

    width: int
    height: int
    fps: float
    shapes: tuple[Shape, ...]
    background: tuple[str, ...]
    axis: int
    pan: tuple[float, float]

    @cached_property
    def caption(self) -> str:
        """The scene in English: "a red ball moving right on a navy background"."""
        panning = any(self.pan)
        phrases = []
        for shape in self.shapes:
            article = "an" if shape.colour[0] in "aeiou" else "a"
            moving = "" if panning else f" moving {direction(shape.velocity)}"
            phrases.append(f"{article} {shape.colour} {shape.kind}{moving}")
        camera = f", camera panning {direction(self.pan)}" if panning else ""
        return f"{' and '.join(phrases)} on a {' to '.join(self.background)} background{camera}"

    def positions(self, start: int, count: int) -> np.ndarray:
        """Return the shapes' centres (x, y), in pixels, in the frames from ``start`` on: float64 [shapes, count, 2]."""
        seconds = (start + np.arange(count)) / self.fps
        offset = self._offset(seconds)
        side = (self.width, self.height)
        found = np.empty((len(self.shapes), count, 2))
        for index, shape in enumerate(self.shapes):
            for axis in (0, 1):
                travelled = shape.start[axis] + shape.velocity[axis] * seconds
                low, high = shape.radius, side[axis] - shape.radius
                found[index, :, axis] = _bounce(travelled, low, high) + offset[:, axis]
        return found

    def render(self, start: int, count: int) -> np.ndarray:
        """Render ``count`` frames from ``start`` on: uint8 RGB [count, height, width, 3]."""
        frames = np.empty((count, self.height, self.width, 3), np.uint8)
        frames[:] = self._backdrop(self._offset((start + np.arange(count)) / self.fps)[:, self.axis])
        for shape, path in zip(self.shapes, self.positions(start, count), strict=True):
            for frame, centre in zip(frames, path, strict=True):
                _draw(frame, shape, centre)
        return frames

    def _backdrop(self, offset: np.ndarray) -> np.ndarray:
        colours = np.array([BACKGROUNDS[name] for name in self.background], np.float32)
        if len(colours) == 1:
            return colours[0].astype(np.uint8)
        side = (self.width, self.height)[self.axis]
        place = _bounce((np.arange(side) + 0.5 - offset[:, None]) / side, 0.0, 1.0)[..., None]
        line = np.rint(colours[0] + (colours[1] - colours[0]) * place).astype(np.uint8)
        return line[:, None] if self.axis == 0 else line[:, :, None]

    def _offset(self, seconds: np.ndarray) -> np.ndarray:
        """float64 [frames, 2]: how far the camera has shifted the picture; it turns round before a shape leaves."""
        shifted = np.zeros((len(seconds), 2))
        for axis, side in enumerate((self.width, self.height)):
            low = -min(shape.start[axis] - shape.radius for shape in self.shapes)
            high = side - max(shape.start[axis] + shape.radius for shape in self.shapes)
            shifted[:, axis] = _bounce(-self.pan[axis] * seconds, low, high) if self.pan[axis] else 0.0
        return shifted


def scene(
    seed: int,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    motion: str | None = None,
    shapes: int | None = None,
) -> Scene:
    """Return the scene that belongs to a seed. An argument that is None gets a random value, which depends on the seed.

    Args:
        seed: 0 or more.
        size: Width and height in pixels, 64 or more each.
        fps: The frames a second.
        motion: One of MOTIONS.
        shapes: The number of shapes, 1 or 2.

    Raises:
        ValueError: ``seed``, ``size``, ``motion`` or ``shapes`` isn't a value allowed above.
    """
    if seed < 0:
        raise ValueError(f"seed: must be at least 0, got {seed}")
    if motion is not None and motion not in MOTIONS:
        raise ValueError(f"motion: must be one of {', '.join(MOTIONS)}, got {motion!r}")
    if shapes not in (None, 1, 2):
        raise ValueError(f"shapes: must be 1 or 2, got {shapes}")
    if size is not None and min(size) < 64:
        raise ValueError(f"size: must have sides of at least 64 pixels, got {size[0]}x{size[1]}")
    rng = np.random.Generator(np.random.Philox(seed))
    # Every draw is made whether it is needed or not, so that what is given changes nothing else.
    drawn_size = SIZES[0] if rng.random() < 0.5 else SIZES[int(rng.integers(1, len(SIZES)))]
    drawn_fps = FPS[int(rng.integers(len(FPS)))]
    drawn_motion = MOTIONS[int(np.searchsorted((0.35, 0.65, 0.85), rng.random(), side="right"))]
    drawn_count = 2 if rng.random() < 0.25 else 1
    width, height = size or drawn_size
    motion, count = motion or drawn_motion, shapes or drawn_count

    colours = rng.permutation(list(COLOURS))[:2]
    names = rng.permutation(list(BACKGROUNDS))[:2]
    gradient = rng.random() < 0.5 or motion == "pan"
    axis = int(rng.integers(2))
    kinds = [SHAPES[int(kind)] for kind in rng.integers(len(SHAPES), size=2)]
    made = [
        _shape(rng, str(kind), str(colour), width, height, motion)
        for kind, colour in zip(kinds, colours, strict=True)
    ]
    speed, sign = _speed(rng, min(width, height)), 1 - 2 * int(rng.integers(2))
    pan = [0.0, 0.0]
    if motion == "pan":
        pan[axis] = sign * speed
    background = tuple(str(name) for name in names[: 2 if gradient else 1])
    return Scene(
        width, height, float(fps or drawn_fps), tuple(made[:count]), background, axis, (pan[0], pan[1])
    )


def direction(velocity: tuple[float, float]) -> str:
    """Return the direction of a velocity (x, y) in words, such as "up and left" or "right".

    A positive y means down. The result is "" if the velocity is 0.
    """
    x, y = velocity
    words = [("up" if y < 0 else "down")] if y else []
    words += [("left" if x < 0 else "right")] if x else []
    return " and ".join(words)


def _speed(rng: np.random.Generator, side: int) -> float:
    return float(rng.uniform(0.2, 0.8)) * side


def _shape(rng: np.random.Generator, kind: str, colour: str, width: int, height: int, motion: str) -> Shape:
    radius = float(rng.uniform(0.14, 0.24)) * min(width, height)
    speed = _speed(rng, min(width, height))
    signs = 1 - 2 * rng.integers(2, size=2)
    places = rng.random(2)
    along = {
        "horizontal": (1.0, 0.0),
        "vertical": (0.0, 1.0),
        "diagonal": (0.5**0.5, 0.5**0.5),
        "pan": (0.0, 0.0),
    }[motion]
    velocity = tuple(float(speed * sign * part) for sign, part in zip(signs, along, strict=True))
    start = []
    for side, pace, place in zip((width, height), velocity, places, strict=True):
        low, high = radius, side - radius
        # Room ahead for a while, or the caption's direction would be wrong at once.
        room = min(0.8 * abs(pace), 0.9 * (high - low))
        start.append(low + max(0.0, -np.sign(pace)) * room + float(place) * (high - low - room))
    return Shape(kind, colour, radius, (float(start[0]), float(start[1])), (velocity[0], velocity[1]))


def _bounce(value: np.ndarray, low: float, high: float) -> np.ndarray:
    span = high - low
    return low + span - np.abs((value - low) % (2.0 * span) - span)


def _draw(frame: np.ndarray, shape: Shape, centre: np.ndarray) -> None:
    """Composite one shape into a frame, its edge one pixel soft, lit from above left."""
    radius = np.float32(shape.radius)
    height, width = frame.shape[:2]
    left, top = (max(0, int(value - radius - 2)) for value in centre)
    right, bottom = min(width, int(centre[0] + radius + 3)), min(height, int(centre[1] + radius + 3))
    x = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - centre[0]))[None]
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - centre[1]))[:, None]
    if shape.kind == "ball":
        inside = radius - np.sqrt(x * x + y * y)
    elif shape.kind == "box":
        inside = np.float32(0.8) * radius - np.maximum(np.abs(x), np.abs(y))
    else:
        # Equilateral, its centroid at the centre, the point upwards.
        slope = np.float32(0.75**0.5) * np.abs(x) - np.float32(0.5) * y
        inside = np.float32(0.5) * radius - np.maximum(slope, y)
    alpha = np.clip(inside + np.float32(0.5), 0.0, 1.0)[..., None]
    if shape.kind == "ball":
        third = np.float32(0.35) * radius
        far = np.sqrt((x + third) ** 2 + (y + third) ** 2) / radius
        light: np.ndarray = np.float32(1.0) - np.float32(0.3) * far
    else:
        light = np.float32(0.85) - np.float32(0.12) * (x + y) / radius
    colour = np.array(COLOURS[shape.colour], np.float32) * light[..., None]
    patch = frame[top:bottom, left:right]
    patch[:] = np.clip(np.rint(patch + alpha * (colour - patch)), 0, 255).astype(np.uint8)
