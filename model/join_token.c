#include "model/join_token.h"

#include "base/bytes.h"

#include <sodium.h>

#include <stdio.h>
#include <string.h>

#define TOKEN_PREFIX  "berth-join-"
#define TOKEN_VERSION 1
#define TOKEN_SIZE    (1 + 4 + 2 + DIGEST_SIZE + JOIN_SECRET_SIZE)

void join_token_format(const struct join_token *token, char text[JOIN_TOKEN_TEXT_SIZE])
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, TOKEN_SIZE);
    bytes_write_u8(&writer, TOKEN_VERSION);
    bytes_write_u32(&writer, token->address);
    bytes_write_u16(&writer, token->port);
    bytes_write_raw(&writer, token->key.bytes, sizeof(token->key.bytes));
    bytes_write_raw(&writer, token->secret, sizeof(token->secret));
    memcpy(text, TOKEN_PREFIX, sizeof(TOKEN_PREFIX));
    if (writer.error == 0) {
        sodium_bin2base64(text + strlen(TOKEN_PREFIX),
                          JOIN_TOKEN_TEXT_SIZE - strlen(TOKEN_PREFIX), writer.data,
                          writer.size, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    }
    bytes_writer_fini(&writer);
}

int join_token_parse(const char *text, struct join_token *ret_token, struct err *err)
{
    uint8_t data[TOKEN_SIZE];
    size_t size = 0;
    if (strncmp(text, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) != 0) {
        return err_set(err, BERTH_EINVALID,
                       "that is no join token: `berth token join` on a member makes one");
    }
    const char *body = text + strlen(TOKEN_PREFIX);
    if (sodium_base642bin(data, sizeof(data), body, strlen(body), NULL, &size, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        size != sizeof(data)) {
        return err_set(err, BERTH_EINVALID,
                       "the join token is cut or mistyped: `berth token join` on a "
                       "member makes one");
    }
    struct bytes_reader reader;
    struct join_token token;
    bytes_reader_init(&reader, data, size);
    if (bytes_read_u8(&reader) != TOKEN_VERSION) {
        return err_set(err, BERTH_EINVALID,
                       "the join token is of another version of berth");
    }
    token.address = bytes_read_u32(&reader);
    token.port = bytes_read_u16(&reader);
    bytes_read_raw(&reader, token.key.bytes, sizeof(token.key.bytes));
    bytes_read_raw(&reader, token.secret, sizeof(token.secret));
    if (bytes_reader_end(&reader) < 0 || token.port == 0) {
        return err_set(err, BERTH_EINVALID,
                       "the join token is cut or mistyped: `berth token join` on a "
                       "member makes one");
    }
    *ret_token = token;
    return 0;
}

struct digest join_secret_hash(const uint8_t secret[JOIN_SECRET_SIZE])
{
    struct digest digest;
    digest_of(secret, JOIN_SECRET_SIZE, &digest);
    return digest;
}
