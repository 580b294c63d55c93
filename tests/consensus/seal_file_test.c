#include "consensus/seal_file.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

static struct temp_dir dir;
static struct seal_file *file;

static void setup(void)
{
    temp_dir_init(&dir);
    ck_assert_int_eq(seal_file_open(dir.path, "seal", &file, NULL), 0);
}

static void teardown(void)
{
    file = seal_file_close(file);
    temp_dir_fini(&dir);
}

START_TEST(a_missing_file_is_no_error)
{
    uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(seal_file_read(file, 2 * SEAL_FILE_BLOCK, &data, &size, NULL), 0);
}
END_TEST

START_TEST(a_block_is_overwritten_and_the_other_kept)
{
    static uint8_t first[2 * SEAL_FILE_BLOCK];
    static uint8_t block[SEAL_FILE_BLOCK];
    uint8_t *data = NULL;
    size_t size = 0;
    memset(first, 1, sizeof(first));
    memset(block, 2, sizeof(block));
    ck_assert_int_eq(seal_file_create(file, first, sizeof(first), NULL), 0);

    ck_assert_int_eq(seal_file_write(file, 1, block, NULL), 0);

    ck_assert_int_eq(seal_file_read(file, sizeof(first), &data, &size, NULL), 1);
    ck_assert_uint_eq(size, sizeof(first));
    ck_assert_mem_eq(data, first, SEAL_FILE_BLOCK);
    ck_assert_mem_eq(data + SEAL_FILE_BLOCK, block, SEAL_FILE_BLOCK);
    free(data);
}
END_TEST

START_TEST(a_write_without_a_file_names_the_path)
{
    static uint8_t block[SEAL_FILE_BLOCK];
    struct err err = {0};
    ck_assert_int_lt(seal_file_write(file, 0, block, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, seal_file_path(file)));
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("seal_file");
    TCase *tcase = tcase_create("seal_file");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_missing_file_is_no_error);
    tcase_add_test(tcase, a_block_is_overwritten_and_the_other_kept);
    tcase_add_test(tcase, a_write_without_a_file_names_the_path);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
