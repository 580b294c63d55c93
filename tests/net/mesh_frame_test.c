/* The frame codec: what it writes is fixed byte by byte, what it does not know it
 * refuses. */
#include "base/err.h"
#include "net/mesh_frame.h"
#include "support/test_main.h"

#include <string.h>

#define BODY_SIZE 3

static uint8_t data[MESH_FRAME_HEADER_SIZE + BODY_SIZE];

static void make(void)
{
    mesh_frame_encode(0x0102, MESH_FRAME_BULK, 0x1112131415161718, 0x2122232425262728,
                      BODY_SIZE, data);
    memcpy(data + MESH_FRAME_HEADER_SIZE, "abc", BODY_SIZE);
}

static int decode(size_t size)
{
    struct mesh_frame frame;
    const uint8_t *body = NULL;
    return mesh_frame_decode(data, size, &frame, &body);
}

START_TEST(version_one_looks_like_this_on_the_wire)
{
    static const uint8_t golden[] = {0xb7, 1,    0x02, 0x01, 1,    0,    0x18, 0x17,
                                     0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x28, 0x27,
                                     0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 3,    0,
                                     0,    0,    'a',  'b',  'c'};
    make();
    ck_assert_uint_eq(sizeof(golden), sizeof(data));
    ck_assert_mem_eq(data, golden, sizeof(golden));
}
END_TEST

START_TEST(what_was_encoded_is_decoded)
{
    make();
    struct mesh_frame frame;
    const uint8_t *body = NULL;
    ck_assert_int_eq(mesh_frame_decode(data, sizeof(data), &frame, &body), 0);
    ck_assert_uint_eq(frame.type, 0x0102);
    ck_assert_uint_eq(frame.flags, MESH_FRAME_BULK);
    ck_assert_uint_eq(frame.session, 0x1112131415161718);
    ck_assert_uint_eq(frame.sequence, 0x2122232425262728);
    ck_assert_uint_eq(frame.body_size, BODY_SIZE);
    ck_assert_ptr_eq(body, data + MESH_FRAME_HEADER_SIZE);
}
END_TEST

START_TEST(a_frame_cut_anywhere_is_refused)
{
    make();
    for (size_t size = 0; size < sizeof(data); size++) {
        ck_assert_int_eq(decode(size), BERTH_EPROTO);
    }
}
END_TEST

START_TEST(bytes_after_the_body_are_refused)
{
    make();
    data[MESH_FRAME_HEADER_SIZE - 4] = BODY_SIZE - 1;
    ck_assert_int_eq(decode(sizeof(data)), BERTH_EPROTO);
}
END_TEST

START_TEST(another_version_is_refused_before_its_length_is_believed)
{
    make();
    data[1] = MESH_FRAME_VERSION + 1;
    ck_assert_int_eq(decode(sizeof(data)), BERTH_EUNSUPPORTED);
    ck_assert_int_eq(decode(2), BERTH_EUNSUPPORTED);
    data[0] = 0;
    ck_assert_int_eq(decode(sizeof(data)), BERTH_EPROTO);
}
END_TEST

START_TEST(unknown_flags_and_too_long_bodies_are_refused)
{
    make();
    data[5] = 0x80;
    ck_assert_int_eq(decode(sizeof(data)), BERTH_EUNSUPPORTED);
    make();
    data[MESH_FRAME_HEADER_SIZE - 1] = 0x7f;
    ck_assert_int_eq(decode(sizeof(data)), BERTH_ETOOLARGE);
}
END_TEST

START_TEST(a_welcome_tells_the_port_and_may_grow)
{
    uint8_t body[MESH_WELCOME_SIZE + 1] = {0};
    uint16_t port = 0;
    mesh_welcome_encode(7441, body);
    ck_assert_int_eq(mesh_welcome_decode(body, MESH_WELCOME_SIZE, &port), 0);
    ck_assert_uint_eq(port, 7441);
    ck_assert_int_eq(mesh_welcome_decode(body, sizeof(body), &port), 0);
    ck_assert_int_eq(mesh_welcome_decode(body, 1, &port), BERTH_EPROTO);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mesh_frame");
    TCase *c = tcase_create("mesh_frame");
    tcase_add_test(c, version_one_looks_like_this_on_the_wire);
    tcase_add_test(c, what_was_encoded_is_decoded);
    tcase_add_test(c, a_frame_cut_anywhere_is_refused);
    tcase_add_test(c, bytes_after_the_body_are_refused);
    tcase_add_test(c, another_version_is_refused_before_its_length_is_believed);
    tcase_add_test(c, unknown_flags_and_too_long_bodies_are_refused);
    tcase_add_test(c, a_welcome_tells_the_port_and_may_grow);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
