/* Runs a fuzz target over files instead of a fuzzer: `<target> <corpus folder>...`
 *
 * Each regular file goes through LLVMFuzzerTestOneInput in the order of the names. Prints
 * how many there were; fails when a folder is missing or holds none, so that a lost
 * corpus is seen.
 */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_SIZE_MAX (16u << 20) /* no input of a corpus is anywhere near */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int replay_file(const char *folder, const char *name)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    struct err err = {0};
    if (asprintf(&path, "%s/%s", folder, name) < 0) {
        path = NULL;
        return -ENOMEM;
    }
    int r = fd_read_file(AT_FDCWD, path, INPUT_SIZE_MAX, &data, &size, &err);
    if (r < 0) {
        fprintf(stderr, "%s\n", err.text);
        return r;
    }
    /* Exactly as large as the input, so that a sanitizer sees the first byte read beyond
     * it. */
    CLEANUP_FREE uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL) {
        return -ENOMEM;
    }
    memcpy(exact, data, size);
    fprintf(stderr, "%s\n", path); /* the last name is the culprit of a crash */
    (void)LLVMFuzzerTestOneInput(exact, size); /* always 0 */
    return 0;
}

/* The number of files replayed, or negative. */
static int replay_folder(const char *folder)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_visible, alphasort);
    if (count < 0) {
        fprintf(stderr, "%s: %m\n", folder);
        return -1;
    }
    int r = 0;
    for (int i = 0; i < count; i++) {
        if (r == 0) {
            r = replay_file(folder, entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    if (count == 0) {
        fprintf(stderr, "%s: there is no input in it\n", folder);
        return -1;
    }
    return r < 0 ? r : count;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int count = replay_folder(argv[i]);
        if (count < 0) {
            return 1;
        }
        total += count;
    }
    printf("%d inputs replayed\n", total);
    return total > 0 ? 0 : 1;
}
