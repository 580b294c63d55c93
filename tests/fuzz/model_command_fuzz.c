/* command_decode on any bytes: what is accepted encodes, decodes again to an equal
 * command, and encodes to the same bytes. */
#include "base/require.h"
#include "model/command.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int decode(const void *data, size_t size, struct command *ret_command)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    return command_decode(&reader, ret_command);
}

static size_t encode(const struct command *command, uint8_t **ret_data)
{
    struct bytes_writer writer;
    size_t size = 0;
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(command, &writer);
    REQUIRE(bytes_writer_take(&writer, ret_data, &size) == 0);
    return size;
}

static void print(const struct command *command)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, 64 * COMMAND_SIZE_MAX);
    command_print(command, &writer);
    REQUIRE(writer.error == 0);
    REQUIRE(memchr(writer.data, '\n', writer.size) == NULL);
    bytes_writer_fini(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct command first;
    struct command second;
    uint8_t *bytes = NULL;
    uint8_t *again = NULL;
    if (decode(data, size, &first) < 0) {
        REQUIRE(first.type == COMMAND_NONE);
        return 0;
    }
    size_t bytes_size = encode(&first, &bytes);
    REQUIRE(bytes_size <= size); /* canonical: the shortest form */
    REQUIRE(decode(bytes, bytes_size, &second) == 0);
    REQUIRE(first.type == second.type && first.wall_ms == second.wall_ms);
    REQUIRE(record_equal(command_record(first.type), &first.body, &second.body));
    REQUIRE(encode(&second, &again) == bytes_size);
    REQUIRE(memcmp(bytes, again, bytes_size) == 0);
    print(&first);
    free(again);
    free(bytes);
    command_fini(&second);
    command_fini(&first);
    return 0;
}
