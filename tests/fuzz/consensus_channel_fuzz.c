/* Everything a stranger can send to the raft port: a hello, an answer, a confirmation,
 * frames. The first byte chooses which; keys are fixed, so that the corpus can hold texts
 * that verify. */
#include "base/require.h"
#include "consensus/channel_address.h"
#include "consensus/channel_crypto.h"
#include "consensus/raft_channel.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct channel_identity identity_from(uint8_t byte)
{
    struct channel_identity identity;
    uint8_t secret[CHANNEL_KEY_SIZE];
    memset(secret, byte, sizeof(secret));
    channel_identity_of(&identity, secret);
    return identity;
}

static void try_hello(const uint8_t *data, size_t size)
{
    struct channel_identity bob = identity_from(2);
    struct channel_handshake handshake;
    uint8_t hello[CHANNEL_HELLO_SIZE] = {0};
    uint8_t answer[CHANNEL_ANSWER_SIZE];
    uint8_t key[CHANNEL_KEY_SIZE];
    uint64_t caller = 0;
    uint64_t called = 0;
    memcpy(hello, data, size < sizeof(hello) ? size : sizeof(hello));
    channel_handshake_listen(&handshake, &bob, 1);
    if (channel_hello_open(&handshake, hello, key) == 0 &&
        channel_hello_finish(&handshake, hello, &caller, &called) == 0) {
        REQUIRE(channel_answer_write(&handshake, 2, answer) == 0);
    }
    channel_handshake_fini(&handshake);
}

static void try_answer(const uint8_t *data, size_t size)
{
    struct channel_identity alice = identity_from(1);
    struct channel_identity bob = identity_from(2);
    struct channel_handshake handshake;
    uint8_t hello[CHANNEL_HELLO_SIZE];
    uint8_t answer[CHANNEL_ANSWER_SIZE] = {0};
    uint64_t called = 0;
    memcpy(answer, data, size < sizeof(answer) ? size : sizeof(answer));
    channel_handshake_call(&handshake, &alice, 1, bob.public_key);
    REQUIRE(channel_hello_write(&handshake, 1, 2, hello) == 0);
    /* The caller's ephemeral key is fresh each time: no text can verify. */
    REQUIRE(channel_answer_read(&handshake, answer, &called) < 0);
    channel_handshake_fini(&handshake);
}

/* The stream's key is that of an empty handshake. */
static void try_confirm(const uint8_t *data, size_t size)
{
    struct channel_handshake handshake = {0};
    struct channel_stream stream;
    uint8_t confirm[CHANNEL_CONFIRM_SIZE] = {0};
    char address[CHANNEL_ADDRESS_SIZE];
    uint64_t caller = 0;
    memcpy(confirm, data, size < sizeof(confirm) ? size : sizeof(confirm));
    if (channel_confirm_read(&stream, &handshake, confirm, &caller, address) == 0) {
        REQUIRE(memchr(address, 0, sizeof(address)) != NULL);
    }
}

static void try_frames(const uint8_t *data, size_t size)
{
    struct channel_handshake handshake = {0};
    struct channel_stream stream;
    if (size < CHANNEL_HEADER_SIZE ||
        channel_stream_receive(&stream, &handshake, data) < 0) {
        return;
    }
    uint8_t *plain = malloc(CHANNEL_PLAIN_MAX);
    REQUIRE(plain != NULL);
    size_t at = CHANNEL_HEADER_SIZE;
    size_t length = 0;
    size_t opened = 0;
    while (size - at >= CHANNEL_PREFIX_SIZE &&
           channel_frame_length(data + at, &length) == 0 &&
           size - at - CHANNEL_PREFIX_SIZE >= length &&
           channel_frame_open(&stream, data + at, length, plain, &opened) == 0) {
        REQUIRE(opened > 0 && opened <= CHANNEL_PLAIN_MAX);
        at += CHANNEL_PREFIX_SIZE + length;
    }
    free(plain);
}

static void try_address(const uint8_t *data, size_t size)
{
    struct sockaddr_storage address;
    struct err err = {0};
    char *text = strndup((const char *)data, size);
    REQUIRE(text != NULL);
    if (channel_parse_address(text, &address, &err) < 0) {
        REQUIRE(err.text[0] != '\0');
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const uint8_t *data, size_t size) = {
        try_hello, try_answer, try_confirm, try_frames, try_address};
    REQUIRE(sodium_init() >= 0);
    if (size > 0) {
        tries[data[0] % 5](data + 1, size - 1);
    }
    return 0;
}
