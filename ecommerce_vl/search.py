"""Door: type words, add a picture, see products.

    python -m ecommerce_vl.search --workdir=RUN --vectors=VECTORS --query="red cotton dress" [--image=FILE] \\
        [--k=10] [--html=FILE]

Prints the nearest products with their scores (cosines); --html writes a page with their pictures. VECTORS is a folder
that export wrote with the same model.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from absl import flags

from ecommerce_vl import doors

WORKDIR = flags.DEFINE_string("workdir", None, "run directory of the model that made the vectors")
PRETRAINED = flags.DEFINE_string("pretrained", None, "instead of a run, the published model that made them")
flags.mark_flags_as_mutual_exclusive(["workdir", "pretrained"], required=True)
VECTORS = flags.DEFINE_string("vectors", None, "folder that export wrote", required=True)
QUERY = flags.DEFINE_string("query", "", "words to search for")
IMAGE = flags.DEFINE_string("image", None, "picture to search with; with --query, both count")
IMAGE_WEIGHT = flags.DEFINE_float(
    "image_weight", None, "share of the picture where both are given, 0 to 1, of two towers; a joint encoder has none"
)
K = flags.DEFINE_integer("k", 10, "how many products to show")
VIEW = flags.DEFINE_enum(
    "view", "auto", ["auto", "product", "image", "text"], "which vectors of the products to compare; auto is product"
)
HTML = flags.DEFINE_string("html", None, "file for a page with pictures")


def main() -> None:
    import ecommerce_vl as vl
    from ecommerce_vl.errors import UserError
    from ecommerce_vl.evaluation.search import top_k
    from ecommerce_vl.exporting import page, query
    from ecommerce_vl.exporting.listing import listing
    from ecommerce_vl.exporting.reader import ExportedVectors

    # What is wrong with the question is said before the model is loaded.
    if not QUERY.value.strip() and not IMAGE.value:
        raise UserError('nothing to search for; give --query="words", --image=FILE, or both')
    if K.value < 1:
        raise UserError(f"--k={K.value}: expected the number of products to show, at least 1")
    if IMAGE_WEIGHT.value is not None and not 0 <= IMAGE_WEIGHT.value <= 1:
        raise UserError(f"--image_weight={IMAGE_WEIGHT.value}: expected a number from 0 (words) to 1 (picture)")
    image = query.read_image(IMAGE.value) if IMAGE.value else None
    exported = ExportedVectors(VECTORS.value)
    encoder = vl.from_pretrained(PRETRAINED.value) if PRETRAINED.value is not None else vl.load(WORKDIR.value)
    exported.require_space(encoder.space_id, owner=f"the model of {WORKDIR.value or PRETRAINED.value}")

    view = "product" if VIEW.value == "auto" else VIEW.value
    ids, vectors_NxD = exported.view(view)
    if not ids:
        raise UserError(f"no product of {VECTORS.value} has a vector of --view={view}; choose another view")
    vector_D = query.query_vector(encoder, text=QUERY.value, image=image, image_weight=IMAGE_WEIGHT.value)
    rows, scores = top_k(vector_D[None], gallery=vectors_NxD, gallery_ids=ids, k=K.value)
    cards = exported.cards([ids[row] for row in rows[0]])

    print(listing(cards, scores=scores[0], width=shutil.get_terminal_size((120, 24)).columns))
    if HTML.value:
        info = {
            "products": f"{len(ids):,}",
            "compared with": {"product": "picture and title", "image": "pictures", "text": "titles"}[view],
            "model": f"{encoder.name}, step {encoder.step:,}",
            "space": encoder.space_id,
        }
        page.write_page(Path(HTML.value), cards, scores=scores[0], query=QUERY.value.strip(), image=image, info=info)
        print(f"wrote    {HTML.value}")


if __name__ == "__main__":
    doors.run(main, door="search")
