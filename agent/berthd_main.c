/* berthd: the daemon of one host. Options in, one loop, exit code out. */
#include "agent/backup_keeper.h"
#include "agent/berthd.h"
#include "agent/berthd_offline.h"
#include "agent/disk_room.h"
#include "agent/engine_fake.h"
#include "agent/level_watch.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/loop_watch.h"
#include "base/parse_number.h"
#include "base/secret_box.h"
#include "base/version.h"
#include "model/objects.h"

#include <uv.h>

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define STATE_DEFAULT       "/var/lib/berth"
#define IMAGE_CACHE_DEFAULT (UINT64_C(20) << 30)
#define LABELS_MAX          64
#define FILES_WANTED        65536 /* sockets and pipes of many VMs */

enum option_id {
    OPTION_STATE = 1,
    OPTION_NAME,
    OPTION_ADDRESS,
    OPTION_MESH_PORT,
    OPTION_RAFT_PORT,
    OPTION_API_PORT,
    OPTION_NO_HTTPS,
    OPTION_LABEL,
    OPTION_BOOTSTRAP,
    OPTION_JOIN,
    OPTION_JOIN_ONCE,
    OPTION_IMAGE_CACHE,
    OPTION_RESERVE,
    OPTION_RESERVE_DISK,
    OPTION_OVERCOMMIT,
    OPTION_VM_UIDS,
    OPTION_DISK_OVERCOMMIT,
    OPTION_WATCHDOG,
    OPTION_LEVEL_MAX,
    OPTION_LEVEL_WAIT,
    OPTION_LOG_JSON,
    OPTION_DEBUG,
    OPTION_CLEANUP,
    OPTION_BACKUP_EVERY,
    OPTION_BACKUP_KEEP,
    OPTION_BACKUP_FOLDER,
    OPTION_BACKUP_PASSPHRASE,
    OPTION_RESTORE,
    OPTION_PASSPHRASE,
    OPTION_INSPECT,
    OPTION_LIST_VMS,
    OPTION_RECOVER,
    OPTION_FORGET,
    OPTION_VERSION,
    OPTION_HELP,
};

static const struct option_row {
    enum option_id id;
    const char *name;
    const char *argument; /* NULL: takes none */
    const char *help;
} option_rows[] = {
    {OPTION_STATE, "state", "DIR", "state folder (" STATE_DEFAULT ")"},
    {OPTION_BOOTSTRAP, "bootstrap", NULL, "found a new cluster on this host"},
    {OPTION_JOIN, "join", "TOKEN",
     "join the cluster that made the token, or, as a member, ask its host who the "
     "members are while no leader is heard; - reads it from stdin"},
    {OPTION_JOIN_ONCE, "join-once", NULL,
     "end when the token's host lets nobody in, instead of asking on"},
    {OPTION_NAME, "name", "NAME", "name of this host (the machine's)"},
    {OPTION_ADDRESS, "address", "IPV4",
     "address for the other hosts (of the default route)"},
    {OPTION_MESH_PORT, "mesh-port", "N",
     "between hosts; N+1 is for hosts that join (7440)"},
    {OPTION_RAFT_PORT, "raft-port", "N", "between voters (7442)"},
    {OPTION_API_PORT, "api-port", "N", "HTTPS (7443)"},
    {OPTION_NO_HTTPS, "no-https", NULL, "serve the API on the UNIX socket only"},
    {OPTION_LABEL, "label", "KEY=VALUE",
     "label of this host, repeatable; first start only"},
    {OPTION_IMAGE_CACHE, "image-cache", "SIZE",
     "limit of the image store, and of one image file (20GiB)"},
    {OPTION_RESERVE, "reserve-memory", "SIZE",
     "memory kept for the host itself (256MiB; half of a small machine)"},
    {OPTION_RESERVE_DISK, "reserve-disk", "SIZE",
     "disk kept free for the log (a twentieth, at most 1GiB)"},
    {OPTION_OVERCOMMIT, "cpu-overcommit", "N", "vCPUs that may share one CPU (4)"},
    {OPTION_DISK_OVERCOMMIT, "disk-overcommit", "N",
     "times the disk may be promised to VMs, whose disks are thin (1)"},
    {OPTION_VM_UIDS, "vm-uids", "N",
     "VMs of engine kvm run as users from N on, one each (2130706432); 0: as root"},
    {OPTION_WATCHDOG, "watchdog", "DEVICE",
     "let the fence feed this watchdog, or the first: auto"},
    {OPTION_LEVEL_MAX, "level-max", "N",
     "hold the cluster's level back at this one (all known)"},
    {OPTION_LEVEL_WAIT, "level-wait", "TIME",
     "while it leads: all hosts must know a level so long (1m)"},
    {OPTION_LOG_JSON, "log-json", NULL, "log one JSON object per line"},
    {OPTION_DEBUG, "debug", NULL, "log more"},
    {OPTION_CLEANUP, "cleanup", NULL,
     "with no daemon running: end this host's VMs and networks; disks stay"},
    {OPTION_BACKUP_EVERY, "backup-every", "TIME",
     "while it leads: a backup so often (6h); 0s: none"},
    {OPTION_BACKUP_KEEP, "backup-keep", "N", "of these (28)"},
    {OPTION_BACKUP_FOLDER, "backup-folder", "DIR", "for these (backups in --state)"},
    {OPTION_BACKUP_PASSPHRASE, "backup-passphrase-file", "FILE",
     "encrypt these: its first line is the passphrase"},
    {OPTION_RESTORE, "restore", "FILE", "found a new cluster with a backup's state"},
    {OPTION_PASSPHRASE, "passphrase-file", "FILE",
     "its first line is the backup's passphrase; - reads it from stdin"},
    {OPTION_INSPECT, "inspect-log", NULL,
     "with no daemon running: print what this host's log holds, as JSON"},
    {OPTION_LIST_VMS, "list-vms", NULL,
     "with or without a daemon: print the VMs that are on this host, as JSON"},
    {OPTION_RECOVER, "recover", NULL,
     "with no daemon running: make this host the only voter of what its log holds"},
    {OPTION_FORGET, "forget", NULL,
     "with no daemon running: --cleanup, delete the disks, and forget the cluster"},
    {OPTION_VERSION, "version", NULL, "print the version"},
    {OPTION_HELP, "help", NULL, "print this"},
};
#define OPTION_ROWS (sizeof(option_rows) / sizeof(option_rows[0]))

struct options {
    struct berthd_config config;
    const char *labels[LABELS_MAX + 1];
    unsigned label_count;
    char token[256];
    bool log_json;
    bool debug;
    char passphrase[PASSPHRASE_SIZE_MAX];
    char backup_passphrase[PASSPHRASE_SIZE_MAX];
    /* With no daemon running: what to do instead of being one. */
    int (*offline)(const char *folder, struct err *err);
};

static void usage(FILE *stream)
{
    fprintf(stream,
            "usage: berthd [options]\n\nThe daemon of one Berth host; `berth up` and "
            "`berth join` start it for you.\n\n");
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        char left[40];
        (void)snprintf(left, sizeof(left), "--%s %s", option_rows[i].name,
                       option_rows[i].argument != NULL ? option_rows[i].argument : "");
        fprintf(stream, "  %-24s %s\n", left, option_rows[i].help);
    }
}

static int bad(const char *option, const char *why)
{
    fprintf(stderr, "berthd: --%s: %s\n", option, why);
    return 2;
}

static int take_port(const char *option, const char *text, uint32_t *ret_port)
{
    uint64_t value = 0;
    struct err err;
    if (parse_u64(text, &value, &err) < 0 || value == 0 || value > 65534) {
        return bad(option, "wanted a port number, 1 to 65534");
    }
    *ret_port = (uint32_t)value;
    return 0;
}

static int take_uids(const char *option, const char *text, uint32_t *ret_first)
{
    uint64_t value = 0;
    struct err err;
    if (parse_u64(text, &value, &err) < 0 || value > HOST_VM_UIDS_MAX ||
        (value != 0 && value < HOST_VM_UIDS_MIN)) {
        char why[64];
        (void)snprintf(why, sizeof(why), "wanted 0, or a number from %u to %u",
                       HOST_VM_UIDS_MIN, HOST_VM_UIDS_MAX);
        return bad(option, why);
    }
    *ret_first = (uint32_t)value;
    return 0;
}

static int take_overcommit(const char *option,
                           const char *what,
                           const char *text,
                           uint32_t *ret_ratio)
{
    uint64_t value = 0;
    struct err err;
    if (parse_u64(text, &value, &err) < 0 || value == 0 || value > HOST_OVERCOMMIT_MAX) {
        char why[64];
        (void)snprintf(why, sizeof(why), "wanted a number%s, 1 to %d", what,
                       HOST_OVERCOMMIT_MAX);
        return bad(option, why);
    }
    *ret_ratio = (uint32_t)value;
    return 0;
}

/* So that a token need not stand in the process list. */
static int take_token(struct options *options, const char *text)
{
    if (strcmp(text, "-") == 0) {
        if (fgets(options->token, sizeof(options->token), stdin) == NULL) {
            return bad("join", "no token came on stdin");
        }
        options->token[strcspn(options->token, "\r\n")] = '\0';
        text = options->token;
    }
    options->config.join_token = text;
    return 0;
}

static int take_level(const char *option, const char *text, uint32_t *ret_level)
{
    uint64_t value = 0;
    char why[64];
    const struct level_range known = level_range_up_to(0);
    if (parse_u64(text, &value, NULL) < 0 || value < known.min || value > LEVEL_LIMIT) {
        (void)snprintf(why, sizeof(why), "wanted a level, %u to %d", known.min,
                       LEVEL_LIMIT);
        return bad(option, why);
    }
    *ret_level = (uint32_t)value;
    return 0;
}

static int take_backup_keep(const char *option, const char *text, uint32_t *ret_count)
{
    uint64_t value = 0;
    if (parse_u64(text, &value, NULL) < 0 || value == 0 ||
        value > BACKUP_KEEPER_KEEP_MAX) {
        return bad(option, "wanted a number of files, 1 to 1000");
    }
    *ret_count = (uint32_t)value;
    return 0;
}

static int take_backup_passphrase(struct options *options, const char *path)
{
    struct err err;
    options->config.backup_passphrase = options->backup_passphrase;
    return passphrase_read_file(path, options->backup_passphrase, &err) < 0
               ? bad("backup-passphrase-file", err.text)
               : 0;
}

/* So that a passphrase need not stand in a file. */
static int take_passphrase(struct options *options, const char *path)
{
    struct err err;
    options->config.passphrase = options->passphrase;
    if (strcmp(path, "-") != 0) {
        return passphrase_read_file(path, options->passphrase, &err) < 0
                   ? bad("passphrase-file", err.text)
                   : 0;
    }
    if (fgets(options->passphrase, sizeof(options->passphrase), stdin) == NULL) {
        return bad("passphrase-file", "no passphrase came on stdin");
    }
    options->passphrase[strcspn(options->passphrase, "\r\n")] = '\0';
    return 0;
}

/* 0: go on; else exit with that code (-1: with success). */
static int
take_option(struct options *options, const struct option_row *row, const char *text)
{
    struct berthd_config *config = &options->config;
    struct err err;
    switch (row->id) {
    case OPTION_STATE:
        config->folder = text;
        return 0;
    case OPTION_NAME:
        config->name = text;
        return 0;
    case OPTION_ADDRESS:
        return parse_ipv4(text, &config->address, &err) < 0 ? bad(row->name, err.text)
                                                            : 0;
    case OPTION_MESH_PORT:
        return take_port(row->name, text, &config->mesh_port);
    case OPTION_RAFT_PORT:
        return take_port(row->name, text, &config->raft_port);
    case OPTION_API_PORT:
        return take_port(row->name, text, &config->api_port);
    case OPTION_NO_HTTPS:
        config->no_https = true;
        return 0;
    case OPTION_LABEL:
        if (options->label_count >= LABELS_MAX) {
            return bad(row->name, "too many labels");
        }
        options->labels[options->label_count++] = text;
        return 0;
    case OPTION_BOOTSTRAP:
        config->bootstrap = true;
        return 0;
    case OPTION_JOIN:
        return take_token(options, text);
    case OPTION_JOIN_ONCE:
        config->join_once = true;
        return 0;
    case OPTION_IMAGE_CACHE:
        return parse_bytes(text, &config->image_cache_bytes, &err) < 0
                   ? bad(row->name, err.text)
                   : 0;
    case OPTION_RESERVE:
        return parse_bytes(text, &config->memory_reserve_bytes, &err) < 0
                   ? bad(row->name, err.text)
                   : 0;
    case OPTION_RESERVE_DISK:
        return parse_bytes(text, &config->disk_reserve_bytes, &err) < 0
                   ? bad(row->name, err.text)
                   : 0;
    case OPTION_OVERCOMMIT:
        return take_overcommit(row->name, " of vCPUs per CPU", text,
                               &config->cpu_overcommit);
    case OPTION_VM_UIDS:
        return take_uids(row->name, text, &config->vm_uids);
    case OPTION_DISK_OVERCOMMIT:
        return take_overcommit(row->name, "", text, &config->disk_overcommit);
    case OPTION_WATCHDOG:
        config->watchdog = text;
        return 0;
    case OPTION_LEVEL_MAX:
        return take_level(row->name, text, &config->level_max);
    case OPTION_LEVEL_WAIT:
        return parse_duration_ms(text, &config->level_wait_ms, &err) < 0
                   ? bad(row->name, err.text)
                   : 0;
    case OPTION_LOG_JSON:
        options->log_json = true;
        return 0;
    case OPTION_DEBUG:
        options->debug = true;
        return 0;
    case OPTION_CLEANUP:
        options->offline = berthd_cleanup;
        return 0;
    case OPTION_BACKUP_EVERY:
        return parse_duration_ms(text, &config->backup_every_ms, &err) < 0
                   ? bad(row->name, err.text)
                   : 0;
    case OPTION_BACKUP_KEEP:
        return take_backup_keep(row->name, text, &config->backup_keep);
    case OPTION_BACKUP_FOLDER:
        config->backup_folder = text;
        return 0;
    case OPTION_BACKUP_PASSPHRASE:
        return take_backup_passphrase(options, text);
    case OPTION_RESTORE:
        config->restore = text;
        return 0;
    case OPTION_PASSPHRASE:
        return take_passphrase(options, text);
    case OPTION_INSPECT:
        options->offline = berthd_inspect;
        return 0;
    case OPTION_LIST_VMS:
        options->offline = berthd_list_vms;
        return 0;
    case OPTION_RECOVER:
        options->offline = berthd_recover;
        return 0;
    case OPTION_FORGET:
        options->offline = berthd_forget;
        return 0;
    case OPTION_VERSION:
        printf("berthd %s (levels %u to %u)\n", BERTH_VERSION, level_range_up_to(0).min,
               level_range_up_to(0).max);
        return -1;
    case OPTION_HELP:
        usage(stdout);
        return -1;
    }
    return 2;
}

static int take_options(struct options *options, int argc, char **argv)
{
    struct option longs[OPTION_ROWS + 1] = {0};
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        longs[i].name = option_rows[i].name;
        longs[i].has_arg =
            option_rows[i].argument != NULL ? required_argument : no_argument;
        longs[i].val = 'A' + (int)i;
    }
    int at;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread yet
    while ((at = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (at == '?') {
            fprintf(stderr, "see berthd --help\n");
            return 2;
        }
        int r = take_option(options, &option_rows[at - 'A'], optarg);
        if (r != 0) {
            return r;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "berthd: unexpected \"%s\"; see berthd --help\n", argv[optind]);
        return 2;
    }
    if ((options->config.bootstrap || options->config.restore != NULL) &&
        options->config.join_token != NULL) {
        return bad("join", "a host founds a cluster or joins one, not both");
    }
    options->config.labels = options->labels;
    return 0;
}

static void on_signal(uv_signal_t *handle, int number)
{
    log_info("berthd", "this daemon was asked to end; its VMs run on",
             KV_I64("signal", number));
    berthd_stop(handle->data);
}

static void closed_signal(uv_handle_t *handle)
{
    (void)handle; /* lives on main's stack until the loop has ended */
}

/* Signals are open only while the daemon is meant to run, so that the loop ends by
 * itself. */
static void watch_stop(uv_prepare_t *prepare)
{
    uv_signal_t *signals = prepare->data;
    if (berthd_stopping(signals[0].data)) {
        for (int i = 0; i < 2; i++) {
            uv_close((uv_handle_t *)&signals[i], closed_signal);
        }
        uv_prepare_stop(prepare);
        uv_close((uv_handle_t *)prepare, closed_signal);
    }
}

static int run(const struct options *options)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    uv_loop_t loop;
    uv_signal_t signals[2];
    uv_prepare_t prepare;
    struct berthd *berthd = NULL;
    struct err err = {0};
    if (uv_loop_init(&loop) < 0) {
        fprintf(stderr, "berthd: the event loop cannot be made\n");
        return 1;
    }
    struct loop_watch *watch = loop_watch_open(&loop, 0);
    if (watch == NULL) {
        log_warn("berthd", "nobody watches whether this daemon comes on: out of memory");
    }
    int r = berthd_open(&loop, &options->config, &berthd, &err);
    if (r < 0) {
        log_error("berthd", "start failed", KV_STR("code", err_name(r)),
                  KV_STR("why", err.text));
        if (berthd != NULL) {
            berthd_stop(berthd);
        }
    } else {
        for (int i = 0; i < 2; i++) {
            uv_signal_init(&loop, &signals[i]);
            signals[i].data = berthd;
            uv_signal_start(&signals[i], on_signal, numbers[i]);
        }
        uv_prepare_init(&loop, &prepare);
        prepare.data = signals;
        uv_prepare_start(&prepare, watch_stop);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    loop_watch_close(watch);
    uv_run(&loop, UV_RUN_DEFAULT); /* it is freed */
    int code = berthd != NULL ? berthd_exit_code(berthd) : 1;
    berthd_free(berthd);
    (void)uv_loop_close(&loop); /* the process ends here */
    return r < 0 ? 1 : code;
}

int main(int argc, char **argv)
{
    static struct options options = {
        .config = {.folder = STATE_DEFAULT,
                   .image_cache_bytes = IMAGE_CACHE_DEFAULT,
                   .disk_reserve_bytes = BERTHD_RESERVE_DEFAULT,
                   .memory_reserve_bytes = BERTHD_RESERVE_DEFAULT,
                   .cpu_overcommit = HOST_OVERCOMMIT,
                   .disk_overcommit = DISK_OVERCOMMIT,
                   .vm_uids = BERTHD_VM_UIDS,
                   .backup_every_ms = BACKUP_KEEPER_EVERY_MS,
                   .backup_keep = BACKUP_KEEPER_KEEP,
                   .level_wait_ms = LEVEL_WAIT_MS},
    };
    heap_keep_small();            /* before there are threads */
    engine_fake_main(argc, argv); /* returns unless we are a fake VM's process */
    int r = take_options(&options, argc, argv);
    if (r != 0) {
        return r < 0 ? 0 : r;
    }
    log_setup(options.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, options.log_json);
    (void)umask(0077);              /* what must be seen by others says so itself */
    (void)signal(SIGPIPE, SIG_IGN); /* a dead peer is an error code, not our end */
    struct rlimit files = {.rlim_cur = FILES_WANTED, .rlim_max = FILES_WANTED};
    (void)setrlimit(RLIMIT_NOFILE, &files); /* as many as we are allowed */
    if (options.offline != NULL) {
        struct err err;
        r = options.offline(options.config.folder, &err);
        if (r < 0) {
            fprintf(stderr, "berthd: %s\n", err.text);
        }
        return r < 0 ? 1 : 0;
    }
    r = run(&options);
    secret_wipe(options.passphrase, sizeof(options.passphrase));
    secret_wipe(options.backup_passphrase, sizeof(options.backup_passphrase));
    return r;
}
