/* The record tables as a Markdown reference: docs/yaml.md. See config.h. */
#include "base/cleanup.h"
#include "config/config.h"
#include "model/field.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 128

/* A record's place among the rows of a kind. */
struct rows {
    FILE *stream;
    const struct record *record;
    const void *object; /* with its fallbacks */
    const char *path;   /* "spec." */
};

static const char introduction[] =
    "# YAML reference\n"
    "\n"
    "<!-- Printed from the field tables (config/yaml_reference.c). After a change of "
    "them:\n"
    "     BERTH_WRITE_DOCS=1 build/dev/tests/config_yaml_reference_test -->\n"
    "\n"
    "A file holds one or more objects, each a document that begins with `---` (the first "
    "may go without).\n"
    "Every object has `apiVersion: berth/v1`, a `kind`, `metadata` and, nearly always, a "
    "`spec`. Fields that\n"
    "are not in these tables are errors, except those that begin with `x-`: they are "
    "yours and are ignored.\n"
    "`status` and other fields that the server writes are ignored: without a word where "
    "`metadata.uid` and\n"
    "`metadata.created` show that the server has printed the document, so that "
    "`berth show -o yaml` can be edited and\n"
    "applied again, else with a warning. `berth schema` prints the same tables as JSON "
    "Schema for\n"
    "editors; what each error code means is in [errors.md](errors.md).\n"
    "\n";

static const char values[] =
    "## How values are written\n"
    "\n"
    "| type | written as |\n"
    "| --- | --- |\n"
    "| name | 1 to 63 of `a-z`, `0-9` and `-`, starting with a letter, not ending with "
    "`-` |\n"
    "| size | a number and a unit: `128MiB`, `1.5GiB`, `20GB` (B, kB, MB, GB, TB, KiB, "
    "MiB, GiB, TiB) |\n"
    "| rate | a size or kbit, Mbit, Gbit, Tbit, a second: `400MiB/s`, `1Gbit/s` |\n"
    "| CPUs | `2`, `0.5`, `1500m` (thousandths) |\n"
    "| duration | a number and a unit: `500ms`, `30s`, `5m`, `1h`, `1d` |\n"
    "| percent | `60%`, `12.5%` |\n"
    "| network | `10.20.0.0/24`, without host bits |\n"
    "| address | `10.20.0.1` |\n"
    "| time | `2026-11-23T09:15:04Z` |\n"
    "| rule | a placement rule, below |\n"
    "| sha256 | 64 hex digits |\n"
    "| text, number | as they are; quotes are needed only where YAML needs them |\n"
    "\n"
    "YAML is read without anchors, aliases, merge keys and tags. The field says what "
    "type "
    "its value has, so\n"
    "`no` stays a text where a text is expected. Limits: 1MiB, 32 levels and 1000 "
    "objects a file. What\n"
    "one `berth apply`, `plan` or `validate` sends to the cluster is one request of at "
    "most 480KiB: larger\n"
    "ones go in parts.\n"
    "\n"
    "VMs take over the labels of their template and, before those, of their group when "
    "they are made, and\n"
    "keep them: `berth ls vm -l app=web` finds the VMs of what is labelled so. Applied "
    "again, a VM of its own (not a\n"
    "group's) has the labels that its document and its template name, and no others: "
    "what "
    "is taken out of both\n"
    "is taken away, as with objects of all other kinds. It runs on, for no placement "
    "looks at them. VMs of a group\n"
    "keep the labels that they were made with.\n"
    "\n"
    "## Placement rules\n"
    "\n"
    "Rules compare facts of a host: `host.name`, `host.zone` (short for "
    "`host.label.zone`), `host.label.KEY`,\n"
    "`host.kvm` (none, emulated, native), `host.engine` (one the host offers), "
    "`host.cpu.cores`, `host.memory`,\n"
    "`host.numa`. Operators: `==` `!=` `<` `<=` `>` `>=`, `in [a, b]`, `and`, `or`, "
    "`not`, parentheses.\n"
    "\n"
    "```yaml\n"
    "placement:\n"
    "  require:\n"
    "    - host.zone in [r1, r2]\n"
    "    - host.kvm == native and host.memory >= 64GiB\n"
    "```\n"
    "\n";

static const char limits[] =
    "## Rate limits\n"
    "\n"
    "`limit` holds a disk to operations and bytes a second, and a NIC to packets and "
    "bytes a second each way. What is\n"
    "not named has no limit. A burst is what may come at once after a rest; it is no "
    "less than what a second gives,\n"
    "which it is when it is left out.\n"
    "\n"
    "```yaml\n"
    "disks: [{name: data, size: 20GiB, limit: {iops: 2000, bandwidth: 100MiB/s}}]\n"
    "nics: [{name: eth0, network: front, limit: {bandwidth: 1Gbit/s, burst: 250MB}}]\n"
    "```\n"
    "\n"
    "A template that is applied with other limits changes them for all VMs that are made "
    "of it, at once and while they\n"
    "run; all else of a VM stays as its template was when it was made, but for the CPUs "
    "below. VMs follow the disks and NICs\n"
    "that they have by the same name. Engines kvm and qemu hold a disk to its limits, "
    "and "
    "kvm a NIC: what is too much waits.\n"
    "What is too much for a NIC under engine qemu is dropped by its host, which counts "
    "anew "
    "whenever its rules change. A\n"
    "limit that an engine refuses is told of in the VM's reason; a VM that would begin "
    "without its limits does not begin.\n"
    "Limits need level 2 of the cluster (`berth version`).\n"
    "\n";

static const char machines[] =
    "## What a VM finds\n"
    "\n"
    "`cpu.baseline` is what a VM finds of its CPUs, whatever host it is on: `x86-64-v2`, "
    "`x86-64-v3` (AVX2) or\n"
    "`x86-64-v4` (AVX-512), each with nothing beside. It is placed where the CPUs give "
    "at "
    "least that, which hosts find\n"
    "out (`status.cpuBaseline`), and by engine kvm alone. Without one a VM finds all "
    "that "
    "its host has: that is faster\n"
    "for some programs, and another at another start.\n"
    "\n"
    "`cpu.max` gives a VM places for more CPUs. A template that is applied with another "
    "`count` then changes it for the VMs\n"
    "made of it, up to the maximum that each was made with. Under engine kvm they come "
    "while "
    "the VM runs, to a guest that\n"
    "takes them (Linux does; `echo 1 > /sys/devices/system/cpu/cpuN/online` where nobody "
    "else "
    "does that). None goes away\n"
    "before the next start, and engine qemu adds none before it: the VM's reason says so "
    "then. It also says why one has not\n"
    "come yet, as while a snapshot is made; that one is tried again. Quota and host "
    "count "
    "the maximum from the start, so what\n"
    "may come is there when it is asked for. Memory stays what it was.\n"
    "\n"
    "`memory.pages: huge` takes a VM's memory out of the pages of 2MiB that the owner of "
    "a "
    "host has reserved\n"
    "(`vm.nr_hugepages`), by engine kvm. A VM goes where the pool has room for it "
    "(`status.hugePages`). What is in the pool\n"
    "is no memory for other VMs, and none of it goes back while the VM runs. `normal` is "
    "what a host does by itself: pages\n"
    "that the kernel may make huge.\n"
    "\n"
    "A disk `from: image` that is `readOnly` is the image's disk itself, and as large as "
    "that: all VMs that read it\n"
    "share it, it takes no room and no quota, and a VM with no other disk keeps none. A "
    "guest sees that it cannot be\n"
    "written.\n"
    "\n"
    "```yaml\n"
    "cpu: {count: 4, max: 16, baseline: x86-64-v3}\n"
    "memory: {size: 8GiB, pages: huge}\n"
    "disks:\n"
    "  - {name: system, from: image, size: 8GiB, readOnly: true}\n"
    "  - {name: data, size: 20GiB}\n"
    "```\n"
    "\n"
    "This needs level 4 of the cluster (`berth version`).\n"
    "\n";

static const char disks[] =
    "## What becomes of a VM's disks\n"
    "\n"
    "The disks of `spec.disks`, and that of an image that boots one, are files on the "
    "VM's "
    "host. A VM that has neither keeps nothing, and starts on any host. They go with "
    "the\n"
    "VM (`berth rm`); until then:\n"
    "\n"
    "| when | its disks |\n"
    "| --- | --- |\n"
    "| `berth stop`, `power: off`, a guest that powers off and is to stay so (policy not "
    "`always`), a drain under `hostDrain: stop` | are kept: the next start is on the "
    "same "
    "host, with the same disks. CPU and memory are free for others meanwhile, disk and "
    "quota are not |\n"
    "| `berth restart` | are kept; on a drained host the VM waits for `berth undrain` "
    "|\n"
    "| a start while that host is full, drained or suspect | are kept: the VM waits, "
    "`berth explain` says for what |\n"
    "| a start that fails | are kept for the next one |\n"
    "| `berth start --anywhere` | are given up: new ones, on whatever host is best |\n"
    "| a drain of its host while it is stopped | are kept: `berth drain` names the VM; "
    "`berth rm host/NAME` refuses without `--force`, which gives them up |\n"
    "| a drain while it runs under `hostDrain: restart` | are new elsewhere |\n"
    "| its host is lost while it is stopped, or being stopped | are kept for when the "
    "host is back; a start waits for that, or for `--anywhere`. A member of a group "
    "starts elsewhere with new ones, unless it says `hostFailure: wait` |\n"
    "| its host is lost while it runs | are new elsewhere (`restart-elsewhere`) |\n"
    "| its host is lost while it runs under `hostFailure: wait` | are kept: it may still "
    "run there, so nothing starts it elsewhere, `--anywhere` neither, until the host is "
    "back, or removed once it is surely off (`berth rm host/NAME`): then they are new "
    "elsewhere |\n"
    "| it fails and nothing restarts it (policy `never`, no attempt left), or it says "
    "`hostFailure: wait` | are kept |\n"
    "| it fails otherwise (a crash, `berth down --vms` there), or powers off under "
    "policy `always` | are new at "
    "the restart, wherever that is |\n"
    "| `berth recover` | are kept where their host is left |\n"
    "| `berth up --restore` or `berth recover`, of a VM with `hostFailure: wait` | are "
    "kept where a host says that it runs, or by `berth start` where the newest were "
    "found; nothing else starts it but `--anywhere`, with new ones "
    "(`docs/backup-and-recovery.md`) |\n";

static const char *const unit_words[] = {
    [UNIT_NONE] = "number",      [UNIT_BYTES] = "size",        [UNIT_MCPU] = "CPUs",
    [UNIT_RATE] = "rate",        [UNIT_DURATION] = "duration", [UNIT_INSTANT] = "time",
    [UNIT_PERMILLE] = "percent", [UNIT_IPV4] = "address",      [UNIT_CIDR] = "network",
    [UNIT_MAC] = "MAC address",  [UNIT_EXPRESSION] = "rule",
};

static const char *type_word(const struct field *field)
{
    switch (field->type) {
    case FIELD_BOOL:
        return "true, false";
    case FIELD_U32:
    case FIELD_U64:
        return unit_words[field->unit];
    case FIELD_NAME:
        return "name";
    case FIELD_DIGEST:
        return "sha256";
    case FIELD_RECORD:
        return "mapping";
    case FIELD_LIST:
        return "list";
    case FIELD_TEXTS:
        return field->unit == UNIT_EXPRESSION ? "list of rules" : "list of texts";
    case FIELD_LABELS:
        return "mapping of texts";
    default:
        return "text";
    }
}

static void print_words(const struct field *field, FILE *stream)
{
    const char *comma = "";
    for (uint64_t i = field->min; i <= field->max && field->names[i] != NULL; i++) {
        if (field->names[i][0] != '\0') {
            (void)fprintf(stream, "%s`%s`", comma, field->names[i]);
            comma = ", ";
        }
    }
}

/* A number of the field as people write it, in fresh memory. */
static char *number_text(const struct field *field, uint64_t value)
{
    uint64_t member = 0; /* as large as any number */
    field_set_number(field, &member, value);
    return field_format(field, &member);
}

/* Bounds that say something: 0 and what the type ends at do not. */
static void print_bounds(const struct field *field, FILE *stream)
{
    bool number = field->type == FIELD_U32 || field->type == FIELD_U64;
    uint64_t top = field->type == FIELD_U32 ? UINT32_MAX : UINT64_MAX;
    if (number && field->max < top) {
        CLEANUP_FREE char *least = number_text(field, field->min);
        CLEANUP_FREE char *most = number_text(field, field->max);
        (void)fprintf(stream, ", %s to %s", least != NULL ? least : "?",
                      most != NULL ? most : "?");
    } else if (field->type == FIELD_LIST || field->type == FIELD_TEXTS ||
               field->type == FIELD_LABELS) {
        if (field->min > 0) {
            (void)fprintf(stream, ", at least %" PRIu64, field->min);
        }
        (void)fprintf(stream, ", at most %zu", field_count_max(field));
    } else if (field->type == FIELD_TEXT) {
        (void)fprintf(stream, ", at most %zu bytes", field_count_max(field));
    }
}

static void print_default(const struct rows *rows, const struct field *field)
{
    bool number = field->type <= FIELD_ENUM;
    if ((field->flags & FIELD_REQUIRED) != 0) {
        (void)fputs("required", rows->stream);
    } else if (number && (field->fallback != 0 || field->unit == UNIT_NONE)) {
        CLEANUP_FREE char *text = field_format(field, field_at(field, rows->object));
        (void)fprintf(rows->stream, "`%s`", text != NULL ? text : "?");
    }
}

static void print_rows(const struct rows *rows);

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static void print_row(const struct rows *rows, const struct field *field)
{
    (void)fprintf(rows->stream, "| `%s%s%s` | ", rows->path, field->name,
                  field->type == FIELD_LIST ? "[]" : "");
    if (field->type == FIELD_ENUM) {
        print_words(field, rows->stream);
    } else {
        (void)fputs(type_word(field), rows->stream);
        print_bounds(field, rows->stream);
    }
    (void)fputs(" | ", rows->stream);
    print_default(rows, field);
    (void)fprintf(rows->stream, " | %s |\n", field->doc);
    if (field->type == FIELD_RECORD || field->type == FIELD_LIST) {
        char path[PATH_SIZE];
        CLEANUP_FREE void *item = calloc(1, field->record->size_bytes);
        if (item == NULL) {
            return; /* a shorter page, which the test of docs/yaml.md refuses */
        }
        record_init(field->record, item);
        (void)snprintf(path, sizeof(path), "%s%s%s.", rows->path, field->name,
                       field->type == FIELD_LIST ? "[]" : "");
        print_rows(&(struct rows){rows->stream, field->record, item, path});
        record_fini(field->record, item);
    }
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static void print_rows(const struct rows *rows)
{
    for (unsigned i = 0; i < rows->record->field_count; i++) {
        const struct field *field = &rows->record->fields[i];
        if ((field->flags & (FIELD_SERVER | FIELD_SECRET)) == 0 &&
            field->type != FIELD_BLOB) {
            print_row(rows, field);
        }
    }
}

static const char *scope_sentence(enum kind_scope scope)
{
    return scope == SCOPE_CLUSTER  ? "Belongs to the whole cluster: `metadata.tenant` is "
                                     "not allowed."
           : scope == SCOPE_TENANT ? "Belongs to a tenant; without `metadata.tenant` to "
                                     "`" DEFAULT_TENANT "`."
                                   : "Belongs to a tenant, or without `metadata.tenant` "
                                     "to the whole cluster.";
}

static void print_kind(const struct kind_info *info, FILE *stream)
{
    void *object = object_new(info->kind);
    const char *limit =
        info->kind == KIND_DISK
            ? "\n\nNot there yet: the file is checked, and apply refuses it. A VM's "
              "disks "
              "are those of its template,\nmade anew where it starts anew."
            : "";
    if (object == NULL) {
        return;
    }
    (void)fprintf(stream,
                  "\n## %s\n\n%s%s\n\n| field | value | default | meaning |\n"
                  "| --- | --- | --- | --- |\n",
                  info->name, scope_sentence(info->scope), limit);
    print_rows(&(struct rows){stream, info->record, object, ""});
    object_free(info->kind, object);
}

void config_reference(FILE *stream)
{
    (void)fputs(introduction, stream);
    (void)fputs(values, stream);
    (void)fputs(limits, stream);
    (void)fputs(machines, stream);
    (void)fputs(disks, stream);
    for (int kind = 1; kind < KIND_COUNT; kind++) {
        const struct kind_info *info = kind_info((enum kind)kind);
        if (info->user_writable) {
            print_kind(info, stream);
        }
    }
}
