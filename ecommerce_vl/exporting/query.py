"""The vector of a search: words, a picture, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from ecommerce_vl.data.images import MAX_PIXELS, ImageDefect, decode
from ecommerce_vl.errors import UserError


class QueryEncoder(Protocol):
    """What a search needs of an encoder; `ecommerce_vl.encoder.Encoder` has it."""

    def embed_queries(self, texts: list[str]) -> np.ndarray: ...

    def embed_images(self, images: list[bytes]) -> np.ndarray: ...

    def embed_composed(self, images: list[bytes], texts: list[str], *, text_weight: float | None) -> np.ndarray: ...


def read_image(file: str | Path) -> bytes:
    """The bytes of a picture file, after a look that it is one.

    Errors: UserError if the file is missing or is not a whole picture.
    """
    try:
        data = Path(file).read_bytes()
        decode(data, target=32, max_pixels=MAX_PIXELS)
    except FileNotFoundError as error:
        raise UserError(f"--image={file}: there is no such file") from error
    except ImageDefect as defect:
        raise UserError(f"--image={file} is not a usable picture: {defect}; expected JPEG, PNG or WebP") from defect
    return data


def query_vector(
    encoder: QueryEncoder, *, text: str = "", image: bytes | None = None, image_weight: float | None = None
) -> np.ndarray:
    """One unit vector (D,) float32: of the text, of the picture, or of the picture as the text changes it.

    Args:
      image: the encoded picture, or None.
      image_weight: w in [0, 1] of two towers, whose vector of both is norm(w picture + (1 - w) text); None for the
        encoder's own, which for two towers is 0.5. A joint encoder reads both in one pass and takes None only.

    Errors: UserError if there is neither, the encoder finds nothing to read in them, or it has no such weight.
    """
    has_text = bool(text.strip())
    if not has_text and image is None:
        raise UserError('nothing to search for; give --query="words", --image=FILE, or both')
    if not has_text or image is None or image_weight in (0.0, 1.0):
        alone = image is not None and (not has_text or image_weight == 1.0)
        vector = encoder.embed_images([image])[0] if alone else encoder.embed_queries([text])[0]
    else:
        text_weight = None if image_weight is None else (1.0 - image_weight) / image_weight
        try:
            vector = encoder.embed_composed([image], [text], text_weight=text_weight)[0]
        except ValueError as error:
            raise UserError(f"--image_weight={image_weight}: {error}; leave it away") from error
    vector = vector.astype(np.float64)
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm < 1e-6:
        raise UserError(f"the model finds nothing to read in --query={text!r}; use other words, or add --image=FILE")
    return (vector / norm).astype(np.float32)
