/* Goal: a berthd that cannot serve ends before it has begun, with the reason, and what it
 * tells of a folder without serving is all that is there. Method: the real program, in a
 * folder of its own. */
#include "agent/identity.h"
#include "agent/log_mark.h"
#include "agent/members.h"
#include "agent/vm_lock.h"
#include "agent/vm_record.h"
#include "base/cleanup.h"
#include "base/state_file.h"
#include "consensus/log_seal.h"
#include "support/own_loopback.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct temp_dir dir;

static void start(void)
{
    temp_dir_init(&dir);
}

static void stop(void)
{
    temp_dir_fini(&dir);
}

static const struct {
    const char *settings;
    const char *says;
    int code;
} rows[] = {
    {"--reserve-memory 100000TiB", "--reserve-memory 97.7PiB is all", 1},
    {"--reserve-memory 4096TiB", "nothing would be left for VMs", 1},
    {"--reserve-disk 100000TiB", "--reserve-disk 97.7PiB is all", 1},
    {"--reserve-memory much", "--reserve-memory", 2},
};

static char said[65536];

/* Its exit code; what it said is in `said`. */
static int berthd(const char *settings)
{
    char line[1024];
    (void)snprintf(line, sizeof(line),
                   BERTH_BINARY_DIR "/berthd --name h1 --no-https --state %s %s 2>&1",
                   dir.path, settings);
    FILE *output = popen(line, "re"); /* NOLINT(cert-env33-c): our own words */
    ck_assert_ptr_nonnull(output);
    said[fread(said, 1, sizeof(said) - 1, output)] = '\0';
    int status = pclose(output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

START_TEST(a_reserve_that_leaves_nothing_is_refused_at_the_start)
{
    char settings[128];
    (void)snprintf(settings, sizeof(settings), "--bootstrap %s", rows[_i].settings);
    ck_assert_msg(berthd(settings) == rows[_i].code, "%s", said);
    ck_assert_msg(strstr(said, rows[_i].says) != NULL, "%s", said);
    char *log = temp_dir_path(&dir, "raft");
    ck_assert_int_ne(access(log, F_OK), 0); /* nothing was founded */
    free(log);
}
END_TEST

/* A voter whose log was taken away: its daemon gets as far as to miss it. */
static void member_put(void)
{
    struct identity identity;
    struct members members;
    struct err err = {0};
    bool changed;
    struct msg_member self = {.uid = 7, .name = "h1", .voter = VOTER_VOTER};
    const struct msg_member_list list = {.items = &self, .count = 1};
    ck_assert_msg(identity_open(dir.path, &identity, &err) == 0, "%s", err.text);
    identity.uid = 7;
    identity.cluster_id = 9;
    identity.address = own_loopback(1);
    (void)snprintf(identity.name, NAME_SIZE, "h1");
    self.key = identity_key_digest(&identity.key);
    self.address = identity.address;
    ck_assert_msg(identity_save(&identity, &err) == 0, "%s", err.text);
    ck_assert_msg(members_open(dir.path, &members, &err) == 0, "%s", err.text);
    ck_assert_msg(members_set(&members, &list, &changed, &err) == 0, "%s", err.text);
    members_fini(&members);
    identity_fini(&identity);
}

static const struct {
    const char *settings;
    const char *why;
} members_rows[] = {
    {"--reserve-memory 4096TiB", "--reserve-memory 4PiB is all of this"},
    {"--reserve-disk 4096TiB", "--reserve-disk 4PiB is all of the disk"},
};

START_TEST(a_member_starts_with_a_reserve_that_leaves_nothing_and_says_so)
{
    char settings[160];
    char address[OWN_LOOPBACK_TEXT_SIZE];
    member_put();
    own_loopback_text(1, 0, address)[strcspn(address, ":")] = '\0';
    (void)snprintf(settings, sizeof(settings),
                   "--mesh-port 17440 --raft-port 17442 --address %s %s", address,
                   members_rows[_i].settings);
    ck_assert_msg(berthd(settings) == 1, "%s", said);
    ck_assert_msg(strstr(said, "this host offers VMs nothing, and starts") != NULL, "%s",
                  said);
    ck_assert_msg(strstr(said, members_rows[_i].why) != NULL, "%s", said);
    ck_assert_msg(
        strstr(said, "/raft is missing or was emptied, and this host is a voter") != NULL,
        "%s", said);
}
END_TEST

/* It would eat the room that the log needs, and no boot empties the folder. */
START_TEST(what_a_killed_look_at_the_log_has_left_is_gone_before_the_log_is_opened)
{
    char settings[160];
    char address[OWN_LOOPBACK_TEXT_SIZE];
    CLEANUP_FREE char *left = temp_dir_path(&dir, "berth-look-aB3dE6");
    member_put();
    ck_assert_int_eq(mkdir(left, 0700), 0);
    temp_dir_write(&dir, "berth-look-aB3dE6/open-1", "entries");
    own_loopback_text(1, 0, address)[strcspn(address, ":")] = '\0';
    (void)snprintf(settings, sizeof(settings),
                   "--mesh-port 17440 --raft-port 17442 --address %s", address);
    ck_assert_msg(berthd(settings) == 1, "%s", said);
    ck_assert_msg(strstr(said, "/raft is missing or was emptied") != NULL, "%s", said);
    ck_assert_int_ne(access(left, F_OK), 0);
}
END_TEST

/* Whatever ends with the host has to be told before it is forgotten. */
START_TEST(a_vm_without_a_record_is_listed_while_a_process_of_it_lives)
{
    CLEANUP_FREE char *vms = temp_dir_path(&dir, "vms");
    CLEANUP_FREE char *vm = temp_dir_path(&dir, "vms/9");
    member_put();
    ck_assert_int_eq(mkdir(vms, 0700), 0);
    ck_assert_int_eq(mkdir(vm, 0700), 0);
    int lock = vm_lock_take(vm, 1, NULL); /* as the process would inherit it */
    ck_assert_int_ge(lock, 0);

    ck_assert_int_eq(berthd("--list-vms"), 0);

    ck_assert_ptr_nonnull(strstr(said, "\"folder\":\"9\""));
    ck_assert_ptr_nonnull(strstr(said, "vms/9/record.json: no such file"));
    ck_assert_int_eq(close(lock), 0); /* of a start that never got to a process */
    ck_assert_int_eq(berthd("--list-vms"), 0);
    ck_assert_str_eq(said, "[]\n");
}
END_TEST

/* Of one that runs, or that failed and is made anew elsewhere, they are not kept. */
START_TEST(a_stopped_vm_is_listed_with_whether_its_disks_are_kept_here)
{
    static const struct {
        enum vm_record_state state;
        bool diskless;
        bool keeps;
    } vms[] = {{VM_RECORD_STOPPED, false, true},
               {VM_RECORD_STOPPED, true, false},
               {VM_RECORD_FAILED, false, false}};
    CLEANUP_FREE char *parent = temp_dir_path(&dir, "vms");
    CLEANUP_FREE char *folder = temp_dir_path(&dir, "vms/9");
    const struct vm_record record = {
        .state = vms[_i].state,
        .epoch_seen = 7,
        .order = {.vm = {.uid = 9,
                         .epoch = 7,
                         .name = "db",
                         .tenant = "shop",
                         .cpu_count = 1,
                         .cpu_weight = 100,
                         .memory_bytes = 128 * MIB},
                  .fenced = true},
        .diskless = vms[_i].diskless,
    };
    member_put();
    ck_assert_int_eq(mkdir(parent, 0700), 0);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    ck_assert_int_eq(vm_record_write(folder, &record, NULL), 0);

    ck_assert_msg(berthd("--list-vms") == 0, "%s", said);

    ck_assert_msg(strstr(said, "\"name\":\"db\"") != NULL, "%s", said);
    ck_assert_int_eq(strstr(said, "\"keeps\":true") != NULL, vms[_i].keeps);
}
END_TEST

/* Of a join that was cut off. */
START_TEST(a_host_that_noted_no_more_than_its_key_can_be_forgotten)
{
    CLEANUP_FREE char *key = temp_dir_path(&dir, STATE_FILE_KEY);
    temp_dir_write(&dir, STATE_FILE_KEY,
                   "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    ck_assert_int_eq(chmod(key, 0600), 0);

    ck_assert_msg(berthd("--forget") == 0, "%s", said);

    ck_assert_int_ne(access(key, F_OK), 0);
}
END_TEST

/* One reads it to decide whether a VM may start elsewhere. */
START_TEST(a_folder_that_is_no_hosts_has_not_simply_no_vms)
{
    static const char *const options[] = {"--list-vms", "--inspect-log", "--recover",
                                          "--cleanup", "--forget"};
    char settings[TEMP_DIR_PATH_SIZE + 64];
    CLEANUP_FREE char *missing = temp_dir_path(&dir, "missing");

    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        ck_assert_int_eq(berthd(options[i]), 1); /* as when its disk is not mounted */
        ck_assert_msg(strstr(said, "is no host's state folder") != NULL, "%s", said);
        ck_assert_int_eq(rmdir(dir.path), 0); /* nothing was made in it */
        ck_assert_int_eq(mkdir(dir.path, 0700), 0);
        (void)snprintf(settings, sizeof(settings), "%s --state %s", options[i], missing);
        ck_assert_int_eq(berthd(settings), 1);
        ck_assert_msg(strstr(said, "/missing is no host's state folder") != NULL, "%s",
                      said);
        ck_assert_int_eq(access(missing, F_OK), -1);
    }
}
END_TEST

/* A founder that was killed when the log had its seal, or that and its term. */
static void founder_put(bool sealed)
{
    struct identity identity;
    struct log_seal seal;
    struct err err = {0};
    const uint64_t metadata[] = {1, 1, 1, 0}; /* format, version, term, vote */
    CLEANUP_FREE char *folder = temp_dir_path(&dir, LOG_MARK_FOLDER);
    CLEANUP_FREE char *path = temp_dir_path(&dir, LOG_MARK_FOLDER "/metadata1");
    ck_assert_msg(identity_open(dir.path, &identity, &err) == 0, "%s", err.text);
    identity.founder = true;
    identity.cluster_id = 9;
    (void)snprintf(identity.name, NAME_SIZE, "h1");
    ck_assert_msg(identity_save(&identity, &err) == 0, "%s", err.text);
    ck_assert_msg(log_mark_begin(dir.path, "h1", &err) == 0, "%s", err.text);
    if (sealed) {
        int r = log_seal_open(&seal, folder, identity_raft_id(&identity.key),
                              identity.cluster_id, &err);
        r = r == 0 ? log_seal_intend(&seal, 1, 0, &err) : r;
        ck_assert_msg(r == 0, "%s", err.text);
        log_seal_close(&seal);
    }
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(metadata, sizeof(metadata), 1, file), 1);
    ck_assert_int_eq(fclose(file), 0);
    identity_fini(&identity);
}

/* What it says on its way, up to those words; then it is ended. */
static void berthd_until(const char *settings, const char *words)
{
    char line[1024];
    int ends[2];
    size_t size = 0;
    ssize_t got;
    (void)snprintf(line, sizeof(line),
                   "exec " BERTH_BINARY_DIR
                   "/berthd --name h1 --no-https --state %s %s 2>&1",
                   dir.path, settings);
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    said[0] = '\0';
    while (strstr(said, words) == NULL &&
           (got = read(ends[0], said + size, sizeof(said) - 1 - size)) > 0) {
        size += (size_t)got;
        said[size] = '\0';
    }
    (void)kill(child, SIGTERM);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    (void)close(ends[0]);
    ck_assert_msg(strstr(said, words) != NULL, "%s", said);
}

static void settings_of(char settings[160])
{
    char address[OWN_LOOPBACK_TEXT_SIZE];
    own_loopback_text(1, 0, address)[strcspn(address, ":")] = '\0';
    (void)snprintf(settings, 160,
                   "--mesh-port 17440 --raft-port 17442 --address %s --bootstrap",
                   address);
}

START_TEST(a_founder_that_was_killed_before_its_log_had_it_founds_anew)
{
    char settings[160];
    settings_of(settings);
    founder_put(true);

    berthd_until(settings, "this host is a member of the cluster");

    ck_assert_msg(strstr(said, "an earlier start ended while it founded") != NULL, "%s",
                  said);
}
END_TEST

/* Its seal is gone, by which it is told that nothing was in it. */
START_TEST(a_founder_whose_log_has_no_member_says_so_and_ends)
{
    char settings[160];
    settings_of(settings);
    founder_put(false);

    ck_assert_int_eq(berthd(settings), 1);

    ck_assert_msg(strstr(said, "was begun and has no member") != NULL, "%s", said);
    ck_assert_msg(strstr(said, "`berth down --forget`, then found it again") != NULL,
                  "%s", said);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("berthd_main");
    TCase *tests = tcase_create("berthd_main");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_loop_test(tests, a_reserve_that_leaves_nothing_is_refused_at_the_start, 0,
                        ARRAY_COUNT(rows));
    tcase_add_loop_test(tests,
                        a_member_starts_with_a_reserve_that_leaves_nothing_and_says_so, 0,
                        ARRAY_COUNT(members_rows));
    tcase_add_test(
        tests, what_a_killed_look_at_the_log_has_left_is_gone_before_the_log_is_opened);
    tcase_add_test(tests, a_vm_without_a_record_is_listed_while_a_process_of_it_lives);
    tcase_add_loop_test(
        tests, a_stopped_vm_is_listed_with_whether_its_disks_are_kept_here, 0, 3);
    tcase_add_test(tests, a_host_that_noted_no_more_than_its_key_can_be_forgotten);
    tcase_add_test(tests, a_folder_that_is_no_hosts_has_not_simply_no_vms);
    tcase_add_test(tests, a_founder_that_was_killed_before_its_log_had_it_founds_anew);
    tcase_add_test(tests, a_founder_whose_log_has_no_member_says_so_and_ends);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
