/* Goal: what a closed member's log holds can be read without a member, to the last entry,
 * and a log that is made from a state is one that members run on and others join. */
#include "base/fd.h"
#include "consensus/raft_offline.h"
#include "support/test_main.h"
#include "voters_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static struct voters voters;
static struct voter reader; /* a state machine without a member */
static struct err err;

static void setup(void)
{
    voters_init(&voters);
    memset(&reader, 0, sizeof(reader));
}

static void teardown(void)
{
    voters_fini(&voters);
}

static const struct consensus_fsm fsm = {.context = &reader,
                                         .apply = ledger_apply,
                                         .snapshot = ledger_snapshot,
                                         .restore = ledger_restore};

static struct log_offline log_of(uint64_t id)
{
    return (struct log_offline){.folder = voters.voter[id].folder,
                                .id = id,
                                .cluster_id = voters.config.cluster_id,
                                .address = voters.voter[id].address};
}

static int read_log(uint64_t id, struct log_facts *facts)
{
    const struct log_offline log = log_of(id);
    reader.ledger = (struct ledger){0};
    return log_offline_read(&log, &fsm, facts, &err);
}

static void close_all(unsigned count)
{
    for (uint64_t id = 1; id <= count; id++) {
        if (voters.voter[id].consensus != NULL) {
            voter_close(&voters.voter[id], false);
        }
    }
}

START_TEST(a_survivors_log_is_read_to_its_last_entry)
{
    struct log_facts facts;
    struct voter *one = voters_up(&voters, 3);
    voter_commit(one, "first");
    voter_commit(one, "second");
    uint64_t term = consensus_term(one->consensus);
    struct ledger want = one->ledger;
    VOTERS_UNTIL(&voters, voters_agree(&voters, &want));
    close_all(3);

    ck_assert_msg(read_log(2, &facts) == 0, "%s", err.text);
    ck_assert_uint_eq(reader.ledger.hash, want.hash);
    ck_assert_uint_eq(reader.ledger.count, want.count);
    ck_assert_uint_ge(facts.term, term);
    ck_assert_uint_eq(facts.last_term, term);
    ck_assert_uint_ge(facts.last_index, 3);
    ck_assert_uint_eq(facts.member_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t id = facts.members[i].id;
        ck_assert_int_eq(facts.members[i].role, CONSENSUS_ROLE_VOTER);
        ck_assert_str_eq(facts.members[i].address, voters.voter[id].address);
    }
    /* Reading changed nothing: it can be read again, and run on. */
    ck_assert_int_eq(read_log(2, &facts), 0);
    voter_up(&voters, 1, false);
    voter_up(&voters, 2, false);
    VOTERS_UNTIL(&voters, voters.voter[1].leads || voters.voter[2].leads);
}
END_TEST

/* It may have been answered by the others just before they died. */
START_TEST(an_entry_that_only_the_survivor_has_counts)
{
    struct log_facts facts;
    struct answers answers = {0};
    struct voter *one = voters_up(&voters, 3);
    voter_commit(one, "everybody has this");
    struct voter *leader = voters_leader(&voters);
    for (uint64_t id = 1; id <= 3; id++) {
        if (&voters.voter[id] != leader) {
            voter_close(&voters.voter[id], false);
        }
    }
    uint64_t count = leader->ledger.count;
    ck_assert_int_eq(voter_propose(leader, "only the leader has this", &answers), 0);
    VOTERS_UNTIL(&voters, answers.count == 1 || !leader->leads);
    ck_assert_uint_eq(leader->ledger.count, count);
    uint64_t id = leader->id;
    voter_close(leader, false);

    ck_assert_int_eq(read_log(id, &facts), 0);
    ck_assert_uint_eq(reader.ledger.count, count + 1);
}
END_TEST

START_TEST(a_snapshot_and_what_follows_it_is_read)
{
    struct log_facts facts;
    voters.config.snapshot_threshold = 8;
    voters.config.snapshot_trailing = 4;
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    for (unsigned i = 0; i < 30; i++) {
        voter_commit(one, "again and again");
    }
    struct ledger want = one->ledger;
    voter_close(one, false);

    ck_assert_msg(read_log(1, &facts) == 0, "%s", err.text);
    ck_assert_uint_eq(reader.ledger.restores, 1);
    ck_assert_uint_eq(reader.ledger.hash, want.hash);
    ck_assert_uint_eq(facts.member_count, 1);
}
END_TEST

START_TEST(a_log_that_is_shorter_than_it_was_is_refused)
{
    struct log_facts facts;
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    voter_commit(one, "this will be missing");
    voter_close(one, false);
    char path[1024];
    DIR *folder = opendir(one->folder);
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        if (strncmp(entry->d_name, "0000000000000", 13) == 0 ||
            strncmp(entry->d_name, "open-", 5) == 0) {
            snprintf(path, sizeof(path), "%s/%s", one->folder, entry->d_name);
            if (strstr(path, "0000000000000001-0000000000000001") == NULL) {
                ck_assert_int_eq(unlink(path), 0);
            }
        }
    }
    (void)closedir(folder);
    ck_assert_int_eq(read_log(1, &facts), BERTH_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "entries were lost"));
    ck_assert_int_eq(read_log(2, &facts), BERTH_ENOTFOUND);
}
END_TEST

START_TEST(a_made_log_is_run_by_one_voter_and_joined_by_others)
{
    struct log_facts facts;
    struct ledger before = {.count = 41, .hash = 7, .bytes = 9};
    const struct log_offline log = log_of(1);
    ck_assert_msg(log_offline_make(&log, 5000, 600, &before, sizeof(before), &err) == 0,
                  "%s", err.text);
    ck_assert_int_eq(read_log(1, &facts), 0);
    ck_assert_uint_eq(facts.term, 5000);
    ck_assert_uint_eq(facts.last_index, 600);
    ck_assert_uint_eq(facts.member_count, 1);
    ck_assert_uint_eq(reader.ledger.count, 41);

    struct voter *one = voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);
    ck_assert_uint_ge(consensus_term(one->consensus), 5000);
    ck_assert_uint_eq(one->ledger.count, 41);
    voter_commit(one, "goes on");
    ck_assert_uint_gt(consensus_applied_index(one->consensus), 600);

    struct answers answers = {0};
    struct voter *two = voter_up(&voters, 2, false);
    int r = 0;
    VOTERS_UNTIL(&voters,
                 (r = consensus_add_standby(one->consensus, 2, two->address, on_answer,
                                            &answers)) != BERTH_EBUSY);
    ck_assert_int_eq(r, 0);
    VOTERS_UNTIL(&voters, answers.count == 1);
    VOTERS_UNTIL(&voters, two->ledger.count == 42);
    ck_assert_uint_eq(two->ledger.hash, one->ledger.hash);
    /* And it is there after a restart. */
    voter_close(one, false);
    one = voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);
    ck_assert_uint_eq(one->ledger.count, 42);
}
END_TEST

START_TEST(a_log_is_made_in_an_empty_folder_only)
{
    struct ledger before = {.count = 41};
    const struct log_offline log = log_of(1);
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    voter_close(one, false);
    ck_assert_int_eq(log_offline_make(&log, 50, 6, &before, sizeof(before), &err),
                     BERTH_EEXISTS);
    one = voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);
    ck_assert_int_eq(log_offline_make(&log, 50, 6, &before, 0, &err), BERTH_ETOOLARGE);
}
END_TEST

/* The snapshot's file, open for writing; its size. */
static int snapshot_file(const char *folder, uint64_t *ret_size)
{
    char path[1024] = "";
    struct stat info;
    DIR *files = opendir(folder);
    ck_assert_ptr_nonnull(files);
    for (struct dirent *entry = readdir(files); entry != NULL; entry = readdir(files)) {
        if (strncmp(entry->d_name, "snapshot-", 9) == 0 &&
            strstr(entry->d_name, ".meta") == NULL) {
            ck_assert_str_eq(path, "");
            snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        }
    }
    (void)closedir(files);
    int fd = fd_open_at(AT_FDCWD, path, O_RDWR, 0, NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &info), 0);
    *ret_size = (uint64_t)info.st_size;
    return fd;
}

/* libraft would unpack a compressed one without an end, before our checksum is looked at.
 * One bit of each byte at first, then of some, for each look waits for the disk. */
START_TEST(a_damaged_byte_of_a_snapshot_is_refused)
{
    struct log_facts facts;
    struct ledger before = {.count = 41, .hash = 7, .bytes = 9};
    const struct log_offline log = log_of(1);
    uint64_t size;
    ck_assert_int_eq(log_offline_make(&log, 50, 6, &before, sizeof(before), &err), 0);
    int fd = snapshot_file(log.folder, &size);
    ck_assert_uint_gt(size, 0);
    for (uint64_t at = 0; at < size; at += at < 64 ? 1 : 199) {
        uint8_t byte;
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
        uint8_t other = (uint8_t)(byte ^ 1U << at % 8);
        ck_assert_int_eq(pwrite(fd, &other, 1, (off_t)at), 1);
        ck_assert_int_eq(read_log(1, &facts), BERTH_ECORRUPT);
        ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    (void)close(fd);
    ck_assert_int_eq(read_log(1, &facts), 0);
    ck_assert_uint_eq(reader.ledger.count, 41);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_offline");
    TCase *tests = tcase_create("raft_offline");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_survivors_log_is_read_to_its_last_entry);
    tcase_add_test(tests, an_entry_that_only_the_survivor_has_counts);
    tcase_add_test(tests, a_snapshot_and_what_follows_it_is_read);
    tcase_add_test(tests, a_log_that_is_shorter_than_it_was_is_refused);
    tcase_add_test(tests, a_made_log_is_run_by_one_voter_and_joined_by_others);
    tcase_add_test(tests, a_log_is_made_in_an_empty_folder_only);
    tcase_add_test(tests, a_damaged_byte_of_a_snapshot_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
