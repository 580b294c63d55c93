/* Which device answers at a port or an address: one table of ranges for both.
 *
 * Shapes: `struct io_range` gives a part of a space to one region of a device; the table
 * is sorted by space and start, ranges are disjoint. An access finds its range and goes
 * to the device with the offset in it; what no range holds whole reads ones and writes
 * nothing, as on a bus where nobody answers.
 *
 * Threads: any. The table has a lock of its own, held only to look a range up or to
 * change the table, never while a device works: a device may move its ranges in answer to
 * a write. So a device is freed while no CPU runs, or after the bus. Limits:
 * IO_RANGES_MAX. Errors: BERTH_EFULL, BERTH_EINVALID (empty or wrapping range),
 * BERTH_EEXISTS (overlap).
 */
#pragma once

#include "base/err.h"
#include "vmm/device.h"

#include <pthread.h>
#include <stdint.h>

#define IO_RANGES_MAX 128u /* 32 PCI devices with up to 3 BARs, and the platform */

enum io_space { IO_PORTS = 0, IO_MEMORY, IO_SPACE_COUNT };

struct io_range {
    enum io_space space;
    uint64_t start;
    uint64_t size;
    struct device *device;
    unsigned region;
};

struct io_bus {
    pthread_rwlock_t lock;
    struct io_range ranges[IO_RANGES_MAX]; /* guarded by lock; sorted */
    unsigned count;                        /* guarded by lock */
};

void io_bus_init(struct io_bus *bus);
void io_bus_fini(struct io_bus *bus);
int io_bus_add(struct io_bus *bus, const struct io_range *range, struct err *err);
/* Takes out what starts there; nothing there is fine. */
void io_bus_remove(struct io_bus *bus, enum io_space space, uint64_t start);
/* One access of 1..DEVICE_ACCESS_MAX bytes. */
void io_bus_read(struct io_bus *bus,
                 enum io_space space,
                 uint64_t address,
                 void *ret_data,
                 unsigned size);
void io_bus_write(struct io_bus *bus,
                  enum io_space space,
                  uint64_t address,
                  const void *data,
                  unsigned size);
