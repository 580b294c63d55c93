/* Goal: a VM that runs on after the cluster was recovered, on a host that the log takes
 * for lost, or whose word is slow to get into it, is found there, and its host gets no
 * orders before, which would end it with its disks. Method: a recovered log, its leader
 * and the link to the other host, whose reports are the test's. */
#include "agent/leader_internal.h"
#include "agent/rebirth.h"
#include "plane_fixture.h"

/* The leases of before are waited for by it: an hour a look. */
static uint64_t hurried_ns(void *context)
{
    uint64_t *looks = context;
    return clock_now_ns(clock_system()) + ++*looks * 3600 * NS_PER_S;
}

static uint64_t hurried_wall_ms(void *context)
{
    (void)context;
    return clock_wall_ms(clock_system());
}

static void recover(struct plane *self)
{
    uint64_t looks = 0;
    struct err err = {0};
    const struct clock clock = {
        .now_ns = hurried_ns, .wall_ms = hurried_wall_ms, .context = &looks};
    self->beats = false;
    plane_close_log(self);
    int r = rebirth_recover(&self->host->identity, &clock, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    plane_open_log(self, false);
    self->vm = 0;
    self->beats = true;
    RACK_WAIT(plane_leader() == self);
}

static const struct vm *the_vm(void)
{
    return state_get(plane_state(0), KIND_VM, DEFAULT_TENANT, "db");
}

static void put_patient_template(void)
{
    struct image *image = object_new(KIND_IMAGE);
    (void)snprintf(image->meta.name, NAME_SIZE, "linux");
    struct artifact *artifact =
        record_list_add(&artifact_record, (struct record_list *)&image->spec.artifacts);
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    ck_assert_int_eq(plane_put(KIND_IMAGE, image), 0);
    struct template *template = object_new(KIND_TEMPLATE);
    (void)snprintf(template->meta.name, NAME_SIZE, "patient");
    (void)snprintf(template->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(template->spec.image, NAME_SIZE, "linux");
    template->spec.engine = ENGINE_FAKE;
    template->spec.memory.size_bytes = 64 * MIB;
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(plane_put(KIND_TEMPLATE, template), 0);
}

/* By the log it runs on the founder. */
static void vm_runs_on_the_founder(void)
{
    struct command command;
    struct plane *founder = &plane.hosts[0];
    put_patient_template();
    command_init(&command, COMMAND_ADMIT_VM);
    (void)snprintf(command.body.admit_vm.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(command.body.admit_vm.name, NAME_SIZE, "db");
    (void)snprintf(command.body.admit_vm.template_name, NAME_SIZE, "patient");
    ck_assert_int_eq(plane_propose(&command), 0);
    RACK_WAIT(the_vm()->status.phase == PHASE_PLACED);
    ck_assert_uint_eq(the_vm()->status.host, founder->host->identity.uid);
    founder->vm = the_vm()->meta.uid;
    founder->epoch = the_vm()->status.epoch;
    founder->phase = PHASE_READY;
    RACK_WAIT(the_vm()->status.phase == PHASE_READY);
}

static void lose(const struct plane *host)
{
    struct command command;
    command_init(&command, COMMAND_HOST_PHASE);
    command.body.host_phase.host = host->host->identity.uid;
    command.body.host_phase.phase = HOST_PHASE_LOST;
    ck_assert_int_eq(record_set_text(&command.body.host_phase.reason, "silent"), 0);
    ck_assert_int_eq(plane_propose(&command), 0);
}

/* Where it went after what the log has kept. */
static struct plane *recovered_with_a_vm_elsewhere(void)
{
    plane_start();
    plane.hosts[0].level_max = LEVEL_PLACE_UNKNOWN;
    RACK_WAIT(state_level(plane_state(0)) == LEVEL_PLACE_UNKNOWN);
    vm_runs_on_the_founder();
    struct plane *other = plane_guest();
    other->level_max = LEVEL_PLACE_UNKNOWN;
    plane_token("second", 2, 0);
    ck_assert_msg(plane_join(other, 2) == 0, "%s", other->reply.text);
    link_join_end(other->host->link, &plane.hosts[0].host->identity.key);
    link_members_changed(other->host->link);
    RACK_WAIT(link_is_up(plane.hosts[0].host->link, other->host->identity.uid));
    other->vm = the_vm()->meta.uid;
    other->epoch = the_vm()->status.epoch + 1;
    other->phase = PHASE_READY;
    other->has_run = true;
    recover(&plane.hosts[0]);
    ck_assert(state_place_unknown(plane_state(0), the_vm()));
    ck_assert_uint_ne(the_vm()->status.disk_host, other->host->identity.uid);
    return other;
}

/* The first orders it gets, whenever that is, name the VM. */
static void check_found(const struct plane *other)
{
    RACK_WAIT(other->taken != 0);
    ck_assert_uint_eq(other->ordered.count, 1);
    ck_assert_uint_eq(other->ordered.items[0].vm, other->vm);
    ck_assert_uint_eq(the_vm()->status.host, other->host->identity.uid);
    ck_assert(!state_place_unknown(plane_state(0), the_vm()));
}

/* That it is back stands in the log behind what it says first. */
START_TEST(a_vm_on_a_host_that_was_lost_is_found)
{
    struct plane *other = recovered_with_a_vm_elsewhere();
    lose(other);

    other->beats = true;

    check_found(other);
    plane_stop();
}
END_TEST

START_TEST(a_vm_is_found_however_late_the_log_hears_of_it)
{
    struct plane *other = recovered_with_a_vm_elsewhere();
    struct heard *heard =
        leader_heard_of(plane.hosts[0].leader, other->host->identity.uid);
    heard->phases_under_way = 1; /* the log takes its time: nothing more is proposed */
    other->beats = true;
    RACK_WAIT(heard->orders_owed);
    uint64_t sequence = heard->sequence;
    RACK_WAIT(heard->sequence >= sequence + 2);

    ck_assert(heard->finds);
    ck_assert_uint_eq(other->taken, 0);
    heard->phases_under_way = 0;

    check_found(other);
    plane_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("leader_found");
    TCase *tests = tcase_create("leader_found");
    tcase_add_test(tests, a_vm_on_a_host_that_was_lost_is_found);
    tcase_add_test(tests, a_vm_is_found_however_late_the_log_hears_of_it);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
