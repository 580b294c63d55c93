/* Whether an address is one of this machine, and which it has.
 *
 * Units: host-order IPv4. Threads: any. Errors: BERTH_EINVALID with the addresses that
 * there are; what cannot be told counts as its own, for binding will tell.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

int own_address_check(uint32_t address, struct err *err);
