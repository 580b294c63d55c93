#!/usr/bin/env bash
# Goal: `engine: kvm` runs a tenant's VM by berth-vmm: placed because this host can, reached over the tenant network,
# with a disk of its own, in its jail and control group, held to the limits of its template from its start and, while
# it runs, to those that are applied later; from a distribution's packed kernel, unpacked at arm's length; with a NIC
# that the kernel serves where nothing limits it; what it does is shown and counted; a berthd that is killed finds it
# again with its console; paused it stands still; killed, it goes on from its snapshot with memory and disk of that
# instant; a stop is a power button; how it crashed is told; removed, nothing of it is left. What a guest reads and
# writes is berth_vmm_test.sh's.
# Method: a real berthd on one host with a real kvm_amd, which is an emulated machine with SVM
# (deploy/lib/kvm_machine.sh, tier T2). Every wait is on a fact, with a bound.
set -eEuo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BERTH_BIN:-$top/build/asan}
artifacts=$top/build/guest

for program in qemu-system-x86_64 ip nft dnsmasq curl jq; do
    command -v $program >/dev/null || { echo "$program is not installed"; exit 77; }
done
command -v apt-get >/dev/null || { echo "the machine is made of Debian packages, and apt-get is not here"; exit 77; }
"$top/deploy/guest/build-guest" "$artifacts"

. "$top/deploy/lib/kvm_machine.sh"

folder=$(mktemp -d "${TMPDIR:-/tmp}/berth-kvm-engine.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

kvm_machine_new "$artifacts" "$folder"
kvm_machine_put "$bin/berthd" "$bin/berth" "$bin/berth-fence" "$bin/berth-vmm" "$bin/berth-unpack" \
    "$bin/tests/qmp_say" \
    ip nft dnsmasq curl jq
for file in vmlinuz initrd.img; do
    kvm_machine_file "$artifacts/$file" "/root/$file"
done
cat >"$folder/vm.yaml" <<'END'
apiVersion: berth/v1
kind: Tenant
metadata: {name: shop}
spec:
  quota: {cpu: 4, memory: 1GiB, vms: 4, networks: 1}
---
apiVersion: berth/v1
kind: Image
metadata: {name: tiny, tenant: shop}
spec:
  artifacts:
    - {role: kernel, file: vmlinuz}
    - {role: initrd, file: initrd.img}
  cmdline: loglevel=3 mitigations=off reboot=t # a reset is a triple fault
---
apiVersion: berth/v1
kind: Network
metadata: {name: front, tenant: shop}
spec:
  ipv4: {cidr: 10.20.0.0/24}
---
apiVersion: berth/v1
kind: Template
metadata: {name: web, tenant: shop}
spec:
  image: tiny
  engine: kvm
  memory: {size: 128MiB}
  disks:
    - {name: data, from: empty, size: 64MiB, limit: {iops: 500, bandwidth: 20MiB/s}}
  nics:
    - {name: eth0, network: front, limit: {bandwidth: 80Mbit/s}}
  lifecycle: {stopGrace: 60s, hostFailure: wait} # emulated, a daemon is away for longer than a lease
  health:
    ready: {port: 80, path: /healthz, every: 5s, timeout: 5s}
---
apiVersion: berth/v1
kind: Template
metadata: {name: free, tenant: shop}
spec:
  image: tiny
  engine: kvm
  memory: {size: 128MiB}
  nics:
    - {name: eth0, network: front}
  lifecycle: {hostFailure: wait}
  health:
    ready: {port: 80, path: /healthz, every: 5s, timeout: 5s}
---
apiVersion: berth/v1
kind: VM
metadata: {name: web-1, tenant: shop}
spec:
  template: {name: web}
---
apiVersion: berth/v1
kind: VM
metadata: {name: web-2, tenant: shop}
spec:
  template: {name: free}
END
kvm_machine_file "$folder/vm.yaml" /root/vm.yaml
mkdir -p "$folder/tree/etc"
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/:/bin/false' >"$folder/tree/etc/passwd"
printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$folder/tree/etc/group"

modules=(kvm_amd tun virtio_rng bridge veth vxlan nf_tables nf_conntrack_bridge nft_ct nft_limit nft_masq nft_nat
    nft_meta_bridge nft_reject_bridge nft_chain_nat nft_reject_inet nft_fib_inet vhost_net)
KVM_MACHINE_MEMORY=2560 KVM_MACHINE_MODULES=${modules[*]} kvm_machine_run 1500 <<'SCRIPT'
export ASAN_OPTIONS=detect_leaks=0
ln -s /proc/self/fd/0 /dev/stdin # nft reads its rules there
name=
check() { name=$*; echo "-- $*"; }
fail() {
    echo "FAILED: $name: $*"
    tail -n 25 h1/berthd.log
    tail -n 5 h1/vms/*/engine.log
    exit 1
}
wait_for() { # SECONDS WHAT COMMAND...
    local tries=$(($1 * 2)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "waited in vain for: $what"
        sleep 0.5
    done
}
berth_on() { berth --state /root/h1 "$@"; }
of() { # VM FILTER
    berth_on ls vm -t shop -o json | jq -r ".items[] | select(.metadata.name == \"$1\") | $2"
}
vm() { of web-1 "$1"; }
is() { [ "$(of "$1" .status.phase)" = "$2" ]; }
vm_is() { is web-1 "$1"; }
vmm_pid() { # VM
    local pid
    for pid in $(pidof berth-vmm); do
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q " shop/${1:-web-1} " && echo "$pid" && return 0
    done
    return 1
}
ask() { curl -sS -m 10 "http://$(of "$1" '.status.nics[0].address')/$2"; } # VM PAGE
answer() { ask web-1 "$1"; }

check "a host with a native KVM offers engine kvm"
ip link add rack0 type bridge
ip address add 10.99.0.11/24 dev rack0
ip link set rack0 up
ip route add default via 10.99.0.1
berth_on up --name h1 --level-wait 1s --timeout 240s </dev/null || fail "no berthd"
berth_on ls host -o json | jq -r '.items[0].status | .kvm, .engines' >engines
head -n 1 engines >kvm && grep -q native kvm || fail "KVM is not native: $(cat engines)"

check "limits wait for the level that brought them"
wait_for 120 "level 4" sh -c 'berth --state /root/h1 version >version; grep -q "^level *4" version'

check "a template with engine: kvm becomes a berth-vmm that answers over the tenant network"
berth_on apply vm.yaml --wait --timeout 300s || fail "it does not become ready: $(vm .status)"
[ "$(vm .status.phase)" = ready ] || fail "$(vm .status)"
pid=$(vmm_pid) || fail "no berth-vmm"
! pidof qemu-system-x86_64 >/dev/null || fail "there is a QEMU"
answer >said; grep -q "address=$(vm '.status.nics[0].address')" said || fail "no answer"

check "their packed kernel was unpacked at arm's length, once"
is web-2 ready || fail "$(of web-2 .status)"
packed=$(sha256sum <vmlinuz); packed=${packed%% *}
find h1 -path "*/unpacked/$packed" -size +30000 >said; [ -s said ] || fail "not unpacked: $(find h1 -name "$packed")"
ls -l "/proc/$pid/fd" | grep -q "/unpacked/$packed" || fail "it was not booted: $(ls -l "/proc/$pid/fd" | grep images)"

check "it is in its jail and in its control group"
grep -q 'Seccomp:.*2' /proc/$pid/status || fail "no filter of system calls"
grep -q 'CapEff:.*0000000000000000' /proc/$pid/status || fail "it has capabilities"
[ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ] || fail "it shares the host's network"
! ls -d /proc/$pid/root/proc 2>/dev/null || fail "it sees files"
grep -q '/vm-' /proc/$pid/cgroup || fail "no group: $(cat /proc/$pid/cgroup)"
group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
[ "$(cat $group/pids.max)" -gt 1024 ] || fail "its processes are not counted: $(cat $group/pids.max)"
grep -q "^NSpid:.*$pid.*[^0-9]1$" /proc/$pid/status || fail "it sees other processes: $(grep NSpid /proc/$pid/status)"
[ "$(awk '/^Uid:/ { print $2 }' /proc/$pid/status)" = $((2130706432 + pid)) ] || fail "$(grep Uid /proc/$pid/status)"
grep -q '^Max file size .* [0-9]* .*bytes' /proc/$pid/limits && ! grep -q '^Max file size *unlimited' /proc/$pid/limits ||
    fail "no limits: $(cat /proc/$pid/limits)"
! grep walls h1/vms/*/engine.log || fail "walls are missing"

says() { berth_on console web-1 -t shop --no-follow >said; grep -q "$1" said; }

check "it has its disk, and its console is kept"
ls h1/vms/*/disk-data.overlay || fail "no overlay"
says 'berth-guest: ready' || fail "the console is empty"

# What berth-vmm itself says, of which berthd is the one client while it lives.
tell() { qmp_say "h1/vms/$(of_uid "$1")/qmp.sock" "$2"; } # VM COMMAND
limits() { jq -c '.return[] | [.id, .direction, .iops, .bps, .bps_max]'; }
served_by_kernel() { jq '.return[] | select(.id == "nic0") | .stats.kernel_pairs'; }

check "a template with other limits changes them in the VM that runs"
epoch=$(vm .status.epoch)
sed 's/iops: 500/iops: 900, iopsBurst: 1800/; s/80Mbit/40Mbit/' vm.yaml >faster.yaml
berth_on plan faster.yaml >plan || fail "no plan"
grep -q 'spec.disks' plan || fail "the plan does not say what changes: $(cat plan)"
berth_on apply faster.yaml >applied 2>&1 || fail "no apply: $(cat applied)"
! grep 'made with' applied || fail "the VM follows, and is said not to"
[ "$(vm '.spec.machine.disks[0].limit.iops')" = 900 ] || fail "$(vm .spec)"
wait_for 30 "the host to tell the VM" grep -q 'VM has other limits' h1/berthd.log
[ "$(vmm_pid)" = "$pid" ] || fail "another process"
[ "$(vm .status.epoch)" = "$epoch" ] || fail "another epoch"

check "what it does is counted for Prometheus, whoever serves its NIC"
metric() { # NAME LABELS: of the last scrape
    sed -n "s/^berth_vm_$1{$2} //p" metrics
}
scrape() { curl -sSk -m 20 -H "Authorization: Bearer $token" https://10.99.0.11:7443/metrics >metrics; }
counts() { # NAME LABELS MORE_THAN
    scrape && counted=$(metric "$1" "$2") && [ -n "$counted" ] && [ "$counted" -gt "$3" ]
}
token=$(berth_on token create prometheus --role viewer -o json | jq -r .token)
nic_of() { echo "vm=\"$1\",tenant=\"shop\",nic=\"0\""; }
for name in web-1 web-2; do
    wait_for 60 "the NIC of $name to be counted" counts nic_tx_bytes_total "$(nic_of $name)" 0
    [ -n "$(metric nic_rx_dropped_total "$(nic_of $name)")" ] || fail "no drops: $(grep nic_ metrics)"
    for phase in started opened made jailed loaded ready go first-run; do # later ones may come late
        grep -q "^berth_vm_boot_seconds{vm=\"$name\",tenant=\"shop\",phase=\"$phase\"} [0-9]*[.]" metrics ||
            fail "no boot phase $phase of $name: $(grep boot_seconds metrics)"
    done
    [ "$(metric exits_total "vm=\"$name\",tenant=\"shop\",reason=\"port\"")" -gt 0 ] || fail "no exits of $name"
done
cp metrics before
for i in 1 2 3; do
    for name in web-1 web-2; do ask $name count >said || fail "no answer"; done
done
for name in web-1 web-2; do # at least the packets of three connections
    sent=$(sed -n "s/^berth_vm_nic_tx_bytes_total{$(nic_of $name)} //p" before)
    received=$(sed -n "s/^berth_vm_nic_rx_packets_total{$(nic_of $name)} //p" before)
    wait_for 60 "what $name sends to be counted" counts nic_tx_bytes_total "$(nic_of $name)" $((sent + 3 * 180))
    wait_for 60 "what $name receives to be counted" counts nic_rx_packets_total "$(nic_of $name)" $((received + 3 * 3))
done
disk='vm="web-1",tenant="shop",disk="data"'
wait_for 60 "its writes to be counted" counts disk_write_operations_total "$disk" 2
[ "$(metric disk_write_bytes_total "$disk")" -ge 1536 ] || fail "$(grep disk_ metrics)"
[ "$(metric disk_latency_seconds_count "$disk,operation=\"write\"")" -ge 3 ] || fail "$(grep latency metrics)"
[ "$(metric disk_latency_seconds_bucket "$disk,operation=\"write\",le=\"[+]Inf\"")" -ge 3 ] || fail "$(grep latency metrics)"
! grep 'disk_.*web-2' metrics || fail "it has no disk"

check "and shown to people"
shows() { # VM PATTERN
    berth_on show "vm/$1" -t shop >shown && grep -q "$2" shown
}
wait_for 60 "a rate of its disk" shows web-1 '^DISK I/O .*B/s read, .*B/s written'
cat shown
grep -q '^BOOT .*starting .*running .*: ready after' shown || fail "no timeline: $(cat shown)"
grep -q '^NETWORK .*B/s in, .*B/s out' shown || fail "no traffic: $(cat shown)"
wait_for 60 "a rate of the NIC that the kernel serves" shows web-2 '^NETWORK .*B/s in, .*B/s out'
cat shown
[ "$(of web-2 '.status.live.boot.firstRunUs')" -gt 0 ] || fail "no start: $(of web-2 .status)"

uid_1=$(vm .metadata.uid) uid_2=$(of web-2 .metadata.uid)
of_uid() { [ "$1" = web-1 ] && echo "$uid_1" || echo "$uid_2"; }

check "a berthd that is killed finds it again, with its console"
kill -KILL "$(cut -d' ' -f1 h1/berthd.pid)"
sleep 1
tell web-1 x-query-throttle | limits >in_force
for want in '["data",null,900,20971520,0]' '["nic0","receive",0,5000000,0]' '["nic0","transmit",0,5000000,0]'; do
    grep -qxF "$want" in_force || fail "not $want: $(cat in_force)"
done
[ "$(tell web-1 x-query-device-stats | served_by_kernel)" = 0 ] || fail "a NIC with a limit is the kernel's"
[ "$(tell web-2 x-query-device-stats | served_by_kernel)" = 1 ] || fail "one without is not: $(tell web-2 x-query-device-stats)"
berth_on up --timeout 240s </dev/null || fail "no berthd"
wait_for 60 "the VM to be ready" vm_is ready
[ "$(vmm_pid)" = "$pid" ] || fail "another process"
[ "$(vm .status.epoch)" = "$epoch" ] || fail "another epoch"
answer healthz >said; grep -q ok said || fail "no answer"
wait_for 30 "what the console said before" says 'berth-guest: ready'

gone() { ! vmm_pid "$1"; }
count_is() { answer count >said && grep -q "^memory=$1 disk=$2$" said; }
snapshot_is() { [ "$(berth_on ls snapshot -t shop -o json | jq -r '.items[0].status.phase')" = "$1" ]; }

check "paused it stands still, resumed it goes on"
count_is 4 4 || fail "it does not count: $(cat said)"
berth_on pause web-1 -t shop || fail "no pause"
wait_for 60 "the VM to stand still" sh -c 'berth --state /root/h1 ls vm -t shop -o json | grep -q "paused by its user"'
! answer healthz || fail "it answers"
berth_on resume web-1 -t shop || fail "no resume"
wait_for 90 "the VM to be ready" vm_is ready
count_is 5 5 || fail "it has not gone on: $(cat said)"

check "a snapshot is made, and the VM goes on"
berth_on snapshot make web-1 before -t shop --wait --timeout 180s || fail "no snapshot"
snapshot_is ready || fail "$(berth_on ls snapshot -t shop -o json)"
ls h1/snapshots/*/memory h1/snapshots/*/disk-data.overlay h1/snapshots/*/manifest.json || fail "files are missing"
wait_for 60 "the VM to be ready" vm_is ready
[ "$(vmm_pid)" = "$pid" ] || fail "another process"
count_is 6 6 || fail "it has not gone on: $(cat said)"

check "killed, it goes on from its snapshot, in memory and on its disk"
kill -KILL "$pid"
wait_for 90 "its end to be seen" gone web-1
berth_on restore web-1 before -t shop --yes --wait --timeout 240s || fail "no restore: $(vm .status)"
wait_for 240 "the VM to be ready" vm_is ready
[ "$(vmm_pid)" != "$pid" ] || fail "the same process"
[ "$(vm .status.epoch)" -gt "$epoch" ] || fail "the same epoch"
count_is 6 6 || fail "not as at the instant of the snapshot: $(cat said)"
count_is 7 7 || fail "it does not go on: $(cat said)"

check "a snapshot is removed"
berth_on snapshot rm before -t shop --yes --wait || fail "no rm"
wait_for 60 "its files to go" sh -c '! ls h1/snapshots/*/memory'

check "a stop is a power button, and it starts again"
berth_on stop web-1 -t shop || fail "no stop"
wait_for 90 "the VM to stop" vm_is stopped
[ "$(vm .status.reason)" = stopped ] || fail "not by the guest's own power off: $(vm .status.reason)"
! vmm_pid || fail "its process is still there"
berth_on start web-1 -t shop || fail "no start"
wait_for 240 "the VM to be ready" vm_is ready
answer healthz >said; grep -q ok said || fail "no answer"

check "how a guest crashed is told: its kernel's panic, and a CPU that shut down"
crash() { # HOW REASON
    wait_for 240 "the other VM to be ready" is web-2 ready
    run=$(of web-2 .status.epoch)
    ask web-2 "crash?how=$1" || fail "no answer"
    wait_for 120 "another run" sh -c "[ \$(berth --state /root/h1 ls vm -t shop -o json |
        jq '.items[] | select(.metadata.name == \"web-2\") | .status.epoch') -gt $run ]"
    shows web-2 "$2" || fail "no word of it: $(cat shown)"
}
crash panic "guest panic: the guest's kernel panicked"
crash reset 'guest fault: CPU 0 of the guest shut down (triple fault)'
cat shown

check "removed, nothing of it is left"
berth_on rm vm/web-1 vm/web-2 -t shop --yes || fail "no rm"
wait_for 90 "its disk to go" sh -c '! ls h1/vms/*/disk-*'
wait_for 90 "the process of the one that is started anew to end" gone web-2 # a guest at its start hears no power button
gone web-1 || fail "its process is still there"
SCRIPT
