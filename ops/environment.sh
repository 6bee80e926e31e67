# Makes .venv from a lock file, unless it is there already. Sourced by the commands beside it:
#   environment ops/requirements.lock
# Needs Python 3.11 or newer with its modules venv and ensurepip, and a package index that pip reaches. Takes the oldest
# such Python on PATH.

environment() {
  local lock=$1 python stamp
  python=$(_find_python) || return 1
  stamp=$(cat "$lock" pyproject.toml worker/package/*.py | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
  # The test lock holds all of the other with the same versions, so an environment for tests serves everything.
  if grep -qsxF "$stamp" .venv/installed; then
    return 0
  fi
  echo "Making the environment in .venv with $("$python" --version) (about half a minute) …" >&2
  .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
  echo "$stamp" >> .venv/installed
}

_find_python() { # a name on PATH may be a shim that runs nothing, so each is tried
  local python no_venv=
  for python in python3.11 python3.12 python3.13 python3.14 python3.15 python3; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    "$python" -c 'import ensurepip, venv' 2>/dev/null && { echo "$python"; return 0; }
    no_venv+=" $python"
  done
  if [ -n "$no_venv" ]; then
    echo "These have no module venv or ensurepip:$no_venv. On Debian and Ubuntu: apt-get install python3-venv" >&2
  else
    echo "No Python 3.11 or newer runs from PATH. Tried: python3.11 to python3.15, python3." >&2
  fi
  return 1
}
