# Sourced by the other scripts: makes .venv once, installs the project into it, and leaves $python pointing at it.
#   environment.sh [EXTRA]    EXTRA is an extra of setup.py, such as "test"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
python="$root/.venv/bin/python"

find_python() {
  local name
  for name in "${PYTHON:-}" python3.12 python3.11 python3.13 python3; do
    [ -n "$name" ] && command -v "$name" >/dev/null || continue
    "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$name"; return; }
  done
  echo "launch: no Python 3.11 or newer with venv was found; install one, or name it: PYTHON=/path/to/python3.11" >&2
  return 1
}

install() {
  local extra="${1:-}" stamp found lazily
  # Installed again only when setup.py or the wanted extra changes.
  stamp="$root/.venv/installed-$(cat setup.py | cksum | cut -d' ' -f1)${extra:+-$extra}"
  [ -e "$stamp" ] && return
  if [ ! -x "$python" ]; then
    found="$(find_python)"
    echo "launch: making .venv with $("$found" --version)"
    "$found" -m venv .venv
  fi
  echo "launch: installing ecommerce_vl${extra:+ with the extra [$extra]} (about a minute, once)"
  # Modules are compiled when they are first imported (most never are), unless this shell forbids writing them then.
  "$python" -c 'import sys; sys.exit(sys.dont_write_bytecode)' && lazily=--no-compile
  "$python" -m pip install --quiet --disable-pip-version-check ${lazily:-} -e ".${extra:+[$extra]}"
  touch "$stamp"
}
