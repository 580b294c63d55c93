/* Goal: what is written comes back; what is damaged is refused, never guessed. */
#include "agent/vm_record.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct vm_record sample(void)
{
    struct vm_record record = {
        .state = VM_RECORD_RUNNING,
        .epoch_seen = 12,
        .order = {.vm = {.uid = 7,
                         .epoch = 11,
                         .name = "web-1",
                         .tenant = "shop",
                         .cpu_count = 2,
                         .cpu_weight = 100,
                         .memory_bytes = 128 * MIB},
                  .engine = ENGINE_QEMU,
                  .fenced = true,
                  .stop_grace_ms = 10000,
                  .probe_address = 0x0a000005,
                  .probe_port = 80,
                  .probe_path = "/",
                  .probe_every_ms = 1000,
                  .probe_timeout_ms = 500,
                  .probe_pass = 1,
                  .probe_fail = 3},
        .identity = {.pid = 4711, .start_ticks = 99, .boot = "b007"},
        .since_wall_ms = 1,
        .start_wall_ms = 2,
        .running_wall_ms = 0,
        .disks_used = true, /* by an earlier start */
        .reason = "said \"\xff\x01\"",
    };
    return record;
}

START_TEST(a_record_comes_back_as_it_was_written)
{
    struct temp_dir dir;
    temp_dir_init(&dir);
    struct vm_record record = sample();
    struct vm_record back;
    struct err err = {0};

    ck_assert_int_eq(vm_record_read(dir.path, &back, &err), BERTH_ENOTFOUND);
    ck_assert_int_eq(vm_record_write(dir.path, &record, &err), 0);
    ck_assert_msg(vm_record_read(dir.path, &back, &err) == 0, "%s", err.text);

    ck_assert_str_eq(back.reason, "said \"?\x01\""); /* not UTF-8: made harmless */
    memcpy(back.reason, record.reason, sizeof(back.reason));
    ck_assert_mem_eq(&back.order, &record.order, sizeof(record.order));
    ck_assert_int_eq(back.state, record.state);
    ck_assert_uint_eq(back.epoch_seen, 12);
    ck_assert_int_eq(back.identity.pid, 4711);
    ck_assert_uint_eq(back.identity.start_ticks, 99);
    ck_assert_str_eq(back.identity.boot, "b007");
    ck_assert_uint_eq(back.start_wall_ms, 2);
    ck_assert(back.disks_used);
    temp_dir_fini(&dir);
}
END_TEST

struct damage {
    const char *from;
    const char *to;
    const char *word;
};

static const struct damage damages[] = {
    {"\"version\": 2", "\"version\": 1", "version"},
    {"\"running\"", "\"walking\"", "state"},
    {"\"pid\": 4711", "\"pid\": -1", "pid"},
    {"\"pid\": 4711", "\"pid\": 4294967296", "pid"},
    {"\"pid\": 4711", "\"pid\": \"4711\"", "pid"},
    {"\"pid\": 4711", "\"pid\": 4710", "sum"},
    {"\"startTicks\": 99", "\"startTicks\": 98", "sum"},
    {"\"boot\": \"b007", "\"boot\": \"b008", "sum"},
    {"\"running\"", "\"stopped\"", "sum"},
    {"\"fenced\": true", "\"fenced\": false", "sum"},
    {"\"disksUsed\": true", "\"disksUsed\": false", "sum"},
    {"\"disksUsed\"", "\"disksUzed\"", "sum"},
    {"\"sum\": ", "\"sum\": 1", "sum"},
    {"\"sum\"", "\"som\"", "sum"},
    {"\"startTicks\"", "\"startTacks\"", "startTicks"},
    {"\"engine\": 1", "\"engine\": 9", "engine"},
    {"\"uid\": 7", "\"uid\": 0", "uid"},
    {"\"epoch\": 11", "\"epoch\": 13", "epochs"},
    {"\"fenced\": true", "\"fenced\": 1", "fenced"},
    {"\"web-1\"", "\"0123456789012345678901234567890123456789012345678901234567890123\"",
     "name"},
    {"{", "[", "line 2"},
};

START_TEST(a_damaged_record_is_refused_with_the_field)
{
    const struct damage *damage = &damages[_i];
    struct vm_record record = sample();
    struct vm_record back;
    struct err err = {0};
    char *text = vm_record_encode(&record);
    const char *at = strstr(text, damage->from);
    ck_assert_ptr_nonnull(at);
    char damaged[8192];
    int length = snprintf(damaged, sizeof(damaged), "%.*s%s%s", (int)(at - text), text,
                          damage->to, at + strlen(damage->from));

    ck_assert_int_eq(vm_record_decode(damaged, (size_t)length, &back, &err),
                     BERTH_ECORRUPT);
    ck_assert_msg(strstr(err.text, damage->word) != NULL, "%s", err.text);
    free(text);
}
END_TEST

/* As berthd wrote it before it knew of this: by the run, it can be told. */
START_TEST(a_record_without_a_word_on_its_disks_is_understood)
{
    static const char earlier[] =
        "{\"version\": 2, \"state\": \"stopped\", \"uid\": 7, \"epochSeen\": 3, "
        "\"epoch\": 3, \"name\": \"a\", \"tenant\": \"t\", \"engine\": 1, "
        "\"fenced\": false, \"hold\": false, \"pid\": 0, \"startTicks\": 0, "
        "\"boot\": \"\", \"cpu\": 1, \"weight\": 100, \"memory\": 1048576, "
        "\"stopGraceMs\": 0, \"probeAddress\": 0, \"probePort\": 0, \"probePath\": \"\", "
        "\"probeEveryMs\": 0, \"probeTimeoutMs\": 0, \"probePass\": 1, "
        "\"probeFail\": 1, \"sinceMs\": 4, \"startMs\": 1, \"runningMs\": 2, "
        "\"reason\": \"stopped\", \"sum\": 2599337330}";
    struct vm_record record;
    struct err err = {0};

    int r = vm_record_decode(earlier, strlen(earlier), &record, &err);

    ck_assert_msg(r == 0, "%s", err.text);
    ck_assert(record.disks_used);
}
END_TEST

static uint64_t sum_of(const struct vm_record *record)
{
    char *text = vm_record_encode(record);
    ck_assert_ptr_nonnull(text);
    char *sum = strstr(text, "\"sum\":");
    ck_assert_ptr_nonnull(sum);
    uint64_t number = strtoull(sum + 6, NULL, 10);
    free(text);
    return number;
}

/* Releases of before sum up the fields that they know: the same record is theirs, too. */
START_TEST(a_record_of_a_vm_without_disks_says_so_and_is_understood_by_older_ones)
{
    struct vm_record record = sample();
    uint64_t sum = sum_of(&record);
    record.diskless = true;
    record.order.vm.cpu_max = 8;
    struct vm_record back;
    struct err err = {0};

    char *text = vm_record_encode(&record);
    ck_assert_ptr_nonnull(text);
    int r = vm_record_decode(text, strlen(text), &back, &err);

    ck_assert_msg(r == 0, "%s", err.text);
    ck_assert(back.diskless);
    ck_assert_uint_eq(back.order.vm.cpu_max, 8);
    ck_assert_uint_gt(sum, 0);
    ck_assert_uint_eq(sum_of(&record), sum);
    free(text);
}
END_TEST

START_TEST(no_prefix_of_a_record_is_taken_for_one)
{
    struct vm_record record = sample();
    struct vm_record back;
    char *text = vm_record_encode(&record);

    for (size_t size = 0; size < strlen(text); size++) {
        ck_assert_int_eq(vm_record_decode(text, size, &back, NULL), BERTH_ECORRUPT);
    }
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_record");
    TCase *tests = tcase_create("vm_record");
    tcase_add_test(tests, a_record_comes_back_as_it_was_written);
    tcase_add_loop_test(tests, a_damaged_record_is_refused_with_the_field, 0,
                        sizeof(damages) / sizeof(damages[0]));
    tcase_add_test(tests, a_record_without_a_word_on_its_disks_is_understood);
    tcase_add_test(
        tests, a_record_of_a_vm_without_disks_says_so_and_is_understood_by_older_ones);
    tcase_add_test(tests, no_prefix_of_a_record_is_taken_for_one);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
