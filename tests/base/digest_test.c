#include "base/cleanup.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/random.h"
#include "support/test_main.h"

#include <string.h>

struct known_digest {
    const char *text;
    const char *hex;
};

/* FIPS 180-2's examples. */
static const struct known_digest known_digests[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

START_TEST(digests_are_sha_256)
{
    const struct known_digest *row = &known_digests[_i];
    struct digest digest;
    char text[DIGEST_HEX_SIZE];
    digest_of(row->text, strlen(row->text), &digest);
    digest_format(&digest, text);
    ck_assert_str_eq(text, row->hex);
}
END_TEST

START_TEST(a_stream_in_pieces_gives_the_digest_of_the_whole)
{
    const char *text = known_digests[2].text;
    struct digest whole;
    struct digest pieces;
    struct digest_stream stream;
    digest_of(text, strlen(text), &whole);

    digest_start(&stream);
    digest_update(&stream, text, 5);
    digest_update(&stream, NULL, 0);
    digest_update(&stream, text + 5, strlen(text) - 5);
    digest_finish(&stream, &pieces);

    ck_assert(digest_equal(&whole, &pieces));
    pieces.bytes[DIGEST_SIZE - 1] ^= 1;
    ck_assert(!digest_equal(&whole, &pieces));
}
END_TEST

START_TEST(only_all_zeros_are_zero)
{
    struct digest digest = {{0}};
    ck_assert(digest_is_zero(&digest));
    digest.bytes[DIGEST_SIZE - 1] = 1;
    ck_assert(!digest_is_zero(&digest));
}
END_TEST

START_TEST(a_digest_s_text_leads_back_to_it)
{
    struct digest digest;
    struct digest parsed;
    char text[DIGEST_HEX_SIZE];
    digest_of("abc", 3, &digest);
    digest_format(&digest, text);
    text[0] = 'B'; /* upper case is read, too */
    ck_assert_int_eq(digest_parse(text, &parsed), 0);
    ck_assert(digest_equal(&digest, &parsed));
}
END_TEST

static const char *const bad_hex[] = {
    "", "0", "00010", "000102030", "0g01", "00 1", "0x01", "-001", "00011",
};

START_TEST(what_is_not_exactly_hex_is_refused_and_nothing_written)
{
    uint8_t data[2] = {0x55, 0x55};
    ck_assert_int_eq(hex_parse(bad_hex[_i], data, sizeof(data)), BERTH_EINVALID);
    ck_assert_uint_eq(data[0], 0x55);
    ck_assert_uint_eq(data[1], 0x55);
}
END_TEST

START_TEST(hex_is_lower_case_and_complete)
{
    const uint8_t data[] = {0x00, 0x9f, 0xff};
    char text[7];
    uint8_t parsed[3];
    hex_format(data, sizeof(data), text);
    ck_assert_str_eq(text, "009fff");
    ck_assert_int_eq(hex_parse(text, parsed, sizeof(parsed)), 0);
    ck_assert_mem_eq(parsed, data, sizeof(data));
}
END_TEST

/* RFC 3720, B.4, and the usual check value. */
START_TEST(crc32c_gives_the_published_values)
{
    uint8_t zeros[32] = {0};
    uint8_t ones[32];
    memset(ones, 0xff, sizeof(ones));
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aa);
    ck_assert_uint_eq(crc32c(0, ones, sizeof(ones)), 0x62a8ab43);
    ck_assert_uint_eq(crc32c(0, "", 0), 0);
}
END_TEST

/* Bit by bit, as the definition reads: the fast ways have to agree with it. */
static uint32_t slow_crc(uint32_t crc, const uint8_t *data, size_t size)
{
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
        }
    }
    return ~crc;
}

START_TEST(crc32c_chains_over_any_split_and_alignment)
{
    uint8_t data[1700]; /* more than two blocks of what goes side by side */
    struct random random;
    random_seed(&random, 1);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)random_u64(&random);
    }
    for (size_t start = 0; start < 9; start++) {
        for (size_t split = start; split <= sizeof(data); split += split < 64 ? 1 : 37) {
            uint32_t crc = crc32c(0, data + start, split - start);
            crc = crc32c(crc, data + split, sizeof(data) - split);
            ck_assert_uint_eq(crc, slow_crc(0, data + start, sizeof(data) - start));
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("digest");
    TCase *tcase = tcase_create("digest");
    tcase_add_loop_test(tcase, digests_are_sha_256, 0, ARRAY_COUNT(known_digests));
    tcase_add_test(tcase, a_stream_in_pieces_gives_the_digest_of_the_whole);
    tcase_add_test(tcase, only_all_zeros_are_zero);
    tcase_add_test(tcase, a_digest_s_text_leads_back_to_it);
    tcase_add_loop_test(tcase, what_is_not_exactly_hex_is_refused_and_nothing_written, 0,
                        ARRAY_COUNT(bad_hex));
    tcase_add_test(tcase, hex_is_lower_case_and_complete);
    tcase_add_test(tcase, crc32c_gives_the_published_values);
    tcase_add_test(tcase, crc32c_chains_over_any_split_and_alignment);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
