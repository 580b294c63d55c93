# shellcheck shell=bash disable=SC2034 # what is set here is for the script that sources this
# Starts the tiny guest under QEMU's software emulation with user networking, for tests and
# benches; to be sourced. One guest at a time:
#
#   guest_start ARTIFACTS FOLDER MACHINE   runs it; GUEST_KERNEL, GUEST_INITRD, GUEST_CPU,
#                                          GUEST_MEMORY and GUEST_CMDLINE override the defaults
#   guest_await PATTERN SECONDS            reads the console until a line matches; in GUEST_LINE
#   guest_type TEXT                        types a line on the console
#   guest_get PATH                         the page at http://guest/PATH, on standard output
#   guest_qmp COMMAND                      sends a QMP command
#   guest_ended SECONDS                    waits until QEMU has ended by itself
#   guest_stop                             kills it, if it still runs
#
# Wants $guest_tsc_khz for machine microvm; guest_tsc_measure finds it. QEMU dies with the shell
# that started it, even when that is killed.

GUEST_CMDLINE_DEFAULT='console=ttyS0 reboot=t panic=-1 loglevel=3 tsc=reliable mitigations=off
noreplace-smp init_on_alloc=0 cryptomgr.notests nokaslr'
guest_pid=

# guest_machine_set MACHINE: the arguments that depend on the machine, in guest_machine, and the
# kind of virtio device it takes, in guest_bus.
guest_machine_set() {
    guest_clock=
    case $1 in
    microvm*)
        guest_machine=microvm,acpi=on,pit=off,pic=off,rtc=on,auto-kernel-cmdline=off${1#microvm}
        # Without a timer to measure its time stamp counter by, the kernel has to be told.
        guest_clock=" tsc_early_khz=${guest_tsc_khz:?call guest_tsc_measure first}"
        ;;
    *) guest_machine=$1 ;;
    esac
    case $1 in
    microvm) guest_bus=device guest_nic_rom= ;;
    *) guest_bus=pci guest_nic_rom=,romfile= ;; # no network boot ROM to run through
    esac
}

guest_start() {
    local try pipe cmdline=${GUEST_CMDLINE:-$GUEST_CMDLINE_DEFAULT}
    guest_folder=$2
    guest_machine_set "$3"
    for try in 1 2 3 4 5; do
        for pipe in console.in console.out qmp.in qmp.out; do
            rm -f "$guest_folder/$pipe"
            mkfifo -m 600 "$guest_folder/$pipe"
        done
        exec {guest_console}<>"$guest_folder/console.out" {guest_keys}<>"$guest_folder/console.in" \
            {guest_answers}<>"$guest_folder/qmp.out" {guest_commands}<>"$guest_folder/qmp.in"
        guest_port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        guest_started_us=${EPOCHREALTIME/./}
        setpriv --pdeathsig KILL qemu-system-x86_64 -name berth-guest \
            -machine "$guest_machine" -accel tcg,thread=multi \
            -cpu "${GUEST_CPU:-max,-erms,-la57}" -m "${GUEST_MEMORY:-128}M" \
            -nodefaults -no-user-config -display none -no-reboot \
            -chardev pipe,id=console,path="$guest_folder/console" -serial chardev:console \
            -chardev pipe,id=qmp,path="$guest_folder/qmp" -mon chardev=qmp,mode=control \
            -object rng-random,id=rng,filename=/dev/urandom -device "virtio-rng-$guest_bus,rng=rng" \
            -netdev "user,id=net0,hostname=web-1,hostfwd=tcp:127.0.0.1:$guest_port-:80" \
            -device "virtio-net-$guest_bus,netdev=net0$guest_nic_rom" \
            -kernel "${GUEST_KERNEL:-$1/vmlinux}" -initrd "${GUEST_INITRD:-$1/initrd.img}" \
            -append "${cmdline//$'\n'/ }$guest_clock" \
            </dev/null >"$guest_folder/qemu.log" 2>&1 &
        guest_pid=$!
        # The first thing QEMU says is its greeting on QMP: the port is its own then.
        if guest_answer '"QMP"' 20; then
            guest_qmp qmp_capabilities
            return 0
        fi
        guest_stop
        grep -q 'host forwarding rule' "$guest_folder/qemu.log" || break
    done
    echo "cannot start QEMU (try $try): $(tail -n 3 "$guest_folder/qemu.log")" >&2
    return 1
}

# guest_lines DESCRIPTOR LOG PATTERN SECONDS: reads lines until one matches the glob PATTERN.
guest_lines() {
    local deadline=$((SECONDS + $4)) line part=
    while [ $SECONDS -lt "$deadline" ]; do
        if ! IFS= read -r -t 1 -u "$1" line; then # half a line may have come: keep it
            part+=$line
            kill -0 "$guest_pid" 2>/dev/null || return 1
            continue
        fi
        GUEST_LINE=${part}${line%$'\r'}
        part=
        printf '%s\n' "$GUEST_LINE" >>"$guest_folder/$2"
        # shellcheck disable=SC2053 # a glob is meant
        [[ $GUEST_LINE != *$3* ]] || return 0
    done
    return 1
}

guest_await() { guest_lines "$guest_console" console.log "$1" "$2"; }
guest_answer() { guest_lines "$guest_answers" qmp.log "$1" "$2"; }
guest_type() { printf '%s\n' "$1" >&"$guest_keys"; }
guest_qmp() { printf '{"execute": "%s"}\n' "$1" >&"$guest_commands"; }

# What the page says; on a refusal too. Fails when there is no HTTP answer.
guest_get() { curl -sS -g -m 15 "http://127.0.0.1:$guest_port$1"; }

# User and system time that QEMU has used, in hundredths of a second; in guest_cpu_cs.
guest_cpu_read() {
    local stat fields
    stat=$(<"/proc/$guest_pid/stat")
    read -r -a fields <<<"${stat##*)}"
    guest_cpu_cs=$((fields[11] + fields[12]))
}

guest_ended() {
    local tries=$(($1 * 10))
    while kill -0 "$guest_pid" 2>/dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.1
    done
    wait "$guest_pid"
}

guest_stop() {
    [ -n "$guest_pid" ] || return 0
    kill -KILL "$guest_pid" 2>/dev/null || true # it may have ended by itself
    wait "$guest_pid" 2>/dev/null || true
    guest_pid=
    exec {guest_console}>&- {guest_keys}>&- {guest_answers}>&- {guest_commands}>&-
    return 0
}

# guest_tsc_measure ARTIFACTS FOLDER: asks a guest on machine q35, which has other timers to measure
# by, how fast the time stamp counter runs; in guest_tsc_khz. Leaves that guest running.
guest_tsc_measure() {
    local mhz
    guest_start "$1" "$2" q35 && guest_await 'berth-guest: ready ' 120 || return 1
    guest_type 'dmesg | sed -n "s/.*tsc: Detected/tsc:/p"'
    guest_await 'tsc: [0-9]*.[0-9]* MHz' 30 || return 1
    mhz=${GUEST_LINE#*tsc: }
    mhz=${mhz%% *}
    guest_tsc_khz=${mhz/./}
}
