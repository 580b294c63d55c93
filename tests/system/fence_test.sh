#!/usr/bin/env bash
# Goal: a VM never runs twice, also when its host's berthd hangs, is killed and stays away, loses its fence, or is taken
# by the out-of-memory killer while the fence is left without memory, too.
# Method: three hosts as network namespaces (deploy/lib/rack.sh), a real berthd and berth-fence in each, VMs of the
# fake engine, which write down when they begin to run. Whenever a new epoch of a VM has begun, the process of the
# one before must be gone: looked at every 20 ms, in that order, so that a slow machine cannot make it fail.
set -eEuo pipefail
. "$(dirname "$0")/rack_frame.sh"
frame_rack berth-fence 10.97.0 berth-fence
export BERTH_FAKE_INTERVALS=$RACK_RUN/intervals
tell() {
    local host
    for host in h1 h2 h3; do
        tail -n 20 "$RACK_RUN/$host/fence.log" || true
        fence "$host" --show || true
    done
    berth_on "$api" ls -t shop | sed -n 1,20p
}
let_go() { resume_stopped; pressed_down; }
left_out= # what could not be looked at here, for the last line
leave_out() { left_out+="${left_out:+; }$1"; echo "left out: $1"; }
stopped= # a berthd that we stopped: it could not be ended in order
resume_stopped() { [ -z "$stopped" ] || kill -CONT "$stopped" 2>/dev/null || true; stopped=; }

# A control group that is short of memory: who presses fills it, and is taken by the out-of-memory killer and begins
# again, for there is something in it that has to be taken before. It has a limit of its own should it ever get out.
PRESSED_BYTES=$((256 << 20))
pressed= pressed_limit= pressed_handed= presser=
pressed_up() { # false: there is no such control group to be had
    local root=/sys/fs/cgroup
    if grep -qsw memory $root/cgroup.controllers && hand_out_memory $root/cgroup.subtree_control; then
        pressed_limit=memory.max
    elif [ -w $root/memory/memory.limit_in_bytes ]; then
        root=$root/memory pressed_limit=memory.limit_in_bytes
    else
        return 1
    fi
    pressed=$root/berth-fence-test
    mkdir -p $pressed/who $pressed/presses && echo $PRESSED_BYTES >$pressed/$pressed_limit
    # None of it goes to a disk instead. Where swap is not counted there is no such file.
    { [ ! -e $pressed/memory.swap.max ] || echo 0 >$pressed/memory.swap.max; } &&
        { [ ! -e $pressed/memory.memsw.limit_in_bytes ] || echo $PRESSED_BYTES >$pressed/memory.memsw.limit_in_bytes; }
}
hand_out_memory() { # SUBTREE_CONTROL: and keeps in mind whether it did not before
    ! grep -qsw memory "$1" || return 0
    echo +memory 2>/dev/null >"$1" && pressed_handed=$1
}
press() {
    {
        trap - ERR EXIT
        echo $BASHPID >$pressed/presses/cgroup.procs
        ulimit -v $((2 << 20))
        until [ -e "$RACK_RUN/pressed" ]; do tail /dev/zero || true; done
    } 2>/dev/null &
    presser=$!
}
pressed_down() {
    [ -z "$presser" ] || { : >"$RACK_RUN/pressed" && wait $presser; } || true
    presser=
    local group pid
    for group in ${pressed:+$pressed/who $pressed/presses $pressed}; do
        while read -r pid; do echo "$pid" >"${pressed%/*}/cgroup.procs"; done <"$group/cgroup.procs" 2>/dev/null || true
        rmdir "$group" 2>/dev/null || true
    done
    # Somebody else may count on it by now: then it is busy, and stays.
    [ -z "$pressed_handed" ] || echo -memory 2>/dev/null >"$pressed_handed" || true
    pressed= pressed_handed=
}
taken() { cat $pressed/who/memory.{events,oom_control} 2>/dev/null | awk '$1 == "oom_kill" { print $2 }'; } # by the killer
fence_is() { [ "$(hosts | jq -r --arg n "$1" '.items[] | select(.metadata.name == $n) | .status.live.fence')" = "$2" ]; }
ready_are() { [ "$(vms | jq '[.items[] | select(.status.phase == "ready")] | length')" = "$1" ]; }
fence() { local host=$1; shift; on "$host" "$bin/berth-fence" --state "$RACK_RUN/$host" "$@"; }
fence_pid() { fence "$1" --show | sed -n 's/^pid \([0-9]*\),.*/\1/p'; }
watched() { fence "$1" --show | sed -n 's/^vm \([0-9]*\) epoch \([0-9]*\) pid \([0-9]*\).*/\1 \2 \3/p'; }
watches() { [ "$(watched "$1" | wc -l)" = "$2" ]; }
berthd_of() { awk '{ print $1 }' "$RACK_RUN/$1/berthd.pid"; }
alive() { grep -qE '\) [^ZX] ' "/proc/$1/stat" 2>/dev/null; } # a zombie runs nothing
gone() { ! alive "$1"; }
newest_start() { awk -v uid="$1" '$1 == "start" && $2 == uid && $3 > epoch { epoch = $3 } END { print epoch + 0 }' "$BERTH_FAKE_INTERVALS"; }

# A follower with a VM; sets host, uid, epoch, pid; asks another host from now on.
pick_victim() {
    local leads name
    wait_for 20 "a leader" one_leads
    leads=$(leader)
    for name in h1 h2 h3; do
        host=$name
        read -r uid epoch pid < <(watched "$name") || true
        [ "$name" = "$leads" ] || [ -z "${pid:-}" ] || break
    done
    [ -n "${pid:-}" ] && [ "$host" != "$leads" ] || fail "no follower has a watched VM"
    api=$leads
    alive "$pid" || fail "the VM of $host does not run"
}

# Until a newer epoch has begun; then the old process must not be there any more.
never_twice() {
    local deadline=$((SECONDS + 160))
    while [ "$(newest_start "$uid")" -le "$epoch" ]; do
        [ $SECONDS -lt $deadline ] || fail "VM $uid was not started elsewhere"
        sleep 0.02
    done
    gone "$pid" || fail "VM $uid runs twice: epoch $epoch as $pid on $host, and epoch $(newest_start "$uid")"
}

check "three hosts, a fence on each"
rack_up 3
: >"$BERTH_FAKE_INTERVALS"
berth_on h1 up --name h1 </dev/null
for host in h2 h3; do
    berth_on "$host" join "$(berth_on h1 token join)" --name "$host" </dev/null
done
wait_for 60 "three voters" voters_are 3
for host in h1 h2 h3; do
    wait_for 20 "the fence of $host" fence_is "$host" running
    pid=$(fence_pid "$host")
    [ "$(ps -o sid= -p "$pid" | tr -d ' ')" = "$pid" ] || fail "the fence of $host has no session of its own"
done

check "the fence has what the kernel gives"
if ldd "$bin/berth-fence" | grep -qE 'lib[at]san'; then
    leave_out "whether memory is locked: with a sanitizer it never is"
else
    for host in h1 h2 h3; do
        fence "$host" --show >"$RACK_RUN/shown"
        grep -q '^memory locked, ' "$RACK_RUN/shown" || fail "memory of the fence of $host is not locked"
    done
fi
if ! on h1 chrt --fifo 1 true 2>/dev/null; then
    leave_out "real time: the kernel gives none here"
else
    for host in h1 h2 h3; do
        pid=$(fence_pid "$host")
        fence "$host" --show >"$RACK_RUN/shown"
        grep -q '^memory .*, real time, ' "$RACK_RUN/shown" || fail "the fence of $host does not run in real time"
        [ "$(ps -o cls= -p "$pid" | tr -d ' ')" = FF ] || fail "the fence of $host says real time, the kernel does not"
    done
fi

check "VMs run and are watched"
echo kernel >"$RACK_RUN/kernel"
cat >"$RACK_RUN/vms.yaml" <<'YAML'
apiVersion: berth/v1
kind: Tenant
metadata: {name: shop}
spec: {quota: {cpu: 16, memory: 4GiB, vms: 20, networks: 2}}
---
apiVersion: berth/v1
kind: Image
metadata: {name: nothing, tenant: shop}
spec:
  artifacts:
    - {role: kernel, file: kernel}
---
apiVersion: berth/v1
kind: Template
metadata: {name: fake, tenant: shop}
spec:
  image: nothing
  engine: fake
  cpu: {count: 1}
  memory: {size: 64MiB}
  lifecycle: {hostFailure: restart-elsewhere}
---
apiVersion: berth/v1
kind: Group
metadata: {name: web, tenant: shop}
spec: {template: {name: fake}, replicas: 3}
YAML
(cd "$RACK_RUN" && berth_on h1 apply vms.yaml)
wait_for 60 "three ready VMs" ready_are 3
for host in h1 h2 h3; do
    wait_for 20 "the fence of $host to watch its VM" watches "$host" 1
done

check "a fence that is killed is started again, told again, and no VM notices"
before=$(watched h2)
killed=$(fence_pid h2)
kill -KILL "$killed"
wait_for 20 "the killed fence to be gone" gone "$killed"
watched_again() { [ "$(watched h2)" = "$before" ]; }
wait_for 20 "a new fence that watches the same" watched_again
[ "$(fence_pid h2)" != "$killed" ] || fail "it is the old one"
wait_for 20 "h2 to say so" fence_is h2 running

check "a berthd that hangs: its VM is dead before it starts elsewhere"
pick_victim
stopped=$(berthd_of "$host")
kill -STOP "$stopped"
never_twice
resume_stopped
wait_for 40 "$host to be ready again" host_is "$host" ready
wait_for 60 "three ready VMs" ready_are 3

check "a berthd that is killed and stays away: its VM is dead before it starts elsewhere"
pick_victim
kill -KILL "$(berthd_of "$host")"
never_twice
berth_on "$host" up </dev/null
wait_for 40 "$host to be ready again" host_is "$host" ready
wait_for 40 "its fence" fence_is "$host" running
wait_for 60 "three ready VMs" ready_are 3

check "a berthd and its fence that are short of memory: the VM is dead before it starts elsewhere"
if ! pressed_up; then
    leave_out "want of memory: no control group of memory is to be had here"
else
    pick_victim
    starved=$(berthd_of "$host") guard=$(fence_pid "$host")
    echo "$starved" >$pressed/who/cgroup.procs
    echo "$guard" >$pressed/who/cgroup.procs
    echo 1000 >"/proc/$starved/oom_score_adj" # first of all; the fence has its shield, or is small
    press
    wait_for 60 "the out-of-memory killer to take berthd" gone "$starved"
    [ "$(taken)" -ge 1 ] || fail "berthd has ended, and not for want of memory"
    never_twice
    alive $presser || fail "nothing presses any more"
    alive "$guard" || fail "the fence was taken, too"
    pressed_down
    berth_on "$host" up </dev/null
    wait_for 40 "$host to be ready again" host_is "$host" ready
    wait_for 60 "three ready VMs" ready_are 3
fi

check "no epoch of any VM ever began twice"
twice=$(awk '$1 == "start" { print $2, $3 }' "$BERTH_FAKE_INTERVALS" | sort | uniq -d)
[ -z "$twice" ] || fail "began twice: $twice"

check "no daemon has crashed"
crashes=$(rack_crashes)
[ -z "$crashes" ] || fail "$crashes"

check "teardown leaves nothing"
guards=$(for host in h1 h2 h3; do fence_pid "$host"; done)
rack_down
for pid in $guards; do gone "$pid" || fail "fence $pid is left"; done
[ -z "$(rack_namespaces)" ] || fail "namespaces are left"
echo "no VM ran twice ($SECONDS s)${left_out:+; LEFT OUT: $left_out}"
