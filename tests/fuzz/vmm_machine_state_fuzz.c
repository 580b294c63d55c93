/* What a saved machine is read from: any bytes are read or refused, by the reader of each
 * part, and what was read writes the same bytes. The first byte says whose they are. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/require.h"
#include "vmm/cpu_model.h"
#include "vmm/cpu_plug.h"
#include "vmm/kvm_state.h"
#include "vmm/power_control.h"
#include "vmm/ram_image.h"
#include "vmm/serial_port.h"
#include "vmm/snapshot_file.h"
#include "vmm/vcpu_state.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE_MAX_OF_INPUT (1u << 20)
#define RAM_BYTES         (2 * RAM_CHUNK_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(struct bytes_writer *again, const uint8_t *data, size_t size)
{
    REQUIRE(again->error == 0 && again->size == size);
    REQUIRE(memcmp(again->data, data, size) == 0);
}

static void
vcpu_part(struct bytes_reader *reader, struct bytes_writer *again, const uint8_t *data)
{
    struct vcpu_state state;
    if (vcpu_state_read(&state, reader, NULL) == 0) {
        vcpu_state_write(&state, again);
        same(again, data, reader->size);
        vcpu_state_fini(&state);
    }
}

static void
kvm_part(struct bytes_reader *reader, struct bytes_writer *again, const uint8_t *data)
{
    struct kvm_state state;
    if (kvm_state_read(&state, reader, NULL) == 0) {
        kvm_state_write(&state, again);
        same(again, data, reader->size);
    }
}

static void
cpu_part(struct bytes_reader *reader, struct bytes_writer *again, const uint8_t *data)
{
    static struct cpu_table table;
    if (cpu_table_read(&table, reader) == 0) {
        cpu_table_write(&table, again);
        same(again, data, reader->position);
        (void)cpu_model_same(&table, &table, NULL);
    }
}

/* The section, and a file that holds the same bytes somewhere. */
static void
ram_part(struct bytes_reader *reader, struct bytes_writer *again, const uint8_t *data)
{
    struct guest_memory memory;
    CLEANUP_FD int file = memfd_create("image", MFD_CLOEXEC);
    (void)again;
    guest_memory_init(&memory);
    REQUIRE(guest_memory_add(&memory, 0, RAM_BYTES, NULL) == 0);
    REQUIRE(pwrite(file, data, reader->size, RAM_CHUNK_BYTES) == (ssize_t)reader->size);
    REQUIRE(ftruncate(file, RAM_BYTES) == 0);
    (void)ram_image_read(&memory, file, 0, NULL, reader, NULL);
    guest_memory_fini(&memory);
}

static void
file_part(struct bytes_reader *reader, struct bytes_writer *again, const uint8_t *data)
{
    struct snapshot_file file;
    CLEANUP_FD int fd = memfd_create("snapshot", MFD_CLOEXEC);
    (void)again;
    REQUIRE(pwrite(fd, data, reader->size, 0) == (ssize_t)reader->size);
    REQUIRE(ftruncate(fd, (off_t)(SNAPSHOT_RAM_AT + reader->size)) == 0);
    if (snapshot_file_open(fd, &file, NULL) == 0) {
        CLEANUP_FREE uint8_t *state = NULL;
        REQUIRE(snapshot_file_read_state(fd, &file, &state, NULL) == 0);
    }
}

/* What a device takes of it, it can give again. */
static void device_part(struct device *device, struct bytes_reader *reader)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, SIZE_MAX_OF_INPUT);
    if (device_restore(device, reader, NULL) == 0) {
        struct bytes_reader other;
        device_start(device);
        device_stop(device);
        device_save(device, &writer);
        bytes_reader_init(&other, writer.data, writer.size);
        REQUIRE(device_restore(device, &other, NULL) == 0);
    }
    bytes_writer_fini(&writer);
    device_free(device);
}

static void
serial_part(struct bytes_reader *reader, struct bytes_writer *again, const uint8_t *data)
{
    struct serial_port *serial;
    (void)again;
    (void)data;
    REQUIRE(serial_port_new(&serial) == 0);
    device_part(&serial->device, reader);
}

static void
power_part(struct bytes_reader *reader, struct bytes_writer *again, const uint8_t *data)
{
    struct power_control *power;
    (void)again;
    (void)data;
    REQUIRE(power_control_new(&power) == 0);
    device_part(&power->device, reader);
}

static void
plug_part(struct bytes_reader *reader, struct bytes_writer *again, const uint8_t *data)
{
    struct cpu_plug *plug;
    (void)again;
    (void)data;
    REQUIRE(cpu_plug_new(CPU_PLUG_MAX, 1, &plug) == 0);
    device_part(&plug->device, reader);
}

static void (*const parts[])(struct bytes_reader *reader,
                             struct bytes_writer *again,
                             const uint8_t *data) = {
    vcpu_part, kvm_part,    cpu_part,   ram_part,
    file_part, serial_part, power_part, plug_part,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes_reader reader;
    struct bytes_writer again;
    if (size == 0 || size > SIZE_MAX_OF_INPUT) {
        return 0;
    }
    bytes_reader_init(&reader, data + 1, size - 1);
    bytes_writer_init(&again, SIZE_MAX_OF_INPUT);
    parts[data[0] % ARRAY_COUNT(parts)](&reader, &again, data + 1);
    bytes_writer_fini(&again);
    return 0;
}
