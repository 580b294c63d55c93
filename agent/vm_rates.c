#include "agent/vm_rates.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <stddef.h>
#include <stdlib.h>

#define SWEEP_EVERY 4096u /* totals taken */
#define RATE_MAX    1e15  /* a program may say anything */

struct totals {
    uint64_t host;
    uint64_t heard_ns;
    struct msg_vm_seen latest; /* without its text */
    struct msg_vm_seen before; /* counted_ms 0: there is none */
};

struct vm_rates {
    struct u64_map *vms; /* uid -> struct totals */
    unsigned taken;
};

/* ---- the host's part ---- */

static uint64_t boot_us(const struct vm_stats *stats, enum vm_boot_phase phase)
{
    return vm_stats_is_told(stats->boot_told, phase) ? stats->boot_ns[phase] / 1000 : 0;
}

static void add_disk(struct msg_vm_seen *seen, const struct vm_disk_stats *disk)
{
    const struct vm_disk_verb_stats *verbs = disk->verbs;
    seen->disks_counted = seen->disks_counted ||
                          (verbs[VM_DISK_READ].told | verbs[VM_DISK_WRITE].told) != 0;
    seen->disk_read_bytes += verbs[VM_DISK_READ].numbers[VM_DISK_BYTES];
    seen->disk_reads += verbs[VM_DISK_READ].numbers[VM_DISK_OPERATIONS];
    seen->disk_write_bytes += verbs[VM_DISK_WRITE].numbers[VM_DISK_BYTES];
    seen->disk_writes += verbs[VM_DISK_WRITE].numbers[VM_DISK_OPERATIONS];
    for (unsigned verb = VM_DISK_READ; verb <= VM_DISK_WRITE; verb++) {
        seen->disk_requests +=
            verbs[verb].numbers[VM_DISK_OPERATIONS] + verbs[verb].numbers[VM_DISK_FAILED];
        seen->disk_ns += verbs[verb].numbers[VM_DISK_NS];
    }
}

static void fill(struct msg_vm_seen *seen, const struct vm_stats *stats)
{
    seen->counted_ms = stats->told_ms;
    for (uint32_t i = 0; i < stats->disk_count; i++) {
        add_disk(seen, &stats->disks[i]);
    }
    for (uint32_t i = 0; i < stats->nic_count; i++) {
        const struct vm_nic_stats *nic = &stats->nics[i];
        if (vm_stats_is_told(nic->told, VM_NIC_RX_BYTES)) {
            seen->nics_counted = true;
            seen->nic_rx_bytes += nic->numbers[VM_NIC_RX_BYTES];
            seen->nic_tx_bytes += nic->numbers[VM_NIC_TX_BYTES];
        }
    }
    seen->boot_ready_us = boot_us(stats, VM_BOOT_READY);
    seen->boot_first_run_us = boot_us(stats, VM_BOOT_FIRST_RUN);
}

void vm_rates_fill_news(struct u64_map *told,
                        unsigned *room,
                        const struct vm_stats *stats,
                        struct msg_vm_seen *seen)
{
    if (stats == NULL) {
        (void)u64_map_remove(told, seen->vm);
        return;
    }
    void *news = (void *)(uintptr_t)stats->told_ms;
    if (news != NULL && news != u64_map_get(told, seen->vm) && *room > 0 &&
        u64_map_put(told, seen->vm, news) >= 0) { /* else with the next heartbeat */
        (*room)--;
        fill(seen, stats);
    }
}

/* ---- the leader's part ---- */

/* All that only grows. */
static const size_t counters[] = {
    offsetof(struct msg_vm_seen, counted_ms),
    offsetof(struct msg_vm_seen, disk_read_bytes),
    offsetof(struct msg_vm_seen, disk_reads),
    offsetof(struct msg_vm_seen, disk_write_bytes),
    offsetof(struct msg_vm_seen, disk_writes),
    offsetof(struct msg_vm_seen, disk_requests),
    offsetof(struct msg_vm_seen, disk_ns),
    offsetof(struct msg_vm_seen, nic_rx_bytes),
    offsetof(struct msg_vm_seen, nic_tx_bytes),
};

static uint64_t counter_of(const struct msg_vm_seen *seen, size_t offset)
{
    return *(const uint64_t *)(const void *)((const char *)seen + offset);
}

static bool follows(const struct msg_vm_seen *next, const struct msg_vm_seen *before)
{
    bool grown = next->nics_counted == before->nics_counted &&
                 next->disks_counted == before->disks_counted;
    for (size_t i = 0; i < ARRAY_COUNT(counters); i++) {
        grown = grown && counter_of(next, counters[i]) >= counter_of(before, counters[i]);
    }
    return grown;
}

static bool is_old(const struct totals *totals, uint64_t now_ns)
{
    return now_ns > totals->heard_ns + VM_RATES_KEPT_MS * NS_PER_MS;
}

/* VMs come and go; those that are gone are found among the others now and then. */
static void sweep(struct vm_rates *rates, uint64_t now_ns)
{
    struct u64_map *kept = u64_map_new();
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (kept != NULL && u64_map_next(rates->vms, &cursor, &uid, &value)) {
        if (is_old(value, now_ns) || u64_map_put(kept, uid, value) < 0) {
            free(value);
        }
    }
    if (kept != NULL) {
        u64_map_free(rates->vms);
        rates->vms = kept;
    }
}

struct vm_rates *vm_rates_new(void)
{
    struct vm_rates *rates = calloc(1, sizeof(*rates));
    if (rates != NULL) {
        rates->vms = u64_map_new();
    }
    return rates != NULL && rates->vms == NULL ? vm_rates_free(rates) : rates;
}

struct vm_rates *vm_rates_free(struct vm_rates *rates)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (rates != NULL && rates->vms != NULL &&
           u64_map_next(rates->vms, &cursor, &uid, &value)) {
        free(value);
    }
    if (rates != NULL) {
        u64_map_free(rates->vms);
    }
    free(rates);
    return NULL;
}

static struct totals *totals_of(struct vm_rates *rates, uint64_t vm)
{
    struct totals *totals = u64_map_get(rates->vms, vm);
    if (totals != NULL) {
        return totals;
    }
    totals = calloc(1, sizeof(*totals));
    if (totals != NULL && u64_map_put(rates->vms, vm, totals) < 0) {
        free(totals);
        totals = NULL;
    }
    return totals;
}

void vm_rates_take(struct vm_rates *rates,
                   uint64_t host,
                   const struct msg_vm_seen *seen,
                   uint64_t now_ns)
{
    if (seen->counted_ms == 0) {
        return;
    }
    struct msg_vm_seen latest = *seen; /* without its text */
    latest.reason = NULL;
    /* Hosts of before tell totals of disks alone, and zeros of none. */
    latest.disks_counted = seen->disks_counted || seen->disk_requests > 0;
    if (++rates->taken % SWEEP_EVERY == 0) {
        sweep(rates, now_ns);
    }
    struct totals *totals = totals_of(rates, seen->vm);
    const bool is_same_run =
        totals != NULL && totals->host == host && totals->latest.epoch == seen->epoch;
    if (totals == NULL ||
        (is_same_run && totals->latest.counted_ms == seen->counted_ms)) {
        return; /* or it was heard already */
    }
    const bool goes_on = is_same_run && follows(&latest, &totals->latest);
    totals->before = goes_on ? totals->latest : (struct msg_vm_seen){0};
    totals->latest = latest;
    totals->host = host;
    totals->heard_ns = now_ns;
}

static json_int_t a_second(const struct totals *totals, size_t offset)
{
    const uint64_t more =
        counter_of(&totals->latest, offset) - counter_of(&totals->before, offset);
    const uint64_t past_ms = totals->latest.counted_ms - totals->before.counted_ms;
    const double rate = (double)more * 1000.0 / (double)past_ms;
    return (json_int_t)(rate < RATE_MAX ? rate : RATE_MAX);
}

#define A_SECOND(member) a_second(totals, offsetof(struct msg_vm_seen, member))

/* Of a time without requests there is no latency. */
static json_t *disk_told(const struct totals *totals)
{
    json_t *disk =
        json_pack("{s:I, s:I, s:I, s:I}", "readBytesPerSecond", A_SECOND(disk_read_bytes),
                  "readsPerSecond", A_SECOND(disk_reads), "writeBytesPerSecond",
                  A_SECOND(disk_write_bytes), "writesPerSecond", A_SECOND(disk_writes));
    const uint64_t requests = totals->latest.disk_requests - totals->before.disk_requests;
    if (disk != NULL && requests > 0) {
        const uint64_t ns = totals->latest.disk_ns - totals->before.disk_ns;
        (void)json_object_set_new(disk, "latencyUs",
                                  json_integer((json_int_t)(ns / requests / 1000)));
    }
    return disk;
}

bool vm_rates_tell(const struct vm_rates *rates,
                   uint64_t vm,
                   uint64_t epoch,
                   uint64_t now_ns,
                   json_t *live)
{
    const struct totals *totals = u64_map_get(rates->vms, vm);
    if (totals == NULL || totals->latest.epoch != epoch || is_old(totals, now_ns)) {
        return false;
    }
    const struct msg_vm_seen *latest = &totals->latest;
    if (totals->before.counted_ms != 0 && latest->disks_counted) {
        (void)json_object_set_new(live, "disk", disk_told(totals));
    }
    if (totals->before.counted_ms != 0 && latest->nics_counted) {
        (void)json_object_set_new(live, "nics",
                                  json_pack("{s:I, s:I}", "rxBytesPerSecond",
                                            A_SECOND(nic_rx_bytes), "txBytesPerSecond",
                                            A_SECOND(nic_tx_bytes)));
    }
    if (latest->boot_first_run_us != 0) {
        (void)json_object_set_new(
            live, "boot",
            json_pack("{s:I, s:I}", "readyUs", (json_int_t)latest->boot_ready_us,
                      "firstRunUs", (json_int_t)latest->boot_first_run_us));
    }
    return json_object_size(live) > 0;
}
