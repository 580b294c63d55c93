#include "vmm/vmm_export.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"
#include "vmm/vmm_open.h"
#include "vmm/vmm_rights.h"
#include "vmm/vmm_walls.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct files {
    int overlay;
    int base; /* -1: none */
    int to;
};

/* Both descriptors stay the caller's. */
static int file_open(int fd, struct disk_file **ret_file, struct err *err)
{
    int ours = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (ours < 0) {
        return err_sys(err, -errno, "keep a descriptor");
    }
    const int r = disk_file_new(ours, ret_file, err);
    if (r < 0) {
        fd_close(&ours);
    }
    return r;
}

static int base_open(int fd, struct virtual_disk **ret_base, struct err *err)
{
    struct disk_file *file = NULL;
    if (fd < 0) {
        return 0;
    }
    int r = file_open(fd, &file, err);
    if (r == 0) {
        r = disk_raw_new(file, true, ret_base, err);
    }
    if (r < 0) {
        disk_file_free(file);
        return err_wrap(err, r, "base");
    }
    return 0;
}

static int disk_open(const struct files *files,
                     const struct digest *digest,
                     struct virtual_disk **ret_disk,
                     struct err *err)
{
    struct virtual_disk *base = NULL;
    struct disk_file *file = NULL;
    int r = base_open(files->base, &base, err);
    if (r < 0) {
        return r;
    }
    r = file_open(files->overlay, &file, err);
    if (r == 0) {
        r = disk_overlay_open(file, base, digest, ret_disk, err);
    }
    if (r < 0) {
        disk_file_free(file);
        disk_free(base);
        return err_wrap(err, r, "overlay");
    }
    return 0;
}

static int copy(const struct files *files, const struct digest *digest, struct err *err)
{
    struct virtual_disk *disk = NULL;
    struct disk_file *to = NULL;
    int r = disk_open(files, digest, &disk, err);
    if (r < 0) {
        return r;
    }
    REQUIRE(disk != NULL);
    if (ftruncate(files->to, (off_t)disk->size_bytes) < 0) {
        r = err_sys(err, -errno, "make the file as large as the disk");
    }
    if (r == 0) {
        r = file_open(files->to, &to, err);
    }
    if (r == 0) {
        r = disk_export(disk, to, err);
    }
    disk_file_free(to);
    disk_free(disk);
    return r;
}

/* What is the guest's is read behind them. Some may be missing here, as for a machine
 * that is started by hand: it stays who it is, for one. */
static int
copy_behind_walls(const struct files *files, const struct digest *digest, struct err *err)
{
    char missing[VMM_MISSING_SIZE];
    const off_t size = lseek(files->overlay, 0, SEEK_END); /* more than the disk has */
    const struct vmm_walls walls = {.which = VMM_WALLS_ALL,
                                    .file_bytes = size > 0 ? (uint64_t)size : 0};
    int r = vmm_walls_put_up(&walls, missing, err);
    if (r < 0) {
        return r;
    }
    if (missing[0] != '\0') {
        log_info("vmm", "some walls around the process that copies do not stand here",
                 KV_STR("missing", missing));
    }
    r = vmm_rights_thread(VMM_ROLE_DISK | VMM_ROLE_EXPORT, err);
    return r < 0 ? r : copy(files, digest, err);
}

/* A process that has nothing of whoever started it but these, and where to say words. */
static int leave_all_but(const struct files *files, int answer)
{
    const int kept[] = {files->overlay, files->base, files->to, answer};
    (void)setsid(); /* no terminal: what is typed there is not its to make up */
    for (unsigned from = 0; from <= INT_MAX;) {
        unsigned next = UINT_MAX; /* of those that stay */
        for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
            if (kept[i] >= 0 && (unsigned)kept[i] >= from && (unsigned)kept[i] < next) {
                next = (unsigned)kept[i];
            }
        }
        if (from <= STDERR_FILENO && next > STDERR_FILENO) {
            next = STDERR_FILENO;
        }
        if (next > from && syscall(SYS_close_range, from, next - 1, 0U) != 0) {
            return -errno;
        }
        from = next == UINT_MAX ? next : next + 1;
    }
    return 0;
}

static int files_open(const struct vmm_export_option *option,
                      const char *part,
                      struct files *ret_files,
                      struct err *err)
{
    ret_files->overlay = vmm_open_file(option->overlay, O_RDONLY, err);
    if (ret_files->overlay < 0) {
        return ret_files->overlay;
    }
    if (option->base[0] != '\0') {
        ret_files->base = vmm_open_file(option->base, O_RDONLY, err);
        if (ret_files->base < 0) {
            return ret_files->base;
        }
    }
    if (faccessat(AT_FDCWD, option->file, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return err_sys(err, -EEXIST, "%s", option->file);
    }
    ret_files->to = fd_open_at(AT_FDCWD, part, O_RDWR | O_CREAT | O_EXCL, 0600, err);
    return ret_files->to < 0 ? ret_files->to : 0;
}

/* It is whole and on the disk: from now on it has its name, unless that was taken. */
static int name_give(const char *part, const char *file, struct err *err)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof(folder), "%s", file); /* as long as a path may be */
    if (link(part, file) < 0) {
        return err_sys(err, -errno, "%s", file);
    }
    (void)unlink(part);
    return fd_sync_folder(dirname(folder), err);
}

static void files_close(struct files *files)
{
    fd_close(&files->overlay);
    fd_close(&files->base);
    fd_close(&files->to);
}

/* What the other process says on its pipe, once it has ended. */
static int answer_read(int from, pid_t pid, struct err *err)
{
    struct err said = {0};
    int status = 0;
    const ssize_t size = fd_read_full(from, &said, sizeof(said));
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return err_sys(err, -errno, "wait for the process that copies");
        }
    }
    if (size != (ssize_t)sizeof(said) || said.code > 0) {
        return err_set(err, BERTH_ECHILD, "the process that copies ended early (0x%x)",
                       status);
    }
    said.text[sizeof(said.text) - 1] = '\0';
    return said.code == 0 ? 0 : err_set(err, said.code, "%s", said.text);
}

static int
copy_apart(const struct files *files, const struct digest *digest, struct err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return err_sys(err, -errno, "make a pipe");
    }
    const pid_t pid = fork();
    if (pid == 0) {
        struct err said = {0};
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would take the copy */
        said.code = leave_all_but(files, ends[1]);
        said.code = said.code < 0 ? err_sys(&said, said.code, "leave what is open")
                                  : copy_behind_walls(files, digest, &said);
        _exit(fd_write_full(ends[1], &said, sizeof(said)) == 0 ? 0 : 1);
    }
    (void)close(ends[1]);
    const int r = pid < 0 ? err_sys(err, -errno, "make a process that copies")
                          : answer_read(ends[0], pid, err);
    (void)close(ends[0]);
    return r;
}

int vmm_export_disk(const struct vmm_export_option *option, struct err *err)
{
    char part[PATH_MAX];
    struct files files = {-1, -1, -1};
    const int length = snprintf(part, sizeof(part), "%s.part", option->file);
    if (length < 0 || (size_t)length >= sizeof(part)) {
        return err_sys(err, -ENAMETOOLONG, "%s", option->file);
    }
    int r = files_open(option, part, &files, err);
    if (r == 0) {
        r = copy_apart(&files, &option->digest, err);
        if (r == 0) {
            r = name_give(part, option->file, err);
        }
        if (r < 0) {
            (void)unlink(part); /* it is ours */
        }
    }
    files_close(&files);
    return r;
}
