"""Images for the tests of near duplicates, and what the scan sees of an image."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.data.decode import decode
from pipeline.data.scanning.duplicates import exact_clusters, near_clusters
from pipeline.data.scanning.fingerprint import fingerprints, picture
from pipeline.data.scanning.pixel_measures import lit, pixel_hash, shrink


@dataclass(frozen=True)
class Seen:
    """What clusters are made from, of one image."""

    pixels: str
    phash: str
    fingerprint: bytes


def seen(data: bytes | Image.Image) -> Seen:
    upright = decode(data, max_pixels=10**7).image if isinstance(data, bytes) else data
    ((phash, fingerprint),) = fingerprints([picture(shrink(lit(upright)))])
    return Seen(pixel_hash(upright), phash, fingerprint)


def near(images: Sequence[Seen]) -> list[int]:
    """The near cluster of each."""
    table = np.frombuffer(b"".join(image.fingerprint for image in images), np.uint8)
    exact = exact_clusters(image.pixels for image in images)
    phashes = [image.phash for image in images]
    return near_clusters(phashes, table.reshape(len(images), -1), exact).clusters.tolist()


def cells(first: int, count: int) -> list[Image.Image]:
    """Solar cells of one module after another: photographs that all look alike."""
    spec = importlib.util.find_spec("elpv_dataset")
    folder = Path(str(spec and spec.origin)).parent / "data" / "images"
    return [Image.open(folder / f"cell{n:04}.png").copy() for n in range(first, first + count)]


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A colourful drawing with soft light, like no other of another seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.uniform(0, 1, 2) * size
        a, b = rng.uniform(10, 60, 2)
        colour = tuple(int(c) for c in rng.integers(30, 220, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - a, y - b, x + a, y + b), fill=colour)
    return image


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def resized(image: Image.Image, factor: float) -> bytes:
    size = (round(image.width * factor), round(image.height * factor))
    return encoded(image.resize(size, Image.Resampling.LANCZOS), "PPM")


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> bytes:
    """Without these shares of it."""
    width, height = image.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return encoded(image.crop(tuple(map(round, box))), "PPM")


def turned(image: Image.Image, orientation: int) -> bytes:
    """The file of a camera held otherwise: pixels turned, and EXIF that says so."""
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image.transpose(back), "JPEG", quality=90, exif=exif)


def toned(image: Image.Image, gain: float, offset: float) -> bytes:
    return encoded(image.point(lambda level: round(level * gain + offset)), "PPM")


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG 95": lambda image: encoded(image, "JPEG", quality=95),
    "JPEG 60": lambda image: encoded(image, "JPEG", quality=60),
    "JPEG 40": lambda image: encoded(image, "JPEG", quality=40),
    "WebP 80": lambda image: encoded(image, "WEBP", quality=80),
    "× 0.3": lambda image: resized(image, 0.3),
    "× 0.77": lambda image: resized(image, 0.77),
    "× 2": lambda image: resized(image, 2),
    "turned by EXIF 3": lambda image: turned(image, 3),
    "turned by EXIF 6": lambda image: turned(image, 6),
    "cropped by 2 %": lambda image: cropped(image, 0.02, 0.02, 0.02, 0.02),
    "cropped by 1 %": lambda image: cropped(image, 0.01, 0.01, 0.01, 0.01),
    "cropped, × 0.5, JPEG 75": lambda image: encoded(
        Image.open(io.BytesIO(cropped(image, 0.02, 0.02, 0.02, 0.02))).reduce(2),
        "JPEG",
        quality=75,
    ),
    "darker": lambda image: toned(image, 0.9, -2),
    "less contrast": lambda image: toned(image, 0.85, 19),
    "in colour": lambda image: encoded(image.convert("RGB"), "PPM"),
    "in grey": lambda image: encoded(image.convert("L"), "PPM"),
}
