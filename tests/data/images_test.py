"""Any picture a shop may send is stored as an upright RGB JPEG, or refused with a reason before it costs anything."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ecommerce_vl.data import images
from ecommerce_vl.data.images import Augment, ImageDefect, ImagePipeline, StoredForm, decode, open_image, stored_image

LIMITS = {"max_pixels": 89_000_000, "min_side": 64, "max_side": 128, "quality": 92}
LIMIT = 89_000_000


def picture(mode: str = "RGB", size=(160, 100)) -> Image.Image:
    """Left half red, right half blue, in any mode."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, size[0], size[1]))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def stored(data: bytes, **limits) -> Image.Image:
    image = Image.open(io.BytesIO(stored_image(data, StoredForm(**LIMITS | limits))[0]))
    image.load()
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG of one honest header and a few bytes of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def assert_red_and_blue(image: Image.Image) -> None:
    pixels = np.asarray(image).astype(int)
    height, width = pixels.shape[:2]
    left, right = pixels[height // 2, width // 8], pixels[height // 2, -width // 8]
    assert left[0] > 200 > 60 > left[2]
    assert right[2] > 200 > 60 > right[0]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB")),
        *(("WEBP", "RGBA"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"), ("TIFF", "CMYK")),
    ],
)
def test_every_format_becomes_a_small_rgb_jpeg(kind, mode):
    image = stored(encoded(picture(mode), kind))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (128, 80))
    assert_red_and_blue(image)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_rgb(mode):
    image = stored(encoded(Image.new("L", (100, 100), 255).convert(mode), "PNG"))
    assert image.mode == "RGB"
    assert np.asarray(image).min() > 250
    assert stored(encoded(Image.new("L", (100, 100), 90), "JPEG")).mode == "RGB"


def test_sixteen_bits_a_pixel_keep_their_shades():
    ramp = np.linspace(0, 65535, 100 * 100).reshape(100, 100).astype(np.uint16)
    pixels = np.asarray(stored(encoded(Image.fromarray(ramp), "PNG")))
    assert abs(int(pixels[50].mean()) - 128) < 5


def test_transparency_lies_on_white():
    clear = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    assert np.asarray(stored(encoded(clear, "PNG"))).min() > 250
    palette = picture("P", (100, 100))
    assert np.asarray(stored(encoded(palette, "GIF", transparency=palette.getpixel((0, 0)))))[50, 10].min() > 230


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    # Turned the other way first, so that applying the tag gives the picture back.
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = picture(size=(120, 80))
    turned = image.transpose(back[orientation]) if orientation in back else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(turned, "JPEG", exif=exif, quality=95)
    assert stored(data).size == (120, 80)
    assert_red_and_blue(stored(data))
    assert_red_and_blue(decode(data, target=64, max_pixels=LIMIT))
    assert (stored_image(data, StoredForm(**LIMITS))[0] == data) == (orientation == 1)


def test_animations_give_their_first_frame():
    frames = [picture(), Image.new("RGB", (160, 100), "green")]
    for kind in ("GIF", "WEBP", "PNG"):
        assert_red_and_blue(stored(encoded(frames[0], kind, save_all=True, append_images=frames[1:])))


def test_a_small_enough_jpeg_is_kept_byte_for_byte():
    data = encoded(picture(size=(128, 90)), "JPEG", quality=50)
    assert stored_image(data, StoredForm(**LIMITS))[0] == data
    once = stored_image(encoded(picture(), "PNG"), StoredForm(**LIMITS))[0]
    assert stored_image(once, StoredForm(**LIMITS))[0] == once


def test_large_jpegs_are_reduced():
    assert stored(encoded(picture(size=(3000, 1000)), "JPEG")).size == (128, 43)


def whole_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    return encoded(Image.fromarray(noise), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not_an_image"),
        (b"<!DOCTYPE html><html>404</html>", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"\xff\xd8\xff\xe0", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not_an_image"),
        (whole_jpeg()[:3000], "truncated_image"),
        (encoded(picture(), "PNG")[:200], "truncated_image"),
        (png_header(20_000, 10_000), "image_too_large"),
        (encoded(Image.new("1", (20_000, 10_000)), "PNG"), "image_too_large"),
        (png_header(100, 100), "truncated_image"),
        (encoded(picture(size=(200, 63)), "PNG"), "image_too_small"),
    ],
)
def test_defects_have_reasons(data, reason):
    with pytest.raises(ImageDefect) as raised:
        stored_image(data, StoredForm(**LIMITS))[0]
    assert raised.value.reason == reason
    if reason in ("not_an_image", "truncated_image", "image_too_large"):
        with pytest.raises(ImageDefect) as raised:
            decode(data, target=64, max_pixels=LIMIT)
        assert raised.value.reason == reason


def test_the_message_of_a_large_picture_names_found_and_limit():
    with pytest.raises(ImageDefect, match="20000x10000 is 200 megapixels, limit 89"):
        open_image(png_header(20_000, 10_000), max_pixels=LIMIT)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_are_read_or_refused_and_nothing_else():
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    originals = [
        encoded(picture(size=(80, 70)), "JPEG", exif=exif),
        encoded(picture("RGBA", (80, 70)), "PNG", exif=exif),
        encoded(picture(size=(80, 70)), "WEBP", exif=exif),
        encoded(picture("P", (80, 70)), "GIF"),
        encoded(picture(size=(80, 70)), "TIFF"),
        encoded(picture(size=(80, 70)), "BMP"),
    ]
    outcomes = set()
    for trial in range(600):
        data = bytearray(originals[trial % len(originals)])
        # Mostly the first bytes, where the headers and the EXIF data are.
        for place in rng.integers(0, rng.choice([60, 200, len(data)]), 3):
            data[min(place, len(data) - 1)] = rng.integers(256)
        for read in (
            lambda data: stored_image(data, StoredForm(**LIMITS | {"max_pixels": 10**6}))[1],
            lambda data: decode(data, target=64, max_pixels=10**6),
        ):
            try:
                outcomes.add(type(read(bytes(data))).__name__)
            except ImageDefect as defect:
                outcomes.add(defect.reason)
    assert {"Image", "not_an_image", "truncated_image"} <= outcomes


def test_the_pipeline_pads_to_a_square_and_is_plain_data():
    pipeline = ImagePipeline(size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = pipeline(encoded(picture(size=(200, 100)), "JPEG", quality=95))
    assert (pixels.shape, pixels.dtype) == ((64, 64, 3), np.uint8)
    assert pixels[:14].min() > 240
    assert_red_and_blue(Image.fromarray(pixels))
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


def test_augmentation_follows_the_generator():
    pipeline = ImagePipeline(size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    augment = Augment(crop_scale=(0.5, 1.0), crop_ratio=1.3, mirror=0.5, light=0.2)
    data = encoded(picture(), "JPEG")
    views = [pipeline(data, rng=np.random.default_rng(seed), augment=augment) for seed in (0, 0, 1)]
    assert (views[0] == views[1]).all()
    assert (views[0] != views[2]).any()
    assert views[0].shape == (64, 64, 3)


@pytest.mark.parametrize("size", [(20_000, 80), (80, 20_000)])
@pytest.mark.parametrize("augmented", [False, True])
def test_a_ribbon_costs_no_more_than_its_own_pixels(size, augmented, monkeypatch):
    made = []
    new = Image.new
    monkeypatch.setattr(Image, "new", lambda mode, size, *more: made.append(max(size)) or new(mode, size, *more))
    data = encoded(new("RGB", size, "red"), "PNG")
    augment = Augment(crop_scale=(0.5, 1.0), crop_ratio=1.3, mirror=0.5, light=0.2) if augmented else None
    pixels = ImagePipeline(size=64, mean=(0.5,) * 3, std=(0.5,) * 3)(
        data, rng=np.random.default_rng(0), augment=augment
    )
    assert pixels.shape == (64, 64, 3)
    assert made and max(made) <= 128


def test_squares_are_resized_as_they_are():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8))
    pipeline = ImagePipeline(size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert (pipeline.fit(image) == np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC))).all()
    augment = Augment(crop_scale=(0.5, 1.0), crop_ratio=1.3, mirror=0.5, light=0.2)
    views = [
        pipeline(encoded(image, "PNG"), rng=np.random.default_rng(0), augment=augment),
        augment(image, size=64, rng=np.random.default_rng(0)),
    ]
    assert (views[0] == views[1]).all()


def test_one_limit_on_pixels():
    from ecommerce_vl.data import thumbnails

    assert ImagePipeline.max_pixels == thumbnails.MAX_PIXELS == images.MAX_PIXELS == LIMIT


@pytest.mark.parametrize(
    ("resize", "expected_box"), [("stretch", (0, 0, 90, 60)), ("crop", (15, 0, 75, 60))], ids=["stretch", "crop"]
)
def test_published_pipelines_stretch_or_crop_the_middle(resize, expected_box):
    """Of a picture that is read at its own size the middle, or all of it, in exactly Pillow's pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    pipeline = ImagePipeline(size=60, mean=(0.5,) * 3, std=(0.5,) * 3, resize=resize, interpolation="bilinear")
    expected = Image.fromarray(pixels).crop(expected_box).resize((60, 60), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pipeline(buffer.getvalue()), np.asarray(expected))


def test_another_way_to_resize_is_named():
    with pytest.raises(ValueError, match="image.resize is 'fill'; expected one of pad, stretch, crop"):
        ImagePipeline(size=8, mean=(0.5,) * 3, std=(0.5,) * 3, resize="fill")
