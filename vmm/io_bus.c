#include "vmm/io_bus.h"

#include <stdbool.h>
#include <string.h>

void io_bus_init(struct io_bus *bus)
{
    bus->count = 0;
    (void)pthread_rwlock_init(&bus->lock, NULL); /* cannot fail without attributes */
}

void io_bus_fini(struct io_bus *bus)
{
    (void)pthread_rwlock_destroy(&bus->lock);
}

/* How many ranges begin at or before that place. */
static unsigned count_up_to(const struct io_bus *bus, enum io_space space, uint64_t at)
{
    unsigned low = 0;
    unsigned high = bus->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct io_range *range = &bus->ranges[middle];
        if (range->space < space || (range->space == space && range->start <= at)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Does the range before `index` reach to `at`? */
static bool
is_held(const struct io_bus *bus, unsigned index, enum io_space space, uint64_t at)
{
    if (index == 0) {
        return false;
    }
    const struct io_range *before = &bus->ranges[index - 1];
    return before->space == space && at - before->start < before->size;
}

/* Would the range that begins at `index` overlap the next one? */
static bool
is_in_the_way(const struct io_bus *bus, unsigned index, const struct io_range *range)
{
    if (index == bus->count) {
        return false;
    }
    const struct io_range *next = &bus->ranges[index];
    return next->space == range->space && next->start - range->start < range->size;
}

static int range_insert(struct io_bus *bus, const struct io_range *range, struct err *err)
{
    unsigned index = count_up_to(bus, range->space, range->start);
    if (bus->count == IO_RANGES_MAX) {
        return err_set(err, BERTH_EFULL, "bus: more than %u ranges", IO_RANGES_MAX);
    }
    if (is_held(bus, index, range->space, range->start) ||
        is_in_the_way(bus, index, range)) {
        return err_set(err, BERTH_EEXISTS, "bus: 0x%llx is taken",
                       (unsigned long long)range->start);
    }
    for (unsigned i = bus->count; i > index; i--) {
        bus->ranges[i] = bus->ranges[i - 1];
    }
    bus->ranges[index] = *range;
    bus->count++;
    return 0;
}

int io_bus_add(struct io_bus *bus, const struct io_range *range, struct err *err)
{
    if (range->size == 0 || range->start + range->size - 1 < range->start) {
        return err_set(err, BERTH_EINVALID, "bus: an empty range or one that wraps");
    }
    pthread_rwlock_wrlock(&bus->lock);
    int r = range_insert(bus, range, err);
    pthread_rwlock_unlock(&bus->lock);
    return r;
}

void io_bus_remove(struct io_bus *bus, enum io_space space, uint64_t start)
{
    pthread_rwlock_wrlock(&bus->lock);
    unsigned index = count_up_to(bus, space, start);
    if (is_held(bus, index, space, start) && bus->ranges[index - 1].start == start) {
        bus->count--;
        for (unsigned i = index - 1; i < bus->count; i++) {
            bus->ranges[i] = bus->ranges[i + 1];
        }
    }
    pthread_rwlock_unlock(&bus->lock);
}

/* The range that holds the whole access; false when there is none. */
static bool range_find(struct io_bus *bus,
                       enum io_space space,
                       uint64_t address,
                       unsigned size,
                       struct io_range *ret_range)
{
    bool found = false;
    pthread_rwlock_rdlock(&bus->lock);
    unsigned index = count_up_to(bus, space, address);
    if (is_held(bus, index, space, address)) {
        *ret_range = bus->ranges[index - 1];
        found = size <= ret_range->size - (address - ret_range->start);
    }
    pthread_rwlock_unlock(&bus->lock);
    return found;
}

void io_bus_read(struct io_bus *bus,
                 enum io_space space,
                 uint64_t address,
                 void *ret_data,
                 unsigned size)
{
    struct io_range range;
    if (range_find(bus, space, address, size, &range)) {
        device_read(range.device, range.region, address - range.start, ret_data, size);
    } else {
        memset(ret_data, 0xff, size);
    }
}

void io_bus_write(struct io_bus *bus,
                  enum io_space space,
                  uint64_t address,
                  const void *data,
                  unsigned size)
{
    struct io_range range;
    if (range_find(bus, space, address, size, &range)) {
        device_write(range.device, range.region, address - range.start, data, size);
    }
}
