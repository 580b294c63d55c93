/* What a start of berthd need not check: what was checked in this boot of the machine. */
#include "agent/image_store_internal.h"
#include "base/log.h"

#include <stdlib.h>

static void list_begin(struct image_store *store);

static void list_run(struct work_job *job)
{
    struct image_store *store = LIST_ITEM(job, struct image_store, list_job);
    store->list_code = checked_list_write(store->folder, store->boot, store->list_files,
                                          store->list_count);
}

static void list_over(struct work_job *job, int code)
{
    struct image_store *store = LIST_ITEM(job, struct image_store, list_job);
    store->list_running = false;
    code = code < 0 ? code : store->list_code;
    if (code < 0 && !store->list_failed) {
        log_warn("images", "what was checked cannot be noted: a restart checks it again",
                 KV_STR("why", err_sentence(code)));
    }
    store->list_failed = code < 0;
    if (store->list_stale) {
        list_begin(store);
    }
}

static void list_fill(struct image_store *store)
{
    store->list_count = 0;
    for (unsigned i = 0; i < store->file_count; i++) {
        const struct stored *stored = &store->files[i];
        if (!stored->file.unchecked && stored->identity.ino != 0) {
            store->list_files[store->list_count++] =
                (struct checked_file){.digest = stored->file.digest,
                                      .file = stored->identity,
                                      .unpacked = stored->unpacked};
        }
    }
}

/* One writes at a time; what changes meanwhile is written once after it. */
static void list_begin(struct image_store *store)
{
    store->list_stale = false;
    store->list_running = true;
    list_fill(store);
    work_pool_submit(store->listing, &store->list_job, list_run, list_over);
}

void image_store_trust_stale(struct image_store *store)
{
    store->list_stale = true;
    if (!store->list_running) {
        list_begin(store);
    }
}

void image_store_trust(const struct image_store *store,
                       const struct checked_file *list,
                       unsigned count,
                       struct stored *stored)
{
    char path[IMAGE_PATH_SIZE];
    image_store_file_path(store, &stored->file.digest, path);
    const struct file_identity file = file_identity_at(path);
    image_store_unpacked_path(store, &stored->file.digest, path);
    const struct file_identity unpacked = file_identity_at(path);
    for (unsigned i = 0; i < count; i++) {
        if (digest_equal(&list[i].digest, &stored->file.digest) &&
            file_identity_equal(&list[i].file, &file) &&
            file_identity_equal(&list[i].unpacked, &unpacked)) {
            stored->file.unchecked = false;
            stored->identity = file;
            stored->unpacked = unpacked;
        }
    }
}

void image_store_trust_vouch(struct image_store *store,
                             struct stored *stored,
                             const struct file_identity *identity)
{
    char path[IMAGE_PATH_SIZE];
    image_store_unpacked_path(store, &stored->file.digest, path);
    stored->file.unchecked = false;
    stored->identity = *identity;
    stored->unpacked = file_identity_at(path);
    stored->unpacked_bytes = stored->unpacked.size_bytes;
    image_store_trust_stale(store);
}
