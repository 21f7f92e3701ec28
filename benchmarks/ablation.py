"""Arms of a config over several seeds, and one table: what item_ablation, same_style_ablation and query_ablation share.

An arm is a name and the fields of the config that it changes. The arms of a seed see the same rows in the same order,
as many of them; the first of `--arms` is what the others are compared with, seed by seed. A run that is finished is not
trained again, and one whose figures are written is not measured again, so the same command goes on where
it was stopped.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from ecommerce_vl.systems import build_system
from ecommerce_vl.training.loop import train
from ecommerce_vl.training.workdir import write_json

FIGURES = "ablation.json"  # in a run's folder, when it was measured
Measure = Callable[[Path, Path, str], dict[str, float]]  # (workdir, data, split) -> column -> value, NaN for none


def arguments(doc: str, *, arms: Sequence[str], config: str = "sample") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, one an arm and a seed")
    parser.add_argument("--config", default=config, help="argument of the config file")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="in all arms: image.size=32")
    parser.add_argument("--arms", nargs="+", default=list(arms), choices=list(arms), metavar="ARM")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=0, help="rows seen by each run; 0 takes those of the config")
    parser.add_argument("--split", default="test", choices=("test", "validation"))
    return parser


def ablate(
    args: argparse.Namespace,
    *,
    get_config: Callable[[str], ConfigDict],
    arms: Mapping[str, Mapping[str, Any]],
    measure: Measure,
    data_of: Callable[[str], Path] | None = None,
) -> None:
    """Trains and measures each arm with each seed, and prints the table; `data_of` gives an arm other data."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in args.arms}
    for seed in range(args.seeds):  # a pass over all arms first, so that a stopped job has comparable rows
        for arm in args.arms:
            run, data = args.out / f"{arm}-{seed}", data_of(arm) if data_of else args.data
            if not (run / FIGURES).exists():
                config = configured(get_config(args.config), args, arms[arm] | {"seed": seed, "data.path": str(data)})
                train(config.to_dict(), run, build_system=build_system, log=lambda line: None)
                write_json(run / FIGURES, measure(run, data, args.split))
            found[arm].append(json.loads((run / FIGURES).read_text()))
            values = "  ".join(f"{column} {value:.3f}" for column, value in found[arm][-1].items())
            print(f"{arm} seed {seed}  {values}", file=sys.stderr, flush=True)
    print(f"{args.split} split, mean of {args.seeds} seeds ± half of the 95 % t interval over seeds\n")
    _print_table(found)
    first, *others = args.arms
    if others and args.seeds > 1:
        print(f"\nminus {first}, seed by seed\n")
        _print_table({arm: [_minus(*pair) for pair in zip(found[arm], found[first], strict=True)] for arm in others})


def configured(config: ConfigDict, args: argparse.Namespace, changes: Mapping[str, Any]) -> ConfigDict:
    """The config with `--set`, `--samples` (the warm-up in proportion) and the changes, and with nothing that only
    a person would look at."""
    if args.samples:
        optimizer = config.optimizer
        optimizer.warmup_samples = optimizer.warmup_samples * args.samples // config.total_samples
        config.total_samples = args.samples
    config.log_every, config.evaluate.every_steps, config.checkpoint.every_steps = 100, 0, 10_000
    given = dict(assignment.split("=", 1) for assignment in args.set)
    config.update_from_flattened_dict({name: _literal(value) for name, value in given.items()} | dict(changes))
    return config


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _minus(run: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {column: value - other[column] for column, value in run.items()}


def _print_table(found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    columns = list(next(iter(found.values()))[0])
    print("| arm | " + " | ".join(columns) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for arm, runs in found.items():
        print(f"| {arm} | " + " | ".join(_cell([run[column] for run in runs]) for column in columns) + " |", flush=True)


def _cell(values: Sequence[float]) -> str:
    count = len(values)
    if count < 2:
        return f"{values[0]:.3f}"
    half = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count)
    return f"{np.mean(values):.3f} ± {half:.3f}"
