#include "vmm/ram_loader.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"
#include "vmm/ram_chunks.h"
#include "vmm/ram_faults.h"
#include "vmm/ram_image.h"
#include "vmm/ram_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FAULTS_MAX  16u /* taken from the kernel at a time; what is left comes again */
#define CHUNK_PAGES ((uint32_t)(RAM_CHUNK_BYTES / GUEST_PAGE_BYTES))
#define WORD_PAGES  64u
#define CHUNK_WORDS (CHUNK_PAGES / WORD_PAGES)
/* What opening chunks here and there may split RAM's mappings into: a quarter of what
 * Linux gives a process (vm.max_map_count), which malloc and threads need as well. */
#define MAPPINGS_MAX       16384
#define NO_MEMORY_PAUSE_MS 10 /* for the host to find some */
#define PLACING            "place the saved RAM"

enum chunk_state {
    CHUNK_MISSING = 0,
    CHUNK_THERE, /* its pages of zeros are not: they come one by one, when touched */
    CHUNK_OPEN,  /* the same without us: the kernel makes them, as in any RAM */
    CHUNK_LOST,
};

/* A device that waits for a chunk. */
struct wish {
    struct wish *next;
    uint32_t chunk;
    uint64_t until_turn; /* of the watch */
    bool is_taken;       /* the thread has seen it */
    bool is_told;
};

struct ram_loader {
    struct guest_memory *memory;
    struct guest_memory shape; /* its regions, for a thread that outlives it */
    int fd;                    /* owned: a thread that hangs may outlive the image's */
    uint64_t offset;
    struct ram_loader_events events;
    int fault_fd; /* the userfaultfd */
    int call_fd;  /* an eventfd: there are wishes, or an end */
    struct guest_memory_filler filler;
    struct ram_sums sums;
    _Atomic(uint8_t) *states; /* of each chunk; written by the thread */
    atomic_uint refs;         /* its owner's, and its thread's */
    pthread_t thread;
    bool thread_runs;
    atomic_bool wants_end;
    atomic_ullong done_chunks;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a chunk's state, or that the thread is at its end */
    struct wish *wishes;    /* guarded by lock; of who waits */
    uint64_t *forgone;      /* guarded by lock: a bit for each page; owned */
    bool is_reading;        /* guarded by lock: the thread is in the file */
    bool is_over;           /* guarded by lock: nothing comes in any more */
    bool has_ended;         /* guarded by lock: the thread does nothing any more */
    atomic_bool has_failed; /* written under the lock: what was missing is lost */
    struct ram_watch watch;
    atomic_bool is_abandoned; /* before all was there */
    bool is_short;            /* the host has no memory for what was read */
    /* the thread's own */
    uint8_t *bytes; /* of one chunk */
    bool is_whole;  /* RAM's pages are as large as a chunk: one comes in one piece */
    uint32_t next;  /* what is filled in between, in order */
    int mappings;   /* more than there were, by what is open */
};

static void call(struct ram_loader *loader)
{
    const uint64_t one = 1;
    /* Cannot block or fail: the counter is far from full. */
    (void)!write(loader->call_fd, &one, sizeof(one));
}

/* ---- its thread: one chunk ---- */

static bool is_in(enum chunk_state state)
{
    return state == CHUNK_THERE || state == CHUNK_OPEN;
}

static enum chunk_state state_of(const struct ram_loader *loader, uint32_t chunk)
{
    return atomic_load_explicit(&loader->states[chunk], memory_order_acquire);
}

/* Under the lock. What is no longer missing stays as it is: false. */
static bool state_set(struct ram_loader *loader, uint32_t chunk, enum chunk_state state)
{
    if (loader->is_over || state_of(loader, chunk) != CHUNK_MISSING) {
        return false;
    }
    atomic_store_explicit(&loader->states[chunk], (uint8_t)state, memory_order_release);
    pthread_cond_broadcast(&loader->changed);
    return true;
}

/* ---- what does not come */

static void wake_all(const struct ram_loader *loader)
{
    for (unsigned i = 0; i < loader->shape.region_count; i++) {
        ram_faults_wake(loader->fault_fd, loader->shape.regions[i].host,
                        loader->shape.regions[i].size_bytes);
    }
}

/* How many chunks from this one on are in its state and next to it in this process. */
static uint32_t run_of(const struct ram_loader *loader, uint32_t chunk)
{
    const enum chunk_state state = state_of(loader, chunk);
    const uint8_t *host = ram_chunk_host(&loader->shape, chunk);
    uint32_t length = 1;
    while (chunk + length < loader->sums.count &&
           state_of(loader, chunk + length) == state &&
           ram_chunk_host(&loader->shape, chunk + length) ==
               host + length * RAM_CHUNK_BYTES) {
        length++;
    }
    return length;
}

/* All chunks in this state; as few calls, and so mappings, as there are gaps. */
static void
protect_all(const struct ram_loader *loader, enum chunk_state state, int rights)
{
    for (uint32_t chunk = 0, length; chunk < loader->sums.count; chunk += length) {
        uint8_t *host = ram_chunk_host(&loader->shape, chunk);
        length = run_of(loader, chunk);
        if (state_of(loader, chunk) == state &&
            mprotect(host, length * RAM_CHUNK_BYTES, rights) < 0) {
            /* For want of mappings. Who touches it reads zeros instead, in a machine
             * that is at its end already. */
            ram_faults_unregister(loader->fault_fd, host, length * RAM_CHUNK_BYTES);
        }
    }
}

/* Under the lock, on a thread that may take RAM's mappings apart: the first loss is that
 * of all that is missing. Whoever waits for any of it goes on only when it can be touched
 * no more, and when the machine knows; a reason of NULL: it does. */
static void lose_locked(struct ram_loader *loader, const char *reason)
{
    if (loader->is_over || atomic_load(&loader->wants_end) ||
        atomic_load(&loader->has_failed)) {
        return; /* nobody wants it any more, or it is known */
    }
    if (reason != NULL) {
        loader->events.failed(loader->events.context, reason);
    }
    /* Without it, a vCPU that is there would ask for it until it has stopped. */
    protect_all(loader, CHUNK_MISSING, PROT_NONE);
    for (uint32_t i = 0; i < loader->sums.count; i++) {
        (void)state_set(loader, i, CHUNK_LOST);
    }
    atomic_store(&loader->has_failed, true);
    wake_all(loader);
}

static void lose(struct ram_loader *loader, const char *reason)
{
    pthread_mutex_lock(&loader->lock);
    lose_locked(loader, reason);
    pthread_mutex_unlock(&loader->lock);
}

/* ---- its thread: one chunk ---- */

static uint64_t *
forgone_word(const struct ram_loader *loader, uint32_t chunk, uint32_t page)
{
    return &loader->forgone[(size_t)chunk * CHUNK_WORDS + page / WORD_PAGES];
}

/* Under the lock. */
static bool is_forgone(const struct ram_loader *loader, uint32_t chunk, uint32_t page)
{
    return (*forgone_word(loader, chunk, page) >> page % WORD_PAGES & 1) != 0;
}

/* Whether there is no page of it that anybody wants. */
static bool chunk_is_forgone(struct ram_loader *loader, uint32_t chunk)
{
    bool is_all = true;
    pthread_mutex_lock(&loader->lock);
    for (uint32_t page = 0; is_all && page < CHUNK_PAGES; page += WORD_PAGES) {
        is_all = *forgone_word(loader, chunk, page) == UINT64_MAX;
    }
    pthread_mutex_unlock(&loader->lock);
    return is_all;
}

/* Places pages from *page on until `end`, or fewer: whoever gives one back meanwhile does
 * so before, and it does not come, or after, and takes it away again. 0 or -errno. */
static int
pages_copy(struct ram_loader *loader, uint32_t chunk, uint32_t *page, uint32_t end)
{
    uint64_t done = 0;
    uint32_t stop;
    int r = 0;
    pthread_mutex_lock(&loader->lock);
    while (*page < end && is_forgone(loader, chunk, *page)) {
        (*page)++;
    }
    for (stop = *page; stop < end && !is_forgone(loader, chunk, stop);) {
        stop++;
    }
    if (state_of(loader, chunk) != CHUNK_MISSING || loader->is_over) {
        *page = stop = end; /* nobody is to see it any more */
    }
    if (*page < stop) {
        const uint64_t at = *page * GUEST_PAGE_BYTES;
        r = ram_faults_copy(loader->fault_fd, ram_chunk_host(&loader->shape, chunk) + at,
                            loader->bytes + at, (stop - *page) * GUEST_PAGE_BYTES, &done);
        loader->is_short = r == -ENOMEM;
    }
    pthread_mutex_unlock(&loader->lock);
    *page += (uint32_t)(done / GUEST_PAGE_BYTES);
    return r;
}

/* The host's memory may be short for a moment; the watch ends that. */
static int run_place(struct ram_loader *loader,
                     uint32_t chunk,
                     uint32_t page,
                     uint32_t end,
                     struct err *err)
{
    const struct timespec pause = {.tv_nsec = NO_MEMORY_PAUSE_MS * (long)NS_PER_MS};
    while (page < end && !atomic_load(&loader->wants_end)) {
        const int r = pages_copy(loader, chunk, &page, end);
        if (r == -ENOMEM) {
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* shorter is fine */
        } else if (r < 0 && r != -EAGAIN) {
            return err_sys(err, r, PLACING);
        }
    }
    return 0;
}

static int chunk_place(struct ram_loader *loader, uint32_t chunk, struct err *err)
{
    uint32_t length;
    if (loader->is_whole) {
        return run_place(loader, chunk, 0, CHUNK_PAGES, err);
    }
    for (uint32_t page = 0; (length = ram_image_run(loader->bytes, &page)) > 0;
         page += length) {
        int r = run_place(loader, chunk, page, page + length, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void chunk_wake(const struct ram_loader *loader, uint32_t chunk)
{
    ram_faults_wake(loader->fault_fd, ram_chunk_host(&loader->shape, chunk),
                    RAM_CHUNK_BYTES);
}

static bool neighbour_is_open(const struct ram_loader *loader, uint32_t chunk, int side)
{
    const uint32_t other = chunk + (uint32_t)side;
    const ptrdiff_t distance = side * (ptrdiff_t)RAM_CHUNK_BYTES;
    return other < loader->sums.count && state_of(loader, other) == CHUNK_OPEN &&
           ram_chunk_host(&loader->shape, other) -
                   ram_chunk_host(&loader->shape, chunk) ==
               distance;
}

/* Lets go of a chunk that is there: its first touches need nobody then, least of all a
 * thread that reads another chunk. Those next to each other become one mapping; when
 * there are too many, it waits until the fill comes by. */
static void chunk_open(struct ram_loader *loader, uint32_t chunk)
{
    const int more = 2 - (neighbour_is_open(loader, chunk, -1) ? 2 : 0) -
                     (neighbour_is_open(loader, chunk, 1) ? 2 : 0);
    if (loader->mappings + more > MAPPINGS_MAX ||
        ram_faults_try_unregister(loader->fault_fd, ram_chunk_host(&loader->shape, chunk),
                                  RAM_CHUNK_BYTES) < 0) {
        return;
    }
    loader->mappings += more;
    atomic_store_explicit(&loader->states[chunk], CHUNK_OPEN, memory_order_release);
}

/* False when nothing is to be read any more. */
static bool reading_set(struct ram_loader *loader, bool is_reading)
{
    pthread_mutex_lock(&loader->lock);
    const bool goes_on = !atomic_load(&loader->wants_end);
    loader->is_reading = is_reading && goes_on;
    pthread_mutex_unlock(&loader->lock);
    return goes_on;
}

static int chunk_read(struct ram_loader *loader, uint32_t chunk, struct err *err)
{
    if (chunk_is_forgone(loader, chunk) || !reading_set(loader, true)) {
        return 0;
    }
    int r = ram_image_read_chunk(&loader->sums, &loader->shape, loader->fd,
                                 loader->offset, chunk, loader->bytes, err);
    const bool goes_on = reading_set(loader, false);
    return r == 0 && goes_on && loader->sums.chunks[chunk].holds_content
               ? chunk_place(loader, chunk, err)
               : r;
}

static void chunk_bring(struct ram_loader *loader, uint32_t chunk)
{
    struct err err = {0};
    if (state_of(loader, chunk) != CHUNK_MISSING) {
        return;
    }
    const int r = chunk_read(loader, chunk, &err);
    if (atomic_load(&loader->wants_end)) {
        return;
    }
    if (r < 0) {
        lose(loader, err.text);
        return;
    }
    pthread_mutex_lock(&loader->lock);
    const bool is_news = state_set(loader, chunk, CHUNK_THERE);
    ram_watch_moved(&loader->watch);
    pthread_mutex_unlock(&loader->lock);
    chunk_wake(loader, chunk);
    if (is_news) { /* else somebody could not wait any longer */
        chunk_open(loader, chunk);
        atomic_fetch_add(&loader->done_chunks, 1);
    }
}

/* ---- its thread: who waits ---- */

/* The kernel has no page of zeros that is as large. */
static void chunk_zero(struct ram_loader *loader, uint8_t *host)
{
    uint64_t done = 0;
    memset(loader->bytes, 0, RAM_CHUNK_BYTES);
    while (ram_faults_copy(loader->fault_fd, host, loader->bytes, RAM_CHUNK_BYTES,
                           &done) == -EAGAIN) {
    }
    ram_faults_wake(loader->fault_fd, host, RAM_CHUNK_BYTES); /* or it was there by now */
}

static void fault_serve(struct ram_loader *loader, uint64_t host)
{
    const uint32_t chunk = ram_chunk_at_host(&loader->shape, host);
    uint8_t *base = ram_chunk_host(&loader->shape, chunk);
    const uint8_t *page = base + ((host - (uintptr_t)base) & ~(GUEST_PAGE_BYTES - 1));
    switch (state_of(loader, chunk)) {
    case CHUNK_MISSING:
        chunk_bring(loader, chunk);
        break;
    case CHUNK_THERE:
        /* A page that nobody has written is zeros, as it would be without us. */
        if (loader->is_whole) {
            chunk_zero(loader, base);
        } else {
            ram_faults_zero(loader->fault_fd, page, GUEST_PAGE_BYTES);
        }
        break;
    case CHUNK_OPEN:
    case CHUNK_LOST:
    default:
        ram_faults_wake(loader->fault_fd, page, GUEST_PAGE_BYTES);
        break;
    }
}

static bool faults_serve(struct ram_loader *loader)
{
    struct uffd_msg messages[FAULTS_MAX];
    const ssize_t got = read(loader->fault_fd, messages, sizeof(messages));
    for (ssize_t i = 0; i < got / (ssize_t)sizeof(messages[0]); i++) {
        if (messages[i].event == UFFD_EVENT_PAGEFAULT) {
            fault_serve(loader, messages[i].arg.pagefault.address);
        }
    }
    return got > 0;
}

/* The first wish that was not looked at; false when there is none. */
static bool wish_take(struct ram_loader *loader, uint32_t *ret_chunk)
{
    pthread_mutex_lock(&loader->lock);
    struct wish *wish = loader->wishes;
    while (wish != NULL && wish->is_taken) {
        wish = wish->next;
    }
    if (wish != NULL) {
        wish->is_taken = true;
        *ret_chunk = wish->chunk;
    }
    pthread_mutex_unlock(&loader->lock);
    return wish != NULL; /* it is its waiter's */
}

static bool wishes_serve(struct ram_loader *loader)
{
    uint32_t chunk;
    bool any = false;
    while (wish_take(loader, &chunk)) {
        chunk_bring(loader, chunk);
        any = true;
    }
    return any;
}

/* The next chunk that nobody has asked for; false when there is none. */
static bool next_bring(struct ram_loader *loader)
{
    while (loader->next < loader->sums.count &&
           state_of(loader, loader->next) != CHUNK_MISSING) {
        if (state_of(loader, loader->next) == CHUNK_THERE) {
            chunk_open(loader, loader->next);
        }
        loader->next++;
    }
    if (loader->next == loader->sums.count || atomic_load(&loader->has_failed)) {
        return false;
    }
    chunk_bring(loader, loader->next);
    return true;
}

/* Nothing more comes from here: pages that are not there are zeros, as in any RAM. Its
 * owner may have said so already; then RAM may be gone. */
static void over(struct ram_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    if (!loader->is_over) {
        guest_memory_fill_by(loader->memory, NULL);
        loader->is_over = true;
        pthread_cond_broadcast(&loader->changed);
        ram_watch_end(&loader->watch);
        for (unsigned i = 0; i < loader->shape.region_count; i++) {
            ram_faults_unregister(loader->fault_fd, loader->shape.regions[i].host,
                                  loader->shape.regions[i].size_bytes);
        }
    }
    pthread_mutex_unlock(&loader->lock);
}

static void await(const struct ram_loader *loader)
{
    uint64_t ignored;
    struct pollfd waits[] = {{.fd = loader->fault_fd, .events = POLLIN},
                             {.fd = loader->call_fd, .events = POLLIN}};
    if (poll(waits, ARRAY_COUNT(waits), -1) > 0 && waits[1].revents != 0) {
        (void)!read(loader->call_fd, &ignored, sizeof(ignored)); /* empties it */
    }
}

/* The last one of its owner and its thread frees it. */
static void unref(struct ram_loader *loader)
{
    if (atomic_fetch_sub(&loader->refs, 1) != 1) {
        return;
    }
    fd_close(&loader->fd);
    fd_close(&loader->fault_fd);
    fd_close(&loader->call_fd);
    ram_watch_fini(&loader->watch);
    (void)pthread_cond_destroy(&loader->changed);
    (void)pthread_mutex_destroy(&loader->lock);
    ram_sums_fini(&loader->sums);
    free(loader->forgone);
    free(loader->states);
    free(loader->bytes);
    free(loader);
}

/* A thread's first act. */
static void thread_begin(struct ram_loader *loader, const char *name)
{
    struct err err = {0};
    (void)pthread_setname_np(pthread_self(), name); /* for people */
    if (loader->events.thread_began != NULL &&
        loader->events.thread_began(loader->events.context, &err) < 0) {
        lose(loader, err.text); /* before it reads anything */
    }
}

static void *fill_thread(void *context)
{
    struct ram_loader *loader = context;
    thread_begin(loader, "fill RAM");
    while (!atomic_load(&loader->wants_end)) {
        bool served = wishes_serve(loader);
        served = faults_serve(loader) || served;
        if (served || next_bring(loader)) {
            continue;
        }
        if (atomic_load(&loader->done_chunks) == loader->sums.count) {
            over(loader);
            log_info("vmm", "the saved RAM is all there");
            break;
        }
        await(loader);
    }
    pthread_mutex_lock(&loader->lock);
    loader->has_ended = true;
    pthread_cond_broadcast(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
    unref(loader);
    return NULL;
}

/* ---- the watch: nobody waits for ever ---- */

/* Under the lock: whether a device has waited for too long. */
static bool wish_is_late(struct ram_loader *loader)
{
    bool late = false;
    for (struct wish *wish = loader->wishes; wish != NULL; wish = wish->next) {
        late = late || ram_watch_is_over(&loader->watch, wish->until_turn);
        if (!wish->is_told && ram_watch_is_long(&loader->watch, wish->until_turn)) {
            wish->is_told = true;
            log_warn("vmm", "a device waits for saved RAM", KV_U64("chunk", wish->chunk),
                     KV_U64("at_most_ms", loader->events.patience_ms));
        }
    }
    return late;
}

static void on_turn(void *context, bool is_late)
{
    struct ram_loader *loader = context;
    if (wish_is_late(loader) || is_late) {
        lose_locked(loader, loader->is_short
                                ? PLACING ": Cannot allocate memory"
                                : "the storage of the saved RAM does not answer in time");
    }
}

static void on_watch_thread(void *context)
{
    thread_begin(context, "watch RAM");
}

/* ---- devices ---- */

/* False when it is lost, or nobody brings it any more. */
static bool chunk_await(struct ram_loader *loader, uint32_t chunk, uint64_t until_turn)
{
    struct wish wish = {.chunk = chunk, .until_turn = until_turn};
    pthread_mutex_lock(&loader->lock);
    if (state_of(loader, chunk) == CHUNK_MISSING && !loader->is_over) {
        wish.next = loader->wishes;
        loader->wishes = &wish;
        call(loader);
    }
    while (state_of(loader, chunk) == CHUNK_MISSING && !loader->is_over) {
        pthread_cond_wait(&loader->changed, &loader->lock);
    }
    for (struct wish **at = &loader->wishes; *at != NULL; at = &(*at)->next) {
        if (*at == &wish) {
            *at = wish.next;
            break;
        }
    }
    const bool is_there = is_in(state_of(loader, chunk));
    pthread_mutex_unlock(&loader->lock);
    return is_there;
}

static uint64_t patience_end(struct ram_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    const uint64_t turn = ram_watch_patience_end(&loader->watch);
    pthread_mutex_unlock(&loader->lock);
    return turn;
}

static int bring(void *context, uint64_t address, uint64_t size)
{
    struct ram_loader *loader = context;
    const uint32_t last = ram_chunk_at_address(&loader->shape, address + size - 1);
    uint64_t until_turn = 0;
    for (uint32_t i = ram_chunk_at_address(&loader->shape, address); i <= last; i++) {
        if (is_in(state_of(loader, i))) {
            continue;
        }
        until_turn = until_turn == 0 ? patience_end(loader) : until_turn; /* for all */
        if (!chunk_await(loader, i, until_turn)) {
            return -EFAULT;
        }
    }
    return 0;
}

/* Whole pages. What comes in later comes without them. */
static void forgo(void *context, uint64_t address, uint64_t size)
{
    struct ram_loader *loader = context;
    const uint64_t end = address + size;
    pthread_mutex_lock(&loader->lock);
    while (address < end) {
        const uint32_t chunk = ram_chunk_at_address(&loader->shape, address);
        const uint32_t first = (uint32_t)(address / GUEST_PAGE_BYTES % CHUNK_PAGES);
        const uint64_t left = (end - address) / GUEST_PAGE_BYTES;
        const uint32_t stop =
            left < CHUNK_PAGES - first ? first + (uint32_t)left : CHUNK_PAGES;
        for (uint32_t page = first;
             state_of(loader, chunk) == CHUNK_MISSING && page < stop; page++) {
            *forgone_word(loader, chunk, page) |= UINT64_C(1) << page % WORD_PAGES;
        }
        address += (stop - first) * GUEST_PAGE_BYTES;
    }
    pthread_mutex_unlock(&loader->lock);
}

static bool has(void *context, uint64_t address, uint64_t size)
{
    const struct ram_loader *loader = context;
    const uint32_t last = ram_chunk_at_address(&loader->shape, address + size - 1);
    uint32_t chunk = ram_chunk_at_address(&loader->shape, address);
    while (chunk <= last && is_in(state_of(loader, chunk))) {
        chunk++;
    }
    return chunk > last;
}

/* ---- its owner's side ---- */

int ram_loader_new(struct guest_memory *memory,
                   int fd,
                   uint64_t offset,
                   const struct ram_loader_events *events,
                   struct ram_loader **ret_loader,
                   struct err *err)
{
    struct ram_loader *loader = calloc(1, sizeof(*loader));
    if (loader == NULL) {
        return err_sys(err, -ENOMEM, "prepare to fill RAM");
    }
    loader->memory = memory;
    atomic_init(&loader->refs, 1);
    loader->fault_fd = -1;
    loader->fd = -1;
    loader->offset = offset;
    loader->events = *events;
    if (events->patience_ms == 0) {
        loader->events.patience_ms = RAM_LOADER_PATIENCE_MS;
    }
    loader->filler = (struct guest_memory_filler){bring, has, forgo, loader};
    (void)pthread_mutex_init(&loader->lock, NULL); /* cannot fail without attributes */
    (void)pthread_cond_init(&loader->changed, NULL);
    const struct ram_watch_events watch = {on_watch_thread, on_turn, loader};
    ram_watch_setup(&loader->watch, &loader->lock, loader->events.patience_ms, &watch);
    loader->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = loader->call_fd < 0 ? err_sys(err, -errno, "prepare to fill RAM") : 0;
    if (r == 0 && fd >= 0) { /* none: only to see whether it may be had */
        loader->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        r = loader->fd < 0 ? err_sys(err, -errno, "keep the saved RAM") : 0;
    }
    loader->bytes = malloc(RAM_CHUNK_BYTES);
    if (r == 0 && loader->bytes == NULL) {
        r = err_sys(err, -ENOMEM, "prepare to fill RAM");
    }
    loader->fault_fd = r == 0 ? ram_faults_open(err) : -1;
    if (r == 0 && loader->fault_fd < 0) {
        r = loader->fault_fd;
        loader->fault_fd = -1;
    }
    if (r < 0) {
        ram_loader_free(loader);
        return r;
    }
    *ret_loader = loader;
    return 0;
}

static int memory_register(const struct ram_loader *loader, struct err *err)
{
    for (unsigned i = 0; i < loader->memory->region_count; i++) {
        const struct guest_region *region = &loader->memory->regions[i];
        REQUIRE(region->address % RAM_CHUNK_BYTES == 0); /* forgo counts on it */
        REQUIRE(region->page_bytes <= RAM_CHUNK_BYTES);
        const int r =
            ram_faults_register(loader->fault_fd, region->host, region->size_bytes);
        if (r < 0) {
            return err_sys(err, r, "watch RAM at 0x%" PRIx64, region->address);
        }
    }
    return 0;
}

/* Whoever has looked at RAM by now (KVM does, for its clock) has made pages of zeros
 * there, which nobody would ask for. They are given back; those of a pool stay, and are
 * filled before the rest. */
static int looked_at_fill(struct ram_loader *loader, struct err *err)
{
    int r = guest_memory_clear(loader->memory, err);
    for (uint32_t i = 0; r == 0 && loader->is_whole && i < loader->sums.count; i++) {
        uint8_t *host = ram_chunk_host(&loader->shape, i);
        if (!guest_memory_is_there(loader->memory,
                                   ram_chunk_address(&loader->shape, i))) {
            continue;
        }
        r = ram_image_read_chunk(&loader->sums, &loader->shape, loader->fd,
                                 loader->offset, i, loader->bytes, err);
        if (r == 0 && loader->sums.chunks[i].holds_content) {
            memcpy(host, loader->bytes, RAM_CHUNK_BYTES);
        }
        atomic_store(&loader->states[i], (uint8_t)CHUNK_THERE);
        atomic_fetch_add(&loader->done_chunks, 1);
    }
    return r;
}

int ram_loader_begin(struct ram_loader *loader,
                     struct bytes_reader *section,
                     struct err *err)
{
    REQUIRE(!loader->thread_runs && loader->sums.chunks == NULL);
    guest_memory_init(&loader->shape);
    memcpy(loader->shape.regions, loader->memory->regions, sizeof(loader->shape.regions));
    loader->shape.region_count = loader->memory->region_count;
    loader->is_whole = loader->shape.regions[0].page_bytes == RAM_CHUNK_BYTES;
    int r = ram_sums_read(&loader->sums, loader->memory, section, err);
    if (r < 0) {
        return r;
    }
    loader->states = calloc(loader->sums.count, sizeof(*loader->states));
    loader->forgone =
        calloc((size_t)loader->sums.count * CHUNK_WORDS, sizeof(*loader->forgone));
    if (loader->states == NULL || loader->forgone == NULL) {
        return err_sys(err, -ENOMEM, "prepare to fill RAM");
    }
    r = looked_at_fill(loader, err);
    if (r == 0) {
        r = memory_register(loader, err);
    }
    if (r < 0) {
        return r;
    }
    guest_memory_fill_by(loader->memory, &loader->filler);
    r = ram_watch_start(&loader->watch);
    if (r == 0) {
        atomic_fetch_add(&loader->refs, 1);
        r = -pthread_create(&loader->thread, NULL, fill_thread, loader);
        loader->thread_runs = r == 0;
        if (r < 0) {
            unref(loader);
        }
    }
    return r < 0 ? err_sys(err, r, "start a thread that fills RAM") : 0;
}

/* One that is in a read, where it may hang, is left to itself: it finds that it is over,
 * and touches nothing but what is the loader's. */
static void thread_end(struct ram_loader *loader)
{
    if (!loader->thread_runs) {
        return;
    }
    pthread_mutex_lock(&loader->lock);
    while (!loader->has_ended && !loader->is_reading) {
        pthread_cond_wait(&loader->changed, &loader->lock);
    }
    const bool has_ended = loader->has_ended;
    pthread_mutex_unlock(&loader->lock);
    (void)(has_ended ? pthread_join(loader->thread, NULL)
                     : pthread_detach(loader->thread));
    loader->thread_runs = false;
}

void ram_loader_drop(struct ram_loader *loader)
{
    if (loader == NULL || !loader->watch.runs) {
        return;
    }
    atomic_store(&loader->wants_end, true);
    call(loader);
    thread_end(loader);
    over(loader);
    ram_watch_join(&loader->watch);
    protect_all(loader, CHUNK_LOST, PROT_READ | PROT_WRITE);
    atomic_store(&loader->done_chunks, loader->sums.count); /* no more is to come */
}

void ram_loader_hurry(struct ram_loader *loader, bool is_wanted)
{
    if (loader != NULL) {
        pthread_mutex_lock(&loader->lock);
        ram_watch_hurry(&loader->watch, is_wanted);
        pthread_mutex_unlock(&loader->lock);
    }
}

void ram_loader_abandon(struct ram_loader *loader)
{
    if (loader != NULL && loader->watch.runs) {
        pthread_mutex_lock(&loader->lock);
        if (!atomic_load(&loader->has_failed)) {
            atomic_store(&loader->is_abandoned,
                         atomic_load(&loader->done_chunks) < loader->sums.count);
            lose_locked(loader, NULL);
        }
        pthread_mutex_unlock(&loader->lock);
    }
}

void ram_loader_progress(const struct ram_loader *loader,
                         struct ram_loader_progress *ret_progress)
{
    const uint64_t total = guest_memory_size(loader->memory);
    const bool was_abandoned = atomic_load(&loader->is_abandoned);
    const uint64_t done = atomic_load(&loader->done_chunks) * RAM_CHUNK_BYTES;
    *ret_progress =
        (struct ram_loader_progress){.total_bytes = total,
                                     .done_bytes = was_abandoned ? total : done,
                                     .was_abandoned = was_abandoned};
}

struct ram_loader *ram_loader_free(struct ram_loader *loader)
{
    if (loader == NULL) {
        return NULL;
    }
    ram_loader_drop(loader);
    guest_memory_fill_by(loader->memory, NULL);
    unref(loader);
    return NULL;
}
