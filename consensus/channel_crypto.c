#include "consensus/channel_crypto.h"

#include "base/err.h"
#include "base/require.h"

#include <string.h>

#define HELLO_STATIC   (4 + 32)
#define HELLO_IDS      (HELLO_STATIC + 32 + 16)
#define TAG_SIZE       16
#define PROTOCOL_LABEL "berth raft channel 1"
#define KEY_LABEL      "berth raft channel key"
#define STREAM_LABEL   "berth raft channel stream"

_Static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == TAG_SIZE, "tag size");
_Static_assert(crypto_scalarmult_BYTES == CHANNEL_KEY_SIZE, "key size");

static const uint8_t hello_magic[4] = {'B', 'R', 'C', '1'};

static void put_u64(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static void mix_hash(struct channel_handshake *hs, const void *data, size_t size)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof(hs->hash));
    crypto_generichash_update(&state, hs->hash, sizeof(hs->hash));
    crypto_generichash_update(&state, data, size);
    crypto_generichash_final(&state, hs->hash, sizeof(hs->hash));
}

/* Folds one Diffie-Hellman result into the chain; a result of zero (a key of low order)
 * is refused. */
static int
mix_key(struct channel_handshake *hs, const uint8_t *secret, const uint8_t *public_key)
{
    uint8_t shared[CHANNEL_KEY_SIZE];
    uint8_t out[64];
    if (crypto_scalarmult(shared, secret, public_key) != 0) {
        return BERTH_EAUTH;
    }
    crypto_generichash_state state;
    crypto_generichash_init(&state, hs->chain, sizeof(hs->chain), sizeof(out));
    crypto_generichash_update(&state, (const uint8_t *)KEY_LABEL, strlen(KEY_LABEL));
    crypto_generichash_update(&state, shared, sizeof(shared));
    crypto_generichash_final(&state, out, sizeof(out));
    memcpy(hs->chain, out, 32);
    memcpy(hs->seal, out + 32, 32);
    sodium_memzero(shared, sizeof(shared));
    sodium_memzero(out, sizeof(out));
    sodium_memzero(&state, sizeof(state));
    return 0;
}

static const uint8_t nonce_zero[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];

static void
seal_text(struct channel_handshake *hs, const uint8_t *plain, size_t size, uint8_t *out)
{
    crypto_aead_xchacha20poly1305_ietf_encrypt(
        out, NULL, plain, size, hs->hash, sizeof(hs->hash), NULL, nonce_zero, hs->seal);
    mix_hash(hs, out, size + TAG_SIZE);
}

static int
open_text(struct channel_handshake *hs, const uint8_t *sealed, size_t size, uint8_t *out)
{
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(
            out, NULL, NULL, sealed, size + TAG_SIZE, hs->hash, sizeof(hs->hash),
            nonce_zero, hs->seal) != 0) {
        return BERTH_EAUTH;
    }
    mix_hash(hs, sealed, size + TAG_SIZE);
    return 0;
}

void channel_identity_of(struct channel_identity *ret_identity,
                         const uint8_t secret_key[CHANNEL_KEY_SIZE])
{
    memcpy(ret_identity->secret_key, secret_key, CHANNEL_KEY_SIZE);
    crypto_scalarmult_base(ret_identity->public_key, secret_key);
}

static void start(struct channel_handshake *hs,
                  const struct channel_identity *self,
                  uint64_t cluster_id,
                  const uint8_t *called_static)
{
    uint8_t cluster[8];
    memset(hs, 0, sizeof(*hs));
    hs->self = *self;
    crypto_generichash(hs->hash, sizeof(hs->hash), (const uint8_t *)PROTOCOL_LABEL,
                       strlen(PROTOCOL_LABEL), NULL, 0);
    memcpy(hs->chain, hs->hash, sizeof(hs->chain));
    put_u64(cluster, cluster_id);
    mix_hash(hs, cluster, sizeof(cluster));
    mix_hash(hs, called_static, CHANNEL_KEY_SIZE);
}

void channel_handshake_call(struct channel_handshake *handshake,
                            const struct channel_identity *self,
                            uint64_t cluster_id,
                            const uint8_t peer_static[CHANNEL_KEY_SIZE])
{
    start(handshake, self, cluster_id, peer_static);
    memcpy(handshake->peer_static, peer_static, CHANNEL_KEY_SIZE);
}

void channel_handshake_listen(struct channel_handshake *handshake,
                              const struct channel_identity *self,
                              uint64_t cluster_id)
{
    start(handshake, self, cluster_id, self->public_key);
}

void channel_handshake_fini(struct channel_handshake *handshake)
{
    sodium_memzero(handshake, sizeof(*handshake));
}

static void make_ephemeral(struct channel_handshake *hs)
{
    uint8_t secret[CHANNEL_KEY_SIZE];
    randombytes_buf(secret, sizeof(secret));
    channel_identity_of(&hs->ephemeral, secret);
    sodium_memzero(secret, sizeof(secret));
    mix_hash(hs, hs->ephemeral.public_key, CHANNEL_KEY_SIZE);
}

static void take_ephemeral(struct channel_handshake *hs, const uint8_t *public_key)
{
    memcpy(hs->peer_ephemeral, public_key, CHANNEL_KEY_SIZE);
    mix_hash(hs, public_key, CHANNEL_KEY_SIZE);
}

int channel_hello_write(struct channel_handshake *handshake,
                        uint64_t self_id,
                        uint64_t peer_id,
                        uint8_t ret_hello[CHANNEL_HELLO_SIZE])
{
    struct channel_handshake *hs = handshake;
    uint8_t ids[16];
    put_u64(ids, self_id);
    put_u64(ids + 8, peer_id);
    memcpy(ret_hello, hello_magic, sizeof(hello_magic));
    mix_hash(hs, hello_magic, sizeof(hello_magic));
    make_ephemeral(hs);
    memcpy(ret_hello + 4, hs->ephemeral.public_key, CHANNEL_KEY_SIZE);
    int r = mix_key(hs, hs->ephemeral.secret_key, hs->peer_static);
    if (r < 0) {
        return r;
    }
    seal_text(hs, hs->self.public_key, CHANNEL_KEY_SIZE, ret_hello + HELLO_STATIC);
    r = mix_key(hs, hs->self.secret_key, hs->peer_static);
    if (r < 0) {
        return r;
    }
    seal_text(hs, ids, sizeof(ids), ret_hello + HELLO_IDS);
    return 0;
}

int channel_hello_open(struct channel_handshake *handshake,
                       const uint8_t hello[CHANNEL_HELLO_SIZE],
                       uint8_t ret_public_key[CHANNEL_KEY_SIZE])
{
    struct channel_handshake *hs = handshake;
    if (memcmp(hello, hello_magic, sizeof(hello_magic)) != 0) {
        return BERTH_EAUTH;
    }
    mix_hash(hs, hello_magic, sizeof(hello_magic));
    take_ephemeral(hs, hello + 4);
    int r = mix_key(hs, hs->self.secret_key, hs->peer_ephemeral);
    if (r < 0) {
        return r;
    }
    r = open_text(hs, hello + HELLO_STATIC, CHANNEL_KEY_SIZE, hs->peer_static);
    if (r < 0) {
        return r;
    }
    memcpy(ret_public_key, hs->peer_static, CHANNEL_KEY_SIZE);
    return 0;
}

int channel_hello_finish(struct channel_handshake *handshake,
                         const uint8_t hello[CHANNEL_HELLO_SIZE],
                         uint64_t *ret_caller_id,
                         uint64_t *ret_called_id)
{
    uint8_t ids[16];
    int r = mix_key(handshake, handshake->self.secret_key, handshake->peer_static);
    if (r < 0) {
        return r;
    }
    r = open_text(handshake, hello + HELLO_IDS, sizeof(ids), ids);
    if (r < 0) {
        return r;
    }
    *ret_caller_id = get_u64(ids);
    *ret_called_id = get_u64(ids + 8);
    return 0;
}

int channel_answer_write(struct channel_handshake *handshake,
                         uint64_t self_id,
                         uint8_t ret_answer[CHANNEL_ANSWER_SIZE])
{
    struct channel_handshake *hs = handshake;
    uint8_t id[8];
    put_u64(id, self_id);
    make_ephemeral(hs);
    memcpy(ret_answer, hs->ephemeral.public_key, CHANNEL_KEY_SIZE);
    int r = mix_key(hs, hs->ephemeral.secret_key, hs->peer_ephemeral);
    if (r < 0) {
        return r;
    }
    r = mix_key(hs, hs->ephemeral.secret_key, hs->peer_static);
    if (r < 0) {
        return r;
    }
    seal_text(hs, id, sizeof(id), ret_answer + CHANNEL_KEY_SIZE);
    return 0;
}

int channel_answer_read(struct channel_handshake *handshake,
                        const uint8_t answer[CHANNEL_ANSWER_SIZE],
                        uint64_t *ret_called_id)
{
    struct channel_handshake *hs = handshake;
    uint8_t id[8];
    take_ephemeral(hs, answer);
    int r = mix_key(hs, hs->ephemeral.secret_key, hs->peer_ephemeral);
    if (r < 0) {
        return r;
    }
    r = mix_key(hs, hs->self.secret_key, hs->peer_ephemeral);
    if (r < 0) {
        return r;
    }
    r = open_text(hs, answer + CHANNEL_KEY_SIZE, sizeof(id), id);
    if (r < 0) {
        return r;
    }
    *ret_called_id = get_u64(id);
    return 0;
}

static void stream_key(const struct channel_handshake *hs, uint8_t key[32])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, hs->chain, sizeof(hs->chain), 32);
    crypto_generichash_update(&state, (const uint8_t *)STREAM_LABEL,
                              strlen(STREAM_LABEL));
    crypto_generichash_update(&state, hs->hash, sizeof(hs->hash));
    crypto_generichash_final(&state, key, 32);
    sodium_memzero(&state, sizeof(state));
}

void channel_stream_send(struct channel_stream *stream,
                         const struct channel_handshake *handshake,
                         uint8_t ret_header[CHANNEL_HEADER_SIZE])
{
    uint8_t key[32];
    stream_key(handshake, key);
    stream->frames = 0;
    crypto_secretstream_xchacha20poly1305_init_push(&stream->state, ret_header, key);
    sodium_memzero(key, sizeof(key));
}

int channel_stream_receive(struct channel_stream *stream,
                           const struct channel_handshake *handshake,
                           const uint8_t header[CHANNEL_HEADER_SIZE])
{
    uint8_t key[32];
    stream_key(handshake, key);
    stream->frames = 0;
    int r = crypto_secretstream_xchacha20poly1305_init_pull(&stream->state, header, key);
    sodium_memzero(key, sizeof(key));
    return r == 0 ? 0 : BERTH_EAUTH;
}

size_t channel_frame_seal(struct channel_stream *stream,
                          const uint8_t *plain,
                          size_t size,
                          uint8_t *ret_frame)
{
    REQUIRE(size > 0 && size <= CHANNEL_PLAIN_MAX);
    size_t length = size + CHANNEL_SEAL_SIZE;
    for (unsigned i = 0; i < CHANNEL_PREFIX_SIZE; i++) {
        ret_frame[i] = (uint8_t)(length >> (8 * i));
    }
    uint8_t tag = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE;
    if (++stream->frames >= CHANNEL_REKEY_FRAMES) {
        tag = crypto_secretstream_xchacha20poly1305_TAG_REKEY;
        stream->frames = 0;
    }
    crypto_secretstream_xchacha20poly1305_push(
        &stream->state, ret_frame + CHANNEL_PREFIX_SIZE, NULL, plain, size, ret_frame,
        CHANNEL_PREFIX_SIZE, tag);
    return CHANNEL_PREFIX_SIZE + length;
}

int channel_frame_length(const uint8_t prefix[CHANNEL_PREFIX_SIZE], size_t *ret_length)
{
    size_t length = (size_t)prefix[0] | (size_t)prefix[1] << 8 | (size_t)prefix[2] << 16 |
                    (size_t)prefix[3] << 24;
    if (length <= CHANNEL_SEAL_SIZE || length > CHANNEL_FRAME_MAX) {
        return BERTH_EPROTO;
    }
    *ret_length = length;
    return 0;
}

int channel_frame_open(struct channel_stream *stream,
                       const uint8_t *frame,
                       size_t length,
                       uint8_t *ret_plain,
                       size_t *ret_size)
{
    unsigned long long size = 0;
    uint8_t tag = 0;
    REQUIRE(length > CHANNEL_SEAL_SIZE && length <= CHANNEL_FRAME_MAX);
    if (crypto_secretstream_xchacha20poly1305_pull(&stream->state, ret_plain, &size, &tag,
                                                   frame + CHANNEL_PREFIX_SIZE, length,
                                                   frame, CHANNEL_PREFIX_SIZE) != 0) {
        return BERTH_EAUTH;
    }
    *ret_size = (size_t)size;
    return 0;
}

void channel_confirm_write(struct channel_stream *stream,
                           const struct channel_handshake *handshake,
                           uint64_t self_id,
                           const char *self_address,
                           uint8_t ret_confirm[CHANNEL_CONFIRM_SIZE])
{
    uint8_t plain[CHANNEL_CONFIRM_PLAIN] = {0};
    size_t length = strlen(self_address);
    REQUIRE(length < CHANNEL_ADDRESS_SIZE);
    put_u64(plain, self_id);
    memcpy(plain + 8, self_address, length + 1);
    channel_stream_send(stream, handshake, ret_confirm);
    (void)channel_frame_seal(stream, plain, sizeof(plain),
                             ret_confirm + CHANNEL_HEADER_SIZE);
}

int channel_confirm_read(struct channel_stream *stream,
                         const struct channel_handshake *handshake,
                         const uint8_t confirm[CHANNEL_CONFIRM_SIZE],
                         uint64_t *ret_caller_id,
                         char ret_address[CHANNEL_ADDRESS_SIZE])
{
    uint8_t plain[CHANNEL_CONFIRM_PLAIN];
    const uint8_t *frame = confirm + CHANNEL_HEADER_SIZE;
    size_t length = 0;
    size_t size = 0;
    int r = channel_stream_receive(stream, handshake, confirm);
    if (r < 0) {
        return r;
    }
    if (channel_frame_length(frame, &length) < 0 ||
        length != CHANNEL_CONFIRM_PLAIN + CHANNEL_SEAL_SIZE) {
        return BERTH_EAUTH;
    }
    r = channel_frame_open(stream, frame, length, plain, &size);
    if (r < 0) {
        return r;
    }
    if (plain[CHANNEL_CONFIRM_PLAIN - 1] != 0) {
        return BERTH_EPROTO;
    }
    *ret_caller_id = get_u64(plain);
    memcpy(ret_address, plain + 8, CHANNEL_ADDRESS_SIZE);
    return 0;
}
