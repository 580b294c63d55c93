/* Goal: a backup gives back the state it was made of, and no damage passes for one. */
#include "model/backup_file.h"
#include "support/state_fixture.h"

static uint8_t *data;
static size_t size;
static struct state *copy;
static struct backup_info info;
static uint32_t level;
static struct err err;

static void setup(void)
{
    fixture_start();
    ready_vm("web", h1);
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("spare", 77)), 0);
    copy = state_new(NULL, NULL);
    ck_assert_int_eq(
        backup_encode(state, 1700000000000, "1.2.3", "h1", &data, &size, &err), 0);
}

static void teardown(void)
{
    free(data);
    copy = state_free(copy);
    record_fini(&backup_info_record, &info);
    fixture_stop();
}

static int load(void)
{
    record_fini(&backup_info_record, &info);
    return backup_load(data, size, &info, &level, copy, &err);
}

/* What a writer who knows the format would do. */
static void seal_again(void)
{
    struct digest digest;
    digest_of(data, size - DIGEST_SIZE, &digest);
    memcpy(data + size - DIGEST_SIZE, digest.bytes, DIGEST_SIZE);
}

START_TEST(a_backup_gives_back_its_state_and_says_what_it_is)
{
    uint8_t id[REQUEST_ID_SIZE];
    char hex[2 * REQUEST_ID_SIZE + 1];
    ck_assert_msg(load() == 0, "%s", err.text);
    ck_assert_uint_eq(state_hash(copy), state_hash(state));
    ck_assert_uint_eq(state_revision(copy), state_revision(state));
    ck_assert_uint_eq(info.revision, state_revision(state));
    ck_assert_uint_eq(info.saved_wall_ms, 1700000000000);
    ck_assert_str_eq(info.version, "1.2.3");
    ck_assert_str_eq(info.host, "h1");
    state_cluster_id(state, id);
    hex_format(id, sizeof(id), hex);
    ck_assert_str_eq(info.cluster, hex);
    ck_assert_uint_eq(level, LEVEL_FIRST);
}
END_TEST

START_TEST(damage_of_any_byte_and_any_cut_is_noticed)
{
    uint64_t hash = state_hash(copy);
    for (size_t i = 0; i < size; i++) {
        data[i] ^= 0x04;
        int r = load();
        ck_assert_msg(r == BERTH_ECORRUPT || (i < 8 && r == BERTH_EUNSUPPORTED),
                      "byte %zu: %d", i, r);
        data[i] ^= 0x04;
    }
    for (size_t whole = size; size > 0; size--) {
        ck_assert_msg(size == whole || load() < 0, "%zu of %zu bytes pass", size, whole);
    }
    ck_assert_uint_eq(state_hash(copy), hash); /* and nothing was taken of it */
}
END_TEST

START_TEST(a_later_format_or_level_is_not_guessed_at)
{
    data[8]++; /* format */
    seal_again();
    ck_assert_int_eq(load(), BERTH_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "use the release that wrote it"));
    data[8]--;
    data[10] = (uint8_t)(level_range_up_to(0).max + 1); /* level */
    seal_again();
    ck_assert_int_eq(load(), BERTH_ELEVEL);
    data[10] = LEVEL_FIRST + 1; /* known, and not that of the state in it */
    seal_again();
    ck_assert_int_eq(load(), BERTH_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "another level"));
    data[10] = LEVEL_FIRST;
    seal_again();
    ck_assert_int_eq(load(), 0);
}
END_TEST

START_TEST(a_good_checksum_over_bad_content_is_refused)
{
    /* The state's part ends where the checksum begins. */
    for (size_t i = size - DIGEST_SIZE - 1; i > size / 2; i -= 37) {
        data[i] ^= 0x80;
        seal_again();
        ck_assert_msg(load() == BERTH_ECORRUPT, "byte %zu passes", i);
        data[i] ^= 0x80;
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("backup_file");
    TCase *tests = tcase_create("backup_file");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_backup_gives_back_its_state_and_says_what_it_is);
    tcase_add_test(tests, damage_of_any_byte_and_any_cut_is_noticed);
    tcase_add_test(tests, a_later_format_or_level_is_not_guessed_at);
    tcase_add_test(tests, a_good_checksum_over_bad_content_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
