#include "vmm/disk_queue.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"
#include "vmm/counter.h"
#include "vmm/io_ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What is in memory is copied within the push, on the thread that all devices share: what
 * a guest can have copied there at a time is bounded, and the rest is for the threads. */
#define RING_REQUEST_MAX (UINT64_C(256) << 10)
#define RING_BYTES_MAX   (UINT64_C(4) << 20)

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
    /* Under the caller's lock. */
    struct io_ring *ring; /* NULL: there is none */
    bool ring_is_useless; /* a file cannot read without waiting */
    unsigned in_ring;
    uint64_t in_ring_bytes;
    struct counter by_ring;
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

static int do_zero_through(struct virtual_disk *disk, const struct disk_request *request)
{
    const int r = do_zero(disk, request);
    return r < 0 ? r : disk_flush(disk);
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
    [DISK_ZERO_THROUGH] = do_zero_through,
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

/* One that the kernel does not give us is no error: the threads do everything. */
static void ring_open(struct disk_queue *queue)
{
    int fds[DISK_FILES_MAX];
    const unsigned count = queue->plan.has_no_ring ? 0 : disk_files(queue->disk, fds);
    struct err err = {0};
    if (count > 0 && io_ring_new(fds, count, queue->event_fd, &queue->ring, &err) < 0) {
        log_info("vmm", "a disk is served by threads alone", KV_STR("reason", err.text));
    }
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
    if (r == 0) {
        ring_open(queue);
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
    REQUIRE(queue->in_ring == 0);
    io_ring_free(queue->ring);
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

bool disk_queue_has_ring(const struct disk_queue *queue)
{
    return queue->ring != NULL && !queue->ring_is_useless;
}

uint64_t disk_queue_by_ring(const struct disk_queue *queue)
{
    return counter_read(&queue->by_ring);
}

static void thread_submit(struct disk_queue *queue, struct disk_request *request)
{
    pthread_mutex_lock(&queue->lock);
    list_put(&queue->waiting, request);
    queue->busy++;
    pthread_cond_signal(&queue->work);
    pthread_mutex_unlock(&queue->lock);
}

/* ---- the ring ---- */

/* False: it is for the threads. Writes are: the kernel gives those of a regular file to
 * threads of its own, one at a time for each file. */
static bool ring_submit(struct disk_queue *queue, struct disk_request *request)
{
    const uint64_t size = request->range.size;
    if (!disk_queue_has_ring(queue) || request->operation != DISK_READ ||
        size > RING_REQUEST_MAX || queue->in_ring_bytes + size > RING_BYTES_MAX) {
        return false;
    }
    const int file = disk_direct_read(queue->disk, request->range.offset, size);
    if (file < 0) {
        return false;
    }
    const struct io_ring_request entry = {.file = (unsigned)file,
                                          .offset = request->range.offset,
                                          .pieces = request->pieces,
                                          .piece_count = request->piece_count,
                                          .context = request};
    if (!io_ring_put(queue->ring, &entry)) {
        return false;
    }
    queue->in_ring++;
    queue->in_ring_bytes += size;
    return true;
}

/* Takes what is done out of the ring, to the end of the list; what did not go well begins
 * anew on a thread. */
static void ring_reap(struct disk_queue *queue, struct request_list *done)
{
    struct disk_request *request;
    int result;
    while (queue->ring != NULL &&
           (request = io_ring_take(queue->ring, &result)) != NULL) {
        const bool is_done = result >= 0 && (uint64_t)result == request->range.size;
        queue->in_ring--;
        queue->in_ring_bytes -= request->range.size;
        queue->ring_is_useless = queue->ring_is_useless || result == -EOPNOTSUPP;
        if (is_done) {
            request->result = 0;
            counter_add(&queue->by_ring, 1);
            list_put(done, request);
        } else {
            thread_submit(queue, request);
        }
    }
}

/* ---- */

void disk_queue_submit(struct disk_queue *queue, struct disk_request *request)
{
    REQUIRE(request->operation < DISK_OPERATION_COUNT && request->done != NULL);
    if (!ring_submit(queue, request)) {
        thread_submit(queue, request);
    }
}

/* Callbacks fire from a list of their own: they may submit again. */
static void fire(struct disk_request *request)
{
    const uint64_t now_ns = request != NULL ? clock_now_ns(clock_system()) : 0;
    while (request != NULL) {
        struct disk_request *next = request->next;
        request->done_ns = now_ns;
        request->done(request);
        request = next;
    }
}

void disk_queue_reap(struct disk_queue *queue)
{
    uint64_t count;
    struct request_list done;
    pthread_mutex_lock(&queue->lock);
    /* Before we look: what is done later is told again. */
    (void)!read(queue->event_fd, &count, sizeof(count)); /* empty: nothing is done */
    done = queue->finished;
    if (done.first == NULL) {
        list_clear(&done); /* its end was the queue's own */
    }
    list_clear(&queue->finished);
    pthread_mutex_unlock(&queue->lock);
    ring_reap(queue, &done);
    fire(done.first);
}

void disk_queue_push(struct disk_queue *queue)
{
    if (queue->in_ring > 0) {
        struct request_list done;
        list_clear(&done);
        io_ring_push(queue->ring);
        ring_reap(queue, &done); /* the threads tell by the event */
        fire(done.first);
    }
}

static void threads_idle_await(struct disk_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->busy > 0) {
        pthread_cond_wait(&queue->idle, &queue->lock);
    }
    pthread_mutex_unlock(&queue->lock);
}

bool disk_queue_is_idle(struct disk_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    const bool is_idle =
        queue->in_ring == 0 && queue->busy == 0 && queue->finished.first == NULL;
    pthread_mutex_unlock(&queue->lock);
    return is_idle;
}

/* Callbacks may submit again, to either: until none did. */
void disk_queue_drain(struct disk_queue *queue)
{
    do {
        if (queue->in_ring > 0) {
            io_ring_wait(queue->ring);
        } else {
            threads_idle_await(queue);
        }
        disk_queue_reap(queue);
    } while (!disk_queue_is_idle(queue));
}
