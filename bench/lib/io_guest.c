/* The program in the guest of bench/vmm-io: measures the first disk, and the network to
 * its host, then powers off; and the other end of that network.
 *
 *     io_guest WHO MILLISECONDS HOST     in the guest
 *     io_guest peer                      on the host, for ever
 *
 * The disk by each case of io_cases.h, unbuffered, by the kernel's asynchronous calls;
 * the network by one TCP connection for each case, which begins with a letter. Linked
 * statically: the guest has no libraries. */
#include "io_cases.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct iocb blocks[IO_DEPTH_MAX];
static uint64_t began_ns[IO_DEPTH_MAX];
static _Alignas(4096) uint8_t data[IO_DEPTH_MAX][IO_SIZE_MAX];

static void must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        (void)reboot(RB_POWER_OFF);
        exit(1);
    }
}

static void submit(aio_context_t context, int fd, struct io_run *run, unsigned i)
{
    struct iocb *block = &blocks[i];
    memset(block, 0, sizeof(*block));
    block->aio_data = i;
    block->aio_lio_opcode = run->pattern->is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
    block->aio_fildes = (uint32_t)fd;
    block->aio_buf = (uint64_t)(uintptr_t)data[i];
    block->aio_nbytes = run->pattern->size_bytes;
    block->aio_offset = (int64_t)io_run_offset(run);
    began_ns[i] = io_now_ns();
    must(syscall(SYS_io_submit, context, 1L, &block) == 1, "io_submit");
}

static void measure(aio_context_t context,
                    int fd,
                    struct io_run *run,
                    const char *who,
                    uint64_t budget_ns)
{
    const unsigned depth = run->pattern->depth;
    const uint64_t start_ns = io_now_ns();
    uint64_t now_ns = start_ns;
    unsigned busy = 0;
    for (; busy < depth; busy++) {
        submit(context, fd, run, busy);
    }
    while (busy > 0) {
        struct io_event events[IO_DEPTH_MAX];
        const long got =
            syscall(SYS_io_getevents, context, 1L, (long)depth, events, NULL);
        must(got > 0, "io_getevents");
        now_ns = io_now_ns();
        for (long i = 0; i < got; i++) {
            const unsigned slot = (unsigned)events[i].data;
            must(events[i].res == run->pattern->size_bytes, "a request");
            io_run_done(run, now_ns - began_ns[slot]);
            busy--;
            if (now_ns - start_ns < budget_ns) {
                submit(context, fd, run, slot);
                busy++;
            }
        }
    }
    io_run_say(run, who, now_ns - start_ns);
}

/* ---- the network ---- */

#define PORT 5001

enum { ECHO_BYTE = 'e', SINK = 's', SOURCE = 'r' };

static const struct {
    struct io_case pattern;
    char letter;
} net_cases[] = {
    {{"TCP, 1 byte there and back", false, false, 1, 1}, ECHO_BYTE},
    {{"TCP to the host", true, false, 65536, 1}, SINK},
    {{"TCP to the guest", false, false, 65536, 1}, SOURCE},
};

static int tcp_socket(void)
{
    const int on = 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
             setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0,
         "socket");
    return fd;
}

/* One request of the case; false: the other side is done. */
static bool step(int fd, char letter, size_t size)
{
    if (letter == ECHO_BYTE) {
        return write(fd, data[0], 1) == 1 && read(fd, data[0], 1) == 1;
    }
    if (letter == SINK) {
        return write(fd, data[0], size) == (ssize_t)size;
    }
    return recv(fd, data[0], size, MSG_WAITALL) == (ssize_t)size;
}

static void measure_net(const char *host,
                        unsigned i,
                        struct io_run *run,
                        const char *who,
                        uint64_t ns)
{
    const char letter = net_cases[i].letter;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    const int fd = tcp_socket();
    must(inet_pton(AF_INET, host, &address.sin_addr) == 1 &&
             connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
             write(fd, &letter, 1) == 1,
         host);
    io_run_begin(run, &net_cases[i].pattern, IO_SIZE_MAX);
    const uint64_t start_ns = io_now_ns();
    uint64_t now_ns = start_ns;
    while (now_ns - start_ns < ns) {
        const uint64_t then_ns = now_ns;
        must(step(fd, letter, run->pattern->size_bytes), run->pattern->name);
        now_ns = io_now_ns();
        io_run_done(run, now_ns - then_ns);
    }
    io_run_say(run, who, now_ns - start_ns);
    (void)close(fd);
}

static void peer_serve(int fd)
{
    char letter = 0;
    bool goes_on = read(fd, &letter, 1) == 1;
    while (goes_on) {
        if (letter == ECHO_BYTE) {
            goes_on = read(fd, data[0], 1) == 1 && write(fd, data[0], 1) == 1;
        } else if (letter == SINK) {
            goes_on = read(fd, data[0], sizeof(data[0])) > 0;
        } else {
            goes_on = send(fd, data[0], sizeof(data[0]), MSG_NOSIGNAL) > 0;
        }
    }
    (void)close(fd);
}

/* A guest is gone before the end of its last connection has come out of it: each has a
 * process of its own, which the next guest does not wait for. */
static int peer(void)
{
    const unsigned gone_ms = 10000;
    const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    const int listener = tcp_socket();
    const int on = 1;
    if (bind(listener, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 1) != 0) {
        perror("io_guest peer");
        return 1;
    }
    (void)signal(SIGCHLD, SIG_IGN);
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &gone_ms, sizeof(gone_ms));
        const pid_t pid = fork();
        if (pid == 0) {
            peer_serve(fd);
            _exit(0);
        }
        (void)close(fd);
    }
}

int main(int argc, char *argv[])
{
    static struct io_run run;
    aio_context_t context = 0;
    uint64_t disk_bytes = 0;
    if (argc == 2 && strcmp(argv[1], "peer") == 0) {
        return peer();
    }
    must(argc == 4, "usage: io_guest WHO MILLISECONDS HOST");
    const uint64_t budget_ns = strtoull(argv[2], NULL, 10) * 1000000;
    const int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    must(fd >= 0 && ioctl(fd, BLKGETSIZE64, &disk_bytes) == 0, "/dev/vda");
    must(syscall(SYS_io_setup, IO_DEPTH_MAX, &context) == 0, "io_setup");
    for (unsigned i = 0; i < IO_CASES; i++) {
        io_run_begin(&run, &io_cases[i], disk_bytes);
        measure(context, fd, &run, argv[1], budget_ns);
    }
    for (unsigned i = 0; i < sizeof(net_cases) / sizeof(net_cases[0]); i++) {
        measure_net(argv[3], i, &run, argv[1], budget_ns);
    }
    (void)reboot(RB_POWER_OFF);
    return 1;
}
