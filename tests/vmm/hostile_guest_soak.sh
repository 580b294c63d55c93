#!/usr/bin/env bash
# Random register and descriptor operations against every device type, for hours. See --help.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)

usage() {
    cat <<'EOT'
usage: tests/vmm/hostile_guest_soak.sh [--build DIR] [--jobs N] [--seed FIRST] [OPERATIONS]

Runs so many operations in all (1000000000), in shares of a million a device, each with a seed of its own, N (1) at a
time. DIR (build/asan, where sanitizers judge; build/release is three times as fast) has to be built. A line a seed; the first
share that fails, hangs or grows ends it, with the command that shows it again.
EOT
}

build=$top/build/asan jobs=1 seed=1 operations=1000000000
while [ $# -gt 0 ]; do
    case $1 in
    --build) build=$2; shift 2 ;;
    --jobs) jobs=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    --help | -h) usage; exit 0 ;;
    [0-9]*) operations=$1; shift ;;
    *) usage >&2; exit 2 ;;
    esac
done

share=1000000
devices=(random block net console balloon vsock mem)
program=$build/tests/vmm_hostile_guest_test
[ -x "$program" ] || { echo "$program is not there: cmake --build it first" >&2; exit 2; }
logs=$(mktemp -d "${TMPDIR:-/tmp}/hostile-soak.XXXXXX")
trap 'rm -rf "$logs"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# one DEVICE SEED: a share; what it said when it failed
one() {
    local log=$logs/$1.$2
    if "$program" $share "$2" "$1" >"$log" 2>&1; then
        rm -f "$log"
        return 0
    fi
    {
        tail -n 40 "$log"
        echo "FAILED: $program $share $2 $1"
    } >&2
    : >"$logs/failed"
}
# room JOBS: waits until so few shares run
room() {
    while [ "$(jobs -rp | wc -l)" -gt "$1" ]; do wait -n || true; done
    [ ! -e "$logs/failed" ] || exit 1
}

done_count=0
while [ $done_count -lt "$operations" ]; do
    started=$(date +%s)
    for device in "${devices[@]}"; do
        room $((jobs - 1))
        one "$device" "$seed" &
        done_count=$((done_count + share))
    done
    room 0
    echo "seed $seed: $done_count operations, this one $(($(date +%s) - started)) s"
    seed=$((seed + 1))
done
echo "passed: $done_count operations"
