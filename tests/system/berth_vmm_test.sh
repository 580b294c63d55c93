#!/usr/bin/env bash
# Goal: berth-vmm boots Debian's own cloud kernel, as vmlinux and as the vmlinuz that Debian ships, on one CPU and on
# several, and the guest finds what the machine has: clock, PCI, entropy, power button, reset, power off.
# Method: inside an emulated machine with SVM (deploy/lib/kvm_machine.sh, tier T2), on its real kvm_amd. Every wait is
# for a line on the guest's console, with a bound; nothing depends on how long something took.
set -eEuo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BERTH_BIN:-$top/build/asan}
artifacts=$top/build/guest

command -v qemu-system-x86_64 >/dev/null || { echo "qemu-system-x86_64 is not installed"; exit 77; }
command -v apt-get >/dev/null || { echo "the machine is made of Debian packages, and apt-get is not here"; exit 77; }
"$top/deploy/guest/build-guest" "$artifacts"

. "$top/deploy/lib/kvm_machine.sh"

folder=$(mktemp -d "${TMPDIR:-/tmp}/berth-vmm.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

kvm_machine_new "$artifacts" "$folder"
kvm_machine_put "$bin/berth-vmm"
for file in vmlinux vmlinuz initrd.img; do
    kvm_machine_file "$artifacts/$file" "/root/$file"
done

KVM_MACHINE_MEMORY=1536 kvm_machine_run 800 <<'EOS'
export ASAN_OPTIONS=detect_leaks=0
cmdline="console=ttyS0 panic=-1 loglevel=3 mitigations=off"
name=
check() { name=$*; echo "-- $*"; }
fail() {
    echo "FAILED: $name: $*"
    tail -n 15 console log
    kill -KILL "$vmm" 2>/dev/null
    exit 1
}
# start ARGUMENTS...: the guest's console is the file console; say types at it
start() {
    rm -f keys console
    mkfifo keys
    berth-vmm --initrd initrd.img --cmdline "$cmdline" "$@" <keys >console 2>log &
    vmm=$!
    exec 3>keys
}
say() { echo "$*" >&3; }
await() { # PATTERN SECONDS [COUNT]
    local tries=$(($2 * 5))
    while [ "$(grep -c "$1" console)" -lt "${3:-1}" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "no '$1' within $2 s"
        kill -0 $vmm 2>/dev/null || fail "berth-vmm has ended: $(tail -n 1 log)"
        sleep 0.2
    done
}
# ended CODE: berth-vmm ends by itself with this exit code
ended() {
    wait $vmm
    local code=$?
    exec 3>&-
    [ $code = "$1" ] || fail "exit code $code, not $1"
}

check "KVM is worth something here"
berth-vmm --probe | tee probe
! grep -q ^none probe || fail "there is none" # on a busy machine native counts as emulated

check "vmlinux boots by PVH on two CPUs"
start --kernel vmlinux --cpus 2 --memory 128MiB
await 'built-in shell' 240

check "the guest finds what the machine has"
say 'echo cpus=$(grep -c ^processor /proc/cpuinfo)'
await '^cpus=2' 30
say 'echo clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)'
await '^clock=kvm-clock' 30
say 'echo pci=$(cat /sys/bus/pci/devices/0000:00:01.0/vendor)$(cat /sys/bus/pci/devices/0000:00:01.0/device)'
await '^pci=0x1af40x1044' 30
say 'modprobe virtio_rng; echo rng=$(cat /sys/class/misc/hw_random/rng_current) $(head -c 64 /dev/hwrng | wc -c)'
await '^rng=virtio_rng.0 64' 30
say 'echo interrupts=$(grep -c "MSI.*virtio" /proc/interrupts)'
await '^interrupts=[1-9]' 30

check "a reboot begins anew"
say 'reboot -f'
await 'built-in shell' 240 2
grep -q 'the machine begins anew' log || fail "berth-vmm does not say so"
say 'echo again=$(grep -c ^processor /proc/cpuinfo)'
await '^again=2' 30

check "power off ends it cleanly, with the reason"
say 'poweroff -f'
ended 0
grep -q 'powered itself off' log || fail "berth-vmm does not say why"

check "vmlinuz as Debian ships it boots by its 64-bit entry, at level x86-64-v3"
start --kernel vmlinuz --cpus 1 --memory 160MiB --cpu x86-64-v3
await 'built-in shell' 240

check "SIGTERM ends the VM at once"
kill -TERM $vmm
ended 0
EOS
