/* Goal: no guest ends, hangs or grows the machine monitor. Method: random operations on
 * every device type from a seed that is printed; memory must not grow between the first
 * tenth and the end. `hostile_guest_test OPERATIONS SEED` runs a longer or another
 * campaign. Built with planted faults, the same campaign has to find each of them. */
#include "base/parse_number.h"
#include "hostile_devices.h"
#include "support/test_main.h"
#include "vmm/planted_fault.h"

#include <check.h>

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/wait.h>

/* What may differ between two moments of the same machine: buffers of a save. */
#define GROWTH_BYTES_MAX (64 << 10)

/* The sanitizer's heap counts itself; it is there or not. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static uint64_t operations = 100000;
static uint64_t seed = 1;

static long heap_bytes(void)
{
    return __sanitizer_get_current_allocated_bytes != NULL
               ? (long)__sanitizer_get_current_allocated_bytes()
               : (long)mallinfo2().uordblks;
}

/* What is on its way is none of its memory: the driver starts over. */
static long settled_bytes(struct hostile *hostile)
{
    hostile_let_work(hostile);
    guest_set(&hostile->guest, GUEST_STATUS, 1, 0);
    return heap_bytes();
}

static void campaign(const struct hostile_device *device, uint64_t count)
{
    static struct hostile hostile;
    long early = 0;
    hostile_init(&hostile, device);
    random_seed(&hostile.random, seed);
    for (uint64_t i = 0; i < count; i++) {
        if (i == count / 10) {
            early = settled_bytes(&hostile);
        }
        hostile_step(&hostile);
    }
    const long growth = settled_bytes(&hostile) - early;
    ck_assert_msg(growth <= GROWTH_BYTES_MAX, "%s grew by %ld bytes (seed %" PRIu64 ")",
                  device->name, growth, seed);
    hostile_fini(&hostile);
}

#ifndef BERTH_PLANTED_FAULTS

START_TEST(no_guest_ends_hangs_or_grows_the_monitor)
{
    printf("%s: %" PRIu64 " operations, seed %" PRIu64 "\n", hostile_devices[_i]->name,
           operations, seed);
    campaign(hostile_devices[_i], operations);
}
END_TEST

#else

enum planted_fault planted_fault = PLANTED_NONE;

/* What finds each fault: the device that can run into it. Those behind the last are for a
 * guest in a machine (micro_guest_test.c). */
static const struct hostile_device *const finders[] = {
    [PLANTED_NONE] = &hostile_block,
    [PLANTED_QUEUE_SIZE_OPEN] = &hostile_block,
    [PLANTED_HEAD_TWICE] = &hostile_block,
    [PLANTED_RAM_OFF_BY_ONE] = &hostile_random,
    [PLANTED_RANDOM_UNCAPPED] = &hostile_random,
};

START_TEST(the_campaign_finds_every_planted_fault)
{
    int status = 0;
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(null, STDERR_FILENO); /* the sanitizer's report */
        planted_fault = (enum planted_fault)_i;
        campaign(finders[_i], operations);
        _exit(0);
    }

    ck_assert_int_eq(waitpid(child, &status, 0), child);

    const bool survived = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    ck_assert_msg(survived == (_i == PLANTED_NONE), "fault %d: status %x", _i, status);
}
END_TEST

#endif

int main(int argc, char **argv)
{
    if ((argc > 1 && parse_u64(argv[1], &operations, NULL) != 0) ||
        (argc > 2 && parse_u64(argv[2], &seed, NULL) != 0)) {
        fprintf(stderr, "hostile_guest_test [OPERATIONS [SEED]]\n");
        return 2;
    }
    Suite *suite = suite_create("hostile_guest");
    TCase *tests = tcase_create("hostile_guest");
    tcase_set_timeout(tests, argc > 1 ? 0 : 100);
#ifndef BERTH_PLANTED_FAULTS
    tcase_add_loop_test(tests, no_guest_ends_hangs_or_grows_the_monitor, 0,
                        (int)ARRAY_COUNT(hostile_devices));
#else
    tcase_add_loop_test(tests, the_campaign_finds_every_planted_fault, 0,
                        (int)ARRAY_COUNT(finders));
#endif
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
