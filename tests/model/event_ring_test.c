#include "model/event_ring.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

#define LIMIT 8

static struct event_ring *ring;

static void setup(void)
{
    ring = event_ring_new(LIMIT);
    ck_assert_ptr_nonnull(ring);
}

static void teardown(void)
{
    ring = event_ring_free(ring);
}

static void push(struct event_ring *to, uint64_t revision, const char *name)
{
    struct event event = {.revision = revision, .kind = KIND_VM, .verb = "ready"};
    snprintf(event.name, sizeof(event.name), "%s", name);
    event_ring_push(to, &event);
}

START_TEST(events_come_oldest_first_from_a_revision_on)
{
    push(ring, 5, "a");
    push(ring, 7, "b");
    push(ring, 7, "c");
    push(ring, 9, "d");
    size_t cursor = 0;
    ck_assert_str_eq(event_ring_next(ring, 5, &cursor)->name, "b");
    ck_assert_str_eq(event_ring_next(ring, 5, &cursor)->name, "c");
    ck_assert_str_eq(event_ring_next(ring, 5, &cursor)->name, "d");
    ck_assert_ptr_null(event_ring_next(ring, 5, &cursor));
    push(ring, 10, "e");
    ck_assert_str_eq(event_ring_next(ring, 5, &cursor)->name, "e");
    cursor = 0;
    ck_assert_ptr_null(event_ring_next(ring, 10, &cursor));
}
END_TEST

START_TEST(the_newest_are_kept)
{
    for (uint64_t i = 1; i <= 20; i++) {
        push(ring, i, "x");
    }
    size_t cursor = 0;
    ck_assert_uint_eq(event_ring_next(ring, 0, &cursor)->revision, 20 - LIMIT + 1);
    ck_assert_uint_eq(event_ring_count(ring), LIMIT);
    ck_assert_uint_eq(event_ring_at(ring, LIMIT - 1)->revision, 20);
}
END_TEST

START_TEST(an_event_says_what_was_pushed)
{
    struct event full = {.revision = 1, .wall_ms = 2, .kind = KIND_GROUP};
    memset(full.tenant, 't', sizeof(full.tenant) - 1);
    memset(full.name, 'n', sizeof(full.name) - 1);
    memset(full.verb, 'v', sizeof(full.verb) - 1);
    memset(full.reason, 'r', sizeof(full.reason) - 1);
    for (unsigned i = 0; i < 3 * LIMIT; i++) {
        event_ring_push(ring, &full);
        push(ring, 3, "short");
    }
    const struct event *event = event_ring_at(ring, LIMIT - 2);
    ck_assert_uint_eq(event->revision, 1);
    ck_assert_uint_eq(event->wall_ms, 2);
    ck_assert_int_eq(event->kind, KIND_GROUP);
    ck_assert_str_eq(event->tenant, full.tenant);
    ck_assert_str_eq(event->name, full.name);
    ck_assert_str_eq(event->verb, full.verb);
    ck_assert_str_eq(event->reason, full.reason);
    event = event_ring_at(ring, LIMIT - 1);
    ck_assert_str_eq(event->tenant, "");
    ck_assert_str_eq(event->name, "short");
    ck_assert_str_eq(event->verb, "ready");
    ck_assert_str_eq(event->reason, "");
}
END_TEST

START_TEST(the_hash_is_that_of_what_is_held)
{
    struct event_ring *other = event_ring_new(LIMIT);
    ck_assert_ptr_nonnull(other);
    for (uint64_t i = 1; i <= 20; i++) {
        push(ring, i, "x");
    }
    event_ring_start(other, 20 - LIMIT);
    for (uint64_t i = 20 - LIMIT + 1; i <= 20; i++) {
        ck_assert(event_ring_hash(other) != event_ring_hash(ring));
        push(other, i, "x");
    }
    ck_assert_uint_eq(event_ring_hash(other), event_ring_hash(ring));
    push(ring, 21, "x");
    push(other, 21, "y");
    ck_assert(event_ring_hash(other) != event_ring_hash(ring));
    event_ring_free(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("event_ring");
    TCase *tests = tcase_create("event_ring");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, events_come_oldest_first_from_a_revision_on);
    tcase_add_test(tests, the_newest_are_kept);
    tcase_add_test(tests, an_event_says_what_was_pushed);
    tcase_add_test(tests, the_hash_is_that_of_what_is_held);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
