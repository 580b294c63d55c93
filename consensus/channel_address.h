/* The text of an address that voters call each other at: "1.2.3.4:7442", "[::1]:7442".
 *
 * Units: none. Threads: any. Ownership: nothing is kept. Errors: BERTH_EINVALID with
 * words.
 */
#pragma once

#include "base/err.h"

#include <sys/socket.h>

/* "1.2.3.4:567" or "[::1]:567"; 0 or BERTH_EINVALID. */
int channel_parse_address(const char *text,
                          struct sockaddr_storage *ret_address,
                          struct err *err);
