/* Goal: who may do what, as one matrix that can be read against the rules in the header.
 * Method: a small state with two tenants and one token per kind of role. */
#include "api/subject.h"
#include "base/cleanup.h"
#include "model/command.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

#define EXPIRES_WALL_MS 5000
#define ck_assert_contains(text, part) \
    ck_assert_msg(strstr(text, part) != NULL, "%s", text)

static struct state *state;
static uint64_t hosts[2]; /* h1 carries the log, h2 does not */

static void put(enum kind kind, void *object)
{
    struct command command;
    struct apply_result result;
    command_init(&command, COMMAND_PUT);
    command.wall_ms = 1000;
    snprintf(command.subject, sizeof(command.subject), "system");
    ck_assert_int_eq(command_set_put(&command, kind, object, REVISION_ANY), 0);
    state_apply(state, &command, &result);
    ck_assert_msg(result.code == 0, "%s", result.text);
    command_fini(&command);
    object_free(kind, object);
}

static void put_tenant(const char *name, const struct member *members, unsigned count)
{
    struct tenant *tenant = object_new(KIND_TENANT);
    struct record_list list = {0};
    snprintf(tenant->meta.name, NAME_SIZE, "%s", name);
    for (unsigned i = 0; i < count; i++) {
        struct member *member = record_list_add(&member_record, &list);
        ck_assert_int_eq(record_set_text(&member->subject, members[i].subject), 0);
        member->role = members[i].role;
    }
    tenant->spec.members.items = list.items;
    tenant->spec.members.count = list.count;
    put(KIND_TENANT, tenant);
}

/* In the matrix a column is one question, and the answer is y, n (forbidden) or - (as if
 * it were not there). */
static const struct question {
    enum access_verb verb;
    enum kind kind;
    const char *tenant;
    const char *name;
} questions[] = {
    {ACCESS_READ, KIND_VM, "shop", "a"},      {ACCESS_WRITE, KIND_VM, "shop", "a"},
    {ACCESS_READ, KIND_VM, "bank", "a"},      {ACCESS_WRITE, KIND_VM, "bank", "a"},
    {ACCESS_READ, KIND_HOST, "", "h1"},       {ACCESS_WRITE, KIND_HOST, "", "h1"},
    {ACCESS_READ, KIND_OPERATION, "", "o"},   {ACCESS_WRITE, KIND_OPERATION, "", "o"},
    {ACCESS_READ, KIND_TOKEN, "", "t"},       {ACCESS_WRITE, KIND_TOKEN, "", "t"},
    {ACCESS_READ, KIND_IMAGE, "", "linux"},   {ACCESS_WRITE, KIND_IMAGE, "", "linux"},
    {ACCESS_READ, KIND_TENANT, "", "shop"},   {ACCESS_WRITE, KIND_TENANT, "", "shop"},
    {ACCESS_READ, KIND_TENANT, "", "bank"},   {ACCESS_WRITE, KIND_TENANT, "", "bank"},
    {ACCESS_READ, KIND_TENANT, "", NULL},     {ACCESS_WRITE, KIND_TENANT, "", NULL},
    {ACCESS_READ, KIND_TENANT, "", "no-such"}};

/* Columns in pairs, read and write: VM in shop, VM in bank; host, operation, token, image
 * of the cluster; tenant shop, tenant bank, tenants as a whole; last a tenant that is
 * not there. */
static const struct row {
    const char *token;
    enum role role;
    const char *tenant;
    const char *answers;
    bool upload;
} rows[] = {
    {"all-admin", ROLE_ADMIN, "", "yyyy yyyyyyyy yyyyyy y", true},
    {"all-operator", ROLE_OPERATOR, "", "yyyy ynynnnyn ynynyn y", true},
    {"all-viewer", ROLE_VIEWER, "", "ynyn ynynnnyn ynynyn y", false},
    {"shop-admin", ROLE_ADMIN, "shop", "yy-- nnnnnnyn yn--yn -", true},
    {"shop-operator", ROLE_OPERATOR, "shop", "yy-- nnnnnnyn yn--yn -", true},
    {"shop-viewer", ROLE_VIEWER, "shop", "yn-- nnnnnnyn yn--yn -", false},
    {"guest", ROLE_VIEWER, "bank", "yyyn nnnnnnyn ynynyn -", true},    /* and member */
    {"helper", ROLE_VIEWER, "", "yyyn ynynnnyn ynynyn y", true},       /* and member */
    {"demoted", ROLE_OPERATOR, "shop", "yy-- nnnnnnyn yn--yn -", true} /* the stronger */
};

static struct exchange_credentials credentials_of(uint8_t hash)
{
    struct exchange_credentials credentials = {.has_token = true};
    memset(credentials.token_hash.bytes, hash, DIGEST_SIZE);
    return credentials;
}

static void put_token(const struct row *row, uint8_t hash, uint64_t expires_wall_ms)
{
    struct token *token = object_new(KIND_TOKEN);
    snprintf(token->meta.name, NAME_SIZE, "%s", row->token);
    snprintf(token->spec.tenant, NAME_SIZE, "%s", row->tenant);
    token->spec.role = row->role;
    token->spec.expires_wall_ms = expires_wall_ms;
    memset(token->spec.hash.bytes, hash, DIGEST_SIZE);
    put(KIND_TOKEN, token);
}

static uint64_t add_host(const char *name, uint8_t key, uint8_t token_hash)
{
    struct command command;
    struct apply_result result;
    command_init(&command, COMMAND_HOST_JOIN);
    snprintf(command.subject, sizeof(command.subject), "system");
    command.request_id[0] = key;
    snprintf(command.body.host_join.name, NAME_SIZE, "%s", name);
    memset(command.body.host_join.token_hash.bytes, token_hash, DIGEST_SIZE);
    memset(command.body.host_join.status.public_key.bytes, key, DIGEST_SIZE);
    command.body.host_join.status.address = UINT32_C(0x0a630000) | key; /* 10.99.0.key */
    command.body.host_join.status.cpu_mcpu = 1000;
    command.body.host_join.status.memory_bytes = GIB;
    state_apply(state, &command, &result);
    ck_assert_msg(result.code == 0, "%s", result.text);
    command_fini(&command);
    return result.uid;
}

static void setup(void)
{
    char guest[] = "token:guest", helper[] = "token:helper", demoted[] = "token:demoted";
    const struct member members[] = {{.subject = guest, .role = ROLE_OPERATOR},
                                     {.subject = helper, .role = ROLE_OPERATOR},
                                     {.subject = demoted, .role = ROLE_VIEWER}};
    static const struct row join = {.token = "h2", .role = ROLE_JOIN, .tenant = ""};
    state = state_new(NULL, NULL);
    hosts[0] = add_host("h1", 1, 0);
    put_token(&join, 0xee, 0);
    hosts[1] = add_host("h2", 2, 0xee);
    put_tenant("shop", members, ARRAY_COUNT(members));
    put_tenant("bank", NULL, 0);
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        put_token(&rows[i], (uint8_t)(i + 1), 0);
    }
}

static void teardown(void)
{
    state = state_free(state);
}

static void assert_answers(const struct subject *subject, const char *answers)
{
    char got[64] = "";
    for (unsigned i = 0; i < ARRAY_COUNT(questions); i++) {
        const struct question *ask = &questions[i];
        int r = subject_may(state, subject, ask->verb, ask->kind, ask->tenant, ask->name);
        ck_assert(r == 0 || r == BERTH_EFORBIDDEN || r == BERTH_ENOTFOUND);
        bool gap = i == 4 || i == 12 || i == 18;
        strcat(got, gap ? " " : "");
        strcat(got, r == 0 ? "y" : r == BERTH_EFORBIDDEN ? "n" : "-");
    }
    ck_assert_str_eq(got, answers);
}

START_TEST(a_token_may_what_its_row_says)
{
    struct exchange_credentials credentials = credentials_of((uint8_t)(_i + 1));
    struct subject subject;
    char name[SUBJECT_SIZE];
    snprintf(name, sizeof(name), "token:%s", rows[_i].token);

    ck_assert_int_eq(subject_authenticate(state, &credentials, 1, &subject), 0);
    ck_assert_str_eq(subject.name, name);
    assert_answers(&subject, rows[_i].answers);
    ck_assert_int_eq(subject_may_upload(state, &subject), rows[_i].upload);
}
END_TEST

START_TEST(root_of_a_host_may_all_unless_it_shows_a_token)
{
    struct exchange_credentials root = {.local_root = true};
    struct exchange_credentials weaker = credentials_of(3);
    struct subject subject;

    ck_assert_int_eq(subject_authenticate(state, &root, 1, &subject), 0);
    ck_assert_str_eq(subject.name, "root");
    assert_answers(&subject, rows[0].answers);
    weaker.local_root = true;
    ck_assert_int_eq(subject_authenticate(state, &weaker, 1, &subject), 0);
    assert_answers(&subject, rows[2].answers);
}
END_TEST

START_TEST(root_that_another_host_vouches_for_is_as_good_as_that_host)
{
    struct exchange_credentials root = {.local_root = true, .forwarder = hosts[0]};
    struct subject subject;

    ck_assert_int_eq(subject_authenticate(state, &root, 1, &subject), 0);
    ck_assert_str_eq(subject.name, "root");
    assert_answers(&subject, rows[0].answers);
    ck_assert_int_eq(subject_check_upload(state, &root, 1), BERTH_EFORBIDDEN);

    root.forwarder = hosts[1];
    ck_assert_int_eq(subject_authenticate(state, &root, 1, &subject), 0);
    ck_assert_str_eq(subject.name, "root:h2");
    assert_answers(&subject, "nnnn ynnnnnnn nnnnnn n");
    ck_assert(!subject_may_upload(state, &subject));
    ck_assert(subject_is_root_of(&subject, state_host(state, hosts[1])));
    ck_assert(!subject_is_root_of(&subject, state_host(state, hosts[0])));

    root.forwarder = 4711; /* was removed */
    ck_assert_int_eq(subject_authenticate(state, &root, 1, &subject), BERTH_EAUTH);
}
END_TEST

START_TEST(a_token_is_as_good_from_any_host)
{
    struct exchange_credentials shown = credentials_of(1);
    struct subject subject;
    shown.local_root = true;
    shown.forwarder = hosts[1];

    ck_assert_int_eq(subject_authenticate(state, &shown, 1, &subject), 0);
    assert_answers(&subject, rows[0].answers);
    ck_assert(!subject_is_root_of(&subject, state_host(state, hosts[1])));
}
END_TEST

START_TEST(a_token_decides_over_an_upload_even_on_the_host_itself)
{
    struct exchange_credentials root = {.local_root = true};
    struct exchange_credentials stranger = credentials_of(0x77);
    struct exchange_credentials shown = credentials_of((uint8_t)(_i + 1));
    int expected = rows[_i].upload ? 0 : BERTH_EFORBIDDEN;

    for (unsigned local = 0; local < 2; local++) {
        shown.local_root = local != 0;
        stranger.local_root = local != 0;
        ck_assert_int_eq(subject_check_upload(state, &shown, 1), expected);
        ck_assert_int_eq(subject_check_upload(NULL, &shown, 1), BERTH_ENOTLEADER);
        ck_assert_int_eq(subject_check_upload(state, &stranger, 1), BERTH_EAUTH);
    }
    ck_assert_int_eq(subject_check_upload(NULL, &root, 1), 0);
}
END_TEST

START_TEST(who_is_not_known_is_not_authenticated)
{
    static const struct row join = {.token = "join", .role = ROLE_JOIN, .tenant = ""};
    struct exchange_credentials nothing = {0};
    struct exchange_credentials zero = credentials_of(0);
    struct exchange_credentials stranger = credentials_of(0x77);
    struct exchange_credentials joining = credentials_of(0x55);
    struct subject subject;
    put_token(&join, 0x55, 0);

    ck_assert_int_eq(subject_authenticate(state, &nothing, 1, &subject), BERTH_EAUTH);
    ck_assert_int_eq(subject_authenticate(state, &zero, 1, &subject), BERTH_EAUTH);
    ck_assert_int_eq(subject_authenticate(state, &joining, 1, &subject), BERTH_EAUTH);
    stranger.local_root = true; /* a wrong token is not forgiven to root either */
    ck_assert_int_eq(subject_authenticate(state, &stranger, 1, &subject), BERTH_EAUTH);
}
END_TEST

START_TEST(a_token_ends_at_its_millisecond)
{
    static const struct row brief = {"brief", ROLE_ADMIN, "", "", true};
    struct exchange_credentials credentials = credentials_of(0x66);
    struct subject subject;
    put_token(&brief, 0x66, EXPIRES_WALL_MS);

    ck_assert_int_eq(
        subject_authenticate(state, &credentials, EXPIRES_WALL_MS - 1, &subject), 0);
    ck_assert_uint_eq(subject.expires_wall_ms, EXPIRES_WALL_MS);
    ck_assert_int_eq(subject_authenticate(state, &credentials, EXPIRES_WALL_MS, &subject),
                     BERTH_EAUTH);
}
END_TEST

/* 10.99.0.0/24 holds the hosts. p: is not private, h: covers a host, l: is large. */
static const struct take {
    uint32_t address;
    uint32_t prefix_bits;
    char root, operator, tenant;
} takes[] = {
    {UINT32_C(0x0a000000), 24, 'y', 'y', 'y'}, /* 10.0.0.0 */
    {UINT32_C(0x0a000000), 19, 'y', 'y', 'l'},
    {UINT32_C(0x0a630000), 29, 'h', 'h', 'h'}, /* 10.99.0.0 */
    {UINT32_C(0x0a600000), 12, 'h', 'h', 'h'}, /* 10.96.0.0 */
    {UINT32_C(0x0a630008), 29, 'y', 'y', 'y'}, /* 10.99.0.8, beside them */
    {UINT32_C(0xac0ff000), 20, 'y', 'p', 'p'}, /* 172.15.240.0 */
    {UINT32_C(0xac100000), 20, 'y', 'y', 'y'}, /* 172.16.0.0 */
    {UINT32_C(0xac1ff000), 20, 'y', 'y', 'y'}, /* 172.31.240.0 */
    {UINT32_C(0xac200000), 20, 'y', 'p', 'p'}, /* 172.32.0.0 */
    {UINT32_C(0xac000000), 11, 'y', 'p', 'p'}, /* 172.0.0.0: partly */
    {UINT32_C(0xc0a80000), 24, 'y', 'y', 'y'}, /* 192.168.0.0 */
    {UINT32_C(0xc0a90000), 24, 'y', 'p', 'p'}, /* 192.169.0.0 */
    {UINT32_C(0x64400000), 20, 'y', 'y', 'y'}, /* 100.64.0.0 */
    {UINT32_C(0x64800000), 20, 'y', 'p', 'p'}, /* 100.128.0.0 */
    {UINT32_C(0xc6130000), 20, 'y', 'y', 'y'}, /* 198.19.0.0 */
    {UINT32_C(0xc6140000), 20, 'y', 'p', 'p'}, /* 198.20.0.0 */
    {UINT32_C(0x08080800), 24, 'y', 'p', 'p'}, /* 8.8.8.0 */
};

static void assert_takes(const struct subject *subject,
                         const struct take *take,
                         const struct network *there,
                         char answer)
{
    struct network wanted = {0};
    struct err err = {0};
    wanted.spec.ipv4.cidr = (uint64_t)take->address << 8 | take->prefix_bits;
    int r = subject_may_take(state, subject, there, &wanted, &err);
    ck_assert_int_eq(r, answer == 'y'   ? 0
                        : answer == 'h' ? BERTH_EINVALID
                                        : BERTH_EFORBIDDEN);
    if (answer == 'h') {
        ck_assert_contains(err.text, subject->cluster_role == ROLE_NONE
                                         ? "covers addresses of the cluster's hosts"
                                         : "covers 10.99.0.1, the address of host h1");
    } else if (answer == 'p') {
        ck_assert_contains(err.text, "is not private");
        ck_assert_contains(err.text, "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, "
                                     "100.64.0.0/10, 198.18.0.0/15, or ask an "
                                     "administrator of the cluster");
    } else if (answer == 'l') {
        ck_assert_contains(err.text, "larger than /20");
    }
}

START_TEST(a_network_takes_no_addresses_that_hosts_need)
{
    const struct take *take = &takes[_i];
    struct network there = {0};
    struct subject root = {.name = "root", .cluster_role = ROLE_ADMIN};
    struct subject operator= {.name = "token:o", .cluster_role = ROLE_OPERATOR};
    struct subject tenant = {
        .name = "token:t", .tenant = "shop", .tenant_role = ROLE_ADMIN};

    assert_takes(&root, take, NULL, take->root);
    assert_takes(&operator, take, NULL, take->operator);
    assert_takes(&tenant, take, NULL, take->tenant);
    assert_takes(&tenant, take, &there, take->tenant);
    there.spec.ipv4.cidr = (uint64_t)take->address << 8 | take->prefix_bits;
    assert_takes(&tenant, take, &there, 'y'); /* what was given stays */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("subject");
    TCase *tests = tcase_create("subject");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_token_may_what_its_row_says, 0, ARRAY_COUNT(rows));
    tcase_add_test(tests, root_of_a_host_may_all_unless_it_shows_a_token);
    tcase_add_test(tests, root_that_another_host_vouches_for_is_as_good_as_that_host);
    tcase_add_test(tests, a_token_is_as_good_from_any_host);
    tcase_add_loop_test(tests, a_token_decides_over_an_upload_even_on_the_host_itself, 0,
                        ARRAY_COUNT(rows));
    tcase_add_test(tests, who_is_not_known_is_not_authenticated);
    tcase_add_test(tests, a_token_ends_at_its_millisecond);
    tcase_add_loop_test(tests, a_network_takes_no_addresses_that_hosts_need, 0,
                        ARRAY_COUNT(takes));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
