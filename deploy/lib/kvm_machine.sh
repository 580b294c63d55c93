# shellcheck shell=bash
# A machine with real KVM, cgroup v2 and root for tests and benches, on any machine: Debian's cloud kernel with
# kvm_amd under QEMU, which emulates a CPU with SVM and nested paging (tier T2). To be sourced:
#
#   kvm_machine_new ARTIFACTS FOLDER   what deploy/guest/build-guest made; FOLDER is ours, removed by its owner
#   kvm_machine_put PROGRAM...         puts programs into /bin, with the shared libraries they need
#   kvm_machine_file FROM TO           puts a file or folder at an absolute path
#   kvm_machine_run SECONDS            boots, runs the shell script on standard input there, prints what it says
#                                      and returns its exit code; 124 after SECONDS, 125 if the machine died
#
# Settings: KVM_MACHINE_MEMORY (MiB), KVM_MACHINE_CPUS, KVM_MACHINE_MODULES (loaded before the script), and
# KVM_MACHINE_QEMU, an array of further arguments for QEMU. The console is in FOLDER/console.log. The machine
# lives in RAM alone and dies with the shell that started it. Its pulse stopping is the emulator's failure, not that of
# what runs in it (which is a process, and may hang as it likes): QEMU 7.2 now and then forgets that an interrupt waits
# in the APIC of a CPU that halts or runs a nested guest, and looks again only at the next one, of which there are none
# without its timer. So a machine that stands still is nudged each second by a byte on a port. If that does not help
# either, it says what its CPU was at, and the script runs anew in another machine, KVM_MACHINE_LIVES (3) times in all;
# the seconds hold for each. Its kernel does not check its timers: on a busy machine an emulated one comes too late for
# that. It has one CPU unless told otherwise: with more, QEMU 7.2 now and then keeps running a breakpoint which the
# kernel has already taken away again (a static key that KVM switches), for ever; and with a thread for all CPUs it lets
# nested guests sleep for ever.

KVM_MACHINE_MODULES_DEFAULT='kvm_amd tun virtio_rng'

kvm_machine_new() {
    kvm_machine_artifacts=$1
    kvm_machine_folder=$2
    kvm_machine_tree=$2/tree
    mkdir -p "$kvm_machine_tree/machine" "$kvm_machine_tree/bin"
}

kvm_machine_file() {
    mkdir -p "$kvm_machine_tree$(dirname "$2")"
    cp -aL "$1" "$kvm_machine_tree$2"
}

# The libraries of a program, one path a line; none for a static one.
kvm_machine_libraries() {
    ldd "$1" 2>/dev/null | sed -nE 's/^.*=> (\/[^ ]+) .*$/\1/p; s/^[[:space:]]*(\/[^ ]+) \(.*$/\1/p'
}

kvm_machine_put() {
    local program library
    for program in "$@"; do
        program=$(command -v "$program") || { echo "kvm_machine_put: no program $program" >&2; return 1; }
        kvm_machine_file "$program" "/bin/$(basename "$program")"
        while read -r library; do
            [ -e "$kvm_machine_tree$library" ] || kvm_machine_file "$library" "$library"
        done < <(kvm_machine_libraries "$program")
    done
}

# The initramfs: the start that build-guest packed, then what was put. The kernel unpacks both.
kvm_machine_pack() {
    cp "$kvm_machine_artifacts/kvm-host.img" "$kvm_machine_folder/initrd.img"
    (cd "$kvm_machine_tree" && find . | cpio -o -H newc -R 0:0 --quiet) >>"$kvm_machine_folder/initrd.img"
}

# What the CPU of a machine without a pulse was at, twice, so that a loop shows.
kvm_machine_autopsy() {
    local reader
    timeout 20 cat "$kvm_machine_folder/monitor.out" >&2 &
    reader=$!
    printf '%s\n' 'info registers' 'info lapic' 'info pic' 'x/12i $pc' 'info registers' quit |
        timeout 20 dd of="$kvm_machine_folder/monitor.in" status=none
    wait "$reader"
}

# Ends when the machine has ended, or after KVM_MACHINE_STILL (60) seconds without a pulse, which it then ends.
kvm_machine_watch() {
    local folder=$kvm_machine_folder beats=0 now still=0 nudges=0
    while [ ! -e "$folder/qemu.code" ]; do
        sleep 1
        now=$(stat -c %s "$folder/pulse" 2>/dev/null || echo 0)
        # Until the first beat it boots, which the seconds of its run bound.
        still=$((now == 0 || now != beats ? 0 : still + 1))
        beats=$now
        if [ "$still" -ge 3 ]; then # a busy machine may be late by less
            printf . 1<>"$folder/nudge.in"
            nudges=$((nudges + 1))
        fi
        [ "$still" -lt "${KVM_MACHINE_STILL:-60}" ] && continue
        echo "the emulated machine has no pulse any more; its CPU:" >&2
        kvm_machine_autopsy
        : >"$folder/still"
        break
    done
    [ "$nudges" = 0 ] || echo "the emulated machine stood still; nudges: $nudges" >&2
}

kvm_machine_run() {
    local code lives=${KVM_MACHINE_LIVES:-3}
    cat >"$kvm_machine_tree/machine/run"
    echo "${KVM_MACHINE_MODULES:-$KVM_MACHINE_MODULES_DEFAULT}" >"$kvm_machine_tree/machine/modules"
    kvm_machine_pack || return 125
    while :; do
        kvm_machine_live "$1" && return 0 || code=$?
        lives=$((lives - 1))
        [ -e "$kvm_machine_folder/still" ] && [ "$lives" -gt 0 ] || return "$code"
        echo "-- the script runs anew in another machine"
    done
}

# One life of the machine: its script's exit code, or 124 or 125 as kvm_machine_run.
kvm_machine_live() {
    local code watcher folder=$kvm_machine_folder
    rm -f "$folder"/{result,qemu.code,pulse,still,monitor.in,monitor.out,nudge.in,nudge.out}
    mkfifo "$folder"/{monitor,nudge}.{in,out}
    kvm_machine_watch &
    watcher=$!
    {
        timeout --foreground --kill-after=5 "$1" setpriv --pdeathsig KILL qemu-system-x86_64 -name kvm-machine \
            -machine q35,smm=off,vmport=off -accel tcg,thread=multi -cpu max,+svm,+npt,-erms,-la57 \
            -smp "${KVM_MACHINE_CPUS:-1}" -m "${KVM_MACHINE_MEMORY:-1024}M" \
            -nodefaults -no-user-config -display none -no-reboot \
            -kernel "$kvm_machine_artifacts/vmlinux" -initrd "$folder/initrd.img" \
            -append 'console=ttyS0 reboot=t panic=-1 loglevel=4 mitigations=off tsc=reliable no_timer_check' \
            -serial "file:$folder/console.log" \
            -device virtio-serial-pci -device virtio-rng-pci \
            -chardev file,id=output,path=/dev/stdout -device virtserialport,chardev=output,name=output \
            -chardev "file,id=result,path=$folder/result" -device virtserialport,chardev=result,name=result \
            -chardev "file,id=pulse,path=$folder/pulse" -device virtserialport,chardev=pulse,name=pulse \
            -chardev "pipe,id=nudge,path=$folder/nudge" -device virtserialport,chardev=nudge,name=nudge \
            -chardev "pipe,id=monitor,path=$folder/monitor" -mon chardev=monitor,mode=readline \
            "${KVM_MACHINE_QEMU[@]}" </dev/null 2>"$folder/qemu.log"
        echo $? >"$folder/qemu.code"
    } | cat # a pipe stays what it is when QEMU opens it again
    wait "$watcher"
    read -r code <"$folder/qemu.code"
    [ ! -e "$folder/still" ] || return 125
    if [ "$code" = 124 ]; then
        echo "the machine had not ended after $1 s; its console:" >&2
        tail -n 20 "$folder/console.log" >&2
        return 124
    fi
    [ "$code" = 0 ] && read -r code <"$folder/result" && return "$code"
    tail -n 3 "$folder/qemu.log" "$folder/console.log" >&2
    return 125
}
