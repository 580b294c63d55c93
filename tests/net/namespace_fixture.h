/* Two hosts and an "internet" in one process, with real kernel, real nft, real dnsmasq.
 *
 * They are anonymous network namespaces of this process, joined by veth pairs; `setup`
 * and `teardown` are a test's checked fixture. Everything lives in a pid and mount
 * namespace whose first process dies with the test (run_in_namespaces): nothing is left
 * behind, however it ends. Needs root, nft, dnsmasq and ip.
 */
#pragma once

#include "net/network_apply.h"
#include "network_fixture.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <uv.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define VM_FRONT  10 /* on host 1 */
#define VM_SECOND 11 /* on host 1 */
#define VM_REMOTE 20 /* on host 2 */
#define VM_ELSE   30 /* on host 1, another tenant's */

/* ---- namespaces and commands ---- */

struct host {
    struct network_host value;
    struct temp_dir dir;
    int ns;
    uv_loop_t loop;
    struct network_apply *apply;
    struct network_want wants[2];
    size_t count;
    struct network_port ports[2][4];
    struct network_remote remotes[4];
    struct network_name names[2];
};

static struct host hosts[3]; /* 1 and 2 */
static int internet;         /* a namespace */

static inline int ns_new(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static inline void ns_enter(int ns)
{
    ck_assert_int_eq(setns(ns, CLONE_NEWNET), 0);
}

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
    char command[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    int status = system(command);
    ck_assert_msg(status == 0, "%s: exit %d", command, status);
}

/* A pair of interfaces, one in each namespace, with an address each. */
static inline void join(int a,
                        const char *name_a,
                        const char *cidr_a,
                        int b,
                        const char *name_b,
                        const char *cidr_b)
{
    ns_enter(a);
    run("ip link add %s type veth peer name %s netns /proc/%d/fd/%d", name_a, name_b,
        (int)getpid(), b);
    run("ip addr add %s dev %s && ip link set %s up && ip link set lo up", cidr_a, name_a,
        name_a);
    ns_enter(b);
    run("ip addr add %s dev %s && ip link set %s up && ip link set lo up", cidr_b, name_b,
        name_b);
}

/* ---- hosts ---- */

struct outcome {
    bool done;
    int code;
    char text[ERR_TEXT_SIZE];
};

static inline void on_done(void *context, int code, const struct err *err)
{
    struct outcome *outcome = context;

    outcome->done = true;
    outcome->code = code;
    (void)snprintf(outcome->text, sizeof(outcome->text), "%s",
                   err != NULL ? err->text : "");
}

static inline void host_wait(struct host *host, const struct outcome *outcome)
{
    while (!outcome->done) {
        (void)uv_run(&host->loop, UV_RUN_ONCE);
    }
}

/* Sets what the host wants and waits until it is so. */
static inline void host_set(struct host *host)
{
    struct outcome outcome = {0};
    struct err err = {0};

    ns_enter(host->ns);
    ck_assert_msg(network_apply_set(host->apply, host->wants, host->count, on_done,
                                    &outcome, &err) == 0,
                  "%s", err.text);
    ck_assert_msg(!outcome.done, "done inside the call");
    host_wait(host, &outcome);
    ck_assert_msg(outcome.code == 0, "%s", outcome.text);
}

static inline void host_open(struct host *host)
{
    struct err err = {0};

    ns_enter(host->ns);
    host->apply = network_apply_new(&host->loop, &host->value, &err);
    ck_assert_msg(host->apply != NULL, "%s", err.text);
}

static inline void host_close(struct host *host)
{
    host->apply = network_apply_close(host->apply);
    (void)uv_run(&host->loop, UV_RUN_DEFAULT);
}

static inline void host_add_port(struct host *host, size_t want, uint64_t vm_uid)
{
    struct network_want *w = &host->wants[want];

    host->ports[want][w->port_count++] = fixture_port(w->vni, vm_uid);
    w->ports = host->ports[want];
}

static inline void host_add_remote(struct host *host, struct network_remote remote)
{
    host->remotes[host->wants[0].remote_count++] = remote;
    host->wants[0].remotes = host->remotes;
}

static inline void host_init(unsigned number)
{
    struct host *host = &hosts[number];

    temp_dir_init(&host->dir);
    ck_assert_int_eq(chmod(host->dir.path, 0755), 0);
    host->value = fixture_host(number, host->dir.path);
    host->ns = ns_new();
    ck_assert_int_eq(uv_loop_init(&host->loop), 0);
    host->wants[0] = fixture_want(7, number);
    host->names[0] =
        (struct network_name){.name = "web-10", .ipv4 = IPV4(10, 7, 0, VM_FRONT)};
    host->names[1] =
        (struct network_name){.name = "db", .ipv4 = IPV4(10, 7, 0, VM_REMOTE)};
    host->wants[0].names = host->names;
    host->wants[0].name_count = 2;
    host->count = 1;
}

/* Some machines pass bridged frames through the IP hooks as well (module br_netfilter),
 * others do not: the namespace's own switch decides where the module is loaded. */
static inline void set_bridge_netfilter(const struct host *host, bool on)
{
    ns_enter(host->ns);
    run("test ! -e /proc/sys/net/bridge || "
        "for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do echo %d > $f; done",
        on);
}

/* Host 1 has VMs 10 and 11 of tenant 7 and VM 30 of tenant 8; host 2 has VM 20 of
 * tenant 7. */
static inline void setup_hosts(bool bridge_netfilter)
{
    memset(hosts, 0, sizeof(hosts));
    internet = ns_new();
    host_init(1);
    host_init(2);
    set_bridge_netfilter(&hosts[1], bridge_netfilter);
    set_bridge_netfilter(&hosts[2], bridge_netfilter);
    join(hosts[1].ns, "under", "192.0.2.1/24", hosts[2].ns, "under", "192.0.2.2/24");
    join(hosts[1].ns, "uplink", "198.51.100.1/24", internet, "eth0", "198.51.100.2/24");
    ns_enter(hosts[1].ns);
    run("ip route add default via 198.51.100.2");

    struct host *first = &hosts[1];
    first->wants[0].nat = true;
    host_add_port(first, 0, VM_FRONT);
    host_add_port(first, 0, VM_SECOND);
    host_add_remote(first, fixture_remote(7, VM_REMOTE, 2));
    host_add_remote(first, fixture_router(7, 2));
    first->wants[1] = fixture_want(8, 1);
    first->count = 2;
    host_add_port(first, 1, VM_ELSE);
    struct host *second = &hosts[2];
    host_add_port(second, 0, VM_REMOTE);
    host_add_remote(second, fixture_remote(7, VM_FRONT, 1));
    host_add_remote(second, fixture_remote(7, VM_SECOND, 1));
    host_add_remote(second, fixture_router(7, 1));
    for (unsigned number = 1; number <= 2; number++) {
        host_open(&hosts[number]);
        host_set(&hosts[number]);
    }
}

static inline void setup(void)
{
    setup_hosts(false);
}

static inline void setup_bridge_netfilter(void)
{
    setup_hosts(true);
}

static inline void teardown(void)
{
    for (unsigned number = 1; number <= 2; number++) {
        struct host *host = &hosts[number];
        struct err err = {0};
        host_close(host);
        ck_assert_int_eq(uv_loop_close(&host->loop), 0);
        ns_enter(host->ns);
        ck_assert_msg(network_apply_teardown_all(&host->value, &err) == 0, "%s",
                      err.text);
        temp_dir_fini(&host->dir);
    }
}

/* ---- the process ---- */

/* The first process of a pid namespace: when it goes, everything in it goes. */
static inline int first_process(Suite *(*suite)(void))
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("proc", "/proc", "proc", 0, NULL) != 0 ||
        mount("tmpfs", "/tmp", "tmpfs", 0, NULL) != 0 ||
        setenv("TMPDIR", "/tmp", 1) != 0) {
        return test_main_skip("namespaces cannot be set up here");
    }
    return test_main_run(suite());
}

static inline int wait_for(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* The suite in namespaces of its own, or skipped where they cannot be made. */
static inline int run_in_namespaces(Suite *(*suite)(void))
{
    if (geteuid() != 0) {
        return test_main_skip("it takes root to make network namespaces");
    }
    if (system("command -v ip nft dnsmasq > /dev/null") != 0) {
        return test_main_skip("it takes the programs ip, nft and dnsmasq");
    }
    if (access("/dev/net/tun", R_OK | W_OK) != 0) {
        return test_main_skip("it takes /dev/net/tun");
    }
    (void)fflush(NULL);
    pid_t keeper = fork();
    if (keeper == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET) != 0) {
            _exit(test_main_skip("namespaces cannot be made here"));
        }
        pid_t first = fork();
        if (first == 0) {
            exit(first_process(suite));
        }
        exit(wait_for(first));
    }
    return keeper > 0 ? wait_for(keeper) : 1;
}
