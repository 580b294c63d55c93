/* Goal: what a voter had stored before it was killed is served by the next start, or that
 * start refuses, whichever byte was damaged meanwhile, in files that libraft itself has
 * written. Method: the folder of a voter that runs is copied, which is what a kill
 * leaves, and put in place of its own once it has closed. */
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "consensus/log_check.h"
#include "consensus/log_files.h"
#include "consensus/raft_offline.h"
#include "support/log_image.h"
#include "support/test_main.h"
#include "voters_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#define COMMITS   10
#define PATH_SIZE (TEMP_DIR_PATH_SIZE + 320)

static struct voters voters;
static char killed[TEMP_DIR_PATH_SIZE + 16];
static struct err err;

static void copy_file(const char *from, const char *to)
{
    uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_msg(fd_read_file(AT_FDCWD, from, 64u << 20, &data, &size, &err) == 0, "%s",
                  err.text);
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
    (void)close(fd);
    free(data);
}

static void copy_folder(const char *from, const char *to)
{
    DIR *stream = opendir(from);
    ck_assert_ptr_nonnull(stream);
    ck_assert(mkdir(to, 0700) == 0 || errno == EEXIST);
    for (struct dirent *item = readdir(stream); item != NULL; item = readdir(stream)) {
        char source[PATH_SIZE];
        char target[PATH_SIZE];
        if (item->d_name[0] == '.' || strncmp(item->d_name, "tmp", 3) == 0) {
            continue;
        }
        (void)snprintf(source, sizeof(source), "%s/%s", from, item->d_name);
        (void)snprintf(target, sizeof(target), "%s/%s", to, item->d_name);
        copy_file(source, target);
    }
    (void)closedir(stream);
}

static struct voter *one(void)
{
    return &voters.voter[1];
}

/* As the kill left it. */
static void put_back(void)
{
    ck_assert_int_eq(fd_remove_tree(one()->folder, &err), 0);
    copy_folder(killed, one()->folder);
}

static void setup(void)
{
    voters_init(&voters);
    (void)snprintf(killed, sizeof(killed), "%s/killed", voters.dir.path);
    struct voter *voter = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, voter->leads);
    for (unsigned i = 0; i < COMMITS; i++) {
        voter_commit(voter, "something that matters");
    }
    copy_folder(voter->folder, killed);
    voter_close(voter, false);
    put_back();
}

static void teardown(void)
{
    voters_fini(&voters);
}

static void path_of(const char *name, char path[PATH_SIZE])
{
    (void)snprintf(path, PATH_SIZE, "%s/%s", one()->folder, name);
}

static void flip_bit(const char *name, size_t bit)
{
    char path[PATH_SIZE];
    uint8_t byte = 0;
    path_of(name, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
    byte ^= (uint8_t)(1u << bit % 8);
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
    (void)close(fd);
}

static size_t used_of(const char *name)
{
    char path[PATH_SIZE];
    uint8_t *data = NULL;
    size_t size = 0;
    path_of(name, path);
    ck_assert_int_eq(fd_read_file(AT_FDCWD, path, 64u << 20, &data, &size, &err), 0);
    while (size > 0 && data[size - 1] == 0) {
        size--;
    }
    free(data);
    return size;
}

static void serves_all(void)
{
    (void)voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one()->leads);
    ck_assert_uint_eq(one()->ledger.count, COMMITS);
}

START_TEST(without_damage_all_of_it_is_served)
{
    ck_assert_msg(log_files_check(one()->folder, &err) == 0, "%s", err.text);
    serves_all();
}
END_TEST

START_TEST(damage_anywhere_in_the_open_file_is_a_refusal_to_start)
{
    const size_t used = used_of("open-1");
    ck_assert_uint_gt(used, 600);
    for (size_t bit = 0; bit < used * 8;
         bit += used / 3) { /* the rest: log_check_test.c */
        flip_bit("open-1", bit);
        ck_assert_msg(log_files_check(one()->folder, &err) == BERTH_ECORRUPT, "bit %zu",
                      bit);
        flip_bit("open-1", bit);
    }
    flip_bit("open-1", used / 2 * 8);

    struct err refusal = voter_refusal(&voters, 1);

    ck_assert_int_eq(refusal.code, BERTH_ECORRUPT);
    ck_assert_msg(strstr(refusal.text, "open-1: the entries at byte") != NULL, "%s",
                  refusal.text);
    flip_bit("open-1", used / 2 * 8); /* nothing has been changed by the attempt */
    serves_all();
}
END_TEST

/* libraft would take what the second holds for what the first has lost. */
START_TEST(files_are_looked_at_in_the_order_of_their_numbers)
{
    char second[PATH_SIZE];
    char tenth[PATH_SIZE];
    path_of("open-2", second);
    int fd = open(second, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0); /* the log ends here */
    (void)close(fd);
    path_of("open-10", tenth);
    ck_assert_int_eq(log_files_check(one()->folder, &err), 0);
    path_of("open-1", second);
    copy_file(second, tenth);

    ck_assert_int_eq(log_files_check(one()->folder, &err), BERTH_ECORRUPT);

    ck_assert_msg(strstr(err.text, "open-10 holds entries, but open-") != NULL, "%s",
                  err.text);
}
END_TEST

START_TEST(a_folder_without_open_files_has_nothing_wrong)
{
    ck_assert_int_eq(fd_remove_tree(one()->folder, &err), 0);
    ck_assert_int_eq(log_files_check(one()->folder, &err), 0);
    ck_assert_int_eq(mkdir(one()->folder, 0700), 0);
    ck_assert_int_eq(log_files_check(one()->folder, &err), 0);
}
END_TEST

/* It wrote several batches at a time, of which a crash leaves what damage does. */
START_TEST(a_log_of_an_earlier_release_is_judged_from_the_next_start_on)
{
    char mark[PATH_SIZE];
    path_of(LOG_FILES_MARK, mark);
    flip_bit("open-1", used_of("open-1") / 2 * 8);
    ck_assert_int_eq(unlink(mark), 0);

    ck_assert_int_eq(log_files_check(one()->folder, &err), 0);
    ck_assert_int_eq(log_files_mark(one()->folder, &err), 0);

    ck_assert_int_eq(log_files_check(one()->folder, &err), BERTH_ECORRUPT);
    put_back();
    ck_assert_int_eq(unlink(mark), 0);
    serves_all();
    ck_assert_int_eq(access(mark, F_OK), 0);
}
END_TEST

/* ---- looking ---- */

/* Names, sizes, times and content of a folder's files, and the folder's own time. */
struct sight {
    char text[64][512];
    size_t count;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void sight_take(const char *folder, struct sight *sight)
{
    DIR *stream = opendir(folder);
    ck_assert_ptr_nonnull(stream);
    *sight = (struct sight){.count = 0};
    for (struct dirent *item = readdir(stream); item != NULL; item = readdir(stream)) {
        char path[PATH_SIZE];
        struct stat info;
        uint8_t *data = NULL;
        size_t size = 0;
        struct digest digest = {.bytes = {0}};
        char hex[DIGEST_HEX_SIZE];
        if (strcmp(item->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", folder, item->d_name);
        ck_assert_int_eq(stat(path, &info), 0);
        if (S_ISREG(info.st_mode)) {
            ck_assert_int_eq(fd_read_file(AT_FDCWD, path, 64u << 20, &data, &size, &err),
                             0);
            digest_of(data, size, &digest);
            free(data);
        }
        digest_format(&digest, hex);
        ck_assert_uint_lt(sight->count, ARRAY_COUNT(sight->text));
        (void)snprintf(sight->text[sight->count++], sizeof(sight->text[0]),
                       "%s: %ju bytes of inode %ju, %s, changed %jd.%09ld and %jd.%09ld",
                       item->d_name, (uintmax_t)info.st_size, (uintmax_t)info.st_ino, hex,
                       (intmax_t)info.st_mtim.tv_sec, info.st_mtim.tv_nsec,
                       (intmax_t)info.st_ctim.tv_sec, info.st_ctim.tv_nsec);
    }
    (void)closedir(stream);
    qsort(sight->text, sight->count, sizeof(sight->text[0]), by_text);
}

static void sight_same(const char *folder, const struct sight *before)
{
    static struct sight after;
    sight_take(folder, &after);
    for (size_t i = 0; i < before->count && i < after.count; i++) {
        ck_assert_str_eq(after.text[i], before->text[i]);
    }
    ck_assert_uint_eq(after.count, before->count);
}

static struct voter reader;
static struct log_facts facts;

static struct log_offline log_of_one(void)
{
    return (struct log_offline){.folder = one()->folder,
                                .id = 1,
                                .cluster_id = voters.config.cluster_id,
                                .address = one()->address};
}

static int look(void)
{
    const struct log_offline log = log_of_one();
    const struct consensus_fsm fsm = {.context = &reader,
                                      .apply = ledger_apply,
                                      .snapshot = ledger_snapshot,
                                      .restore = ledger_restore};
    reader.ledger = (struct ledger){0};
    return log_offline_read(&log, &fsm, &facts, &err);
}

static void damage_nothing(void)
{
}

static void damage_open(void)
{
    flip_bit("open-1", used_of("open-1") / 2 * 8);
}

/* What an end in order leaves, with one bit turned over. */
static void damage_closed(void)
{
    char name[256] = "";
    (void)voter_up(&voters, 1, false);
    VOTERS_UNTIL(&voters, one()->leads);
    voter_close(one(), false);
    DIR *stream = opendir(one()->folder);
    ck_assert_ptr_nonnull(stream);
    for (struct dirent *item = readdir(stream); item != NULL; item = readdir(stream)) {
        if (strncmp(item->d_name, "0000000000000001-", 17) == 0) {
            (void)snprintf(name, sizeof(name), "%s", item->d_name);
        }
    }
    (void)closedir(stream);
    ck_assert_str_ne(name, "");
    flip_bit(name, used_of(name) / 2 * 8);
}

/* As a power cut leaves a write that nobody was told of: of its 2000 bytes the sectors
 * behind the first are not there. */
static void damage_torn(void)
{
    char data[2000];
    char path[PATH_SIZE];
    struct log_image image;
    const struct log_image_entry entry = {
        .term = 1, .type = 1, .data = memset(data, 0xab, sizeof(data)), .size = 2000};
    size_t at = (used_of("open-1") + 7) / 8 * 8;
    size_t end = (at + 100 + LOG_CHECK_SECTOR) / LOG_CHECK_SECTOR * LOG_CHECK_SECTOR;
    log_image_init(&image, 4096);
    size_t from = log_image_batch(&image, &entry, 1);
    path_of("open-1", path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, image.data + from, end - at, (off_t)at),
                     (ssize_t)(end - at));
    (void)close(fd);
    log_image_fini(&image);
}

static void damage_folder(void)
{
    char path[PATH_SIZE];
    path_of("metadata1", path);
    ck_assert_int_eq(mkdir(strcat(path, ".d"), 0700), 0); /* no file: passed over */
}

/* The look's answer, and that of a start afterwards. */
static const struct {
    void (*damage)(void);
    int look;
    bool whole;         /* all commits are seen */
    const char *reason; /* of the look's error, or the damage that it tells of */
    int start;
} looks[] = {
    {damage_nothing, 0, true, "", 0},
    {damage_folder, 0, true, "", 0},
    {damage_open, 0, false, "open-1: the entries at byte", BERTH_ECORRUPT},
    {damage_closed, BERTH_ECORRUPT, false, "checksum", BERTH_ECORRUPT},
    {damage_torn, 0, true, "", 0},
};

/* Goal: a look leaves everything to the start that follows, or to whoever repairs the
 * disk. Acknowledged entries behind the damage would else be gone without a word. */
START_TEST(a_look_changes_nothing)
{
    static struct sight before;
    looks[_i].damage();
    sight_take(one()->folder, &before);

    ck_assert_int_eq(look(), looks[_i].look);
    sight_same(one()->folder, &before);
    ck_assert_int_eq(look(), looks[_i].look);
    sight_same(one()->folder, &before);

    const char *said = looks[_i].look == 0 ? facts.damage : err.text;
    ck_assert_msg(strstr(said, looks[_i].reason) != NULL, "%s", said);
    ck_assert(looks[_i].whole == (reader.ledger.count == COMMITS));
    if (looks[_i].start == 0) {
        (void)voter_up(&voters, 1, false);
        VOTERS_UNTIL(&voters, one()->leads);
        ck_assert_uint_eq(one()->ledger.count, COMMITS);
    } else {
        struct err refusal = voter_refusal(&voters, 1);
        ck_assert_int_eq(refusal.code, looks[_i].start);
        ck_assert_msg(strstr(refusal.text, looks[_i].reason) != NULL, "%s", refusal.text);
    }
}
END_TEST

START_TEST(no_log_is_made_over_another_which_stays_as_it_is)
{
    static struct sight before;
    const struct ledger state = {.count = 41};
    const struct log_offline log = log_of_one();
    damage_open();
    sight_take(one()->folder, &before);

    ck_assert_int_eq(log_offline_make(&log, 50, 6, &state, sizeof(state), &err),
                     BERTH_EEXISTS);

    sight_same(one()->folder, &before);
}
END_TEST

/* For disasters: what is whole is worth more than nothing. */
START_TEST(a_damaged_log_is_read_offline_as_far_as_it_is_whole)
{
    flip_bit("open-1", (used_of("open-1") - 1) * 8);

    ck_assert_msg(look() == 0, "%s", err.text);

    ck_assert_uint_eq(reader.ledger.count, COMMITS - 1);
    ck_assert_msg(strstr(facts.damage, "open-1: the entries at byte") != NULL, "%s",
                  facts.damage);
}
END_TEST

START_TEST(more_open_files_than_there_can_be_are_refused)
{
    for (unsigned i = 100; i < 101 + LOG_FILES_OPEN_MAX; i++) {
        char path[PATH_SIZE];
        char name[32];
        (void)snprintf(name, sizeof(name), "open-%u", i);
        path_of(name, path);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        (void)close(fd);
    }
    ck_assert_int_eq(log_files_check(one()->folder, &err), BERTH_EFULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("log_files");
    TCase *tcase = tcase_create("log_files");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, without_damage_all_of_it_is_served);
    tcase_add_test(tcase, damage_anywhere_in_the_open_file_is_a_refusal_to_start);
    tcase_add_test(tcase, files_are_looked_at_in_the_order_of_their_numbers);
    tcase_add_test(tcase, a_folder_without_open_files_has_nothing_wrong);
    tcase_add_test(tcase, a_log_of_an_earlier_release_is_judged_from_the_next_start_on);
    tcase_add_loop_test(tcase, a_look_changes_nothing, 0, ARRAY_COUNT(looks));
    tcase_add_test(tcase, no_log_is_made_over_another_which_stays_as_it_is);
    tcase_add_test(tcase, a_damaged_log_is_read_offline_as_far_as_it_is_whole);
    tcase_add_test(tcase, more_open_files_than_there_can_be_are_refused);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
