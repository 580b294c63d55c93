/* Goal: memory that lay before something that lives goes back to the system, once it was
 * told of. What is resident is the kernel's word (statm). */
#include "base/heap.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNKS     64
#define CHUNK_SIZE (256u << 10)

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    size_t pages = 0;
    ck_assert(file != NULL && fscanf(file, "%*u %zu", &pages) == 1);
    (void)fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* As an image leaves the heap: much that is free, and behind it something that lives. */
static void *use_much(void)
{
    void *chunks[CHUNKS + 1];
    for (unsigned i = 0; i < CHUNKS + 1; i++) {
        chunks[i] = malloc(CHUNK_SIZE);
        ck_assert_ptr_nonnull(chunks[i]);
        memset(chunks[i], (int)i, i < CHUNKS ? CHUNK_SIZE : 100);
    }
    for (unsigned i = 0; i < CHUNKS; i++) {
        free(chunks[i]);
    }
    return chunks[CHUNKS];
}

START_TEST(what_a_large_thing_took_goes_back_when_it_was_told)
{
    heap_keep_small();
    const size_t before = resident_bytes();
    void *lives = use_much();
    const size_t much = CHUNKS * (size_t)CHUNK_SIZE;
    ck_assert_uint_gt(resident_bytes(), before + much / 2);

    ck_assert(!heap_give_back()); /* nothing was told */
    ck_assert_uint_gt(resident_bytes(), before + much / 2);
    heap_freed();
    ck_assert(heap_give_back());
    ck_assert_uint_lt(resident_bytes(), before + much / 8);
    ck_assert(!heap_give_back()); /* once */
    free(lives);
}
END_TEST

int main(void)
{
    if (!FAULT_HEAP_WORKS) {
        return 77; /* a sanitizer owns the heap, and gives nothing back */
    }
    Suite *suite = suite_create("heap");
    TCase *tests = tcase_create("heap");
    tcase_add_test(tests, what_a_large_thing_took_goes_back_when_it_was_told);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
