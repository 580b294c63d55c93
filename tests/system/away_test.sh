#!/usr/bin/env bash
# Goal: a host that was away while all whom it knew to vote went for good says so, and comes back with its VM and disk
# by a token of any member.
# Method: network namespaces (deploy/lib/rack.sh) with real berthd; every wait is on a fact with a bound.
set -eEuo pipefail
. "$(dirname "$0")/rack_frame.sh"
frame_rack berth-away 10.97.0
tell() { berth_on h3 host ls -o wide; }

check "h1 alone votes, a VM that waits for its host runs on h2, and h2's berthd ends"
rack_up 4
run 0 h1 up --name h1
run 0 h2 join "$(berth_on h1 token join)" --name h2 --label site=here
echo kernel >"$RACK_RUN/kernel"
cat >"$RACK_RUN/app.yaml" <<'Y'
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
metadata: {name: patient, tenant: shop}
spec: {image: nothing, engine: fake, memory: {size: 64MiB}, placement: {require: [host.label.site == here]}, lifecycle: {hostFailure: wait}}
---
apiVersion: berth/v1
kind: VM
metadata: {name: stays, tenant: shop}
spec: {template: {name: patient}}
Y
run 0 h1 apply "$RACK_RUN/app.yaml" --wait
vm_pid() { ip netns pids "$RACK-h2" | while read -r p; do grep -qa '^berth-fake-vm' "/proc/$p/cmdline" 2>/dev/null && echo "$p"; done; }
pid=$(vm_pid)
[ -n "$pid" ] || fail "no VM runs on h2"
run 0 h2 down

check "meanwhile h3 and h4 join and vote, and h1 is gone for good"
for host in h3 h4; do
    run 0 $host join "$(berth_on h1 token join)" --name $host
done
three_vote() { berth_on h3 host ls -o json | jq -e '[.items[] | select(.status.voter == "voter")] | length == 3' >/dev/null; }
wait_for 60 "three voters" three_vote
rack_cut h1
h1_is_lost() { berth_on h3 show host/h1 -o json | jq -e '.status.phase == "lost"' >/dev/null; }
wait_for 60 "h1 to be lost" h1_is_lost

check "h2 knows nobody who leads, and says what helps"
run 7 h2 up --timeout 15s
says "it knows no leader"
says "those whom this host knows to vote may all be"
run 4 h2 join "$(berth_on h3 token join)"
says "its berthd runs"
run 0 h2 down

check "a token of a member that is left brings it back, with its VM, which has run all the time"
token=$(berth_on h3 token join)
run 0 h2 join "$token"
says "host/h2 is up again"
runs_again() { berth_on h3 show vm/stays -t shop -o json | jq -e '.status.phase == "ready" and .status.reason == null' >/dev/null; }
wait_for 60 "the VM to be seen on h2" runs_again
[ "$(vm_pid)" = "$pid" ] || fail "the VM is another process: $(vm_pid), it was $pid"
[ "$(berth_on h3 host ls -o json | jq '.items | length')" = 4 ] || fail "h2 has come as a new host"
run 0 h2 down
run 0 h2 up # by what it knows now
rack_kill h1
rm -rf "${RACK_RUN:?}/h1"
rack_mend h1
run 0 h1 join "$token" --name h5 # which helped h2 and was not used up

check "no daemon has crashed"
crashes=$(rack_crashes)
[ -z "$crashes" ] || fail "$crashes"

rack_down
[ -z "$(rack_namespaces)" ] || fail "namespaces are left"
[ ! -e "$RACK_RUN" ] || fail "$RACK_RUN is left"
echo "who was away is back"
