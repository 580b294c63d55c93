/* Goal: what a level brought is refused before it and kept after it; a level that this
 * release does not know is refused in words that help.
 * Method: built twice, as this release and as the one after it (BERTH_NEXT_LEVEL), which
 * has a field of its own: see tests/CMakeLists.txt. */
#include "base/digest.h"
#include "model/level.h"
#include "support/state_fixture.h"

#define LEVEL_TOP (level_range_up_to(0).max)

START_TEST(a_range_is_what_is_known_or_less)
{
    ck_assert_uint_eq(level_range_up_to(LEVEL_TOP + 7).max, LEVEL_TOP);
    ck_assert_uint_eq(level_range_up_to(LEVEL_FIRST).max, LEVEL_FIRST);
    const struct level_range range = {2, 4};
    ck_assert(!level_in_range(range, 1) && !level_in_range(range, 5));
    ck_assert(level_in_range(range, 2) && level_in_range(range, 4));
}
END_TEST

START_TEST(a_refusal_says_what_to_do)
{
    char text[256];
    level_refusal((struct level_range){1, LEVEL_TOP}, LEVEL_TOP + 1, text);
    ck_assert_ptr_nonnull(strstr(text, "this berthd takes part up to level"));
    ck_assert_ptr_nonnull(strstr(text, "install the release that the other hosts run"));
    level_refusal((struct level_range){3, 5}, 2, text);
    ck_assert_ptr_nonnull(
        strstr(text, "at level 2, this berthd takes part from level 3"));
    ck_assert_ptr_nonnull(strstr(text, "release before it"));
}
END_TEST

START_TEST(every_level_says_what_it_brought)
{
    for (uint32_t level = LEVEL_FIRST; level <= LEVEL_TOP; level++) {
        ck_assert_ptr_nonnull(level_doc(level));
    }
    ck_assert_ptr_null(level_doc(LEVEL_TOP + 1));
}
END_TEST

static void check_fields(const struct record *record)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        ck_assert_msg(field_since(field) <= LEVEL_TOP, "%s.%s", record->name,
                      field->name);
        if (field->record != NULL) {
            check_fields(field->record);
        }
    }
}

START_TEST(nothing_comes_with_a_level_that_is_not_there)
{
    for (unsigned number = COMMAND_NONE + 1; number < COMMAND_COUNT; number++) {
        enum command_type type = (enum command_type)number;
        ck_assert_uint_ge(command_since(type), LEVEL_FIRST);
        ck_assert_uint_le(command_since(type), LEVEL_TOP);
        check_fields(command_record(type));
    }
    for (unsigned kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        check_fields(kind_info(kind)->record);
    }
}
END_TEST

START_TEST(a_level_is_raised_and_never_lowered)
{
    uint64_t hash = state_hash(state);
    ck_assert_uint_eq(state_level(state), LEVEL_FIRST);
    ck_assert_int_eq(raise_level(LEVEL_TOP), 0);
    ck_assert_uint_eq(state_level(state), LEVEL_TOP);
    ck_assert(state_hash(state) != hash);
    uint64_t revision = state_revision(state);
    ck_assert_int_eq(raise_level(LEVEL_TOP), 0);
    ck_assert_int_eq(raise_level(LEVEL_FIRST), BERTH_ELEVEL);
    ck_assert_uint_eq(state_level(state), LEVEL_TOP);
    ck_assert_uint_eq(state_revision(state), revision);
}
END_TEST

START_TEST(a_command_of_a_later_level_is_not_applied)
{
    struct command command;
    command_init(&command, COMMAND_NOOP);
    command.level = LEVEL_FIRST + 1;
    state_apply(state, &command, &answer);
    ck_assert_int_eq(answer.code, BERTH_ELEVEL);
    command_fini(&command);
}
END_TEST

#ifdef BERTH_NEXT_LEVEL
#define LEVEL_IMAGES 5 /* brought the quota of images */

static struct tenant *tenant_with_images(void)
{
    struct tenant *tenant = make_tenant("shop");
    tenant->spec.quota.images = 7;
    return tenant;
}

static void command_of(struct tenant *tenant, struct command *ret_command)
{
    command_init(ret_command, COMMAND_PUT);
    ck_assert_int_eq(command_set_put(ret_command, KIND_TENANT, tenant, REVISION_ANY), 0);
    object_free(KIND_TENANT, tenant);
}

START_TEST(a_field_is_not_proposed_before_its_level)
{
    struct err err = {0};
    struct command command;
    command_of(make_tenant("shop"), &command);
    ck_assert_int_eq(command_check_level(&command, LEVEL_FIRST, &err), 0);
    command_fini(&command);
    command_of(tenant_with_images(), &command);
    ck_assert_int_eq(command_check_level(&command, LEVEL_IMAGES - 1, &err), BERTH_ELEVEL);
    ck_assert_str_eq(err.text, "tenant: images needs level 5, the cluster is at 4");
    ck_assert_int_eq(command_check_level(&command, LEVEL_IMAGES, &err), 0);
    command_fini(&command);
}
END_TEST

START_TEST(a_field_is_not_applied_before_its_level)
{
    ck_assert_int_eq(raise_level(LEVEL_IMAGES - 1), 0);
    ck_assert_int_eq(put(KIND_TENANT, tenant_with_images()), BERTH_EINVALID);
    ck_assert_int_eq(raise_level(LEVEL_IMAGES), 0);
    ck_assert_int_eq(put(KIND_TENANT, tenant_with_images()), 0);
    const struct tenant *tenant = FIND(KIND_TENANT, "", "shop");
    ck_assert_uint_eq(tenant->spec.quota.images, 7);
}
END_TEST

START_TEST(a_snapshot_holds_nothing_above_its_level)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err = {0};
    struct state *copy = state_new(NULL, NULL);
    ck_assert_ptr_nonnull(copy);
    ck_assert_int_eq(raise_level(LEVEL_IMAGES), 0);
    ck_assert_int_eq(put(KIND_TENANT, tenant_with_images()), 0);
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
    ck_assert_uint_eq(data[4], LEVEL_IMAGES);
    ck_assert_int_eq(state_decode(copy, data, size, &err), 0);
    ck_assert_uint_eq(state_hash(copy), state_hash(state));
    data[4] = LEVEL_IMAGES - 1; /* as one that is not careful would write it */
    uint32_t crc = crc32c(0, data, 24);
    for (unsigned i = 0; i < 4; i++) {
        data[24 + i] = (uint8_t)(crc >> (8 * i));
    }
    ck_assert_int_eq(state_decode(copy, data, size, &err), BERTH_ECORRUPT);
    ck_assert_uint_eq(state_level(copy), LEVEL_IMAGES); /* as it was */
    free(data);
    state_free(copy);
}
END_TEST

START_TEST(what_hosts_say_is_cut_to_the_level)
{
    struct tenant *tenant = tenant_with_images();
    record_limit(&tenant_spec_record, &tenant->spec, LEVEL_IMAGES);
    ck_assert_uint_eq(tenant->spec.quota.images, 7);
    record_limit(&tenant_spec_record, &tenant->spec, LEVEL_IMAGES - 1); /* inside, too */
    ck_assert_uint_eq(tenant->spec.quota.images, UNLIMITED32);
    object_free(KIND_TENANT, tenant);
}
END_TEST
#endif

int main(void)
{
    TCase *tests;
    Suite *suite = fixture_suite("level", &tests);
    tcase_add_test(tests, a_range_is_what_is_known_or_less);
    tcase_add_test(tests, a_refusal_says_what_to_do);
    tcase_add_test(tests, every_level_says_what_it_brought);
    tcase_add_test(tests, nothing_comes_with_a_level_that_is_not_there);
    tcase_add_test(tests, a_level_is_raised_and_never_lowered);
    tcase_add_test(tests, a_command_of_a_later_level_is_not_applied);
#ifdef BERTH_NEXT_LEVEL
    tcase_add_test(tests, a_field_is_not_proposed_before_its_level);
    tcase_add_test(tests, a_field_is_not_applied_before_its_level);
    tcase_add_test(tests, a_snapshot_holds_nothing_above_its_level);
    tcase_add_test(tests, what_hosts_say_is_cut_to_the_level);
#endif
    return test_main_run(suite);
}
