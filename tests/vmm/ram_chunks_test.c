/* Chunks are counted over a memory with a hole, there and back. */
#include "support/test_main.h"
#include "vmm/ram_chunks.h"

#include <check.h>

#define LOW_CHUNKS  2u
#define HIGH_CHUNKS 3u
#define HIGH_AT     (UINT64_C(64) << 20)

static struct guest_memory memory;

static void setup(void)
{
    struct err err = {0};
    guest_memory_init(&memory);
    ck_assert_int_eq(
        guest_memory_add(&memory, HIGH_AT, HIGH_CHUNKS * RAM_CHUNK_BYTES, &err), 0);
    ck_assert_int_eq(guest_memory_add(&memory, 0, LOW_CHUNKS * RAM_CHUNK_BYTES, &err), 0);
}

static void teardown(void)
{
    guest_memory_fini(&memory);
}

START_TEST(every_chunk_is_found_by_its_first_and_its_last_byte)
{
    uint32_t count = ram_chunks_count(&memory);

    ck_assert_uint_eq(count, LOW_CHUNKS + HIGH_CHUNKS);
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t address = ram_chunk_address(&memory, i);
        const uint64_t host = (uintptr_t)ram_chunk_host(&memory, i);
        ck_assert_uint_eq(ram_chunk_at_address(&memory, address), i);
        ck_assert_uint_eq(ram_chunk_at_address(&memory, address + RAM_CHUNK_BYTES - 1),
                          i);
        ck_assert_uint_eq(ram_chunk_at_host(&memory, host), i);
        ck_assert_uint_eq(ram_chunk_at_host(&memory, host + RAM_CHUNK_BYTES - 1), i);
    }
}
END_TEST

START_TEST(the_first_chunk_behind_the_hole_is_at_the_second_regions_begin)
{
    ck_assert_uint_eq(ram_chunk_address(&memory, LOW_CHUNKS - 1), RAM_CHUNK_BYTES);
    ck_assert_uint_eq(ram_chunk_address(&memory, LOW_CHUNKS), HIGH_AT);
    ck_assert_ptr_eq(ram_chunk_host(&memory, LOW_CHUNKS), memory.regions[1].host);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ram_chunks");
    TCase *tests = tcase_create("ram_chunks");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, every_chunk_is_found_by_its_first_and_its_last_byte);
    tcase_add_test(tests, the_first_chunk_behind_the_hole_is_at_the_second_regions_begin);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
