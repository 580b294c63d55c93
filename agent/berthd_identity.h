/* Who a host is at its first start: what the user says, or what the machine says.
 *
 * Later starts keep it; only ports may be given anew. Shapes: fills struct identity from
 * struct berthd_config; nothing is written down here. Threads: any, at start. Errors:
 * BERTH_EINVALID with what to say instead, -ENOMEM.
 */
#pragma once

#include "agent/berthd.h"
#include "agent/identity.h"

int berthd_identity_complete(struct identity *identity,
                             const struct berthd_config *config,
                             struct err *err);
