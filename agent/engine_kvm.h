/* Engine kvm: one berth-vmm per VM, on hardware KVM.
 *
 * For what boots a kernel: firmware, and so images that are a disk alone, are qemu's.
 * berth-vmm opens nothing itself: KVM, kernel, initrd, disks with their bases, taps and
 * the listening sockets are opened here and handed over at exec, in the order of
 * engine_kvm_arguments' numbers; then it goes into its jail. Of a packed kernel what was
 * within it is handed over, where it was unpacked (agent/kernel_unpack.h). Files in the
 * VM's folder: qmp.sock, console.sock, engine.log, disk-<name>.overlay, and vsock.sock,
 * by which root of the host reaches a port of the guest ("CONNECT PORT\n", see
 * vmm/virtio_vsock.h); the guest reaches nothing of the host that way. Disks are berth's
 * own overlays (vmm/disk_overlay.h) over the content-addressed raw image; they stay when
 * the VM stops.
 *
 * Which engine `auto` means is decided by `check`, first kvm's, then qemu's: kvm runs
 * what boots a kernel on a host with native KVM, has no qcow2 beneath it and no disk in
 * its folder that the other engine has made. Neither engine reads the other's disks; a VM
 * keeps the engine that it began with on a host.
 */
#pragma once

#include "agent/engine.h"

#include <stdbool.h>

#define ENGINE_KVM_PROGRAM "berth-vmm"
#define ENGINE_KVM_DEVICE  "/dev/kvm"
#define ENGINE_KVM_VHOST   "/dev/vhost-net" /* where the host has it */

extern const struct engine_ops engine_kvm;

/* Whether berth-vmm is there: beside our own program, or in PATH. */
bool engine_kvm_is_here(void);

/* What is found out of a NIC's tap when it is opened. */
struct engine_kvm_tap {
    uint32_t mtu;
    uint32_t queues; /* each a descriptor */
    bool has_vhost;  /* the kernel's devices for them follow, as many */
};

/* How many pairs of queues a NIC of a VM with so many CPUs is to have. */
uint32_t engine_kvm_queues(uint32_t cpu_count);

/* The argument vector, NULL-terminated, all in fresh memory, for descriptors that are
 * handed over from VM_PROCESS_GIVEN_AT on: KVM, kernel, initrd (if any), the listeners of
 * QMP, the console and the vsock, the memory of a saved machine (if any), then each disk
 * with its base (if from the image; of one that is only read that alone), then the queues
 * of each NIC's tap with the kernel's devices for them (if it has any). taps: of the
 * NICs. host: whose users VMs run as. Free with argument_list_free. NULL when out of
 * memory.
 */
char **engine_kvm_arguments(const struct engine_host *host,
                            const struct engine_vm *vm,
                            const struct engine_kvm_tap *taps);
