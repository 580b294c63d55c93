/* YAML in, typed objects or located errors out.
 *
 * Shapes: config_read walks libyaml's nodes by the record tables of model/record.h: one
 * table decodes, validates, and prints the JSON Schema. A file may hold several documents
 * (`---`), and a document may be a list, as `berth ls -o yaml` prints it ({items:
 * [...]}). Rules: YAML 1.2 core without anchors, aliases, merge keys and tags; duplicate
 * keys, unknown fields, wrong types and units, ranges, missing fields and object_check's
 * faults are errors, all of a file at once (CONFIG_FAULTS_MAX), each with
 * file:line:column, a caret line, a reason and a hint. What object_check says between
 * fields is told once the shape of a document is right: before, it would only be echoes.
 * A fault of syntax hides the rest of its document, not the others. `x-*` fields are
 * allowed and ignored; server-written fields (status, metadata.uid, ...) are ignored,
 * with a warning unless the document is one that the server has printed (it has
 * metadata.uid and metadata.created). References between objects of the same file (group
 * -> template -> image, network) are left to the server, which knows what exists already.
 * Ownership: struct config is a value with owned lists; config_fini. Threads: pure but
 * for libyaml. Errors: 0, BERTH_EINVALID (faults are in the list), BERTH_ETOOLARGE,
 * -ENOMEM.
 */
#pragma once

#include "base/err.h"
#include "model/objects.h"

#include <stdio.h>

#define CONFIG_SIZE_MAX    (1u << 20)
#define CONFIG_DEPTH_MAX   32
#define CONFIG_FAULTS_MAX  50
#define CONFIG_OBJECTS_MAX 1000

struct config_fault {
    bool warning;
    unsigned line;    /* 1-based */
    unsigned column;  /* 1-based */
    unsigned width;   /* of the caret line, >= 1 */
    const char *code; /* "BE1103", static */
    char message[400];
    char hint[128]; /* "" when none: `did you mean "memory"?` */
};

struct place;
struct config_object {
    enum kind kind;
    void *object; /* owned */
    unsigned line;
    struct place *places; /* owned: where each value stands; see config_locate */
    unsigned place_count;
    unsigned first_line; /* of its document, 0-based */
};

struct config {
    char *name;       /* file name for messages */
    char *text;       /* for caret lines; without a byte order mark */
    size_t text_size; /* the text may hold NULs */
    struct config_object *objects;
    unsigned object_count;
    struct config_fault *faults; /* by line, column */
    unsigned fault_count;        /* at most CONFIG_FAULTS_MAX */
    unsigned error_count;        /* found, also those beyond */
    unsigned warning_count;      /* likewise */
};

/* Reads text (size bytes, borrowed for the call). *ret_config can be given to config_fini
 * in every case and is complete in every case but -ENOMEM. */
int config_read(const char *name,
                const char *text,
                size_t size,
                struct config *ret_config);
void config_fini(struct config *config);
/* Prints the faults as people read them, with caret lines. */
void config_print_each(const struct config *config, FILE *stream);
/* Prints the closing count, of one file or of several, if there is anything. */
void config_print_sum(unsigned errors, unsigned warnings, FILE *stream);
/* Prints one fault in the same form, without a count. */
void config_print_fault(const struct config *config,
                        const struct config_fault *fault,
                        FILE *stream);
/* Fills line, column and width of a fault (the rest is left) with where the object's
 * `path` stands ("spec.nics[1].name"), or what is nearest above it. For what others find
 * wrong with an object. */
void config_locate(const struct config *config,
                   unsigned object,
                   const char *path,
                   struct config_fault *fault);
/* JSON Schema draft-07 of all user-writable kinds; caller frees; NULL when out of memory.
 */
char *config_json_schema(void);
/* The reference of all user-writable kinds as Markdown: docs/yaml.md is this text. */
void config_reference(FILE *stream);
