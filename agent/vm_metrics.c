#include "agent/vm_metrics.h"

#include "base/cleanup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NS_PER_S UINT64_C(1000000000)
/* Every second boundary: a factor of four from 2 us to 8.6 s, and a sample less for each
 * that is left out. */
#define BUCKETS 12u

struct family {
    const char *name;
    const char *type;
    const char *help;
    void (*write)(struct bytes_writer *writer,
                  const struct family *family,
                  const struct vm_metrics_row *row);
    unsigned number;
    unsigned verb; /* of a disk */
};

/* "NAME{vm="..",tenant=".." */
static void write_head(struct bytes_writer *writer,
                       const char *name,
                       const char *tail,
                       const struct vm_metrics_row *row)
{
    bytes_write_format(writer, "%s%s{vm=\"%s\",tenant=\"%s\"", name, tail, row->vm,
                       row->tenant);
}

static void write_seconds(struct bytes_writer *writer, uint64_t ns)
{
    bytes_write_format(writer, "%" PRIu64 ".%09" PRIu64 "\n", ns / NS_PER_S,
                       ns % NS_PER_S);
}

/* ---- disks ---- */

static void write_disks(struct bytes_writer *writer,
                        const struct family *family,
                        const struct vm_metrics_row *row)
{
    for (uint32_t i = 0; i < row->stats->disk_count; i++) {
        const struct vm_disk_stats *disk = &row->stats->disks[i];
        const struct vm_disk_verb_stats *verb = &disk->verbs[family->verb];
        if (vm_stats_is_told(verb->told, family->number)) {
            write_head(writer, family->name, "", row);
            bytes_write_format(writer, ",disk=\"%s\"} %" PRIu64 "\n", disk->name,
                               verb->numbers[family->number]);
        }
    }
}

static void write_errors(struct bytes_writer *writer,
                         const struct family *family,
                         const struct vm_metrics_row *row)
{
    static const struct {
        enum vm_disk_number number;
        const char *kind;
    } kinds[] = {{VM_DISK_FAILED, "failed"}, {VM_DISK_INVALID, "invalid"}};
    for (uint32_t i = 0; i < row->stats->disk_count; i++) {
        const struct vm_disk_stats *disk = &row->stats->disks[i];
        for (unsigned at = 0; at < VM_DISK_VERB_COUNT * ARRAY_COUNT(kinds); at++) {
            const unsigned verb = at / ARRAY_COUNT(kinds);
            const unsigned kind = at % ARRAY_COUNT(kinds);
            if (!vm_stats_is_told(disk->verbs[verb].told, kinds[kind].number)) {
                continue;
            }
            write_head(writer, family->name, "", row);
            bytes_write_format(writer,
                               ",disk=\"%s\",operation=\"%s\",kind=\"%s\"} %" PRIu64 "\n",
                               disk->name, vm_disk_verb_names[verb], kinds[kind].kind,
                               disk->verbs[verb].numbers[kinds[kind].number]);
        }
    }
}

static void write_histogram(struct bytes_writer *writer,
                            const struct family *family,
                            const struct vm_metrics_row *row,
                            const struct vm_disk_stats *disk,
                            unsigned verb)
{
    const struct vm_disk_verb_stats *stats = &disk->verbs[verb];
    const char *name = vm_disk_verb_names[verb];
    uint64_t sum = 0;
    unsigned bin = 0;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        const unsigned boundary = 2 * bucket + 1;
        for (; bin <= boundary; bin++) {
            sum += stats->bins[bin];
        }
        write_head(writer, family->name, "_bucket", row);
        bytes_write_format(
            writer, ",disk=\"%s\",operation=\"%s\",le=\"%.10g\"} %" PRIu64 "\n",
            disk->name, name, (double)VM_STATS_BOUNDARY_NS(boundary) / (double)NS_PER_S,
            sum);
    }
    for (; bin < VM_STATS_BINS; bin++) {
        sum += stats->bins[bin];
    }
    write_head(writer, family->name, "_bucket", row);
    bytes_write_format(writer, ",disk=\"%s\",operation=\"%s\",le=\"+Inf\"} %" PRIu64 "\n",
                       disk->name, name, sum);
    write_head(writer, family->name, "_sum", row);
    bytes_write_format(writer, ",disk=\"%s\",operation=\"%s\"} ", disk->name, name);
    write_seconds(writer, stats->numbers[VM_DISK_NS]);
    write_head(writer, family->name, "_count", row);
    bytes_write_format(writer, ",disk=\"%s\",operation=\"%s\"} %" PRIu64 "\n", disk->name,
                       name, sum);
}

_Static_assert(2 * BUCKETS == VM_STATS_BOUNDARIES,
               "the last bucket ends at the last one");

static bool has_any(const struct vm_disk_verb_stats *verb)
{
    bool any = false;
    for (unsigned bin = 0; bin < VM_STATS_BINS; bin++) {
        any = any || verb->bins[bin] > 0;
    }
    return any && verb->has_bins && vm_stats_is_told(verb->told, VM_DISK_NS);
}

/* Many disks are never flushed, and some never written: fifteen samples of nothing. */
static void write_latencies(struct bytes_writer *writer,
                            const struct family *family,
                            const struct vm_metrics_row *row)
{
    for (uint32_t i = 0; i < row->stats->disk_count; i++) {
        const struct vm_disk_stats *disk = &row->stats->disks[i];
        for (unsigned verb = 0; verb < VM_DISK_VERB_COUNT; verb++) {
            if (has_any(&disk->verbs[verb])) {
                write_histogram(writer, family, row, disk, verb);
            }
        }
    }
}

/* ---- NICs, CPUs, a start ---- */

static void write_nics(struct bytes_writer *writer,
                       const struct family *family,
                       const struct vm_metrics_row *row)
{
    for (uint32_t i = 0; i < row->stats->nic_count; i++) {
        const struct vm_nic_stats *nic = &row->stats->nics[i];
        if (vm_stats_is_told(nic->told, family->number)) {
            write_head(writer, family->name, "", row);
            bytes_write_format(writer, ",nic=\"%" PRIu32 "\"} %" PRIu64 "\n", i,
                               nic->numbers[family->number]);
        }
    }
}

static void write_exits(struct bytes_writer *writer,
                        const struct family *family,
                        const struct vm_metrics_row *row)
{
    for (unsigned reason = 0; reason < VM_EXIT_COUNT; reason++) {
        if (vm_stats_is_told(row->stats->exits_told, reason)) {
            write_head(writer, family->name, "", row);
            bytes_write_format(writer, ",reason=\"%s\"} %" PRIu64 "\n",
                               vm_exit_reason_names[reason], row->stats->exits[reason]);
        }
    }
}

static void write_boot(struct bytes_writer *writer,
                       const struct family *family,
                       const struct vm_metrics_row *row)
{
    for (unsigned phase = 0; phase < VM_BOOT_COUNT; phase++) {
        if (vm_stats_is_told(row->stats->boot_told, phase)) {
            write_head(writer, family->name, "", row);
            bytes_write_format(writer, ",phase=\"%s\"} ", vm_boot_phase_names[phase]);
            write_seconds(writer, row->stats->boot_ns[phase]);
        }
    }
}

/* ---- all ---- */

#define DISK(member, verb, number, help)                                             \
    {                                                                                \
        "berth_vm_disk_" member "_total", "counter", help, write_disks, number, verb \
    }
#define NIC(member, number, help)                                               \
    {                                                                           \
        "berth_vm_nic_" member "_total", "counter", help, write_nics, number, 0 \
    }

/* The last is the first to be left out. */
static const struct family families[] = {
    {"berth_vm_boot_seconds", "gauge",
     "From the exec of each VM's program to each phase of its start.", write_boot, 0, 0},
    DISK("read_bytes",
         VM_DISK_READ,
         VM_DISK_BYTES,
         "Bytes that each VM has read from each disk."),
    DISK("read_operations", VM_DISK_READ, VM_DISK_OPERATIONS, "Reads that succeeded."),
    DISK("write_bytes",
         VM_DISK_WRITE,
         VM_DISK_BYTES,
         "Bytes that each VM has written to each disk."),
    DISK("write_operations", VM_DISK_WRITE, VM_DISK_OPERATIONS, "Writes that succeeded."),
    DISK("flush_operations",
         VM_DISK_FLUSH,
         VM_DISK_OPERATIONS,
         "Flushes that succeeded."),
    DISK("discard_bytes",
         VM_DISK_DISCARD,
         VM_DISK_BYTES,
         "Bytes that each VM has discarded of each disk."),
    DISK("discard_operations",
         VM_DISK_DISCARD,
         VM_DISK_OPERATIONS,
         "Discards that succeeded."),
    {"berth_vm_disk_errors_total", "counter",
     "Requests that the disk could not do (failed), or that were refused before it was "
     "asked (invalid).",
     write_errors, 0, 0},
    NIC("rx_bytes", VM_NIC_RX_BYTES, "Bytes to each VM, as its host's device counts."),
    NIC("rx_packets", VM_NIC_RX_PACKETS, "Packets to each VM."),
    NIC("rx_dropped", VM_NIC_RX_DROPPED, "Packets to each VM that were dropped."),
    NIC("tx_bytes", VM_NIC_TX_BYTES, "Bytes from each VM, likewise."),
    NIC("tx_packets", VM_NIC_TX_PACKETS, "Packets from each VM."),
    NIC("tx_dropped", VM_NIC_TX_DROPPED, "Packets from each VM that were dropped."),
    {"berth_vm_exits_total", "counter",
     "How often CPUs of each VM left the guest for its program, by reason.", write_exits,
     0, 0},
    {"berth_vm_disk_latency_seconds", "histogram",
     "How long requests took that succeeded or failed, without what waited for a limit.",
     write_latencies, 0, 0},
};

void vm_metrics_add(struct vm_metrics *metrics,
                    const char *vm,
                    const char *tenant,
                    const struct vm_stats *stats)
{
    if (stats == NULL) {
        return;
    }
    if (metrics->count == metrics->room) {
        const size_t room = metrics->room == 0 ? 64 : 2 * metrics->room;
        struct vm_metrics_row *rows =
            reallocarray(metrics->rows, room, sizeof(metrics->rows[0]));
        if (rows == NULL) {
            metrics->left_out++;
            return;
        }
        metrics->rows = rows;
        metrics->room = room;
    }
    struct vm_metrics_row *row = &metrics->rows[metrics->count++];
    (void)snprintf(row->vm, sizeof(row->vm), "%s", vm); /* names fit */
    (void)snprintf(row->tenant, sizeof(row->tenant), "%s", tenant);
    row->stats = stats;
}

void vm_metrics_write(struct vm_metrics *metrics,
                      struct bytes_writer *writer,
                      size_t size_max)
{
    const size_t start = writer->size;
    for (size_t i = 0; i < ARRAY_COUNT(families); i++) {
        const struct family *family = &families[i];
        bytes_write_format(writer, "# HELP %s %s\n# TYPE %s %s\n", family->name,
                           family->help, family->name, family->type);
        for (size_t row = 0; row < metrics->count; row++) {
            if (writer->size - start < size_max) {
                family->write(writer, family, &metrics->rows[row]);
            } else {
                metrics->left_out++;
            }
        }
    }
    bytes_write_format(writer,
                       "# HELP berth_vm_metrics_left_out Families of VMs that are "
                       "missing here, for the text would be too long.\n"
                       "# TYPE berth_vm_metrics_left_out gauge\n"
                       "berth_vm_metrics_left_out %" PRIu64 "\n",
                       metrics->left_out);
}

void vm_metrics_fini(struct vm_metrics *metrics)
{
    free(metrics->rows);
    *metrics = (struct vm_metrics){0};
}
