#include "agent/kernel_unpack.h"

#include "agent/disk_room.h"
#include "agent/file_digest.h"
#include "agent/program_spawn.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAGIC_AT     0x202 /* of every bzImage */
#define WORDS_SIZE   160
#define EXIT_NOTHING 3 /* of berth-unpack: there is nothing to unpack */

bool kernel_unpack_fits(int fd)
{
    char magic[4];
    return pread(fd, magic, sizeof(magic), MAGIC_AT) == sizeof(magic) &&
           memcmp(magic, "HdrS", sizeof(magic)) == 0;
}

bool kernel_unpacked_path(const char *kernel_path, char *ret_path, size_t size)
{
    const char *slash = strrchr(kernel_path, '/');
    const int length = slash == NULL
                           ? -1
                           : snprintf(ret_path, size, "%.*s/" KERNEL_UNPACK_FOLDER "%s",
                                      (int)(slash - kernel_path), kernel_path, slash);
    return length >= 0 && (size_t)length < size;
}

/* ---- the process ---- */

static int spawn(const char *path,
                 uint64_t room,
                 const int fds[PROGRAM_SPAWN_FDS],
                 pid_t *ret_pid,
                 struct err *err)
{
    char name[] = KERNEL_UNPACK_PROGRAM;
    char parent[16];
    char most[24];
    char *const argv[] = {name, parent, most, NULL};
    char *const environment[] = {NULL};
    const struct program_spawn program = {.name = name,
                                          .path = path,
                                          .argv = argv,
                                          .environment = environment,
                                          .fds = {fds[0], fds[1], fds[2]}};
    (void)snprintf(parent, sizeof(parent), "%d", (int)getpid());
    (void)snprintf(most, sizeof(most), "%llu", (unsigned long long)room);
    return program_spawn(&program, ret_pid, err);
}

/* Until it has closed its words, which its end does: 0, or why it is to be ended. */
static int hear(const struct kernel_unpack *unpack, int words, char *ret_words)
{
    const uint64_t end_ms = clock_now_ms(clock_system()) + KERNEL_UNPACK_MS;
    size_t length = 0;
    for (;;) {
        struct pollfd wait = {.fd = words, .events = POLLIN};
        char rest[WORDS_SIZE];
        if (unpack->is_wanted != NULL && !unpack->is_wanted(unpack->context)) {
            return BERTH_ECLOSED;
        }
        if (clock_now_ms(clock_system()) >= end_ms) {
            return BERTH_ETIMEOUT;
        }
        if (poll(&wait, 1, KERNEL_UNPACK_LOOK_MS) <= 0) {
            continue; /* a fault shows at the next look */
        }
        const ssize_t got = read(words, rest, sizeof(rest));
        if (got <= 0) {
            return 0;
        }
        const size_t room = WORDS_SIZE - 1 - length;
        const size_t taken = (size_t)got < room ? (size_t)got : room;
        memcpy(ret_words + length, rest, taken);
        length += taken;
        ret_words[length] = '\0';
    }
}

static int ended(int status, const char *words, struct err *err)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOTHING) {
        return 0;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return 1;
    }
    return WIFEXITED(status) && words[0] != '\0'
               ? err_set(err, BERTH_EINVALID, "unpack: %s", words)
               : err_set(err, BERTH_ECHILD,
                         "unpack: " KERNEL_UNPACK_PROGRAM " ended by %s %d",
                         WIFSIGNALED(status) ? "signal" : "exit status",
                         WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/* 1: it is in the file. */
static int
process_run(const struct kernel_unpack *unpack, uint64_t room, int to, struct err *err)
{
    char words[WORDS_SIZE] = "";
    int pipe_ends[2];
    pid_t pid;
    int status = 0;
    /* The file is the store's: the process reads it by itself and cannot write. */
    CLEANUP_FD int from = fd_reopen(unpack->fd, O_RDONLY, err);
    if (from < 0) {
        return from;
    }
    if (pipe2(pipe_ends, O_CLOEXEC) < 0) {
        return err_sys(err, -errno, "unpack");
    }
    CLEANUP_FD int heard = pipe_ends[0];
    const int fds[PROGRAM_SPAWN_FDS] = {from, to, pipe_ends[1]};
    int r = spawn(unpack->program, room, fds, &pid, err);
    (void)close(pipe_ends[1]); /* the process has its own */
    if (r < 0) {
        return err_wrap(err, r, "unpack");
    }
    r = hear(unpack, heard, words);
    (void)kill(pid, SIGKILL); /* it has ended, or is to */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return r < 0 ? err_sys(err, r, "unpack") : ended(status, words, err);
}

/* ---- the file ---- */

#define MARK_SIZE (sizeof(KERNEL_UNPACK_MARK) - 1)
_Static_assert(KERNEL_UNPACK_SEAL == MARK_SIZE + DIGEST_SIZE, "both are the seal");

/* Leaves the offset behind it. */
static int seal(const struct kernel_unpack *unpack, int to, struct err *err)
{
    struct digest digest;
    uint64_t size_bytes = 0;
    int r = file_digest(to, UINT64_MAX, unpack->is_wanted, unpack->context, &digest,
                        &size_bytes);
    r = r < 0 ? r : fd_write_full(to, KERNEL_UNPACK_MARK, MARK_SIZE);
    r = r < 0 ? r : fd_write_full(to, digest.bytes, sizeof(digest.bytes));
    return r < 0 ? err_sys(err, r, "unpack: seal it") : 0;
}

/* Durable first, so that the name never stands for less. */
static int give_name(const struct kernel_unpack *unpack, int to, struct err *err)
{
    CLEANUP_FREE char *folder = NULL;
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&folder, "%s/" KERNEL_UNPACK_FOLDER, unpack->folder) < 0 ||
        asprintf(&path, "%s/%s", folder, unpack->name) < 0) {
        return err_sys(err, -ENOMEM, "unpack");
    }
    int r = fd_make_folders(folder, err);
    r = r < 0 ? r : seal(unpack, to, err);
    if (r < 0) {
        return r;
    }
    if (fchmod(to, 0400) < 0 || fsync(to) < 0 || rename(unpack->tmp_path, path) < 0) {
        return err_sys(err, -errno, "unpack: keep it");
    }
    return fd_sync_folder(folder, err);
}

static int
room_find(const struct kernel_unpack *unpack, uint64_t *ret_room, struct err *err)
{
    struct stat status;
    if (fstat(unpack->fd, &status) < 0) {
        return err_sys(err, -errno, "unpack");
    }
    *ret_room = disk_room(unpack->folder, unpack->reserve_bytes);
    return *ret_room / KERNEL_UNPACK_RATIO < (uint64_t)status.st_size
               ? err_set(err, BERTH_EDISKFULL, "unpack: the disk has too little room")
               : 0;
}

int kernel_unpack(const struct kernel_unpack *unpack, struct err *err)
{
    uint64_t room = 0;
    int r = room_find(unpack, &room, err);
    if (r < 0) {
        return r;
    }
    CLEANUP_FD int to =
        fd_open_at(AT_FDCWD, unpack->tmp_path, O_RDWR | O_CREAT | O_EXCL, 0600, err);
    if (to < 0) {
        return to;
    }
    r = process_run(unpack, room, to, err);
    r = r == 1 ? give_name(unpack, to, err) : r;
    (void)unlink(unpack->tmp_path); /* gone already when it has its name */
    return r;
}

/* ---- later ---- */

/* Of an open one. */
static int seal_check(const struct kernel_unpack *unpack, int fd, struct err *err)
{
    uint8_t kept[KERNEL_UNPACK_SEAL];
    struct digest digest;
    uint64_t size_bytes = 0;
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return err_sys(err, -errno, "look at it");
    }
    const off_t at = status.st_size - (off_t)sizeof(kept);
    if (at < 0 || pread(fd, kept, sizeof(kept), at) != (ssize_t)sizeof(kept) ||
        memcmp(kept, KERNEL_UNPACK_MARK, MARK_SIZE) != 0) {
        return err_set(err, BERTH_ENOTFOUND, "it has no seal");
    }
    int r = file_digest(fd, (uint64_t)at, unpack->is_wanted, unpack->context, &digest,
                        &size_bytes);
    if (r < 0) {
        return err_sys(err, r, "read it");
    }
    return memcmp(kept + MARK_SIZE, digest.bytes, DIGEST_SIZE) == 0
               ? 0
               : err_set(err, BERTH_ECORRUPT,
                         "its SHA-256 is not the one that was kept with it");
}

int kernel_unpacked_check(const struct kernel_unpack *unpack, struct err *err)
{
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/" KERNEL_UNPACK_FOLDER "/%s", unpack->folder, unpack->name) <
        0) {
        return err_sys(err, -ENOMEM, "look at it");
    }
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW, 0, err);
    if (fd == -ENOENT) {
        return 0; /* most have none */
    }
    const int r = fd < 0 ? fd : seal_check(unpack, fd, err);
    if (r < 0 && r != BERTH_ECLOSED) {
        (void)unlink(path); /* made anew, or the kernel boots as it came */
    }
    return r;
}
