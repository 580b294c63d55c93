#!/usr/bin/env bash
# Goal: a damaged byte of a data folder is refused in words, or all is served. Method: tests/flips (README beside it).
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
exec "$top/tests/flips/run" --flips 300 --build "$(basename "${BERTH_BIN:-$top/build/release}")"
