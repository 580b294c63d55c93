/* State streams: any bytes are read or refused, and what was read writes the same bytes.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/require.h"
#include "vmm/state_stream.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state_reader reader;
    struct state_section section;
    struct bytes_writer writer;
    int r = state_reader_init(&reader, data, size, NULL);
    if (r < 0) {
        return 0;
    }
    bytes_writer_init(&writer, size);
    state_stream_begin(&writer);
    while ((r = state_reader_next(&reader, &section, NULL)) == 1) {
        state_stream_put(&writer, &section);
    }
    if (r == 0) {
        state_stream_end(&writer, reader.section_count);
        REQUIRE(writer.error == 0);
        /* The end mark's own version and flags carry nothing. */
        REQUIRE(writer.size == size);
        REQUIRE(memcmp(writer.data, data, size - 24) == 0);
    }
    bytes_writer_fini(&writer);
    return 0;
}
