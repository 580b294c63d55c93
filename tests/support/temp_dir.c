#include "support/temp_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPEN_FOLDERS_MAX 16 /* of nftw; deeper trees are walked, too */
#define GUARD_ROUNDS     500
#define GUARD_ROUND_MS   20 /* between two looks at processes that were killed */
#define GUARD_DONE       'd'
#define REMOVE_ROUNDS    250
#define REMOVE_ROUND_MS  20 /* between two tries while somebody is not through in it */

static _Noreturn void give_up(const char *what, const char *path)
{
    fprintf(stderr, "temp_dir: cannot %s %s: %m\n", what, path);
    abort();
}

static int
remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

void temp_dir_init(struct temp_dir *dir)
{
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] == '\0') {
        parent = "/tmp";
    }
    int length = snprintf(dir->path, sizeof(dir->path), "%s/berth-test-XXXXXX", parent);
    if (length < 0 || (size_t)length >= sizeof(dir->path) || mkdtemp(dir->path) == NULL) {
        give_up("make a folder in", parent);
    }
    dir->guard = -1;
}

/* ---- the guard ---- */

static bool is_inside(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 &&
           (path[length] == '\0' || path[length] == '/' || path[length] == ' ');
}

static bool has_argument_inside(const char *process, const char *folder)
{
    char path[64];
    char text[8192];
    (void)snprintf(path, sizeof(path), "/proc/%.20s/cmdline", process);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (size <= 0) {
        return false;
    }
    text[size] = '\0';
    for (const char *at = text; at < text + size; at += strlen(at) + 1) {
        if (is_inside(at, folder)) {
            return true;
        }
    }
    return false;
}

/* SIGKILL to all that works inside; how many there were. */
static unsigned kill_inside(const char *folder)
{
    unsigned count = 0;
    const struct dirent *entry;
    DIR *processes = opendir("/proc");
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (processes != NULL && (entry = readdir(processes)) != NULL) {
        char link[64];
        char at[PATH_MAX];
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        (void)snprintf(link, sizeof(link), "/proc/%.20s/cwd", entry->d_name);
        ssize_t length = pid > 0 && pid != getpid() ? readlink(link, at, sizeof(at) - 1)
                                                    : -1; /* a zombie has none */
        if (length <= 0) {
            continue;
        }
        at[length] = '\0';
        if (is_inside(at, folder) || has_argument_inside(entry->d_name, folder)) {
            count += kill(pid, SIGKILL) == 0;
        }
    }
    if (processes != NULL) {
        (void)closedir(processes);
    }
    return count;
}

/* Waits for a word from the test, or for its death. */
static _Noreturn void guard_run(const char *folder, int test, int words)
{
    char word = 0;
    struct pollfd polls[2] = {{.fd = test, .events = POLLIN},
                              {.fd = words, .events = POLLIN}};
    while (poll(polls, 2, -1) < 0) {
    }
    if ((polls[1].revents & POLLIN) != 0 && read(words, &word, 1) == 1 &&
        word == GUARD_DONE) {
        _exit(0);
    }
    for (unsigned i = 0; i < GUARD_ROUNDS && kill_inside(folder) > 0; i++) {
        (void)poll(NULL, 0, GUARD_ROUND_MS);
    }
    (void)nftw(folder, remove_one, OPEN_FOLDERS_MAX, FTW_DEPTH | FTW_PHYS);
    _exit(0);
}

static void close_between(int before, int after)
{
    if (before + 1 < after) {
        (void)close_range((unsigned)before + 1, (unsigned)after - 1, 0);
    }
}

/* Keeps nothing of the test's but these two descriptors. */
static _Noreturn void guard_start(const char *path, int test, int words)
{
    char folder[PATH_MAX];
    int first = test < words ? test : words;
    int last = test < words ? words : test;
    (void)setsid();
    for (int number = 1; number < NSIG; number++) {
        (void)signal(number, SIG_DFL); /* Check's handlers concern its own processes */
    }
    /* While the test waits for us: a quick one has removed its folder before the guard
     * gets to run. */
    if (realpath(path, folder) == NULL) {
        _exit(1);
    }
    pid_t guard = fork();
    if (guard != 0) {
        _exit(guard > 0 ? 0 : 1); /* so that the guard is nobody's child */
    }
    close_between(-1, first);
    close_between(first, last);
    close_between(last, INT_MAX);
    guard_run(folder, test, words);
}

void temp_dir_init_guarded(struct temp_dir *dir)
{
    int words[2];
    int status = 1;
    temp_dir_init(dir);
    int self = pidfd_open(getpid(), 0);
    if (self < 0 || pipe2(words, O_CLOEXEC) != 0) {
        give_up("guard", dir->path);
    }
    pid_t starter = fork();
    if (starter == 0) {
        guard_start(dir->path, self, words[0]);
    }
    if (starter < 0 || waitpid(starter, &status, 0) != starter || status != 0) {
        give_up("guard", dir->path);
    }
    (void)close(self);
    (void)close(words[0]);
    dir->guard = words[1];
}

static void guard_end(struct temp_dir *dir)
{
    const char word = GUARD_DONE;
    if (dir->guard >= 0 && (write(dir->guard, &word, 1) != 1 || close(dir->guard) != 0)) {
        give_up("end the guard of", dir->path);
    }
    dir->guard = -1;
}

void temp_dir_fini(struct temp_dir *dir)
{
    if (dir->path[0] == '\0') {
        return;
    }
    /* A process that was killed may make or remove one more file on its way out. */
    for (unsigned i = 0;
         nftw(dir->path, remove_one, OPEN_FOLDERS_MAX, FTW_DEPTH | FTW_PHYS) != 0 &&
         access(dir->path, F_OK) == 0;
         i++) {
        if (i == REMOVE_ROUNDS) {
            give_up("remove", dir->path);
        }
        (void)poll(NULL, 0, REMOVE_ROUND_MS);
    }
    guard_end(dir);
    dir->path[0] = '\0';
}

char *temp_dir_path(const struct temp_dir *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir->path, name) < 0) {
        give_up("name a file in", dir->path);
    }
    return path;
}

void temp_dir_write(const struct temp_dir *dir, const char *name, const char *text)
{
    char *path = temp_dir_path(dir, name);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        give_up("write", path);
    }
    size_t size = strlen(text);
    size_t written = fwrite(text, 1, size, file);
    if (fclose(file) != 0 || written != size) {
        give_up("write", path);
    }
    free(path);
}

char *temp_dir_read(const struct temp_dir *dir, const char *name)
{
    char *path = temp_dir_path(dir, name);
    FILE *file = fopen(path, "re");
    free(path);
    if (file == NULL) {
        return NULL;
    }
    char *text = NULL;
    size_t size = 0;
    size_t capacity = 0;
    do {
        capacity = capacity == 0 ? 4096 : 2 * capacity;
        char *grown = realloc(text, capacity + 1);
        if (grown == NULL) {
            give_up("read", name);
        }
        text = grown;
        size += fread(text + size, 1, capacity - size, file);
    } while (size == capacity);
    (void)fclose(file); /* read only: nothing can be lost */
    text[size] = '\0';
    return text;
}
