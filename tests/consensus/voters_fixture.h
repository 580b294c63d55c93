/* Voters for the tests of consensus: up to five members in this process, on one loop,
 * each with a real folder, port and key, above a state machine that counts and hashes
 * what it applies.
 *
 * Every wait is for a condition and has a bound; a bound that is reached fails the test
 * with its sentence. Include after <check.h> is known; all functions are inline so that
 * no test has to use all of them.
 */
#pragma once

#include "base/digest.h"
#include "base/log.h"
#include "base/require.h"
#include "consensus/consensus.h"
#include "support/own_loopback.h"
#include "support/temp_dir.h"

#include <check.h>
#include <sodium.h>
#include <uv.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VOTERS_MAX     5
#define VOTERS_WAIT_MS 200000
#define VOTERS_PORT    17500 /* of voter 0, who is none */
#define LEDGER_NUMBERS 65536

/* The state machine: two voters with equal ledgers have applied the same commands in the
 * same order. */
struct ledger {
    uint8_t
        seen[LEDGER_NUMBERS / 8]; /* commands of eight bytes are numbers: one bit each */
    uint64_t count;
    uint64_t bytes;
    uint32_t hash;
    uint32_t restores; /* not part of the state */
};

struct voters;

struct voter {
    struct voters *voters;
    uint64_t id;
    struct consensus *consensus; /* NULL: not running */
    struct ledger ledger;
    char address[OWN_LOOPBACK_TEXT_SIZE];
    char folder[TEMP_DIR_PATH_SIZE + 16];
    bool leads; /* what on_leadership said */
    uint64_t leader_id;
    struct err fatal;
    unsigned closed;
    int snapshot_code;   /* not 0: why no snapshot can be made */
    size_t snapshot_pad; /* a snapshot is larger by so much */
    unsigned snapshots_asked;
};

struct voters {
    uv_loop_t loop;
    uv_timer_t bound;
    bool late;
    struct temp_dir dir;
    struct consensus_config config; /* what all have in common */
    uint8_t secret[VOTERS_MAX + 1][32];
    uint8_t public[VOTERS_MAX + 1][32];
    struct voter voter[VOTERS_MAX + 1]; /* by id, from 1 */
};

/* Answers that came in. */
struct answers {
    unsigned count;
    unsigned ok;
    int last;
    uint64_t value;
    struct err err;
};

static inline void ledger_apply(void *context,
                                uint64_t index,
                                const void *data,
                                size_t size,
                                struct consensus_result *ret_result)
{
    struct voter *voter = context;
    struct ledger *ledger = &voter->ledger;
    (void)index;
    if (size >= 6 && memcmp(data, "refuse", 6) == 0) {
        if (ret_result != NULL) {
            (void)err_set(&ret_result->err, BERTH_EQUOTA, "refused on purpose");
        }
        return;
    }
    if (size == sizeof(uint64_t)) {
        uint64_t number = 0;
        memcpy(&number, data, sizeof(number));
        number %= LEDGER_NUMBERS;
        ledger->seen[number / 8] |= (uint8_t)(1u << (number % 8));
    }
    ledger->hash = crc32c(ledger->hash, data, size);
    ledger->bytes += size;
    ledger->count++;
    if (ret_result != NULL) {
        ret_result->value = ledger->count;
    }
}

static inline int ledger_snapshot(void *context, uint8_t **ret_data, size_t *ret_size)
{
    struct voter *voter = context;
    voter->snapshots_asked++;
    if (voter->snapshot_code != 0) {
        return voter->snapshot_code;
    }
    uint8_t *copy = calloc(1, sizeof(voter->ledger) + voter->snapshot_pad);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, &voter->ledger, sizeof(voter->ledger));
    *ret_data = copy;
    *ret_size = sizeof(voter->ledger) + voter->snapshot_pad;
    return 0;
}

static inline int ledger_restore(void *context, const void *data, size_t size)
{
    struct voter *voter = context;
    uint32_t restores = voter->ledger.restores;
    if (size != sizeof(struct ledger) + voter->snapshot_pad) {
        return BERTH_ECORRUPT;
    }
    memcpy(&voter->ledger, data, sizeof(struct ledger));
    voter->ledger.restores = restores + 1;
    return 0;
}

static inline bool voters_peer_of(void *context,
                                  const uint8_t public_key[CONSENSUS_KEY_SIZE],
                                  uint64_t *ret_id)
{
    struct voters *voters = context;
    for (uint64_t id = 1; id <= VOTERS_MAX; id++) {
        if (memcmp(voters->public[id], public_key, CONSENSUS_KEY_SIZE) == 0) {
            *ret_id = id;
            return true;
        }
    }
    return false;
}

static inline bool
voters_key_of(void *context, uint64_t id, uint8_t ret_public_key[CONSENSUS_KEY_SIZE])
{
    struct voters *voters = context;
    if (id == 0 || id > VOTERS_MAX) {
        return false;
    }
    memcpy(ret_public_key, voters->public[id], CONSENSUS_KEY_SIZE);
    return true;
}

static inline void voter_on_leadership(void *context, bool is_leader, uint64_t term)
{
    struct voter *voter = context;
    (void)term;
    ck_assert_msg(voter->leads != is_leader, "leadership is told in turns");
    voter->leads = is_leader;
}

static inline void
voter_on_leader_changed(void *context, uint64_t id, const char *address)
{
    struct voter *voter = context;
    (void)address;
    voter->leader_id = id;
}

static inline void voter_on_fatal(void *context, const struct err *why)
{
    struct voter *voter = context;
    ck_assert_msg(voter->fatal.code == 0, "fatal is told once");
    voter->fatal = *why;
}

static inline void voter_on_closed(void *context)
{
    struct voter *voter = context;
    voter->closed++;
}

static inline void voters_on_late(uv_timer_t *timer)
{
    struct voters *voters = timer->data;
    voters->late = true;
}

static inline void voters_init(struct voters *voters)
{
    memset(voters, 0, sizeof(*voters));
    log_setup(getenv("VOTERS_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, false);
    ck_assert_int_ge(sodium_init(), 0);
    ck_assert_int_eq(uv_loop_init(&voters->loop), 0);
    ck_assert_int_eq(uv_timer_init(&voters->loop, &voters->bound), 0);
    voters->bound.data = voters;
    temp_dir_init(&voters->dir);
    voters->config = (struct consensus_config){.cluster_id = 77,
                                               .key_context = voters,
                                               .peer_of = voters_peer_of,
                                               .key_of = voters_key_of,
                                               .member_stable_ms = 1};
    for (uint64_t id = 1; id <= VOTERS_MAX; id++) {
        struct voter *voter = &voters->voter[id];
        voter->voters = voters;
        voter->id = id;
        randombytes_buf(voters->secret[id], 32);
        crypto_scalarmult_base(voters->public[id], voters -> secret[id]);
        (void)own_loopback_text(1, VOTERS_PORT + (unsigned)id, voter->address);
        (void)snprintf(voter->folder, sizeof(voter->folder), "%s/%u", voters->dir.path,
                       (unsigned)id);
        ck_assert_int_eq(mkdir(voter->folder, 0700), 0);
    }
}

/* Before the first is up: whoever leads goes on to, however slow disk and machine are. */
static inline void voters_calm(struct voters *voters)
{
    voters->config.election_ms = 5000;
}

/* Turns the loop until the condition holds; after that the condition is not evaluated
 * again. */
#define VOTERS_UNTIL(voters, condition)                                      \
    do {                                                                     \
        bool voters_held = false;                                            \
        (voters)->late = false;                                              \
        uv_timer_start(&(voters)->bound, voters_on_late, VOTERS_WAIT_MS, 0); \
        while (!(voters_held = (condition)) && !(voters)->late) {            \
            uv_run(&(voters)->loop, UV_RUN_ONCE);                            \
        }                                                                    \
        uv_timer_stop(&(voters)->bound);                                     \
        ck_assert_msg(voters_held, "never came true: %s", #condition);       \
    } while (0)

static inline int
voter_open_with(struct voter *voter,
                void (*on_leadership)(void *context, bool is_leader, uint64_t term),
                struct err *err)
{
    struct voters *voters = voter->voters;
    struct consensus_config config = voters->config;
    struct consensus_fsm fsm = {.context = voter,
                                .apply = ledger_apply,
                                .snapshot = ledger_snapshot,
                                .restore = ledger_restore};
    struct consensus_events events = {.context = voter,
                                      .on_leadership = on_leadership,
                                      .on_leader_changed = voter_on_leader_changed,
                                      .on_fatal = voter_on_fatal};
    config.id = voter->id;
    config.address = voter->address;
    config.folder = voter->folder;
    config.secret_key = voters->secret[voter->id];
    voter->ledger = (struct ledger){0};
    voter->leads = false;
    voter->leader_id = 0;
    voter->fatal = (struct err){0};
    return consensus_open(&voters->loop, &config, &fsm, &events, &voter->consensus, err);
}

static inline int voter_open(struct voter *voter, struct err *err)
{
    return voter_open_with(voter, voter_on_leadership, err);
}

static inline void voter_close(struct voter *voter, bool hand_over)
{
    unsigned closed = voter->closed;
    consensus_close(voter->consensus, hand_over, voter_on_closed, voter);
    voter->consensus = NULL;
    VOTERS_UNTIL(voter->voters, voter->closed > closed);
}

/* Opens and starts; with bootstrap as the cluster's first voter. */
static inline struct voter *voter_up(struct voters *voters, uint64_t id, bool bootstrap)
{
    struct voter *voter = &voters->voter[id];
    struct err err = {0};
    ck_assert_msg(voter_open(voter, &err) == 0, "%s", err.text);
    if (bootstrap) {
        ck_assert_msg(consensus_bootstrap(voter->consensus, &err) == 0, "%s", err.text);
    }
    ck_assert_msg(consensus_start(voter->consensus, &err) == 0, "%s", err.text);
    return voter;
}

/* libraft 0.15 leaks what it has loaded when a later part of the log is damaged. The
 * process is about to end then; the leak checker looks away for just that call. */
#if defined(__SANITIZE_ADDRESS__)
#define VOTERS_LEAK_CHECK 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VOTERS_LEAK_CHECK 1
#endif
#endif
#ifdef VOTERS_LEAK_CHECK
#include <sanitizer/lsan_interface.h>
#else
static inline void __lsan_disable(void)
{
}
static inline void __lsan_enable(void)
{
}
#endif

/* The error with which a voter refuses to open or start. */
static inline struct err voter_refusal(struct voters *voters, uint64_t id)
{
    struct voter *voter = &voters->voter[id];
    struct err err = {0};
    if (voter_open(voter, &err) == 0) {
        __lsan_disable();
        int r = consensus_start(voter->consensus, &err);
        __lsan_enable();
        ck_assert_msg(r < 0, "it should not have started");
        voter_close(voter, false);
    }
    return err;
}

static inline void voters_fini(struct voters *voters)
{
    for (uint64_t id = 1; id <= VOTERS_MAX; id++) {
        if (voters->voter[id].consensus != NULL) {
            voter_close(&voters->voter[id], false);
        }
    }
    uv_close((uv_handle_t *)&voters->bound, NULL);
    while (uv_run(&voters->loop, UV_RUN_DEFAULT) != 0) {
    }
    ck_assert_int_eq(uv_loop_close(&voters->loop), 0);
    temp_dir_fini(&voters->dir);
}

static inline void on_answer(void *context, int status)
{
    struct answers *answers = context;
    answers->count++;
    answers->ok += status == 0;
    answers->last = status;
}

static inline void
on_result(void *context, int status, const struct consensus_result *result)
{
    struct answers *answers = context;
    on_answer(context, status);
    if (result != NULL) {
        answers->value = result->value;
        answers->err = result->err;
    }
}

static inline int
voter_propose(struct voter *voter, const char *text, struct answers *answers)
{
    return consensus_propose(voter->consensus, text, strlen(text), VOTERS_WAIT_MS,
                             on_result, answers);
}

/* Proposes and waits for the answer, which must be good. */
static inline void voter_commit(struct voter *voter, const char *text)
{
    struct answers answers = {0};
    ck_assert_int_eq(voter_propose(voter, text, &answers), 0);
    VOTERS_UNTIL(voter->voters, answers.count == 1);
    ck_assert_str_eq(err_name(answers.last), "OK");
}

/* The voter that leads among those that run, or NULL. */
static inline struct voter *voters_leader(struct voters *voters)
{
    for (uint64_t id = 1; id <= VOTERS_MAX; id++) {
        struct voter *voter = &voters->voter[id];
        if (voter->consensus != NULL && voter->leads &&
            consensus_is_leader(voter->consensus)) {
            return voter;
        }
    }
    return NULL;
}

/* Waits until every running voter has applied the same as this one. */
static inline bool voters_agree(struct voters *voters, const struct ledger *want)
{
    for (uint64_t id = 1; id <= VOTERS_MAX; id++) {
        const struct voter *voter = &voters->voter[id];
        if (voter->consensus != NULL &&
            (voter->ledger.count != want->count || voter->ledger.hash != want->hash)) {
            return false;
        }
    }
    return true;
}

/* Voters 1..count up and agreed; returns the leader, which is 1. */
static inline struct voter *voters_up(struct voters *voters, unsigned count)
{
    struct voter *first = voter_up(voters, 1, true);
    VOTERS_UNTIL(voters, first->leads);
    for (uint64_t id = 2; id <= count; id++) {
        struct answers answers = {0};
        struct voter *next = voter_up(voters, id, false);
        int r = 0;
        VOTERS_UNTIL(voters,
                     (r = consensus_add_standby(first->consensus, id, next->address,
                                                on_answer, &answers)) != BERTH_EBUSY);
        ck_assert_str_eq(err_name(r), "OK");
        VOTERS_UNTIL(voters, answers.count == 1);
        ck_assert_str_eq(err_name(answers.last), "OK");
        VOTERS_UNTIL(voters, (r = consensus_promote(first->consensus, id, on_answer,
                                                    &answers)) != BERTH_EBUSY);
        ck_assert_str_eq(err_name(r), "OK");
        VOTERS_UNTIL(voters, answers.count == 2);
        ck_assert_str_eq(err_name(answers.last), "OK");
    }
    return first;
}
