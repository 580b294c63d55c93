#!/usr/bin/env bash
# Goal: a rack under load is upgraded to the next release host by host, and nobody notices: no request fails for who
# retries it with its key, no acknowledged write is lost, missing in a read or untold to a watch, no VM is disturbed. What only the next release knows is
# refused until the cluster's level is raised, which one host may hold back; from then on the release of before is
# refused, at its start, at its join and with a backup, and what it refused is as it was.
# A worker is upgraded as the voters are, and while the rack is mixed it gets a removed voter's part in the log, by way
# of standby; the removed host joins again with the next release.
# Method: three voters and a worker as network namespaces (deploy/lib/rack.sh), VMs of the fake engine, real berthd of
# this release and of the one after it (tests/CMakeLists.txt), which differ in what few files see; every wait is on a
# fact with a bound.
set -eEuo pipefail
. "$(dirname "$0")/rack_frame.sh"
frame_rack berth-upgrade 10.95.0 next/berthd
next=$bin/next
ln -f "$bin"/berth "$bin"/berth-fence "$bin"/berth-vmm "$bin"/berth-fetch "$bin"/berth-unpack "$next" # programs find each other by their folder
export BERTH_FAKE_INTERVALS=$RACK_RUN/intervals
clients=()
tell() {
    tail -n 20 "$RACK_RUN/clients.log"
    berth_on h1 version
    berth_on h1 host ls -o wide
}
let_go() { [ ${#clients[@]} = 0 ] || { kill "${clients[@]}" 2>/dev/null && wait "${clients[@]}" || true; }; }

file_says() { # TEXT FILE
    grep -qF "$1" "$2" || { cat "$2"; fail "it does not say: $1"; }
}
# Hosts of other racks on this machine have names like h1, and a host's name is that of its control groups.
name_of() { echo "upgraded-$1"; }
# old H ... and new H ...: the CLI on host H, which starts the daemon of its release
old() { berth_on "$@"; }
new() { RACK_BIN=$next berth_on "$@"; }
ask() { # HOST METHOD PATH [CURL ARGUMENTS...]: what it says, then the status in a line of its own
    local host=$1 method=$2 path=$3
    shift 3
    curl -sS -m 10 -w '\n%{http_code}\n' -X "$method" --unix-socket "$RACK_RUN/$host/berthd.sock" "http://h$path" "$@"
}
level_is() { ask "$1" GET /v1/level | jq -se --argjson l "$2" '.[0].level == $l' >/dev/null; }
# HOST HOST...: these and no others have a vote, says the first, and are ready
voters_are() {
    local asked=$1
    [ "$(old "$asked" ls host -o json | jq -r '.items[] | select(.status.voter == "voter" and (.status.phase // "ready") == "ready") | .metadata.name' | sort | xargs)" = \
        "$(for host in "$@"; do name_of "$host"; done | sort | xargs)" ]
}
revision_of() { ask "$1" GET /healthz | jq -se '.[0].revision'; } # fails for a worker, which has none
role_of() { ask "$1" GET /healthz | jq -sr '.[0].role'; }
# Before a restart: who runs there, and what the rack has applied, which the next one has to come up to.
remember() { # HOST
    local host
    cp "$RACK_RUN/$1/berthd.pid" "$RACK_RUN/before"
    role_of "$1" >"$RACK_RUN/role"
    for host in h1 h2 h3 h4; do revision_of $host || true; done | sort -n | tail -n 1 >"$RACK_RUN/revision"
    [ "$(cat "$RACK_RUN/revision")" -gt 0 ] || fail "no host says what it has applied"
}
has_applied() { # HOST
    local revision
    [ "$(cat "$RACK_RUN/role")" = agent ] ||
        { revision=$(revision_of "$1") && [ "$revision" -ge "$(cat "$RACK_RUN/revision")" ]; }
}
# Another daemon than before answers there and has applied what the rack had, if it is a voter; and it takes part up to
# that level.
is_back() { # HOST LEVEL
    ! cmp -s "$RACK_RUN/before" "$RACK_RUN/$1/berthd.pid" && has_applied "$1" &&
        old "$1" ls host -o json | jq -e --arg n "$(name_of "$1")" --arg l "1-$2" \
            '.items[] | select(.metadata.name == $n) | .status.live.levels == $l and (.status.phase // "ready") == "ready"' >/dev/null
}
# restart old|new HOST LEVEL [ARGUMENTS...]
restart() {
    local release=$1 host=$2 level=$3
    shift 3
    remember "$host"
    old "$host" down
    ! grep -A 30 'ERROR: AddressSanitizer' "$RACK_RUN/$host/berthd.log" || fail "$host did not end well"
    "$release" "$host" up "$@" </dev/null
    wait_for 30 "$host to be back" is_back "$host" "$level"
}
has_ended() { ! kill -0 "$(cut -d ' ' -f 1 "$RACK_RUN/$1/berthd.pid")"; } # HOST
refused() { # COMMAND...: it fails; what it says is in $RACK_RUN/refused
    ! "$@" </dev/null >"$RACK_RUN/refused" 2>&1 || fail "not refused: $*"
}
content() { find "$RACK_RUN/$1/raft" "$RACK_RUN/$1/vms" -type f -exec sha256sum {} + | sort; }
VMS=3
# What a worker has of the log: nothing.
has_no_log() { [ ! -e "$RACK_RUN/$1/raft" ] && [ "$(role_of "$1")" = agent ]; }
ready_are() { [ "$(old h1 ls vm -t shop -o json | jq '[.items[] | select(.status.phase == "ready")] | length')" = "$1" ]; }

# Clients: each does one thing after the other, at voters and the worker in turn, until it is told to end. What is not
# answered in 30 s, or is answered with an error that is not "try again", has failed.
WRITERS=3
READERS=2
begin_client() { # COMMAND...
    "$@" &
    clients+=($!)
}
# until_answered WHAT CURL ARGUMENTS... PATH: sets code, host and tries; false when it has failed, which is noted.
until_answered() {
    local what=$1 path=${*: -1} hosts=(h1 h3 h4) give_up=$((SECONDS + 30))
    set -- "${@:2:$#-2}"
    tries=0
    while :; do
        host=${hosts[$((at % 3))]} tries=$((tries + 1))
        code=$(curl -sS -o "$RACK_RUN/said.$me" -w '%{http_code}' --unix-socket "$RACK_RUN/$host/berthd.sock" \
            -H "Authorization: Bearer $token" "$@" "http://h$path" 2>>"$RACK_RUN/clients.log") || true
        case $code in
        200 | 201) return 0 ;;
        000 | 502 | 503 | 504) [ $SECONDS -lt $give_up ] || { echo "$what: $code for 30 s" >>"$RACK_RUN/failed"; return 1; } ;;
        *) { echo "$what: $code"; cat "$RACK_RUN/said.$me"; } >>"$RACK_RUN/failed"; return 1 ;;
        esac
        at=$((at + 1))
        sleep 0.1
    done
}
# Each write has a key, by which a second try is not a second write (which would be 412).
write_on() { # NUMBER
    local me=w$1 n=0 at=$1 tries code host number cidr
    trap 'ended=yes' TERM
    ended=no
    while [ $ended = no ]; do
        n=$((n + 1)) number=$((n * WRITERS + $1))
        cidr=10.$((128 + number / 4096)).$((number / 16 % 256)).$((number % 16 * 16))/28
        ! until_answered "write of $me-$n" -m 5 -X PUT -H "Idempotency-Key: $me-$n" -H 'If-None-Match: *' -H 'Content-Type: application/json' \
            -d '{"apiVersion":"berth/v1","kind":"Network","metadata":{"name":"'$me-$n'","tenant":"load"},"spec":{"ipv4":{"cidr":"'$cidr'"}}}' \
            "/v1/tenants/load/networks/$me-$n" || echo "$me-$n $tries $host" >>"$RACK_RUN/written"
        [ $((n % 25)) != 0 ] || at=$((at + 1))
        sleep 0.05
    done
}
# What was acknowledged is there, whoever is asked.
read_on() { # NUMBER
    local me=r$1 n=0 at=$1 tries code host name
    trap 'ended=yes' TERM
    ended=no
    while [ $ended = no ]; do
        read -r name _ < <(tail -n 1 "$RACK_RUN/written") || true
        n=$((n + 1)) at=$((at + 1))
        ! until_answered "read of $name" -m 5 "/v1/tenants/load/networks/$name" || echo "$name $tries $host" >>"$RACK_RUN/read"
        sleep 0.05
    done
}
# A watch that goes on at another host every few seconds, and where one is cut off.
watch_on() {
    local me=watch at=0 tries code host since=0
    trap 'ended=yes' TERM
    ended=no
    while [ $ended = no ]; do
        until_answered "watch since $since" -N -m 5 "/v1/watch?kinds=network&tenant=load&since=$since" || break
        cat "$RACK_RUN/said.$me" >>"$RACK_RUN/watched"
        since=$(sed -n 's/^id: *//p' "$RACK_RUN/watched" | tail -n 1)
        at=$((at + 1))
    done
}
told() { sed -n '/^event: *put/,/^$/s/^data: .*"name":"\(w[0-9]*-[0-9]*\)".*/\1/p' "$RACK_RUN/watched" | sort -u; }
untold() { comm -23 <(cut -d ' ' -f 1 "$RACK_RUN/written" | sort) <(told); }
all_told() { [ -z "$(untold)" ]; }

check "three voters and a worker of this release; the level is raised by itself"
rack_up 5
: >"$BERTH_FAKE_INTERVALS"
echo kernel >"$RACK_RUN/kernel"
cat >"$RACK_RUN/vms.yaml" <<'YAML'
apiVersion: berth/v1
kind: Tenant
metadata: {name: load}
---
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
metadata: {name: small, tenant: shop}
spec: {image: nothing, engine: fake, memory: {size: 64MiB}, placement: {require: [host.label.work == yes], spread: {by: host}}}
---
apiVersion: berth/v1
kind: Group
metadata: {name: web, tenant: shop}
spec: {template: {name: small}, replicas: 3}
YAML
wait=(--level-wait 1s --backup-every 0s)
old h1 up --name "$(name_of h1)" --label work=yes "${wait[@]}" </dev/null
for host in h2 h3; do
    old $host join "$(old h1 token join)" --name "$(name_of $host)" --label work=$([ $host = h2 ] && echo no || echo yes) "${wait[@]}" </dev/null
done
wait_for 60 "three voters" voters_are h1 h2 h3
old h4 join "$(old h1 token join)" --name "$(name_of h4)" --label work=yes "${wait[@]}" </dev/null
has_no_log h4 || fail "h4 has a part in the log"
wait_for 30 "level 4" level_is h1 4
old h1 apply "$RACK_RUN/vms.yaml"
wait_for 60 "$VMS ready VMs" ready_are $VMS
began=$(sort "$BERTH_FAKE_INTERVALS")
[ "$(grep -c '^start ' <<<"$began")" = $VMS ] || fail "$VMS VMs are ready, and others have noted that they began"

check "under load, host by host, the next release; one of them holds the level back"
token=$(old h1 token create writer --role admin -o json | jq -r .token) # root of a worker alone may not
for i in $(seq $WRITERS); do begin_client write_on "$i"; done
has_written() { [ "$(wc -l <"$RACK_RUN/written")" -ge "$1" ]; }
wait_for 20 "a write" has_written 1
for i in $(seq $READERS); do begin_client read_on "$i"; done
begin_client watch_on
restart new h3 4 --level-max 4 "${wait[@]}"
restart new h4 5 "${wait[@]}"
has_no_log h4 || fail "h4 has a part in the log"

check "a voter of this release is removed: the worker of the next gets its vote, and it joins again with the next release"
old h1 drain "$(name_of h2)" --wait
is_removed() { old h1 rm "host/$(name_of h2)" --yes; } # refused until another one votes in its place
wait_for 60 "h2 to be removed, once h4 votes in its place" is_removed
wait_for 60 "h4 to have a vote" voters_are h1 h3 h4
cat "$RACK_RUN"/h?/berthd.log >"$RACK_RUN/logs"
file_says "host becomes standby of the log" "$RACK_RUN/logs"
old h2 down --forget --yes
new h2 join "$(old h1 token join)" --name "$(name_of h2)" --label work=no "${wait[@]}" </dev/null
has_no_log h2 || fail "h2 has a part in the log"
wait_for 60 "h1, h3 and h4, and no other, to vote" voters_are h1 h3 h4

check "the last one of this release is upgraded"
restart new h1 5 "${wait[@]}" # the leader, unless a restart has moved it

check "what only the next release knows is refused before its level"
tenant='{"apiVersion":"berth/v1","kind":"Tenant","metadata":{"name":"shop"},"spec":{"quota":{"images":7}}}'
put_tenant() { ask h1 PUT /v1/tenants/shop -H 'Content-Type: application/json' -d "$tenant"; }
# Who leads only now has to hear of every host first.
waits_for_h3() { put_tenant >"$RACK_RUN/answer" && grep -qF "images needs level 5, the cluster is at 4: $(name_of h3) takes part up to level 4" "$RACK_RUN/answer"; }
wait_for 20 "the refusal to say what it waits for" waits_for_h3
file_says BERTH_ELEVEL "$RACK_RUN/answer"
says_waits() { old h1 version >"$RACK_RUN/answer" && grep -qF "level   4; 5 waits: $(name_of h3) takes part up to level 4" "$RACK_RUN/answer"; }
wait_for 20 "the version to say what the level waits for" says_waits

check "before the raise an upgrade can be taken back"
restart old h3 4 "${wait[@]}"

check "the last host comes over, and the level is raised"
restart new h3 5 "${wait[@]}"
wait_for 30 "level 5" level_is h1 5
put_tenant >"$RACK_RUN/answer"
file_says '"images":7' "$RACK_RUN/answer"

check "no request failed, no write is lost, no VM was disturbed"
at_end=$(($(wc -l <"$RACK_RUN/written") + 1))
wait_for 20 "writes at the new level" has_written $at_end
kill "${clients[@]:0:WRITERS + READERS}"
wait "${clients[@]:0:WRITERS + READERS}" || true
wait_for 30 "the watch to tell of every write" all_told
let_go
clients=()
[ ! -s "$RACK_RUN/failed" ] || { cat "$RACK_RUN/failed"; fail "requests failed"; }
cut -d ' ' -f 1 "$RACK_RUN/written" | sort >"$RACK_RUN/wanted"
old h4 ls network -t load -o name | sed 's|.*/||' | sort >"$RACK_RUN/there"
comm -23 "$RACK_RUN/wanted" "$RACK_RUN/there" >"$RACK_RUN/lost"
[ ! -s "$RACK_RUN/lost" ] || { head "$RACK_RUN/lost"; fail "acknowledged writes are lost"; }
[ "$(sort "$BERTH_FAKE_INTERVALS")" = "$began" ] || fail "a VM began or ended"
wait_for 10 "$VMS ready VMs" ready_are $VMS
more_than_one() { awk '$2 > 1' "$1" | wc -l; }
echo "$(wc -l <"$RACK_RUN/written") writes, $(more_than_one "$RACK_RUN/written") of them with more than one try;" \
    "$(wc -l <"$RACK_RUN/read") reads, $(more_than_one "$RACK_RUN/read");" \
    "$(grep -c '^event: *put' "$RACK_RUN/watched") changes told to a watch, $(grep -c '^event: *reset' "$RACK_RUN/watched" || true) resets"

check "the release of before is refused at its start, and touches nothing"
remember h4
old h4 down
content h4 >"$RACK_RUN/content"
refused old h4 up "${wait[@]}"
file_says 'start failed code=BERTH_ELEVEL why="the cluster is at level 5, this berthd takes part up to level 4' "$RACK_RUN/refused"
diff "$RACK_RUN/content" <(content h4) || fail "its data was touched"

check "nor does it go on where only the log tells it"
rm "$RACK_RUN/h4/level"
: >"$RACK_RUN/h4/berthd.log" # the check before has the same words
refused old h4 up "${wait[@]}" --timeout 60s
wait_for 20 "it to say why" grep -q "the cluster is at level 5, this berthd takes part up to level 4" "$RACK_RUN/h4/berthd.log"
wait_for 20 "it to end" has_ended h4
diff "$RACK_RUN/content" <(content h4) || fail "its data was touched"
new h4 up "${wait[@]}" </dev/null
wait_for 30 "h4 to be back" is_back h4 5
[ "$(old h4 ls network -t load -o name | wc -l)" -ge "$(wc -l <"$RACK_RUN/wanted")" ] || fail "writes are lost"

check "nor is it let in, nor a backup of the new level read by it"
token=$(old h1 token join)
refused old h5 join "$token" --name "$(name_of h5)" "${wait[@]}" --timeout 60s
file_says "the cluster is at level 5, this berthd takes part up to level 4" "$RACK_RUN/refused"
new h5 join "$token" --name "$(name_of h5)" "${wait[@]}" </dev/null
new h1 backup save "$RACK_RUN/backup" >/dev/null
refused old h1 backup verify "$RACK_RUN/backup"
file_says "the backup is of level 5" "$RACK_RUN/refused"

check "teardown leaves nothing"
rack_down
[ -z "$(rack_namespaces)" ] || fail "namespaces are left"
[ ! -e "$RACK_RUN" ] || fail "$RACK_RUN is left"
echo "upgraded under load, and nothing of it was noticed"
