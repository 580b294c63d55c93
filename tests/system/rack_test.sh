#!/usr/bin/env bash
# Goal: a rack of three real hosts keeps its promises: a cluster without a question, VMs that answer, a daemon
# killed under its VMs, the death of the leader's host, a host cut off, a stopped VM's disk, drain, and nothing left
# behind.
# Method: three network namespaces (deploy/lib/rack.sh), a real berthd in each, QEMU guests under emulation;
# every wait is on a fact with a bound; no check depends on how long something took.
set -euo pipefail
. "$(dirname "$0")/rack_frame.sh"
command -v qemu-system-x86_64 >/dev/null || { echo "qemu-system-x86_64 is not installed"; exit 77; }
frame_rack berth-rack 10.98.0
tell() {
    berth_on "$api" ls -t shop | sed -n 1,20p
    berth_on "$api" events --since 0 | tail -n 30
}

vm() { vms | jq -r --arg n "$1" ".items[] | select(.metadata.name == \$n) | $2"; }
ready_is() { [ "$(vms | jq '[.items[] | select(.status.phase == "ready")] | length')" = "$1" ] && [ "$(vms | jq '.items | length')" = "$1" ]; }
vms_on() { vms | jq -r --arg h "$1" '.items[] | select(.status.host == $h) | .metadata.name'; }
guests_in() { ip netns pids "$RACK-$1" | while read -r p; do grep -qa '^[^ ]*qemu-system' "/proc/$p/cmdline" 2>/dev/null && echo "$p"; done || true; }
answers() { on "$1" curl -sS -m 5 "http://$2/healthz"; }
reaches() { [ "$(answers "$1" "$2")" = ok ]; }
boot_of() { on "$1" curl -sS -m 5 "http://$2/" | tr ' ' '\n' | grep '^epoch=\|^boot' | sed -n 1p; }

groups_before=$(rack_groups h1 h2 h3) # what others on this machine have

check "the guest image builds"
"$top/deploy/guest/build-guest" "$top/build/guest" >/dev/null

check "three hosts form a cluster of three voters without a question"
rack_up 3
berth_on h1 up --name h1 </dev/null
for host in h2 h3; do
    token=$(berth_on h1 token join)
    berth_on "$host" join "$token" --name "$host" </dev/null
done
wait_for 60 "three voters" voters_are 3

check "a join token works once"
rack_plug h4 14
berth_on h1 token join >/dev/null # another that is good: hosts that join are heard
if berth_on h4 join "$token" --name h4 </dev/null >"$RACK_RUN/refused" 2>&1; then fail "a token that h3 has used lets h4 in"; fi
grep -q 'token is not known, or was used up' "$RACK_RUN/refused" || fail "the refusal: $(cat "$RACK_RUN/refused")"
[ "$(hosts | jq '.items | length')" = 3 ] || fail "there are more than three hosts"

check "a template runs: three VMs ready on three hosts"
(cd "$top" && berth_on h1 apply examples/web.yaml --wait)
wait_for 120 "three ready VMs" ready_is 3
[ "$(vms | jq '[.items[].status.host] | unique | length')" = 3 ] || fail "not spread over the hosts"
[ "$(vms | jq '[.items[].status.nics[0].address] | unique | length')" = 3 ] || fail "an address was given twice"

check "applying the same file again changes nothing"
before=$(berth_on h1 show group/web -t shop -o json | jq .metadata.revision)
(cd "$top" && berth_on h1 apply examples/web.yaml)
[ "$(berth_on h1 show group/web -t shop -o json | jq .metadata.revision)" = "$before" ] || fail "the group was changed"

check "every host reaches every VM, and a VM reaches a VM on another host"
for address in $(vms | jq -r '.items[].status.nics[0].address'); do
    for host in h1 h2 h3; do
        wait_for 20 "$host to reach $address" reaches "$host" "$address" # ready is what its own host says
    done
done
a=$(vm "$(vms_on h1 | sed -n 1p)" '.status.nics[0].address')
b=$(vm "$(vms_on h2 | sed -n 1p)" '.status.nics[0].address')
a_reaches_b() { grep -q ok <<<"$(on h3 curl -sS -m 10 "http://$a/fetch?url=http://$b/healthz")"; }
wait_for 20 "VM $a to reach VM $b" a_reaches_b

check "kill -9 of a berthd does not disturb its VMs"
name=$(vms_on h2 | sed -n 1p)
pids=$(guests_in h2 | sort)
epoch=$(vm "$name" .status.epoch)
ended() { ! grep -qvE '\) [ZX] ' "/proc/$daemon/stat" 2>/dev/null; }
daemon_dies() { # HOST: it is killed, and started again
    daemon=$(awk '{print $1}' "$RACK_RUN/$1/berthd.pid")
    kill -KILL "$daemon"
    wait_for 20 "the killed berthd to be gone" ended
    berth_on "$1" up </dev/null
    wait_for 30 "$1 to be ready" host_is "$1" ready
}
daemon_dies h2
[ "$(guests_in h2 | sort)" = "$pids" ] || fail "the VM's process changed"
[ "$(vm "$name" .status.epoch)" = "$epoch" ] || fail "the VM's epoch changed"
wait_for 20 "the VM to answer" reaches h1 "$(vm "$name" '.status.nics[0].address')"

# moved NAME HOST EPOCH: runs elsewhere under a higher epoch
moved() {
    local now
    now=$(vms | jq -c --arg n "$1" '.items[] | select(.metadata.name == $n) | .status') || return 1
    [ "$(jq -r .host <<<"$now")" != "$2" ] && [ "$(jq .epoch <<<"$now")" -gt "$3" ] &&
        jq -e '.phase == "running" or .phase == "ready"' <<<"$now" >/dev/null
}

# host_dies HOST: power and cable at once; its VMs run elsewhere, and it comes back without them.
host_dies() {
    local name epoch
    victim=$1
    for host in h1 h2 h3; do [ "$host" = "$victim" ] || api=$host; done
    name=$(vms_on "$victim" | sed -n 1p)
    [ -n "$name" ] || fail "$victim has no VM"
    epoch=$(vm "$name" .status.epoch)
    rack_cut "$victim"
    rack_kill "$victim"
    wait_for 60 "$name to run elsewhere" moved "$name" "$victim" "$epoch"
    [ "$(leader)" != "$victim" ] || fail "the dead host still leads"
    wait_for 120 "three ready VMs" ready_is 3
    rack_mend "$victim"
    berth_on "$victim" up </dev/null
    wait_for 60 "$victim to be ready" host_is "$victim" ready
    wait_for 60 "$victim to run its own VMs and no stale ones" only_its_own
}
only_its_own() { [ "$(guests_in "$victim" | wc -l)" = "$(vms_on "$victim" | wc -l)" ]; }

check "the leader's host dies: another leads, its VMs run elsewhere, and it takes part again"
wait_for 20 "a leader" one_leads
host_dies "$(leader)"

check "the host of a follower dies: the leader stays, its VMs run elsewhere, and it takes part again"
follower_dies() { # sets led
    wait_for 20 "a leader" one_leads
    led=$(leader)
    for host in h1 h2 h3; do [ "$host" != "$led" ] && [ -n "$(vms_on "$host")" ] && follower=$host; done
    host_dies "$follower"
    wait_for 20 "a leader" one_leads
}
follower_dies
if [ "$(leader)" != "$led" ]; then
    echo "another leads: a busy machine can bring that about, so once more"
    follower_dies
fi
[ "$(leader)" = "$led" ] || fail "the death of a follower's host changed the leader"

check "a host that is only cut off ends its VMs before they start elsewhere"
for victim in h1 h2 h3; do [ "$victim" != "$(leader)" ] && [ -n "$(vms_on "$victim")" ] && break; done
for host in h1 h2 h3; do [ "$host" = "$victim" ] || api=$host; done
name=$(vms_on "$victim" | sed -n 1p)
epoch=$(vm "$name" .status.epoch)
placed_elsewhere() { [ "$(vm "$name" .status.epoch)" -gt "$epoch" ]; }
rack_cut "$victim"
wait_for 60 "$name to be placed elsewhere" placed_elsewhere
[ -z "$(guests_in "$victim")" ] || fail "its process still runs on $victim: the VM could run twice"
wait_for 60 "$name to run elsewhere" moved "$name" "$victim" "$epoch"
rack_mend "$victim"
wait_for 60 "$victim to be ready" host_is "$victim" ready
wait_for 120 "three ready VMs" ready_is 3

check "a stopped VM starts with its own disk, a killed berthd between them"
cat >"$RACK_RUN/pet.yaml" <<'YAML'
apiVersion: berth/v1
kind: Template
metadata: {name: pet, tenant: shop}
spec:
  image: tiny
  memory: {size: 128MiB}
  disks: [{name: data, size: 16MiB}]
  nics: [{name: eth0, network: front}]
---
apiVersion: berth/v1
kind: VM
metadata: {name: pet, tenant: shop}
spec: {template: {name: pet}}
YAML
berth_on "$api" apply "$RACK_RUN/pet.yaml" --wait
# script: keys go to a console from a terminal only
console="nsenter --net=/run/netns/$RACK-$api $bin/berth --state $RACK_RUN/$api console vm/pet -t shop"
guest_says() { # LINE WANT: typed on the guest's console, which then says WANT (not in LINE as it is)
    { sleep 1; printf '%s\n' "$1"; sleep 4; printf '\035'; } | timeout 20 script -qec "$console" /dev/null | grep "$2"
}
home=$(vm pet .status.host)
epoch=$(vm pet .status.epoch)
disk=$(echo "$RACK_RUN/$home/vms/$(vm pet .metadata.uid)"/disk-data.qcow2)
inode=$(stat -c %i "$disk")
pet_is() { [ "$(vm pet .status.phase)" = "$1" ]; }
berth_on "$api" stop vm/pet -t shop
wait_for 60 "the VM to be stopped" pet_is stopped
[ "$(vm pet .status.diskHost)" = "$home" ] || fail "nobody keeps the disk"
qemu-io -f qcow2 -c 'write -q -P 0x61 0 512' "$disk" # a mark: aaa...
daemon_dies "$home"
sleep 3 # longer than it takes to forget a VM
berth_on "$api" start vm/pet -t shop --wait
[ "$(vm pet .status.host)" = "$home" ] || fail "it started elsewhere"
[ "$(vm pet .status.epoch)" -gt "$epoch" ] || fail "it started in an epoch that had run"
[ "$(stat -c %i "$disk")" = "$inode" ] || fail "it has another disk"
wait_for 120 "the guest to read the mark on its disk" guest_says 'head -c 8 /dev/vda; echo' aaaaaaaa

check "drain moves VMs off, names those that stay with their disks, and undrain lets them back"
drained=$home
berth_on "$api" stop vm/pet -t shop
wait_for 60 "the VM to be stopped" pet_is stopped
berth_on "$api" drain "$drained" --reason test --wait | tee "$RACK_RUN/drain.txt"
grep -q "vm/pet is stopped and keeps its disks on $drained" "$RACK_RUN/drain.txt" || fail "nobody says what stays"
[ -z "$(vms_on "$drained")" ] || fail "$drained still has VMs"
[ -e "$disk" ] || fail "the drain has taken the disk"

check "a host whose VMs are ended keeps the disk of the stopped one, which starts with it"
for host in h1 h2 h3; do [ "$host" = "$drained" ] || api=$host; done
berth_on "$drained" down --vms
berth_on "$drained" up </dev/null
berth_on "$api" undrain "$drained"
berth_on "$api" start vm/pet -t shop --wait
[ "$(vm pet .status.host)" = "$drained" ] || fail "it started elsewhere"
[ "$(stat -c %i "$disk")" = "$inode" ] || fail "it has another disk"
berth_on "$api" rm vm/pet -t shop --yes --wait
disk_gone() { [ ! -e "$disk" ]; }
wait_for 30 "the disk to go with its VM" disk_gone
wait_for 120 "three ready VMs" ready_is 3

check "a leader that is stopped hands over, ends well and comes back"
wait_for 20 "a leader" one_leads
stopped=$(leader)
for host in h1 h2 h3; do [ "$host" = "$stopped" ] || api=$host; done
pids=$(guests_in "$stopped" | sort)
berth_on "$stopped" down
other_leads() { now=$(leader) && [ -n "$now" ] && [ "$now" != "$stopped" ]; }
wait_for 30 "another to lead" other_leads
berth_on "$stopped" up </dev/null
wait_for 60 "$stopped to be ready" host_is "$stopped" ready
[ "$(guests_in "$stopped" | sort)" = "$pids" ] || fail "its VMs were disturbed"

check "load makes the group grow, onto the host that was drained"
burnt=-100
burn() { # a busy machine gives the VMs little: they burn until it is enough
    local host address
    [ $((SECONDS - burnt)) -ge 40 ] || return 0
    burnt=$SECONDS
    while read -r host address; do # from its own host: one without VMs does not have the network
        on "$host" curl -sS -m 5 "http://$address/burn?seconds=45" </dev/null || true
    done < <(vms | jq -r '.items[] | select(.status.phase == "ready") | "\(.status.host) \(.status.nics[0].address)"')
}
# A busy machine gives all of them less than the group grows at: then it is to grow at half as much, and half again.
target=30 lowered=$SECONDS
lower() {
    [ $((SECONDS - lowered)) -ge 60 ] && [ $target -gt 1 ] || return 0
    lowered=$SECONDS target=$((target / 2))
    sed -n '/^kind: Group/,$p' "$top/examples/web.yaml" | sed "1i apiVersion: berth/v1
s/target: 30%/target: $target%/" >"$RACK_RUN/group.yaml"
    berth_on "$api" apply "$RACK_RUN/group.yaml" || true
}
grown() {
    burn
    [ -n "$(vms_on "$drained")" ] && berth_on "$api" show group/web -t shop -o json | jq -e '.status.desired > 3' && return 0
    lower
    return 1
}
wait_for 240 "a fourth VM, on $drained" grown
grep -q 'Its number of VMs was last set because: .*cpu' <<<"$(berth_on "$api" explain group/web -t shop)" || fail "nobody says why it grew"

check "what is deleted is gone, and so is all that it needed"
berth_on "$api" rm group/web -t shop --yes
gone() { [ "$(vms | jq '.items | length')" = 0 ]; }
wait_for 60 "the group's VMs to be gone" gone
no_files() { [ -z "$(find "$RACK_RUN/$1/vms" -type f ! -name record.json 2>/dev/null)" ]; }
clean_links() { ! grep -qE ' (bb|bx|bt)[0-9a-z]+[:@]' <<<"$(ip -n "$RACK-$1" -o link)"; }
for host in h1 h2 h3; do
    wait_for 60 "links of $host to be gone" clean_links "$host"
    [ -z "$(guests_in "$host")" ] || fail "a guest is left on $host"
    # a VM's record stays a while, so that its old epochs stay refused; nothing else of it does
    wait_for 20 "files of VMs on $host to be gone" no_files "$host"
done

check "no daemon has crashed"
crashes=$(rack_crashes)
[ -z "$crashes" ] || fail "$crashes"

check "teardown leaves nothing"
rack_down
[ -z "$(rack_namespaces)" ] || fail "namespaces are left"
[ ! -e "$RACK_RUN" ] || fail "$RACK_RUN is left"
left=$(comm -13 <(echo "$groups_before") <(rack_groups h1 h2 h3 | rack_groups_idle) | sed -n 1,3p)
[ -z "$left" ] || fail "control groups are left: $left"
echo "the rack kept its promises"
