/* Goal: RAM of reserved huge pages is reserved as a whole, stays so whatever a guest
 * gives back, is saved without pages that nobody touched, and comes in lazily in whole
 * pages. Method: the host's own pool of 2 MiB pages; without free ones a skip (tier T2
 * has some).
 */
#include "base/cleanup.h"
#include "support/test_main.h"
#include "vmm/ram_image.h"
#include "vmm/ram_loader.h"

#include <check.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK   RAM_CHUNK_BYTES
#define CHUNKS  6u
#define HIGH_AT (UINT64_C(64) << 20)
#define LOW     2u /* chunks below the hole */

static const struct ram_backing backing = {.pages = RAM_PAGES_2M};

static uint64_t pool(const char *name)
{
    char path[128];
    unsigned long long value = 0;
    (void)snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-2048kB/%s",
                   name);
    FILE *file = fopen(path, "re");
    if (file == NULL || fscanf(file, "%llu", &value) != 1) {
        value = 0;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return value;
}

static void make(struct guest_memory *memory)
{
    struct err err = {0};
    guest_memory_init(memory);
    ck_assert_msg(guest_memory_add_backed(memory, 0, LOW * CHUNK, &backing, &err) == 0 &&
                      guest_memory_add_backed(memory, HIGH_AT, (CHUNKS - LOW) * CHUNK,
                                              &backing, &err) == 0,
                  "%s", err.text);
}

START_TEST(all_of_it_is_reserved_and_none_is_taken_before_it_is_touched)
{
    const uint64_t reserved = pool("resv_hugepages");
    const uint64_t free_pages = pool("free_hugepages");
    struct guest_memory memory;

    make(&memory);

    ck_assert_uint_eq(pool("resv_hugepages"), reserved + CHUNKS);
    ck_assert_int_eq(guest_memory_write(&memory, HIGH_AT + CHUNK, "x", 1), 0);
    ck_assert_uint_eq(pool("free_hugepages"), free_pages - 1);
    ck_assert_uint_eq(pool("resv_hugepages"), reserved + CHUNKS - 1);
    guest_memory_fini(&memory);
    ck_assert_uint_eq(pool("free_hugepages"), free_pages);
    ck_assert_uint_eq(pool("resv_hugepages"), reserved);
}
END_TEST

START_TEST(what_a_guest_gives_back_stays_and_a_reset_wipes_it)
{
    const uint64_t reserved = pool("resv_hugepages");
    const uint64_t free_pages = pool("free_hugepages");
    struct guest_memory memory;
    uint8_t byte = 0;
    make(&memory);
    ck_assert_int_eq(guest_memory_write(&memory, HIGH_AT + CHUNK + 5, "x", 1), 0);

    ck_assert(!guest_memory_can_release(&memory));
    ck_assert_int_eq(guest_memory_release(&memory, HIGH_AT + CHUNK, CHUNK),
                     BERTH_EUNSUPPORTED);
    ck_assert_int_eq(guest_memory_read(&memory, HIGH_AT + CHUNK + 5, &byte, 1), 0);
    ck_assert_uint_eq(byte, 'x');
    ck_assert_int_eq(guest_memory_clear(&memory, NULL), 0);

    ck_assert_int_eq(guest_memory_read(&memory, HIGH_AT + CHUNK + 5, &byte, 1), 0);
    ck_assert_uint_eq(byte, 0);
    ck_assert_uint_eq(pool("free_hugepages") - pool("resv_hugepages"),
                      free_pages - reserved - CHUNKS);
    ck_assert_uint_eq(pool("free_hugepages"), free_pages - 1);
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(what_was_touched_is_found_and_nothing_else)
{
    struct guest_memory memory;
    make(&memory);
    ck_assert_int_eq(guest_memory_write(&memory, HIGH_AT + CHUNK + 5, "x", 1), 0);

    ck_assert_uint_eq(guest_memory_content_from(&memory, 0, 0), LOW * CHUNK);
    ck_assert_uint_eq(guest_memory_content_from(&memory, 1, 0), CHUNK);
    ck_assert_uint_eq(guest_memory_content_from(&memory, 1, CHUNK + 9), CHUNK + 9);
    ck_assert_uint_eq(guest_memory_content_end(&memory, 1, CHUNK), 2 * CHUNK);
    ck_assert_uint_eq(guest_memory_content_from(&memory, 1, 2 * CHUNK),
                      (CHUNKS - LOW) * CHUNK);
    guest_memory_fini(&memory);
}
END_TEST

static atomic_bool has_failed;

static void failed(void *context, const char *reason)
{
    (void)context;
    (void)fprintf(stderr, "%s\n", reason);
    atomic_store(&has_failed, true);
}

/* A page with a byte at each end comes whole, one that was never there is zeros, whoever
 * asks. */
START_TEST(a_saved_machine_comes_in_by_whole_pages)
{
    const struct ram_loader_events events = {.failed = failed};
    const uint64_t content = HIGH_AT + CHUNK;
    struct ram_progress progress = {0};
    struct bytes_writer section;
    struct bytes_reader reader;
    struct guest_memory saved;
    struct guest_memory memory;
    struct ram_loader *loader = NULL;
    struct err err = {0};
    uint8_t bytes[2] = {0};
    bytes_writer_init(&section, 1u << 16);
    CLEANUP_FD int file = memfd_create("image", MFD_CLOEXEC);
    make(&saved);
    ck_assert_int_eq(guest_memory_write(&saved, content, "a", 1), 0);
    ck_assert_int_eq(guest_memory_write(&saved, content + CHUNK - 1, "z", 1), 0);
    ck_assert_int_eq(guest_memory_write(&saved, HIGH_AT + 2 * CHUNK + 9, "m", 1), 0);
    ck_assert_int_eq(ram_image_write(&saved, file, 0, &progress, &section, NULL), 0);
    ck_assert_int_eq(ftruncate(file, CHUNKS * CHUNK), 0);
    guest_memory_fini(&saved);
    make(&memory);
    ck_assert_int_eq(ram_loader_new(&memory, file, 0, &events, &loader, &err), 0);
    bytes_reader_init(&reader, section.data, section.size);
    /* KVM looks at pages before: then nobody would be asked for them */
    ck_assert_uint_eq(memory.regions[1].host[CHUNK], 0);
    ck_assert_uint_eq(memory.regions[1].host[3 * CHUNK], 0);

    ck_assert_msg(ram_loader_begin(loader, &reader, &err) == 0, "%s", err.text);

    /* as a vCPU would */
    bytes[0] = memory.regions[1].host[CHUNK];
    bytes[1] = memory.regions[1].host[2 * CHUNK - 1];
    ck_assert_uint_eq(bytes[0], 'a');
    ck_assert_uint_eq(bytes[1], 'z');
    ck_assert_uint_eq(memory.regions[1].host[2 * CHUNK + 9], 'm');
    ck_assert_uint_eq(memory.regions[0].host[CHUNK + 7], 0);
    /* as a device */
    ck_assert_int_eq(guest_memory_read(&memory, HIGH_AT + 3 * CHUNK, bytes, 1), 0);
    ck_assert_uint_eq(bytes[0], 0);
    ck_assert(!atomic_load(&has_failed));
    loader = ram_loader_free(loader);
    ck_assert_int_eq(guest_memory_read(&memory, content, bytes, 1), 0);
    ck_assert_uint_eq(bytes[0], 'a');
    guest_memory_fini(&memory);
    bytes_writer_fini(&section);
}
END_TEST

/* Pages of a node are there at once: who lacks one is told, not killed later. */
START_TEST(bound_ram_is_filled_at_once)
{
    const struct ram_backing bound = {.pages = RAM_PAGES_2M, .policy = RAM_POLICY_BIND};
    const uint64_t free_pages = pool("free_hugepages");
    struct guest_memory memory;
    struct err err = {0};
    guest_memory_init(&memory);

    ck_assert_msg(guest_memory_add_backed(&memory, 0, 2 * CHUNK, &bound, &err) == 0, "%s",
                  err.text);

    ck_assert_uint_eq(pool("free_hugepages"), free_pages - 2);
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(more_than_there_is_cannot_be_made)
{
    struct guest_memory memory;
    struct err err = {0};
    guest_memory_init(&memory);

    ck_assert_int_eq(guest_memory_add_backed(&memory, 0,
                                             (pool("free_hugepages") + 1) * CHUNK,
                                             &backing, &err),
                     -ENOMEM);

    ck_assert_uint_eq(memory.region_count, 0);
}
END_TEST

int main(void)
{
    if (pool("free_hugepages") < pool("resv_hugepages") + 2 * CHUNKS) {
        (void)printf("this host has not reserved %u huge pages of 2 MiB\n", 2 * CHUNKS);
        return 77;
    }
    Suite *suite = suite_create("ram_pool");
    TCase *tests = tcase_create("ram_pool");
    tcase_add_test(tests, all_of_it_is_reserved_and_none_is_taken_before_it_is_touched);
    tcase_add_test(tests, what_a_guest_gives_back_stays_and_a_reset_wipes_it);
    tcase_add_test(tests, what_was_touched_is_found_and_nothing_else);
    tcase_add_test(tests, a_saved_machine_comes_in_by_whole_pages);
    tcase_add_test(tests, bound_ram_is_filled_at_once);
    tcase_add_test(tests, more_than_there_is_cannot_be_made);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
