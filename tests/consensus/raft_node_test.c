/* Three processes, SIGKILL again and again: nothing that was answered with yes may be
 * missing afterwards.
 *
 * Each process is one voter; whoever leads proposes numbers, one at a time, and marks in
 * shared memory the ones that were answered with yes. The test kills the leader or a
 * follower after some answers, starts it again on the same folder, and at the end opens
 * all folders in this process and looks for every mark.
 */
#include "consensus/raft_node.h"
#include "support/test_main.h"
#include "voters_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define ROUNDS            8
#define ANSWERS_PER_ROUND 40

/* Lives in memory that all processes share. */
struct shared {
    _Atomic uint64_t next;
    uint8_t yes[LEDGER_NUMBERS];
};

static struct voters voters;
static struct shared *shared;
static int answers_pipe[2];
static pid_t pids[VOTERS_MAX + 1];

static uint64_t child_number;

static void child_propose(struct voter *voter);

static void
child_answered(void *context, int status, const struct consensus_result *result)
{
    struct voter *voter = context;
    uint8_t id = (uint8_t)voter->id;
    (void)result;
    if (status == 0) {
        shared->yes[child_number] = 1;
        (void)!write(answers_pipe[1], &id, 1); /* full: the reader has enough */
    }
    child_propose(voter);
}

static void child_propose(struct voter *voter)
{
    child_number = atomic_fetch_add(&shared->next, 1);
    if (child_number < LEDGER_NUMBERS && voter->leads) {
        (void)consensus_propose(voter->consensus, &child_number, sizeof(child_number),
                                VOTERS_WAIT_MS, child_answered, voter);
    }
}

static void child_on_leadership(void *context, bool is_leader, uint64_t term)
{
    struct voter *voter = context;
    (void)term;
    voter->leads = is_leader;
    if (is_leader) {
        child_propose(voter);
    }
}

/* A voter's process: runs until it is killed. */
static _Noreturn void child_main(uint64_t id)
{
    struct voter *voter = &voters.voter[id];
    struct err err = {0};
    if (uv_loop_init(&voters.loop) != 0 ||
        voter_open_with(voter, child_on_leadership, &err) < 0 ||
        consensus_start(voter->consensus, &err) < 0) {
        (void)fprintf(stderr, "voter %u: %s\n", (unsigned)id, err.text);
        _exit(1);
    }
    while (voter->fatal.code == 0) {
        uv_run(&voters.loop, UV_RUN_ONCE);
    }
    (void)fprintf(stderr, "voter %u: %s\n", (unsigned)id, voter->fatal.text);
    _exit(2);
}

static void child_start(uint64_t id)
{
    pids[id] = fork();
    ck_assert_int_ge(pids[id], 0);
    if (pids[id] == 0) {
        child_main(id);
    }
}

static void child_kill(uint64_t id)
{
    int status = 0;
    ck_assert_int_eq(kill(pids[id], SIGKILL), 0);
    ck_assert_int_eq(waitpid(pids[id], &status, 0), pids[id]);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "voter %u had ended by itself: %x", (unsigned)id, status);
}

/* Waits for that many answers; returns who gave the last one: the leader. */
static uint64_t wait_for_answers(unsigned count)
{
    uint8_t id = 0;
    while (count > 0) {
        struct pollfd wait = {.fd = answers_pipe[0], .events = POLLIN};
        ck_assert_msg(poll(&wait, 1, VOTERS_WAIT_MS) == 1, "no answer for so long");
        ck_assert_int_eq(read(answers_pipe[0], &id, 1), 1);
        count--;
    }
    return id;
}

START_TEST(nothing_that_was_answered_is_lost_when_processes_are_killed)
{
    voters_init(&voters);
    voters.config.snapshot_threshold = 64; /* so that kills meet snapshots too */
    voters.config.snapshot_trailing = 16;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    ck_assert_int_eq(pipe2(answers_pipe, O_CLOEXEC | O_NONBLOCK), 0);
    (void)voters_up(&voters, 3);
    for (uint64_t id = 1; id <= 3; id++) {
        voter_close(&voters.voter[id], false);
    }

    for (uint64_t id = 1; id <= 3; id++) {
        child_start(id);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t leader = wait_for_answers(ANSWERS_PER_ROUND);
        uint64_t victim = round % 2 == 0 ? leader : leader % 3 + 1;
        child_kill(victim);
        child_start(victim);
    }
    (void)wait_for_answers(ANSWERS_PER_ROUND);
    for (uint64_t id = 1; id <= 3; id++) {
        child_kill(id);
    }

    for (uint64_t id = 1; id <= 3; id++) {
        (void)voter_up(&voters, id, false);
    }
    VOTERS_UNTIL(&voters, voters_leader(&voters) != NULL);
    struct voter *leader = voters_leader(&voters);
    VOTERS_UNTIL(&voters, voters_agree(&voters, &leader->ledger));
    unsigned yes = 0;
    for (unsigned number = 0; number < LEDGER_NUMBERS; number++) {
        bool seen = leader->ledger.seen[number / 8] >> (number % 8) & 1;
        ck_assert_msg(seen || !shared->yes[number], "number %u is lost", number);
        yes += shared->yes[number];
    }
    ck_assert_uint_ge(yes, (ROUNDS + 1) * ANSWERS_PER_ROUND);
    ck_assert_uint_ge(leader->ledger.count, yes);
    voters_fini(&voters);
}
END_TEST

/* A host that is to become a voter opens its log, and dies before anything is in it. */
START_TEST(a_log_that_was_opened_is_known_by_its_seal)
{
    char seal[TEMP_DIR_PATH_SIZE + 32];
    voters_init(&voters);
    struct voter *voter = voter_up(&voters, 1, false);
    (void)snprintf(seal, sizeof(seal), "%s/" CONSENSUS_SEAL_FILE, voter->folder);
    ck_assert_int_eq(access(seal, R_OK), 0);

    voter_close(voter, false);
    ck_assert_int_eq(access(seal, R_OK), 0);
    (void)voter_up(&voters, 1, false);
    voter_close(voter, false);

    voters_fini(&voters);
}
END_TEST

/* What cannot be sealed is not begun. */
START_TEST(a_log_whose_seal_cannot_be_made_does_not_start)
{
    char path[TEMP_DIR_PATH_SIZE + 32];
    voters_init(&voters);
    struct voter *voter = &voters.voter[1];
    struct err err = {0};
    ck_assert_int_eq(voter_open(voter, &err), 0);
    (void)snprintf(path, sizeof(path), "%s/" CONSENSUS_SEAL_FILE, voter->folder);
    ck_assert_int_eq(mkdir(path, 0700), 0); /* in its place */

    ck_assert_int_lt(consensus_start(voter->consensus, &err), 0);

    ck_assert_ptr_nonnull(strstr(err.text, CONSENSUS_SEAL_FILE));
    voter_close(voter, false);
    voters_fini(&voters);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_node");
    TCase *tcase = tcase_create("killed");
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, nothing_that_was_answered_is_lost_when_processes_are_killed);
    tcase_add_test(tcase, a_log_that_was_opened_is_known_by_its_seal);
    tcase_add_test(tcase, a_log_whose_seal_cannot_be_made_does_not_start);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
