#include "agent/image_store_internal.h"
#include "base/fd.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct store_work *store_work_of(struct work_job *job)
{
    return LIST_ITEM(job, struct store_work, file.job);
}

static void work_answer(struct store_work *work)
{
    const struct image_work *file = &work->file;
    bool named = file->code < 0 && file->expects;
    if (work->done != NULL) {
        work->done(work->context, file->code, named ? &file->expected : &file->digest,
                   file->size_bytes,
                   file->code < 0 && file->text[0] == '\0' ? err_sentence(file->code)
                                                           : file->text);
    }
}

static void work_end(struct store_work *work)
{
    if (work->store != NULL) {
        list_remove(&work->link);
        work_answer(work);
    }
    free(work);
}

static void clean_over(struct work_job *job, int code)
{
    struct store_work *work = store_work_of(job);
    (void)work_job_make_up(job, code); /* else the next whole one takes it away */
    work_end(work);
}

void store_work_finished(struct work_job *job, int code)
{
    struct store_work *work = store_work_of(job);
    struct image_store *store = work->store;
    struct image_work *file = &work->file;
    file->code = file->code < 0 ? file->code : code;
    image_work_fini(file);
    if (store != NULL) {
        store->writer_count -= work->is_writer ? 1U : 0U;
        work->is_part = false;
        if (file->code == 0) {
            file->code = image_store_enter(store, &file->digest, file->size_bytes,
                                           &file->identity);
        }
        image_store_damaged_path(store, &file->digest, file->drop_path);
    }
    /* What was left of a damaged one may be large, and goes on a thread. */
    if (store != NULL && file->code == 0 && access(file->drop_path, F_OK) == 0) {
        work_pool_submit(store->finishing, job, image_work_clean, clean_over);
    } else {
        work_end(work);
    }
}

static void unpacked(struct work_job *job, int code)
{
    if (code < 0) {
        image_work_unpack_missed(&store_work_of(job)->file,
                                 code == BERTH_EFULL ? "others are being unpacked already"
                                                     : err_sentence(code));
    }
    store_work_finished(job, 0);
}

static void named(struct work_job *job, int code)
{
    struct store_work *work = store_work_of(job);
    if (code == 0 && work->file.code == 0 && work->file.is_packed &&
        work->store != NULL) {
        work_pool_submit(work->store->unpacking, job, image_work_unpack, unpacked);
    } else {
        store_work_finished(job, code);
    }
}

void store_work_name(struct store_work *work)
{
    work_pool_submit(work->store->finishing, &work->file.job, image_work_finish, named);
}

struct store_work *store_work_new(struct image_store *store,
                                  const struct digest *expected,
                                  image_done *done,
                                  void *context)
{
    struct store_work *work = calloc(1, sizeof(*work));
    if (work != NULL) {
        list_init(&work->link);
        work->store = store;
        work->done = done;
        work->context = context;
        work->file.fd = -1;
        work->file.expects = expected != NULL && !digest_is_zero(expected);
        if (work->file.expects) {
            work->file.expected = *expected;
        }
        work->file.size_max = store->limits.cache_bytes;
        work->file.reserve_bytes = store->limits.reserve_bytes;
        work->file.fetcher = store->fetcher;
        work->file.unpacker = store->unpacker;
        (void)snprintf(work->file.final_folder, sizeof(work->file.final_folder), "%s",
                       store->folder);
    }
    return work;
}

int store_work_write(struct store_work *work,
                     const void *data,
                     size_t size,
                     struct err *err)
{
    const int r = fd_write_full(work->file.fd, data, size);
    return r == -ENOSPC || r == -EDQUOT
               ? err_set(err, BERTH_EDISKFULL, "the disk of the image store is full")
           : r < 0 ? err_sys(err, r, "write to the image store")
                   : 0;
}

void store_work_finish(struct store_work *work)
{
    list_push_back(&work->store->works, &work->link);
    store_work_name(work);
}

int store_work_tmp_open(struct image_store *store,
                        char ret_path[IMAGE_PATH_SIZE],
                        struct err *err)
{
    uint64_t number = 0;
    random_secret(&number, sizeof(number));
    (void)snprintf(ret_path, IMAGE_PATH_SIZE, "%s/tmp/%016llx", store->folder,
                   (unsigned long long)number);
    return fd_open_at(AT_FDCWD, ret_path, O_RDWR | O_CREAT | O_EXCL, 0600, err);
}
