/* Mistakes put in on purpose: each has to be found, or the checks are worth nothing.
 *
 * From a seed that is known to show it on, at most SEEDS_MAX are tried, so that a change
 * of the schedules does not make the test lie, and none behind SEED_LAST, so that each is
 * within reach of a run of that many. Without its guard libraft crashes, too:
 * that mistake is guard_test.c's and `rack --bug bare`'s.
 */
#include "sim.h"
#include "sim_fault.h"
#include "support/test_main.h"

#include <string.h>

#define SEEDS_MAX 400
#define SEED_LAST 1000

static const struct {
    enum sim_bug bug;
    uint64_t first; /* where it shows now */
    enum { LOG, RACK, MEMBERS, LATE } run;
    const char *says; /* in the violation */
} rows[] = {
    {SIM_BUG_ACK_BEFORE_FSYNC, 1, LOG, "which a majority of its"},
    {SIM_BUG_NO_LEADER_WAIT, 2, RACK, "has not ended on"},
    {SIM_BUG_LEASE_FROM_ACK, 164, RACK, "has not ended on"},
    {SIM_BUG_OLD_ORDERS, 668, RACK, "removes the disks of"},
    {SIM_BUG_NO_EPOCH_CHECK, 2, RACK, "has run on"},
    {SIM_BUG_RESUME_LATE, 1, RACK, "has not ended on"},
    {SIM_BUG_NO_FENCE, 2, RACK, "has not ended on"},
    {SIM_BUG_DROP_AT_RESTART, 2, RACK, "removes the disks of"},
    {SIM_BUG_NO_KEEP, 1, RACK, "removes the disks of"},
    {SIM_BUG_DISKS_ANEW, 1, RACK, "it has none such"},
    {SIM_BUG_DISKS_FORGOTTEN, 1, RACK, "does not say that it has the disks"},
    {SIM_BUG_FEED_GAP, 2, RACK, "comes next"},
    {SIM_BUG_RESUME_SKIPS, 2, RACK, "comes next"},
    {SIM_BUG_NO_COMPARE, 1, RACK, "no order explains"},
    {SIM_BUG_SEAL_UNWAITED, 63, LOG, "a log that nobody has damaged"},
    {SIM_BUG_DAMAGE_AS_TORN, 25, LOG, "which it had stored"},
    {SIM_BUG_OLD_START, 3, LATE, "has run on"},
    {SIM_BUG_UNKNOWN_IS_OVER, 108, LATE, "has not ended on"},
    {SIM_BUG_LOG_ANEW, 18, MEMBERS, "is a voter and has forgotten"},
    {SIM_BUG_EARLY_VOTER, 10, MEMBERS, "a vote whose log ends at"},
    {SIM_BUG_TWO_AT_ONCE, 1, MEMBERS, "voters at once"},
    {SIM_BUG_STANDBY_COUNTS, 1, MEMBERS, "which a majority of its"},
    {SIM_BUG_BEGUN_UNSAID, 1, RACK, "has begun from since"},
    {SIM_BUG_CHANGE_STAYS, 276, MEMBERS, "its log says"},
    {SIM_BUG_CHANGE_MISSED, 14, MEMBERS, "its log says"},
    {SIM_BUG_NEVER_ASKS, 1, LOG, "has not asked whether"},
    {SIM_BUG_LOSS_UNSAID, 1, RACK, "NOT all snapshots are there"},
    {SIM_BUG_STALE_READ, 1, LOG, "was known before"},
    {SIM_BUG_OWN_CLOCK, 1, RACK, "differ after index"},
    {SIM_BUG_SLOW_ELECTION, 1, RACK, "nothing goes on"},
};

static bool is_found(unsigned row, uint64_t seed)
{
    struct sim_config config = rows[row].run == MEMBERS ? sim_config_changing(seed)
                               : rows[row].run == LATE
                                   ? sim_config_late(seed)
                                   : sim_config_of(seed, rows[row].run == RACK);
    config.bug = rows[row].bug;
    struct sim_fault_list faults;
    sim_faults_make(&config, &faults);
    struct sim *sim = sim_new(&config, &faults, UINT64_MAX);
    bool found = !sim_run(sim) && strstr(sim->world.failure, rows[row].says) != NULL;
    sim_free(sim);
    return found;
}

START_TEST(a_mistake_is_found)
{
    bool found = false;
    uint64_t last = rows[_i].first + SEEDS_MAX - 1;
    last = last < SEED_LAST ? last : SEED_LAST;
    for (uint64_t seed = rows[_i].first; seed <= last && !found; seed++) {
        found = is_found((unsigned)_i, seed);
    }
    ck_assert_msg(found, "%s is not found from seed %llu to %llu",
                  sim_bug_names[rows[_i].bug], (unsigned long long)rows[_i].first,
                  (unsigned long long)last);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("bugs");
    TCase *tcase = tcase_create("bugs");
    tcase_set_timeout(tcase, 240);
    tcase_add_loop_test(tcase, a_mistake_is_found, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
