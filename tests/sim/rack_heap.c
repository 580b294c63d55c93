/* malloc and its kin for runs of the simulation, which take and give back small pieces of
 * memory all the time and are over in a second.
 *
 * Shapes: a piece has its size class in the 16 bytes before it; what was given back is
 * kept in a list of its class, and what is new comes off the end of a large mapping, in
 * which zeros need not be written. Nothing is given back to the kernel. Threads: each has
 * lists of its own and may free what another one has taken. Errors: NULL with ENOMEM; a
 * piece that is given back twice, or was never taken, ends the process, as it does with
 * the C library. Not for builds with sanitizers, which have their own. */
#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNIT       16u /* sizes are multiples of it, pieces and their heads aligned to it */
#define SMALL_MAX  1024u              /* above, four classes double the size */
#define SMALL      (SMALL_MAX / UNIT) /* classes */
#define CLASSES    (SMALL + 4 * 32)   /* up to SMALL_MAX << 32 */
#define CHUNK_SIZE ((size_t)64 << 20)
#define HUGE_PAGE  ((size_t)2 << 20)
#define LIVE       UINT32_C(0x6c697665)
#define GONE       UINT32_C(0x676f6e65)

struct head {
    alignas(UNIT) uint32_t class;
    uint32_t state;    /* LIVE or GONE */
    struct head *next; /* of those given back */
};
_Static_assert(sizeof(struct head) == UNIT, "what a piece costs");

struct heap {
    struct head *lists[CLASSES];
    uint8_t *fresh; /* never used, all zeros */
    size_t left;
};
static _Thread_local struct heap heap;

static unsigned class_of(size_t size)
{
    if (size <= SMALL_MAX) {
        return (unsigned)((size + UNIT - 1) / UNIT) - (size > 0 ? 1U : 0U);
    }
    unsigned power = 63U - (unsigned)__builtin_clzll((size - 1) / SMALL_MAX);
    size_t quarter = ((size_t)SMALL_MAX << power) / 4;
    return SMALL + 4 * power + (unsigned)((size - 1) / quarter) - 4;
}

static size_t size_of(unsigned class)
{
    if (class < SMALL) {
        return (class + (size_t)1) * UNIT;
    }
    unsigned at = class - SMALL;
    size_t quarter = ((size_t)SMALL_MAX << (at / 4)) / 4;
    return quarter * (at % 4 + 5);
}

static bool chunk_new(size_t at_least)
{
    size_t size = at_least > CHUNK_SIZE / 2 ? at_least : CHUNK_SIZE;
    size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *chunk = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (chunk == MAP_FAILED) {
        return false;
    }
    (void)madvise(chunk, size, MADV_HUGEPAGE); /* without it there are more faults */
    heap.fresh = chunk;
    heap.left = size;
    return true;
}

/* *ret_zero: it has never been used. */
static struct head *take(size_t size, bool *ret_zero)
{
    if (size > PTRDIFF_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }
    unsigned class = class_of(size);
    struct head *head = heap.lists[class];
    *ret_zero = head == NULL;
    if (head != NULL) {
        heap.lists[class] = head->next;
        head->state = LIVE;
        return head;
    }
    size_t whole = size_of(class) + sizeof(*head);
    if (whole > heap.left && !chunk_new(whole)) {
        errno = ENOMEM;
        return NULL;
    }
    head = (struct head *)(void *)heap.fresh;
    heap.fresh += whole;
    heap.left -= whole;
    head->class = class;
    head->state = LIVE;
    return head;
}

static struct head *head_of(void *piece)
{
    struct head *head = (struct head *)piece - 1;
    if (head->state != LIVE) {
        static const char words[] = "rack: what was not taken is given back\n";
        (void)!write(2, words, sizeof(words) - 1);
        abort();
    }
    return head;
}

void *malloc(size_t size)
{
    bool zero = false;
    struct head *head = take(size, &zero);
    return head != NULL ? head + 1 : NULL;
}

void free(void *piece)
{
    if (piece != NULL) {
        struct head *head = head_of(piece);
        head->state = GONE;
        head->next = heap.lists[head->class];
        heap.lists[head->class] = head;
    }
}

void *calloc(size_t count, size_t size)
{
    size_t whole = 0;
    bool zero = false;
    if (__builtin_mul_overflow(count, size, &whole)) {
        errno = ENOMEM;
        return NULL;
    }
    struct head *head = take(whole, &zero);
    if (head != NULL && !zero) {
        memset(head + 1, 0, whole);
    }
    return head != NULL ? head + 1 : NULL;
}

void *realloc(void *piece, size_t size)
{
    if (piece == NULL) {
        return malloc(size);
    }
    struct head *head = head_of(piece);
    size_t has = size_of(head->class);
    if (size <= has && size > 0) {
        return piece;
    }
    void *moved = size > 0 ? malloc(size) : NULL;
    if (moved != NULL) {
        memcpy(moved, piece, has);
    }
    if (moved != NULL || size == 0) {
        free(piece);
    }
    return moved;
}

/* Of what is aligned to more than a unit, a run takes nothing that it gives back. */
void *aligned_alloc(size_t alignment, size_t size)
{
    if (alignment <= UNIT) {
        return malloc(size);
    }
    errno = ENOMEM;
    return NULL;
}

int posix_memalign(void **ret_piece, size_t alignment, size_t size)
{
    void *piece = aligned_alloc(alignment, size);
    if (piece == NULL) {
        return ENOMEM;
    }
    *ret_piece = piece;
    return 0;
}
