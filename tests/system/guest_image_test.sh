#!/usr/bin/env bash
# Goal: the demo's guest image can be built on this machine and does what the demo needs of it: it boots, answers
# HTTP, burns CPU when told, fetches from another address, gives a shell on the console and obeys the power button.
# Method: QEMU in software emulation with user networking, once on q35 (PCI) and once on microvm (virtio-mmio, what
# the agent uses); every wait is on a fact with a bound; no check depends on how long something took.
set -eEuo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
artifacts=$top/build/guest

command -v qemu-system-x86_64 >/dev/null || { echo "qemu-system-x86_64 is not installed"; exit 77; }
command -v curl >/dev/null || { echo "curl is not installed"; exit 77; }
command -v apt-get >/dev/null || { echo "the image is made of Debian packages, and apt-get is not here"; exit 77; }

. "$top/deploy/guest/guest.sh"

# A run holds a lock on its folder: folders without one were left by runs that were killed. QEMU needs no such care,
# it dies with the test.
base=${TMPDIR:-/tmp}/berth-guest-test
for old in "$base".*; do
    [ ! -d "$old" ] || ! flock -n "$old" true || rm -rf "$old"
done
folder=$(mktemp -d "$base.XXXXXX")
exec {lock}<"$folder"
flock -n "$lock"

check_name=start
check() { check_name=$*; printf -- '-- %s\n' "$*"; }
fail() {
    trap - ERR
    printf 'FAILED: %s: %s\n' "$check_name" "$*"
    local log
    for log in "$folder"/{qemu,console,qmp}.log; do
        [ ! -f "$log" ] || { echo "--- ${log##*/}"; tail -n 20 "$log"; }
    done
    exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
trap 'c=$?; trap - ERR EXIT INT TERM; guest_stop; rm -rf "$folder"; exit $c' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# page_has PATH PATTERN: the answer of the guest matches a glob.
page_has() {
    local answer
    answer=$(guest_get "$1") || fail "no answer to GET $1"
    # shellcheck disable=SC2053 # a glob is meant
    [[ $answer == *$2* ]] || fail "GET $1 says: $answer; wanted: $2"
}

# status_is PATH CODE
status_is() {
    local code
    code=$(curl -sS -g -m 15 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$guest_port$1")
    [ "$code" = "$2" ] || fail "GET $1 has status $code, not $2"
}

# cpu_used_over SECONDS: hundredths of a second that QEMU used meanwhile; in $used_cs.
cpu_used_over() {
    guest_cpu_read
    local before=$guest_cpu_cs
    sleep "$1"
    guest_cpu_read
    used_cs=$((guest_cpu_cs - before))
}

guest_is_up() {
    guest_await 'berth-guest: ready ' 120 || fail "no ready line on the console"
    [[ $GUEST_LINE =~ ready\ name=web-1\ address=10\.0\.2\.15\ ms=[0-9]+$ ]] || fail "the ready line is: $GUEST_LINE"
    page_has /healthz ok
    page_has / 'berth-guest name=web-1 address=10.0.2.15 booted_epoch_ms=[1-9]'
}

# The button's driver comes a moment after the ready line, so the button is pressed until it works.
power_button_stops_it() {
    local tries=20
    while [ $tries -gt 0 ]; do
        guest_qmp system_powerdown
        if guest_ended 1; then
            guest_stop
            return 0
        fi
        tries=$((tries - 1))
    done
    fail "the guest still runs after the power button"
}

check "the image builds, and a second build changes nothing"
"$top/deploy/guest/build-guest" "$artifacts"
before=$(sha256sum "$artifacts"/{vmlinuz,vmlinux,initrd.img})
grep -q 'up to date' <<<"$("$top/deploy/guest/build-guest" "$artifacts")" || fail "the second build was not a no-op"
[ "$(sha256sum "$artifacts"/{vmlinuz,vmlinux,initrd.img})" = "$before" ] || fail "the second build changed the image"

check "it boots on q35 from the packed kernel and gives a shell on the console"
GUEST_KERNEL=$artifacts/vmlinuz guest_tsc_measure "$artifacts" "$folder" || fail "no guest, or no shell"
page_has /healthz ok
guest_type 'echo sum=$((40 + 2)) on $(hostname)'
guest_await 'sum=42 on web-1' 30 || fail "the shell on the console does not answer"

check "the power button ends it on q35"
power_button_stops_it

check "it boots on microvm and serves its pages"
guest_start "$artifacts" "$folder" microvm || fail "QEMU did not start"
guest_is_up
status_is /nothing 404
status_is '/burn?seconds=1x' 400
status_is '/burn?seconds=601;reboot' 400
status_is '/crash?how=burn' 400
status_is '/fetch?url=file:///etc/passwd' 400
status_is '/fetch?url=http://10.0.2.15/$(reboot)' 400
status_is '/fetch?url=http://10.0.2.15:81/' 502

check "a page is fetched through the guest"
page_has '/fetch?url=http://10.0.2.15/healthz' ok
page_has '/fetch?url=http%3A%2F%2F10.0.2.15%2F' 'name=web-1'

check "it burns CPU when told, still answers, and stops when told"
for try in {1..20}; do # until its boot is over
    cpu_used_over 2
    idle_cs=$used_cs
    [ "$idle_cs" -ge 100 ] || break
done
page_has '/burn?seconds=300' 'burning for 300 s'
page_has /healthz ok
page_has / 'burning=yes'
for try in {1..20}; do # a busy machine may give it little for a while
    cpu_used_over 2
    [ $used_cs -le $((idle_cs + 20)) ] || break
    [ "$try" -lt 20 ] || fail "QEMU used $used_cs cs in 2 s while burning, $idle_cs before"
done
page_has '/burn?seconds=0' 'burning for 0 s'
for try in {1..50}; do
    [[ $(guest_get /) != *burning=no* ]] || break
    [ "$try" -lt 50 ] || fail "it goes on burning"
    sleep 0.2
done

check "the power button ends it on microvm"
power_button_stops_it

echo "all checks passed"
