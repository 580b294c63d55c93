/* The platform's small registers: sleep, reset, events for the guest, panic, marks.
 *
 * Shapes: one device with four regions: POWER_PORTS (4 bytes at POWER_PORT, as the FADT
 * and the generic event device of acpi_tables.h say), POWER_KEYBOARD (an i8042 that
 * knows one command: reset the CPU), POWER_PANIC (pvpanic) and POWER_MARK (a byte that
 * says how far it is, which leaves by the line `marked`). What the guest asks for leaves
 * by the line `asked`, with an enum power_request; the machine carries it out.
 * Towards the guest, a new reason raises the event line, and while the guest runs and has
 * not read why, the line is raised again each second and whenever it starts: a guest that
 * boots masks the line, and never hears of what came by then. Threads, errors: as
 * device.h says. Ownership: the poller is borrowed, for the device's life.
 */
#pragma once

#include "vmm/device.h"
#include "vmm/poller.h"

#include <stdbool.h>
#include <stdint.h>

enum power_region { POWER_PORTS = 0, POWER_KEYBOARD, POWER_PANIC, POWER_MARK };

/* Registers of POWER_PORTS: one byte each. */
enum power_register {
    POWER_SLEEP = 0,        /* written: sleep type << 2, bit 5 enters it */
    POWER_SLEEP_STATUS = 1, /* bit 7: woken up; never */
    POWER_RESET = 2,        /* written POWER_RESET_VALUE: start over */
    POWER_EVENTS = 3,       /* read: POWER_EVENT_* since the last read; write: nothing */
};

#define POWER_RESET_VALUE  0x01u
#define POWER_SLEEP_OFF    5u /* the type of S5 */
#define POWER_EVENT_BUTTON 0x01u
#define POWER_EVENT_GENERATION \
    0x02u /* it goes on from a saved state: machine_layout.h, GENERATION_AT */
#define POWER_EVENT_CPU 0x04u /* a CPU has come: cpu_plug.h says which */
#define POWER_EVENT_SLOT                                                                 \
    0x08u                        /* a device has come or is to go: pci_plug.h says which \
                                  */
#define PANIC_PANICKED     0x01u /* of pvpanic's register */
#define PANIC_CRASH_LOADED 0x02u

enum power_request {
    POWER_ASKS_OFF = 1,
    POWER_ASKS_RESET,
    POWER_SAYS_PANIC,
    POWER_SAYS_CRASH_LOADED, /* it panicked and its own dump kernel takes over */
};

struct power_control {
    struct device device;      /* first */
    struct device_line asked;  /* number: enum power_request */
    struct device_line marked; /* number: what was written */
    struct device_line events; /* raised for a reason that is not read; number is 0 */
    struct poller *poller; /* of the timer, before init; NULL: nothing is told again */
    uint8_t reasons;       /* POWER_EVENT_*, until read */
    /* private */
    bool runs;
    int timer_fd;
    int watch;
};

int power_control_new(struct power_control **ret_power);
/* Presses the power button. Takes the lock. */
void power_control_press(struct power_control *power);
/* Tells the guest that its generation is another. Takes the lock. */
void power_control_renew(struct power_control *power);
/* Tells the guest that a CPU has come. Takes the lock. */
void power_control_tell_cpu(struct power_control *power);
/* Tells the guest that a device has come, or is to go. Takes the lock. */
void power_control_tell_slot(struct power_control *power);
