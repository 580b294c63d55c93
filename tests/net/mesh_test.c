/* Whole meshes over loopback: what a user of net/mesh.h would notice. Attacks are in
 * mesh_attack_test.c. */
#include "mesh_fixture.h"

enum { TYPE_TEXT = MESH_TYPE_USER_MIN, TYPE_NUMBER, TYPE_CHUNK };
#define CHUNK_SIZE (256 * 1024)

static struct rack rack;

static bool message_is(const struct host *host,
                       unsigned index,
                       const struct host *from,
                       const char *text)
{
    const struct host_message *message = &host->messages[index];
    return host->message_count > index &&
           mesh_key_equal(&message->from.key, &from->public) &&
           message->from.class == MESH_MEMBER && strcmp(message->body, text) == 0;
}

START_TEST(hosts_talk_in_both_directions_over_one_connection)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];

    host_dial(a, b);
    ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "hello b"), 0);
    RACK_WAIT(&rack, b->message_count == 1);
    ck_assert_int_eq(host_say(b, a, TYPE_NUMBER, "hello a"), 0);
    RACK_WAIT(&rack, a->message_count == 1);

    ck_assert(message_is(b, 0, a, "hello b"));
    ck_assert_uint_eq(b->messages[0].type, TYPE_TEXT);
    ck_assert(message_is(a, 0, b, "hello a"));
    ck_assert_uint_eq(a->messages[0].type, TYPE_NUMBER);
    ck_assert_uint_eq(a->up_count, 1);
    ck_assert_uint_eq(b->up_count, 1);
    rack_fini(&rack);
}
END_TEST

START_TEST(three_hosts_that_all_dial_each_other_hear_everything_once)
{
    rack_start(&rack, 3);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < 3; j++) {
            if (i != j) {
                host_dial(&rack.hosts[i], &rack.hosts[j]);
                ck_assert_int_eq(
                    host_say(&rack.hosts[i], &rack.hosts[j], TYPE_TEXT, "hi"), 0);
            }
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        RACK_WAIT(&rack, rack.hosts[i].message_count == 2 && rack.hosts[i].up_count == 2);
    }
    /* A second round behind the first: a doubled message would have come before it. */
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(
            host_say(&rack.hosts[i], &rack.hosts[(i + 1) % 3], TYPE_TEXT, "2"), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        RACK_WAIT(&rack, rack.hosts[i].message_count >= 3);
        ck_assert_uint_eq(rack.hosts[i].message_count, 3);
        ck_assert(message_is(&rack.hosts[i], 2, &rack.hosts[(i + 2) % 3], "2"));
    }
    rack_fini(&rack);
}
END_TEST

/* Each answer leaves from inside the message before it, so sends and arrivals meet on the
 * same sockets all the time, and a signal that one of them takes away from the other
 * costs a tick. */
#define EXCHANGES           3000
#define EXCHANGES_UNDER_WAY 3
#define EXCHANGES_WAITS_MAX 15
#define LONG_TURNS          100 /* at one a millisecond; a tick is five times as long */

static void answer_back(struct host *host, const struct host_message *message)
{
    struct host *other = host == &rack.hosts[0] ? &rack.hosts[1] : &rack.hosts[0];
    if (message->type == TYPE_NUMBER && host->message_count < EXCHANGES) {
        host->failed |= host_say(host, other, TYPE_NUMBER, "and back") != 0;
    }
}

/* How often nothing came for so long although the loop ran: in turns, not in time, for a
 * machine that is slow to run the meshes is slow to run the loop. */
static unsigned exchange_waits(const struct host *a, const struct host *b)
{
    unsigned waits = 0;
    unsigned turns = 0;
    unsigned before = 0;
    while (b->message_count < EXCHANGES && waits < EXCHANGES_WAITS_MAX) {
        uv_run(&rack.loop, UV_RUN_ONCE);
        turns = a->message_count + b->message_count == before ? turns + 1 : 0;
        before = a->message_count + b->message_count;
        waits += turns > 0 && turns % LONG_TURNS == 0 ? 1U : 0U;
    }
    return waits;
}

static void exchange(bool both_dial)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    a->on_message = b->on_message = answer_back;
    host_dial(a, b);
    if (both_dial) {
        host_dial(b, a);
    }
    RACK_WAIT(&rack, host_sees(a, b) && host_sees(b, a));
    for (unsigned i = 0; i < EXCHANGES_UNDER_WAY; i++) {
        ck_assert_int_eq(host_say(a, b, TYPE_NUMBER, "there"), 0);
    }
    ck_assert_uint_lt(exchange_waits(a, b), EXCHANGES_WAITS_MAX);
    ck_assert(!a->failed && !b->failed);
    rack_fini(&rack);
}

START_TEST(answers_do_not_wait_for_a_tick)
{
    exchange(false);
    exchange(true);
}
END_TEST

START_TEST(a_message_to_nobody_is_refused_with_the_reason)
{
    static char large[MESH_BODY_SIZE_MAX + 1];
    rack_start(&rack, 1);
    struct host *a = &rack.hosts[0];
    const struct host *b = &rack.hosts[1];
    struct mesh_key stranger = {{7}};

    ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "?"), BERTH_EUNREACHABLE);
    ck_assert_int_eq(mesh_send(a->mesh, &stranger, MESH_CONTROL, TYPE_TEXT, "?", 1),
                     BERTH_EFORBIDDEN);
    ck_assert_int_eq(host_say(a, b, MESH_TYPE_HELLO, "?"), BERTH_EINVALID);
    ck_assert_int_eq(mesh_send(a->mesh, &b->public, MESH_BULK, MESH_TYPE_JOIN, "?", 1),
                     BERTH_EINVALID);
    ck_assert_int_eq(
        mesh_send(a->mesh, &b->public, MESH_BULK, TYPE_CHUNK, large, sizeof(large)),
        BERTH_ETOOLARGE);
    ck_assert_int_eq(mesh_send(a->mesh, &b->public, MESH_CONTROL, MESH_TYPE_JOIN, large,
                               MESH_JOIN_BODY_SIZE_MAX + 1),
                     BERTH_ETOOLARGE);
    ck_assert_int_eq(mesh_peer_add(a->mesh, &b->public, "example.org:1", NULL),
                     BERTH_EINVALID);
    ck_assert_int_eq(mesh_peer_add(a->mesh, &b->public, "127.0.0.1:0", NULL),
                     BERTH_EINVALID);
    ck_assert_int_eq(mesh_peer_add(a->mesh, &a->public, "127.0.0.1:1", NULL),
                     BERTH_EINVALID);
    rack_fini(&rack);
}
END_TEST

START_TEST(empty_and_largest_bodies_arrive_whole)
{
    static char large[MESH_BODY_SIZE_MAX];
    memset(large, 'x', sizeof(large));
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    host_dial(a, b);
    for (unsigned lane = 0; lane < MESH_LANE_COUNT; lane++) {
        const unsigned before = b->message_count;
        ck_assert_int_eq(
            mesh_send(a->mesh, &b->public, (enum mesh_lane)lane, TYPE_TEXT, NULL, 0), 0);
        ck_assert_int_eq(mesh_send(a->mesh, &b->public, (enum mesh_lane)lane, TYPE_CHUNK,
                                   large, sizeof(large)),
                         0);
        RACK_WAIT(&rack, b->message_count == before + 2);
        ck_assert_uint_eq(b->messages[before].size, 0);
        ck_assert_uint_eq(b->messages[before + 1].size, sizeof(large));
    }
    rack_fini(&rack);
}
END_TEST

START_TEST(a_dead_peers_queue_is_bounded_and_leaves_when_it_comes)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    char address[MESH_ADDRESS_SIZE];
    (void)strcpy(address, mesh_bind_address(b->mesh));
    host_close(b);
    ck_assert_int_eq(mesh_peer_add(a->mesh, &b->public, address, NULL), 0);

    unsigned queued = 0;
    while (host_say(a, b, TYPE_TEXT, "x") == 0) {
        queued++;
        ck_assert_uint_le(queued, MESH_QUEUE_CONTROL_MAX);
    }
    ck_assert_uint_eq(queued, MESH_QUEUE_CONTROL_MAX);
    ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "x"), BERTH_EFULL);
    ck_assert_uint_eq(host_stats(a).refused_full, 2);
    ck_assert_uint_eq(host_stats(a).frames_sent, 0);
    host_open_at(b, address, NULL);
    host_trust_all(b);
    RACK_WAIT(&rack, a->room_count == 1);
    RACK_WAIT(&rack,
              host_sees(a, b) && b->message_count + host_stats(a).dropped_age == queued);
    ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "x"), 0);
    rack_fini(&rack);
}
END_TEST

START_TEST(what_waits_too_long_for_a_dead_peer_is_dropped)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    host_dial(a, b);
    RACK_WAIT(&rack, host_sees(a, b));
    host_close(b);
    RACK_WAIT(&rack, !host_sees(a, b));
    for (unsigned i = 0; i < MESH_QUEUE_CONTROL_MAX; i++) {
        ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "old"), 0);
    }
    ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "old"), BERTH_EFULL);
    RACK_WAIT(&rack, host_stats(a).dropped_age == MESH_QUEUE_CONTROL_MAX);
    RACK_WAIT(&rack, a->room_count == 1);
    ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "new"), 0);
    rack_fini(&rack);
}
END_TEST

START_TEST(a_peer_that_restarts_at_its_address_is_found_again)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    char address[MESH_ADDRESS_SIZE];
    (void)strcpy(address, mesh_bind_address(b->mesh));
    host_dial(a, b);
    for (unsigned round = 1; round <= 5; round++) {
        RACK_WAIT(&rack, host_sees(a, b) && a->up_count == round);
        ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "again"), 0);
        RACK_WAIT(&rack, b->message_count == round);
        host_close(b);
        RACK_WAIT(&rack, a->down_count == round);
        host_open_at(b, address, NULL);
        host_trust_all(b);
    }
    RACK_WAIT(&rack, host_sees(a, b));
    rack_fini(&rack);
}
END_TEST

START_TEST(the_listening_side_notices_that_a_dialer_is_gone)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    host_dial(a, b);
    RACK_WAIT(&rack, b->up_count == 1);
    host_close(a);
    RACK_WAIT(&rack, b->down_count == 1);
    RACK_WAIT(&rack, host_say(b, a, TYPE_TEXT, "?") == BERTH_EUNREACHABLE);
    rack_fini(&rack);
}
END_TEST

START_TEST(a_peer_follows_its_address)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    host_dial(a, b);
    RACK_WAIT(&rack, host_sees(a, b));
    host_close(b);
    host_open(b); /* another port */
    host_trust_all(b);
    host_dial(a, b);
    RACK_WAIT(&rack, host_sees(a, b) && b->up_count > 0);
    ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "moved"), 0);
    RACK_WAIT(&rack, b->message_count == 1);
    mesh_peer_remove(a->mesh, &b->public);
    RACK_WAIT(&rack, host_say(a, b, TYPE_TEXT, "?") == BERTH_EUNREACHABLE);
    rack_fini(&rack);
}
END_TEST

#define NUMBERS 10000

static void numbers_send(struct host *host)
{
    struct host *peer = &host->rack->hosts[1 - (host - host->rack->hosts)];
    while (host->number < NUMBERS) {
        const uint64_t number = host->number + 1;
        const int r = mesh_send(host->mesh, &peer->public, MESH_CONTROL, TYPE_NUMBER,
                                &number, sizeof(number));
        if (r == BERTH_EFULL) {
            return; /* on_room goes on */
        }
        ck_assert_int_eq(r, 0);
        host->number = number;
    }
}

static void number_check(struct host *host, const struct host_message *message)
{
    uint64_t number = 0;
    memcpy(&number, message->body, sizeof(number));
    host->failed = host->failed || number != host->message_count;
}

START_TEST(ten_thousand_messages_arrive_in_order)
{
    rack_start(&rack, 2);
    struct host *dialer = &rack.hosts[0];
    struct host *listener = &rack.hosts[1];
    struct host *from = _i == 0 ? dialer : listener; /* both ways use other sockets */
    struct host *to = _i == 0 ? listener : dialer;
    host_dial(dialer, listener);
    RACK_WAIT(&rack, host_sees(dialer, listener) && host_sees(listener, dialer));
    from->on_room = numbers_send;
    to->on_message = number_check;
    numbers_send(from);
    RACK_WAIT(&rack, to->message_count == NUMBERS);
    ck_assert(!to->failed);
    ck_assert_uint_eq(host_stats(to).dropped_order, 0);
    rack_fini(&rack);
}
END_TEST

#define TEXT_SIZE 100000 /* more than all HELLOs together */

/* Both lanes have arrived before the receiver's loop runs: control comes out first,
 * though it was sent last. */
START_TEST(control_overtakes_bulk_that_waits_for_the_loop)
{
    static char chunk[CHUNK_SIZE];
    rack_start(&rack, 2);
    struct host *dialer = &rack.hosts[0];
    struct host *listener = &rack.hosts[1];
    struct host *from = _i == 0 ? dialer : listener; /* both ways use other sockets */
    struct host *to = _i == 0 ? listener : dialer;
    host_dial(dialer, listener);
    RACK_WAIT(&rack, host_sees(dialer, listener) && host_sees(listener, dialer));
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_int_eq(mesh_send(from->mesh, &to->public, MESH_BULK, TYPE_CHUNK, chunk,
                                   sizeof(chunk)),
                         0);
    }
    while (host_stats(to).bytes_received < 8 * CHUNK_SIZE) {
        zclock_sleep(1);
    }
    ck_assert_int_eq(
        mesh_send(from->mesh, &to->public, MESH_CONTROL, TYPE_TEXT, chunk, TEXT_SIZE), 0);
    while (host_stats(to).bytes_received < 8 * CHUNK_SIZE + TEXT_SIZE) {
        zclock_sleep(1);
    }
    RACK_WAIT(&rack, to->message_count == 9);
    ck_assert_uint_eq(to->messages[0].type, TYPE_TEXT);
    rack_fini(&rack);
}
END_TEST

static void chunk_answer(struct host *host, const struct host_message *message)
{
    struct host *peer = &host->rack->hosts[1 - (host - host->rack->hosts)];
    static char chunk[CHUNK_SIZE];
    if (message->type == TYPE_CHUNK) {
        host->number++;
        /* One in, one out, so the lane is never empty. */
        ck_assert_int_eq(mesh_send(peer->mesh, &host->public, MESH_BULK, TYPE_CHUNK,
                                   chunk, sizeof(chunk)),
                         0);
    } else {
        host->heard = true;
    }
}

START_TEST(control_gets_through_while_bulk_never_ends)
{
    static char chunk[CHUNK_SIZE];
    rack_start(&rack, 2);
    struct host *dialer = &rack.hosts[0];
    struct host *listener = &rack.hosts[1];
    struct host *from = _i == 0 ? dialer : listener;
    struct host *to = _i == 0 ? listener : dialer;
    host_dial(dialer, listener);
    RACK_WAIT(&rack, host_sees(dialer, listener) && host_sees(listener, dialer));
    to->on_message = chunk_answer;
    for (unsigned i = 0; i < MESH_QUEUE_BULK_MAX - 1; i++) {
        ck_assert_int_eq(mesh_send(from->mesh, &to->public, MESH_BULK, TYPE_CHUNK, chunk,
                                   sizeof(chunk)),
                         0);
    }
    RACK_WAIT(&rack, to->number > 0);
    for (unsigned i = 0; i < 20; i++) {
        to->heard = false;
        ck_assert_int_eq(host_say(from, to, TYPE_TEXT, "excuse me"), 0);
        RACK_WAIT(&rack, to->heard);
    }
    to->on_message = NULL;
    rack_fini(&rack);
}
END_TEST

static void chunks_send(struct host *host)
{
    static char chunk[CHUNK_SIZE];
    struct host *peer = &host->rack->hosts[1 - (host - host->rack->hosts)];
    while (host->number > 0 && mesh_send(host->mesh, &peer->public, MESH_BULK, TYPE_CHUNK,
                                         chunk, sizeof(chunk)) == 0) {
        host->number--;
    }
}

/* 400 chunks are 100 MiB: more than the receiver's inbox and everything in between can
 * hold. */
START_TEST(a_receiver_that_does_not_read_holds_the_sender_back_and_loses_nothing)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    host_dial(a, b);
    RACK_WAIT(&rack, host_sees(a, b));
    a->number = 400;
    /* The receiver's loop does not run in here: what is over its inbox must stay outside.
     * The second wait only gives a broken mesh its chance; a sound one cannot fail it. */
    while (host_stats(b).frames_received < MESH_INBOX_BULK_MAX) {
        chunks_send(a);
        zclock_sleep(1); /* the processor is the meshes' */
    }
    for (unsigned i = 0; i < 300 && a->number > 0; i++) {
        chunks_send(a);
        zclock_sleep(1);
    }
    /* Besides chunks there are a few HELLOs. */
    ck_assert_uint_lt(host_stats(b).frames_received, MESH_INBOX_BULK_MAX + 64);
    ck_assert_uint_gt(a->number, 0);
    a->on_room = chunks_send;
    chunks_send(a);
    RACK_WAIT(&rack, b->message_count == 400);
    ck_assert_uint_eq(host_stats(b).dropped_inbox, 0);
    rack_fini(&rack);
}
END_TEST

/* Over a link (_i 0) and over a route (_i 1), which has no event of its own. A turn for
 * each try, every two milliseconds, and one for each chunk sent: more is a spin. Measured
 * against the clock only from above: a slow machine makes fewer turns, never more. */
START_TEST(a_full_lane_does_not_keep_its_thread_awake)
{
    rack_start(&rack, 2);
    struct host *from = &rack.hosts[_i];
    struct host *to = &rack.hosts[1 - _i];
    host_dial(&rack.hosts[0], &rack.hosts[1]);
    RACK_WAIT(&rack, host_sees(from, to) && host_sees(to, from));
    from->number = 1000;
    uint64_t sent = 0;
    /* No loop runs in here. Full is what has moved nothing for two of its ticks. */
    for (unsigned still = 0; still < 100; still++) {
        chunks_send(from);
        zclock_sleep(5);
        const uint64_t sent_now = host_stats(from).frames_sent;
        still = sent_now != sent || sent < MESH_INBOX_BULK_MAX ? 0 : still;
        sent = sent_now;
    }
    const int64_t began_ms = zclock_mono();
    const uint64_t from_before = host_stats(from).turns;
    const uint64_t to_before = host_stats(to).turns;
    zclock_sleep(300);
    const uint64_t from_turns = host_stats(from).turns - from_before;
    const uint64_t to_turns = host_stats(to).turns - to_before;
    const uint64_t bound = (uint64_t)(zclock_mono() - began_ms) * 2 + 64;
    ck_assert_uint_lt(from_turns, bound);
    ck_assert_uint_lt(to_turns, bound);
    ck_assert_uint_gt(from->number, 0);
    rack_fini(&rack);
}
END_TEST

/* The loop does not run in between, so these are sent in one turn of it; the thread has
 * time to wake for each. */
START_TEST(what_one_turn_sends_wakes_the_thread_once)
{
    enum { SENT = 100 };
    rack_start(&rack, 2);
    struct host *from = &rack.hosts[0];
    struct host *to = &rack.hosts[1];
    host_dial(from, to);
    RACK_WAIT(&rack, host_sees(from, to) && host_sees(to, from));
    const uint64_t before = host_stats(from).turns;
    const int64_t began_ms = zclock_mono();
    for (unsigned i = 0; i < SENT; i++) {
        ck_assert_int_eq(host_say(from, to, TYPE_TEXT, "one more"), 0);
        zclock_sleep(1);
    }
    /* Its own ticks and HELLOs are some, a few a second. */
    const uint64_t bound = SENT / 2 + (uint64_t)(zclock_mono() - began_ms) / 50;
    ck_assert_uint_lt(host_stats(from).turns - before, bound);
    RACK_WAIT(&rack, to->message_count == SENT);
    rack_fini(&rack);
}
END_TEST

static void close_self(struct host *host, const struct host_message *message)
{
    (void)message;
    mesh_close(host->mesh, host_closed, host);
}

START_TEST(a_mesh_closes_inside_its_own_callback_and_with_work_left)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    host_dial(a, b);
    b->on_message = close_self;
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "bye"), 0);
    }
    RACK_WAIT(&rack, b->mesh == NULL);
    ck_assert_uint_eq(b->message_count, 1);
    mesh_close(a->mesh, host_closed, a);
    ck_assert_int_eq(host_say(a, b, TYPE_TEXT, "?"), BERTH_ECLOSED);
    RACK_WAIT(&rack, a->mesh == NULL);
    rack_fini(&rack);
}
END_TEST

START_TEST(an_address_in_use_is_an_error_that_names_it)
{
    rack_start(&rack, 1);
    struct err err = {0};
    const struct mesh_config config = {.secret_key = rack.hosts[1].secret,
                                       .bind = mesh_bind_address(rack.hosts[0].mesh)};
    ck_assert_ptr_null(
        mesh_open(&rack.loop, &config, &host_events, &rack.hosts[1], &err));
    ck_assert_int_eq(err.code, -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(err.text, config.bind));
    rack_fini(&rack);
}
END_TEST

START_TEST(a_host_that_only_dials_joins_and_is_then_a_member)
{
    rack_init(&rack);
    struct host *cluster = &rack.hosts[0];
    struct host *joiner = &rack.hosts[1];
    host_open(cluster);
    host_open_at(joiner, NULL, NULL);
    mesh_guests_allow(cluster->mesh, true);
    ck_assert_int_eq(host_say(joiner, cluster, MESH_TYPE_JOIN, "?"), BERTH_EUNREACHABLE);

    ck_assert_int_eq(mesh_join_dial(joiner->mesh, &cluster->public,
                                    mesh_join_address(cluster->mesh), NULL),
                     0);
    ck_assert_int_eq(host_say(joiner, cluster, MESH_TYPE_JOIN, "token"), 0);
    RACK_WAIT(&rack, cluster->message_count == 1);
    ck_assert_int_eq(cluster->messages[0].from.class, MESH_GUEST);
    ck_assert(mesh_key_equal(&cluster->messages[0].from.key, &joiner->public));
    ck_assert_str_eq(cluster->messages[0].body, "token");
    ck_assert_int_eq(host_say(cluster, joiner, MESH_TYPE_JOIN_REPLY, "welcome"), 0);
    RACK_WAIT(&rack, joiner->message_count == 1);
    ck_assert_int_eq(joiner->messages[0].from.class, MESH_JOIN_HOST);
    ck_assert_str_eq(joiner->messages[0].body, "welcome");
    mesh_join_hang_up(joiner->mesh, &cluster->public);

    host_trust_all(cluster);
    host_trust_all(joiner);
    host_dial(joiner, cluster);
    RACK_WAIT(&rack, host_sees(joiner, cluster) && host_sees(cluster, joiner));
    ck_assert_int_eq(host_say(cluster, joiner, TYPE_TEXT, "work"), 0);
    RACK_WAIT(&rack, joiner->message_count == 2);
    rack_fini(&rack);
}
END_TEST

START_TEST(a_host_that_was_refused_gets_in_once_it_is_a_member)
{
    rack_start(&rack, 2);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    ck_assert_int_eq(mesh_members_set(b->mesh, NULL, 0, NULL), 0);
    host_dial(a, b);
    RACK_WAIT(&rack, mesh_peer_refuses(a->mesh, &b->public));
    ck_assert_uint_ge(host_stats(b).handshakes_refused, 2); /* it has lasted */
    ck_assert_uint_eq(a->refused_count, 1);
    host_trust_all(b);
    RACK_WAIT(&rack, host_sees(a, b) && host_sees(b, a));
    rack_fini(&rack);
}
END_TEST

START_TEST(a_guest_that_was_refused_gets_in_once_guests_are_allowed)
{
    rack_start(&rack, 1);
    struct host *cluster = &rack.hosts[0];
    struct host *joiner = &rack.hosts[1];
    host_open_at(joiner, NULL, NULL);
    ck_assert_int_eq(mesh_join_dial(joiner->mesh, &cluster->public,
                                    mesh_join_address(cluster->mesh), NULL),
                     0);
    RACK_WAIT(&rack, joiner->refused_count == 1);
    RACK_WAIT(&rack, mesh_join_door(joiner->mesh, &cluster->public) ==
                         MESH_JOIN_DOOR_CLOSED); /* it has lasted */
    mesh_guests_allow(cluster->mesh, true);
    RACK_WAIT(&rack, joiner->up_count == 1);
    ck_assert_int_eq(mesh_join_door(joiner->mesh, &cluster->public),
                     MESH_JOIN_DOOR_UNKNOWN);
    ck_assert_int_eq(host_say(joiner, cluster, MESH_TYPE_JOIN, "token"), 0);
    RACK_WAIT(&rack, cluster->message_count == 1);
    rack_fini(&rack);
}
END_TEST

/* As with a token whose key was damaged. */
START_TEST(a_join_host_that_has_another_key_is_told_from_a_closed_door)
{
    rack_start(&rack, 1);
    struct host *cluster = &rack.hosts[0];
    struct host *joiner = &rack.hosts[1];
    const struct mesh_key *key = &rack.hosts[2].public;
    mesh_guests_allow(cluster->mesh, true);
    host_open_at(joiner, NULL, NULL);
    ck_assert_int_eq(mesh_join_door(joiner->mesh, key), MESH_JOIN_DOOR_UNKNOWN);
    ck_assert_int_eq(
        mesh_join_dial(joiner->mesh, key, mesh_join_address(cluster->mesh), NULL), 0);
    RACK_WAIT(&rack, mesh_join_door(joiner->mesh, key) == MESH_JOIN_DOOR_FOREIGN);
    ck_assert_uint_eq(joiner->refused_count, 0);
    rack_fini(&rack);
}
END_TEST

/* Hanging up in every state of a connection, listening hosts closing included: libzmq's
 * I/O threads still report on sockets that are being closed, and nobody reads that any
 * more. */
START_TEST(hanging_up_at_any_moment_never_stops_the_mesh)
{
    rack_start(&rack, 3);
    struct host *a = &rack.hosts[0];
    struct host *b = &rack.hosts[1];
    struct host *c = &rack.hosts[2];
    for (unsigned i = 0; i < 300; i++) {
        host_dial(a, b);
        host_dial(b, a);
        (void)mesh_send(a->mesh, &b->public, MESH_BULK, TYPE_TEXT, "x", 1);
        for (unsigned turn = 0; turn < i % 17; turn++) {
            uv_run(&rack.loop, UV_RUN_ONCE);
        }
        mesh_peer_remove(a->mesh, &b->public);
        mesh_peer_remove(b->mesh, &a->public);
        host_dial(c, b);
        if (i % 10 == 0) {
            host_close(c);
            host_open(c);
            host_trust_all(c);
        }
    }
    host_dial(a, b);
    host_dial(c, b);
    RACK_WAIT(&rack, host_sees(a, b) && host_sees(c, b));
    /* A way that looks open may still be one that was just hung up: say it until it is
     * heard. */
    const unsigned before = b->message_count;
    RACK_WAIT(&rack, b->message_count > before ||
                         (host_say(a, b, TYPE_TEXT, "still there") && false));
    rack_fini(&rack);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mesh");
    TCase *c = tcase_create("mesh");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, hosts_talk_in_both_directions_over_one_connection);
    tcase_add_test(c, three_hosts_that_all_dial_each_other_hear_everything_once);
    tcase_add_test(c, answers_do_not_wait_for_a_tick);
    tcase_add_test(c, a_message_to_nobody_is_refused_with_the_reason);
    tcase_add_test(c, empty_and_largest_bodies_arrive_whole);
    tcase_add_test(c, a_dead_peers_queue_is_bounded_and_leaves_when_it_comes);
    tcase_add_test(c, what_waits_too_long_for_a_dead_peer_is_dropped);
    tcase_add_test(c, a_peer_that_restarts_at_its_address_is_found_again);
    tcase_add_test(c, the_listening_side_notices_that_a_dialer_is_gone);
    tcase_add_test(c, a_peer_follows_its_address);
    tcase_add_loop_test(c, ten_thousand_messages_arrive_in_order, 0, 2);
    tcase_add_loop_test(c, control_overtakes_bulk_that_waits_for_the_loop, 0, 2);
    tcase_add_loop_test(c, control_gets_through_while_bulk_never_ends, 0, 2);
    tcase_add_test(c,
                   a_receiver_that_does_not_read_holds_the_sender_back_and_loses_nothing);
    tcase_add_loop_test(c, a_full_lane_does_not_keep_its_thread_awake, 0, 2);
    tcase_add_test(c, what_one_turn_sends_wakes_the_thread_once);
    tcase_add_test(c, a_mesh_closes_inside_its_own_callback_and_with_work_left);
    tcase_add_test(c, an_address_in_use_is_an_error_that_names_it);
    tcase_add_test(c, a_host_that_only_dials_joins_and_is_then_a_member);
    tcase_add_test(c, a_host_that_was_refused_gets_in_once_it_is_a_member);
    tcase_add_test(c, a_guest_that_was_refused_gets_in_once_guests_are_allowed);
    tcase_add_test(c, a_join_host_that_has_another_key_is_told_from_a_closed_door);
    tcase_add_test(c, hanging_up_at_any_moment_never_stops_the_mesh);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
