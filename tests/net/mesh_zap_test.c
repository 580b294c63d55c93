/* The ZAP handler asked directly, as libzmq asks it: a request goes in, a verdict comes
 * out. */
#include "net/mesh_zap.h"
#include "support/test_main.h"

#include <czmq.h>

#include <string.h>

static const struct mesh_key alice = {{1, 1}};
static const struct mesh_key bob = {{2, 2}};

struct verdict {
    char status[8];
    char user_id[MESH_KEY_HEX_SIZE];
};

static struct verdict
ask(const char *domain, const char *mechanism, const void *key, size_t key_size)
{
    struct verdict verdict = {{0}, {0}};
    zsock_t *socket = zsock_new_req(">inproc://zeromq.zap.01");
    ck_assert_ptr_nonnull(socket);
    zmsg_t *request = zmsg_new();
    zmsg_addstr(request, "1.0");
    zmsg_addstr(request, "77");
    zmsg_addstr(request, domain);
    zmsg_addstr(request, "10.0.0.7");
    zmsg_addstr(request, "alice, honestly");
    zmsg_addstr(request, mechanism);
    zmsg_addmem(request, key, key_size);
    ck_assert_int_eq(zmsg_send(&request, socket), 0);
    zmsg_t *reply = zmsg_recv(socket);
    ck_assert_ptr_nonnull(reply);
    ck_assert_uint_eq(zmsg_size(reply), 6);
    ck_assert(zframe_streq(zmsg_first(reply), "1.0"));
    ck_assert(zframe_streq(zmsg_next(reply), "77"));
    zframe_t *status = zmsg_next(reply);
    memcpy(verdict.status, zframe_data(status), zframe_size(status));
    (void)zmsg_next(reply);
    zframe_t *user = zmsg_next(reply);
    ck_assert_uint_lt(zframe_size(user), sizeof(verdict.user_id));
    memcpy(verdict.user_id, zframe_data(user), zframe_size(user));
    zmsg_destroy(&reply);
    zsock_destroy(&socket);
    return verdict;
}

static bool admits(const char *domain, const struct mesh_key *key)
{
    const struct verdict verdict = ask(domain, "CURVE", key->bytes, MESH_KEY_SIZE);
    char hex[MESH_KEY_HEX_SIZE];
    mesh_key_format(key, hex);
    if (strcmp(verdict.status, "200") == 0) {
        ck_assert_str_eq(verdict.user_id, hex);
        return true;
    }
    ck_assert_str_eq(verdict.status, "400"); /* never 300, which makes clients hang */
    ck_assert_str_eq(verdict.user_id, "");
    return false;
}

START_TEST(only_members_are_admitted_and_only_while_they_are)
{
    struct mesh_zap *zap = mesh_zap_open(NULL);
    const char *domain = mesh_zap_member_domain(zap);
    ck_assert(!admits(domain, &alice));
    const struct mesh_key both[] = {bob, alice, bob};
    ck_assert_int_eq(mesh_zap_members_set(zap, both, 3, NULL), 0);
    ck_assert(admits(domain, &alice));
    ck_assert(admits(domain, &bob));
    ck_assert(mesh_zap_is_member(zap, &alice));
    ck_assert_int_eq(mesh_zap_members_set(zap, &bob, 1, NULL), 0);
    ck_assert(!admits(domain, &alice));
    ck_assert(!mesh_zap_is_member(zap, &alice));
    ck_assert_int_eq(mesh_zap_members_set(zap, NULL, 0, NULL), 0);
    ck_assert(!admits(domain, &bob));
    ck_assert_uint_eq(mesh_zap_counts(zap).admitted, 2);
    ck_assert_uint_eq(mesh_zap_counts(zap).refused, 3);
    mesh_zap_close(zap);
}
END_TEST

START_TEST(guests_are_admitted_to_the_join_domain_while_they_are_allowed)
{
    struct mesh_zap *zap = mesh_zap_open(NULL);
    const char *domain = mesh_zap_guest_domain(zap);
    ck_assert(!admits(domain, &alice));
    mesh_zap_guests_allow(zap, true);
    ck_assert(admits(domain, &alice));
    ck_assert(!admits(mesh_zap_member_domain(zap), &alice));
    mesh_zap_guests_allow(zap, false);
    ck_assert(!admits(domain, &alice));
    /* Being a member is no key to the join door either. */
    ck_assert_int_eq(mesh_zap_members_set(zap, &alice, 1, NULL), 0);
    ck_assert(!admits(domain, &alice));
    mesh_zap_close(zap);
}
END_TEST

START_TEST(doors_of_one_process_do_not_share_their_tables)
{
    struct mesh_zap *first = mesh_zap_open(NULL);
    struct mesh_zap *second = mesh_zap_open(NULL);
    ck_assert_int_eq(mesh_zap_members_set(first, &alice, 1, NULL), 0);
    ck_assert_int_eq(mesh_zap_members_set(second, &bob, 1, NULL), 0);
    ck_assert(admits(mesh_zap_member_domain(first), &alice));
    ck_assert(!admits(mesh_zap_member_domain(first), &bob));
    ck_assert(!admits(mesh_zap_member_domain(second), &alice));
    char gone[MESH_ZAP_DOMAIN_SIZE];
    (void)strcpy(gone, mesh_zap_member_domain(first));
    mesh_zap_close(first);
    ck_assert(!admits(gone, &alice));
    ck_assert(admits(mesh_zap_member_domain(second), &bob));
    mesh_zap_close(second);
}
END_TEST

START_TEST(the_handler_starts_again_right_after_the_last_door_was_closed)
{
    for (unsigned i = 0; i < 200; i++) {
        struct err err = {0};
        struct mesh_zap *zap = mesh_zap_open(&err);
        ck_assert_msg(zap != NULL, "%s", err.text);
        if (i % 50 == 0) {
            ck_assert(!admits(mesh_zap_member_domain(zap), &alice));
        }
        mesh_zap_close(zap);
    }
}
END_TEST

START_TEST(other_mechanisms_keys_of_other_sizes_and_unknown_domains_are_refused)
{
    static const uint8_t many[200] = {1, 1};
    struct mesh_zap *zap = mesh_zap_open(NULL);
    const char *domain = mesh_zap_guest_domain(zap);
    mesh_zap_guests_allow(zap, true);
    ck_assert_str_eq(ask(domain, "NULL", "", 0).status, "400");
    ck_assert_str_eq(ask(domain, "PLAIN", alice.bytes, MESH_KEY_SIZE).status, "400");
    ck_assert_str_eq(ask(domain, "CURVE", many, 0).status, "400");
    ck_assert_str_eq(ask(domain, "CURVE", many, 31).status, "400");
    ck_assert_str_eq(ask(domain, "CURVE", many, sizeof(many)).status, "400");
    ck_assert_str_eq(ask("", "CURVE", alice.bytes, MESH_KEY_SIZE).status, "400");
    ck_assert_str_eq(ask("a domain with a name that is far longer than any of ours",
                         "CURVE", alice.bytes, MESH_KEY_SIZE)
                         .status,
                     "400");
    ck_assert(admits(domain, &alice));
    mesh_zap_close(zap);
}
END_TEST

START_TEST(a_table_over_the_limit_is_refused_and_the_old_one_stands)
{
    static struct mesh_key keys[MESH_MEMBERS_MAX + 1];
    struct mesh_zap *zap = mesh_zap_open(NULL);
    struct err err = {0};
    ck_assert_int_eq(mesh_zap_members_set(zap, &alice, 1, NULL), 0);
    ck_assert_int_eq(mesh_zap_members_set(zap, keys, MESH_MEMBERS_MAX + 1, &err),
                     BERTH_ETOOLARGE);
    ck_assert(mesh_zap_is_member(zap, &alice));
    ck_assert_int_eq(mesh_zap_members_set(zap, keys, MESH_MEMBERS_MAX, &err), 0);
    ck_assert(!mesh_zap_is_member(zap, &alice));
    mesh_zap_close(zap);
    ck_assert_ptr_null(mesh_zap_close(NULL));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mesh_zap");
    TCase *c = tcase_create("mesh_zap");
    tcase_set_timeout(c, 20);
    tcase_add_test(c, only_members_are_admitted_and_only_while_they_are);
    tcase_add_test(c, guests_are_admitted_to_the_join_domain_while_they_are_allowed);
    tcase_add_test(c, doors_of_one_process_do_not_share_their_tables);
    tcase_add_test(c, the_handler_starts_again_right_after_the_last_door_was_closed);
    tcase_add_test(c,
                   other_mechanisms_keys_of_other_sizes_and_unknown_domains_are_refused);
    tcase_add_test(c, a_table_over_the_limit_is_refused_and_the_old_one_stands);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
