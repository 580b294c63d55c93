/* Goal: the clock goes on from where it was by what has passed since, and the bytes of
 * clock and interrupt controllers come back or are refused. Method: values; KVM itself is
 * met by machine_state_test. */
#include "support/test_main.h"
#include "vmm/kvm_state.h"

#include <check.h>

#include <string.h>

static struct kvm_state state_make(void)
{
    struct kvm_state state = {.clock_ns = 5000, .wall_ms = 1000};
    for (unsigned i = 0; i < KVM_CHIPS; i++) {
        state.chips[i].chip_id = i;
        memset(&state.chips[i].chip, (int)(i + 1), sizeof(state.chips[i].chip));
    }
    return state;
}

START_TEST(the_clock_is_put_forward_and_never_back)
{
    const struct kvm_state state = state_make();
    struct kvm_state late = state;
    late.clock_ns = UINT64_MAX - 10;

    ck_assert_uint_eq(kvm_state_clock_at(&state, 1000), 5000);
    ck_assert_uint_eq(kvm_state_clock_at(&state, 1003), 3005000);
    ck_assert_uint_eq(kvm_state_clock_at(&state, 10), 5000);
    ck_assert_uint_eq(kvm_state_clock_at(&state, UINT64_MAX), 5000); /* it is no time */
    ck_assert_uint_eq(kvm_state_clock_at(&late, 1001), late.clock_ns);
}
END_TEST

START_TEST(its_bytes_come_back_and_a_cut_is_refused)
{
    const struct kvm_state state = state_make();
    struct kvm_state again;
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, 1u << 16);
    kvm_state_write(&state, &writer);
    bytes_reader_init(&reader, writer.data, writer.size);

    ck_assert_int_eq(kvm_state_read(&again, &reader, NULL), 0);

    ck_assert_uint_eq(again.clock_ns, 5000);
    ck_assert_uint_eq(again.wall_ms, 1000);
    for (unsigned i = 0; i < KVM_CHIPS; i++) {
        ck_assert_uint_eq(again.chips[i].chip_id, i);
        ck_assert_mem_eq(&again.chips[i].chip, &state.chips[i].chip,
                         sizeof(state.chips[i].chip));
    }
    bytes_write_u8(&writer, 0);
    for (size_t size = 0; size <= writer.size; size++) {
        bytes_reader_init(&reader, writer.data, size);
        ck_assert_int_eq(kvm_state_read(&again, &reader, NULL),
                         size + 1 == writer.size ? 0 : BERTH_ECORRUPT);
    }
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kvm_state");
    TCase *tests = tcase_create("kvm_state");
    tcase_add_test(tests, the_clock_is_put_forward_and_never_back);
    tcase_add_test(tests, its_bytes_come_back_and_a_cut_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
