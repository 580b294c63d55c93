/* Whatever a file begins with: raw, a qcow2 that asks for nothing, or a reason. */
#include "agent/disk_format.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum disk_format format = DISK_FORMAT_COUNT;
    struct err err = {0};
    int r = disk_format_of(data, size < DISK_FORMAT_HEAD ? size : DISK_FORMAT_HEAD,
                           &format, &err);
    if (r == 0 ? format >= DISK_FORMAT_COUNT : err.text[0] == '\0') {
        abort();
    }
    if (r == 0 && format == DISK_FORMAT_QCOW2 &&
        (memcmp(data, "QFI\xfb", 4) != 0 ||
         memcmp(data + 8, "\0\0\0\0\0\0\0\0", 8) != 0)) {
        abort(); /* it has a backing file */
    }
    return 0;
}
