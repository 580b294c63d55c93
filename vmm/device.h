/* What every device of the machine is: one table of verbs.
 *
 * Shapes: a device embeds `struct device` as its first member and has one static
 * `struct device_ops`. The machine keeps its devices in one list and drives them by the
 * same table at start, reset, save, restore and end; the buses reach them by read and
 * write of a region; what a device asks of the machine goes through lines that the
 * machine has connected (`struct device_line`).
 *
 * Life: made by its own typed constructor (which opens nothing and starts nothing), then
 *     init -> start -> stop -> save -> sync -> start ... stop -> sync -> free
 * or, in a machine that comes out of a stream, init -> restore -> start. After stop no
 * work is in flight and no line is raised until start. reset may come at any time. A stop
 * that is begun (device_stop_begin) goes on without anybody who waits: `stopped` is
 * raised when no work is in flight; start, stop and reset end that, too.
 *
 * Threads: the caller of a verb, of read and of write holds the device's lock (the
 * functions below take it), but for sync, which takes as long as a disk does. A device
 * whose poller callback fires takes it itself. A line may be raised from any thread, with
 * the lock held. Ownership: the machine owns its devices. Errors: what the guest does is
 * never an error of a verb: it reads ones, is ignored, or the device goes out of service
 * until it is reset.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define DEVICE_NAME_SIZE  32u
#define DEVICE_ACCESS_MAX 8u /* bytes that one access of a vCPU can carry */

struct device;

struct device_ops {
    const char *kind;       /* "virtio-block"; one constant, also for the log */
    uint16_t state_version; /* of what save writes; restore takes it and the one before */
    /* Connects what lies behind the device (descriptors, pollers). 0 or an error. */
    int (*init)(struct device *device, struct err *err);
    /* As after power-on. */
    void (*reset)(struct device *device);
    /* Lets work flow (again). */
    void (*start)(struct device *device);
    /* Drains what is in flight, for as long as that takes, and holds the rest back. */
    void (*stop)(struct device *device);
    /* The same without waiting: true when work is in flight, and then the device calls
     * device_stop_end when none is. NULL: stop does not wait. */
    bool (*stop_begin)(struct device *device);
    /* Makes durable what the guest takes for written; only while stopped, on any thread
     * and without the lock. 0 or an error. After it a state that was saved since the stop
     * goes with what lies behind the device. */
    int (*sync)(struct device *device, struct err *err);
    /* Whether the state can be written as it is: 0, or why not now; only while stopped.
     */
    int (*may_save)(struct device *device, struct err *err);
    /* Writes the whole state; only while stopped, and when it may. */
    void (*save)(struct device *device, struct bytes_writer *writer);
    /* Takes the state that a device of the same kind has written; only before start. The
     * bytes may come from anywhere: what does not fit is refused with a reason. */
    int (*restore)(struct device *device,
                   uint16_t version,
                   struct bytes_reader *reader,
                   struct err *err);
    /* Ends a stopped device. */
    void (*free)(struct device *device);
    /* One access of `size` bytes (1..DEVICE_ACCESS_MAX) to a region; both may be NULL. A
     * read fills all bytes. */
    void (*read)(struct device *device,
                 unsigned region,
                 uint64_t offset,
                 void *ret_data,
                 unsigned size);
    void (*write)(struct device *device,
                  unsigned region,
                  uint64_t offset,
                  const void *data,
                  unsigned size);
};

/* A wire from a device into the machine: an interrupt, or "my configuration changed".
 * raise may be NULL: nothing is connected. */
struct device_line {
    void (*raise)(void *context, unsigned number);
    void *context;
};

struct device {
    const struct device_ops *ops;
    char name[DEVICE_NAME_SIZE]; /* unique in the machine: "disk0"; names its section */
    pthread_mutex_t lock;
    bool stops;      /* a stop is begun and not over; guarded by lock */
    bool is_leaving; /* for good: start is nothing; the machine's thread alone */
    struct device_line stopped; /* it is; for the machine */
};

static inline void device_line_raise(const struct device_line *line, unsigned number)
{
    if (line->raise != NULL) {
        line->raise(line->context, number);
    }
}

/* Fills the common part; the name is cut to fit. */
void device_setup(struct device *device, const struct device_ops *ops, const char *name);

/* The verbs, under the device's lock but for sync. */
int device_init(struct device *device, struct err *err);
void device_reset(struct device *device);
void device_start(struct device *device);
void device_stop(struct device *device);
/* Begins to stop: whether work is in flight, of one that stops already as well. */
bool device_stop_begin(struct device *device);
/* Whether one that began to stop still has work in flight. */
bool device_stops(struct device *device);
/* For the device, with the lock held: it has none any more. */
void device_stop_end(struct device *device);
int device_may_save(struct device *device, struct err *err);
int device_sync(struct device *device, struct err *err);
/* One section of a saved machine: kind, name, version and state (state_stream.h frames
 * and checks it). device_restore refuses a section that was written by another kind. */
void device_save(struct device *device, struct bytes_writer *writer);
int device_restore(struct device *device, struct bytes_reader *reader, struct err *err);
/* Stops and frees; NULL is fine. */
void device_free(struct device *device);
/* An access; sizes that no bus can make, or a device without the verb, read as ones and
 * write nothing. */
void device_read(struct device *device,
                 unsigned region,
                 uint64_t offset,
                 void *ret_data,
                 unsigned size);
void device_write(struct device *device,
                  unsigned region,
                  uint64_t offset,
                  const void *data,
                  unsigned size);
