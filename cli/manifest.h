/* The YAML files of a command line: read, checked, and turned into the API's documents.
 *
 * Shapes: a manifest is one struct config per file; a folder stands for its *.yaml and
 * *.yml files by name, "-" for stdin. All faults of all files are told. Ownership:
 * manifest_fini. Threads: one. Limits: MANIFEST_FILES_MAX. Errors: EXIT_USAGE (said).
 */
#pragma once

#include "cli/cli.h"
#include "config/config.h"

#define MANIFEST_FILES_MAX 1000

struct manifest {
    struct config *configs;
    unsigned count;
    json_t *errors; /* told so far, as -o json has them: file, line, column, code, ... */
    json_t *warnings;       /* likewise */
    bool located;           /* some stand at a place in a file */
    unsigned error_count;   /* of what was read, also of those not told */
    unsigned warning_count; /* likewise */
};

/* Tells what is wrong with any of them, and their sum. */
int manifest_read(struct cli *cli,
                  const char *const *paths,
                  unsigned path_count,
                  struct manifest *ret_manifest);
void manifest_fini(struct manifest *manifest);
/* {"objects": [...]}, a new reference; NULL when out of memory. */
json_t *manifest_document(const struct manifest *manifest);
/* How many objects there are. */
unsigned manifest_objects(const struct manifest *manifest);
/* The file and the object in it that the API's document has at `index`; false: none. */
bool manifest_find(const struct manifest *manifest,
                   size_t index,
                   const struct config **ret_config,
                   unsigned *ret_object);

/* ---- what is wrong (manifest_fault.c): said on err and kept for -o json ---- */

/* A file that could not be read at all; EXIT_USAGE. */
int manifest_fail(struct cli *cli,
                  struct manifest *manifest,
                  const char *file,
                  int fault_code,
                  const char *format,
                  ...) __attribute__((format(printf, 5, 6)));
/* What config_read found in a file. */
void manifest_tell_file(struct cli *cli,
                        struct manifest *manifest,
                        const struct config *config);
/* A fault at the object's `path`; fills its place. */
void manifest_tell_at(struct cli *cli,
                      struct manifest *manifest,
                      const struct config *config,
                      unsigned object,
                      const char *path,
                      struct config_fault *fault);
/* A fault that the server found, at its place in the file when `pointer` ("/objects/1/
 * spec/replicas") leads to one. */
void manifest_tell_answer(struct cli *cli,
                          struct manifest *manifest,
                          const json_t *fault);
/* With -o json or yaml: the errors, if there are any, and what the answer (or NULL) tells
 * beside them. EXIT_OK or EXIT_FAILED (said). */
int manifest_output_errors(struct cli *cli,
                           const struct manifest *manifest,
                           const json_t *answer);
/* Tells of templates with less memory than an image of the files needs, as the API does
 * with what is there, too. EXIT_OK or EXIT_USAGE. */
int manifest_check_memory(struct cli *cli, struct manifest *manifest);
/* Notes what the files refer to and do not hold (the first ones): only the cluster knows
 * whether it is there. How many there are. */
unsigned manifest_note_references(struct cli *cli, const struct manifest *manifest);
