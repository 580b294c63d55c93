/* Log entries: what opens is walked to its end inside its bounds and, built again from
 * what it held, gives the same bytes. The first four bytes choose whether the checksum is
 * repaired first, so that the lengths behind it are reached. */
#include "base/digest.h"
#include "base/require.h"
#include "consensus/entry_frame.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct entry_frame_reader *opened,
                             const uint8_t *entry,
                             size_t size)
{
    struct entry_frame_reader reader = *opened;
    struct entry_frame_builder builder;
    const uint8_t *command = NULL;
    size_t command_size = 0;
    size_t payload = 0;
    uint32_t count = 0;
    while (entry_frame_next(&reader, &command, &command_size)) {
        REQUIRE(command >= entry && command + command_size <= entry + size);
        payload += command_size;
        count++;
    }
    REQUIRE(count == opened->count);
    REQUIRE(entry_frame_size(count, payload) == size);
    uint8_t *again = malloc(size);
    REQUIRE(again != NULL);
    entry_frame_begin(&builder, again, size);
    reader = *opened;
    while (entry_frame_next(&reader, &command, &command_size)) {
        entry_frame_add(&builder, command, command_size);
    }
    entry_frame_finish(&builder);
    struct entry_frame_reader second;
    REQUIRE(entry_frame_open(&second, again, size, NULL) == 0);
    REQUIRE(memcmp(again + 8, entry + 8, opened->size - 8) == 0);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct entry_frame_reader reader;
    struct err err = {0};
    if (size < 4) {
        return 0;
    }
    bool repair = data[0] % 2 == 1;
    size_t entry_size = size - 4;
    uint8_t *entry = malloc(entry_size + 1);
    REQUIRE(entry != NULL);
    memcpy(entry, data + 4, entry_size);
    if (repair && entry_size >= 8) {
        uint32_t sum = crc32c(0, entry + 8, entry_size - 8);
        memcpy(entry + 4, &sum, sizeof(sum));
    }
    if (entry_frame_open(&reader, entry, entry_size, &err) == 0) {
        check_round_trip(&reader, entry, entry_size);
    } else {
        REQUIRE(err.text[0] != '\0');
    }
    free(entry);
    return 0;
}
