/* The world's end of the serial port: a listening socket, or standard input and output.
 *
 * Shapes: what the guest sends goes through a ring of CONSOLE_KEEP_MAX bytes to the one
 * client that is connected. The ring keeps the last bytes, read or not, and drops the
 * oldest: the guest never waits and memory never grows. A client that connects is first
 * given all that the ring holds, so that who has lost the connection loses nothing. What
 * the client sends goes to the guest as fast as the port takes it. A second client
 * replaces the first.
 *
 * Threads: opened and closed on the poller's thread; the port calls from vCPUs.
 * Ownership: takes the listener, borrows input and output descriptors and the serial
 * port, which must outlive it. Errors: -errno.
 */
#pragma once

#include "base/err.h"
#include "vmm/poller.h"
#include "vmm/serial_port.h"

#define CONSOLE_KEEP_MAX (64u << 10) /* a boot of Linux, whole */

struct console_port;

/* Clients come to the listening socket, which is taken on success. */
int console_port_listen(struct poller *poller,
                        struct serial_port *serial,
                        int take_listener,
                        struct console_port **ret_console,
                        struct err *err);
/* One client for ever; input_fd may be -1. Both may block: nothing is written that they
 * have no room for. */
int console_port_connect(struct poller *poller,
                         struct serial_port *serial,
                         int input_fd,
                         int output_fd,
                         struct console_port **ret_console,
                         struct err *err);
/* Writes what the client takes, then lets go: a socket's at once, standard output's until
 * its reader has taken nothing for a second. NULL is fine; returns NULL. */
struct console_port *console_port_close(struct console_port *console);
