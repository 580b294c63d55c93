#include "vmm/serial_port.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Registers, by offset; some are others while the divisor latch is open. */
enum {
    REG_DATA = 0,
    REG_INTERRUPT_ENABLE = 1,
    REG_INTERRUPT_ID = 2, /* written: FIFO control */
    REG_LINE_CONTROL = 3,
    REG_MODEM_CONTROL = 4,
    REG_LINE_STATUS = 5,
    REG_MODEM_STATUS = 6,
    REG_SCRATCH = 7,
};

#define IER_RECEIVED        0x01u
#define IER_SENT            0x02u
#define IER_MASK            0x0fu
#define IIR_NONE            0x01u
#define IIR_SENT            0x02u
#define IIR_RECEIVED        0x04u
#define IIR_FIFOS           0xc0u
#define FCR_ENABLE          0x01u
#define FCR_CLEAR_RECEIVED  0x02u
#define LCR_DIVISOR_LATCH   0x80u
#define MCR_LOOPBACK        0x10u
#define MCR_MASK            0x1fu
#define LSR_READY           0x01u
#define LSR_SENT            0x60u /* holding register and shifter are empty: always */
#define MSR_CONNECTED       0xb0u /* carrier, data set ready, clear to send */
#define DIVISOR_RESET_VALUE 0x0cu /* 9600 baud */

#define STATE_VERSION 1u

static struct serial_port *serial_of(struct device *device)
{
    return (struct serial_port *)(void *)device;
}

/* Why the chip interrupts, most urgent first. */
static uint8_t interrupt_id(const struct serial_port *serial)
{
    if ((serial->interrupt_enable & IER_RECEIVED) != 0 && serial->input_count > 0) {
        return IIR_RECEIVED;
    }
    if ((serial->interrupt_enable & IER_SENT) != 0 && serial->thr_empty != 0) {
        return IIR_SENT;
    }
    return IIR_NONE;
}

/* The line is edge triggered: a new reason after none is told. */
static void interrupt_update(struct serial_port *serial)
{
    uint8_t asserted = interrupt_id(serial) != IIR_NONE;
    if (asserted != 0 && serial->asserted == 0) {
        device_line_raise(&serial->line, 0);
    }
    serial->asserted = asserted;
}

/* The driver has looked at the chip: what is left is a new reason. */
static void interrupt_again(struct serial_port *serial)
{
    serial->asserted = 0;
    interrupt_update(serial);
}

static void input_push(struct serial_port *serial, uint8_t byte)
{
    unsigned end = (serial->input_start + serial->input_count) % SERIAL_INPUT_MAX;
    serial->input[end] = byte;
    serial->input_count++;
}

static uint8_t input_pop(struct serial_port *serial)
{
    uint8_t byte = 0;
    if (serial->input_count > 0) {
        byte = serial->input[serial->input_start];
        serial->input_start = (uint16_t)((serial->input_start + 1u) % SERIAL_INPUT_MAX);
        serial->input_count--;
        if (serial->input_count == 0 && serial->drained != NULL) {
            serial->drained(serial->context);
        }
    }
    interrupt_again(serial);
    return byte;
}

static bool latch_is_open(const struct serial_port *serial)
{
    return (serial->line_control & LCR_DIVISOR_LATCH) != 0;
}

static uint8_t read_interrupt_id(struct serial_port *serial)
{
    uint8_t id = interrupt_id(serial);
    if (id == IIR_SENT) { /* reading it is what acknowledges it */
        serial->thr_empty = 0;
    }
    interrupt_again(serial);
    return (uint8_t)(id | ((serial->fifo_control & FCR_ENABLE) != 0 ? IIR_FIFOS : 0));
}

/* In loopback the modem's outputs are its inputs. */
static uint8_t modem_status(const struct serial_port *serial)
{
    uint8_t control = serial->modem_control;
    if ((control & MCR_LOOPBACK) == 0) {
        return MSR_CONNECTED;
    }
    return (uint8_t)((control & 0x02) << 3 | (control & 0x01) << 5 |
                     (control & 0x0c) << 4);
}

static uint8_t register_read(struct serial_port *serial, uint64_t offset)
{
    switch (offset) {
    case REG_DATA:
        return latch_is_open(serial) ? (uint8_t)serial->divisor : input_pop(serial);
    case REG_INTERRUPT_ENABLE:
        return latch_is_open(serial) ? (uint8_t)(serial->divisor >> 8)
                                     : serial->interrupt_enable;
    case REG_INTERRUPT_ID:
        return read_interrupt_id(serial);
    case REG_LINE_CONTROL:
        return serial->line_control;
    case REG_MODEM_CONTROL:
        return serial->modem_control;
    case REG_LINE_STATUS:
        return (uint8_t)(LSR_SENT | (serial->input_count > 0 ? LSR_READY : 0));
    case REG_MODEM_STATUS:
        return modem_status(serial);
    case REG_SCRATCH:
        return serial->scratch;
    default:
        return 0xff;
    }
}

static void data_write(struct serial_port *serial, uint8_t value)
{
    if ((serial->modem_control & MCR_LOOPBACK) != 0) {
        if (serial->input_count < SERIAL_INPUT_MAX) {
            input_push(serial, value);
        }
    } else {
        boot_trace_reach(serial->trace, BOOT_FIRST_BYTE);
        counter_add(&serial->tx_bytes, 1);
        if (serial->output != NULL) {
            serial->output(serial->context, value);
        }
    }
    serial->thr_empty = 1;
    interrupt_again(serial);
}

static void register_write(struct serial_port *serial, uint64_t offset, uint8_t value)
{
    switch (offset) {
    case REG_DATA:
        if (latch_is_open(serial)) {
            serial->divisor = (uint16_t)((serial->divisor & 0xff00u) | value);
        } else {
            data_write(serial, value);
        }
        break;
    case REG_INTERRUPT_ENABLE:
        if (latch_is_open(serial)) {
            serial->divisor =
                (uint16_t)((serial->divisor & 0x00ffu) | (unsigned)value << 8);
        } else {
            serial->interrupt_enable = value & IER_MASK;
            serial->thr_empty = 1; /* it may send: the driver waits to hear so */
            interrupt_again(serial);
        }
        break;
    case REG_INTERRUPT_ID:
        serial->fifo_control = value & FCR_ENABLE;
        if ((value & FCR_CLEAR_RECEIVED) != 0) {
            serial->input_count = 0;
            interrupt_again(serial);
        }
        break;
    case REG_LINE_CONTROL:
        serial->line_control = value;
        break;
    case REG_MODEM_CONTROL:
        serial->modem_control = value & MCR_MASK;
        break;
    case REG_SCRATCH:
        serial->scratch = value;
        break;
    default: /* the status registers are read only */
        break;
    }
}

/* ---- the device's verbs */

static void serial_reset(struct device *device)
{
    struct serial_port *serial = serial_of(device);
    serial->interrupt_enable = 0;
    serial->fifo_control = 0;
    serial->line_control = 0;
    serial->modem_control = 0;
    serial->scratch = 0;
    serial->divisor = DIVISOR_RESET_VALUE;
    serial->thr_empty = 0;
    serial->asserted = 0;
    serial->input_start = 0;
    serial->input_count = 0;
}

/* An interrupt that was due when the machine was saved is due again. */
static void serial_start(struct device *device)
{
    interrupt_again(serial_of(device));
}

static void serial_save(struct device *device, struct bytes_writer *writer)
{
    const struct serial_port *serial = serial_of(device);
    bytes_write_u8(writer, serial->interrupt_enable);
    bytes_write_u8(writer, serial->fifo_control);
    bytes_write_u8(writer, serial->line_control);
    bytes_write_u8(writer, serial->modem_control);
    bytes_write_u8(writer, serial->scratch);
    bytes_write_u16(writer, serial->divisor);
    bytes_write_u8(writer, serial->thr_empty);
    bytes_write_u16(writer, serial->input_count);
    for (unsigned i = 0; i < serial->input_count; i++) {
        bytes_write_u8(writer,
                       serial->input[(serial->input_start + i) % SERIAL_INPUT_MAX]);
    }
}

static int serial_restore(struct device *device,
                          uint16_t version,
                          struct bytes_reader *reader,
                          struct err *err)
{
    struct serial_port *serial = serial_of(device);
    (void)version; /* there is one */
    serial_reset(device);
    serial->interrupt_enable = bytes_read_u8(reader) & IER_MASK;
    serial->fifo_control = bytes_read_u8(reader) & FCR_ENABLE;
    serial->line_control = bytes_read_u8(reader);
    serial->modem_control = bytes_read_u8(reader) & MCR_MASK;
    serial->scratch = bytes_read_u8(reader);
    serial->divisor = bytes_read_u16(reader);
    serial->thr_empty = bytes_read_u8(reader) != 0;
    uint16_t count = bytes_read_u16(reader);
    if (count > SERIAL_INPUT_MAX) {
        return err_set(err, BERTH_ECORRUPT, "serial: %u bytes of input wait", count);
    }
    bytes_read_raw(reader, serial->input, count);
    if (bytes_reader_end(reader) != 0) {
        return err_set(err, BERTH_ECORRUPT, "serial: its state is cut or too long");
    }
    serial->input_count = count;
    return 0;
}

static void serial_free(struct device *device)
{
    free(serial_of(device));
}

/* Wider accesses are as many narrow ones, as the bus of such chips makes them. */
static void serial_read(struct device *device,
                        unsigned region,
                        uint64_t offset,
                        void *ret_data,
                        unsigned size)
{
    uint8_t *bytes = ret_data;
    (void)region; /* there is one */
    for (unsigned i = 0; i < size; i++) {
        bytes[i] = register_read(serial_of(device), offset + i);
    }
}

static void serial_write(struct device *device,
                         unsigned region,
                         uint64_t offset,
                         const void *data,
                         unsigned size)
{
    const uint8_t *bytes = data;
    (void)region;
    for (unsigned i = 0; i < size; i++) {
        register_write(serial_of(device), offset + i, bytes[i]);
    }
}

static const struct device_ops serial_ops = {
    .kind = "serial-16550",
    .state_version = STATE_VERSION,
    .reset = serial_reset,
    .start = serial_start,
    .save = serial_save,
    .restore = serial_restore,
    .free = serial_free,
    .read = serial_read,
    .write = serial_write,
};

int serial_port_new(struct serial_port **ret_serial)
{
    struct serial_port *serial = calloc(1, sizeof(*serial));
    if (serial == NULL) {
        return -ENOMEM;
    }
    device_setup(&serial->device, &serial_ops, "serial");
    serial_reset(&serial->device);
    *ret_serial = serial;
    return 0;
}

size_t serial_port_receive(struct serial_port *serial, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t taken = 0;
    pthread_mutex_lock(&serial->device.lock);
    while (taken < size && serial->input_count < SERIAL_INPUT_MAX) {
        input_push(serial, bytes[taken++]);
    }
    counter_add(&serial->rx_bytes, taken);
    interrupt_update(serial);
    pthread_mutex_unlock(&serial->device.lock);
    return taken;
}
