/* The host of the micro guest (tests/vmm/guest): starts the real berth-vmm on /dev/kvm
 * with one of each device, hears what the guest says by its serial port, does what it
 * asks for, and speaks QMP.
 *
 * Shapes: `struct micro` is a machine and what stands behind its devices: its disk and
 * log are files of a folder, the NIC and the console sockets that are read as they are
 * filled (or not, while they are stalled). A guest's last state outlives its process:
 * micro_start again is a reboot with the same disk, or with `incoming` the machine that
 * micro_move has kept. Errors: a check fails, with the end of the log. Threads: one. No
 * wait has a bound but Check's. */
#pragma once

#include "support/temp_dir.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MICRO_DISK_BYTES (1 << 20)
#define MICRO_LINE_MAX   512

/* Counters of lines and ThreadSanitizer make calls that the jail's walls keep out. */
#if defined(BERTH_COVERAGE) || defined(__SANITIZE_THREAD__)
#define MICRO_JAILED 0
#else
#define MICRO_JAILED 1
#endif

enum micro_stream { MICRO_SERIAL = 0, MICRO_NIC, MICRO_CONSOLE, MICRO_STREAMS };

struct micro {
    struct temp_dir dir;
    const char *memory;  /* how much RAM the guest has */
    const char *planted; /* which planted fault it has; NULL: the real program */
    const char *format;  /* of its disk */
    pid_t pid;           /* 0: none runs */
    int keys;            /* towards its serial port */
    int streams[MICRO_STREAMS];
    bool stalled[MICRO_STREAMS];
    uint64_t heard_count[MICRO_STREAMS]; /* bytes; packets of the NIC */
    int qmp;
    int saved; /* a saved machine, or -1 */
    int disk;  /* what its disk is instead of its file, or -1; closed at the end */
    char line[MICRO_LINE_MAX];
    size_t line_size;
};

static inline void micro_init(struct micro *micro)
{
    *micro = (struct micro){.memory = "size=32MiB,max=64MiB",
                            .format = "raw",
                            .keys = -1,
                            .qmp = -1,
                            .saved = -1,
                            .disk = -1};
    for (unsigned i = 0; i < MICRO_STREAMS; i++) {
        micro->streams[i] = -1;
    }
    temp_dir_init_guarded(&micro->dir);
    char *disk = temp_dir_path(&micro->dir, "disk");
    const int fd = open(disk, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, MICRO_DISK_BYTES), 0);
    (void)close(fd);
    free(disk);
}

static inline void micro_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

static inline void micro_log_show(const struct micro *micro)
{
    char *log = temp_dir_read(&micro->dir, "log");
    if (log != NULL) {
        const size_t size = strlen(log);
        (void)fprintf(stderr, "%s\n", log + (size > 6000 ? size - 6000 : 0));
    }
    free(log);
}

/* For a check that has failed: what the program has said. */
static inline const char *micro_told(const struct micro *micro, const char *what)
{
    micro_log_show(micro);
    return what;
}

/* ---- start and end ---- */

static inline const char *micro_program(const char *built, const char *name)
{
    return access(built, X_OK) == 0 ? built : name; /* else it was put into PATH */
}

static inline const char *micro_kernel_path(void)
{
    return micro_program(BERTH_BINARY_DIR "/tests/micro_guest", "/bin/micro_guest");
}

static inline void micro_run_program(const struct micro *micro,
                                     const char *group,
                                     const int ends[MICRO_STREAMS],
                                     int keys)
{
    char nic[64];
    char disk[TEMP_DIR_PATH_SIZE + 32];
    char qmp[TEMP_DIR_PATH_SIZE + 32];
    char vsock[TEMP_DIR_PATH_SIZE + 32];
    char log[TEMP_DIR_PATH_SIZE + 8];
    (void)snprintf(log, sizeof(log), "%s/log", micro->dir.path);
    if (micro->disk >= 0) {
        (void)dup2(micro->disk, 13);
        (void)snprintf(disk, sizeof(disk), "name=d,%s=fd:13", micro->format);
    } else {
        (void)snprintf(disk, sizeof(disk), "name=d,%s=%s/disk", micro->format,
                       micro->dir.path);
    }
    (void)snprintf(qmp, sizeof(qmp), "unix:%s/qmp", micro->dir.path);
    (void)snprintf(vsock, sizeof(vsock), "cid=3,listen=unix:%s/vsock", micro->dir.path);
    (void)snprintf(nic, sizeof(nic), "tap=fd:10,mac=52:54:00:00:00:01");
    const int errors = open(log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Pages that are made huge behind its back are no growth of its own. */
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    (void)dup2(errors, STDERR_FILENO);
    (void)dup2(keys, STDIN_FILENO);
    (void)dup2(ends[MICRO_SERIAL], STDOUT_FILENO);
    (void)dup2(ends[MICRO_NIC], 10);
    (void)dup2(ends[MICRO_CONSOLE], 11);
    if (micro->saved >= 0) {
        (void)dup2(micro->saved, 12);
    }
    const char *program = micro->planted != NULL
                              ? BERTH_BINARY_DIR "/tests/berth_vmm_planted"
                              : micro_program(BERTH_BINARY_DIR "/berth-vmm", "berth-vmm");
    const char *arguments[24] = {"berth-vmm", "--kernel",  micro_kernel_path(),
                                 "--cmdline", group,       "--cpus",
                                 "2",         "--memory",  micro->memory,
                                 "--disk",    disk,        "--nic",
                                 nic,         "--console", "fd:11",
                                 "--vsock",   vsock,       "--qmp",
                                 qmp};
    unsigned count = 19;
    if (micro->saved >= 0) {
        arguments[count++] = "--incoming";
        arguments[count++] = "fd:12";
    }
    if (!MICRO_JAILED) {
        arguments[count++] = "--no-jail";
    }
    (void)execvp(program, (char *const *)(uintptr_t)arguments);
    perror(program);
    _exit(127);
}

/* Both ends move above the numbers that are handed over. */
static inline void micro_pair(int type, int ret_ends[2])
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
    for (unsigned i = 0; i < 2; i++) {
        ret_ends[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, 20);
        ck_assert_int_ge(ret_ends[i], 0);
        (void)close(ends[i]);
    }
}

static inline void micro_start(struct micro *micro, const char *group)
{
    int keys[2];
    int ends[MICRO_STREAMS][2];
    micro_pair(SOCK_STREAM, keys);
    for (unsigned i = 0; i < MICRO_STREAMS; i++) {
        micro_pair(i == MICRO_NIC ? SOCK_DGRAM : SOCK_STREAM, ends[i]);
        /* What is on its way to a reader that stalls is soon no more. */
        (void)setsockopt(ends[i][1], SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int));
        micro->streams[i] = ends[i][0];
        micro->stalled[i] = false;
        micro->heard_count[i] = 0;
    }
    micro->line_size = 0;
    micro->keys = keys[0];
    micro->pid = fork();
    ck_assert_int_ge(micro->pid, 0);
    if (micro->pid == 0) {
        const int theirs[] = {ends[0][1], ends[1][1], ends[2][1]};
        (void)setenv("ASAN_OPTIONS",
                     "detect_leaks=0:exitcode=99:quarantine_size_mb=1:"
                     "thread_local_quarantine_size_kb=16",
                     1);
        (void)setenv("TSAN_OPTIONS", "exitcode=99", 1);
        (void)setenv("UBSAN_OPTIONS", "exitcode=99:print_stacktrace=1", 1);
        (void)setenv("BERTH_PLANTED", micro->planted == NULL ? "" : micro->planted, 1);
        micro_run_program(micro, group, theirs, keys[1]);
    }
    (void)close(keys[1]);
    for (unsigned i = 0; i < MICRO_STREAMS; i++) {
        (void)close(ends[i][1]);
    }
}

/* The program has ended, or is about to: its exit code. */
static inline int micro_ended(struct micro *micro)
{
    int status = 0;
    micro_close(&micro->qmp);
    micro_close(&micro->keys);
    ck_assert_int_eq(waitpid(micro->pid, &status, 0), micro->pid);
    micro->pid = 0;
    for (unsigned i = 0; i < MICRO_STREAMS; i++) {
        micro_close(&micro->streams[i]);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void micro_fini(struct micro *micro)
{
    if (micro->pid > 0) {
        (void)kill(micro->pid, SIGKILL);
        (void)micro_ended(micro);
    }
    micro_close(&micro->saved);
    micro_close(&micro->disk);
    temp_dir_fini(&micro->dir);
}

/* What it has of the host beyond its guest's RAM, which is shared memory. */
static inline long micro_anonymous_kib(const struct micro *micro)
{
    char path[64];
    char line[256];
    long size = -1;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)micro->pid);
    FILE *status = fopen(path, "re");
    while (status != NULL && fgets(line, sizeof(line), status) != NULL) {
        (void)sscanf(line, "RssAnon: %ld", &size);
    }
    if (status != NULL) {
        (void)fclose(status);
    }
    return size;
}

/* ---- what is behind its devices ---- */

static inline void micro_type(struct micro *micro, char key)
{
    ck_assert_msg(send(micro->keys, &key, 1, MSG_NOSIGNAL) == 1, "%s",
                  micro_told(micro, "nobody hears the keys"));
}

/* Takes what a device has sent; false at the end. */
static inline bool micro_drain(struct micro *micro, enum micro_stream at)
{
    static uint8_t bytes[1 << 16];
    for (;;) {
        const ssize_t size = recv(micro->streams[at], bytes, sizeof(bytes), MSG_DONTWAIT);
        if (size <= 0) {
            return size < 0 && (errno == EAGAIN || errno == EINTR);
        }
        micro->heard_count[at] += at == MICRO_NIC ? 1 : (uint64_t)size;
    }
}

/* A byte of the guest's serial port, when there is one: 1, 0 for none now, -1 at the
 * end. */
static inline int micro_hear_byte(struct micro *micro, char *ret_byte)
{
    const ssize_t size = recv(micro->streams[MICRO_SERIAL], ret_byte, 1, MSG_DONTWAIT);
    return size == 1 ? 1 : size < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* Waits until something behind the devices happens, and takes what nobody waits for. */
static inline void micro_wait(struct micro *micro)
{
    struct pollfd waits[MICRO_STREAMS];
    for (unsigned i = 0; i < MICRO_STREAMS; i++) {
        waits[i] = (struct pollfd){.fd = micro->stalled[i] ? -1 : micro->streams[i],
                                   .events = POLLIN};
    }
    ck_assert(poll(waits, MICRO_STREAMS, -1) > 0 || errno == EINTR);
    for (unsigned i = MICRO_NIC; i < MICRO_STREAMS; i++) {
        if (waits[i].revents != 0 && !micro_drain(micro, (enum micro_stream)i)) {
            micro->stalled[i] = true; /* it is closed: there is no more */
        }
    }
}

/* The next line that the guest says, without its end; NULL: it says no more. */
static inline const char *micro_hear(struct micro *micro)
{
    micro->line_size = 0;
    for (;;) {
        char byte;
        const int r = micro_hear_byte(micro, &byte);
        if (r < 0) {
            return NULL;
        }
        if (r == 0) {
            micro_wait(micro);
        } else if (byte == '\n') {
            micro->line[micro->line_size] = '\0';
            return micro->line;
        } else if (micro->line_size < MICRO_LINE_MAX - 1) {
            micro->line[micro->line_size++] = byte;
        }
    }
}

/* ---- QMP ---- */

static inline void micro_qmp_open(struct micro *micro)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = temp_dir_path(&micro->dir, "qmp");
    ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    free(path);
    micro->qmp = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_msg(
        connect(micro->qmp, (const struct sockaddr *)&address, sizeof(address)) == 0,
        "%s", micro_told(micro, "no QMP"));
}

/* The next line of QMP; NULL at its end. */
static inline const char *micro_qmp_line(struct micro *micro)
{
    static char line[1 << 16];
    size_t size = 0;
    while (size < sizeof(line) - 1 && recv(micro->qmp, line + size, 1, 0) == 1) {
        if (line[size++] == '\n') {
            line[size] = '\0';
            return line;
        }
    }
    return NULL;
}

/* One command, and maybe a descriptor with it: the answer, or NULL. */
static inline const char *micro_qmp_send(struct micro *micro, const char *text, int fd)
{
    union {
        struct cmsghdr part;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.part = {.cmsg_len = CMSG_LEN(sizeof(int)),
                          .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS}};
    struct iovec piece = {(void *)(uintptr_t)text, strlen(text)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        memcpy(CMSG_DATA(&control.part), &fd, sizeof(fd));
        message.msg_control = &control;
        message.msg_controllen = sizeof(control.room);
    }
    if (sendmsg(micro->qmp, &message, MSG_NOSIGNAL) != (ssize_t)piece.iov_len) {
        return NULL;
    }
    const char *line;
    do {
        line = micro_qmp_line(micro);
    } while (line != NULL && strstr(line, "\"return\"") == NULL &&
             strstr(line, "\"error\"") == NULL);
    return line;
}

/* A command that has to be answered, and not by an error: its answer. */
static inline const char *micro_qmp(struct micro *micro, const char *text, int fd)
{
    if (micro->qmp < 0) {
        micro_qmp_open(micro);
        (void)micro_qmp_send(micro, "{\"execute\":\"qmp_capabilities\"}\n", -1);
    }
    const char *answer = micro_qmp_send(micro, text, fd);
    ck_assert_msg(answer != NULL && strstr(answer, "\"error\"") == NULL, "%s%s: %s",
                  micro_told(micro, ""), text, answer == NULL ? "no answer" : answer);
    return answer;
}

/* ---- saved and gone on from ---- */

/* Saves the machine, ends its process, and goes on from there in another. */
static inline void micro_move(struct micro *micro, const char *group)
{
    const int file = memfd_create("saved", MFD_CLOEXEC);
    const int saved = fcntl(file, F_DUPFD_CLOEXEC, 20);
    ck_assert_int_ge(saved, 0);
    (void)close(file);
    (void)micro_qmp(micro, "{\"execute\":\"stop\"}\n", -1);
    (void)micro_qmp(micro, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"s\"}}\n",
                    saved);
    (void)micro_qmp(micro, "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:s\"}}\n",
                    -1);
    const char *answer;
    do {
        answer = micro_qmp(micro, "{\"execute\":\"query-migrate\"}\n", -1);
        ck_assert_msg(strstr(answer, "\"failed\"") == NULL, "%s", answer);
    } while (strstr(answer, "\"completed\"") == NULL);
    (void)micro_qmp_send(micro, "{\"execute\":\"quit\"}\n", -1);
    ck_assert_int_eq(micro_ended(micro), 0);
    micro_close(&micro->saved);
    micro->saved = saved;
    micro_start(micro, group);
}
