/* Bytes under a passphrase: what a backup becomes before it leaves the house.
 *
 * Shapes: a box is a string of bytes of its own: magic, salt, the cost of the key's
 * derivation, the stream of encrypted pieces, a SHA-256 of all that. The key comes from
 * the passphrase by argon2id, the pieces are libsodium's secretstream
 * (XChaCha20-Poly1305), so that nothing can be changed, left out, swapped or added
 * unnoticed. docs/backup-format.md has every byte. Units: bytes, KiB of memory. Threads:
 * any; sealing and opening take as long and as much memory as the cost says: not on a
 * loop. Ownership: results are malloc'd and the caller's. Errors: BERTH_EINVALID (no
 * passphrase), BERTH_ECORRUPT (damage of any byte), BERTH_EAUTH (intact, but the
 * passphrase is another), BERTH_EUNSUPPORTED (not a box of a known format), -ENOMEM.
 * Limits: PASSPHRASE_SIZE_MAX; a box that asks for more than SECRET_BOX_PASSES_MAX or
 * _MEMORY_MAX is refused, since whoever wrote it decides what opening it costs.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PASSPHRASE_SIZE_MAX       1024
#define SECRET_BOX_PASSES         3 /* libsodium's "moderate": ~0.7 s */
#define SECRET_BOX_MEMORY_KIB     (256u << 10)
#define SECRET_BOX_PASSES_MAX     16
#define SECRET_BOX_MEMORY_KIB_MIN 8 /* the function's own least */
#define SECRET_BOX_MEMORY_KIB_MAX (1u << 20)

struct secret_box_cost {
    uint32_t passes;
    uint32_t memory_kib;
};
struct secret_box_cost secret_box_cost_default(void);

/* Whether the bytes begin as a box does. */
bool secret_box_is(const void *data, size_t size);
int secret_box_seal(const char *passphrase,
                    const struct secret_box_cost *cost,
                    const void *data,
                    size_t size,
                    uint8_t **ret_box,
                    size_t *ret_size,
                    struct err *err);
int secret_box_open(const char *passphrase,
                    const void *box,
                    size_t box_size,
                    uint8_t **ret_data,
                    size_t *ret_size,
                    struct err *err);

/* The first line of a file as a passphrase; BERTH_EINVALID when it is empty or too long.
 * The caller wipes it. */
int passphrase_read_file(const char *path,
                         char ret_passphrase[PASSPHRASE_SIZE_MAX],
                         struct err *err);
/* Overwrites memory that held a secret, whatever the compiler thinks of it. */
void secret_wipe(void *data, size_t size);
