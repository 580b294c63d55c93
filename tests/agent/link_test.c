/* Goal: a message reaches the member it is for, with the sender's name told by its key;
 * strangers are heard only where they may join. Method: whole links over loopback. */
#include "agent/orders.h"
#include "link_fixture.h"

struct heard {
    unsigned count;
    uint64_t from;
    enum message_type type;
    uint64_t round;
    bool inside; /* a call of ours is on the stack */
};

static struct heard heard[RACK_HOSTS_MAX];

static void hear_confirm(struct rack_host *host,
                         const struct msg_member *from,
                         enum message_type type,
                         void *message)
{
    struct heard *note = host->context;
    ck_assert(!note->inside);
    note->count++;
    note->from = from->uid;
    note->type = type;
    note->round = ((const struct msg_confirm *)message)->round;
}

static void listen_all(void)
{
    memset(heard, 0, sizeof(heard));
    for (unsigned i = 0; i < rack.count; i++) {
        rack.hosts[i].hear = hear_confirm;
        rack.hosts[i].context = &heard[i];
    }
}

static int ask(unsigned from, uint64_t to, uint64_t round)
{
    const struct msg_confirm question = {.term = 3, .round = round};
    return link_send(rack.hosts[from].link, to, MESSAGE_CONFIRM, &question);
}

/* Messages of strangers that a host has dropped. */
static uint64_t strangers(unsigned index)
{
    struct mesh_stats stats;
    link_stats(rack.hosts[index].link, &stats);
    return stats.dropped_stranger;
}

START_TEST(members_hear_each_other_by_name)
{
    rack_start(3);
    listen_all();

    ck_assert_int_eq(ask(0, 3, 7), 0);
    RACK_WAIT(heard[2].count == 1);
    ck_assert_int_eq(ask(2, 1, 8), 0);
    RACK_WAIT(heard[0].count == 1);

    ck_assert_uint_eq(heard[2].from, 1);
    ck_assert_uint_eq(heard[2].round, 7);
    ck_assert_int_eq(heard[2].type, MESSAGE_CONFIRM);
    ck_assert_uint_eq(heard[0].from, 3);
    ck_assert_uint_eq(heard[0].round, 8);
    ck_assert_uint_eq(heard[1].count, 0);
    rack_stop();
}
END_TEST

START_TEST(a_message_to_ourselves_comes_on_a_later_turn)
{
    rack_start(1);
    listen_all();

    heard[0].inside = true;
    ck_assert_int_eq(ask(0, 1, 7), 0);
    heard[0].inside = false;
    RACK_WAIT(heard[0].count == 1);

    ck_assert_uint_eq(heard[0].from, 1);
    ck_assert(link_is_up(rack.hosts[0].link, 1));
    rack_stop();
}
END_TEST

/* ---- orders larger than a frame ---- */

static uint64_t orders_heard;     /* their hash; 0: none */
static uint32_t neighbours_heard; /* of all their networks */

static void hear_orders(struct rack_host *host,
                        const struct msg_member *from,
                        enum message_type type,
                        void *message)
{
    (void)host;
    ck_assert_int_eq(type, MESSAGE_ORDERS);
    ck_assert_uint_eq(from->uid, 1);
    const struct msg_orders *orders = message;
    neighbours_heard = 0;
    for (uint32_t i = 0; i < orders->networks.count; i++) {
        neighbours_heard += orders->networks.items[i].neighbours.count;
    }
    orders_heard = orders_hash(orders);
}

/* A host of a few networks that are full; each neighbour is about a hundred bytes. */
static void fill_orders(struct msg_orders *orders, unsigned networks)
{
    record_init(&msg_orders_record, orders);
    orders->host = 2;
    for (unsigned i = 0; i < networks; i++) {
        struct msg_network *network =
            record_list_add(&msg_network_record, (struct record_list *)&orders->networks);
        ck_assert_ptr_nonnull(network);
        network->uid = i + 1;
        struct msg_neighbour *neighbours =
            calloc(NETWORK_ADDRESSES_MAX, sizeof(*neighbours));
        ck_assert_ptr_nonnull(neighbours);
        for (unsigned k = 0; k < NETWORK_ADDRESSES_MAX; k++) {
            neighbours[k] = (struct msg_neighbour){
                .mac = k + 1, .ipv4 = 0x0a000000 + k, .underlay = 0x0b000000, .host = 2};
            memset(neighbours[k].name, 'a' + (int)(k % 26), NAME_SIZE - 1);
        }
        network->neighbours.items = neighbours;
        network->neighbours.count = NETWORK_ADDRESSES_MAX;
    }
}

START_TEST(orders_of_full_networks_arrive)
{
    struct msg_orders orders;
    rack_start(2);
    rack.hosts[1].hear = hear_orders;
    orders_heard = 0;
    neighbours_heard = 0;
    fill_orders(&orders, 6); /* above two MiB */

    ck_assert_int_eq(link_send(rack.hosts[0].link, 2, MESSAGE_ORDERS, &orders), 0);

    RACK_WAIT(neighbours_heard != 0);
    uint64_t first = orders_hash(&orders);
    ck_assert_uint_gt(first, 1);
    ck_assert_uint_eq(orders_heard, first);
    ck_assert_uint_eq(neighbours_heard, 6 * NETWORK_ADDRESSES_MAX);

    struct msg_neighbour_list *last = &orders.networks.items[5].neighbours;
    last->items[--last->count].ipv4 = 0;
    ck_assert_uint_ne(orders_hash(&orders), first);
    ck_assert_int_eq(link_send(rack.hosts[0].link, 2, MESSAGE_ORDERS, &orders), 0);

    RACK_WAIT(neighbours_heard == 6 * NETWORK_ADDRESSES_MAX - 1);
    ck_assert_uint_eq(orders_heard, orders_hash(&orders));
    record_fini(&msg_orders_record, &orders);
    rack_stop();
}
END_TEST

START_TEST(orders_without_an_end_are_refused)
{
    struct msg_orders orders;
    rack_start(2);
    fill_orders(&orders, 64);

    ck_assert_int_eq(link_send(rack.hosts[0].link, 2, MESSAGE_ORDERS, &orders),
                     BERTH_ETOOLARGE);

    record_fini(&msg_orders_record, &orders);
    rack_stop();
}
END_TEST

static unsigned chunks_heard;

static void hear_chunk(struct rack_host *host,
                       const struct msg_member *from,
                       enum message_type type,
                       void *message)
{
    (void)host;
    (void)from;
    (void)message;
    ck_assert_int_eq(type, MESSAGE_BLOB_CHUNK);
    chunks_heard++;
}

START_TEST(who_has_no_part_in_the_log_says_nothing_so_large)
{
    struct msg_orders orders;
    const struct msg_blob_chunk behind = {0}; /* on the same lane */
    rack_start(2);
    rack.hosts[1].hear = hear_chunk;
    chunks_heard = 0;
    rack.hosts[0].voter = VOTER_NONE;
    host_knows(&rack.hosts[1], 2);
    fill_orders(&orders, 6);

    ck_assert_int_eq(link_send(rack.hosts[0].link, 2, MESSAGE_ORDERS, &orders), 0);
    ck_assert_int_eq(link_send(rack.hosts[0].link, 2, MESSAGE_BLOB_CHUNK, &behind), 0);

    RACK_WAIT(chunks_heard == 1);
    record_fini(&msg_orders_record, &orders);
    rack_stop();
}
END_TEST

START_TEST(who_is_no_member_is_not_found)
{
    rack_start(1);

    ck_assert_int_eq(ask(0, 9, 7), BERTH_ENOTFOUND);
    ck_assert(!link_is_up(rack.hosts[0].link, 9));
    rack_stop();
}
END_TEST

START_TEST(who_is_no_longer_a_member_is_not_heard)
{
    rack_start(3);
    listen_all();
    host_knows(&rack.hosts[0], 2); /* h3 is out, and does not know it */

    ck_assert_int_eq(ask(2, 1, 7), 0);
    RACK_WAIT(strangers(0) > 0); /* it has arrived, and was dropped */
    ck_assert_int_eq(ask(1, 1, 8), 0);
    RACK_WAIT(heard[0].count > 0);

    ck_assert_uint_eq(heard[0].count, 1);
    ck_assert_uint_eq(heard[0].from, 2);
    ck_assert_int_eq(ask(0, 3, 9), BERTH_ENOTFOUND);
    rack_stop();
}
END_TEST

START_TEST(who_is_turned_away_by_all_knows_it)
{
    rack_start(2);
    listen_all();
    ck_assert_int_eq(ask(1, 1, 7), 0);
    RACK_WAIT(heard[0].count == 1);
    ck_assert_ptr_null(link_shut_out_by(rack.hosts[1].link));

    host_knows(&rack.hosts[0], 1); /* h2 is out */
    host_down(&rack.hosts[1]);
    host_up(&rack.hosts[1]);
    RACK_WAIT(link_shut_out_by(rack.hosts[1].link) != NULL);
    ck_assert_uint_eq(link_shut_out_by(rack.hosts[1].link)->uid, 1);
    ck_assert_ptr_null(link_shut_out_by(rack.hosts[0].link));

    host_knows(&rack.hosts[0], 2); /* and in again */
    RACK_WAIT(link_shut_out_by(rack.hosts[1].link) == NULL);
    rack_stop();
}
END_TEST

/* A member that was behind said so, and is off: its word is no longer one. */
START_TEST(a_refusal_lapses_with_who_said_it)
{
    rack_start(2);
    listen_all();
    host_knows(&rack.hosts[0], 1);
    host_down(&rack.hosts[1]);
    host_up(&rack.hosts[1]);
    RACK_WAIT(link_shut_out_by(rack.hosts[1].link) != NULL);

    host_down(&rack.hosts[0]);
    RACK_WAIT(link_shut_out_by(rack.hosts[1].link) == NULL);
    ck_assert(!link_is_up(rack.hosts[1].link, 1));
    rack_stop();
}
END_TEST

START_TEST(a_host_that_dies_and_comes_back_is_seen_to)
{
    rack_start(2);
    listen_all();

    host_down(&rack.hosts[1]);
    RACK_WAIT(rack.hosts[0].downs == 1);
    ck_assert(!link_is_up(rack.hosts[0].link, 2));
    host_up(&rack.hosts[1]);
    RACK_WAIT(rack.hosts[0].ups == 2);

    ck_assert_int_eq(ask(0, 2, 7), 0);
    RACK_WAIT(heard[1].count == 1);
    rack_stop();
}
END_TEST

/* ---- joining ---- */

static struct {
    unsigned asked;
    unsigned answered;
    uint64_t uid;
    char name[NAME_SIZE];
} joining;

static void
let_in(struct rack_host *host, const struct mesh_key *guest, struct msg_join *join)
{
    struct msg_join_reply reply;
    record_init(&msg_join_reply_record, &reply);
    reply.uid = 42;
    joining.asked++;
    memcpy(joining.name, join->name, sizeof(joining.name));
    ck_assert_int_eq(link_join_reply(host->link, guest, &reply), 0);
    record_fini(&msg_join_reply_record, &reply);
}

static void note_reply(struct rack_host *host, struct msg_join_reply *reply)
{
    (void)host;
    joining.answered++;
    joining.uid = reply->uid;
}

static void ask_to_join(struct rack_host *guest, const struct rack_host *host)
{
    struct msg_join join;
    struct err err = {0};
    record_init(&msg_join_record, &join);
    (void)snprintf(join.name, sizeof(join.name), "newcomer");
    int r = link_join(guest->link, &host->identity.key, host->identity.address,
                      host->identity.mesh_port + LINK_JOIN_PORT_OFFSET, &join, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    record_fini(&msg_join_record, &join);
}

START_TEST(a_stranger_is_heard_where_guests_are_allowed_and_answered)
{
    memset(&joining, 0, sizeof(joining));
    rack_start(2);
    host_knows(&rack.hosts[0], 1);
    host_knows(&rack.hosts[1], 0);
    rack.hosts[0].hear_join = let_in;
    rack.hosts[1].hear_join_reply = note_reply;

    link_guests_allow(rack.hosts[0].link, true);
    ask_to_join(&rack.hosts[1], &rack.hosts[0]);
    RACK_WAIT(joining.answered == 1);

    ck_assert_uint_eq(joining.asked, 1);
    ck_assert_str_eq(joining.name, "newcomer");
    ck_assert_uint_eq(joining.uid, 42);
    link_join_end(rack.hosts[1].link, &rack.hosts[0].identity.key);
    rack_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("link");
    TCase *tests = tcase_create("link");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, members_hear_each_other_by_name);
    tcase_add_test(tests, a_message_to_ourselves_comes_on_a_later_turn);
    tcase_add_test(tests, orders_of_full_networks_arrive);
    tcase_add_test(tests, orders_without_an_end_are_refused);
    tcase_add_test(tests, who_has_no_part_in_the_log_says_nothing_so_large);
    tcase_add_test(tests, who_is_no_member_is_not_found);
    tcase_add_test(tests, who_is_no_longer_a_member_is_not_heard);
    tcase_add_test(tests, who_is_turned_away_by_all_knows_it);
    tcase_add_test(tests, a_refusal_lapses_with_who_said_it);
    tcase_add_test(tests, a_host_that_dies_and_comes_back_is_seen_to);
    tcase_add_test(tests, a_stranger_is_heard_where_guests_are_allowed_and_answered);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
