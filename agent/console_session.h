/* One person at a VM's console: an exchange joined to the VM's ring on this host.
 *
 * With request->upgrade the answer is 101 and then raw bytes both ways until either side
 * ends; without, the ring's content as text. A reader that is too slow loses the oldest
 * bytes and is told so in the stream. Threads: the loop's. Ownership: a session frees
 * itself when its exchange ends; struct console_sessions knows them all, so that those of
 * a VM can be ended before its ring is freed. Limits: CONSOLE_READERS_MAX per VM.
 */
#pragma once

#include "agent/vm_supervisor.h"
#include "api/exchange.h"

#include <uv.h>

struct console_sessions;

/* The supervisor is borrowed for the life. NULL when out of memory. */
struct console_sessions *console_sessions_new(uv_loop_t *loop,
                                              struct vm_supervisor *supervisor);
struct console_sessions *console_sessions_free(struct console_sessions *sessions);
/* Answers the exchange; 404 as a problem when the VM is not on this host. */
void console_sessions_begin(struct console_sessions *sessions,
                            struct exchange *exchange,
                            uint64_t vm);
/* Ends all sessions of a VM; 0: of every VM. */
void console_sessions_end(struct console_sessions *sessions, uint64_t vm);
