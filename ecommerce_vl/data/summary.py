"""What a preparation did, as the few lines that a person reads on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def prepared_lines(summary: Mapping[str, Any], out: Path) -> list[str]:
    """The lines of `prepare.json`.

    Args:
      summary: as `preparation.prepare_feed` returns it.
      out: the folder that it lies in.
    """
    rejected = summary["rows_in"] - summary["rows_out"]
    why = f" ({_listed(summary['rejects'])})" if rejected else ""
    kept = " (kept without what was damaged)" if summary["repairs"] else ""
    splits = " · ".join(f"{name} {count:,}" for name, count in summary["splits"].items())
    ignored = "".join(
        f" · {count:,} rows with a {kind} on too many rows, ignored" for kind, count in summary["ignored_keys"].items()
    )
    return [
        f"rows     {summary['rows_in']:,} in = {summary['rows_out']:,} out + {rejected:,} rejected{why}",
        f"repairs  {_listed(summary['repairs']) or 'none'}{kept}",
        f"cleaned  {_listed(summary['cleaned']) or 'no text'}",
        f"same     {_listed(summary['relations']) or 'no relations'}; "
        f"{summary['catalogs']['catalogs']:,} known products",
        f"content  {summary['with_image']:,} with a picture ({summary['images']:,} pictures), "
        f"{summary['with_title']:,} with a title, {summary['categories']:,} leaf categories",
        f"splits   {splits} · {summary['split']['leaking']:,} rows in a group that crosses splits{ignored}",
        f"wrote    {out} (fingerprint {summary['fingerprint'][:12]})",
    ]


def mined_lines(summary: Mapping[str, Any]) -> list[str]:
    """The lines of `logs.json`, as `logs.mining.mine_logs` returns it."""
    lines = []
    for name, stages in (
        ("events", ("searches", "events", "sessions")),
        ("items", ("item_candidates", "item_pairs", "item_vectors", "item_caps")),
        ("queries", ("query_support", "query_pairs", "query_caps")),
    ):
        counted = [summary["stages"][stage] for stage in stages if stage in summary["stages"]]
        dropped = {reason: count for stage in counted for reason, count in stage["dropped"].items()}
        most_first = dict(sorted(dropped.items(), key=lambda item: -item[1]))
        lines.append(f"{name:8s} {counted[-1]['rows_out']:,} kept; dropped {_listed(most_first) or 'none'}")
    return lines


def found_lines(summary: Mapping[str, Any]) -> list[str]:
    """The lines of `seed_model.json`, as `seed_model.findings.write_findings` returns it."""
    agreed, alike, near, settings = (summary[name] for name in ("agreement", "duplicates", "leakage", "settings"))
    lowest = f"; the lowest 5 % agree below {agreed['cosine']['p5']:.3f}" if agreed["cosine"] else ""
    learnt = f", {agreed['learnt_from']:,} that the model learnt from are not" if agreed["learnt_from"] else ""
    if not agreed["ranked"] and agreed["pairs"]:
        learnt += "; train a seed model with --config.data.fraction=0.1"
    lines = [f"pairs    {agreed['ranked']:,} of {agreed['pairs']:,} in train ranked{learnt}{lowest}"]
    if summary["other_data"]:
        lines.append("pairs    the model was trained on other data; of what is in both, it ranks what it learnt from")
    known = alike["pairs"] - alike["new"]
    return [
        *lines,
        f"alike    {alike['pairs']:,} pairs of {alike['products']:,} products at {settings['duplicate_cosine']:g} and "
        f"above within a category, {known:,} known as same product or variant",
        f"leaks    {near['test_share']:.1%} of {near['test']:,} test products have one of train at "
        f"{settings['leak_cosine']:g} and above; split by rows {near['row_share']:.1%}"
        if near["test"]
        else "leaks    no test product with a vector, so none was looked at",
    ]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
