#include "net/mesh_key.h"
#include "support/test_main.h"

#include <zmq.h>

#include <string.h>

START_TEST(a_public_key_is_the_one_that_zeromq_would_derive)
{
    struct mesh_key secret;
    struct mesh_key public;
    uint8_t zeromq_public[MESH_KEY_SIZE];
    char secret_z85[41];
    char public_z85[41];
    mesh_key_generate(&secret);
    mesh_key_public(&secret, &public);
    ck_assert_ptr_nonnull(zmq_z85_encode(secret_z85, secret.bytes, MESH_KEY_SIZE));
    ck_assert_int_eq(zmq_curve_public(public_z85, secret_z85), 0);
    ck_assert_ptr_nonnull(zmq_z85_decode(zeromq_public, public_z85));
    ck_assert_mem_eq(public.bytes, zeromq_public, MESH_KEY_SIZE);
}
END_TEST

START_TEST(two_keys_differ_and_a_wiped_one_is_gone)
{
    struct mesh_key a;
    struct mesh_key b;
    const struct mesh_key zero = {{0}};
    mesh_key_generate(&a);
    mesh_key_generate(&b);
    ck_assert(!mesh_key_equal(&a, &b));
    mesh_key_wipe(&a);
    ck_assert(mesh_key_equal(&a, &zero));
}
END_TEST

START_TEST(a_keys_text_reads_back_and_other_texts_do_not)
{
    struct mesh_key key;
    struct mesh_key back;
    char text[MESH_KEY_HEX_SIZE];
    mesh_key_generate(&key);
    mesh_key_format(&key, text);
    ck_assert_int_eq(mesh_key_parse(text, &back), 0);
    ck_assert(mesh_key_equal(&key, &back));
    text[MESH_KEY_HEX_SIZE - 2] = '\0';
    ck_assert_int_eq(mesh_key_parse(text, &back), BERTH_EINVALID);
    ck_assert_int_eq(mesh_key_parse("", &back), BERTH_EINVALID);
}
END_TEST

static const char *const good[] = {"10.0.0.7:7440", "0.0.0.0:0", "127.0.0.1:65535",
                                   "[fd00::7]:7440", "[::]:1"};

START_TEST(an_address_reads_and_prints_the_same)
{
    struct mesh_address address;
    char text[MESH_ADDRESS_SIZE];
    ck_assert_int_eq(mesh_address_parse(good[_i], &address, NULL), 0);
    mesh_address_format(&address, text);
    ck_assert_str_eq(text, good[_i]);
}
END_TEST

static const char *const bad[] = {
    "",
    "10.0.0.7",
    "10.0.0.7:",
    "10.0.0.7:65536",
    "10.0.0.7:-1",
    "host:1",
    "10.0.0:1",
    "[fd00::7]",
    "[fd00::7:1",
    "fd00::7:1",
    "[1.2.3.4]:1",
    "1.2.3.4:1x",
    " 1.2.3.4:1",
    "*:1",
    "1.2.3.4:1;tcp://x:2",
    "[fd00:0000:0000:0000:0000:0000:0000:0000:0000:0007]:1",
};

START_TEST(an_address_that_is_not_one_is_refused_with_an_example)
{
    struct mesh_address address;
    struct err err = {0};
    ck_assert_int_eq(mesh_address_parse(bad[_i], &address, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "10.0.0.7:7440"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mesh_key");
    TCase *c = tcase_create("mesh_key");
    tcase_add_test(c, a_public_key_is_the_one_that_zeromq_would_derive);
    tcase_add_test(c, two_keys_differ_and_a_wiped_one_is_gone);
    tcase_add_test(c, a_keys_text_reads_back_and_other_texts_do_not);
    tcase_add_loop_test(c, an_address_reads_and_prints_the_same, 0,
                        sizeof(good) / sizeof(good[0]));
    tcase_add_loop_test(c, an_address_that_is_not_one_is_refused_with_an_example, 0,
                        sizeof(bad) / sizeof(bad[0]));
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
