/* Goal: what is sent is what arrives, and nothing else is taken for a message. */
#include "base/err.h"
#include "fence/fence_wire.h"
#include "support/test_main.h"

#include <check.h>

#include <string.h>

/* A message of each type, every byte of its body another. */
static struct fence_message sample(enum fence_type type)
{
    struct fence_message message = {.type = type, .tag = 0xa1b2c3d4};
    uint8_t *bytes = (uint8_t *)&message.body;
    for (size_t i = 0; i < sizeof(message.body); i++) {
        bytes[i] = (uint8_t)(i * 7 + type);
    }
    if (type == FENCE_PAGE) {
        message.body.page.count = FENCE_PAGE_VMS;
    }
    return message;
}

static const enum fence_type types[] = {
#define TYPE(number, NAME, name) FENCE_##NAME,
    FENCE_MESSAGES(TYPE)};
#define TYPES ((int)(sizeof(types) / sizeof(types[0])))

START_TEST(every_message_survives_the_wire)
{
    const struct fence_message sent = sample(types[_i]);
    struct fence_message got;
    uint8_t data[FENCE_MESSAGE_SIZE_MAX];
    uint8_t again[FENCE_MESSAGE_SIZE_MAX];

    size_t size = fence_wire_encode(&sent, data);

    ck_assert_int_eq(fence_wire_decode(data, size, &got), 0);
    ck_assert_int_eq(got.type, types[_i]);
    ck_assert_uint_eq(got.tag, 0xa1b2c3d4);
    ck_assert_uint_eq(fence_wire_encode(&got, again), size);
    ck_assert_mem_eq(data, again, size);
}
END_TEST

START_TEST(every_message_has_one_size)
{
    const struct fence_message sent = sample(types[_i]);
    struct fence_message got;
    uint8_t data[FENCE_MESSAGE_SIZE_MAX + 1] = {0};

    size_t size = fence_wire_encode(&sent, data);

    for (size_t cut = 0; cut < size; cut++) {
        ck_assert_int_eq(fence_wire_decode(data, cut, &got), BERTH_EPROTO);
        ck_assert_int_eq(got.type, FENCE_NONE);
    }
    ck_assert_int_eq(fence_wire_decode(data, size + 1, &got), BERTH_EPROTO);
}
END_TEST

START_TEST(fields_arrive_in_their_places)
{
    const struct fence_message sent = {
        .type = FENCE_WATCH,
        .tag = 5,
        .body.watch = {.uid = 1,
                       .epoch = UINT64_C(1) << 40,
                       .start_ticks = 3,
                       .pid = 4,
                       .freezer = FENCE_FREEZER_V2,
                       .kill = 1},
    };
    struct fence_message got;
    uint8_t data[FENCE_MESSAGE_SIZE_MAX];

    ck_assert_int_eq(fence_wire_decode(data, fence_wire_encode(&sent, data), &got), 0);

    ck_assert_uint_eq(got.body.watch.uid, 1);
    ck_assert_uint_eq(got.body.watch.epoch, UINT64_C(1) << 40);
    ck_assert_uint_eq(got.body.watch.start_ticks, 3);
    ck_assert_uint_eq(got.body.watch.pid, 4);
    ck_assert_uint_eq(got.body.watch.freezer, FENCE_FREEZER_V2);
    ck_assert_uint_eq(got.body.watch.kill, 1);
}
END_TEST

START_TEST(another_version_is_told_from_garbage)
{
    const struct fence_message sent = {.type = FENCE_HELLO};
    struct fence_message got;
    uint8_t data[FENCE_MESSAGE_SIZE_MAX];
    size_t size = fence_wire_encode(&sent, data);

    data[4]++; /* the version, after the magic number */
    ck_assert_int_eq(fence_wire_decode(data, size, &got), BERTH_EUNSUPPORTED);
    data[0]++;
    ck_assert_int_eq(fence_wire_decode(data, size, &got), BERTH_EPROTO);
}
END_TEST

START_TEST(unknown_types_and_overfull_pages_are_refused)
{
    struct fence_message message = {.type = FENCE_HELLO};
    struct fence_message got;
    uint8_t data[FENCE_MESSAGE_SIZE_MAX];

    size_t size = fence_wire_encode(&message, data);
    data[6] = FENCE_TYPE_COUNT;
    ck_assert_int_eq(fence_wire_decode(data, size, &got), BERTH_EPROTO);

    message = (struct fence_message){.type = FENCE_PAGE};
    message.body.page.count = FENCE_PAGE_VMS + 1;
    size = fence_wire_encode(&message, data);
    ck_assert_int_eq(fence_wire_decode(data, size, &got), BERTH_EPROTO);
}
END_TEST

START_TEST(types_have_their_names)
{
    ck_assert_str_eq(fence_type_name(FENCE_HELLO), "hello");
    ck_assert_str_eq(fence_type_name(FENCE_END), "end");
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("fence_wire");
    TCase *tcase = tcase_create("wire");
    tcase_add_loop_test(tcase, every_message_survives_the_wire, 0, TYPES);
    tcase_add_loop_test(tcase, every_message_has_one_size, 0, TYPES);
    tcase_add_test(tcase, fields_arrive_in_their_places);
    tcase_add_test(tcase, another_version_is_told_from_garbage);
    tcase_add_test(tcase, unknown_types_and_overfull_pages_are_refused);
    tcase_add_test(tcase, types_have_their_names);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
