/* Goal: numbers of VMs become exactly this text, which stays within its bound. */
#include "agent/vm_metrics.h"
#include "support/test_main.h"

#include <check.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vm_stats stats;
static struct vm_metrics metrics;
static char *text;

static void setup(void)
{
    const struct engine_vm vm = {
        .disks = {{.name = "root"}, {.name = "data"}}, .disk_count = 2, .nic_count = 2};
    vm_stats_init(&stats, &vm);
    metrics = (struct vm_metrics){0};
    text = NULL;
}

static void teardown(void)
{
    vm_metrics_fini(&metrics);
    free(text);
}

static void write_all(size_t size_max)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, SIZE_MAX);
    vm_metrics_write(&metrics, &writer, size_max);
    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), 0);
}

static void tell_disk(unsigned disk, enum vm_disk_verb verb, unsigned number, uint64_t is)
{
    stats.disks[disk].verbs[verb].numbers[number] = is;
    stats.disks[disk].verbs[verb].told |= 1U << number;
}

static void ck_has(const char *words)
{
    ck_assert_msg(strstr(text, words) != NULL, "not '%s' in:\n%.3000s", words, text);
}

static unsigned count_of(const char *words)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++) {
        count++;
    }
    return count;
}

START_TEST(of_a_vm_that_has_told_nothing_there_is_nothing)
{
    vm_metrics_add(&metrics, "web-1", "shop", &stats);
    vm_metrics_add(&metrics, "web-2", "shop", NULL);

    write_all(VM_METRICS_SIZE_MAX);

    ck_assert_uint_eq(count_of("{vm="), 0);
    ck_has("# HELP berth_vm_disk_read_bytes_total Bytes that each VM has read from ");
    ck_has("# TYPE berth_vm_disk_read_bytes_total counter\n");
    ck_has("# TYPE berth_vm_disk_latency_seconds histogram\n");
    ck_has("# TYPE berth_vm_boot_seconds gauge\n");
    ck_has("\nberth_vm_metrics_left_out 0\n");
}
END_TEST

START_TEST(numbers_of_disks_are_samples_each)
{
    tell_disk(0, VM_DISK_READ, VM_DISK_BYTES, 12288);
    tell_disk(0, VM_DISK_READ, VM_DISK_OPERATIONS, 3);
    tell_disk(1, VM_DISK_READ, VM_DISK_OPERATIONS, 4);
    tell_disk(1, VM_DISK_WRITE, VM_DISK_BYTES, INT64_MAX);
    tell_disk(1, VM_DISK_WRITE, VM_DISK_OPERATIONS, 5);
    tell_disk(1, VM_DISK_FLUSH, VM_DISK_OPERATIONS, 6);
    tell_disk(1, VM_DISK_DISCARD, VM_DISK_OPERATIONS, 7);
    tell_disk(1, VM_DISK_DISCARD, VM_DISK_BYTES, 8);
    tell_disk(1, VM_DISK_WRITE, VM_DISK_FAILED, 9);
    tell_disk(1, VM_DISK_FLUSH, VM_DISK_INVALID, 10);
    vm_metrics_add(&metrics, "web-1", "shop", &stats);

    write_all(VM_METRICS_SIZE_MAX);

#define OF(disk) "{vm=\"web-1\",tenant=\"shop\",disk=\"" disk "\""
    ck_has("\nberth_vm_disk_read_bytes_total" OF("root") "} 12288\n#");
    ck_has("\nberth_vm_disk_read_operations_total" OF(
        "root") "} 3\n"
                "berth_vm_disk_read_operations_total" OF("data") "} 4\n#");
    ck_has("\nberth_vm_disk_write_bytes_total" OF("data") "} 9223372036854775807\n#");
    ck_has("\nberth_vm_disk_write_operations_total" OF("data") "} 5\n#");
    ck_has("\nberth_vm_disk_flush_operations_total" OF("data") "} 6\n#");
    ck_has("\nberth_vm_disk_discard_operations_total" OF("data") "} 7\n#");
    ck_has("\nberth_vm_disk_discard_bytes_total" OF("data") "} 8\n#");
    ck_has("\nberth_vm_disk_errors_total" OF(
        "data") ",operation=\"write\",kind=\"failed\"} "
                "9\nberth_vm_disk_errors_total" OF("data") ",operation=\"flush\",kind="
                                                           "\"invalid\"} 10\n#");
    ck_assert_uint_eq(count_of("{vm="), 10);
}
END_TEST

/* Bin i holds i requests, so that up to boundary i there are the sum of 0 to i. */
START_TEST(a_latency_is_a_histogram_of_seconds)
{
    struct vm_disk_verb_stats *verb = &stats.disks[0].verbs[VM_DISK_FLUSH];
    for (unsigned i = 0; i < VM_STATS_BINS; i++) {
        verb->bins[i] = i;
    }
    verb->has_bins = true;
    tell_disk(0, VM_DISK_FLUSH, VM_DISK_NS, 12000000034);
    stats.disks[1].verbs[VM_DISK_READ].has_bins = true; /* never read */
    tell_disk(1, VM_DISK_READ, VM_DISK_NS, 0);
    vm_metrics_add(&metrics, "web-1", "shop", &stats);

    write_all(VM_METRICS_SIZE_MAX);

    static const struct {
        const char *le;
        unsigned count;
    } want[] = {{"2.048e-06", 1},     {"8.192e-06", 6},     {"3.2768e-05", 15},
                {"0.000131072", 28},  {"0.000524288", 45},  {"0.002097152", 66},
                {"0.008388608", 91},  {"0.033554432", 120}, {"0.134217728", 153},
                {"0.536870912", 190}, {"2.147483648", 231}, {"8.589934592", 276},
                {"+Inf", 300}};
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        char line[256];
        (void)snprintf(line, sizeof(line),
                       "\nberth_vm_disk_latency_seconds_bucket" OF(
                           "root") ",operation=\"flush\",le=\"%s\"} %u\n",
                       want[i].le, want[i].count);
        ck_has(line);
    }
    ck_has("\nberth_vm_disk_latency_seconds_sum" OF(
        "root") ",operation=\"flush\"} 12.000000034\n"
                "berth_vm_disk_latency_seconds_count" OF(
                    "root") ",operation=\"flush\"} 300\n#");
    ck_assert_uint_eq(count_of("_bucket{"), 13);
    ck_assert_uint_eq(count_of("{vm="), 15);
}
END_TEST

START_TEST(nics_exits_and_a_start_are_samples_each)
{
    for (unsigned i = 0; i < VM_NIC_NUMBER_COUNT; i++) {
        stats.nics[1].numbers[i] = 10 + i;
        stats.nics[1].told |= 1U << i; /* the other one's tap could not be read */
    }
    stats.exits[VM_EXIT_PORT] = 7;
    stats.exits_told = 1U << VM_EXIT_PORT;
    stats.boot_ns[VM_BOOT_FIRST_RUN] = 20019524;
    stats.boot_told = 1U << VM_BOOT_FIRST_RUN;
    vm_metrics_add(&metrics, "web-1", "shop", &stats);

    write_all(VM_METRICS_SIZE_MAX);

#define VM_AND(label) "{vm=\"web-1\",tenant=\"shop\"," label "}"
    static const char *const names[] = {"rx_bytes", "rx_packets", "rx_dropped",
                                        "tx_bytes", "tx_packets", "tx_dropped"};
    for (unsigned i = 0; i < 6; i++) {
        char line[128];
        (void)snprintf(line, sizeof(line),
                       "\nberth_vm_nic_%s_total" VM_AND("nic=\"1\"") " %u\n#", names[i],
                       10 + i);
        ck_has(line);
    }
    ck_has("\nberth_vm_exits_total" VM_AND("reason=\"port\"") " 7\n#");
    ck_has("\nberth_vm_boot_seconds" VM_AND("phase=\"first-run\"") " 0.020019524\n#");
    ck_assert_uint_eq(count_of("{vm="), 8);
}
END_TEST

/* All that a VM of two disks and a NIC may tell. */
static void tell_everything(void)
{
    for (unsigned disk = 0; disk < 2; disk++) {
        for (unsigned verb = 0; verb < VM_DISK_VERB_COUNT; verb++) {
            for (unsigned i = 0; i < VM_DISK_NUMBER_COUNT; i++) {
                tell_disk(disk, verb, i, 123456789012);
            }
            for (unsigned i = 0; verb != VM_DISK_DISCARD && i < VM_STATS_BINS; i++) {
                stats.disks[disk].verbs[verb].bins[i] = 1234567890;
            }
            stats.disks[disk].verbs[verb].has_bins = true;
        }
    }
    stats.nics[0].told = (1U << VM_NIC_NUMBER_COUNT) - 1;
    stats.exits_told = (1U << VM_EXIT_COUNT) - 1;
    stats.boot_told = (1U << VM_BOOT_COUNT) - 1;
}

START_TEST(a_thousand_vms_have_room)
{
    tell_everything();
    stats.disk_count = 1;
    for (unsigned i = 0; i < 1000; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "frontend-%u", i);
        vm_metrics_add(&metrics, name, "a-tenant", &stats);
    }

    write_all(VM_METRICS_SIZE_MAX);

    ck_has("\nberth_vm_metrics_left_out 0\n");
    ck_assert_uint_eq(count_of("_count{"), 3000);
}
END_TEST

START_TEST(what_has_no_room_is_left_out_from_the_end_and_counted)
{
    char longest[NAME_SIZE];
    memset(longest, 'n', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    tell_everything();
    for (unsigned i = 0; i < 10; i++) {
        vm_metrics_add(&metrics, longest, longest, &stats);
    }

    write_all(60000);

    ck_assert_uint_lt(strlen(text), 60000 + 40000);
    ck_assert_uint_eq(count_of("\nberth_vm_disk_read_bytes_total{"), 20);
    const unsigned whole = count_of("_seconds_count{") / 6;
    char line[64];
    ck_assert_uint_lt(whole, 10);
    (void)snprintf(line, sizeof(line), "\nberth_vm_metrics_left_out %llu\n",
                   (unsigned long long)metrics.left_out);
    ck_has(line);
    ck_assert_uint_gt(metrics.left_out, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_metrics");
    TCase *tests = tcase_create("vm_metrics");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, of_a_vm_that_has_told_nothing_there_is_nothing);
    tcase_add_test(tests, numbers_of_disks_are_samples_each);
    tcase_add_test(tests, a_latency_is_a_histogram_of_seconds);
    tcase_add_test(tests, nics_exits_and_a_start_are_samples_each);
    tcase_add_test(tests, a_thousand_vms_have_room);
    tcase_add_test(tests, what_has_no_room_is_left_out_from_the_end_and_counted);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
