/* Goal: what a kernel's build has packed comes out again, byte by byte, and a file that
 * lies is refused with bounded work. Method: bytes packed here with the libraries' other
 * halves, then cut, damaged and lied about. */
#include "base/cleanup.h"
#include "packed_kernel.h"
#include "support/corpus_seed.h"
#include "support/test_main.h"
#include "unpack/unpack_kernel.h"

#include <check.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#define BOMB_BYTES (12u << 20)        /* is too much there */
#define ELF_BYTES  ((9u << 20) + 123) /* more than a chunk of LZ4 */

static uint8_t *elf;
static uint8_t *file;
static size_t file_size;
static uint64_t came_bytes;
static bool came_wrong;
static uint64_t refuse_at; /* the sink is full then */

static int came(void *context, const void *data, size_t size)
{
    (void)context;
    if (came_bytes + size > refuse_at) {
        return -ENOSPC;
    }
    came_wrong = came_wrong || came_bytes + size > ELF_BYTES ||
                 memcmp(elf + came_bytes, data, size) != 0;
    came_bytes += size;
    return 0;
}

static int swallow(void *context, const void *data, size_t size)
{
    (void)context;
    (void)data;
    came_bytes += size;
    return 0;
}

static const struct unpack_sink sink = {.came = came};

static void setup(void)
{
    elf = malloc(ELF_BYTES);
    ck_assert_ptr_nonnull(elf);
    uint32_t number = 1;
    for (size_t i = 0; i < ELF_BYTES; i++) { /* neither all the same nor all noise */
        number = number * 1103515245u + 12345u;
        elf[i] = (uint8_t)(number >> 16 & (i / 4096 % 2 == 0 ? 0xff : 0x03));
    }
    memcpy(elf, "\177ELF", 4);
    came_bytes = 0;
    came_wrong = false;
    refuse_at = UINT64_MAX;
    file = NULL;
}

static void teardown(void)
{
    free(file);
    free(elf);
}

/* _i: an enum packing, all through. */
START_TEST(what_was_packed_comes_out)
{
    struct err err = {0};
    file = packed_kernel((enum packing)_i, elf, ELF_BYTES, &file_size);

    ck_assert_msg(unpack_kernel(file, file_size, &sink, &err) == 0, "%s", err.text);

    ck_assert_uint_eq(came_bytes, ELF_BYTES);
    ck_assert(!came_wrong);
}
END_TEST

START_TEST(a_kernel_that_is_cut_short_is_refused)
{
    struct err err = {0};
    if (_i == PACKED_NOT) {
        return; /* its bytes are what there is */
    }
    file = packed_kernel((enum packing)_i, elf, 1u << 20, &file_size);
    const uint32_t length = (uint32_t)(file_size - PACKED_HEAD) / 2;
    memcpy(file + 0x24c, &length, 4);

    ck_assert_int_eq(unpack_kernel(file, file_size, &sink, &err), BERTH_EINVALID);

    ck_assert_ptr_nonnull(strstr(err.text, "damaged, or cut short"));
    ck_assert(!came_wrong);
    ck_assert_uint_lt(came_bytes, 1u << 20);
}
END_TEST

/* Of the kinds that carry a checksum; the others' damage is the guest's to find. */
static const enum packing summed[] = {PACKED_GZIP, PACKED_ZSTD, PACKED_XZ};

/* Where nothing of the kernel lies: time and system in gzip's header, and what Linux
 * appends. */
static bool is_beside(enum packing packing, size_t at)
{
    return packing == PACKED_GZIP ? at < PACKED_HEAD + 10 : at + 4 >= file_size;
}

START_TEST(a_damaged_kernel_is_refused)
{
    struct err err = {0};
    file = packed_kernel(summed[_i], elf, 64u << 10, &file_size);
    for (size_t at = PACKED_HEAD + 6; at < file_size; at += 97) {
        file[at] ^= 0x55;
        came_bytes = 0;
        const int r = unpack_kernel(file, file_size, &sink, &err);
        ck_assert_msg(is_beside(summed[_i], at) || r == BERTH_EINVALID ||
                          r == BERTH_ETOOLARGE,
                      "byte %zu: %d", at, r);
        file[at] ^= 0x55;
    }
}
END_TEST

START_TEST(a_damaged_piece_of_lz4_gives_no_more_than_a_piece)
{
    const struct unpack_sink hole = {.came = swallow};
    struct err err = {0};
    unsigned refused = 0;
    file = packed_kernel(PACKED_LZ4, elf, 64u << 10, &file_size);
    for (size_t at = PACKED_HEAD + 6; at < file_size; at += 97) {
        file[at] ^= 0x55;
        came_bytes = 0;
        const int r = unpack_kernel(file, file_size, &hole, &err);
        ck_assert(r == 0 || r == BERTH_EINVALID);
        ck_assert_uint_le(came_bytes, LZ4_PIECE);
        refused += r < 0 ? 1U : 0U;
        file[at] ^= 0x55;
    }
    ck_assert_uint_gt(refused, 0);
}
END_TEST

START_TEST(what_takes_the_bytes_may_end_it)
{
    struct err err = {0};
    file = packed_kernel((enum packing)_i, elf, 1u << 20, &file_size);
    refuse_at = 1000;

    ck_assert_int_eq(unpack_kernel(file, file_size, &sink, &err), -ENOSPC);
}
END_TEST

/* _i: an enum packing. */
START_TEST(a_bomb_is_bounded)
{
    const struct unpack_sink hole = {.came = swallow, .bytes_max = BOMB_BYTES};
    const size_t size = BOMB_BYTES + 1;
    struct err err = {0};
    void *zeros = calloc(1, size);
    ck_assert_ptr_nonnull(zeros);
    file = packed_kernel((enum packing)_i, zeros, size, &file_size);
    free(zeros);

    ck_assert_int_eq(unpack_kernel(file, file_size, &hole, &err), BERTH_ETOOLARGE);

    ck_assert_str_eq(err.text,
                     "it unpacks to more than 12MiB, which is the room that there "
                     "is");
    ck_assert_uint_le(came_bytes, BOMB_BYTES);
}
END_TEST

/* Where a number of the header lies, and one that it must not be. */
static const struct {
    size_t at;
    uint32_t value;
    size_t size;
} lies[] = {
    {0x202, 0, 4}, {0x206, 0x207, 2}, {0x248, UINT32_MAX, 4}, {0x24c, UINT32_MAX, 4},
    {0x24c, 0, 4}, {0x1f1, 0xff, 1},  {0x248, 1u << 20, 4},
};

START_TEST(a_header_that_leads_nowhere_means_there_is_nothing)
{
    struct err err = {0};
    file = packed_kernel(PACKED_GZIP, elf, 4096, &file_size);
    memcpy(file + lies[_i].at, &lies[_i].value, lies[_i].size);

    ck_assert_int_eq(unpack_kernel(file, file_size, &sink, &err), UNPACK_NOTHING);

    ck_assert_uint_eq(came_bytes, 0);
}
END_TEST

START_TEST(what_is_no_bzimage_has_nothing_in_it)
{
    for (size_t size = 0; size < 0x250; size++) {
        ck_assert_int_eq(unpack_kernel(elf, size, &sink, NULL), UNPACK_NOTHING);
    }
    ck_assert_int_eq(unpack_kernel(elf, ELF_BYTES, &sink, NULL), UNPACK_NOTHING);
}
END_TEST

START_TEST(a_packing_that_is_not_known_is_named)
{
    struct err err = {0};
    file = packed_kernel(PACKED_GZIP, elf, 4096, &file_size);
    memcpy(file + PACKED_HEAD, "BZh9", 4);

    ck_assert_int_eq(unpack_kernel(file, file_size, &sink, &err), BERTH_EUNSUPPORTED);
}
END_TEST

/* _i: an enum packing. */
START_TEST(the_fuzzer_begins_with_each_kind)
{
    const struct unpack_sink hole = {.came = swallow};
    uint8_t *seed = NULL;
    size_t seed_size = 0;
    static const char *const names[PACKINGS] = {"plain", "gzip", "lz4", "zstd", "xz"};
    file = packed_kernel((enum packing)_i, elf + 4096, 8192, &file_size);
    if (_i == PACKED_NOT) {
        memcpy(file + PACKED_HEAD, elf, 4);
    }
    corpus_seed("unpack_kernel", names[_i], file, file_size, &seed, &seed_size);
    ck_assert_int_eq(unpack_kernel(seed, seed_size, &hole, NULL), 0);
    free(seed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unpack_kernel");
    TCase *tests = tcase_create("all");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, what_was_packed_comes_out, 0, PACKINGS);
    tcase_add_loop_test(tests, a_kernel_that_is_cut_short_is_refused, 0, PACKINGS);
    tcase_add_loop_test(tests, a_damaged_kernel_is_refused, 0, (int)ARRAY_COUNT(summed));
    tcase_add_test(tests, a_damaged_piece_of_lz4_gives_no_more_than_a_piece);
    tcase_add_loop_test(tests, what_takes_the_bytes_may_end_it, 0, PACKINGS);
    tcase_add_loop_test(tests, a_bomb_is_bounded, PACKED_GZIP, PACKINGS);
    tcase_add_loop_test(tests, a_header_that_leads_nowhere_means_there_is_nothing, 0,
                        (int)ARRAY_COUNT(lies));
    tcase_add_test(tests, what_is_no_bzimage_has_nothing_in_it);
    tcase_add_test(tests, a_packing_that_is_not_known_is_named);
    tcase_add_loop_test(tests, the_fuzzer_begins_with_each_kind, 0, PACKINGS);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
