#!/usr/bin/env bash
# Goal: where neither berthd nor the fence can end a VM any more, the kernel's watchdog resets the host: when both are
# killed and stay away, and when a VM's process is stuck in its disk. As long as they can, it resets nothing: not when
# the fence is killed and replaced, not when berthd hangs and the VM is ended, not when all is ended in order.
# Method: real daemons on an emulated machine (deploy/lib/kvm_machine.sh) whose kernel has softdog; QEMU ends when it
# is reset. The VM is of the fake engine and notes each beat on a file system of its own, which is frozen so that it is
# stuck. Every wait is on a fact with a bound; that it was reset is on the kernel's console.
set -eEuo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BERTH_BIN:-$top/build/asan}
artifacts=$top/build/guest

for program in qemu-system-x86_64 ip nft jq mkfs.ext4; do
    command -v $program >/dev/null || { echo "$program is not installed"; exit 77; }
done
command -v apt-get >/dev/null || { echo "the machine is made of Debian packages, and apt-get is not here"; exit 77; }
"$top/deploy/guest/build-guest" "$artifacts"

. "$top/deploy/lib/kvm_machine.sh"
# A watchdog of five seconds knows no busy machine: one that stands still for half a second at the wrong moment is reset.
renice -n -15 $$ >/dev/null 2>&1 || true

folder=$(mktemp -d "${TMPDIR:-/tmp}/berth-watchdog.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

kvm_machine_new "$artifacts" "$folder"
kvm_machine_put "$bin/berthd" "$bin/berth" "$bin/berth-fence" ip nft jq
truncate -s 16M "$folder/disk"
mkfs.ext4 -q -F "$folder/disk"
mkdir -p "$folder/tree/etc" "$folder/tree/root"
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/:/bin/false' >"$folder/tree/etc/passwd"
printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$folder/tree/etc/group"
cat >"$folder/tree/root/vm.yaml" <<'END'
apiVersion: berth/v1
kind: Tenant
metadata: {name: shop}
---
apiVersion: berth/v1
kind: Image
metadata: {name: nothing, tenant: shop}
spec: {artifacts: [{role: kernel, file: kernel}]}
---
apiVersion: berth/v1
kind: Template
metadata: {name: fake, tenant: shop}
spec:
  image: nothing
  engine: fake
  memory: {size: 32MiB}
  lifecycle: {hostFailure: restart-elsewhere, restart: {backoff: 1s, maxBackoff: 1s, attempts: 1000}}
---
apiVersion: berth/v1
kind: VM
metadata: {name: web, tenant: shop}
spec: {template: {name: fake}}
END

# What each machine begins with: a host of its own with a VM that the fence watches, and a watchdog that it feeds.
cat >"$folder/begin" <<'SCRIPT'
export ASAN_OPTIONS=detect_leaks=0 BERTH_FAKE_INTERVALS=/data/intervals BERTH_FAKE_BEAT_MS=100
name=
check() { name=$*; echo "-- $*  ($(cut -d ' ' -f 1 /proc/uptime) s)"; }
fail() {
    echo "FAILED: $name: $*"
    tail -n 20 h1/berthd.log h1/fence.log
    berth-fence --state /root/h1 --show
    exit 1
}
wait_for() { # SECONDS WHAT COMMAND...
    local tries=$(($1 * 5)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "waited in vain for: $what"
        sleep 0.2
    done
}
berth_on() { berth --state /root/h1 "$@"; }
vm_is() { [ "$(berth_on ls vm -t shop -o json | jq -r '.items[0].status.phase')" = "$1" ]; }
fence_says() { berth-fence --state /root/h1 --show | sed -n "$1"; }
fence_pid() { fence_says 's/^pid \([0-9]*\),.*/\1/p'; }
watched_pid() { fence_says 's/^vm [0-9]* epoch [0-9]* pid \([0-9]*\).*/\1/p'; }
watches() { [ -n "$(watched_pid)" ]; }
health_is() { [ "$(berth_on ls host -o json | jq -r '.items[0].status.live.fence')" = "$1" ]; }
gone() { [ ! -e "/proc/$1" ] || grep -q ') [ZX] ' "/proc/$1/stat"; }
armed() { [ "$(cat /sys/class/watchdog/watchdog0/state)" = "$1" ]; }
berthd_pid() { cut -d ' ' -f 1 h1/berthd.pid; }
up() { # [--bootstrap]
    mkdir -p h1
    berthd --state /root/h1 --name h1 --address 10.99.0.11 $1 --watchdog /dev/watchdog0 --backup-every 0s </dev/null >>h1/berthd.log 2>&1 &
}
# It has run on for longer than the watchdog bites in.
unharmed() {
    local until=$(($(cut -d . -f 1 /proc/uptime) + $(cat /sys/class/watchdog/watchdog0/timeout) + 2))
    while [ "$(cut -d . -f 1 /proc/uptime)" -lt $until ]; do sleep 0.5; done
}
# The machine is reset by now; the host of the test sees that.
await_reset() {
    local i
    for i in $(seq 1 60); do
        echo "up for $(cut -d ' ' -f 1 /proc/uptime) s"
        sleep 1
    done
    fail "it was not reset"
}

# How fast a CPU counts is measured at boot, wrongly when the machine is busy: seconds could be a third of what they are.
clock=/sys/devices/system/clocksource/clocksource0
echo acpi_pm >$clock/current_clocksource
[ "$(cat $clock/current_clocksource)" = acpi_pm ] || fail "no acpi_pm among $(cat $clock/available_clocksource)"

check "a host whose fence feeds the watchdog"
ln -s /proc/self/fd/0 /dev/stdin # nft reads its rules there
mkdir /data
mount -t ext4 /dev/vda /data || fail "no disk"
ip link add rack0 type bridge
ip address add 10.99.0.11/24 dev rack0
ip link set rack0 up
echo kernel >kernel
up --bootstrap
wait_for 240 "the host to say so" health_is watchdog
armed active || fail "the watchdog is not armed"
[ "$(cat /sys/class/watchdog/watchdog0/timeout)" = 5 ] || fail "it bites in $(cat /sys/class/watchdog/watchdog0/timeout) s"
[ "$(berthd_pid)" = $! ] || fail "its pid is $(berthd_pid), not $!"
berth_on apply vm.yaml --wait --timeout 240s || fail "no VM"
wait_for 60 "the fence to watch it" watches
SCRIPT

modules=(softdog virtio_rng virtio_blk bridge veth vxlan nf_tables nf_conntrack_bridge nft_ct nft_limit nft_masq nft_nat
    nft_meta_bridge nft_reject_bridge nft_chain_nat nft_reject_inet nft_fib_inet)
# life NAME SCRIPT: one machine, which its watchdog has to reset while the script awaits that, and not before
life() {
    local code=0
    echo "== $1"
    { cat "$folder/begin"; echo "$2"; } | KVM_MACHINE_MODULES=${modules[*]} kvm_machine_run 400 >"$folder/said" 2>&1 || code=$?
    cat "$folder/said"
    ! grep -q '^FAILED' "$folder/said" || exit 1
    if ! grep -aq 'softdog: Initiating system reboot' "$folder/console.log" || ! grep -q '^up for' "$folder/said"; then
        tail -n 20 "$folder/console.log"
        echo "FAILED: $1: the watchdog did not reset it, or at another time (exit code $code)"
        exit 1
    fi
}
KVM_MACHINE_QEMU=(-drive "file=$folder/disk,format=raw,if=none,id=data,snapshot=on" -device virtio-blk-pci,drive=data)

# The order of things in the second: killed at 5.4 s after the lease was renewed last, fed again, and not bitten at 5.9 s.
life "what can be ended is ended and nothing reset, until a VM is stuck in its disk" '
check "the fence is killed: the next one feeds on"
killed=$(fence_pid)
kill -KILL "$killed"
another() { [ -n "$(fence_pid)" ] && [ "$(fence_pid)" != "$killed" ] && watches && health_is watchdog; }
wait_for 30 "another one that watches" another
unharmed

check "berthd hangs: the fence ends the VM, and feeds on"
pid=$(watched_pid)
hung=$(berthd_pid)
kill -STOP "$hung"
wait_for 60 "the VM to be ended" gone "$pid"
unharmed
kill -CONT "$hung"
wait_for 120 "it to run again" vm_is ready

check "all is ended in order: the watchdog is disarmed"
berth_on rm vm/web -t shop --yes --wait || fail "no rm"
guard=$(fence_pid)
berth_on down || fail "no down"
wait_for 30 "the fence to end" gone "$guard"
armed inactive || fail "the watchdog is still armed"

check "a VM is stuck in its disk"
up
wait_for 240 "the host to be back" health_is watchdog
berth_on apply vm.yaml --wait --timeout 240s || fail "no VM"
wait_for 60 "the fence to watch it" watches
pid=$(watched_pid)
fsfreeze --freeze /data || fail "no freezing"
stuck() { grep -q ") D " "/proc/$pid/stat"; }
wait_for 30 "it to be stuck" stuck

check "and berthd hangs"
kill -STOP "$(berthd_pid)"
await_reset
'

life "berthd and the fence are killed together and stay away" '
check "both are killed"
pid=$(watched_pid)
kill -KILL "$(fence_pid)" "$(berthd_pid)"
gone "$pid" && fail "the VM has ended, so there is nothing to reset for"
await_reset
'
echo "a watchdog resets what nobody else can end, and nothing else"
