/* Goal: a host runs what it is ordered to, once, and its next run finds the disks of the
 * one before. Method: a worker with a leader that the test plays (worker_fixture.h). */
#include "worker_fixture.h"

#include <signal.h>

/* ---- running ---- */

START_TEST(what_is_ordered_runs_and_is_told)
{
    start();

    give(1, &both);
    RACK_WAIT(leader.phases[0] == PHASE_READY && leader.phases[1] == PHASE_READY);

    ck_assert_uint_eq(leader.epochs[0], 1);
    ck_assert(vm(FENCED).fenced && !vm(WAITS).fenced);
    ck_assert_uint_eq(worker_leader(worker), 2);
    stop();
}
END_TEST

START_TEST(without_a_lease_only_what_waits_for_its_host_is_started)
{
    start();
    leader.acks = false;

    give(1, &both);
    RACK_WAIT(is(WAITS, PHASE_READY));
    let_pass();
    ck_assert(!known(FENCED));

    leader.acks = true;
    RACK_WAIT(is(FENCED, PHASE_READY));
    stop();
}
END_TEST

START_TEST(what_is_ordered_no_longer_ends_and_is_forgotten)
{
    struct wish rest = both;
    start_both();
    pid_t pid = vm(FENCED).pid;
    rest.revision++;
    rest.fenced_epoch = 0;

    give(1, &rest);
    RACK_WAIT(!known(FENCED));

    ck_assert_int_eq(kill(pid, 0), -1);
    ck_assert_uint_eq(forgotten, FENCED);
    ck_assert(is(WAITS, PHASE_READY));
    stop();
}
END_TEST

START_TEST(other_limits_reach_the_run_that_is_there)
{
    struct wish next = both;
    start_both();
    pid_t pid = vm(FENCED).pid;
    char path[64];
    char *text = NULL;
    next.revision++;
    orders_iops = 900;

    give(1, &next);
    (void)snprintf(path, sizeof(path), "vms/%u/limits", FENCED);
    RACK_WAIT((text = temp_dir_read(&rack.hosts[0].dir, path)) != NULL);

    ck_assert_str_eq(text, "data 900 0\n");
    ck_assert_int_eq(vm(FENCED).pid, pid);
    ck_assert(is(FENCED, PHASE_READY));
    free(text);
    stop();
}
END_TEST

START_TEST(other_cpus_reach_the_run_that_is_there)
{
    struct wish next = both;
    orders_cpus = 1;
    start_both();
    next.revision++;
    orders_cpus = 2;

    give(1, &next);
    RACK_WAIT(vm(FENCED).reason[0] != '\0');

    ck_assert_str_eq(vm(FENCED).reason,
                     "it has 1 CPU, and 2 from its next start on: engine fake adds none "
                     "while it runs");
    ck_assert(is(FENCED, PHASE_READY));
    stop();
}
END_TEST

START_TEST(a_new_epoch_ends_the_old_run_first)
{
    struct wish next = both;
    start_both();
    leader.acks = true;
    pid_t pid = vm(FENCED).pid;
    next.revision++;
    next.fenced_epoch = 2;

    give(1, &next);
    while (!(is(FENCED, PHASE_READY) && vm(FENCED).epoch == 2)) {
        ck_assert(vm(FENCED).epoch != 2 || kill(pid, 0) != 0); /* never both */
        uv_run(&rack.loop, UV_RUN_ONCE);
    }

    ck_assert_int_ne(vm(FENCED).pid, pid);
    stop();
}
END_TEST

START_TEST(an_order_to_stop_is_carried_out_and_told)
{
    struct wish halt = both;
    start_both();
    halt.revision++;
    halt.order = ORDER_STOP;

    give(1, &halt);
    RACK_WAIT(leader.phases[0] == PHASE_STOPPED && leader.phases[1] == PHASE_STOPPED);

    ck_assert_int_eq(vm(FENCED).pid, 0);
    stop();
}
END_TEST

/* ---- disks from one run to the next ---- */

/* As an engine makes them. */
static char *plant_disk(uint64_t uid)
{
    char *path = NULL;
    ck_assert_int_gt(asprintf(&path, "%s/vms/%u/disk-data.qcow2",
                              rack.hosts[0].identity.folder, (unsigned)uid),
                     0);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

START_TEST(what_is_kept_stays_over_restarts_and_is_what_the_next_run_finds)
{
    struct wish wish = both;
    start_both();
    char *disk = plant_disk(WAITS);
    order_both(&wish, ORDER_STOP, 1);
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED);
    ck_assert_uint_eq(leader.disk_epochs[1], 1);

    wish.disk_epoch = 1;
    order_both(&wish, ORDER_KEEP, 1);
    let_pass();
    restart();
    order_both(&wish, ORDER_KEEP, 1);
    let_pass();
    ck_assert(is(WAITS, PHASE_STOPPED));
    ck_assert_int_eq(access(disk, F_OK), 0);
    ck_assert_uint_eq(leader.disk_epochs[1], 1);
    ck_assert_uint_eq(forgotten, 0);

    order_both(&wish, ORDER_RUN, 2);
    RACK_WAIT(is(WAITS, PHASE_READY));
    ck_assert_uint_eq(vm(WAITS).epoch, 2);
    ck_assert_int_eq(access(disk, F_OK), 0);
    let_pass();
    ck_assert_uint_eq(leader.disk_epochs[1], 0); /* in use */
    free(disk);
    stop();
}
END_TEST

START_TEST(of_a_vm_without_disks_nothing_is_kept)
{
    struct wish wish = both;
    orders_no_disks = true;
    start_both();
    order_both(&wish, ORDER_STOP, 1);
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED);
    ck_assert_uint_eq(leader.disk_epochs[1], 0);

    restart(); /* nor by who only finds its record */
    order_both(&wish, ORDER_STOP, 1);
    leader.phases[1] = PHASE_PENDING;
    leader.disk_epochs[1] = 7;
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED);
    ck_assert_uint_eq(leader.disk_epochs[1], 0);
    stop();
}
END_TEST

START_TEST(a_run_with_new_disks_finds_none)
{
    struct wish wish = both;
    start_both();
    char *disk = plant_disk(WAITS);
    order_both(&wish, ORDER_STOP, 1);
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED);

    order_both(&wish, ORDER_RUN, 2);
    RACK_WAIT(is(WAITS, PHASE_READY));

    ck_assert_int_eq(access(disk, F_OK), -1);
    free(disk);
    stop();
}
END_TEST

START_TEST(disks_that_a_start_did_not_get_to_are_still_told_of)
{
    struct wish wish = both;
    start_both();
    char *disk = plant_disk(WAITS);
    order_both(&wish, ORDER_STOP, 1);
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED);
    wish.disk_epoch = 1;
    wish.engine = ENGINE_KVM; /* not on this host */

    order_both(&wish, ORDER_RUN, 2);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED && leader.epochs[1] == 2);

    ck_assert_uint_eq(leader.disk_epochs[1], 1);
    ck_assert_int_eq(access(disk, F_OK), 0);
    free(disk);
    stop();
}
END_TEST

START_TEST(what_runs_while_only_its_disks_are_to_be_kept_is_ended)
{
    struct wish wish = both;
    start_both();
    pid_t pid = vm(WAITS).pid;
    order_both(&wish, ORDER_KEEP, 1);
    RACK_WAIT(is(WAITS, PHASE_FAILED) && is(FENCED, PHASE_FAILED));
    ck_assert_int_eq(kill(pid, 0), -1);
    ck_assert_uint_eq(forgotten, 0);
    stop();
}
END_TEST

START_TEST(a_disk_image_that_names_a_file_of_the_host_is_given_to_no_engine)
{
    start();
    boots_hostile_disk = true;

    give(1, &both);
    RACK_WAIT(leader.phases[0] == PHASE_FAILED && leader.phases[1] == PHASE_FAILED);

    ck_assert_msg(strstr(leader.reasons[0], "backing file") != NULL, "%s",
                  leader.reasons[0]);
    ck_assert_msg(strstr(leader.reasons[0], "qemu-img convert -O raw") != NULL, "%s",
                  leader.reasons[0]);
    ck_assert_int_eq(vm(FENCED).pid, 0);
    stop();
}
END_TEST

/* ---- who may order ---- */

/* A full cache, and no leader has said yet what is to run here. */
START_TEST(what_disks_lie_on_is_kept_before_there_are_orders)
{
    enum { CACHE = 200 };
    char target[IMAGE_PATH_SIZE];
    cache_bytes = CACHE;
    start_both();
    char *link = temp_dir_path(&rack.hosts[0].dir, "vms/11/base");
    ck_assert(image_store_path(images, &kernel, target));
    (void)unlink(link);
    ck_assert_int_eq(symlink(target, link), 0);
    free(link);
    worker = worker_close(worker);
    ck_assert_int_eq(image_store_keep(images, NULL, 0, NULL), 0); /* as a new berthd */

    open_worker();

    const struct digest base = kernel; /* note_done is about to note another */
    const uint8_t other[CACHE] = {0};
    bool done = false;
    struct image_writer *writer = image_writer_begin(images, NULL, CACHE, NULL);
    ck_assert_int_eq(image_writer_write(writer, other, CACHE, NULL), 0);
    image_writer_end(writer, note_done, &done);
    RACK_WAIT(done);
    ck_assert(image_store_path(images, &base, target));
    stop();
}
END_TEST

/* ---- epochs ---- */

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    if (geteuid() != 0) {
        return test_main_skip("a network namespace of its own needs root");
    }
    Suite *suite = suite_create("worker");
    TCase *tests = tcase_create("worker");
    tcase_set_timeout(tests, 90);
    tcase_add_test(tests, what_is_ordered_runs_and_is_told);
    tcase_add_test(tests, without_a_lease_only_what_waits_for_its_host_is_started);
    tcase_add_test(tests, what_is_ordered_no_longer_ends_and_is_forgotten);
    tcase_add_test(tests, other_limits_reach_the_run_that_is_there);
    tcase_add_test(tests, other_cpus_reach_the_run_that_is_there);
    tcase_add_test(tests, a_new_epoch_ends_the_old_run_first);
    tcase_add_test(tests, an_order_to_stop_is_carried_out_and_told);
    tcase_add_test(tests,
                   what_is_kept_stays_over_restarts_and_is_what_the_next_run_finds);
    tcase_add_test(tests, a_run_with_new_disks_finds_none);
    tcase_add_test(tests, of_a_vm_without_disks_nothing_is_kept);
    tcase_add_test(tests, disks_that_a_start_did_not_get_to_are_still_told_of);
    tcase_add_test(tests, what_runs_while_only_its_disks_are_to_be_kept_is_ended);
    tcase_add_test(tests,
                   a_disk_image_that_names_a_file_of_the_host_is_given_to_no_engine);
    tcase_add_test(tests, what_disks_lie_on_is_kept_before_there_are_orders);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
