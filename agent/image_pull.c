#include "agent/image_pull.h"

#include "agent/image_part.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/work_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS        250
#define TICK_SLACK_MS  50 /* the loop is awake while chunks arrive */
#define BACKOFF_MS     1000
#define BACKOFF_MAX_MS 30000
#define NOT_YET_MAX_MS 5000
#define WANTED_MAX     256 /* as many as orders can name */
#define SERVING_MAX    64  /* reads under way, all askers together */

/* One blob that should be here and is not. */
struct wanted {
    struct msg_blob blob;
    struct image_part *part; /* NULL: not being pulled now */
    bool ending;             /* being verified */
    uint64_t offset;         /* next byte to write */
    uint64_t asked;          /* next byte to ask for */
    uint64_t heard_ms;
    uint64_t again_ms;
    uint64_t backoff_ms;
    char reason[128];
};

struct image_pull {
    const struct clock *clock;
    struct image_store *store;
    struct link *link;
    struct random random;
    struct loop_timer *tick;
    struct wanted wanted[WANTED_MAX];
    unsigned wanted_count;
    unsigned pulling;
    uint64_t bytes_total;
    struct work_pool *reading; /* one thread: chunks go out in the order asked */
    struct list serving;       /* given to it */
    unsigned serving_count;
};

/* ---- pulling
 * ----------------------------------------------------------------------------------------
 */

static struct wanted *wanted_of(struct image_pull *pull, const struct digest *digest)
{
    for (unsigned i = 0; i < pull->wanted_count; i++) {
        if (digest_equal(&pull->wanted[i].blob.sha256, digest)) {
            return &pull->wanted[i];
        }
    }
    return NULL;
}

/* No fault, and no news for the log: it is asked again soon. */
static const char looks_first[] = "the host that has it looks first whether it is whole";

static void rest(struct image_pull *pull, struct wanted *wanted, const char *why)
{
    if (wanted->part != NULL) {
        image_part_close(wanted->part); /* what has arrived is kept */
        wanted->part = NULL;
        pull->pulling--;
    }
    if (why != looks_first && strcmp(wanted->reason, why) != 0) {
        char hex[DIGEST_HEX_SIZE];
        digest_format(&wanted->blob.sha256, hex);
        log_warn("images", "pull is tried again later", KV_STR("sha256", hex),
                 KV_STR("why", why));
    }
    (void)snprintf(wanted->reason, sizeof(wanted->reason), "%s", why);
    wanted->backoff_ms = wanted->backoff_ms == 0 ? BACKOFF_MS : wanted->backoff_ms * 2;
    wanted->backoff_ms =
        wanted->backoff_ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : wanted->backoff_ms;
    wanted->again_ms = clock_now_ms(pull->clock) + wanted->backoff_ms / 2 +
                       random_below(&pull->random, wanted->backoff_ms);
}

/* Keeps the window full. Chunks arrive in order, since the mesh keeps the order of a
 * peer. */
static void ask_more(struct image_pull *pull, struct wanted *wanted)
{
    if (wanted->blob.size_bytes == 0) { /* the first chunk tells */
        const struct msg_blob_ask ask = {
            .sha256 = wanted->blob.sha256, .offset = 0, .size = IMAGE_CHUNK_SIZE};
        (void)link_send(pull->link, wanted->blob.holder, MESSAGE_BLOB_ASK,
                        &ask); /* silence is noticed by the tick */
        return;
    }
    while (wanted->asked < wanted->blob.size_bytes &&
           wanted->asked <
               wanted->offset + (uint64_t)IMAGE_PULL_WINDOW * IMAGE_CHUNK_SIZE) {
        uint64_t left = wanted->blob.size_bytes - wanted->asked;
        const struct msg_blob_ask ask = {
            .sha256 = wanted->blob.sha256,
            .offset = wanted->asked,
            .size = (uint32_t)(left < IMAGE_CHUNK_SIZE ? left : IMAGE_CHUNK_SIZE)};
        int r = link_send(pull->link, wanted->blob.holder, MESSAGE_BLOB_ASK, &ask);
        if (r < 0) {
            return; /* silence is noticed by the tick */
        }
        wanted->asked += ask.size;
    }
}

static void pulled(void *context,
                   int code,
                   const struct digest *digest,
                   uint64_t size_bytes,
                   const char *text)
{
    struct image_pull *pull = context;
    struct wanted *wanted = wanted_of(pull, digest);
    char hex[DIGEST_HEX_SIZE];
    digest_format(digest, hex);
    pull->pulling--;
    if (code == 0) {
        log_info("images", "file was pulled", KV_STR("sha256", hex),
                 KV_U64("bytes", size_bytes));
        if (wanted != NULL) {
            *wanted = pull->wanted[--pull->wanted_count];
        }
        return;
    }
    if (wanted != NULL) {
        wanted->ending = false;
        rest(pull, wanted, text);
    }
}

static void finish(struct image_pull *pull, struct wanted *wanted)
{
    struct image_part *part = wanted->part;
    wanted->part = NULL;
    wanted->ending = true;
    image_part_end(part, pulled, pull);
}

static void begin(struct image_pull *pull, struct wanted *wanted)
{
    struct err err;
    uint64_t offset = 0;
    wanted->part = image_part_open(pull->store, &wanted->blob.sha256,
                                   wanted->blob.size_bytes, &offset, &err);
    if (wanted->part == NULL) {
        rest(pull, wanted, err.text);
        return;
    }
    pull->pulling++;
    wanted->offset = offset;
    wanted->asked = offset;
    wanted->heard_ms = clock_now_ms(pull->clock);
    wanted->reason[0] = '\0';
    if (offset == wanted->blob.size_bytes && offset > 0) {
        finish(pull, wanted);
    } else {
        ask_more(pull, wanted);
    }
}

void image_pull_on_chunk(struct image_pull *pull,
                         const struct msg_member *from,
                         const struct msg_blob_chunk *chunk)
{
    struct wanted *wanted = wanted_of(pull, &chunk->sha256);
    struct err err;
    if (wanted == NULL || wanted->part == NULL || from->uid != wanted->blob.holder) {
        return;
    }
    if (wanted->blob.size_bytes == 0 && chunk->total > 0) {
        wanted->blob.size_bytes = chunk->total;
        if (image_part_told_size(wanted->part, chunk->total, &err) < 0) {
            rest(pull, wanted, err.text);
            return;
        }
        wanted->asked = wanted->offset + chunk->data.size;
    }
    if (chunk->total != wanted->blob.size_bytes || chunk->total == 0) {
        rest(pull, wanted, "the host that should have it does not");
        return;
    }
    if (chunk->offset == wanted->offset && chunk->data.size == 0) {
        if (wanted->backoff_ms > NOT_YET_MAX_MS / 2) { /* it will not be long */
            wanted->backoff_ms = NOT_YET_MAX_MS / 2;
        }
        rest(pull, wanted, looks_first);
        return;
    }
    if (chunk->offset != wanted->offset) {
        return; /* doubled, or after a loss: asked again from where we are */
    }
    int r = image_part_write(wanted->part, chunk->data.data, chunk->data.size, &err);
    if (r < 0) {
        rest(pull, wanted, err.text);
        return;
    }
    wanted->offset += chunk->data.size;
    wanted->heard_ms = clock_now_ms(pull->clock);
    wanted->backoff_ms = 0;
    pull->bytes_total += chunk->data.size;
    if (wanted->offset >= wanted->blob.size_bytes) {
        finish(pull, wanted);
    } else {
        ask_more(pull, wanted);
    }
}

/* Only while something is wanted: a host that has all its images does not wake for them.
 */
static void tick_soon(struct image_pull *pull, uint64_t wait_ms)
{
    if (pull->wanted_count > 0) {
        loop_timer_again(pull->tick, wait_ms, 0);
    }
}

static void on_tick(void *context)
{
    struct image_pull *pull = context;
    uint64_t now_ms = clock_now_ms(pull->clock);
    for (unsigned i = 0; i < pull->wanted_count; i++) {
        struct wanted *wanted = &pull->wanted[i];
        if (wanted->part != NULL && now_ms - wanted->heard_ms >= IMAGE_PULL_SILENCE_MS) {
            rest(pull, wanted, "the host that has it is silent");
        } else if (wanted->part != NULL && now_ms - wanted->heard_ms >= TICK_MS) {
            wanted->asked = wanted->offset; /* asks or chunks were lost or had no room */
            ask_more(pull, wanted);
        } else if (wanted->part == NULL && !wanted->ending && wanted->blob.holder != 0 &&
                   now_ms >= wanted->again_ms && pull->pulling < IMAGE_PULLS_MAX) {
            begin(pull, wanted);
        }
    }
    tick_soon(pull, TICK_MS);
}

static void want_one(struct image_pull *pull, const struct msg_blob *blob)
{
    struct wanted *wanted = wanted_of(pull, &blob->sha256);
    if (image_store_has(pull->store, &blob->sha256, NULL)) {
        return;
    }
    if (wanted != NULL && wanted->part == NULL) {
        if (wanted->blob.holder !=
            blob->holder) { /* it was the other who did not answer */
            wanted->backoff_ms = wanted->again_ms = 0;
        }
        wanted->blob = *blob;
    } else if (wanted == NULL && pull->wanted_count < WANTED_MAX) {
        pull->wanted[pull->wanted_count++] = (struct wanted){.blob = *blob};
    }
}

void image_pull_want(struct image_pull *pull, const struct msg_blob_list *blobs)
{
    for (unsigned i = 0; i < pull->wanted_count;) {
        struct wanted *wanted = &pull->wanted[i];
        bool still = false;
        for (uint32_t k = 0; k < blobs->count; k++) {
            still = still || digest_equal(&blobs->items[k].sha256, &wanted->blob.sha256);
        }
        if (still || wanted->ending) {
            i++;
            continue;
        }
        if (wanted->part != NULL) {
            image_part_close(wanted->part);
            pull->pulling--;
        }
        *wanted = pull->wanted[--pull->wanted_count];
    }
    for (uint32_t k = 0; k < blobs->count; k++) {
        want_one(pull, &blobs->items[k]);
    }
    tick_soon(pull, 1);
}

void image_pull_mend(struct image_pull *pull, const struct msg_blob_list *blobs)
{
    const unsigned before = pull->wanted_count;
    for (uint32_t k = 0; k < blobs->count; k++) {
        if (image_store_lost(pull->store, &blobs->items[k].sha256) &&
            wanted_of(pull, &blobs->items[k].sha256) == NULL) {
            want_one(pull, &blobs->items[k]);
        }
    }
    if (pull->wanted_count != before) {
        tick_soon(pull, 1);
    }
}

const char *image_pull_reason(struct image_pull *pull, const struct digest *digest)
{
    struct wanted *wanted = wanted_of(pull, digest);
    if (wanted == NULL) {
        return NULL;
    }
    if (wanted->part != NULL && wanted->blob.size_bytes > 0) {
        (void)snprintf(
            wanted->reason, sizeof(wanted->reason), "pulling the image, %llu %%",
            (unsigned long long)(wanted->offset * 100 / wanted->blob.size_bytes));
    } else if (wanted->blob.holder == 0) {
        (void)snprintf(wanted->reason, sizeof(wanted->reason),
                       "no host is known to hold the image");
    }
    return wanted->reason;
}

uint64_t image_pull_bytes_total(const struct image_pull *pull)
{
    return pull->bytes_total;
}

/* ---- serving
 * ----------------------------------------------------------------------------------------
 */

struct serving {
    struct list link;
    struct image_pull *pull; /* NULL: closed meanwhile */
    uint64_t asker;
    struct work_job job;
    char path[IMAGE_PATH_SIZE];
    struct msg_blob_chunk chunk;
    uint32_t wanted_size;
};

static void serving_free(struct serving *serving)
{
    free(serving->chunk.data.data);
    free(serving);
    heap_freed(); /* the mesh's copies of chunks will be, too: many are on their way */
}

static struct serving *serving_of(struct work_job *job)
{
    return LIST_ITEM(job, struct serving, job);
}

static void serve_read(struct work_job *job)
{
    struct serving *serving = serving_of(job);
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, serving->path, O_RDONLY, 0, NULL);
    ssize_t size = fd < 0 ? -1
                          : pread(fd, serving->chunk.data.data, serving->wanted_size,
                                  (off_t)serving->chunk.offset);
    serving->chunk.data.size = size > 0 ? (uint32_t)size : 0;
}

static void serve_send(struct work_job *job, int code)
{
    struct serving *serving = serving_of(job);
    struct image_pull *pull = serving->pull;
    if (pull != NULL) {
        list_remove(&serving->link);
        pull->serving_count--;
        if (code == 0 && serving->chunk.data.size > 0) {
            (void)link_send(pull->link, serving->asker, MESSAGE_BLOB_CHUNK,
                            &serving->chunk); /* no room: it is asked again */
        }
    }
    serving_free(serving);
}

static void
refuse(struct image_pull *pull, uint64_t asker, const struct msg_blob_ask *ask)
{
    const struct msg_blob_chunk chunk = {.sha256 = ask->sha256, .offset = ask->offset};
    (void)link_send(pull->link, asker, MESSAGE_BLOB_CHUNK, &chunk); /* it asks again */
}

/* Of the right size, without content: an asker of before takes it for nothing. */
static void not_yet(struct image_pull *pull,
                    uint64_t asker,
                    const struct msg_blob_ask *ask,
                    uint64_t total)
{
    const struct msg_blob_chunk chunk = {
        .sha256 = ask->sha256, .offset = ask->offset, .total = total};
    (void)link_send(pull->link, asker, MESSAGE_BLOB_CHUNK, &chunk); /* it asks again */
}

void image_pull_on_ask(struct image_pull *pull,
                       const struct msg_member *from,
                       const struct msg_blob_ask *ask)
{
    char path[IMAGE_PATH_SIZE];
    uint64_t total = 0;
    unsigned mine = 0;
    if (!image_store_has(pull->store, &ask->sha256, &total) || ask->offset >= total) {
        refuse(pull, from->uid, ask);
        return;
    }
    if (!image_store_path(pull->store, &ask->sha256, path)) {
        not_yet(pull, from->uid, ask, total);
        return;
    }
    LIST_EACH (item, &pull->serving) {
        mine += LIST_ITEM(item, struct serving, link)->asker == from->uid ? 1U : 0U;
    }
    if (mine >= IMAGE_SERVE_MAX || pull->serving_count >= SERVING_MAX) {
        return; /* asked again */
    }
    struct serving *serving = calloc(1, sizeof(*serving));
    uint32_t size = ask->size < IMAGE_CHUNK_SIZE ? ask->size : IMAGE_CHUNK_SIZE;
    if (serving == NULL || size == 0 ||
        (serving->chunk.data.data = malloc(size)) == NULL) {
        free(serving);
        return; /* asked again */
    }
    memcpy(serving->path, path, sizeof(path));
    serving->pull = pull;
    serving->asker = from->uid;
    serving->wanted_size = size;
    serving->chunk.sha256 = ask->sha256;
    serving->chunk.offset = ask->offset;
    serving->chunk.total = total;
    list_push_back(&pull->serving, &serving->link);
    pull->serving_count++;
    work_pool_submit(pull->reading, &serving->job, serve_read, serve_send);
}

/* ---- life
 * -------------------------------------------------------------------------------------------
 */

struct image_pull *image_pull_new(uv_loop_t *loop,
                                  const struct clock *clock,
                                  struct image_store *store,
                                  struct link *link)
{
    struct image_pull *pull = calloc(1, sizeof(*pull));
    uint64_t seed = 0;
    if (pull == NULL) {
        return NULL;
    }
    random_secret(&seed, sizeof(seed));
    random_seed(&pull->random, seed);
    pull->clock = clock;
    pull->store = store;
    pull->link = link;
    list_init(&pull->serving);
    pull->tick = loop_timer_new(loop, TICK_MS, 0, on_tick, pull);
    pull->reading = work_pool_new(loop, 1, SERVING_MAX);
    if (pull->tick == NULL || pull->reading == NULL) {
        return image_pull_free(pull);
    }
    loop_timer_slacken(pull->tick, TICK_SLACK_MS);
    return pull;
}

struct image_pull *image_pull_free(struct image_pull *pull)
{
    if (pull == NULL) {
        return NULL;
    }
    loop_timer_close(pull->tick);
    for (unsigned i = 0; i < pull->wanted_count; i++) {
        image_part_close(pull->wanted[i].part);
    }
    LIST_EACH_SAFE (item, &pull->serving) {
        list_remove(item);
        LIST_ITEM(item, struct serving, link)->pull = NULL; /* it frees itself */
    }
    work_pool_close(pull->reading);
    free(pull);
    return NULL;
}
