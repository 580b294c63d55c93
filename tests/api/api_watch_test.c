/* Goal: a watcher misses nothing and is told nothing twice, however slowly it reads and
 * wherever it is cut off; what it may not see it is not told. Method: event streams read
 * from the real server's socket, event by event. */
#include "http_fixture.h"

#include <malloc.h>

#define CROWD    5000
#define HELD_MAX (1536u << 10) /* of 3 MiB of events: names, a queue, what MHD takes */

/* ---- a reader of events ---- */

struct reader {
    int fd;
    char *text; /* what has come and is not taken yet */
    size_t size;
    size_t capacity;
    size_t at;
    bool ended;
};

static struct heard {
    char name[32];
    char id[32]; /* "" when it has none */
    json_t *data;
    const char *object; /* its name, borrowed from data; "" when none */
} event;

static void reader_open(struct reader *reader, const char *path, const char *headers)
{
    char text[1024];
    *reader = (struct reader){.fd = connect_local()};
    /* 1.0 has no chunks: the bytes are the stream. */
    snprintf(text, sizeof(text), "GET %s HTTP/1.0\r\n%s\r\n", path, headers);
    ck_assert(say(reader->fd, text));
}

static void reader_close(struct reader *reader)
{
    (void)close(reader->fd);
    free(reader->text);
    json_decref(event.data);
    memset(&event, 0, sizeof(event));
}

static void reader_more(struct reader *reader)
{
    if (reader->at > 0) {
        memmove(reader->text, reader->text + reader->at, reader->size - reader->at);
        reader->size -= reader->at;
        reader->at = 0;
    }
    if (reader->capacity - reader->size < 65536) {
        reader->capacity += 262144;
        reader->text = realloc(reader->text, reader->capacity);
        ck_assert_ptr_nonnull(reader->text);
    }
    ssize_t got;
    do { /* a child of the server may end: it lives in this process */
        got = recv(reader->fd, reader->text + reader->size,
                   reader->capacity - reader->size - 1, 0);
    } while (got < 0 && errno == EINTR);
    ck_assert_msg(got >= 0, "nothing came within %d ms", REPLY_MS);
    reader->ended = got == 0;
    reader->size += (size_t)got;
    reader->text[reader->size] = '\0';
}

/* The next block that ends in an empty line, or NULL at the end. */
static const char *reader_block(struct reader *reader, const char *empty_line)
{
    for (;;) {
        char *start = reader->text != NULL ? reader->text + reader->at : NULL;
        char *end = start != NULL ? strstr(start, empty_line) : NULL;
        if (end != NULL) {
            *end = '\0';
            reader->at += (size_t)(end - start) + strlen(empty_line);
            return start;
        }
        if (reader->ended) {
            return NULL;
        }
        reader_more(reader);
    }
}

static void reader_head(struct reader *reader)
{
    const char *head = reader_block(reader, "\r\n\r\n");
    ck_assert_ptr_nonnull(head);
    ck_assert_contains(head, " 200 ");
    ck_assert_contains(head, "Content-Type: text/event-stream");
    ck_assert_contains(head, "Cache-Control: no-store");
}

static void take_line(const char *line)
{
    size_t size = strcspn(line, "\n");
    if (strncmp(line, "id: ", 4) == 0) {
        snprintf(event.id, sizeof(event.id), "%.*s", (int)size - 4, line + 4);
    } else if (strncmp(line, "event: ", 7) == 0) {
        snprintf(event.name, sizeof(event.name), "%.*s", (int)size - 7, line + 7);
    } else {
        ck_assert_msg(strncmp(line, "data: ", 6) == 0, "a strange line: %.100s", line);
        ck_assert_int_eq(json_parse(line + 6, size - 6, &event.data, NULL), 0);
    }
}

/* False at the end of the stream. */
static bool next_event(struct reader *reader)
{
    const char *block = reader_block(reader, "\n\n");
    json_decref(event.data);
    memset(&event, 0, sizeof(event));
    event.object = "";
    if (block == NULL) {
        return false;
    }
    while (*block != '\0') {
        take_line(block);
        block += strcspn(block, "\n");
        block += *block == '\n' ? 1 : 0;
    }
    ck_assert_ptr_nonnull(event.data);
    const json_t *meta = json_object_get(event.data, "metadata");
    event.object = json_member_text(meta != NULL ? meta : event.data, "name", "");
    return true;
}

static void assert_event(struct reader *reader, const char *name, const char *object)
{
    ck_assert_msg(next_event(reader), "the stream ended before %s %s", name, object);
    ck_assert_msg(strcmp(event.name, name) == 0 && strcmp(event.object, object) == 0,
                  "wanted %s %s, got %s %s", name, object, event.name, event.object);
}

/* Reads up to the bookmark that ends the listing; the number of objects. */
static unsigned read_listing(struct reader *reader)
{
    unsigned count = 0;
    while (next_event(reader) && strcmp(event.name, "bookmark") != 0) {
        ck_assert_str_eq(event.name, "put");
        ck_assert_msg(event.id[0] == '\0', "%s could be resumed from", event.object);
        count++;
    }
    ck_assert_str_eq(event.name, "bookmark");
    ck_assert_uint_eq(strtoull(event.id, NULL, 10),
                      json_member_u64(event.data, "revision", 0));
    return count;
}

/* ---- what is changed meanwhile ---- */

static void put_tenant(const char *name)
{
    char path[128];
    char body[256];
    snprintf(path, sizeof(path), "/v1/tenants/%s", name);
    snprintf(body, sizeof(body),
             "{\"apiVersion\":\"berth/"
             "v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":\"%s\"}}",
             name);
    ck_assert_int_eq(ask("PUT", path, "", body), 200);
}

static void delete_tenant(const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "/v1/tenants/%s", name);
    ck_assert_int_eq(ask("DELETE", path, "", NULL), 200);
}

static void quiet(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->no_scheduler = true;
}

static void reset(struct served *server, void *context)
{
    (void)context;
    served_reset(server);
}

/* ---- tests ---- */

START_TEST(it_begins_with_the_objects_as_they_are_and_goes_on_with_changes)
{
    struct reader reader;
    put_tenant("shop");
    reader_open(&reader, "/v1/watch?kinds=tenant,host", "");
    reader_head(&reader);
    ck_assert_uint_eq(read_listing(&reader), 5); /* default, shop, h1, h2, h3 */

    put_tenant("bank");
    assert_event(&reader, "put", "bank");
    ck_assert_str_ne(event.id, "");
    delete_tenant("bank");
    assert_event(&reader, "delete", "bank");
    ck_assert_str_eq(json_member_text(event.data, "kind", ""), "Tenant");
    ck_assert_uint_eq(json_member_u64(event.data, "revision", 0),
                      strtoull(event.id, NULL, 10));
    reader_close(&reader);
}
END_TEST

START_TEST(it_resumes_after_any_id_without_a_gap_or_a_repetition)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    char ids[5][32];
    struct reader reader;
    reader_open(&reader, "/v1/watch?kinds=tenant", "");
    reader_head(&reader);
    (void)read_listing(&reader);
    for (unsigned i = 0; i < 5; i++) {
        put_tenant(names[i]);
        assert_event(&reader, "put", names[i]);
        snprintf(ids[i], sizeof(ids[i]), "%s", event.id);
    }
    reader_close(&reader);

    for (unsigned i = 0; i < 5; i++) {
        char headers[64];
        snprintf(headers, sizeof(headers), "Last-Event-ID: %s\r\n", ids[i]);
        reader_open(&reader, "/v1/watch?kinds=tenant&since=1", headers);
        reader_head(&reader);
        for (unsigned j = i + 1; j < 5; j++) {
            assert_event(&reader, "put", names[j]);
        }
        put_tenant("last");
        assert_event(&reader, "put", "last");
        delete_tenant("last");
        reader_close(&reader);
    }
}
END_TEST

static unsigned times_in(const char *text, const char *part)
{
    unsigned times = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        times++;
    }
    return times;
}

START_TEST(a_revision_with_many_changes_is_resumed_before_it_or_after_it)
{
    struct reader reader;
    struct command command;
    char since[64];
    unsigned moved = 0;
    served_vms(served, "vm", 6);
    do {
        ck_assert_int_eq(get("/v1/vms?limit=1000"), 200);
    } while (times_in(reply.body, "\"phase\":\"ready\"") < 6);
    served_do(served, quiet, NULL);
    ck_assert_int_eq(get("/v1/vms"), 200);
    json_t *vm = json_array_get(json_object_get(reply.document, "items"), 0);
    snprintf(since, sizeof(since), "/v1/watch?since=%llu",
             (unsigned long long)json_member_u64(reply.document, "revision", 0));
    command_init(&command, COMMAND_HOST_PHASE); /* all VMs of the host in one revision */
    command.body.host_phase.host =
        json_member_u64(json_object_get(vm, "status"), "hostUid", 0);
    command.body.host_phase.phase = HOST_PHASE_LOST;
    ck_assert_int_eq(served_apply(served, &command).code, 0);
    put_tenant("after");

    reader_open(&reader, since, "");
    reader_head(&reader);
    bool resumable = false;
    while (next_event(&reader) && strcmp(event.object, "after") != 0) {
        ck_assert_msg(!resumable, "%s came after the last of its revision", event.object);
        resumable = event.id[0] != '\0';
        moved++;
    }
    ck_assert(resumable);
    ck_assert_uint_ge(moved, 2); /* the host and its VMs */
    reader_close(&reader);
}
END_TEST

START_TEST(what_the_feed_no_longer_has_is_a_reset_and_the_objects_anew)
{
    struct reader reader;
    put_tenant("shop");
    served_do(served, reset, NULL);
    reader_open(&reader, "/v1/watch?kinds=tenant&since=1", "");
    reader_head(&reader);

    assert_event(&reader, "reset", "");
    ck_assert_str_eq(event.id, "0"); /* cut off now, a client begins again */
    ck_assert_uint_eq(read_listing(&reader), 2);
    put_tenant("bank");
    assert_event(&reader, "put", "bank");
    served_do(served, reset, NULL); /* in the middle, too */
    assert_event(&reader, "reset", "");
    ck_assert_uint_eq(read_listing(&reader), 3);
    reader_close(&reader);
}
END_TEST

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t allocated(void)
{
    return __sanitizer_get_current_allocated_bytes != NULL
               ? __sanitizer_get_current_allocated_bytes()
               : mallinfo2().uordblks + mallinfo2().hblkhd;
}

static void allocated_there(struct served *server, void *context)
{
    size_t *size = context;
    (void)server;
    *size = allocated();
}

static size_t allocated_now(void)
{
    size_t size = 0;
    served_do(served, allocated_there, &size);
    return size;
}

static void crowd_make(void)
{
    fixture_start_with(&(struct served_config){.memory_bytes = 4 * TIB});
    served_do(served, quiet, NULL);
    served_vms(served, "vm", CROWD);
}

START_TEST(a_crowd_is_listed_piece_by_piece_while_it_changes)
{
    struct reader reader;
    unsigned count = 0;
    unsigned gone = 0;
    bool *seen = calloc(CROWD, sizeof(*seen));
    size_t before = allocated_now();
    reader_open(&reader, "/v1/watch?kinds=vm,tenant,image", "");
    reader_head(&reader);
    for (unsigned i = 0; i < 3; i++) { /* the reader is slow; nothing is held for it */
        ck_assert_int_eq(get("/healthz"), 200);
        ck_assert_uint_lt(allocated_now() - before, HELD_MAX);
    }
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/vms/vm-00000", "", NULL), 200);
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/vms/vm-04999", "", NULL), 200);
    served_vms(served, "zz-new", 1);
    put_tenant("bank"); /* tenants have had their turn */

    unsigned banks = 0;
    unsigned news = 0;
    while (next_event(&reader) && strcmp(event.name, "bookmark") != 0) {
        ck_assert_str_eq(event.id, "");
        unsigned number = 0;
        if (strcmp(event.name, "delete") == 0) {
            ck_assert_str_eq(event.object, "vm-00000");
            gone++;
        } else if (sscanf(event.object, "vm-%5u", &number) == 1) {
            ck_assert_msg(number < CROWD && !seen[number], "%s twice", event.object);
            seen[number] = true;
            count++;
        }
        banks += strcmp(event.object, "bank") == 0 ? 1 : 0;
        news += strcmp(event.object, "zz-new-00000") == 0 ? 1 : 0;
    }
    ck_assert_uint_eq(count,
                      CROWD - 1); /* all but vm-04999, which went before its turn */
    ck_assert(!seen[CROWD - 1]);
    ck_assert_uint_eq(gone, 1);
    ck_assert_uint_eq(banks, 1);
    ck_assert_uint_eq(news, 1);
    free(seen);
    reader_close(&reader);
    fixture_stop();
}
END_TEST

START_TEST(a_reader_that_slept_through_a_reset_is_told)
{
    struct reader reader;
    unsigned count = 0;
    reader_open(&reader, "/v1/watch?kinds=vm", "");
    reader_head(&reader); /* its queue is full now */
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/vms/vm-00000", "", NULL), 200);
    served_do(served, reset, NULL);

    while (next_event(&reader) && strcmp(event.name, "reset") != 0) {
        count++;
    }
    ck_assert_str_eq(event.name, "reset");
    ck_assert_uint_lt(count, CROWD / 2);
    ck_assert_uint_eq(read_listing(&reader), CROWD - 1);
    reader_close(&reader);
    fixture_stop();
}
END_TEST

START_TEST(a_crowd_is_watched_through_a_host_that_only_forwards)
{
    struct reader reader;
    fixture_start_with(&(struct served_config){.memory_bytes = 4 * TIB, .front = true});
    served_do(served, quiet, NULL);
    served_vms(served, "vm", 3000);
    reader_open(&reader, "/v1/watch?kinds=vm", "");
    reader_head(&reader);

    ck_assert_uint_eq(read_listing(&reader), 3000);
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/vms/vm-00000", "", NULL), 200);
    assert_event(&reader, "delete", "vm-00000");
    reader_close(&reader);
    fixture_stop();
}
END_TEST

START_TEST(a_subject_is_told_only_what_it_may_read)
{
    struct reader reader;
    put_tenant("shop");
    served_token(served, "ana", "ana-secret", ROLE_VIEWER, "shop", 0);
    reader_open(&reader, "/v1/watch", "Authorization: Bearer ana-secret\r\n");
    reader_head(&reader);
    bool shop = false;
    while (next_event(&reader) && strcmp(event.name, "bookmark") != 0) {
        const char *kind = json_member_text(event.data, "kind", "");
        shop = shop || strcmp(event.object, "shop") == 0;
        ck_assert_msg(strcmp(kind, "Image") == 0 || strcmp(event.object, "shop") == 0,
                      "%s %s", kind, event.object);
    }
    ck_assert(shop);
    put_tenant("bank");
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "",
                         "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{"
                         "\"name\":\"shop\",\"labels\":{\"a\":\"b\"}}}"),
                     200);
    assert_event(&reader, "put", "shop");
    reader_close(&reader);
}
END_TEST

/* ana of tenant shop is a member of these, or none. */
static void default_has_member(bool member)
{
    ck_assert_int_eq(
        ask("PUT", "/v1/tenants/default", "",
            member ? "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{"
                     "\"name\":\"default\"},\"spec\":{\"members\":[{\"subject\":"
                     "\"token:ana\",\"role\":\"viewer\"}]}}"
                   : "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{"
                     "\"name\":\"default\"}}"),
        200);
}

static void assert_anew(struct reader *reader, unsigned objects)
{
    ck_assert(next_event(reader));
    ck_assert_str_eq(event.name, "reset");
    ck_assert_uint_eq(read_listing(reader), objects);
}

START_TEST(who_is_a_member_no_more_is_told_that_the_objects_are_gone)
{
    struct reader reader;
    char resumed[64];
    put_tenant("shop");
    served_token(served, "ana", "ana-secret", ROLE_VIEWER, "shop", 0);
    served_do(served, quiet, NULL);
    default_has_member(true);
    served_vms(served, "vm", 2);
    reader_open(&reader, "/v1/watch?kinds=vm,tenant",
                "Authorization: Bearer ana-secret\r\n");
    reader_head(&reader);
    ck_assert_uint_eq(read_listing(&reader), 4); /* default, shop, two VMs */
    snprintf(resumed, sizeof(resumed), "/v1/watch?kinds=vm,tenant&since=%s", event.id);

    /* What is only used goes on without a reset. */
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/vms/vm-00001", "", NULL), 200);
    do {
        ck_assert(next_event(&reader));
        ck_assert_str_ne(event.name, "reset");
    } while (strcmp(event.name, "delete") != 0);
    ck_assert_str_eq(event.object, "vm-00001");

    default_has_member(false);
    do {
        ck_assert(next_event(&reader));
    } while (strcmp(event.name, "reset") != 0);
    ck_assert_uint_eq(read_listing(&reader), 1);
    default_has_member(true);
    assert_anew(&reader, 3);
    reader_close(&reader);

    /* Nor does one that was away in between take the place for one to go on from. */
    reader_open(&reader, resumed, "Authorization: Bearer ana-secret\r\n");
    reader_head(&reader);
    do {
        ck_assert(next_event(&reader));
    } while (strcmp(event.name, "reset") != 0);
    ck_assert_uint_eq(read_listing(&reader), 3);
    reader_close(&reader);
}
END_TEST

START_TEST(a_watch_of_a_tenant_ends_with_the_part_in_it)
{
    struct reader reader;
    put_tenant("shop");
    served_token(served, "ana", "ana-secret", ROLE_VIEWER, "shop", 0);
    default_has_member(true);
    reader_open(&reader, "/v1/watch?kinds=vm&tenant=default",
                "Authorization: Bearer ana-secret\r\n");
    reader_head(&reader);
    ck_assert_uint_eq(read_listing(&reader), 0);

    default_has_member(false);
    while (next_event(&reader)) { /* that it begins anew may come before */
        ck_assert_str_ne(event.name, "put");
    }
    reader_close(&reader);
}
END_TEST

START_TEST(a_tenant_that_goes_is_gone_for_its_members)
{
    struct reader reader;
    put_tenant("shop");
    served_token(served, "ana", "ana-secret", ROLE_VIEWER, "shop", 0);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/bank", "",
                         "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{"
                         "\"name\":\"bank\"},\"spec\":{\"members\":[{\"subject\":"
                         "\"token:ana\",\"role\":\"viewer\"}]}}"),
                     200);
    reader_open(&reader, "/v1/watch?kinds=tenant",
                "Authorization: Bearer ana-secret\r\n");
    reader_head(&reader);
    ck_assert_uint_eq(read_listing(&reader), 2);

    delete_tenant("bank");
    assert_anew(&reader, 1);
    reader_close(&reader);
}
END_TEST

static void from_worker(struct served *server, void *context)
{
    served_knobs(server)->forwarder = context;
}

static void find_host(struct served *server, void *context)
{
    const struct vm *vm = state_get(served_state(server), KIND_VM, "default", "vm-00000");
    const struct host *host = state_host(served_state(server), vm->status.host);
    snprintf(context, NAME_SIZE, "%s", host != NULL ? host->meta.name : "");
}

START_TEST(root_of_a_worker_is_told_when_its_vm_goes)
{
    struct reader reader;
    char host[NAME_SIZE] = "";
    fixture_start_with(&(struct served_config){.front = true});
    ck_assert_int_eq(ask("POST", "/v1/hosts/h1:drain", "", NULL), 200); /* it votes */
    served_vms(served, "vm", 1);
    while (host[0] == '\0') {
        served_do(served, find_host, host);
    }
    served_token(served, "ops", "ops", ROLE_ADMIN, "", 0);
    served_do(served, from_worker, host);
    reader_open(&reader, "/v1/watch?kinds=vm", "");
    reader_head(&reader);
    ck_assert_uint_eq(read_listing(&reader), 1);

    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/vms/vm-00000",
                         "Authorization: Bearer ops\r\n", NULL),
                     200);
    do {
        ck_assert(next_event(&reader));
    } while (strcmp(event.name, "put") == 0);
    ck_assert_str_eq(event.name, "delete");
    ck_assert_str_eq(event.object, "vm-00000");
    reader_close(&reader);
    fixture_stop();
}
END_TEST

START_TEST(one_token_cannot_have_every_watch)
{
    enum { SHARE = 64 };
    struct reader readers[SHARE];
    served_token(served, "ana", "ana", ROLE_VIEWER, "", 0);
    for (unsigned i = 0; i < SHARE; i++) {
        reader_open(&readers[i], "/v1/watch?kinds=tenant",
                    "Authorization: Bearer ana\r\n");
        reader_head(&readers[i]);
    }
    (void)ask("GET", "/v1/watch", "Authorization: Bearer ana\r\n", NULL);
    assert_problem(429, "BERTH_EFULL");
    ck_assert_str_eq(header("Retry-After"), "1");
    struct reader other;
    reader_open(&other, "/v1/watch?kinds=tenant", "");
    reader_head(&other);
    reader_close(&other);
    for (unsigned i = 0; i < SHARE; i++) {
        reader_close(&readers[i]);
    }
}
END_TEST

START_TEST(a_token_that_is_taken_away_ends_its_stream)
{
    struct reader reader;
    served_token(served, "ana", "ana-secret", ROLE_VIEWER, "", 0);
    reader_open(&reader, "/v1/watch?kinds=tenant",
                "Authorization: Bearer ana-secret\r\n");
    reader_head(&reader);
    (void)read_listing(&reader);
    ck_assert_int_eq(ask("DELETE", "/v1/tokens/ana", "", NULL), 200);

    while (next_event(&reader)) {
    }
    reader_close(&reader);
}
END_TEST

/* False when the listing had not come before the token's end. */
static bool streams_until_it_expires(const char *name, uint64_t in_ms)
{
    struct reader reader;
    struct timeval now;
    char headers[64];
    bool listed = false;
    (void)gettimeofday(&now, NULL);
    uint64_t soon = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_usec / 1000 + in_ms;
    served_token(served, name, name, ROLE_VIEWER, "", soon);
    snprintf(headers, sizeof(headers), "Authorization: Bearer %s\r\n", name);
    reader_open(&reader, "/v1/watch?kinds=tenant", headers);
    const char *head = reader_block(&reader, "\r\n\r\n");
    ck_assert_ptr_nonnull(head);
    if (strstr(head, " 200 ") != NULL) {
        while (next_event(&reader)) {
            listed = listed || strcmp(event.name, "bookmark") == 0;
        }
    }
    ck_assert_int_eq(ask("GET", "/v1/self", headers, NULL), 401);
    reader_close(&reader);
    return listed;
}

/* A machine may be too busy to begin a stream in so little time: then with more of it. */
START_TEST(a_token_that_expires_ends_its_stream)
{
    char name[16] = "ana-0";
    uint64_t in_ms = 1500;
    while (!streams_until_it_expires(name, in_ms)) {
        name[4]++;
        in_ms *= 4;
    }
}
END_TEST

static void lose_state(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->no_state = true;
}

START_TEST(a_host_that_is_no_voter_any_more_ends_its_streams)
{
    struct reader reader;
    reader_open(&reader, "/v1/watch?kinds=tenant", "");
    reader_head(&reader);
    (void)read_listing(&reader);
    served_do(served, lose_state, NULL);

    while (next_event(&reader)) {
    }
    reader_close(&reader);
}
END_TEST

START_TEST(a_tenant_and_kinds_narrow_it)
{
    struct reader reader;
    put_tenant("shop");
    reader_open(&reader, "/v1/watch?kinds=template,vm&tenant=default", "");
    reader_head(&reader);
    ck_assert_uint_eq(read_listing(&reader), 1); /* template plain */
    put_tenant("bank");
    served_vms(served, "vm", 1);
    assert_event(&reader, "put", "vm-00000");
    reader_close(&reader);
    reader_open(&reader, "/v1/watch?kinds=template&tenant=shop", "");
    reader_head(&reader);
    ck_assert_uint_eq(read_listing(&reader), 0);
    reader_close(&reader);
}
END_TEST

static const struct bad {
    const char *query;
    const char *header;
} bads[] = {
    {"?kinds=ship", ""},
    {"?kinds=vm,,host", ""},
    {"?kinds=,", ""},
    {"?since=x", ""},
    {"?since=-1", ""},
    {"?kind=vm", ""},
    {"", "Last-Event-ID: x\r\n"},
};

static void a_watch_that_is_not_understood_is_refused_row(size_t i)
{
    char path[128];
    snprintf(path, sizeof(path), "/v1/watch%s", bads[i].query);
    (void)ask("GET", path, bads[i].header, NULL);

    assert_problem(422, "BERTH_EINVALID");
}

START_TEST(a_watch_that_is_not_understood_is_refused)
{
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        a_watch_that_is_not_understood_is_refused_row(i);
    }
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("api_watch", &tests);
    TCase *crowd = tcase_create("crowd");
    TCase *front = tcase_create("front");
    tcase_add_test(tests,
                   it_begins_with_the_objects_as_they_are_and_goes_on_with_changes);
    tcase_add_test(tests, it_resumes_after_any_id_without_a_gap_or_a_repetition);
    tcase_add_test(tests, a_revision_with_many_changes_is_resumed_before_it_or_after_it);
    tcase_add_test(tests, what_the_feed_no_longer_has_is_a_reset_and_the_objects_anew);
    tcase_add_test(tests, a_subject_is_told_only_what_it_may_read);
    tcase_add_test(tests, who_is_a_member_no_more_is_told_that_the_objects_are_gone);
    tcase_add_test(tests, a_watch_of_a_tenant_ends_with_the_part_in_it);
    tcase_add_test(tests, a_tenant_that_goes_is_gone_for_its_members);
    tcase_add_test(tests, one_token_cannot_have_every_watch);
    tcase_add_test(tests, a_token_that_is_taken_away_ends_its_stream);
    tcase_add_test(tests, a_token_that_expires_ends_its_stream);
    tcase_add_test(tests, a_host_that_is_no_voter_any_more_ends_its_streams);
    tcase_add_test(tests, a_tenant_and_kinds_narrow_it);
    tcase_add_test(tests, a_watch_that_is_not_understood_is_refused);
    tcase_add_checked_fixture(crowd, crowd_make, NULL);
    tcase_add_test(crowd, a_crowd_is_listed_piece_by_piece_while_it_changes);
    tcase_add_test(crowd, a_reader_that_slept_through_a_reset_is_told);
    tcase_set_timeout(crowd, 300);
    suite_add_tcase(suite, crowd);
    tcase_add_test(front, root_of_a_worker_is_told_when_its_vm_goes);
    tcase_add_test(front, a_crowd_is_watched_through_a_host_that_only_forwards);
    tcase_set_timeout(front, 300);
    suite_add_tcase(suite, front);
    return test_main_run(suite);
}
