/* The Curve25519 key pair that a host is known by in the mesh, and addresses as texts.
 *
 * Shapes: struct mesh_key is 32 raw bytes, public or secret as the name of the
 * variable says; its hex text is what people see and what tables are keyed by. An
 * address is "ip:port" ("10.0.0.7:7440", "[fd00::7]:7440"): numbers only, so that no
 * name lookup can block or be forged.
 * Ownership: plain values; secrets are the caller's to wipe (mesh_key_wipe).
 * Threads: any.
 * Errors: BERTH_EINVALID.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define MESH_KEY_SIZE     32
#define MESH_KEY_HEX_SIZE (2 * MESH_KEY_SIZE + 1)

struct mesh_key {
    uint8_t bytes[MESH_KEY_SIZE];
};

/* Draws a new secret key from the kernel's generator. */
void mesh_key_generate(struct mesh_key *ret_secret);
/* The public key that belongs to a secret key. */
void mesh_key_public(const struct mesh_key *secret, struct mesh_key *ret_public);
void mesh_key_wipe(struct mesh_key *secret);
bool mesh_key_equal(const struct mesh_key *a, const struct mesh_key *b);
void mesh_key_format(const struct mesh_key *key, char text[MESH_KEY_HEX_SIZE]);
/* 64 hex digits; 0 or BERTH_EINVALID. */
int mesh_key_parse(const char *text, struct mesh_key *ret_key);

#define MESH_IP_SIZE      46 /* an IPv6 address as text with its NUL */
#define MESH_ADDRESS_SIZE 56 /* with brackets and a port */

struct mesh_address {
    char ip[MESH_IP_SIZE];
    bool is_ipv6;
    uint16_t port; /* 0: any free one, where that is allowed */
};

/* Reads "ip:port" or "[ip]:port". */
int mesh_address_parse(const char *text,
                       struct mesh_address *ret_address,
                       struct err *err);
void mesh_address_format(const struct mesh_address *address,
                         char text[MESH_ADDRESS_SIZE]);
