#include "agent/image_store_internal.h"
#include "base/require.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void fetched(struct work_job *job, int code);

/* The thread cannot evict: once, that is done for it here, when the server told how much
 * comes. */
static bool fetch_again(struct store_work *work)
{
    struct image_work *file = &work->file;
    struct image_store *store = work->store;
    uint64_t needs = file->needs_bytes;
    file->needs_bytes = 0;
    if (store == NULL || file->code != BERTH_EDISKFULL || needs == 0 || work->was_again ||
        image_store_room(store, needs, store->promised_bytes, NULL) < 0) {
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
    struct store_work *work = store_work_of(job);
    work->file.code = work->file.code < 0 ? work->file.code : code;
    if (fetch_again(work)) {
        return;
    }
    if (work->store != NULL) {
        work->store->fetch_count--;
    }
    if (work->store == NULL || work->file.code < 0) {
        store_work_finished(job, work->file.code);
    } else {
        store_work_name(work);
    }
}

/* 0, or why it cannot begin, with text in the work. */
static int fetch_begin(struct store_work *work, const char *url)
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
        work->file.fd = store_work_tmp_open(store, work->file.tmp_path, &err);
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
    struct store_work *work = store_work_new(store, expected, done, context);
    REQUIRE(work !=
            NULL); /* an answer that never comes would hang its client without a word */
    int r = fetch_begin(work, url);
    list_push_back(&store->works, &work->link);
    if (r < 0) {
        work_pool_tell(store->fetching, &work->file.job, r, store_work_finished);
        return;
    }
    store->fetch_count++;
    work_pool_submit(store->fetching, &work->file.job, image_work_fetch, fetched);
}
