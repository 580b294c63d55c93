/* Goal: no guest ends, hangs or grows the machine monitor. Method: random operations on
 * every device type, and on slots ("slots"), from a seed that is printed; memory must not
 * grow between the first tenth and the end; what does not come back is told by device,
 * operation and seed. `hostile_guest_test OPERATIONS SEED DEVICE` runs a longer or
 * another campaign (tests/vmm/hostile_guest_soak.sh runs many). Built with planted
 * faults, the same campaign has to find each of them. */
#include "base/log.h"
#include "base/parse_number.h"
#include "hostile_devices.h"
#include "hostile_slots.h"
#include "support/test_main.h"
#include "vmm/planted_fault.h"

#include <check.h>

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define STEPS_WATCHED 1024u /* operations that one alarm is set for */
#define STEPS_LAST_S  120u  /* a thousandth of that is what they take */

/* What may differ between two moments of the same machine: buffers of a save. */
#define GROWTH_BYTES_MAX (64 << 10)

#define SLOTS "slots" /* beside the devices */

/* The sanitizer's heap counts itself; it is there or not. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static uint64_t operations = 100000;
static uint64_t seed = 1;
static const char *only; /* one device; NULL: all */

/* For who reads of an operation that does not end. */
static const char *watched_device;
static uint64_t watched_operation;

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

static void on_alarm(int number)
{
    char text[160];
    (void)number;
    const int size = snprintf(text, sizeof(text),
                              "HANG: %s does not come back from operation %" PRIu64
                              " of seed %" PRIu64 "\n",
                              watched_device, watched_operation, seed);
    (void)!write(STDERR_FILENO, text, (size_t)size);
    abort();
}

static void campaign(const struct hostile_device *device, uint64_t count)
{
    static struct hostile hostile;
    long early = 0;
    log_setup(LOG_LEVEL_ERROR, false); /* it warns of each device that a guest breaks */
    hostile_init(&hostile, device);
    random_seed(&hostile.random, seed);
    watched_device = device->name;
    (void)signal(SIGALRM, on_alarm);
    for (uint64_t i = 0; i < count; i++) {
        watched_operation = i;
        if (i % STEPS_WATCHED == 0) {
            (void)alarm(STEPS_LAST_S);
        }
        if (i == count / 10) {
            early = settled_bytes(&hostile);
        }
        hostile_step(&hostile);
    }
    const long growth = settled_bytes(&hostile) - early;
    ck_assert_msg(growth <= GROWTH_BYTES_MAX, "%s grew by %ld bytes (seed %" PRIu64 ")",
                  device->name, growth, seed);
    hostile_fini(&hostile);
    (void)alarm(0);
}

#ifndef BERTH_PLANTED_FAULTS

START_TEST(no_guest_changes_which_devices_are_in_slots)
{
    struct slots slots = {.poller = NULL};
    struct random random;
    long early = 0;
    if (only != NULL && strcmp(only, SLOTS) != 0) {
        return;
    }
    printf(SLOTS ": %" PRIu64 " operations, seed %" PRIu64 "\n", operations, seed);
    random_seed(&random, seed);
    slots_init(&slots);
    watched_device = SLOTS;
    (void)signal(SIGALRM, on_alarm);
    for (uint64_t i = 0; i < operations; i++) {
        uint8_t step[SLOTS_STEP_BYTES];
        watched_operation = i;
        if (i % STEPS_WATCHED == 0) {
            (void)alarm(STEPS_LAST_S);
        }
        if (i == operations / 10) {
            slots_empty(&slots);
            early = heap_bytes();
        }
        for (unsigned at = 0; at < SLOTS_STEP_BYTES; at++) {
            step[at] = (uint8_t)random_below(&random, 256);
        }
        slots_step(&slots, step);
    }
    slots_empty(&slots);
    const long growth = heap_bytes() - early;
    slots_fini(&slots);
    ck_assert_msg(growth <= GROWTH_BYTES_MAX, "slots grew by %ld bytes", growth);
    (void)alarm(0);
}
END_TEST

START_TEST(no_guest_ends_hangs_or_grows_the_monitor)
{
    if (only != NULL && strcmp(only, hostile_devices[_i]->name) != 0) {
        return;
    }
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

/* NULL is any. */
static bool is_a_device(const char *name)
{
    bool is_one = name == NULL || strcmp(name, SLOTS) == 0;
    for (size_t i = 0; !is_one && i < ARRAY_COUNT(hostile_devices); i++) {
        is_one = strcmp(hostile_devices[i]->name, name) == 0;
    }
    return is_one;
}

int main(int argc, char **argv)
{
    only = argc > 3 ? argv[3] : NULL;
    if ((argc > 1 && parse_u64(argv[1], &operations, NULL) != 0) ||
        (argc > 2 && parse_u64(argv[2], &seed, NULL) != 0) || !is_a_device(only)) {
        fprintf(stderr, "hostile_guest_test [OPERATIONS [SEED [DEVICE]]]\n");
        return 2;
    }
    Suite *suite = suite_create("hostile_guest");
    TCase *tests = tcase_create("hostile_guest");
    tcase_set_timeout(tests, argc > 1 ? 0 : 100);
#ifndef BERTH_PLANTED_FAULTS
    tcase_add_loop_test(tests, no_guest_ends_hangs_or_grows_the_monitor, 0,
                        (int)ARRAY_COUNT(hostile_devices));
    tcase_add_test(tests, no_guest_changes_which_devices_are_in_slots);
#else
    tcase_add_loop_test(tests, the_campaign_finds_every_planted_fault, 0,
                        (int)ARRAY_COUNT(finders));
#endif
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
