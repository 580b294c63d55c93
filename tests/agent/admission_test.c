/* Goal: tokens open the door for as long as they are good, go an hour later, and each
 * host that asks is answered. Method: a real state under a clock of the test's; the log
 * is a queue that it applies when the test says so, the link notes what goes out. */
#include "agent/admission.h"
#include "agent/messages.h"
#include "model/join_token.h"
#include "net/mesh_frame.h"
#include "support/state_fixture.h"

#include <errno.h>

#define LOOK_MS    10000 /* tokens are looked at as often, when nothing changes */
#define QUEUED_MAX 4
#define SELF       9 /* the key of the host under test is made of it */

static struct admission *admission;
static uint64_t now_ms;
static struct identity identity;
static uint64_t leader_id; /* 0: there is none */
static bool door;

static struct {
    struct command command;
    void (*done)(void *context, int code, const struct apply_result *result);
    void *context;
} queued[QUEUED_MAX];
static unsigned queued_count;
static int propose_code; /* of the next ones */

static struct {
    unsigned count;
    int code;
    char text[512];
    uint64_t uid;
    uint32_t members;
    size_t bytes; /* on the wire */
    char leader[NAME_SIZE];
} reply;

/* ---- what admission sees of log and link, in place of agent/control and agent/link ----
 */

const struct state *control_state(const struct control *control)
{
    (void)control;
    return state;
}

struct consensus *control_consensus(struct control *control)
{
    (void)control;
    return NULL;
}

bool consensus_leader(const struct consensus *consensus,
                      uint64_t *ret_id,
                      char ret_address[CONSENSUS_ADDRESS_SIZE])
{
    (void)consensus;
    (void)ret_address;
    *ret_id = leader_id;
    return leader_id != 0;
}

int control_propose(struct control *control,
                    struct command *command,
                    void (*done)(void *context,
                                 int code,
                                 const struct apply_result *result),
                    void *context)
{
    (void)control;
    struct bytes_writer writer;
    struct bytes_reader reader;
    if (propose_code != 0) {
        return propose_code;
    }
    ck_assert_uint_lt(queued_count, QUEUED_MAX);
    command->level = state_level(state);
    command->wall_ms = fixture_wall_ms;
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(command, &writer);
    ck_assert_int_eq(writer.error, 0);
    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(command_decode(&reader, &queued[queued_count].command), 0);
    bytes_writer_fini(&writer);
    queued[queued_count].done = done;
    queued[queued_count++].context = context;
    return 0;
}

void link_guests_allow(struct link *link, bool allow)
{
    (void)link;
    door = allow;
}

int link_join_reply(struct link *link,
                    const struct mesh_key *guest,
                    const struct msg_join_reply *message)
{
    (void)link;
    (void)guest;
    reply.count++;
    reply.code = -(int)message->code;
    (void)snprintf(reply.text, sizeof(reply.text), "%s",
                   message->text != NULL ? message->text : "");
    reply.uid = message->uid;
    reply.members = message->members.count;
    uint8_t *data = NULL;
    ck_assert_int_eq(message_encode(&msg_join_reply_record, message, &data, &reply.bytes),
                     0);
    free(data);
    memcpy(reply.leader, message->leader.name, NAME_SIZE);
    return 0;
}

/* The log takes what is queued, and says so; code: it could not. */
static void log_answers(int code)
{
    for (unsigned i = 0; i < queued_count; i++) {
        struct apply_result result = {0};
        if (code == 0) {
            state_apply(state, &queued[i].command, &result);
        }
        command_fini(&queued[i].command);
        queued[i].done(queued[i].context, code, code == 0 ? &result : NULL);
    }
    queued_count = 0;
}

/* ---- the test's clock ---- */

static uint64_t clock_now(void *context)
{
    (void)context;
    return now_ms * NS_PER_MS;
}

static uint64_t clock_wall(void *context)
{
    (void)context;
    return fixture_wall_ms;
}

static const struct clock test_clock = {.now_ns = clock_now, .wall_ms = clock_wall};

/* Both clocks go on, and the tick after that. */
static void pass(uint64_t ms)
{
    now_ms += ms;
    fixture_wall_ms += ms;
    admission_tick(admission, now_ms);
}

/* ---- hosts and tokens ---- */

static void token_put(const char *name, uint8_t secret, uint64_t expires_wall_ms)
{
    uint8_t bytes[JOIN_SECRET_SIZE];
    struct token *token = make_join_token(name, 0);
    memset(bytes, secret, sizeof(bytes));
    token->spec.hash = join_secret_hash(bytes);
    token->spec.expires_wall_ms = expires_wall_ms;
    ck_assert_int_eq(put(KIND_TOKEN, token), 0);
    admission_tokens_changed(admission);
}

static bool has_token(const char *name)
{
    return FIND(KIND_TOKEN, "", name) != NULL;
}

/* A host with that key asks with that secret. */
static void ask_as(const char *name,
                   uint8_t key,
                   uint8_t secret,
                   uint64_t memory_bytes,
                   uint32_t address)
{
    struct mesh_key guest;
    struct msg_join join;
    record_init(&msg_join_record, &join);
    (void)snprintf(join.name, sizeof(join.name), "%s", name);
    memset(guest.bytes, key, sizeof(guest.bytes));
    memset(join.secret.bytes, secret, sizeof(join.secret.bytes));
    join.status.cpu_mcpu = 1000;
    join.status.memory_bytes = memory_bytes;
    join.status.address = address;
    admission_ask(admission, &guest, &join);
    record_fini(&msg_join_record, &join);
}

static void ask(const char *name, uint8_t key, uint8_t secret)
{
    ask_as(name, key, secret, 1 * GIB, ADDRESS(0) - 1);
}

static void start(void)
{
    fixture_start();
    now_ms = 5000;
    fixture_wall_ms = 2 * (uint64_t)ADMISSION_TOKEN_KEPT_MS;
    identity = (struct identity){.uid = h1, .cluster_id = 77};
    memset(identity.key.bytes, SELF, sizeof(identity.key.bytes));
    memset(&reply, 0, sizeof(reply));
    queued_count = 0;
    propose_code = 0;
    leader_id = 0;
    door = false;
    const struct admission_config config = {
        .clock = &test_clock,
        .identity = &identity,
        .link = (struct link *)(uintptr_t)&door, /* never looked into */
    };
    admission = admission_new(&config);
    ck_assert_ptr_nonnull(admission);
    admission_lead(admission, true);
}

static void stop(void)
{
    log_answers(BERTH_ECLOSED);
    admission = admission_free(admission);
    fixture_stop();
}

/* ---- the door ---- */

START_TEST(the_door_is_open_while_a_token_is_good)
{
    ck_assert(!door);
    token_put("t", 5, fixture_wall_ms + 60000);
    ck_assert(door);
    pass(60000 - 1);
    ck_assert(door);
    pass(1); /* a look is not due yet, but soon */
    pass(LOOK_MS);
    ck_assert(!door);
    token_put("for-ever", 6, 0);
    ck_assert(door);
    ck_assert_int_eq(delete_at(KIND_TOKEN, "", "for-ever", REVISION_ANY), 0);
    admission_tokens_changed(admission);
    ck_assert(!door);
}
END_TEST

START_TEST(a_token_for_the_api_opens_nothing_and_is_not_swept)
{
    struct token *token = make_join_token("ci", 4);
    token->spec.role = ROLE_VIEWER;
    token->spec.expires_wall_ms = 1;
    ck_assert_int_eq(put(KIND_TOKEN, token), 0);
    admission_tokens_changed(admission);
    pass(LOOK_MS);
    ck_assert(!door);
    ck_assert_uint_eq(queued_count, 0);
}
END_TEST

START_TEST(a_host_that_does_not_lead_has_a_door_too)
{
    admission_lead(admission, false);
    token_put("t", 5, 0);
    ck_assert(door);
}
END_TEST

START_TEST(nobody_is_answered_once_the_link_is_closed)
{
    token_put("t", 5, 0);
    ask("h2", 2, 5);
    admission_end(admission);
    log_answers(0);
    ck_assert_uint_eq(reply.count, 0);
    ck_assert_ptr_nonnull(FIND(KIND_HOST, "", "h2")); /* which asks again */
}
END_TEST

/* ---- expired tokens ---- */

START_TEST(an_expired_token_goes_after_an_hour_and_not_before)
{
    token_put("t", 5, fixture_wall_ms);
    pass(ADMISSION_TOKEN_KEPT_MS - LOOK_MS);
    ck_assert_uint_eq(queued_count, 0);
    pass(LOOK_MS - 1);
    ck_assert_uint_eq(queued_count, 0);
    pass(LOOK_MS);
    ck_assert_uint_eq(queued_count, 1);
    pass(LOOK_MS);
    ck_assert_uint_eq(queued_count, 1); /* that one is under way */
    log_answers(0);
    ck_assert(!has_token("t"));
}
END_TEST

START_TEST(a_late_host_is_told_that_its_token_has_expired)
{
    token_put("t", 5, fixture_wall_ms);
    pass(ADMISSION_TOKEN_KEPT_MS - 1);
    ask("h2", 2, 5);
    ck_assert_int_eq(reply.code, BERTH_EAUTH);
    ck_assert_ptr_nonnull(strstr(reply.text, "token t has expired"));
    pass(LOOK_MS);
    log_answers(0);
    ask("h2", 2, 5);
    ck_assert_int_eq(reply.code, BERTH_EAUTH);
    ck_assert_ptr_nonnull(strstr(reply.text, "not known"));
    ck_assert_uint_eq(queued_count, 0); /* the log hears of neither */
}
END_TEST

START_TEST(expired_tokens_go_one_after_the_other_also_when_the_log_fails)
{
    token_put("a", 5, 1);
    token_put("b", 6, 1);
    token_put("good", 7, 0);
    pass(1);
    ck_assert_uint_eq(queued_count, 1);
    log_answers(BERTH_EUNKNOWN); /* it may or may not be gone */
    pass(LOOK_MS);
    log_answers(0);
    propose_code = BERTH_EFULL;
    pass(LOOK_MS);
    ck_assert_uint_eq(queued_count, 0);
    propose_code = 0;
    pass(LOOK_MS);
    log_answers(0);
    ck_assert(!has_token("a") && !has_token("b") && has_token("good"));
    pass(LOOK_MS);
    ck_assert_uint_eq(queued_count, 0);
}
END_TEST

START_TEST(a_token_that_was_made_anew_meanwhile_stays)
{
    token_put("t", 5, 1);
    pass(1);
    token_put("t", 6, 0);
    log_answers(0);
    ck_assert(has_token("t"));
}
END_TEST

START_TEST(only_the_leader_sweeps)
{
    admission_lead(admission, false);
    token_put("t", 5, 1);
    pass(LOOK_MS);
    ck_assert_uint_eq(queued_count, 0);
    admission_lead(admission, true);
    pass(1);
    ck_assert_uint_eq(queued_count, 1);
}
END_TEST

START_TEST(a_wall_clock_that_was_set_back_sweeps_nothing)
{
    token_put("t", 5, fixture_wall_ms);
    fixture_wall_ms -= 1000;
    pass(LOOK_MS - 1000);
    fixture_wall_ms = 1;
    pass(LOOK_MS);
    ck_assert_uint_eq(queued_count, 0);
    ck_assert(door); /* by that clock it is good */
}
END_TEST

/* ---- hosts ---- */

START_TEST(a_host_with_a_good_token_is_let_in_and_again_by_its_key)
{
    token_put("t", 5, 0);
    ask("h2", 2, 5);
    ck_assert(admission_lets_in(admission));
    ck_assert_uint_eq(reply.count, 0); /* once the log has spoken */
    log_answers(0);
    ck_assert(!admission_lets_in(admission));
    ck_assert_int_eq(reply.code, 0);
    ck_assert_uint_eq(reply.members, 2);
    uint64_t uid = reply.uid;
    ck_assert_str_eq(state_host(state, uid)->meta.name, "h2");

    ask("h2", 2, 5); /* the token is used up */
    ck_assert_uint_eq(queued_count, 0);
    ck_assert_int_eq(reply.code, 0);
    ck_assert_uint_eq(reply.uid, uid);
    ask("h3", 3, 5);
    ck_assert_int_eq(reply.code, BERTH_EAUTH);
}
END_TEST

/* What a guest is sent is bounded, and it knows only the one that it asked. */
START_TEST(the_answer_of_a_large_cluster_fits_what_a_guest_takes)
{
    char name[NAME_SIZE];
    for (uint8_t i = 2; i < 250; i++) {
        token_put("t", i, 0);
        (void)snprintf(name, sizeof(name), "a-host-whose-name-says-where-it-is-%u", i);
        ask_as(name, i, i, 1 * GIB, ADDRESS(0) - i);
        log_answers(0);
        ck_assert_msg(reply.code == 0, "%u: %s", i, reply.text);
        ck_assert_uint_le(reply.bytes, MESH_JOIN_BODY_SIZE_MAX);
    }
    ck_assert_uint_eq(reply.members, 2); /* who leads, and itself */
}
END_TEST

START_TEST(what_the_log_refuses_or_cannot_say_is_told)
{
    token_put("t", 5, 0);
    ask("h1", 2, 5); /* there is one, with another key */
    log_answers(0);
    ck_assert_int_eq(reply.code, BERTH_EEXISTS);
    ask("h2", 2, 5);
    log_answers(BERTH_EUNKNOWN);
    ck_assert_int_eq(reply.code, BERTH_EUNKNOWN);
    ck_assert(!admission_lets_in(admission));
    propose_code = BERTH_EFULL;
    ask("h2", 2, 5);
    ck_assert_int_eq(reply.code, BERTH_EFULL);
}
END_TEST

START_TEST(a_host_that_offers_vms_nothing_is_refused)
{
    token_put("t", 5, 0);
    ask_as("h2", 2, 5, 0, 0);
    ck_assert_int_eq(reply.code, BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(reply.text, "host h2 offers VMs no memory"));
    ck_assert_uint_eq(queued_count, 0);
}
END_TEST

START_TEST(a_host_whose_address_a_network_has_taken_is_refused)
{
    token_put("t", 5, 0);
    ask_as("h2", 2, 5, 1 * GIB, ADDRESS(200)); /* front is 10.0.0.0/24 */
    ck_assert_int_eq(reply.code, BERTH_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(reply.text,
                                 "the address 10.0.0.200 of host h2 is in the "
                                 "range 10.0.0.0/24 of network front"));
    ck_assert_uint_eq(queued_count, 0);
    ask_as("h2", 2, 6, 1 * GIB, ADDRESS(200));
    ck_assert_int_eq(reply.code, BERTH_EAUTH); /* a stranger hears nothing of it */
    ask_as("h2", 2, 5, 1 * GIB, ADDRESS(256));
    log_answers(0);
    ck_assert_int_eq(reply.code, 0);
    ask_as("h2", 2, 5, 1 * GIB, ADDRESS(200)); /* who is in is not turned away */
    ck_assert_int_eq(reply.code, 0);
}
END_TEST

START_TEST(nobody_comes_in_while_the_level_is_raised)
{
    token_put("t", 5, 0);
    admission_hold(admission, true);
    ask("h2", 2, 5);
    ck_assert_int_eq(reply.code, BERTH_EBUSY);
    admission_hold(admission, false);
    ask("h2", 2, 5);
    ck_assert_uint_eq(queued_count, 1);
}
END_TEST

START_TEST(who_does_not_lead_names_who_does)
{
    token_put("t", 5, 0);
    uint64_t h2 = add_host("h2", 2);
    admission_lead(admission, false);
    ask("h3", 3, 5);
    ck_assert_int_eq(reply.code, BERTH_ENOLEADER);
    leader_id = identity_raft_id_of(&state_host(state, h2)->status.public_key);
    ask("h3", 3, 5);
    ck_assert_int_eq(reply.code, BERTH_ENOTLEADER);
    ck_assert_str_eq(reply.leader, "h2");
    leader_id = identity_raft_id_of(&state_host(state, h1)->status.public_key);
    ask("h3", 3, 5); /* it led a moment ago, and nobody else does yet */
    ck_assert_int_eq(reply.code, BERTH_ENOLEADER);
    ask("h3", 3, 6);
    ck_assert_int_eq(reply.code, BERTH_EAUTH); /* a stranger hears nothing of it */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admission");
    TCase *tests = tcase_create("admission");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, the_door_is_open_while_a_token_is_good);
    tcase_add_test(tests, a_token_for_the_api_opens_nothing_and_is_not_swept);
    tcase_add_test(tests, a_host_that_does_not_lead_has_a_door_too);
    tcase_add_test(tests, nobody_is_answered_once_the_link_is_closed);
    tcase_add_test(tests, an_expired_token_goes_after_an_hour_and_not_before);
    tcase_add_test(tests, a_late_host_is_told_that_its_token_has_expired);
    tcase_add_test(tests, expired_tokens_go_one_after_the_other_also_when_the_log_fails);
    tcase_add_test(tests, a_token_that_was_made_anew_meanwhile_stays);
    tcase_add_test(tests, only_the_leader_sweeps);
    tcase_add_test(tests, a_wall_clock_that_was_set_back_sweeps_nothing);
    tcase_add_test(tests, a_host_with_a_good_token_is_let_in_and_again_by_its_key);
    tcase_add_test(tests, the_answer_of_a_large_cluster_fits_what_a_guest_takes);
    tcase_add_test(tests, what_the_log_refuses_or_cannot_say_is_told);
    tcase_add_test(tests, a_host_that_offers_vms_nothing_is_refused);
    tcase_add_test(tests, a_host_whose_address_a_network_has_taken_is_refused);
    tcase_add_test(tests, nobody_comes_in_while_the_level_is_raised);
    tcase_add_test(tests, who_does_not_lead_names_who_does);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
