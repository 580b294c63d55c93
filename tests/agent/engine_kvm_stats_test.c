/* Goal: what a guest does with its disk is what the agent is told, request for request,
 * and so are its exits and its start. Method: the real berth-vmm under the supervisor;
 * the micro guest (tests/vmm/guest) writes its whole disk, flushes and reads it again,
 * and waits. 77 without KVM (tests/system/kvm_machine_test.sh runs this where there is
 * one). */
#include "agent/vm_metrics.h"
#include "micro_guest_bench.h"

#include <check.h>

#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BYTES 8192u /* of a request of the guest's */
#define SOUND_BYTES 512u  /* of the one read by which it sees that the disk serves */

static void setup(void)
{
    static const struct engine_ops *const engines[] = {&engine_kvm, NULL};
    bench_init(engines, 120000);
    bench.kvm = KVM_NATIVE;
    bench.stats_ms = 20;
    open_loop();
    open_supervisor();
}

/* Until a round has told that much of the disk. */
static const struct vm_disk_stats *wait_operations(enum vm_disk_verb verb, uint64_t count)
{
    const struct vm_stats *stats = NULL;
    do {
        uv_run(&bench.loop, UV_RUN_ONCE);
        stats = vm_supervisor_stats(bench.supervisor, UID);
    } while (stats == NULL ||
             stats->disks[0].verbs[verb].numbers[VM_DISK_OPERATIONS] < count);
    return &stats->disks[0];
}

static uint64_t bins_of(const struct vm_disk_verb_stats *verb)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < VM_STATS_BINS; i++) {
        sum += verb->bins[i];
    }
    return sum;
}

static void ck_verb(const struct vm_disk_stats *disk,
                    enum vm_disk_verb which,
                    uint64_t operations,
                    uint64_t bytes)
{
    const struct vm_disk_verb_stats *verb = &disk->verbs[which];
    ck_assert_uint_eq(verb->numbers[VM_DISK_OPERATIONS], operations);
    ck_assert_uint_eq(verb->numbers[VM_DISK_BYTES], bytes);
    ck_assert_uint_eq(verb->numbers[VM_DISK_FAILED], 0);
    ck_assert_uint_eq(verb->numbers[VM_DISK_INVALID], 0);
    ck_assert_uint_gt(verb->numbers[VM_DISK_NS], 0);
    ck_assert(verb->has_bins);
    ck_assert_uint_eq(bins_of(verb), operations);
}

/* Of the disk, as a host tells it. */
static void ck_metric(const char *name, const char *labels, uint64_t is)
{
    struct vm_metrics metrics = {0};
    struct bytes_writer writer;
    char *text = NULL;
    char line[256];
    const struct vm_report report = report_of(UID);
    bytes_writer_init(&writer, SIZE_MAX);
    vm_metrics_add(&metrics, report.name, report.tenant,
                   vm_supervisor_stats(bench.supervisor, UID));
    vm_metrics_write(&metrics, &writer, VM_METRICS_SIZE_MAX);
    vm_metrics_fini(&metrics);
    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), 0);
    (void)snprintf(line, sizeof(line),
                   "\n%s{vm=\"%s\",tenant=\"%s\",disk=\"data\"%s} %llu\n", name,
                   report.name, report.tenant, labels, (unsigned long long)is);
    ck_assert_msg(strstr(text, line) != NULL, "not%s", line);
    free(text);
}

START_TEST(requests_of_a_guest_are_told_one_for_one)
{
    const uint64_t requests = MIB / CHUNK_BYTES;
    boot();
    type(UID, "gg"); /* for all but its last wait */
    wait_console(UID, "ask compare\n");

    const struct vm_disk_stats *disk = wait_operations(VM_DISK_READ, requests + 2);

    ck_verb(disk, VM_DISK_WRITE, requests, MIB);
    ck_verb(disk, VM_DISK_FLUSH, 1, 0);
    ck_verb(disk, VM_DISK_READ, requests + 2, MIB + 2 * SOUND_BYTES);
    ck_metric("berth_vm_disk_write_operations_total", "", requests);
    ck_metric("berth_vm_disk_write_bytes_total", "", MIB);
    ck_metric("berth_vm_disk_flush_operations_total", "", 1);
    ck_metric("berth_vm_disk_read_operations_total", "", requests + 2);
    ck_metric("berth_vm_disk_latency_seconds_count", ",operation=\"write\"", requests);
}
END_TEST

START_TEST(a_start_and_exits_are_told)
{
    boot();
    (void)wait_operations(VM_DISK_WRITE, 0);
    const struct vm_stats *stats = vm_supervisor_stats(bench.supervisor, UID);
    while (!vm_stats_is_told(stats->boot_told, VM_BOOT_FIRST_BYTE)) {
        uv_run(&bench.loop, UV_RUN_ONCE); /* it has said something, so this comes */
    }

    ck_assert(vm_stats_is_told(stats->exits_told, VM_EXIT_PORT));
    ck_assert_uint_gt(stats->exits[VM_EXIT_PORT], strlen("ask measure\n"));
    ck_assert_uint_eq(stats->exits[VM_EXIT_BROKEN], 0);
    ck_assert_uint_gt(stats->boot_ns[VM_BOOT_STARTED], 0);
    ck_assert_uint_ge(stats->boot_ns[VM_BOOT_FIRST_RUN], stats->boot_ns[VM_BOOT_READY]);
    ck_assert_uint_ge(stats->boot_ns[VM_BOOT_FIRST_BYTE],
                      stats->boot_ns[VM_BOOT_FIRST_RUN]);
    ck_assert(!vm_stats_is_told(stats->boot_told, VM_BOOT_RESTORED));
}
END_TEST

int main(void)
{
    char path[8192];
    if (access(ENGINE_KVM_DEVICE, R_OK | W_OK) != 0 || access(guest_path(), R_OK) != 0) {
        return test_main_skip("there is no KVM here, or no guest for it");
    }
#ifdef __SANITIZE_THREAD__
    return test_main_skip("its runtime calls what berth-vmm's walls keep out");
#endif
    (void)snprintf(path, sizeof(path), "%s:%s", BERTH_BINARY_DIR, getenv("PATH"));
    (void)setenv("PATH", path, 1);
    Suite *suite = suite_create("engine_kvm_stats");
    TCase *tests = tcase_create("engine_kvm_stats");
    tcase_set_timeout(tests, 150);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, requests_of_a_guest_are_told_one_for_one);
    tcase_add_test(tests, a_start_and_exits_are_told);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
