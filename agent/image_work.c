#include "agent/image_work.h"

#include "agent/disk_format.h"
#include "agent/disk_room.h"
#include "agent/file_digest.h"
#include "agent/image_fetch.h"
#include "agent/kernel_unpack.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse_number.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct image_work *work_of(struct work_job *job)
{
    return LIST_ITEM(job, struct image_work, job);
}

static void work_fault(struct image_work *work, int code, const char *what)
{
    work->code = code == -ENOSPC || code == -EDQUOT ? BERTH_EDISKFULL : code;
    (void)snprintf(work->text, sizeof(work->text), "%s: %s", what,
                   err_sentence(work->code));
}

/* ---- fetching
 * ---------------------------------------------------------------------------------------
 */

struct fetch {
    struct image_work *work;
    uint64_t came;
};

/* Announced or counted. 0, or the fault is in the work. */
static int fetch_check(struct fetch *fetch, uint64_t size, uint64_t more)
{
    struct image_work *work = fetch->work;
    char text[NUMBER_TEXT_SIZE];
    char left[NUMBER_TEXT_SIZE];
    if (size > work->size_max) {
        format_bytes_human(work->size_max, text);
        work->code = BERTH_ETOOLARGE;
        (void)snprintf(work->text, sizeof(work->text),
                       "fetch %.100s: it is more than this host takes, which is %s "
                       "(--image-cache)",
                       work->url, text);
        return work->code;
    }
    uint64_t room = disk_room(work->final_folder, work->reserve_bytes);
    if (more > room) {
        format_bytes_human(more, text);
        format_bytes_human(room, left);
        work->code = BERTH_EDISKFULL;
        (void)snprintf(work->text, sizeof(work->text),
                       "fetch: the disk of the image store is full: %s more are wanted, "
                       "%s are left",
                       text, left);
    }
    return work->code;
}

static int on_announced(void *context, uint64_t size_bytes)
{
    struct fetch *fetch = context;
    int r = fetch_check(fetch, size_bytes, size_bytes);
    if (r < 0) {
        fetch->work->needs_bytes = size_bytes;
    }
    return r;
}

static int on_came(void *context, const void *data, size_t size)
{
    struct fetch *fetch = context;
    struct image_work *work = fetch->work;
    fetch->came += size;
    if (fetch_check(fetch, fetch->came, size) < 0) {
        return work->code;
    }
    int r = fd_write_full(work->fd, data, size);
    if (r < 0) {
        work_fault(work, r, "fetch");
    }
    return work->code;
}

static bool is_wanted(void *context)
{
    const struct fetch *fetch = context;
    return !work_job_cancelled(&fetch->work->job);
}

void image_work_fetch(struct work_job *job)
{
    struct image_work *work = work_of(job);
    struct fetch fetch = {.work = work};
    const struct image_fetch_events events = {.context = &fetch,
                                              .announced = on_announced,
                                              .came = on_came,
                                              .is_wanted = is_wanted};
    struct err err = {0};
    if (ftruncate(work->fd, 0) < 0 || lseek(work->fd, 0, SEEK_SET) < 0) {
        work_fault(work, -errno, "fetch");
        return;
    }
    int r = image_fetch(work->fetcher, work->url, IMAGE_FETCH_TIMEOUT_S, &events, &err);
    if (r < 0 && work->code == 0) { /* else it is ours, not the server's */
        work->code = r;
        (void)snprintf(work->text, sizeof(work->text), "%.255s", err.text);
    }
}

/* ---- finishing
 * --------------------------------------------------------------------------------------
 */

/* ioprio_set(2) of this thread: libc has no name for it. Where there are no classes, the
 * disk knows none. */
static void io_class_set(bool idle)
{
    enum { WHO_PROCESS = 1, CLASS_IDLE = 3, CLASS_SHIFT = 13 };
    (void)syscall(SYS_ioprio_set, WHO_PROCESS, 0, idle ? CLASS_IDLE << CLASS_SHIFT : 0);
}

static bool work_is_wanted(void *context)
{
    struct image_work *work = context;
    if (work->is_idle && atomic_load(&work->hurry)) {
        work->is_idle = false;
        io_class_set(false);
    }
    return !work_job_cancelled(&work->job);
}

static int hash_file(struct image_work *work)
{
    return file_digest(work->fd, UINT64_MAX, work_is_wanted, work, &work->digest,
                       &work->size_bytes);
}

static bool is_expected(struct image_work *work)
{
    char got[DIGEST_HEX_SIZE];
    char wanted[DIGEST_HEX_SIZE];
    if (!work->expects || digest_equal(&work->digest, &work->expected)) {
        return true;
    }
    digest_format(&work->digest, got);
    digest_format(&work->expected, wanted);
    work->code = BERTH_ECORRUPT;
    work->keep_bad = false;
    (void)snprintf(work->text, sizeof(work->text),
                   "the content's SHA-256 is %.64s, not %.64s", got, wanted);
    return false;
}

/* Durable first, so that the name never stands for less than the content. */
static int give_name(struct image_work *work)
{
    char hex[DIGEST_HEX_SIZE];
    char path[IMAGE_PATH_SIZE + DIGEST_HEX_SIZE + 1];
    digest_format(&work->digest, hex);
    (void)snprintf(path, sizeof(path), "%s/%s", work->final_folder, hex);
    if (fchmod(work->fd, 0400) < 0 || fsync(work->fd) < 0 ||
        rename(work->tmp_path, path) < 0) {
        return -errno;
    }
    work->identity = file_identity_at(path);
    return fd_sync_folder(work->final_folder, NULL);
}

/* No image of a host's files, whatever role the content is to have. */
static bool is_harmless(struct image_work *work)
{
    enum disk_format format;
    struct err err = {0};
    int r = disk_format_read(work->fd, &format, &err);
    if (r < 0) {
        work->code = r;
        work->keep_bad = false;
        (void)snprintf(work->text, sizeof(work->text), "%.255s", err.text);
    }
    return r == 0;
}

static void finish_file(struct image_work *work)
{
    int r = hash_file(work);
    if (r < 0) {
        work_fault(work, r, "read back");
        return;
    }
    if (!is_expected(work) || !is_harmless(work)) {
        return;
    }
    r = give_name(work);
    if (r < 0) {
        work_fault(work, r, "keep the file");
        return;
    }
    work->is_packed = kernel_unpack_fits(work->fd);
}

void image_work_finish(struct work_job *job)
{
    struct image_work *work = work_of(job);
    finish_file(work);
    if (work->code < 0 && !work->keep_bad) { /* here: on the loop it would take a while */
        (void)unlink(work->tmp_path);        /* else at the next start */
        fd_close(&work->fd);
    }
}

/* ---- what is in a packed kernel
 * --------------------------------------------------------------------------------------
 */

void image_work_unpack_missed(const struct image_work *work, const char *why)
{
    char hex[DIGEST_HEX_SIZE];
    digest_format(&work->digest, hex);
    log_warn("images", "a kernel will be unpacked by each VM itself",
             KV_STR("sha256", hex), KV_STR("why", why));
}

void image_work_unpack(struct work_job *job)
{
    struct image_work *work = work_of(job);
    char hex[DIGEST_HEX_SIZE];
    char tmp_path[IMAGE_PATH_SIZE + sizeof(".elf")];
    struct err err = {0};
    digest_format(&work->digest, hex);
    (void)snprintf(tmp_path, sizeof(tmp_path), "%s.elf", work->tmp_path);
    const struct kernel_unpack unpack = {.program = work->unpacker,
                                         .fd = work->fd,
                                         .folder = work->final_folder,
                                         .name = hex,
                                         .tmp_path = tmp_path,
                                         .reserve_bytes = work->reserve_bytes,
                                         .is_wanted = work_is_wanted,
                                         .context = work};
    if (kernel_unpack(&unpack, &err) < 0) {
        image_work_unpack_missed(work, err.text);
    }
}

/* ---- what is there already
 * --------------------------------------------------------------------------------------
 */

static void within_check(struct image_work *work, const char *hex)
{
    struct err err = {0};
    const struct kernel_unpack unpack = {.folder = work->final_folder,
                                         .name = hex,
                                         .is_wanted = work_is_wanted,
                                         .context = work};
    const int r = kernel_unpacked_check(&unpack, &err);
    if (r == BERTH_ENOTFOUND) {
        log_info("images", "what was in a kernel is unpacked anew, with a seal",
                 KV_STR("sha256", hex));
    } else if (r < 0 && r != BERTH_ECLOSED) { /* else it gave way */
        log_warn("images", "what was in a kernel is thrown away and unpacked anew",
                 KV_STR("sha256", hex), KV_STR("why", err.text));
    }
    if (r < 0) {
        work->is_packed = kernel_unpack_fits(work->fd);
    }
}

static void check_file(struct image_work *work)
{
    char hex[DIGEST_HEX_SIZE];
    char path[IMAGE_PATH_SIZE + DIGEST_HEX_SIZE + 1];
    struct file_identity after = {0};
    struct stat status;
    digest_format(&work->expected, hex);
    (void)snprintf(path, sizeof(path), "%s/%s", work->final_folder, hex);
    work->fd = fd_open_at(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW, 0, NULL);
    int r = work->fd < 0 ? work->fd : fstat(work->fd, &status) < 0 ? -errno : 0;
    work->identity = r == 0 ? file_identity_of(&status) : after;
    r = r == 0 ? hash_file(work) : r;
    if (r < 0) {
        work_fault(work, r, "cannot be read");
        return;
    }
    after = file_identity_at(path);
    if (!file_identity_equal(&work->identity, &after)) {
        work->identity.ino = 0; /* it is not the same any more: the next start looks */
    }
    if (is_expected(work)) {
        within_check(work, hex);
    }
}

void image_work_check(struct work_job *job)
{
    struct image_work *work = work_of(job);
    const bool idle = work->is_idle;
    if (idle) {
        io_class_set(true);
    }
    check_file(work);
    if (idle) {
        io_class_set(false); /* the thread's next work may be waited for */
    }
}

void image_work_clean(struct work_job *job)
{
    struct image_work *work = work_of(job);
    if (work->uncache && work->fd >= 0) {
        (void)posix_fadvise(work->fd, 0, 0, POSIX_FADV_DONTNEED); /* a wish */
    }
    if (work->drop_path[0] != '\0') {
        (void)unlink(work->drop_path); /* gone, or it takes room until it is looked for */
    }
    fd_close(&work->fd);
}

void image_work_fini(struct image_work *work)
{
    fd_close(&work->fd);
    if (work->code < 0 && !work->keep_bad) {
        (void)unlink(work->tmp_path); /* gone already, or removed at the next start */
    }
    free(work->url);
}
