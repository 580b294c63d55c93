/* The registers of the serial port: accesses of any width, anywhere, between bytes that
 * come in, resets and saves. What came in is read in order, as far as it is not thrown
 * away, and what is sent leaves, in order: two plain lists agree. A driver that looks
 * when it is told to sees every reason. Steps of four bytes: what, where, how wide, a
 * value. */
#include "base/bytes.h"
#include "base/require.h"
#include "vmm/serial_port.h"

#include <string.h>

#define STEP_BYTES 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_READ = 0,
    STEP_WRITE,
    STEP_RECEIVE,
    STEP_RESET,
    STEP_START,
    STEP_SAVE,
    STEP_COUNT
};

/* What the driver may know. */
struct model {
    uint8_t input[SERIAL_INPUT_MAX];
    unsigned input_count;
    uint8_t line_control;
    uint8_t modem_control;
    unsigned sent_count;
    uint8_t sent_last;
};

struct chip {
    struct serial_port *serial;
    struct model model;
    unsigned sent_count;
    uint8_t sent_last;
    unsigned drained_count;
};

static void on_output(void *context, uint8_t byte)
{
    struct chip *chip = context;
    chip->sent_count++;
    chip->sent_last = byte;
}

static void on_drained(void *context)
{
    struct chip *chip = context;
    chip->drained_count++;
}

static void model_write(struct model *model, uint64_t offset, uint8_t value)
{
    if (offset == 0 && (model->line_control & 0x80) == 0) {
        if ((model->modem_control & 0x10) == 0) {
            model->sent_count++;
            model->sent_last = value;
        } else if (model->input_count < SERIAL_INPUT_MAX) { /* loopback */
            model->input[model->input_count++] = value;
        }
    } else if (offset == 2 && (value & 2) != 0) {
        model->input_count = 0;
    } else if (offset == 3) {
        model->line_control = value;
    } else if (offset == 4) {
        model->modem_control = value & 0x1f;
    }
}

/* A byte that the driver can know before it reads it; -1: it cannot. */
static int model_read(struct model *model, uint64_t offset)
{
    int byte = 0;
    switch (offset) {
    case 0:
        if ((model->line_control & 0x80) != 0) {
            return -1;
        }
        if (model->input_count > 0) {
            byte = model->input[0];
            model->input_count--;
            memmove(model->input, model->input + 1, model->input_count);
        }
        return byte;
    case 3:
        return model->line_control;
    case 4:
        return model->modem_control;
    case 5:
        return 0x60 | (model->input_count > 0 ? 1 : 0);
    default:
        return offset < 8 ? -1 : 0xff;
    }
}

static uint64_t offset_of(const uint8_t *step)
{
    return step[1] >= 0xf0 ? UINT64_MAX - (step[1] & 15u) * 4u : step[1] % 12;
}

static void read_step(struct chip *chip, const uint8_t *step)
{
    uint8_t seen[DEVICE_ACCESS_MAX];
    const uint64_t offset = offset_of(step);
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    device_read(&chip->serial->device, 0, offset, seen, width);
    for (unsigned i = 0; i < width; i++) {
        const int wanted = offset > UINT64_MAX - width
                               ? 0xff /* no bus leads there */
                               : model_read(&chip->model, offset + i);
        REQUIRE(wanted < 0 || wanted == seen[i]);
    }
}

static void write_step(struct chip *chip, const uint8_t *step)
{
    uint8_t bytes[DEVICE_ACCESS_MAX];
    const uint64_t offset = offset_of(step);
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    memset(bytes, step[3], sizeof(bytes));
    device_write(&chip->serial->device, 0, offset, bytes, width);
    for (unsigned i = 0; offset <= UINT64_MAX - width && i < width; i++) {
        model_write(&chip->model, offset + i, bytes[i]);
    }
}

static void receive_step(struct chip *chip, const uint8_t *step)
{
    uint8_t bytes[256];
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(step[3] + i);
    }
    const size_t taken = serial_port_receive(chip->serial, bytes, step[2]);
    const size_t room = SERIAL_INPUT_MAX - chip->model.input_count;
    /* In loopback the world is not connected: what it does then is its own affair. */
    REQUIRE(taken <= step[2] && taken <= room);
    memcpy(chip->model.input + chip->model.input_count, bytes, taken);
    chip->model.input_count += (unsigned)taken;
}

static void reset_step(struct chip *chip)
{
    device_reset(&chip->serial->device);
    chip->model.input_count = 0;
    chip->model.line_control = chip->model.modem_control = 0;
}

static void save_step(struct chip *chip)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, 4096);
    device_save(&chip->serial->device, &writer);
    bytes_reader_init(&reader, writer.data, writer.size);
    REQUIRE(device_restore(&chip->serial->device, &reader, NULL) == 0);
    bytes_writer_fini(&writer);
}

static void step_do(struct chip *chip, const uint8_t *step)
{
    switch (step[0] % STEP_COUNT) {
    case STEP_READ:
        read_step(chip, step);
        break;
    case STEP_WRITE:
        write_step(chip, step);
        break;
    case STEP_RECEIVE:
        receive_step(chip, step);
        break;
    case STEP_RESET:
        reset_step(chip);
        break;
    case STEP_START:
        device_start(&chip->serial->device);
        break;
    case STEP_SAVE:
    default:
        save_step(chip);
        break;
    }
    REQUIRE(chip->serial->input_count == chip->model.input_count);
    REQUIRE(chip->sent_count == chip->model.sent_count);
    REQUIRE(chip->sent_last == chip->model.sent_last);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chip chip = {.serial = NULL};
    REQUIRE(serial_port_new(&chip.serial) == 0);
    chip.serial->output = on_output;
    chip.serial->drained = on_drained;
    chip.serial->context = &chip;
    for (size_t at = 0; at + STEP_BYTES <= size; at += STEP_BYTES) {
        step_do(&chip, data + at);
    }
    device_free(&chip.serial->device);
    return 0;
}
