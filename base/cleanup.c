#include "base/cleanup.h"

void *cleanup_new(size_t count, size_t size)
{
    return calloc(count > 0 ? count : 1, size > 0 ? size : 1);
}
