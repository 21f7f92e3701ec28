"""Vision-language embeddings of e-commerce products, trained on your own catalog.

    import ecommerce_vl as vl
    encoder = vl.load("RUN")
    encoder.embed_products([{"title": "red cotton dress", "image": "dress.jpg"}])

Importing this package loads neither JAX nor any other heavy library.
"""

from __future__ import annotations

__version__ = "0.1.0"


def load(workdir, **options):
    """The encoder of a trained run; see `ecommerce_vl.encoder.load`."""
    from ecommerce_vl import encoder

    return encoder.load(workdir, **options)


def from_pretrained(folder, **options):
    """The encoder of a published model as it is; see `ecommerce_vl.zero_shot.from_pretrained`."""
    from ecommerce_vl import zero_shot

    return zero_shot.from_pretrained(folder, **options)
