/* Bodies of mesh messages as any host of the cell may send them; the first byte chooses
 * the type. What is accepted encodes, decodes again to an equal message, and encodes to
 * the same bytes. */
#include "agent/messages.h"
#include "base/require.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *decoded(const struct record *record, const void *data, size_t size)
{
    void *message = calloc(1, record->size_bytes);
    REQUIRE(message != NULL);
    if (message_decode(record, data, size, message) < 0) {
        free(message);
        message = NULL;
    }
    return message;
}

static void message_free(const struct record *record, void *message)
{
    record_fini(record, message);
    free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct record *record =
        size > 0 ? message_record((uint16_t)(MESSAGE_TYPE_BASE + data[0])) : NULL;
    void *first = record != NULL ? decoded(record, data + 1, size - 1) : NULL;
    uint8_t *bytes = NULL;
    uint8_t *again = NULL;
    size_t length = 0;
    size_t length_again = 0;
    if (first == NULL) {
        return 0;
    }
    REQUIRE(message_encode(record, first, &bytes, &length) == 0);
    void *second = decoded(record, bytes, length);
    REQUIRE(second != NULL && record_equal(record, first, second));
    REQUIRE(message_encode(record, second, &again, &length_again) == 0);
    REQUIRE(length_again == length && (length == 0 || memcmp(bytes, again, length) == 0));
    free(bytes);
    free(again);
    message_free(record, first);
    message_free(record, second);
    return 0;
}
