/* Speaks over sockets of both kinds that a vsock joins: in a guest AF_VSOCK, on its host
 * UNIX. What comes on standard input is sent and its end told; what comes from the other
 * side goes to standard output until its end.
 *
 *     vsock_say listen PORT               in the guest: one connection
 *     vsock_say connect PORT              in the guest, to the host
 *     vsock_say unix-listen PATH          on the host: one connection
 *     vsock_say unix-connect PATH PORT    on the host, by CONNECT
 *
 * With "echo" as last word it sends back what comes in place of standard input. Says
 * "listening" on standard error when it can be reached. Linked statically: a guest has no
 * libraries. */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void must(bool good, const char *what)
{
    if (!good) {
        (void)fprintf(stderr, "vsock_say: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void write_all(int fd, const char *data, ssize_t size)
{
    while (size > 0) {
        const ssize_t done = write(fd, data, (size_t)size);
        must(done > 0 || errno == EINTR, "write");
        data += done > 0 ? done : 0;
        size -= done > 0 ? done : 0;
    }
}

static int one_client(int listener)
{
    must(listen(listener, 1) == 0, "listen");
    (void)fprintf(stderr, "listening\n");
    const int fd = accept(listener, NULL, NULL);
    must(fd >= 0, "accept");
    return fd;
}

static int vsock_open(bool listens, const char *port)
{
    const struct sockaddr_vm address = {.svm_family = AF_VSOCK,
                                        .svm_port = (uint32_t)strtoul(port, NULL, 10),
                                        .svm_cid =
                                            listens ? VMADDR_CID_ANY : VMADDR_CID_HOST};
    const struct sockaddr *to = (const struct sockaddr *)&address;
    const int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    must(fd >= 0, "socket");
    must((listens ? bind(fd, to, sizeof(address)) : connect(fd, to, sizeof(address))) ==
             0,
         listens ? "bind" : "connect");
    return listens ? one_client(fd) : fd;
}

static int unix_open(bool listens, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct sockaddr *to = (const struct sockaddr *)&address;
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (listens) {
        (void)unlink(path);
    }
    must(fd >= 0, "socket");
    must((listens ? bind(fd, to, sizeof(address)) : connect(fd, to, sizeof(address))) ==
             0,
         path);
    return listens ? one_client(fd) : fd;
}

/* "CONNECT PORT", and its answer. */
static void greet(int fd, const char *port)
{
    char line[64];
    size_t length = 0;
    const int size = snprintf(line, sizeof(line), "CONNECT %s\n", port);
    write_all(fd, line, size);
    do {
        must(length < sizeof(line) - 1 && read(fd, line + length, 1) == 1, "the answer");
    } while (line[length++] != '\n');
    line[length] = '\0';
    must(strncmp(line, "OK ", 3) == 0, line);
}

static void talk(int fd, bool echoes)
{
    struct pollfd ends[2] = {{.fd = fd, .events = POLLIN},
                             {.fd = echoes ? -1 : STDIN_FILENO, .events = POLLIN}};
    static char data[65536];
    while (ends[0].fd >= 0) {
        must(poll(ends, 2, -1) > 0 || errno == EINTR, "poll");
        if (ends[0].revents != 0) {
            const ssize_t size = read(fd, data, sizeof(data));
            must(size >= 0, "read");
            write_all(echoes ? fd : STDOUT_FILENO, data, size);
            ends[0].fd = size == 0 ? -1 : fd;
        }
        if (ends[1].revents != 0) {
            const ssize_t size = read(STDIN_FILENO, data, sizeof(data));
            write_all(fd, data, size);
            if (size <= 0) {
                ends[1].fd = -1;
                must(shutdown(fd, SHUT_WR) == 0, "shutdown");
            }
        }
    }
}

int main(int argc, char *argv[])
{
    const bool echoes = argc > 1 && strcmp(argv[argc - 1], "echo") == 0;
    const int words = argc - (echoes ? 1 : 0);
    int fd = -1;
    must(words >= 3, "usage: see the head of its source");
    const bool is_unix = strncmp(argv[1], "unix-", 5) == 0;
    const bool listens = strcmp(argv[1] + (is_unix ? 5 : 0), "listen") == 0;
    fd = is_unix ? unix_open(listens, argv[2]) : vsock_open(listens, argv[2]);
    if (is_unix && !listens && words == 4) {
        greet(fd, argv[3]);
    }
    talk(fd, echoes);
    return 0;
}
