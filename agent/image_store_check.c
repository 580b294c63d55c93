#include "agent/image_store_internal.h"
#include "base/log.h"
#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void check_over(struct work_job *job, int code);

/* ---- what is next ---- */

static bool goes_before(const struct stored *one, const struct stored *other)
{
    return one->waited_for != other->waited_for ? one->waited_for
                                                : one->used > other->used;
}

/* One thread is left to what somebody waits for, or a large file would hold that up. */
static struct stored *next_of(struct image_store *store)
{
    struct stored *found = NULL;
    for (unsigned i = 0; i < store->file_count; i++) {
        struct stored *stored = &store->files[i];
        if (stored->file.unchecked && !stored->checking && !stored->check_failed &&
            (found == NULL || goes_before(stored, found))) {
            found = stored;
        }
    }
    return found != NULL && (found->waited_for || store->checking_count == 0) ? found
                                                                              : NULL;
}

static void check_begin(struct image_store *store, struct stored *stored)
{
    uint64_t number = 0;
    struct store_work *work = store_work_new(store, &stored->file.digest, NULL, NULL);
    if (work == NULL) {
        stored->check_failed = true; /* until it is asked for */
        return;
    }
    random_secret(&number, sizeof(number));
    (void)snprintf(work->file.tmp_path, sizeof(work->file.tmp_path), "%s/tmp/%016llx",
                   store->folder, (unsigned long long)number);
    stored->checking = true;
    store->checking_count++;
    list_push_back(&store->works, &work->link);
    work_pool_submit(store->checking, &work->file.job, image_work_check, check_over);
}

void image_store_check(struct image_store *store)
{
    struct stored *stored;
    while (store->checking_count < IMAGE_CHECK_THREADS &&
           (stored = next_of(store)) != NULL) {
        check_begin(store, stored);
    }
}

void image_store_check_soon(struct image_store *store, struct stored *stored)
{
    stored->waited_for = true;
    stored->check_failed = false;
    image_store_check(store);
}

/* ---- what has come of it ---- */

/* A disk that does not give its bytes back has lost them as well. */
static bool is_damage(int code)
{
    return code == BERTH_ECORRUPT || code == -EIO || code == -ENOENT;
}

static bool is_another(const struct image_work *file, const char *path)
{
    struct stat hashed;
    struct stat there;
    return file->fd < 0 ? file->code == -ENOENT /* there was none */
                        : fstat(file->fd, &hashed) == 0 && lstat(path, &there) == 0 &&
                              hashed.st_ino != there.st_ino;
}

/* Takes the file that was hashed out of the way. A thread may have given its name to a
 * whole one meanwhile, or be about to: so it is moved first and looked at then. False: it
 * is another one, and lies there again. */
static bool
damaged_move(const struct image_work *file, const char *path, const char *damaged)
{
    if (rename(path, damaged) < 0 || !is_another(file, damaged)) {
        return true; /* also when there is nothing to move */
    }
    (void)rename(damaged, path); /* else it is fetched again */
    return false;
}

static void damaged_drop(struct store_work *work, struct stored *stored)
{
    struct image_store *store = work->store;
    const struct digest *digest = &work->file.expected;
    char hex[DIGEST_HEX_SIZE];
    char path[IMAGE_PATH_SIZE];
    char damaged[IMAGE_PATH_SIZE];
    image_store_file_path(store, digest, path);
    image_store_damaged_path(store, digest, damaged);
    if (!damaged_move(&work->file, path, damaged)) {
        return; /* that one is checked, too */
    }
    const bool stays = image_store_is_kept(store, digest);
    digest_format(digest, hex);
    log_warn("images", "file is damaged: no VM gets it, and it is fetched again",
             KV_STR("sha256", hex), KV_STR("why", work->file.text),
             KV_STR("kept_as", stays ? damaged : ""));
    if (!stays) {
        (void)unlink(damaged); /* gone, or it takes room until it is looked for */
    }
    image_store_unpacked_path(store, digest, path);
    (void)unlink(path); /* most have none */
    image_store_lose(store, digest);
    image_store_unlist(store, stored);
    image_store_changed(store);
}

static void check_take(struct store_work *work, struct stored *stored)
{
    struct image_store *store = work->store;
    const struct image_work *file = &work->file;
    char hex[DIGEST_HEX_SIZE];
    if (file->code == 0) {
        stored->file.unchecked = false;
        stored->unpacked_bytes = image_store_unpacked_bytes(store, &file->expected);
        image_store_changed(store);
    } else if (is_damage(file->code)) {
        damaged_drop(work, stored);
    } else {
        digest_format(&file->expected, hex);
        log_warn(
            "images", "file cannot be checked now", KV_STR("sha256", hex),
            KV_STR("why", file->text[0] != '\0' ? file->text : err_sentence(file->code)));
        stored->check_failed = true;
    }
}

static void check_end(struct store_work *work)
{
    struct image_store *store = work->store;
    struct stored *stored =
        store != NULL ? image_store_find(store, &work->file.expected) : NULL;
    if (store != NULL) {
        list_remove(&work->link);
        store->checking_count--;
    }
    if (stored != NULL) {
        stored->checking = false;
        if (stored->file.unchecked) { /* else a whole one has come meanwhile */
            check_take(work, stored);
        }
    }
    image_work_fini(&work->file);
    free(work);
    if (store != NULL) {
        image_store_check(store);
    }
}

/* What it made belongs to nobody if the kernel was evicted meanwhile. */
static void unpack_over(struct work_job *job, int code)
{
    struct store_work *work = store_work_of(job);
    char path[IMAGE_PATH_SIZE];
    if (code < 0) {
        image_work_unpack_missed(&work->file, err_sentence(code));
    } else if (work->store != NULL &&
               image_store_find(work->store, &work->file.expected) == NULL) {
        image_store_unpacked_path(work->store, &work->file.expected, path);
        (void)unlink(path); /* else the next start removes it */
    }
    check_end(work);
}

static void check_over(struct work_job *job, int code)
{
    struct store_work *work = store_work_of(job);
    work->file.code = work->file.code < 0 ? work->file.code : code;
    if (work->file.code == 0 && work->file.is_packed && work->store != NULL) {
        work->file.unpacker = work->store->unpacker;
        work_pool_submit(work->store->unpacking, job, image_work_unpack, unpack_over);
    } else {
        check_end(work);
    }
}
