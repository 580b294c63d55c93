/* Goal: a request that another host has to answer is answered once, whole and in order,
 * or refused in words, whatever happens to that host or to the client. Method: real links
 * between hosts; the handler and the client are the test's; time of the head's deadline
 * is the test's, too. */
#include "agent/forward.h"
#include "base/cleanup.h"
#include "link_fixture.h"

/* ---- the client, and the handler on the other host ---- */

struct client {
    int status; /* 0: no head yet */
    char type[64];
    char header[64]; /* the first that is not the length */
    size_t length;   /* SIZE_MAX: not told */
    char *body;
    size_t body_size;
    size_t capacity;
    bool ended;
    bool cut;
    bool released;
    bool deaf; /* takes no data any more */
};

static struct client client;
static struct forward *forwards[RACK_HOSTS_MAX];
static struct exchange *arrived[4]; /* in order; ours until answered */
static unsigned arrived_count;
static uint64_t arrived_vm;
static unsigned cancelled;
static uint64_t leads; /* as both hosts see it */
static char input[64];
static uint64_t now_ms;

static uint64_t scripted_ns(void *context)
{
    (void)context;
    return now_ms * NS_PER_MS;
}

static const struct clock scripted = {.now_ns = scripted_ns, .wall_ms = scripted_ns};

static void client_head(void *sink,
                        int status,
                        const char *content_type,
                        const struct exchange_header *headers,
                        unsigned header_count)
{
    struct client *to = sink;
    ck_assert_int_eq(to->status, 0); /* once */
    to->status = status;
    (void)snprintf(to->type, sizeof(to->type), "%s",
                   content_type != NULL ? content_type : "");
    to->length = SIZE_MAX;
    for (unsigned i = 0; i < header_count; i++) {
        if (strcmp(headers[i].name, EXCHANGE_LENGTH) == 0) {
            to->length = strtoul(headers[i].value, NULL, 10);
        } else if (to->header[0] == '\0') {
            (void)snprintf(to->header, sizeof(to->header), "%s: %s", headers[i].name,
                           headers[i].value);
        }
    }
}

static int client_data(void *sink, const void *data, size_t size)
{
    struct client *to = sink;
    ck_assert_int_ne(to->status, 0);
    if (to->deaf) {
        return BERTH_EFULL;
    }
    if (to->body_size + size + 1 > to->capacity) {
        to->capacity = to->body_size + size + 1;
        to->body = realloc(to->body, to->capacity);
        ck_assert_ptr_nonnull(to->body);
    }
    memcpy(to->body + to->body_size, data, size);
    to->body_size += size;
    to->body[to->body_size] = '\0';
    return 0;
}

static void client_end(void *sink)
{
    struct client *to = sink;
    ck_assert(!to->ended);
    to->ended = true;
}

static void client_cut(void *sink)
{
    ((struct client *)sink)->cut = true;
}

static void client_released(void *sink)
{
    ((struct client *)sink)->released = true;
}

static const struct exchange_sink client_sink = {.head = client_head,
                                                 .data = client_data,
                                                 .end = client_end,
                                                 .cut = client_cut,
                                                 .released = client_released};

static void note_cancel(void *context)
{
    (void)context;
    cancelled++;
}

static void note_input(void *context, const void *data, size_t size)
{
    (void)context;
    size_t used = strlen(input);
    (void)snprintf(input + used, sizeof(input) - used, "%.*s", (int)size,
                   (const char *)data);
}

static struct exchange *crowd[FORWARD_MAX]; /* answered by nobody */
static unsigned crowd_count;
static bool crowded;

static void on_arrived(void *context, struct exchange *exchange, uint64_t console_vm)
{
    (void)context;
    if (crowded) {
        crowd[crowd_count++] = exchange_ref(exchange);
        return;
    }
    ck_assert_uint_lt(arrived_count, 4);
    arrived[arrived_count++] = exchange_ref(exchange);
    arrived_vm = console_vm;
    exchange_on_cancel(exchange, note_cancel, NULL);
    exchange_on_input(exchange, note_input, NULL);
}

static uint64_t who_leads(void *context)
{
    (void)context;
    return leads;
}

static struct exchange *undone; /* came back as surely not done */

static void on_undone(void *context, struct exchange *exchange)
{
    (void)context;
    ck_assert_ptr_null(undone);
    undone = exchange_ref(exchange);
}

static bool again_elsewhere; /* undone ones are taken back */
static uint64_t state_revision_here;

static uint64_t revision_here(void *context)
{
    (void)context;
    return state_revision_here;
}

static const struct forward_events events = {.arrived = on_arrived, .leader = who_leads};
static const struct forward_events events_again = {.arrived = on_arrived,
                                                   .leader = who_leads,
                                                   .revision = revision_here,
                                                   .undone = on_undone};

static void hear(struct rack_host *host,
                 const struct msg_member *from,
                 enum message_type type,
                 void *message)
{
    struct forward *forward = *(struct forward **)host->context;
    switch ((int)type) {
    case MESSAGE_FORWARD:
        forward_on_request(forward, from, message);
        break;
    case MESSAGE_FORWARD_HEAD:
        forward_on_head(forward, from, message);
        break;
    case MESSAGE_FORWARD_DATA:
        forward_on_data(forward, from, message);
        break;
    case MESSAGE_FORWARD_END:
        forward_on_end(forward, from, message);
        break;
    case MESSAGE_FORWARD_INPUT:
        forward_on_input(forward, from, message);
        break;
    case MESSAGE_FORWARD_CANCEL:
        forward_on_cancel(forward, from, message);
        break;
    default:
        break;
    }
}

static void peer(struct rack_host *host, uint64_t uid, bool up)
{
    forward_on_peer(*(struct forward **)host->context, uid, up);
}

static void start(void)
{
    memset(&client, 0, sizeof(client));
    memset(arrived, 0, sizeof(arrived));
    arrived_count = cancelled = 0;
    input[0] = '\0';
    leads = 0;
    state_revision_here = 0;
    now_ms = 1000;
    rack_start(2);
    for (unsigned i = 0; i < 2; i++) {
        forwards[i] = forward_new(&rack.loop, &scripted, rack.hosts[i].link,
                                  again_elsewhere ? &events_again : &events);
        rack.hosts[i].context = &forwards[i];
        rack.hosts[i].hear = hear;
        rack.hosts[i].see_peer = peer;
    }
}

static void stop(void)
{
    for (unsigned i = 0; i < arrived_count; i++) {
        exchange_unref(arrived[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        rack.hosts[i].hear = NULL;
        rack.hosts[i].see_peer = NULL;
        forwards[i] = forward_free(forwards[i]);
    }
    rack_stop();
    free(client.body);
}

static struct exchange *request(const char *path)
{
    struct exchange_request made = {
        .method = "GET", .path = strdup(path), .query = strdup("a=b")};
    made.credentials.local_root = true;
    made.credentials.forwarder = 77; /* whatever it was before */
    struct exchange *exchange = exchange_new(&made, &client_sink, &client);
    ck_assert_ptr_nonnull(exchange);
    return exchange;
}

/* From host 1 to a host; the transport's reference is returned. */
static struct exchange *forwarded(uint64_t host, uint64_t vm)
{
    struct exchange *exchange = request("/v1/vms");
    forward_exchange(forwards[0], host, exchange, vm);
    return exchange;
}

static struct exchange *forwarded_and_arrived(void)
{
    struct exchange *exchange = forwarded(2, 0);
    RACK_WAIT(arrived_count == 1);
    return exchange;
}

static void answer_head(unsigned index)
{
    static const struct exchange_header header = {"ETag", "\"7\""};
    exchange_head(arrived[index], 200, "application/json", &header, 1);
}

/* ---- when all goes well ---- */

START_TEST(an_answer_comes_back_as_it_was_given)
{
    start();
    struct exchange *exchange = forwarded(2, 33);
    RACK_WAIT(arrived_count == 1);
    ck_assert_str_eq(exchange_request(arrived[0])->path, "/v1/vms");
    ck_assert_str_eq(exchange_request(arrived[0])->query, "a=b");
    ck_assert_uint_eq(arrived_vm, 33);
    ck_assert(exchange_request(arrived[0])->credentials.local_root);
    ck_assert_uint_eq(exchange_request(arrived[0])->credentials.forwarder, 1);

    answer_head(0);
    ck_assert_int_eq(exchange_data(arrived[0], "{}", 2), 0);
    exchange_end(arrived[0]);
    RACK_WAIT(client.ended);

    ck_assert_int_eq(client.status, 200);
    ck_assert_str_eq(client.type, "application/json");
    ck_assert_str_eq(client.header, "ETag: \"7\"");
    ck_assert_str_eq(client.body, "{}");
    ck_assert_uint_eq(cancelled, 0);
    exchange_unref(exchange);
    ck_assert(client.released);
    stop();
}
END_TEST

START_TEST(a_long_answer_comes_whole_after_its_handler_has_gone)
{
    enum { SIZE = 12 << 20 }; /* more than the mesh's queue has room for */
    start();
    client.body = malloc(SIZE + 1);
    client.capacity = SIZE + 1;
    struct exchange *exchange = forwarded_and_arrived();
    char *body = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        body[i] = (char)('a' + i % 23);
    }

    answer_head(0);
    ck_assert_int_eq(exchange_data(arrived[0], body, SIZE), 0);
    exchange_end(arrived[0]);
    exchange_unref(arrived[0]);
    arrived_count = 0;
    RACK_WAIT(client.ended);

    ck_assert_uint_eq(client.body_size, SIZE);
    ck_assert_int_eq(memcmp(client.body, body, SIZE), 0);
    free(body);
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(input_travels_the_other_way)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    answer_head(0);

    exchange_input(exchange, "ls\n", 3);
    exchange_input(exchange, "exit\n", 5);
    RACK_WAIT(strlen(input) == 8);

    ck_assert_str_eq(input, "ls\nexit\n");
    exchange_end(arrived[0]);
    RACK_WAIT(client.ended);
    exchange_unref(exchange);
    stop();
}
END_TEST

/* ---- when it does not ---- */

START_TEST(a_client_that_goes_away_is_told_to_the_handler)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    answer_head(0);

    exchange_cancel(exchange);
    exchange_unref(exchange);
    RACK_WAIT(cancelled == 1);

    ck_assert_int_eq(exchange_data(arrived[0], "late", 4), BERTH_ECLOSED);
    stop();
}
END_TEST

START_TEST(a_client_that_does_not_keep_up_loses_its_stream_not_bytes_of_it)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    answer_head(0);
    ck_assert_int_eq(exchange_data(arrived[0], "one", 3), 0);
    RACK_WAIT(client.body_size == 3);

    client.deaf = true;
    ck_assert_int_eq(exchange_data(arrived[0], "two", 3), 0);
    RACK_WAIT(client.ended && cancelled == 1);

    ck_assert_str_eq(client.body, "one");
    exchange_unref(exchange);
    stop();
}
END_TEST

/* A client that does not read would keep what merely ends. */
START_TEST(a_right_taken_away_on_the_other_host_cuts_the_client_off)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    if (_i == 1) { /* row 0: before anything was answered */
        answer_head(0);
        ck_assert_int_eq(exchange_data(arrived[0], "one", 3), 0);
        RACK_WAIT(client.body_size == 3);
    }

    exchange_revoke(arrived[0]);
    RACK_WAIT(client.cut || client.ended);

    ck_assert_int_eq(client.cut, _i == 1);
    ck_assert_int_eq(client.status, _i == 1 ? 200 : 401);
    ck_assert_uint_eq(cancelled, 1);
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(a_piece_lost_on_the_way_ends_the_stream_instead_of_leaving_a_gap)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    struct msg_member from = host_member(&rack.hosts[1]);
    struct msg_forward_data late = {
        .id = 1,
        .offset = 6,
        .data = {.data = (uint8_t *)(uintptr_t) "three", .size = 5}};
    answer_head(0);
    ck_assert_int_eq(exchange_data(arrived[0], "one", 3), 0);
    RACK_WAIT(client.body_size == 3);

    forward_on_data(forwards[0], &from, &late); /* "two" was dropped */
    RACK_WAIT(cancelled == 1);

    ck_assert(client.ended);
    ck_assert_str_eq(client.body, "one");
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(a_host_that_dies_before_its_answer_is_answered_for)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();

    forwards[1] = forward_free(forwards[1]);
    rack.hosts[1].hear = NULL;
    rack.hosts[1].see_peer = NULL;
    host_down(&rack.hosts[1]);
    RACK_WAIT(client.ended);

    ck_assert_int_eq(client.status, 503);
    ck_assert_str_eq(client.header, "Retry-After: 1");
    ck_assert_ptr_nonnull(strstr(client.body, "the connection to it was lost"));
    ck_assert_uint_eq(cancelled, 1); /* and its handler was told, when it ended */
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(a_host_that_dies_in_its_answer_ends_the_stream)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    answer_head(0);
    ck_assert_int_eq(exchange_data(arrived[0], "half", 4), 0);
    RACK_WAIT(client.body_size == 4);

    forwards[1] = forward_free(forwards[1]);
    rack.hosts[1].hear = NULL;
    rack.hosts[1].see_peer = NULL;
    host_down(&rack.hosts[1]);
    RACK_WAIT(client.ended);

    ck_assert_int_eq(client.status, 200);
    ck_assert_str_eq(client.body, "half");
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(an_asker_that_dies_is_told_to_the_handler)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();

    forwards[0] = forward_free(forwards[0]);
    rack.hosts[0].hear = NULL;
    rack.hosts[0].see_peer = NULL;
    host_down(&rack.hosts[0]);
    RACK_WAIT(cancelled == 1);

    ck_assert_int_eq(exchange_data(arrived[0], "late", 4), BERTH_ECLOSED);
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(a_host_that_never_answers_is_not_waited_for)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    now_ms += FORWARD_HEAD_MS - 1;
    for (unsigned turn = 0; turn < 60; turn++) { /* past its tick: not yet */
        uv_run(&rack.loop, UV_RUN_ONCE);
    }
    ck_assert(!client.ended);

    now_ms += 1;
    RACK_WAIT(client.ended);

    ck_assert_int_eq(client.status, 503);
    ck_assert_ptr_nonnull(strstr(client.body, "may still have been done"));
    answer_head(0); /* too late, and harmless */
    RACK_WAIT(cancelled == 1);
    exchange_end(arrived[0]);
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(what_a_dead_host_should_answer_is_refused_at_once)
{
    start();
    forwards[1] = forward_free(forwards[1]);
    rack.hosts[1].hear = NULL;
    rack.hosts[1].see_peer = NULL;
    host_down(&rack.hosts[1]);
    RACK_WAIT(!link_is_up(rack.hosts[0].link, 2));

    struct exchange *exchange = forwarded(2, 0);

    ck_assert(client.ended); /* nothing is left waiting for it to come back */
    ck_assert_int_eq(client.status, 503);
    ck_assert_ptr_nonnull(strstr(client.body, "not connected"));
    ck_assert_uint_eq(client.length, client.body_size);
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(a_leader_that_hangs_is_not_waited_for_when_another_leads)
{
    start();
    leads = 2;
    struct exchange *exchange = forwarded_and_arrived();
    leads = 0; /* an election: the answer may still come */
    for (unsigned turn = 0; turn < 60; turn++) {
        uv_run(&rack.loop, UV_RUN_ONCE);
    }
    ck_assert(!client.ended);

    leads = 1; /* not for long: the old one may be about to answer */
    for (unsigned turn = 0; turn < 60; turn++) {
        uv_run(&rack.loop, UV_RUN_ONCE);
    }
    ck_assert(!client.ended);
    now_ms += FORWARD_OLD_LEADER_MS;
    RACK_WAIT(client.ended);

    ck_assert_int_eq(client.status, 503);
    ck_assert_ptr_nonnull(strstr(client.body, "another host leads now"));
    RACK_WAIT(cancelled == 1); /* it need not begin */
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(what_goes_to_the_next_leader_is_called_off_where_the_old_one_hangs)
{
    again_elsewhere = true;
    start();
    leads = 2;
    struct exchange *exchange = forwarded_and_arrived();
    leads = 1;
    RACK_WAIT((now_ms += 10, undone != NULL));

    RACK_WAIT(cancelled == 1);
    ck_assert(!client.ended);
    exchange_unref(undone);
    exchange_unref(exchange);
    undone = NULL;
    again_elsewhere = false;
    stop();
}
END_TEST

START_TEST(what_a_leader_of_before_refuses_undone_comes_back_to_be_sent_again)
{
    static const struct exchange_header header = {EXCHANGE_UNDONE, "1"};
    again_elsewhere = true;
    start();
    struct exchange *exchange = forwarded_and_arrived();
    exchange_answer(arrived[0], 503, "application/problem+json", &header, 1, "{}", 2);
    RACK_WAIT(undone != NULL);
    ck_assert_ptr_eq(undone, exchange);
    ck_assert_int_eq(client.status, 0);

    forward_exchange(forwards[0], 2, undone, 0);
    RACK_WAIT(arrived_count == 2);
    ck_assert_str_eq(exchange_request(arrived[1])->path, "/v1/vms");
    answer_head(1);
    exchange_end(arrived[1]);
    RACK_WAIT(client.ended);
    ck_assert_int_eq(client.status, 200);
    exchange_unref(undone);
    exchange_unref(exchange);
    undone = NULL;
    again_elsewhere = false;
    stop();
}
END_TEST

/* A row: what is asked, and whether it does no harm twice. */
static const struct {
    const char *method;
    const char *key;
    bool spoke; /* its client has sent something after it */
    bool repeats;
} lost[] = {
    {"GET", NULL, false, true},
    {"PUT", "k1", false, true},
    {"PUT", NULL, false, false},
    {"GET", NULL, true, false},
};

START_TEST(what_a_lost_leader_may_have_done_is_sent_again_where_that_does_no_harm)
{
    again_elsewhere = true;
    start();
    struct exchange_request made = {
        .path = strdup("/v1/vms"),
        .query = strdup(""),
        .idempotency_key = lost[_i].key != NULL ? strdup(lost[_i].key) : NULL};
    (void)snprintf(made.method, sizeof(made.method), "%s", lost[_i].method);
    struct exchange *exchange = exchange_new(&made, &client_sink, &client);
    forward_exchange(forwards[0], 2, exchange, 0);
    RACK_WAIT(arrived_count == 1);
    if (lost[_i].spoke) {
        exchange_input(exchange, "x", 1);
    }

    host_down(&rack.hosts[1]);
    RACK_WAIT(undone != NULL || client.ended);

    ck_assert_int_eq(undone != NULL, lost[_i].repeats);
    ck_assert_int_eq(client.status, lost[_i].repeats ? 0 : 503);
    ck_assert(undone == NULL || undone == exchange);
    /* Whoever refuses it at last has to say so; a read does nothing. */
    ck_assert_int_eq(exchange_in_doubt(exchange),
                     lost[_i].repeats && lost[_i].key != NULL);
    exchange_unref(undone);
    exchange_unref(exchange);
    undone = NULL;
    again_elsewhere = false;
    stop();
}
END_TEST

static struct exchange *keyed_write(void)
{
    struct exchange_request made = {.method = "PUT",
                                    .path = strdup("/v1/vms"),
                                    .query = strdup(""),
                                    .idempotency_key = strdup("k1")};
    struct exchange *exchange = exchange_new(&made, &client_sink, &client);
    ck_assert_ptr_nonnull(exchange);
    return exchange;
}

/* Host 2 is lost with it, is back, and is asked again as the next leader. */
static void lose_and_ask_again(struct exchange *exchange)
{
    const unsigned before = arrived_count;
    forward_exchange(forwards[0], 2, exchange, 0);
    RACK_WAIT(arrived_count == before + 1);
    ck_assert_uint_eq(exchange_repeat_since(arrived[before]), 0); /* the first time */
    host_down(&rack.hosts[1]);
    RACK_WAIT(undone != NULL);
    host_up(&rack.hosts[1]);
    RACK_WAIT(link_is_up(rack.hosts[0].link, 2));
    state_revision_here += 1000; /* as it is by now says nothing */
    forward_exchange(forwards[0], 2, undone, 0);
    RACK_WAIT(arrived_count == before + 2);
}

/* The log does not remember keys for ever: whoever leads next has to know since when it
 * must not have forgotten any. */
START_TEST(a_repeat_says_since_when_it_may_have_been_done)
{
    again_elsewhere = true;
    start();
    state_revision_here = 41;
    struct exchange *exchange = keyed_write();
    lose_and_ask_again(exchange);
    ck_assert_uint_eq(exchange_repeat_since(arrived[1]), 41);
    exchange_unref(undone);
    exchange_unref(exchange);
    undone = NULL;
    again_elsewhere = false;
    stop();
}
END_TEST

/* A row: what is known of the state without a log, and what the repeat says. */
static const struct {
    const char *told; /* by a leader's answer before, as its revision; NULL: none was */
    uint64_t since;
} without_log[] = {{NULL, 1}, {"37", 37}, {"x", 1}, {"99999999999999999999", 1}};

START_TEST(a_host_without_a_log_knows_what_leaders_have_answered)
{
    again_elsewhere = true;
    start();
    if (without_log[_i].told != NULL) {
        const struct exchange_header told = {EXCHANGE_REVISION, without_log[_i].told};
        struct exchange *before = forwarded_and_arrived();
        exchange_answer(arrived[0], 200, "text/plain", &told, 1, "", 0);
        RACK_WAIT(client.ended);
        exchange_unref(before);
        RACK_WAIT(client.released);
        free(client.body);
        memset(&client, 0, sizeof(client));
    }
    struct exchange *exchange = keyed_write();
    lose_and_ask_again(exchange);
    ck_assert_uint_eq(exchange_repeat_since(arrived[arrived_count - 1]),
                      without_log[_i].since);
    exchange_unref(undone);
    exchange_unref(exchange);
    undone = NULL;
    again_elsewhere = false;
    stop();
}
END_TEST

START_TEST(a_console_has_nothing_to_do_with_who_leads)
{
    start();
    struct exchange *exchange = forwarded(2, 7);
    RACK_WAIT(arrived_count == 1);
    leads = 1;
    for (unsigned turn = 0; turn < 60; turn++) {
        uv_run(&rack.loop, UV_RUN_ONCE);
    }
    ck_assert(!client.ended);
    answer_head(0);
    exchange_end(arrived[0]);
    RACK_WAIT(client.ended);
    ck_assert_int_eq(client.status, 200);
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(an_answer_that_has_begun_may_take_its_time)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    answer_head(0);
    RACK_WAIT(client.status == 200);
    now_ms += 100 * (uint64_t)FORWARD_HEAD_MS;
    for (unsigned turn = 0; turn < 60; turn++) {
        uv_run(&rack.loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(exchange_data(arrived[0], "news", 4), 0);
    exchange_end(arrived[0]);
    RACK_WAIT(client.ended);

    ck_assert_str_eq(client.body, "news");
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(one_request_too_many_is_told_to_come_again)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    start();
    crowded = true;
    struct exchange *other = request("/v1/vms");
    ck_assert_int_eq(exchange_request_encode(exchange_request(other), &bytes, &size), 0);
    struct msg_forward message = {.request = {.data = bytes, .size = (uint32_t)size}};
    for (message.id = 1000; crowd_count < FORWARD_MAX; message.id++) {
        forward_on_request(forwards[1], members_by_uid(&rack.hosts[1].members, 1),
                           &message);
    }

    struct exchange *exchange = request("/v1/vms");
    if (_i == 1) {
        exchange_set_in_doubt(exchange); /* a leader had it before */
    }
    forward_exchange(forwards[0], 2, exchange, 0);
    RACK_WAIT(client.ended);

    ck_assert_int_eq(client.status, 503);
    ck_assert_str_eq(client.header, "Retry-After: 1");
    ck_assert_ptr_nonnull(strstr(client.body, "Too many requests"));
    ck_assert_int_eq(strstr(client.body, "may still have been done") != NULL, _i == 1);
    ck_assert_uint_eq(crowd_count, FORWARD_MAX);
    ck_assert_uint_eq(forward_turned_away(forwards[1]), 1);
    for (unsigned i = 0; i < FORWARD_MAX; i++) {
        exchange_unref(crowd[i]);
    }
    exchange_unref(exchange);
    exchange_unref(other);
    free(bytes);
    stop();
}
END_TEST

START_TEST(who_is_no_member_cannot_answer)
{
    start();

    struct exchange *exchange = forwarded(9, 0);

    ck_assert(client.ended);
    ck_assert_int_eq(client.status, 503);
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(a_host_that_goes_down_answers_what_it_has_sent_away)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();

    forwards[0] = forward_free(forwards[0]);
    rack.hosts[0].hear = NULL;
    rack.hosts[0].see_peer = NULL;

    ck_assert(client.ended);
    ck_assert_int_eq(client.status, 503);
    ck_assert_ptr_nonnull(strstr(client.body, "going down"));
    exchange_unref(exchange);
    stop();
}
END_TEST

START_TEST(another_hosts_answer_to_our_exchange_is_not_taken)
{
    start();
    struct exchange *exchange = forwarded_and_arrived();
    struct msg_member stranger = {.uid = 3, .name = "h3"};
    const struct msg_forward_head head = {.id = 1, .status = 200};
    const struct msg_forward_end end = {.id = 1};

    forward_on_head(forwards[0], &stranger, &head);
    forward_on_end(forwards[0], &stranger, &end);
    ck_assert(client.status == 0 && !client.ended);

    answer_head(0);
    exchange_end(arrived[0]);
    RACK_WAIT(client.ended);
    exchange_unref(exchange);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("forward");
    TCase *tests = tcase_create("forward");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, an_answer_comes_back_as_it_was_given);
    tcase_add_test(tests, a_long_answer_comes_whole_after_its_handler_has_gone);
    tcase_add_test(tests, input_travels_the_other_way);
    tcase_add_test(tests, a_client_that_goes_away_is_told_to_the_handler);
    tcase_add_test(tests,
                   a_client_that_does_not_keep_up_loses_its_stream_not_bytes_of_it);
    tcase_add_loop_test(tests, a_right_taken_away_on_the_other_host_cuts_the_client_off,
                        0, 2);
    tcase_add_test(tests,
                   a_piece_lost_on_the_way_ends_the_stream_instead_of_leaving_a_gap);
    tcase_add_test(tests, a_host_that_dies_before_its_answer_is_answered_for);
    tcase_add_test(tests, a_host_that_dies_in_its_answer_ends_the_stream);
    tcase_add_test(tests, an_asker_that_dies_is_told_to_the_handler);
    tcase_add_test(tests, a_host_that_never_answers_is_not_waited_for);
    tcase_add_test(tests, what_a_dead_host_should_answer_is_refused_at_once);
    tcase_add_test(tests, a_leader_that_hangs_is_not_waited_for_when_another_leads);
    tcase_add_test(tests,
                   what_goes_to_the_next_leader_is_called_off_where_the_old_one_hangs);
    tcase_add_test(tests,
                   what_a_leader_of_before_refuses_undone_comes_back_to_be_sent_again);
    tcase_add_loop_test(
        tests, what_a_lost_leader_may_have_done_is_sent_again_where_that_does_no_harm, 0,
        ARRAY_COUNT(lost));
    tcase_add_test(tests, a_repeat_says_since_when_it_may_have_been_done);
    tcase_add_loop_test(tests, a_host_without_a_log_knows_what_leaders_have_answered, 0,
                        ARRAY_COUNT(without_log));
    tcase_add_test(tests, a_console_has_nothing_to_do_with_who_leads);
    tcase_add_test(tests, an_answer_that_has_begun_may_take_its_time);
    tcase_add_loop_test(tests, one_request_too_many_is_told_to_come_again, 0, 2);
    tcase_add_test(tests, who_is_no_member_cannot_answer);
    tcase_add_test(tests, a_host_that_goes_down_answers_what_it_has_sent_away);
    tcase_add_test(tests, another_hosts_answer_to_our_exchange_is_not_taken);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
