/* The key and self-signed certificate of this host's HTTPS listener.
 *
 * Kept as <state>/tls.key (0600) and <state>/tls.crt; made at first start (ECDSA P-256,
 * ten years, names: the host's name, localhost, its IPv4 address). Clients pin the public
 * key (`berth login`), so a key that is there is kept for ever; the certificate is made
 * anew for it when name or address change, when it expires within 30 days, or when it is
 * of another key or damaged (then it is kept as tls.crt.damaged). So a crash between the
 * two files costs nothing. Threads: any, at start. Errors: BERTH_ECORRUPT names a damaged
 * key file, which nobody but its owner can put back, and the way out; -errno.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct tls_identity {
    char *key_pem;
    char *certificate_pem;
    char pin[64]; /* "sha256//BASE64" of the public key, as curl wants it */
};

int tls_identity_open(const char *folder,
                      const char *name,
                      uint32_t address,
                      uint64_t wall_ms,
                      struct tls_identity *ret_identity,
                      struct err *err);
void tls_identity_fini(struct tls_identity *identity);
