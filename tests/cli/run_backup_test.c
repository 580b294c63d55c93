/* Goal: what `berth backup save` writes is what `berth backup verify` accepts, in the
 * clear or encrypted, and nothing else is accepted. */
#include "berth_fixture.h"

#include <sys/stat.h>

static char *file_bytes(const char *name, size_t *ret_size)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder.path, name);
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    char *bytes = malloc(1 << 20);
    *ret_size = fread(bytes, 1, 1 << 20, file);
    (void)fclose(file);
    return bytes;
}

static void file_put(const char *name, const char *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder.path, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    (void)fclose(file);
}

static const char *line(const char *words, const char *name)
{
    static char text[1024];
    snprintf(text, sizeof(text), "%s %s/%s", words, folder.path, name);
    return text;
}

/* Runs "WORDS folder/name MORE". */
static void ran_with(const char *words, const char *name, const char *more, int code)
{
    char text[2048];
    snprintf(text, sizeof(text), "%s%s", line(words, name), more);
    assert_ran(text, code);
}

START_TEST(a_saved_backup_is_verified_and_told_about)
{
    struct stat status;
    ran_with("backup save", "b", "", 0);
    assert_like(ran.out, "*/b: revision *, *iB, not encrypted\n");
    ck_assert_int_eq(stat(line("", "b") + 1, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
    ran_with("backup verify", "b", "", 0);
    assert_like(ran.out, "*/b is intact\n*saved *on h1, by berth *revision *not "
                         "encrypted*holds *1 tenant, 3 hosts*");
    ran_with("backup verify", "b", " -o json", 0);
    json_t *document = NULL;
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    ck_assert_uint_eq(json_member_u64(json_object_get(document, "objects"), "hosts", 0),
                      3);
    const json_t *image = json_array_get(json_object_get(document, "images"), 0);
    ck_assert_str_eq(json_member_text(image, "name", ""), "linux");
    ck_assert_str_eq(json_member_text(image, "role", ""), "kernel");
    ck_assert_uint_eq(strlen(json_member_text(image, "sha256", "")), 64);
    json_decref(document);
}
END_TEST

START_TEST(damage_and_foreign_files_are_refused)
{
    size_t size = 0;
    ran_with("backup save", "b", "", 0);
    char *bytes = file_bytes("b", &size);
    for (size_t at = 3; at < size; at += size / 7) {
        bytes[at] ^= 1;
        file_put("c", bytes, size);
        ran_with("backup verify", "c", "", 1);
        bytes[at] ^= 1;
    }
    file_put("c", bytes, size - 1);
    ran_with("backup verify", "c", "", 1);
    file_put("c", "", 0);
    ran_with("backup verify", "c", "", 1);
    assert_like(ran.err, "*no backup of Berth's*");
    ran_with("backup verify", "none", "", 3);
    free(bytes);
}
END_TEST

START_TEST(an_encrypted_backup_needs_its_passphrase)
{
    size_t size = 0;
    char with[600];
    temp_dir_write(&folder, "pass", "correct horse\n");
    temp_dir_write(&folder, "wrong", "battery staple\n");
    snprintf(with, sizeof(with), " --passphrase-file %s/pass", folder.path);
    ran_with("backup save", "b", with, 0);
    assert_like(ran.out, "*, encrypted\n");
    char *bytes = file_bytes("b", &size);
    ck_assert_ptr_null(memmem(bytes, size, "default", 7)); /* a tenant's name */
    ran_with("backup verify", "b", with, 0);
    assert_like(ran.out, "*is intact*, encrypted*3 hosts*");
    ran_with("backup verify", "b", "", 2);
    assert_like(ran.err, "*--passphrase-file FILE*");
    snprintf(with, sizeof(with), " --passphrase-file %s/wrong", folder.path);
    ran_with("backup verify", "b", with, 6);
    bytes[size / 2] ^= 1;
    file_put("b", bytes, size);
    ran_with("backup verify", "b", with, 1); /* told before the passphrase is tried */
    assert_like(ran.err, "*damaged*");
    free(bytes);
}
END_TEST

START_TEST(a_file_that_is_there_is_not_replaced_unasked)
{
    size_t size = 0;
    file_put("b", "old", 3);
    ran_with("backup save", "b", "", 4);
    ck_assert_contains(ran.err, "/b is there already; nothing was saved\nhint: ");
    char *bytes = file_bytes("b", &size);
    ck_assert(size == 3 && memcmp(bytes, "old", 3) == 0);
    free(bytes);
    ran_with("backup save", "b", " --force", 0);
    ran_with("backup verify", "b", "", 0);
}
END_TEST

START_TEST(nothing_is_written_when_nothing_was_fetched)
{
    struct stat status;
    ran_with("backup save", "b", " --encrypt", 2);
    ck_assert_int_lt(stat(line("", "b") + 1, &status), 0);
    assert_ran("backup save /nowhere/b", 1);
    assert_like(ran.err, "*write /nowhere/b*");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("run_backup", &tests);
    tcase_add_test(tests, a_saved_backup_is_verified_and_told_about);
    tcase_add_test(tests, damage_and_foreign_files_are_refused);
    tcase_add_test(tests, an_encrypted_backup_needs_its_passphrase);
    tcase_add_test(tests, a_file_that_is_there_is_not_replaced_unasked);
    tcase_add_test(tests, nothing_is_written_when_nothing_was_fetched);
    return test_main_run(suite);
}
