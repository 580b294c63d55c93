/* One to three voters on real disks and ports: what a user of the log would notice. */
#include "base/fd.h"
#include "consensus/consensus.h"
#include "consensus/entry_frame.h"
#include "support/test_main.h"
#include "voters_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

static struct voters voters;

static void setup(void)
{
    voters_init(&voters);
}

static void teardown(void)
{
    voters_fini(&voters);
}

/* ---- one voter ---- */

START_TEST(a_single_voter_applies_what_is_proposed)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);

    voter_commit(one, "first");
    voter_commit(one, "second");

    ck_assert_uint_eq(one->ledger.count, 2);
    ck_assert_uint_eq(one->ledger.hash, crc32c(0, "firstsecond", 11));
}
END_TEST

START_TEST(every_proposal_gets_its_own_result_though_they_share_an_entry)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    struct answers a = {0};
    struct answers b = {0};
    struct answers c = {0};
    struct consensus_counters before;
    struct consensus_counters after;
    consensus_counters(one->consensus, &before);

    ck_assert_int_eq(voter_propose(one, "a", &a), 0);
    ck_assert_int_eq(voter_propose(one, "refuse this one", &b), 0);
    ck_assert_int_eq(voter_propose(one, "c", &c), 0);
    ck_assert_uint_eq(a.count, 0); /* never inside the call */
    VOTERS_UNTIL(&voters, a.count + b.count + c.count == 3);

    consensus_counters(one->consensus, &after);
    ck_assert_uint_eq(after.entries - before.entries, 1);
    ck_assert_uint_eq(a.value, 1);
    ck_assert_int_eq(b.last, 0);
    ck_assert_int_eq(b.err.code, BERTH_EQUOTA);
    ck_assert_str_eq(b.err.text, "refused on purpose");
    ck_assert_uint_eq(c.value, 2);
}
END_TEST

START_TEST(what_was_answered_is_there_after_a_restart)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    for (unsigned i = 0; i < 20; i++) {
        voter_commit(one, i % 2 != 0 ? "odd" : "even and longer");
    }
    struct ledger before = one->ledger;
    voter_close(one, true);

    one = voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);

    ck_assert_uint_eq(one->ledger.count, before.count);
    ck_assert_uint_eq(one->ledger.hash, before.hash);
}
END_TEST

START_TEST(a_snapshot_carries_the_state_over_a_restart)
{
    voters.config.snapshot_threshold = 16;
    voters.config.snapshot_trailing = 4;
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    struct consensus_counters counters = {0};
    while (counters.snapshots < 2) { /* the disk takes them when it likes */
        voter_commit(one, "command");
        consensus_counters(one->consensus, &counters);
    }
    struct ledger before = one->ledger;
    voter_close(one, false);

    one = voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);

    ck_assert_uint_eq(one->ledger.restores, 1);
    ck_assert_uint_eq(one->ledger.count, before.count);
    ck_assert_uint_eq(one->ledger.hash, before.hash);
}
END_TEST

static unsigned snapshot_files(const struct voter *voter)
{
    unsigned count = 0;
    DIR *dir = opendir(voter->folder);
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *item = readdir(dir); item != NULL; item = readdir(dir)) {
        count += strncmp(item->d_name, "snapshot-", 9) == 0 ? 1U : 0U;
    }
    closedir(dir);
    return count;
}

/* However few entries there are. */
START_TEST(a_snapshot_that_is_asked_for_is_taken_and_the_next_in_its_time)
{
    voters.config.snapshot_threshold = 1000;
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    struct consensus_counters counters = {0};
    voter_commit(one, "before");
    consensus_counters(one->consensus, &counters);
    ck_assert_uint_eq(counters.snapshots, 0);

    consensus_snapshot_soon(one->consensus);
    voter_commit(one, "the last of it");
    consensus_counters(one->consensus, &counters);
    ck_assert_uint_eq(counters.snapshots, 1);

    for (unsigned i = 0; i < 20; i++) {
        voter_commit(one, "after");
    }
    consensus_counters(one->consensus, &counters);
    ck_assert_uint_eq(counters.snapshots, 1);
    VOTERS_UNTIL(&voters, snapshot_files(one) >= 2); /* content and metadata */
    voter_close(one, false);
    one = voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);
    ck_assert_uint_eq(one->ledger.restores, 1);
}
END_TEST

/* It would cost a state that is encoded for each entry. */
START_TEST(a_snapshot_that_cannot_be_made_is_not_tried_at_each_entry)
{
    voters.config.snapshot_threshold = 16;
    voters.config.snapshot_trailing = 4;
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    one->snapshot_code = -ENOMEM;
    for (unsigned i = 0; i < 100; i++) {
        voter_commit(one, "command");
    }
    ck_assert_uint_eq(one->snapshots_asked, 1);

    one->snapshot_code = 0;
    for (unsigned i = 0; i < 100 && one->snapshots_asked < 2; i++) {
        voter_commit(one, "command");
    }
    ck_assert_uint_eq(one->snapshots_asked, 2);
    unsigned commits = 0;
    while (one->snapshots_asked < 4 && commits++ < 100) { /* this one was stored */
        voter_commit(one, "command");
    }
    ck_assert_uint_eq(one->snapshots_asked, 4);
}
END_TEST

static uint64_t disk_free; /* 0: what there is */

/* In place of the C library's. */
int statvfs(const char *path, struct statvfs *ret_fs)
{
    int (*real)(const char *, struct statvfs *) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "statvfs");
    int r = real(path, ret_fs);
    if (r == 0 && disk_free != 0) {
        ret_fs->f_bavail = disk_free / ret_fs->f_frsize;
    }
    return r;
}

START_TEST(a_disk_without_room_for_the_next_snapshot_refuses_proposals)
{
    voters.config.reserve_bytes = (uint64_t)40 << 20;
    disk_free = (uint64_t)41 << 20;
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    voter_commit(one, "fits");
    one->snapshot_pad = (size_t)2 << 20;
    consensus_snapshot_soon(one->consensus);
    voter_commit(one, "the last of it");
    ck_assert_uint_eq(one->snapshots_asked, 1);
    struct answers answers = {0};

    ck_assert_int_eq(voter_propose(one, "x", &answers), 0);
    VOTERS_UNTIL(&voters, answers.count == 1);

    ck_assert_str_eq(err_name(answers.last), "BERTH_EDISKFULL");
    disk_free = (uint64_t)43 << 20;
    voter_commit(one, "fits again");
}
END_TEST

START_TEST(a_read_barrier_waits_for_what_was_proposed_before_it)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    struct answers reads = {0};
    struct consensus_counters counters = {0};

    voter_commit(one, "x");
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(
            consensus_read_barrier(one->consensus, VOTERS_WAIT_MS, on_answer, &reads), 0);
    }
    VOTERS_UNTIL(&voters, reads.count == 10);

    consensus_counters(one->consensus, &counters);
    ck_assert_uint_eq(reads.ok, 10);
    ck_assert_uint_eq(counters.reads, 10);
    ck_assert_uint_eq(counters.barriers, 1);
}
END_TEST

START_TEST(a_command_that_fits_no_entry_is_refused_and_the_largest_one_is_not)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    static char data[CONSENSUS_COMMAND_MAX + 1];
    struct answers answers = {0};

    ck_assert_int_eq(consensus_propose(one->consensus, data, CONSENSUS_COMMAND_MAX + 1,
                                       1000, on_result, &answers),
                     BERTH_ETOOLARGE);
    ck_assert_int_eq(consensus_propose(one->consensus, data, CONSENSUS_COMMAND_MAX,
                                       VOTERS_WAIT_MS, on_result, &answers),
                     0);
    VOTERS_UNTIL(&voters, answers.count == 1);

    ck_assert_int_eq(answers.last, 0);
    ck_assert_uint_eq(one->ledger.bytes, CONSENSUS_COMMAND_MAX);
}
END_TEST

START_TEST(a_full_queue_says_so_and_works_again_when_it_has_drained)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    struct answers answers = {0};

    for (unsigned i = 0; i < CONSENSUS_QUEUE_MAX; i++) {
        ck_assert_int_eq(voter_propose(one, "fill", &answers), 0);
    }
    ck_assert_int_eq(voter_propose(one, "too many", &answers), BERTH_EFULL);
    VOTERS_UNTIL(&voters, answers.count == CONSENSUS_QUEUE_MAX);

    ck_assert_uint_eq(answers.ok, CONSENSUS_QUEUE_MAX);
    voter_commit(one, "one more");
    ck_assert_uint_eq(one->ledger.count, CONSENSUS_QUEUE_MAX + 1);
}
END_TEST

START_TEST(a_queue_that_is_full_of_bytes_says_so)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    static char data[CONSENSUS_COMMAND_MAX];
    struct answers answers = {0};
    unsigned sent = 0;
    int r = 0;

    while ((r = consensus_propose(one->consensus, data, sizeof(data), VOTERS_WAIT_MS,
                                  on_result, &answers)) == 0) {
        sent++;
    }
    ck_assert_str_eq(err_name(r), "BERTH_EFULL");
    ck_assert_uint_eq(sent, CONSENSUS_QUEUE_BYTES / sizeof(data));
    VOTERS_UNTIL(&voters, answers.count == sent);
    ck_assert_uint_eq(answers.ok, sent);
}
END_TEST

START_TEST(a_disk_that_is_nearly_full_refuses_proposals_and_loses_nothing)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    voter_commit(one, "before");
    voter_close(one, false);
    voters.config.reserve_bytes = UINT64_MAX; /* no disk has so much left */
    one = voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);
    struct answers answers = {0};

    ck_assert_int_eq(voter_propose(one, "x", &answers), 0);
    VOTERS_UNTIL(&voters, answers.count == 1);

    ck_assert_str_eq(err_name(answers.last), "BERTH_EDISKFULL");
    ck_assert_uint_eq(one->ledger.count, 1);
    ck_assert_int_eq(one->fatal.code, 0);
}
END_TEST

/* A disk on which the seal hangs: what another thread than the loop's writes to it waits
 * for a byte. */
static struct {
    atomic_bool closed;
    int pipe[2];
    atomic_uint waiting;
    atomic_uint on_loop;
} seal_gate;

static bool is_seal(int fd)
{
    char link[64];
    char path[600] = "";
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return readlink(link, path, sizeof(path) - 1) > 0 &&
           strstr(path, "/berth-seal") != NULL;
}

/* In place of the C library's. */
ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    char byte;
    if (seal_gate.closed && is_seal(fd)) {
        if (gettid() == getpid()) {
            seal_gate.on_loop++;
        } else {
            seal_gate.waiting++;
            (void)!read(seal_gate.pipe[0], &byte, 1);
        }
    }
    return syscall(SYS_pwrite64, fd, data, size, at);
}

START_TEST(a_voter_commits_while_its_seal_waits_for_the_disk)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    ck_assert_int_eq(pipe2(seal_gate.pipe, O_CLOEXEC), 0);
    seal_gate.closed = true;
    voter_commit(one, "first");
    VOTERS_UNTIL(&voters, seal_gate.waiting > 0 || seal_gate.on_loop > 0);
    ck_assert_uint_eq(seal_gate.on_loop, 0);

    voter_commit(one, "second");

    ck_assert_uint_eq(one->ledger.count, 2);
    ck_assert_uint_eq(seal_gate.waiting, 1);
    seal_gate.closed = false;
    ck_assert_int_eq(write(seal_gate.pipe[1], "1", 1), 1);
}
END_TEST

START_TEST(closing_answers_everything_that_waits)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    struct answers answers = {0};
    struct answers reads = {0};

    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(voter_propose(one, "x", &answers), 0);
        ck_assert_int_eq(
            consensus_read_barrier(one->consensus, VOTERS_WAIT_MS, on_answer, &reads), 0);
    }
    voter_close(one, false);

    ck_assert_uint_eq(answers.count, 3);
    ck_assert_uint_eq(answers.ok, 0);
    ck_assert_str_eq(err_name(answers.last), "BERTH_ECLOSED");
    ck_assert_uint_eq(reads.count, 3);
    ck_assert_uint_eq(reads.ok, 0);
}
END_TEST

/* ---- a disk that is faster than the loop ---- */

#define INSTANT_MAX 64

/* What libraft has its threads do, done at once; its callbacks run in the same turn of
 * the loop, before that closes handles. */
static struct {
    bool on;
    uv_check_t check; /* started before any of libraft's, so the last to be called */
    uv_idle_t idle;   /* the loop does not wait while there are callbacks to run */
    uv_work_t *work[INSTANT_MAX];
    uv_after_work_cb after[INSTANT_MAX];
    unsigned count;
} instant;

static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void on_instant(uv_check_t *check)
{
    (void)check;
    unsigned count = instant.count;
    for (unsigned i = 0; i < count; i++) {
        instant.after[i](instant.work[i], 0);
    }
    instant.count -= count; /* and those that came of it */
    memmove(instant.work, instant.work + count, instant.count * sizeof(instant.work[0]));
    memmove(instant.after, instant.after + count,
            instant.count * sizeof(instant.after[0]));
    if (instant.count == 0) {
        uv_idle_stop(&instant.idle);
    }
}

/* In place of libuv's, for libraft too. */
int uv_queue_work(uv_loop_t *loop,
                  uv_work_t *work,
                  uv_work_cb run,
                  uv_after_work_cb after)
{
    static int (*real)(uv_loop_t *, uv_work_t *, uv_work_cb, uv_after_work_cb);
    if (instant.on) {
        ck_assert_uint_lt(instant.count, INSTANT_MAX);
        work->loop = loop;
        run(work);
        instant.work[instant.count] = work;
        instant.after[instant.count++] = after;
        return uv_idle_start(&instant.idle, on_idle);
    }
    if (real == NULL) {
        void *found = dlsym(RTLD_NEXT, "uv_queue_work");
        ck_assert_ptr_nonnull(found);
        memcpy(&real, &found, sizeof(real));
    }
    return real(loop, work, run, after);
}

/* libraft says it is closed before its last handles are. */
START_TEST(a_voter_closes_on_a_disk_that_is_faster_than_the_loop)
{
    ck_assert_int_eq(uv_idle_init(&voters.loop, &instant.idle), 0);
    ck_assert_int_eq(uv_check_init(&voters.loop, &instant.check), 0);
    ck_assert_int_eq(uv_check_start(&instant.check, on_instant), 0);
    instant.on = true;
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    voter_commit(one, "something that matters");

    voter_close(one, false);
    ck_assert_uint_eq(one->closed, 1);

    voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);
    ck_assert_uint_eq(one->ledger.count, 1);
    voter_close(one, false);
    instant.on = false;
    uv_close((uv_handle_t *)&instant.idle, NULL);
    uv_close((uv_handle_t *)&instant.check, NULL);
}
END_TEST

/* ---- refusals to start ---- */

static void flip_byte(const char *path, off_t at)
{
    uint8_t byte = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static off_t size_of(const char *path)
{
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    return info.st_size;
}

/* The newest closed segment in the voter's folder ("<first>-<last>"). */
static void newest_segment(const struct voter *voter, char path[600])
{
    DIR *dir = opendir(voter->folder);
    ck_assert_ptr_nonnull(dir);
    char newest[300] = "";
    for (struct dirent *item = readdir(dir); item != NULL; item = readdir(dir)) {
        if (item->d_name[0] == '0' && strcmp(item->d_name, newest) > 0) {
            (void)snprintf(newest, sizeof(newest), "%s", item->d_name);
        }
    }
    closedir(dir);
    ck_assert_str_ne(newest, "");
    (void)snprintf(path, 600, "%s/%s", voter->folder, newest);
}

static struct voter *voter_with_a_log(void)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    for (unsigned i = 0; i < 10; i++) {
        voter_commit(one, "something that matters");
    }
    voter_close(one, false);
    return one;
}

START_TEST(a_flipped_bit_in_the_log_is_a_refusal_to_start)
{
    struct voter *one = voter_with_a_log();
    char path[600];
    newest_segment(one, path);
    off_t size = size_of(path);
    ck_assert_int_gt(size, 600);

    for (off_t at = 0; at < size; at += 37) {
        flip_byte(path, at);
        struct err err = voter_refusal(&voters, 1);
        /* A damaged length makes the library read beyond the end, which it reports as an
         * I/O error. */
        ck_assert_msg(err.code == BERTH_ECORRUPT || err.code == -EIO, "byte %ld: %s: %s",
                      (long)at, err_name(err.code), err.text);
        ck_assert_msg(strstr(err.text, "segment") != NULL, "byte %ld: %s", (long)at,
                      err.text);
        flip_byte(path, at);
    }
    one = voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one->leads);
    ck_assert_uint_eq(one->ledger.count, 10);
}
END_TEST

START_TEST(a_flipped_bit_in_the_newest_metadata_is_a_refusal_to_start)
{
    struct voter *one = voter_with_a_log();
    char path[600];
    /* The first start of a bootstrapped voter has written metadata1 with version 1 only;
     * a second term needs a vote, which a single voter does not take: so version 1 is the
     * newest. */
    (void)snprintf(path, sizeof(path), "%s/metadata1", one->folder);

    for (off_t at = 0; at < 32; at++) {
        if (at >= 8 && at < 16) {
            continue; /* its version: says nothing as long as it is not zero */
        }
        flip_byte(path, at);
        struct err err = voter_refusal(&voters, 1);
        ck_assert_msg(err.code == BERTH_ECORRUPT, "byte %ld: %s: %s", (long)at,
                      err_name(err.code), err.text);
        flip_byte(path, at);
    }
}
END_TEST

START_TEST(missing_metadata_are_a_refusal_to_start)
{
    struct voter *one = voter_with_a_log();
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/metadata1", one->folder);
    ck_assert_int_eq(unlink(path), 0);

    struct err err = voter_refusal(&voters, 1);

    ck_assert_str_eq(err_name(err.code), "BERTH_ECORRUPT");
    ck_assert_msg(strstr(err.text, "metadata1") != NULL, "%s", err.text);
}
END_TEST

START_TEST(a_missing_piece_of_the_log_is_a_refusal_to_start)
{
    struct voter *one = voter_with_a_log();
    char path[600];
    newest_segment(one, path);
    ck_assert_int_eq(unlink(path), 0);

    struct err err = voter_refusal(&voters, 1);

    ck_assert_str_eq(err_name(err.code), "BERTH_ECORRUPT");
    ck_assert_msg(strstr(err.text, "log ends at index") != NULL, "%s", err.text);
}
END_TEST

START_TEST(a_missing_or_damaged_seal_is_a_refusal_to_start)
{
    struct voter *one = voter_with_a_log();
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/berth-seal", one->folder);
    flip_byte(path, 30);
    flip_byte(path, 4096 + 30);
    struct err damaged = voter_refusal(&voters, 1);
    ck_assert_int_eq(unlink(path), 0);
    struct err missing = voter_refusal(&voters, 1);

    ck_assert_str_eq(err_name(damaged.code), "BERTH_ECORRUPT");
    ck_assert_msg(strstr(damaged.text, "berth-seal") != NULL, "%s", damaged.text);
    ck_assert_str_eq(err_name(missing.code), "BERTH_ECORRUPT");
    ck_assert_msg(strstr(missing.text, "berth-seal") != NULL, "%s", missing.text);
}
END_TEST

START_TEST(a_folder_that_is_missing_or_anothers_is_refused)
{
    struct voter *one = voter_with_a_log();
    struct voter *two = &voters.voter[2];
    (void)snprintf(two->folder, sizeof(two->folder), "%s", one->folder);
    struct err anothers = voter_refusal(&voters, 2);
    (void)snprintf(two->folder, sizeof(two->folder), "%s/nowhere", voters.dir.path);
    struct err missing = voter_refusal(&voters, 2);
    struct err again = {0};
    ck_assert_int_eq(voter_open(one, &again), 0);
    int r = consensus_bootstrap(one->consensus, &again);

    ck_assert_str_eq(err_name(anothers.code), "BERTH_ECONFLICT");
    ck_assert_str_eq(err_name(missing.code), "ENOENT");
    ck_assert_msg(strstr(missing.text, "nowhere") != NULL, "%s", missing.text);
    ck_assert_str_eq(err_name(r), "BERTH_EEXISTS");
}
END_TEST

START_TEST(settings_that_make_no_sense_are_refused_with_the_reason)
{
    voters.config.election_ms = 100;
    voters.config.heartbeat_ms = 90;
    struct err err = voter_refusal(&voters, 1);
    ck_assert_str_eq(err_name(err.code), "BERTH_EINVALID");
    ck_assert_msg(strstr(err.text, "heartbeat") != NULL, "%s", err.text);

    voters.config.election_ms = voters.config.heartbeat_ms = 0;
    voters.config.bind_address = "nonsense";
    err = voter_refusal(&voters, 1);
    ck_assert_int_lt(err.code, 0);
    ck_assert_msg(strstr(err.text, "nonsense") != NULL, "%s", err.text);
}
END_TEST

/* ---- three voters ---- */

START_TEST(three_voters_apply_the_same)
{
    voters_calm(&voters);
    struct voter *one = voters_up(&voters, 3);
    struct consensus_member members[VOTERS_MAX];
    struct answers answers = {0};

    for (unsigned i = 0; i < 100; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "command %u", i);
        ck_assert_int_eq(voter_propose(one, text, &answers), 0);
    }
    VOTERS_UNTIL(&voters, answers.count == 100);
    ck_assert_uint_eq(answers.ok, 100);
    VOTERS_UNTIL(&voters, voters_agree(&voters, &one->ledger));

    ck_assert_uint_eq(consensus_members(one->consensus, members, VOTERS_MAX), 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(members[i].role, CONSENSUS_ROLE_VOTER);
    }
    ck_assert_uint_eq(one->ledger.count, 100);
    ck_assert_uint_eq(voters.voter[3].ledger.count, 100);
}
END_TEST

START_TEST(a_follower_refuses_and_names_the_leader)
{
    voters_calm(&voters);
    struct voter *one = voters_up(&voters, 3);
    struct voter *two = &voters.voter[2];
    struct answers answers = {0};
    uint64_t leader_id = 0;
    char address[CONSENSUS_ADDRESS_SIZE];
    VOTERS_UNTIL(&voters, two->leader_id == 1);

    ck_assert_int_eq(voter_propose(two, "x", &answers), BERTH_ENOTLEADER);
    ck_assert_int_eq(consensus_read_barrier(two->consensus, 1000, on_answer, &answers),
                     BERTH_ENOTLEADER);
    ck_assert(consensus_leader(two->consensus, &leader_id, address));

    ck_assert_uint_eq(leader_id, 1);
    ck_assert_str_eq(address, one->address);
    ck_assert_uint_eq(answers.count, 0);
}
END_TEST

START_TEST(when_the_leader_dies_another_leads_and_nothing_is_lost)
{
    voters.config.election_ms = 1000; /* who leads then goes on to */
    struct voter *one = voters_up(&voters, 3);
    for (unsigned i = 0; i < 20; i++) {
        voter_commit(one, "before");
    }
    struct ledger before = one->ledger;
    voter_close(one, false);

    VOTERS_UNTIL(&voters, voters_leader(&voters) != NULL);
    struct voter *leader = voters_leader(&voters);
    ck_assert_uint_ne(leader->id, 1);
    ck_assert_uint_eq(leader->ledger.count, before.count);
    ck_assert_uint_eq(leader->ledger.hash, before.hash);
    voter_commit(leader, "after");

    (void)voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, voters_agree(&voters, &leader->ledger));
    ck_assert_uint_eq(voters.voter[1].ledger.count, before.count + 1);
}
END_TEST

START_TEST(without_a_majority_nothing_is_answered_with_yes)
{
    voters.config.election_ms = 2000; /* it leads until it has been asked */
    struct voter *one = voters_up(&voters, 3);
    voter_commit(one, "x");
    voter_close(&voters.voter[2], false);
    voter_close(&voters.voter[3], false);
    struct answers answers = {0};
    struct answers reads = {0};

    ck_assert_int_eq(voter_propose(one, "alone", &answers), 0);
    ck_assert_int_eq(
        consensus_read_barrier(one->consensus, VOTERS_WAIT_MS, on_answer, &reads), 0);
    VOTERS_UNTIL(&voters, answers.count == 1 && reads.count == 1);

    ck_assert_str_eq(err_name(answers.last), "BERTH_EUNKNOWN");
    ck_assert_str_eq(err_name(reads.last), "BERTH_ENOTLEADER");
    ck_assert_uint_eq(one->ledger.count, 1);
    VOTERS_UNTIL(&voters, !one->leads);
}
END_TEST

START_TEST(a_proposal_under_way_whose_time_is_up_is_unknown)
{
    voters_calm(&voters);
    struct voter *one = voters_up(&voters, 3);
    voter_close(&voters.voter[2], false);
    voter_close(&voters.voter[3], false);
    struct answers under_way = {0};
    struct answers waiting = {0};
    struct consensus_counters before;
    struct consensus_counters now;

    consensus_counters(one->consensus, &before);
    ck_assert_int_eq(
        consensus_propose(one->consensus, "a", 1, 1000, on_result, &under_way), 0);
    VOTERS_UNTIL(&voters, (consensus_counters(one->consensus, &now),
                           now.entries > before.entries || under_way.count > 0));
    int r = consensus_propose(one->consensus, "b", 1, 50, on_result, &waiting);
    ck_assert_int_eq(r, 0);
    VOTERS_UNTIL(&voters, under_way.count == 1 && waiting.count == 1);

    ck_assert_str_eq(err_name(under_way.last), "BERTH_EUNKNOWN");
    ck_assert_str_eq(err_name(waiting.last), "BERTH_ETIMEOUT");
}
END_TEST

START_TEST(leadership_moves_on_request_without_a_failed_proposal)
{
    voters_calm(&voters);
    struct voter *one = voters_up(&voters, 3);
    struct answers transfer = {0};
    struct answers answers = {0};
    for (unsigned i = 0; i < 50; i++) {
        ck_assert_int_eq(voter_propose(one, "x", &answers), 0);
    }
    uv_run(&voters.loop, UV_RUN_NOWAIT);

    ck_assert_int_eq(consensus_transfer(one->consensus, 3, on_answer, &transfer), 0);
    VOTERS_UNTIL(&voters, transfer.count == 1);

    ck_assert_str_eq(err_name(transfer.last), "OK");
    ck_assert_uint_eq(answers.count, 50);
    ck_assert_uint_eq(answers.ok, 50);
    VOTERS_UNTIL(&voters, voters.voter[3].leads);
    voter_commit(&voters.voter[3], "by three");
    VOTERS_UNTIL(&voters, voters_agree(&voters, &voters.voter[3].ledger));
    ck_assert(!one->leads);
}
END_TEST

START_TEST(a_leader_that_closes_hands_over_first)
{
    voters_calm(&voters);
    struct voter *one = voters_up(&voters, 3);
    voter_commit(one, "x");
    uint64_t term = consensus_term(one->consensus);

    voter_close(one, true);
    VOTERS_UNTIL(&voters, voters_leader(&voters) != NULL);

    /* One term later: the successor was named, there was no contest. */
    ck_assert_uint_eq(consensus_term(voters_leader(&voters)->consensus), term + 1);
}
END_TEST

START_TEST(a_member_far_behind_gets_a_snapshot)
{
    voters_calm(&voters);
    voters.config.snapshot_threshold = 16;
    voters.config.snapshot_trailing = 2;
    struct voter *one = voters_up(&voters, 2);
    for (unsigned i = 0; i < 60; i++) {
        voter_commit(one, "command");
    }
    struct voter *three = voter_up(&voters, 3, false);
    struct answers answers = {0};
    int r = 0;
    VOTERS_UNTIL(&voters,
                 (r = consensus_add_standby(one->consensus, 3, three->address, on_answer,
                                            &answers)) != BERTH_EBUSY);
    ck_assert_int_eq(r, 0);
    VOTERS_UNTIL(&voters, answers.count == 1);
    ck_assert_str_eq(err_name(answers.last), "OK");

    VOTERS_UNTIL(&voters, voters_agree(&voters, &one->ledger));
    ck_assert_uint_ge(three->ledger.restores, 1);
    voter_close(three, false);
    three = voter_up(&voters, 3, false);
    VOTERS_UNTIL(&voters, voters_agree(&voters, &one->ledger));
}
END_TEST

START_TEST(a_removed_member_is_no_longer_needed)
{
    voters_calm(&voters);
    struct voter *one = voters_up(&voters, 3);
    struct answers answers = {0};
    voter_close(&voters.voter[3], false);

    ck_assert_int_eq(consensus_remove(one->consensus, 1, on_answer, &answers),
                     BERTH_EINVALID);
    ck_assert_int_eq(consensus_promote(one->consensus, 5, on_answer, &answers),
                     BERTH_ENOTFOUND);
    ck_assert_int_eq(consensus_remove(one->consensus, 3, on_answer, &answers), 0);
    ck_assert_int_eq(consensus_remove(one->consensus, 2, on_answer, &answers),
                     BERTH_EBUSY);
    VOTERS_UNTIL(&voters, answers.count == 1);

    ck_assert_str_eq(err_name(answers.last), "OK");
    ck_assert_uint_eq(consensus_members(one->consensus, NULL, 0), 2);
    voter_commit(one, "with two");
}
END_TEST

START_TEST(members_are_not_changed_while_a_voter_lags)
{
    voters_calm(&voters);
    voters.config.member_wait_ms = 2000;
    struct voter *one = voters_up(&voters, 3);
    struct answers answers = {0};
    voter_close(&voters.voter[3], false);
    voter_commit(one, "three does not have this");

    ck_assert_int_eq(consensus_add_standby(one->consensus, 4, voters.voter[4].address,
                                           on_answer, &answers),
                     0);
    VOTERS_UNTIL(&voters, answers.count == 1);

    ck_assert_str_eq(err_name(answers.last), "BERTH_EUNREACHABLE");
    ck_assert_uint_eq(consensus_members(one->consensus, NULL, 0), 3);
}
END_TEST

/* ---- strangers ---- */

START_TEST(a_member_with_a_wrong_key_is_refused)
{
    voters.config.member_wait_ms = 2000;
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    struct answers answers = {0};
    struct consensus_counters counters = {0};
    randombytes_buf(voters.secret[2], 32); /* not the key that the others know for 2 */
    struct voter *two = voter_up(&voters, 2, false);

    ck_assert_int_eq(
        consensus_add_standby(one->consensus, 2, two->address, on_answer, &answers), 0);
    VOTERS_UNTIL(&voters, answers.count == 1);
    ck_assert_str_eq(err_name(answers.last),
                     "OK"); /* a standby is listed, reachable or not */
    VOTERS_UNTIL(&voters, (consensus_counters(two->consensus, &counters),
                           counters.channels_refused > 0));
    ck_assert_uint_eq(two->leader_id, 0);

    ck_assert_int_eq(consensus_promote(one->consensus, 2, on_answer, &answers), 0);
    VOTERS_UNTIL(&voters, answers.count == 2);
    ck_assert_str_eq(err_name(answers.last), "BERTH_EUNREACHABLE");
    voter_commit(one, "still at work");
}
END_TEST

static int connect_to(const struct voter *voter)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(own_loopback(1))}};
    at.sin_port = htons((uint16_t)strtoul(strchr(voter->address, ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

START_TEST(garbage_at_the_port_is_dropped_and_counted)
{
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    struct consensus_counters counters = {0};
    uint8_t garbage[1000];
    int fds[50];

    for (unsigned i = 0; i < 50; i++) {
        randombytes_buf(garbage, sizeof(garbage));
        fds[i] = connect_to(one);
        size_t size = i % 5 == 0 ? 0 : 1 + i * 19;
        ck_assert_int_eq(send(fds[i], garbage, size, MSG_NOSIGNAL), (ssize_t)size);
    }
    VOTERS_UNTIL(&voters, (consensus_counters(one->consensus, &counters),
                           counters.channels_refused >= 30));
    for (unsigned i = 0; i < 50; i++) {
        close(fds[i]);
    }
    voter_commit(one, "not impressed");
    ck_assert_uint_eq(counters.channels_open, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("consensus");
    TCase *single = tcase_create("one voter");
    tcase_add_checked_fixture(single, setup, teardown);
    tcase_set_timeout(single, 60);
    tcase_add_test(single, a_single_voter_applies_what_is_proposed);
    tcase_add_test(single, every_proposal_gets_its_own_result_though_they_share_an_entry);
    tcase_add_test(single, what_was_answered_is_there_after_a_restart);
    tcase_add_test(single, a_snapshot_carries_the_state_over_a_restart);
    tcase_add_test(single,
                   a_snapshot_that_is_asked_for_is_taken_and_the_next_in_its_time);
    tcase_add_test(single, a_snapshot_that_cannot_be_made_is_not_tried_at_each_entry);
    tcase_add_test(single, a_disk_without_room_for_the_next_snapshot_refuses_proposals);
    tcase_add_test(single, a_read_barrier_waits_for_what_was_proposed_before_it);
    tcase_add_test(single,
                   a_command_that_fits_no_entry_is_refused_and_the_largest_one_is_not);
    tcase_add_test(single, a_full_queue_says_so_and_works_again_when_it_has_drained);
    tcase_add_test(single, a_queue_that_is_full_of_bytes_says_so);
    tcase_add_test(single,
                   a_disk_that_is_nearly_full_refuses_proposals_and_loses_nothing);
    tcase_add_test(single, a_voter_commits_while_its_seal_waits_for_the_disk);
    tcase_add_test(single, closing_answers_everything_that_waits);
    suite_add_tcase(made, single);

    tcase_add_test(single, a_voter_closes_on_a_disk_that_is_faster_than_the_loop);
    TCase *refusals = tcase_create("refusals");
    tcase_add_checked_fixture(refusals, setup, teardown);
    tcase_set_timeout(refusals, 60);
    tcase_add_test(refusals, a_flipped_bit_in_the_log_is_a_refusal_to_start);
    tcase_add_test(refusals, a_flipped_bit_in_the_newest_metadata_is_a_refusal_to_start);
    tcase_add_test(refusals, missing_metadata_are_a_refusal_to_start);
    tcase_add_test(refusals, a_missing_piece_of_the_log_is_a_refusal_to_start);
    tcase_add_test(refusals, a_missing_or_damaged_seal_is_a_refusal_to_start);
    tcase_add_test(refusals, a_folder_that_is_missing_or_anothers_is_refused);
    tcase_add_test(refusals, settings_that_make_no_sense_are_refused_with_the_reason);
    suite_add_tcase(made, refusals);

    TCase *three = tcase_create("three voters");
    tcase_add_checked_fixture(three, setup, teardown);
    tcase_set_timeout(three, 60);
    tcase_add_test(three, three_voters_apply_the_same);
    tcase_add_test(three, a_follower_refuses_and_names_the_leader);
    tcase_add_test(three, when_the_leader_dies_another_leads_and_nothing_is_lost);
    tcase_add_test(three, without_a_majority_nothing_is_answered_with_yes);
    tcase_add_test(three, a_proposal_under_way_whose_time_is_up_is_unknown);
    tcase_add_test(three, leadership_moves_on_request_without_a_failed_proposal);
    tcase_add_test(three, a_leader_that_closes_hands_over_first);
    tcase_add_test(three, a_member_far_behind_gets_a_snapshot);
    tcase_add_test(three, a_removed_member_is_no_longer_needed);
    tcase_add_test(three, members_are_not_changed_while_a_voter_lags);
    suite_add_tcase(made, three);

    TCase *strangers = tcase_create("strangers");
    tcase_add_checked_fixture(strangers, setup, teardown);
    tcase_set_timeout(strangers, 60);
    tcase_add_test(strangers, a_member_with_a_wrong_key_is_refused);
    tcase_add_test(strangers, garbage_at_the_port_is_dropped_and_counted);
    suite_add_tcase(made, strangers);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
