#include "vmm/pci_function.h"

#include "base/require.h"

#include <string.h>

/* PCI 3.0, 6.1: the header, type 0. */
#define AT_VENDOR           0x00u
#define AT_DEVICE           0x02u
#define AT_COMMAND          0x04u
#define AT_STATUS           0x06u
#define AT_REVISION         0x08u
#define AT_CLASS            0x09u
#define AT_CACHE_LINE       0x0cu
#define AT_BARS             0x10u
#define AT_SUBSYSTEM_VENDOR 0x2cu
#define AT_SUBSYSTEM        0x2eu
#define AT_CAPABILITIES     0x34u
#define AT_INTERRUPT_LINE   0x3cu
#define AT_FIRST_CAPABILITY 0x40u

#define COMMAND_MEMORY       0x0002u
#define COMMAND_MASTER       0x0004u
#define COMMAND_NO_INTX      0x0400u
#define STATUS_CAPABILITIES  0x0010u
#define CAPABILITY_HEAD      2u /* id, next */
#define CAPABILITY_ALIGNMENT 4u
#define BAR_FLAGS            0xfu /* memory, 32 bits, not prefetchable: all zero */

static void put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put_u32(uint8_t *at, uint32_t value)
{
    put_u16(at, value & 0xffff);
    put_u16(at + 2, value >> 16);
}

static uint32_t get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint16_t command(const struct pci_function *function)
{
    return (uint16_t)get_u32(function->config + AT_COMMAND);
}

void pci_function_init(struct pci_function *function, const struct pci_identity *identity)
{
    memset(function, 0, sizeof(*function));
    function->next_free = AT_FIRST_CAPABILITY;
    put_u16(function->config + AT_VENDOR, identity->vendor);
    put_u16(function->config + AT_DEVICE, identity->device);
    put_u16(function->config + AT_SUBSYSTEM_VENDOR, identity->subsystem_vendor);
    put_u16(function->config + AT_SUBSYSTEM, identity->subsystem);
    put_u32(function->config + AT_REVISION,
            identity->class_code << 8 | identity->revision);
    put_u16(function->writable + AT_COMMAND,
            COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_INTX);
    function->writable[AT_CACHE_LINE] = 0xff;
    function->writable[AT_INTERRUPT_LINE] = 0xff;
}

void pci_function_add_bar(struct pci_function *function,
                          unsigned bar,
                          uint32_t size_bytes)
{
    REQUIRE(bar < PCI_BARS_MAX && function->bar_size[bar] == 0);
    REQUIRE(size_bytes >= PCI_BAR_SIZE_MIN && (size_bytes & (size_bytes - 1)) == 0 &&
            size_bytes <= UINT32_C(1) << 30);
    function->bar_size[bar] = size_bytes;
    /* 6.2.5.1: only the bits above the size can be written, which is how it is asked. */
    put_u32(function->writable + AT_BARS + 4 * (size_t)bar, ~(size_bytes - 1));
}

uint8_t pci_function_add_capability(struct pci_function *function,
                                    uint8_t id,
                                    const void *body,
                                    const void *writable,
                                    unsigned size)
{
    const uint8_t at = function->next_free;
    const unsigned end = at + CAPABILITY_HEAD + size;
    REQUIRE(at >= AT_FIRST_CAPABILITY && end < PCI_CONFIG_BYTES);
    function->config[at] = id;
    memcpy(function->config + at + CAPABILITY_HEAD, body, size);
    if (writable != NULL) {
        memcpy(function->writable + at + CAPABILITY_HEAD, writable, size);
    }
    const unsigned link =
        function->last_capability != 0 ? function->last_capability + 1u : AT_CAPABILITIES;
    function->config[link] = at;
    function->config[AT_STATUS] |= STATUS_CAPABILITIES;
    function->last_capability = at;
    function->next_free =
        (uint8_t)((end + CAPABILITY_ALIGNMENT - 1) & ~(CAPABILITY_ALIGNMENT - 1));
    return at;
}

void pci_function_place_bar(struct pci_function *function, unsigned bar, uint32_t address)
{
    REQUIRE(bar < PCI_BARS_MAX && function->bar_size[bar] != 0);
    REQUIRE((address & (function->bar_size[bar] - 1)) == 0);
    put_u32(function->config + AT_BARS + 4 * (size_t)bar, address);
    device_line_raise(&function->moved, 0);
}

bool pci_function_bar(const struct pci_function *function,
                      unsigned bar,
                      uint64_t *ret_address)
{
    if (bar >= PCI_BARS_MAX || function->bar_size[bar] == 0 ||
        !(command(function) & COMMAND_MEMORY)) {
        return false;
    }
    *ret_address =
        get_u32(function->config + AT_BARS + 4 * (size_t)bar) & ~(uint32_t)BAR_FLAGS;
    return true;
}

void pci_function_read(const struct pci_function *function,
                       uint64_t offset,
                       void *ret_data,
                       unsigned size)
{
    if (size > 4 || offset >= PCI_CONFIG_BYTES || size > PCI_CONFIG_BYTES - offset) {
        memset(ret_data, offset >= PCI_CONFIG_BYTES ? 0 : 0xff, size); /* no extended */
        return;
    }
    memcpy(ret_data, function->config + offset, size);
}

/* What decides which addresses the function answers. */
static bool decodes_at(uint64_t offset)
{
    return (offset >= AT_COMMAND && offset < AT_STATUS) ||
           (offset >= AT_BARS && offset < AT_BARS + 4 * PCI_BARS_MAX);
}

void pci_function_write(struct pci_function *function,
                        uint64_t offset,
                        const void *data,
                        unsigned size)
{
    bool moved = false;
    if (size > 4 || offset >= PCI_CONFIG_BYTES || size > PCI_CONFIG_BYTES - offset) {
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        uint8_t *byte = &function->config[offset + i];
        const uint8_t mask = function->writable[offset + i];
        const uint8_t value =
            (uint8_t)((*byte & ~mask) | (((const uint8_t *)data)[i] & mask));
        moved = moved || (value != *byte && decodes_at(offset + i));
        *byte = value;
    }
    if (moved) {
        device_line_raise(&function->moved, 0);
    }
}

void pci_function_reset(struct pci_function *function)
{
    for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++) {
        function->config[i] &= (uint8_t)~function->writable[i];
    }
    device_line_raise(&function->moved, 0);
}

void pci_function_save(const struct pci_function *function, struct bytes_writer *writer)
{
    bytes_write_raw(writer, function->config, sizeof(function->config));
}

int pci_function_restore(struct pci_function *function, struct bytes_reader *reader)
{
    uint8_t config[PCI_CONFIG_BYTES];
    bytes_read_raw(reader, config, sizeof(config));
    if (reader->error != 0) {
        return BERTH_ECORRUPT;
    }
    for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++) {
        if (((config[i] ^ function->config[i]) & ~function->writable[i]) != 0) {
            return BERTH_ECORRUPT;
        }
    }
    memcpy(function->config, config, sizeof(config));
    device_line_raise(&function->moved, 0);
    return 0;
}
