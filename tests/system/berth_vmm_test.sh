#!/usr/bin/env bash
# Goal: berth-vmm boots Debian's own cloud kernel, as vmlinux and as the vmlinuz that Debian ships, on one CPU and on
# several, the guest finds what the machine has: clock, PCI, entropy, disks, a network, consoles, sockets, a balloon,
# memory that comes and goes, CPUs that come, power button, reset, power off; and it goes on where it was after it was
# saved, killed and restored.
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
mkdir -p "$folder/guest/bin"
cc -std=c17 -D_GNU_SOURCE -O2 -static -o "$folder/guest/bin/vsock_say" "$top/tests/system/vsock_say.c"
cc -std=c17 -D_GNU_SOURCE -O2 -static -o "$folder/tap_make" "$top/tests/system/tap_make.c"
cp "$artifacts/initrd.img" "$folder/initrd-guest.img"
(cd "$folder/guest" && find . | cpio -o -H newc -R 0:0 --quiet) >>"$folder/initrd-guest.img"
kvm_machine_put "$bin/berth-vmm" "$bin/tests/qmp_say" "$folder/guest/bin/vsock_say" "$folder/tap_make"
for file in vmlinux vmlinuz; do
    kvm_machine_file "$artifacts/$file" "/root/$file"
done
kvm_machine_file "$folder/initrd-guest.img" /root/initrd.img

KVM_MACHINE_MODULES="$KVM_MACHINE_MODULES_DEFAULT vhost_net"
KVM_MACHINE_MEMORY=1536 kvm_machine_run 1500 <<'EOS'
export ASAN_OPTIONS=detect_leaks=0
cmdline="console=ttyS0 panic=-1 loglevel=3 mitigations=off"
name=
vmm=
check() { name=$*; echo "-- $*"; }
fail() {
    echo "FAILED: $name: $*"
    tail -n 15 console log
    [ -z "$vmm" ] || kill -KILL "$vmm" 2>/dev/null
    exit 1
}
log_says() {
    grep -q "$1" log || fail "its log does not say: $1"
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

# Its disks and its console arrive open, by number; the network and QMP by name. The fifo of the console has one end
# only: what the guest says there comes back to it.
check "a disk is made over a base that never changes"
: >console >log
head -c 16777216 /dev/urandom >base.img
base_is=$(sha256sum <base.img)
berth-vmm --make-overlay file=root.overlay,base=base.img || fail "it was not made"
head -c 1048576 /dev/urandom >seed.img
mkfifo loop

check "a network with addresses for one guest"
tap_make bt0 || fail "no tap"
[ -c /dev/vhost-net ] || fail "no /dev/vhost-net"
ifconfig bt0 10.9.0.1 netmask 255.255.255.0 up
printf '%s\n' 'start 10.9.0.2' 'end 10.9.0.2' 'interface bt0' 'lease_file /root/leases' 'pidfile /root/udhcpd.pid' \
    'option subnet 255.255.255.0' 'option mtu 1400' >udhcpd.conf
: >leases
udhcpd udhcpd.conf || fail "no DHCP server"

# machine ARGUMENTS...: the one with all devices
machine() {
    start --kernel vmlinux --cpus 2 --memory 128MiB --qmp unix:/root/qmp.sock \
        --disk name=root,overlay=fd:6,base=fd:7 --disk name=seed,raw=fd:8,read-only=yes --console fd:9 \
        --nic tap=tap:bt0,mac=52:54:00:00:00:07,mtu=1400,queues=2,vhost=/dev/vhost-net \
        --vsock cid=5,listen=unix:/root/vsock,dial=unix:/root/vsock "$@" 6<>root.overlay 7<base.img 8<seed.img 9<>loop
}

check "vmlinux boots by PVH on two CPUs"
machine
await 'built-in shell' 240
grep -q 'some walls of the jail .*missing="processes, user"$' log || fail "by hand it lacks two, and says so: $(grep walls log)"
! grep -q 'without the kernel' log || fail "$(grep 'without the kernel' log)"
! grep -q 'served by threads alone' log || fail "$(grep alone log)" # this kernel has rings

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

check "the guest finds its disks"
say 'modprobe -a virtio_blk virtio_console virtio_balloon; cd /tmp'
say 'echo disks=$(cat /sys/block/vda/size) $(cat /sys/block/vda/serial) $(cat /sys/block/vdb/size /sys/block/vdb/ro)'
await '^disks=32768 root 2048 1' 30
say 'echo "vda: $(sha256sum </dev/vda)"'
await "^vda: $base_is" 60
say 'echo "vdb: $(sha256sum </dev/vdb)"'
await "^vdb: $(sha256sum <seed.img)" 60

check "what it writes is there, what it discards is not, and the base is as it was"
say 'head -c 3000000 /dev/urandom >new; dd if=new of=/dev/vda bs=5000 seek=7 conv=fsync,notrunc 2>/dev/null'
say 'blkdiscard -o 8388608 -l 1048576 /dev/vda; sync; echo 3 >/proc/sys/vm/drop_caches'
say 'dd if=/dev/vda bs=5000 skip=7 count=600 2>/dev/null | cmp - new && echo written=same'
await '^written=same' 60
say 'dd if=/dev/vda bs=1M skip=8 count=1 2>/dev/null | tr -d "\000" | wc -c | sed s/^/kept=/'
await '^kept=0' 60
say 'echo "now: $(sha256sum </dev/vda)"'
await '^now: .* -' 60 # the whole line: what is typed next may show within it
now_is=$(sed -n 's/^now: //p' console | tr -d '\r')
[ "$now_is" != "$base_is" ] || fail "nothing has changed"
say 'echo x >/dev/vdb || echo seed=read-only'
await '^seed=read-only' 30
[ "$(sha256sum <base.img)" = "$base_is" ] || fail "the base has changed"

check "it has an address and answers HTTP on its tap"
await 'ready name=.* address=10.9.0.2' 60
wget -q -O answer http://10.9.0.2/ || fail "no answer"
grep -q 'address=10.9.0.2' answer || fail "no answer: $(cat answer)"
say 'echo mtu=$(cat /sys/class/net/eth0/mtu)'
await '^mtu=1400' 30
ping -c 3 -s 1300 10.9.0.2 >/dev/null || fail "no answer to ping"

check "each CPU has a pair of queues, with interrupts of its own"
say 'echo queues=$(ls -d /sys/class/net/eth0/queues/?x-* | wc -l)'
await '^queues=4' 30
say 'nic=$(basename $(readlink -f /sys/class/net/eth0/device))'
say 'echo vectors=$(grep -cE "$nic-(in|out)put" /proc/interrupts)'
await '^vectors=4' 30

check "a limit takes the packets from the kernel, and its end gives them back"
throttle() { # PACKETS A SECOND
    for direction in receive transmit; do
        qmp_say qmp.sock x-nic-set-throttle "{\"id\":\"nic0\",\"direction\":\"$direction\",\"iops\":$1}" >answer || fail "$(cat answer)"
    done
}
throttle 1000
ping -c 3 10.9.0.2 >/dev/null || fail "no answer to ping with a limit"
wget -q -O answer http://10.9.0.2/ || fail "no answer with a limit"
throttle 0
ping -c 3 10.9.0.2 >/dev/null || fail "no answer to ping after the limit"
wget -q -O answer http://10.9.0.2/ || fail "no answer after the limit"

check "a virtio console carries bytes both ways"
# One descriptor for all of it: the driver forgets the terminal's modes, and what has arrived, at the last close.
say '(stty raw -echo <&4; echo over-and-back >&4; read line <&4; echo "hvc=$line") 4<>/dev/hvc0'
await 'hvc=over-and-back' 30

# host_listens PORT: who connects there from the guest hears what it says
host_listens() {
    : >listens
    vsock_say unix-listen "vsock_$1" echo 2>listens &
    listener=$!
    local tries=150
    until grep -q listening listens; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "nobody listens at port $1: $(cat listens)"
        sleep 0.2
    done
}
# vsock_both NAME: bytes both ways, by connections that either side begins, and what nobody listens to
vsock_both() {
    say "(vsock_say listen 1000 echo; echo; echo vsock=ended-$1) 2>listens-$1 &"
    say "until grep -q listening listens-$1 2>/dev/null; do sleep 0.2; done; echo vsock=listens-$1"
    await "^vsock=listens-$1" 60
    vsock_say unix-connect vsock 1000 <seed.img >back || fail "no connection into the guest"
    cmp seed.img back || fail "the guest sent something else back"
    await "^vsock=ended-$1" 60
    host_listens 2000
    say "vsock_say connect 2000 <new | cmp - new && echo vsock=same-$1"
    await "^vsock=same-$1" 60
    wait $listener || fail "the host's listener: exit code $?"
    ! vsock_say unix-connect vsock 1001 </dev/null >back 2>&1 || fail "nobody listens at port 1001"
    say "vsock_say connect 2001 </dev/null 2>&1 | sed s/^/$1:/"
    await "^$1:.*connect: Connection reset" 60
}

check "sockets join the guest and its host"
say 'modprobe vmw_vsock_virtio_transport; echo vsock=$?'
await '^vsock=0' 30
vsock_both first

check "the balloon takes and gives"
qmp_say qmp.sock query-balloon >balloon || fail "$(cat balloon)"
grep -q '"actual": *134217728' balloon || fail "$(cat balloon)"
qmp_say qmp.sock balloon '{"value":100663296}' >balloon || fail "$(cat balloon)"
tries=100
until qmp_say qmp.sock query-balloon >balloon && grep -q '"actual": *100663296' balloon; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "$(cat balloon)"
    sleep 0.2
done
! grep -q '"released": *0[,}]' balloon || fail "nothing was given back: $(cat balloon)"
grep -q '"stat-total-memory": *[1-9]' balloon || fail "the guest says nothing of its memory: $(cat balloon)"
qmp_say qmp.sock balloon '{"value":134217728}' >balloon || fail "$(cat balloon)"

check "pause and resume, with all devices"
qmp_say qmp.sock stop >answer || fail "$(cat answer)"
! ping -c 1 -W 1 10.9.0.2 >/dev/null || fail "it answers while it is paused"
qmp_say qmp.sock cont >answer || fail "$(cat answer)"
ping -c 10 -W 1 10.9.0.2 >/dev/null || fail "no answer after the pause"

# save FILE: saves the paused or running machine there, and kills it
save() {
    local tries=600
    qmp_say -d 5 qmp.sock getfd '{"fdname":"saved"}' 5<>"$1" >answer || fail "$(cat answer)"
    qmp_say qmp.sock migrate '{"uri":"fd:saved"}' >answer || fail "$(cat answer)"
    until qmp_say qmp.sock query-migrate >answer && grep -q '"status": *"completed"' answer; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] && ! grep -q '"failed"' answer || fail "$(cat answer)"
        sleep 0.2
    done
    kill -KILL $vmm
    wait $vmm 2>/dev/null
    exec 3>&-
}
# refused FILE WORDS: the file is not taken, nothing runs, and the reason has these words
refused() {
    local code=0
    machine --incoming "$1" || code=$?
    wait $vmm || code=$?
    exec 3>&-
    [ $code = 1 ] || fail "$1: exit code $code, not 1"
    [ ! -s console ] || fail "$1: something ran"
    log_says "$2"
}

check "a connection of the guest's is there when the machine is saved"
host_listens 2000
say 'mkfifo hangs; (echo; echo vsock=holds; sleep 100000) >hangs & (vsock_say connect 2000 <hangs; echo; echo vsock=gone) &'
await '^vsock=holds' 60

check "a machine that is paused is saved and killed"
say 'dd if=new of=/dev/vda bs=5000 seek=500 conv=notrunc 2>/dev/null; echo mine >file; echo "then=$(date +%s)"'
await '^then=[0-9]\{10\}' 60
host_then=$(date +%s)
guest_then=$(sed -n 's/^then=//p' console | tr -d '\r')
qmp_say qmp.sock stop >answer || fail "$(cat answer)"
save saved.1
[ "$(du -k saved.1 | cut -f 1)" -lt 120000 ] || fail "pages of zeros take room: $(du -k saved.1)"

check "a file that is cut, changed, or of another machine is not taken"
head -c 100000000 saved.1 >cut
refused cut 'the snapshot is cut short'
cp saved.1 cut
printf '\377' | dd of=cut bs=1 seek=$(($(stat -c %s cut) - 100)) conv=notrunc 2>/dev/null
refused cut 'section .* of the state is damaged'
cp saved.1 cut
printf 'no such kernel' | dd of=cut bs=1048576 seek=4 conv=notrunc 2>/dev/null
refused cut 'the saved RAM is damaged within'
machine --incoming cut --lazy || true
wait $vmm && code=0 || code=$?
exec 3>&-
case $code in 1 | 5) ;; *) fail "damaged lazy RAM: exit code $code, not 1 or 5" ;; esac
log_says 'the saved RAM is damaged within'
rm cut
refused base.img 'this is no snapshot'

check "it goes on in another process: with its RAM to come, with its RAM mapped, and with its RAM read"
sleep 10 # time that the guest does not see
for how in --lazy --mapped --hold; do
    if [ $how = --lazy ]; then
        machine --incoming saved.1 --lazy
    elif [ $how = --mapped ]; then
        save saved.2 # of a machine that came in itself
        rm saved.1
        machine --incoming saved.2 --mapped
    else
        save saved.3
        rm saved.2
        machine --incoming saved.3 --hold
        tries=300
        until qmp_say qmp.sock cont >answer 2>&1; do
            tries=$((tries - 1))
            [ $tries -gt 0 ] || fail "$(cat answer log)"
            sleep 0.2
        done
    fi
    tries=300
    until [ $how != --lazy ] || { qmp_say qmp.sock query-migrate >answer && grep -q '"completed"' answer; }; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "not all of its RAM comes in: $(cat answer log)"
        sleep 0.2
    done
    host_now=$(date +%s)
    say 'echo "still=$(cat file) $(wc -c <new) now=$(date +%s)"'
    await '^still=mine 3000000 now=[0-9]\{10\}' 60
    [ $how != --lazy ] || await '^vsock=gone' 60
    vsock_both "after$how"
    log_says 'the saved machine is in'
    ping -c 5 -W 2 10.9.0.2 >/dev/null || fail "no answer to ping ($how)"
    wget -q -O answer http://10.9.0.2/ || fail "no answer to HTTP ($how)"
    say 'echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=5000 skip=500 count=600 2>/dev/null | cmp - new && echo disk=same'
    await '^disk=same' 60
    say 'echo cpus=$(grep -c ^processor /proc/cpuinfo)'
    await '^cpus=2' 30
done

check "its clock has gone on meanwhile"
guest_gone=$(($(sed -n 's/^still=.*now=//p' console | tr -d '\r') - guest_then))
[ $guest_gone -ge $((host_now - host_then - 5)) ] || fail "$guest_gone s for the guest, $((host_now - host_then)) here"
say 'echo "now: $(sha256sum </dev/vda)"'
await '^now: .* -' 60 # the whole line: what is typed next may show within it
now_is=$(sed -n 's/^now: //p' console | tr -d '\r')

check "a reboot begins anew"
say 'reboot -f'
await 'built-in shell' 240
log_says 'the machine begins anew'
say 'echo again=$(grep -c ^processor /proc/cpuinfo)'
await '^again=2' 30
say 'modprobe virtio_blk; until [ -b /dev/vda ]; do sleep 1; done; echo "kept: $(sha256sum </dev/vda)"'
await "^kept: $now_is" 60
await 'ready name=.* address=10.9.0.2' 60
wget -q -O answer http://10.9.0.2/ || fail "no answer after the reboot"

check "power off ends it cleanly, with the reason"
say 'poweroff -f'
ended 0
log_says 'powered itself off'
[ "$(sha256sum <base.img)" = "$base_is" ] || fail "the base has changed"

check "RAM of huge pages is refused where the pool is too small"
echo 70 >/proc/sys/vm/nr_hugepages
[ "$(cat /proc/sys/vm/nr_hugepages)" = 70 ] || fail "the pool has $(cat /proc/sys/vm/nr_hugepages)"
# pool KEY: what the pool says
pool() { sed -n "s/^HugePages_$1: *//p" /proc/meminfo; }
huge() { # SIZE ARGUMENTS...
    local size=$1
    shift
    machine --memory "size=$size,huge=2M" "$@"
}
huge 160MiB
wait $vmm && code=0 || code=$?
exec 3>&-
[ $code = 1 ] || fail "exit code $code, not 1"
log_says 'huge=2M: 80 pages are needed and 70 of the host.s 70 are free'

check "a guest runs in huge pages, is saved, and comes in lazily, and none of them is given back"
huge 128MiB
await 'built-in shell' 240
[ "$(pool Rsvd)" -gt 0 ] && [ $(($(pool Free) - $(pool Rsvd))) = 6 ] || fail "$(grep Huge /proc/meminfo)"
! qmp_say qmp.sock balloon '{"value":100663296}' >answer 2>&1 || fail "$(cat answer)"
grep -q 'RAM of reserved huge pages is not given back' answer || fail "$(cat answer)"
say 'echo mine >/tmp/file; modprobe virtio_balloon; echo huge=$(cat /tmp/file)'
await '^huge=mine' 60
save saved.4
[ "$(pool Free)" = 70 ] || fail "pages are left behind: $(grep Huge /proc/meminfo)"
huge 128MiB --incoming saved.4 --lazy
say 'echo still=$(cat /tmp/file)'
await '^still=mine' 60
rm saved.4
say 'reboot -f'
await 'built-in shell' 240
log_says 'the machine begins anew'
say 'poweroff -f'
ended 0
[ "$(pool Free)" = 70 ] || fail "pages are left behind: $(grep Huge /proc/meminfo)"
echo 0 >/proc/sys/vm/nr_hugepages

check "a guest gets memory while it runs, as much as was asked for"
plain=$cmdline
cmdline="$cmdline memhp_default_state=online_movable"
machine --memory size=160MiB,max=672MiB
await 'built-in shell' 240
# asked MIB [ARGUMENTS OF QMP_SAY...]: what QMP wants to be plugged
asked() {
    local bytes=$(($1 << 20))
    shift
    timeout 300 qmp_say "$@" qmp.sock qom-set "{\"path\":\"vmem0\",\"property\":\"requested-size\",\"value\":$bytes}" >answer ||
        fail "$(cat answer)"
}
# followed MIB: the same, until the guest has followed and QMP says so
followed() {
    asked "$1" -e "\"MEMORY_DEVICE_SIZE_CHANGE\",\"data\":{\"id\":\"vmem0\",\"size\":$(($1 << 20)),"
    plugged "$1"
}
# plugged MIB: waits until so much is
plugged() {
    local tries=300
    until qmp_say qmp.sock query-memory-devices >answer && grep -q "\"size\": *$(($1 << 20))[,}]" answer; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "not $1 MiB: $(cat answer)"
        sleep 0.2
    done
}
# total NAME MIB: the guest's memory is now at least, or with a minus at most, so much
total() {
    say "total() { sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }"
    if [ "$2" -gt 0 ]; then
        say "until [ \$(total) -ge $(($2 * 1024)) ]; do sleep 0.2; done; echo total=$1"
    else
        say "until [ \$(total) -le $((-$2 * 1024)) ]; do sleep 0.2; done; echo total=$1"
    fi
    await "^total=$1" 120
}
# movable NAME: how many pages of the zone that what came is in are free, as $NAME there and in the file NAME here
movable() {
    say "$1=\$(awk '/zone +Movable/ { is = 1 } is && /nr_free_pages|pages free/ { print \$NF; exit }' /proc/zoneinfo)"
    say "echo movable-$1=\$$1"
    await "^movable-$1=[0-9]" 60
    sed -n "s/^movable-$1=//p" console | tr -d '\r' >"$1"
}
# host_mib: of the guest's RAM, what is there
host_mib() { awk '/^RssShmem/ { print int($2 / 1024) }' /proc/$vmm/status; }
say 'modprobe virtio_mem; echo mem=$?'
await '^mem=0' 60
followed 384
total grown 450

check "what it writes there is there when it was saved, killed and restored"
movable before
say 'mkdir -p /mnt; mount -t tmpfs -o size=300m none /mnt; head -c 4000000 /dev/urandom >/tmp/part'
say 'for i in $(seq 60); do echo "part $i"; cat /tmp/part; done >/mnt/big; echo "big: $(sha256sum </mnt/big)"'
await '^big: .* -' 240
big_is=$(sed -n 's/^big: //p' console | tr -d '\r')
movable after
[ $(($(cat before) - $(cat after))) -gt 40000 ] || fail "it is not in what came: $(cat before) pages, then $(cat after)"
save saved.5
machine --memory size=160MiB,max=672MiB --incoming saved.5 --lazy
say 'echo "then: $(sha256sum </mnt/big)"'
await "^then: $big_is" 240
log_says 'it has RAM that is plugged'
rm saved.5
plugged 384
had=$(host_mib)
[ "$had" -gt 240 ] || fail "the host has $had MiB of it"

check "it gives back all that came, and the host has it"
say 'rm /mnt/big; umount /mnt; echo gone=$?'
await '^gone=0' 60
followed 0
total back -160
has=$(host_mib)
[ "$has" -le 170 ] || fail "the host still has $has of $had MiB"

check "it gets some again, and a reboot takes it away until the guest asks anew"
followed 128
say 'reboot -f'
await 'built-in shell' 240
plugged 0
say 'modprobe virtio_mem; echo mem=again'
await '^mem=again' 60
plugged 128
say 'poweroff -f'
ended 0
cmdline=$plain

check "a guest gets CPUs while it runs, and keeps them"
machine --cpus count=1,max=3
await 'built-in shell' 240
# cpu INDEX: one that QMP adds
cpu() {
    qmp_say qmp.sock device_add "{\"driver\":\"host-x86_64-cpu\",\"core-id\":$1}" >answer || fail "$(cat answer)"
}
# online INDEX COUNT: the guest is told of it, brings it up, and runs something there; so many it has by then
online() {
    say "at=/sys/devices/system/cpu/cpu$1/online; until [ -e \$at ]; do sleep 0.2; done; grep -q 1 \$at || echo 1 >\$at"
    say "taskset -p $((1 << $1)) \$\$ >/dev/null; echo cpu$1=\$(grep -c ^processor /proc/cpuinfo) \$(cut -d' ' -f39 /proc/self/stat)"
    await "^cpu$1=$2 $1" 120
    say "taskset -p 7 \$\$ >/dev/null"
}
say 'echo may=$(cat /sys/devices/system/cpu/possible)/$(cat /sys/devices/system/cpu/present)/$(nproc)'
await '^may=0-2/0/1' 30
qmp_say qmp.sock query-hotpluggable-cpus >answer || fail "$(cat answer)"
[ "$(grep -o '"core-id"' answer | wc -l)/$(grep -o 'qom-path' answer | wc -l)" = 3/1 ] || fail "$(cat answer)"
cpu 1
online 1 2
say 'echo clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)'
await '^clock=kvm-clock' 30
save saved.6
machine --cpus count=1,max=3 --incoming saved.6 --lazy
say 'echo then=$(grep -c ^processor /proc/cpuinfo)'
await '^then=2' 60
rm saved.6
cpu 2
online 2 3
qmp_say qmp.sock query-cpus-fast >answer || fail "$(cat answer)"
[ "$(grep -o '"cpu-index"' answer | wc -l)" = 3 ] || fail "$(cat answer)"
! qmp_say qmp.sock device_add '{"driver":"host-x86_64-cpu","core-id":2}' >answer 2>&1 || fail "$(cat answer)"
grep -q 'the guest has all 3 CPUs that it may have' answer || fail "$(cat answer)"
say 'reboot -f'
await 'built-in shell' 240
say 'echo again=$(cat /sys/devices/system/cpu/present)/$(nproc)'
await '^again=0-2/3' 30
say 'poweroff -f'
ended 0

check "vmlinuz as Debian ships it boots by its 64-bit entry, at level x86-64-v3"
start --kernel vmlinuz --cpus 1 --memory 160MiB --cpu x86-64-v3
await 'built-in shell' 240

check "SIGTERM ends the VM at once"
kill -TERM $vmm
ended 0
EOS
