# What happens to the rack in tests/chaos/run: a table of faults, and for each how it begins and ends.
#
#   faults_plan LIST             the table's rows that are wanted (names with commas between; empty: all)
#   faults_round                 one fault, or two at a time, by chance (RANDOM); returns when they are over
#   faults_rotation FROM         every fault of the plan alone, then every two of them, from that row of the list on (1)
#   faults_act NAME HOST TENTHS X   one of them, begun and ended; X is a chance of its own (0 to 32767)
#   behind_are_helped            somebody that was `behind` has received a snapshot; or nobody was
#   voters, settle               how many are to vote, and the seconds that the rack has to come right in
#
#   faults_restarts MINUTES      no fault of the table: voters are started anew, one after the other
#
# A row: name, shortest and longest time in tenths of a second, whom it may meet, what the timeline says.
# Whom: any host (every other time a voter, which are few), a voter, the leader, a follower (a voter that does not lead), all of them.
#
# What may meet what: anything may but itself, and but for one rule, as the rack promises nothing without it: a majority of
# voters has to be possible once the faults of the moment are over. Of these only `lost` leaves something behind. So it
# comes only when as many hosts vote as are to and none of them is lost (before_lost). Should the rack not get there, it
# has not replaced the one that was lost before: that is a fault that is found.
FAULTS='
kill       0 150  any       berthd is killed
power      0 150  any       everything on the host is killed
fence      0   0  any       berth-fence is killed
stop       1 300  any       berthd is stopped (SIGSTOP)
cut        5 250  any       its cable is out
mute       5 250  any       nothing that it sends arrives
deaf       5 250  any       nothing arrives at it
isolate    5 250  leader    the cable of the leader is out
split     10 250  all       the voters cannot hear each other across a line between them
full      30 200  voter     its disk is full
eio        1  20  voter     its disk fails
slow      20 200  voter     its disk is slow
clock     50 300  any       its wall clock is off
restart    0  50  all       every berthd is killed
blackout   0  50  all       everything on every host is killed
lost     400 500  follower  gone for good; removed, and another host joins
behind   100 200  follower  cut off, long enough to need a snapshot
storm      5  80  all       all cables are out at once
drain     50 200  any       drained
'

faults_plan() { # LIST
    local name
    PLAN=()
    for name in ${1//,/ }; do
        grep -q "^$name " <<<"$FAULTS" || { echo "there is no fault $name; there are:" $(awk '{ print $1 }' <<<"$FAULTS") >&2; return 2; }
    done
    while read -r name _; do
        [ -z "$name" ] || { [ -n "$1" ] && [[ ",$1," != *",$name,"* ]]; } || PLAN+=("$name")
    done <<<"$FAULTS"
}

# ---- the timeline ------------------------------------------------------------------------------------

now_ds() { echo $(($(date +%s%N) / 100000000)); }
tell() { # HOST WHAT
    local ds=$(($(now_ds) - BEGAN_DS))
    printf '%5d.%d s  %-4s %s\n' $((ds / 10)) $((ds % 10)) "$1" "$2"
}
hold() { # TENTHS
    sleep "$(($1 / 10)).$(($1 % 10))"
}

# ---- whom --------------------------------------------------------------------------------------------

pick() { # CHANCE HOST...
    local chance=$1
    shift
    [ $# -gt 0 ] || return 1
    shift $((chance % $#))
    echo "$1"
}
# shellcheck disable=SC2046
whom() { # WHO CHANCE
    case $1 in
    any) if [ $(($2 % 2)) = 0 ]; then whom voter $(($2 / 2)); else pick $(($2 / 2)) $(alive); fi ;;
    leader) pick "$2" $(hosts_of leader) ;;
    follower) pick "$2" $(hosts_of voter) ;;
    voter) pick "$2" $(hosts_of leader) $(hosts_of voter) ;;
    all) echo all ;;
    esac
}
alive() {
    local host
    for host in "${RACK_HOSTS[@]}"; do ! is_up "$host" || echo "$host"; done
}

# ---- each --------------------------------------------------------------------------------------------
# fault_NAME HOST TENTHS CHANCE: begins, waits, ends.

back() { # HOST
    host_back "$1"
    tell "$1" "is started again"
}
fault_kill() { host_down "$1"; host_kill "$1"; hold "$2"; back "$1"; }
fault_power() { host_down "$1"; host_off "$1"; hold "$2"; back "$1"; }
fault_fence() {
    local pid
    for pid in $(ip netns pids "$RACK-$1" 2>/dev/null); do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != berth-fence ] || kill -KILL "$pid" 2>/dev/null || true
    done
}
fault_stop() {
    local pid
    pid=$(berthd_pid "$1")
    [ -n "$pid" ] || return 0
    kill -STOP "$pid" 2>/dev/null || return 0
    hold "$2"
    kill -CONT "$pid" 2>/dev/null || true
    tell "$1" "goes on"
}
fault_cut() { rack_cut "$1"; hold "$2"; rack_mend "$1"; tell "$1" "its cable is in again"; }
fault_isolate() { fault_cut "$@"; }
# Two snapshots later nobody has the entries any more that come next for it. Until then, but no longer than a voter is
# waited for: it is not to be replaced.
BEHIND_MAX=280
newest_snapshot() {
    find $W/state/*/raft -name 'snapshot-*' -printf '%f\n' 2>/dev/null | sed -n 's/^snapshot-[0-9]*-\([0-9]*\)-[0-9]*$/\1/p' | sort -n | tail -n 1
}
snapshots_of() { grep -c 'snapshot received' "$W/logs/$1" || true; }
fault_behind() {
    local newest seen came=0 began
    newest=$(newest_snapshot)
    began=$(now_ds)
    rack_cut "$1"
    while [ $(($(now_ds) - began)) -lt $([ $came -ge 2 ] && echo "$2" || echo $BEHIND_MAX) ]; do
        hold 5
        seen=$(newest_snapshot)
        [ "$seen" = "$newest" ] || came=$((came + 1))
        newest=$seen
    done
    [ $came -lt 2 ] || echo "$1 $(snapshots_of "$1")" >>$W/behind
    rack_mend "$1"
    tell "$1" "its cable is in again, $came snapshots later"
}
# Of those that were, somebody has got one since; who is lost need not.
behind_are_helped() {
    local host before left=no
    while read -r host before; do
        [ "$(snapshots_of "$host")" -le "$before" ] || return 0
        ! is_up "$host" || left=yes
    done <$W/behind
    [ $left = no ]
}

# filter NAME HOST RULE...: a table of its own, so that two at a time do not undo each other
filter() {
    local name=$1 host=$2
    shift 2
    on "$host" nft -f - <<EOF
table inet chaos_$name {
    chain in {
        type filter hook input priority 0; policy accept;
        $1
    }
    chain out {
        type filter hook output priority 0; policy accept;
        ${2:-}
    }
}
EOF
}
unfilter() { on "$2" nft delete table inet "chaos_$1" 2>/dev/null || true; }
fault_mute() {
    filter mute "$1" '' 'oifname eth0 drop'
    hold "$2"
    unfilter mute "$1"
    tell "$1" "is heard again"
}
fault_deaf() {
    filter deaf "$1" 'iifname eth0 drop'
    hold "$2"
    unfilter deaf "$1"
    tell "$1" "hears again"
}
fault_split() {
    local voters host left=() right=() addresses
    mapfile -t voters < <({ hosts_of leader; hosts_of voter; } | sort)
    for host in "${voters[@]}"; do
        if [ $(($3 >> ${#left[@]} & 1)) = 1 ] && [ ${#left[@]} -lt $((${#voters[@]} / 2)) ]; then left+=("$host"); else right+=("$host"); fi
    done
    [ ${#left[@]} -gt 0 ] && [ ${#right[@]} -gt 0 ] || return 0
    tell all "${left[*]} | ${right[*]}"
    addresses=$(for host in "${right[@]}"; do awk -v h="$host" '$1 == h { print $2 }' $W/rack; done | paste -sd,)
    for host in "${left[@]}"; do filter split "$host" "ip saddr { $addresses } drop" "ip daddr { $addresses } drop"; done
    hold "$2"
    for host in "${left[@]}"; do unfilter split "$host"; done
    tell all "the voters hear each other again"
}
# How much is left decides what fails: nothing at all, the next segment of the log, or only what is refused early.
fault_full() {
    local left_mib=$(($3 % 4 * 12)) free_mib
    mountpoint -q "$W/state/$1" || return 0 # it was lost meanwhile
    excuse "$1" $(($2 / 10 + 60)) 'disk|space|MiB (free|left)'
    free_mib=$(($(stat -f -c '%a * %S' "$W/state/$1") / 1048576))
    [ $free_mib -le $left_mib ] || fallocate -l $((free_mib - left_mib))M "$W/state/$1/balloon" 2>/dev/null || true
    [ $left_mib -gt 0 ] || cat /dev/zero >"$W/state/$1/filler" 2>/dev/null || true
    tell "$1" "$left_mib MiB are left"
    hold "$2"
    rm -f "$W/state/$1/balloon" "$W/state/$1/filler"
    tell "$1" "its disk has room again"
}
fault_eio() {
    excuse "$1" $(($2 / 10 + 60)) 'input/output|no space|disk|I/O'
    "$chaos" shim "$W/shim/$1" fail=$(($3 % 3 == 0 ? 28 : 5))
    hold "$2"
    "$chaos" shim "$W/shim/$1" fail=0
    tell "$1" "its disk works again"
}
fault_slow() {
    local ms=$((20 << $3 % 6))
    tell "$1" "$ms ms for what is to be durable"
    "$chaos" shim "$W/shim/$1" delay_ms=$ms
    hold "$2"
    "$chaos" shim "$W/shim/$1" delay_ms=0
    tell "$1" "its disk is fast again"
}
fault_clock() {
    local off=$(((($3 % 2) * 2 - 1) * (1 << $3 % 22)))
    tell "$1" "$off s off"
    "$chaos" shim "$W/shim/$1" wall_s=$off
    hold "$2"
    "$chaos" shim "$W/shim/$1" wall_s=0
    tell "$1" "its wall clock is right again"
}
fault_restart() {
    local host hosts
    mapfile -t hosts < <(alive)
    for host in "${hosts[@]}"; do host_down "$host"; done
    for host in "${hosts[@]}"; do host_kill "$host"; done
    hold "$2"
    for host in "${hosts[@]}"; do host_back "$host"; done
    tell all "are started again"
}
fault_blackout() {
    local host hosts
    mapfile -t hosts < <(alive)
    for host in "${hosts[@]}"; do host_down "$host"; done
    for host in "${hosts[@]}"; do host_off "$host"; done
    hold "$2"
    for host in "${hosts[@]}"; do host_back "$host"; done
    tell all "are started again"
}
# Its vote is given to another by the leader itself; an operator takes the host out, and plugs a new one in.
before_lost() { wait_until "$settle" "$voters voters, the lost ones replaced" voters_are "$voters"; }
fault_lost() {
    local new until
    host_gone "$1"
    host_off "$1"
    until [ -z "$(berthd_pid "$1")" ]; do sleep 0.1; done
    umount -l "$W/state/$1"
    hold "$2"
    new=x$(($(find $W/gone -type f | wc -l)))
    until=$((SECONDS + 90))
    until ask rm "host/$1" --force --yes >/dev/null; do
        [ $SECONDS -lt $until ] || { found "the lost host $1 could not be removed"; break; }
        sleep 0.5
    done
    tell "$1" "is removed from the rack; $new comes"
    echo "$new" >>$W/newcomers
}
fault_storm() {
    local host
    for host in "${RACK_HOSTS[@]}"; do rack_cut "$host"; done
    hold "$2"
    for host in "${RACK_HOSTS[@]}"; do rack_mend "$host"; done
    tell all "cables are in again"
}
fault_drain() {
    local until=$((SECONDS + 60))
    ask drain "$1" --reason chaos >/dev/null || tell "$1" "could not be drained"
    hold "$2"
    until ask undrain "$1" >/dev/null; do
        [ $SECONDS -lt $until ] || { found "$1 could not be undrained"; break; }
        sleep 0.5
    done
    tell "$1" "is undrained"
}

# ---- one or two at a time ----------------------------------------------------------------------------

faults_act() { # NAME HOST TENTHS CHANCE
    local text
    text=$(awk -v n="$1" '$1 == n { $1 = $2 = $3 = $4 = ""; sub(/^ +/, ""); print }' <<<"$FAULTS")
    tell "$2" "$1: $text$(grep -qx "$2" <<<"$(hosts_of leader)" && echo ' (it leads)')"
    "fault_$1" "$2" "$3" "$4"
}

# These at the same time; returns when all are over.
faults_together() { # NAME...
    local row name min max who text jobs=() host tenths one other whose chance
    for name in "$@"; do
        # All of them, also for one that is skipped, and here: a subshell, as of $( ) and &, has chances of its own.
        one=$((RANDOM % 100)) other=$((RANDOM % 100)) whose=$RANDOM chance=$RANDOM
        row=$(grep "^$name " <<<"$FAULTS")
        read -r name min max who text <<<"$row"
        ! declare -F "before_$name" >/dev/null || "before_$name" || continue
        # short ones are as likely as long ones
        tenths=$((min + (max - min) * one * other / 10000))
        host=$(whom "$who" "$whose") || { echo "          nobody is $who for $name"; continue; }
        faults_act "$name" "$host" $tenths "$chance" &
        jobs+=($!)
    done
    [ ${#jobs[@]} = 0 ] || wait "${jobs[@]}" || true
    newcomers_join
}

faults_round() {
    local names=("${PLAN[RANDOM % ${#PLAN[@]}]}") second=${PLAN[RANDOM % ${#PLAN[@]}]}
    [ $((RANDOM % 2)) = 0 ] || [ "$second" = "${names[0]}" ] || names+=("$second")
    faults_together "${names[@]}"
}

faults_rotation() { # FROM
    local rows=("${PLAN[@]}") count=${#PLAN[@]} i j pair
    for ((i = 0; i < count; i++)); do
        for ((j = i + 1; j < count; j++)); do rows+=("${PLAN[i]} ${PLAN[j]}"); done
    done
    for ((i = $1; i <= ${#rows[@]}; i++)); do
        read -ra pair <<<"${rows[i - 1]}"
        tell all "$i of ${#rows[@]}: ${pair[*]}"
        faults_together "${pair[@]}"
        hold $((RANDOM % 20))
    done
}

# In the main shell, which knows the hosts.
newcomers_join() {
    local new
    [ -s $W/newcomers ] || return 0
    for new in $(cat $W/newcomers); do
        host_add "$new"
        tell "$new" "joins"
    done
    rm -f $W/newcomers
}

# ---- voters that come up again and again -------------------------------------------------------------

UP_S=60 # to come up; a second is usual

is_well() { [[ $(health "$1") == *'"status":"ok"'* ]]; }
# Another process than the one before, and it knows its leader.
came_up() { # HOST PID
    local pid
    pid=$(berthd_pid "$1")
    [ -n "$pid" ] && [ "$pid" != "$2" ] && is_well "$1"
}
# What a process that does not come up is at.
autopsy() { # HOST
    local pid task
    tail -n 10 "$W/logs/$1"
    pid=$(berthd_pid "$1")
    for task in ${pid:+"/proc/$pid/task"/*}; do
        echo "thread $(cat "$task/comm" "$task/wchan" "$task/syscall" 2>/dev/null | xargs)"
    done
}
faults_restarts() { # MINUTES
    local end=$((SECONDS + $1 * 60)) count=0 slowest=0 began took voters host pid signal
    while [ $SECONDS -lt $end ]; do
        mapfile -t voters < <({ hosts_of leader; hosts_of voter; } | sort)
        [ ${#voters[@]} -gt 0 ] || { sleep 0.1; continue; }
        host=${voters[RANDOM % ${#voters[@]}]}
        signal=$((RANDOM % 3 == 0 ? 15 : 9))
        pid=$(berthd_pid "$host")
        [ -n "$pid" ] || continue
        echo "$pid" >>$W/killed
        kill -$signal "$pid" 2>/dev/null || continue
        count=$((count + 1))
        began=$(now_ds)
        wait_until $UP_S "$host to come up after signal $signal" came_up "$host" "$pid" || autopsy "$host"
        took=$(($(now_ds) - began))
        [ $took -le $slowest ] || { slowest=$took; tell "$host" "restart $count, by signal $signal, took $took tenths"; }
    done
    echo "$count restarts, the slowest in $slowest tenths of a second"
}
