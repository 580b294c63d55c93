#!/usr/bin/env bash
# Goal: what real processes promise under faults, on every change: a chosen few of tests/chaos, with sanitizers.
# Method: tests/chaos/run --short (tests/chaos/README.md). Each act is over by the clock, but nothing is judged by it:
# whatever has to come about afterwards has two minutes. That the checks find what they are for is seen by
# tests/long/chaos_plants_test.sh.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
exec "$top/tests/chaos/run" --short --build "$(basename "${BERTH_BIN:-$top/build/asan}")"
