/* Goal: what VMs boot, and what their disks lie on, has been looked at since the daemon's
 * start, and is fetched again where it is damaged. Method: a worker with a leader that
 * the test plays (worker_fixture.h), and a store that was changed while it was closed. */
#include "agent/checked_list.h"
#include "base/cleanup.h"
#include "support/open_gate.h"
#include "worker_fixture.h"

#include <fcntl.h>
#include <unistd.h>

/* A sparse one: it takes the store longer to look at than orders take to come. */
#define BASE_SIZE (256u << 20)

/* ---- arranging ---- */

static char *image_path(const struct digest *digest)
{
    char name[sizeof("images/") + DIGEST_HEX_SIZE];
    char hex[DIGEST_HEX_SIZE];
    digest_format(digest, hex);
    (void)snprintf(name, sizeof(name), "images/%s", hex);
    return temp_dir_path(&rack.hosts[0].dir, name);
}

static void flip(const char *path)
{
    ck_assert_int_eq(chmod(path, 0600), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "K", 1, 0), 1);
    ck_assert_int_eq(close(fd), 0);
}

static void close_all(void)
{
    worker = worker_close(worker);
    images = image_store_close(images);
    CLEANUP_FREE char *list =
        temp_dir_path(&rack.hosts[0].dir, "images/" CHECKED_LIST_NAME);
    ck_assert_int_eq(unlink(list), 0); /* as another boot of the machine */
}

static void open_all(void)
{
    uint64_t boot = leader.boot;
    open_store();
    open_worker();
    RACK_WAIT(leader.boot != boot);
}

/* ---- what they boot ---- */

START_TEST(a_vm_starts_once_its_image_was_looked_at)
{
    start();
    CLEANUP_FREE char *path = image_path(&kernel);
    close_all();
    const int gate = open_gate_drop(path);
    open_all();

    give(1, &both);
    let_pass();
    ck_assert(!known(FENCED) && !known(WAITS));
    ck_assert_uint_ge(leader.unchecked, 1);

    open_gate_lift(gate);
    RACK_WAIT(is(FENCED, PHASE_READY) && is(WAITS, PHASE_READY));
    RACK_WAIT(leader.unchecked == 0);
    stop();
}
END_TEST

/* It cannot be opened, so that the leader hears of it in any case. */
START_TEST(the_leader_is_told_what_was_not_looked_at_yet)
{
    const struct timespec long_ago[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    start();
    CLEANUP_FREE char *path = image_path(&hostile_disk);
    CLEANUP_FREE char *away = temp_dir_path(&rack.hosts[0].dir, "away");
    ck_assert_int_eq(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    close_all();
    open_store(); /* looks at the other one first */
    ck_assert_int_eq(rename(path, away), 0);
    ck_assert_int_eq(symlink(away, path), 0);

    open_worker();

    RACK_WAIT(leader.unchecked == 1);
    stop();
}
END_TEST

START_TEST(of_a_damaged_image_nothing_starts_until_it_was_fetched_again)
{
    start();
    orders_blobs = true;
    CLEANUP_FREE char *path = image_path(&kernel);
    close_all();
    flip(path);
    open_all();

    give(1, &both);
    RACK_WAIT(leader.asked > 0);
    let_pass();
    ck_assert(!known(FENCED) && !known(WAITS));

    bring_kernel("kernel");
    RACK_WAIT(is(FENCED, PHASE_READY) && is(WAITS, PHASE_READY));
    stop();
}
END_TEST

/* The orders stay the same when it goes. */
START_TEST(what_is_found_damaged_while_it_is_wanted_is_asked_for)
{
    start();
    orders_blobs = true;
    CLEANUP_FREE char *path = image_path(&kernel);
    close_all();
    flip(path);
    const int gate = open_gate_drop(path);
    open_all();
    give(1, &both);
    let_pass();
    ck_assert_uint_eq(leader.asked, 0); /* it is here, as far as anybody knows */

    open_gate_lift(gate);

    RACK_WAIT(leader.asked > 0);
    stop();
}
END_TEST

/* Two that do not fit together would drive each other out for ever. */
START_TEST(what_went_for_want_of_room_is_not)
{
    enum { CACHE = 200 };
    const uint8_t other[CACHE] = {0};
    const struct digest image = {0};
    bool done = false;
    cache_bytes = CACHE;
    orders_blobs = true;
    start_both();
    const struct digest wanted = kernel; /* note_done is about to note another */
    ck_assert_int_eq(image_store_keep(images, &image, 1, NULL), 0);

    struct image_writer *writer = image_writer_begin(images, NULL, CACHE, NULL);
    ck_assert_int_eq(image_writer_write(writer, other, CACHE, NULL), 0);
    image_writer_end(writer, note_done, &done);
    RACK_WAIT(done);
    kernel = wanted;
    ck_assert(!image_store_has(images, &wanted, NULL));

    let_pass();
    let_pass();
    ck_assert_uint_eq(leader.asked, 0);
    stop();
}
END_TEST

/* ---- what disks lie on ---- */

/* A VM that has run, on a base that is not the image that its orders name now. */
static void start_on_base(struct digest *ret_base)
{
    start_both();
    CLEANUP_FREE char *link = temp_dir_path(&rack.hosts[0].dir, "vms/12/base");
    CLEANUP_FREE char *made = temp_dir_path(&rack.hosts[0].dir, "images/made");
    int fd = open(made, O_RDWR | O_CREAT | O_CLOEXEC, 0400);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, BASE_SIZE), 0);
    uint8_t *zeros = calloc(1, BASE_SIZE);
    ck_assert_ptr_nonnull(zeros);
    digest_of(zeros, BASE_SIZE, ret_base);
    free(zeros);
    ck_assert_int_eq(close(fd), 0);
    CLEANUP_FREE char *path = image_path(ret_base);
    ck_assert_int_eq(rename(made, path), 0);
    (void)unlink(link);
    ck_assert_int_eq(symlink(path, link), 0);
    ck_assert_int_eq(kill(vm(WAITS).pid, SIGKILL), 0);
    RACK_WAIT(!vm(WAITS).alive);
}

/* Of what a VM's disks lie on. */
enum base_fate {
    BASE_WHOLE = 0,
    BASE_DAMAGED, /* and nobody has a whole one */
    BASE_FETCHED, /* likewise, but the orders name it still */
    BASE_FATES
};

START_TEST(disks_are_used_on_what_was_looked_at)
{
    struct wish again = both;
    struct digest base;
    start_on_base(&base);
    CLEANUP_FREE char *path = image_path(&base);
    leader.acks = true;
    close_all();
    if (_i != BASE_WHOLE) {
        flip(path);
    }
    open_all();
    again.revision++;
    again.fenced_epoch = 0;
    again.waits_epoch = 2;
    again.disk_epoch = 1;
    orders_base = _i == BASE_FETCHED ? base : orders_base;

    give(1, &again);

    if (_i == BASE_WHOLE) {
        RACK_WAIT(is(WAITS, PHASE_READY));
        ck_assert(image_store_path(images, &base, (char[IMAGE_PATH_SIZE]){0}));
    } else if (_i == BASE_DAMAGED) {
        RACK_WAIT(leader.phases[1] != PHASE_PENDING && leader.epochs[1] == 2);
        ck_assert_int_eq(leader.phases[1], PHASE_FAILED);
        ck_assert_msg(strstr(leader.reasons[1], "was damaged, and is kept as") != NULL,
                      "%s", leader.reasons[1]);
        ck_assert_ptr_nonnull(strstr(leader.reasons[1], ".damaged: upload it whole"));
    } else {
        RACK_WAIT(image_store_lost(images, &base));
        let_pass();
        let_pass();
        ck_assert(leader.epochs[1] != 2);
    }
    stop();
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    if (geteuid() != 0) {
        return test_main_skip("a network namespace of its own needs root");
    }
    Suite *suite = suite_create("worker_images");
    TCase *tests = tcase_create("worker_images");
    tcase_set_timeout(tests, 90);
    tcase_add_test(tests, a_vm_starts_once_its_image_was_looked_at);
    tcase_add_test(tests, the_leader_is_told_what_was_not_looked_at_yet);
    tcase_add_test(tests, of_a_damaged_image_nothing_starts_until_it_was_fetched_again);
    tcase_add_test(tests, what_is_found_damaged_while_it_is_wanted_is_asked_for);
    tcase_add_test(tests, what_went_for_want_of_room_is_not);
    tcase_add_loop_test(tests, disks_are_used_on_what_was_looked_at, 0, BASE_FATES);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
