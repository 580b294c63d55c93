#include "agent/image_writer.h"

#include "agent/image_store_internal.h"

#include <errno.h>
#include <stdlib.h>

struct image_writer {
    struct image_store *store;
    struct store_work *work;
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
    if (announced &&
        (image_store_size_check(store, size_bytes, err) < 0 ||
         image_store_room(store, size_bytes, store->promised_bytes, err) < 0)) {
        return NULL;
    }
    if (store->writer_count >= IMAGE_STORE_WRITERS_MAX) {
        (void)err_set(err, BERTH_EFULL, "%d uploads are under way already",
                      IMAGE_STORE_WRITERS_MAX);
        return NULL;
    }
    writer = calloc(1, sizeof(*writer));
    struct store_work *work = store_work_new(store, expected, NULL, NULL);
    if (writer == NULL || work == NULL) {
        (void)err_sys(err, -ENOMEM, "begin an upload");
        free(writer);
        free(work);
        return NULL;
    }
    work->is_writer = true;
    work->file.fd = store_work_tmp_open(store, work->file.tmp_path, err);
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
    int r = image_store_size_check(store, writer->written + size, err);
    return r < 0 ? r
                 : image_store_room(store, size,
                                    writer->announced ? 0 : store->promised_bytes, err);
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
    r = store_work_write(writer->work, data, size, err);
    if (r < 0) {
        return r;
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
    store_work_finish(writer->work);
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
