#include "net/mesh_key.h"

#include "base/digest.h"
#include "base/parse_number.h"
#include "base/random.h"

#include <sodium.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

_Static_assert(MESH_KEY_SIZE == crypto_scalarmult_BYTES, "a key is a Curve25519 key");

void mesh_key_generate(struct mesh_key *ret_secret)
{
    /* Every 32 bytes are a secret key: the curve's arithmetic clamps the bits it must. */
    random_secret(ret_secret->bytes, sizeof(ret_secret->bytes));
}

void mesh_key_public(const struct mesh_key *secret, struct mesh_key *ret_public)
{
    (void)crypto_scalarmult_base(ret_public->bytes, secret->bytes); /* cannot fail */
}

void mesh_key_wipe(struct mesh_key *secret)
{
    sodium_memzero(secret->bytes, sizeof(secret->bytes));
}

bool mesh_key_equal(const struct mesh_key *a, const struct mesh_key *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

void mesh_key_format(const struct mesh_key *key, char text[MESH_KEY_HEX_SIZE])
{
    hex_format(key->bytes, sizeof(key->bytes), text);
}

int mesh_key_parse(const char *text, struct mesh_key *ret_key)
{
    return hex_parse(text, ret_key->bytes, sizeof(ret_key->bytes));
}

/* Splits text into the ip, without brackets, and what follows the colon. */
static int
address_split(const char *text, struct mesh_address *address, const char **ret_port)
{
    address->is_ipv6 = text[0] == '[';
    const char *ip = text + (address->is_ipv6 ? 1 : 0);
    const char *end = strchr(ip, address->is_ipv6 ? ']' : ':');
    if (!end || (size_t)(end - ip) >= sizeof(address->ip)) {
        return BERTH_EINVALID;
    }
    memcpy(address->ip, ip, (size_t)(end - ip));
    address->ip[end - ip] = '\0';
    const char *colon = end + (address->is_ipv6 ? 1 : 0);
    if (*colon != ':') {
        return BERTH_EINVALID;
    }
    *ret_port = colon + 1;
    return 0;
}

int mesh_address_parse(const char *text,
                       struct mesh_address *ret_address,
                       struct err *err)
{
    struct mesh_address address = {0};
    const char *port_text = NULL;
    uint64_t port = 0;
    uint8_t binary[sizeof(struct in6_addr)];
    if (address_split(text, &address, &port_text) ||
        inet_pton(address.is_ipv6 ? AF_INET6 : AF_INET, address.ip, binary) != 1 ||
        parse_u64(port_text, &port, NULL) || port > UINT16_MAX) {
        return err_set(err, BERTH_EINVALID,
                       "address %s: expected ip:port with numbers only, such as "
                       "10.0.0.7:7440 or [fd00::7]:7440",
                       text);
    }
    address.port = (uint16_t)port;
    *ret_address = address;
    return 0;
}

void mesh_address_format(const struct mesh_address *address, char text[MESH_ADDRESS_SIZE])
{
    (void)snprintf(text, MESH_ADDRESS_SIZE, address->is_ipv6 ? "[%s]:%u" : "%s:%u",
                   address->ip, (unsigned)address->port);
}
