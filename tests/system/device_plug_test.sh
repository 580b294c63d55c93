#!/usr/bin/env bash
# Goal: a guest that nobody has prepared gets a disk and a NIC while it runs, sees them by itself, uses them, and lets
# them go when it is asked; a machine that has them is saved and goes on with them; what it lets go unasked stays.
# Method: Debian's cloud kernel in berth-vmm, inside an emulated machine with SVM (deploy/lib/kvm_machine.sh, tier T2).
# Every wait is for a line on the guest's console or an event of QMP, with a bound; nothing depends on how long something
# took.
set -eEuo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BERTH_BIN:-$top/build/asan}
artifacts=$top/build/guest

command -v qemu-system-x86_64 >/dev/null || { echo "qemu-system-x86_64 is not installed"; exit 77; }
command -v apt-get >/dev/null || { echo "the machine is made of Debian packages, and apt-get is not here"; exit 77; }
"$top/deploy/guest/build-guest" "$artifacts"

. "$top/deploy/lib/kvm_machine.sh"

folder=$(mktemp -d "${TMPDIR:-/tmp}/berth-plug.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

kvm_machine_new "$artifacts" "$folder"
cc -std=c17 -D_GNU_SOURCE -O2 -static -o "$folder/tap_open" "$top/tests/system/tap_open.c"
kvm_machine_put "$bin/berth-vmm" "$bin/tests/qmp_say" "$folder/tap_open"
kvm_machine_file "$artifacts/vmlinux" /root/vmlinux
kvm_machine_file "$artifacts/initrd.img" /root/initrd.img

KVM_MACHINE_MEMORY=1536 kvm_machine_run 1500 <<'EOS'
export ASAN_OPTIONS=detect_leaks=0
name=
vmm=
check() { name=$*; echo "-- $*"; }
fail() {
    echo "FAILED: $name: $*"
    tail -n 25 console log
    [ -z "$vmm" ] || kill -KILL "$vmm" 2>/dev/null
    exit 1
}
# start ARGUMENTS...: the guest's console is the file console; say types at it
start() {
    rm -f keys console
    mkfifo keys
    berth-vmm --kernel vmlinux --initrd initrd.img --cmdline "console=ttyS0 panic=-1 loglevel=3 mitigations=off" \
        --cpus 2 --memory 128MiB --qmp unix:/root/qmp.sock --plug-disk 64MiB "$@" <keys >console 2>log &
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
ended() { # CODE
    wait $vmm
    local code=$?
    exec 3>&-
    [ $code = "$1" ] || fail "exit code $code, not $1"
}
qmp() { qmp_say qmp.sock "$@" >answer 2>&1 || fail "$1: $(cat answer)"; }
# refused WORDS COMMAND...
refused() {
    local words=$1
    shift
    ! qmp_say qmp.sock "$@" >answer 2>&1 || fail "$1 was not refused"
    grep -q "$words" answer || fail "$1: $(cat answer)"
}
# disk ID FILE [MORE]: a disk that comes
disk() {
    qmp_say -d 5 qmp.sock getfd "{\"fdname\":\"f-$1\"}" 5<>"$2" >answer || fail "$(cat answer)"
    qmp blockdev-add "{\"driver\":\"raw\",\"node-name\":\"n-$1\",\"file\":{\"driver\":\"file\",\"filename\":\"f-$1\"}}"
    qmp device_add "{\"driver\":\"virtio-blk-pci\",\"id\":\"$1\",\"drive\":\"n-$1\",\"serial\":\"$1\"${3:-}}"
}
# gone ID: it is asked for, and the guest lets it go
gone() {
    timeout 120 qmp_say -e "\"DEVICE_DELETED\",\"data\":{\"device\":\"$1\"" qmp.sock device_del "{\"id\":\"$1\"}" >answer 2>&1 ||
        fail "$(cat answer)"
}

check "a guest boots with one disk and no NIC"
head -c 4194304 /dev/urandom >root.img
start --disk name=root,raw=root.img
await 'built-in shell' 240
say 'modprobe -a virtio_blk virtio_net; cd /tmp; echo first=$(ls -d /sys/block/vd? | wc -l)'
await '^first=1' 60
say 'echo slots=$(ls /sys/bus/pci/slots | tr "\n" ,)'
await '^slots=24,25,26,27,28,29,30,31,' 30

check "a disk comes, and the guest sees it by itself"
head -c 16777216 /dev/urandom >plug.img
disk hot plug.img
say 'until [ -e /sys/block/vdb ]; do sleep 0.2; done; echo there=$(cat /sys/block/vdb/size) $(cat /sys/block/vdb/serial)'
await '^there=32768 hot' 120
say 'basename $(readlink -f /sys/block/vdb/device/..) | sed s/^/at=/'
await '^at=0000:00:18.0' 30
say 'echo "vdb: $(sha256sum </dev/vdb)"'
await "^vdb: $(sha256sum <plug.img)" 60

check "it writes there, and the host has it"
say 'head -c 1000000 /dev/urandom >new; dd if=new of=/dev/vdb bs=5000 seek=7 conv=fsync,notrunc 2>/dev/null; echo "new: $(sha256sum <new)"'
await '^new: .* -' 60 # the whole line
new_is=$(sed -n 's/^new: //p' console | tr -d '\r')
[ "$(dd if=plug.img bs=5000 skip=7 count=200 2>/dev/null | sha256sum)" = "$new_is" ] || fail "the file has something else"
qmp query-block
grep -q '"device": *"hot"' answer || fail "$(cat answer)"
qmp query-blockstats
grep -q '"device": *"hot"' answer || fail "$(cat answer)"
qmp block_set_io_throttle '{"id":"hot","bps":0,"bps_rd":0,"bps_wr":0,"iops":5000,"iops_rd":0,"iops_wr":0}'
qmp x-query-throttle
grep -q '"id": *"hot"' answer || fail "$(cat answer)"
refused 'is busy' blockdev-del '{"node-name":"n-hot"}'
refused 'Duplicate device ID' device_add '{"driver":"virtio-blk-pci","id":"hot","drive":"n-hot"}'
refused 'DeviceNotFound' device_del '{"id":"cold"}'
refused 'stays as long as the machine' device_del '{"id":"disk0"}'

check "what the guest lets go unasked stays"
say 'echo 0 >/sys/bus/pci/slots/24/power; [ -e /sys/block/vdb ] || echo power=off'
await '^power=off' 60
qmp query-block
grep -q '"device": *"hot"' answer || fail "it has gone: $(cat answer)"
say 'echo 1 >/sys/bus/pci/slots/24/power; until [ -e /sys/block/vdb ]; do sleep 0.2; done; echo power=on'
await '^power=on' 60
say 'dd if=/dev/vdb bs=5000 skip=7 count=200 2>/dev/null | cmp - new && echo again=same'
await '^again=same' 60

check "a machine with it is saved, and goes on with it in its slot"
tries=600
qmp_say -d 5 qmp.sock getfd '{"fdname":"saved"}' 5<>saved.1 >answer || fail "$(cat answer)"
qmp migrate '{"uri":"fd:saved"}'
until qmp_say qmp.sock query-migrate >answer && grep -q '"status": *"completed"' answer; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] && ! grep -q '"failed"' answer || fail "$(cat answer)"
    sleep 0.2
done
kill -KILL $vmm
wait $vmm 2>/dev/null
exec 3>&-
start --disk name=root,raw=root.img --incoming saved.1
ended 1
grep -q 'the saved machine has .* devices and this one has' log || fail "$(tail -n 1 log)"
start --disk name=root,raw=root.img --disk name=hot,id=hot,slot=25,raw=plug.img --incoming saved.1
ended 1
grep -q 'the saved machine has devices in slots 24, and this one in 25' log || fail "$(tail -n 1 log)"
start --disk name=root,raw=root.img --disk name=hot,id=hot,slot=24,raw=plug.img --incoming saved.1
say 'echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb bs=5000 skip=7 count=200 2>/dev/null | cmp - new && echo then=same'
await '^then=same' 60
rm saved.1

check "it is asked for, and the guest lets it go"
gone hot
grep -q 'DEVICE_DELETED' answer || fail "$(cat answer)"
say '[ -e /sys/block/vdb ] || echo hot=gone'
await '^hot=gone' 60
qmp query-block
! grep -q '"device": *"hot"' answer || fail "$(cat answer)"
! ls -l /proc/$vmm/fd | grep -q plug.img || fail "its file is still open"

check "a NIC comes, the guest and the host hear each other, and it goes"
tap_open bp0 qmp_say -d 5 qmp.sock getfd '{"fdname":"tap"}' >answer || fail "$(cat answer)"
ifconfig bp0 10.8.0.1 netmask 255.255.255.0 up
printf '%s\n' 'start 10.8.0.2' 'end 10.8.0.2' 'interface bp0' 'lease_file /root/leases' 'pidfile /root/udhcpd.pid' \
    'option subnet 255.255.255.0' 'option mtu 1400' >udhcpd.conf
: >leases
udhcpd udhcpd.conf || fail "no DHCP server"
qmp netdev_add '{"type":"tap","id":"net","fd":"tap"}'
qmp device_add '{"driver":"virtio-net-pci","id":"hotnic","netdev":"net","mac":"52:54:00:00:00:09","host_mtu":1400}'
say 'until [ -e /sys/class/net/eth0 ]; do sleep 0.2; done; echo nic=$(cat /sys/class/net/eth0/address) $(cat /sys/class/net/eth0/mtu)'
await '^nic=52:54:00:00:00:09 1400' 120
await 'ready name=.* address=10.8.0.2' 120 # its own client asks for an address as soon as there is a card
say 'ping -c 3 10.8.0.1 >/dev/null && echo ping=good'
await '^ping=good' 60
ping -c 3 10.8.0.2 >/dev/null || fail "no answer to ping"
qmp x-query-device-stats
grep -q '"id": *"hotnic"' answer || fail "$(cat answer)"
qmp x-nic-set-throttle '{"id":"hotnic","direction":"receive","iops":1000}'
refused 'in use' netdev_del '{"id":"net"}'
gone hotnic
kill "$(cat udhcpd.pid)"
say '[ -e /sys/class/net/eth0 ] || echo nic=gone'
await '^nic=gone' 60
qmp netdev_del '{"id":"net"}'
! ifconfig bp0 >/dev/null 2>&1 || fail "its tap is still there"

check "all slots are taken, and no more"
for i in 1 2 3 4 5 6 7 8; do
    truncate -s $((i * 1048576)) "d$i.img"
    disk "d$i" "d$i.img"
done
say 'until [ $(ls -d /sys/block/vd? | wc -l) = 9 ]; do sleep 0.2; done; echo all=nine'
await '^all=nine' 120
refused 'no more can come' device_add '{"driver":"virtio-blk-pci","id":"d9","drive":"n-d1"}'
for i in 1 3 5 7; do
    gone "d$i"
    qmp blockdev-del "{\"node-name\":\"n-d$i\"}"
done
say 'echo left=$(cat /sys/block/vd[b-z]/size | sort -n | tr "\n" ,)'
await '^left=4096,8192,12288,16384,' 60

check "one comes back to a slot that one has left"
disk back d1.img ',"addr":"0x1e"'
say 'until [ $(ls -d /sys/block/vd? | wc -l) = 6 ]; do sleep 0.2; done; echo back=$(ls -d /sys/bus/pci/devices/0000:00:1e.0)'
await '^back=/sys' 120

check "after a reboot the guest has those that it had"
say 'reboot -f'
await 'built-in shell' 240 # the console of the one that came in is another file
say 'modprobe virtio_blk; echo after=$(ls -d /sys/block/vd? | wc -l)'
await '^after=6' 60
gone back
say 'poweroff -f'
ended 0
EOS
