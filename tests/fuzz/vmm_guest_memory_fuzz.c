/* Guest memory: any ranges, through every way in; a plain array is the model. */
#include "base/bytes.h"
#include "base/require.h"
#include "vmm/guest_memory.h"

#include <errno.h>
#include <string.h>

#define LOW_BYTES  (2 * GUEST_PAGE_BYTES)
#define HIGH_AT    (UINT64_C(4) << 30)
#define HIGH_BYTES GUEST_PAGE_BYTES
#define COPY_MAX   (LOW_BYTES + HIGH_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t model[LOW_BYTES + HIGH_BYTES];

/* Where a range that lies in RAM is in the model, or NULL. */
static uint8_t *model_at(uint64_t address, uint64_t size)
{
    if (address < LOW_BYTES && size <= LOW_BYTES - address) {
        return model + address;
    }
    if (address >= HIGH_AT && address - HIGH_AT < HIGH_BYTES &&
        size <= HIGH_BYTES - (address - HIGH_AT)) {
        return model + LOW_BYTES + (address - HIGH_AT);
    }
    return NULL;
}

static void step(struct guest_memory *memory, struct bytes_reader *reader)
{
    static uint8_t copy[COPY_MAX];
    struct iovec pieces[4];
    const uint8_t kind = bytes_read_u8(reader);
    const uint64_t address = bytes_read_u64(reader);
    const uint64_t size = kind & 1 ? bytes_read_u64(reader) : bytes_read_u16(reader);
    uint8_t *expected = size > 0 ? model_at(address, size) : NULL;
    REQUIRE(guest_memory_holds(memory, address, size) == (expected != NULL));
    const int count = guest_memory_iovec(memory, address, size, pieces, 4);
    REQUIRE(expected != NULL ? count > 0 : count == -EFAULT);
    if (count > 0) {
        guest_memory_iovec_end(memory, pieces, (unsigned)count);
    }
    guest_memory_mark(memory, address, size);
    if (size == 0 || size > COPY_MAX) {
        return;
    }
    memset(copy, kind, (size_t)size);
    if (kind & 2) {
        const int r = guest_memory_write(memory, address, copy, (size_t)size);
        REQUIRE(r == (expected != NULL ? 0 : -EFAULT));
        if (expected != NULL) {
            memcpy(expected, copy, (size_t)size);
        }
    }
    if (expected != NULL) {
        REQUIRE(guest_memory_read(memory, address, copy, (size_t)size) == 0);
        REQUIRE(memcmp(copy, expected, (size_t)size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct guest_memory memory;
    struct bytes_reader reader;
    guest_memory_init(&memory);
    REQUIRE(guest_memory_add(&memory, 0, GUEST_PAGE_BYTES, NULL) == 0);
    REQUIRE(guest_memory_add(&memory, GUEST_PAGE_BYTES, GUEST_PAGE_BYTES, NULL) == 0);
    REQUIRE(guest_memory_add(&memory, HIGH_AT, HIGH_BYTES, NULL) == 0);
    REQUIRE(guest_memory_log_start(&memory) == 0);
    memset(model, 0, sizeof(model));
    bytes_reader_init(&reader, data, size);
    while (bytes_reader_left(&reader) > 0 && reader.error == 0) {
        step(&memory, &reader);
    }
    guest_memory_fini(&memory);
    return 0;
}
