/* The log's open files: nothing of what is in them leads beyond them, a refusal has
 * words, and a file that is let through is the last one once an empty one follows. The
 * first byte's lowest bit says whether checksums are made right first, so that what
 * lies behind them is reached. */
#include "base/require.h"
#include "consensus/log_check.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t number(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static void put_sum(uint8_t *at, const uint8_t *data, size_t size)
{
    uint32_t sum = log_check_crc32(data, size);
    for (unsigned i = 0; i < 4; i++) {
        at[i] = (uint8_t)(sum >> (8 * i));
    }
}

/* Batch after batch, as long as they fit. */
static void repair(uint8_t *file, size_t size)
{
    size_t at = 8;
    while (at + LOG_CHECK_BATCH_HEAD <= size) {
        uint64_t count = number(file + at + 8, 8);
        size_t left = size - at - LOG_CHECK_BATCH_HEAD;
        if (count == 0 || count > left / LOG_CHECK_ENTRY_HEAD) {
            return;
        }
        size_t head = (size_t)count * LOG_CHECK_ENTRY_HEAD;
        uint64_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            bytes += number(
                file + at + LOG_CHECK_BATCH_HEAD + i * LOG_CHECK_ENTRY_HEAD + 12, 4);
        }
        put_sum(file + at, file + at + 8, 8 + head);
        if (bytes > left - head) {
            return;
        }
        uint8_t *begin = file + at + LOG_CHECK_BATCH_HEAD + head;
        put_sum(file + at + 4, begin, (size_t)bytes);
        at += LOG_CHECK_BATCH_HEAD + head + (size_t)bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct log_check check = {0};
    struct err err = {0};
    if (size < 1) {
        return 0;
    }
    uint8_t *file = malloc(size); /* its exact size, for whoever watches the bounds */
    REQUIRE(file != NULL);
    size_t file_size = size - 1;
    memcpy(file, data + 1, file_size);
    if (data[0] % 2 == 1 && file_size > 0) {
        repair(file, file_size);
    }
    int r = log_check_file(&check, "open-1", file, file_size, &err);
    REQUIRE((r == 0) == (err.text[0] == '\0'));
    if (r == 0) {
        uint8_t full[64] = {LOG_CHECK_FORMAT, 1};
        REQUIRE(log_check_file(&check, "open-2", full, 0, &err) == 0);
        REQUIRE(check.ended_in[0] != '\0');
        REQUIRE(log_check_file(&check, "open-3", full, sizeof(full), &err) ==
                BERTH_ECORRUPT);
    }
    free(file);
    return 0;
}
