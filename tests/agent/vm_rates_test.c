/* Goal: of what hosts tell twice comes what there was a second, of one run on one host,
 * and of nothing else. */
#include "agent/vm_rates.h"
#include "base/clock.h"
#include "support/test_main.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>

#define VM    7
#define HOST  1
#define EPOCH 3

static struct vm_rates *rates;
static struct msg_vm_seen seen;
static uint64_t now_ns;

static void setup(void)
{
    rates = vm_rates_new();
    ck_assert_ptr_nonnull(rates);
    now_ns = 50 * NS_PER_MS;
    seen = (struct msg_vm_seen){.vm = VM,
                                .epoch = EPOCH,
                                .counted_ms = 10000,
                                .disks_counted = true,
                                .disk_read_bytes = 1000,
                                .disk_reads = 10,
                                .disk_write_bytes = 2000,
                                .disk_writes = 20,
                                .disk_requests = 30,
                                .disk_ns = 3000000,
                                .nics_counted = true,
                                .nic_rx_bytes = 100,
                                .nic_tx_bytes = 200,
                                .boot_ready_us = 1500,
                                .boot_first_run_us = 20019};
}

static void teardown(void)
{
    rates = vm_rates_free(rates);
}

/* As text; "": nothing. */
static void ck_told(const char *want)
{
    json_t *live = json_object();
    bool any = vm_rates_tell(rates, VM, EPOCH, now_ns, live);
    char *text = json_text(live);
    ck_assert_str_eq(any ? text : "", want);
    free(text);
    json_decref(live);
}

static void take(void)
{
    vm_rates_take(rates, HOST, &seen, now_ns);
}

/* Four seconds later. */
static void count_on(void)
{
    seen.counted_ms += 4000;
    seen.disk_read_bytes += 40960;
    seen.disk_reads += 12;
    seen.disk_write_bytes += 4000;
    seen.disk_writes += 4;
    seen.disk_requests += 16;
    seen.disk_ns += 16 * 250999;
    seen.nic_rx_bytes += 4004;
    seen.nic_tx_bytes += 8;
}

#define BOOT "\"boot\":{\"readyUs\":1500,\"firstRunUs\":20019}"

static const char whole[] =
    "{\"disk\":{\"readBytesPerSecond\":10240,\"readsPerSecond\":3,"
    "\"writeBytesPerSecond\":1000,\"writesPerSecond\":1,\"latencyUs\":250},"
    "\"nics\":{\"rxBytesPerSecond\":1001,\"txBytesPerSecond\":2}," BOOT "}";

START_TEST(of_two_totals_there_are_rates)
{
    ck_told("");
    take();
    ck_told("{" BOOT "}");
    count_on();
    take();
    ck_told(whole);
}
END_TEST

START_TEST(a_heartbeat_without_totals_changes_nothing)
{
    struct msg_vm_seen bare = {.vm = VM, .epoch = EPOCH};
    take();
    count_on();
    take();

    vm_rates_take(rates, HOST, &bare, now_ns);
    take(); /* once more */

    ck_told(whole);
}
END_TEST

START_TEST(without_requests_there_is_no_latency_and_of_silent_nics_nothing)
{
    seen.nics_counted = false;
    take();
    seen.counted_ms += 1000;
    take();
    ck_told("{\"disk\":{\"readBytesPerSecond\":0,\"readsPerSecond\":0,"
            "\"writeBytesPerSecond\":0,\"writesPerSecond\":0}," BOOT "}");
}
END_TEST

/* One without disks, or of whose disks its host does not know. */
static void no_disks(void)
{
    seen.disks_counted = false;
    seen.disk_read_bytes = seen.disk_reads = 0;
    seen.disk_write_bytes = seen.disk_writes = 0;
    seen.disk_requests = seen.disk_ns = 0;
}

START_TEST(of_disks_that_are_not_counted_nothing_is_told)
{
    no_disks();
    take();
    count_on();
    no_disks();
    take();
    ck_told("{\"nics\":{\"rxBytesPerSecond\":1001,\"txBytesPerSecond\":2}," BOOT "}");
}
END_TEST

START_TEST(a_host_of_before_tells_of_disks_by_their_requests)
{
    seen.disks_counted = false;
    take();
    count_on();
    take();
    ck_told(whole);
}
END_TEST

static void other_time(void)
{
    seen.counted_ms -= 4000;
}

static void fewer_reads(void)
{
    seen.disk_reads = 0;
}

static void other_nics(void)
{
    seen.nics_counted = false;
}

static void other_disks(void)
{
    seen.disks_counted = false;
    seen.disk_requests = 0;
}

static void (*const breaks[])(void) = {other_time, fewer_reads, other_nics, other_disks};

START_TEST(totals_that_do_not_follow_begin_anew)
{
    take();
    count_on();
    breaks[_i]();
    take();
    ck_told("{" BOOT "}");
}
END_TEST

START_TEST(another_hosts_totals_begin_anew)
{
    take();
    count_on();
    vm_rates_take(rates, HOST + 1, &seen, now_ns);
    ck_told("{" BOOT "}");
}
END_TEST

START_TEST(of_another_run_nothing_is_told)
{
    take();
    seen.epoch++;
    count_on();
    take();
    ck_told("");
}
END_TEST

START_TEST(what_is_old_is_not_told)
{
    take();
    now_ns += VM_RATES_KEPT_MS * NS_PER_MS;
    ck_told("{" BOOT "}");
    now_ns++;
    ck_told("");
}
END_TEST

/* Many others come; then only what is not old is there. */
START_TEST(what_is_old_is_forgotten_and_the_rest_is_not)
{
    take();
    count_on();
    take();
    for (unsigned i = 0; i < 10000; i++) {
        const struct msg_vm_seen other = {
            .vm = 1000 + i, .epoch = 1, .counted_ms = 5, .boot_first_run_us = 1};
        vm_rates_take(rates, HOST, &other, i < 100 ? 0 : now_ns);
        if (i == 100) {
            now_ns += (VM_RATES_KEPT_MS - 1) * NS_PER_MS;
        }
    }
    ck_told(whole);
}
END_TEST

START_TEST(what_a_program_makes_up_stays_a_number)
{
    take();
    seen.counted_ms += 1;
    seen.disk_read_bytes = UINT64_MAX;
    seen.disk_requests = UINT64_MAX;
    seen.disk_ns = UINT64_MAX;
    take();
    json_t *live = json_object();
    ck_assert(vm_rates_tell(rates, VM, EPOCH, now_ns, live));
    const json_t *disk = json_object_get(live, "disk");
    ck_assert_uint_eq(json_member_u64(disk, "readBytesPerSecond", 0), 1000000000000000);
    json_decref(live);
}
END_TEST

START_TEST(a_host_tells_sums_of_disks_and_nics)
{
    const struct engine_vm vm = {
        .disks = {{.name = "root"}, {.name = "data"}}, .disk_count = 2, .nic_count = 2};
    struct vm_stats stats;
    struct msg_vm_seen told = {.vm = VM};
    vm_stats_init(&stats, &vm);
    for (unsigned disk = 0; disk < 2; disk++) {
        for (unsigned verb = 0; verb < VM_DISK_VERB_COUNT; verb++) {
            for (unsigned number = 0; number < VM_DISK_NUMBER_COUNT; number++) {
                stats.disks[disk].verbs[verb].numbers[number] =
                    1000 * (disk + 1) + 10 * verb + number;
                stats.disks[disk].verbs[verb].told |= 1U << number;
            }
        }
    }
    for (unsigned nic = 0; nic < 2; nic++) {
        stats.nics[nic].told = 1U << VM_NIC_RX_BYTES | 1U << VM_NIC_TX_BYTES;
        stats.nics[nic].numbers[VM_NIC_RX_BYTES] = 5 + 100 * nic;
        stats.nics[nic].numbers[VM_NIC_TX_BYTES] = 7 + 100 * nic;
    }
    stats.told_ms = 42;
    stats.boot_ns[VM_BOOT_READY] = 1500999;
    stats.boot_ns[VM_BOOT_FIRST_RUN] = 20019524;
    stats.boot_told = 1U << VM_BOOT_READY | 1U << VM_BOOT_FIRST_RUN;

    struct u64_map *sent = u64_map_new();
    unsigned room = 1;
    vm_rates_fill_news(sent, &room, &stats, &told);
    u64_map_free(sent);

    ck_assert_uint_eq(told.counted_ms, 42);
    ck_assert_uint_eq(told.disk_read_bytes, 1001 + 2001);
    ck_assert_uint_eq(told.disk_reads, 1000 + 2000);
    ck_assert_uint_eq(told.disk_write_bytes, 1011 + 2011);
    ck_assert_uint_eq(told.disk_writes, 1010 + 2010);
    ck_assert_uint_eq(told.disk_requests,
                      1000 + 1003 + 2000 + 2003 + 1010 + 1013 + 2010 + 2013);
    ck_assert_uint_eq(told.disk_ns, 1002 + 2002 + 1012 + 2012);
    ck_assert(told.disks_counted);
    ck_assert(told.nics_counted);
    ck_assert_uint_eq(told.nic_rx_bytes, 5 + 105);
    ck_assert_uint_eq(told.nic_tx_bytes, 7 + 107);
    ck_assert_uint_eq(told.boot_ready_us, 1500);
    ck_assert_uint_eq(told.boot_first_run_us, 20019);
}
END_TEST

/* There are some, but its program has not told of them. */
START_TEST(a_host_says_nothing_of_what_was_not_told)
{
    const struct engine_vm vm = {
        .disks = {{.name = "root"}}, .disk_count = 1, .nic_count = 1};
    struct vm_stats stats;
    struct msg_vm_seen told = {.vm = VM};
    struct u64_map *sent = u64_map_new();
    unsigned room = 1;
    vm_stats_init(&stats, &vm);
    stats.told_ms = 42;

    vm_rates_fill_news(sent, &room, &stats, &told);

    ck_assert_uint_eq(told.counted_ms, 42);
    ck_assert(!told.disks_counted && !told.nics_counted);
    u64_map_free(sent);
}
END_TEST

/* VM 8 has no room at first. */
START_TEST(what_was_counted_is_told_once)
{
    struct vm_stats stats = {.told_ms = 42};
    struct u64_map *sent = u64_map_new();
    struct msg_vm_seen first = {.vm = 7}, other = {.vm = 8}, again = {.vm = 7};
    struct msg_vm_seen later = {.vm = 7}, anew = {.vm = 7}, silent = {.vm = 9};
    unsigned room = 1;
    vm_rates_fill_news(sent, &room, &stats, &first);
    vm_rates_fill_news(sent, &room, &stats, &other);
    ck_assert_uint_eq(first.counted_ms, 42);
    ck_assert_uint_eq(other.counted_ms, 0);

    room = 10;
    vm_rates_fill_news(sent, &room, &stats, &again);
    vm_rates_fill_news(sent, &room, &stats, &other);
    ck_assert_uint_eq(again.counted_ms, 0);
    ck_assert_uint_eq(other.counted_ms, 42);

    stats.told_ms = 43;
    vm_rates_fill_news(sent, &room, &stats, &later);
    ck_assert_uint_eq(later.counted_ms, 43);
    vm_rates_fill_news(sent, &room, NULL, &later); /* it has ended */
    vm_rates_fill_news(sent, &room, &stats, &anew);
    ck_assert_uint_eq(anew.counted_ms, 43);
    ck_assert_uint_eq(room, 7);

    stats.told_ms = 0; /* it was not asked yet */
    vm_rates_fill_news(sent, &room, &stats, &silent);
    ck_assert_uint_eq(room, 7);
    u64_map_free(sent);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_rates");
    TCase *tests = tcase_create("vm_rates");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, of_two_totals_there_are_rates);
    tcase_add_test(tests, a_heartbeat_without_totals_changes_nothing);
    tcase_add_test(tests,
                   without_requests_there_is_no_latency_and_of_silent_nics_nothing);
    tcase_add_test(tests, of_disks_that_are_not_counted_nothing_is_told);
    tcase_add_test(tests, a_host_of_before_tells_of_disks_by_their_requests);
    tcase_add_loop_test(tests, totals_that_do_not_follow_begin_anew, 0, 4);
    tcase_add_test(tests, another_hosts_totals_begin_anew);
    tcase_add_test(tests, of_another_run_nothing_is_told);
    tcase_add_test(tests, what_is_old_is_not_told);
    tcase_add_test(tests, what_is_old_is_forgotten_and_the_rest_is_not);
    tcase_add_test(tests, what_a_program_makes_up_stays_a_number);
    tcase_add_test(tests, a_host_tells_sums_of_disks_and_nics);
    tcase_add_test(tests, a_host_says_nothing_of_what_was_not_told);
    tcase_add_test(tests, what_was_counted_is_told_once);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
