#include "vmm/msix.h"

#include "base/require.h"

#include <string.h>

/* 6.8.2: the capability, and an entry of the table. */
#define CAPABILITY_ID    0x11u
#define CONTROL_ENABLE   0x8000u
#define CONTROL_MASK_ALL 0x4000u
#define ENTRY_DATA_AT    8u
#define ENTRY_CONTROL_AT 12u
#define ENTRY_MASKED     1u

static uint16_t control(const struct msix *msix)
{
    uint8_t bytes[2];
    pci_function_read(msix->function, msix->control_at, bytes, sizeof(bytes));
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static uint32_t entry_u32(const struct msix *msix, unsigned vector, unsigned at)
{
    uint32_t value;
    memcpy(&value, msix->table + (size_t)vector * MSIX_ENTRY_BYTES + at, sizeof(value));
    return value;
}

static void table_clear(struct msix *msix)
{
    memset(msix->table, 0, sizeof(msix->table));
    for (unsigned i = 0; i < msix->vector_count; i++) {
        msix->table[i * MSIX_ENTRY_BYTES + ENTRY_CONTROL_AT] = ENTRY_MASKED;
    }
    msix->pending = 0;
}

void msix_init(struct msix *msix,
               struct pci_function *function,
               unsigned vector_count,
               unsigned bar,
               uint32_t table_at,
               uint32_t pending_at)
{
    REQUIRE(vector_count > 0 && vector_count <= MSIX_VECTORS_MAX);
    REQUIRE(table_at % 8 == 0 && pending_at % 8 == 0 && bar < PCI_BARS_MAX);
    const uint32_t table = table_at | bar;
    const uint32_t pending = pending_at | bar;
    uint8_t body[10] = {(uint8_t)(vector_count - 1), 0};
    const uint8_t writable[sizeof(body)] = {0, (CONTROL_ENABLE | CONTROL_MASK_ALL) >> 8};
    memcpy(body + 2, &table, sizeof(table));
    memcpy(body + 6, &pending, sizeof(pending));
    memset(msix, 0, sizeof(*msix));
    msix->function = function;
    msix->vector_count = vector_count;
    msix->control_at =
        (uint8_t)(2 + pci_function_add_capability(function, CAPABILITY_ID, body, writable,
                                                  sizeof(body)));
    table_clear(msix);
}

bool msix_message(const struct msix *msix,
                  unsigned vector,
                  struct msix_message *ret_message)
{
    const uint16_t word = control(msix);
    if (vector >= msix->vector_count || !(word & CONTROL_ENABLE) ||
        (word & CONTROL_MASK_ALL) ||
        (entry_u32(msix, vector, ENTRY_CONTROL_AT) & ENTRY_MASKED)) {
        return false;
    }
    *ret_message = (struct msix_message){
        .address = entry_u32(msix, vector, 0) | (uint64_t)entry_u32(msix, vector, 4)
                                                    << 32,
        .data = entry_u32(msix, vector, ENTRY_DATA_AT),
    };
    return true;
}

void msix_raise(struct msix *msix, unsigned vector)
{
    struct msix_message message;
    if (vector >= msix->vector_count) {
        return;
    }
    if (msix_message(msix, vector, &message)) {
        device_line_raise(&msix->deliver, vector);
    } else if (control(msix) & CONTROL_ENABLE) {
        msix->pending |= UINT32_C(1) << vector;
    }
}

/* A mask may have fallen, a message may be new: routes first, then what waited. */
static void vector_settle(struct msix *msix, unsigned vector)
{
    struct msix_message message;
    const uint32_t bit = UINT32_C(1) << vector;
    device_line_raise(&msix->changed, vector);
    if ((msix->pending & bit) && msix_message(msix, vector, &message)) {
        msix->pending &= ~bit;
        device_line_raise(&msix->deliver, vector);
    }
}

static void settle_all(struct msix *msix)
{
    msix->control_seen = control(msix);
    for (unsigned i = 0; i < msix->vector_count; i++) {
        vector_settle(msix, i);
    }
}

void msix_control_written(struct msix *msix)
{
    if (control(msix) != msix->control_seen) {
        settle_all(msix);
    }
}

static bool access_fits(const struct msix *msix, uint64_t offset, unsigned size)
{
    const uint64_t bytes = (uint64_t)msix->vector_count * MSIX_ENTRY_BYTES;
    return (size == 4 || size == 8) && offset % size == 0 && offset < bytes;
}

void msix_table_read(const struct msix *msix,
                     uint64_t offset,
                     void *ret_data,
                     unsigned size)
{
    memset(ret_data, 0xff, size);
    if (access_fits(msix, offset, size)) {
        memcpy(ret_data, msix->table + offset, size);
    }
}

void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned size)
{
    if (access_fits(msix, offset, size)) {
        memcpy(msix->table + offset, data, size);
        vector_settle(msix, (unsigned)(offset / MSIX_ENTRY_BYTES));
    }
}

void msix_pending_read(const struct msix *msix,
                       uint64_t offset,
                       void *ret_data,
                       unsigned size)
{
    const uint64_t pending = msix->pending;
    memset(ret_data, 0, size);
    if (offset < sizeof(pending) && size <= sizeof(pending) - offset) {
        memcpy(ret_data, (const uint8_t *)&pending + offset, size);
    }
}

void msix_reset(struct msix *msix)
{
    table_clear(msix); /* the function has cleared the control word */
    settle_all(msix);
}

void msix_save(const struct msix *msix, struct bytes_writer *writer)
{
    bytes_write_u32(writer, msix->vector_count);
    bytes_write_u32(writer, msix->pending);
    bytes_write_raw(writer, msix->table, (size_t)msix->vector_count * MSIX_ENTRY_BYTES);
}

int msix_restore(struct msix *msix, struct bytes_reader *reader)
{
    const uint32_t vector_count = bytes_read_u32(reader);
    const uint32_t pending = bytes_read_u32(reader);
    const uint64_t known = (UINT64_C(1) << msix->vector_count) - 1;
    if (reader->error != 0 || vector_count != msix->vector_count || pending > known) {
        return BERTH_ECORRUPT;
    }
    bytes_read_raw(reader, msix->table, (size_t)vector_count * MSIX_ENTRY_BYTES);
    if (reader->error != 0) {
        table_clear(msix);
        return BERTH_ECORRUPT;
    }
    msix->pending = pending;
    settle_all(msix);
    return 0;
}
