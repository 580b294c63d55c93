/* A backup: the whole replicated state at a revision, as one string of bytes.
 *
 * Shapes: magic, format, level (the state's, model/level.h), what it is of (struct
 * backup_info), the state as state_encode writes it, a SHA-256 over all that. What a
 * backup holds and what not is in docs/backup-and-recovery.md; every byte in
 * docs/backup-format.md. Whoever wants it encrypted puts the whole of it into a box
 * (base/secret_box.h). Units: bytes, wall ms. Threads: pure. Ownership: encode gives
 * fresh memory; decode gives views into the caller's bytes, and an info to be freed by
 * record_fini. Errors: BERTH_ECORRUPT (damage of any byte), BERTH_EUNSUPPORTED (no
 * backup, or one of a later format), BERTH_ELEVEL (of a level that this release does not
 * know), _ETOOLARGE, -ENOMEM.
 */
#pragma once

#include "base/err.h"
#include "model/record.h"
#include "model/state.h"

#define BACKUP_FORMAT   1
#define BACKUP_SIZE_MAX (1u << 30)

#define BACKUP_INFO_FIELDS(F, S)                                                       \
    F(S, 1, U64, saved_wall_ms, "saved", UNIT_INSTANT, 0, 0, UINT64_MAX, 0, "when")    \
    F(S, 2, U64, revision, "revision", UNIT_NONE, 0, 0, UINT64_MAX, 0, "of the state") \
    F(S, 3, TEXT, version, "version", UNIT_NONE, 0, 0, 63, 0,                          \
      "of the berthd that wrote it")                                                   \
    F(S, 4, NAME, host, "host", none, 0, 0, 63, 0, "that wrote it")                    \
    F(S, 5, TEXT, cluster, "cluster", UNIT_NONE, 0, 0, 64, 0, "its identity, hex")
RECORD_DECLARE(backup_info, BACKUP_INFO_FIELDS)

/* A backup of this state. info: saved_wall_ms, version and host are the caller's, the
 * rest is filled in here (borrowed texts are copied into the bytes). */
int backup_encode(const struct state *state,
                  uint64_t saved_wall_ms,
                  const char *version,
                  const char *host,
                  uint8_t **ret_data,
                  size_t *ret_size,
                  struct err *err);
/* Checks all of it but the state's own content. *ret_level: what a reader has to know. */
int backup_decode(const void *data,
                  size_t size,
                  struct backup_info *ret_info,
                  uint32_t *ret_level,
                  const void **ret_state,
                  size_t *ret_state_size,
                  struct err *err);
/* As above, and loads the state; `state` is fresh and the caller's. */
int backup_load(const void *data,
                size_t size,
                struct backup_info *ret_info,
                uint32_t *ret_level,
                struct state *state,
                struct err *err);
