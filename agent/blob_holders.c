#include "agent/blob_holders.h"

#include "base/u64_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct holder {
    uint64_t host;
    bool unchecked; /* it looks first whether it is still whole */
};

/* Holders of one content. */
struct content {
    struct content *next; /* another digest that begins alike */
    struct digest sha256;
    struct holder *hosts; /* rising */
    uint32_t count;
    uint32_t capacity;
};

/* What one host holds. */
struct store {
    struct msg_blob *blobs;
    uint32_t count;
};

struct blob_holders {
    struct u64_map *contents; /* first bytes of the digest -> struct content */
    struct u64_map *stores;   /* host -> struct store */
};

static uint64_t key_of(const struct digest *sha256)
{
    uint64_t key;
    memcpy(&key, sha256->bytes, sizeof(key));
    return key != 0 ? key : 1;
}

static struct content *content_find(const struct blob_holders *holders,
                                    const struct digest *sha256)
{
    struct content *content = u64_map_get(holders->contents, key_of(sha256));
    while (content != NULL && !digest_equal(&content->sha256, sha256)) {
        content = content->next;
    }
    return content;
}

static struct content *content_free(struct content *content)
{
    free(content->hosts);
    free(content);
    return NULL;
}

static struct content *content_make(struct blob_holders *holders,
                                    const struct digest *sha256)
{
    uint64_t key = key_of(sha256);
    struct content *content = calloc(1, sizeof(*content));
    if (content == NULL) {
        return NULL;
    }
    content->sha256 = *sha256;
    content->next = u64_map_get(holders->contents, key);
    return u64_map_put(holders->contents, key, content) == 0 ? content
                                                             : content_free(content);
}

/* Where the host is in the list, or belongs. */
static uint32_t position_of(const struct content *content, uint64_t host)
{
    uint32_t low = 0;
    uint32_t high = content->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (content->hosts[middle].host < host) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int
holder_add(struct blob_holders *holders, const struct msg_blob *blob, uint64_t host)
{
    const struct digest *sha256 = &blob->sha256;
    struct content *content = content_find(holders, sha256);
    content = content != NULL ? content : content_make(holders, sha256);
    if (content == NULL) {
        return -ENOMEM;
    }
    uint32_t at = position_of(content, host);
    if (at < content->count && content->hosts[at].host == host) {
        return 0; /* it named the content twice */
    }
    if (content->count == content->capacity) {
        uint32_t capacity = content->capacity == 0 ? 4 : 2 * content->capacity;
        struct holder *grown = reallocarray(content->hosts, capacity, sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        content->hosts = grown;
        content->capacity = capacity;
    }
    memmove(&content->hosts[at + 1], &content->hosts[at],
            (content->count - at) * sizeof(*content->hosts));
    content->hosts[at] = (struct holder){.host = host, .unchecked = blob->unchecked};
    content->count++;
    return 0;
}

/* Takes a content that nobody holds out of its chain. */
static void content_drop(struct blob_holders *holders, struct content *content)
{
    uint64_t key = key_of(&content->sha256);
    struct content *before = u64_map_get(holders->contents, key);
    if (before != content) {
        while (before->next != content) {
            before = before->next;
        }
        before->next = content->next;
    } else if (content->next != NULL) {
        (void)u64_map_put(holders->contents, key, content->next); /* the key is there */
    } else {
        (void)u64_map_remove(holders->contents, key);
    }
    (void)content_free(content);
}

static void
holder_remove(struct blob_holders *holders, const struct digest *sha256, uint64_t host)
{
    struct content *content = content_find(holders, sha256);
    uint32_t at = content != NULL ? position_of(content, host) : 0;
    if (content == NULL || at == content->count || content->hosts[at].host != host) {
        return;
    }
    content->count--;
    memmove(&content->hosts[at], &content->hosts[at + 1],
            (content->count - at) * sizeof(*content->hosts));
    if (content->count == 0) {
        content_drop(holders, content);
    }
}

static struct store *store_free(struct store *store)
{
    if (store != NULL) {
        free(store->blobs);
        free(store);
    }
    return NULL;
}

static void store_remove(struct blob_holders *holders, uint64_t host)
{
    struct store *store = u64_map_remove(holders->stores, host);
    for (uint32_t i = 0; store != NULL && i < store->count; i++) {
        holder_remove(holders, &store->blobs[i].sha256, host);
    }
    (void)store_free(store);
}

static int store_add(struct blob_holders *holders,
                     uint64_t host,
                     const struct msg_blob *blobs,
                     uint32_t count)
{
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return -ENOMEM;
    }
    store->blobs = calloc((size_t)count + 1, sizeof(*store->blobs));
    if (store->blobs == NULL || u64_map_put(holders->stores, host, store) < 0) {
        (void)store_free(store);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        store->blobs[store->count++] = blobs[i];
        if (holder_add(holders, &blobs[i], host) < 0) {
            store_remove(holders, host);
            return -ENOMEM;
        }
    }
    return 0;
}

static bool
store_is(const struct store *store, const struct msg_blob *blobs, uint32_t count)
{
    if (store == NULL || store->count != count) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!digest_equal(&store->blobs[i].sha256, &blobs[i].sha256) ||
            store->blobs[i].unchecked != blobs[i].unchecked) {
            return false;
        }
    }
    return true;
}

int blob_holders_set(struct blob_holders *holders,
                     uint64_t host,
                     const struct msg_blob *blobs,
                     uint32_t count)
{
    struct store *store = u64_map_get(holders->stores, host);
    if (store_is(store, blobs, count)) {
        return 0;
    }
    if (store == NULL && count == 0) {
        return 0;
    }
    store_remove(holders, host);
    int r = count > 0 ? store_add(holders, host, blobs, count) : 0;
    return r < 0 ? r : 1;
}

static void pair_fill(struct blob_holder_pair *pair,
                      const struct content *content,
                      bool unchecked,
                      blob_holders_reachable *reachable,
                      void *context)
{
    for (uint32_t i = 0; i < content->count && pair->second == 0; i++) {
        const struct holder *holder = &content->hosts[i];
        if (holder->unchecked != unchecked ||
            (reachable != NULL && !reachable(context, holder->host))) {
            continue;
        }
        if (pair->first == 0) {
            pair->first = holder->host;
        } else {
            pair->second = holder->host;
        }
    }
}

struct blob_holder_pair blob_holders_of(const struct blob_holders *holders,
                                        const struct digest *sha256,
                                        blob_holders_reachable *reachable,
                                        void *context)
{
    struct blob_holder_pair pair = {0};
    const struct content *content = content_find(holders, sha256);
    if (content != NULL) {
        pair_fill(&pair, content, false, reachable, context);
        pair_fill(&pair, content, true, reachable, context);
    }
    return pair;
}

bool blob_holders_has(const struct blob_holders *holders,
                      uint64_t host,
                      const struct digest *sha256)
{
    const struct content *content = content_find(holders, sha256);
    for (uint32_t i = 0; content != NULL && i < content->count; i++) {
        if (content->hosts[i].host == host) {
            return true;
        }
    }
    return false;
}

bool blob_holders_checks(const struct blob_holders *holders,
                         uint64_t host,
                         const struct digest *sha256)
{
    const struct content *content = content_find(holders, sha256);
    const uint32_t at = content != NULL ? position_of(content, host) : 0;
    return content != NULL && at < content->count && content->hosts[at].host == host &&
           content->hosts[at].unchecked;
}

struct blob_holders *blob_holders_new(void)
{
    struct blob_holders *holders = calloc(1, sizeof(*holders));
    if (holders == NULL) {
        return NULL;
    }
    holders->contents = u64_map_new();
    holders->stores = u64_map_new();
    return holders->contents != NULL && holders->stores != NULL
               ? holders
               : blob_holders_free(holders);
}

struct blob_holders *blob_holders_free(struct blob_holders *holders)
{
    size_t cursor = 0;
    uint64_t key;
    void *value;
    if (holders == NULL) {
        return NULL;
    }
    while (holders->stores != NULL &&
           u64_map_next(holders->stores, &cursor, &key, &value)) {
        (void)store_free(value);
    }
    cursor = 0;
    while (holders->contents != NULL &&
           u64_map_next(holders->contents, &cursor, &key, &value)) {
        struct content *content = value;
        while (content != NULL) {
            struct content *next = content->next;
            (void)content_free(content);
            content = next;
        }
    }
    u64_map_free(holders->contents);
    u64_map_free(holders->stores);
    free(holders);
    return NULL;
}
