#!/usr/bin/env bash
# Goal: what needs a real KVM or cgroup v2 meets one on every machine. Method: the unit tests that skip without it
# run inside an emulated machine with SVM (deploy/lib/kvm_machine.sh, tier T2); there a skip is a failure.
set -eEuo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BERTH_BIN:-$top/build/asan}
artifacts=$top/build/guest

command -v qemu-system-x86_64 >/dev/null || { echo "qemu-system-x86_64 is not installed"; exit 77; }
command -v apt-get >/dev/null || { echo "the machine is made of Debian packages, and apt-get is not here"; exit 77; }
"$top/deploy/guest/build-guest" "$artifacts"

. "$top/deploy/lib/kvm_machine.sh"

folder=$(mktemp -d "${TMPDIR:-/tmp}/berth-kvm-machine.XXXXXX")
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

kvm_machine_new "$artifacts" "$folder"
tests=(vmm_kvm_probe_test vmm_kvm_calls_test vmm_vcpu_state_test vmm_machine_test vmm_machine_cpus_test
    vmm_machine_plug_test vmm_vmm_plug_test
    vmm_machine_state_test vmm_ram_loader_test vmm_ram_pool_test vmm_vmm_control_test
    vmm_vmm_control_stop_test vmm_vhost_pair_test
    vmm_kvm_stats_test vmm_vmm_cpu_stats_test
    vmm_micro_guest_test
    agent_resource_groups_test agent_engine_kvm_test agent_engine_kvm_full_test
    agent_engine_kvm_stats_test)
kvm_machine_put "$bin/berth-vmm" "$bin/tests/micro_guest"
for test in "${tests[@]}"; do
    kvm_machine_put "$bin/tests/$test"
done

echo "-- the machine hands back what its script says and how it ends"
said=$(echo 'echo "hello $((6 * 7))"; exit 5' | kvm_machine_run 240) && code=0 || code=$?
[ "$code" = 5 ] || { echo "FAILED: exit code $code, not 5"; exit 1; }
[[ $said == *"hello 42"* ]] || { echo "FAILED: it said: $said"; exit 1; }

echo "-- a machine whose pulse stops is ended, says what it was at, and lives once more"
code=0
KVM_MACHINE_STILL=5 KVM_MACHINE_LIVES=2 kvm_machine_run 240 >"$folder/said" 2>&1 <<'EOS' || code=$?
echo "a life"
sleep 3
kill -STOP "$(cat /run/pulse.pid)"
while :; do sleep 60; done
EOS
[ "$code" = 125 ] || { cat "$folder/said"; echo "FAILED: exit code $code, not 125"; exit 1; }
[ "$(grep -c '^a life' "$folder/said")" = 2 ] || { cat "$folder/said"; echo "FAILED: not two lives"; exit 1; }
grep -q 'RIP=' "$folder/said" || { cat "$folder/said"; echo "FAILED: no word of its CPU"; exit 1; }

echo "-- tier T2: ${#tests[@]} test programs on a real kvm_amd and cgroup v2"
KVM_MACHINE_MODULES="$KVM_MACHINE_MODULES_DEFAULT vhost_net"
kvm_machine_run 1500 <<EOS
failed=0
[ -c /dev/kvm ] || { echo "FAILED: no /dev/kvm"; exit 1; }
echo 16 >/proc/sys/vm/nr_hugepages
for test in ${tests[*]}; do
    ASAN_OPTIONS=detect_leaks=0 CK_DEFAULT_TIMEOUT=60 CK_TIMEOUT_MULTIPLIER=4 \$test >/tmp/log 2>&1
    code=\$?
    echo "\$test: exit code \$code"
    [ \$code = 0 ] || { cat /tmp/log; failed=1; }
done
exit \$failed
EOS
