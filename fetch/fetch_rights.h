/* Takes away from berth-fetch what a download does not need, before the first byte of a
 * server is read.
 *
 * Shapes: walls, and each must stand, but one that the kernel does not know or has
 * switched off: it is named in the answer. Those of base/process_rights.h, as
 * FETCH_RIGHTS_UID with limits (no file grows; CPU time, descriptors, threads, memory);
 * then
 *
 *     files           beneath what resolvers and TLS read, and only to read (Landlock;
 *                     else what everybody may read)
 *     system calls    threads, but no process, no exec; no debugger, signal, priority
 *                     or limit for others; no namespace, no mount; sockets that ask
 *                     by TCP, UDP and netlink, none that lingers: no UNIX socket of
 *                     this host
 *
 * What is left is the network as the host itself has it, or nothing could be fetched.
 * Threads: before there are any. Errors: -errno with text.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/* Nobody's: Debian reserves it, and systemd and useradd give it to nobody. Not `nobody`,
 * whom other programs run as. */
#define FETCH_RIGHTS_UID     65528
#define FETCH_RIGHTS_FILES   64
#define FETCH_RIGHTS_THREADS 128 /* of all downloads on a machine; one resolver each */
#define FETCH_RIGHTS_CPU_S   900 /* TLS of hundreds of GiB */
#define FETCH_RIGHTS_MEMORY  (256u << 20)
#define FETCH_MISSING_SIZE   64

/* parent: who started us, by its own word. ret_missing: "files" when that does not stand
 * here; "" when all does. */
int fetch_rights_drop(pid_t parent,
                      char ret_missing[FETCH_MISSING_SIZE],
                      struct err *err);
