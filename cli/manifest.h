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
};

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
/* Says a fault that the server found, at its place in the file when `pointer` ("/objects/
 * 1/spec/replicas") leads to one. */
void manifest_print_fault(struct cli *cli,
                          const struct manifest *manifest,
                          const json_t *fault);
/* Notes what the files refer to and do not hold: only the cluster knows whether it is
 * there. */
void manifest_note_references(struct cli *cli, const struct manifest *manifest);
