#!/usr/bin/env bash
# Goal: a host that the cluster does not have, or has no longer, is told so at once and in words, and what is there
# afterwards is what those words say: after a join that was refused, nothing.
# Method: network namespaces (deploy/lib/rack.sh) with real berthd; every wait is on a fact with a bound.
set -eEuo pipefail
. "$(dirname "$0")/rack_frame.sh"
frame_rack berth-outsider 10.91.0
tell() { berth_on h1 host ls -o wide; }
nothing_left() { # HOST FOLDER
    [ -z "$(ip netns pids "$RACK-$1")" ] || fail "processes run on $1: $(ip netns pids "$RACK-$1" | xargs ps -o args= -p)"
    [ ! -e "$2" ] || fail "left in $2: $(find "$2" | head)"
}
join_token() { berth_on h1 token join "$@"; }
tokens() { berth_on h1 token ls -o json | jq '[.items[] | select(.spec.role == "join")] | length'; }

check "a cluster of one"
rack_up 3
run 0 h1 up --name h1

check "a token that was used lets nobody in, and no other is good"
used=$(join_token)
run 0 h2 join "$used" --name h2
run 6 h3 join "$used" --name h3 --timeout 20m
says "the cluster does not let this host in: the host of the join token, 10.91.0.11:7441, lets nobody in: the token was used already, has expired, or was removed, or that host has not caught up yet (try again in a minute)"
says "hint: berth token join on a member makes another token"
nothing_left h3 "$RACK_RUN/h3"

check "the same where another token is good"
good=$(join_token)
run 6 h3 join "$used" --name h3 --timeout 20m
says "the cluster does not let this host in: the join token is not known, or was used up"
nothing_left h3 "$RACK_RUN/h3"

check "a token that has expired, while another is good"
late=$(join_token --ttl 1s)
expired() { berth_on h1 token ls -o json | jq -e '[.items[] | select(.spec.expires != null and (.spec.expires | sub("\\..*"; "Z") | fromdateiso8601) + 1 < now)] | length > 0'; }
wait_for 20 "the token to expire" expired
run 6 h3 join "$late" --name h3 --timeout 20m
says "has expired: make another"
nothing_left h3 "$RACK_RUN/h3"

check "a token that was damaged"
letter=${good:40:1}
if [ "$letter" = A ]; then other=B; else other=A; fi
run 6 h3 join "${good:0:40}$other${good:41}" --name h3 --timeout 20m # in the host's key
says "who answers at 10.91.0.11:7441 is not the host of the join token: the token is damaged, or that host was set up anew"
nothing_left h3 "$RACK_RUN/h3"
run 2 h3 join "${good:0:60}" --name h3 --timeout 20m
says "the join token is cut or mistyped"
nothing_left h3 "$RACK_RUN/h3"

check "another reason than the token"
run 6 h3 join "$good" --name h2 --timeout 20m # the token is not used up by this
says "h2"
! grep -q 'hint: berth token join' <<<"$said" || fail "a token does not help here: $said"
nothing_left h3 "$RACK_RUN/h3"

check "what was in the folder stays, and only that; then the good token lets it in"
mkdir -p "$RACK_RUN/h3/left-before"
echo kept >"$RACK_RUN/h3/left-before/note"
run 6 h3 join "$used" --name h3 --timeout 20m
[ "$(cd "$RACK_RUN/h3" && find . | sort | xargs)" = ". ./left-before ./left-before/note" ] || fail "there is: $(find "$RACK_RUN/h3")"
run 0 h3 join "$good" --name h3

check "nobody at the token's address: it gives up when it was told to, and ends its berthd"
good=$(join_token)
rack_plug h4 14
rack_cut h1
run 7 h4 join "$good" --name h4 --timeout 3s
says "after 3.0 s this host was not let in: 10.91.0.11, which the join token names, has not answered"
says "if it was let in at that very moment, berth ls host shows it, and berth rm host/NAME removes it"
nothing_left h4 "$RACK_RUN/h4"
rack_mend h1
run 0 h4 join "$good" --name h4

check "a host that was removed says so, in its log once and to whoever asks it; its VMs are as documented"
voters_are() { [ "$(berth_on h1 host ls -o json | jq '[.items[] | select(.status.voter == "voter")] | length')" = "$1" ]; }
wait_for 60 "three voters" voters_are 3
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
kind: Template
metadata: {name: mobile, tenant: shop}
spec: {image: nothing, engine: fake, memory: {size: 64MiB}, placement: {require: [host.label.site == here]}}
---
apiVersion: berth/v1
kind: VM
metadata: {name: stays, tenant: shop}
spec: {template: {name: patient}}
---
apiVersion: berth/v1
kind: VM
metadata: {name: moves, tenant: shop}
spec: {template: {name: mobile}}
Y
run 0 h1 host label h4 site=here
run 0 h1 apply "$RACK_RUN/app.yaml" --wait
fakes() { ip netns pids "$RACK-h4" | while read -r p; do grep -qa '^berth-fake-vm' "/proc/$p/cmdline" 2>/dev/null && echo "$p"; done | wc -l; }
[ "$(fakes)" = 2 ] || fail "$(fakes) VMs run on h4, not 2"
rack_cut h4
is_lost() { berth_on h1 show host/h4 -o json | jq -e '.status.phase == "lost"' >/dev/null; }
wait_for 60 "h4 to be lost" is_lost
run 0 h1 rm host/h4 --yes
rack_mend h4
turned_away() { grep -q 'the cluster turns this host away' "$RACK_RUN/h4/berthd.log"; }
wait_for 60 "h4 to say that it is turned away" turned_away
run 6 h4 ls
says "turns this host's key away, and no other host of the cluster is connected"
says "berth down --forget here, which ends its VMs and their disks"
run 6 h4 host ls
run 6 h4 explain vm/stays -t shop
[ "$(fakes)" = 1 ] || fail "$(fakes) VMs run on h4: of the two the one that waits for its host runs on, and the other has ended"
[ "$(grep -c 'the cluster turns this host away' "$RACK_RUN/h4/berthd.log")" = 1 ] || fail "said more than once"
grep -q 'host away.* todo="if `berth ls host` on a member does not list this host, it was removed: `berth down --forget` here' "$RACK_RUN/h4/berthd.log" || fail "it does not say what to do"
run 0 h4 down --forget --yes
[ "$(fakes)" = 0 ] || fail "$(fakes) VMs run on h4"
run 0 h4 join "$(join_token)" --name h4

check "no daemon has crashed"
crashes=$(rack_crashes)
[ -z "$crashes" ] || fail "$crashes"

rack_down
[ -z "$(rack_namespaces)" ] || fail "namespaces are left"
[ ! -e "$RACK_RUN" ] || fail "$RACK_RUN is left"
echo "who is outside knows it"
