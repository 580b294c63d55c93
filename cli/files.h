/* YAML files of the command line as objects: read, checked, all faults told.
 *
 * A folder stands for its *.yaml and *.yml files by name, - for stdin. Files that
 * artifacts name are relative to the YAML file they stand in. Ownership: files_fini.
 * Threads: one.
 */
#pragma once

#include "cli/cli.h"
#include "config/config.h"

struct file_object {
    enum kind kind;
    void *object; /* owned */
    char *folder; /* of the YAML file; owned */
};
struct files {
    struct file_object *items;
    unsigned count;
};

/* EXIT_OK, or EXIT_USAGE when there were faults (printed on cli->err). *ret_files is
 * complete in every case. */
int files_read(struct cli *cli,
               const char *const *names,
               unsigned count,
               struct files *ret_files);
void files_fini(struct files *files);
