/* The secret handshake between two voters, and the sealed frames after it. Pure.
 *
 * The pattern is Noise IK (the caller knows the called one's static key; the called
 * one learns the caller's) with a third message that confirms the keys before
 * anything is delivered, built from libsodium: X25519, BLAKE2b, XChaCha20-Poly1305
 * and crypto_secretstream. Both keep a transcript hash h and a chaining key ck, 32
 * bytes each. Capitals are static keys, small letters ephemeral ones.
 *
 *   start     h = ck = BLAKE2b("berth raft channel 1")
 *             mix(cluster id u64), mix(the called one's static public key)
 *   mix(x)    h = BLAKE2b(h | x)
 *   key(dh)   ck | k = BLAKE2b-512(key: ck, "berth raft channel key" | dh)
 *             each k seals exactly one text
 *   seal(x)   XChaCha20-Poly1305(k, nonce 0, additional data h, x), then mix(it)
 *
 *   hello  -> "BRC1" | e1 | seal(S1) | seal(own id u64, wanted id u64)
 *             mix(magic), mix(e1), key(e1*S2), seal, key(S1*S2), seal
 *   answer <- e2 | seal(own id u64)
 *             mix(e2), key(e1*e2), key(S1*e2), seal
 *   stream -> a secretstream header, then frames;
 *             its key = BLAKE2b(key: ck, "berth raft channel stream" | h)
 *   frame     length u32 of the sealed text, the sealed text; the length is its
 *             additional data
 *
 * The first frame, the confirmation, says the caller's id and address: a replayed
 * hello gets no further than this. One channel carries one direction, caller to
 * called. The sender re-keys the stream every CHANNEL_REKEY_FRAMES frames.
 *
 * Ownership: plain values; channel_handshake_fini wipes. Threads: the owner's.
 * Errors: BERTH_EAUTH for every text that does not verify, without saying why.
 */
#pragma once

#include <sodium.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_KEY_SIZE 32

#define CHANNEL_HELLO_SIZE  (4 + 32 + (32 + 16) + (16 + 16))
#define CHANNEL_ANSWER_SIZE (32 + (8 + 16))
#define CHANNEL_HEADER_SIZE crypto_secretstream_xchacha20poly1305_HEADERBYTES

#define CHANNEL_PREFIX_SIZE   4
#define CHANNEL_SEAL_SIZE     crypto_secretstream_xchacha20poly1305_ABYTES
#define CHANNEL_FRAME_MAX     65536 /* sealed text of one frame, without the prefix */
#define CHANNEL_PLAIN_MAX     (CHANNEL_FRAME_MAX - (int)CHANNEL_SEAL_SIZE)
#define CHANNEL_REKEY_FRAMES  (1u << 16)
#define CHANNEL_ADDRESS_SIZE  128 /* with NUL; zero padded in the confirmation */
#define CHANNEL_CONFIRM_PLAIN (8 + CHANNEL_ADDRESS_SIZE)
#define CHANNEL_CONFIRM_SIZE                                             \
    (CHANNEL_HEADER_SIZE + CHANNEL_PREFIX_SIZE + CHANNEL_CONFIRM_PLAIN + \
     CHANNEL_SEAL_SIZE)

struct channel_identity {
    uint8_t secret_key[CHANNEL_KEY_SIZE];
    uint8_t public_key[CHANNEL_KEY_SIZE];
};

/* Fields private. */
struct channel_handshake {
    struct channel_identity self;
    struct channel_identity ephemeral;
    uint8_t peer_static[CHANNEL_KEY_SIZE];
    uint8_t peer_ephemeral[CHANNEL_KEY_SIZE];
    uint8_t hash[32];
    uint8_t chain[32];
    uint8_t seal[32];
};

/* The public half of a secret key. */
void channel_identity_of(struct channel_identity *ret_identity,
                         const uint8_t secret_key[CHANNEL_KEY_SIZE]);

/* The caller's side: peer_static is the called one's public key. */
void channel_handshake_call(struct channel_handshake *handshake,
                            const struct channel_identity *self,
                            uint64_t cluster_id,
                            const uint8_t peer_static[CHANNEL_KEY_SIZE]);
/* The called side. */
void channel_handshake_listen(struct channel_handshake *handshake,
                              const struct channel_identity *self,
                              uint64_t cluster_id);
void channel_handshake_fini(struct channel_handshake *handshake);

/* 0, or BERTH_EAUTH when the peer's key is not a usable one. */
int channel_hello_write(struct channel_handshake *handshake,
                        uint64_t self_id,
                        uint64_t peer_id,
                        uint8_t ret_hello[CHANNEL_HELLO_SIZE]);
/* First half: who calls, as a key, not proven yet. Look it up before going on. */
int channel_hello_open(struct channel_handshake *handshake,
                       const uint8_t hello[CHANNEL_HELLO_SIZE],
                       uint8_t ret_public_key[CHANNEL_KEY_SIZE]);
/* Second half: the ids that the caller says for itself and wants to reach. */
int channel_hello_finish(struct channel_handshake *handshake,
                         const uint8_t hello[CHANNEL_HELLO_SIZE],
                         uint64_t *ret_caller_id,
                         uint64_t *ret_called_id);
int channel_answer_write(struct channel_handshake *handshake,
                         uint64_t self_id,
                         uint8_t ret_answer[CHANNEL_ANSWER_SIZE]);
int channel_answer_read(struct channel_handshake *handshake,
                        const uint8_t answer[CHANNEL_ANSWER_SIZE],
                        uint64_t *ret_called_id);

struct channel_stream {
    crypto_secretstream_xchacha20poly1305_state state;
    uint32_t frames; /* since the last re-key; sender only */
};

/* After the answer: the caller's stream and the header that announces it. */
void channel_stream_send(struct channel_stream *stream,
                         const struct channel_handshake *handshake,
                         uint8_t ret_header[CHANNEL_HEADER_SIZE]);
/* The called side's stream; 0 or BERTH_EAUTH. */
int channel_stream_receive(struct channel_stream *stream,
                           const struct channel_handshake *handshake,
                           const uint8_t header[CHANNEL_HEADER_SIZE]);

/* Writes prefix and sealed text of 1..CHANNEL_PLAIN_MAX bytes; returns how many bytes
 * that are. */
size_t channel_frame_seal(struct channel_stream *stream,
                          const uint8_t *plain,
                          size_t size,
                          uint8_t *ret_frame);
/* The length of the sealed text that a prefix announces; 0 or BERTH_EPROTO when no frame
 * has it. */
int channel_frame_length(const uint8_t prefix[CHANNEL_PREFIX_SIZE], size_t *ret_length);
/* Opens prefix + sealed text; plain must hold length - CHANNEL_SEAL_SIZE bytes. 0 or
 * BERTH_EAUTH. */
int channel_frame_open(struct channel_stream *stream,
                       const uint8_t *frame,
                       size_t length,
                       uint8_t *ret_plain,
                       size_t *ret_size);

/* The confirmation: stream header and first frame in one. */
void channel_confirm_write(struct channel_stream *stream,
                           const struct channel_handshake *handshake,
                           uint64_t self_id,
                           const char *self_address,
                           uint8_t ret_confirm[CHANNEL_CONFIRM_SIZE]);
int channel_confirm_read(struct channel_stream *stream,
                         const struct channel_handshake *handshake,
                         const uint8_t confirm[CHANNEL_CONFIRM_SIZE],
                         uint64_t *ret_caller_id,
                         char ret_address[CHANNEL_ADDRESS_SIZE]);
