"""Pictures: checked by header, decoded, resized to the model's size, always by the same code.

Training, evaluation, export and search read pictures through `ImagePipeline`, which is plain data and lies in the run
directory as `preprocess.json`. Invariant: no pixel is decoded before the header's pixel count is within the limit.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

# Decompression bombs are refused by our own check of the header, which names the limit.
Image.MAX_IMAGE_PIXELS = None
# What Pillow has to say about odd metadata would bury a door's own lines; what matters becomes an ImageDefect.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
ORIENTATION_TAG = 0x0112
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
WHITE = (255, 255, 255)
RESIZES = ("pad", "stretch", "crop")
INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
MAX_PIXELS = 89_000_000  # refuse larger pictures by their header, before decoding


class ImageDefect(Exception):
    """A picture that cannot be used; `reason` is one word for counters, `detail` says what was found."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def open_image(data: bytes, *, max_pixels: int) -> Image.Image:
    """The picture behind encoded bytes, its header checked, its pixels not yet decoded.

    Errors: ImageDefect `not_an_image`, or `image_too_large` above `max_pixels`.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # on damaged files the codecs raise anything from struct.error to KeyError
        start = data[:16]
        raise ImageDefect("not_an_image", f"{len(data)} bytes starting {start!r}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageDefect(
            "image_too_large",
            f"{width}x{height} is {width * height / 1e6:.0f} megapixels, limit {max_pixels / 1e6:.0f}",
        )
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright RGB pixels: EXIF orientation applied, transparency laid on white.

    Errors: ImageDefect `truncated_image` if the pixels end early or are damaged.
    """
    try:
        image.load()
        image = _upright(image)
        if image.mode.startswith("I;16"):  # 16 bits a pixel, of which Pillow would clip all above 255 to white
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            canvas = Image.new("RGBA", image.size, (*WHITE, 255))
            return Image.alpha_composite(canvas, image).convert("RGB")
        return image.convert("RGB")
    except Exception as error:  # as above
        raise ImageDefect("truncated_image", str(error) or type(error).__name__) from error


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF data say; as it is where these are damaged, since the pixels are not."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image


def _is_upright(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ORIENTATION_TAG, 1) == 1
    except Exception:  # as above
        return False


@dataclasses.dataclass(frozen=True)
class StoredForm:
    """How pictures lie in the shards, as data.

    Args:
      max_pixels: refuse above, by the header.
      min_side, max_side: pixels; the shorter side's least, the longer side's most.
      quality: of JPEG, 1-95, where a picture must be encoded again.
    """

    max_pixels: int = MAX_PIXELS
    min_side: int = 64
    max_side: int = 256
    quality: int = 92


def stored_image(data: bytes, form: StoredForm) -> tuple[bytes, Image.Image]:
    """The picture as it lies in the shards, an upright RGB JPEG no larger than `max_side`, and its decoded pixels.

    Bytes that are already so are kept as they are, so that nothing is encoded twice.

    Errors: ImageDefect.
    """
    image = open_image(data, max_pixels=form.max_pixels)
    if min(image.size) < form.min_side:
        raise ImageDefect("image_too_small", f"{image.size[0]}x{image.size[1]}, shorter side below {form.min_side}")
    as_is = image.format == "JPEG" and image.mode == "RGB" and max(image.size) <= form.max_side and _is_upright(image)
    if image.format == "JPEG":
        image.draft("RGB", (form.max_side, form.max_side))
    rgb = to_rgb(image)
    if as_is:
        return data, rgb
    rgb.thumbnail((form.max_side, form.max_side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=form.quality)
    return buffer.getvalue(), rgb


@dataclasses.dataclass(frozen=True)
class ImagePipeline:
    """How a stored picture becomes the model's input, as data.

    Args:
      size: side of the square in pixels.
      mean, std: per channel of pixels in [0, 1]; applied on the device, recorded here.
      max_pixels: refuse above, by the header.
      resize: "pad" keeps the aspect ratio and fills with white, so no product is cut or stretched. Published models
        were trained otherwise: "stretch" to the square, or "crop" its middle.
      interpolation: a key of `INTERPOLATIONS`.
      decoder: JPEG through libjpeg-turbo, for "pad" reduced in the DCT domain while at least twice the size; Pillow
        otherwise.
      crop_share: of "crop", the square's side over the shorter side of what it is cut from.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    max_pixels: int = MAX_PIXELS
    resize: str = "pad"
    interpolation: str = "bicubic"
    decoder: str = "libjpeg-turbo, Pillow"
    crop_share: float = 1.0

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> ImagePipeline:
        """That of `config.image`, of which other fields are the model's.

        Errors: ValueError for a value that is none of the choices.
        """
        own = ("size", "mean", "std", "resize", "interpolation", "crop_share")
        return cls(**{name: image[name] for name in own if name in image})

    def __post_init__(self):
        for field, choices in (("resize", RESIZES), ("interpolation", INTERPOLATIONS)):
            if getattr(self, field) not in choices:
                raise ValueError(f"image.{field} is {getattr(self, field)!r}; expected one of {', '.join(choices)}")

    def __call__(self, data: bytes, *, rng: np.random.Generator | None = None, augment: Augment | None = None):
        """Decodes and resizes one picture; returns (size, size, 3) uint8.

        With `rng` and `augment` the square is cropped, mirrored and lit at random.

        Errors: ImageDefect.
        """
        image = decode(data, target=self.size if self.resize == "pad" else None, max_pixels=self.max_pixels)
        if rng is not None and augment is not None:
            if self.resize == "crop":
                image = _middle(image, min(image.size))
            elif self.resize == "pad" and image.width != image.height:
                # A square of the longer side would undo the limit on pixels.
                image.thumbnail((2 * self.size, 2 * self.size), Image.Resampling.BICUBIC)
            return augment(_square(image) if self.resize == "pad" else image, size=self.size, rng=rng)
        return self.fit(image)

    def fit(self, image: Image.Image) -> np.ndarray:
        """An RGB picture as a square of the model's size, by default on white; (size, size, 3) uint8."""
        filter = INTERPOLATIONS[self.interpolation]
        if self.resize == "crop":
            shorter = round(self.size / self.crop_share)
            sides = tuple(int(shorter * side / min(image.size)) for side in image.size)
            return np.asarray(_middle(image.resize(sides, filter), self.size))
        if self.resize == "stretch" or image.width == image.height:
            return np.asarray(image.resize((self.size, self.size), filter))
        # Shrunk before it is padded: a white square of a banner's own length may be a thousand times its pixels.
        scale = self.size / max(image.size)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return np.asarray(_square(image.resize(inner, filter, reducing_gap=2.0)))


def decode(data: bytes, *, target: int | None, max_pixels: int) -> Image.Image:
    """An RGB picture of at least twice `target` on its shorter side, where the original is; None for its own size.

    Errors: ImageDefect.
    """
    if data[:2] == b"\xff\xd8":
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
            if height * width <= max_pixels and space in ("YCbCr", "Gray") and b"Exif\x00" not in data:
                least = 2 * target if target and min(height, width) >= 2 * target else 0
                return Image.fromarray(simplejpeg.decode_jpeg(data, min_height=least, min_width=least))
        except Exception:  # as above; KeyError for a colour space that simplejpeg does not know
            pass  # Pillow below either reads it or names the defect
    return to_rgb(open_image(data, max_pixels=max_pixels))


def _middle(image: Image.Image, side: int) -> Image.Image:
    """The square of that side in the middle of a picture, black where the picture ends."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _square(image: Image.Image) -> Image.Image:
    """The picture centred on a white square of its longer side."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    canvas = Image.new("RGB", (side, side), WHITE)
    canvas.paste(image, ((side - width) // 2, (side - height) // 2))
    return canvas


@dataclasses.dataclass(frozen=True)
class Augment:
    """Random views for training: a crop of a share of the area, mirror, brightness and contrast.

    Args:
      crop_scale: least and most share of the area that a crop keeps.
      crop_ratio: a crop's aspect ratio lies in [1/crop_ratio, crop_ratio].
      mirror: probability of a horizontal flip; 0 where text and logos matter.
      light: brightness and contrast factors are drawn from [1 - light, 1 + light].
    """

    crop_scale: tuple[float, float]
    crop_ratio: float
    mirror: float
    light: float

    def __call__(self, image: Image.Image, *, size: int, rng: np.random.Generator) -> np.ndarray:
        """A view as uint8 (size,size,3)."""
        area = rng.uniform(*self.crop_scale)
        ratio = np.exp(rng.uniform(-1, 1) * np.log(self.crop_ratio))
        width = min(1.0, np.sqrt(area * ratio)) * image.width
        height = min(1.0, np.sqrt(area / ratio)) * image.height
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        box = (left, top, left + width, top + height)
        view = image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
        if rng.random() < self.mirror:
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(view)
        if not self.light:
            return pixels
        brightness, contrast = rng.uniform(1 - self.light, 1 + self.light, 2)
        centre = pixels.sum(dtype=np.uint64) / pixels.size
        # A table of the 256 values: float arrays of a whole picture cost up to thirty times as much.
        table = (np.arange(256, dtype=np.float32) - centre) * contrast + centre * brightness
        lit = pixels.tobytes().translate(np.clip(table, 0, 255).astype(np.uint8).tobytes())
        return np.frombuffer(lit, np.uint8).reshape(pixels.shape)
