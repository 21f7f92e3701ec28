#!/usr/bin/env bash
# Makes .venv, installs the test extra, runs the tests; arguments go to pytest.
#   bash launch/test.sh              the default suite        bash launch/test.sh -m slow    the long proofs
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
install test
exec "$python" -m pytest -n logical --maxprocesses 4 --dist worksteal "$@"  # -n 0 for one process
