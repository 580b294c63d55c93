#include "vmm/vsock_greeting.h"

#include "base/err.h"
#include "base/parse_number.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* 1 when the line is whole. */
static int line_take(struct vsock_greeting *greeting, int fd)
{
    char *at = greeting->text + greeting->size;
    const ssize_t there = recv(fd, at, VSOCK_GREETING_MAX - greeting->size, MSG_PEEK);
    if (there <= 0) {
        return there < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -ECONNRESET;
    }
    const char *end = memchr(at, '\n', (size_t)there);
    const size_t size = end != NULL ? (size_t)(end - at) + 1 : (size_t)there;
    if (recv(fd, at, size, 0) != (ssize_t)size) {
        return BERTH_EPROTO;
    }
    greeting->size += (unsigned)size;
    if (end == NULL) {
        return greeting->size < VSOCK_GREETING_MAX ? 0 : BERTH_EPROTO;
    }
    greeting->text[greeting->size - 1] = '\0';
    return 1;
}

int vsock_greeting_take(struct vsock_greeting *greeting, int fd, uint32_t *ret_port)
{
    static const char word[] = "CONNECT ";
    uint64_t port = 0;
    const int r = line_take(greeting, fd);
    if (r <= 0) {
        return r;
    }
    if (strncmp(greeting->text, word, strlen(word)) != 0 ||
        parse_u64(greeting->text + strlen(word), &port, NULL) < 0 || port > UINT32_MAX) {
        return BERTH_EPROTO;
    }
    *ret_port = (uint32_t)port;
    return 1;
}
