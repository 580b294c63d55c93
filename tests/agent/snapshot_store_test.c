/* Goal: a snapshot is whole or not there, a VM's disks are the old ones or the
 * snapshot's, whatever the moment of a crash, and no damage is taken for content. Method:
 * folders as a VM and its engine leave them; crashes are a child process that ends at
 * each call that changes a folder, counted by functions in place of the C library's. */
#include "agent/snapshot_store.h"
#include "agent/vm_disks.h"
#include "base/fd.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/snapshot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID     40
#define CRASHED 42
#define OLD     "of today"
#define SAVED   "of the snapshot"

/* ---- calls that change a folder, counted ---- */

static int calls_left = -1; /* then the process ends; below 0: never */

static void count_call(void)
{
    if (calls_left >= 0 && calls_left-- == 0) {
        _exit(CRASHED);
    }
}

/* In place of the C library's, as the next ones. */
int rename(const char *from, const char *to)
{
    count_call();
    return (int)syscall(SYS_rename, from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    count_call();
    return (int)syscall(SYS_renameat, from_folder, from, to_folder, to);
}

int unlink(const char *path)
{
    count_call();
    return (int)syscall(SYS_unlink, path);
}

int unlinkat(int folder, const char *path, int flags)
{
    count_call();
    return (int)syscall(SYS_unlinkat, folder, path, flags);
}

int symlink(const char *to, const char *path)
{
    count_call();
    return (int)syscall(SYS_symlink, to, path);
}

int mkdir(const char *path, mode_t mode)
{
    count_call();
    return (int)syscall(SYS_mkdir, path, mode);
}

int fsync(int fd)
{
    count_call();
    return (int)syscall(SYS_fsync, fd);
}

/* ---- arranging ---- */

static struct temp_dir dir;
static char *store;
static char *vm_folder;

static void setup(void)
{
    temp_dir_init(&dir);
    store = temp_dir_path(&dir, SNAPSHOT_STORE_FOLDER);
    vm_folder = temp_dir_path(&dir, "vm");
    ck_assert_int_eq(mkdir(vm_folder, 0700), 0);
}

static void teardown(void)
{
    free(store);
    free(vm_folder);
    temp_dir_fini(&dir);
}

/* Two disks and what they lie on, as an earlier start has left them. */
static void put_disks(const char *content)
{
    char text[128];
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(text, sizeof(text), "%s, disk %u", content, i);
        temp_dir_write(&dir, i == 0 ? "vm/disk-root.overlay" : "vm/disk-data.overlay",
                       text);
    }
    char *base = temp_dir_path(&dir, "vm/base");
    (void)snprintf(text, sizeof(text), "/images/%s", content);
    (void)unlink(base);
    ck_assert_int_eq(symlink(text, base), 0);
    free(base);
}

static struct snapshot_manifest manifest_of(void)
{
    return (struct snapshot_manifest){.uid = UID,
                                      .vm = 7,
                                      .epoch = 3,
                                      .engine = ENGINE_KVM,
                                      .name = "before",
                                      .tenant = "shop",
                                      .vm_name = "web-1",
                                      .base = "/images/" SAVED,
                                      .tail = ".overlay",
                                      .disks = {{.name = "root"}, {.name = "data"}},
                                      .disk_count = 2};
}

static void save_memory(int fd)
{
    static const char state[] = "what the CPUs know";
    ck_assert_int_eq(snapshot_file_begin(fd, NULL), 0);
    ck_assert_int_eq(snapshot_file_finish(fd, 0, state, sizeof(state), NULL), 0);
}

/* All steps; what the last one of them returned. */
static int make(struct err *err)
{
    struct snapshot_manifest manifest = manifest_of();
    int fd = snapshot_store_begin(store, UID, 4096, 0, err);
    if (fd < 0) {
        return fd;
    }
    save_memory(fd);
    close(fd);
    int r = snapshot_store_copy(store, &manifest, vm_folder, NULL, err);
    return r < 0 ? r : snapshot_store_finish(store, &manifest, NULL, err);
}

static void make_one(void)
{
    struct err err = {0};
    put_disks(SAVED);
    ck_assert_msg(make(&err) == 0, "%s", err.text);
    put_disks(OLD);
}

static char *path_of(const char *name)
{
    return temp_dir_path(&dir, name);
}

static bool there(const char *name)
{
    char *path = path_of(name);
    bool is = access(path, F_OK) == 0;
    free(path);
    return is;
}

static bool all_disks_are(const char *content)
{
    static const char *const names[] = {"vm/disk-root.overlay", "vm/disk-data.overlay"};
    char base[ENGINE_PATH_SIZE] = "";
    char want[128];
    bool all = true;
    for (unsigned i = 0; i < 2; i++) {
        char *text = temp_dir_read(&dir, names[i]);
        (void)snprintf(want, sizeof(want), "%s, disk %u", content, i);
        all = all && text != NULL && strcmp(text, want) == 0;
        free(text);
    }
    (void)snprintf(want, sizeof(want), "/images/%s", content);
    return vm_disks_base(vm_folder, base) && strcmp(base, want) == 0 && all;
}

/* In a process that ends at the n-th call: did it get to its end? */
static bool ends_before(int n, int (*act)(struct err *err))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        calls_left = n;
        _exit(act(NULL) == 0 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_ne(WEXITSTATUS(status), 1);
    return WEXITSTATUS(status) == 0;
}

/* ---- making ---- */

START_TEST(a_snapshot_names_all_that_is_in_it)
{
    struct snapshot_manifest manifest;
    make_one();

    ck_assert_int_eq(snapshot_store_read(store, UID, &manifest, NULL), 0);

    ck_assert_str_eq(manifest.name, "before");
    ck_assert_uint_gt(manifest.taken_bytes, 0);
    ck_assert_uint_gt(manifest.memory_file_bytes, SNAPSHOT_RAM_AT);
    ck_assert_uint_eq(manifest.disks[1].size_bytes, strlen(SAVED ", disk 1"));
    ck_assert(!there("snapshots/40.new"));
}
END_TEST

START_TEST(killed_behind_any_line_it_is_whole_or_not_there)
{
    int n = 0;
    put_disks(SAVED);
    while (!ends_before(n, make)) {
        struct snapshot_manifest manifest;
        int r = snapshot_store_read(store, UID, &manifest, NULL);
        ck_assert(r == 0 || r == BERTH_ENOTFOUND);
        ck_assert(r == 0 || !there("snapshots/40"));
        ck_assert_int_eq(snapshot_store_sweep(store, NULL), 0);
        ck_assert(!there("snapshots/40.new"));
        ck_assert_int_eq(snapshot_store_remove(store, UID, NULL), 0);
        n++;
    }
    ck_assert_int_gt(n, 8);
    ck_assert(there("snapshots/40/manifest.json"));
}
END_TEST

START_TEST(without_room_nothing_is_begun)
{
    struct err err = {0};

    ck_assert_int_eq(snapshot_store_begin(store, UID, UINT64_MAX / 2, 0, &err),
                     BERTH_EDISKFULL);

    ck_assert_ptr_nonnull(strstr(err.text, "beside the reserve"));
    ck_assert(!there("snapshots/40.new"));
}
END_TEST

START_TEST(a_disk_that_is_missing_fails_the_copy)
{
    struct err err = {0};
    put_disks(SAVED);
    char *disk = path_of("vm/disk-data.overlay");
    ck_assert_int_eq(unlink(disk), 0);
    free(disk);

    ck_assert_int_eq(make(&err), -ENOENT);

    ck_assert_ptr_nonnull(strstr(err.text, "disk-data.overlay"));
    snapshot_store_abandon(store, UID);
    ck_assert(!there("snapshots/40.new"));
}
END_TEST

START_TEST(a_memory_that_was_not_finished_is_none)
{
    struct snapshot_manifest manifest = manifest_of();
    struct err err = {0};
    put_disks(SAVED);
    int fd = snapshot_store_begin(store, UID, 4096, 0, NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(snapshot_file_begin(fd, NULL), 0);
    close(fd);
    ck_assert_int_eq(snapshot_store_copy(store, &manifest, vm_folder, NULL, NULL), 0);

    ck_assert_int_eq(snapshot_store_finish(store, &manifest, NULL, &err), BERTH_EINVALID);

    ck_assert_ptr_nonnull(strstr(err.text, "the memory"));
    ck_assert(!there("snapshots/40"));
}
END_TEST

/* ---- removing and finding ---- */

static int remove_it(struct err *err)
{
    return snapshot_store_remove(store, UID, err);
}

START_TEST(killed_while_it_is_removed_it_is_whole_or_not_there)
{
    int n = 0;
    make_one();
    while (!ends_before(n, remove_it)) {
        struct err err = {0};
        if (there("snapshots/40")) {
            ck_assert_msg(snapshot_store_restore(store, UID, vm_folder, 0, NULL, &err) ==
                              0,
                          "%s", err.text);
        }
        ck_assert_int_eq(snapshot_store_sweep(store, NULL), 0);
        if (!there("snapshots/40")) {
            make_one();
        }
        n++;
    }
    ck_assert_int_gt(n, 4);
    ck_assert(!there("snapshots/40") && !there("snapshots/40.new"));
    ck_assert_int_eq(snapshot_store_remove(store, UID, NULL), 0); /* it is gone */
}
END_TEST

struct found {
    unsigned whole;
    unsigned damaged;
    int code; /* what the visit ends with */
};

static int on_found(void *context,
                    uint64_t uid,
                    const struct snapshot_manifest *manifest,
                    const struct err *fault)
{
    struct found *found = context;
    if (fault->code == 0) {
        ck_assert_uint_eq(manifest->uid, uid);
        found->whole++;
    } else {
        found->damaged++;
    }
    return found->code;
}

START_TEST(what_is_there_is_found_and_what_is_damaged_told)
{
    struct found found = {0};
    ck_assert_int_eq(snapshot_store_each(store, on_found, &found, NULL), 0);
    make_one();
    char *folder = path_of("snapshots/41");
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    temp_dir_write(&dir, "snapshots/41/manifest.json", "{}");
    free(folder);

    ck_assert_int_eq(snapshot_store_each(store, on_found, &found, NULL), 0);

    ck_assert_uint_eq(found.whole, 1);
    ck_assert_uint_eq(found.damaged, 1);
    found = (struct found){.code = -ENOMEM};
    ck_assert_int_eq(snapshot_store_each(store, on_found, &found, NULL), -ENOMEM);
    ck_assert_uint_eq(found.whole + found.damaged, 1);
}
END_TEST

/* ---- restoring ---- */

START_TEST(a_restore_brings_the_disks_and_what_they_lie_on)
{
    struct err err = {0};
    make_one();
    temp_dir_write(&dir, "vm/disk-root.qcow2", "of another engine, since then");

    ck_assert_msg(snapshot_store_restore(store, UID, vm_folder, 0, NULL, &err) == 0, "%s",
                  err.text);

    ck_assert(all_disks_are(SAVED));
    ck_assert(!there("vm/disk-root.qcow2"));
    ck_assert(!there("vm/restored") && !there("vm/restored.new"));
}
END_TEST

static int restore_it(struct err *err)
{
    return snapshot_store_restore(store, UID, vm_folder, 0, NULL, err);
}

START_TEST(killed_in_a_restore_the_disks_are_all_old_or_all_of_the_snapshot)
{
    unsigned old = 0;
    unsigned saved = 0;
    make_one();
    for (int n = 0; !ends_before(n, restore_it); n++) {
        ck_assert_int_eq(vm_disks_settle(vm_folder, NULL), 0);
        ck_assert_msg(all_disks_are(OLD) || all_disks_are(SAVED), "at call %d", n);
        old += all_disks_are(OLD);
        saved += all_disks_are(SAVED);
        ck_assert(!there("vm/restored") && !there("vm/restored.new"));
        put_disks(OLD);
    }
    ck_assert_uint_gt(old, 2);
    ck_assert_uint_gt(saved, 2);
}
END_TEST

/* The next start of the same epoch begins it anew, without a settling in between. */
START_TEST(killed_in_a_restore_the_next_one_ends_it)
{
    make_one();
    for (int n = 0; !ends_before(n, restore_it); n++) {
        ck_assert_int_eq(restore_it(NULL), 0);
        ck_assert(all_disks_are(SAVED));
        put_disks(OLD);
    }
}
END_TEST

static void spoil(const char *name, off_t at)
{
    char *path = path_of(name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "!", 1, at), 1);
    close(fd);
    free(path);
}

struct damage {
    const char *name;
    off_t at;
    const char *word;
};

static const struct damage damages[] = {
    {"snapshots/40/disk-data.overlay", 3, "disk data"},
    {"snapshots/40/disk-root.overlay", 5000, "disk root"},
    {"snapshots/40/memory", SNAPSHOT_RAM_AT + 1, "the memory"},
    {"snapshots/40/memory", 9, "the memory"},
    {"snapshots/40/manifest.json", 30, "manifest.json"},
};

START_TEST(damage_is_found_before_a_disk_is_touched)
{
    struct err err = {0};
    make_one();
    spoil(damages[_i].name, damages[_i].at);

    ck_assert_int_eq(snapshot_store_restore(store, UID, vm_folder, 0, NULL, &err),
                     BERTH_ECORRUPT);

    ck_assert_msg(strstr(err.text, damages[_i].word) != NULL, "%s", err.text);
    ck_assert(all_disks_are(OLD));
    ck_assert(!there("vm/restored.new"));
}
END_TEST

START_TEST(without_room_the_disks_stay)
{
    struct err err = {0};
    make_one();

    ck_assert_int_eq(
        snapshot_store_restore(store, UID, vm_folder, UINT64_MAX / 2, NULL, &err),
        BERTH_EDISKFULL);

    ck_assert(all_disks_are(OLD));
    ck_assert(!there("vm/restored.new"));
}
END_TEST

START_TEST(disks_are_found_by_their_names)
{
    struct snapshot_manifest manifest = manifest_of();
    put_disks(SAVED);
    temp_dir_write(&dir, "vm/disk-other.qcow2", "of another engine");
    temp_dir_write(&dir, "vm/disk-Bad Name.overlay", "nobody's");
    temp_dir_write(&dir, "vm/disk-.overlay", "nobody's");

    ck_assert_int_eq(snapshot_store_disks(vm_folder, &manifest, NULL), 0);
    ck_assert_uint_eq(manifest.disk_count, 2);
    manifest.tail[0] = '\0';
    ck_assert_int_eq(snapshot_store_disks(vm_folder, &manifest, NULL), 0);
    ck_assert_uint_eq(manifest.disk_count, 0);
}
END_TEST

START_TEST(a_snapshot_that_is_not_here_is_said_to_be_missing)
{
    put_disks(OLD);
    ck_assert_int_eq(snapshot_store_restore(store, UID, vm_folder, 0, NULL, NULL),
                     BERTH_ENOTFOUND);
    ck_assert(all_disks_are(OLD));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot_store");
    TCase *tests = tcase_create("snapshot_store");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_snapshot_names_all_that_is_in_it);
    tcase_add_test(tests, killed_behind_any_line_it_is_whole_or_not_there);
    tcase_add_test(tests, without_room_nothing_is_begun);
    tcase_add_test(tests, a_disk_that_is_missing_fails_the_copy);
    tcase_add_test(tests, a_memory_that_was_not_finished_is_none);
    tcase_add_test(tests, killed_while_it_is_removed_it_is_whole_or_not_there);
    tcase_add_test(tests, what_is_there_is_found_and_what_is_damaged_told);
    tcase_add_test(tests, a_restore_brings_the_disks_and_what_they_lie_on);
    tcase_add_test(tests,
                   killed_in_a_restore_the_disks_are_all_old_or_all_of_the_snapshot);
    tcase_add_test(tests, killed_in_a_restore_the_next_one_ends_it);
    tcase_add_loop_test(tests, damage_is_found_before_a_disk_is_touched, 0,
                        sizeof(damages) / sizeof(damages[0]));
    tcase_add_test(tests, a_snapshot_that_is_not_here_is_said_to_be_missing);
    tcase_add_test(tests, without_room_the_disks_stay);
    tcase_add_test(tests, disks_are_found_by_their_names);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
