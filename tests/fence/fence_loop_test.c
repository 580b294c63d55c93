/* Goal: a VM never outlives its lease, whatever becomes of berthd. Method: a real fence,
 * real processes under watch, real signals. */
#include "base/cleanup.h"
#include "fence_fixture.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define MANY 200

START_TEST(without_a_renewal_a_vm_is_frozen_and_goes_on_when_it_comes)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();

    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 75), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);
    bench_wait_event(&bench, FENCE_EVENT_FROZE, 1);
    bench_wait_state(vm, 'T');
    ck_assert_uint_eq(bench_state(&bench).frozen, 1);

    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    bench_wait_event(&bench, FENCE_EVENT_RESUMED, 1);
    bench_wait_state(vm, 'S');
    struct fence_state state = bench_state(&bench);
    ck_assert_uint_eq(state.frozen, 0);
    ck_assert_uint_eq(state.killed_total, 0);
    ck_assert_uint_eq(state.phase, FENCE_PHASE_RUN);
    bench_fini(&bench);
    bench_kill(vm);
}
END_TEST

START_TEST(near_the_end_of_the_lease_a_vm_is_killed)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();
    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 92), 0);

    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);

    ck_assert_int_eq(bench_reap(vm), SIGKILL);
    bench_wait_event(&bench, FENCE_EVENT_KILLED, 1);
    while (bench_state(&bench).watched > 0) {
        bench_breathe();
    }
    bench_fini(&bench);
}
END_TEST

/* Time passes here; that it does is all that is assumed of it. */
START_TEST(when_renewals_stop_a_frozen_vm_ends_without_another_word)
{
    struct bench bench;
    bench_init(&bench, 400 * NS_PER_MS);
    pid_t vm = bench_child();
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);

    ck_assert_int_eq(bench_reap(vm), SIGKILL);

    bench_wait_event(&bench, FENCE_EVENT_KILLED, 1);
    bench_fini(&bench);
}
END_TEST

START_TEST(renewals_keep_a_vm_longer_than_a_lease)
{
    struct bench bench;
    const uint64_t length_ns =
        3 * NS_PER_S; /* a pause of 2.7 s would be needed to lose it */
    bench_init(&bench, length_ns);
    pid_t vm = bench_child();
    uint64_t begin_ns = bench_now();
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);

    while (bench_now() < begin_ns + length_ns * 5 / 4) {
        ck_assert_int_eq(bench_lease(&bench, 0), 0);
        bench_breathe();
    }

    ck_assert(bench_lives(vm));
    ck_assert_uint_eq(bench_state(&bench).killed_total, 0);
    bench_fini(&bench);
    bench_kill(vm);
}
END_TEST

/* A client of its own, which registers its VM and then does as it is told. */
static pid_t client_fork(struct bench *bench, pid_t vm)
{
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        bench->client = bench_connect(bench);
        ck_assert_int_eq(bench_lease(bench, 0), 0);
        ck_assert_int_eq(bench_watch(bench, 1, 1, vm), 0);
        ck_assert_int_eq(write(ready[1], "r", 1), 1);
        for (;;) {
            (void)pause();
        }
    }
    ck_assert_int_eq(close(ready[1]), 0);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(close(ready[0]), 0);
    return pid;
}

/* SIGSTOP: a berthd that hangs. SIGKILL: one that is gone and not started again. */
START_TEST(a_client_that_hangs_or_dies_does_not_save_its_vm)
{
    static const int signals[] = {SIGSTOP, SIGKILL};
    struct bench bench;
    bench_init(&bench, 500 * NS_PER_MS);
    pid_t vm = bench_child();
    pid_t client = client_fork(&bench, vm);

    ck_assert_int_eq(kill(client, signals[_i]), 0);

    ck_assert_int_eq(bench_reap(vm), SIGKILL);
    bench_wait_event(&bench, FENCE_EVENT_KILLED, 1);
    (void)kill(client, SIGKILL);
    (void)waitpid(client, NULL, 0);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_new_client_reads_what_is_watched_and_goes_on)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();
    pid_t client = client_fork(&bench, vm);
    ck_assert_int_eq(kill(client, SIGKILL), 0);
    ck_assert_int_eq(bench_reap(client), SIGKILL);

    struct fence_watch watch = bench_watch_of(1, 1, vm);
    struct fence_page page = bench_page(&bench, 0);

    ck_assert_uint_eq(page.count, 1);
    ck_assert_uint_eq(page.next, 0);
    ck_assert_uint_eq(page.entries[0].uid, 1);
    ck_assert_uint_eq(page.entries[0].epoch, 1);
    ck_assert_uint_eq(page.entries[0].pid, (uint32_t)vm);
    ck_assert_uint_eq(page.entries[0].start_ticks, watch.start_ticks);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0); /* again: the same */
    ck_assert_uint_eq(bench_state(&bench).watched, 1);
    ck_assert(bench_lives(vm));
    /* What it does not know it can end through the fence, and only by its epoch. */
    struct fence_message kill = {.type = FENCE_KILL, .body.kill = {.uid = 1, .epoch = 2}};
    ck_assert_int_eq(bench_reply(&bench, kill), BERTH_ENOTFOUND);
    kill.body.kill.epoch = 1;
    ck_assert_int_eq(bench_reply(&bench, kill), 0);
    ck_assert_int_eq(bench_reap(vm), SIGKILL);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_second_process_of_a_vm_is_refused_while_the_first_lives)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t first = bench_child();
    pid_t second = bench_child();
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    ck_assert_int_eq(bench_watch(&bench, 7, 3, first), 0);

    ck_assert_int_eq(bench_watch(&bench, 7, 4, second), BERTH_EINUSE);
    ck_assert_int_eq(bench_watch(&bench, 7, 2, second), BERTH_ESTALE);

    bench_kill(first);
    while (bench_state(&bench).watched > 0) {
        bench_breathe();
    }
    ck_assert_int_eq(bench_watch(&bench, 7, 4, second), 0);
    bench_fini(&bench);
    bench_kill(second);
}
END_TEST

START_TEST(a_dropped_vm_is_left_alone)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t dropped = bench_child();
    pid_t watched = bench_child();
    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 50), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, dropped), 0);
    ck_assert_int_eq(bench_watch(&bench, 2, 1, watched), 0);
    struct fence_message drop = {.type = FENCE_DROP, .body.drop = {.uid = 1, .epoch = 1}};

    ck_assert_int_eq(bench_reply(&bench, drop), 0);
    ck_assert_int_eq(bench_reply(&bench, drop), 0); /* again */

    ck_assert_uint_eq(bench_state(&bench).watched, 1);
    ck_assert_uint_eq(bench_page(&bench, 0).entries[0].uid, 2);
    drop.body.drop = (struct fence_drop){.uid = 2, .epoch = 9};
    ck_assert_int_eq(bench_reply(&bench, drop), 0);
    ck_assert_uint_eq(bench_state(&bench).watched, 1); /* another epoch: not this one */
    bench_fini(&bench);
    bench_kill(dropped);
    bench_kill(watched);
}
END_TEST

/* VMs are watched faster than an answer comes, and all of them end at the deadline. */
START_TEST(two_hundred_vms_end_together)
{
    struct bench bench;
    pid_t vms[MANY];
    bench_init(&bench, LONG_NS);
    for (unsigned i = 0; i < MANY; i++) {
        vms[i] = bench_child();
    }
    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 75), 0);
    for (unsigned i = 0; i < MANY; i++) {
        ck_assert_int_eq(bench_watch(&bench, i + 1, 1, vms[i]), 0);
    }
    bench_wait_event(&bench, FENCE_EVENT_FROZE, MANY);
    unsigned seen = 0;
    uint32_t slot = 0;
    do {
        struct fence_page page = bench_page(&bench, slot);
        for (uint32_t i = 0; i < page.count; i++) {
            seen += page.entries[i].flags == FENCE_VM_FROZEN;
        }
        slot = page.next;
    } while (slot != 0);
    ck_assert_uint_eq(seen, MANY);

    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 5), 0);
    bench_wait_event(&bench, FENCE_EVENT_RESUMED, MANY);
    /* The fence is told of a lease only forward: its end comes with a new fence. */
    ck_assert_int_eq(bench_fence_end(&bench, SIGKILL), SIGKILL);
    fd_close(&bench.client);
    bench_fence_start(&bench);
    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 95), 0);
    for (unsigned i = 0; i < MANY; i++) {
        ck_assert_int_eq(bench_watch(&bench, i + 1, 1, vms[i]), 0);
    }

    for (unsigned i = 0; i < MANY; i++) {
        ck_assert_int_eq(bench_reap(vms[i]), SIGKILL);
    }
    bench_fini(&bench);
}
END_TEST

START_TEST(a_new_fence_thaws_what_the_old_one_froze)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();
    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 75), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);
    bench_wait_state(vm, 'T');
    ck_assert_int_eq(bench_fence_end(&bench, SIGKILL), SIGKILL);
    fd_close(&bench.client);

    bench_fence_start(&bench);
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);

    bench_wait_state(vm, 'S');
    bench_fini(&bench);
    bench_kill(vm);
}
END_TEST

START_TEST(a_lease_from_the_future_is_refused)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    struct fence_message lease = {.type = FENCE_LEASE,
                                  .body.lease = {.granted_ns = bench_now() + LONG_NS}};

    ck_assert_int_eq(bench_reply(&bench, lease), BERTH_EINVALID);

    ck_assert_uint_eq(bench_state(&bench).granted_ns, 0);
    bench_fini(&bench);
}
END_TEST

START_TEST(what_a_watch_says_must_be_true)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();
    pid_t other = bench_child();
    int pidfd = pidfd_open(vm, 0);
    CLEANUP_FD int file = fd_open_at(AT_FDCWD, "/dev/null", O_RDWR, 0, NULL);
    struct fence_message good = {.type = FENCE_WATCH,
                                 .body.watch = bench_watch_of(1, 1, vm)};
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    struct {
        struct fence_message request;
        int fds[2];
        unsigned count;
    } lies[] = {
        {good, {-1, -1}, 0},      /* no descriptor */
        {good, {file, -1}, 1},    /* not a pidfd */
        {good, {pidfd, file}, 2}, /* one too many */
        {good, {pidfd, -1}, 1},   /* another pid */
        {good, {pidfd, -1}, 1},   /* another start */
        {good, {pidfd, file}, 2}, /* its freezer is none */
        {good, {pidfd, file}, 2}, /* its kill file is none */
        {good, {pidfd, -1}, 1},   /* a freezer that was not sent */
        {good, {pidfd, -1}, 1},   /* of a kind that does not exist */
    };
    lies[3].request.body.watch.pid = (uint32_t)other;
    lies[4].request.body.watch.start_ticks++;
    lies[5].request.body.watch.freezer = FENCE_FREEZER_V1;
    lies[6].request.body.watch.kill = 1;
    lies[7].request.body.watch.freezer = FENCE_FREEZER_V2;
    lies[8].request.body.watch.freezer = 3;

    for (unsigned i = 0; i < ARRAY_COUNT(lies); i++) {
        struct fence_message reply =
            bench_ask(&bench, lies[i].request, lies[i].fds, lies[i].count);
        ck_assert_msg(reply.body.reply.code == (uint32_t)-BERTH_EINVALID, "lie %u: %u", i,
                      reply.body.reply.code);
    }

    ck_assert_uint_eq(bench_state(&bench).watched, 0);
    ck_assert_int_eq(close(pidfd), 0);
    bench_fini(&bench);
    bench_kill(vm);
    bench_kill(other);
}
END_TEST

/* How many descriptors a process waits for by epoll, as its kernel says. */
static unsigned epoll_count(pid_t pid)
{
    unsigned count = 0;
    for (int fd = 0; fd < 64; fd++) {
        char path[64];
        char line[256];
        (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, fd);
        FILE *file = fopen(path, "re");
        while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
            count += strncmp(line, "tfd:", 4) == 0;
        }
        if (file != NULL) {
            (void)fclose(file); /* only read */
        }
    }
    return count;
}

/* A berthd that is stopped in the middle of a request keeps its copy of the pidfd. */
START_TEST(what_has_ended_wakes_the_fence_no_more)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    const unsigned before = epoll_count(bench.fence);
    ck_assert_uint_gt(before, 0);
    pid_t vm = bench_child();
    struct fence_message request = {.type = FENCE_WATCH,
                                    .body.watch = bench_watch_of(1, 1, vm)};
    int kept[2] = {pidfd_open(vm, 0), pidfd_open(vm, 0)};
    for (unsigned i = 0; i < 2; i++) { /* the second takes the place of the first */
        struct fence_message message = bench_ask(&bench, request, &kept[i], 1);
        ck_assert_uint_eq(message.body.reply.code, 0);
        ck_assert_uint_eq(epoll_count(bench.fence), before + 1);
    }

    bench_kill(vm);
    while (bench_state(&bench).watched > 0) {
        bench_breathe();
    }

    ck_assert_uint_eq(epoll_count(bench.fence), before);
    fd_close(&kept[0]);
    fd_close(&kept[1]);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_process_that_has_ended_is_not_watched)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();
    struct fence_message request = {.type = FENCE_WATCH,
                                    .body.watch = bench_watch_of(1, 1, vm)};
    int pidfd = pidfd_open(vm, 0);
    bench_kill(vm);

    struct fence_message reply = bench_ask(&bench, request, &pidfd, 1);

    ck_assert_uint_eq(reply.body.reply.code, ESRCH);
    ck_assert_int_eq(close(pidfd), 0);
    bench_fini(&bench);
}
END_TEST

/* A process that gets this very pid; 0 where we may not ask for one, as root without the
 * right to. */
static pid_t fork_as(pid_t pid)
{
    struct clone_args args = {
        .exit_signal = SIGCHLD,
        .set_tid = (uint64_t)(uintptr_t)&pid,
        .set_tid_size = 1,
    };
    long got = syscall(SYS_clone3, &args, sizeof(args));
    if (got == 0) {
        for (;;) {
            (void)pause();
        }
    }
    ck_assert_msg(got > 0 || errno == EPERM || errno == ENOSYS, "clone3: %m");
    return got > 0 ? (pid_t)got : 0;
}

/* While the fence sleeps, a kill is asked for, then the VM ends and its pid is given to
 * somebody else: the kill is the first thing that the fence sees when it wakes. */
START_TEST(a_reused_pid_is_not_hit)
{
    struct bench bench;
    if (geteuid() != 0) {
        return; /* only root may choose a pid */
    }
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();
    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 60), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);
    ck_assert_int_eq(kill(bench.fence, SIGSTOP), 0);
    bench_wait_state(bench.fence, 'T');
    struct fence_message kill_it = {
        .type = FENCE_KILL, .tag = 77, .body.kill = {.uid = 1, .epoch = 1}};
    ck_assert_int_eq(fence_socket_send(bench.client, &kill_it, NULL, 0), 0);
    bench_kill(vm);
    pid_t innocent = fork_as(vm);
    ck_assert_int_eq(kill(bench.fence, SIGCONT), 0);
    if (innocent == 0) {
        bench_fini(&bench);
        return;
    }
    ck_assert_int_eq(innocent, vm);

    struct fence_message reply;
    do {
        ck_assert_int_eq(bench_receive(&bench, &reply), 0);
    } while (reply.tag != 77);
    while (bench_state(&bench).watched > 0) {
        bench_breathe();
    }

    ck_assert(bench_lives(innocent));
    bench_fini(&bench);
    bench_kill(innocent);
}
END_TEST

START_TEST(garbage_ends_the_connection_and_nothing_else)
{
    static const char garbage[] = "GET / HTTP/1.1\r\n\r\n";
    struct bench bench;
    struct fence_message message;
    int fds[FENCE_FDS_MAX];
    uint8_t large[FENCE_MESSAGE_SIZE_MAX + 100] = {0};
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);
    const struct {
        const void *data;
        size_t size;
    } rows[] = {
        {garbage, sizeof(garbage)},
        {large, sizeof(large)},
        {garbage, 1},
    };

    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        int stranger = bench_connect(&bench);
        struct pollfd wait = {.fd = stranger, .events = POLLIN};
        ck_assert_int_eq(send(stranger, rows[i].data, rows[i].size, 0),
                         (ssize_t)rows[i].size);
        ck_assert_int_eq(poll(&wait, 1, -1), 1);
        ck_assert_int_eq(fence_socket_receive(stranger, &message, fds), -ECONNRESET);
        ck_assert_int_eq(close(stranger), 0);
    }
    /* An answer is no request. */
    int stranger = bench_connect(&bench);
    struct pollfd wait = {.fd = stranger, .events = POLLIN};
    message = (struct fence_message){.type = FENCE_STATE};
    ck_assert_int_eq(fence_socket_send(stranger, &message, NULL, 0), 0);
    ck_assert_int_eq(poll(&wait, 1, -1), 1);
    ck_assert_int_eq(fence_socket_receive(stranger, &message, fds), -ECONNRESET);
    ck_assert_int_eq(close(stranger), 0);

    ck_assert_uint_eq(bench_state(&bench).watched, 1);
    ck_assert(bench_lives(vm));
    bench_fini(&bench);
    bench_kill(vm);
}
END_TEST

START_TEST(another_version_is_told_ours)
{
    struct bench bench;
    uint8_t data[FENCE_MESSAGE_SIZE_MAX];
    struct fence_message message = {.type = FENCE_HELLO};
    int fds[FENCE_FDS_MAX];
    bench_init(&bench, LONG_NS);
    int newer = bench_connect(&bench);
    struct pollfd wait = {.fd = newer, .events = POLLIN};
    size_t size = fence_wire_encode(&message, data);
    data[4]++; /* the version, after the magic number */

    ck_assert_int_eq(send(newer, data, size, 0), (ssize_t)size);

    ck_assert_int_eq(poll(&wait, 1, -1), 1);
    ck_assert_int_eq(fence_socket_receive(newer, &message, fds), 0);
    ck_assert_int_eq(message.type, FENCE_REPLY);
    ck_assert_uint_eq(message.body.reply.code, (uint32_t)-BERTH_EUNSUPPORTED);
    ck_assert_int_eq(poll(&wait, 1, -1), 1);
    ck_assert_int_eq(fence_socket_receive(newer, &message, fds), -ECONNRESET);
    ck_assert_int_eq(close(newer), 0);
    bench_fini(&bench);
}
END_TEST

START_TEST(another_user_is_refused)
{
    struct bench bench;
    if (geteuid() != 0) {
        return; /* we cannot become another one */
    }
    bench_init(&bench, LONG_NS);
    char *path = temp_dir_path(&bench.dir, FENCE_SOCKET_FILE);
    /* As if the folder were open: what counts is who asks. */
    ck_assert_int_eq(chmod(bench.dir.path, 0755), 0);
    ck_assert_int_eq(chmod(path, 0666), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);

    pid_t stranger = fork();
    if (stranger == 0) {
        struct fence_message message = {.type = FENCE_HELLO};
        int fds[FENCE_FDS_MAX];
        struct pollfd wait = {.events = POLLIN};
        if (setresuid(65534, 65534, 65534) != 0) {
            _exit(1);
        }
        wait.fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        if (connect(wait.fd, (struct sockaddr *)(void *)&address, sizeof(address)) != 0) {
            _exit(2);
        }
        (void)fence_socket_send(wait.fd, &message, NULL,
                                0); /* it may be closed already */
        _exit(poll(&wait, 1, -1) == 1 &&
                      fence_socket_receive(wait.fd, &message, fds) == -ECONNRESET
                  ? 42
                  : 3);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(stranger, &status, 0), stranger);

    ck_assert_int_eq(WEXITSTATUS(status), 42);
    ck_assert_uint_eq(bench_state(&bench).watched, 0); /* we still may */
    free(path);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_folder_has_one_fence)
{
    struct bench bench;
    struct err err = {0};
    bench_init(&bench, LONG_NS);

    ck_assert_int_eq(fence_loop_run(&bench.config, &err), BERTH_EEXISTS);

    ck_assert_ptr_nonnull(strstr(err.text, "has a fence already"));
    ck_assert_uint_eq(bench_state(&bench).pid, (uint32_t)bench.fence); /* unharmed */
    bench_fini(&bench);
}
END_TEST

START_TEST(it_ends_when_asked_but_not_while_it_watches)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    pid_t vm = bench_child();
    const struct fence_message end = {.type = FENCE_END};
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);
    ck_assert_int_eq(bench_reply(&bench, end), BERTH_EINUSE);

    bench_kill(vm);
    while (bench_state(&bench).watched > 0) {
        bench_breathe();
    }
    ck_assert_int_eq(bench_reply(&bench, end), 0);

    ck_assert_int_eq(bench_fence_end(&bench, 0), 0);
    char *path = temp_dir_path(&bench.dir, FENCE_SOCKET_FILE);
    ck_assert_int_ne(access(path, F_OK), 0);
    free(path);
    bench_fini(&bench);
}
END_TEST

/* After its last client too; one that is slow to come, as a test on a busy machine, has
 * no right to find it. */
START_TEST(one_that_nobody_needs_any_more_ends_by_itself)
{
    struct bench bench;
    memset(&bench, 0, sizeof(bench));
    temp_dir_init(&bench.dir);
    bench.config.rules = fence_rules_default(LONG_NS);
    bench.config.watchdog.fd = -1;
    bench.config.idle_ms = 2000;
    bench.client = -1;
    bench_fence_fork(&bench);
    pid_t pid;
    siginfo_t over = {0};
    while (bench.client < 0 && over.si_pid == 0) {
        bench.client = fence_socket_connect(bench.dir.path, &pid, NULL);
        ck_assert_int_eq(
            waitid(P_PID, (id_t)bench.fence, &over, WEXITED | WNOHANG | WNOWAIT), 0);
    }

    fd_close(&bench.client);

    ck_assert_int_eq(bench_fence_end(&bench, 0), 0);
    bench_fini(&bench);
}
END_TEST

START_TEST(one_that_nobody_needs_ends_by_itself)
{
    struct bench bench;
    memset(&bench, 0, sizeof(bench));
    temp_dir_init(&bench.dir);
    bench.config.rules = fence_rules_default(LONG_NS);
    bench.config.watchdog.fd = -1;
    bench.config.idle_ms = 50;
    bench.client = -1;
    bench_fence_fork(&bench);

    ck_assert_int_eq(bench_fence_end(&bench, 0), 0);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_client_that_does_not_read_is_left_behind)
{
    struct bench bench;
    bench_init(&bench, LONG_NS);
    int lazy = bench_connect(&bench);
    const struct fence_message list = {.type = FENCE_LIST};

    int r = 0;
    while (r == 0 || r == -EAGAIN) { /* until it is closed */
        r = fence_socket_send(lazy, &list, NULL, 0);
        bench_breathe();
    }

    ck_assert(r == -EPIPE || r == -ECONNRESET);
    ck_assert_uint_eq(bench_state(&bench).watched, 0); /* and we are served */
    ck_assert_int_eq(close(lazy), 0);
    bench_fini(&bench);
}
END_TEST

/* A pipe stands for the device: what is written is what would be. */
static int watchdog_pipe(struct bench *bench, uint32_t timeout_ms)
{
    int ends[2];
    memset(bench, 0, sizeof(*bench));
    temp_dir_init(&bench->dir);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    bench->config.rules = fence_rules_default(LONG_NS);
    bench->config.watchdog =
        (struct fence_watchdog){.fd = ends[1], .timeout_ms = timeout_ms};
    bench->config.idle_ms = FENCE_IDLE_MS;
    bench_fence_start(bench);
    ck_assert_int_eq(close(ends[1]), 0);
    return ends[0];
}

static void watchdog_drain(int fd)
{
    char bytes[256];
    ck_assert_int_eq(fd_set_nonblocking(fd), 0);
    while (read(fd, bytes, sizeof(bytes)) > 0) {
    }
}

static void watchdog_wait_food(int fd)
{
    char bytes[256];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&wait, 1, -1), 1);
    ssize_t count = read(fd, bytes, sizeof(bytes));
    ck_assert_int_gt(count, 0);
    ck_assert_int_eq(bytes[0], '\0');
}

START_TEST(the_watchdog_is_fed_while_all_is_well_and_put_to_sleep_at_the_end)
{
    struct bench bench;
    char last = 0;
    char byte;
    int dog = watchdog_pipe(&bench, 50);
    pid_t vm = bench_child();
    ck_assert_int_eq(bench_lease(&bench, 0), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);
    ck_assert_uint_eq(bench_state(&bench).watchdog_ms, 50);
    ck_assert_uint_eq(bench_state(&bench).flags,
                      FENCE_HAS_WATCHDOG | FENCE_HAS_WATCHDOG_IN_TIME);

    watchdog_wait_food(dog);
    watchdog_wait_food(dog);
    ck_assert_int_eq(bench_fence_end(&bench, SIGTERM), 0);

    while (read(dog, &byte, 1) == 1) {
        last = byte;
    }
    ck_assert_int_eq(last, 'V');
    ck_assert_int_eq(close(dog), 0);
    bench_fini(&bench);
    bench_kill(vm);
}
END_TEST

START_TEST(a_fence_that_is_killed_leaves_the_watchdog_awake)
{
    struct bench bench;
    char byte;
    int dog = watchdog_pipe(&bench, 50);

    watchdog_wait_food(dog);
    ck_assert_int_eq(bench_fence_end(&bench, SIGKILL), SIGKILL);

    while (read(dog, &byte, 1) == 1) {
        ck_assert_int_ne(byte, 'V');
    }
    ck_assert_int_eq(close(dog), 0);
    bench_fini(&bench);
}
END_TEST

/* At 0.6 L, a watchdog that takes half of L would bite after the lease's end. */
START_TEST(the_watchdog_starves_while_it_could_not_bite_in_time)
{
    struct bench bench;
    char bytes[256];
    int dog = watchdog_pipe(&bench, (uint32_t)(LONG_NS / 2 / NS_PER_MS));
    pid_t vm = bench_child();
    ck_assert_int_eq(bench_lease(&bench, LONG_NS / 100 * 60), 0);
    ck_assert_int_eq(bench_watch(&bench, 1, 1, vm), 0);
    ck_assert_uint_eq(bench_state(&bench).flags,
                      FENCE_HAS_WATCHDOG | FENCE_HAS_WATCHDOG_IN_TIME);
    watchdog_drain(dog);

    for (unsigned i = 0; i < 100; i++) { /* each of them is a turn of the fence */
        ck_assert_uint_eq(bench_state(&bench).watched, 1);
        bench_breathe();
    }

    ck_assert_int_eq(read(dog, bytes, sizeof(bytes)), -1);
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_int_eq(close(dog), 0);
    bench_fini(&bench);
    bench_kill(vm);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("fence_loop");
    TCase *tcase = tcase_create("loop");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, without_a_renewal_a_vm_is_frozen_and_goes_on_when_it_comes);
    tcase_add_test(tcase, near_the_end_of_the_lease_a_vm_is_killed);
    tcase_add_test(tcase, when_renewals_stop_a_frozen_vm_ends_without_another_word);
    tcase_add_test(tcase, renewals_keep_a_vm_longer_than_a_lease);
    tcase_add_loop_test(tcase, a_client_that_hangs_or_dies_does_not_save_its_vm, 0, 2);
    tcase_add_test(tcase, a_new_client_reads_what_is_watched_and_goes_on);
    tcase_add_test(tcase, a_second_process_of_a_vm_is_refused_while_the_first_lives);
    tcase_add_test(tcase, a_dropped_vm_is_left_alone);
    tcase_add_test(tcase, two_hundred_vms_end_together);
    tcase_add_test(tcase, a_new_fence_thaws_what_the_old_one_froze);
    tcase_add_test(tcase, a_lease_from_the_future_is_refused);
    tcase_add_test(tcase, what_a_watch_says_must_be_true);
    tcase_add_test(tcase, a_process_that_has_ended_is_not_watched);
    tcase_add_test(tcase, what_has_ended_wakes_the_fence_no_more);
    tcase_add_test(tcase, a_reused_pid_is_not_hit);
    tcase_add_test(tcase, garbage_ends_the_connection_and_nothing_else);
    tcase_add_test(tcase, another_version_is_told_ours);
    tcase_add_test(tcase, another_user_is_refused);
    tcase_add_test(tcase, a_folder_has_one_fence);
    tcase_add_test(tcase, it_ends_when_asked_but_not_while_it_watches);
    tcase_add_test(tcase, one_that_nobody_needs_ends_by_itself);
    tcase_add_test(tcase, one_that_nobody_needs_any_more_ends_by_itself);
    tcase_add_test(tcase, a_client_that_does_not_read_is_left_behind);
    tcase_add_test(tcase,
                   the_watchdog_is_fed_while_all_is_well_and_put_to_sleep_at_the_end);
    tcase_add_test(tcase, a_fence_that_is_killed_leaves_the_watchdog_awake);
    tcase_add_test(tcase, the_watchdog_starves_while_it_could_not_bite_in_time);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return test_main_run(suite());
}
