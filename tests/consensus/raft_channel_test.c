/* Two hubs on one loop: who gets through, who does not, and that what goes in comes out.
 */
#include "base/fd.h"
#include "base/log.h"
#include "consensus/channel_patience.h"
#include "consensus/raft_channel.h"
#include "support/own_loopback.h"
#include "support/test_main.h"

#include <uv.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS  200000
#define BULK     (8 << 20) /* much more than all buffers on the way */
#define MEMBERS  3
#define CLUSTER  5
#define STALL_MS 2000
#define PORT     17500 /* of member 0 */

struct side {
    struct channel_hub *hub;
    uint64_t id;
    char address[OWN_LOOPBACK_TEXT_SIZE];
    int in; /* the accepted channel's end, -1 */
    uint64_t in_from;
    unsigned accepted;
    int out; /* the called channel's end, -1 */
    int status;
    unsigned answered;
};

static uv_loop_t loop;
static uv_timer_t bound;
static bool late;
static struct side one;
static struct side two;
static uint8_t secrets[MEMBERS + 1][32];
static struct channel_identity
    known[MEMBERS + 1]; /* what all take for the members' keys */
static unsigned closed;

static bool
peer_of(void *context, const uint8_t public_key[CHANNEL_KEY_SIZE], uint64_t *ret_id)
{
    (void)context;
    for (uint64_t id = 1; id <= MEMBERS; id++) {
        if (memcmp(known[id].public_key, public_key, CHANNEL_KEY_SIZE) == 0) {
            *ret_id = id;
            return true;
        }
    }
    return false;
}

static bool key_of(void *context, uint64_t id, uint8_t ret_public_key[CHANNEL_KEY_SIZE])
{
    (void)context;
    if (id == 0 || id > MEMBERS) {
        return false;
    }
    memcpy(ret_public_key, known[id].public_key, CHANNEL_KEY_SIZE);
    return true;
}

static const char *name_of(void *context, uint64_t id)
{
    (void)context;
    return id == 3 ? "h3" : NULL;
}

static void on_accepted(void *context, uint64_t id, const char *address, int fd)
{
    struct side *side = context;
    ck_assert_str_ne(address, "");
    fd_close(&side->in);
    side->in = fd;
    side->in_from = id;
    side->accepted++;
}

static void on_called(void *context, int fd, int status)
{
    struct side *side = context;
    side->out = fd;
    side->status = status;
    side->answered++;
}

static void on_late(uv_timer_t *timer)
{
    (void)timer;
    late = true;
}

#define UNTIL(condition)                                        \
    do {                                                        \
        bool held = false;                                      \
        late = false;                                           \
        uv_timer_start(&bound, on_late, WAIT_MS, 0);            \
        while (!(held = (condition)) && !late) {                \
            uv_run(&loop, UV_RUN_ONCE);                         \
        }                                                       \
        uv_timer_stop(&bound);                                  \
        ck_assert_msg(held, "never came true: %s", #condition); \
    } while (0)

static void
open_side(struct side *side, uint64_t id, const uint8_t *secret, uint64_t cluster)
{
    *side = (struct side){.id = id, .in = -1, .out = -1};
    (void)own_loopback_text(1, PORT + (unsigned)id, side->address);
    struct channel_hub_config config = {.loop = &loop,
                                        .id = id,
                                        .cluster_id = cluster,
                                        .address = side->address,
                                        .secret_key = secret,
                                        .stall_ms = STALL_MS,
                                        .peer_of = peer_of,
                                        .key_of = key_of,
                                        .name_of = name_of,
                                        .accept_context = side,
                                        .accepted = on_accepted};
    struct err err = {0};
    ck_assert_msg(channel_hub_open(&config, &side->hub, &err) == 0, "%s", err.text);
    ck_assert_msg(channel_hub_listen(side->hub, &err) == 0, "%s", err.text);
}

static void on_closed(void *context)
{
    (void)context;
    closed++;
}

static void close_side(struct side *side)
{
    unsigned before = closed;
    fd_close(&side->in);
    fd_close(&side->out);
    channel_hub_close(side->hub, on_closed, NULL);
    side->hub = NULL;
    UNTIL(closed > before);
}

static void setup(void)
{
    log_setup(LOG_LEVEL_ERROR, false);
    ck_assert_int_ge(sodium_init(), 0);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(uv_timer_init(&loop, &bound), 0);
    for (unsigned id = 1; id <= MEMBERS; id++) {
        randombytes_buf(secrets[id], 32);
        channel_identity_of(&known[id], secrets[id]);
    }
    open_side(&one, 1, secrets[1], CLUSTER);
    open_side(&two, 2, secrets[2], CLUSTER);
}

static void teardown(void)
{
    if (one.hub != NULL) {
        close_side(&one);
    }
    if (two.hub != NULL) {
        close_side(&two);
    }
    uv_close((uv_handle_t *)&bound, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0) {
    }
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void call(struct side *from, uint64_t id, const char *address)
{
    unsigned answered = from->answered;
    ck_assert_int_eq(channel_hub_connect(from->hub, id, address, on_called, from), 0);
    UNTIL(from->answered > answered);
}

static const struct channel_counters *counters_of(const struct side *side)
{
    return channel_hub_counters(side->hub);
}

START_TEST(what_goes_in_comes_out_however_slow_the_reader)
{
    uint8_t *sent = malloc(BULK);
    uint8_t *received = malloc(BULK);
    size_t in = 0;
    size_t out = 0;
    size_t stuck_at = 0;
    randombytes_buf(sent, BULK);
    call(&one, 2, two.address);
    UNTIL(two.accepted == 1);
    ck_assert_int_eq(one.status, 0);
    ck_assert_uint_eq(two.in_from, 1);

    while (out < BULK) {
        ssize_t wrote = in < BULK ? write(one.out, sent + in, BULK - in) : 0;
        in += wrote > 0 ? (size_t)wrote : 0;
        for (unsigned i = 0; i < 50; i++) {
            uv_run(&loop, UV_RUN_NOWAIT);
        }
        stuck_at = stuck_at == 0 && wrote < 0 ? in : stuck_at;
        if (wrote <= 0) { /* read only when the way is full */
            ssize_t got = read(two.in, received + out, 100000);
            out += got > 0 ? (size_t)got : 0;
        }
    }

    ck_assert_mem_eq(sent, received, BULK);
    ck_assert_uint_gt(stuck_at, 0); /* the sender was held back, nothing piled up */
    ck_assert_uint_lt(stuck_at, BULK);
    free(sent);
    free(received);
}
END_TEST

START_TEST(a_channel_ends_on_both_sides_when_either_lets_go)
{
    char byte;
    call(&one, 2, two.address);
    UNTIL(two.accepted == 1);
    fd_close(&one.out);
    UNTIL(read(two.in, &byte, 1) == 0);

    call(&one, 2, two.address);
    UNTIL(two.accepted == 2);
    fd_close(&two.in);
    UNTIL(send(one.out, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
}
END_TEST

START_TEST(a_second_call_of_a_member_replaces_its_first)
{
    char byte;
    call(&one, 2, two.address);
    UNTIL(two.accepted == 1);
    int first = one.out;
    call(&one, 2, two.address);
    UNTIL(two.accepted == 2);
    UNTIL(send(first, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    ck_assert_int_eq(send(one.out, "y", 1, MSG_NOSIGNAL), 1);
    UNTIL(read(two.in, &byte, 1) == 1);
    ck_assert_int_eq(byte, 'y');
    close(first);
}
END_TEST

START_TEST(a_caller_whose_key_is_no_members_is_refused)
{
    uint8_t stranger[32];
    close_side(&one);
    randombytes_buf(stranger, sizeof(stranger));
    open_side(&one, 1, stranger, CLUSTER);
    call(&one, 2, two.address);

    ck_assert_int_lt(one.status, 0);
    ck_assert_uint_eq(two.accepted, 0);
    ck_assert_uint_eq(counters_of(&two)->refused_key, 1);
}
END_TEST

static unsigned held_of(const struct side *side)
{
    return (unsigned)counters_of(side)->held;
}

START_TEST(who_is_refused_again_and_again_calls_later_until_it_is_let_in)
{
    struct channel_identity member = known[1];
    randombytes_buf(known[1].public_key, CHANNEL_KEY_SIZE); /* it is removed */
    for (unsigned i = 0; i < CHANNEL_PATIENCE_FREE; i++) {
        call(&one, 2, two.address);
        ck_assert_uint_eq(held_of(&one), 0);
    }
    call(&one, 2, two.address);
    call(&one, 2, two.address);
    ck_assert_str_eq(err_name(one.status), "BERTH_EUNREACHABLE");
    ck_assert_uint_eq(held_of(&one), 2);
    ck_assert_uint_eq(counters_of(&two)->refused_key, CHANNEL_PATIENCE_FREE + 2);

    known[1] = member; /* and added once more */
    call(&two, 1, one.address);
    UNTIL(one.accepted == 1);
    randombytes_buf(known[1].public_key, CHANNEL_KEY_SIZE);
    call(&one, 2, two.address);
    ck_assert_uint_eq(held_of(&one), 2);
}
END_TEST

START_TEST(closing_the_hub_answers_who_was_refused_and_waits)
{
    randombytes_buf(known[1].public_key, CHANNEL_KEY_SIZE);
    for (unsigned i = 0; i < CHANNEL_PATIENCE_FREE; i++) {
        call(&one, 2, two.address);
    }
    unsigned answered = one.answered;
    ck_assert_int_eq(channel_hub_connect(one.hub, 2, two.address, on_called, &one), 0);
    UNTIL(held_of(&one) == 1);
    ck_assert_uint_eq(one.answered, answered);
    close_side(&one);
    ck_assert_uint_eq(one.answered, answered + 1);
}
END_TEST

START_TEST(a_member_that_says_anothers_id_is_refused)
{
    close_side(&one);
    open_side(&one, 1, secrets[3], CLUSTER); /* 3's key, says it is 1 */
    call(&one, 2, two.address);

    ck_assert_int_lt(one.status, 0);
    ck_assert_uint_eq(two.accepted, 0);
    ck_assert_uint_eq(counters_of(&two)->refused_key, 1);
}
END_TEST

START_TEST(a_member_of_another_cluster_is_refused)
{
    close_side(&one);
    open_side(&one, 1, secrets[1], CLUSTER + 1);
    call(&one, 2, two.address);

    ck_assert_int_lt(one.status, 0);
    ck_assert_uint_eq(two.accepted, 0);
    ck_assert_uint_eq(counters_of(&two)->refused_text, 1);
}
END_TEST

START_TEST(whoever_answers_at_the_wrong_address_is_not_spoken_to)
{
    call(&one, 3, two.address); /* 3 is wanted, 2 sits there */

    ck_assert_int_lt(one.status, 0);
    ck_assert_uint_eq(two.accepted, 0);
    ck_assert_int_eq(channel_hub_connect(one.hub, 9, two.address, on_called, &one),
                     BERTH_EAUTH);
    ck_assert_int_eq(channel_hub_connect(one.hub, 2, "nowhere", on_called, &one),
                     BERTH_EINVALID);
}
END_TEST

START_TEST(a_channel_that_is_dropped_is_told_of_with_its_host)
{
    FILE *said = tmpfile();
    char text[4096] = "";
    const int saved = dup(STDERR_FILENO);
    ck_assert_ptr_nonnull(said);
    log_setup(LOG_LEVEL_WARN, false);
    ck_assert_int_ge(dup2(fileno(said), STDERR_FILENO), 0);

    call(&one, 3, two.address);

    ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
    (void)close(saved);
    rewind(said);
    text[fread(text, 1, sizeof(text) - 1, said)] = '\0';
    (void)fclose(said);
    ck_assert_msg(strstr(text, "raft channel dropped ") != NULL, "%s", text);
    ck_assert_msg(strstr(text, " host=h3 peer=3 ") != NULL, "%s", text);
}
END_TEST

START_TEST(where_nobody_listens_the_call_fails)
{
    char address[OWN_LOOPBACK_TEXT_SIZE];
    call(&one, 2, own_loopback_text(1, PORT, address)); /* nobody is member 0 */
    ck_assert_str_eq(err_name(one.status), "BERTH_EUNREACHABLE");
}
END_TEST

static int connect_to(const struct side *side)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(own_loopback(1))}};
    at.sin_port = htons((uint16_t)strtoul(strchr(side->address, ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

START_TEST(strangers_that_keep_the_waiting_room_full_do_not_keep_members_out)
{
    int fds[3 * CHANNEL_PENDING_MAX];
    for (unsigned i = 0; i < 3 * CHANNEL_PENDING_MAX; i++) {
        fds[i] = connect_to(&two);
    }
    UNTIL(counters_of(&two)->evicted == 2 * CHANNEL_PENDING_MAX);

    call(&one, 2, two.address);
    ck_assert_int_eq(one.status, 0);
    UNTIL(two.accepted == 1);
    for (unsigned i = 0; i < 3 * CHANNEL_PENDING_MAX; i++) {
        close(fds[i]);
    }
}
END_TEST

START_TEST(a_stranger_that_says_nothing_is_shown_out)
{
    char byte;
    int fd = connect_to(&two);
    UNTIL(counters_of(&two)->timed_out == 1);
    ck_assert_int_eq(read(fd, &byte, 1), 0);
    close(fd);
}
END_TEST

START_TEST(a_reader_that_stands_still_loses_the_channel)
{
    static uint8_t bulk[BULK];
    call(&one, 2, two.address);
    UNTIL(two.accepted == 1);
    UNTIL(send(one.out, bulk, sizeof(bulk), MSG_NOSIGNAL) < 0 ||
          counters_of(&one)->timed_out + counters_of(&two)->timed_out > 0);
    UNTIL(counters_of(&one)->timed_out + counters_of(&two)->timed_out > 0);
}
END_TEST

START_TEST(a_dropped_member_has_no_channel_left)
{
    char byte;
    call(&one, 2, two.address);
    UNTIL(two.accepted == 1);
    channel_hub_drop(two.hub, 1);
    UNTIL(read(two.in, &byte, 1) == 0);
}
END_TEST

START_TEST(closing_the_hub_answers_calls_under_way)
{
    ck_assert_int_eq(channel_hub_connect(one.hub, 2, two.address, on_called, &one), 0);
    ck_assert_uint_eq(one.answered, 0); /* never inside the call */
    unsigned before = closed;
    channel_hub_close(one.hub, on_closed, NULL);
    one.hub = NULL;
    UNTIL(closed > before);

    ck_assert_uint_eq(one.answered, 1);
    ck_assert_str_eq(err_name(one.status), "BERTH_ECLOSED");
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_channel");
    TCase *tcase = tcase_create("raft_channel");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, what_goes_in_comes_out_however_slow_the_reader);
    tcase_add_test(tcase, a_channel_ends_on_both_sides_when_either_lets_go);
    tcase_add_test(tcase, a_second_call_of_a_member_replaces_its_first);
    tcase_add_test(tcase, a_caller_whose_key_is_no_members_is_refused);
    tcase_add_test(tcase, who_is_refused_again_and_again_calls_later_until_it_is_let_in);
    tcase_add_test(tcase, closing_the_hub_answers_who_was_refused_and_waits);
    tcase_add_test(tcase, a_member_that_says_anothers_id_is_refused);
    tcase_add_test(tcase, a_member_of_another_cluster_is_refused);
    tcase_add_test(tcase, whoever_answers_at_the_wrong_address_is_not_spoken_to);
    tcase_add_test(tcase, a_channel_that_is_dropped_is_told_of_with_its_host);
    tcase_add_test(tcase, where_nobody_listens_the_call_fails);
    tcase_add_test(tcase,
                   strangers_that_keep_the_waiting_room_full_do_not_keep_members_out);
    tcase_add_test(tcase, a_stranger_that_says_nothing_is_shown_out);
    tcase_add_test(tcase, a_reader_that_stands_still_loses_the_channel);
    tcase_add_test(tcase, a_dropped_member_has_no_channel_left);
    tcase_add_test(tcase, closing_the_hub_answers_calls_under_way);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
