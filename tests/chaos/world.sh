# The rack that tests/chaos/run puts under faults: hosts as namespaces (deploy/lib/rack.sh), each with a berthd that is
# started again when it ends, a boot time of its own, and a disk and a wall clock that can be spoiled.
#
#   world_up VOTERS AGENTS    hosts v1.. and a1.., all of them in one cluster
#   host_add H                one more, once there is a cluster
#   host_down H / host_back H its berthd is not started (again) / is
#   host_gone H               nothing is started on it ever again
#   is_up H                   neither of both
#   host_kill H               kill -9 to its berthd, as somebody else may: that it ends is no fault then
#   host_off H                kill -9 to everything on it
#   berthd_pid H              nothing when none runs
#   health H                  what /healthz says there, as JSON; nothing when it does not answer
#   excuse H SECONDS WORDS    within that time its berthd may end, if it says so in WORDS (a regular expression)
#   world_end                 all daemons end in order, those whose end is a fault are told
#   world_down                all of it is removed; safe to call at any time
#
# A state folder is a small disk of its own (a tmpfs), so that it can be filled. Files below $W:
#   state/H  logs/H  vms/H (intervals of its VMs)  shim/H  exits (HOST PID CODE)  killed (PIDs)  faults (found here)

DISK_MIB=192
W=/run/berth-chaos
HOST_NUMBER=10

world_init() { # BIN SEED
    SEED=$2
    RACK_NET=10.95.0
    rack_init berth-chaos "$1" $W/state
    chaos=$1/chaos
}

found() { echo "FAULT: $*" | tee -a $W/faults; }

# ---- one host ----------------------------------------------------------------------------------------

berthd_pid() {
    local pid
    pid=$(cat "$W/pids/$1" 2>/dev/null) || return 0
    if grep -qsE '\) [^ZX] ' "/proc/$pid/stat" && [ "$(readlink "/proc/$pid/exe")" = "$(realpath "$RACK_BIN/berthd")" ]; then
        echo "$pid"
    fi
}
is_member() { jq -e '.uid > 0' "$W/state/$1/host.json" >/dev/null 2>&1; }

# Each host of a real rack has its own time since boot. IN_TIME: what comes before a command.
in_time_of() { # HOST
    local offset
    offset=$(awk -v h="$1" '$1 == h { print int($2 / 1000000000) }' $W/offsets 2>/dev/null) || true
    IN_TIME=(unshare --time --fork --boottime "${offset:-0}" --monotonic "${offset:-0}")
}
clean_up() { # HOST: with no daemon running
    in_time_of "$1"
    on "$1" timeout 60 "${IN_TIME[@]}" "$RACK_BIN/berthd" --cleanup --state "$W/state/$1"
}

launch() { # HOST: runs berthd until it ends
    local host=$1 first=()
    in_time_of "$host"
    is_member "$host" || first=(--name "$host" --join "$(cat "$W/join/$host" 2>/dev/null)")
    [ "$host" != v1 ] || is_member v1 || first=(--name v1 --bootstrap)
    on "$host" env LD_PRELOAD="$RACK_BIN/chaos_shim.so" BERTH_CHAOS_SHIM="$W/shim/$host" \
        BERTH_FAKE_INTERVALS="$W/vms/$host" BERTH_FAKE_BEAT_MS=200 \
        "${IN_TIME[@]}" sh -c '"$@" & echo $! >"$0"; wait $!' "$W/pids/$host" \
        "$RACK_BIN/berthd" --state "$W/state/$host" --cpu-overcommit 256 --reserve-memory 64MiB --backup-every 0s \
        "${first[@]}" >>"$W/logs/$host" 2>&1 </dev/null
}

excuse() { # HOST SECONDS WORDS
    echo "$(($(date +%s) + $2)) $3" >"$W/excuse/$1"
}
# It gave up in order, its last error being such a one; a crash has no excuse. FROM: where its log begins.
excused() { # HOST CODE FROM
    local until words
    read -r until words 2>/dev/null <"$W/excuse/$1" || return 1
    [ "$2" -lt 128 ] && [ "$(date +%s)" -le "$until" ] || return 1
    ! grep -qE 'ERROR: AddressSanitizer|runtime error:|this must hold:' <(tail -c "+$3" "$W/logs/$1") || return 1
    grep -qiE "$words" <(tail -c "+$3" "$W/logs/$1" | grep -E '^[^ ]+ error ' | tail -n 1)
}

# Its own shell beside the main one, as a supervisor is.
keep() { # HOST
    local host=$1 pid code from
    while [ ! -e $W/over ] && kill -0 $$ 2>/dev/null; do
        if ! is_up "$host"; then
            sleep 0.1
            continue
        fi
        rm -f "$W/pids/$host"
        code=0
        from=$(($(stat -c %s "$W/logs/$host" 2>/dev/null || echo 0) + 1))
        launch "$host" 2>>"$W/logs/$host" || code=$?
        pid=$(cat "$W/pids/$host" 2>/dev/null) || pid=0
        [ ! -e $W/torn ] || return 0
        echo "$host $pid $code" >>$W/exits
        if ! grep -qx "$pid" $W/killed && ! { [ -e $W/over ] && [ $code = 0 ]; } && ! excused "$host" $code $from; then
            found "the berthd of $host ended with code $code:" "$(tail -n 3 "$W/logs/$host")"
        fi
        [ -e $W/over ] || ! is_up "$host" || sleep 0.5
    done
}

host_new() { # HOST: plugged, with nothing running
    local host=$1
    HOST_NUMBER=$((HOST_NUMBER + 1))
    rack_plug "$host" $HOST_NUMBER
    # of the seed and the name, as who comes later must not shift what chance does to others
    echo "$host $(($(cksum <<<"$SEED $host" | cut -d ' ' -f 1) % 100000 + 1))000000000" >>$W/offsets
    mkdir -p "$W/state/$host"
    mount -t tmpfs -o size=${DISK_MIB}m,mode=711 berth-chaos "$W/state/$host"
    "$chaos" shim "$W/shim/$host" wall_s=0
    echo "$host $RACK_NET.$HOST_NUMBER" >>$W/rack
}
host_start() { # HOST: its supervisor
    keep "$1" 7>&- 8>&- &
    KEEPERS+=($!)
}
host_down() { : >"$W/down/$1"; }
host_back() { rm -f "$W/down/$1"; }
host_gone() { : >"$W/gone/$1"; }
is_up() { [ ! -e "$W/down/$1" ] && [ ! -e "$W/gone/$1" ]; }
host_kill() {
    local pid
    pid=$(berthd_pid "$1")
    [ -n "$pid" ] || return 0
    echo "$pid" >>$W/killed
    kill -KILL "$pid" 2>/dev/null || true
}
host_off() { host_kill "$1"; rack_kill "$1"; }

# ---- questions ---------------------------------------------------------------------------------------

health() { curl -s -m 2 --unix-socket "$W/state/$1/berthd.sock" http://berth/healthz 2>/dev/null || true; }
# Hosts of a role (leader, voter or agent), by what each says itself.
hosts_of() {
    local host
    for host in "${RACK_HOSTS[@]}"; do
        ! is_up "$host" || ! grep -q "\"role\":\"$1\"" <<<"$(health "$host")" || echo "$host"
    done
}
leader() { # SECONDS: waits until there is one
    local host deadline=$((SECONDS + $1))
    until host=$(hosts_of leader | sed -n 1p) && [ -n "$host" ]; do
        [ $SECONDS -lt $deadline ] || { found "no host has led for $1 s" >&2; return 1; }
        sleep 0.2
    done
    echo "$host"
}
# Asks any host that answers.
ask() {
    local host
    for host in "${RACK_HOSTS[@]}"; do
        ! is_up "$host" || ! timeout 12 nsenter --net="/run/netns/$RACK-$host" \
            "$RACK_BIN/berth" --state "$W/state/$host" "$@" 2>/dev/null || return 0
    done
    return 1
}
hosts_ready() { ask ls host -o json | jq '[.items[] | select((.status.phase // "ready") == "ready")] | length'; }
# Those that are not gone; who is, and still votes, keeps another from becoming one.
voters_count() {
    local host count=0
    for host in $(ask ls host -o json | jq -r '.items[] | select(.status.voter == "voter") | .metadata.name'); do
        [ -e "$W/gone/$host" ] || count=$((count + 1))
    done
    echo $count
}

wait_until() { # SECONDS WHAT COMMAND...
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge "$deadline" ]; then
            found "waited in vain for: $what"
            return 1
        fi
        sleep 0.2
    done
}
ready_are() { [ "$(hosts_ready)" = "$1" ]; }
voters_are() { [ "$(voters_count)" = "$1" ]; }

# ---- the whole ---------------------------------------------------------------------------------------

# A token is good for one host, and at the host that leads as it is made: when another does by then, another is needed.
host_invite() {
    until ask token join >"$W/join/$1" && [ -s "$W/join/$1" ]; do sleep 0.3; done
}
hosts_join() { # HOST...: all that have been started; waits until they are members
    local host tries waiting
    for tries in $(seq 1 12); do
        for waiting in $(seq 1 50); do
            for host in "$@"; do is_member "$host" || { sleep 0.2; continue 2; }; done
            return 0
        done
        for host in "$@"; do
            is_member "$host" || { host_invite "$host"; host_kill "$host"; }
        done
    done
    found "no members after a long time: $(for host in "$@"; do is_member "$host" || echo "$host"; done | xargs)"
    return 1
}
host_add() {
    host_new "$1"
    host_invite "$1"
    host_start "$1"
    hosts_join "$1"
}

world_up() { # VOTERS AGENTS
    local i hosts=()
    KEEPERS=()
    mkdir -p $W/{state,logs,vms,shim,pids,down,gone,excuse,join}
    : >$W/exits; : >$W/killed; : >$W/offsets; : >$W/rack; : >$W/behind; : >$W/faults
    chmod 711 $W
    rack_switch
    for i in $(seq 1 "$1"); do hosts+=("v$i"); done
    for i in $(seq 1 "$2"); do hosts+=("a$i"); done
    for i in "${hosts[@]}"; do host_new "$i"; done
    host_start v1
    wait_until 60 "v1 to lead" ready_are 1 || return 1
    for i in "${hosts[@]:1}"; do
        host_invite "$i"
        host_start "$i"
        [ "$i" != "v$1" ] || { hosts_join "${hosts[@]:0:$1}" && wait_until 120 "$1 voters" voters_are "$1"; } || return 1
    done
    hosts_join "${hosts[@]}" || return 1
    wait_until 120 "$(($1 + $2)) ready hosts" ready_are $(($1 + $2))
}

world_end() {
    local host pid
    : >$W/over
    for host in "${RACK_HOSTS[@]}"; do
        pid=$(berthd_pid "$host")
        [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true
    done
    wait_until 60 "all daemons to end" all_ended || return 0
    wait "${KEEPERS[@]}" || true
}
all_ended() {
    local host
    for host in "${RACK_HOSTS[@]}"; do [ -z "$(berthd_pid "$host")" ] || return 1; done
}

# What is left of hosts whose daemons have ended, once they have cleaned up: nothing may be.
world_leftovers() {
    local host pids group
    for host in "${RACK_HOSTS[@]}"; do
        [ ! -e "$W/state/$host/host.json" ] ||
            clean_up "$host" >>"$W/logs/$host" 2>&1 ||
            found "berthd --cleanup fails on $host: $(tail -n 2 "$W/logs/$host")"
        pids=$(ip netns pids "$RACK-$host" 2>/dev/null | xargs)
        [ -z "$pids" ] || found "processes are left on $host: $(ps -o pid=,args= -p "${pids// /,}" | sed -n 1,3p)"
        group=$(find /sys/fs/cgroup -type d -path "*berth/$host/vm-*" 2>/dev/null | sed -n 1p)
        [ -z "$group" ] || [ -e "$W/gone/$host" ] || found "a control group of $host is left: $group"
    done
}

# Control groups of hosts that did not come to clean up. What is killed while it is frozen dies when it thaws.
groups_remove() {
    local tries groups group
    for tries in $(seq 1 20); do
        mapfile -t groups < <(find /sys/fs/cgroup -depth -type d -regex '.*/berth/[avx][0-9]+\(/.*\)?' 2>/dev/null)
        [ ${#groups[@]} -gt 0 ] || return 0
        for group in "${groups[@]}"; do
            [ ! -e "$group/freezer.state" ] || echo THAWED >"$group/freezer.state" 2>/dev/null || true
            rmdir "$group" 2>/dev/null || true
        done
        sleep 0.2
    done
}

world_down() {
    local name host mount
    [ ! -d $W ] || : | tee $W/over >$W/torn
    for name in $(rack_namespaces); do
        host=${name#"$RACK-"}
        rack_kill "$host"
    done
    sleep 0.2
    for name in $(rack_namespaces); do
        host=${name#"$RACK-"}
        rack_kill "$host"
        [ ! -e "$W/state/$host/host.json" ] ||
            clean_up "$host" >/dev/null 2>&1 || true
        ip netns delete "$name" 2>/dev/null || true
    done
    awk '$2 ~ "^/run/berth-chaos/state/" { print $2 }' /proc/mounts | while read -r mount; do
        umount -l "$mount"
    done
    groups_remove
    rm -rf --one-file-system $W
}
