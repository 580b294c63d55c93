/* A 16550A serial port, fast enough to never make the guest wait for it.
 *
 * Shapes: eight registers; what is sent leaves byte by byte through `output`, at once;
 * what is received waits in a queue of SERIAL_INPUT_MAX bytes, whose first byte the guest
 * sees. The interrupt line is raised on every change from "no reason" to "a reason".
 * Threads, errors: as device.h says; output is called with the lock held and must not
 * call back. Limits: SERIAL_INPUT_MAX; what comes beyond is refused, not lost: the sender
 * keeps it.
 */
#pragma once

#include "vmm/boot_trace.h"
#include "vmm/counter.h"
#include "vmm/device.h"

#include <stddef.h>
#include <stdint.h>

#define SERIAL_INPUT_MAX 256u /* a pasted line; more than the chip's 16 */

struct serial_port {
    struct device device;    /* first */
    struct device_line line; /* the interrupt; number is 0 */
    void (*output)(void *context, uint8_t byte);
    void (*drained)(void *context); /* there is room for input again */
    void *context;
    struct boot_trace *trace; /* NULL: nobody looks */
    struct counter rx_bytes;  /* by the guest; written under the lock */
    struct counter tx_bytes;
    /* private: the chip's registers */
    uint8_t interrupt_enable;
    uint8_t fifo_control;
    uint8_t line_control;
    uint8_t modem_control;
    uint8_t scratch;
    uint16_t divisor;
    uint8_t thr_empty; /* the "may send" interrupt is due: 0 or 1 */
    uint8_t asserted;  /* what the line was told last: 0 or 1 */
    uint16_t input_start;
    uint16_t input_count;
    uint8_t input[SERIAL_INPUT_MAX];
};

int serial_port_new(struct serial_port **ret_serial);
/* Takes what there is room for; the number of bytes taken. Takes the lock. */
size_t serial_port_receive(struct serial_port *serial, const void *data, size_t size);
