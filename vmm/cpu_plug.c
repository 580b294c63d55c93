#include "vmm/cpu_plug.h"

#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define STATE_VERSION 1u
#define SET_BYTES     (CPU_PLUG_MAX / 8)
#define NO_REGISTER   0xffu

static struct cpu_plug *plug_of(struct device *device)
{
    return (struct cpu_plug *)(void *)device;
}

static uint64_t set_of(unsigned count)
{
    return UINT64_MAX >> (CPU_PLUG_MAX - count);
}

static void plug_reset(struct device *device)
{
    plug_of(device)->come = 0;
}

static void plug_save(struct device *device, struct bytes_writer *writer)
{
    const struct cpu_plug *plug = plug_of(device);
    bytes_write_u64(writer, plug->present);
    bytes_write_u64(writer, plug->come);
}

static int plug_restore(struct device *device,
                        uint16_t version,
                        struct bytes_reader *reader,
                        struct err *err)
{
    struct cpu_plug *plug = plug_of(device);
    const uint64_t present = bytes_read_u64(reader);
    const uint64_t come = bytes_read_u64(reader);
    (void)version; /* there is one */
    if (bytes_reader_end(reader) != 0) {
        return err_set(err, BERTH_ECORRUPT, "plugged CPUs: not two sets");
    }
    if ((present & 1) == 0 || (present & ~set_of(plug->cpu_count)) != 0 ||
        (come & ~present) != 0) {
        return err_set(err, BERTH_ECORRUPT,
                       "plugged CPUs: 0x%" PRIx64 " of %u, 0x%" PRIx64 " are news",
                       present, plug->cpu_count, come);
    }
    plug->present = present;
    plug->come = come;
    return 0;
}

static void plug_free(struct device *device)
{
    free(plug_of(device));
}

static uint8_t register_read(struct cpu_plug *plug, uint64_t offset)
{
    if (offset < CPU_PLUG_COME) {
        return (uint8_t)(plug->present >> (8 * offset));
    }
    if (offset >= CPU_PLUG_COME + SET_BYTES) {
        return NO_REGISTER;
    }
    const uint64_t shift = 8 * (offset - CPU_PLUG_COME);
    const uint8_t come = (uint8_t)(plug->come >> shift);
    plug->come &= ~(UINT64_C(0xff) << shift);
    return come;
}

static void plug_read(struct device *device,
                      unsigned region,
                      uint64_t offset,
                      void *ret_data,
                      unsigned size)
{
    uint8_t *bytes = ret_data;
    (void)region; /* there is one */
    for (unsigned i = 0; i < size; i++) {
        bytes[i] = register_read(plug_of(device), offset + i);
    }
}

static const struct device_ops plug_ops = {
    .kind = "cpu-plug",
    .state_version = STATE_VERSION,
    .reset = plug_reset,
    .save = plug_save,
    .restore = plug_restore,
    .free = plug_free,
    .read = plug_read,
};

int cpu_plug_new(unsigned cpu_count, unsigned present_count, struct cpu_plug **ret_plug)
{
    REQUIRE(present_count >= 1 && present_count <= cpu_count);
    REQUIRE(cpu_count <= CPU_PLUG_MAX);
    struct cpu_plug *plug = calloc(1, sizeof(*plug));
    if (plug == NULL) {
        return -ENOMEM;
    }
    device_setup(&plug->device, &plug_ops, "cpus");
    plug->cpu_count = cpu_count;
    plug->present = set_of(present_count);
    *ret_plug = plug;
    return 0;
}

void cpu_plug_add(struct cpu_plug *plug, unsigned index, bool is_news)
{
    REQUIRE(index < plug->cpu_count);
    pthread_mutex_lock(&plug->device.lock);
    plug->present |= UINT64_C(1) << index;
    plug->come |= is_news ? UINT64_C(1) << index : 0;
    pthread_mutex_unlock(&plug->device.lock);
}

uint64_t cpu_plug_present(struct cpu_plug *plug)
{
    pthread_mutex_lock(&plug->device.lock);
    const uint64_t present = plug->present;
    pthread_mutex_unlock(&plug->device.lock);
    return present;
}
