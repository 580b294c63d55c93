/* What a client of the host says first: "CONNECT PORT\n".
 *
 * Shapes: `struct vsock_greeting` is what has come of it; all zeros is the beginning. Not
 * a byte is taken from the socket beyond the line: that is the connection's. Threads: the
 * device's lock. Errors: -ECONNRESET when the client has gone, BERTH_EPROTO when it says
 * something else. Limits: VSOCK_GREETING_MAX.
 */
#pragma once

#include <stdint.h>

#define VSOCK_GREETING_MAX 32u /* "CONNECT 4294967295\n" fits */

struct vsock_greeting {
    unsigned size;
    char text[VSOCK_GREETING_MAX];
};

/* Takes what is there: 1 with the port when the line is whole, 0 when not yet. */
int vsock_greeting_take(struct vsock_greeting *greeting, int fd, uint32_t *ret_port);
