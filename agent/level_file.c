#include "agent/level_file.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/parse_number.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define LEVEL_FILE_SIZE_MAX 16

static int level_path(const char *folder, char ret_path[PATH_MAX], struct err *err)
{
    int length = snprintf(ret_path, PATH_MAX, "%s/" LEVEL_FILE, folder);
    return length > 0 && length < PATH_MAX ? 0
                                           : err_sys(err, -ENAMETOOLONG, "%s", folder);
}

int level_file_check(const char *folder,
                     struct level_range range,
                     uint32_t *ret_level,
                     struct err *err)
{
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    uint64_t level = 0;
    char path[PATH_MAX];
    *ret_level = 0;
    int r = level_path(folder, path, err);
    r = r == 0 ? fd_read_file(AT_FDCWD, path, LEVEL_FILE_SIZE_MAX, &text, &size, err) : r;
    if (r < 0) {
        return r == -ENOENT ? 0 : r;
    }
    text[strcspn((char *)text, "\n")] = '\0';
    if (parse_u64((const char *)text, &level, NULL) < 0 || level < LEVEL_FIRST ||
        level > LEVEL_LIMIT) {
        return err_set(err, BERTH_ECORRUPT,
                       "%s: wanted the cluster's level, 1 to %d; without the file it is "
                       "heard anew",
                       path, LEVEL_LIMIT);
    }
    if (!level_in_range(range, (uint32_t)level)) {
        char why[256];
        level_refusal(range, (uint32_t)level, why);
        return err_set(err, BERTH_ELEVEL, "%s", why);
    }
    *ret_level = (uint32_t)level;
    return 0;
}

int level_file_write(const char *folder, uint32_t level, struct err *err)
{
    char path[PATH_MAX];
    char text[LEVEL_FILE_SIZE_MAX];
    int length = snprintf(text, sizeof(text), "%" PRIu32 "\n", level);
    int r = level_path(folder, path, err);
    return r == 0 ? file_atomic_write(path, text, (size_t)length, 0600, err) : r;
}
