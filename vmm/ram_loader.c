#include "vmm/ram_loader.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"
#include "vmm/ram_image.h"

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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FAULTS_MAX  16u /* taken from the kernel at a time; what is left comes again */
#define REASON_SIZE 200u
/* What opening chunks here and there may split RAM's mappings into: a quarter of what
 * Linux gives a process (vm.max_map_count), which malloc and threads need as well. */
#define MAPPINGS_MAX       16384
#define WORD_AFTER_MS      1000u /* that a device waits is said then */
#define NO_MEMORY_PAUSE_MS 10    /* for the host to find some */

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
};

struct ram_loader {
    struct guest_memory *memory;
    struct guest_memory shape; /* its regions, for a thread that outlives it */
    int fd;                    /* borrowed */
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
    struct wish *wishes;    /* guarded by lock */
    bool is_over;           /* guarded by lock: nothing comes in any more */
    bool has_ended;         /* guarded by lock: the thread does nothing any more */
    atomic_bool has_failed;
    /* the thread's own */
    uint8_t *bytes;    /* of one chunk */
    bool may_not_read; /* it is not what it has to be */
    uint32_t next;     /* what is filled in between, in order */
    int mappings;      /* more than there were, by what is open */
};

static void call(struct ram_loader *loader)
{
    const uint64_t one = 1;
    /* Cannot block or fail: the counter is far from full. */
    (void)!write(loader->call_fd, &one, sizeof(one));
}

/* ---- where a chunk is ---- */

/* Chunks are counted over all regions, in their order. */
static uint32_t
chunk_of(const struct guest_memory *memory, unsigned region, uint64_t in_region)
{
    uint64_t before = 0;
    for (unsigned i = 0; i < region; i++) {
        before += memory->regions[i].size_bytes;
    }
    return (uint32_t)((before + in_region) / RAM_CHUNK_BYTES);
}

static uint8_t *chunk_host(const struct guest_memory *memory, uint32_t chunk)
{
    uint64_t before = chunk * RAM_CHUNK_BYTES;
    unsigned region = 0;
    while (before >= memory->regions[region].size_bytes) {
        before -= memory->regions[region++].size_bytes;
    }
    return memory->regions[region].host + before;
}

static uint32_t chunk_at_address(const struct guest_memory *memory, uint64_t address)
{
    unsigned region = memory->region_count - 1;
    while (memory->regions[region].address > address) {
        region--;
    }
    return chunk_of(memory, region, address - memory->regions[region].address);
}

static uint32_t chunk_at_host(const struct guest_memory *memory, uint64_t host)
{
    unsigned region = 0;
    while (host < (uintptr_t)memory->regions[region].host ||
           host - (uintptr_t)memory->regions[region].host >=
               memory->regions[region].size_bytes) {
        region++;
        REQUIRE(region < memory->region_count); /* only RAM is registered */
    }
    return chunk_of(memory, region, host - (uintptr_t)memory->regions[region].host);
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

static void wake(const struct ram_loader *loader, uint64_t host, uint64_t size)
{
    struct uffdio_range range = {.start = host, .len = size};
    (void)ioctl(loader->fault_fd, UFFDIO_WAKE, &range); /* nobody waits: fine */
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

/* The host's memory may be short for a moment: true when it is worth another try. */
static bool pages_retry(const struct ram_loader *loader, int error, uint64_t *waited_ms)
{
    const struct timespec pause = {.tv_nsec = NO_MEMORY_PAUSE_MS * (long)NS_PER_MS};
    if (error == EAGAIN) {
        return true;
    }
    if (error != ENOMEM || *waited_ms >= loader->events.patience_ms ||
        atomic_load(&loader->wants_end)) {
        return false;
    }
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* shorter is fine */
    *waited_ms += NO_MEMORY_PAUSE_MS;
    return true;
}

static int pages_copy(const struct ram_loader *loader,
                      uint8_t *to,
                      const uint8_t *from,
                      uint64_t size,
                      struct err *err)
{
    uint64_t waited_ms = 0;
    while (size > 0) {
        struct uffdio_copy copy = {.dst = (uintptr_t)to,
                                   .src = (uintptr_t)from,
                                   .len = size,
                                   .mode = UFFDIO_COPY_MODE_DONTWAKE};
        if (ioctl(loader->fault_fd, UFFDIO_COPY, &copy) < 0) {
            const int error = errno;
            if (!pages_retry(loader, error, &waited_ms)) {
                return err_sys(err, -error, "place the saved RAM");
            }
        }
        if (copy.copy > 0) { /* all of it, or what was done when it was disturbed */
            to += copy.copy;
            from += copy.copy;
            size -= (uint64_t)copy.copy;
        }
    }
    return 0;
}

static int chunk_place(struct ram_loader *loader, uint32_t chunk, struct err *err)
{
    uint8_t *host = chunk_host(&loader->shape, chunk);
    uint32_t length;
    for (uint32_t page = 0; (length = ram_image_run(loader->bytes, &page)) > 0;
         page += length) {
        const uint64_t from = page * GUEST_PAGE_BYTES;
        int r = pages_copy(loader, host + from, loader->bytes + from,
                           length * GUEST_PAGE_BYTES, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void chunk_protect(const struct ram_loader *loader, uint32_t chunk, int rights)
{
    /* Cannot fail but for want of mappings: then who touches it reads zeros, and the
     * machine is at its end already. */
    (void)mprotect(chunk_host(&loader->shape, chunk), RAM_CHUNK_BYTES, rights);
}

/* Under the lock. Whoever waits for it goes on only when it can be touched no more, and
 * when the machine knows. */
static void lose_locked(struct ram_loader *loader, uint32_t chunk, const char *reason)
{
    if (loader->is_over || state_of(loader, chunk) != CHUNK_MISSING) {
        return; /* nobody wants it any more, or it has come after all */
    }
    if (!atomic_exchange(&loader->has_failed, true)) {
        loader->events.failed(loader->events.context, reason);
    }
    /* Without it, a vCPU that is there would ask for it until it has stopped. */
    chunk_protect(loader, chunk, PROT_NONE);
    (void)state_set(loader, chunk, CHUNK_LOST);
}

static void chunk_wake(const struct ram_loader *loader, uint32_t chunk)
{
    wake(loader, (uintptr_t)chunk_host(&loader->shape, chunk), RAM_CHUNK_BYTES);
}

static void chunk_lose(struct ram_loader *loader, uint32_t chunk, const char *reason)
{
    pthread_mutex_lock(&loader->lock);
    lose_locked(loader, chunk, reason);
    pthread_mutex_unlock(&loader->lock);
    chunk_wake(loader, chunk);
}

static bool neighbour_is_open(const struct ram_loader *loader, uint32_t chunk, int side)
{
    const uint32_t other = chunk + (uint32_t)side;
    const ptrdiff_t distance = side * (ptrdiff_t)RAM_CHUNK_BYTES;
    return other < loader->sums.count && state_of(loader, other) == CHUNK_OPEN &&
           chunk_host(&loader->shape, other) - chunk_host(&loader->shape, chunk) ==
               distance;
}

/* Lets go of a chunk that is there: its first touches need nobody then, least of all a
 * thread that reads another chunk. Those next to each other become one mapping; when
 * there are too many, it waits until the fill comes by. */
static void chunk_open(struct ram_loader *loader, uint32_t chunk)
{
    const int more = 2 - (neighbour_is_open(loader, chunk, -1) ? 2 : 0) -
                     (neighbour_is_open(loader, chunk, 1) ? 2 : 0);
    struct uffdio_range range = {.start = (uintptr_t)chunk_host(&loader->shape, chunk),
                                 .len = RAM_CHUNK_BYTES};
    if (loader->mappings + more > MAPPINGS_MAX ||
        ioctl(loader->fault_fd, UFFDIO_UNREGISTER, &range) < 0) {
        return;
    }
    loader->mappings += more;
    atomic_store_explicit(&loader->states[chunk], CHUNK_OPEN, memory_order_release);
}

static void chunk_bring(struct ram_loader *loader, uint32_t chunk)
{
    struct err err = {0};
    if (state_of(loader, chunk) != CHUNK_MISSING) {
        return;
    }
    if (loader->may_not_read) {
        chunk_lose(loader, chunk, "its thread could not begin");
        return;
    }
    int r = ram_image_read_chunk(&loader->sums, &loader->shape, loader->fd,
                                 loader->offset, chunk, loader->bytes, &err);
    if (atomic_load(&loader->wants_end)) {
        return; /* RAM may be another machine's by now */
    }
    if (r == 0 && loader->sums.chunks[chunk].holds_content) {
        r = chunk_place(loader, chunk, &err);
    }
    if (r < 0) {
        chunk_lose(loader, chunk, err.text);
        return;
    }
    pthread_mutex_lock(&loader->lock);
    const bool is_news = state_set(loader, chunk, CHUNK_THERE);
    pthread_mutex_unlock(&loader->lock);
    chunk_wake(loader, chunk);
    if (is_news) { /* else somebody could not wait any longer */
        chunk_open(loader, chunk);
        atomic_fetch_add(&loader->done_chunks, 1);
    }
}

/* ---- its thread: who waits ---- */

/* A page that nobody has written is zeros, as it would be without us. */
static void page_zero(const struct ram_loader *loader, uint64_t host)
{
    struct uffdio_zeropage zero = {.range = {.start = host, .len = GUEST_PAGE_BYTES}};
    while (ioctl(loader->fault_fd, UFFDIO_ZEROPAGE, &zero) < 0 && errno == EAGAIN) {
    }
    wake(loader, host, GUEST_PAGE_BYTES); /* it was there by now */
}

static void fault_serve(struct ram_loader *loader, uint64_t host)
{
    const uint32_t chunk = chunk_at_host(&loader->shape, host);
    switch (state_of(loader, chunk)) {
    case CHUNK_MISSING:
        chunk_bring(loader, chunk);
        break;
    case CHUNK_THERE:
        page_zero(loader, host & ~(GUEST_PAGE_BYTES - 1));
        break;
    case CHUNK_OPEN:
    case CHUNK_LOST:
    default:
        wake(loader, host & ~(GUEST_PAGE_BYTES - 1), GUEST_PAGE_BYTES);
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

static bool wishes_serve(struct ram_loader *loader)
{
    bool any = false;
    for (;;) {
        pthread_mutex_lock(&loader->lock);
        struct wish *wish = loader->wishes;
        const uint32_t chunk = wish != NULL ? wish->chunk : 0;
        loader->wishes = wish != NULL ? wish->next : NULL; /* it is its waiter's */
        pthread_mutex_unlock(&loader->lock);
        if (wish == NULL) {
            return any;
        }
        chunk_bring(loader, chunk);
        any = true;
    }
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

/* Nothing more comes from here: pages that are not there are zeros, as in any RAM. */
static void over(struct ram_loader *loader)
{
    const struct guest_memory *memory = loader->memory;
    guest_memory_fill_by(loader->memory, NULL);
    pthread_mutex_lock(&loader->lock);
    loader->is_over = true;
    pthread_cond_broadcast(&loader->changed);
    pthread_mutex_unlock(&loader->lock);
    for (unsigned i = 0; i < memory->region_count; i++) {
        struct uffdio_range range = {.start = (uintptr_t)memory->regions[i].host,
                                     .len = memory->regions[i].size_bytes};
        (void)ioctl(loader->fault_fd, UFFDIO_UNREGISTER, &range); /* wakes who waits */
    }
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
    fd_close(&loader->fault_fd);
    fd_close(&loader->call_fd);
    (void)pthread_cond_destroy(&loader->changed);
    (void)pthread_mutex_destroy(&loader->lock);
    ram_sums_fini(&loader->sums);
    free(loader->states);
    free(loader->bytes);
    free(loader);
}

static void *fill_thread(void *context)
{
    struct ram_loader *loader = context;
    struct err err = {0};
    (void)pthread_setname_np(pthread_self(), "fill RAM"); /* for people */
    if (loader->events.thread_began != NULL &&
        loader->events.thread_began(loader->events.context, &err) < 0) {
        loader->may_not_read = true;
        if (!atomic_exchange(&loader->has_failed, true)) {
            loader->events.failed(loader->events.context, err.text);
        }
    }
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

/* ---- devices ---- */

/* As `changed` counts time. */
static struct timespec after_ms(uint64_t ms)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    const uint64_t ns = (uint64_t)now.tv_nsec + ms * NS_PER_MS;
    return (struct timespec){.tv_sec = now.tv_sec + (time_t)(ns / NS_PER_S),
                             .tv_nsec = (long)(ns % NS_PER_S)};
}

/* Under the lock. */
static void chunk_await_locked(struct ram_loader *loader, uint32_t chunk)
{
    const uint64_t patience_ms = loader->events.patience_ms;
    const struct timespec soon = after_ms(WORD_AFTER_MS);
    const struct timespec late = after_ms(patience_ms);
    bool has_told = patience_ms <= WORD_AFTER_MS;
    while (state_of(loader, chunk) == CHUNK_MISSING && !loader->is_over) {
        if (pthread_cond_timedwait(&loader->changed, &loader->lock,
                                   has_told ? &late : &soon) != ETIMEDOUT) {
            continue;
        }
        if (has_told) {
            lose_locked(loader, chunk, "the storage of the saved RAM does not answer");
            return;
        }
        has_told = true;
        log_warn("vmm", "a device waits for saved RAM", KV_U64("chunk", chunk),
                 KV_U64("so_far_ms", WORD_AFTER_MS), KV_U64("at_most_ms", patience_ms));
    }
}

/* False when it is lost, or nobody brings it any more. */
static bool chunk_await(struct ram_loader *loader, uint32_t chunk)
{
    struct wish wish = {.chunk = chunk};
    pthread_mutex_lock(&loader->lock);
    if (state_of(loader, chunk) == CHUNK_MISSING && !loader->is_over) {
        wish.next = loader->wishes;
        loader->wishes = &wish;
        call(loader);
    }
    chunk_await_locked(loader, chunk);
    /* The wish may still be in the list, if a fault was faster. */
    for (struct wish **at = &loader->wishes; *at != NULL; at = &(*at)->next) {
        if (*at == &wish) {
            *at = wish.next;
            break;
        }
    }
    const bool is_there = is_in(state_of(loader, chunk));
    pthread_mutex_unlock(&loader->lock);
    if (!is_there) {
        chunk_wake(loader, chunk); /* it may be we who have lost it */
    }
    return is_there;
}

static int bring(void *context, uint64_t address, uint64_t size)
{
    struct ram_loader *loader = context;
    const uint32_t last = chunk_at_address(&loader->shape, address + size - 1);
    for (uint32_t i = chunk_at_address(&loader->shape, address); i <= last; i++) {
        if (!is_in(state_of(loader, i)) && !chunk_await(loader, i)) {
            return -EFAULT;
        }
    }
    return 0;
}

static bool has(void *context, uint64_t address, uint64_t size)
{
    const struct ram_loader *loader = context;
    const uint32_t last = chunk_at_address(&loader->shape, address + size - 1);
    uint32_t chunk = chunk_at_address(&loader->shape, address);
    while (chunk <= last && is_in(state_of(loader, chunk))) {
        chunk++;
    }
    return chunk > last;
}

/* ---- its owner's side ---- */

/* Faults within the kernel count, for KVM's are those: root may have them, and who may
 * open the device. */
static int fault_open(struct err *err)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM};
    CLEANUP_FD int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        CLEANUP_FD int device = fd_open_at(AT_FDCWD, "/dev/userfaultfd", O_RDWR, 0, err);
        if (device < 0) {
            return device;
        }
        fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    }
    return fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0
               ? err_sys(err, -errno, "ask for userfaultfd")
               : TAKE_FD(fd);
}

/* Time that is put forward or back shortens no wait. */
static void changed_init(pthread_cond_t *changed)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes); /* none of the four can fail with this */
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

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
    loader->fd = fd;
    loader->offset = offset;
    loader->events = *events;
    if (events->patience_ms == 0) {
        loader->events.patience_ms = RAM_LOADER_PATIENCE_MS;
    }
    loader->filler = (struct guest_memory_filler){bring, has, loader};
    (void)pthread_mutex_init(&loader->lock, NULL); /* cannot fail without attributes */
    changed_init(&loader->changed);
    loader->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = loader->call_fd < 0 ? err_sys(err, -errno, "prepare to fill RAM") : 0;
    loader->bytes = malloc(RAM_CHUNK_BYTES);
    if (r == 0 && loader->bytes == NULL) {
        r = err_sys(err, -ENOMEM, "prepare to fill RAM");
    }
    loader->fault_fd = r == 0 ? fault_open(err) : -1;
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
        struct uffdio_register range = {
            .range = {.start = (uintptr_t)region->host, .len = region->size_bytes},
            .mode = UFFDIO_REGISTER_MODE_MISSING};
        if (ioctl(loader->fault_fd, UFFDIO_REGISTER, &range) < 0) {
            return err_sys(err, -errno, "watch RAM at 0x%" PRIx64, region->address);
        }
    }
    return 0;
}

int ram_loader_begin(struct ram_loader *loader,
                     struct bytes_reader *section,
                     struct err *err)
{
    REQUIRE(!loader->thread_runs && loader->sums.chunks == NULL);
    guest_memory_init(&loader->shape);
    memcpy(loader->shape.regions, loader->memory->regions, sizeof(loader->shape.regions));
    loader->shape.region_count = loader->memory->region_count;
    int r = ram_sums_read(&loader->sums, loader->memory, section, err);
    if (r < 0) {
        return r;
    }
    loader->states = calloc(loader->sums.count, sizeof(*loader->states));
    if (loader->states == NULL) {
        return err_sys(err, -ENOMEM, "prepare to fill RAM");
    }
    /* Whoever has looked at a page by now (KVM does, for its clock) has made one of zeros
     * there, which nobody would ask for. */
    r = guest_memory_clear(loader->memory, err);
    if (r == 0) {
        r = memory_register(loader, err);
    }
    if (r < 0) {
        return r;
    }
    guest_memory_fill_by(loader->memory, &loader->filler);
    atomic_fetch_add(&loader->refs, 1);
    r = -pthread_create(&loader->thread, NULL, fill_thread, loader);
    loader->thread_runs = r == 0;
    if (r < 0) {
        unref(loader);
        return err_sys(err, r, "start a thread that fills RAM");
    }
    return 0;
}

/* One that hangs in a read is left to itself: it finds that it is over. */
static void thread_end(struct ram_loader *loader)
{
    const struct timespec late = after_ms(loader->events.patience_ms);
    int r = 0;
    pthread_mutex_lock(&loader->lock);
    while (!loader->has_ended && r != ETIMEDOUT) {
        r = pthread_cond_timedwait(&loader->changed, &loader->lock, &late);
    }
    const bool has_ended = loader->has_ended;
    pthread_mutex_unlock(&loader->lock);
    if (has_ended) {
        (void)pthread_join(loader->thread, NULL);
    } else {
        log_warn("vmm", "the storage of the saved RAM does not answer: it is left alone");
        (void)pthread_detach(loader->thread);
    }
    loader->thread_runs = false;
}

void ram_loader_drop(struct ram_loader *loader)
{
    if (loader == NULL || !loader->thread_runs) {
        return;
    }
    atomic_store(&loader->wants_end, true);
    call(loader);
    thread_end(loader);
    over(loader);
    for (uint32_t i = 0; i < loader->sums.count; i++) {
        if (state_of(loader, i) == CHUNK_LOST) {
            chunk_protect(loader, i, PROT_READ | PROT_WRITE);
        }
    }
    atomic_store(&loader->done_chunks, loader->sums.count); /* no more is to come */
}

void ram_loader_progress(const struct ram_loader *loader,
                         struct ram_loader_progress *ret_progress)
{
    *ret_progress = (struct ram_loader_progress){
        .total_bytes = guest_memory_size(loader->memory),
        .done_bytes = atomic_load(&loader->done_chunks) * RAM_CHUNK_BYTES};
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
