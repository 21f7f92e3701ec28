"""Door: the vectors of a catalog as Parquet, keyed by product id.

    python -m ecommerce_vl.export --workdir=RUN --data=DATA --split=all --out=VECTORS

Writes VECTORS/part-*.parquet (product, image and text vectors), rejects.parquet, manifest.json, thumbnails for the
search page, and _SUCCESS last. The same command after an interruption makes only what is missing.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from ecommerce_vl import doors

WORKDIR = flags.DEFINE_string("workdir", None, "run directory of the trained system", required=True)
DATA = flags.DEFINE_string("data", None, "folder that prepare wrote", required=True)
SPLIT = flags.DEFINE_enum("split", "all", ["all", "train", "validation", "test"], "which products")
OUT = flags.DEFINE_string("out", None, "folder for the vectors", required=True)
THUMBNAILS = flags.DEFINE_bool("thumbnails", True, "small pictures beside the vectors, for the search page")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace what another model or other data left in --out")


def main() -> None:
    import ecommerce_vl as vl
    from ecommerce_vl.data.prepared import PreparedData
    from ecommerce_vl.exporting.vectors import export_vectors
    from ecommerce_vl.progress import Progress

    data, out = PreparedData(DATA.value), Path(OUT.value)
    manifest = export_vectors(
        vl.load(WORKDIR.value),
        data=data,
        split=SPLIT.value,
        out=out,
        pictures=THUMBNAILS.value,
        overwrite=OVERWRITE.value,
        progress=Progress("export"),
    )
    if manifest is None:
        print(f"export: {out} already holds the vectors of this model and data; nothing to do")
    else:
        print_summary(manifest, out)


def print_summary(manifest: dict, out: Path) -> None:
    rows, rejects, health = manifest["rows"], manifest["rejects"], manifest["health"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in rejects["by_reason"].items())
    cosine = health["mean_pairwise_cosine"]
    print(f"rows     {rows + rejects['count']:,} in = {rows:,} out + {rejects['count']:,} rejected", end="")
    print(f" ({reasons})" if reasons else "")
    print(f"content  {health['with_image'] / rows:.1%} with a picture, {health['with_text'] / rows:.1%} with a title")
    print(f"space    {manifest['space_id']}, {manifest['dims']} dimensions, {manifest['model']['name']}", end="")
    print(f" step {manifest['model']['step']:,}")
    print(f"health   {health['duplicate_vector_rate']:.1%} duplicate vectors, mean cosine of two products ", end="")
    print(f"{cosine:.3f}" if cosine is not None else "unknown")
    print(f"wrote    {out} ({len(manifest['shards'])} parts)")


if __name__ == "__main__":
    doors.run(main, door="export")
