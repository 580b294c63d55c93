#include "agent/image_store.h"

#include "agent/disk_room.h"
#include "agent/image_work.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/parse_number.h"
#include "base/random.h"
#include "base/require.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_SUFFIX    ".part"
#define TOUCH_EVERY_MS 60000 /* a use is written down so often at most */
/* Slow servers hold threads for long, so fetches have their own, and what is here already
 * need not wait behind them to be checked. */
#define FETCH_THREADS  4
#define FINISH_THREADS 2
#define FINISH_QUEUE   64 /* more than the writers, fetches and pulls there may be */

struct stored {
    struct image_file file;
    uint64_t used;       /* counts up with each use: the smallest is the oldest */
    uint64_t touched_ms; /* loop time at which the file's time was set; 0: not by us */
};

struct image_store {
    uv_loop_t *loop;
    char *folder;
    struct image_limits limits;
    uint64_t promised_bytes; /* announced by uploads and parts, not written yet */
    uint64_t use_clock;
    struct stored files[IMAGE_STORE_FILES_MAX];
    unsigned file_count;
    struct digest *kept; /* not to be evicted */
    unsigned kept_count;
    unsigned writer_count;
    unsigned fetch_count;
    struct work_pool *fetching;
    const char *fetcher; /* NULL: ours */
    struct work_pool *finishing;
    struct list works; /* on the threads */
    struct list parts; /* open parts */
    void (*changed)(void *context);
    void *changed_context;
};

/* ---- paths and files
 * -------------------------------------------------------------------------------- */

static void path_of(const struct image_store *store,
                    const struct digest *digest,
                    char *path,
                    size_t size)
{
    char hex[DIGEST_HEX_SIZE];
    digest_format(digest, hex);
    (void)snprintf(path, size, "%s/%s", store->folder, hex); /* cut paths fail to open */
}

static struct stored *stored_of(const struct image_store *store,
                                const struct digest *digest)
{
    for (unsigned i = 0; i < store->file_count; i++) {
        if (digest_equal(&store->files[i].file.digest, digest)) {
            return (struct stored *)(uintptr_t)&store->files[i];
        }
    }
    return NULL;
}

static bool is_kept(const struct image_store *store, const struct digest *digest)
{
    for (unsigned i = 0; i < store->kept_count; i++) {
        if (digest_equal(&store->kept[i], digest)) {
            return true;
        }
    }
    return false;
}

static void changed(struct image_store *store)
{
    if (store->changed != NULL) {
        store->changed(store->changed_context);
    }
}

static void drop(struct image_store *store, struct stored *stored)
{
    char path[IMAGE_PATH_SIZE];
    char hex[DIGEST_HEX_SIZE];
    path_of(store, &stored->file.digest, path, sizeof(path));
    digest_format(&stored->file.digest, hex);
    if (unlink(path) < 0 && errno != ENOENT) {
        log_warn("images", "file cannot be removed", KV_STR("sha256", hex),
                 KV_STR("why", err_sentence(-errno)));
    }
    log_info("images", "file was evicted", KV_STR("sha256", hex),
             KV_U64("bytes", stored->file.size_bytes));
    *stored = store->files[--store->file_count];
}

/* The least recently used file that is not kept; NULL when all are. */
static struct stored *oldest(struct image_store *store)
{
    struct stored *found = NULL;
    for (unsigned i = 0; i < store->file_count; i++) {
        struct stored *stored = &store->files[i];
        if (!is_kept(store, &stored->file.digest) &&
            (found == NULL || stored->used < found->used)) {
            found = stored;
        }
    }
    return found;
}

static uint64_t total_bytes(const struct image_store *store)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < store->file_count; i++) {
        sum += store->files[i].file.size_bytes;
    }
    return sum;
}

/* Makes room for one more file of that size; what is kept stays even over the limit. */
static void evict_for(struct image_store *store, uint64_t size_bytes)
{
    struct stored *stored;
    while ((total_bytes(store) + size_bytes > store->limits.cache_bytes ||
            store->file_count == IMAGE_STORE_FILES_MAX) &&
           (stored = oldest(store)) != NULL) {
        drop(store, stored);
    }
}

static uint64_t evictable_bytes(const struct image_store *store)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < store->file_count; i++) {
        const struct image_file *file = &store->files[i].file;
        sum += is_kept(store, &file->digest) ? 0 : file->size_bytes;
    }
    return sum;
}

/* Room on the disk for size_bytes beside what is promised to others; files that nobody
 * keeps go for it. BERTH_EDISKFULL says how much there is. */
static int room_make(struct image_store *store,
                     uint64_t size_bytes,
                     uint64_t promised_bytes,
                     struct err *err)
{
    char need[NUMBER_TEXT_SIZE];
    char have[NUMBER_TEXT_SIZE];
    char reserve[NUMBER_TEXT_SIZE];
    struct stored *stored;
    uint64_t room;
    for (;;) {
        room = disk_room(store->folder, store->limits.reserve_bytes);
        room = room > promised_bytes ? room - promised_bytes : 0;
        if (size_bytes <= room) {
            return 0;
        }
        if (size_bytes - room > evictable_bytes(store) ||
            (stored = oldest(store)) == NULL) {
            break; /* nothing goes in vain */
        }
        drop(store, stored);
        changed(store);
    }
    format_bytes_human(size_bytes, need);
    format_bytes_human(room, have);
    format_bytes_human(store->limits.reserve_bytes, reserve);
    return err_set(err, BERTH_EDISKFULL,
                   "the disk of the image store is full: %s more are wanted, %s are left "
                   "beside the %s that are kept free",
                   need, have, reserve);
}

static int
size_check(const struct image_store *store, uint64_t size_bytes, struct err *err)
{
    char size[NUMBER_TEXT_SIZE];
    char limit[NUMBER_TEXT_SIZE];
    if (size_bytes <= store->limits.cache_bytes) {
        return 0;
    }
    format_bytes_human(size_bytes, size);
    format_bytes_human(store->limits.cache_bytes, limit);
    return err_set(err, BERTH_ETOOLARGE,
                   "an image file of %s is more than this host takes, which is %s "
                   "(--image-cache)",
                   size, limit);
}

/* The file's own time remembers the use over a restart. */
static void mark_used(struct image_store *store, struct stored *stored)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
    uint64_t now_ms = uv_now(store->loop);
    char path[IMAGE_PATH_SIZE];
    stored->used = ++store->use_clock;
    if (stored->touched_ms != 0 && now_ms - stored->touched_ms < TOUCH_EVERY_MS) {
        return;
    }
    path_of(store, &stored->file.digest, path, sizeof(path));
    (void)utimensat(AT_FDCWD, path, times,
                    AT_SYMLINK_NOFOLLOW); /* else it only looks older than it is */
    stored->touched_ms = now_ms;
}

static int
enter(struct image_store *store, const struct digest *digest, uint64_t size_bytes)
{
    struct stored *stored = stored_of(store, digest);
    if (stored == NULL) {
        evict_for(store, size_bytes);
        if (store->file_count == IMAGE_STORE_FILES_MAX) {
            char path[IMAGE_PATH_SIZE];
            path_of(store, digest, path, sizeof(path));
            (void)unlink(path); /* or it would lie there unlisted */
            return BERTH_EFULL;
        }
        stored = &store->files[store->file_count++];
        *stored = (struct stored){.file = {.digest = *digest, .size_bytes = size_bytes}};
    }
    mark_used(store, stored);
    changed(store);
    return 0;
}

/* ---- opening
 * ----------------------------------------------------------------------------------------
 */

/* What the folder holds, before it is known how much of it is kept. */
struct found {
    struct image_file file;
    struct timespec used;
};

struct found_list {
    struct image_store *store;
    struct found *items;
    unsigned count;
    bool failed; /* out of memory */
};

static void load_entry(void *context, const char *name)
{
    struct found_list *list = context;
    struct digest digest;
    struct stat info;
    char path[IMAGE_PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/%s", list->store->folder, name);
    if (strlen(name) != DIGEST_HEX_SIZE - 1 || digest_parse(name, &digest) != 0 ||
        lstat(path, &info) != 0 || !S_ISREG(info.st_mode)) {
        return;
    }
    struct found *items =
        reallocarray(list->items, list->count + 1, sizeof(*list->items));
    if (items == NULL) {
        list->failed = true;
        return;
    }
    list->items = items;
    list->items[list->count++] = (struct found){
        .file = {.digest = digest, .size_bytes = (uint64_t)info.st_size},
        .used = info.st_mtim,
    };
}

static int by_use(const void *a, const void *b)
{
    const struct timespec *one = &((const struct found *)a)->used;
    const struct timespec *other = &((const struct found *)b)->used;
    if (one->tv_sec != other->tv_sec) {
        return one->tv_sec < other->tv_sec ? -1 : 1;
    }
    return one->tv_nsec < other->tv_nsec ? -1 : one->tv_nsec > other->tv_nsec;
}

/* In the order of their last use; what is more than the list can hold is evicted. */
static void load_found(struct image_store *store, struct found_list *list)
{
    if (list->count > 0) {
        qsort(list->items, list->count, sizeof(*list->items), by_use);
    }
    for (unsigned i = 0; i < list->count; i++) {
        if (store->file_count == IMAGE_STORE_FILES_MAX) {
            drop(store, oldest(store));
        }
        store->files[store->file_count++] =
            (struct stored){.file = list->items[i].file, .used = ++store->use_clock};
    }
}

static void clean_entry(void *context, const char *name)
{
    const struct image_store *store = context;
    size_t size = strlen(name);
    char path[IMAGE_PATH_SIZE];
    bool part = size > strlen(PART_SUFFIX) &&
                strcmp(name + size - strlen(PART_SUFFIX), PART_SUFFIX) == 0;
    if (name[0] != '.' && !part) {
        (void)snprintf(path, sizeof(path), "%s/tmp/%s", store->folder, name);
        (void)unlink(path); /* left by a crash; tried again at the next start */
    }
}

static int scan(const char *path,
                void (*visit)(void *context, const char *name),
                void *context,
                struct err *err)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;
    if (folder == NULL) {
        return err_sys(err, -errno, "read %s", path);
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while ((entry = readdir(folder)) != NULL) {
        visit(context, entry->d_name);
    }
    closedir(folder);
    return 0;
}

static int load(struct image_store *store, struct err *err)
{
    struct found_list list = {.store = store};
    int r = scan(store->folder, load_entry, &list, err);
    if (r == 0 && list.failed) {
        r = err_sys(err, -ENOMEM, "read %s", store->folder);
    }
    if (r == 0) {
        load_found(store, &list);
    }
    free(list.items);
    return r;
}

int image_store_open(uv_loop_t *loop,
                     const char *folder,
                     const struct image_limits *limits,
                     struct image_store **ret_store,
                     struct err *err)
{
    CLEANUP_FREE char *tmp = NULL;
    struct image_store *store = calloc(1, sizeof(*store));
    if (store == NULL || (store->folder = strdup(folder)) == NULL ||
        asprintf(&tmp, "%s/tmp", folder) < 0) {
        image_store_close(store);
        return err_sys(err, -ENOMEM, "open the image store");
    }
    store->loop = loop;
    store->limits = *limits;
    list_init(&store->works);
    list_init(&store->parts);
    store->fetching = work_pool_new(loop, FETCH_THREADS, IMAGE_STORE_FETCHES_MAX);
    store->finishing = work_pool_new(loop, FINISH_THREADS, FINISH_QUEUE);
    if (store->fetching == NULL || store->finishing == NULL) {
        image_store_close(store);
        return err_sys(err, -ENOMEM, "open the image store");
    }
    int r = fd_make_folders(tmp, err);
    r = r < 0 ? r : load(store, err);
    r = r < 0 ? r : scan(tmp, clean_entry, store, err);
    if (r < 0) {
        image_store_close(store);
        return r;
    }
    *ret_store = store;
    return 0;
}

/* ---- questions
 * --------------------------------------------------------------------------------------
 */

bool image_store_has(const struct image_store *store,
                     const struct digest *digest,
                     uint64_t *ret_size_bytes)
{
    const struct stored *stored = stored_of(store, digest);
    if (stored != NULL && ret_size_bytes != NULL) {
        *ret_size_bytes = stored->file.size_bytes;
    }
    return stored != NULL;
}

bool image_store_path(struct image_store *store,
                      const struct digest *digest,
                      char ret_path[IMAGE_PATH_SIZE])
{
    struct stored *stored = stored_of(store, digest);
    if (stored == NULL) {
        return false;
    }
    mark_used(store, stored);
    path_of(store, digest, ret_path, IMAGE_PATH_SIZE);
    return true;
}

int image_store_keep(struct image_store *store,
                     const struct digest *digests,
                     unsigned count,
                     struct err *err)
{
    struct digest *kept = NULL;
    if (count > 0) {
        kept = reallocarray(NULL, count, sizeof(*kept));
        if (kept == NULL) {
            return err_sys(err, -ENOMEM, "keep %u images", count);
        }
        memcpy(kept, digests, count * sizeof(*kept));
    }
    free(store->kept);
    store->kept = kept;
    store->kept_count = count;
    return 0;
}

static int by_digest(const void *a, const void *b)
{
    return memcmp(((const struct image_file *)a)->digest.bytes,
                  ((const struct image_file *)b)->digest.bytes, DIGEST_SIZE);
}

unsigned image_store_list(const struct image_store *store,
                          struct image_file *ret_files,
                          unsigned max)
{
    unsigned count = store->file_count < max ? store->file_count : max;
    for (unsigned i = 0; i < count; i++) {
        ret_files[i] = store->files[i].file;
    }
    qsort(ret_files, count, sizeof(*ret_files), by_digest);
    return count;
}

void image_store_on_change(struct image_store *store,
                           void (*fn)(void *context),
                           void *context)
{
    store->changed = fn;
    store->changed_context = context;
}

/* ---- works: what its threads do for it
 * -------------------------------------------------------------- */

struct work {
    struct image_work file; /* first: image_work.c knows only this part */
    struct list link;
    struct image_store *store; /* NULL: the store has been closed */
    bool is_writer;            /* counts among the uploads until its end is told */
    bool was_again;            /* a fetch: room was made for it */
    bool is_part;              /* of its digest there may be no second one meanwhile */
    image_done *done;
    void *context;
};

static struct work *work_of(struct work_job *job)
{
    return LIST_ITEM(job, struct work, file.job);
}

static void work_answer(struct work *work)
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

static void work_finished(struct work_job *job, int code)
{
    struct work *work = work_of(job);
    struct image_store *store = work->store;
    struct image_work *file = &work->file;
    file->code = file->code < 0 ? file->code : code;
    image_work_fini(file);
    if (store != NULL) {
        list_remove(&work->link);
        store->writer_count -= work->is_writer ? 1U : 0U;
        if (file->code == 0) {
            file->code = enter(store, &file->digest, file->size_bytes);
        }
        work_answer(work);
    }
    free(work);
}

static struct work *work_new(struct image_store *store,
                             const struct digest *expected,
                             image_done *done,
                             void *context)
{
    struct work *work = calloc(1, sizeof(*work));
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
        (void)snprintf(work->file.final_folder, sizeof(work->file.final_folder), "%s",
                       store->folder);
    }
    return work;
}

static void work_finish(struct work *work)
{
    list_push_back(&work->store->works, &work->link);
    work_pool_submit(work->store->finishing, &work->file.job, image_work_finish,
                     work_finished);
}

static int
tmp_open(struct image_store *store, char ret_path[IMAGE_PATH_SIZE], struct err *err)
{
    uint64_t number = 0;
    random_secret(&number, sizeof(number));
    (void)snprintf(ret_path, IMAGE_PATH_SIZE, "%s/tmp/%016llx", store->folder,
                   (unsigned long long)number);
    return fd_open_at(AT_FDCWD, ret_path, O_RDWR | O_CREAT | O_EXCL, 0600, err);
}

/* ---- uploads
 * ----------------------------------------------------------------------------------------
 */

struct image_writer {
    struct image_store *store;
    struct work *work;
    uint64_t written;
    uint64_t promised; /* of what was announced: not written yet */
    bool announced;
};

static void promise_end(struct image_writer *writer)
{
    writer->store->promised_bytes -= writer->promised;
    writer->promised = 0;
}

struct image_writer *image_writer_begin(struct image_store *store,
                                        const struct digest *expected,
                                        uint64_t size_bytes,
                                        struct err *err)
{
    struct image_writer *writer = NULL;
    bool announced = size_bytes != IMAGE_SIZE_UNKNOWN;
    if (announced && (size_check(store, size_bytes, err) < 0 ||
                      room_make(store, size_bytes, store->promised_bytes, err) < 0)) {
        return NULL;
    }
    if (store->writer_count >= IMAGE_STORE_WRITERS_MAX) {
        (void)err_set(err, BERTH_EFULL, "%d uploads are under way already",
                      IMAGE_STORE_WRITERS_MAX);
        return NULL;
    }
    writer = calloc(1, sizeof(*writer));
    struct work *work = work_new(store, expected, NULL, NULL);
    if (writer == NULL || work == NULL) {
        (void)err_sys(err, -ENOMEM, "begin an upload");
        free(writer);
        free(work);
        return NULL;
    }
    work->is_writer = true;
    work->file.fd = tmp_open(store, work->file.tmp_path, err);
    if (work->file.fd < 0) {
        free(writer);
        free(work);
        return NULL;
    }
    *writer = (struct image_writer){.store = store,
                                    .work = work,
                                    .announced = announced,
                                    .promised = announced ? size_bytes : 0};
    store->promised_bytes += writer->promised;
    store->writer_count++;
    return writer;
}

/* What was announced has its room, unless somebody else has filled the disk. */
static int writer_room(struct image_writer *writer, uint64_t size, struct err *err)
{
    struct image_store *store = writer->store;
    if (writer->announced && size > writer->promised) {
        return err_set(err, BERTH_ETOOLARGE, "more came than was announced");
    }
    int r = size_check(store, writer->written + size, err);
    return r < 0 ? r
                 : room_make(store, size, writer->announced ? 0 : store->promised_bytes,
                             err);
}

int image_writer_write(struct image_writer *writer,
                       const void *data,
                       size_t size,
                       struct err *err)
{
    int r = writer_room(writer, size, err);
    if (r < 0) {
        return r;
    }
    r = fd_write_full(writer->work->file.fd, data, size);
    if (r == -ENOSPC || r == -EDQUOT) {
        return err_set(err, BERTH_EDISKFULL, "the disk of the image store is full");
    }
    if (r < 0) {
        return err_sys(err, r, "write to the image store");
    }
    writer->written += size;
    if (writer->announced) {
        writer->promised -= size;
        writer->store->promised_bytes -= size;
    }
    return 0;
}

void image_writer_end(struct image_writer *writer, image_done *done, void *context)
{
    writer->work->done = done;
    writer->work->context = context;
    promise_end(writer);
    work_finish(writer->work);
    free(writer);
}

void image_writer_abort(struct image_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    promise_end(writer);
    writer->work->file.code = BERTH_ECLOSED;
    image_work_fini(&writer->work->file);
    writer->store->writer_count--;
    free(writer->work);
    free(writer);
}

/* ---- fetching
 * ---------------------------------------------------------------------------------------
 */

static void fetched(struct work_job *job, int code);

/* The thread cannot evict: once, that is done for it here, when the server told how much
 * comes. */
static bool fetch_again(struct work *work)
{
    struct image_work *file = &work->file;
    struct image_store *store = work->store;
    uint64_t needs = file->needs_bytes;
    file->needs_bytes = 0;
    if (store == NULL || file->code != BERTH_EDISKFULL || needs == 0 || work->was_again ||
        room_make(store, needs, store->promised_bytes, NULL) < 0) {
        return false;
    }
    work->was_again = true;
    file->code = 0;
    file->text[0] = '\0';
    work_pool_submit(store->fetching, &file->job, image_work_fetch, fetched);
    return true;
}

static void fetched(struct work_job *job, int code)
{
    struct work *work = work_of(job);
    work->file.code = work->file.code < 0 ? work->file.code : code;
    if (fetch_again(work)) {
        return;
    }
    if (work->store != NULL) {
        work->store->fetch_count--;
    }
    if (work->store == NULL || work->file.code < 0) {
        work_finished(job, work->file.code);
    } else {
        work_pool_submit(work->store->finishing, job, image_work_finish, work_finished);
    }
}

/* 0, or why it cannot begin, with text in the work. */
static int fetch_begin(struct work *work, const char *url)
{
    struct image_store *store = work->store;
    struct err err = {0};
    if (!work->file.expects) {
        (void)err_set(&err, BERTH_EINVALID, "a URL needs the SHA-256 of its content");
    } else if (store->fetch_count >= IMAGE_STORE_FETCHES_MAX) {
        (void)err_set(&err, BERTH_EFULL, "%d fetches are under way already",
                      IMAGE_STORE_FETCHES_MAX);
    } else if ((work->file.url = strdup(url)) == NULL) {
        (void)err_sys(&err, -ENOMEM, "begin a fetch");
    } else {
        work->file.fd = tmp_open(store, work->file.tmp_path, &err);
    }
    (void)snprintf(work->file.text, sizeof(work->file.text), "%.200s", err.text);
    return err.code;
}

void image_store_fetch(struct image_store *store,
                       const char *url,
                       const struct digest *expected,
                       image_done *done,
                       void *context)
{
    struct work *work = work_new(store, expected, done, context);
    REQUIRE(work !=
            NULL); /* an answer that never comes would hang its client without a word */
    int r = fetch_begin(work, url);
    list_push_back(&store->works, &work->link);
    if (r < 0) {
        work_pool_tell(store->fetching, &work->file.job, r, work_finished);
        return;
    }
    store->fetch_count++;
    work_pool_submit(store->fetching, &work->file.job, image_work_fetch, fetched);
}

void image_store_use_fetcher(struct image_store *store, const char *program)
{
    store->fetcher = program;
}

/* ---- parts
 * ------------------------------------------------------------------------------------------
 */

struct image_part {
    struct list link;
    struct image_store *store;
    struct work *work;
    uint64_t offset;     /* what is there */
    uint64_t size_bytes; /* of the whole; 0: not told yet */
    uint64_t promised;   /* of that: not written yet */
};

/* Room for what is still to come. */
static int part_promise(struct image_part *part, struct err *err)
{
    struct image_store *store = part->store;
    uint64_t missing = part->size_bytes - part->offset;
    int r = room_make(store, missing, store->promised_bytes, err);
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
        const struct work *work = LIST_ITEM(item, struct work, link);
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
    struct work *work = work_new(store, digest, NULL, NULL);
    if (part == NULL || work == NULL) {
        (void)err_sys(err, -ENOMEM, "begin a pull");
        free(part);
        free(work);
        return NULL;
    }
    digest_format(digest, hex);
    (void)snprintf(work->file.tmp_path, sizeof(work->file.tmp_path),
                   "%s/tmp/%s" PART_SUFFIX, store->folder, hex);
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
    int r = room_make(part->store, size, 0, err);
    if (r < 0) {
        return r;
    }
    r = fd_write_full(part->work->file.fd, data, size);
    if (r == -ENOSPC || r == -EDQUOT) {
        return err_set(err, BERTH_EDISKFULL, "the disk of the image store is full");
    }
    if (r < 0) {
        return err_sys(err, r, "write to the image store");
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
    work_finish(part->work);
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

/* ---- end
 * --------------------------------------------------------------------------------------------
 */

struct image_store *image_store_close(struct image_store *store)
{
    if (store == NULL) {
        return NULL;
    }
    if (store->works.next != NULL) {
        LIST_EACH_SAFE (item, &store->works) {
            struct work *work = LIST_ITEM(item, struct work, link);
            list_remove(item);
            work->store = NULL; /* it frees itself when the pool is through with it */
        }
    }
    work_pool_close(store->fetching);
    work_pool_close(store->finishing);
    free(store->kept);
    free(store->folder);
    free(store);
    return NULL;
}
