/* Writes ACPI Machine Language: the few terms that our tables are made of.
 *
 * Shapes: terms are appended to a bytes_writer; what contains others is opened and closed
 * (aml_device ... aml_close) and may be nested. Names are four-letter segments, given as
 * text and padded with '_'; a path is rooted with '\' and its segments are parted by '.'.
 * Units: integers are written in the shortest form. Errors: the writer's sticky error,
 * checked by whoever takes its bytes; a name that is none is our bug. Threads: none.
 * Limits: one term below 1 MiB (AML_PACKAGE_MAX).
 */
#pragma once

#include "base/bytes.h"

#include <stddef.h>
#include <stdint.h>

#define AML_PACKAGE_MAX (1u << 20)

/* Where a term that is still open began. */
struct aml_open {
    size_t hole;
};

struct aml_open aml_scope(struct bytes_writer *writer, const char *path);
struct aml_open aml_device(struct bytes_writer *writer, const char *name);
/* Serialized: no two calls at once. */
struct aml_open
aml_method(struct bytes_writer *writer, const char *name, unsigned argument_count);
struct aml_open aml_package(struct bytes_writer *writer, unsigned element_count);
/* The condition is what is written next. */
struct aml_open aml_if(struct bytes_writer *writer);
/* Bytes follow as they are: aml_resource_* and bytes_write_raw. */
struct aml_open aml_buffer(struct bytes_writer *writer, unsigned size);
void aml_close(struct bytes_writer *writer, struct aml_open open);

void aml_path(struct bytes_writer *writer, const char *path);
void aml_integer(struct bytes_writer *writer, uint64_t value);
void aml_text(struct bytes_writer *writer, const char *text);
/* The compressed form of an id like "PNP0A08". */
void aml_eisa_id(struct bytes_writer *writer, const char *id);
/* Name (`name`, what is written next). */
void aml_name(struct bytes_writer *writer, const char *name);
void aml_name_integer(struct bytes_writer *writer, const char *name, uint64_t value);
void aml_name_text(struct bytes_writer *writer, const char *name, const char *text);
void aml_name_eisa_id(struct bytes_writer *writer, const char *name, const char *id);
void aml_argument(struct bytes_writer *writer, unsigned number);
void aml_local(struct bytes_writer *writer, unsigned number);
/* Operators: operands are written next; those of store, and, return as ACPI has them. */
void aml_return(struct bytes_writer *writer);
void aml_store(struct bytes_writer *writer);
void aml_equal(struct bytes_writer *writer);
void aml_and(
    struct bytes_writer *writer); /* two operands, then aml_nowhere or a target */
void aml_nowhere(struct bytes_writer *writer);
void aml_notify(struct bytes_writer *writer, const char *path, uint64_t value);
/* CreateDWordField (argument, byte offset, name). */
void aml_argument_dword(struct bytes_writer *writer,
                        unsigned argument,
                        unsigned offset,
                        const char *name);
/* OperationRegion (name, SystemIO, port, size) and one byte-wide field that covers its
 * byte `offset`. */
void aml_port_region(struct bytes_writer *writer,
                     const char *name,
                     uint64_t port,
                     uint64_t size);
void aml_byte_field(struct bytes_writer *writer,
                    const char *region,
                    const char *name,
                    unsigned offset);

/* A resource template: opened with the number of bytes of its descriptors. */
#define AML_RESOURCE_IO        8u
#define AML_RESOURCE_MEMORY32  12u
#define AML_RESOURCE_WINDOW32  26u
#define AML_RESOURCE_BUSES     16u
#define AML_RESOURCE_INTERRUPT 9u
#define AML_RESOURCE_END       2u
struct aml_open aml_resources(struct bytes_writer *writer, unsigned size);
void aml_resource_io(struct bytes_writer *writer, uint16_t port, uint8_t size);
void aml_resource_memory32(struct bytes_writer *writer, uint32_t address, uint32_t size);
/* What a bridge hands on: addresses; bus numbers. */
void aml_resource_window32(struct bytes_writer *writer, uint32_t address, uint32_t size);
void aml_resource_buses(struct bytes_writer *writer, uint16_t first, uint16_t last);
/* Edge triggered, active high, not shared. */
void aml_resource_interrupt(struct bytes_writer *writer, uint32_t gsi);
/* Writes the end tag and closes the template. */
void aml_resources_close(struct bytes_writer *writer, struct aml_open open);
