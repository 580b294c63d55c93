#include "agent/image_store.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/random.h"
#include "base/require.h"

#include <curl/curl.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_SUFFIX        ".part"
#define HASH_BUFFER        (1u << 20)
#define TOUCH_EVERY_MS     60000 /* a use is written down so often at most */
#define FETCH_REDIRECTS    5L
#define FETCH_SLOW_BYTES_S 1024L /* slower than this for FETCH_SLOW_S is stuck */
#define FETCH_SLOW_S       60L

struct stored {
    struct image_file file;
    uint64_t used;       /* counts up with each use: the smallest is the oldest */
    uint64_t touched_ms; /* loop time at which the file's time was set; 0: not by us */
};

struct image_store {
    uv_loop_t *loop;
    char *folder;
    uint64_t limit_bytes;
    uint64_t use_clock;
    struct stored files[IMAGE_STORE_FILES_MAX];
    unsigned file_count;
    struct digest *kept; /* not to be evicted */
    unsigned kept_count;
    unsigned writer_count;
    struct list works; /* finishes under way */
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
    while ((total_bytes(store) + size_bytes > store->limit_bytes ||
            store->file_count == IMAGE_STORE_FILES_MAX) &&
           (stored = oldest(store)) != NULL) {
        drop(store, stored);
    }
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
                     uint64_t limit_bytes,
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
    store->limit_bytes = limit_bytes;
    list_init(&store->works);
    list_init(&store->parts);
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

/* ---- finishing: hash, sync, rename, on the thread pool
 * ---------------------------------------------- */

struct work {
    struct list link;
    struct image_store *store; /* NULL: the store has been closed */
    uv_work_t request;
    char tmp_path[IMAGE_PATH_SIZE];
    char final_folder[IMAGE_PATH_SIZE];
    char *url; /* NULL: the content is there already */
    bool expects;
    bool is_part;  /* of its digest there may be no second one meanwhile */
    bool keep_bad; /* a part: a wrong digest removes it, other faults keep it */
    struct digest expected;
    int fd;
    /* results */
    int code;
    struct digest digest;
    uint64_t size_bytes;
    char text[256];
    image_done *done;
    void *context;
};

static void work_fault(struct work *work, int code, const char *what)
{
    work->code = code == -ENOSPC || code == -EDQUOT ? BERTH_EDISKFULL : code;
    (void)snprintf(work->text, sizeof(work->text), "%s: %s", what,
                   err_sentence(work->code));
}

static int hash_file(struct work *work)
{
    CLEANUP_FREE uint8_t *buffer = malloc(HASH_BUFFER);
    struct digest_stream stream;
    ssize_t size;
    if (buffer == NULL || lseek(work->fd, 0, SEEK_SET) < 0) {
        return -ENOMEM;
    }
    digest_start(&stream);
    work->size_bytes = 0;
    while ((size = fd_read_full(work->fd, buffer, HASH_BUFFER)) > 0) {
        digest_update(&stream, buffer, (size_t)size);
        work->size_bytes += (uint64_t)size;
    }
    digest_finish(&stream, &work->digest);
    return size < 0 ? (int)size : 0;
}

static int folder_sync(const char *path)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, NULL);
    if (fd < 0) {
        return fd;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

static size_t fetch_write(char *data, size_t one, size_t count, void *context)
{
    struct work *work = context;
    work->code = fd_write_full(work->fd, data, one * count);
    return work->code == 0 ? one * count : 0;
}

/* Runs on the pool; curl's own state is local to it. */
static int fetch(struct work *work)
{
    char problem[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        return -ENOMEM;
    }
    curl_easy_setopt(curl, CURLOPT_URL, work->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, FETCH_REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)IMAGE_FETCH_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, FETCH_SLOW_BYTES_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, FETCH_SLOW_S);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, fetch_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, work);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (code == CURLE_OK) {
        return 0;
    }
    if (work->code < 0) { /* our disk, not the server */
        work_fault(work, work->code, "fetch");
        return work->code;
    }
    work->code = status == 404 ? BERTH_ENOTFOUND : BERTH_EUNREACHABLE;
    (void)snprintf(work->text, sizeof(work->text), "fetch %.100s: %.120s", work->url,
                   problem[0] != '\0' ? problem : curl_easy_strerror(code));
    return work->code;
}

static void work_run(uv_work_t *request)
{
    struct work *work = request->data;
    if (work->url != NULL && fetch(work) < 0) {
        if (work->code == 0) {
            work_fault(work, -ENOMEM, "fetch");
        }
        return;
    }
    int r = hash_file(work);
    if (r < 0) {
        work_fault(work, r, "read back");
        return;
    }
    if (work->expects && !digest_equal(&work->digest, &work->expected)) {
        char got[DIGEST_HEX_SIZE];
        char wanted[DIGEST_HEX_SIZE];
        digest_format(&work->digest, got);
        digest_format(&work->expected, wanted);
        work->code = BERTH_ECORRUPT;
        work->keep_bad = false;
        (void)snprintf(work->text, sizeof(work->text),
                       "the content's SHA-256 is %.64s, not %.64s", got, wanted);
        return;
    }
    char hex[DIGEST_HEX_SIZE];
    char path[IMAGE_PATH_SIZE + DIGEST_HEX_SIZE + 1];
    digest_format(&work->digest, hex);
    (void)snprintf(path, sizeof(path), "%s/%s", work->final_folder, hex);
    if (fchmod(work->fd, 0400) < 0 || fsync(work->fd) < 0 ||
        rename(work->tmp_path, path) < 0) {
        work_fault(work, -errno, "keep the file");
        return;
    }
    r = folder_sync(work->final_folder);
    if (r < 0) {
        work_fault(work, r, "keep the file");
    }
}

static void work_finished(uv_work_t *request, int status)
{
    struct work *work = request->data;
    struct image_store *store = work->store;
    fd_close(&work->fd);
    if (status == UV_ECANCELED) {
        work->code = BERTH_ECLOSED;
    }
    if (work->code < 0 && !work->keep_bad) {
        (void)unlink(work->tmp_path); /* gone already, or removed at the next start */
    }
    if (store != NULL) {
        list_remove(&work->link);
        if (work->code == 0) {
            work->code = enter(store, &work->digest, work->size_bytes);
        }
        if (work->done != NULL) {
            bool named = work->code < 0 && work->expects;
            work->done(work->context, work->code, named ? &work->expected : &work->digest,
                       work->size_bytes,
                       work->code < 0 && work->text[0] == '\0' ? err_sentence(work->code)
                                                               : work->text);
        }
    }
    free(work->url);
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
        work->fd = -1;
        work->done = done;
        work->context = context;
        work->request.data = work;
        work->expects = expected != NULL && !digest_is_zero(expected);
        if (work->expects) {
            work->expected = *expected;
        }
        (void)snprintf(work->final_folder, sizeof(work->final_folder), "%s",
                       store->folder);
    }
    return work;
}

static void work_queue(struct work *work)
{
    list_push_back(&work->store->works, &work->link);
    int r = uv_queue_work(work->store->loop, &work->request, work_run, work_finished);
    REQUIRE(r == 0); /* fails only without a work function */
}

static int
tmp_open(struct image_store *store, char *ret_path, size_t size, struct err *err)
{
    uint64_t number = 0;
    random_secret(&number, sizeof(number));
    (void)snprintf(ret_path, size, "%s/tmp/%016llx", store->folder,
                   (unsigned long long)number);
    return fd_open_at(AT_FDCWD, ret_path, O_RDWR | O_CREAT | O_EXCL, 0600, err);
}

/* ---- uploads
 * ----------------------------------------------------------------------------------------
 */

struct image_writer {
    struct image_store *store;
    struct work *work;
};

struct image_writer *image_writer_begin(struct image_store *store,
                                        const struct digest *expected,
                                        struct err *err)
{
    struct image_writer *writer = NULL;
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
    work->fd = tmp_open(store, work->tmp_path, sizeof(work->tmp_path), err);
    if (work->fd < 0) {
        free(writer);
        free(work);
        return NULL;
    }
    *writer = (struct image_writer){.store = store, .work = work};
    store->writer_count++;
    return writer;
}

int image_writer_write(struct image_writer *writer,
                       const void *data,
                       size_t size,
                       struct err *err)
{
    int r = fd_write_full(writer->work->fd, data, size);
    if (r == -ENOSPC || r == -EDQUOT) {
        return err_set(err, BERTH_EDISKFULL, "the disk of the image store is full");
    }
    return r < 0 ? err_sys(err, r, "write to the image store") : 0;
}

void image_writer_end(struct image_writer *writer, image_done *done, void *context)
{
    writer->work->done = done;
    writer->work->context = context;
    writer->store->writer_count--;
    work_queue(writer->work);
    free(writer);
}

void image_writer_abort(struct image_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    fd_close(&writer->work->fd);
    (void)unlink(writer->work->tmp_path); /* else removed at the next start */
    writer->store->writer_count--;
    free(writer->work);
    free(writer);
}

/* ---- fetching
 * ---------------------------------------------------------------------------------------
 */

static void fail_later_run(uv_work_t *request)
{
    (void)request; /* the fault is known already */
}

void image_store_fetch(struct image_store *store,
                       const char *url,
                       const struct digest *expected,
                       image_done *done,
                       void *context)
{
    struct err err = {0};
    struct work *work = work_new(store, expected, done, context);
    REQUIRE(work !=
            NULL); /* an answer that never comes would hang its client without a word */
    work->url = strdup(url);
    work->fd = tmp_open(store, work->tmp_path, sizeof(work->tmp_path), &err);
    if (work->url == NULL || work->fd < 0 || !work->expects) {
        work->code = work->fd < 0 ? work->fd : BERTH_EINVALID;
        (void)snprintf(work->text, sizeof(work->text), "%.200s",
                       work->fd < 0 ? err.text
                                    : "a URL needs the SHA-256 of its content");
        list_push_back(&store->works, &work->link);
        (void)uv_queue_work(store->loop, &work->request, fail_later_run, work_finished);
        return;
    }
    work_queue(work);
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
};

/* Being written, or being hashed: both hold the file. */
static bool part_is_open(const struct image_store *store, const struct digest *digest)
{
    LIST_EACH (item, &store->parts) {
        if (digest_equal(&LIST_ITEM(item, struct image_part, link)->work->expected,
                         digest)) {
            return true;
        }
    }
    LIST_EACH (item, &store->works) {
        const struct work *work = LIST_ITEM(item, struct work, link);
        if (work->is_part && digest_equal(&work->expected, digest)) {
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
    (void)snprintf(work->tmp_path, sizeof(work->tmp_path), "%s/tmp/%s" PART_SUFFIX,
                   store->folder, hex);
    work->is_part = true;
    work->keep_bad = true;
    work->fd = fd_open_at(AT_FDCWD, work->tmp_path, O_RDWR | O_CREAT, 0600, err);
    if (work->fd >= 0 && fstat(work->fd, &info) < 0) {
        (void)err_sys(err, -errno, "look at %s", work->tmp_path);
        fd_close(&work->fd);
    }
    if (work->fd < 0) {
        free(part);
        free(work);
        return NULL;
    }
    if ((uint64_t)info.st_size > size_bytes) { /* not a beginning of this file */
        info.st_size = 0;
        if (ftruncate(work->fd, 0) < 0) {
            (void)err_sys(err, -errno, "empty %s", work->tmp_path);
            fd_close(&work->fd);
            free(part);
            free(work);
            return NULL;
        }
    }
    (void)lseek(work->fd, 0, SEEK_END); /* cannot fail on a regular file */
    part->store = store;
    part->work = work;
    part->offset = (uint64_t)info.st_size;
    part->size_bytes = size_bytes;
    list_push_back(&store->parts, &part->link);
    *ret_offset = (uint64_t)info.st_size;
    return part;
}

void image_part_told_size(struct image_part *part, uint64_t size_bytes)
{
    REQUIRE(part->size_bytes == 0 && part->offset == 0);
    part->size_bytes = size_bytes;
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
    int r = fd_write_full(part->work->fd, data, size);
    if (r == -ENOSPC || r == -EDQUOT) {
        return err_set(err, BERTH_EDISKFULL, "the disk of the image store is full");
    }
    if (r < 0) {
        return err_sys(err, r, "write to the image store");
    }
    part->offset += size;
    return 0;
}

void image_part_end(struct image_part *part, image_done *done, void *context)
{
    part->work->done = done;
    part->work->context = context;
    list_remove(&part->link);
    work_queue(part->work);
    free(part);
}

void image_part_close(struct image_part *part)
{
    if (part == NULL) {
        return;
    }
    list_remove(&part->link);
    fd_close(&part->work->fd);
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
            (void)uv_cancel((uv_req_t *)&work->request); /* too late is fine */
        }
    }
    free(store->kept);
    free(store->folder);
    free(store);
    return NULL;
}
