/* Join tokens: what a new host needs to know to trust a cluster and to be trusted once.
 *
 * A token is "berth-join-" and base64url of {version, IPv4 address and port of the join
 * endpoint, that host's public key, a 16-byte secret}. The cluster keeps the SHA-256 of
 * the secret, as a Token object with an expiry and one use. The public key pins whom the
 * joiner talks to. The joiner's own address and the secret travel only inside the
 * encrypted connection. Threads: any; pure but for the secret. Errors: BERTH_EINVALID in
 * words for the user.
 */
#pragma once

#include "base/digest.h"
#include "base/err.h"

#include <stdint.h>

#define JOIN_SECRET_SIZE     16
#define JOIN_TOKEN_TEXT_SIZE 128

struct join_token {
    uint32_t address;
    uint16_t port;
    struct digest key; /* public, of the host that made it; as hosts have theirs */
    uint8_t secret[JOIN_SECRET_SIZE];
};

void join_token_format(const struct join_token *token, char text[JOIN_TOKEN_TEXT_SIZE]);
int join_token_parse(const char *text, struct join_token *ret_token, struct err *err);
/* What the cluster stores. */
struct digest join_secret_hash(const uint8_t secret[JOIN_SECRET_SIZE]);
