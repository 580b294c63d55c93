#include "vmm/power_control.h"

#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SLEEP_ENABLE     0x20u
#define SLEEP_TYPE_SHIFT 2u
#define SLEEP_TYPE_MASK  0x7u
/* The i8042: status and command share a port. */
#define KEYBOARD_COMMAND   4u
#define KEYBOARD_RESET_CPU 0xfeu

#define STATE_VERSION 1u
#define AGAIN_S       1 /* until a reason that is not read is told again */
#define ALL_REASONS \
    (POWER_EVENT_BUTTON | POWER_EVENT_GENERATION | POWER_EVENT_CPU | POWER_EVENT_SLOT)

static struct power_control *power_of(struct device *device)
{
    return (struct power_control *)(void *)device;
}

/* While the guest runs and there is a reason that it has not read. */
static void timer_follow(const struct power_control *power)
{
    const struct itimerspec when = {
        .it_value = {.tv_sec = power->runs && power->reasons != 0 ? AGAIN_S : 0}};
    if (power->timer_fd >= 0) {
        (void)timerfd_settime(power->timer_fd, 0, &when, NULL); /* cannot fail */
    }
}

/* A guest whose driver is not there yet has the line masked, and what came then is lost
 * in the interrupt controller. */
static void tell_again(struct power_control *power)
{
    if (power->runs && power->reasons != 0) {
        device_line_raise(&power->events, 0);
    }
    timer_follow(power);
}

static void on_timer(void *context, uint64_t token, unsigned events)
{
    struct power_control *power = context;
    uint64_t ignored;
    (void)token;
    (void)events;
    pthread_mutex_lock(&power->device.lock);
    (void)!read(power->timer_fd, &ignored, sizeof(ignored)); /* empty: it was set anew */
    tell_again(power);
    pthread_mutex_unlock(&power->device.lock);
}

static int power_init(struct device *device, struct err *err)
{
    struct power_control *power = power_of(device);
    if (power->poller == NULL) {
        return 0;
    }
    power->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (power->timer_fd < 0) {
        return err_sys(err, -errno, "make a timer");
    }
    power->watch =
        poller_add(power->poller, power->timer_fd, POLLER_READABLE, on_timer, power, 0);
    return power->watch < 0 ? err_sys(err, power->watch, "watch the timer") : 0;
}

static void power_start(struct device *device)
{
    power_of(device)->runs = true;
    tell_again(power_of(device));
}

static void power_stop(struct device *device)
{
    power_of(device)->runs = false;
    timer_follow(power_of(device));
}

static void power_reset(struct device *device)
{
    power_of(device)->reasons = 0;
    timer_follow(power_of(device));
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
    struct power_control *power = power_of(device);
    if (power->watch >= 0) {
        poller_remove(power->poller, power->watch);
    }
    fd_close(&power->timer_fd);
    free(power);
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
            timer_follow(power);
        }
        break;
    case POWER_PANIC:
        bytes[0] = PANIC_PANICKED | PANIC_CRASH_LOADED;
        break;
    case POWER_MARK:
        memset(bytes, 0xff, size); /* as if nobody was there */
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
        if ((bytes[0] & PANIC_PANICKED) != 0) { /* whatever else: as QEMU has it */
            device_line_raise(&power->asked, POWER_SAYS_PANIC);
        } else if ((bytes[0] & PANIC_CRASH_LOADED) != 0) {
            device_line_raise(&power->asked, POWER_SAYS_CRASH_LOADED);
        }
        break;
    case POWER_MARK:
        device_line_raise(&power->marked, bytes[0]);
        break;
    default:
        break;
    }
}

static const struct device_ops power_ops = {
    .kind = "power-control",
    .state_version = STATE_VERSION,
    .init = power_init,
    .reset = power_reset,
    .start = power_start,
    .stop = power_stop,
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
    power->timer_fd = power->watch = -1;
    *ret_power = power;
    return 0;
}

static void tell(struct power_control *power, uint8_t reason)
{
    pthread_mutex_lock(&power->device.lock);
    power->reasons |= reason;
    device_line_raise(&power->events, 0);
    timer_follow(power);
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

void power_control_tell_slot(struct power_control *power)
{
    tell(power, POWER_EVENT_SLOT);
}
