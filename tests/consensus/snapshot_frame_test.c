/* Goal: what a snapshot carried comes out again, and no damage of it does. */
#include "base/err.h"
#include "consensus/snapshot_frame.h"
#include "support/test_main.h"

#include <string.h>

#define TEXT "the whole state"

START_TEST(damage_of_any_byte_and_any_cut_is_noticed)
{
    uint8_t snapshot[SNAPSHOT_FRAME_SIZE + sizeof(TEXT)];
    const uint8_t *data = NULL;
    size_t size = 0;
    snapshot_frame_make(TEXT, sizeof(TEXT), snapshot);
    memcpy(snapshot + SNAPSHOT_FRAME_SIZE, TEXT, sizeof(TEXT));
    ck_assert_int_eq(snapshot_frame_open(snapshot, sizeof(snapshot), &data, &size), 0);
    ck_assert_uint_eq(size, sizeof(TEXT));
    ck_assert_str_eq((const char *)data, TEXT);
    for (size_t i = 0; i < sizeof(snapshot); i++) {
        snapshot[i] ^= 1;
        ck_assert_int_eq(snapshot_frame_open(snapshot, sizeof(snapshot), &data, &size),
                         BERTH_ECORRUPT);
        snapshot[i] ^= 1;
        ck_assert_int_eq(snapshot_frame_open(snapshot, i, &data, &size), BERTH_ECORRUPT);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot_frame");
    TCase *tests = tcase_create("snapshot_frame");
    tcase_add_test(tests, damage_of_any_byte_and_any_cut_is_noticed);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
