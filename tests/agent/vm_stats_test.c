/* Goal: what a program says it has counted becomes exactly these numbers, and what it
 * ought not to say becomes none. Method: answers as texts. */
#include "agent/vm_stats.h"
#include "support/test_main.h"

#include <check.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct vm_stats stats;

static void setup(void)
{
    struct engine_vm vm = {
        .disks = {{.name = "root"}, {.name = "data"}}, .disk_count = 2, .nic_count = 2};
    memset(&stats, 0xa5, sizeof(stats));
    vm_stats_init(&stats, &vm);
}

static void take(void (*into)(struct vm_stats *, const json_t *), const char *text)
{
    json_t *answer = NULL;
    ck_assert_int_eq(json_parse(text, strlen(text), &answer, NULL), 0);
    into(&stats, answer);
    json_decref(answer);
}

static const struct vm_disk_verb_stats *verb_of(unsigned disk, enum vm_disk_verb verb)
{
    return &stats.disks[disk].verbs[verb];
}

static void ck_number(unsigned disk, enum vm_disk_verb verb, unsigned number, uint64_t is)
{
    ck_assert(vm_stats_is_told(verb_of(disk, verb)->told, number));
    ck_assert_uint_eq(verb_of(disk, verb)->numbers[number], is);
}

static void ck_nothing_told(void)
{
    for (unsigned disk = 0; disk < stats.disk_count; disk++) {
        for (unsigned verb = 0; verb < VM_DISK_VERB_COUNT; verb++) {
            ck_assert_uint_eq(verb_of(disk, verb)->told, 0);
            ck_assert(!verb_of(disk, verb)->has_bins);
        }
    }
    ck_assert_uint_eq(stats.nics[0].told | stats.nics[1].told, 0);
    ck_assert_uint_eq(stats.nics[0].rx_dropped_within | stats.nics[0].tx_dropped_within,
                      0);
    ck_assert_uint_eq(stats.exits_told | stats.boot_told, 0);
}

START_TEST(every_number_of_a_disk_is_taken)
{
    take(vm_stats_take_disks,
         "[{\"device\": \"data\", \"qdev\": \"disk1\", \"stats\": {"
         "\"rd_operations\": 3, \"rd_bytes\": 12288, \"rd_total_time_ns\": 48211,"
         "\"failed_rd_operations\": 1, \"invalid_rd_operations\": 2,"
         "\"wr_operations\": 5, \"wr_bytes\": 9223372036854775807,"
         "\"flush_operations\": 7, \"flush_total_time_ns\": 70, \"flush_bytes\": 9,"
         "\"unmap_operations\": 8, \"unmap_bytes\": 512}}]");

    ck_number(1, VM_DISK_READ, VM_DISK_OPERATIONS, 3);
    ck_number(1, VM_DISK_READ, VM_DISK_BYTES, 12288);
    ck_number(1, VM_DISK_READ, VM_DISK_NS, 48211);
    ck_number(1, VM_DISK_READ, VM_DISK_FAILED, 1);
    ck_number(1, VM_DISK_READ, VM_DISK_INVALID, 2);
    ck_number(1, VM_DISK_WRITE, VM_DISK_OPERATIONS, 5);
    ck_number(1, VM_DISK_WRITE, VM_DISK_BYTES, INT64_MAX);
    ck_number(1, VM_DISK_FLUSH, VM_DISK_OPERATIONS, 7);
    ck_number(1, VM_DISK_FLUSH, VM_DISK_NS, 70);
    ck_number(1, VM_DISK_DISCARD, VM_DISK_OPERATIONS, 8);
    ck_number(1, VM_DISK_DISCARD, VM_DISK_BYTES, 512);
    ck_assert(!vm_stats_is_told(verb_of(1, VM_DISK_WRITE)->told, VM_DISK_NS));
    ck_assert(!vm_stats_is_told(verb_of(1, VM_DISK_FLUSH)->told, VM_DISK_BYTES));
    ck_assert_uint_eq(verb_of(0, VM_DISK_READ)->told, 0);
}
END_TEST

/* QEMU names no device that has a node. */
START_TEST(qemus_disks_are_found_by_their_nodes)
{
    take(vm_stats_take_disks, "[{\"device\": \"\", \"node-name\": \"disk1\", \"stats\": "
                              "{\"rd_operations\": 4}},"
                              " {\"device\": \"\", \"node-name\": \"disk2\", \"stats\": "
                              "{\"rd_operations\": 5}},"
                              " {\"device\": \"x\", \"node-name\": \"disk0\", \"stats\": "
                              "{\"rd_operations\": 6}}]");

    ck_number(1, VM_DISK_READ, VM_DISK_OPERATIONS, 4);
    ck_assert_uint_eq(verb_of(0, VM_DISK_READ)->told, 0);
}
END_TEST

/* A histogram of `count` bins, each with the number of its place but for the first, and
 * this boundary in the last place. */
static void take_bins(unsigned count, long long last_boundary, long long first)
{
    char text[2048];
    int at = snprintf(text, sizeof(text),
                      "[{\"device\": \"root\", \"stats\": {\"wr_latency_histogram\": "
                      "{\"boundaries\": [");
    for (unsigned i = 0; i + 1 < VM_STATS_BOUNDARIES; i++) {
        at += snprintf(text + at, sizeof(text) - (size_t)at, "%lld, ", 1024LL << i);
    }
    at += snprintf(text + at, sizeof(text) - (size_t)at, "%lld], \"bins\": [%lld",
                   last_boundary, first);
    for (unsigned i = 1; i < count; i++) {
        at += snprintf(text + at, sizeof(text) - (size_t)at, ", %u", i);
    }
    (void)snprintf(text + at, sizeof(text) - (size_t)at, "]}}}]");
    take(vm_stats_take_disks, text);
}

START_TEST(a_histogram_is_taken_whole)
{
    take_bins(VM_STATS_BINS, 1024LL << 23, 0);

    ck_assert(verb_of(0, VM_DISK_WRITE)->has_bins);
    for (unsigned i = 0; i < VM_STATS_BINS; i++) {
        ck_assert_uint_eq(verb_of(0, VM_DISK_WRITE)->bins[i], i);
    }
    ck_assert(!verb_of(0, VM_DISK_READ)->has_bins);
}
END_TEST

START_TEST(a_histogram_of_another_shape_is_passed_over)
{
    take_bins(VM_STATS_BINS - 1, 1024LL << 23, 0);
    take_bins(VM_STATS_BINS + 1, 1024LL << 23, 0);
    take_bins(VM_STATS_BINS, 9000000000LL, 0);
    ck_nothing_told();
}
END_TEST

/* Buckets are sums of bins: they would begin anew in between. */
START_TEST(a_histogram_whose_sum_has_no_place_is_passed_over)
{
    take_bins(VM_STATS_BINS, 1024LL << 23, INT64_MAX);
    ck_nothing_told();
}
END_TEST

START_TEST(a_nics_numbers_are_its_taps_with_what_its_program_has_dropped)
{
    static const struct tap_traffic traffic = {400, 4, 1, 500, 5, 2};
    take(vm_stats_take_devices,
         "[{\"id\": \"nic1\", \"driver\": \"virtio-net\", \"stats\": {\"rx_packets\": 9,"
         " \"rx_bytes\": 900, \"rx_dropped\": 10, \"tx_packets\": 9, \"tx_bytes\": 900,"
         " \"tx_dropped\": 20, \"kernel_pairs\": 0}},"
         " {\"id\": \"nic2\", \"stats\": {\"rx_dropped\": 1}},"
         " {\"id\": \"serial\", \"stats\": {\"rx_dropped\": 1}}]");
    ck_assert_uint_eq(stats.nics[1].told, 0);

    vm_stats_take_traffic(&stats, 1, &traffic);

    static const uint64_t want[] = {400, 4, 11, 500, 5, 22};
    for (unsigned i = 0; i < VM_NIC_NUMBER_COUNT; i++) {
        ck_assert(vm_stats_is_told(stats.nics[1].told, i));
        ck_assert_uint_eq(stats.nics[1].numbers[i], want[i]);
    }
    ck_assert_uint_eq(stats.nics[0].told, 0);
}
END_TEST

START_TEST(a_nic_whose_packets_the_kernel_moves_tells_as_much)
{
    static const struct tap_traffic traffic = {400, 4, 1, 500, 5, 2};
    take(vm_stats_take_devices,
         "[{\"id\": \"nic0\", \"stats\": {\"rx_dropped\": 0, \"kernel_pairs\": 2}}]");

    vm_stats_take_traffic(&stats, 0, &traffic);

    ck_assert_uint_eq(stats.nics[0].numbers[VM_NIC_RX_BYTES], 400);
    ck_assert_uint_eq(stats.nics[0].numbers[VM_NIC_TX_PACKETS], 5);
    ck_assert_uint_eq(stats.nics[0].numbers[VM_NIC_TX_DROPPED], 2);
}
END_TEST

START_TEST(exits_are_those_of_all_cpus_and_are_not_added_up_over_answers)
{
    static const char text[] =
        "[{\"provider\": \"berth\", \"qom-path\": \"/machine/cpus/0\", \"stats\": ["
        "{\"name\": \"port_exits\", \"value\": 4}, {\"name\": \"port_exits_ns\", "
        "\"value\": 5050}, {\"name\": \"other_exits\", \"value\": 9}]},"
        "{\"provider\": \"berth\", \"stats\": [{\"name\": \"port_exits\", \"value\": "
        "3}]},"
        "{\"provider\": \"kvm\", \"stats\": [{\"name\": \"port_exits\", \"value\": 7}]}]";

    take(vm_stats_take_exits, text);
    take(vm_stats_take_exits, text);

    ck_assert_uint_eq(stats.exits_told, 1U << VM_EXIT_PORT | 1U << VM_EXIT_OTHER);
    ck_assert_uint_eq(stats.exits[VM_EXIT_PORT], 7);
    ck_assert_uint_eq(stats.exits[VM_EXIT_OTHER], 9);
}
END_TEST

START_TEST(phases_of_a_start_are_taken)
{
    take(vm_stats_take_boot, "{\"phases\": [{\"phase\": \"started\", \"ns\": 1598316},"
                             " {\"phase\": \"first-run\", \"ns\": 20000000}, {\"phase\": "
                             "\"lunch\", \"ns\": 1}],"
                             " \"marks\": [{\"byte\": 64, \"ns\": 19995389}]}");

    ck_assert_uint_eq(stats.boot_told, 1U << VM_BOOT_STARTED | 1U << VM_BOOT_FIRST_RUN);
    ck_assert_uint_eq(stats.boot_ns[VM_BOOT_STARTED], 1598316);
    ck_assert_uint_eq(stats.boot_ns[VM_BOOT_FIRST_RUN], 20000000);
}
END_TEST

static const char *const odd[] = {
    "[]",
    "{}",
    "[1, null, \"x\", [], {}]",
    "{\"phases\": {\"phase\": \"ready\", \"ns\": 1}}",
    "{\"phases\": [{\"phase\": \"ready\", \"ns\": -1}, {\"phase\": 1, \"ns\": 1}, 7]}",
    "[{\"device\": \"root\"}, {\"device\": \"root\", \"stats\": 3}]",
    ("[{\"device\": \"root\", \"stats\": {\"rd_operations\": -1, \"rd_bytes\": 1.5,"
     " \"wr_bytes\": \"9\", \"wr_operations\": null, \"rd_latency_histogram\": 3,"
     " \"wr_latency_histogram\": {\"boundaries\": [], \"bins\": []}}}]"),
    "[{\"device\": \"other\", \"stats\": {\"rd_operations\": 1}}]",
    "[{\"id\": \"nic0\", \"stats\": {\"rx_dropped\": -5, \"tx_dropped\": true}}]",
    "[{\"id\": \"nic00\", \"stats\": {\"rx_dropped\": 5}}]",
    ("[{\"provider\": \"berth\", \"stats\": [{\"name\": \"port_exits\", \"value\": -4},"
     " {\"name\": \"end_exits\", \"value\": [1]}, {\"value\": 3}, 5]}]"),
    "[{\"provider\": \"berth\", \"stats\": {\"name\": \"port_exits\", \"value\": 4}}]",
};

/* Each to everybody, since a program may answer one thing with another. */
START_TEST(what_ought_not_to_be_said_is_passed_over)
{
    take(vm_stats_take_disks, odd[_i]);
    take(vm_stats_take_devices, odd[_i]);
    take(vm_stats_take_exits, odd[_i]);
    take(vm_stats_take_boot, odd[_i]);
    ck_nothing_told();
}
END_TEST

START_TEST(a_number_stays_when_it_is_not_told_any_more)
{
    take(vm_stats_take_disks,
         "[{\"device\": \"root\", \"stats\": {\"rd_operations\": 3}}]");
    take(vm_stats_take_disks,
         "[{\"device\": \"root\", \"stats\": {\"rd_operations\": -3}}]");
    vm_stats_take_disks(&stats, NULL);

    ck_number(0, VM_DISK_READ, VM_DISK_OPERATIONS, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_stats");
    TCase *tests = tcase_create("vm_stats");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, every_number_of_a_disk_is_taken);
    tcase_add_test(tests, qemus_disks_are_found_by_their_nodes);
    tcase_add_test(tests, a_histogram_is_taken_whole);
    tcase_add_test(tests, a_histogram_of_another_shape_is_passed_over);
    tcase_add_test(tests, a_histogram_whose_sum_has_no_place_is_passed_over);
    tcase_add_test(tests, a_nics_numbers_are_its_taps_with_what_its_program_has_dropped);
    tcase_add_test(tests, a_nic_whose_packets_the_kernel_moves_tells_as_much);
    tcase_add_test(tests, exits_are_those_of_all_cpus_and_are_not_added_up_over_answers);
    tcase_add_test(tests, phases_of_a_start_are_taken);
    tcase_add_loop_test(tests, what_ought_not_to_be_said_is_passed_over, 0,
                        sizeof(odd) / sizeof(odd[0]));
    tcase_add_test(tests, a_number_stays_when_it_is_not_told_any_more);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
