/* Engine qemu: one qemu-system-x86_64 per VM, hardware KVM where it is native, TCG
 * elsewhere.
 *
 * engine_qemu_arguments is pure: the same VM gives the same argv; golden lists pin it.
 * An emulated guest on microvm has no clock to calibrate its time stamp counter by, so it
 * is told the rate (tsc_khz); where that is not known it gets a q35 instead. Boots kernel
 * + initrd directly on machine type microvm; an image without a kernel boots its disk by
 * firmware on q35. Files in the VM's folder: qmp.sock, console.sock, engine.log,
 * disk-<name>.qcow2. QEMU runs with -S (paused first), its seccomp sandbox, no default
 * devices, no config files, and keeps a shut-down guest in memory (-action
 * shutdown=pause) so that a clean end is seen even when the agent was away. Disks are
 * qcow2 overlays over our own content-addressed image file with explicit formats; they
 * stay when the VM stops.
 */
#pragma once

#include "agent/engine.h"

#define ENGINE_QEMU_PROGRAM "qemu-system-x86_64"
#define ENGINE_QEMU_IMG     "qemu-img"

extern const struct engine_ops engine_qemu;

/* The argument vector, NULL-terminated, all in fresh memory: free with
 * argument_list_free. NULL when out of memory. */
char **
engine_qemu_arguments(const struct engine_vm *vm, enum kvm_kind kvm, uint32_t tsc_khz);
