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
# lives in RAM alone and dies with the shell that started it. Its kernel does not check its timers: on a busy machine
# an emulated one comes too late for that. It has one CPU unless told otherwise: with more, QEMU 7.2 now and then keeps
# running a breakpoint which the kernel has already taken away again (a static key that KVM switches), for ever; and
# with a thread for all CPUs it lets nested guests sleep for ever.

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

kvm_machine_run() {
    local code folder=$kvm_machine_folder
    cat >"$kvm_machine_tree/machine/run"
    echo "${KVM_MACHINE_MODULES:-$KVM_MACHINE_MODULES_DEFAULT}" >"$kvm_machine_tree/machine/modules"
    kvm_machine_pack || return 125
    rm -f "$folder/result" "$folder/qemu.code"
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
            "${KVM_MACHINE_QEMU[@]}" </dev/null 2>"$folder/qemu.log"
        echo $? >"$folder/qemu.code"
    } | cat # a pipe stays what it is when QEMU opens it again
    read -r code <"$folder/qemu.code"
    if [ "$code" = 124 ]; then
        echo "the machine had not ended after $1 s; its console:" >&2
        tail -n 20 "$folder/console.log" >&2
        return 124
    fi
    [ "$code" = 0 ] && read -r code <"$folder/result" && return "$code"
    tail -n 3 "$folder/qemu.log" "$folder/console.log" >&2
    return 125
}
