# A rack on one machine: hosts as network namespaces on a bridge that stands for the rack's switch.
# Sourced by deploy/demo and tests/system/*; needs root, iproute2, nsenter.
#
#   rack_init NAME BIN RUN    names everything NAME-*; programs in BIN; state folders below RUN
#   rack_up N                 switch and hosts h1..hN (10.99.<subnet>.11 ...), nothing started in them
#   rack_switch               the switch alone; rack_plug H N: a host of any name at it, with address .N
#   on H COMMAND...           runs a command as if on host H
#   berth_on H ARGS...        the CLI on host H
#   rack_cut H / rack_mend H  takes the host's cable out, puts it back
#   rack_kill H               SIGKILL to everything that runs on the host, as a power cut does
#   rack_down                 ends and removes all of it; safe to call at any time, any number of times
#   rack_groups H...          control groups of hosts of these names, of anybody's
#   rack_groups_idle          of such names on stdin, those in which nothing runs: another rack's are in use
#   rack_crashes              what sanitizers and REQUIRE said in the daemons' logs; nothing is well
#
# nsenter, not `ip netns exec`: the latter hides the control groups behind a fresh /sys.

rack_init() {
    RACK=$1
    RACK_BIN=$2
    RACK_RUN=$3
    RACK_NET=${RACK_NET:-10.99.0}
    RACK_HOSTS=()
}

on() {
    local host=$1
    shift
    nsenter --net="/run/netns/$RACK-$host" "$@"
}

berth_on() {
    local host=$1
    shift
    on "$host" "$RACK_BIN/berth" --state "$RACK_RUN/$host" "$@"
}

rack_up() {
    local i
    rack_switch
    for i in $(seq 1 "$1"); do
        rack_plug "h$i" $((10 + i))
    done
}

rack_switch() {
    mkdir -p "$RACK_RUN"
    chmod 711 "$RACK_RUN"
    ip netns add "$RACK-switch"
    ip -n "$RACK-switch" link add rack0 type bridge
    ip -n "$RACK-switch" address add "$RACK_NET.1/24" dev rack0
    ip -n "$RACK-switch" link set rack0 up
    ip -n "$RACK-switch" link set lo up
}

rack_plug() {
    local host=$1
    RACK_HOSTS+=("$host")
    ip netns add "$RACK-$host"
    ip -n "$RACK-$host" link add eth0 type veth peer name "$host" netns "$RACK-switch"
    ip -n "$RACK-switch" link set "$host" master rack0 up
    ip -n "$RACK-$host" link set lo up
    ip -n "$RACK-$host" address add "$RACK_NET.$2/24" dev eth0
    ip -n "$RACK-$host" link set eth0 up
    ip -n "$RACK-$host" route add default via "$RACK_NET.1"
}

rack_cut() { ip -n "$RACK-switch" link set "$1" down; }
rack_mend() { ip -n "$RACK-switch" link set "$1" up; }

# Processes of the host's namespace are ours: we made it.
rack_kill() {
    local pids
    pids=$(ip netns pids "$RACK-$1" 2>/dev/null) || return 0
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
}

rack_groups() {
    local host
    for host in "$@"; do
        find /sys/fs/cgroup -type d \( -path "*/berth/$host" -o -path "*/berth/$host/*" \) 2>/dev/null || true
    done | sort
}

rack_groups_idle() {
    local group
    while read -r group; do
        if [ -z "$(find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null)" ]; then echo "$group"; fi
    done
}

rack_crashes() {
    grep -aE 'ERROR: AddressSanitizer|ThreadSanitizer|runtime error:|: this must hold' \
        "$RACK_RUN"/*/*.log /dev/null || true
}

rack_namespaces() { ip netns list 2>/dev/null | awk -v p="$RACK-" 'index($1, p) == 1 { print $1 }'; }

rack_down() {
    local name host tries
    for name in $(rack_namespaces); do
        host=${name#"$RACK-"}
        for tries in $(seq 100); do # they end at once, but for a machine that has other things to do
            rack_kill "$host"
            [ -n "$(ip netns pids "$name" 2>/dev/null)" ] || break
            sleep 0.1
        done
        if [ -x "$RACK_BIN/berthd" ] && [ -d "$RACK_RUN/$host" ]; then
            on "$host" timeout 60 "$RACK_BIN/berthd" --cleanup --state "$RACK_RUN/$host" >/dev/null 2>&1 || true
        fi
        ip netns delete "$name" 2>/dev/null || true
    done
    if [ -n "${RACK_RUN:-}" ]; then
        rm -rf --one-file-system "$RACK_RUN"
    fi
    return 0
}
