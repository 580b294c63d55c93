/* What QMP can ask of a machine, and what it hears of it: the commands and events that
 * both engines share with QEMU's words.
 *
 * Shapes: `struct vmm_control` binds a machine to its QMP server. Commands are one table
 * in vmm_control.c. The machine's events go through here, so that a client hears them in
 * QEMU's order: SHUTDOWN or GUEST_PANICKED, then STOP. A machine is saved as QEMU's is:
 * getfd names an empty file, migrate to fd:NAME stops the machine and writes it there,
 * query-migrate and the event MIGRATION tell how that goes; it stays paused when it is
 * saved, and goes on when it could not be, unless it was told to stop. Until then it does
 * not go on and is not reset. What its disks have in flight is waited for, but nobody
 * waits: stop is answered, after STOP, when nothing is (qmp_server.h says what is heard
 * before it), migrate at once, and the save is in "setup" until then; query-status says
 * "running" until STOP, and as `x-waits-for` whose disk it is; cont ends it, with RESUME;
 * so does migrate_cancel of what has not begun. quit is answered, but the
 * process ends when its disks let it. What else QEMU does not say: query-status of a
 * machine that could not go on has a `reason`. What a machine has done is asked for by
 * the words of docs/vmm-statistics.md. What a disk could not do is told by
 * BLOCK_IO_ERROR, as with QEMU's werror=enospc: when the host has no room for a change
 * (action "stop"), the machine stands still in "io-error" until cont, which tries again,
 * or system_reset, which drops the change and goes on unless stop was said; the guest
 * knows of anything else
 * (action "report"), but of what a disk could not write or make durable when it left
 * (action "ignore", before DEVICE_DELETED) or when the machine ended (the same, the last
 * that is heard). Disks and NICs come and go by blockdev-add, netdev_add, device_add and
 * device_del (vmm_plug.h), which an event DEVICE_DELETED follows when the guest has let
 * go. Threads: the poller's. Ownership: borrows the machine; owns the server.
 */
#pragma once

#include "vmm/disk.h"
#include "vmm/disk_faults.h"
#include "vmm/machine.h"
#include "vmm/qmp_descriptors.h"
#include "vmm/qmp_server.h"
#include "vmm/virtio_device.h"
#include "vmm/vmm_plug.h"
#include "vmm/vmm_snapshot.h"
#include "vmm/vmm_stats.h"
#include "vmm/vmm_throttle.h"

struct vmm_control {
    struct machine *machine;
    struct poller *poller;
    const char *name;
    struct virtio_device *balloon;  /* set by the owner after open; NULL: there is none */
    struct virtio_device *memory;   /* see vmm_control_watch_memory */
    struct vmm_throttle *throttle;  /* set by the owner before the poller runs */
    const struct vmm_stats *stats;  /* the same; NULL: there are no devices */
    struct vmm_plug *plug;          /* see vmm_control_watch_plug */
    const struct boot_trace *trace; /* the same; NULL: nobody has looked */
    /* set by the owner; the first act of a thread that saves the machine, may be NULL */
    int (*thread_began)(void *context, struct err *err);
    void *thread_context;
    struct qmp_server *server; /* NULL: nobody listens */
    enum machine_end end;      /* of a guest that has ended */
    char reason[MACHINE_REASON_SIZE];
    /* private */
    struct vmm_snapshot *snapshot;
    struct qmp_descriptors descriptors;
    bool
        ran_before; /* the machine that is being saved, and is to go on if it cannot be */
    struct disk_faults *faults;
    bool told_to_stop;   /* by a client, since it was last told to go on */
    bool waits_for_room; /* it stands still because a disk does */
};

/* Takes the listener on success. */
int vmm_control_open(struct vmm_control *control,
                     struct machine *machine,
                     struct poller *poller,
                     const char *name,
                     int take_listener,
                     struct err *err);
/* What plugs RAM: its size may be asked for and changed, and who is connected hears of it
 * when it follows. After open and before the machine runs; NULL: nothing does. */
void vmm_control_watch_memory(struct vmm_control *control, struct virtio_device *memory);
/* Its disks: a change for which there is no room stops the machine. After open and before
 * the machine runs. */
int vmm_control_watch_disks(struct vmm_control *control,
                            struct disk_faults *faults,
                            struct err *err);
/* Its disks and NICs may come and go: what is named by getfd is there for them. After
 * open; NULL: none may. */
void vmm_control_watch_plug(struct vmm_control *control, struct vmm_plug *plug);
/* The machine's events, for the client; harmless before open. */
void vmm_control_paused(struct vmm_control *control);
void vmm_control_ended(struct vmm_control *control,
                       enum machine_end end,
                       const char *reason);
/* The process was told by a signal to end. */
void vmm_control_signalled(struct vmm_control *control);
void vmm_control_reset(struct vmm_control *control);
void vmm_control_crash_loaded(struct vmm_control *control);
void vmm_control_leaves(struct vmm_control *control, const struct virtio_device *device);
void vmm_control_unplugged(struct vmm_control *control, const char *name);
/* Halts a machine that ends (machine_halt) when nothing saves it any more, and tells of
 * what its disks could not. Without open it is halted alone. */
void vmm_control_halt(struct vmm_control *control, struct machine *machine);
void vmm_control_close(struct vmm_control *control);
