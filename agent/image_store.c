#include "agent/image_store.h"

#include "agent/disk_room.h"
#include "agent/image_store_internal.h"
#include "agent/kernel_unpack.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse_number.h"
#include "base/state_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOUCH_EVERY_MS 60000 /* a use is written down so often at most */
/* Slow servers hold threads for long, so fetches have their own, and what is here already
 * need not wait behind them to be checked. */
#define FETCH_THREADS  4
#define FINISH_THREADS 2
#define FINISH_QUEUE   64 /* more than the writers, fetches and pulls there may be */
/* Together half of the uploads that there may be; a kernel that finds no room boots as it
 * came. */
#define UNPACK_THREADS 2
#define UNPACK_QUEUE   6

/* ---- files ---- */

void image_store_file_path(const struct image_store *store,
                           const struct digest *digest,
                           char ret_path[IMAGE_PATH_SIZE])
{
    char hex[DIGEST_HEX_SIZE];
    digest_format(digest, hex);
    (void)snprintf(ret_path, IMAGE_PATH_SIZE, "%s/%s", store->folder, hex);
}

/* What was in a packed kernel. */
void image_store_unpacked_path(const struct image_store *store,
                               const struct digest *digest,
                               char ret_path[IMAGE_PATH_SIZE])
{
    char hex[DIGEST_HEX_SIZE];
    digest_format(digest, hex);
    (void)snprintf(ret_path, IMAGE_PATH_SIZE, "%s/" KERNEL_UNPACK_FOLDER "/%s",
                   store->folder, hex);
}

uint64_t image_store_unpacked_bytes(const struct image_store *store,
                                    const struct digest *digest)
{
    char path[IMAGE_PATH_SIZE];
    struct stat info;
    image_store_unpacked_path(store, digest, path);
    return lstat(path, &info) == 0 ? (uint64_t)info.st_size : 0; /* most have none */
}

struct stored *image_store_find(const struct image_store *store,
                                const struct digest *digest)
{
    for (unsigned i = 0; i < store->file_count; i++) {
        if (digest_equal(&store->files[i].file.digest, digest)) {
            return (struct stored *)(uintptr_t)&store->files[i];
        }
    }
    return NULL;
}

bool image_store_is_kept(const struct image_store *store, const struct digest *digest)
{
    for (unsigned i = 0; i < store->kept_count; i++) {
        if (digest_equal(&store->kept[i], digest)) {
            return true;
        }
    }
    return false;
}

void image_store_damaged_path(const struct image_store *store,
                              const struct digest *digest,
                              char ret_path[IMAGE_PATH_SIZE])
{
    char hex[DIGEST_HEX_SIZE];
    digest_format(digest, hex);
    (void)snprintf(ret_path, IMAGE_PATH_SIZE, "%s/%s" IMAGE_DAMAGED_SUFFIX, store->folder,
                   hex);
}

/* Their number in the list, or that of all. */
static unsigned lost_index(const struct image_store *store, const struct digest *digest)
{
    unsigned i = 0;
    while (i < store->lost_count && !digest_equal(&store->lost[i], digest)) {
        i++;
    }
    return i;
}

/* There are no more of them than files at the open, and no file is lost twice. */
void image_store_lose(struct image_store *store, const struct digest *digest)
{
    if (lost_index(store, digest) == store->lost_count &&
        store->lost_count < IMAGE_STORE_FILES_MAX) {
        store->lost[store->lost_count++] = *digest;
    }
}

static void lost_found(struct image_store *store, const struct digest *digest)
{
    const unsigned i = lost_index(store, digest);
    if (i < store->lost_count) {
        store->lost[i] = store->lost[--store->lost_count];
    }
}

void image_store_changed(struct image_store *store)
{
    if (store->changed != NULL) {
        store->changed(store->changed_context);
    }
}

void image_store_unlist(struct image_store *store, struct stored *stored)
{
    *stored =
        store->files[--store->file_count]; /* the list may name more than there is */
}

/* And what was in it. 0, or why the file itself is still there. */
static int files_unlink(const struct image_store *store, const struct digest *digest)
{
    char path[IMAGE_PATH_SIZE];
    image_store_file_path(store, digest, path);
    const int r = unlink(path) == 0 || errno == ENOENT ? 0 : -errno;
    image_store_unpacked_path(store, digest, path);
    (void)unlink(path); /* most have none; else the next start removes it */
    return r;
}

static void drop(struct image_store *store, struct stored *stored)
{
    char hex[DIGEST_HEX_SIZE];
    const int r = files_unlink(store, &stored->file.digest);
    digest_format(&stored->file.digest, hex);
    if (r < 0) {
        log_warn("images", "file cannot be removed", KV_STR("sha256", hex),
                 KV_STR("why", err_sentence(r)));
    }
    log_info("images", "file was evicted", KV_STR("sha256", hex),
             KV_U64("bytes", stored->file.size_bytes));
    image_store_unlist(store, stored);
}

/* The least recently used file that is not kept; NULL when all are. */
static struct stored *oldest(struct image_store *store)
{
    struct stored *found = NULL;
    for (unsigned i = 0; i < store->file_count; i++) {
        struct stored *stored = &store->files[i];
        if (!image_store_is_kept(store, &stored->file.digest) &&
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
        sum += store->files[i].file.size_bytes + store->files[i].unpacked_bytes;
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
        sum += image_store_is_kept(store, &file->digest)
                   ? 0
                   : file->size_bytes + store->files[i].unpacked_bytes;
    }
    return sum;
}

int image_store_room(struct image_store *store,
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
        image_store_changed(store);
    }
    format_bytes_human(size_bytes, need);
    format_bytes_human(room, have);
    format_bytes_human(store->limits.reserve_bytes, reserve);
    return err_set(err, BERTH_EDISKFULL,
                   "the disk of the image store is full: %s more are wanted, %s are left "
                   "beside the %s that are kept free",
                   need, have, reserve);
}

int image_store_size_check(const struct image_store *store,
                           uint64_t size_bytes,
                           struct err *err)
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
    if (stored->file.unchecked) {
        return; /* a thread looks whether anybody changes it */
    }
    if (stored->touched_ms != 0 && now_ms - stored->touched_ms < TOUCH_EVERY_MS) {
        return;
    }
    image_store_file_path(store, &stored->file.digest, path);
    const struct file_identity before = file_identity_at(path);
    (void)utimensat(AT_FDCWD, path, times,
                    AT_SYMLINK_NOFOLLOW); /* else it only looks older than it is */
    stored->touched_ms = now_ms;
    stored->identity = file_identity_equal(&before, &stored->identity)
                           ? file_identity_at(path)
                           : (struct file_identity){0}; /* somebody else has changed it */
    image_store_trust_stale(store);
}

int image_store_enter(struct image_store *store,
                      const struct digest *digest,
                      uint64_t size_bytes,
                      const struct file_identity *identity)
{
    struct stored *stored = image_store_find(store, digest);
    const uint64_t within = image_store_unpacked_bytes(store, digest);
    if (stored == NULL) {
        evict_for(store, size_bytes + within);
        if (store->file_count == IMAGE_STORE_FILES_MAX) {
            (void)files_unlink(store, digest); /* or it would lie there unlisted */
            return BERTH_EFULL;
        }
        stored = &store->files[store->file_count++];
        *stored = (struct stored){.file = {.digest = *digest}};
    }
    stored->file.size_bytes = size_bytes;
    lost_found(store, digest);
    image_store_trust_vouch(store, stored, identity);
    mark_used(store, stored);
    image_store_changed(store);
    return 0;
}

/* ---- opening ---- */

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

/* What was put aside may be whole: a disk that gave nothing back for a while, or of which
 * no other copy has come. It is looked at once more. */
static void damaged_entry(void *context, const char *name)
{
    const struct image_store *store = context;
    const size_t length = DIGEST_HEX_SIZE - 1;
    char hex[DIGEST_HEX_SIZE];
    char path[IMAGE_PATH_SIZE];
    char damaged[IMAGE_PATH_SIZE];
    struct digest digest;
    if (strlen(name) <= length || strcmp(name + length, IMAGE_DAMAGED_SUFFIX) != 0) {
        return;
    }
    memcpy(hex, name, length);
    hex[length] = '\0';
    if (digest_parse(hex, &digest) == 0) {
        image_store_file_path(store, &digest, path);
        image_store_damaged_path(store, &digest, damaged);
        (void)renameat2(AT_FDCWD, damaged, AT_FDCWD, path, RENAME_NOREPLACE);
    }
}

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
        .file = {.digest = digest,
                 .size_bytes = (uint64_t)info.st_size,
                 .unchecked = true},
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
    const int read = checked_list_read(store->folder, store->boot, store->list_files,
                                       IMAGE_STORE_FILES_MAX);
    const unsigned checked = read > 0 ? (unsigned)read : 0;
    if (read < 0) {
        log_warn("images", "the list of what was checked is damaged: all is checked");
    }
    if (list->count > 0) {
        qsort(list->items, list->count, sizeof(*list->items), by_use);
    }
    for (unsigned i = 0; i < list->count; i++) {
        if (store->file_count == IMAGE_STORE_FILES_MAX) {
            drop(store, oldest(store));
        }
        struct stored *stored = &store->files[store->file_count++];
        *stored = (struct stored){.file = list->items[i].file,
                                  .unpacked_bytes = image_store_unpacked_bytes(
                                      store, &list->items[i].file.digest),
                                  .used = ++store->use_clock};
        image_store_trust(store, store->list_files, checked, stored);
    }
}

/* Whose kernel is gone. */
static void unpacked_entry(void *context, const char *name)
{
    const struct image_store *store = context;
    struct digest digest;
    char path[IMAGE_PATH_SIZE];
    if (name[0] != '.' &&
        (digest_parse(name, &digest) != 0 || image_store_find(store, &digest) == NULL)) {
        (void)snprintf(path, sizeof(path), "%s/" KERNEL_UNPACK_FOLDER "/%s",
                       store->folder, name);
        (void)unlink(path); /* tried again at the next start */
    }
}

static void clean_entry(void *context, const char *name)
{
    const struct image_store *store = context;
    size_t size = strlen(name);
    char path[IMAGE_PATH_SIZE];
    bool part = size > strlen(IMAGE_PART_SUFFIX) &&
                strcmp(name + size - strlen(IMAGE_PART_SUFFIX), IMAGE_PART_SUFFIX) == 0;
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
    int r = scan(store->folder, damaged_entry, store, err);
    r = r < 0 ? r : scan(store->folder, load_entry, &list, err);
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
    CLEANUP_FREE char *unpacked = NULL;
    struct image_store *store = calloc(1, sizeof(*store));
    if (store == NULL || (store->folder = strdup(folder)) == NULL ||
        asprintf(&tmp, "%s/" STATE_FOLDER_IMAGES_TMP, folder) < 0 ||
        asprintf(&unpacked, "%s/" KERNEL_UNPACK_FOLDER, folder) < 0) {
        image_store_close(store);
        return err_sys(err, -ENOMEM, "open the image store");
    }
    store->loop = loop;
    store->limits = *limits;
    checked_list_boot(store->boot);
    list_init(&store->works);
    list_init(&store->parts);
    store->fetching = work_pool_new(loop, FETCH_THREADS, IMAGE_STORE_FETCHES_MAX);
    store->finishing = work_pool_new(loop, FINISH_THREADS, FINISH_QUEUE);
    store->checking = work_pool_new(loop, IMAGE_CHECK_THREADS, IMAGE_CHECK_THREADS);
    store->unpacking = work_pool_new(loop, UNPACK_THREADS, UNPACK_QUEUE);
    store->listing = work_pool_new(loop, 1, 1);
    if (store->fetching == NULL || store->finishing == NULL || store->checking == NULL ||
        store->unpacking == NULL || store->listing == NULL) {
        image_store_close(store);
        return err_sys(err, -ENOMEM, "open the image store");
    }
    int r = fd_make_folders(tmp, err);
    r = r < 0 ? r : fd_make_folders(unpacked, err);
    r = r < 0 ? r : load(store, err);
    r = r < 0 ? r : scan(unpacked, unpacked_entry, store, err);
    r = r < 0 ? r : scan(tmp, clean_entry, store, err);
    if (r < 0) {
        image_store_close(store);
        return r;
    }
    image_store_check(store);
    *ret_store = store;
    return 0;
}

/* ---- questions ---- */

bool image_store_has(const struct image_store *store,
                     const struct digest *digest,
                     uint64_t *ret_size_bytes)
{
    const struct stored *stored = image_store_find(store, digest);
    if (stored != NULL && ret_size_bytes != NULL) {
        *ret_size_bytes = stored->file.size_bytes;
    }
    return stored != NULL;
}

bool image_store_holds_whole(const struct image_store *store,
                             const struct digest *digest,
                             uint64_t *ret_size_bytes)
{
    const struct stored *stored = image_store_find(store, digest);
    return stored != NULL && !stored->file.unchecked &&
           image_store_has(store, digest, ret_size_bytes);
}

bool image_store_path(struct image_store *store,
                      const struct digest *digest,
                      char ret_path[IMAGE_PATH_SIZE])
{
    struct stored *stored = image_store_find(store, digest);
    if (stored == NULL) {
        return false;
    }
    mark_used(store, stored);
    if (stored->file.unchecked) {
        image_store_check_soon(store, stored);
        return false;
    }
    image_store_file_path(store, digest, ret_path);
    return true;
}

bool image_store_lost(const struct image_store *store, const struct digest *digest)
{
    return lost_index(store, digest) < store->lost_count;
}

bool image_store_remains(const struct image_store *store,
                         const struct digest *digest,
                         char ret_path[IMAGE_PATH_SIZE])
{
    image_store_damaged_path(store, digest, ret_path);
    return image_store_find(store, digest) == NULL && access(ret_path, F_OK) == 0;
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

void image_store_use_fetcher(struct image_store *store, const char *program)
{
    store->fetcher = program;
}

void image_store_use_unpacker(struct image_store *store, const char *program)
{
    store->unpacker = program;
}

/* ---- end ---- */

struct image_store *image_store_close(struct image_store *store)
{
    if (store == NULL) {
        return NULL;
    }
    if (store->works.next != NULL) {
        LIST_EACH_SAFE (item, &store->works) {
            struct store_work *work = LIST_ITEM(item, struct store_work, link);
            list_remove(item);
            work->store = NULL; /* it frees itself when the pool is through with it */
        }
    }
    work_pool_close(store->fetching);
    work_pool_close(store->finishing);
    work_pool_close(store->checking);
    work_pool_close(store->unpacking);
    if (store->listing != NULL) {
        work_pool_drain(store->listing); /* its last words, which begin others */
    }
    work_pool_close(store->listing);
    loop_timer_close(store->check_timer);
    free(store->kept);
    free(store->folder);
    free(store);
    return NULL;
}
