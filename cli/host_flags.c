#include "cli/host_flags.h"

#include "base/own_address.h"
#include "base/parse_number.h"
#include "base/secret_box.h"
#include "base/state_file.h"
#include "cli/daemon.h"
#include "model/join_token.h"
#include "model/objects.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#define PORT_MAX        65534 /* the one above is for hosts that join */
#define BACKUP_KEEP_MAX 1000
#define LABELS_MAX      64
#define NAME_WANTED \
    "wanted 1 to 63 of a-z, 0-9 and -, beginning with a letter, not ending with -"

/* ---- one value: 0, or BERTH_EINVALID with what is wanted ---- */

static int check_name(const char *text, struct err *err)
{
    return name_valid(text)
               ? 0
               : err_set(err, BERTH_EINVALID, "\"%.64s\": " NAME_WANTED, text);
}

static int check_address(const char *text, struct err *err)
{
    uint32_t address = 0;
    int r = parse_ipv4(text, &address, err);
    return r == 0 ? own_address_check(address, err) : r;
}

static int check_number(const char *text, uint64_t most, struct err *err)
{
    uint64_t value = 0;
    return parse_u64(text, &value, NULL) < 0 || value == 0 || value > most
               ? err_set(err, BERTH_EINVALID, "\"%.64s\": wanted a number, 1 to %u", text,
                         (unsigned)most)
               : 0;
}

static int check_port(const char *text, struct err *err)
{
    return check_number(text, PORT_MAX, err);
}

static int check_ratio(const char *text, struct err *err)
{
    return check_number(text, HOST_OVERCOMMIT_MAX, err);
}

static int check_uids(const char *text, struct err *err)
{
    uint64_t first = 0;
    int r = parse_u64(text, &first, err);
    if (r == 0 && first != 0 && first < HOST_VM_UIDS_MIN) {
        return err_set(err, BERTH_EINVALID, "0, or at least %u", HOST_VM_UIDS_MIN);
    }
    return r == 0 && first > HOST_VM_UIDS_MAX
               ? err_set(err, BERTH_EINVALID, "at most %u", HOST_VM_UIDS_MAX)
               : r;
}

static int check_level(const char *text, struct err *err)
{
    return check_number(text, LEVEL_LIMIT, err);
}

static int check_count(const char *text, struct err *err)
{
    return check_number(text, BACKUP_KEEP_MAX, err);
}

static int check_size(const char *text, struct err *err)
{
    uint64_t bytes = 0;
    return parse_bytes(text, &bytes, err);
}

/* All that the machine has would be for the host: no VM is ever placed there. A member
 * starts all the same, whatever became of its memory: berthd logs it. */
static int check_leaves_some(const char *text, struct err *err)
{
    uint64_t bytes = 0;
    const uint64_t all =
        (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char have[NUMBER_TEXT_SIZE];
    int r = parse_bytes(text, &bytes, err);
    if (r < 0 || bytes < all) {
        return r;
    }
    format_bytes_human(all, have);
    return err_set(err, BERTH_EINVALID,
                   "%.64s is all of this machine's memory (%s) or more: nothing would be "
                   "left for VMs",
                   text, have);
}

static int check_duration(const char *text, struct err *err)
{
    uint64_t ms = 0;
    return parse_duration_ms(text, &ms, err);
}

/* berthd works in the root folder. */
static int check_path(const char *text, struct err *err)
{
    return text[0] == '/' ? 0
                          : err_set(err, BERTH_EINVALID,
                                    "wanted a path from the root on, not %.200s", text);
}

static int check_passphrase_file(const char *text, struct err *err)
{
    char passphrase[PASSPHRASE_SIZE_MAX];
    int r = check_path(text, err);
    if (r == 0) {
        r = passphrase_read_file(text, passphrase, err);
        secret_wipe(passphrase, sizeof(passphrase));
    }
    return r;
}

static const struct flag_row {
    const char *flag;
    int (*check)(const char *text, struct err *err);
    int (*check_new)(const char *text, struct err *err); /* of a host that is no member */
} flag_rows[] = {
    {"name", check_name, NULL},
    {"address", check_address, NULL},
    {"mesh-port", check_port, NULL},
    {"raft-port", check_port, NULL},
    {"api-port", check_port, NULL},
    {"reserve-memory", check_size, check_leaves_some},
    {"reserve-disk", check_size, NULL},
    {"cpu-overcommit", check_ratio, NULL},
    {"disk-overcommit", check_ratio, NULL},
    {"image-cache", check_size, NULL},
    {"backup-every", check_duration, NULL},
    {"backup-keep", check_count, NULL},
    {"backup-folder", check_path, NULL},
    {"backup-passphrase-file", check_passphrase_file, NULL},
    {"level-max", check_level, NULL},
    {"level-wait", check_duration, NULL},
    {"vm-uids", check_uids, NULL},
    {"timeout", check_duration, NULL},
};

/* ---- labels: as the cluster checks a host's ---- */

struct label_check {
    struct cli *cli;
    unsigned faults;
};

static void
label_fault(void *context, const char *path, const char *message, const char *hint)
{
    static const char labels[] = "metadata.labels";
    struct label_check *check = context;
    if (strncmp(path, labels, sizeof(labels) - 1) == 0) {
        path += sizeof(labels) - 1;
        (void)cli_fail(check->cli, EXIT_USAGE, "--label: %s%s%s%s%s",
                       *path == '.' ? path + 1 : path, *path != '\0' ? " " : "", message,
                       hint != NULL ? ": " : "", hint != NULL ? hint : "");
        check->faults++;
    }
}

static unsigned check_labels(struct cli *cli)
{
    struct label_check check = {.cli = cli};
    struct host *host = object_new(KIND_HOST);
    unsigned cursor = 0;
    unsigned count = 0;
    const char *label;
    while (host != NULL && (label = cli_flag_next(cli, "label", &cursor)) != NULL) {
        const char *equals = strchr(label, '=');
        char key[NAME_SIZE] = "";
        if (equals == NULL || equals == label || equals - label >= NAME_SIZE ||
            ++count > LABELS_MAX) {
            (void)cli_fail(cli, EXIT_USAGE, "--label: \"%.80s\": wanted KEY=VALUE%s",
                           label, count > LABELS_MAX ? ", at most 64 of them" : "");
            check.faults++;
            continue;
        }
        memcpy(key, label, (size_t)(equals - label));
        (void)label_set(&host->meta.labels, key,
                        equals + 1); /* out of memory: berthd's */
    }
    if (host != NULL) {
        (void)object_check(KIND_HOST, host, label_fault, &check);
    }
    object_free(KIND_HOST, host);
    return check.faults;
}

/* ---- all ---- */

/* Without --name the machine's is taken, at the first start. */
static unsigned check_machine_name(struct cli *cli)
{
    char path[PATH_MAX];
    char name[NAME_SIZE] = "";
    (void)snprintf(path, sizeof(path), "%.4000s/" STATE_FILE_HOST, cli->state);
    if (cli_flag(cli, "name") != NULL || access(path, F_OK) == 0) {
        return 0;
    }
    (void)gethostname(name, sizeof(name) - 1); /* "" is refused */
    name[strcspn(name, ".")] = '\0';
    if (name_valid(name)) {
        return 0;
    }
    (void)cli_fail(
        cli, EXIT_USAGE,
        "this machine's name \"%s\" cannot be a host's: give --name (" NAME_WANTED ")",
        name);
    return 1;
}

int host_flags_check(struct cli *cli)
{
    unsigned faults = 0;
    const bool is_new = !daemon_is_member(cli->state);
    for (size_t i = 0; i < sizeof(flag_rows) / sizeof(flag_rows[0]); i++) {
        const char *value = cli_flag(cli, flag_rows[i].flag);
        struct err err;
        int r = value != NULL ? flag_rows[i].check(value, &err) : 0;
        if (value != NULL && r >= 0 && is_new && flag_rows[i].check_new != NULL) {
            r = flag_rows[i].check_new(value, &err);
        }
        if (r < 0) {
            (void)cli_fail(cli, EXIT_USAGE, "--%s: %s", flag_rows[i].flag, err.text);
            faults++;
        }
    }
    faults += check_labels(cli);
    faults += check_machine_name(cli);
    return faults == 0 ? EXIT_OK : EXIT_USAGE;
}

int host_flags_check_token(struct cli *cli, const char *text)
{
    struct join_token token;
    struct err err;
    int r = join_token_parse(text, &token, &err);
    secret_wipe(&token, sizeof(token));
    return r == 0 ? (int)EXIT_OK : cli_fail(cli, EXIT_USAGE, "%s", err.text);
}
