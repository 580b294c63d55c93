/* What a mesh does with peers that do not play by the rules. The attackers are bare
 * ZeroMQ and TCP sockets that say exactly what the test wants. Each test ends with a
 * proper message from a proper member, so "nothing came through" is checked after
 * everything had its chance, and the host still works. */
#include "base/random.h"
#include "mesh_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TYPE_TEXT = MESH_TYPE_USER_MIN };

static struct rack rack;
static struct host *victim;
static struct host *member; /* an honest one */

static void attack_start(void)
{
    rack_start(&rack, 2);
    victim = &rack.hosts[0];
    member = &rack.hosts[1];
}

/* The victim has heard nothing so far and still hears its members. */
static void attack_end(void)
{
    const unsigned before = victim->message_count;
    host_dial(member, victim);
    RACK_WAIT(&rack, host_sees(member, victim));
    ck_assert_int_eq(host_say(member, victim, TYPE_TEXT, "honest"), 0);
    RACK_WAIT(&rack, victim->message_count > before);
    ck_assert_uint_eq(victim->message_count, before + 1);
    ck_assert_str_eq(victim->messages[before].body, "honest");
    ck_assert(mesh_key_equal(&victim->messages[before].from.key, &member->public));
    rack_fini(&rack);
}

/* A bare DEALER with this key pair, dialing address and expecting server's key there.
 * NULL keys: no CURVE at all. */
static zsock_t *bare_dial(const char *address,
                          const struct mesh_key *secret,
                          const struct mesh_key *server,
                          const char *routing_id)
{
    zsock_t *socket = zsock_new(ZMQ_DEALER);
    ck_assert_ptr_nonnull(socket);
    void *raw = zsock_resolve(socket);
    const int zero = 0;
    ck_assert_int_eq(zmq_setsockopt(raw, ZMQ_LINGER, &zero, sizeof(zero)), 0);
    if (secret) {
        struct mesh_key public;
        mesh_key_public(secret, &public);
        zmq_setsockopt(raw, ZMQ_CURVE_SECRETKEY, secret->bytes, MESH_KEY_SIZE);
        zmq_setsockopt(raw, ZMQ_CURVE_PUBLICKEY, public.bytes, MESH_KEY_SIZE);
        zmq_setsockopt(raw, ZMQ_CURVE_SERVERKEY, server->bytes, MESH_KEY_SIZE);
    }
    if (routing_id) {
        ck_assert_int_eq(
            zmq_setsockopt(raw, ZMQ_ROUTING_ID, routing_id, strlen(routing_id)), 0);
    }
    char endpoint[80];
    (void)snprintf(endpoint, sizeof(endpoint), "tcp://%s", address);
    ck_assert_int_eq(zmq_connect(raw, endpoint), 0);
    return socket;
}

/* A member key of the rack whose host does not run: an insider with other software. */
static zsock_t *insider_dial(const char *routing_id)
{
    return bare_dial(mesh_bind_address(victim->mesh), &rack.hosts[2].secret,
                     &victim->public, routing_id);
}

static void bare_say(zsock_t *socket, const void *data, size_t size)
{
    ck_assert_int_eq(zmq_send(zsock_resolve(socket), data, size, 0), (int)size);
}

static size_t frame_make(uint8_t *ret_frame,
                         uint16_t type,
                         uint64_t session,
                         uint64_t sequence,
                         const char *text)
{
    const size_t size = strlen(text);
    mesh_frame_encode(type, 0, session, sequence, (uint32_t)size, ret_frame);
    memcpy(ret_frame + MESH_FRAME_HEADER_SIZE, text, size);
    return MESH_FRAME_HEADER_SIZE + size;
}

static void bare_say_text(zsock_t *socket,
                          uint16_t type,
                          uint64_t session,
                          uint64_t sequence,
                          const char *text)
{
    uint8_t frame[256];
    bare_say(socket, frame, frame_make(frame, type, session, sequence, text));
}

START_TEST(a_strangers_key_is_refused)
{
    attack_start();
    struct host *stranger = &rack.hosts[3];
    host_open(stranger);
    host_trust_all(stranger);
    ck_assert_int_eq(mesh_members_set(victim->mesh, &member->public, 1, NULL), 0);
    host_dial(stranger, victim);
    ck_assert_int_eq(host_say(stranger, victim, TYPE_TEXT, "let me in"), 0);
    RACK_WAIT(&rack, stranger->refused_count == 1);
    ck_assert_uint_ge(host_stats(victim).handshakes_refused, 1);
    ck_assert_uint_eq(victim->up_count, 0);
    ck_assert_uint_eq(stranger->up_count, 0);
    ck_assert_uint_eq(victim->message_count, 0);
    attack_end();
}
END_TEST

START_TEST(an_impostor_without_the_hosts_key_is_not_talked_to)
{
    attack_start();
    /* The address is the victim's, the key we expect there is another's. */
    struct host *caller = &rack.hosts[3];
    host_open(caller);
    host_trust_all(caller);
    ck_assert_int_eq(mesh_peer_add(caller->mesh, &rack.hosts[2].public,
                                   mesh_bind_address(victim->mesh), NULL),
                     0);
    ck_assert_int_eq(host_say(caller, &rack.hosts[2], TYPE_TEXT, "secret"), 0);
    RACK_WAIT(&rack, host_stats(victim).handshakes_broken > 0);
    ck_assert_uint_eq(caller->up_count, 0);
    ck_assert_uint_eq(host_stats(caller).frames_sent, 0);
    attack_end();
}
END_TEST

START_TEST(a_guest_can_ask_to_join_and_nothing_else)
{
    attack_start();
    mesh_guests_allow(victim->mesh, true);
    struct mesh_key guest;
    struct mesh_key guest_public;
    mesh_key_generate(&guest);
    mesh_key_public(&guest, &guest_public);
    zsock_t *bare =
        bare_dial(mesh_join_address(victim->mesh), &guest, &victim->public, NULL);
    bare_say_text(bare, TYPE_TEXT, 1, 1, "start vm");
    bare_say_text(bare, MESH_TYPE_HELLO, 1, 0, "");
    bare_say_text(bare, MESH_TYPE_JOIN_REPLY, 1, 2, "you may join");
    bare_say_text(bare, MESH_TYPE_JOIN, 1, 3, "token");
    RACK_WAIT(&rack, victim->message_count == 1);
    ck_assert_str_eq(victim->messages[0].body, "token");
    ck_assert_int_eq(victim->messages[0].from.class, MESH_GUEST);
    ck_assert(mesh_key_equal(&victim->messages[0].from.key, &guest_public));
    ck_assert_uint_eq(host_stats(victim).dropped_type, 3);
    ck_assert_uint_eq(victim->up_count, 0);
    /* It is a guest for sending, too. */
    ck_assert_int_eq(
        mesh_send(victim->mesh, &guest_public, MESH_CONTROL, TYPE_TEXT, "x", 1),
        BERTH_EFORBIDDEN);
    zsock_destroy(&bare);
    attack_end();
}
END_TEST

START_TEST(a_guest_is_refused_on_the_members_endpoint_and_when_guests_are_not_wanted)
{
    attack_start();
    struct mesh_key guest;
    mesh_key_generate(&guest);
    mesh_guests_allow(victim->mesh, _i == 0);
    zsock_t *bare = bare_dial(_i == 0 ? mesh_bind_address(victim->mesh)
                                      : mesh_join_address(victim->mesh),
                              &guest, &victim->public, NULL);
    bare_say_text(bare, MESH_TYPE_JOIN, 1, 1, "token");
    RACK_WAIT(&rack, host_stats(victim).handshakes_refused > 0);
    ck_assert_uint_eq(host_stats(victim).handshakes_admitted, 0);
    zsock_destroy(&bare);
    attack_end();
}
END_TEST

START_TEST(more_guests_and_joins_than_the_limits_leave_the_members_alone)
{
    attack_start();
    mesh_guests_allow(victim->mesh, true);
    zsock_t *bare[MESH_GUESTS_MAX + 8];
    for (size_t i = 0; i < MESH_GUESTS_MAX + 8; i++) {
        struct mesh_key guest;
        mesh_key_generate(&guest);
        bare[i] =
            bare_dial(mesh_join_address(victim->mesh), &guest, &victim->public, NULL);
        bare_say_text(bare[i], MESH_TYPE_JOIN, 1, 1, "token");
    }
    /* The loop rests: only so many joins are kept for it. */
    while (host_stats(victim).frames_received < MESH_GUESTS_MAX + 8) {
        zclock_sleep(1);
    }
    RACK_WAIT(&rack, victim->message_count + host_stats(victim).dropped_inbox ==
                         MESH_GUESTS_MAX + 8);
    ck_assert_uint_eq(victim->message_count, MESH_INBOX_GUEST_MAX);
    for (size_t i = 0; i < MESH_GUESTS_MAX + 8; i++) {
        zsock_destroy(&bare[i]);
    }
    attack_end();
}
END_TEST

/* The insider claims a routing id that is the member's key, name or hex: belief and
 * answers follow the CURVE key. */
START_TEST(a_forged_routing_id_does_not_impersonate)
{
    char hex[MESH_KEY_HEX_SIZE];
    attack_start();
    mesh_key_format(&member->public, hex);
    host_dial(member, victim);
    RACK_WAIT(&rack, host_sees(victim, member));
    zsock_t *bare = insider_dial(hex);
    bare_say_text(bare, TYPE_TEXT, 99, 1, "I am the member");
    RACK_WAIT(&rack, victim->message_count == 1);
    ck_assert(mesh_key_equal(&victim->messages[0].from.key, &rack.hosts[2].public));
    ck_assert_int_eq(host_say(victim, member, TYPE_TEXT, "for the member"), 0);
    RACK_WAIT(&rack, member->message_count == 1);
    ck_assert_str_eq(member->messages[0].body, "for the member");
    zsock_destroy(&bare);
    attack_end();
}
END_TEST

START_TEST(two_connections_with_one_routing_id_do_not_displace_each_other)
{
    attack_start();
    zsock_t *first = insider_dial("same");
    bare_say_text(first, TYPE_TEXT, 99, 1, "first");
    RACK_WAIT(&rack, victim->message_count == 1);
    zsock_t *second = bare_dial(mesh_bind_address(victim->mesh), &rack.hosts[3].secret,
                                &victim->public, "same");
    bare_say_text(second, TYPE_TEXT, 98, 1, "second");
    RACK_WAIT(&rack, host_stats(victim).handshakes_admitted == 2);
    bare_say_text(first, TYPE_TEXT, 99, 2, "first again");
    RACK_WAIT(&rack, victim->message_count == 2);
    ck_assert_str_eq(victim->messages[1].body, "first again");
    ck_assert(mesh_key_equal(&victim->messages[1].from.key, &rack.hosts[2].public));
    zsock_destroy(&first);
    zsock_destroy(&second);
    attack_end();
}
END_TEST

START_TEST(frames_that_are_not_in_order_are_dropped)
{
    attack_start();
    zsock_t *bare = insider_dial(NULL);
    bare_say_text(bare, TYPE_TEXT, 5, 10, "ten");
    RACK_WAIT(&rack, victim->message_count == 1);
    bare_say_text(bare, TYPE_TEXT, 5, 10, "ten again");
    bare_say_text(bare, TYPE_TEXT, 5, 9, "nine");
    bare_say_text(bare, TYPE_TEXT, 6, 1, "restarted");
    bare_say_text(bare, TYPE_TEXT, 5, 11, "from before the restart");
    bare_say_text(bare, TYPE_TEXT, 6, 2, "end");
    RACK_WAIT(&rack, victim->message_count == 3);
    ck_assert_str_eq(victim->messages[0].body, "ten");
    ck_assert_str_eq(victim->messages[1].body, "restarted");
    ck_assert_str_eq(victim->messages[2].body, "end");
    ck_assert_uint_eq(host_stats(victim).dropped_order, 3);
    /* The restart was told, though the connection never broke. */
    ck_assert_uint_eq(victim->up_count, 2);
    ck_assert_uint_eq(victim->down_count, 1);
    zsock_destroy(&bare);
    attack_end();
}
END_TEST

START_TEST(malformed_frames_are_counted_and_dropped)
{
    uint8_t frame[256];
    attack_start();
    zsock_t *bare = insider_dial(NULL);
    bare_say(bare, "", 0);
    bare_say(bare, "hello", 5);
    const size_t size = frame_make(frame, TYPE_TEXT, 1, 1, "text");
    bare_say(bare, frame, size - 1); /* shorter than it says */
    ck_assert_int_eq(zmq_send(zsock_resolve(bare), frame, size, ZMQ_SNDMORE), (int)size);
    ck_assert_int_eq(zmq_send(zsock_resolve(bare), "1", 1, ZMQ_SNDMORE), 1);
    bare_say(bare, "2", 1); /* several parts */
    mesh_frame_encode(TYPE_TEXT, MESH_FRAME_BULK, 1, 2, 0, frame);
    bare_say(bare, frame, MESH_FRAME_HEADER_SIZE); /* bulk in the control lane */
    frame_make(frame, TYPE_TEXT, 1, 3, "");
    frame[1] = MESH_FRAME_VERSION + 1;
    bare_say(bare, frame, MESH_FRAME_HEADER_SIZE);
    bare_say_text(bare, MESH_TYPE_WELCOME, 1, 0, "xx");
    bare_say_text(bare, MESH_TYPE_JOIN, 1, 4, "members do not join");
    RACK_WAIT(&rack, host_stats(victim).dropped_type == 2);
    ck_assert_uint_eq(host_stats(victim).dropped_malformed, 5);
    ck_assert_uint_eq(host_stats(victim).dropped_version, 1);
    ck_assert_uint_eq(victim->message_count, 0);
    zsock_destroy(&bare);
    attack_end();
}
END_TEST

START_TEST(a_message_over_the_size_limit_ends_the_connection)
{
    static uint8_t large[MESH_FRAME_HEADER_SIZE + MESH_BODY_SIZE_MAX + 4096];
    attack_start();
    zsock_t *bare = insider_dial(NULL);
    bare_say_text(bare, TYPE_TEXT, 1, 1, "small");
    RACK_WAIT(&rack, host_sees(victim, &rack.hosts[2]));
    mesh_frame_encode(TYPE_TEXT, 0, 1, 2, MESH_BODY_SIZE_MAX, large);
    bare_say(bare, large, sizeof(large));
    RACK_WAIT(&rack, !host_sees(victim, &rack.hosts[2]));
    ck_assert_uint_eq(victim->message_count, 1);
    ck_assert_uint_eq(host_stats(victim).frames_received, 1);
    ck_assert_uint_eq(host_stats(victim).dropped_malformed, 0); /* it never got so far */
    zsock_destroy(&bare);
    attack_end();
}
END_TEST

START_TEST(a_removed_members_messages_are_dropped_at_once)
{
    attack_start();
    struct host *fired = &rack.hosts[3];
    host_open(fired);
    host_trust_all(fired);
    host_dial(fired, victim);
    RACK_WAIT(&rack, host_sees(fired, victim));
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(host_say(fired, victim, TYPE_TEXT, "before"), 0);
    }
    /* They have arrived, but the loop has not taken them. */
    while (host_stats(victim).frames_received < 10) {
        zclock_sleep(1);
    }
    ck_assert_int_eq(mesh_members_set(victim->mesh, &member->public, 1, NULL), 0);
    ck_assert_int_eq(host_say(victim, fired, TYPE_TEXT, "x"), BERTH_EFORBIDDEN);
    ck_assert_int_eq(host_say(fired, victim, TYPE_TEXT, "after"), 0);
    RACK_WAIT(&rack, host_stats(victim).dropped_stranger >= 11);
    RACK_WAIT(&rack, victim->down_count == victim->up_count);
    ck_assert_uint_eq(victim->message_count, 0);
    /* The other side learns by silence, without being told. */
    RACK_WAIT(&rack, !host_sees(fired, victim));
    attack_end();
}
END_TEST

START_TEST(a_peer_without_curve_is_refused)
{
    attack_start();
    zsock_t *bare = bare_dial(mesh_bind_address(victim->mesh), NULL, NULL, NULL);
    bare_say_text(bare, TYPE_TEXT, 1, 1, "plain");
    RACK_WAIT(&rack, host_stats(victim).handshakes_broken > 0);
    ck_assert_uint_eq(host_stats(victim).handshakes_admitted, 0);
    zsock_destroy(&bare);
    attack_end();
}
END_TEST

static int tcp_dial(const char *address)
{
    struct mesh_address parsed;
    ck_assert_int_eq(mesh_address_parse(address, &parsed, NULL), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(parsed.port)};
    ck_assert_int_eq(inet_pton(AF_INET, parsed.ip, &to.sin_addr), 1);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void garbage_send(const char *address, struct random *random, bool greeting)
{
    /* A ZMTP 3.0 greeting that asks for CURVE, so that the garbage gets further. */
    uint8_t bytes[512];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)random_u64(random);
    }
    if (greeting) {
        memset(bytes, 0, 64);
        memcpy(bytes, "\xff\0\0\0\0\0\0\0\0\x7f\3\0CURVE", 17);
    }
    const int fd = tcp_dial(address);
    (void)send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL); /* it may be shut already */
    (void)shutdown(fd, SHUT_WR);
    char sink[256];
    while (recv(fd, sink, sizeof(sink), 0) > 0) {
    }
    close(fd);
}

START_TEST(garbage_on_the_ports_does_no_harm)
{
    struct random random;
    random_seed(&random, 42);
    attack_start();
    for (unsigned i = 0; i < 100; i++) {
        const char *address =
            i % 2 ? mesh_bind_address(victim->mesh) : mesh_join_address(victim->mesh);
        garbage_send(address, &random, i % 4 < 2);
    }
    RACK_WAIT(&rack, host_stats(victim).handshakes_broken > 0);
    ck_assert_uint_eq(host_stats(victim).frames_received, 0);
    attack_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mesh_attack");
    TCase *c = tcase_create("mesh_attack");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, a_strangers_key_is_refused);
    tcase_add_test(c, an_impostor_without_the_hosts_key_is_not_talked_to);
    tcase_add_test(c, a_guest_can_ask_to_join_and_nothing_else);
    tcase_add_loop_test(
        c, a_guest_is_refused_on_the_members_endpoint_and_when_guests_are_not_wanted, 0,
        2);
    tcase_add_test(c, more_guests_and_joins_than_the_limits_leave_the_members_alone);
    tcase_add_test(c, a_forged_routing_id_does_not_impersonate);
    tcase_add_test(c, two_connections_with_one_routing_id_do_not_displace_each_other);
    tcase_add_test(c, frames_that_are_not_in_order_are_dropped);
    tcase_add_test(c, malformed_frames_are_counted_and_dropped);
    tcase_add_test(c, a_message_over_the_size_limit_ends_the_connection);
    tcase_add_test(c, a_removed_members_messages_are_dropped_at_once);
    tcase_add_test(c, a_peer_without_curve_is_refused);
    tcase_add_test(c, garbage_on_the_ports_does_no_harm);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
