#include "base/secret_box.h"

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/random.h"
#include "base/require.h"

#include <sodium.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC_SIZE  8
#define SALT_SIZE   crypto_pwhash_argon2id_SALTBYTES
#define STREAM_SIZE crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define KEY_SIZE    crypto_secretstream_xchacha20poly1305_KEYBYTES
#define PIECE_EXTRA crypto_secretstream_xchacha20poly1305_ABYTES
#define PIECE_SIZE  ((size_t)64 << 10) /* of plain bytes, the last one excepted */
/* magic, salt, passes, memory, head of the stream */
#define HEAD_SIZE (MAGIC_SIZE + SALT_SIZE + 4 + 4 + STREAM_SIZE)
#define FILE_MAX  4096

static const uint8_t magic[MAGIC_SIZE] = {'B', 'E', 'R', 'T', 'H', 'B', 'X', '1'};
static const unsigned char tag_more = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE;
static const unsigned char tag_last = crypto_secretstream_xchacha20poly1305_TAG_FINAL;

struct secret_box_cost secret_box_cost_default(void)
{
    return (struct secret_box_cost){.passes = SECRET_BOX_PASSES,
                                    .memory_kib = SECRET_BOX_MEMORY_KIB};
}

void secret_wipe(void *data, size_t size)
{
    sodium_memzero(data, size);
}

bool secret_box_is(const void *data, size_t size)
{
    return size >= MAGIC_SIZE && memcmp(data, magic, MAGIC_SIZE) == 0;
}

static bool cost_is_sane(const struct secret_box_cost *cost)
{
    return cost->passes >= 1 && cost->passes <= SECRET_BOX_PASSES_MAX &&
           cost->memory_kib >= SECRET_BOX_MEMORY_KIB_MIN &&
           cost->memory_kib <= SECRET_BOX_MEMORY_KIB_MAX;
}

static int derive(const char *passphrase,
                  const struct secret_box_cost *cost,
                  const uint8_t salt[SALT_SIZE],
                  uint8_t ret_key[KEY_SIZE],
                  struct err *err)
{
    if (passphrase == NULL || passphrase[0] == '\0' ||
        strlen(passphrase) >= PASSPHRASE_SIZE_MAX) {
        return err_set(err, BERTH_EINVALID, "a passphrase of 1 to %d bytes is needed",
                       PASSPHRASE_SIZE_MAX - 1);
    }
    if (sodium_init() < 0 ||
        crypto_pwhash_argon2id(ret_key, KEY_SIZE, passphrase, strlen(passphrase), salt,
                               cost->passes, (size_t)cost->memory_kib << 10,
                               crypto_pwhash_argon2id_ALG_ARGON2ID13) != 0) {
        return err_sys(err, -ENOMEM, "derive a key with %uMiB of memory",
                       cost->memory_kib >> 10);
    }
    return 0;
}

/* ---- sealing ---- */

static size_t pieces_of(size_t size)
{
    return size == 0 ? 1 : (size + PIECE_SIZE - 1) / PIECE_SIZE;
}

static void seal_pieces(crypto_secretstream_xchacha20poly1305_state *stream,
                        const uint8_t *data,
                        size_t size,
                        uint8_t *box)
{
    for (size_t left = pieces_of(size); left > 0; left--) {
        size_t piece = left > 1 ? PIECE_SIZE : size;
        REQUIRE(crypto_secretstream_xchacha20poly1305_push(
                    stream, box, NULL, data, piece, NULL, 0,
                    left > 1 ? tag_more : tag_last) == 0);
        data += piece;
        size -= piece;
        box += piece + PIECE_EXTRA;
    }
}

static void put_u32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
           (uint32_t)at[3] << 24;
}

static void write_head(const uint8_t salt[SALT_SIZE],
                       const struct secret_box_cost *cost,
                       const uint8_t stream_head[STREAM_SIZE],
                       uint8_t *box)
{
    memcpy(box, magic, MAGIC_SIZE);
    memcpy(box + MAGIC_SIZE, salt, SALT_SIZE);
    put_u32(box + MAGIC_SIZE + SALT_SIZE, cost->passes);
    put_u32(box + MAGIC_SIZE + SALT_SIZE + 4, cost->memory_kib);
    memcpy(box + HEAD_SIZE - STREAM_SIZE, stream_head, STREAM_SIZE);
}

int secret_box_seal(const char *passphrase,
                    const struct secret_box_cost *cost,
                    const void *data,
                    size_t size,
                    uint8_t **ret_box,
                    size_t *ret_size,
                    struct err *err)
{
    crypto_secretstream_xchacha20poly1305_state stream;
    uint8_t key[KEY_SIZE];
    uint8_t salt[SALT_SIZE];
    uint8_t stream_head[STREAM_SIZE];
    size_t box_size = HEAD_SIZE + size + pieces_of(size) * PIECE_EXTRA + DIGEST_SIZE;
    REQUIRE(cost_is_sane(cost));
    random_secret(salt, sizeof(salt));
    int r = derive(passphrase, cost, salt, key, err);
    if (r < 0) {
        return r;
    }
    (void)crypto_secretstream_xchacha20poly1305_init_push(&stream, stream_head, key);
    secret_wipe(key, sizeof(key));
    uint8_t *box = malloc(box_size);
    if (box == NULL) {
        return err_sys(err, -ENOMEM, "encrypt %zu bytes", size);
    }
    write_head(salt, cost, stream_head, box);
    seal_pieces(&stream, data, size, box + HEAD_SIZE);
    secret_wipe(&stream, sizeof(stream));
    struct digest digest;
    digest_of(box, box_size - DIGEST_SIZE, &digest);
    memcpy(box + box_size - DIGEST_SIZE, digest.bytes, DIGEST_SIZE);
    *ret_size = box_size;
    *ret_box = box;
    return 0;
}

/* ---- opening ---- */

struct box_head {
    const uint8_t *salt;
    struct secret_box_cost cost;
    const uint8_t *stream;
    const uint8_t *pieces;
    size_t pieces_size;
};

/* Everything that can be told without the passphrase. */
static int
head_read(const void *box, size_t box_size, struct box_head *ret_head, struct err *err)
{
    struct digest digest;
    if (!secret_box_is(box, box_size)) {
        return err_set(err, BERTH_EUNSUPPORTED, "this is no encrypted file of Berth's");
    }
    if (box_size < HEAD_SIZE + PIECE_EXTRA + DIGEST_SIZE) {
        return err_set(err, BERTH_ECORRUPT, "the encrypted file is cut short");
    }
    size_t body = box_size - DIGEST_SIZE;
    digest_of(box, body, &digest);
    if (memcmp(digest.bytes, (const uint8_t *)box + body, DIGEST_SIZE) != 0) {
        return err_set(err, BERTH_ECORRUPT,
                       "the encrypted file is damaged: its checksum does not fit");
    }
    const uint8_t *at = (const uint8_t *)box + MAGIC_SIZE;
    ret_head->salt = at;
    ret_head->cost.passes = get_u32(at + SALT_SIZE);
    ret_head->cost.memory_kib = get_u32(at + SALT_SIZE + 4);
    ret_head->stream = at + SALT_SIZE + 8;
    ret_head->pieces = (const uint8_t *)box + HEAD_SIZE;
    ret_head->pieces_size = body - HEAD_SIZE;
    return cost_is_sane(&ret_head->cost)
               ? 0
               : err_set(err, BERTH_ECORRUPT,
                         "the encrypted file asks for %u passes over %uKiB: refused",
                         ret_head->cost.passes, ret_head->cost.memory_kib);
}

/* The number of plain bytes, or -1: a piece failed, or the last one is not the last. */
static ssize_t open_pieces(crypto_secretstream_xchacha20poly1305_state *stream,
                           const struct box_head *head,
                           uint8_t *data)
{
    const uint8_t *at = head->pieces;
    size_t left = head->pieces_size;
    size_t size = 0;
    while (left > 0) {
        size_t piece = left < PIECE_SIZE + PIECE_EXTRA ? left : PIECE_SIZE + PIECE_EXTRA;
        unsigned char tag = 0;
        if (piece < PIECE_EXTRA ||
            crypto_secretstream_xchacha20poly1305_pull(stream, data + size, NULL, &tag,
                                                       at, piece, NULL, 0) != 0 ||
            tag != (left > piece ? tag_more : tag_last)) {
            return -1;
        }
        size += piece - PIECE_EXTRA;
        at += piece;
        left -= piece;
    }
    return (ssize_t)size;
}

int secret_box_open(const char *passphrase,
                    const void *box,
                    size_t box_size,
                    uint8_t **ret_data,
                    size_t *ret_size,
                    struct err *err)
{
    crypto_secretstream_xchacha20poly1305_state stream;
    struct box_head head = {0};
    uint8_t key[KEY_SIZE] = {0};
    int r = head_read(box, box_size, &head, err);
    if (r < 0) {
        return r;
    }
    REQUIRE(head.salt != NULL && head.pieces_size > 0);
    r = derive(passphrase, &head.cost, head.salt, key, err);
    if (r < 0) {
        return r;
    }
    CLEANUP_FREE uint8_t *data = malloc(head.pieces_size);
    if (data == NULL) {
        secret_wipe(key, sizeof(key));
        return err_sys(err, -ENOMEM, "decrypt %zu bytes", head.pieces_size);
    }
    ssize_t size = -1;
    if (crypto_secretstream_xchacha20poly1305_init_pull(&stream, head.stream, key) == 0) {
        size = open_pieces(&stream, &head, data);
    }
    secret_wipe(key, sizeof(key));
    secret_wipe(&stream, sizeof(stream));
    if (size < 0) {
        secret_wipe(data, head.pieces_size);
        return err_set(err, BERTH_EAUTH,
                       "the passphrase is not the one it was sealed "
                       "with");
    }
    *ret_size = (size_t)size;
    *ret_data = TAKE_PTR(data);
    return 0;
}

/* ---- passphrases ---- */

int passphrase_read_file(const char *path,
                         char ret_passphrase[PASSPHRASE_SIZE_MAX],
                         struct err *err)
{
    uint8_t *text = NULL;
    size_t size = 0;
    int r = fd_read_file(AT_FDCWD, path, FILE_MAX, &text, &size, err);
    if (r < 0) {
        return err_wrap(err, r, "passphrase");
    }
    size_t length = strcspn((const char *)text, "\r\n");
    if (length == 0 || length >= PASSPHRASE_SIZE_MAX) {
        r = err_set(err, BERTH_EINVALID,
                    "passphrase: the first line of %s has %zu bytes, 1 to %d are wanted",
                    path, length, PASSPHRASE_SIZE_MAX - 1);
    } else {
        memcpy(ret_passphrase, text, length);
        ret_passphrase[length] = '\0';
    }
    secret_wipe(text, size);
    free(text);
    return r;
}
