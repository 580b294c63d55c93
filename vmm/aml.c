#include "vmm/aml.h"

#include "base/require.h"

#include <string.h>

/* ACPI 6.4, 20.2. */
enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_STRING = 0x0d,
    AML_QWORD = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_DUAL_NAME = 0x2e,
    AML_MULTI_NAME = 0x2f,
    AML_EXTENDED = 0x5b,
    AML_LOCAL0 = 0x60,
    AML_ARG0 = 0x68,
    AML_STORE = 0x70,
    AML_AND = 0x7b,
    AML_NOTIFY = 0x86,
    AML_DWORD_FIELD = 0x8a,
    AML_EQUAL = 0x93,
    AML_IF = 0xa0,
    AML_RETURN = 0xa4,
    /* after AML_EXTENDED */
    AML_REGION = 0x80,
    AML_FIELD = 0x81,
    AML_DEVICE = 0x82,
};

#define METHOD_SERIALIZED 0x08u
#define REGION_SYSTEM_IO  0x01u
#define FIELD_BYTE_ACCESS 0x01u
#define PACKAGE_LENGTH    3u /* bytes; the first says that two follow */

static void write_segment(struct bytes_writer *writer, const char *name, size_t size)
{
    char segment[4] = {'_', '_', '_', '_'};
    REQUIRE(size >= 1 && size <= sizeof(segment));
    memcpy(segment, name, size);
    bytes_write_raw(writer, segment, sizeof(segment));
}

void aml_path(struct bytes_writer *writer, const char *path)
{
    unsigned count = 1;
    if (*path == '\\') {
        bytes_write_u8(writer, '\\');
        path++;
    }
    if (*path == '\0') { /* the root itself */
        bytes_write_u8(writer, AML_ZERO);
        return;
    }
    for (const char *c = path; *c != '\0'; c++) {
        count += *c == '.';
    }
    if (count == 2) {
        bytes_write_u8(writer, AML_DUAL_NAME);
    } else if (count > 2) {
        bytes_write_u8(writer, AML_MULTI_NAME);
        bytes_write_u8(writer, (uint8_t)count);
    }
    while (count-- > 0) {
        size_t size = strcspn(path, ".");
        write_segment(writer, path, size);
        path += size + 1;
    }
}

/* ---- terms that hold others */

static struct aml_open open_here(struct bytes_writer *writer)
{
    static const uint8_t hole[PACKAGE_LENGTH];
    struct aml_open open = {writer->size};
    bytes_write_raw(writer, hole, sizeof(hole));
    return open;
}

void aml_close(struct bytes_writer *writer, struct aml_open open)
{
    if (writer->error != 0) {
        return;
    }
    size_t length = writer->size - open.hole;
    REQUIRE(length < AML_PACKAGE_MAX);
    uint8_t *at = writer->data + open.hole;
    at[0] = (uint8_t)((PACKAGE_LENGTH - 1) << 6 | (length & 0xf));
    at[1] = (uint8_t)(length >> 4);
    at[2] = (uint8_t)(length >> 12);
}

struct aml_open aml_scope(struct bytes_writer *writer, const char *path)
{
    bytes_write_u8(writer, AML_SCOPE);
    struct aml_open open = open_here(writer);
    aml_path(writer, path);
    return open;
}

struct aml_open aml_device(struct bytes_writer *writer, const char *name)
{
    bytes_write_u8(writer, AML_EXTENDED);
    bytes_write_u8(writer, AML_DEVICE);
    struct aml_open open = open_here(writer);
    aml_path(writer, name);
    return open;
}

struct aml_open
aml_method(struct bytes_writer *writer, const char *name, unsigned argument_count)
{
    REQUIRE(argument_count <= 7);
    bytes_write_u8(writer, AML_METHOD);
    struct aml_open open = open_here(writer);
    aml_path(writer, name);
    bytes_write_u8(writer, (uint8_t)(METHOD_SERIALIZED | argument_count));
    return open;
}

struct aml_open aml_package(struct bytes_writer *writer, unsigned element_count)
{
    REQUIRE(element_count <= UINT8_MAX);
    bytes_write_u8(writer, AML_PACKAGE);
    struct aml_open open = open_here(writer);
    bytes_write_u8(writer, (uint8_t)element_count);
    return open;
}

struct aml_open aml_if(struct bytes_writer *writer)
{
    bytes_write_u8(writer, AML_IF);
    return open_here(writer);
}

struct aml_open aml_buffer(struct bytes_writer *writer, unsigned size)
{
    bytes_write_u8(writer, AML_BUFFER);
    struct aml_open open = open_here(writer);
    aml_integer(writer, size);
    return open;
}

/* ---- values */

void aml_integer(struct bytes_writer *writer, uint64_t value)
{
    if (value <= 1) {
        bytes_write_u8(writer, value == 0 ? AML_ZERO : AML_ONE);
    } else if (value <= UINT8_MAX) {
        bytes_write_u8(writer, AML_BYTE);
        bytes_write_u8(writer, (uint8_t)value);
    } else if (value <= UINT16_MAX) {
        bytes_write_u8(writer, AML_WORD);
        bytes_write_u16(writer, (uint16_t)value);
    } else if (value <= UINT32_MAX) {
        bytes_write_u8(writer, AML_DWORD);
        bytes_write_u32(writer, (uint32_t)value);
    } else {
        bytes_write_u8(writer, AML_QWORD);
        bytes_write_u64(writer, value);
    }
}

void aml_text(struct bytes_writer *writer, const char *text)
{
    bytes_write_u8(writer, AML_STRING);
    bytes_write_raw(writer, text, strlen(text) + 1);
}

static uint32_t hex_digit(char c)
{
    REQUIRE((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'));
    return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_eisa_id(struct bytes_writer *writer, const char *id)
{
    uint32_t value = 0;
    REQUIRE(strlen(id) == 7);
    for (unsigned i = 0; i < 3; i++) { /* five bits a letter, 'A' is 1 */
        value = value << 5 | ((uint32_t)id[i] - 0x40u);
    }
    for (unsigned i = 3; i < 7; i++) {
        value = value << 4 | hex_digit(id[i]);
    }
    bytes_write_u8(writer, AML_DWORD); /* big endian, and never a shorter form */
    for (unsigned shift = 32; shift > 0; shift -= 8) {
        bytes_write_u8(writer, (uint8_t)(value >> (shift - 8)));
    }
}

void aml_name(struct bytes_writer *writer, const char *name)
{
    bytes_write_u8(writer, AML_NAME);
    aml_path(writer, name);
}

void aml_name_integer(struct bytes_writer *writer, const char *name, uint64_t value)
{
    aml_name(writer, name);
    aml_integer(writer, value);
}

void aml_name_text(struct bytes_writer *writer, const char *name, const char *text)
{
    aml_name(writer, name);
    aml_text(writer, text);
}

void aml_name_eisa_id(struct bytes_writer *writer, const char *name, const char *id)
{
    aml_name(writer, name);
    aml_eisa_id(writer, id);
}

void aml_argument(struct bytes_writer *writer, unsigned number)
{
    REQUIRE(number < 7);
    bytes_write_u8(writer, (uint8_t)(AML_ARG0 + number));
}

void aml_local(struct bytes_writer *writer, unsigned number)
{
    REQUIRE(number < 8);
    bytes_write_u8(writer, (uint8_t)(AML_LOCAL0 + number));
}

/* ---- statements */

void aml_return(struct bytes_writer *writer)
{
    bytes_write_u8(writer, AML_RETURN);
}

void aml_store(struct bytes_writer *writer)
{
    bytes_write_u8(writer, AML_STORE);
}

void aml_equal(struct bytes_writer *writer)
{
    bytes_write_u8(writer, AML_EQUAL);
}

void aml_and(struct bytes_writer *writer)
{
    bytes_write_u8(writer, AML_AND);
}

void aml_nowhere(struct bytes_writer *writer)
{
    bytes_write_u8(writer, AML_ZERO);
}

void aml_notify(struct bytes_writer *writer, const char *path, uint64_t value)
{
    bytes_write_u8(writer, AML_NOTIFY);
    aml_path(writer, path);
    aml_integer(writer, value);
}

void aml_argument_dword(struct bytes_writer *writer,
                        unsigned argument,
                        unsigned offset,
                        const char *name)
{
    bytes_write_u8(writer, AML_DWORD_FIELD);
    aml_argument(writer, argument);
    aml_integer(writer, offset);
    aml_path(writer, name);
}

void aml_port_region(struct bytes_writer *writer,
                     const char *name,
                     uint64_t port,
                     uint64_t size)
{
    bytes_write_u8(writer, AML_EXTENDED);
    bytes_write_u8(writer, AML_REGION);
    aml_path(writer, name);
    bytes_write_u8(writer, REGION_SYSTEM_IO);
    aml_integer(writer, port);
    aml_integer(writer, size);
}

void aml_byte_field(struct bytes_writer *writer,
                    const char *region,
                    const char *name,
                    unsigned offset)
{
    REQUIRE(offset < 8); /* the gap's length fits one byte */
    bytes_write_u8(writer, AML_EXTENDED);
    bytes_write_u8(writer, AML_FIELD);
    struct aml_open open = open_here(writer);
    aml_path(writer, region);
    bytes_write_u8(writer, FIELD_BYTE_ACCESS);
    if (offset > 0) { /* bits that belong to no name */
        bytes_write_u8(writer, 0);
        bytes_write_u8(writer, (uint8_t)(8 * offset));
    }
    write_segment(writer, name, strlen(name));
    bytes_write_u8(writer, 8);
    aml_close(writer, open);
}

/* ---- resources: ACPI 6.4, 6.4 */

struct aml_open aml_resources(struct bytes_writer *writer, unsigned size)
{
    return aml_buffer(writer, size + AML_RESOURCE_END);
}

void aml_resource_io(struct bytes_writer *writer, uint16_t port, uint8_t size)
{
    bytes_write_u8(writer, 0x47); /* I/O port, 7 bytes follow */
    bytes_write_u8(writer, 0x01); /* decodes 16 bits */
    bytes_write_u16(writer, port);
    bytes_write_u16(writer, port);
    bytes_write_u8(writer, 1); /* alignment */
    bytes_write_u8(writer, size);
}

void aml_resource_memory32(struct bytes_writer *writer, uint32_t address, uint32_t size)
{
    bytes_write_u8(writer, 0x86); /* 32-bit fixed memory range */
    bytes_write_u16(writer, 9);
    bytes_write_u8(writer, 1); /* read and write */
    bytes_write_u32(writer, address);
    bytes_write_u32(writer, size);
}

void aml_resource_window32(struct bytes_writer *writer, uint32_t address, uint32_t size)
{
    bytes_write_u8(writer, 0x87); /* 32-bit address space */
    bytes_write_u16(writer, 23);
    bytes_write_u8(writer, 0x00); /* memory */
    bytes_write_u8(writer, 0x0c); /* minimum and maximum fixed, producer */
    bytes_write_u8(writer, 0x01); /* read and write, not cacheable */
    bytes_write_u32(writer, 0);   /* granularity */
    bytes_write_u32(writer, address);
    bytes_write_u32(writer, address + size - 1);
    bytes_write_u32(writer, 0); /* translation */
    bytes_write_u32(writer, size);
}

void aml_resource_buses(struct bytes_writer *writer, uint16_t first, uint16_t last)
{
    bytes_write_u8(writer, 0x88); /* 16-bit address space */
    bytes_write_u16(writer, 13);
    bytes_write_u8(writer, 0x02); /* bus numbers */
    bytes_write_u8(writer, 0x0c);
    bytes_write_u8(writer, 0x00);
    bytes_write_u16(writer, 0);
    bytes_write_u16(writer, first);
    bytes_write_u16(writer, last);
    bytes_write_u16(writer, 0);
    bytes_write_u16(writer, (uint16_t)(last - first + 1));
}

void aml_resource_interrupt(struct bytes_writer *writer, uint32_t gsi)
{
    bytes_write_u8(writer, 0x89); /* extended interrupt */
    bytes_write_u16(writer, 6);
    bytes_write_u8(writer, 0x03); /* consumer, edge, active high, exclusive */
    bytes_write_u8(writer, 1);
    bytes_write_u32(writer, gsi);
}

void aml_resources_close(struct bytes_writer *writer, struct aml_open open)
{
    bytes_write_u8(writer, 0x79); /* end tag; a checksum of 0 is not looked at */
    bytes_write_u8(writer, 0x00);
    aml_close(writer, open);
}
