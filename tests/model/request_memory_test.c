#include "model/request_memory.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

#define LIMIT 8

static struct request_memory *memory;

static void setup(void)
{
    memory = request_memory_new(LIMIT);
    ck_assert_ptr_nonnull(memory);
}

static void teardown(void)
{
    memory = request_memory_free(memory);
}

static struct remembered_request request(uint8_t number)
{
    struct remembered_request made = {.id = {0xff, number},
                                      .result = {.revision = number, .uid = number + 1}};
    memset(made.asked.bytes, number, DIGEST_SIZE);
    snprintf(made.result.text, sizeof(made.result.text), "answer %d", number);
    return made;
}

static void add(struct request_memory *to, uint8_t number)
{
    struct remembered_request made = request(number);
    ck_assert_int_eq(request_memory_add(to, &made, true), 0);
}

static const struct remembered_request *find(uint8_t number)
{
    return request_memory_find(memory, request(number).id);
}

START_TEST(an_answer_is_found_by_its_id)
{
    add(memory, 1);
    add(memory, 2);
    const struct remembered_request *found = find(2);
    ck_assert_ptr_nonnull(found);
    ck_assert_uint_eq(found->result.uid, 3);
    ck_assert_str_eq(found->result.text, "answer 2");
    ck_assert_ptr_null(find(3));
}
END_TEST

START_TEST(the_oldest_is_forgotten_first)
{
    for (uint8_t i = 0; i < LIMIT + 3; i++) {
        add(memory, i);
    }
    ck_assert_uint_eq(request_memory_count(memory), LIMIT);
    ck_assert_ptr_null(find(2));
    ck_assert_ptr_nonnull(find(3));
    ck_assert_uint_eq(request_memory_at(memory, 0)->result.revision, 3);
    ck_assert_uint_eq(request_memory_at(memory, LIMIT - 1)->result.revision, LIMIT + 2);
}
END_TEST

START_TEST(a_forgotten_id_may_come_again)
{
    for (uint8_t i = 0; i < LIMIT + 1; i++) {
        add(memory, i);
    }
    add(memory, 0);
    ck_assert_ptr_nonnull(find(0));
    ck_assert_ptr_null(find(1));
}
END_TEST

static struct remembered_request crowd(uint8_t number)
{
    struct remembered_request made = request(number);
    made.id[0] = 0xaa; /* all of one owner */
    made.id[1] = 0;
    made.id[REQUEST_ID_SIZE - 1] = number;
    return made;
}

START_TEST(who_asks_much_has_its_own_forgotten_and_nobody_elses)
{
    struct request_memory *copy = request_memory_new(LIMIT);
    ck_assert_ptr_nonnull(copy);
    add(memory, 1);
    add(memory, 2);
    for (uint8_t i = 10; i < 100; i++) {
        struct remembered_request made = crowd(i);
        ck_assert_int_eq(request_memory_add(memory, &made, true), 0);
        if (i == 50) {
            add(memory, 3); /* between two of the crowd */
        }
    }
    ck_assert_ptr_nonnull(find(1));
    ck_assert_ptr_nonnull(find(2));
    ck_assert_ptr_nonnull(find(3));
    ck_assert_uint_eq(request_memory_count(memory), 3 + LIMIT / REQUEST_SHARES);
    for (uint8_t i = 10; i < 100; i++) {
        const struct remembered_request *found = request_memory_find(memory, crowd(i).id);
        ck_assert_int_eq(found != NULL, i >= 100 - LIMIT / REQUEST_SHARES);
        ck_assert(found == NULL || found->result.revision == i);
    }
    ck_assert_str_eq(find(2)->result.text, "answer 2");

    /* As a snapshot has it: by age, from the number of the oldest on. */
    uint32_t count = request_memory_count(memory);
    request_memory_start(copy, request_memory_sequence(memory) - count, 99);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_int_eq(request_memory_add(copy, request_memory_at(memory, i), false),
                         0);
    }
    ck_assert_uint_eq(request_memory_hash(copy), request_memory_hash(memory));
    ck_assert_uint_eq(request_memory_count(copy), count);
    request_memory_free(copy);
}
END_TEST

/* Of three owners at random: none holds more than its share, or less than it may. */
START_TEST(whoever_asks_each_holds_its_share)
{
    unsigned asked[4] = {0};
    uint32_t draw = 7;
    for (unsigned n = 0; n < 300; n++) {
        draw = draw * 1103515245 + 12345;
        const uint8_t asks = (uint8_t)(1 + (draw >> 16) % 3);
        const struct remembered_request made = {
            .id = {0, 0, 0, asks, (uint8_t)(1 + n / 256), (uint8_t)n}};
        ck_assert_int_eq(request_memory_add(memory, &made, true), 0);
        asked[asks]++;

        unsigned held[4] = {0};
        ck_assert_ptr_nonnull(request_memory_find(memory, made.id));
        for (uint32_t i = 0; i < request_memory_count(memory); i++) {
            const uint8_t *id = request_memory_at(memory, i)->id;
            held[id[3]]++;
            ck_assert_ptr_eq(request_memory_find(memory, id),
                             request_memory_at(memory, i));
        }
        for (unsigned owner = 1; owner <= 3; owner++) {
            const unsigned share = LIMIT / REQUEST_SHARES;
            ck_assert_uint_eq(held[owner], asked[owner] < share ? asked[owner] : share);
        }
    }
}
END_TEST

START_TEST(what_was_held_above_a_share_goes_when_shares_begin)
{
    add(memory, 1);
    for (uint8_t i = 10; i < 10 + LIMIT - 1; i++) {
        struct remembered_request made = crowd(i);
        ck_assert_int_eq(request_memory_add(memory, &made, false), 0);
    }
    ck_assert_uint_eq(request_memory_count(memory), LIMIT);
    ck_assert_ptr_nonnull(request_memory_find(memory, crowd(10).id));
    struct remembered_request last = crowd(50);
    ck_assert_int_eq(request_memory_add(memory, &last, true), 0);
    ck_assert_uint_eq(request_memory_count(memory), 1 + LIMIT / REQUEST_SHARES);
    ck_assert_ptr_nonnull(find(1));
    ck_assert_ptr_nonnull(request_memory_find(memory, last.id));
    ck_assert_ptr_nonnull(request_memory_find(memory, crowd(10 + LIMIT - 2).id));
}
END_TEST

START_TEST(the_hash_is_that_of_what_is_held)
{
    struct request_memory *other = request_memory_new(LIMIT);
    ck_assert_ptr_nonnull(other);
    for (uint8_t i = 0; i < 20; i++) {
        add(memory, i);
    }
    request_memory_start(other, 20 - LIMIT, 20);
    for (uint8_t i = 20 - LIMIT; i < 20; i++) {
        ck_assert(request_memory_hash(other) != request_memory_hash(memory));
        add(other, i);
    }
    ck_assert_uint_eq(request_memory_hash(other), request_memory_hash(memory));
    add(memory, 30);
    add(other, 31);
    ck_assert(request_memory_hash(other) != request_memory_hash(memory));
    request_memory_free(other);
}
END_TEST

/* By that a repeat is told from a first try: what nobody has forgotten was not answered.
 */
START_TEST(how_new_an_answer_was_forgotten_is_known_of_each_owner)
{
    struct remembered_request mine = crowd(1);
    mine.id[3] = 7; /* of another set of owners */
    for (uint8_t i = 1; i <= LIMIT / REQUEST_SHARES; i++) {
        add(memory, i); /* each is somebody's: id bytes 0 to 3 */
    }
    ck_assert_uint_eq(request_memory_forgotten(memory, request(1).id), 0);
    for (uint8_t i = 10; i < 20; i++) {
        struct remembered_request made = crowd(i);
        made.id[3] = mine.id[3];
        ck_assert_int_eq(request_memory_add(memory, &made, true), 0);
        const uint8_t share = LIMIT / REQUEST_SHARES;
        ck_assert_uint_eq(request_memory_forgotten(memory, mine.id),
                          i < 10 + share ? 0 : (uint64_t)i - share);
    }
    for (uint8_t i = 100; i < 100 + LIMIT; i++) { /* all of before goes */
        struct remembered_request made = request(i);
        made.id[3] = i;
        ck_assert_int_eq(request_memory_add(memory, &made, true), 0);
    }
    ck_assert_uint_eq(request_memory_forgotten(memory, mine.id), 19);
    ck_assert_uint_eq(request_memory_forgotten(memory, request(1).id), 2);

    /* A snapshot does not say whose they were. */
    struct request_memory *copy = request_memory_new(LIMIT);
    ck_assert_ptr_nonnull(copy);
    request_memory_start(copy, 0, 110);
    ck_assert_uint_eq(request_memory_forgotten(copy, mine.id), 0);
    request_memory_start(copy, 5, 110);
    ck_assert_uint_eq(request_memory_forgotten(copy, mine.id), 110);
    request_memory_free(copy);
}
END_TEST

START_TEST(only_the_zero_id_is_zero)
{
    uint8_t id[REQUEST_ID_SIZE] = {0};
    ck_assert(request_id_is_zero(id));
    id[REQUEST_ID_SIZE - 1] = 1;
    ck_assert(!request_id_is_zero(id));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("request_memory");
    TCase *tests = tcase_create("request_memory");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, an_answer_is_found_by_its_id);
    tcase_add_test(tests, the_oldest_is_forgotten_first);
    tcase_add_test(tests, a_forgotten_id_may_come_again);
    tcase_add_test(tests, whoever_asks_each_holds_its_share);
    tcase_add_test(tests, who_asks_much_has_its_own_forgotten_and_nobody_elses);
    tcase_add_test(tests, what_was_held_above_a_share_goes_when_shares_begin);
    tcase_add_test(tests, the_hash_is_that_of_what_is_held);
    tcase_add_test(tests, how_new_an_answer_was_forgotten_is_known_of_each_owner);
    tcase_add_test(tests, only_the_zero_id_is_zero);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
