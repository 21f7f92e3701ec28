"""`write_report`: the page of a prepared folder.

Invariants: one file that fetches nothing and runs nothing; all text in it is escaped; pictures of adult products are
blurred until they are clicked; the same folder gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import jinja2

from ecommerce_vl import pages
from ecommerce_vl.data.identity import REASONS
from ecommerce_vl.data.memory import LIMIT
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.report import cards, tables, words
from ecommerce_vl.data.report.collisions import BATCHES, expected_collisions
from ecommerce_vl.data.report.tree import category_tree
from ecommerce_vl.data.report.verdicts import verdicts
from ecommerce_vl.data.token_report import token_report
from ecommerce_vl.data.tokenizer import train_tokenizer
from ecommerce_vl.files import write_text

FILE = "report.html"
PAIRS_PAGE = "pairs.html"  # of mined pairs, beside it if there were logs
SEED_PAGE = "seed_model.html"  # of what a seed model found, beside it if there were vectors
CASES_PER_REASON = 6
GRID = 48  # products as the model sees them
TITLES = 20_000  # that the tokenizer of the page is learnt from and tried on
VOCABULARY, MAX_TOKENS = 32_000, 64  # as in the default configs


def write_report(data: Path, *, max_cases: int = 24, seed: int = 0, memory_limit: str = LIMIT) -> Path:
    """Writes `report.html` into a prepared folder, whole or not at all; returns the file.

    Args:
      data: as `prepare` leaves it.
      max_cases: pairs, conflicts and placeholders that a section shows at most.
      seed: of what is drawn to be shown.

    Errors: UserError if the folder holds no complete preparation.
    """
    summary = PreparedData(data).summary
    with tables.open_tables(data, memory_limit=memory_limit) as connection:
        page = (
            environment()
            .get_template("page.html")
            .render(**_contents(connection, data, summary, max_cases=max_cases, seed=seed))
        )
    write_text(data / FILE, page)
    return data / FILE


def environment() -> jinja2.Environment:
    """Templates of this room, with the words and numbers of its pages."""
    environment = pages.environment(Path(__file__).parent)
    environment.filters |= {"number": words.number, "meaning": words.meaning}
    environment.globals |= {"percent": words.percent}
    return environment


def _contents(
    connection: duckdb.DuckDBPyConnection, data: Path, summary: Mapping[str, Any], *, max_cases: int, seed: int
) -> dict[str, Any]:
    """All that the template shows: figures first, then the cards of the products that they name."""
    titles, locales = tables.title_sample(connection, most=TITLES, seed=seed)
    tokenizer = train_tokenizer(titles, vocab_size=VOCABULARY, max_length=MAX_TOKENS) if titles else None
    leak_counts, leaks = tables.leak_cases(connection, most=max_cases, seed=seed)
    num_conflicts, conflicts = tables.conflict_cases(connection, most=max_cases)
    categories = tables.category_counts(connection)
    per_reason = min(CASES_PER_REASON, max_cases)
    rejects = tables.reason_cases(connection, "rejects", summary["rejects"], most=per_reason, without=REASONS)
    repairs = tables.reason_cases(connection, "repairs", summary["repairs"], most=per_reason)
    pairs = tables.seller_pairs(connection, most=max_cases, seed=seed)
    copies = tables.copy_pairs(connection, most=max_cases, seed=seed)
    figures = {
        "stages": tables.stages(connection, summary),
        "population": tables.population(connection),
        "categories": categories,
        "tokens": token_report(titles, locales, tokenizer) if tokenizer else [],
        "max_tokens": MAX_TOKENS,
        "conflicts": num_conflicts,
        "collisions": expected_collisions(connection),
    }
    known = cards.read_cards(
        connection,
        data,
        [
            *(case["id"] for group in repairs for case in group["cases"]),
            *(pair[side] for pair in (*pairs, *copies, *leaks) for side in ("id_a", "id_b")),
            *(name for conflict in conflicts for name in conflict["ids"][:3]),
        ],
    )
    unknown = lambda name: known.get(name) or cards.Card(name[: cards.SHOWN], "", "", blurred=False)
    beside = lambda found: [pair | {"left": unknown(pair["id_a"]), "right": unknown(pair["id_b"])} for pair in found]
    shown = lambda groups, refused: [
        group | {"cards": [cards.case_card(case, known, refused=refused) for case in group["cases"]]}
        for group in groups
    ]
    return {
        **figures,
        "last_bar": {"words": tables.WORDS_SHOWN, "tens": tables.CHARACTERS_SHOWN, "pictures": tables.PICTURES_SHOWN},
        "summary": summary,
        "verdicts": verdicts(summary, figures),
        "rejects": shown(rejects, refused=True),
        "repairs": shown(repairs, refused=False),
        "rules": words.RULES,
        "relations": [row | {"means": words.RELATIONS[row["relation"]]} for row in tables.relation_counts(connection)],
        "pairs": beside(pairs),
        "copies": [
            pair | {"left": unknown(pair["id_a"]), "right": cards.copy_card(pair, known.get(pair["id_a"]))}
            for pair in copies
        ],
        "placeholders": [
            {
                "titles": case["titles"],
                "picture": cards.small(case["picture"]),
                "blurred": case["adult"] in ("yes", None),
            }
            for case in tables.placeholder_cases(connection, most=max_cases)
        ],
        "tree": category_tree(categories["paths"]),
        "titles": tables.title_lengths(connection),
        "num_titles": len(titles),
        "vocabulary": tokenizer.vocab_size if tokenizer else 0,
        "pictures": tables.picture_counts(connection),
        "conflict_cases": [
            conflict | {"cards": [unknown(name) for name in conflict["ids"][:3]]} for conflict in conflicts
        ],
        "leak_counts": leak_counts,
        "leaks": beside(leaks),
        "batches": BATCHES,
        "grid": cards.model_views(connection, data, tables.drawn_ids(connection, most=GRID, seed=seed), tokenizer),
        "pipeline": cards.PIPELINE,
        "logs": _logs(data),
        "pages": {
            name: page
            for name, page in (("Mined pairs", PAIRS_PAGE), ("Seed model", SEED_PAGE))
            if (data / page).exists()
        },
    }


def _logs(data: Path) -> list[tuple[str, Any]]:
    """What `logs.json` says of the mined pairs, flat; nothing where there were no logs."""
    file = data / "logs.json"
    return list(_flat(json.loads(file.read_text(encoding="utf-8")))) if file.exists() else []


def _flat(value: Any, name: str = ""):
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name} · {key}" if name else str(key))
    else:
        yield name, value
