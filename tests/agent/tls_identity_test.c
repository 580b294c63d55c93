/* Goal: whatever a crash, a move or the years left in the state folder, the listener gets
 * a key and a certificate that belong together, and clients that pinned the key stay
 * trusting. Method: the pair is handed to GnuTLS as the listener does. */
#include "agent/tls_identity.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WALL_MS 1790000000000u
#define DAY_MS  (UINT64_C(24) * 3600 * 1000)
#define ADDRESS 0x0a630001u

static struct temp_dir dir;
static struct tls_identity first; /* as the first start made it */

static struct tls_identity opened(const char *name, uint32_t address, uint64_t wall_ms)
{
    struct tls_identity identity;
    struct err err = {0};
    int r = tls_identity_open(dir.path, name, address, wall_ms, &identity, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    return identity;
}

static int refused(struct err *err)
{
    struct tls_identity identity;
    return tls_identity_open(dir.path, "h1", ADDRESS, WALL_MS, &identity, err);
}

static gnutls_datum_t datum(const char *text)
{
    return (gnutls_datum_t){.data = (unsigned char *)(uintptr_t)text,
                            .size = (unsigned)strlen(text)};
}

static void assert_a_listener_takes(const struct tls_identity *identity)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t key = datum(identity->key_pem);
    gnutls_datum_t certificate = datum(identity->certificate_pem);
    ck_assert_int_eq(gnutls_certificate_allocate_credentials(&credentials), 0);
    ck_assert_int_ge(gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key,
                                                         GNUTLS_X509_FMT_PEM),
                     0);
    gnutls_certificate_free_credentials(credentials);
}

static bool is_for(const struct tls_identity *identity, const char *name)
{
    gnutls_x509_crt_t certificate;
    gnutls_datum_t pem = datum(identity->certificate_pem);
    ck_assert_int_eq(gnutls_x509_crt_init(&certificate), 0);
    ck_assert_int_eq(gnutls_x509_crt_import(certificate, &pem, GNUTLS_X509_FMT_PEM), 0);
    bool match = gnutls_x509_crt_check_hostname(certificate, name) != 0;
    gnutls_x509_crt_deinit(certificate);
    return match;
}

static void assert_stored(const struct tls_identity *identity)
{
    char *key = temp_dir_read(&dir, "tls.key");
    char *certificate = temp_dir_read(&dir, "tls.crt");
    ck_assert_ptr_nonnull(key);
    ck_assert_ptr_nonnull(certificate);
    ck_assert_str_eq(key, identity->key_pem);
    ck_assert_str_eq(certificate, identity->certificate_pem);
    free(key);
    free(certificate);
}

static void remove_file(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    ck_assert_int_eq(unlink(path), 0);
    free(path);
}

static void start(void)
{
    temp_dir_init(&dir);
    first = opened("h1", ADDRESS, WALL_MS);
}

static void stop(void)
{
    tls_identity_fini(&first);
    temp_dir_fini(&dir);
}

START_TEST(a_first_start_makes_a_pair_that_a_listener_takes)
{
    struct stat info;
    char *path = temp_dir_path(&dir, "tls.key");

    assert_a_listener_takes(&first);
    assert_stored(&first);
    ck_assert(is_for(&first, "h1") && is_for(&first, "localhost"));
    ck_assert_int_eq(strncmp(first.pin, "sha256//", 8), 0);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0600);
    free(path);
}
END_TEST

START_TEST(a_later_start_finds_the_same_pair)
{
    struct tls_identity again = opened("h1", ADDRESS, WALL_MS + 365 * DAY_MS);

    ck_assert_str_eq(again.key_pem, first.key_pem);
    ck_assert_str_eq(again.certificate_pem, first.certificate_pem);
    ck_assert_str_eq(again.pin, first.pin);
    tls_identity_fini(&again);
}
END_TEST

START_TEST(a_certificate_of_another_key_is_made_anew_for_the_key_that_is_there)
{
    remove_file("tls.key");
    remove_file("tls.crt");
    struct tls_identity second = opened("h1", ADDRESS, WALL_MS);
    temp_dir_write(&dir, "tls.crt", first.certificate_pem); /* the second's key, still */

    struct tls_identity mended = opened("h1", ADDRESS, WALL_MS);

    assert_a_listener_takes(&mended);
    assert_stored(&mended);
    ck_assert_str_eq(mended.key_pem, second.key_pem);
    ck_assert_str_eq(mended.pin, second.pin);
    ck_assert_str_ne(mended.pin, first.pin);
    tls_identity_fini(&mended);
    tls_identity_fini(&second);
}
END_TEST

START_TEST(a_crash_between_key_and_certificate_costs_nothing)
{
    remove_file("tls.crt");

    struct tls_identity mended = opened("h1", ADDRESS, WALL_MS);

    assert_a_listener_takes(&mended);
    assert_stored(&mended);
    ck_assert_str_eq(mended.pin, first.pin);
    tls_identity_fini(&mended);
}
END_TEST

START_TEST(a_lost_key_gets_a_new_pair)
{
    remove_file("tls.key");

    struct tls_identity second = opened("h1", ADDRESS, WALL_MS);

    assert_a_listener_takes(&second);
    assert_stored(&second);
    ck_assert_str_ne(second.pin, first.pin);
    tls_identity_fini(&second);
}
END_TEST

static const struct {
    const char *name;
    uint32_t address;
    uint64_t later_ms;
} moves[] = {
    {"h2", ADDRESS, 0},
    {"h1", ADDRESS + 1, 0},
    {"h1", ADDRESS, (UINT64_C(10) * 365 - 20) * DAY_MS}, /* 20 days are left */
};

START_TEST(another_name_address_or_age_makes_the_certificate_anew_and_keeps_the_key)
{
    struct tls_identity moved =
        opened(moves[_i].name, moves[_i].address, WALL_MS + moves[_i].later_ms);

    assert_a_listener_takes(&moved);
    assert_stored(&moved);
    ck_assert_str_ne(moved.certificate_pem, first.certificate_pem);
    ck_assert(is_for(&moved, moves[_i].name));
    ck_assert_str_eq(moved.pin, first.pin);
    tls_identity_fini(&moved);
}
END_TEST

START_TEST(a_damaged_key_is_named_with_the_way_out_and_left_as_it_is)
{
    const char *text = "-----BEGIN PRIVATE KEY-----\nno\n";
    struct err err = {0};
    temp_dir_write(&dir, "tls.key", text);

    ck_assert_int_eq(refused(&err), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(err.text, "tls.key"));
    ck_assert_ptr_nonnull(strstr(err.text, "backup"));
    ck_assert_ptr_nonnull(strstr(err.text, "remove it"));
    char *left = temp_dir_read(&dir, "tls.key");
    ck_assert_str_eq(left, text);
    free(left);
    remove_file("tls.key"); /* the way out */
    struct tls_identity second = opened("h1", ADDRESS, WALL_MS);
    assert_a_listener_takes(&second);
    tls_identity_fini(&second);
}
END_TEST

static const char *const damages[] = {
    "", "no certificate",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"};

START_TEST(a_damaged_certificate_is_set_aside_and_made_anew_for_the_same_key)
{
    temp_dir_write(&dir, "tls.crt", damages[_i]);

    struct tls_identity mended = opened("h1", ADDRESS, WALL_MS);

    assert_a_listener_takes(&mended);
    assert_stored(&mended);
    ck_assert_str_eq(mended.pin, first.pin);
    char *aside = temp_dir_read(&dir, "tls.crt.damaged");
    ck_assert_str_eq(aside, damages[_i]);
    free(aside);
    tls_identity_fini(&mended);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_identity");
    TCase *tests = tcase_create("tls_identity");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, a_first_start_makes_a_pair_that_a_listener_takes);
    tcase_add_test(tests, a_later_start_finds_the_same_pair);
    tcase_add_test(tests,
                   a_certificate_of_another_key_is_made_anew_for_the_key_that_is_there);
    tcase_add_test(tests, a_crash_between_key_and_certificate_costs_nothing);
    tcase_add_test(tests, a_lost_key_gets_a_new_pair);
    tcase_add_loop_test(
        tests, another_name_address_or_age_makes_the_certificate_anew_and_keeps_the_key,
        0, 3);
    tcase_add_test(tests, a_damaged_key_is_named_with_the_way_out_and_left_as_it_is);
    tcase_add_loop_test(
        tests, a_damaged_certificate_is_set_aside_and_made_anew_for_the_same_key, 0, 3);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
