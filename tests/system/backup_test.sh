#!/usr/bin/env bash
# Goal: a rack survives the loss of all its voters through a backup, and of most of them through `berth recover`:
# what was saved (or what the survivor has) is there again, VMs run again under higher epochs and never twice, what is
# left of before is shut out until it joins again. A VM that waits for its host, and has moved since, is not started
# where it is not.
# Method: four hosts as network namespaces (deploy/lib/rack.sh), a real berthd and berth-fence in each, VMs of the fake
# engine, which write down when they begin to run. Every wait is on a fact with a bound.
set -euo pipefail
. "$(dirname "$0")/rack_frame.sh"
frame_rack berth-backup 10.96.0 berth-fence
export BERTH_FAKE_INTERVALS=$RACK_RUN/intervals
tell() {
    berth_on "$api" host ls | sed -n 1,20p
    berth_on "$api" ls -t shop | sed -n 1,20p
}

# refused CODE COMMAND...: it ends with that exit code
refused() {
    local wanted=$1 code=0
    shift
    "$@" >"$RACK_RUN/refused" 2>&1 || code=$?
    [ $code = "$wanted" ] || { cat "$RACK_RUN/refused"; fail "ended with $code, not $wanted: $*"; }
}
# Names, sizes, times and digests of what is in a folder.
files_of() { (cd "$1" && find . -printf '%P %s %T@ %i\n' | sort && find . -type f -exec sha256sum {} + | sort); }
flip() { # FILE AT: one bit of the byte there
    local byte
    byte=$(od -An -tu1 -j"$2" -N1 "$1" | tr -d ' ')
    printf "\\$(printf %03o $((byte ^ 4)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
ready_are() { [ "$(vms | jq '[.items[] | select(.status.phase == "ready")] | length')" = "$1" ]; }
epoch_of() { vms | jq --arg n "$1" '.items[] | select(.metadata.name == $n) | .status.epoch'; }
uid_of() { vms | jq --arg n "$1" '.items[] | select(.metadata.name == $n) | .metadata.uid'; }
# What has to be the same after a restore: all that a user wrote, and who may do what.
written() {
    local kind
    for kind in tenant template group network image; do
        berth_on "$api" ls "$kind" -o json | jq -S --arg k "$kind" '[$k, (.items | sort_by(.metadata.tenant, .metadata.name) |
            .[] | [.metadata.tenant, .metadata.name, .spec])]'
    done
    berth_on "$api" token ls -o json | jq -S '[.items[] | select(.spec.role != "join") | [.metadata.name, .spec]]'
    vms | jq -S '[.items[] | [.metadata.name, .metadata.uid]]'
}
alive() { grep -qE '\) [^ZX] ' "/proc/$1/stat" 2>/dev/null; } # a zombie runs nothing
watched() { on "$1" "$bin/berth-fence" --state "$RACK_RUN/$1" --show | sed -n 's/^vm \([0-9]*\) epoch \([0-9]*\) pid \([0-9]*\).*/\1 \2 \3/p'; }
# Of each VM only the newest run may be alive: the file first, then the processes, so that a run which begins in
# between cannot make it fail.
check_no_twice() {
    local uid epoch pid
    while read -r uid epoch pid; do
        ! alive "$pid" || fail "VM $uid runs twice: epoch $epoch as $pid, and a newer one"
    done < <(awk '$1 == "start" { if ($3 > e[$2]) e[$2] = $3; run[NR] = $2 " " $3 " " $4 }
        END { for (n in run) { split(run[n], r, " "); if (r[2] < e[r[1]]) print run[n] } }' "$BERTH_FAKE_INTERVALS")
}
# Until as many VMs are ready again, under epochs beyond what one cluster can count to.
start_again() {
    local deadline=$((SECONDS + 240))
    until ready_are "$1" && [ "$(vms | jq --argjson e "$2" '[.items[] | select(.status.epoch > $e)] | length')" = "$1" ]; do
        check_no_twice
        [ $SECONDS -lt $deadline ] || fail "the VMs do not start again"
        sleep 0.1
    done
    check_no_twice
}
lose_disk() { # HOST: nothing of it is left but what the kernel has of it, which teardown could not find
    on "$1" timeout 60 "$bin/berthd" --cleanup --state "$RACK_RUN/$1" >/dev/null 2>&1 || true
    rm -rf "${RACK_RUN:?}/$1"
}
# The VM that waits for its host.
db() { berth_on "$api" ls vm -t store -o json | jq -r ".items[0]$1"; }
db_is() { [ "$(db .status.phase)" = "$1" ]; }
db_runs_on() { db_is ready && [ "$(db .status.host)" = "$1" ]; }
db_process() { awk -v uid="$db_uid" '$1 == "start" && $2 == uid { pid = $4 } END { print pid }' "$BERTH_FAKE_INTERVALS"; }
db_is_left_alone() { db_is stopped && [[ "$(db .status.reason)" == *"where it runs is not known"* ]]; }
db_is_to_be_on() { # HOST, and not on the one before, from its next start on
    [ -z "${db_home:-}" ] || berth_on "$api" host label "$db_home" db-
    db_home=$1
    berth_on "$api" host label "$1" db=yes
}
db_moves() { # by its user, with new disks
    berth_on "$api" stop vm/db -t store
    wait_for 60 "the VM that waits to stop" db_is stopped
    berth_on "$api" start vm/db -t store --anywhere --yes
    wait_for 60 "the VM that waits to run on $db_home" db_runs_on "$db_home"
}
come_back() { # HOST: as one that has to join again
    rack_mend "$1"
    if [ -e "$RACK_RUN/$1/host.json" ]; then # else its disk is new
        berth_on "$1" down --forget --yes </dev/null
    fi
    berth_on "$1" join "$(berth_on "$api" token join)" --name "$1" </dev/null
}

check "three hosts, VMs, a token"
rack_up 4
: >"$BERTH_FAKE_INTERVALS"
echo kernel >"$RACK_RUN/kernel"
echo "correct horse battery staple" >"$RACK_RUN/passphrase"
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
metadata: {name: small, tenant: shop}
spec:
  image: nothing
  engine: fake
  memory: {size: 64MiB}
---
apiVersion: berth/v1
kind: Group
metadata: {name: web, tenant: shop}
spec: {template: {name: small}, replicas: 4}
YAML
cat >"$RACK_RUN/db.yaml" <<'YAML'
apiVersion: berth/v1
kind: Tenant
metadata: {name: store}
---
apiVersion: berth/v1
kind: Image
metadata: {name: nothing, tenant: store}
spec:
  artifacts:
    - {role: kernel, file: kernel}
---
apiVersion: berth/v1
kind: Template
metadata: {name: patient, tenant: store}
spec:
  image: nothing
  engine: fake
  memory: {size: 64MiB}
  lifecycle: {hostFailure: wait}
  placement: {require: [host.label.db == yes]}
---
apiVersion: berth/v1
kind: VM
metadata: {name: db, tenant: store}
spec: {template: {name: patient}}
YAML
keeping=(--backup-every 1s --backup-keep 2)
berth_on h1 up --name h1 "${keeping[@]}" </dev/null
for host in h2 h3; do
    berth_on "$host" join "$(berth_on h1 token join)" --name "$host" "${keeping[@]}" </dev/null
done
wait_for 60 "three voters" voters_are 3
berth_on h1 apply "$RACK_RUN/vms.yaml"
wait_for 60 "four ready VMs" ready_are 4
db_is_to_be_on h1
berth_on h1 apply "$RACK_RUN/db.yaml"
wait_for 60 "the VM that waits for its host to run there" db_runs_on h1
db_uid=$(db .metadata.uid)
# What a rack is until all hosts have known it for a minute.
level_is() { [ "$(berth_on "$api" version -o json | jq .level.level)" -ge "$1" ]; }
wait_for 90 "the level that leaves VMs that wait alone" level_is 3
token=$(berth_on h2 token create ci --role operator -t shop)

check "a backup through a host that need not lead, and what it says"
berth_on h2 backup save "$RACK_RUN/b" --passphrase-file "$RACK_RUN/passphrase"
[ "$(stat -c %a "$RACK_RUN/b")" = 600 ] || fail "others may read it"
berth_on h2 backup verify "$RACK_RUN/b" --passphrase-file "$RACK_RUN/passphrase"
written >"$RACK_RUN/before"
berth_on h1 ls tenant -o json | jq '.items[0] | {apiVersion, kind, metadata: {name: "late"}}' >"$RACK_RUN/late.yaml"
berth_on h1 apply "$RACK_RUN/late.yaml"

check "backups are made by themselves, and the newest kept"
# Each host has those it made while it led, and leadership may move on a busy machine.
by_itself() { find "$RACK_RUN"/h?/backups -name '*.backup' -printf '%f %p\n' 2>/dev/null | sort; }
some() { first=$(by_itself | sed -n 1p) && [ -n "$first" ]; }
later() { last=$(by_itself | tail -n 1) && [ "${last%%-*}" != "${first%%-*}" ]; }
wait_for 20 "a backup that nobody asked for" some
wait_for 20 "a later one" later
berth_on h3 backup verify "${last#* }" >/dev/null
keeps_two() { [ "$(find "$RACK_RUN/$1" -name '*.backup' | wc -l)" -le 2 ]; } # a new one is there before the oldest goes
for host in h1 h2 h3; do
    wait_for 10 "no more than two on $host" keeps_two "$host"
done

check "damage is told before anything is begun"
cp "$RACK_RUN/b" "$RACK_RUN/bad"
flip "$RACK_RUN/bad" 700
refused 1 berth_on h4 backup verify "$RACK_RUN/bad" --passphrase-file "$RACK_RUN/passphrase"
refused 1 berth_on h4 up --name h4 --restore "$RACK_RUN/bad" --passphrase-file "$RACK_RUN/passphrase"
refused 2 berth_on h4 up --name h4 --restore "$RACK_RUN/b"
refused 4 berth_on h1 up --restore "$RACK_RUN/b" --passphrase-file "$RACK_RUN/passphrase"
[ ! -e "$RACK_RUN/h4/raft" ] || fail "something was begun"

check "a VM that waits for its host moves after the backup"
db_is_to_be_on h3
db_moves
db_pid=$(db_process)

check "two of three are destroyed; one runs on and knows nothing of it"
mapfile -t straggling < <(watched h3)
[ ${#straggling[@]} -gt 0 ] || fail "the straggler has no VM"
epoch=$(vms | jq '[.items[].status.epoch] | max')
rack_kill h1
rack_kill h2
lose_disk h1
lose_disk h2

check "a new host founds a new cluster with the backup"
api=h4
berth_on h4 up --name h4 --restore "$RACK_RUN/b" --passphrase-file "$RACK_RUN/passphrase" </dev/null 2>"$RACK_RUN/restoring"
grep -qx 'restoring; first, leases of before are waited out' "$RACK_RUN/restoring" || fail "it does not say why it waits: $(cat "$RACK_RUN/restoring")"
! grep 'does not answer' "$RACK_RUN/restoring" || fail "it sounds as if something were wrong"
written >"$RACK_RUN/after"
diff "$RACK_RUN/before" "$RACK_RUN/after" || fail "it is not what was saved"
[ "$(curl -sS --unix-socket "$RACK_RUN/h4/berthd.sock" -H "Authorization: Bearer $token" http://h/v1/self | jq -r .subject)" != "" ] || fail "the token is not good any more"
refused 4 berth_on h4 up --restore "$RACK_RUN/b" --passphrase-file "$RACK_RUN/passphrase"

check "its VMs wait for their image's content, and say so"
lack_image() { [ "$(vms | jq '[.items[].status | select(.phase == "placed" and .missingImage == "nothing" and (.reason | contains("is on no host that is up: berth apply FILE")))] | length')" = "$1" ]; }
wait_for 60 "four VMs that lack their image" lack_image 4
grep -q "None can start: image nothing (kernel, sha256 .* is on no host" <<<"$(berth_on h4 explain group/web -t shop)" || fail "explain does not say why"

check "its VMs run again under higher epochs, and none runs twice"
berth_on h4 apply "$RACK_RUN/vms.yaml" # brings the image's content
start_again 4 $((epoch + 4000000000))
for run in "${straggling[@]}"; do
    read -r _ _ pid <<<"$run"
    ! alive "$pid" || fail "the straggler still runs a VM of before"
done

check "a VM that waits runs on where the backup does not know it, and is not started when a name is taken"
alive "$db_pid" || fail "it does not wait for its host, but has ended"
[ "$(db .status.host) $(db .status.phase)" = "h1 lost" ] || fail "it is not where the backup has it"
db_home=h1 # that the backup knows, and whose name is taken
db_is_to_be_on h4 # there it could start
come_back h1
wait_for 30 "h1 to be ready" host_is h1 ready
wait_for 30 "the VM that waits to be left alone" db_is_left_alone
refused 4 berth_on h4 start vm/db -t store
grep -q "berth start db --anywhere" "$RACK_RUN/refused" || fail "it is not said what starts it"
grep -q "may run on another host of before" <<<"$(berth_on h4 explain vm/db -t store)" || fail "explain does not say why"
alive "$db_pid" || fail "its run of before was ended"
check_no_twice

check "a host that is to forget its cluster says what ends with it"
mkdir "$RACK_RUN/h3/vms/999" && echo garbage >"$RACK_RUN/h3/vms/999/record.json"
refused 2 berth_on h3 down --forget </dev/null
grep -q "store/vm/db runs, epoch .*, and waits for this host" "$RACK_RUN/refused" || fail "it does not name the VM that waits"
grep -q "a VM whose record cannot be read: .*vms/999/" "$RACK_RUN/refused" || fail "it passes over a record that is damaged"
rm -r "$RACK_RUN/h3/vms/999"
alive "$db_pid" || fail "it was ended unasked"

check "the straggler is shut out until it joins again"
wait_for 20 "h3 to be lost, not taken for a member" host_is h3 lost
come_back h3
wait_for 30 "h3 to be ready" host_is h3 ready
wait_for 60 "three voters" voters_are 3

check "a VM that waits is started by its user's word"
db_is_left_alone || fail "something has started it"
berth_on "$api" start vm/db -t store --anywhere --yes
wait_for 60 "it to run" db_runs_on h4
check_no_twice

check "a host without a vote"
come_back h2
wait_for 30 "h2 to be ready" host_is h2 ready

check "most voters are gone for good"
db_is_to_be_on h2
berth_on "$api" apply "$RACK_RUN/late.yaml" # answered: on a majority; waited for on the survivor
survivor=h1
revision=$(berth_on "$api" ls tenant -o json | jq .revision)
has_revision() { [ "$(curl -sS --unix-socket "$RACK_RUN/$1/berthd.sock" http://h/healthz | jq .revision)" -ge "$revision" ]; }
wait_for 20 "the survivor to have it" has_revision $survivor
rack_cut $survivor
api=h3
wait_for 60 "the survivor to be lost" host_is $survivor lost
db_moves # from h4, which the survivor does not learn
db_pid=$(db_process)
touch "$RACK_RUN/h2/vms/$db_uid/mark" # its disks
epoch=$(vms | jq '[.items[].status.epoch] | max')
db_epoch=$(db .status.epoch)
rack_cut h3
rack_cut h4
rack_kill h3
rack_kill h4
rack_mend $survivor
refused 4 berth_on $survivor recover --yes
berth_on $survivor down

check "a look at a damaged log of a voter that was killed changes nothing, and it refuses to start as before"
# One bit of the first entries of its last file, which were stored, and answered.
last_file() { find "$RACK_RUN/h3/raft" -name 'open-*' -size +0 | while read -r file; do
    [ "$(od -An -tu8 -j8 -N8 "$file" | tr -d ' ')" = 0 ] || echo "${file##*/open-} $file"; done | sort -n | tail -n 1 | cut -d' ' -f2; }
file=$(last_file)
[ -n "$file" ] || fail "it has no open file with entries"
cp -a "$RACK_RUN/h3/raft" "$RACK_RUN/h3.whole"
flip "$file" 50
files_of "$RACK_RUN/h3/raft" >"$RACK_RUN/seen"
refused 1 berth_on h3 recover --show # by the seal, which tells of them after a second
grep -q "berthd: the log ends at .*entries were lost" "$RACK_RUN/refused" || fail "it does not tell of the damage"
refused 1 berth_on h3 recover --yes
files_of "$RACK_RUN/h3/raft" | diff "$RACK_RUN/seen" - || fail "a look has changed the log"
refused 1 berth_on h3 up
grep -q "${file##*/}: the entries at byte 8 are damaged" "$RACK_RUN/refused" || fail "it does not refuse to start on that log"

rm -r "$RACK_RUN/h3/raft" && mv "$RACK_RUN/h3.whole" "$RACK_RUN/h3/raft"

check "a look works on a disk that is read-only"
berth_on h3 recover --show >"$RACK_RUN/shown"
read_only() { mount --bind "$RACK_RUN/h3" "$RACK_RUN/h3" && mount -o remount,bind,ro "$RACK_RUN/h3"; }
on h3 unshare -m bash -c "$(declare -f read_only); RACK_RUN=$RACK_RUN; read_only && '$bin/berth' --state '$RACK_RUN/h3' recover --show" \
    | diff "$RACK_RUN/shown" -

check "the survivor recovers what its log holds"
files_of "$RACK_RUN/$survivor/raft" >"$RACK_RUN/seen"
refused 2 berth_on $survivor recover
berth_on $survivor recover --show
files_of "$RACK_RUN/$survivor/raft" | diff "$RACK_RUN/seen" - || fail "a look has changed the log"
berth_on $survivor recover --yes
files_of "$RACK_RUN/$survivor"/raft.before-* | diff "$RACK_RUN/seen" - || fail "the log of before is not kept as it was"
api=$survivor
berth_on $survivor up
grep -q tenant/late <<<"$(berth_on $survivor ls tenant -o name)" || fail "an acknowledged write is lost"
start_again 4 $((epoch + 4000000000))
vote_no_more() { [ "$(hosts | jq '[.items[] | select((.metadata.name | IN("h3", "h4")) and .status.voter == "voter")] | length')" = 0 ]; }
wait_for 20 "the lost ones to vote no more" vote_no_more

check "a VM that waits is found where it runs, which the survivor did not know"
wait_for 60 "it to run there" db_runs_on h2
[ "$(db .status.epoch)" -gt $((db_epoch + 4000000000)) ] || fail "its epoch is one of before"
[ -e "$RACK_RUN/h2/vms/$db_uid/mark" ] || fail "its disks are gone"
! alive "$db_pid" || fail "its run of before goes on as well"
check_no_twice

check "and grows to three voters again"
lose_disk h4 # its new one is empty
come_back h3
rack_mend h4
berth_on h4 join "$(berth_on "$api" token join)" --name h4 </dev/null
wait_for 60 "three voters" voters_are 3
wait_for 30 "four ready VMs" ready_are 4
check_no_twice

check "no daemon has crashed"
crashes=$(rack_crashes)
[ -z "$crashes" ] || fail "$crashes"

check "teardown leaves nothing"
rack_down
[ -z "$(rack_namespaces)" ] || fail "namespaces are left"
[ ! -e "$RACK_RUN" ] || fail "$RACK_RUN is left"
echo "what was saved came back, and nothing ran twice"
