#!/usr/bin/env bash
# Runs the same training command on every worker of a Cloud TPU slice; JAX finds the peers by itself.
#   bash launch/tpu_pod.sh NAME ZONE [--dry-run] -- --config=configs/eclip.py:base --workdir=/mnt/shared/run ...
#   NAME, ZONE   of a slice that exists, with this repository in $REMOTE_DIR on each worker (default: ecommerce_vl)
#   --dry-run    prints what it would do and does nothing
# Status 75 is a save after a preemption: the command is run again, up to $RESTARTS times (default 3).
set -euo pipefail

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }

[ $# -ge 3 ] || usage
name="$1" zone="$2"
shift 2
dry=""
if [ "$1" = --dry-run ]; then dry=yes; shift; fi
[ "${1:-}" = -- ] || usage
shift
[ $# -ge 1 ] || usage

printf -v arguments ' %q' "$@"
remote="cd ${REMOTE_DIR:-ecommerce_vl} && exec .venv/bin/python -u -m ecommerce_vl.train$arguments"
command=(gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$remote")

if [ -n "$dry" ]; then
  printf '%q ' "${command[@]}"
  printf '\n'
  exit 0
fi
for ((attempt = 0; attempt <= ${RESTARTS:-3}; attempt++)); do
  status=0
  "${command[@]}" || status=$?
  [ "$status" -eq 75 ] || exit "$status"
  echo "tpu_pod: stopped after a save, running again ($((attempt + 1)))" >&2
done
exit 75
