#include "base/byte_fifo.h"
#include "model/feed.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

static struct feed *feed;
static struct tenant *tenant;

static void setup(void)
{
    feed = feed_new(10);
    tenant = object_new(KIND_TENANT);
    ck_assert(feed != NULL && tenant != NULL);
}

static void teardown(void)
{
    object_free(KIND_TENANT, tenant);
    feed = feed_free(feed);
}

static void push(uint64_t revision, const char *name, bool deleted)
{
    const struct change change = {.revision = revision,
                                  .kind = KIND_TENANT,
                                  .uid = 5,
                                  .tenant = "",
                                  .name = name,
                                  .reason = "because",
                                  .object = deleted ? NULL : tenant};
    snprintf(tenant->meta.name, sizeof(tenant->meta.name), "%s", name);
    feed_push(feed, &change);
}

START_TEST(a_watcher_sees_every_change_after_its_revision_in_order)
{
    push(11, "a", false);
    push(12, "b", false);
    push(12, "c", true);
    push(14, "d", false);
    struct feed_cursor cursor = feed_cursor_after(11);
    static const char *const names[] = {"b", "c", "d"};
    for (unsigned i = 0; i < 3; i++) {
        const struct feed_entry *entry = feed_next(feed, &cursor);
        ck_assert_ptr_nonnull(entry);
        ck_assert_str_eq(entry->name, names[i]);
        ck_assert_str_eq(entry->reason, "because");
    }
    ck_assert_ptr_null(feed_next(feed, &cursor));
    push(15, "e", false);
    ck_assert_str_eq(feed_next(feed, &cursor)->name, "e");
}
END_TEST

START_TEST(an_entry_carries_the_object_as_it_was_then)
{
    push(11, "before", false);
    push(12, "after", false);
    struct feed_cursor cursor = feed_cursor_after(10);
    const struct feed_entry *entry = feed_next(feed, &cursor);
    struct bytes_reader reader;
    bytes_reader_init(&reader, entry->record, entry->record_size);
    struct tenant then;
    ck_assert_int_eq(record_decode(&tenant_record, &reader, &then), 0);
    ck_assert_str_eq(then.meta.name, "before");
    record_fini(&tenant_record, &then);

    push(13, "gone", true);
    cursor = feed_cursor_after(12);
    entry = feed_next(feed, &cursor);
    ck_assert(entry->deleted);
    ck_assert_ptr_null(entry->record);
}
END_TEST

/* In a small rack a listing is cheaper than many changes; in a large one it is not. */
START_TEST(few_changes_are_kept_of_few_objects)
{
    for (uint64_t i = 0; i < FEED_ENTRIES_MAX; i++) {
        push(11 + i, "x", false);
    }
    ck_assert(feed_reaches(feed, 10));

    feed_fit(feed, FEED_ENTRIES_MAX);
    ck_assert(feed_reaches(feed, 10));
    feed_fit(feed, 1000);
    ck_assert(feed_reaches(feed, 10 + FEED_ENTRIES_MAX - 1000 * FEED_SHARE));
    ck_assert(!feed_reaches(feed, 9 + FEED_ENTRIES_MAX - 1000 * FEED_SHARE));
    feed_fit(feed, 0);
    ck_assert(feed_reaches(feed, 10 + FEED_ENTRIES_MAX - FEED_ENTRIES_MIN));
    ck_assert(!feed_reaches(feed, 9 + FEED_ENTRIES_MAX - FEED_ENTRIES_MIN));

    push(11 + FEED_ENTRIES_MAX, "newest", false);
    ck_assert(!feed_reaches(feed, 10 + FEED_ENTRIES_MAX - FEED_ENTRIES_MIN));
    struct feed_cursor cursor = feed_cursor_after(10 + FEED_ENTRIES_MAX);
    ck_assert_str_eq(feed_next(feed, &cursor)->name, "newest");
}
END_TEST

START_TEST(a_watcher_from_before_the_ring_is_told_so)
{
    ck_assert(feed_reaches(feed, 10));
    ck_assert(!feed_reaches(feed, 9));
    for (uint64_t i = 0; i < FEED_ENTRIES_MAX + 5; i++) {
        push(11 + i, "x", true);
    }
    ck_assert(!feed_reaches(feed, 14));
    ck_assert(feed_reaches(feed, 15));
    struct feed_cursor cursor = feed_cursor_after(15);
    ck_assert_uint_eq(feed_next(feed, &cursor)->revision, 16);
}
END_TEST

START_TEST(a_revision_goes_as_a_whole)
{
    push(11, "a", true);
    push(11, "b", true);
    push(11, "c", true);
    for (uint64_t i = 0; i < FEED_ENTRIES_MAX - 2; i++) {
        push(12 + i, "x", true);
    }
    ck_assert(!feed_reaches(feed, 10));
    struct feed_cursor cursor = feed_cursor_after(0);
    ck_assert_uint_eq(feed_next(feed, &cursor)->revision, 12);
}
END_TEST

/* Each has a block of the fifo for itself, nearly half of which nobody can use. */
START_TEST(the_room_around_the_entries_counts_too)
{
    static char reason[BYTE_FIFO_BLOCK / 2 + 1];
    struct change change = {
        .kind = KIND_TENANT, .uid = 5, .tenant = "", .name = "x", .reason = reason};
    memset(reason, 'r', sizeof(reason) - 1);

    for (uint64_t i = 0; i < 2 * FEED_BYTES_MAX / BYTE_FIFO_BLOCK; i++) {
        change.revision = 11 + i;
        feed_push(feed, &change);
    }

    struct feed_cursor cursor = feed_cursor_after(0);
    unsigned held = 0;
    while (feed_next(feed, &cursor) != NULL) {
        held++;
    }
    ck_assert_uint_le(held, FEED_BYTES_MAX / BYTE_FIFO_BLOCK);
    ck_assert_uint_ge(held, FEED_BYTES_MAX / BYTE_FIFO_BLOCK - 2);
}
END_TEST

START_TEST(a_revision_that_is_too_large_resets_its_watchers)
{
    struct feed_cursor cursor = feed_cursor_after(10);
    for (uint64_t i = 0; i < FEED_ENTRIES_MAX + 5; i++) {
        push(11, "x", true);
        if (i == 3) {
            ck_assert_ptr_nonnull(feed_next(feed, &cursor));
        }
    }
    ck_assert(!feed_reaches(feed, 10));
    ck_assert(!feed_reaches_cursor(feed, &cursor)); /* it has seen only a part of 11 */
    ck_assert_ptr_null(feed_next(feed, &cursor));
    push(12, "y", true);
    ck_assert(feed_reaches(feed, 11));
    cursor = feed_cursor_after(11);
    ck_assert(feed_reaches_cursor(feed, &cursor));
    ck_assert_str_eq(feed_next(feed, &cursor)->name, "y");
}
END_TEST

START_TEST(a_cursor_that_saw_all_of_a_dropped_revision_goes_on)
{
    push(11, "a", true);
    push(11, "b", true);
    struct feed_cursor half = feed_cursor_after(10);
    (void)feed_next(feed, &half);
    struct feed_cursor whole = half;
    (void)feed_next(feed, &whole);
    for (uint64_t i = 0; i < FEED_ENTRIES_MAX; i++) {
        push(12 + i, "x", true);
    }
    ck_assert(feed_reaches(feed, 11));
    ck_assert(feed_reaches_cursor(feed, &whole));
    ck_assert(!feed_reaches_cursor(feed, &half));
}
END_TEST

/* A tenant of about 60 KiB. */
static void grow_tenant(void)
{
    char subject[251];
    memset(subject, 'x', sizeof(subject) - 1);
    subject[sizeof(subject) - 1] = '\0';
    struct record_list list = {0};
    for (unsigned i = 0; i < 230; i++) {
        struct member *member = record_list_add(&member_record, &list);
        ck_assert_ptr_nonnull(member);
        ck_assert_int_eq(record_set_text(&member->subject, subject), 0);
    }
    tenant->spec.members.items = list.items;
    tenant->spec.members.count = list.count;
}

START_TEST(records_are_bounded_in_bytes)
{
    grow_tenant();
    for (uint64_t i = 0; i < 200; i++) {
        push(11 + i, "big", false);
    }
    size_t held = 0;
    struct feed_cursor cursor = feed_cursor_after(0);
    for (const struct feed_entry *entry; (entry = feed_next(feed, &cursor)) != NULL;) {
        held += entry->record_size;
    }
    ck_assert_uint_le(held, FEED_BYTES_MAX);
    ck_assert_uint_gt(held, FEED_BYTES_MAX - 80000); /* one more, and all texts */
    ck_assert(!feed_reaches(feed, 10));
}
END_TEST

START_TEST(a_reset_forgets_everything)
{
    push(11, "a", false);
    feed_reset(feed, 50);
    ck_assert(!feed_reaches(feed, 11));
    ck_assert(feed_reaches(feed, 50));
    struct feed_cursor cursor = feed_cursor_after(0);
    ck_assert_ptr_null(feed_next(feed, &cursor));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("feed");
    TCase *tests = tcase_create("feed");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, few_changes_are_kept_of_few_objects);
    tcase_add_test(tests, a_watcher_sees_every_change_after_its_revision_in_order);
    tcase_add_test(tests, an_entry_carries_the_object_as_it_was_then);
    tcase_add_test(tests, a_watcher_from_before_the_ring_is_told_so);
    tcase_add_test(tests, a_revision_goes_as_a_whole);
    tcase_add_test(tests, the_room_around_the_entries_counts_too);
    tcase_add_test(tests, a_revision_that_is_too_large_resets_its_watchers);
    tcase_add_test(tests, a_cursor_that_saw_all_of_a_dropped_revision_goes_on);
    tcase_add_test(tests, records_are_bounded_in_bytes);
    tcase_add_test(tests, a_reset_forgets_everything);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
