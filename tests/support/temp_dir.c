#include "support/temp_dir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_FOLDERS_MAX 16 /* of nftw; deeper trees are walked, too */

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
}

void temp_dir_fini(struct temp_dir *dir)
{
    if (dir->path[0] == '\0') {
        return;
    }
    if (nftw(dir->path, remove_one, OPEN_FOLDERS_MAX, FTW_DEPTH | FTW_PHYS) != 0) {
        give_up("remove", dir->path);
    }
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
