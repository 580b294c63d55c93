/* Goal: memory that lay before something that lives goes back to the system, once it was
 * told of. What is resident is the kernel's word (statm). */
#include "base/heap.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <malloc.h>
#include <pthread.h>
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
    ck_assert(!heap_give_back()); /* copies may be on their way still */
    ck_assert_uint_gt(resident_bytes(), before + much / 2);
    ck_assert(heap_give_back());
    ck_assert_uint_lt(resident_bytes(), before + much / 8);
    ck_assert(!heap_give_back()); /* once */
    free(lives);
}
END_TEST

/* As an image on its way, each chunk of which says so. */
START_TEST(what_goes_on_is_waited_for_but_not_for_ever)
{
    for (unsigned i = 0; i < HEAP_LOOKS_MAX - 1; i++) {
        heap_freed();
        ck_assert(!heap_give_back());
    }
    if (_i == 0) { /* it ends */
        ck_assert(heap_give_back());
    } else {
        heap_freed();
        ck_assert(heap_give_back());
        heap_freed();
        ck_assert(!heap_give_back()); /* counted anew */
    }
}
END_TEST

static void *allocate(void *context)
{
    (void)context;
    void *memory = malloc(100);
    ck_assert_ptr_nonnull(memory);
    return memory;
}

/* What another place keeps at its end is never given back. */
START_TEST(a_second_thread_takes_from_the_same_place)
{
    pthread_t thread;
    char *text = NULL;
    size_t size = 0;
    void *lives = NULL;
    heap_keep_small();

    ck_assert_int_eq(pthread_create(&thread, NULL, allocate, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, &lives), 0);

    FILE *file = open_memstream(&text, &size);
    ck_assert(file != NULL && malloc_info(0, file) == 0);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_ptr_nonnull(strstr(text, "<heap nr=\"0\">"));
    ck_assert_ptr_null(strstr(text, "<heap nr=\"1\">"));
    free(text);
    free(lives);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap");
    TCase *tests = tcase_create("heap");
    tcase_add_loop_test(tests, what_goes_on_is_waited_for_but_not_for_ever, 0, 2);
    if (FAULT_HEAP_WORKS) { /* else a sanitizer owns the heap, and gives nothing back */
        tcase_add_test(tests, what_a_large_thing_took_goes_back_when_it_was_told);
        tcase_add_test(tests, a_second_thread_takes_from_the_same_place);
    }
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
