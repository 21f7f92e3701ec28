"""The model as StableHLO programs, which any JAX of the next months (with flatbuffers) runs without this package.

MODEL/
  VIEW.stablehlo     arrays by name -> unit vectors (B,D) float32, for any B, on CPU, GPU and TPU; parameters inside
  tokenizer.json     words to ids and back, for the library `tokenizers`
  model.json         shapes and dtypes, how pictures are read, the space, versions, until when it is readable
  golden.npz         arrays of four rows and their vectors, to compare after loading

    program = jax.export.deserialize(open("MODEL/text.stablehlo", "rb").read())
    program.call(text_ids=ids, text_mask=mask)

Invariant: model.json is written last, so a folder with it is whole; its `space_id` is that of vectors that `export`
makes of the same run, which therefore compare.
"""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ecommerce_vl.data.tokenizer import TextTokenizer
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import fresh_folder, whole_file, write_json

FILE, GOLDEN, ROWS = "model.json", "golden.npz", 4
PLATFORMS = ("cpu", "cuda", "tpu")
READABLE_DAYS = 180  # jax promises to read what it has serialized in the last six months
Inputs = dict[str, tuple[tuple[int, ...], str]]


class Programs(Protocol):
    """What is needed of an encoder; `ecommerce_vl.encoder.Encoder` has it."""

    views: tuple[str, ...]
    tokenizer: TextTokenizer | None

    def program(self, view: str) -> tuple[Callable[..., Any], Inputs]: ...


def write_programs(encoder: Programs, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Writes the programs of all views; returns what model.json holds.

    Errors: UserError if `out` holds a model already.
    """
    import jax
    from jax import export

    if (out / FILE).exists() and not overwrite:
        raise UserError(f"--out={out} holds a model already; name another folder or add --overwrite")
    fresh_folder(out)
    (out / FILE).unlink(missing_ok=True)
    (B,) = export.symbolic_shape("B")
    programs, golden = {}, {}
    for view in encoder.views:
        embed, inputs = encoder.program(view)
        like = {name: jax.ShapeDtypeStruct((B, *shape), dtype) for name, (shape, dtype) in inputs.items()}
        exported = export.export(jax.jit(embed), platforms=PLATFORMS)(**like)
        with whole_file(out / f"{view}.stablehlo") as file:
            file.write_bytes(exported.serialize())
        arrays = drawn(inputs)
        vectors = np.asarray(jax.jit(embed)(**arrays), np.float32)
        golden |= {f"{view}/{name}": array for name, array in (arrays | {"vectors": vectors}).items()}
        shapes = {name: {"shape": ["B", *shape], "dtype": dtype} for name, (shape, dtype) in inputs.items()}
        programs[view] = {"file": f"{view}.stablehlo", "inputs": shapes, "output": ["B", vectors.shape[1]]}
    if encoder.tokenizer is not None:
        encoder.tokenizer.save(out)
    with whole_file(out / GOLDEN) as file, open(file, "wb") as stream:
        np.savez(stream, **golden)
    today = datetime.date.today()
    content = {
        "space_id": encoder.space_id,
        "model": {"name": encoder.name, "digest": encoder.digest, "step": int(encoder.step)},
        "dims": encoder.dim,
        "normalized": True,
        "programs": programs,
        "preprocess": dict(encoder.preprocess),
        "text": dict(encoder.text),
        "fusion": dict(encoder.fusion),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "tokenizers")},
        "written": today.isoformat(),
        "readable_until": (today + datetime.timedelta(days=READABLE_DAYS)).isoformat(),
    }
    write_json(out / FILE, content)
    return content


def drawn(inputs: Inputs, *, seed: int = 0) -> dict[str, np.ndarray]:
    """`ROWS` rows of arrays of these shapes: noise, and words of falling length."""
    rng, arrays = np.random.default_rng(seed), {}
    for name, (shape, dtype) in inputs.items():
        if dtype == "bool":
            array = np.arange(*shape)[None] < shape[0] - np.arange(ROWS)[:, None] if shape else np.ones(ROWS, bool)
        else:
            array = rng.integers(0, 256 if dtype == "uint8" else 4, (ROWS, *shape))
        arrays[name] = array.astype(dtype)
    return arrays
