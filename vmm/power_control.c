#include "vmm/power_control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLEEP_ENABLE     0x20u
#define SLEEP_TYPE_SHIFT 2u
#define SLEEP_TYPE_MASK  0x7u
/* The i8042: status and command share a port. */
#define KEYBOARD_COMMAND   4u
#define KEYBOARD_RESET_CPU 0xfeu

#define STATE_VERSION 1u
#define ALL_REASONS   (POWER_EVENT_BUTTON | POWER_EVENT_GENERATION | POWER_EVENT_CPU)

static struct power_control *power_of(struct device *device)
{
    return (struct power_control *)(void *)device;
}

static void power_reset(struct device *device)
{
    power_of(device)->reasons = 0;
}

static void power_save(struct device *device, struct bytes_writer *writer)
{
    bytes_write_u8(writer, power_of(device)->reasons);
}

static int power_restore(struct device *device,
                         uint16_t version,
                         struct bytes_reader *reader,
                         struct err *err)
{
    uint8_t reasons = bytes_read_u8(reader);
    (void)version; /* there is one */
    if (bytes_reader_end(reader) != 0) {
        return err_set(err, BERTH_ECORRUPT, "power: not one byte of reasons");
    }
    power_of(device)->reasons = reasons & ALL_REASONS;
    return 0;
}

static void power_free(struct device *device)
{
    free(power_of(device));
}

static void power_read(struct device *device,
                       unsigned region,
                       uint64_t offset,
                       void *ret_data,
                       unsigned size)
{
    struct power_control *power = power_of(device);
    uint8_t *bytes = ret_data;
    memset(bytes, 0, size);
    switch (region) {
    case POWER_PORTS:
        if (offset <= POWER_EVENTS && offset + size > POWER_EVENTS) {
            bytes[POWER_EVENTS - offset] = power->reasons;
            power->reasons = 0;
        }
        break;
    case POWER_PANIC:
        bytes[0] = PANIC_PANICKED | PANIC_CRASH_LOADED;
        break;
    default: /* the keyboard controller is idle and empty */
        break;
    }
}

static void ports_write(struct power_control *power, uint64_t port, uint8_t value)
{
    if (port == POWER_SLEEP && (value & SLEEP_ENABLE) != 0 &&
        (value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK) == POWER_SLEEP_OFF) {
        device_line_raise(&power->asked, POWER_ASKS_OFF);
    } else if (port == POWER_RESET && value == POWER_RESET_VALUE) {
        device_line_raise(&power->asked, POWER_ASKS_RESET);
    }
}

static void power_write(struct device *device,
                        unsigned region,
                        uint64_t offset,
                        const void *data,
                        unsigned size)
{
    struct power_control *power = power_of(device);
    const uint8_t *bytes = data;
    switch (region) {
    case POWER_PORTS:
        for (unsigned i = 0; i < size; i++) {
            ports_write(power, offset + i, bytes[i]);
        }
        break;
    case POWER_KEYBOARD:
        if (offset == KEYBOARD_COMMAND && bytes[0] == KEYBOARD_RESET_CPU) {
            device_line_raise(&power->asked, POWER_ASKS_RESET);
        }
        break;
    case POWER_PANIC:
        if ((bytes[0] & PANIC_CRASH_LOADED) != 0) {
            device_line_raise(&power->asked, POWER_SAYS_CRASH_LOADED);
        } else if ((bytes[0] & PANIC_PANICKED) != 0) {
            device_line_raise(&power->asked, POWER_SAYS_PANIC);
        }
        break;
    default:
        break;
    }
}

static const struct device_ops power_ops = {
    .kind = "power-control",
    .state_version = STATE_VERSION,
    .reset = power_reset,
    .save = power_save,
    .restore = power_restore,
    .free = power_free,
    .read = power_read,
    .write = power_write,
};

int power_control_new(struct power_control **ret_power)
{
    struct power_control *power = calloc(1, sizeof(*power));
    if (power == NULL) {
        return -ENOMEM;
    }
    device_setup(&power->device, &power_ops, "power");
    *ret_power = power;
    return 0;
}

static void tell(struct power_control *power, uint8_t reason)
{
    pthread_mutex_lock(&power->device.lock);
    power->reasons |= reason;
    device_line_raise(&power->events, 0);
    pthread_mutex_unlock(&power->device.lock);
}

void power_control_press(struct power_control *power)
{
    tell(power, POWER_EVENT_BUTTON);
}

void power_control_renew(struct power_control *power)
{
    tell(power, POWER_EVENT_GENERATION);
}

void power_control_tell_cpu(struct power_control *power)
{
    tell(power, POWER_EVENT_CPU);
}
