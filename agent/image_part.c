#include "agent/image_part.h"

#include "agent/image_store_internal.h"
#include "base/fd.h"
#include "base/heap.h"
#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct image_part {
    struct list link;
    struct image_store *store;
    struct store_work *work;
    uint64_t offset;     /* what is there */
    uint64_t size_bytes; /* of the whole; 0: not told yet */
    uint64_t promised;   /* of that: not written yet */
};

/* Room for what is still to come. */
static int part_promise(struct image_part *part, struct err *err)
{
    struct image_store *store = part->store;
    uint64_t missing = part->size_bytes - part->offset;
    int r = image_store_room(store, missing, store->promised_bytes, err);
    if (r == 0) {
        part->promised = missing;
        store->promised_bytes += missing;
    }
    return r;
}

/* The file is the caller's or the work's from here on. */
static void part_leave(struct image_part *part)
{
    part->store->promised_bytes -= part->promised;
    list_remove(&part->link);
    heap_freed(); /* what it came through: an upload's body, or chunks of another host */
}

/* Being written, or being hashed: both hold the file. */
static bool part_is_open(const struct image_store *store, const struct digest *digest)
{
    LIST_EACH (item, &store->parts) {
        if (digest_equal(&LIST_ITEM(item, struct image_part, link)->work->file.expected,
                         digest)) {
            return true;
        }
    }
    LIST_EACH (item, &store->works) {
        const struct store_work *work = LIST_ITEM(item, struct store_work, link);
        if (work->is_part && digest_equal(&work->file.expected, digest)) {
            return true;
        }
    }
    return false;
}

struct image_part *image_part_open(struct image_store *store,
                                   const struct digest *digest,
                                   uint64_t size_bytes,
                                   uint64_t *ret_offset,
                                   struct err *err)
{
    char hex[DIGEST_HEX_SIZE];
    struct stat info;
    if (part_is_open(store, digest)) {
        (void)err_set(err, BERTH_EBUSY, "this file is being pulled already");
        return NULL;
    }
    struct image_part *part = calloc(1, sizeof(*part));
    struct store_work *work = store_work_new(store, digest, NULL, NULL);
    if (part == NULL || work == NULL) {
        (void)err_sys(err, -ENOMEM, "begin a pull");
        free(part);
        free(work);
        return NULL;
    }
    digest_format(digest, hex);
    (void)snprintf(work->file.tmp_path, sizeof(work->file.tmp_path),
                   "%s/tmp/%s" IMAGE_PART_SUFFIX, store->folder, hex);
    work->is_part = true;
    work->file.keep_bad = true;
    work->file.fd =
        fd_open_at(AT_FDCWD, work->file.tmp_path, O_RDWR | O_CREAT, 0600, err);
    if (work->file.fd >= 0 && fstat(work->file.fd, &info) < 0) {
        (void)err_sys(err, -errno, "look at %s", work->file.tmp_path);
        fd_close(&work->file.fd);
    }
    if (work->file.fd < 0) {
        free(part);
        free(work);
        return NULL;
    }
    if ((uint64_t)info.st_size > size_bytes) { /* not a beginning of this file */
        info.st_size = 0;
        if (ftruncate(work->file.fd, 0) < 0) {
            (void)err_sys(err, -errno, "empty %s", work->file.tmp_path);
            fd_close(&work->file.fd);
            free(part);
            free(work);
            return NULL;
        }
    }
    (void)lseek(work->file.fd, 0, SEEK_END); /* cannot fail on a regular file */
    part->store = store;
    part->work = work;
    part->offset = (uint64_t)info.st_size;
    part->size_bytes = size_bytes;
    list_push_back(&store->parts, &part->link);
    if (part->size_bytes != 0 && part_promise(part, err) < 0) {
        image_part_close(part);
        return NULL;
    }
    *ret_offset = part->offset;
    return part;
}

int image_part_told_size(struct image_part *part, uint64_t size_bytes, struct err *err)
{
    REQUIRE(part->size_bytes == 0 && part->offset == 0);
    part->size_bytes = size_bytes;
    return part_promise(part, err);
}

int image_part_write(struct image_part *part,
                     const void *data,
                     size_t size,
                     struct err *err)
{
    REQUIRE(part->size_bytes != 0);
    if (size > part->size_bytes - part->offset) {
        return err_set(err, BERTH_ETOOLARGE, "more came than the file's %llu bytes",
                       (unsigned long long)part->size_bytes);
    }
    int r = image_store_room(part->store, size, 0, err);
    if (r < 0) {
        return r;
    }
    r = store_work_write(part->work, data, size, err);
    if (r < 0) {
        return r;
    }
    part->offset += size;
    part->promised -= size;
    part->store->promised_bytes -= size;
    return 0;
}

void image_part_end(struct image_part *part, image_done *done, void *context)
{
    part->work->done = done;
    part->work->context = context;
    part_leave(part);
    store_work_finish(part->work);
    free(part);
}

void image_part_close(struct image_part *part)
{
    if (part == NULL) {
        return;
    }
    part_leave(part);
    fd_close(&part->work->file.fd);
    free(part->work);
    free(part);
}
