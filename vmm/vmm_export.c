#include "vmm/vmm_export.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"
#include "vmm/vmm_open.h"
#include "vmm/vmm_walls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
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

/* What a process by hand may not have is missing, and that is as it is for a machine. */
static int
copy_behind_walls(const struct files *files, const struct digest *digest, struct err *err)
{
    char missing[VMM_MISSING_SIZE];
    const off_t size = lseek(files->overlay, 0, SEEK_END); /* more than the disk has */
    const struct vmm_walls walls = {.which = VMM_WALLS_ALL,
                                    .file_bytes = size > 0 ? (uint64_t)size : 0};
    const int r = vmm_walls_put_up(&walls, missing, err);
    return r < 0 ? r : copy(files, digest, err);
}

static int files_open(const struct vmm_export_option *option,
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
    ret_files->to =
        fd_open_at(AT_FDCWD, option->file, O_RDWR | O_CREAT | O_EXCL, 0600, err);
    return ret_files->to < 0 ? ret_files->to : 0;
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
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would remove the file */
        said.code = copy_behind_walls(files, digest, &said);
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
    struct files files = {-1, -1, -1};
    int r = files_open(option, &files, err);
    if (r == 0) {
        r = copy_apart(&files, &option->digest, err);
        if (r < 0) {
            (void)unlink(option->file); /* it is ours, and not whole */
        }
    }
    files_close(&files);
    return r;
}
