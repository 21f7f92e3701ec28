"""Door: the vectors of a catalog as Parquet, keyed by product id.

    python -m ecommerce_vl.export --workdir=RUN --data=DATA --split=all --out=VECTORS

Writes VECTORS/part-*.parquet (product, image and text vectors), rejects.parquet, manifest.json, thumbnails for the
search page, and _SUCCESS last. The same command after an interruption makes only what is missing.
--pretrained=FOLDER embeds with a published model as it is, instead of --workdir.
--refresh=OLD copies the vectors of products whose title and picture are those of an earlier export of the same model.
--index=KIND adds VECTORS/index/KIND, an approximate index, with its recall against exact search; see
docs/query_retrieval.md. It may be added to vectors that are there already.

    python -m ecommerce_vl.export --workdir=RUN --model=stablehlo --out=MODEL

writes the model instead: StableHLO programs, or with --model=hugging_face the folder that a run began with
(config.init.dual), with its trained weights. See docs/weights.md.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from ecommerce_vl import doors
from ecommerce_vl.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "run directory of the trained system")
PRETRAINED = flags.DEFINE_string("pretrained", None, "instead of a run, a folder of Hugging Face, or an id of the hub")
DATA = flags.DEFINE_string("data", None, "folder that prepare wrote")
MODEL = flags.DEFINE_enum("model", None, ["stablehlo", "hugging_face"], "write the model, in place of vectors")
flags.mark_flags_as_mutual_exclusive(["data", "model"], required=True)
flags.mark_flags_as_mutual_exclusive(["workdir", "pretrained"], required=True)
SPLIT = flags.DEFINE_enum("split", "all", ["all", "train", "validation", "test"], "which products")
OUT = flags.DEFINE_string("out", None, "folder for the vectors, or the model", required=True)
THUMBNAILS = flags.DEFINE_bool("thumbnails", True, "small pictures beside the vectors, for the search page")
REFRESH = flags.DEFINE_string("refresh", None, "vectors of an earlier export; unchanged products are copied from it")
INDEX = flags.DEFINE_string("index", None, "an approximate index beside them: faiss-hnsw, faiss-ivf or usearch")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace what another model or other data left in --out")


def main() -> None:
    from ecommerce_vl.data.prepared import PreparedData
    from ecommerce_vl.exporting import index, refresh
    from ecommerce_vl.exporting.reader import ExportedVectors
    from ecommerce_vl.exporting.vectors import export_vectors
    from ecommerce_vl.progress import Progress

    out = Path(OUT.value)
    if MODEL.value:
        for flag in (INDEX, REFRESH, SPLIT, THUMBNAILS):
            if flag.present:
                expected = "expected --workdir or --pretrained, and --out, beside --model"
                raise UserError(f"--{flag.name} is for vectors; {expected}")
        return write_model(out)
    data = PreparedData(DATA.value)
    if INDEX.value:
        index.require_library(INDEX.value)
    if REFRESH.value:
        refresh.require_other_folder(Path(REFRESH.value), out)
    encoder = the_encoder()
    earlier = ExportedVectors(REFRESH.value) if REFRESH.value else None
    manifest = export_vectors(
        refresh.RefreshingEncoder(encoder, earlier) if earlier else encoder,
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
    if earlier:
        print_refresh(refresh.count(earlier, ExportedVectors(out)), Path(REFRESH.value))
    if INDEX.value:
        add_index(encoder, data, ExportedVectors(out), kind=INDEX.value)


def the_encoder():
    import ecommerce_vl as vl

    return vl.from_pretrained(PRETRAINED.value) if PRETRAINED.value is not None else vl.load(WORKDIR.value)


def write_model(out: Path) -> None:
    from ecommerce_vl import weights
    from ecommerce_vl.exporting import hugging_face, stablehlo

    encoder = the_encoder()
    if MODEL.value == "hugging_face":
        folder, tensors = weights.restored(encoder.config, encoder.params)
        size = encoder.pipeline.size
        hugging_face.write_folder(tensors, folder.path, out, image_size=size, overwrite=OVERWRITE.value)
        print(f"wrote    {out} ({len(tensors)} tensors of a {folder.kind}, pictures of {size} pixels)")
        return
    made = stablehlo.write_programs(encoder, out, overwrite=OVERWRITE.value)
    for program in made["programs"].values():
        inputs = ", ".join(f"{name} {tuple(one['shape'])} {one['dtype']}" for name, one in program["inputs"].items())
        print(f"program  {program['file']}: {inputs} -> {tuple(program['output'])} float32".replace("'", ""))
    print(f"space    {made['space_id']}, {made['dims']} dimensions; readable by JAX until {made['readable_until']}")
    print(f"wrote    {out}")


def add_index(encoder, data, exported, *, kind: str) -> None:
    from functools import partial

    from ecommerce_vl.evaluation.approximate import recall_by_effort
    from ecommerce_vl.exporting import index

    folder = index.folder_of(exported, kind=kind)
    if index.is_current(exported, kind=kind):
        print(f"export: {folder} already holds the index of these vectors; nothing to do")
        return
    asked = encoder.embed_queries(index.asked_of(data))
    made = index.write_index(exported, kind=kind, measure=partial(recall_by_effort, queries=asked))
    for effort, found in made["recall"].items():
        shares = "  ".join(f"{name} {share:.4f}" for name, share in found.items())
        print(f"index    {kind} effort {effort:>3s}: {shares}{' (its own)' if int(effort) == made['effort'] else ''}")
    print(f"wrote    {folder} ({made['rows']:,} products; recall of exact search by {len(asked):,} queries)")


def print_refresh(count, earlier: Path) -> None:
    rows, embedded = count.kept + count.changed + count.new, count.changed + count.new
    print(f"refresh  {rows:,} rows = {count.kept:,} kept + {embedded:,} embedded ", end="")
    print(f"({count.changed:,} changed, {count.new:,} new); {count.gone:,} of {earlier} are gone")


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
