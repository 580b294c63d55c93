/* A virtio device behind any transport (virtio 1.2, chapters 2 and 3).
 *
 * Shapes: `struct virtio_ops` is the table of one device type; `struct virtio_device` is
 * what all types share: status, features and queues, with the rules about who may change
 * them when. A type embeds it as its first member. The transport (virtio_pci.h) is the
 * machine's `struct device`; it owns its virtio device and drives it by the calls below.
 *
 * Life of the type's part: init once; activate when the driver sets DRIVER_OK; notify
 * when it has filled a queue; reset when it starts over, which a type may take its time
 * for (reset_begin): the status is what it was, and nothing moves, until it is done; what
 * the driver writes meanwhile is gone then. start and stop are the machine's (pause,
 * save): while not running no notify comes, and start notifies every queue once, so a
 * type needs no memory of what it missed. After stop nothing is in flight; a type whose
 * requests may take long stops without waiting (stop_begin).
 *
 * Faults: what the guest gets wrong takes this device out of service: status gets
 * DEVICE_NEEDS_RESET (2.1.2), the driver is told, nothing moves until it resets. The VMM
 * itself is never affected.
 *
 * Threads: all calls with the lock held that the transport has set; a type's own poller
 * callbacks take it with virtio_device_enter and virtio_device_leave.
 */
#pragma once

#include "vmm/counter.h"
#include "vmm/device.h"
#include "vmm/guest_memory.h"
#include "vmm/poller.h"
#include "vmm/virtio_queue.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_QUEUES_MAX    17u /* eight pairs of a NIC and its control queue */
#define VIRTIO_FAULTS_LOGGED 8u  /* of one device; a guest cannot fill the host's log */
#define VIRTIO_SERVE_MAX     VIRTIO_QUEUE_SIZE_MAX /* in one go; then others have a turn */

/* 2.1: the device status field. */
enum virtio_status {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64,
    VIRTIO_FAILED = 128,
};

/* Chapter 6: feature bits of every device. The last is VERSION_1; Linux' headers give
 * that name, with ours before it, to the bit's number. */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_MODERN        (UINT64_C(1) << 32)
#define VIRTIO_F_COMMON        (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_MODERN)

/* Chapter 5: device types. */
enum virtio_type {
    VIRTIO_TYPE_NET = 1,
    VIRTIO_TYPE_BLOCK = 2,
    VIRTIO_TYPE_CONSOLE = 3,
    VIRTIO_TYPE_RANDOM = 4,
    VIRTIO_TYPE_BALLOON = 5,
    VIRTIO_TYPE_VSOCK = 19,
    VIRTIO_TYPE_MEM = 24,
};

struct virtio_device;

/* Who hears that what was written is durable, or why it is not: on any thread, with the
 * device's lock held. */
struct virtio_synced {
    void (*done)(void *context, int code); /* 0 or negative */
    void *context;
};

/* One device type. Every verb but free may be NULL. */
struct virtio_ops {
    const char *kind; /* "virtio-block" */
    enum virtio_type type;
    uint32_t pci_class; /* class, subclass and interface of a PCI function, 24 bits */
    /* What the type counts, by offset from its struct virtio_device. */
    const struct counter_row *counters;
    unsigned counter_count;
    int (*init)(struct virtio_device *device, struct err *err);
    void (*activate)(struct virtio_device *device);
    void (*notify)(struct virtio_device *device, unsigned queue);
    /* The device is out of service; what works without being asked is to stop. */
    void (*failed)(struct virtio_device *device);
    /* Interrupts of its queues may go another way: see struct virtio_wires. */
    void (*rewire)(struct virtio_device *device);
    /* Drops what is in flight; the queues are reset after it. */
    void (*reset)(struct virtio_device *device);
    /* The driver wants that: true when it takes a while, and then the type calls
     * virtio_device_reset_end when nothing is in flight. Nothing new comes meanwhile. */
    bool (*reset_begin)(struct virtio_device *device);
    void (*start)(struct virtio_device *device);
    void (*stop)(struct virtio_device *device);
    /* The same without waiting: true when requests are in flight, and then the type calls
     * virtio_device_stop_end when none is. */
    bool (*stop_begin)(struct virtio_device *device);
    /* As of struct device_ops, sync without the lock. */
    int (*may_save)(struct virtio_device *device, struct err *err);
    int (*sync)(struct virtio_device *device, struct err *err);
    /* The same by threads of its own, of one that has stopped for good; a reset waits for
     * it. False: there is nothing to be done. */
    bool (*sync_last)(struct virtio_device *device, const struct virtio_synced *synced);
    void (*save)(struct virtio_device *device, struct bytes_writer *writer);
    /* `version` is the transport's; after the common part has been taken. */
    int (*restore)(struct virtio_device *device,
                   uint16_t version,
                   struct bytes_reader *reader,
                   struct err *err);
    void (*free)(struct virtio_device *device);
    /* The device's configuration space; see virtio_config_read. */
    void (*config_read)(struct virtio_device *device,
                        uint64_t offset,
                        void *ret_data,
                        unsigned size);
    void (*config_write)(struct virtio_device *device,
                         uint64_t offset,
                         const void *data,
                         unsigned size);
};

/* What the machine gives to every virtio device; both outlive it. */
struct virtio_place {
    struct guest_memory *memory;
    struct poller *poller; /* runs this device's callbacks */
};

/* What a transport lends a type whose queues are served outside of this process. Either
 * may be NULL. Called with the device's lock held. */
struct virtio_wires {
    /* The eventfd that a notification of the queue rings, or -1; while it is taken nobody
     * else listens there. */
    int (*doorbell)(void *context, unsigned queue, bool is_taken);
    /* The eventfd that interrupts the driver for the queue, as its vector is now, or -1:
     * by the line alone. Until the type's rewire. */
    int (*event)(void *context, unsigned queue);
    void *context;
};

struct virtio_device {
    const struct virtio_ops *ops;
    const char *name; /* the transport's */
    struct virtio_place place;
    pthread_mutex_t *lock;
    struct device_line queue_line;  /* "queue n has used buffers" */
    struct device_line config_line; /* "look at configuration and status" */
    struct device_line reset_line;  /* "all is as after power-on": so is the transport */
    struct device_line stop_line;   /* "the stop that was begun is over" */
    struct virtio_wires wires;
    uint64_t features_offered;
    uint64_t features; /* what the driver accepted */
    uint8_t status;
    bool resetting;             /* the driver waits until the status is 0 (4.1.4.3.2) */
    bool running;               /* the machine is */
    bool stopping;              /* it is not, and requests are in flight */
    bool leaving;               /* for good; set by its transport */
    uint32_t config_generation; /* 2.5.1; one more after each change */
    unsigned queue_count;
    struct virtio_queue queues[VIRTIO_QUEUES_MAX];
    /* Since the start of the process, for observers; written under the lock. */
    struct counter interrupts;
    struct counter notifications;
    struct counter faults;
    /* private: queues to be served again, and what wakes the poller for it */
    uint32_t again_queues;
    int again_fd;
    int again_watch;
};

/* What a type's handler did with a request. */
enum virtio_handled {
    VIRTIO_TAKEN = 0, /* given back already, or kept until it is done */
    VIRTIO_ENOUGH,    /* likewise, and it was much work: others have a turn now */
    VIRTIO_WAIT,      /* not now: the type serves the queue again when it can */
};

/* For a type's constructor: the common part, with every queue at most queue_size_max. */
void virtio_device_setup(struct virtio_device *device,
                         const struct virtio_ops *ops,
                         const struct virtio_place *place,
                         uint64_t features,
                         unsigned queue_count,
                         uint16_t queue_size_max);

/* ---- for types ---- */

void virtio_device_enter(struct virtio_device *device);
void virtio_device_leave(struct virtio_device *device);
/* Whether the driver is ready, the machine runs and nothing is broken. */
bool virtio_device_active(const struct virtio_device *device);
bool virtio_device_has(const struct virtio_device *device, uint64_t feature);
/* The next request of a queue: 1, or 0 when there is none or the device is not active. A
 * broken queue takes the device out of service. */
int virtio_device_next(struct virtio_device *device,
                       unsigned queue,
                       struct virtio_chain *ret_chain);
/* Hands a request back; tell the driver with virtio_device_signal after a batch. */
void virtio_device_give(struct virtio_device *device,
                        unsigned queue,
                        uint16_t head,
                        uint32_t written_bytes);
void virtio_device_signal(struct virtio_device *device, unsigned queue);
/* Calls the handler for each request of the queue, tells the driver, and asks it for
 * notifications when the queue is empty. A guest that fills faster than we serve is cut
 * off after VIRTIO_SERVE_MAX requests, or when the handler says that it is enough; the
 * poller comes back for the rest. */
void virtio_device_serve(struct virtio_device *device,
                         unsigned queue,
                         enum virtio_handled (*handle)(struct virtio_device *device,
                                                       unsigned queue,
                                                       struct virtio_chain *chain));
/* Has the queue notified again from the poller. */
void virtio_device_again(struct virtio_device *device, unsigned queue);
/* The configuration has changed: generation and interrupt. */
void virtio_device_config_changed(struct virtio_device *device);
/* Out of service until reset: a constant sentence. */
void virtio_device_fail(struct virtio_device *device, const char *fault);
/* A reset that has taken a while is done, but for the queues. */
void virtio_device_reset_end(struct virtio_device *device);
/* Nothing is in flight, which a stop may wait for. */
void virtio_device_stop_end(struct virtio_device *device);
/* Copies from a configuration struct; bytes beyond it read as zeros. */
void virtio_config_read(const void *config,
                        size_t config_size,
                        uint64_t offset,
                        void *ret_data,
                        unsigned size);

/* ---- for transports ---- */

int virtio_device_init(struct virtio_device *device, struct err *err);
void virtio_device_reset(struct virtio_device *device);
void virtio_device_start(struct virtio_device *device);
void virtio_device_stop(struct virtio_device *device);
bool virtio_device_stop_begin(struct virtio_device *device);
int virtio_device_may_save(struct virtio_device *device, struct err *err);
int virtio_device_sync(struct virtio_device *device, struct err *err);
bool virtio_device_sync_last(struct virtio_device *device,
                             const struct virtio_synced *synced);
void virtio_device_save(struct virtio_device *device, struct bytes_writer *writer);
int virtio_device_restore(struct virtio_device *device,
                          uint16_t version,
                          struct bytes_reader *reader,
                          struct err *err);
void virtio_device_free(struct virtio_device *device);
/* The status field: 0 resets, maybe later, bits are only ever added, and not in every
 * order (3.1). */
void virtio_device_write_status(struct virtio_device *device, uint8_t status);
/* 32 feature bits (`word` 0 or 1) that the driver accepts; only before FEATURES_OK. */
void virtio_device_write_features(struct virtio_device *device,
                                  uint32_t word,
                                  uint32_t bits);
/* The queue whose registers the driver may change now, or NULL: there is no such queue,
 * it is enabled, or the device is not between FEATURES_OK and DRIVER_OK. */
struct virtio_queue *virtio_device_queue_open(struct virtio_device *device,
                                              unsigned queue);
/* Enables it if what the driver has set is sound, else fails the device. */
void virtio_device_queue_enable(struct virtio_device *device, unsigned queue);
/* The driver has put something into a queue; any number. */
void virtio_device_notify(struct virtio_device *device, unsigned queue);
