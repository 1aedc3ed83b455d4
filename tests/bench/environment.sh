# shellcheck shell=bash
# To be sourced: makes the work folder and installs the Python packages. Sets `here` and `work`.
# Everything lies in BENCH_WORK, by default target/bench; nothing outside is touched.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="${BENCH_WORK:-$here/../../target/bench}"
mkdir -p "$work"
work="$(cd "$work" && pwd)"

# Pinned, so that the peer of two measurements is the same.
readonly PACKAGES=(duckdb==2.0.0 aiohttp==3.14.5 orjson==3.13.0 pyarrow==26.0.1)

if [[ ! -f $work/venv/installed ]]; then
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet "${PACKAGES[@]}"
    touch "$work/venv/installed"
fi

# The scripts lie in the source tree.
export PYTHONDONTWRITEBYTECODE=1
