/* Goal: what hosts say of themselves and of their VMs is taken as far as it is theirs,
 * and told to people. Method: real logs, leaders and links of up to four hosts in this
 * process; what the hosts say of themselves is the test's. */
#include "base/cleanup.h"
#include "leader_fixture.h"

/* ---- of their networks ---- */

/* What a plan says of the only host for a VM in network 10.0.0.0/24. */
static bool is_foretold(const char *text)
{
    struct machine_spec machine;
    record_init(&machine_spec_record, &machine);
    struct nic_spec *nic =
        record_list_add(&nic_spec_record, (struct record_list *)&machine.nics);
    (void)snprintf(nic->name, sizeof(nic->name), "eth0");
    (void)snprintf(nic->network, sizeof(nic->network), "front");
    machine.engine = ENGINE_FAKE;
    json_t *forecast =
        scheduler_forecast(leader_scheduler(plane.hosts[0].leader), plane_state(0),
                           DEFAULT_TENANT, NULL, &machine, 1, 0);
    char *said = json_text(forecast);
    bool found = said != NULL && strstr(said, text) != NULL;
    free(said);
    json_decref(forecast);
    record_fini(&machine_spec_record, &machine);
    return found;
}

/* What people are told of the address of the host; "": nothing. */
static const char *clash_of(const struct host *host)
{
    static char text[512];
    json_t *live = leader_host_live(plane.hosts[0].leader, host);
    (void)snprintf(text, sizeof(text), "%s", json_member_text(live, "clash", ""));
    json_decref(live);
    return text;
}

static const struct host *first_host(void)
{
    return state_host(plane_state(0), uid_of(&plane.hosts[0]));
}

/* Networks that cover a host are refused by the API; the host came back with another
 * address. */
START_TEST(a_host_that_is_in_with_an_address_in_a_network_is_told_of)
{
    plane_start();
    struct identity *identity = &plane.hosts[0].host->identity;
    uint32_t address = identity->address;
    uint64_t wall_ms;
    struct host_load load;
    RACK_WAIT(plane.hosts[0].leader != NULL &&
              scheduler_host_seen(leader_scheduler(plane.hosts[0].leader), identity->uid,
                                  &wall_ms, &load));
    struct network *network = object_new(KIND_NETWORK);
    (void)snprintf(network->meta.name, NAME_SIZE, "front");
    (void)snprintf(network->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    network->spec.ipv4.cidr = ((uint64_t)(10U << 24) << 8) | 24;
    ck_assert_int_eq(plane_put(KIND_NETWORK, network), 0);
    ck_assert_str_eq(clash_of(first_host()), "");

    identity->address = (10U << 24) + 5;
    RACK_WAIT(first_host()->status.address == identity->address);
    ck_assert_ptr_nonnull(
        strstr(clash_of(first_host()), "the address 10.0.0.5 of host "));
    ck_assert_ptr_nonnull(strstr(
        clash_of(first_host()),
        " is in the range 10.0.0.0/24 of network front of tenant " DEFAULT_TENANT ": "));
    identity->address = address;
    plane_stop();
}
END_TEST

START_TEST(a_host_takes_no_vm_of_a_network_whose_range_it_needs)
{
    plane_start();
    struct network *network = object_new(KIND_NETWORK);
    (void)snprintf(network->meta.name, NAME_SIZE, "front");
    (void)snprintf(network->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    network->spec.ipv4.cidr = ((uint64_t)(10U << 24) << 8) | 24;
    ck_assert_int_eq(plane_put(KIND_NETWORK, network), 0);
    RACK_WAIT(is_foretold("\"unplaced\":0") || is_foretold("\"unplaced\": 0"));
    plane.hosts[0].range = "10.0.0.0/16, its own";
    RACK_WAIT(is_foretold("range: front (10.0.0.0/24) overlaps 10.0.0.0/16, its own"));
    plane.hosts[0].carried = 1; /* of the first network that there is */
    RACK_WAIT(is_foretold("\"unplaced\":0") || is_foretold("\"unplaced\": 0"));
    plane.hosts[0].carried = 0;
    RACK_WAIT(is_foretold("range: front (10.0.0.0/24) overlaps 10.0.0.0/16, its own"));
    plane.hosts[0].range = NULL; /* taken away */
    RACK_WAIT(is_foretold("\"unplaced\":0") || is_foretold("\"unplaced\": 0"));
    plane_stop();
}
END_TEST

/* ---- of VMs, pauses and snapshots ---- */

static const struct vm *the_vm(void)
{
    return state_get(plane_state(0), KIND_VM, DEFAULT_TENANT, "db");
}

static const struct snapshot *the_snapshot(void)
{
    return state_get(plane_state(0), KIND_SNAPSHOT, DEFAULT_TENANT, "before");
}

/* A VM that runs on the only host, at the level of snapshots. */
static void vm_runs(void)
{
    plane.hosts[0].level_max = LEVEL_SNAPSHOTS;
    RACK_WAIT(level() == LEVEL_SNAPSHOTS);
    put_image("linux");
    struct template *template = object_new(KIND_TEMPLATE);
    (void)snprintf(template->meta.name, NAME_SIZE, "saved");
    (void)snprintf(template->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(template->spec.image, NAME_SIZE, "linux");
    template->spec.engine = ENGINE_FAKE;
    template->spec.memory.size_bytes = 64 * MIB;
    ck_assert_int_eq(plane_put(KIND_TEMPLATE, template), 0);
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    (void)snprintf(command.body.admit_vm.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(command.body.admit_vm.name, NAME_SIZE, "db");
    (void)snprintf(command.body.admit_vm.template_name, NAME_SIZE, "saved");
    ck_assert_int_eq(plane_propose(&command), 0);
    RACK_WAIT(the_vm()->status.phase == PHASE_PLACED);
    plane.hosts[0].vm = the_vm()->meta.uid;
    plane.hosts[0].epoch = the_vm()->status.epoch;
    plane.hosts[0].phase = PHASE_READY;
    RACK_WAIT(the_vm()->status.phase == PHASE_READY);
}

static int pause_the_vm(bool paused)
{
    struct command command;
    command_init(&command, COMMAND_PAUSE_VM);
    command.body.pause_vm.vm = the_vm()->meta.uid;
    command.body.pause_vm.paused = paused;
    return plane_propose(&command);
}

static bool is_ordered_paused(bool paused)
{
    const struct msg_vm_list *ordered = &plane.hosts[0].ordered;
    return ordered->count == 1 && ordered->items[0].paused == paused;
}

/* By what people are told of the VM; -1: nothing. */
static int64_t reads_a_second(void)
{
    json_t *live = leader_vm_live(plane.hosts[0].leader, the_vm());
    const json_t *reads =
        json_object_get(json_object_get(live, "disk"), "readsPerSecond");
    const int64_t told = reads != NULL ? json_integer_value(reads) : -1;
    json_decref(live);
    return told;
}

/* A VM without disks has read nothing, which is no news: its host counts none. */
START_TEST(of_no_disks_no_rate_is_told)
{
    plane_start();
    vm_runs();
    for (unsigned i = 0; i < 2; i++) {
        plane.hosts[0].counted_ms = 70000 + 2000 * i;
        const uint64_t next = plane.hosts[0].sequence + 2; /* one of them has it */
        RACK_WAIT(plane.hosts[0].acked >= next);
    }

    ck_assert_int_eq(reads_a_second(), -1);
    plane_stop();
}
END_TEST

/* Its host counts them: its template names none, and it boots the image's. */
START_TEST(what_a_vm_does_a_second_is_told_of_two_totals)
{
    plane_start();
    vm_runs();
    plane.hosts[0].disks_counted = true;
    plane.hosts[0].counted_ms = 70000;
    plane.hosts[0].disk_reads = 100;
    const uint64_t first = plane.hosts[0].sequence + 2; /* one of them has it */
    RACK_WAIT(plane.hosts[0].acked >= first);
    ck_assert_int_eq(reads_a_second(), -1);

    plane.hosts[0].counted_ms = 72000;
    plane.hosts[0].disk_reads = 112;
    RACK_WAIT(reads_a_second() == 6);
    plane.hosts[0].counted_ms = 0; /* most heartbeats say nothing */
    const uint64_t last = plane.hosts[0].sequence + 2;
    RACK_WAIT(plane.hosts[0].acked >= last);
    ck_assert_int_eq(reads_a_second(), 6);
    plane_stop();
}
END_TEST

START_TEST(a_pause_is_ordered_and_taken_as_the_host_says)
{
    plane_start();
    vm_runs();
    ck_assert_uint_eq(the_vm()->status.engine, ENGINE_FAKE);

    ck_assert_int_eq(pause_the_vm(true), 0);
    RACK_WAIT(is_ordered_paused(true));
    plane.hosts[0].phase = PHASE_RUNNING;
    plane.hosts[0].paused = true;
    RACK_WAIT(the_vm()->status.paused);

    ck_assert_int_eq(pause_the_vm(false), 0);
    RACK_WAIT(is_ordered_paused(false));
    plane.hosts[0].phase = PHASE_READY;
    plane.hosts[0].paused = false;
    RACK_WAIT(!the_vm()->status.paused && the_vm()->status.phase == PHASE_READY);
    plane_stop();
}
END_TEST

static void have_it_saved(void)
{
    struct command command;
    command_init(&command, COMMAND_SNAPSHOT_MAKE);
    command.body.snapshot_make.vm = the_vm()->meta.uid;
    (void)snprintf(command.body.snapshot_make.name, NAME_SIZE, "before");
    ck_assert_int_eq(plane_propose(&command), 0);
    RACK_WAIT(plane.hosts[0].made == the_snapshot()->meta.uid);
}

START_TEST(a_snapshot_is_what_its_host_says)
{
    struct msg_snapshot_seen *seen = &plane.hosts[0].snapshot;
    plane_start();
    vm_runs();
    have_it_saved();

    *seen = (struct msg_snapshot_seen){.snapshot = the_snapshot()->meta.uid,
                                       .vm = the_vm()->meta.uid,
                                       .epoch = the_vm()->status.epoch,
                                       .permille = 420};
    RACK_WAIT(the_snapshot()->status.permille == 420);
    seen->epoch++; /* of another run: it is not this one */
    seen->phase = SNAPSHOT_READY;
    seen->bytes = 5 * MIB;
    uint64_t beats = plane.hosts[0].acked;
    RACK_WAIT(plane.hosts[0].acked > beats + 2);
    ck_assert_uint_eq(the_snapshot()->status.phase, SNAPSHOT_MAKING);
    seen->epoch--;
    RACK_WAIT(the_snapshot()->status.phase == SNAPSHOT_READY);
    ck_assert_uint_eq(the_snapshot()->status.bytes, 5 * MIB);

    seen->phase = SNAPSHOT_LOST;
    RACK_WAIT(the_snapshot()->status.phase == SNAPSHOT_LOST);
    plane_stop();
}
END_TEST

static void goes_back(void)
{
    struct command command;
    struct plane *host = &plane.hosts[0];
    host->snapshot = (struct msg_snapshot_seen){.snapshot = the_snapshot()->meta.uid,
                                                .vm = the_vm()->meta.uid,
                                                .epoch = the_vm()->status.epoch,
                                                .phase = SNAPSHOT_READY};
    RACK_WAIT(the_snapshot()->status.phase == SNAPSHOT_READY);
    command_init(&command, COMMAND_RESTORE_VM);
    command.body.restore_vm.vm = the_vm()->meta.uid;
    command.body.restore_vm.snapshot = the_snapshot()->meta.uid;
    ck_assert_int_eq(plane_propose(&command), 0);
    host->phase = PHASE_STOPPED;
    RACK_WAIT(the_vm()->status.phase == PHASE_PLACED &&
              the_vm()->status.epoch == host->epoch + 1);
    ck_assert_uint_eq(the_vm()->status.restore, the_snapshot()->meta.uid);
}

START_TEST(a_run_that_has_begun_unseen_is_told_of_when_it_has_ended)
{
    struct command command;
    plane_start();
    vm_runs();
    have_it_saved();
    goes_back();
    command_init(&command, COMMAND_EVICT_VM);
    command.body.evict_vm.vm = the_vm()->meta.uid;
    command.body.evict_vm.epoch = the_vm()->status.epoch;
    command.body.evict_vm.intent = STOP_INTENT_RESTART;
    ck_assert_int_eq(plane_propose(&command), 0);
    ck_assert_uint_eq(the_vm()->status.restore, the_snapshot()->meta.uid);

    plane.hosts[0].has_run = true;
    plane.hosts[0].epoch = the_vm()->status.epoch;
    RACK_WAIT(the_vm()->status.epoch == plane.hosts[0].epoch + 1);

    ck_assert_uint_eq(the_vm()->status.restore, 0);
    plane_stop();
}
END_TEST

START_TEST(cpu_is_shown_of_a_vm_that_runs_and_of_this_run_only)
{
    struct vm vm = {.status = {.running_wall_ms = 100000}};
    static const enum phase idle[] = {PHASE_PENDING, PHASE_PLACED,   PHASE_STARTING,
                                      PHASE_STOPPED, PHASE_STOPPING, PHASE_FAILED,
                                      PHASE_LOST};
    for (size_t i = 0; i < ARRAY_COUNT(idle); i++) {
        vm.status.phase = idle[i];
        ck_assert_uint_eq(leader_cpu_window_ns(&vm, 200000), 0);
    }
    vm.status.phase = PHASE_RUNNING;
    ck_assert_uint_eq(leader_cpu_window_ns(&vm, 99999),
                      0); /* the host's clock is ahead */
    ck_assert_uint_eq(leader_cpu_window_ns(&vm, 102000), 2000 * NS_PER_MS);
    vm.status.phase = PHASE_READY;
    ck_assert_uint_eq(leader_cpu_window_ns(&vm, 200000), 5000 * NS_PER_MS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("leader_heartbeat");
    TCase *tests = tcase_create("leader_heartbeat");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, cpu_is_shown_of_a_vm_that_runs_and_of_this_run_only);
    tcase_add_test(tests, a_host_that_is_in_with_an_address_in_a_network_is_told_of);
    tcase_add_test(tests, a_host_takes_no_vm_of_a_network_whose_range_it_needs);
    tcase_add_test(tests, of_no_disks_no_rate_is_told);
    tcase_add_test(tests, what_a_vm_does_a_second_is_told_of_two_totals);
    tcase_add_test(tests, a_pause_is_ordered_and_taken_as_the_host_says);
    tcase_add_test(tests, a_snapshot_is_what_its_host_says);
    tcase_add_test(tests, a_run_that_has_begun_unseen_is_told_of_when_it_has_ended);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
