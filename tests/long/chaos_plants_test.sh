#!/usr/bin/env bash
# Goal: a check that has not been seen to fail is none: the short run of tests/chaos finds each mistake that its berthd
# can have put in (tests/chaos/chaos_berthd.c), by the check that is for it.
# Method: a run per mistake; it has to fail, and to say what it is looked for here.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
preset=$(basename "${BERTH_BIN:-$top/build/release}")
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# mistake: what a check says of it
plants='twice: ^FAULT: VM [0-9]+ .*: epoch [0-9]+ on .* ran from
watch: ^FAULT: watch [0-9]+
diverge: FAULT: others differ'
while IFS=: read -r plant words; do
    code=0
    "$top/tests/chaos/run" --short --plant "$plant" --build "$preset" </dev/null >"$log" 2>&1 || code=$?
    [ $code != 77 ] || { tail -n 1 "$log"; exit 77; }
    if [ $code = 0 ] || ! grep -qE "${words# }" "$log"; then
        cat "$log"
        echo "FAILED: the mistake '$plant' was not found by its check (exit code $code)"
        exit 1
    fi
    echo "found: $plant: $(grep -m 1 -E "${words# }" "$log")  (${SECONDS} s)"
done <<<"$plants"
