"""An approximate index (ANN) of exported product vectors, in a folder beside them, for a program that serves them.

    VECTORS/index/KIND/index.bin      as its library writes it; row n is product n of ids.parquet
    VECTORS/index/KIND/ids.parquet    product_id
    VECTORS/index/KIND/manifest.json  kind, space_id, digest of the vectors, versions, recall by effort; written last

Invariant: an index names the vectors that it was built of, so that one of older vectors is not taken for theirs, and
its recall was measured on the index as it was written and read back.

Sources: HNSW by Malkov and Yashunin (1603.09320), of FAISS or usearch; inverted lists (IVF) of FAISS (2401.08281).
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl import files
from ecommerce_vl.data.logs.tables import QUERY_PAIRS
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting import manifest
from ecommerce_vl.exporting.reader import ExportedVectors
from ecommerce_vl.exporting.tables import write_table
from ecommerce_vl.exporting.vectors import INDEX

FILE, IDS = "index.bin", "ids.parquet"
SCHEMA_VERSION = 1
CONNECTIVITY, EFFORT_OF_ADDING = 16, 128  # of HNSW
ROWS_PER_LIST = 39  # of IVF at least; FAISS asks for as many to place a centre
ENOUGH = 0.95  # recall@10; the effort that an index searches with by itself is the smallest that reaches it


@dataclasses.dataclass(frozen=True)
class Kind:
    """Where a kind of index comes from; `efforts` are candidates kept while searching, or lists looked into."""

    module: str
    package: str
    extra: str
    efforts: tuple[int, ...]


KINDS = {
    "faiss-hnsw": Kind("faiss", "faiss-cpu", "faiss", (16, 64, 256)),
    "faiss-ivf": Kind("faiss", "faiss-cpu", "faiss", (1, 4, 16, 64)),
    "usearch": Kind("usearch", "usearch", "ann", (16, 64, 256)),
}
Search = Callable[[np.ndarray, int, int], np.ndarray]  # vectors (Q,D), k, effort -> rows (Q,K)
Measure = Callable[..., dict[int, dict[str, float]]]  # (Search, efforts=, gallery=, ids=) -> {effort: {"recall@10": x}}


def require_library(kind: str, *, flag: str = "") -> None:
    """Errors: UserError for a kind that is not in `KINDS`, or whose library is not installed; `flag` asked for it."""
    if kind not in KINDS:
        raise UserError(f"--index={kind}: expected one of {', '.join(KINDS)}")
    if importlib.util.find_spec(KINDS[kind].module) is None:
        raise UserError(
            f"{flag or f'--index={kind}'} needs {KINDS[kind].package}, which is not installed; "
            f"pip install ecommerce_vl[{KINDS[kind].extra}]"
        )


def folder_of(exported: ExportedVectors, *, kind: str) -> Path:
    """Where the index of a kind lies."""
    return exported.folder / INDEX / kind


def is_current(exported: ExportedVectors, *, kind: str) -> bool:
    """Whether there is a finished index of these vectors, and not of earlier ones."""
    folder = folder_of(exported, kind=kind)
    return (folder / manifest.FILE).exists() and _manifest(folder)["vectors"] == digest_of(exported)


def write_index(exported: ExportedVectors, *, kind: str, measure: Measure) -> dict[str, Any]:
    """Builds an index of the product vectors in a folder beside them; returns its manifest.

    Args:
      kind: of `KINDS`.
      measure: recall against exact search, of the index as it was read back.

    Errors: UserError as of `require_library`.
    """
    require_library(kind)
    folder = folder_of(exported, kind=kind)
    ids, vectors_NxD = exported.view("product")
    (folder / manifest.FILE).unlink(missing_ok=True)
    files.fresh_folder(folder)
    with files.whole_file(folder / FILE) as partial:
        _write(_build(vectors_NxD, kind=kind), partial, kind=kind)
    write_table(folder / IDS, pa.table({"product_id": ids}))
    index = _read(folder / FILE, kind=kind)
    search = lambda asked, k, effort: _search(index, asked, k=k, effort=effort, kind=kind)[0]
    recall = measure(search, efforts=KINDS[kind].efforts, gallery=vectors_NxD, ids=ids)
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "space_id": exported.space_id,
        "vectors": digest_of(exported),
        "rows": len(ids),
        "dims": exported.dim,
        "metric": manifest.METRIC,
        "effort": next((effort for effort in recall if recall[effort]["recall@10"] >= ENOUGH), max(recall)),
        "recall": {str(effort): found for effort, found in recall.items()},
        "sha256": files.sha256(folder / FILE),
        "versions": {KINDS[kind].package: importlib.metadata.version(KINDS[kind].package)},
    }
    files.write_json(folder / manifest.FILE, content)
    return content


def asked_of(data: PreparedData, *, count: int = 1000) -> list[str]:
    """Up to `count` texts that people would search for: queries of the log that `data` was prepared with, else titles.

    Different ones, evenly spaced in alphabetical order, so the same data gives the same.

    Errors: UserError if there are none.
    """
    log = data.folder / QUERY_PAIRS
    file, column = (log, "query") if log.exists() else (data.folder / "index.parquet", "title")
    texts = pq.read_table(file, columns=[column])[column].unique().to_pylist()
    found = sorted(text for text in texts if text and text.strip())
    if not found:
        raise UserError(
            f"{data.folder} has neither queries nor titles to measure an index with; prepare it with --clicks=LOG, or "
            "export without --index"
        )
    return found[:: max(1, -(-len(found) // count))]


def digest_of(exported: ExportedVectors) -> str:
    """Of the vectors: changes if any part does."""
    parts = [[shard["path"], shard["sha256"]] for shard in exported.manifest["shards"]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class ProductIndex:
    """An index that an export wrote, to be searched with vectors of its space.

    Args:
      folder: VECTORS/index/KIND.
      space_id: of the encoder whose vectors will ask.

    Attributes:
      manifest: what is known of it.    ids: product ids by row.    effort: of a search that names none.

    Errors: UserError if there is no finished index, its files are not those of its manifest, its library is missing, or
    its space is another one.
    """

    def __init__(self, folder: str | Path, *, space_id: str):
        folder = Path(folder)
        if not (folder / manifest.FILE).exists():
            raise UserError(
                f"no finished index at {str(folder)!r}: {manifest.FILE} is missing; make it with "
                "python -m ecommerce_vl.export --index=KIND"
            )
        self.manifest = _manifest(folder)
        if space_id != self.manifest["space_id"]:
            raise UserError(
                f"the index at {str(folder)!r} is of space {self.manifest['space_id']}, but the vectors that ask are "
                f"of space {space_id}; load the run that made its vectors, or export and index again"
            )
        if files.sha256(folder / FILE) != self.manifest["sha256"]:
            raise UserError(f"{folder / FILE} is damaged or missing; remove {folder} and make the index again")
        self._kind, self.effort = self.manifest["kind"], self.manifest["effort"]
        require_library(self._kind)
        self.ids = pq.read_table(folder / IDS)["product_id"].to_pylist()
        self._index = _read(folder / FILE, kind=self._kind)

    def search(
        self, vectors_QxD: np.ndarray, *, k: int, effort: int | None = None
    ) -> tuple[list[list[str]], np.ndarray]:
        """Ids of about the k nearest products of each row, best first, and scores float32 (Q,K), their cosines.

        A list may be shorter than k, where the index found no more; its scores end in -inf.
        """
        rows_QxK, scores_QxK = _search(self._index, vectors_QxD, k=k, effort=effort or self.effort, kind=self._kind)
        return [[self.ids[row] for row in rows if row >= 0] for rows in rows_QxK.tolist()], scores_QxK


def in_memory(vectors_NxD: np.ndarray) -> Search:
    """Builds an HNSW index and keeps it: a search of unit rows, -1 past the end of a list.

    One thread adds the rows, in their order, so the same vectors give the same answers.
    """
    index = _build(vectors_NxD, kind="usearch")
    return lambda asked, k, effort: _search(index, asked, k=k, effort=effort, kind="usearch")[0]


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / manifest.FILE).read_text(encoding="utf-8"))
        version = found["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / manifest.FILE} cannot be read ({error}); remove {folder}, index again") from error
    if version != SCHEMA_VERSION:
        raise UserError(f"{folder} has schema version {version}; this program reads {SCHEMA_VERSION}: index again")
    return found


def _build(vectors_NxD: np.ndarray, *, kind: str) -> Any:
    """An index of the rows."""
    vectors_NxD = np.ascontiguousarray(vectors_NxD, np.float32)
    num_rows, dim = vectors_NxD.shape
    if kind == "usearch":
        from usearch.index import Index

        index = Index(ndim=dim, metric="ip", dtype="f32", connectivity=CONNECTIVITY, expansion_add=EFFORT_OF_ADDING)
        # Threads that add at once lose rows: of 1,000, two lost 0.7 % and eight 1.3 %, which no effort finds again
        # (usearch 2.26.6, 2026-12). One loses none.
        index.add(np.arange(num_rows), vectors_NxD, threads=1)
        return index
    import faiss

    if kind == "faiss-hnsw":
        index = faiss.IndexHNSWFlat(dim, CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EFFORT_OF_ADDING
    else:
        num_lists = max(1, min(int(num_rows**0.5), num_rows // ROWS_PER_LIST))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, num_lists, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors_NxD)
    index.add(vectors_NxD)
    return index


def _search(index: Any, asked: np.ndarray, *, k: int, effort: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 (Q,K), -1 past the end of a list, and scores float32 (Q,K), -inf there."""
    asked = np.ascontiguousarray(asked, np.float32)
    if kind == "usearch":
        index.expansion_search = effort
        found = index.search(asked, k)
        keys, distances = np.atleast_2d(found.keys).astype(np.int64), np.atleast_2d(found.distances)
        counts = np.atleast_1d(getattr(found, "counts", keys.shape[1]))  # a single query has none
        there = np.arange(keys.shape[1]) < counts[:, None]
        return np.where(there, keys, -1), (1 - np.where(there, distances, np.inf)).astype(np.float32)
    if kind == "faiss-hnsw":
        index.hnsw.efSearch = effort
    else:
        index.nprobe = effort
    scores, rows = index.search(asked, k)
    return rows, np.where(rows >= 0, scores, -np.inf)


def _write(index: Any, file: Path, *, kind: str) -> None:
    if kind == "usearch":
        index.save(str(file))
        return
    import faiss

    faiss.write_index(index, str(file))


def _read(file: Path, *, kind: str) -> Any:
    if kind == "usearch":
        from usearch.index import Index

        return Index.restore(str(file))
    import faiss

    return faiss.read_index(str(file))
