#include "fetch/fetch_wire.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/require.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

/* ---- by type */

static void ask_write(struct bytes_writer *writer, const struct fetch_message *message)
{
    bytes_write_u32(writer, message->timeout_s);
    bytes_write_text(writer, message->url);
}

static void ask_read(struct bytes_reader *reader, struct fetch_message *message)
{
    message->timeout_s = bytes_read_u32(reader);
    bytes_read_text(reader, message->url, sizeof(message->url));
}

static void size_write(struct bytes_writer *writer, const struct fetch_message *message)
{
    bytes_write_u64(writer, message->size_bytes);
}

static void size_read(struct bytes_reader *reader, struct fetch_message *message)
{
    message->size_bytes = bytes_read_u64(reader);
}

static void data_write(struct bytes_writer *writer, const struct fetch_message *message)
{
    REQUIRE(message->data_size > 0 && message->data_size <= FETCH_DATA_MAX);
    bytes_write_raw(writer, message->data, message->data_size);
}

static void data_read(struct bytes_reader *reader, struct fetch_message *message)
{
    message->data_size = bytes_reader_left(reader);
    if (message->data_size > FETCH_DATA_MAX) {
        bytes_reader_fail(reader);
    }
    message->data = bytes_read_view(reader, message->data_size);
    if (message->data == NULL) {
        bytes_reader_fail(reader);
    }
}

static void end_write(struct bytes_writer *writer, const struct fetch_message *message)
{
    bytes_write_u8(writer, (uint8_t)message->outcome);
    bytes_write_text(writer, message->text);
}

static bool is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

/* It goes into logs and answers: no control characters. */
static void end_read(struct bytes_reader *reader, struct fetch_message *message)
{
    uint8_t outcome = bytes_read_u8(reader);
    bytes_read_text(reader, message->text, sizeof(message->text));
    if (outcome < FETCH_DONE || outcome > FETCH_UNABLE || !is_printable(message->text)) {
        bytes_reader_fail(reader);
    }
    message->outcome = (enum fetch_outcome)outcome;
}

static void missing_write(struct bytes_writer *writer,
                          const struct fetch_message *message)
{
    bytes_write_text(writer, message->text);
}

static void missing_read(struct bytes_reader *reader, struct fetch_message *message)
{
    bytes_read_text(reader, message->text, sizeof(message->text));
    if (!is_printable(message->text)) {
        bytes_reader_fail(reader);
    }
}

static const struct {
    void (*write)(struct bytes_writer *writer, const struct fetch_message *message);
    void (*read)(struct bytes_reader *reader, struct fetch_message *message);
} kinds[] = {
    [FETCH_ASK] = {ask_write, ask_read},
    [FETCH_SIZE] = {size_write, size_read},
    [FETCH_DATA] = {data_write, data_read},
    [FETCH_END] = {end_write, end_read},
    [FETCH_MISSING] = {missing_write, missing_read},
};

/* ---- packets */

size_t fetch_wire_encode(const struct fetch_message *message,
                         uint8_t ret_packet[FETCH_PACKET_MAX])
{
    struct bytes_writer writer;
    REQUIRE(message->type > FETCH_NONE && message->type <= FETCH_MISSING);
    bytes_writer_init(&writer, FETCH_PACKET_MAX);
    bytes_write_u8(&writer, FETCH_WIRE_VERSION);
    bytes_write_u8(&writer, (uint8_t)message->type);
    kinds[message->type].write(&writer, message);
    REQUIRE(writer.error == 0);
    size_t size = writer.size;
    memcpy(ret_packet, writer.data, size);
    bytes_writer_fini(&writer);
    return size;
}

int fetch_wire_decode(const void *packet, size_t size, struct fetch_message *ret_message)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, packet, size);
    *ret_message = (struct fetch_message){.type = FETCH_NONE};
    uint8_t version = bytes_read_u8(&reader);
    uint8_t type = bytes_read_u8(&reader);
    if (reader.error == 0 && version != FETCH_WIRE_VERSION) {
        return BERTH_EUNSUPPORTED;
    }
    if (type <= FETCH_NONE || type > FETCH_MISSING) {
        return BERTH_EPROTO;
    }
    kinds[type].read(&reader, ret_message);
    int r = bytes_reader_end(&reader);
    ret_message->type = r == 0 ? (enum fetch_type)type : FETCH_NONE;
    return r;
}

int fetch_wire_send(int fd, const struct fetch_message *message)
{
    uint8_t packet[FETCH_PACKET_MAX];
    size_t size = fetch_wire_encode(message, packet);
    ssize_t sent;
    do {
        sent = send(fd, packet, size, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0; /* a packet goes whole */
}

int fetch_wire_receive(int fd,
                       uint8_t packet[FETCH_PACKET_MAX],
                       struct fetch_message *ret_message)
{
    ssize_t size;
    ret_message->type = FETCH_NONE;
    do {
        /* Descriptors that came with it find no place here, and are closed by this call:
         * image_fetch has the kernel refuse them, fetch_rights what would wait then. */
        size = recv(fd, packet, FETCH_PACKET_MAX, MSG_DONTWAIT | MSG_TRUNC);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return -errno;
    }
    if (size == 0) {
        return -ECONNRESET; /* its end, or a packet of nothing */
    }
    return size > FETCH_PACKET_MAX ? BERTH_EPROTO
                                   : fetch_wire_decode(packet, (size_t)size, ret_message);
}
