/* Goal: every role gets through every route exactly as docs/api.md says. Method: one
 * request per row of the routes table, and some more for kinds that differ, asked by each
 * role over the socket; the grid below says who gets in. A row that is missing here fails
 * the test. */
#include "api/exchange.h"
#include "api/routes.h"
#include "http_fixture.h"

#define SHA                                                                     \
    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" /* hello \
                                                                        */
#define T "/v1/tenants/shop"

/* Columns of the grid. */
static const struct column {
    const char *what;
    const char *token; /* "": root on the socket */
} columns[] = {
    {"root", ""},
    {"viewer of the cluster", "cluster-viewer"},
    {"operator of the cluster", "cluster-operator"},
    {"admin of the cluster", "cluster-admin"},
    {"viewer of the tenant", "shop-viewer"},
    {"operator of the tenant", "shop-operator"},
    {"admin of the tenant", "shop-admin"},
    {"member of the tenant, as operator", "member"},
    {"admin of another tenant", "bank-admin"},
    {"join token", "join"},
    {"expired token", "expired"},
    {"unknown token", "unknown"},
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

/* y: gets in, f: 403, n: 404, a: 401; in the order of the columns. */
#define EVERYBODY   "yyyyyyyyyyyy"
#define KNOWN       "yyyyyyyyyaaa"
#define READS       "yyyyyyyynaaa"
#define WRITES      "yfyyfyyynaaa"
#define ADMINS      "yffyfffffaaa"
#define ADMINS_MISS "nffnfffffaaa"
#define OF_TENANT   "yffyffffnaaa"
#define UPLOADS     "yfyyfyyyyaaa"
#define CLUSTER     "yyyyfffffaaa"
#define NOBODY      "nnnnnnnnnaaa"

/* In the order of the routes table; then more. Nothing here changes what others need. */
static const struct row {
    const char *method;
    const char *path;
    const char *headers;
    const char *body;
    const char *grid;
} rows[] = {
    {"GET", "/healthz", "", NULL, EVERYBODY},
    {"GET", "/metrics", "", NULL, CLUSTER},
    {"GET", "/v1/version", "", NULL, EVERYBODY},
    {"GET", "/v1/level", "", NULL, KNOWN},
    {"GET", "/v1/self", "", NULL, KNOWN},
    {"GET", "/v1/blobs/" SHA, "", NULL, EVERYBODY},
    {"POST", "/v1/blobs?url=x&sha256=y", "", NULL, UPLOADS},
    {"POST", "/v1/apply", "", "{}", KNOWN},
    {"GET", "/v1/events", "", NULL, KNOWN},
    {"GET", "/v1/watch?kinds=none", "", NULL, KNOWN},
    {"POST", "/v1/join-tokens", "", "{\"ttl\":\"never\"}", ADMINS},
    {"POST", "/v1/tokens", "", "{\"name\":\"-\"}", ADMINS},
    {"POST", "/v1/backups", "", NULL, ADMINS},
    {"GET", "/v1/backups/none", "", NULL, ADMINS_MISS},
    {"DELETE", "/v1/backups/none", "", NULL, ADMINS},
    {"POST", "/v1/hosts/h1:drain", "", NULL, ADMINS},
    {"POST", "/v1/hosts/h1:undrain", "", NULL, ADMINS},
    {"POST", "/v1/hosts/h1:label", "", "{}", ADMINS},
    {"POST", T "/groups/web:scale", "", "{\"replicas\":-1}", WRITES},
    {"POST", T "/vms/jump:start", "", NULL, WRITES},
    {"POST", T "/vms/jump:stop", "", NULL, WRITES},
    {"POST", T "/vms/jump:restart", "", NULL, WRITES},
    {"POST", T "/vms/jump:pause", "", NULL, WRITES},
    {"POST", T "/vms/jump:resume", "", NULL, WRITES},
    {"POST", T "/vms/jump:snapshot", "", "{\"name\":\"-\"}", WRITES},
    {"POST", T "/vms/jump:restore", "", "{}", WRITES},
    {"GET", T "/groups/web/explain", "", NULL, READS},
    {"GET", T "/vms/jump/explain", "", NULL, READS},
    {"GET", T "/vms/jump/console", "", NULL, WRITES},
    {"GET", T "/vms/jump", "", NULL, READS},
    {"PUT", T "/templates/small", "", "{}", WRITES},
    {"DELETE", T "/vms/jump", "If-Match: \"9999\"\r\n", NULL, WRITES},
    {"GET", T "/vms", "", NULL, READS},
    {"GET", "/v1/tenants/shop", "", NULL, READS},
    {"PUT", "/v1/tenants/shop", "", "{}", OF_TENANT},
    {"DELETE", "/v1/tenants/shop", "If-Match: \"9999\"\r\n", NULL, OF_TENANT},
    {"GET", "/v1/vms", "", NULL, KNOWN},
    /* beyond the table: kinds with rules of their own, HEAD, and uploads */
    {"GET", "/v1/hosts/h1", "", NULL, CLUSTER},
    {"GET", "/v1/hosts", "", NULL, CLUSTER}, /* not an empty list: there are hosts */
    {"GET", "/v1/tokens", "", NULL, ADMINS},
    {"GET", "/v1/vms?tenant=shop", "", NULL, READS}, /* as a tenant that is not there */
    {"GET", "/v1/vms?tenant=none", "", NULL, NOBODY},
    {"GET", "/v1/watch?tenant=none", "", NULL, NOBODY},
    {"PUT", "/v1/hosts/h1", "", "{}", ADMINS},
    {"DELETE", "/v1/hosts/h1", "If-Match: \"9999\"\r\n", NULL, ADMINS},
    {"GET", "/v1/tokens/shop-admin", "", NULL, ADMINS},
    {"DELETE", "/v1/tokens/shop-admin", "If-Match: \"9999\"\r\n", NULL, ADMINS},
    {"GET", "/v1/images/linux", "", NULL, KNOWN},
    {"PUT", "/v1/images/linux", "", "{}", ADMINS},
    {"DELETE", "/v1/images/linux", "If-Match: \"9999\"\r\n", NULL, ADMINS},
    {"HEAD", "/v1/hosts/h1", "", NULL, CLUSTER},
    {"HEAD", T "/vms/jump", "", NULL, READS},
    {"POST", "/v1/blobs", "", "hello", UPLOADS},
};

static void token_make(const char *name, enum role role, const char *tenant)
{
    served_token(served, name, name, role, tenant, 0);
}

static void roles_start(void)
{
    fixture_start();
    ck_assert_int_eq(
        ask("POST", "/v1/apply", "",
            "{\"objects\":["
            "{\"apiVersion\":\"berth/"
            "v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":\"bank\"}},"
            "{\"apiVersion\":\"berth/"
            "v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":\"shop\"},"
            "\"spec\":{\"members\":[{\"subject\":\"token:member\",\"role\":\"operator\"}]"
            "}},"
            "{\"apiVersion\":\"berth/"
            "v1\",\"kind\":\"Template\",\"metadata\":{\"name\":\"small\","
            "\"tenant\":\"shop\"},\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":"
            "\"64MiB\"}}},"
            "{\"apiVersion\":\"berth/"
            "v1\",\"kind\":\"Group\",\"metadata\":{\"name\":\"web\","
            "\"tenant\":\"shop\"},\"spec\":{\"template\":{\"name\":\"small\"},"
            "\"replicas\":0}},"
            "{\"apiVersion\":\"berth/"
            "v1\",\"kind\":\"VM\",\"metadata\":{\"name\":\"jump\","
            "\"tenant\":\"shop\"},\"spec\":{\"template\":{\"name\":\"small\"}}}]}"),
        200);
    ck_assert_int_eq(ask("POST", "/v1/blobs", "", "hello"), 201);
    token_make("cluster-viewer", ROLE_VIEWER, "");
    token_make("cluster-operator", ROLE_OPERATOR, "");
    token_make("cluster-admin", ROLE_ADMIN, "");
    token_make("shop-viewer", ROLE_VIEWER, "shop");
    token_make("shop-operator", ROLE_OPERATOR, "shop");
    token_make("shop-admin", ROLE_ADMIN, "shop");
    token_make("member", ROLE_VIEWER, "bank");
    token_make("bank-admin", ROLE_ADMIN, "bank");
    token_make("join", ROLE_JOIN, "");
    served_token(served, "expired", "expired", ROLE_ADMIN, "", 1000);
}

static char outcome(int status)
{
    return status == 401 ? 'a' : status == 403 ? 'f' : status == 404 ? 'n' : 'y';
}

static void every_role_gets_through_every_route_as_it_should_row(size_t number)
{
    unsigned count = 0;
    const struct route *table = routes_table(&count);
    const struct row *row = &rows[number];
    if ((unsigned)number < count) { /* the rows follow the table */
        const struct route *route = NULL;
        struct route_target target;
        char allow[ROUTE_ALLOW_SIZE];
        char path[256];
        snprintf(path, sizeof(path), "%.*s", (int)strcspn(row->path, "?"), row->path);
        ck_assert_int_eq(routes_match(row->method, path, &route, &target, allow), 0);
        ck_assert_str_eq(route->pattern, table[number].pattern);
        ck_assert_str_eq(route->method, table[number].method);
    }
    for (size_t i = 0; i < COLUMNS; i++) {
        char headers[256];
        snprintf(headers, sizeof(headers), "%s%s%s%s", row->headers,
                 columns[i].token[0] != '\0' ? "Authorization: Bearer " : "",
                 columns[i].token, columns[i].token[0] != '\0' ? "\r\n" : "");
        (void)ask(row->method, row->path, headers, row->body);
        ck_assert_msg(outcome(reply.status) == row->grid[i] && reply.status < 500,
                      "%s %s by %s: %d, wanted '%c': %s", row->method, row->path,
                      columns[i].what, reply.status, row->grid[i], reply.body);
    }
}

START_TEST(every_role_gets_through_every_route_as_it_should)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        every_role_gets_through_every_route_as_it_should_row(i);
    }
}
END_TEST

START_TEST(the_grid_has_a_row_for_every_route)
{
    unsigned count = 0;
    (void)routes_table(&count);

    ck_assert_uint_ge(sizeof(rows) / sizeof(rows[0]), count);
    ck_assert_str_eq(rows[count - 1].path, "/v1/vms"); /* the last of the table */
    ck_assert_str_eq(rows[count].path, "/v1/hosts/h1");
}
END_TEST

START_TEST(a_token_is_judged_also_where_root_would_get_in)
{
    ck_assert_int_eq(ask("GET", "/v1/self", "", NULL), 200);
    ck_assert_str_eq(said("subject"), "root");
    ck_assert_str_eq(said("clusterRole"), "admin");
    ck_assert_int_eq(
        ask("GET", "/v1/self", "Authorization: bearer shop-viewer\r\n", NULL), 200);
    ck_assert_str_eq(said("subject"), "token:shop-viewer");
    ck_assert_str_eq(said("tenantRole"), "viewer");
    ck_assert_str_eq(said("tenant"), "shop");
    ck_assert_int_eq(ask("GET", "/v1/self", "Authorization: Bearer \r\n", NULL), 401);
    assert_problem(401, "BERTH_EAUTH");
}
END_TEST

static void follow(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->not_leader = true;
}

static void hold_reads(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->hold_reads = true;
}

START_TEST(what_cannot_be_answered_now_says_when_to_come_again)
{
    served_do(served, follow, NULL);
    (void)get("/v1/hosts");

    assert_problem(503, "BERTH_ENOLEADER");
    ck_assert_ptr_nonnull(strstr(said("hint"), "berth join TOKEN here"));
    ck_assert_str_eq(header("Retry-After"), "1");
    ck_assert_int_eq(get("/healthz"), 200);                              /* local */
    ck_assert_int_eq(ask("GET", "/v1/watch?kinds=none", "", NULL), 422); /* a voter's */
}
END_TEST

START_TEST(a_barrier_that_is_never_passed_is_answered_for)
{
    served_do(served, hold_reads, NULL);
    (void)get("/v1/hosts");

    assert_problem(504, "BERTH_ETIMEOUT");
    ck_assert_contains(said("detail"), "could not confirm that it leads");
}
END_TEST

#define TENANT_BODY \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":\"shop\"}}"

START_TEST(a_write_needs_no_barrier_for_the_log_takes_it_from_a_leader_alone)
{
    served_do(served, hold_reads, NULL);
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "", TENANT_BODY), 200);
    ck_assert_int_eq(
        ask("PUT", "/v1/tenants/shop", "Idempotency-Key: k\r\n", TENANT_BODY), 200);
    (void)ask("PUT", "/v1/tenants/shop", "If-None-Match: *\r\n", TENANT_BODY);
    assert_problem(412, "BERTH_EEXISTS"); /* by the log itself */
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/shop", "", NULL), 200);
}
END_TEST

/* What is refused with no word of the log may be known better by the one who leads. */
START_TEST(a_write_is_refused_behind_a_barrier_only)
{
    static const struct {
        const char *method;
        const char *path;
        const char *headers;
        const char *body;
        int status;
    } refused[] = {
        {"PUT", "/v1/tenants/shop", "Authorization: Bearer none\r\n", TENANT_BODY, 401},
        {"PUT", "/v1/tenants/other", "", TENANT_BODY, 422},
    };
    for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        (void)ask(refused[i].method, refused[i].path, refused[i].headers,
                  refused[i].body);
        ck_assert_int_eq(reply.status, refused[i].status);
    }
    served_do(served, hold_reads, NULL);
    (void)ask(refused[_i].method, refused[_i].path, refused[_i].headers,
              refused[_i].body);
    assert_problem(504, "BERTH_ETIMEOUT");
    ck_assert_contains(said("detail"), "could not confirm that it leads");
}
END_TEST

START_TEST(an_unknown_parameter_is_refused_on_every_route)
{
    unsigned count = 0;
    (void)routes_table(&count);
    for (unsigned i = 0; i < count; i++) {
        char path[256];
        snprintf(path, sizeof(path), "%.*s?dryrun=plan", (int)strcspn(rows[i].path, "?"),
                 rows[i].path);
        if (strcmp(path, "/v1/blobs?dryrun=plan") == 0) {
            continue; /* an upload: its body is all */
        }
        (void)ask(rows[i].method, path, "", rows[i].body);
        ck_assert_msg(reply.status == 422 && strstr(said("detail"), "dryrun") != NULL,
                      "%s %s: %d %s", rows[i].method, path, reply.status, reply.body);
    }
}
END_TEST

static void start_front(void)
{
    fixture_start_with(&(struct served_config){.front = true});
}

START_TEST(a_host_that_does_not_lead_answers_as_the_leader_does)
{
    ck_assert_int_eq(get("/v1/version"), 200);
    ck_assert_str_eq(said("host"), "h2"); /* the one that was asked */
    ck_assert_uint_eq(counted(served_forwarded), 0);
    ck_assert_int_eq(get("/v1/hosts"), 200);
    ck_assert_uint_eq(item_count(), 3);
    ck_assert_ptr_nonnull(header("Berth-Revision"));
    (void)ask("PUT", "/v1/tenants/shop", "If-None-Match: *\r\nIdempotency-Key: k\r\n",
              "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":"
              "\"shop\"}}");
    ck_assert_int_eq(reply.status, 200);
    (void)ask("PUT", "/v1/tenants/shop", "If-None-Match: *\r\n",
              "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":"
              "\"shop\"}}");
    assert_problem(412, "BERTH_EEXISTS");
    ck_assert_int_eq(ask("GET", "/v1/self", "Authorization: Bearer none\r\n", NULL), 401);
    ck_assert_int_eq(get("/v1/nowhere"), 404);
    ck_assert_uint_eq(counted(served_forwarded), 4);
}
END_TEST

static void lose_after_64k(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->lost_after = 65536;
}

static void lose(struct served *server, void *context)
{
    (void)context;
    served_lose(server);
}

START_TEST(a_large_answer_comes_whole_through_another_host_or_is_seen_to_be_cut)
{
    served_vms(served, "web", 700);
    ck_assert_int_eq(get("/v1/vms?limit=1000&full=true"), 200);
    ck_assert_uint_gt(reply.size, 2 * EXCHANGE_QUEUE_MAX);
    ck_assert_uint_eq(item_count(), 700);
    ck_assert_uint_eq(strtoul(header("Content-Length"), NULL, 10), reply.size);

    served_do(served, lose_after_64k, NULL);
    int fd = connect_local();
    ck_assert(say(fd, "GET /v1/vms?limit=1000&full=true HTTP/1.1\r\nHost: x\r\n\r\n"));
    char *head = hear(fd, "\r\n\r\n");
    served_do(served, lose, NULL);
    char *rest = hear(fd, NULL); /* the connection was kept alive: it ends by the fault */
    size_t told = strtoul(strstr(head, "Content-Length: ") + 16, NULL, 10);
    ck_assert_uint_gt(told, 2 * EXCHANGE_QUEUE_MAX);
    ck_assert_uint_le(strlen(head) + strlen(rest), 65536 + 1024);
    free(head);
    free(rest);
    (void)close(fd);
}
END_TEST

START_TEST(a_request_that_was_forwarded_goes_no_further)
{
    served_do(served, follow, NULL); /* the leader has lost it meanwhile */
    (void)get("/v1/hosts");

    assert_problem(503, "BERTH_ENOTLEADER");
    ck_assert_uint_eq(counted(served_forwarded), 1);
}
END_TEST

START_TEST(who_cannot_judge_tokens_takes_no_uploads_by_token)
{
    served_token(served, "ana", "ana", ROLE_ADMIN, "", 0);
    (void)ask("POST", "/v1/blobs", "Authorization: Bearer ana\r\n", "hello");
    assert_problem(503, "BERTH_ENOTLEADER");
    ck_assert_contains(said("detail"), "one of the voters");
    (void)ask("POST", "/v1/blobs?url=x&sha256=" SHA, "Authorization: Bearer ana\r\n",
              NULL);
    assert_problem(503, "BERTH_ENOTLEADER");
    ck_assert_int_eq(ask("POST", "/v1/blobs", "", "hello"), 201); /* root of the host */
}
END_TEST

START_TEST(who_cannot_judge_tokens_asks_the_leader_who_reads_metrics)
{
    served_token(served, "prom", "prom", ROLE_VIEWER, "", 0);
    served_token(served, "ana", "ana", ROLE_ADMIN, "default", 0);
    ck_assert_int_eq(ask("GET", "/metrics", "Authorization: Bearer prom\r\n", NULL), 200);
    ck_assert_contains(reply.body, "berth_build_info");
    (void)ask("GET", "/metrics", "Authorization: Bearer ana\r\n", NULL);
    assert_problem(403, "BERTH_EFORBIDDEN");
    (void)ask("GET", "/metrics", "Authorization: Bearer none\r\n", NULL);
    assert_problem(401, "BERTH_EAUTH");
    ck_assert_uint_eq(counted(served_forwarded), 3);
    ck_assert_int_eq(ask("GET", "/metrics", "Authorization: Bearer prom\r\n", NULL), 200);
    ck_assert_int_eq(get("/metrics"), 200); /* root of the host */
    ck_assert_uint_eq(counted(served_forwarded), 3);
}
END_TEST

/* ---- root of a host that has no part in the log ---- */

#define SHOP_VM                                                                          \
    "{\"objects\":["                                                                     \
    "{\"apiVersion\":\"berth/"                                                           \
    "v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":\"shop\"}},"                        \
    "{\"apiVersion\":\"berth/"                                                           \
    "v1\",\"kind\":\"Template\",\"metadata\":{\"name\":\"small\","                       \
    "\"tenant\":\"shop\"},\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":\"64MiB\"}" \
    "}},"                                                                                \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"VM\",\"metadata\":{\"name\":\"jump\","      \
    "\"tenant\":\"shop\"},\"spec\":{\"template\":{\"name\":\"small\"}}}]}"

static const char *vm_host; /* where it is */

static void find_vm(struct served *server, void *context)
{
    const struct vm *vm = state_get(served_state(server), KIND_VM, "shop", "jump");
    (void)context;
    vm_host = vm->status.host != 0
                  ? state_host(served_state(server), vm->status.host)->meta.name
                  : NULL;
}

/* Only the first host carries the log, so its VM has to go. */
static void forwarded_by(struct served *server, void *context)
{
    served_knobs(server)->forwarder = context;
}

static void placed_on_a_worker(void)
{
    ck_assert_int_eq(ask("POST", "/v1/hosts/h1:drain", "", NULL), 200);
    ck_assert_int_eq(ask("POST", "/v1/apply", "", SHOP_VM), 200);
    for (vm_host = NULL; vm_host == NULL;) {
        served_do(served, find_vm, NULL);
    }
}

START_TEST(root_of_a_worker_sees_its_vms_and_drains_its_host)
{
    char path[64];
    placed_on_a_worker();
    const char *other = strcmp(vm_host, "h2") == 0 ? "h3" : "h2";
    served_do(served, forwarded_by, (void *)(uintptr_t)vm_host);

    ck_assert_int_eq(get("/v1/self"), 200);
    ck_assert_int_eq(strncmp(said("subject"), "root:", 5), 0);
    ck_assert_str_eq(said("clusterRole"), "");
    ck_assert_int_eq(get("/v1/hosts"), 200);
    ck_assert_uint_eq(item_count(), 3);
    ck_assert_int_eq(get("/v1/vms"), 200);
    ck_assert_uint_eq(item_count(), 1);
    ck_assert_int_eq(get(T "/vms/jump"), 200);
    ck_assert_int_eq(get(T "/vms/jump/console"), 200);
    snprintf(path, sizeof(path), "/v1/hosts/%s:drain", vm_host);
    ck_assert_int_eq(ask("POST", path, "", NULL), 200);
    snprintf(path, sizeof(path), "/v1/hosts/%s:drain", other);
    ck_assert_int_eq(ask("POST", path, "", NULL), 403);
}
END_TEST

START_TEST(root_of_a_worker_may_nothing_else)
{
    char path[64];
    placed_on_a_worker();
    const char *other = strcmp(vm_host, "h2") == 0 ? "h3" : "h2";
    served_do(served, forwarded_by, (void *)(uintptr_t)vm_host);

    snprintf(path, sizeof(path), "/v1/hosts/%s:label", vm_host); /* VMs go by labels */
    ck_assert_int_eq(ask("POST", path, "", "{\"labels\":{\"secure\":\"yes\"}}"), 403);
    ck_assert_contains(said("detail"), "may drain and undrain its own host");

    ck_assert_int_eq(ask("POST", T "/vms/jump:stop", "", NULL), 403);
    assert_problem(403, "BERTH_EFORBIDDEN");
    ck_assert_contains(said("hint"), "berth login");
    ck_assert_int_eq(ask("DELETE", T "/vms/jump", "", NULL), 403);
    ck_assert_int_eq(get(T "/templates/small"), 403);
    ck_assert_int_eq(get(T "/templates/none"), 403); /* as if it were there */
    ck_assert_int_eq(get(T "/vms/none/console"), 403);
    ck_assert_int_eq(ask("POST", "/v1/join-tokens", "", "{}"), 403);
    ck_assert_int_eq(ask("POST", "/v1/tokens", "", "{\"name\":\"x\"}"), 403);
    ck_assert_int_eq(ask("POST", "/v1/apply", "", SHOP_VM), 403);
    ck_assert_contains(said("hint"), "berth login"); /* why, not object by object */
    ck_assert_int_eq(get("/v1/tokens"), 403);
    served_do(served, forwarded_by, (void *)(uintptr_t)other);
    ck_assert_int_eq(get("/v1/vms"), 200);
    ck_assert_uint_eq(item_count(), 0);
    ck_assert_int_eq(get(T "/vms/jump"), 403);
    ck_assert_int_eq(get(T "/vms/jump/console"), 403);
}
END_TEST

/* ---- what no honest host sends on ---- */

static struct {
    int status;
    unsigned full; /* answers that said: too much */
    bool released;
} local;

static void local_head(void *sink,
                       int status,
                       const char *content_type,
                       const struct exchange_header *headers,
                       unsigned header_count)
{
    (void)sink;
    (void)content_type;
    (void)headers;
    (void)header_count;
    local.status = status;
    local.full += status == 429 ? 1 : 0;
}

static int local_data(void *sink, const void *data, size_t size)
{
    (void)sink;
    (void)data;
    (void)size;
    return 0;
}

static void local_end(void *sink)
{
    (void)sink;
}

static void local_released(void *sink)
{
    (void)sink;
    local.released = true;
}

static void fetch_from_afar(struct served *server, void *context)
{
    static const struct exchange_sink sink = {.head = local_head,
                                              .data = local_data,
                                              .end = local_end,
                                              .released = local_released};
    struct exchange_request request = {.method = "POST",
                                       .path = strdup("/v1/blobs"),
                                       .query = strdup("url=http://x/y&sha256=" SHA),
                                       .credentials = {.local_root = true}};
    struct exchange *exchange = exchange_new(&request, &sink, NULL);
    (void)context;
    served_arrives(server, exchange);
    exchange_unref(exchange);
}

START_TEST(what_a_host_answers_by_itself_is_not_taken_from_another_host)
{
    memset(&local, 0, sizeof(local));

    served_do(served, fetch_from_afar, NULL);

    ck_assert_int_eq(local.status, 403);
    ck_assert(local.released);
}
END_TEST

static void crowd_by(struct served *server, const char *secret, unsigned count)
{
    static const struct exchange_sink sink = {.head = local_head,
                                              .data = local_data,
                                              .end = local_end,
                                              .released = local_released};
    served_knobs(server)->hold_reads = true;
    for (unsigned i = 0; i < count; i++) {
        struct exchange_request request = {.method = "GET",
                                           .path = strdup("/v1/vms"),
                                           .query = strdup(""),
                                           .credentials = {.local_root = true}};
        if (secret != NULL) {
            request.credentials = (struct exchange_credentials){.has_token = true};
            digest_of(secret, strlen(secret), &request.credentials.token_hash);
        } else {
            request.credentials.forwarder = 7;
        }
        struct exchange *exchange = exchange_new(&request, &sink, NULL);
        served_arrives(server, exchange);
        exchange_unref(exchange);
    }
}

static void crowd_of(struct served *server, void *context)
{
    crowd_by(server, context, 260);
}

static void crowd_from_a_host(struct served *server, void *context)
{
    (void)context;
    crowd_by(server, NULL, 515);
}

START_TEST(one_host_does_not_take_every_place)
{
    memset(&local, 0, sizeof(local));
    served_do(served, crowd_from_a_host, NULL);
    ck_assert_uint_eq(local.full, 3);
    served_do(served, crowd_of, (void *)(uintptr_t) "ana");
    ck_assert_uint_eq(local.full, 3 + 4);
}
END_TEST

START_TEST(one_token_does_not_take_every_place)
{
    memset(&local, 0, sizeof(local));
    served_do(served, crowd_of, (void *)(uintptr_t) "ana");
    ck_assert_uint_eq(local.full, 4);
    served_do(served, crowd_of, (void *)(uintptr_t) "bob");
    ck_assert_uint_eq(local.full, 8); /* four of each, and no more */
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("router", &tests);
    TCase *roles = tcase_create("roles");
    TCase *front = tcase_create("front");
    tcase_add_test(tests, what_cannot_be_answered_now_says_when_to_come_again);
    tcase_add_test(tests, a_barrier_that_is_never_passed_is_answered_for);
    tcase_add_test(tests,
                   a_write_needs_no_barrier_for_the_log_takes_it_from_a_leader_alone);
    tcase_add_loop_test(tests, a_write_is_refused_behind_a_barrier_only, 0, 2);
    tcase_add_test(tests, one_token_does_not_take_every_place);
    tcase_add_test(tests, one_host_does_not_take_every_place);
    tcase_add_checked_fixture(roles, roles_start, fixture_stop);
    tcase_add_test(roles, every_role_gets_through_every_route_as_it_should);
    tcase_add_test(roles, the_grid_has_a_row_for_every_route);
    tcase_add_test(roles, a_token_is_judged_also_where_root_would_get_in);
    tcase_add_test(roles, an_unknown_parameter_is_refused_on_every_route);
    tcase_set_timeout(roles, 300);
    suite_add_tcase(suite, roles);
    tcase_add_checked_fixture(front, start_front, fixture_stop);
    tcase_add_test(front, a_host_that_does_not_lead_answers_as_the_leader_does);
    tcase_add_test(front,
                   a_large_answer_comes_whole_through_another_host_or_is_seen_to_be_cut);
    tcase_add_test(front, a_request_that_was_forwarded_goes_no_further);
    tcase_add_test(front, who_cannot_judge_tokens_takes_no_uploads_by_token);
    tcase_add_test(front, who_cannot_judge_tokens_asks_the_leader_who_reads_metrics);
    tcase_add_test(front, root_of_a_worker_sees_its_vms_and_drains_its_host);
    tcase_add_test(front, root_of_a_worker_may_nothing_else);
    tcase_add_test(front, what_a_host_answers_by_itself_is_not_taken_from_another_host);
    tcase_set_timeout(front, 300);
    suite_add_tcase(suite, front);
    return test_main_run(suite);
}
