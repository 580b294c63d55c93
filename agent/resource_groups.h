/* A control group per VM: limits of CPU, memory and processes, usage, freeze and kill.
 *
 * cgroup v2 where its cpu and memory controllers are to be had, else the v1 hierarchies
 * (cpu, cpuacct, memory, freezer, pids), else nothing: then limits are missing, one
 * warning says why, and VMs run all the same. Groups are named
 * <parent>/berth/<name>/vm-<uid>; <name> keeps several daemons on one machine apart;
 * <parent> is by default the group we are in ourselves, per hierarchy, so that limits set
 * on us hold for the VMs too. Under v2, where a group with processes cannot hand out
 * controllers, our own process first moves to <parent>/berth/<name>.daemon, and what it
 * starts with it. So all VMs of a host together weigh as much as its daemon does,
 * whatever their weights: under v2 as two groups side by side, else (v1, and v2's topmost
 * group) as a group and a process.
 *
 * Shapes: opaque `struct resource_groups`; a VM's group is found by its uid, nothing is
 * remembered per VM. Threads: any one at a time; calls are short file accesses. Errors:
 * -errno with text; -ENOTSUP in mode NONE (no text: it was warned of). Units: bytes, ns.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a VMM needs besides guest memory. QEMU with TCG holds a translation cache; the
 * page tables of the process, those of KVM and the kernel's index of shared pages take 8
 * bytes each for a page of 4 KiB, some 0.7 % of all RAM that a guest has touched; an
 * overlay's map takes up to 1/32768 of its disk. Each part is twice what it may come to.
 */
#define RESOURCE_OVERHEAD_BYTES       (UINT64_C(256) << 20)
#define RESOURCE_OVERHEAD_MEMORY_PART 64    /* of guest memory: 1/64 */
#define RESOURCE_OVERHEAD_DISK_PART   16384 /* of all disks */
#define RESOURCE_HEADROOM_MCPU        250   /* for the I/O threads, beside the vCPUs */
/* Processes and threads beside the vCPUs: berth-vmm has 300 at most with all devices that
 * a VM may have, QEMU 64 for each disk. Far fewer than a host has numbers. */
#define RESOURCE_OVERHEAD_PROCESSES 1024
#define RESOURCE_GROUPS_NAME_SIZE   64

enum resource_mode { RESOURCE_NONE = 0, RESOURCE_V1, RESOURCE_V2 };

struct resource_limits {
    uint32_t cpu_count;
    uint32_t cpu_weight;   /* 1..10000, 100 is normal */
    uint64_t memory_bytes; /* guest memory; the overhead is added here */
    uint64_t disk_bytes;   /* of all disks together */
};

struct resource_usage {
    uint64_t cpu_ns;
    uint64_t memory_bytes;
};

struct resource_groups;

/* `name` by name_valid's grammar, `parent` NULL (our own group) or a path below the
 * mounts such as "/" or "/berth.slice". NULL only when out of memory; where nothing is
 * writable the mode is NONE. */
struct resource_groups *
resource_groups_open(const char *name, const char *parent, struct err *err);
/* Accepts NULL; returns NULL. VMs' groups stay. */
struct resource_groups *resource_groups_close(struct resource_groups *groups);
enum resource_mode resource_groups_mode(const struct resource_groups *groups);
/* Removes the empty folders <name>, <name>.daemon, which we leave, and berth, as far as
 * they are empty. */
void resource_groups_remove(struct resource_groups *groups);

/* Makes the VM's group, or sets its limits anew. */
int resource_group_make(struct resource_groups *groups,
                        uint64_t uid,
                        const struct resource_limits *limits,
                        struct err *err);
/* Puts a process in; a group of an earlier parent that it leaves empty is removed. */
int resource_group_put(struct resource_groups *groups,
                       uint64_t uid,
                       pid_t pid,
                       struct err *err);
int resource_group_usage(const struct resource_groups *groups,
                         uint64_t uid,
                         struct resource_usage *ret_usage);
/* True when the process is in the VM's group (adoption checks it); false in mode NONE. */
bool resource_group_holds(const struct resource_groups *groups, uint64_t uid, pid_t pid);
int resource_group_freeze(struct resource_groups *groups, uint64_t uid, bool frozen);
/* How many processes are inside; 0 without a group (mode NONE, too). */
int resource_group_count(const struct resource_groups *groups, uint64_t uid);
/* SIGKILL to everything inside. */
int resource_group_kill(struct resource_groups *groups, uint64_t uid);
/* What the fence needs to reach the group without us; -1 where there is no such file. The
 * descriptors are the caller's. */
struct resource_fence {
    int freezer; /* cgroup.freeze (v2) or freezer.state, readable and writable */
    int kill;    /* cgroup.kill, v2 only */
    bool is_v2;
};
void resource_group_open_fence(const struct resource_groups *groups,
                               uint64_t uid,
                               struct resource_fence *ret_fence);
/* Removes the group; missing is fine; -EBUSY while a process is inside. */
int resource_group_remove(struct resource_groups *groups, uint64_t uid);
