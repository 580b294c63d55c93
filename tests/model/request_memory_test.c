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
    ck_assert_int_eq(request_memory_add(to, &made), 0);
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

START_TEST(the_hash_is_that_of_what_is_held)
{
    struct request_memory *other = request_memory_new(LIMIT);
    ck_assert_ptr_nonnull(other);
    for (uint8_t i = 0; i < 20; i++) {
        add(memory, i);
    }
    request_memory_start(other, 20 - LIMIT);
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
    tcase_add_test(tests, the_hash_is_that_of_what_is_held);
    tcase_add_test(tests, only_the_zero_id_is_zero);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
