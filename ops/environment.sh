# Makes .venv from a lock file, unless it is there already. Sourced by the commands beside it:
#   environment ops/requirements.lock
# Needs Python 3.11 or newer and nothing else.

environment() {
  local lock=$1 python version stamp
  for python in python3.11 python3.12 python3.13 python3 none; do
    [ "$python" = none ] && { echo "Python 3.11 or newer is needed, and none was found on PATH." >&2; return 1; }
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
  done
  stamp=$(cat "$lock" pyproject.toml | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
  # The test lock holds all of the other with the same versions, so an environment for tests serves everything.
  if grep -qsxF "$stamp" .venv/installed; then
    return 0
  fi
  echo "Making the environment in .venv (about half a minute) …" >&2
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
  echo "$stamp" >> .venv/installed
}
