/* What is /dev/kvm worth on this machine: none, emulated or native.
 *
 * A KVM that interprets ring 0 looks like any other until it is timed. The probe runs a
 * guest of one page that counts KVM_PROBE_LOOPS down in long mode: native hardware needs
 * well under KVM_PROBE_NATIVE_MS, an interpreter ten times as long. At
 * KVM_PROBE_DEADLINE_MS a watcher thread kicks the vCPU out. A busy machine can only make
 * it slower: what is timed is shorter than a turn of other tasks, the best of
 * KVM_PROBE_TRIES counts, and the first one that is good enough is the last. Any ioctl
 * that fails means none, and the reason says which and why. Blocks until done: call it at
 * start. Threads: any, one at a time (uses SIGURG with its own handler for the kick,
 * restored afterwards).
 */
#pragma once

#include "model/objects.h"

#include <stdint.h>

#define KVM_PROBE_LOOPS       200000u
#define KVM_PROBE_NATIVE_MS   20u
#define KVM_PROBE_DEADLINE_MS 100u
#define KVM_PROBE_TRIES       10u

struct kvm_probe_result {
    enum kvm_kind kind;
    uint64_t elapsed_ns; /* of the loop; 0 for none */
    char reason[256];    /* "200000 loops in 0.4 ms", "open /dev/kvm: ..." */
};

/* device: "/dev/kvm"; another path for tests. Never fails: none is an answer. */
void kvm_probe(const char *device, struct kvm_probe_result *ret_result);
