#include "consensus/log_files.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "consensus/log_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct numbers {
    unsigned long long of[LOG_FILES_OPEN_MAX];
    size_t count;
};

/* As libraft tells them. */
static bool is_open_file(const char *name, unsigned long long *ret_number)
{
    int read = 0;
    return sscanf(name, "open-%llu%n", ret_number, &read) == 1 &&
           (size_t)read == strlen(name);
}

static int by_number(const void *a, const void *b)
{
    unsigned long long first = *(const unsigned long long *)a;
    unsigned long long second = *(const unsigned long long *)b;
    return first < second ? -1 : first > second;
}

static int list(const char *folder, struct numbers *ret_numbers, struct err *err)
{
    struct numbers numbers = {.count = 0};
    unsigned long long number = 0;
    const struct dirent *entry;
    DIR *stream = opendir(folder);
    int r = stream == NULL ? -errno : 0;
    errno = 0;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours
    while (r == 0 && (entry = readdir(stream)) != NULL) {
        if (is_open_file(entry->d_name, &number)) {
            r = numbers.count == LOG_FILES_OPEN_MAX ? BERTH_EFULL : 0;
            if (r == 0) {
                numbers.of[numbers.count++] = number;
            }
        }
    }
    r = r == 0 && errno != 0 ? -errno : r;
    if (stream != NULL) {
        (void)closedir(stream);
    }
    if (r < 0) {
        return err_sys(err, r, "list the log's files in %s", folder);
    }
    qsort(numbers.of, numbers.count, sizeof(numbers.of[0]), by_number);
    *ret_numbers = numbers;
    return 0;
}

/* 1: the mark is there, 0: it is not. */
static int is_marked(const char *folder, struct err *err)
{
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/" LOG_FILES_MARK, folder) < 0) {
        path = NULL;
        return err_sys(err, -ENOMEM, "read the log in %s", folder);
    }
    if (access(path, F_OK) == 0) {
        return 1;
    }
    return errno == ENOENT ? 0 : err_sys(err, -errno, "read the log: %s", path);
}

int log_files_mark(const char *folder, struct err *err)
{
    CLEANUP_FREE char *path = NULL;
    int r = is_marked(folder, err);
    if (r != 0) {
        return r < 0 ? r : 0;
    }
    if (asprintf(&path, "%s/" LOG_FILES_MARK, folder) < 0) {
        path = NULL;
        return err_sys(err, -ENOMEM, "mark the log in %s", folder);
    }
    return file_atomic_write(path, "", 0, 0600, err);
}

int log_files_check(const char *folder, struct err *err)
{
    struct numbers numbers;
    struct log_check check = {0};
    int r = is_marked(folder, err);
    if (r <= 0) {
        return r;
    }
    r = list(folder, &numbers, err);
    for (size_t i = 0; i < numbers.count && r == 0; i++) {
        char name[LOG_CHECK_NAME_SIZE];
        CLEANUP_FREE char *path = NULL;
        CLEANUP_FREE uint8_t *data = NULL;
        size_t size = 0;
        (void)snprintf(name, sizeof(name), "open-%llu", numbers.of[i]);
        if (asprintf(&path, "%s/%s", folder, name) < 0) {
            path = NULL;
            return err_sys(err, -ENOMEM, "read the log in %s", folder);
        }
        r = fd_read_file(AT_FDCWD, path, LOG_FILES_SIZE_MAX, &data, &size, err);
        r = r == 0 ? log_check_file(&check, name, data, size, err) : r;
    }
    return r;
}
