/* What the files of the machine share: machine.c runs it, machine_plug.c lets devices and
 * CPUs come and go. For them alone; the rest see machine.h.
 *
 * Shapes: `struct machine`. Threads: the machine's, but where it says otherwise.
 */
#pragma once

#include "vmm/boot_linux.h"
#include "vmm/guest_memory.h"
#include "vmm/io_bus.h"
#include "vmm/kvm_state.h"
#include "vmm/machine.h"
#include "vmm/machine_cpus.h"
#include "vmm/machine_platform.h"
#include "vmm/ram_loader.h"

#include <pthread.h>
#include <stdatomic.h>

#define GENERATION_BYTES 16u

/* What a vCPU or the loader wants of the machine's thread. One at a time: the first one
 * stands, for it stops the others; only an end comes before what is none. */
enum request {
    REQUEST_NONE = 0,
    REQUEST_RESET,
    REQUEST_CRASH_LOADED,
    REQUEST_END,  /* with the enum machine_end beside it */
    REQUEST_LOST, /* the same, of RAM that cannot be had: a reset needs it no more */
};

/* How far it stands still, for whatever reason. */
enum stand {
    STAND_NOT = 0,
    STAND_STOPPING, /* its CPUs do, and devices have work in flight */
    STAND_STILL,
};

/* A request that the machine's thread has taken: what is asked for behind it is another.
 */
struct taken_request {
    enum request request; /* REQUEST_NONE: it has none */
    enum machine_end end;
    char reason[MACHINE_REASON_SIZE];
};

/* A device that is on its way out of its slot. */
struct machine_leaver {
    struct machine *machine;
    bool leaves;           /* the machine's thread alone, as the next */
    bool stops;            /* what it has in flight is waited for, and then it is reset */
    atomic_bool is_synced; /* and then the code is there */
    int code;
};

struct machine {
    int kvm_fd;
    int vm_fd;
    int stats_fd; /* what KVM counts of the VM; -1: nothing */
    struct guest_memory memory;
    struct io_bus bus;
    struct poller *poller;
    struct machine_events events;
    struct boot_trace *trace; /* borrowed; may be NULL */
    struct boot_source boot;
    uint8_t *acpi; /* owned; what boot.acpi borrows */
    char *cmdline; /* owned; the same */
    uint8_t generation[GENERATION_BYTES];
    struct machine_platform platform;
    struct machine_cpus cpus;
    enum cpu_level cpu_level;
    bool is_fresh;              /* it was booted and has not run since */
    struct kvm_state first_kvm; /* of the interrupt controllers, after power-on */
    enum machine_state state;   /* the machine's thread alone, as the next two */
    enum stand stand;
    struct taken_request taken;
    struct machine_image image; /* where its RAM comes from */
    struct ram_loader *loader;  /* of lazy RAM; owned */
    atomic_bool is_damaged;     /* the loader could not have all of it */
    atomic_bool gives_ram_up;   /* what it waits for, until it begins anew */
    bool awaits_state;          /* it is to be restored */
    bool is_loaded;             /* its guest is there, or comes with the state */
    /* between the vCPUs and the machine's thread; held before the vCPUs' own lock */
    pthread_mutex_t lock;
    enum request request;               /* guarded by lock */
    enum machine_end request_end;       /* guarded by lock */
    char reason[MACHINE_REASON_SIZE];   /* guarded by lock */
    char lost_why[MACHINE_REASON_SIZE]; /* guarded by lock; of is_damaged */
    bool dumps_itself; /* guarded by lock; told once: it stops all CPUs and disks */
    int request_fd;    /* an eventfd: a request, or a device has left, or has stopped */
    int request_watch;
    struct machine_leaver leavers[PCI_PLUG_SLOTS];
};

/* ---- machine.c ---- */

/* Tables of the CPUs that it has now. */
int machine_tables_make(struct machine *machine, struct err *err);
/* Returns when all CPUs are parked. */
void machine_wait_parked(struct machine *machine);
/* Lets CPUs run, with the lock held; not while something is asked for, nor when RAM was
 * lost, which has asked for the end that nobody may overtake. */
void machine_let_run(struct machine *machine);

/* ---- machine_plug.c ---- */

/* While no CPU runs: the devices in these slots go (a set of pci_plug.h), when they have
 * nothing in flight and what they have written is durable. */
void machine_slots_empty(struct machine *machine, uint8_t slots);
/* While no CPU runs: what the guest has let go goes; whether all of it has. If not, the
 * machine is woken for more. */
bool machine_slots_leave(struct machine *machine);
/* The first that goes and has not yet gone; NULL: none. */
const struct device *machine_slots_leaver(const struct machine *machine);
/* While all stands still: waits until those that go have gone. */
void machine_slots_settle(struct machine *machine);
/* The end of a machine that stands still: what its devices have written is durable, or
 * was told of. They are reset. */
void machine_slots_sync_last(struct machine *machine);
/* What the guest has let go goes. */
void machine_let_go_take(struct machine *machine);
