/* Goal: a box opens with its passphrase and no other, and no byte of it can change
 * unnoticed. Method: the cheapest cost, and pieces at every edge of their size. */
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/secret_box.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE ((size_t)64 << 10)
#define PLAIN "a state with token hashes"

static const struct secret_box_cost cheap = {1, SECRET_BOX_MEMORY_KIB_MIN};
static const size_t sizes[] = {0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE};

static uint8_t *box;
static size_t box_size;
static uint8_t *opened;
static size_t opened_size;
static struct err err;

static void setup(void)
{
    ck_assert_int_eq(secret_box_seal("open sesame", &cheap, PLAIN, strlen(PLAIN), &box,
                                     &box_size, &err),
                     0);
}

static void teardown(void)
{
    free(box);
    free(opened);
    box = NULL;
    opened = NULL;
}

static int unseal(const char *passphrase)
{
    free(opened);
    opened = NULL;
    return secret_box_open(passphrase, box, box_size, &opened, &opened_size, &err);
}

START_TEST(what_was_sealed_comes_out_whatever_its_size)
{
    CLEANUP_FREE uint8_t *plain = malloc(sizes[_i] + 1);
    for (size_t i = 0; i < sizes[_i]; i++) {
        plain[i] = (uint8_t)(i * 31 >> 3);
    }
    free(box);
    ck_assert_int_eq(
        secret_box_seal("open sesame", &cheap, plain, sizes[_i], &box, &box_size, &err),
        0);
    ck_assert_int_eq(unseal("open sesame"), 0);
    ck_assert_uint_eq(opened_size, sizes[_i]);
    ck_assert(sizes[_i] == 0 || memcmp(opened, plain, sizes[_i]) == 0);
}
END_TEST

START_TEST(nothing_of_the_plain_text_shows)
{
    ck_assert(secret_box_is(box, box_size));
    ck_assert_ptr_null(memmem(box, box_size, "token", 5));
    uint8_t *other = NULL;
    size_t other_size = 0;
    ck_assert_int_eq(secret_box_seal("open sesame", &cheap, PLAIN, strlen(PLAIN), &other,
                                     &other_size, &err),
                     0);
    ck_assert_int_ne(memcmp(box, other, box_size), 0); /* a salt of its own each time */
    free(other);
}
END_TEST

START_TEST(another_passphrase_is_told_from_damage)
{
    ck_assert_int_eq(unseal("open sesamf"), BERTH_EAUTH);
    ck_assert_ptr_null(opened);
    ck_assert_int_eq(unseal(""), BERTH_EINVALID);
    ck_assert_int_eq(unseal(NULL), BERTH_EINVALID);
}
END_TEST

START_TEST(damage_of_any_byte_and_any_cut_is_noticed)
{
    for (size_t i = 0; i < box_size; i++) {
        box[i] ^= 0x10;
        int r = unseal("open sesame");
        ck_assert_msg(r == BERTH_ECORRUPT || (i < 8 && r == BERTH_EUNSUPPORTED),
                      "byte %zu: %d", i, r);
        box[i] ^= 0x10;
    }
    size_t whole = box_size;
    for (box_size = 0; box_size < whole; box_size++) {
        ck_assert_int_lt(unseal("open sesame"), 0);
    }
    ck_assert_int_eq(unseal("open sesame"), 0);
}
END_TEST

/* Whoever can write the checksum as well still cannot write the content. */
START_TEST(a_forged_checksum_does_not_help)
{
    struct digest digest;
    box[box_size - DIGEST_SIZE - 3] ^= 1;
    digest_of(box, box_size - DIGEST_SIZE, &digest);
    memcpy(box + box_size - DIGEST_SIZE, digest.bytes, DIGEST_SIZE);
    ck_assert_int_eq(unseal("open sesame"), BERTH_EAUTH);
    box[8 + 16] = 0xff; /* passes */
    digest_of(box, box_size - DIGEST_SIZE, &digest);
    memcpy(box + box_size - DIGEST_SIZE, digest.bytes, DIGEST_SIZE);
    ck_assert_int_eq(unseal("open sesame"), BERTH_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "refused"));
}
END_TEST

START_TEST(a_passphrase_file_is_its_first_line)
{
    static const struct {
        const char *text;
        const char *passphrase; /* NULL: refused */
    } rows[] = {{"secret\n", "secret"},
                {"two words\r\nignored\n", "two words"},
                {"no end", "no end"},
                {"", NULL},
                {"\nsecond line", NULL}};
    struct temp_dir dir;
    char passphrase[PASSPHRASE_SIZE_MAX];
    temp_dir_init(&dir);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        temp_dir_write(&dir, "pass", rows[i].text);
        CLEANUP_FREE char *path = temp_dir_path(&dir, "pass");
        int r = passphrase_read_file(path, passphrase, &err);
        ck_assert_int_eq(r, rows[i].passphrase != NULL ? 0 : BERTH_EINVALID);
        if (r == 0) {
            ck_assert_str_eq(passphrase, rows[i].passphrase);
        }
    }
    ck_assert_int_eq(passphrase_read_file("/nowhere", passphrase, &err), -ENOENT);
    temp_dir_fini(&dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("secret_box");
    TCase *tests = tcase_create("secret_box");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, what_was_sealed_comes_out_whatever_its_size, 0,
                        ARRAY_COUNT(sizes));
    tcase_add_test(tests, nothing_of_the_plain_text_shows);
    tcase_add_test(tests, another_passphrase_is_told_from_damage);
    tcase_add_test(tests, damage_of_any_byte_and_any_cut_is_noticed);
    tcase_add_test(tests, a_forged_checksum_does_not_help);
    tcase_add_test(tests, a_passphrase_file_is_its_first_line);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
