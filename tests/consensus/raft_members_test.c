/* Goal: the members are those of the newest change in the log, else of the snapshot, and
 * nothing else is made up. Method: the library's own structs, filled by hand, with a log
 * of its kind. */
#include "base/err.h"
#include "consensus/raft_members.h"
#include "support/test_main.h"

#include <check.h>

#include <stdio.h>
#include <string.h>

#define LOG_MAX 16

static struct raft raft;
static struct raft_members members;
static struct raft_entry entries[LOG_MAX]; /* of raft's log */
static uint64_t log_start;
static size_t log_count;
#ifdef RAFT_VERSION_NUMBER
static raft_library_log library_log;
#endif

static struct raft_configuration voters(unsigned count)
{
    struct raft_configuration made;
    raft_configuration_init(&made);
    for (unsigned i = 1; i <= count; i++) {
        char address[16];
        (void)snprintf(address, sizeof(address), "h%u", i);
        ck_assert_int_eq(raft_configuration_add(&made, i, address, RAFT_VOTER), 0);
    }
    return made;
}

static struct raft_entry change_of(unsigned count)
{
    struct raft_entry entry = {.term = 1, .type = RAFT_CHANGE};
    struct raft_configuration made = voters(count);
    ck_assert_int_eq(raft_configuration_encode(&made, &entry.buf), 0);
    raft_configuration_close(&made);
    return entry;
}

/* From `start` on, of a letter each: '.' for a command, a digit for a change to that many
 * voters. */
static void log_is(uint64_t start, const char *text)
{
    log_start = start;
    log_count = strlen(text);
    ck_assert_uint_lt(log_count, LOG_MAX);
    for (size_t i = 0; i < log_count; i++) {
        entries[i] = text[i] == '.' ? (struct raft_entry){.term = 1, .type = RAFT_COMMAND}
                                    : change_of((unsigned)(text[i] - '0'));
    }
#ifdef RAFT_VERSION_NUMBER
    raft_library_log *log = &library_log;
    raft.log = (struct raft_log *)(void *)log;
#else /* 0.15.0 */
    struct raft_log *log = &raft.log;
#endif
    log->entries = entries;
    log->size = LOG_MAX;
    log->front = 0;
    log->back = log_count;
    log->offset = start - 1;
}

static void free_entries(struct raft_entry *list)
{
    for (size_t i = 0; i < LOG_MAX; i++) {
        raft_free(list[i].buf.base);
        list[i] = (struct raft_entry){0};
    }
}

/* What libraft counts: that many voters, by a change at `change` (0: committed). */
static void counts(unsigned count, uint64_t change)
{
    raft_configuration_close(&raft.configuration);
    raft.configuration = voters(count);
    raft.configuration_uncommitted_index = change;
}

/* A snapshot at `index` with that many voters, of the entry at 4; 0: none. */
static void load(uint64_t index, unsigned count)
{
    struct raft_snapshot snapshot = {
        .index = index, .configuration_index = 4, .configuration = voters(count)};
    ck_assert_int_eq(raft_members_load(&members, index != 0 ? &snapshot : NULL, log_start,
                                       entries, log_count),
                     0);
    raft_configuration_close(&snapshot.configuration);
    raft_members_start(&members, &raft);
}

static void setup(void)
{
    memset(&raft, 0, sizeof(raft));
    raft_configuration_init(&raft.configuration);
    raft_members_init(&members);
}

static void teardown(void)
{
    raft_members_fini(&members);
    raft_configuration_close(&raft.configuration);
    free_entries(entries);
}

#ifndef RAFT_VERSION_NUMBER /* later ones do so themselves */
static const struct {
    const char *log;
    uint64_t start, snapshot;
    uint64_t open;   /* the change that may be uncommitted */
    uint64_t before; /* whose members they were */
} loads[] = {
    {"2..3.", 1, 0, 4, 1},    /* of a log without a snapshot */
    {"2....", 1, 0, 0, 9},    /* the first entry is the same in all logs */
    {"..3.", 9, 8, 11, 4},    /* behind the snapshot */
    {"..3.", 9, 11, 0, 9},    /* its own members */
    {"..3.", 9, 10, 11, 4},   /* the next one */
    {"..3..4", 9, 10, 14, 4}, /* of two the first is committed, and not applied yet */
    {"......", 9, 10, 0, 9},
};

START_TEST(a_change_that_was_loaded_counts_as_open_until_it_is_applied)
{
    log_is(loads[_i].start, loads[_i].log);
    raft.configuration_index = 9;

    load(loads[_i].snapshot, 2);

    ck_assert_uint_eq(raft.configuration_uncommitted_index, loads[_i].open);
    ck_assert_uint_eq(raft.configuration_index, loads[_i].before);
    raft.last_applied = loads[_i].open - (loads[_i].open != 0);
    raft_members_settle(&raft);
    ck_assert_uint_eq(raft.configuration_uncommitted_index, loads[_i].open);
    raft.last_applied = loads[_i].open;
    raft_members_settle(&raft);
    ck_assert_uint_eq(raft.configuration_uncommitted_index, 0);
}
END_TEST
#endif

static const struct {
    const char *log;
    uint64_t start, snapshot, change, conflict;
    unsigned voters; /* afterwards; 5: the change stays */
} backs[] = {
    {"2..3..5", 1, 0, 7, 7, 3}, /* to the change before, which is in the log */
    {"2..3..5", 1, 0, 7, 5, 3},
    {"2.....5", 1, 0, 7, 3, 2},
    {"..5", 9, 8, 11, 11, 2}, /* to the snapshot's */
    {"..5", 9, 8, 11, 9, 2},
    {"..5.", 9, 8, 11, 12, 5}, /* what contradicts comes behind it */
    {"..5.", 9, 8, 11, 0, 5},  /* nothing does */
    {"..5.", 9, 8, 0, 11, 5},  /* it is committed */
};

START_TEST(a_change_that_is_contradicted_is_undone)
{
    bool undone = backs[_i].voters != 5;
    log_is(backs[_i].start, backs[_i].log);
    load(backs[_i].snapshot, 2);
    counts(5, backs[_i].change);

    ck_assert_int_eq(raft_members_roll_back(&members, &raft, backs[_i].conflict), undone);

    ck_assert_uint_eq(raft.configuration.n, backs[_i].voters);
    ck_assert_uint_eq(raft.configuration_uncommitted_index,
                      undone ? 0 : backs[_i].change);
    ck_assert_int_eq(raft_members_roll_back(&members, &raft, backs[_i].conflict), 0);
}
END_TEST

START_TEST(a_snapshot_has_the_members_of_its_index)
{
    log_is(1, "2..3..5.");
    load(0, 0);
    counts(5, 7);
    struct raft_snapshot snapshot = {.index = 6, .configuration_index = 4};

    ck_assert_int_eq(raft_members_snapshot(&members, &raft, &snapshot, false), 0);
    ck_assert_uint_eq(members.base.n, 3);
    ck_assert_uint_eq(members.base_index, 4);

    free_entries(entries);
    log_is(6, ".5."); /* the log is cut in front of it */
    ck_assert_int_eq(raft_members_roll_back(&members, &raft, 7), 1);
    ck_assert_uint_eq(raft.configuration.n, 3);
}
END_TEST

START_TEST(a_received_snapshot_brings_its_members)
{
    log_is(1, "2..3..5.");
    load(0, 0);
    counts(5, 7);
    struct raft_snapshot snapshot = {
        .index = 90, .configuration_index = 80, .configuration = voters(4)};

    ck_assert_int_eq(raft_members_snapshot(&members, &raft, &snapshot, true), 0);

    ck_assert_uint_eq(members.base.n, 4);
    ck_assert_uint_eq(members.base_index, 80);
    raft.last_applied = 90; /* it is taken over */
    raft_members_settle(&raft);
    ck_assert_uint_eq(raft.configuration_uncommitted_index, 0);
    raft_configuration_close(&snapshot.configuration);
}
END_TEST

START_TEST(members_that_are_nowhere_are_not_made_up)
{
    log_is(9, "..5");
    counts(5, 11);

    ck_assert_int_eq(raft_members_roll_back(&members, &raft, 11), BERTH_EBUG);

    ck_assert_uint_eq(raft.configuration.n, 5);
    ck_assert_uint_eq(raft.configuration_uncommitted_index, 11);
}
END_TEST

START_TEST(an_entry_that_holds_no_members_is_damage)
{
    struct raft_entry entry = change_of(3);
    struct raft_configuration read;
    ck_assert_int_eq(raft_members_decode(&entry.buf, &read), 0);
    ck_assert_uint_eq(read.n, 3);
    ck_assert_str_eq(read.servers[2].address, "h3");
    raft_configuration_close(&read);
    for (size_t size = 0; size + 8 < entry.buf.len; size++) { /* it is padded to 8 */
        const struct raft_buffer cut = {.base = entry.buf.base, .len = size};
        ck_assert_int_eq(raft_members_decode(&cut, &read), BERTH_ECORRUPT);
    }
    memset((uint8_t *)entry.buf.base + 1, 0xff, 8); /* so many that none has room */
    ck_assert_int_eq(raft_members_decode(&entry.buf, &read), BERTH_ECORRUPT);
    raft_free(entry.buf.base);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_members");
    TCase *tests = tcase_create("all");
    tcase_add_checked_fixture(tests, setup, teardown);
#ifndef RAFT_VERSION_NUMBER
    tcase_add_loop_test(tests,
                        a_change_that_was_loaded_counts_as_open_until_it_is_applied, 0,
                        (int)(sizeof(loads) / sizeof(loads[0])));
#endif
    tcase_add_loop_test(tests, a_change_that_is_contradicted_is_undone, 0,
                        (int)(sizeof(backs) / sizeof(backs[0])));
    tcase_add_test(tests, a_snapshot_has_the_members_of_its_index);
    tcase_add_test(tests, a_received_snapshot_brings_its_members);
    tcase_add_test(tests, members_that_are_nowhere_are_not_made_up);
    tcase_add_test(tests, an_entry_that_holds_no_members_is_damage);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
