/* Goal: a host opens a log of its own when its orders give it a part in the log, but not
 * a new one when they say that it votes, for then it has had one. Method: the real
 * program, with a members' table of before; what leads it is the test's, behind a real
 * link. */
#include "agent/log_mark.h"
#include "base/cleanup.h"
#include "link_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST      2
#define SAID      "said"
#define NOT_EXITS (-1)

static struct temp_dir dir; /* the host's, and what it said */
static struct msg_member members[2];
static pid_t child;

/* By its table it has no part in the log. */
static void member_put(void)
{
    struct identity identity;
    struct members table;
    struct err err = {0};
    bool changed;
    temp_dir_init(&dir);
    ck_assert_msg(identity_open(dir.path, &identity, &err) == 0, "%s", err.text);
    (void)snprintf(identity.name, NAME_SIZE, "h2");
    identity.uid = HOST;
    identity.cluster_id = 1;
    identity.address = own_loopback(HOST);
    identity.mesh_port = RACK_MESH_PORT;
    identity.raft_port = RACK_MESH_PORT + 2;
    ck_assert_msg(identity_save(&identity, &err) == 0, "%s", err.text);
    members[0] = host_member(&rack.hosts[0]);
    members[1] = (struct msg_member){.uid = HOST,
                                     .key = identity_key_digest(&identity.key),
                                     .address = identity.address,
                                     .mesh_port = identity.mesh_port,
                                     .raft_port = identity.raft_port};
    memcpy(members[1].name, identity.name, NAME_SIZE);
    const struct msg_member_list list = {.items = members, .count = 2};
    ck_assert_msg(members_open(dir.path, &table, &err) == 0, "%s", err.text);
    ck_assert_msg(members_set(&table, &list, &changed, &err) == 0, "%s", err.text);
    members_fini(&table);
    identity_fini(&identity);
    ck_assert_int_eq(members_set(&rack.hosts[0].members, &list, &changed, NULL), 0);
    link_members_changed(rack.hosts[0].link);
}

static void run(void)
{
    char address[OWN_LOOPBACK_TEXT_SIZE];
    CLEANUP_FREE char *said = temp_dir_path(&dir, SAID);
    own_loopback_text(HOST, 0, address)[strcspn(address, ":")] = '\0';
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        int fd = open(said, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        (void)dup2(fd, STDOUT_FILENO);
        (void)dup2(fd, STDERR_FILENO);
        (void)execl(BERTH_BINARY_DIR "/berthd", "berthd", "--name", "h2", "--no-https",
                    "--state", dir.path, "--mesh-port", "17440", "--raft-port", "17442",
                    "--address", address, (char *)NULL);
        _exit(127);
    }
}

static bool has_ended(int *ret_code)
{
    int status;
    bool ended = waitpid(child, &status, WNOHANG) == child;
    *ret_code = ended && WIFEXITED(status) ? WEXITSTATUS(status) : NOT_EXITS;
    return ended;
}

static bool says(const char *words)
{
    CLEANUP_FREE char *said = temp_dir_read(&dir, SAID);
    return said != NULL && strstr(said, words) != NULL;
}

/* Orders that give it that part. */
static void order(enum voter_role voter)
{
    struct msg_orders orders = {.host = HOST, .term = 5, .revision = 1};
    members[1].voter = voter;
    orders.members = (struct msg_member_list){.items = members, .count = 2};
    RACK_WAIT(link_is_up(rack.hosts[0].link, HOST));
    ck_assert_int_eq(link_send(rack.hosts[0].link, HOST, MESSAGE_ORDERS, &orders), 0);
}

static void setup(void)
{
    rack_start(1);
    member_put();
    run();
}

static void stop(void)
{
    temp_dir_fini(&dir);
    rack_stop();
}

START_TEST(a_host_that_is_to_become_a_voter_opens_its_log)
{
    int code;
    setup();
    order(VOTER_STANDBY);

    RACK_WAIT(says("the log is open") || has_ended(&code));

    ck_assert(says("the log is open"));
    (void)kill(child, SIGTERM);
    RACK_WAIT(has_ended(&code));
    stop();
}
END_TEST

START_TEST(a_voter_that_has_lost_its_log_does_not_begin_a_new_one)
{
    int code;
    CLEANUP_FREE char *folder = NULL;
    setup();
    order(VOTER_VOTER);

    RACK_WAIT(has_ended(&code) || says("the log is open"));

    ck_assert(!says("the log is open"));
    ck_assert(says("/raft is missing or was emptied, and this host is a voter"));
    ck_assert_int_eq(code, 1);
    folder = temp_dir_path(&dir, LOG_MARK_FOLDER);
    ck_assert_int_ne(access(folder, F_OK), 0);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("berthd_log");
    TCase *tests = tcase_create("berthd_log");
    tcase_add_test(tests, a_host_that_is_to_become_a_voter_opens_its_log);
    tcase_add_test(tests, a_voter_that_has_lost_its_log_does_not_begin_a_new_one);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
