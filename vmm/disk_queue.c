#include "vmm/disk_queue.h"

#include "base/fd.h"
#include "base/require.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_BYTES (256u << 10) /* a copied-up block and two piece lists fit well */

struct request_list {
    struct disk_request *first;
    struct disk_request **end;
};

struct disk_queue {
    struct virtual_disk *disk;
    int event_fd;
    unsigned thread_count;
    pthread_t threads[DISK_QUEUE_THREADS_MAX];
    struct disk_queue_threads plan;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work;
    pthread_cond_t idle;  /* also: a worker has begun */
    unsigned begun_count; /* workers that have, or were refused */
    struct err refusal;   /* of one that was refused: code 0 if none */
    struct request_list waiting;
    struct request_list finished;
    unsigned busy; /* submitted and not finished */
    bool ending;
};

static void list_clear(struct request_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_put(struct request_list *list, struct disk_request *request)
{
    request->next = NULL;
    *list->end = request;
    list->end = &request->next;
}

static struct disk_request *list_take(struct request_list *list)
{
    struct disk_request *request = list->first;
    if (request != NULL) {
        list->first = request->next;
        if (list->first == NULL) {
            list->end = &list->first;
        }
    }
    return request;
}

/* ---- the operations ---- */

static int do_read(struct virtual_disk *disk, const struct disk_request *request)
{
    return disk_read(disk, request->range.offset, request->pieces, request->piece_count,
                     request->range.size);
}

static int do_write(struct virtual_disk *disk, const struct disk_request *request)
{
    return disk_write(disk, request->range.offset, request->pieces, request->piece_count,
                      request->range.size);
}

static int do_write_through(struct virtual_disk *disk, const struct disk_request *request)
{
    const int r = do_write(disk, request);
    return r < 0 ? r : disk_flush(disk);
}

static int do_flush(struct virtual_disk *disk, const struct disk_request *request)
{
    (void)request;
    return disk_flush(disk);
}

static int do_discard(struct virtual_disk *disk, const struct disk_request *request)
{
    return disk_discard(disk, request->range.offset, request->range.size);
}

static int do_zero(struct virtual_disk *disk, const struct disk_request *request)
{
    return disk_zero(disk, request->range.offset, request->range.size);
}

static int (*const operations[DISK_OPERATION_COUNT])(
    struct virtual_disk *disk,
    const struct disk_request *request) = {
    [DISK_READ] = do_read,
    [DISK_WRITE] = do_write,
    [DISK_WRITE_THROUGH] = do_write_through,
    [DISK_FLUSH] = do_flush,
    [DISK_DISCARD] = do_discard,
    [DISK_ZERO] = do_zero,
};

/* ---- threads ---- */

static void finish(struct disk_queue *queue, struct disk_request *request)
{
    const uint64_t one = 1;
    list_put(&queue->finished, request);
    queue->busy--;
    if (queue->busy == 0) {
        pthread_cond_broadcast(&queue->idle);
    }
    (void)!write(queue->event_fd, &one, sizeof(one)); /* it is full: it wakes anyway */
}

/* False: this worker was refused. */
static bool begin(struct disk_queue *queue)
{
    struct err err = {0};
    const int r =
        queue->plan.began == NULL ? 0 : queue->plan.began(queue->plan.context, &err);
    pthread_mutex_lock(&queue->lock);
    queue->begun_count++;
    if (r < 0) {
        err.code = r;
        queue->refusal = err;
    }
    pthread_cond_broadcast(&queue->idle);
    pthread_mutex_unlock(&queue->lock);
    return r == 0;
}

static void *work(void *context)
{
    struct disk_queue *queue = context;
    if (!begin(queue)) {
        return NULL;
    }
    pthread_mutex_lock(&queue->lock);
    for (;;) {
        struct disk_request *request = list_take(&queue->waiting);
        if (request != NULL) {
            pthread_mutex_unlock(&queue->lock);
            request->result = operations[request->operation](queue->disk, request);
            pthread_mutex_lock(&queue->lock);
            finish(queue, request);
        } else if (queue->ending) {
            break;
        } else {
            pthread_cond_wait(&queue->work, &queue->lock);
        }
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

static void threads_end(struct disk_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    REQUIRE(queue->busy == 0);
    queue->ending = true;
    pthread_cond_broadcast(&queue->work);
    pthread_mutex_unlock(&queue->lock);
    for (unsigned i = 0; i < queue->thread_count; i++) {
        pthread_join(queue->threads[i], NULL);
    }
}

/* Waits until every worker has begun: 0, or why one was refused. */
static int threads_await(struct disk_queue *queue, struct err *err)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->begun_count < queue->thread_count) {
        pthread_cond_wait(&queue->idle, &queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
    return queue->refusal.code == 0
               ? 0
               : err_set(err, queue->refusal.code, "%s", queue->refusal.text);
}

static int threads_start(struct disk_queue *queue)
{
    pthread_attr_t attributes;
    int r = -pthread_attr_init(&attributes);
    if (r < 0) {
        return r;
    }
    r = -pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (r == 0 && queue->thread_count < queue->plan.count) {
        r = -pthread_create(&queue->threads[queue->thread_count], &attributes, work,
                            queue);
        queue->thread_count += r == 0 ? 1 : 0;
    }
    (void)pthread_attr_destroy(&attributes); /* cannot fail */
    return r;
}

int disk_queue_new(struct virtual_disk *disk,
                   const struct disk_queue_threads *threads,
                   struct disk_queue **ret_queue,
                   struct err *err)
{
    REQUIRE(threads->count > 0 && threads->count <= DISK_QUEUE_THREADS_MAX);
    struct disk_queue *queue = calloc(1, sizeof(*queue));
    if (queue == NULL) {
        return err_sys(err, -ENOMEM, "make a disk queue");
    }
    queue->disk = disk;
    queue->plan = *threads;
    list_clear(&queue->waiting);
    list_clear(&queue->finished);
    pthread_mutex_init(&queue->lock, NULL); /* these cannot fail without attributes */
    pthread_cond_init(&queue->work, NULL);
    pthread_cond_init(&queue->idle, NULL);
    queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = queue->event_fd < 0 ? -errno : threads_start(queue);
    if (r < 0) {
        (void)err_sys(err, r, "make a disk queue of %u threads", threads->count);
    } else {
        r = threads_await(queue, err);
    }
    if (r < 0) {
        disk_queue_free(queue);
        return r;
    }
    *ret_queue = queue;
    return 0;
}

void disk_queue_free(struct disk_queue *queue)
{
    if (queue == NULL) {
        return;
    }
    threads_end(queue);
    fd_close(&queue->event_fd);
    pthread_cond_destroy(&queue->work);
    pthread_cond_destroy(&queue->idle);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

int disk_queue_fd(const struct disk_queue *queue)
{
    return queue->event_fd;
}

void disk_queue_submit(struct disk_queue *queue, struct disk_request *request)
{
    REQUIRE(request->operation < DISK_OPERATION_COUNT && request->done != NULL);
    pthread_mutex_lock(&queue->lock);
    list_put(&queue->waiting, request);
    queue->busy++;
    pthread_cond_signal(&queue->work);
    pthread_mutex_unlock(&queue->lock);
}

/* Callbacks fire from a list of their own: they may submit again. */
static void fire(struct disk_request *request)
{
    while (request != NULL) {
        struct disk_request *next = request->next;
        request->done(request);
        request = next;
    }
}

void disk_queue_reap(struct disk_queue *queue)
{
    uint64_t count;
    pthread_mutex_lock(&queue->lock);
    (void)!read(queue->event_fd, &count, sizeof(count)); /* empty: nothing is done */
    struct disk_request *done = queue->finished.first;
    list_clear(&queue->finished);
    pthread_mutex_unlock(&queue->lock);
    fire(done);
}

void disk_queue_drain(struct disk_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->busy > 0) {
        pthread_cond_wait(&queue->idle, &queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
    disk_queue_reap(queue);
}
