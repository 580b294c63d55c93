/* A whole virtual machine: memory, CPUs, the platform's devices and the PCI bus, and
 * whether it runs.
 *
 *     held --run--> running --pause--> pausing --nothing is in flight--> paused
 *                      ^ \                 |                                |
 *                      |  \                +--run--> running <--run---------+
 *                      |   \--the guest ends--> ended (why: enum machine_end)
 *                      \----the guest resets, from its kernel's entry again
 *
 * While it is pausing its CPUs stand, and so do its devices but for what a disk has been
 * asked before: a disk may hang, and nobody waits for it here. Nor does what the guest
 * asks for, an end before all, which is carried out when nothing is in flight.
 *
 * A machine that is held or paused can be saved: machine_save and its RAM. Another, made
 * from the same plan with an image and with the same devices, is held and takes it by
 * machine_restore before it runs.
 *
 * Shapes: opaque `struct machine`, made from a `struct machine_plan`; PCI devices are
 * added while it is held, and some may come and go later. Threads: the caller's, which
 * also runs the poller given with the plan; vCPUs have threads of their own. Events come
 * from the poller. Ownership: descriptors of the plan are borrowed for the machine's life
 * (a reset loads the kernel again); devices added belong to the machine. Errors: with
 * text, where a step failed; after the first run nothing fails but by an event. Limits:
 * machine_layout.h.
 */
#pragma once

#include "base/err.h"
#include "vmm/boot_trace.h"
#include "vmm/cpu_model.h"
#include "vmm/poller.h"
#include "vmm/ram_backing.h"
#include "vmm/serial_port.h"
#include "vmm/vcpu.h"
#include "vmm/virtio_device.h"
#include "vmm/virtio_pci.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MACHINE_REASON_SIZE VCPU_REASON_SIZE

enum machine_state {
    MACHINE_HELD = 0,
    MACHINE_RUNNING,
    MACHINE_PAUSING,
    MACHINE_PAUSED,
    MACHINE_ENDED,
    MACHINE_STATE_COUNT
};

/* Why a guest came to its end. */
enum machine_end {
    MACHINE_END_NONE = 0,
    MACHINE_END_OFF,      /* it powered itself off */
    MACHINE_END_PANIC,    /* it said so through pvpanic */
    MACHINE_END_SHUTDOWN, /* a CPU of it shut down: a triple fault */
    MACHINE_END_BROKEN,   /* KVM cannot run it any more */
    MACHINE_END_COUNT
};

struct machine_events {
    /* The first act of each vCPU's thread, on it: 0 or what makes the guest end. May be
     * NULL. */
    int (*thread_began)(void *context, struct err *err);
    /* The same of the thread that fills RAM. */
    int (*loader_began)(void *context, struct err *err);
    /* Asked within machine_restore, again and again while it reads RAM: whether it need
     * not go on. May be NULL. */
    bool (*is_unwanted)(void *context);
    /* It is at its end; its CPUs stand still. The reason is one line. */
    void (*ended)(void *context, enum machine_end end, const char *reason);
    /* It has begun anew. */
    void (*reset)(void *context);
    /* It stands still, which machine_pause has left to be awaited. May be NULL. */
    void (*paused)(void *context);
    /* It panicked, and a dump kernel of its own goes on. Once until it begins anew,
     * however often it says so. */
    void (*crash_loaded)(void *context);
    /* A device that was to go has left the guest: the last moment to look at it. Then it
     * is freed, and its files are closed. May be NULL, as the next. */
    void (*leaves)(void *context, const struct virtio_device *device);
    /* That of this name is no more, and nothing of it is open. */
    void (*unplugged)(void *context, const char *name);
    void *context;
};

/* When RAM of a saved machine is read. */
enum machine_ram {
    MACHINE_RAM_FIRST = 0, /* all of it, by machine_restore */
    MACHINE_RAM_LAZY,      /* while it runs, what is touched first (ram_loader.h); checked
                              before it is seen. Where that is not allowed: as above */
    MACHINE_RAM_MAPPED,    /* what is touched, and unchecked: the file must stay as it is.
                              Clones share what none of them has written */
    MACHINE_RAM_COUNT
};

/* RAM of a saved machine: ram_image.h says how it is in the file. */
struct machine_image {
    int fd;
    uint64_t offset;
    enum machine_ram ram;
};

/* How much of its RAM a machine that came in has by now. */
struct machine_fill {
    uint64_t total_bytes; /* 0: it was not lazy */
    uint64_t done_bytes;
    bool was_abandoned; /* a reset made what was still missing needless */
    bool is_damaged;    /* the rest does not come: the machine has ended */
};

struct machine_plan {
    int kvm_fd;
    unsigned cpu_count;
    unsigned plug_cpus;    /* how many may be plugged beyond them */
    uint64_t memory_bytes; /* a multiple of 2 MiB */
    uint64_t plug_bytes;   /* what may be plugged beyond it: another multiple, or 0 */
    struct ram_backing backing; /* what RAM is made of; a mapped image is itself */
    enum cpu_level cpu_level;
    int kernel_fd;
    int initrd_fd; /* -1: none */
    const char *cmdline;
    const struct machine_image
        *image; /* NULL: it boots; else it awaits machine_restore */
    struct poller *poller;
    struct machine_events events;
    struct boot_trace *trace; /* of how it comes up; NULL: nobody looks */
};

struct machine;

/* Reads nothing yet that a guest's owner has brought. */
int machine_new(const struct machine_plan *plan,
                struct machine **ret_machine,
                struct err *err);
/* Ends vCPUs and devices, gives all memory back. NULL is fine; returns NULL. */
struct machine *machine_free(struct machine *machine);
/* What a virtio device of this machine is made with. */
struct virtio_place machine_place(struct machine *machine);
/* Adds a device on PCI, for good; only while held. Taken in any case; after an error the
 * machine is as it was. */
int machine_add_virtio(struct machine *machine,
                       struct virtio_device *take_virtio,
                       const char *name,
                       struct err *err);
/* The same into a slot that it may leave (pci_plug.h). */
int machine_add_virtio_in(struct machine *machine,
                          unsigned slot,
                          struct virtio_device *take_virtio,
                          const char *name,
                          struct err *err);
/* The serial port, to be connected to the world while held. */
struct serial_port *machine_serial(struct machine *machine);

enum machine_state machine_state(const struct machine *machine);
/* Reads the kernel and what goes with it into RAM; nothing for a machine that awaits what
 * was saved. machine_run does it if it was not done. */
int machine_load(struct machine *machine, struct err *err);
/* Starts the vCPUs' threads, which park. machine_run does that, too. */
int machine_start_threads(struct machine *machine, struct err *err);
/* Lets the CPUs run: BERTH_EPHASE when the guest has ended. Running already is fine. */
int machine_run(struct machine *machine, struct err *err);
/* Stands still: when it returns no CPU runs and no device begins anything. 0: it is
 * paused; 1: it is pausing, for a device has work in flight or is on its way out, and the
 * event `paused` tells when none is, unless it runs or is freed before. */
int machine_pause(struct machine *machine, struct err *err);
/* The device that a machine waits for which is pausing, or whose guest has asked for
 * something: the first with work in flight, or that goes. NULL: it does not. */
const char *machine_waits_for(const struct machine *machine);
/* The same before it is freed, and all that it is good for: what of its RAM is not there
 * is not waited for, but what is in flight is, as long as a disk takes. What its guest
 * has written is durable then, flushed or not, all disks at a time; one that could not do
 * it is logged, and who listens to it is told as of one that leaves (virtio_block.h). */
void machine_halt(struct machine *machine);
/* Writes a stream of its state without RAM, while it is held (and loaded) or paused
 * (machine_state.h); the number of sections so far. A reset or an end that the guest has
 * asked for comes first, with its event. What devices keep elsewhere goes with it after
 * machine_sync. */
int machine_save(struct machine *machine, struct bytes_writer *stream, struct err *err);
/* Makes durable what the guest of a machine that was saved, and stands still since, takes
 * for written. On any thread: it takes as long as its disks do. BERTH_ECLOSED when
 * somebody wants it to stop (NULL: nobody), which is looked at before each disk: one that
 * hangs is not left. */
int machine_sync(struct machine *machine, const atomic_bool *wants_stop, struct err *err);
/* Takes the state that was saved, RAM as well, and tells the guest that it is another
 * generation of itself, so that it draws fresh entropy. BERTH_ECLOSED when that was not
 * wanted any more. After an error it is only good to be freed. */
int machine_restore(struct machine *machine,
                    const void *stream,
                    size_t size,
                    struct err *err);
/* How far lazy RAM has come. */
void machine_fill(const struct machine *machine, struct machine_fill *ret_fill);
/* Its RAM, to be looked at while it is held or paused. */
const struct guest_memory *machine_memory(const struct machine *machine);
/* As if the guest had asked for it; the event tells when it is done. One that is paused
 * stays so. */
void machine_reset(struct machine *machine);
/* Presses the power button. */
void machine_press_power(struct machine *machine);

/* The guest gets a CPU that it has not, and is told; one that stands still gets it when
 * it goes on. BERTH_EFULL when it has all, BERTH_ENOTFOUND when there is no such CPU,
 * BERTH_EEXISTS when it has it. A CPU stays, through resets too. */
int machine_plug_cpu(struct machine *machine, unsigned index, struct err *err);

/* The slot that a device of that name could have now: this one, or the first that is free
 * (0). BERTH_EINVALID, BERTH_EEXISTS, BERTH_EFULL, BERTH_EPHASE; BERTH_EUNSUPPORTED when
 * the guest has no slots. */
int machine_can_plug(const struct machine *machine,
                     unsigned slot,
                     const char *name,
                     struct err *err);
/* The guest gets a device, in the slot that machine_can_plug has said, and is told; one
 * that stands still finds it when it goes on. Taken in any case. */
int machine_plug_virtio(struct machine *machine,
                        unsigned slot,
                        struct virtio_device *take_virtio,
                        const char *name,
                        struct err *err);
/* Asks the guest to let a device go that it may lose; the event `unplugged` comes when it
 * has, and what was written is in its file or cannot be. A guest that has not begun has
 * let go by then (the event may come before this returns), and one that is reset; another
 * may never. May be asked again. -ENODEV when there is none, BERTH_EUNSUPPORTED when it
 * stays. */
int machine_unplug(struct machine *machine, const char *name, struct err *err);

/* CPUs that there may be, and whether one of them is plugged. */
unsigned machine_cpu_count(const struct machine *machine);
bool machine_cpu_is_plugged(const struct machine *machine, unsigned index);
enum cpu_level machine_cpu_level(const struct machine *machine);
const struct vcpu *machine_vcpu(const struct machine *machine, unsigned index);
/* Of what KVM counts of the VM (kvm_stats.h), borrowed; -1: nothing. */
int machine_stats_fd(const struct machine *machine);
/* What it has from the start. */
uint64_t machine_memory_bytes(const struct machine *machine);
