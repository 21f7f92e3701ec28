#!/usr/bin/env bash
# The whole way once, on a drawn sample catalog: prepare, train, evaluate, export, search. 4 to 6 min on 2 cores (2026-11-30).
#   bash launch/quickstart.sh [FOLDER]     (default: quickstart/)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install
out="${1:-quickstart}"
listings="${LISTINGS:-2000}"
# What training compiled need not be compiled again to evaluate and to search.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$out/compiled}"

step() { printf '\n== %s\n   %s\n' "$1" "${*:2}"; "${@:2}"; }
step "1/5 prepare: a feed becomes shards" \
  "$python" -m ecommerce_vl.prepare --feed="sample:$listings" --out="$out/data" \
  --clicks="$out/data/feed/clicks.jsonl" --queries="$out/data/feed/queries.jsonl"
step "2/5 train: a tiny e-CLIP" \
  "$python" -m ecommerce_vl.train --config=configs/quickstart.py --workdir="$out/run" --config.data.path="$out/data"
step "3/5 evaluate: tables, curves, pictures" \
  "$python" -m ecommerce_vl.evaluate --workdir="$out/run" --data="$out/data" --split=test --out="$out/eval"
step "4/5 export: vectors in Parquet" \
  "$python" -m ecommerce_vl.export --workdir="$out/run" --data="$out/data" --split=all --out="$out/vectors"
step "5/5 search: words in, products out" \
  "$python" -m ecommerce_vl.search --workdir="$out/run" --vectors="$out/vectors" --query="red dress" \
  --html="$out/search.html"

printf '\nOpen in a browser: %s (the data), %s (pairs from the clicks), %s (the evaluation), %s (the search).\n' \
  "$out/data/report.html" "$out/data/pairs.html" "$out/eval/report.html" "$out/search.html"
