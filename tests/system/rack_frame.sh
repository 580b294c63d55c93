# What the tests of a rack in namespaces have in common: where it is, how they check, wait and fail, and that nothing is
# left of it, however they end. Sourced, after `set -eEuo pipefail`, by tests/system/*_test.sh; deploy/lib/rack.sh, which
# it brings, makes the hosts.
#
#   frame_rack NAME NET [PROGRAM...]  the rack is NAME, its hosts are NET.11 ..., its folder is /run/NAME-test; what an
#                                     earlier run left is ended. PROGRAMs are those of ours that the test needs, besides
#                                     berthd. Skips the test (77) without root.
#   check WORDS...                    what is looked at from here on
#   fail WORDS...                     ends the test: says what failed, and what can be seen of why
#   wait_for SECONDS WHAT COMMAND...  until the command succeeds; so long on a machine of one's own, and four times that
#                                     on one that others use too
#   run CODE HOST ARGS...             the CLI on that host; it has to end with that code. What it says on both streams
#                                     is in $said
#   says TEXT                         $said has it
#
# What the cluster says of itself is asked of the host $api: hosts, vms (of the tenant shop), leader, one_leads, voters_are
# COUNT, host_is HOST PHASE.
#
# A test may have functions of these names, defined after it is sourced: `tell` shows more when it fails, `let_go` comes
# before the rack is taken down.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${BERTH_BIN:-$top/build/asan}
. "$top/deploy/lib/rack.sh"

check_name=start
said=
api=h1
tell() { :; }
let_go() { :; }

frame_rack() {
    local name=$1 program
    RACK_NET=$2
    shift 2
    [ "$(id -u)" = 0 ] || { echo "needs root for network namespaces"; exit 77; }
    for program in berthd "$@"; do
        [ -x "$bin/$program" ] || { echo "no $program in $bin"; exit 1; }
    done
    rack_init "$name" "$bin" "/run/$name-test"
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0} # ends by SIGKILL; leaks are the unit tests' business
    trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
    trap 'c=$?; trap - ERR EXIT INT TERM; let_go; rack_down; exit $c' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    rack_down # of an earlier run that was killed
}

check() {
    check_name=$*
    printf -- '-- %s  (%ds)\n' "$*" $SECONDS
}

fail() {
    trap - ERR
    printf 'FAILED: %s: %s\n' "$check_name" "$*"
    local file
    for file in "$RACK_RUN"/*/berthd.log "${BERTH_FAKE_INTERVALS:-}"; do
        [ ! -f "$file" ] || { echo "--- $file"; tail -n 20 "$file"; }
    done
    tell 2>&1 || true
    exit 1
}

wait_for() {
    local deadline=$((SECONDS + 4 * $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt "$deadline" ] || fail "waited in vain for: $what"
        sleep 0.1
    done
}

run() {
    local wanted=$1 host=$2 code=0
    shift 2
    said=$(on "$host" timeout 300 "$RACK_BIN/berth" --state "$RACK_RUN/$host" "$@" 2>&1 </dev/null) || code=$?
    [ $code = "$wanted" ] || fail "berth $* on $host: code $code, wanted $wanted: $said"
}

says() { grep -qF -- "$1" <<<"$said" || fail "wanted \"$1\", got: $said"; }

hosts() { berth_on "$api" ls host -o json; }
vms() { berth_on "$api" ls vm -t shop -o json; }
leader() { hosts | jq -r '.items[] | select(.status.live.leader == true) | .metadata.name'; }
one_leads() { [ -n "$(leader)" ]; } # while another is elected nobody says that he does
voters_are() { [ "$(hosts | jq '[.items[] | select(.status.voter == "voter")] | length')" = "$1" ]; }
host_is() { [ "$(hosts | jq -r --arg n "$1" '.items[] | select(.metadata.name == $n) | .status.phase // "ready"')" = "$2" ]; }
