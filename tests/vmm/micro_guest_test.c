/* Goal: the real berth-vmm, in its jail, lives through what a hostile guest does from
 * inside: it does not end, hang or grow, answers QMP, and each row of the guest finds
 * what it should. Method: the micro guest (tests/vmm/guest) on /dev/kvm, a group of its
 * rows a boot; what it cannot see itself is looked at here. 77 without a KVM;
 * tests/system/kvm_machine_test.sh runs this where there is a real one. With "planted"
 * the program has bugs that only such a guest can see, and has to be found out. */
#include "micro_host.h"
#include "support/test_main.h"
#include "vmm/planted_fault.h"

#define GROWTH_KIB_MAX 1024

static struct micro micro;
static long measured_kib;
static unsigned bad_count;

static void setup(void)
{
    micro_init(&micro);
    bad_count = 0;
    measured_kib = -1;
}

static void teardown(void)
{
    micro_fini(&micro);
}

/* ---- what the guest asks for ---- */

static void query(void)
{
    const char *answer = micro_qmp(&micro, "{\"execute\":\"query-status\"}\n", -1);
    ck_assert_msg(strstr(answer, "\"running\"") != NULL, "%s", answer);
}

static void measure(void)
{
    query();
    measured_kib = micro_anonymous_kib(&micro);
    ck_assert_int_gt(measured_kib, 0);
}

static void compare(void)
{
    query();
    const long grown = micro_anonymous_kib(&micro) - measured_kib;
    printf("  it has grown by %ld KiB\n", grown);
    ck_assert_msg(grown <= GROWTH_KIB_MAX, "%s it has grown by %ld KiB",
                  micro_told(&micro, ""), grown);
}

static const struct ask {
    const char *word;
    void (*act)(void);
} asks[] = {
    {"measure", measure},
    {"compare", compare},
    {"query", query},
};

static void obey(const char *word)
{
    for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
        if (strcmp(asks[i].word, word) == 0) {
            asks[i].act();
            micro_type(&micro, 'g');
            return;
        }
    }
    ck_abort_msg("the guest asks for %s", word);
}

/* Hears the guest out: whether it came to the end of its group. */
static bool hear_out(void)
{
    const char *line;
    bool is_done = false;
    while ((line = micro_hear(&micro)) != NULL) {
        if (strncmp(line, "ask ", 4) == 0) {
            obey(line + 4);
        } else {
            bad_count += strncmp(line, "bad ", 4) == 0;
            is_done = is_done || strncmp(line, "done ", 5) == 0;
            if (strncmp(line, "begin ", 6) != 0) {
                printf("  %s\n", line);
            }
            (void)fflush(stdout);
        }
    }
    return is_done;
}

static const char *const groups[] = {"bus", "queue"};

START_TEST(the_monitor_lives_through_each_group_of_rows)
{
    printf("%s:\n", groups[_i]);
    micro_start(&micro, groups[_i]);

    const bool is_done = hear_out();

    const int code = micro_ended(&micro);
    ck_assert_msg(is_done && code == 0 && bad_count == 0,
                  "%s %s: exit code %d, %u rows are bad, %s", micro_told(&micro, ""),
                  groups[_i], code, bad_count, is_done ? "done" : "not done");
}
END_TEST

/* ---- bugs on purpose ---- */

struct plant_row {
    enum planted_fault fault;
    const char *group;
    unsigned bad_count; /* rows that have to say so, at least */
};

static const struct plant_row plants[] = {
    {PLANTED_NONE, "bus", 0},
    {PLANTED_NONE, "queue", 0},
    {PLANTED_BAR_STAYS, "bus", 1},
    {PLANTED_STRING_SHORT, "bus", 1},
    {PLANTED_QUEUE_SIZE_OPEN, "queue", 1},
};

START_TEST(the_guest_finds_what_is_planted)
{
    char fault[16];
    (void)snprintf(fault, sizeof(fault), "%d", (int)plants[_i].fault);
    micro.planted = fault;
    micro_start(&micro, plants[_i].group);

    const bool is_done = hear_out();

    const int code = micro_ended(&micro);
    printf("%s with fault %s: %u rows are bad, exit code %d\n", plants[_i].group, fault,
           bad_count, code);
    if (plants[_i].bad_count == 0) {
        ck_assert(is_done && code == 0 && bad_count == 0);
    } else {
        ck_assert_msg(bad_count >= plants[_i].bad_count || code != 0,
                      "%s nobody has seen fault %s", micro_told(&micro, ""), fault);
    }
}
END_TEST

int main(int argc, char **argv)
{
    const bool is_planted = argc > 1 && strcmp(argv[1], "planted") == 0;
#ifdef __SANITIZE_THREAD__
    return test_main_skip("ThreadSanitizer calls what berth-vmm's walls keep out");
#endif
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        return test_main_skip("there is no /dev/kvm that may be used");
    }
    Suite *suite = suite_create("micro_guest");
    TCase *tests = tcase_create("micro_guest");
    tcase_add_checked_fixture(tests, setup, teardown);
    if (is_planted) {
        tcase_add_loop_test(tests, the_guest_finds_what_is_planted, 0,
                            (int)(sizeof(plants) / sizeof(plants[0])));
    } else {
        tcase_add_loop_test(tests, the_monitor_lives_through_each_group_of_rows, 0,
                            (int)(sizeof(groups) / sizeof(groups[0])));
    }
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
