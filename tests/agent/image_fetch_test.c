/* Goal: berthd is a stranger to what fetches for it: whatever that process says, does or
 * suffers, the answer is a reason, and nothing of it is left. Method: the real
 * berth-fetch with servers on loopback, and scripts in its place that break every rule.
 */
#include "agent/image_fetch.h"
#include "fetch/fetch_wire.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FETCHER BERTH_BINARY_DIR "/berth-fetch"

static struct temp_dir dir;
static struct err err;
static char url[64];
static int listener;

/* What the events have seen and say. */
static struct {
    uint64_t announced;
    size_t came;
    unsigned looks, looks_max;
    int announced_code, came_code;
    pid_t pid; /* of the fetcher, once it was looked for */
} seen;

static int on_announced(void *context, uint64_t size_bytes)
{
    (void)context;
    seen.announced = size_bytes;
    return seen.announced_code;
}

static int on_came(void *context, const void *data, size_t size)
{
    (void)context;
    (void)data;
    seen.came += size;
    return seen.came_code;
}

static pid_t child_of_thread(void)
{
    char path[64];
    int pid = 0;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children",
                   (int)syscall(SYS_gettid));
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        (void)!fscanf(file, "%d", &pid);
        (void)fclose(file);
    }
    return pid;
}

static bool is_wanted(void *context)
{
    (void)context;
    seen.pid = child_of_thread();
    return ++seen.looks <= seen.looks_max;
}

static const struct image_fetch_events events = {.announced = on_announced,
                                                 .came = on_came,
                                                 .is_wanted = is_wanted};

static int fetch(const char *program)
{
    return image_fetch(program, url, 20, &events, &err);
}

/* A server that takes connections and says nothing. */
static void start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    temp_dir_init(&dir);
    memset(&seen, 0, sizeof(seen));
    memset(&err, 0, sizeof(err));
    seen.looks_max = 1000;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, size), 0);
    ck_assert_int_eq(listen(listener, 4), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/image", ntohs(at.sin_port));
}

static void stop(void)
{
    ck_assert_int_lt(waitpid(-1, NULL, WNOHANG), 0); /* no child is left, not even dead */
    (void)close(listener);
    temp_dir_fini(&dir);
}

/* ---- in its place: a script that says this ---- */

static const char *script(const char *text)
{
    static char path[256];
    char whole[512];
    (void)snprintf(whole, sizeof(whole), "#!/bin/bash\nread -r -N 1\n%s\n", text);
    temp_dir_write(&dir, "fetcher", whole);
    char *name = temp_dir_path(&dir, "fetcher");
    (void)snprintf(path, sizeof(path), "%s", name);
    free(name);
    ck_assert_int_eq(chmod(path, 0755), 0);
    return path;
}

START_TEST(a_program_that_is_missing_is_named)
{
    ck_assert_int_eq(fetch("/nonexistent/berth-fetch"), BERTH_ECHILD);
    ck_assert_ptr_nonnull(strstr(err.text, "start /nonexistent/berth-fetch"));
}
END_TEST

#define SIZE    "printf '\\2\\2\\10\\0\\0\\0\\0\\0\\0\\0' >&0\n"
#define DATA    "printf '\\2\\3content' >&0\n"
#define MISSING "printf '\\2\\5\\5\\0\\0\\0files' >&0\n"
#define DONE    "printf '\\2\\4\\1\\0\\0\\0\\0' >&0\n"

static const struct {
    const char *text;
    int code;
    const char *words;
    size_t came;
} scripts[] = {
    {SIZE DATA DONE "exec sleep 60", 0, "", 7}, /* it may not stay */
    {MISSING SIZE DATA DONE, 0, "", 7},
    {MISSING MISSING "exec sleep 60", BERTH_ECHILD, "says what it must not", 0},
    {DATA MISSING "exec sleep 60", BERTH_ECHILD, "says what it must not", 7},
    {"printf '\\1\\4\\1\\0\\0\\0\\0' >&0; exec sleep 60", BERTH_ECHILD,
     "berth-fetch is of another build: restart berthd", 0},
    {DATA "kill -KILL $$", BERTH_ECHILD, "ended too early: signal 9", 7},
    {"kill -KILL $$", BERTH_ECHILD, "ended too early: signal 9", 0},
    {DATA "exit 3", BERTH_ECHILD, "ended too early: exit status 3", 7},
    {SIZE SIZE "exec sleep 60", BERTH_ECHILD, "says what it must not", 0},
    {DATA SIZE "exec sleep 60", BERTH_ECHILD, "says what it must not", 7},
    {"printf '\\2\\1\\1\\0\\0\\0\\1\\0\\0\\0u' >&0; exec sleep 60", BERTH_ECHILD,
     "says what it must not", 0},
    {"printf 'HTTP/1.1 200 OK' >&0; exec sleep 60", BERTH_ECHILD, "of another build", 0},
    {"printf '\\2HTTP/1.1' >&0; exec sleep 60", BERTH_ECHILD, "says what it must not", 0},
    {"exec 5>&0; { printf '\\2\\3'; head -c 19998 /dev/zero; } | "
     "dd bs=20000 iflag=fullblock count=1 >&5; exec sleep 60",
     BERTH_ECHILD, "says what it must not", 0},
    {"printf '\\2\\4\\11\\0\\0\\0\\0' >&0; exec sleep 60", BERTH_ECHILD,
     "says what it must not", 0},
    {"printf '\\2\\4\\3\\10\\0\\0\\0no route' >&0", BERTH_EUNREACHABLE, "no route", 0},
    {"printf '\\2\\4\\4\\10\\0\\0\\0no right' >&0", BERTH_ECHILD, "no right", 0},
};

START_TEST(whatever_it_says_there_is_an_answer_and_an_end)
{
    int r = fetch(script(scripts[_i].text));

    ck_assert_msg(r == scripts[_i].code, "%d: %s", r, err.text);
    ck_assert_msg(strstr(err.text, scripts[_i].words) != NULL, "%s", err.text);
    ck_assert_uint_eq(seen.came, scripts[_i].came);
}
END_TEST

START_TEST(a_wall_that_is_missing_is_logged_once)
{
    char logged[4096];
    int saved = dup(STDERR_FILENO);
    char *path = temp_dir_path(&dir, "log");
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(dup2(file, STDERR_FILENO), 0);

    int first = fetch(script(MISSING DONE));
    int second = fetch(script(MISSING DONE));

    ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
    ssize_t size = pread(file, logged, sizeof(logged) - 1, 0);
    logged[size > 0 ? size : 0] = '\0';
    ck_assert_int_eq(first, 0);
    ck_assert_int_eq(second, 0);
    const char *said = strstr(logged, "missing=files");
    ck_assert_msg(said != NULL, "%s", logged);
    ck_assert_ptr_null(strstr(said + 1, "missing="));
    (void)close(file);
    (void)close(saved);
    free(path);
}
END_TEST

START_TEST(of_our_environment_it_has_what_a_download_needs)
{
    ck_assert_int_eq(setenv("BERTH_TEST_SECRET", "s", 1), 0);
    ck_assert_int_eq(setenv("http_proxy_password", "s", 1), 0);
    ck_assert_int_eq(setenv("https_proxy", "p", 1), 0);
    ck_assert_int_eq(setenv("NO_PROXY", "n", 1), 0);
    ck_assert_int_eq(setenv("SSL_CERT_DIR", "c", 1), 0);

    int r = fetch(script("[ \"${BERTH_TEST_SECRET-}${http_proxy_password-}/$https_proxy"
                         "$NO_PROXY$SSL_CERT_DIR\" = /pnc ] || exit 9\n" DONE));

    ck_assert_msg(r == 0, "%s", err.text);
}
END_TEST

/* ---- in its place: this program, taken over ---- */

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* Sends a descriptor, and says how that went. */
static int hostile_run(void)
{
    struct fetch_message end = {.type = FETCH_END, .outcome = FETCH_FAILED};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control = {{0}};
    char byte = FETCH_WIRE_VERSION;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    const int fd = STDIN_FILENO;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(fd));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    ssize_t sent = sendmsg(STDIN_FILENO, &message, MSG_NOSIGNAL);
    (void)snprintf(end.text, sizeof(end.text), "%s", sent < 0 ? "refused" : "taken");
    (void)fetch_wire_send(STDIN_FILENO, &end);
    return 0;
}

static bool is_hostile(void)
{
    int kind = 0;
    socklen_t size = sizeof(kind);
    return getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &kind, &size) == 0 &&
           kind == SOCK_SEQPACKET;
}

START_TEST(a_descriptor_that_it_sends_is_refused)
{
    const int none = 0;
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    bool can_refuse =
        setsockopt(ends[0], SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none)) == 0;
    (void)close(ends[0]);
    (void)close(ends[1]);

    int r = fetch("/proc/self/exe");

    if (can_refuse) {
        ck_assert_int_eq(r, BERTH_EUNREACHABLE);
        ck_assert_ptr_nonnull(strstr(err.text, "refused"));
    } else { /* taken, and what it came with is no message */
        ck_assert_int_eq(r, BERTH_ECHILD);
    }
}
END_TEST

START_TEST(a_size_that_is_refused_ends_it_before_anything_comes)
{
    seen.announced_code = BERTH_ETOOLARGE;

    int r =
        fetch(script("printf '\\2\\2\\377\\377\\377\\377\\377\\377\\377\\377' >&0\n" DATA
                     "exec sleep 60"));

    ck_assert_int_eq(r, BERTH_ETOOLARGE);
    ck_assert(seen.announced == UINT64_MAX);
    ck_assert_uint_eq(seen.came, 0);
}
END_TEST

START_TEST(more_than_was_announced_is_the_events_to_refuse)
{
    seen.came_code = BERTH_ETOOLARGE;

    int r = fetch(script("while :; do " DATA "done"));

    ck_assert_int_eq(r, BERTH_ETOOLARGE);
    ck_assert_uint_eq(seen.came, 7); /* it is not asked again */
}
END_TEST

START_TEST(a_url_that_is_too_long_is_refused)
{
    char *longer = calloc(1, 10000);
    memset(longer, 'u', 9999);

    ck_assert_int_eq(image_fetch(FETCHER, longer, 20, &events, &err), BERTH_EINVALID);
    free(longer);
}
END_TEST

/* ---- the real one ---- */

START_TEST(what_is_not_wanted_any_more_ends)
{
    seen.looks_max = 2;

    ck_assert_int_eq(fetch(FETCHER), BERTH_ECLOSED);

    ck_assert_int_gt(seen.pid, 0);
    ck_assert_int_lt(kill(seen.pid, 0), 0);
}
END_TEST

static char status[8192];
static unsigned descriptors;

static void read_status(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    status[fread(status, 1, sizeof(status) - 1, file)] = '\0';
    (void)fclose(file);
}

/* Of what berthd has open: the descriptors above what libcurl has opened for itself. */
static void count_inherited(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, listener);
    struct stat theirs;
    struct stat ours;
    ck_assert_int_eq(fstat(listener, &ours), 0);
    descriptors = 0;
    if (stat(path, &theirs) == 0 && theirs.st_ino == ours.st_ino) {
        descriptors++;
    }
}

static bool looks_closely(void *context)
{
    (void)context;
    seen.pid = child_of_thread();
    int fd = seen.looks++ < 1 ? -1 : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return true;
    }
    read_status(seen.pid); /* it has connected: its walls stand */
    count_inherited(seen.pid);
    (void)close(fd);
    return false;
}

START_TEST(it_runs_without_rights_and_without_our_descriptors)
{
    const struct image_fetch_events closely = {
        .announced = on_announced, .came = on_came, .is_wanted = looks_closely};

    (void)image_fetch(FETCHER, url, 20, &closely, &err);

    ck_assert_ptr_nonnull(strstr(status, "NoNewPrivs:\t1"));
    ck_assert_ptr_nonnull(strstr(status, "Seccomp:\t2"));
    ck_assert_ptr_nonnull(strstr(status, "CapPrm:\t0000000000000000"));
    ck_assert_ptr_nonnull(strstr(status, "CapEff:\t0000000000000000"));
    ck_assert_uint_eq(descriptors, 0);
    if (geteuid() == 0) {
        ck_assert_ptr_null(strstr(status, "\nUid:\t0"));
        ck_assert_ptr_nonnull(strstr(status, "\nUid:\t65528\t65528\t65528\t65528"));
        ck_assert_ptr_nonnull(strstr(status, "\nGid:\t65528\t65528\t65528\t65528"));
        ck_assert_ptr_nonnull(strstr(status, "\nGroups:\t \n"));
        ck_assert_ptr_nonnull(strstr(status, "CapBnd:\t0000000000000000"));
    }
}
END_TEST

/* Tells the test who fetches, once it is at it. */
static int telling;

static bool tells(void *context)
{
    (void)context;
    seen.pid = child_of_thread();
    if (seen.looks++ == 1) {
        (void)!write(telling, &seen.pid, sizeof(seen.pid));
    }
    return true;
}

static bool is_gone(pid_t pid)
{
    const struct timespec little = {.tv_nsec = 20000000};
    for (int i = 0; i < 500; i++) {
        if (waitpid(pid, NULL, WNOHANG) == pid || kill(pid, 0) < 0) {
            return true;
        }
        (void)nanosleep(&little, NULL);
    }
    return false;
}

START_TEST(it_ends_with_who_started_it)
{
    const struct image_fetch_events told = {
        .announced = on_announced, .came = on_came, .is_wanted = tells};
    int ends[2];
    pid_t fetcher = 0;
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        telling = ends[1];
        (void)image_fetch(FETCHER, url, 20, &told, &err);
        _exit(0);
    }
    ck_assert_int_eq(read(ends[0], &fetcher, sizeof(fetcher)), (ssize_t)sizeof(fetcher));
    ck_assert_int_gt(fetcher, 0);

    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);

    ck_assert(is_gone(fetcher));
    (void)close(ends[0]);
    (void)close(ends[1]);
}
END_TEST

int main(void)
{
    if (!test_main_finds(FETCHER)) {
        return 1;
    }
    if (is_hostile()) {
        return hostile_run();
    }
    Suite *suite = suite_create("image_fetch");
    TCase *tests = tcase_create("image_fetch");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, a_program_that_is_missing_is_named);
    tcase_add_loop_test(tests, whatever_it_says_there_is_an_answer_and_an_end, 0,
                        (int)(sizeof(scripts) / sizeof(scripts[0])));
    tcase_add_test(tests, a_wall_that_is_missing_is_logged_once);
    tcase_add_test(tests, of_our_environment_it_has_what_a_download_needs);
    tcase_add_test(tests, a_descriptor_that_it_sends_is_refused);
    tcase_add_test(tests, a_size_that_is_refused_ends_it_before_anything_comes);
    tcase_add_test(tests, more_than_was_announced_is_the_events_to_refuse);
    tcase_add_test(tests, a_url_that_is_too_long_is_refused);
    tcase_add_test(tests, what_is_not_wanted_any_more_ends);
    tcase_add_test(tests, it_runs_without_rights_and_without_our_descriptors);
    tcase_add_test(tests, it_ends_with_who_started_it);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
