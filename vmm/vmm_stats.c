#include "vmm/vmm_stats.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/require.h"
#include "vmm/virtio_block.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define MEMBER_SIZE 48u /* "failed_flush_operations", and more */

void vmm_stats_add(struct vmm_stats *stats,
                   const struct virtio_device *device,
                   const struct vmm_disk_option *disk)
{
    REQUIRE(stats->count < VMM_COUNTED_MAX);
    stats->devices[stats->count++] =
        (struct vmm_counted){.id = disk == NULL      ? device->name
                                   : disk->slot == 0 ? disk->name
                                                     : disk->id,
                             .device = device,
                             .disk = disk};
}

void vmm_stats_remove(struct vmm_stats *stats, const struct virtio_device *device)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < stats->count; i++) {
        if (stats->devices[i].device != device) {
            stats->devices[kept++] = stats->devices[i];
        }
    }
    stats->count = kept;
}

bool vmm_stats_has(const struct vmm_stats *stats, const char *id)
{
    for (unsigned i = 0; i < stats->count; i++) {
        if (strcmp(stats->devices[i].id, id) == 0) {
            return true;
        }
    }
    return false;
}

/* A list of what `pack` makes of each device, or of each disk. */
static json_t *list_of(const struct vmm_stats *stats,
                       bool disks_only,
                       json_t *(*pack)(const struct vmm_counted *counted,
                                       const void *context),
                       const void *context)
{
    json_t *list = json_array();
    for (unsigned i = 0; list != NULL && stats != NULL && i < stats->count; i++) {
        const struct vmm_counted *counted = &stats->devices[i];
        if (disks_only && counted->disk == NULL) {
            continue;
        }
        if (json_array_append_new(list, pack(counted, context)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* The whole object, or NULL and nothing is left of it. */
static json_t *whole(json_t *take_object, bool is_good)
{
    if (!is_good) {
        json_decref(take_object);
        return NULL;
    }
    return take_object;
}

static bool number_put(json_t *object, const char *name, uint64_t number)
{
    return json_object_set_new(object, name, json_integer((json_int_t)number)) == 0;
}

/* ---- query-block ---- */

static json_t *image_pack(const struct vmm_disk_option *disk,
                          const char *file,
                          const struct virtual_disk *content)
{
    json_t *image =
        json_pack("{s:s, s:s, s:I}", "filename", file, "format", content->ops->kind,
                  "virtual-size", (json_int_t)content->size_bytes);
    return whole(image, disk->base[0] == '\0' ||
                            json_object_set_new(image, "backing-filename",
                                                json_string(disk->base)) == 0);
}

/* A rate of the command line may be more than a number of JSON: that is none. */
static uint64_t rate_of(uint64_t rate)
{
    return rate < INT64_MAX ? rate : INT64_MAX;
}

/* They are of both directions: those of one alone there are none. */
static bool limits_put(json_t *inserted, const struct rate_specs *limits)
{
    static const char *const zeros[] = {"bps_rd", "bps_wr", "iops_rd", "iops_wr"};
    const struct rate_spec *bytes = &limits->bytes;
    const struct rate_spec *operations = &limits->operations;
    bool is_good = number_put(inserted, "bps", rate_of(bytes->rate)) &&
                   number_put(inserted, "iops", rate_of(operations->rate));
    for (unsigned i = 0; i < ARRAY_COUNT(zeros); i++) {
        is_good = is_good && number_put(inserted, zeros[i], 0);
    }
    if (bytes->burst != 0) { /* QEMU says these when they are set */
        is_good = is_good && number_put(inserted, "bps_max", rate_of(bytes->burst));
    }
    if (operations->burst != 0) {
        is_good = is_good && number_put(inserted, "iops_max", rate_of(operations->burst));
    }
    return is_good;
}

static json_t *inserted_pack(const struct vmm_counted *counted,
                             const struct vmm_throttle *throttle)
{
    const struct virtual_disk *content = virtio_block_disk(counted->device);
    const struct vmm_disk_option *disk = counted->disk;
    const char *file = disk->raw[0] != '\0' ? disk->raw : disk->overlay;
    const bool has_base = disk->base[0] != '\0';
    json_t *inserted = json_pack(
        "{s:s, s:b, s:s, s:i, s:b, s:s, s:i, s:{s:b, s:b, s:b}}", "file", file, "ro",
        (int)content->read_only, "drv", content->ops->kind, "backing_file_depth",
        has_base ? 1 : 0, "encrypted", 0, "detect_zeroes", "off", "write_threshold", 0,
        "cache", "writeback", 1, "direct", 0, "no-flush", 0);
    const bool is_good =
        (!has_base ||
         json_object_set_new(inserted, "backing_file", json_string(disk->base)) == 0) &&
        limits_put(inserted, vmm_throttle_limits(throttle, counted->device)) &&
        json_object_set_new(inserted, "image", image_pack(disk, file, content)) == 0;
    return whole(inserted, is_good);
}

static json_t *block_pack(const struct vmm_counted *counted, const void *throttle)
{
    json_t *block =
        json_pack("{s:s, s:s, s:s, s:b, s:b}", "device", counted->id, "qdev",
                  counted->device->name, "type", "unknown", "removable", 0, "locked", 0);
    return whole(block, json_object_set_new(block, "inserted",
                                            inserted_pack(counted, throttle)) == 0);
}

json_t *vmm_stats_blocks(const struct vmm_stats *stats,
                         const struct vmm_throttle *throttle)
{
    return list_of(stats, true, block_pack, throttle);
}

/* ---- query-blockstats ---- */

/* QEMU's names of kinds, in those of numbers. */
static const char *const kinds[BLOCK_KIND_COUNT] = {
    [BLOCK_READ] = "rd",
    [BLOCK_WRITE] = "wr",
    [BLOCK_FLUSH] = "flush",
    [BLOCK_UNMAP] = "unmap",
};

#define FIELD(field) offsetof(struct block_kind_stats, field)
#define ALL          0u
#define NO_FLUSH     (1u << BLOCK_FLUSH)
#define NO_UNMAP     (1u << BLOCK_UNMAP)

/* What QEMU says of each kind. */
static const struct {
    const char *before;
    const char *after;
    size_t offset;
    unsigned without; /* kinds that QEMU does not say it of */
} numbers[] = {
    {"", "_bytes", FIELD(bytes), NO_FLUSH},
    {"", "_operations", FIELD(operations), ALL},
    {"", "_total_time_ns", FIELD(total_ns), ALL},
    {"failed_", "_operations", FIELD(failed), ALL},
    {"invalid_", "_operations", FIELD(invalid), ALL},
};

static json_t *histogram_pack(const struct latency_histogram *histogram)
{
    json_t *boundaries = json_array();
    json_t *bins = json_array();
    bool is_good = true;
    for (unsigned i = 0; i < LATENCY_BINS; i++) {
        is_good =
            is_good && json_array_append_new(bins, json_integer((json_int_t)counter_read(
                                                       &histogram->bins[i]))) == 0;
    }
    for (unsigned i = 0; i < LATENCY_BOUNDARIES; i++) {
        const uint64_t boundary_ns = latency_histogram_boundary_ns(i);
        is_good = is_good && json_array_append_new(
                                 boundaries, json_integer((json_int_t)boundary_ns)) == 0;
    }
    json_t *packed = json_pack("{s:o, s:o}", "boundaries", boundaries, "bins", bins);
    return whole(packed, is_good);
}

static bool kind_put(json_t *object, const struct block_stats *stats, unsigned kind)
{
    const struct block_kind_stats *counts = &stats->kinds[kind];
    char name[MEMBER_SIZE];
    bool is_good = true;
    for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
        if ((numbers[i].without & 1u << kind) == 0) {
            const struct counter_row row = {name, numbers[i].offset};
            (void)snprintf(name, sizeof(name), "%s%s%s", numbers[i].before, kinds[kind],
                           numbers[i].after); /* fits */
            is_good = is_good && number_put(object, name, counter_row_read(&row, counts));
        }
    }
    if (kind == BLOCK_FLUSH) {
        return is_good;
    }
    (void)snprintf(name, sizeof(name), "%s_merged", kinds[kind]); /* fits */
    return is_good && number_put(object, name, 0);
}

static bool histogram_put(json_t *object, const struct block_stats *stats, unsigned kind)
{
    char name[MEMBER_SIZE];
    if ((NO_UNMAP & 1u << kind) != 0) {
        return true;
    }
    (void)snprintf(name, sizeof(name), "%s_latency_histogram", kinds[kind]); /* fits */
    return json_object_set_new(object, name,
                               histogram_pack(&stats->kinds[kind].latency)) == 0;
}

static json_t *counts_pack(const struct block_stats *stats, uint64_t now_ns)
{
    const uint64_t last_ns = counter_read(&stats->last_done_ns);
    json_t *counts = json_pack("{s:b, s:b, s:[]}", "account_invalid", 1, "account_failed",
                               1, "timed_stats");
    bool is_good =
        number_put(counts, "wr_highest_offset", counter_read(&stats->highest_offset));
    for (unsigned kind = 0; kind < BLOCK_KIND_COUNT; kind++) {
        is_good = is_good && kind_put(counts, stats, kind);
    }
    for (unsigned kind = 0; kind < BLOCK_KIND_COUNT; kind++) {
        is_good = is_good && histogram_put(counts, stats, kind);
    }
    if (last_ns != 0) {
        is_good = is_good && number_put(counts, "idle_time_ns",
                                        now_ns > last_ns ? now_ns - last_ns : 0);
    }
    return whole(counts, is_good);
}

static json_t *block_counts_pack(const struct vmm_counted *counted, const void *now_ns)
{
    json_t *block =
        json_pack("{s:s, s:s}", "device", counted->id, "qdev", counted->device->name);
    json_t *counts =
        counts_pack(virtio_block_stats(counted->device), *(const uint64_t *)now_ns);
    return whole(block, json_object_set_new(block, "stats", counts) == 0);
}

json_t *vmm_stats_block_counts(const struct vmm_stats *stats)
{
    const uint64_t now_ns = clock_now_ns(clock_system());
    return list_of(stats, true, block_counts_pack, &now_ns);
}

/* ---- x-query-device-stats ---- */

static json_t *
rows_pack(const struct counter_row *rows, unsigned count, const void *counted)
{
    json_t *numbers_now = json_object();
    bool is_good = true;
    for (unsigned i = 0; i < count; i++) {
        is_good = is_good && number_put(numbers_now, rows[i].name,
                                        counter_row_read(&rows[i], counted));
    }
    return whole(numbers_now, is_good);
}

static json_t *device_pack(const struct vmm_counted *counted, const void *context)
{
    static const struct counter_row common[] = {
        {"notifications", offsetof(struct virtio_device, notifications)},
        {"interrupts", offsetof(struct virtio_device, interrupts)},
        {"faults", offsetof(struct virtio_device, faults)},
    };
    const struct virtio_device *device = counted->device;
    const struct virtio_ops *ops = device->ops;
    (void)context;
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "id", counted->id, "qdev", device->name,
                     "driver", ops->kind, "queues",
                     rows_pack(common, ARRAY_COUNT(common), device), "stats",
                     rows_pack(ops->counters, ops->counter_count, device));
}

static json_t *serial_pack(const struct serial_port *serial)
{
    static const struct counter_row rows[] = {
        {"rx_bytes", offsetof(struct serial_port, rx_bytes)},
        {"tx_bytes", offsetof(struct serial_port, tx_bytes)},
    };
    const struct device *device = &serial->device;
    return json_pack("{s:s, s:s, s:s, s:o}", "id", device->name, "qdev", device->name,
                     "driver", device->ops->kind, "stats",
                     rows_pack(rows, ARRAY_COUNT(rows), serial));
}

json_t *vmm_stats_devices(const struct vmm_stats *stats)
{
    json_t *list = list_of(stats, false, device_pack, NULL);
    return stats == NULL || stats->serial == NULL
               ? list
               : whole(list,
                       json_array_append_new(list, serial_pack(stats->serial)) == 0);
}

/* ---- x-query-boot ---- */

static json_t *phases_pack(const struct boot_trace *trace)
{
    json_t *phases = json_array();
    bool is_good = true;
    for (unsigned i = 0; i < BOOT_PHASE_COUNT; i++) {
        const enum boot_phase phase = (enum boot_phase)i;
        const uint64_t at_ns = boot_trace_ns(trace, phase);
        if (at_ns != 0) {
            json_t *row = json_pack("{s:s, s:I}", "phase", boot_phase_name(phase), "ns",
                                    (json_int_t)at_ns);
            is_good = is_good && json_array_append_new(phases, row) == 0;
        }
    }
    return whole(phases, is_good);
}

static json_t *marks_pack(const struct boot_trace *trace)
{
    struct boot_mark marks[BOOT_MARKS_MAX];
    const unsigned count = boot_trace_marks(trace, marks);
    json_t *list = json_array();
    bool is_good = true;
    for (unsigned i = 0; i < count; i++) {
        json_t *row = json_pack("{s:i, s:I}", "byte", (int)marks[i].byte, "ns",
                                (json_int_t)marks[i].at_ns);
        is_good = is_good && json_array_append_new(list, row) == 0;
    }
    return whole(list, is_good);
}

json_t *vmm_stats_boot(const struct boot_trace *trace)
{
    return json_pack("{s:o, s:o}", "phases", phases_pack(trace), "marks",
                     marks_pack(trace));
}
