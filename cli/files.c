#include "cli/files.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    if (slash == NULL) {
        return strdup(".");
    }
    return strndup(name, slash == name ? 1 : (size_t)(slash - name));
}

static int stdin_read(uint8_t **ret_data, size_t *ret_size)
{
    uint8_t *data = malloc(CONFIG_SIZE_MAX + 2);
    ssize_t size =
        data != NULL ? fd_read_full(STDIN_FILENO, data, CONFIG_SIZE_MAX + 1) : -ENOMEM;
    if (size < 0) {
        free(data);
        return (int)size;
    }
    data[size] = '\0';
    *ret_data = data;
    *ret_size = (size_t)size;
    return 0;
}

/* Moves the config's objects over. */
static int take_objects(struct files *files, struct config *config, const char *name)
{
    for (unsigned i = 0; i < config->object_count; i++) {
        struct file_object *items =
            realloc(files->items, (files->count + 1) * sizeof(*items));
        char *folder = folder_of(name);
        if (items == NULL || folder == NULL) {
            free(folder);
            return -ENOMEM;
        }
        files->items = items;
        items[files->count++] = (struct file_object){.kind = config->objects[i].kind,
                                                     .object = config->objects[i].object,
                                                     .folder = folder};
        config->objects[i].object = NULL;
    }
    return 0;
}

static int read_one(struct cli *cli, const char *name, struct files *files)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    struct config config;
    struct err err;
    bool standard = strcmp(name, "-") == 0;
    int r = standard
                ? stdin_read(&data, &size)
                : fd_read_file(AT_FDCWD, name, CONFIG_SIZE_MAX + 1, &data, &size, &err);
    if (r < 0) {
        return cli_fail(cli, EXIT_USAGE, "%s: %s", name, err_sentence(r));
    }
    r = config_read(standard ? "<stdin>" : name, (const char *)data, size, &config);
    config_print_faults(&config, cli->err);
    int code = r == 0 ? EXIT_OK : EXIT_USAGE;
    if (r == 0 && take_objects(files, &config, name) < 0) {
        code = cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    config_fini(&config);
    return code;
}

static int is_yaml(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
}

static int read_folder(struct cli *cli, const char *name, struct files *files)
{
    struct dirent **entries = NULL;
    int count = scandir(name, &entries, is_yaml, alphasort);
    int code =
        count > 0 ? EXIT_OK : cli_fail(cli, EXIT_USAGE, "%s: holds no YAML file", name);
    for (int i = 0; i < count; i++) {
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s/%s", name,
                       entries[i]->d_name); /* cut: not found */
        int one = read_one(cli, path, files);
        code = code != EXIT_OK ? code : one;
        free(entries[i]);
    }
    free(entries);
    return code;
}

int files_read(struct cli *cli,
               const char *const *names,
               unsigned count,
               struct files *ret_files)
{
    int code = EXIT_OK;
    *ret_files = (struct files){0};
    for (unsigned i = 0; i < count; i++) {
        struct stat info;
        bool folder = stat(names[i], &info) == 0 && S_ISDIR(info.st_mode);
        int one = folder ? read_folder(cli, names[i], ret_files)
                         : read_one(cli, names[i], ret_files);
        code = code != EXIT_OK ? code : one; /* the others' faults are told, too */
    }
    return code;
}

void files_fini(struct files *files)
{
    for (unsigned i = 0; i < files->count; i++) {
        object_free(files->items[i].kind, files->items[i].object);
        free(files->items[i].folder);
    }
    free(files->items);
    *files = (struct files){0};
}
