/* Whatever a kernel's file says: what is in it, bounded, or a reason. */
#include "unpack/unpack_kernel.h"

#include <stdint.h>
#include <stdlib.h>

#define ENOUGH (8u << 20) /* a bomb is not waited for */

static int came(void *context, const void *data, size_t size)
{
    uint64_t *sum = context;
    if (size == 0 || data == NULL) {
        abort();
    }
    *sum += size;
    return *sum > ENOUGH ? BERTH_EFULL : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t sum = 0;
    const struct unpack_sink sink = {.came = came, .context = &sum};
    struct err err = {0};
    const int r = unpack_kernel(data, size, &sink, &err);
    if ((r == UNPACK_NOTHING && sum != 0) ||
        (r < 0 && r != BERTH_EFULL && err.text[0] == '\0')) {
        abort();
    }
    return 0;
}
