/* From YAML nodes to typed records by the tables of model/record.h; every fault located.
 *
 * Shapes: walk_record fills an initialised record from a mapping node and goes on after
 * each fault. Where each value stood is kept in a place_list, so that faults found later
 * by path (object_check) can be shown in the file. A misspelt field counts as given, so
 * that its absence is not a second fault. Threads: one. Errors: faults in the list;
 * walk.out_of_memory, after which the record is incomplete.
 */
#pragma once

#include "config/yaml_reader.h"
#include "model/objects.h"

#define PLACE_PATH_SIZE 128
#define CONFIG_MAP_KEYS_MAX \
    256 /* keys of one mapping: no record or label list has more */

struct place {
    char path[PLACE_PATH_SIZE]; /* "spec.nics[1].name" */
    yaml_mark_t mark; /* of a scalar; of the key for what is missing or larger */
    unsigned width;
};
struct place_list {
    struct place *items;
    unsigned count;
};
void place_list_fini(struct place_list *list);
/* The place of a path, or of the nearest one above it; NULL for an empty list. */
const struct place *place_find(const struct place_list *list, const char *path);

struct walk {
    yaml_document_t *document;
    struct fault_list *faults;
    struct place_list *places;
    bool is_printed;    /* by the server, see document_is_printed */
    bool out_of_memory; /* set by the walk */
};

/* The value of a key of a mapping; NULL when there is none, or no mapping. */
const yaml_node_t *
document_member(yaml_document_t *document, const yaml_node_t *mapping, const char *name);
/* Whether the document is one that the server has printed: it has the metadata that only
 * the server gives. What else is the server's in it is no mistake of whoever hands it
 * back. */
bool document_is_printed(yaml_document_t *document, const yaml_node_t *root);

/* Fills `object` (initialised) from the mapping `node`. `path` is "" at the top; keys
 * named in `skip` (NULL-terminated, or NULL) are the caller's. */
void walk_record(struct walk *walk,
                 const struct record *record,
                 yaml_node_t *node,
                 const char *path,
                 const char *const *skip,
                 void *object);
/* Width of a scalar, for the caret; 1 for all that takes more than a line. */
unsigned node_width(const yaml_node_t *node);
/* The candidate within edit distance 2 of word that is nearest, or NULL. */
const char *nearest_word(const char *word, const char *const *candidates, unsigned count);
