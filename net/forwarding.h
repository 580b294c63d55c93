/* The host's switch for passing IPv4 packets on between its links: on while a network
 * that lets its guests out is here, and afterwards as it was before.
 *
 * It is the global one, net.ipv4.ip_forward, on purpose: the kernel asks the switch of
 * the link that a packet comes in by. For what guests send that is the bridge, but for
 * what comes back it is whatever link the host's routes chose for the way out, another
 * one tomorrow; so that every link's would have to be on, and that is what the global one
 * is. That it was off is written down before it is switched on, in a file of the state
 * folder that names this boot and network namespace: in another one it says nothing.
 * Threads: any. Errors: -errno with the path as text.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

#define FORWARDING_NOTE "forwarding-was-off"

bool forwarding_is_on(void);
/* It was off, and who had this state folder switched it on. */
bool forwarding_is_ours(const char *state_folder);
int forwarding_switch_on(const char *state_folder, struct err *err);
/* Off, if it is ours and still on; the note goes. Nothing to do is fine. */
int forwarding_switch_back(const char *state_folder, struct err *err);
