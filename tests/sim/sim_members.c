/* Who is in the log: what the rules of membership promise, checked where it happens.
 *
 * A configuration is a set of machines, one bit each. Checked with everything in sight:
 * who is elected has the votes of a majority of those whom it counts; what a leader calls
 * committed is on the disks of a majority of them; a configuration differs from the one
 * before by one voter, and comes when that one is committed and so is an entry of the
 * leader's own term (Ongaro, "bug in single-server membership changes", 2015); who gets a
 * vote has caught up. What follows from a breach (two leaders, lost writes, a rack that
 * stands still) the oracle sees, too, but seldom.
 */
#include "base/require.h"
#include "sim_fault.h"
#include "sim_raft.h"

#include <stdlib.h>
#include <unistd.h>

#define VOTERS_WANTED 3 /* agent/voters.h */

/* ---- configurations ---- */

static unsigned
mask_of(struct sim *sim, const struct raft_configuration *members, int role)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < members->n; i++) {
        const struct sim_machine *machine =
            sim_machine_of_raft(sim, members->servers[i].id);
        if (machine != NULL && members->servers[i].role == role) {
            mask |= 1U << machine->index;
        }
    }
    return mask;
}

static unsigned count_of(unsigned mask)
{
    return (unsigned)__builtin_popcount(mask);
}

static bool is_in(unsigned mask, const struct sim_machine *machine)
{
    return (mask >> machine->index & 1) != 0;
}

unsigned sim_members_voters(const struct sim_process *process)
{
    return mask_of(process->machine->sim, &process->raft->configuration, RAFT_VOTER);
}

unsigned sim_members_with_log(const struct sim_process *process)
{
    return sim_members_voters(process) |
           mask_of(process->machine->sim, &process->raft->configuration, RAFT_STANDBY);
}

/* Those that a machine would start with. */
static unsigned voters_on_disk(struct sim_machine *machine)
{
    const struct sim_disk *disk = &machine->disk;
    struct sim_blob *blob = disk->snapshot.members;
    for (size_t i = disk->count; i > 0; i--) {
        if (disk->log[i - 1].type == RAFT_CHANGE) {
            blob = disk->log[i - 1].data;
            break;
        }
    }
    if (blob == NULL) {
        return 0;
    }
    struct raft_configuration members;
    sim_raft_members_decode(blob, &members);
    unsigned mask = mask_of(machine->sim, &members, RAFT_VOTER);
    raft_configuration_close(&members);
    return mask;
}

/* ---- machines that are lost ---- */

static bool is_sound(const struct sim_machine *machine)
{
    return !machine->tampered && !machine->condemned;
}

static bool is_majority_without(const struct sim *sim, unsigned voters, unsigned index)
{
    unsigned sound = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        sound += i != index && (voters >> i & 1) != 0 && is_sound(&sim->machines[i]);
    }
    return (voters >> index & 1) == 0 || 2 * sound > count_of(voters);
}

bool sim_members_can_spare(struct sim *sim, const struct sim_machine *machine)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        struct sim_machine *other = &sim->machines[i];
        const struct sim_process *process = other->process;
        if (!other->has_log || other->condemned) {
            continue;
        }
        if (!is_majority_without(sim, voters_on_disk(other), machine->index) ||
            (process != NULL && process->raft != NULL &&
             !is_majority_without(sim, sim_members_voters(process), machine->index))) {
            return false;
        }
    }
    return is_sound(machine);
}

void sim_members_lose(struct sim_machine *machine)
{
    struct sim *sim = machine->sim;
    sim_machine_kill(machine, "the machine is lost for good", WORLD_NEVER);
    sim_host_power_off(machine);
    machine->condemned = true;
    sim->stats.gone++;
}

void sim_members_lose_log(struct sim_machine *machine)
{
    struct sim_disk *disk = &machine->disk;
    struct sim *sim = machine->sim;
    sim_machine_kill(machine, "the log's folder is lost", NS_PER_S);
    bool lies = disk->lies;
    sim_disk_fini(disk);
    uint64_t life = disk->life;
    sim_disk_init(disk, &sim->world);
    disk->life = life;
    disk->lies = lies;
    sim_machine_watch_disk(machine);
    machine->has_log = false;
    machine->tampered = true;
    sim->stats.gone++;
}

/* Who has a vote has a log from then on: what it acknowledged, and for whom it voted. */
void sim_members_begin(struct sim_machine *machine)
{
    struct sim *sim = machine->sim;
    machine->has_log = true;
    machine->log_begun = true;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim->machines[i].has_log &&
            is_in(voters_on_disk(&sim->machines[i]), machine)) {
            world_fail(&sim->world,
                       "m%u begins a new log, but by that of m%u it is a voter and has "
                       "forgotten",
                       machine->index, i);
        }
    }
}

/* ---- elections ---- */

void sim_members_voted(struct sim_machine *machine, uint64_t term, uint64_t id)
{
    const uint64_t before = machine->votes[term % SIM_VOTES].term == term
                                ? machine->votes[term % SIM_VOTES].id
                                : 0;
    if (before != 0 && before != id && is_sound(machine)) {
        world_fail(&machine->sim->world, "m%u votes for %llx and for %llx in term %llu",
                   machine->index, (unsigned long long)before, (unsigned long long)id,
                   (unsigned long long)term);
    }
    machine->votes[term % SIM_VOTES].term = term;
    machine->votes[term % SIM_VOTES].id = id;
}

/* Who is alone, or named by its leader, asks nobody; without the guard some ask once. */
void sim_members_stands(struct sim_process *process, uint64_t term, uint64_t asked)
{
    struct sim *sim = process->machine->sim;
    const struct raft *raft = process->raft;
    const bool named =
        raft->state == RAFT_CANDIDATE && raft->candidate_state.disrupt_leader;
    if (asked != term && !named && count_of(sim_members_voters(process)) > 1 &&
        sim->config.bug != SIM_BUG_BARE) {
        world_fail(&sim->world,
                   "m%u stands in term %llu and has not asked whether it may",
                   process->machine->index, (unsigned long long)term);
    }
}

void sim_members_elected(struct sim_process *process)
{
    struct sim *sim = process->machine->sim;
    uint64_t term = process->raft->current_term;
    unsigned voters = sim_members_voters(process);
    unsigned votes = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_machine *machine = &sim->machines[i];
        bool voted = machine->votes[term % SIM_VOTES].term == term &&
                     machine->votes[term % SIM_VOTES].id == process->machine->raft_id;
        votes += is_in(voters, machine) &&
                 (voted || machine->tampered || count_of(voters) == 1); /* asks nobody */
    }
    process->voters_seen = voters;
    process->logs_seen = sim_members_with_log(process);
    process->commit_led = process->raft->commit_index;
    process->change_seen = process->raft->configuration_uncommitted_index;
    if (2 * votes <= count_of(voters)) {
        world_fail(&sim->world,
                   "m%u leads in term %llu with the votes of %u of the %u voters that it "
                   "counts",
                   process->machine->index, (unsigned long long)term, votes,
                   count_of(voters));
    }
}

/* ---- what is committed ---- */

/* Its disk has that entry; what is no good any more has had it. */
static bool has_entry(const struct sim_machine *machine,
                      uint64_t index,
                      const struct sim_entry *entry)
{
    const struct sim_disk *disk = &machine->disk;
    return machine->tampered || machine->condemned || index < disk->start ||
           (index - disk->start < disk->count &&
            disk->log[index - disk->start].term == entry->term);
}

static bool majority_has(const struct sim *sim,
                         unsigned voters,
                         uint64_t index,
                         const struct sim_entry *entry)
{
    unsigned having = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        having += (voters >> i & 1) != 0 && has_entry(&sim->machines[i], index, entry);
    }
    return 2 * having > count_of(voters);
}

void sim_members_committed(struct sim_process *process)
{
    struct sim *sim = process->machine->sim;
    const struct raft *raft = process->raft;
    const struct sim_disk *disk = &process->machine->disk;
    if (raft == NULL || raft->state != RAFT_LEADER ||
        raft->commit_index == process->commit_seen) {
        return;
    }
    uint64_t index = raft->commit_index;
    process->commit_seen = index;
    if (index < disk->start || index - disk->start >= disk->count) {
        return; /* nothing to compare with */
    }
    const struct sim_entry *entry = &disk->log[index - disk->start];
    unsigned voters = sim_members_voters(process);
    /* Members may have changed since it was counted, in the same event. */
    if (!majority_has(sim, voters, index, entry) &&
        !majority_has(sim, process->voters_seen, index, entry)) {
        world_fail(&sim->world,
                   "m%u calls entry %llu committed, which a majority of its %u voters "
                   "does not have",
                   process->machine->index, (unsigned long long)index, count_of(voters));
    }
}

/* Where the disk has all that libraft knows of, and libraft knows that it has: from then
 * on a change counts. */
static bool is_written(const struct sim_process *process)
{
    const struct sim_disk *disk = &process->machine->disk;
    return !disk->busy && list_empty(&disk->queue) && !process->doomed &&
           raft_last_index(process->raft) == sim_disk_last_index(disk) &&
           process->raft->last_stored == sim_disk_last_index(disk) &&
           !process->machine->tampered;
}

void sim_members_agree(struct sim_process *process)
{
    struct sim *sim = process->machine->sim;
    if (!sim->config.members || process->raft == NULL ||
        process->raft->state == RAFT_UNAVAILABLE || !is_written(process)) {
        return;
    }
    unsigned voters = sim_members_voters(process);
    unsigned written = voters_on_disk(process->machine);
    if (voters != written) {
        world_fail(&sim->world, "m%u counts the voters %x, and its log says %x",
                   process->machine->index, voters, written);
    }
}

/* ---- changes ---- */

static void check_newcomer(struct sim *sim,
                           const struct sim_process *process,
                           const struct sim_machine *machine)
{
    uint64_t last = sim_disk_last_index(&machine->disk);
    if (last < process->commit_led && !machine->tampered) {
        world_fail(&sim->world,
                   "m%u gives m%u a vote whose log ends at %llu, and had %llu when it "
                   "was elected",
                   process->machine->index, machine->index, (unsigned long long)last,
                   (unsigned long long)process->commit_led);
    }
}

/* A change of roles without a vote is an entry like any other change. */
static void check_turn(struct sim *sim, struct sim_process *process)
{
    const struct raft *raft = process->raft;
    const struct sim_disk *disk = &process->machine->disk;
    const uint64_t commit = raft->commit_index;
    const uint64_t change = raft->configuration_uncommitted_index;
    if (change == 0 || change == process->change_seen) {
        return;
    }
    if (process->change_seen > commit) {
        world_fail(&sim->world,
                   "m%u changes members at %llu, but its change at %llu is not committed",
                   process->machine->index, (unsigned long long)change,
                   (unsigned long long)process->change_seen);
    }
    process->change_seen = change;
    if (commit >= disk->start && commit - disk->start < disk->count &&
        disk->log[commit - disk->start].term != raft->current_term) {
        world_fail(&sim->world,
                   "m%u changes members at %llu, but has committed nothing of its term",
                   process->machine->index, (unsigned long long)change);
    }
}

static void changed(struct sim *sim, struct sim_process *process, unsigned voters)
{
    unsigned differ = voters ^ process->voters_seen;
    world_say(&sim->world, "m%u changes the voters from %x to %x",
              process->machine->index, process->voters_seen, voters);
    if (count_of(differ) != 1) {
        world_fail(&sim->world, "m%u changes %u voters at once", process->machine->index,
                   count_of(differ));
        return;
    }
    struct sim_machine *machine = &sim->machines[__builtin_ctz(differ)];
    sim->stats.changes++;
    if (is_in(voters, machine)) {
        sim->stats.replaced++;
        check_newcomer(sim, process, machine);
    }
    process->voters_seen = voters;
    sim_faults_changing(sim, machine->index, true);
}

void sim_members_look(struct sim_process *process)
{
    struct sim *sim = process->machine->sim;
    if (!sim->config.members || sim_raft_leader_term(process) == 0) {
        return;
    }
    unsigned voters = sim_members_voters(process);
    unsigned logs = sim_members_with_log(process);
    unsigned differ = logs ^ process->logs_seen;
    check_turn(sim, process);
    process->logs_seen = logs;
    if (voters != process->voters_seen) {
        changed(sim, process, voters);
    } else if (differ != 0) {
        sim_faults_changing(sim, (unsigned)__builtin_ctz(differ), false);
    }
}

/* ---- the end ---- */

static bool is_well(const struct sim_machine *machine)
{
    return is_sound(machine) && machine->process != NULL && !machine->process->doomed &&
           machine->process->control != NULL;
}

/* How many machines could vote at all. */
static unsigned able_count(const struct sim *sim)
{
    unsigned able = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        able += is_sound(&sim->machines[i]) && sim->machines[i].joined ? 1U : 0U;
    }
    return able;
}

/* Two that are lost for good are more than the leader replaces: no change is made while
 * another voter does not answer. */
static bool needs_operator(const struct sim *sim, unsigned voters)
{
    unsigned lost = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        lost +=
            is_in(voters, &sim->machines[i]) && !is_sound(&sim->machines[i]) ? 1U : 0U;
    }
    return lost > 1;
}

static bool settled_at(struct sim *sim, const struct sim_process *leader)
{
    unsigned voters = sim_members_voters(leader);
    unsigned wanted = able_count(sim) < VOTERS_WANTED ? 1 : VOTERS_WANTED;
    if (needs_operator(sim, voters)) {
        return true;
    }
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_machine *machine = &sim->machines[i];
        const struct host *host = state_host(leader->state, machine->uid);
        bool votes = is_in(voters, machine);
        if (votes &&
            (host == NULL || host->status.voter != VOTER_VOTER || !is_well(machine))) {
            return false;
        }
        if (!votes && host != NULL && host->status.voter == VOTER_VOTER) {
            return false;
        }
    }
    return count_of(voters) >= wanted;
}

bool sim_members_settled(struct sim *sim)
{
    for (unsigned i = 0; sim->config.members && i < sim->machine_count; i++) {
        const struct sim_process *process = sim->machines[i].process;
        if (sim_process_leads(process)) {
            return settled_at(sim, process);
        }
    }
    return !sim->config.members;
}
