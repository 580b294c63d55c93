/* Seeds that once failed, and a few more: every promise is kept. The list only grows.
 *
 *     235  a snapshot whose answer was lost left a follower behind for 30 s (guard G10)
 *       3  a leader with several writes under way crashed when it was closed (G11)
 *    1030  a vote that could not be stored crashed an election after a transfer (G2)
 *    1181  a vote that was sealed but never stored made the log look damaged (G9)
 *      79  a member that was closed waited for a transfer to end
 *    2, 14  (with VMs) a back-off booked by a leader whose wall clock ran ahead was
 * waited for as long as its clock was wrong
 *     150  (and members change) a rack of one that grows: its leader gave a second host a
 * vote and lost touch; neither was elected ever after (G14)
 *    9928  a follower whose log began behind its snapshot refused what it had, and
 * its leader began anew for ever (G23)
 *   19428  (and members change) a candidate that was cut off before its votes came raised
 * its term for ever, and with it that of another who had no vote any more (G22)
 *   14184  (and members change) a leader that had stored a change and died went on to
 * count by its own members after its successor had none such (G6)
 *   24786  (and members change) a change that a received snapshot had overtaken was under
 * way for ever: this host as leader changed no members (G6)
 *   1404, 16  (and members change) a watcher went back and forth between two voters of
 * which one had none any more, for a minute
 *   47355  (and members change) a disk that was not damaged after all counted as such
 *   71325, 75885  (and members change) the only host that one which was away knew to vote
 * was gone when it came back; it waited for that one (a token helps: berth join)
 *
 * Faults have been added since and schedules have changed with them: 14184, 24786 and
 * 1404 play something else by now, and pass without the mend, too (16 does not).
 * bugs_test.c has G6's mistake as change-stays. Seed 90, with members that change, found
 * that the only voter led again in its old term (G19, which raft_guard_test.c has): 150
 * is such a rack, too. It is not kept, for in it a received snapshot cannot be stored by
 * now, of which libraft loses 16 bytes when it ends, and LeakSanitizer sees that.
 */
#include "sim.h"
#include "sim_fault.h"
#include "support/test_main.h"

static const struct {
    uint64_t seed;
    enum { LOG, RACK, MEMBERS, HELPED } run; /* the last with an operator's token */
} rows[] = {
    {235, LOG},     {3, LOG},         {1030, LOG},      {1181, LOG},     {79, LOG},
    {9928, LOG},    {2, RACK},        {10, RACK},       {14, RACK},      {106, RACK},
    {150, MEMBERS}, {19428, MEMBERS}, {47355, MEMBERS}, {71325, HELPED}, {75885, HELPED},
    {14184, RACK},  {24786, RACK},    {1404, RACK},     {16, MEMBERS},
};

START_TEST(a_seed_keeps_every_promise)
{
    uint64_t seed = rows[_i].seed;
    struct sim_config config = rows[_i].run >= MEMBERS
                                   ? sim_config_changing(seed)
                                   : sim_config_of(seed, rows[_i].run == RACK);
    struct sim_fault_list faults;
    sim_faults_make(&config, &faults);
    struct sim *sim = sim_new(&config, &faults, UINT64_MAX);

    bool good = sim_run(sim);

    ck_assert_msg(good, "seed %llu: %s", (unsigned long long)seed, sim->world.failure);
    ck_assert_uint_gt(sim->stats.acked, 0);
    ck_assert_int_eq(sim->stats.helped > 0, rows[_i].run == HELPED);
    sim_free(sim);
}
END_TEST

static const int runs_again[] = {LOG, RACK, MEMBERS};

/* Two runs of a seed are one run, whatever is in it. */
START_TEST(a_seed_gives_the_same_run_again)
{
    uint64_t traces[2];
    uint64_t commands[2];
    for (unsigned i = 0; i < 2; i++) {
        struct sim_config config = runs_again[_i] == MEMBERS
                                       ? sim_config_changing(77)
                                       : sim_config_of(77, runs_again[_i] == RACK);
        struct sim_fault_list faults;
        sim_faults_make(&config, &faults);
        struct sim *sim = sim_new(&config, &faults, UINT64_MAX);
        ck_assert(sim_run(sim));
        ck_assert_int_eq(sim->stats.vm_starts > 0, runs_again[_i] != LOG);
        ck_assert_int_eq(sim->stats.joined > 0, runs_again[_i] == MEMBERS);
        commands[i] = oracle_count(sim->oracle);
        traces[i] = sim_trace(sim);
        sim_free(sim);
    }
    ck_assert_uint_gt(commands[0], 0);
    ck_assert_uint_eq(commands[0], commands[1]);
    ck_assert_uint_eq(traces[0], traces[1]);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("seeds");
    TCase *tcase = tcase_create("seeds");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_seed_keeps_every_promise, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_loop_test(tcase, a_seed_gives_the_same_run_again, 0,
                        (int)(sizeof(runs_again) / sizeof(runs_again[0])));
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
