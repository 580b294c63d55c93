/* Names as people write them: kind/name, tenant/kind/name, or a bare name.
 *
 * Shapes: object_name_parse is pure; object_name_find asks the API where a tenant was not
 * said: -t, else the one tenant that owns the name, else an error that lists them or says
 * what was meant. Threads: one. Errors: said; EXIT_USAGE, EXIT_NOT_FOUND.
 */
#pragma once

#include "cli/cli.h"
#include "cli/remote.h"
#include "model/objects.h"

struct object_name {
    const struct kind_info *info;
    char tenant[NAME_SIZE]; /* "" for what belongs to the cluster, or not known yet */
    char name[NAME_SIZE];
};

/* A kind by name, word or plural, or NULL (said, with "did you mean"). */
const struct kind_info *object_kind(struct cli *cli, const char *text);
/* "a" or "an". */
const char *kind_article(const struct kind_info *info);
/* `kind` is the kind of bare names, KIND_NONE when they need to say theirs; a name of
 * another kind is refused then. */
int object_name_parse(struct cli *cli,
                      const char *text,
                      enum kind kind,
                      struct object_name *ret_name);
/* As above, and the tenant found. The object itself may still be gone by the next call.
 */
int object_name_find(struct cli *cli,
                     const char *text,
                     enum kind kind,
                     struct object_name *ret_name);
/* "/v1/tenants/shop/vms/web-1" and the suffix (":scale", "/explain", ""). */
void object_path(const struct object_name *name,
                 const char *suffix,
                 char ret_path[REMOTE_PATH_SIZE]);
/* GET of the object; a 404 says what was perhaps meant. */
int object_get(struct cli *cli, const struct object_name *name, json_t **ret_object);
/* "vm/web-1", with the tenant in front unless -t says it. */
#define OBJECT_LABEL_SIZE (2 * NAME_SIZE + 16)
void object_label(const struct cli *cli,
                  const char *kind_word,
                  const char *tenant,
                  const char *name,
                  char ret_label[OBJECT_LABEL_SIZE]);
