#include "vmm/vmm_options.h"

#include "base/cleanup.h"
#include "base/parse_number.h"

#include <stddef.h>
#include <string.h>

enum option_kind {
    OPTION_TEXT = 1,
    OPTION_BYTES,
    OPTION_NUMBER,
    OPTION_CPU,
    OPTION_FLAG
};

struct option_row {
    const char *name;
    enum option_kind kind;
    size_t offset;
    const char *value; /* for --help; NULL: takes none */
    const char *help;
};

#define FIELD(field) offsetof(struct vmm_options, field)

static const struct option_row rows[] = {
    {"name", OPTION_TEXT, FIELD(name), "NAME", "what the VM is called in the log"},
    {"kernel", OPTION_TEXT, FIELD(kernel), "FILE", "vmlinux (PVH) or vmlinuz to boot"},
    {"initrd", OPTION_TEXT, FIELD(initrd), "FILE", "its initial RAM disk"},
    {"cmdline", OPTION_TEXT, FIELD(cmdline), "TEXT",
     "its command line (default: console=ttyS0)"},
    {"cpus", OPTION_NUMBER, FIELD(cpu_count), "N", "virtual CPUs, 1 to 64 (default: 1)"},
    {"memory", OPTION_BYTES, FIELD(memory_bytes), "SIZE",
     "RAM, 32MiB to 256GiB (default: 256MiB)"},
    {"cpu", OPTION_CPU, FIELD(cpu_level), "LEVEL",
     "host, x86-64-v2, x86-64-v3 or x86-64-v4 (default: host)"},
    {"serial", OPTION_TEXT, FIELD(serial), "WHERE",
     "stdio, none or unix:PATH (default: stdio)"},
    {"qmp", OPTION_TEXT, FIELD(qmp), "unix:PATH", "where to be controlled by QMP"},
    {"kvm", OPTION_TEXT, FIELD(kvm), "DEVICE", "(default: /dev/kvm)"},
    {"hold", OPTION_FLAG, FIELD(is_held), NULL, "do not run before QMP says cont"},
    {"keep-end", OPTION_FLAG, FIELD(keeps_end), NULL,
     "keep a guest that has ended until QMP says quit"},
    {"no-jail", OPTION_FLAG, FIELD(has_no_jail), NULL, "keep all rights (for debuggers)"},
    {"probe", OPTION_FLAG, FIELD(wants_probe), NULL, "say what KVM is worth here"},
    {"help", OPTION_FLAG, FIELD(wants_help), NULL, "this text"},
};

static const struct option_row *row_find(const char *word)
{
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, rows[i].name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

static int value_set(struct vmm_options *options,
                     const struct option_row *row,
                     const char *value,
                     struct err *err)
{
    void *field = (char *)options + row->offset;
    int r = 0;
    switch (row->kind) {
    case OPTION_TEXT:
        *(const char **)field = value;
        break;
    case OPTION_BYTES:
        r = parse_bytes(value, field, err);
        break;
    case OPTION_NUMBER:
        r = parse_u64(value, field, err);
        break;
    case OPTION_CPU:
        r = cpu_level_parse(value, field, err);
        break;
    case OPTION_FLAG:
    default:
        *(bool *)field = true;
        break;
    }
    return r < 0 ? err_wrap(err, r, "--%s", row->name) : 0;
}

int vmm_options_parse(int argc,
                      char *const argv[],
                      struct vmm_options *ret_options,
                      struct err *err)
{
    struct vmm_options options = {.name = "vm",
                                  .kvm = "/dev/kvm",
                                  .cmdline = "console=ttyS0",
                                  .serial = "stdio",
                                  .cpu_count = 1,
                                  .memory_bytes = UINT64_C(256) << 20};
    for (int i = 1; i < argc; i++) {
        const struct option_row *row = row_find(argv[i]);
        if (row == NULL) {
            return err_set(err, BERTH_EINVALID, "%.100s: no such option; see --help",
                           argv[i]);
        }
        if (row->value != NULL && ++i == argc) {
            return err_set(err, BERTH_EINVALID, "--%s: %s is missing", row->name,
                           row->value);
        }
        int r = value_set(&options, row, argv[i], err);
        if (r < 0) {
            return r;
        }
    }
    if (options.kernel == NULL && !options.wants_help && !options.wants_probe) {
        return err_set(err, BERTH_EINVALID, "--kernel is missing; see --help");
    }
    *ret_options = options;
    return 0;
}

void vmm_options_help(FILE *out)
{
    (void)fputs("usage: berth-vmm --kernel FILE [OPTION...]\n\n"
                "Runs one virtual machine on KVM.\n\n",
                out); /* a broken pipe is the reader's choice */
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        char left[40];
        (void)snprintf(left, sizeof(left), "--%s %s", rows[i].name,
                       rows[i].value != NULL ? rows[i].value : "");
        (void)fprintf(out, "  %-20s %s\n", left, rows[i].help);
    }
}
