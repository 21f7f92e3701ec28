"""The vector of a search: words, a picture, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from ecommerce_vl.data.images import ImageDefect, decode
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.thumbnails import MAX_PIXELS


class QueryEncoder(Protocol):
    """What a search needs of an encoder; `ecommerce_vl.encoder.Encoder` has it."""

    def embed_queries(self, texts: list[str]) -> np.ndarray: ...

    def embed_images(self, images: list[bytes]) -> np.ndarray: ...


def read_picture(file: str | Path) -> bytes:
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
    encoder: QueryEncoder, *, text: str = "", picture: bytes | None = None, image_weight: float = 0.5
) -> np.ndarray:
    """One unit vector (D,) float32: of the text, of the picture, or norm((1 - w) text + w picture) of both.

    Args:
      image_weight: w in [0, 1]; 0.5 is norm(text + picture), as a product's own vector is made.

    Errors: UserError if there is neither, or the encoder finds nothing to read in them.
    """
    parts = []
    if text.strip():
        parts.append((1.0 - image_weight, encoder.embed_queries([text])[0]))
    if picture is not None:
        parts.append((image_weight, encoder.embed_images([picture])[0]))
    if not parts:
        raise UserError('nothing to search for; give --query="words", --image=FILE, or both')
    if len(parts) == 1:
        parts = [(1.0, parts[0][1])]
    vector = np.sum([weight * one.astype(np.float64) for weight, one in parts], axis=0)
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm < 1e-6:
        raise UserError(f"the model finds nothing to read in --query={text!r}; use other words, or add --image=FILE")
    return (vector / norm).astype(np.float32)
