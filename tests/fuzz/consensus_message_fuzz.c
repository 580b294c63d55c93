/* The library's messages as they come out of a channel: whatever the bytes, the screen's
 * verdict does not depend on the pieces they come in. */
#include "base/require.h"
#include "consensus/message_screen.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int verdict(const uint8_t *data, size_t size, size_t piece)
{
    struct message_screen *screen = message_screen_new();
    REQUIRE(screen != NULL);
    int r = 0;
    for (size_t at = 0; at < size && r == 0; at += piece) {
        r = message_screen_feed(screen, data + at, size - at < piece ? size - at : piece);
    }
    message_screen_free(screen);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int whole = verdict(data, size, size > 0 ? size : 1);
    REQUIRE(verdict(data, size, 1) == whole);
    REQUIRE(verdict(data, size, 13) == whole);
    return 0;
}
