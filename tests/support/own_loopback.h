/* An address on the loopback that this process alone uses, so that its ports are its own.
 *
 * A port that was free a moment ago on 127.0.0.1 may be another test's by now, or the
 * source of anybody's connection: the kernel gives those out of one range to all. On an
 * address of one's own every port is free, and stays so; who calls from 127.0.0.1 cannot
 * meet himself there. Below OWN_LOOPBACK_PORTS_END a port is nobody's source either.
 * Limits: processes whose numbers differ by 2^20 share an address.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define OWN_LOOPBACK_MAX       7u
#define OWN_LOOPBACK_PORTS_END 32768u

/* In host order. number: 1 to OWN_LOOPBACK_MAX, for as many hosts in one process. */
static inline uint32_t own_loopback(unsigned number)
{
    uint32_t pid = (uint32_t)getpid();
    return 0x7f000000u | (pid & 0x7fff) << 8 | (pid >> 15 & 0x1f) << 3 | number;
}

#define OWN_LOOPBACK_TEXT_SIZE 32

/* "127.x.y.z:port" */
static inline char *
own_loopback_text(unsigned number, unsigned port, char ret_text[OWN_LOOPBACK_TEXT_SIZE])
{
    uint32_t address = own_loopback(number);
    (void)snprintf(ret_text, OWN_LOOPBACK_TEXT_SIZE, "127.%u.%u.%u:%u",
                   address >> 16 & 0xff, address >> 8 & 0xff, address & 0xff, port);
    return ret_text;
}
