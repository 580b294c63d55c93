/* Goal: whoever dies or hangs, fence or berthd, the other puts it right. Method: the real
 * berth-fence as this client starts it, real processes under watch. */
#include "agent/fence_client.h"
#include "base/clock.h"
#include "base/loop.h"
#include "fence/fence_socket.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FENCE_PROGRAM BERTH_BINARY_DIR "/berth-fence"
#define WATCH_NS      (UINT64_C(600) * NS_PER_S) /* nothing is due while a test runs */
#define ENTRIES_MAX   8

struct bench {
    struct temp_dir dir;
    uv_loop_t loop;
    struct loop_timer *deadline;
    struct loop_timer *tick; /* so that a loop that waits turns now and then */
    struct fence_client_config config;
    struct fence_client *client;
    unsigned connected;
    bool knows; /* the answer to is_known */
    unsigned asked;
    struct fence_entry entries[ENTRIES_MAX]; /* that were asked for */
};

static struct bench bench;

static void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static void on_tick(void *context)
{
    (void)context;
}

static void on_connected(void *context)
{
    (void)context;
    bench.connected++;
}

static bool on_is_known(void *context, const struct fence_entry *entry)
{
    (void)context;
    ck_assert_uint_lt(bench.asked, ENTRIES_MAX);
    bench.entries[bench.asked++] = *entry;
    return bench.knows;
}

static void open_client(void)
{
    struct err err = {0};
    bench.client = fence_client_open(&bench.config, &err);
    ck_assert_msg(bench.client != NULL, "%s", err.text);
}

static void setup(void)
{
    memset(&bench, 0, sizeof(bench));
    (void)signal(SIGPIPE, SIG_IGN);
    temp_dir_init_guarded(&bench.dir);
    ck_assert_int_eq(uv_loop_init(&bench.loop), 0);
    bench.deadline = loop_timer_new(&bench.loop, 200000, 0, on_deadline, NULL);
    bench.tick = loop_timer_new(&bench.loop, 5, 5, on_tick, NULL);
    bench.knows = true;
    bench.config = (struct fence_client_config){
        .loop = &bench.loop,
        .folder = bench.dir.path,
        .program = FENCE_PROGRAM,
        .lease_ns = WATCH_NS,
        .connected = on_connected,
        .is_known = on_is_known,
    };
}

static void teardown(void)
{
    struct err err = {0};
    bench.client = fence_client_close(bench.client);
    bench.deadline = loop_timer_close(bench.deadline);
    bench.tick = loop_timer_close(bench.tick);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench.loop), 0);
    ck_assert_msg(fence_client_end(bench.dir.path, &err) == 0, "%s", err.text);
    temp_dir_fini(&bench.dir);
}

static void turn(void)
{
    uv_run(&bench.loop, UV_RUN_ONCE);
}

static void wait_connected(unsigned count)
{
    while (bench.connected < count || !fence_client_ready(bench.client)) {
        turn();
    }
}

/* The pid of the fence that listens now. */
static pid_t fence_pid(void)
{
    pid_t pid = 0;
    int fd = fence_socket_connect(bench.dir.path, &pid, NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(close(fd), 0);
    return pid;
}

static pid_t vm_new(struct vm_process_identity *ret_identity)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            (void)pause();
        }
    }
    ck_assert_int_eq(vm_process_identify(pid, ret_identity), 0);
    return pid;
}

static void vm_end(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void lease(void)
{
    fence_client_lease(bench.client, clock_now_ns(clock_system()));
}

/* As a supervisor asks: again, when the fence has not answered in its time, which a busy
 * machine can bring about, and is connected anew. */
static int watch(uint64_t uid, uint64_t epoch, const struct vm_process_identity *identity)
{
    int r;
    while ((r = fence_client_watch(bench.client, uid, epoch, identity, NULL)) ==
               BERTH_ETIMEOUT ||
           r == BERTH_ECLOSED) {
        turn();
    }
    return r;
}

START_TEST(a_missing_fence_is_started_and_watches)
{
    struct vm_process_identity identity;
    open_client();
    ck_assert(!fence_client_ready(bench.client));
    ck_assert_int_eq(fence_client_health(bench.client), FENCE_HEALTH_UNKNOWN);
    wait_connected(1);
    pid_t vm = vm_new(&identity);

    lease();
    ck_assert_int_eq(watch(1, 1, &identity), 0);
    ck_assert_int_eq(watch(1, 1, &identity), 0);
    ck_assert_int_eq(watch(2, 1, &identity), 0);

    ck_assert_int_eq(fence_client_health(bench.client), FENCE_HEALTH_RUNNING);
    ck_assert_int_eq(getsid(fence_pid()), fence_pid()); /* a session of its own */
    vm_end(vm);
}
END_TEST

/* For who ends VMs whose lease nobody renews any more. */
START_TEST(a_fence_tells_when_it_freezes)
{
    uint64_t freezes_ns = 1;
    struct err err = {0};
    ck_assert_int_eq(fence_client_freezes_ns(bench.dir.path, &freezes_ns, &err),
                     BERTH_ENOTFOUND);
    open_client();
    wait_connected(1);
    ck_assert_int_eq(fence_client_freezes_ns(bench.dir.path, &freezes_ns, &err), 0);
    ck_assert_uint_eq(freezes_ns, 0); /* no lease yet */
    const uint64_t granted_ns = clock_now_ns(clock_system());

    do { /* again, when it was asked anew meanwhile: see watch */
        turn();
        fence_client_lease(bench.client, granted_ns);
        ck_assert_int_eq(fence_client_freezes_ns(bench.dir.path, &freezes_ns, &err), 0);
    } while (freezes_ns == 0);

    ck_assert_uint_eq(freezes_ns, granted_ns + WATCH_NS / 10 * 7);
}
END_TEST

START_TEST(a_process_that_is_gone_or_another_is_not_handed_over)
{
    struct vm_process_identity identity;
    open_client();
    wait_connected(1);
    pid_t vm = vm_new(&identity);

    identity.start_ticks++;
    ck_assert_int_eq(watch(1, 1, &identity), BERTH_ENOTFOUND);
    identity.start_ticks--;
    vm_end(vm);
    ck_assert_int_eq(watch(1, 1, &identity), BERTH_ENOTFOUND);
}
END_TEST

START_TEST(a_fence_that_dies_is_started_again_and_told_again)
{
    open_client();
    wait_connected(1);
    pid_t first = fence_pid();

    ck_assert_int_eq(kill(first, SIGKILL), 0);
    wait_connected(2);

    ck_assert_int_ne(fence_pid(), first);
}
END_TEST

START_TEST(a_fence_that_hangs_is_replaced)
{
    open_client();
    wait_connected(1);
    pid_t first = fence_pid();

    ck_assert_int_eq(kill(first, SIGSTOP), 0);
    wait_connected(2);

    ck_assert_int_ne(fence_pid(), first);
}
END_TEST

/* Whoever knocks at one that hangs stays in its queue, also when he has gone. */
START_TEST(a_fence_that_hangs_is_replaced_when_its_queue_is_full_too)
{
    pid_t pid = 0;
    int fd;
    open_client();
    wait_connected(1);
    pid_t first = fence_pid();

    ck_assert_int_eq(kill(first, SIGSTOP), 0);
    while ((fd = fence_socket_connect(bench.dir.path, &pid, NULL)) >= 0) {
        ck_assert_int_eq(close(fd), 0);
    }
    ck_assert_int_eq(fd, -EAGAIN);
    wait_connected(2);

    ck_assert_int_ne(fence_pid(), first);
}
END_TEST

START_TEST(a_request_that_is_not_answered_fails_and_the_next_waits_for_nothing)
{
    struct vm_process_identity identity;
    struct err err = {0};
    open_client();
    wait_connected(1);
    pid_t vm = vm_new(&identity);
    lease();
    ck_assert_int_eq(kill(fence_pid(), SIGSTOP), 0);

    ck_assert_int_eq(fence_client_watch(bench.client, 1, 1, &identity, &err),
                     BERTH_ETIMEOUT);
    ck_assert_int_eq(fence_client_watch(bench.client, 1, 1, &identity, &err),
                     BERTH_ECLOSED);

    ck_assert(!fence_client_ready(bench.client));
    wait_connected(2); /* and it is replaced */
    lease();
    ck_assert_int_eq(watch(1, 1, &identity), 0);
    vm_end(vm);
}
END_TEST

START_TEST(a_fence_that_watches_outlives_us_and_is_found_again)
{
    struct vm_process_identity identity;
    open_client();
    wait_connected(1);
    pid_t vm = vm_new(&identity);
    uint64_t granted_ns = clock_now_ns(clock_system());
    ck_assert_uint_eq(fence_client_granted_ns(bench.client), 0);
    fence_client_lease(bench.client, granted_ns);
    ck_assert_int_eq(watch(7, 3, &identity), 0);
    pid_t fence = fence_pid();

    bench.client = fence_client_close(bench.client);
    turn();
    open_client();
    wait_connected(2);

    ck_assert_int_eq(fence_pid(), fence);
    ck_assert_uint_eq(fence_client_granted_ns(bench.client), granted_ns);
    ck_assert_uint_eq(bench.asked, 1);
    ck_assert_uint_eq(bench.entries[0].uid, 7);
    ck_assert_uint_eq(bench.entries[0].epoch, 3);
    ck_assert_uint_eq(bench.entries[0].pid, (uint32_t)vm);
    ck_assert_int_eq(waitpid(vm, NULL, WNOHANG), 0); /* known: it lives */
    vm_end(vm);
}
END_TEST

START_TEST(a_watched_vm_that_nobody_knows_is_ended)
{
    struct vm_process_identity identity;
    int status = 0;
    open_client();
    wait_connected(1);
    pid_t vm = vm_new(&identity);
    lease();
    ck_assert_int_eq(watch(7, 3, &identity), 0);
    bench.client = fence_client_close(bench.client);
    turn();

    bench.knows = false;
    open_client();
    wait_connected(2);

    ck_assert_int_eq(waitpid(vm, &status, 0), vm);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
END_TEST

START_TEST(a_fence_of_another_lease_is_replaced)
{
    open_client();
    wait_connected(1);
    pid_t first = fence_pid();
    struct vm_process_identity identity;
    pid_t vm = vm_new(&identity);
    lease();
    ck_assert_int_eq(watch(1, 1, &identity), 0);
    bench.client = fence_client_close(bench.client);
    turn();

    bench.config.lease_ns = WATCH_NS / 2;
    open_client();
    wait_connected(2);

    ck_assert_int_ne(fence_pid(), first);
    vm_end(vm);
}
END_TEST

/* A fence of a newer build: whatever it is asked, it answers in its own version. */
static pid_t newer_fence(void)
{
    int listener = fence_socket_listen(bench.dir.path, NULL);
    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(close(listener), 0); /* the child's will have the child's pid */
    int stands[2];
    char byte;
    ck_assert_int_eq(pipe(stands), 0);
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t data[FENCE_MESSAGE_SIZE_MAX];
        const struct fence_message reply = {.type = FENCE_REPLY};
        size_t size = fence_wire_encode(&reply, data);
        data[4]++;
        (void)signal(SIGTERM, SIG_DFL); /* Check has a handler of its own */
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        listener = fence_socket_listen(bench.dir.path, NULL);
        (void)!write(stands[1], "", 1);
        for (;;) {
            struct pollfd wait = {.fd = listener, .events = POLLIN};
            (void)poll(&wait, 1, -1);
            int fd = fence_socket_accept(listener);
            wait.fd = fd;
            if (fd >= 0 && poll(&wait, 1, -1) == 1) {
                char asked[FENCE_MESSAGE_SIZE_MAX];
                (void)!read(fd, asked, sizeof(asked));
                (void)!write(fd, data, size);
            }
            if (fd >= 0) {
                (void)close(fd);
            }
        }
    }
    ck_assert_int_eq(read(stands[0], &byte, 1), 1); /* it can be met from now on */
    (void)close(stands[0]);
    (void)close(stands[1]);
    return pid;
}

START_TEST(a_fence_of_another_version_is_replaced)
{
    int status = 0;
    pid_t newer = newer_fence();
    open_client();

    wait_connected(1);

    ck_assert_int_ne(fence_pid(), newer);
    ck_assert_int_eq(waitpid(newer, &status, 0), newer);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}
END_TEST

/* One that hangs from its start on, or a machine that does not come to it. */
START_TEST(a_first_fence_that_does_not_come_is_missing_after_a_while)
{
    char text[256];
    (void)snprintf(text, sizeof(text),
                   "#!/bin/sh\necho $$ >%.200s/hangs\nexec sleep 1000\n", bench.dir.path);
    temp_dir_write(&bench.dir, "fence", text);
    char *program = temp_dir_path(&bench.dir, "fence");
    ck_assert_int_eq(chmod(program, 0700), 0);
    bench.config.program = program;
    open_client();
    turn();
    ck_assert_int_eq(fence_client_health(bench.client), FENCE_HEALTH_UNKNOWN);
    while (fence_client_health(bench.client) == FENCE_HEALTH_UNKNOWN) {
        turn();
    }
    ck_assert_int_eq(fence_client_health(bench.client), FENCE_HEALTH_MISSING);
    ck_assert(!fence_client_ready(bench.client));
    char *pid = temp_dir_read(&bench.dir, "hangs");
    ck_assert_ptr_nonnull(pid);
    ck_assert_int_eq(kill((pid_t)strtol(pid, NULL, 10), SIGKILL), 0);
    free(pid);
    free(program);
}
END_TEST

START_TEST(without_the_program_nothing_is_watched_and_that_is_said)
{
    struct vm_process_identity identity;
    struct err err = {0};
    pid_t vm = vm_new(&identity);
    bench.config.program = "/nonexistent/berth-fence";
    open_client();
    for (unsigned i = 0; i < 50; i++) {
        turn();
    }

    ck_assert(!fence_client_ready(bench.client));
    ck_assert_int_eq(fence_client_health(bench.client), FENCE_HEALTH_MISSING);
    ck_assert_int_eq(fence_client_watch(bench.client, 1, 1, &identity, &err),
                     BERTH_ECLOSED);
    ck_assert_ptr_nonnull(strstr(err.text, "the fence does not watch VM 1"));
    fence_client_lease(bench.client, 1); /* harmless */
    fence_client_drop(bench.client, 1, 1);
    vm_end(vm);
}
END_TEST

START_TEST(a_fence_that_watches_nothing_ends_with_us)
{
    open_client();
    wait_connected(1);
    pid_t fence = fence_pid();

    bench.client = fence_client_close(bench.client);

    ck_assert_int_eq(waitpid(fence, NULL, 0), fence); /* nobody else asks it to */
}
END_TEST

START_TEST(one_that_watches_is_not_ended_from_outside)
{
    struct vm_process_identity identity;
    struct err err = {0};
    open_client();
    wait_connected(1);
    pid_t vm = vm_new(&identity);
    lease();
    ck_assert_int_eq(watch(1, 1, &identity), 0);

    ck_assert_int_eq(fence_client_end(bench.dir.path, &err), BERTH_EINUSE);

    vm_end(vm);
    ck_assert_int_eq(fence_client_end(bench.dir.path, &err), 0);
    ck_assert_int_eq(fence_client_end(bench.dir.path, &err), 0); /* there is none */
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("fence_client");
    TCase *tcase = tcase_create("client");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_missing_fence_is_started_and_watches);
    tcase_add_test(tcase, a_fence_tells_when_it_freezes);
    tcase_add_test(tcase, a_process_that_is_gone_or_another_is_not_handed_over);
    tcase_add_test(tcase, a_fence_that_dies_is_started_again_and_told_again);
    tcase_add_test(tcase, a_fence_that_hangs_is_replaced);
    tcase_add_test(tcase, a_fence_that_hangs_is_replaced_when_its_queue_is_full_too);
    tcase_add_test(tcase,
                   a_request_that_is_not_answered_fails_and_the_next_waits_for_nothing);
    tcase_add_test(tcase, a_fence_that_watches_outlives_us_and_is_found_again);
    tcase_add_test(tcase, a_watched_vm_that_nobody_knows_is_ended);
    tcase_add_test(tcase, a_fence_of_another_lease_is_replaced);
    tcase_add_test(tcase, a_fence_of_another_version_is_replaced);
    tcase_add_test(tcase, a_first_fence_that_does_not_come_is_missing_after_a_while);
    tcase_add_test(tcase, without_the_program_nothing_is_watched_and_that_is_said);
    tcase_add_test(tcase, a_fence_that_watches_nothing_ends_with_us);
    tcase_add_test(tcase, one_that_watches_is_not_ended_from_outside);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    if (!test_main_finds(FENCE_PROGRAM)) {
        return 1;
    }
    return test_main_run(suite());
}
