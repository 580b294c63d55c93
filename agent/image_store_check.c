#include "agent/image_store_internal.h"
#include "base/log.h"
#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGAIN_MS      1000 /* after a fault, doubled each time */
#define AGAIN_MAX_MS  300000
#define WAITED_MAX_MS 10000 /* likewise, of what somebody waits for */
/* So often in a row a disk has not given its bytes back, and they are held to be lost: a
 * network's disk is away for a while, too. */
#define READ_FAULTS 4

static void check_over(struct work_job *job, int code);

/* ---- later ---- */

static void on_timer(void *context)
{
    image_store_check(context);
}

/* Logged once for each reason. */
static void
check_later(struct image_store *store, struct stored *stored, int code, const char *why)
{
    char hex[DIGEST_HEX_SIZE];
    stored->backoff_ms = stored->backoff_ms == 0 ? AGAIN_MS : 2 * stored->backoff_ms;
    const uint64_t most_ms = stored->waited_for ? WAITED_MAX_MS : AGAIN_MAX_MS;
    stored->backoff_ms = stored->backoff_ms < most_ms ? stored->backoff_ms : most_ms;
    stored->again_ms = uv_now(store->loop) + stored->backoff_ms;
    if (stored->check_code != code) {
        digest_format(&stored->file.digest, hex);
        log_warn("images", "file is not checked yet, and tried again",
                 KV_STR("sha256", hex), KV_STR("why", why));
    }
    stored->check_code = code;
}

/* For the soonest of those that are tried again. Whose time has come already begins when
 * a thread is free. */
static void timer_set(struct image_store *store)
{
    const uint64_t now_ms = uv_now(store->loop);
    uint64_t soonest_ms = UINT64_MAX;
    for (unsigned i = 0; i < store->file_count; i++) {
        const struct stored *one = &store->files[i];
        if (one->file.unchecked && one->again_ms > now_ms && one->again_ms < soonest_ms) {
            soonest_ms = one->again_ms;
        }
    }
    if (soonest_ms == UINT64_MAX) {
        return;
    }
    if (store->check_timer == NULL) {
        store->check_timer =
            loop_timer_new(store->loop, soonest_ms - now_ms, 0, on_timer, store);
    } else {
        loop_timer_again(store->check_timer, soonest_ms - now_ms, 0);
    }
}

/* ---- what is next ---- */

/* Of those that are waited for, the smallest: it is over first, and the others are hardly
 * later for it. */
static bool goes_before(const struct stored *one, const struct stored *other)
{
    if (one->waited_for != other->waited_for) {
        return one->waited_for;
    }
    return one->waited_for && one->file.size_bytes != other->file.size_bytes
               ? one->file.size_bytes < other->file.size_bytes
               : one->used > other->used;
}

static struct stored *first_of(struct image_store *store)
{
    const uint64_t now_ms = uv_now(store->loop);
    struct stored *found = NULL;
    for (unsigned i = 0; i < store->file_count; i++) {
        struct stored *stored = &store->files[i];
        if (stored->file.unchecked && !stored->checking && now_ms >= stored->again_ms &&
            (found == NULL || goes_before(stored, found))) {
            found = stored;
        }
    }
    return found;
}

/* One thread is left to what somebody waits for, or a large file would hold that up. */
static struct stored *next_of(struct image_store *store)
{
    struct stored *found = first_of(store);
    return found != NULL && (found->waited_for || store->checking_count == 0) ? found
                                                                              : NULL;
}

static void check_begin(struct image_store *store, struct stored *stored)
{
    uint64_t number = 0;
    struct store_work *work = store_work_new(store, &stored->file.digest, NULL, NULL);
    if (work == NULL) {
        check_later(store, stored, -ENOMEM, err_sentence(-ENOMEM));
        return;
    }
    random_secret(&number, sizeof(number));
    (void)snprintf(work->file.tmp_path, sizeof(work->file.tmp_path), "%s/tmp/%016llx",
                   store->folder, (unsigned long long)number);
    work->is_check = true;
    work->file.is_idle = !stored->waited_for;
    atomic_init(&work->file.hurry, stored->waited_for);
    stored->checking = true;
    store->checking_count++;
    list_push_back(&store->works, &work->link);
    work_pool_submit(store->checking, &work->file.job, image_work_check, check_over);
}

/* What nobody waits for gives its thread back: it begins anew later. */
static void give_way(struct image_store *store)
{
    const struct stored *first = first_of(store);
    if (first == NULL || !first->waited_for) {
        return;
    }
    LIST_EACH (item, &store->works) {
        struct store_work *work = LIST_ITEM(item, struct store_work, link);
        if (work->is_check && !work->is_over && !atomic_load(&work->file.hurry)) {
            work_pool_cancel(store->checking, &work->file.job);
        }
    }
}

void image_store_check(struct image_store *store)
{
    struct stored *stored;
    while (store->checking_count < IMAGE_CHECK_THREADS &&
           (stored = next_of(store)) != NULL) {
        check_begin(store, stored);
    }
    give_way(store);
    timer_set(store);
}

static void hurry(struct image_store *store, const struct stored *stored)
{
    LIST_EACH (item, &store->works) {
        struct store_work *work = LIST_ITEM(item, struct store_work, link);
        if (work->is_check && digest_equal(&work->file.expected, &stored->file.digest)) {
            atomic_store(&work->file.hurry, true);
        }
    }
}

void image_store_check_soon(struct image_store *store, struct stored *stored)
{
    stored->waited_for = true;
    if (stored->checking) {
        hurry(store, stored);
    }
    image_store_check(store);
}

/* ---- what has come of it ---- */

static bool is_another(const struct image_work *file, const char *path)
{
    struct stat hashed;
    struct stat there;
    return file->fd < 0 ? file->code == -ENOENT /* there was none */
                        : fstat(file->fd, &hashed) == 0 && lstat(path, &there) == 0 &&
                              hashed.st_ino != there.st_ino;
}

/* Takes the file that was hashed out of the way. A thread may have given its name to a
 * whole one meanwhile, or be about to: so it is moved first and looked at then. 1: it is
 * gone, 0: it is another one, and lies there again; -errno: it lies there still. */
static int
damaged_move(const struct image_work *file, const char *path, const char *damaged)
{
    if (rename(path, damaged) < 0) {
        return errno == ENOENT ? 1 : -errno;
    }
    if (!is_another(file, damaged)) {
        return 1;
    }
    (void)rename(damaged, path); /* else it is fetched again */
    return 0;
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
    const int moved = damaged_move(&work->file, path, damaged);
    if (moved < 0) {
        check_later(store, stored, moved, "it is damaged, and cannot be put aside");
    }
    if (moved <= 0) {
        return; /* that one is checked, too */
    }
    /* Of what a disk does not give back now, all may be there. */
    const bool stays = work->file.code == -EIO || image_store_is_kept(store, digest);
    digest_format(digest, hex);
    log_warn("images", "file is damaged: no VM gets it, and it is fetched again",
             KV_STR("sha256", hex), KV_STR("why", work->file.text),
             KV_STR("kept_as", stays ? damaged : ""));
    if (!stays) {
        memcpy(work->file.drop_path, damaged, sizeof(damaged));
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
    const int code = file->code;
    stored->read_faults = code == -EIO ? stored->read_faults + 1 : 0;
    if (code == 0) {
        image_store_trust_vouch(store, stored, &file->identity);
        image_store_changed(store);
    } else if (code == BERTH_ECORRUPT || code == -ENOENT ||
               stored->read_faults == READ_FAULTS) {
        damaged_drop(work, stored);
    } else if (code != BERTH_ECLOSED) { /* else it gave way */
        check_later(store, stored, code,
                    file->text[0] != '\0' ? file->text : err_sentence(code));
    }
}

static void clean_over(struct work_job *job, int code)
{
    struct store_work *work = store_work_of(job);
    struct image_store *store = work->store;
    if (code < 0) {
        image_work_clean(job); /* the store is being closed, as a rule */
    }
    if (store != NULL) {
        list_remove(&work->link);
        store->checking_count--;
    }
    work->file.code = 0; /* its tmp_path is no file */
    image_work_fini(&work->file);
    free(work);
    if (store != NULL) {
        image_store_check(store);
    }
}

/* The file is closed and removed on the thread: that takes a while when it is large. */
static void check_end(struct store_work *work)
{
    struct image_store *store = work->store;
    struct stored *stored =
        store != NULL ? image_store_find(store, &work->file.expected) : NULL;
    if (stored != NULL) {
        work->file.uncache =
            !stored->waited_for && !image_store_is_kept(store, &work->file.expected);
        stored->checking = false;
        if (stored->file.unchecked) { /* else a whole one has come meanwhile */
            check_take(work, stored);
        }
    }
    if (store != NULL) {
        work_pool_submit(store->checking, &work->file.job, image_work_clean, clean_over);
    } else {
        clean_over(&work->file.job, BERTH_ECLOSED);
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
    work->is_over = true;
    if (work->file.code == 0 && work->file.is_packed && work->store != NULL) {
        work->file.unpacker = work->store->unpacker;
        work_pool_submit(work->store->unpacking, job, image_work_unpack, unpack_over);
    } else {
        check_end(work);
    }
}
