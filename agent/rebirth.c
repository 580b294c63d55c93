#include "agent/rebirth.h"

#include "agent/level_file.h"
#include "agent/log_mark.h"
#include "agent/members.h"
#include "agent/orders.h"
#include "agent/voters.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/log.h"
#include "base/random.h"
#include "base/secret_box.h"
#include "base/state_file.h"
#include "base/where.h"
#include "model/backup_file.h"
#include "model/command.h"
#include "model/state_rebirth.h"
#include "scheduler/host_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROOM        "rebirth"
#define LOG_FOLDER  LOG_MARK_FOLDER
#define NEW_FOLDER  "raft.new"
#define REASON_SIZE 128

#define ASIDE_PREFIX   "left-"
#define ASIDE_SIZE     64
#define ASIDE_KEPT_MAX 65536 /* host.json is some hundred bytes */

static bool is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* ---- leases of before ---- */

/* Whoever leads no more may have renewed a lease just before this was asked for. */
static void wait_leases_out(const struct clock *clock)
{
    uint64_t end_ns = clock_now_ns(clock) + host_watch_lease_over_ns();
    uint64_t now_ns;
    WHERE("wait until no lease from before is valid");
    log_info(ROOM, "waiting until no lease from before is valid",
             KV_U64("ms", host_watch_lease_over_ns() / NS_PER_MS));
    while ((now_ns = clock_now_ns(clock)) < end_ns) {
        uint64_t left_ns = end_ns - now_ns;
        struct timespec pause = {.tv_sec = (time_t)(left_ns / NS_PER_S),
                                 .tv_nsec = (long)(left_ns % NS_PER_S)};
        (void)nanosleep(&pause, NULL); /* the clock decides */
    }
}

/* ---- a new log ---- */

/* Makes <state>/raft.new; it becomes the log when it is whole. */
static int log_make(const struct identity *identity,
                    uint64_t cluster_id,
                    uint64_t term,
                    uint64_t index,
                    const struct state *state,
                    struct err *err)
{
    char folder[PATH_MAX];
    char address[MESH_ADDRESS_SIZE];
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    identity_path(identity, NEW_FOLDER, folder, sizeof(folder));
    identity_address_text(identity->address, identity->raft_port, address);
    int r = fd_remove_tree(folder, err); /* of an attempt that was cut off */
    r = r == 0 ? fd_make_folders(folder, err) : r;
    if (r < 0) {
        return r;
    }
    r = state_encode(state, &data, &size);
    if (r < 0) {
        return err_sys(err, r, "write the state");
    }
    const struct log_offline log = {.folder = folder,
                                    .id = identity_raft_id(&identity->key),
                                    .cluster_id = cluster_id,
                                    .address = address};
    return log_offline_make(&log, term, index, data, size, err);
}

/* raft.new becomes raft; what was there is kept as raft.before-STAMP. */
static int log_take(const struct identity *identity, uint64_t wall_ms, struct err *err)
{
    char now[PATH_MAX];
    char new[PATH_MAX];
    char before[PATH_MAX];
    char stamp[CLOCK_STAMP_SIZE];
    char name[64];
    clock_stamp(wall_ms, stamp);
    (void)snprintf(name, sizeof(name), LOG_FOLDER ".before-%s", stamp);
    identity_path(identity, LOG_FOLDER, now, sizeof(now));
    identity_path(identity, NEW_FOLDER, new, sizeof(new));
    identity_path(identity, name, before, sizeof(before));
    if (is_there(now)) {
        /* Both at once: there is a log at any moment, the old or the new. The old one is
         * never where the next attempt begins by removing what an earlier one left. */
        if (rename(new, before) < 0 ||
            renameat2(AT_FDCWD, before, AT_FDCWD, now, RENAME_EXCHANGE) < 0) {
            return err_sys(err, -errno, "put the new log in the place of %s", now);
        }
        log_info(ROOM, "the log of before is kept", KV_STR("folder", before));
    } else if (rename(new, now) < 0) {
        return err_sys(err, -errno, "put the new log into %s", now);
    }
    return fd_sync_folder(identity->folder, err);
}

/* ---- restore ---- */

static int backup_read(const char *file,
                       const char *passphrase,
                       struct backup_info *info,
                       struct state *state,
                       struct err *err)
{
    CLEANUP_FREE uint8_t *bytes = NULL;
    CLEANUP_FREE uint8_t *plain = NULL;
    size_t size = 0;
    uint32_t level = 0;
    int r = fd_read_file(AT_FDCWD, file, BACKUP_SIZE_MAX, &bytes, &size, err);
    if (r < 0) {
        return r;
    }
    const uint8_t *backup = bytes;
    if (secret_box_is(bytes, size)) {
        r = secret_box_open(passphrase, bytes, size, &plain, &size, err);
        backup = plain;
    }
    r = r == 0 ? backup_load(backup, size, info, &level, state, err) : r;
    return r == 0 ? 0 : err_wrap(err, r, "%s", file);
}

static int restore_state(struct identity *identity,
                         const struct backup_info *info,
                         struct state *state,
                         const struct clock *clock,
                         struct err *err)
{
    char reason[REASON_SIZE];
    uint64_t wall_ms = clock_wall_ms(clock);
    uint64_t cluster_id = 0;
    (void)snprintf(reason, sizeof(reason),
                   "the cluster was restored from a backup of revision %" PRIu64,
                   info->revision);
    const struct rebirth rebirth = {
        /* A clock that is behind must not make counters meet. */
        .wall_ms = wall_ms > info->saved_wall_ms ? wall_ms : info->saved_wall_ms,
        .new_cluster = true,
        .reason = reason,
    };
    int r = state_rebirth(state, &rebirth, err);
    random_secret(&cluster_id, sizeof(cluster_id));
    r = r == 0 ? log_make(identity, cluster_id, rebirth_jump(0, rebirth.wall_ms), 1,
                          state, err)
               : r;
    r = r == 0 ? log_take(identity, wall_ms, err) : r;
    if (r < 0) {
        return r;
    }
    /* Last: without it the log is nobody's, and the next attempt begins anew. */
    identity->cluster_id = cluster_id;
    identity->founder = true;
    log_info(ROOM, "a backup was restored", KV_U64("revision", info->revision),
             KV_STR("from", info->host));
    return identity_save(identity, err);
}

int rebirth_restore(struct identity *identity,
                    const char *file,
                    const char *passphrase,
                    const struct clock *clock,
                    struct err *err)
{
    struct backup_info info = {0};
    if (identity->uid != 0 || identity->founder) {
        return err_set(err, BERTH_EEXISTS,
                       "this host is a member of a cluster already: a backup is restored "
                       "into a new one");
    }
    struct state *state = state_new(NULL, NULL);
    if (state == NULL) {
        return err_sys(err, -ENOMEM, "restore %s", file);
    }
    int r = backup_read(file, passphrase, &info, state, err);
    if (r == 0) {
        wait_leases_out(clock);
        r = restore_state(identity, &info, state, clock, err);
    }
    record_fini(&backup_info_record, &info);
    state_free(state);
    return r;
}

/* ---- looking ---- */

struct replay {
    struct state *state;
    struct err err; /* of the first command that cannot be read */
};

static void replay_apply(void *context,
                         uint64_t index,
                         const void *data,
                         size_t size,
                         struct consensus_result *ret_result)
{
    struct replay *replay = context;
    struct bytes_reader reader;
    struct command command;
    struct apply_result result;
    (void)ret_result;
    bytes_reader_init(&reader, data, size);
    int r = replay->err.code == 0 ? command_decode(&reader, &command) : -1;
    if (r == 0) {
        state_apply(replay->state, &command, &result);
        command_fini(&command);
    } else if (replay->err.code == 0 && r == BERTH_ELEVEL) {
        char why[256];
        level_refusal(level_range_up_to(0), command.level, why);
        (void)err_set(&replay->err, r, "%s", why);
    } else if (replay->err.code == 0) {
        (void)err_sys(
            &replay->err, r,
            "log entry %" PRIu64 " holds a command that this berthd cannot read", index);
    }
}

static int replay_restore(void *context, const void *data, size_t size)
{
    struct replay *replay = context;
    return state_decode(replay->state, data, size, &replay->err);
}

int rebirth_look(const struct identity *identity,
                 struct rebirth_log *ret_log,
                 struct err *err)
{
    char folder[PATH_MAX];
    char forgetting[PATH_MAX];
    char address[MESH_ADDRESS_SIZE];
    struct replay replay = {.state = state_new(NULL, NULL)};
    const struct consensus_fsm fsm = {
        .context = &replay, .apply = replay_apply, .restore = replay_restore};
    identity_path(identity, LOG_FOLDER, folder, sizeof(folder));
    identity_address_text(identity->address, identity->raft_port, address);
    const struct log_offline log = {.folder = folder,
                                    .id = identity_raft_id(&identity->key),
                                    .cluster_id = identity->cluster_id,
                                    .address = address};
    if (replay.state == NULL) {
        return err_sys(err, -ENOMEM, "read the log");
    }
    identity_path(identity, STATE_FILE_FORGETTING, forgetting, sizeof(forgetting));
    int r =
        identity->uid == 0
            ? err_set(err, BERTH_ENOTFOUND, "this host is a member of no cluster")
        : is_there(forgetting)
            ? err_set(err, BERTH_ENOTFOUND,
                      "this host was told to forget its cluster, and was interrupted: "
                      "berth down --forget ends that")
            : log_offline_read(&log, &fsm, &ret_log->facts, err);
    if (replay.err.code != 0) {
        r = err_set(err, replay.err.code, "%s", replay.err.text);
    }
    if (r == 0 && state_host(replay.state, identity->uid) == NULL) {
        r = err_set(err, BERTH_ENOTFOUND,
                    "what the log of this host holds does not know this host: it had "
                    "not caught up");
    }
    if (r < 0) {
        state_free(replay.state);
        return r;
    }
    ret_log->state = replay.state;
    return 0;
}

void rebirth_log_fini(struct rebirth_log *log)
{
    log->state = state_free(log->state);
}

static json_t *members_document(const struct identity *identity,
                                const struct rebirth_log *log)
{
    static const char *const roles[] = {"none", "spare", "standby", "voter"};
    json_t *members = json_array();
    for (size_t i = 0; i < log->facts.member_count; i++) {
        const struct consensus_member *member = &log->facts.members[i];
        const struct host *host = voters_find_host(log->state, member->id);
        json_array_append_new(
            members, json_pack("{s:s, s:s, s:s, s:b}", "name",
                               host != NULL ? host->meta.name : "unknown", "address",
                               member->address, "role", roles[member->role], "self",
                               member->id == identity_raft_id(&identity->key)));
    }
    return members;
}

static json_t *newest_document(const struct state *state)
{
    size_t cursor = 0;
    const struct event *event;
    const struct event *newest = NULL;
    char when[CLOCK_TEXT_SIZE];
    while ((event = state_event_next(state, 0, &cursor)) != NULL) {
        newest = event;
    }
    if (newest == NULL) {
        return json_object();
    }
    clock_format(newest->wall_ms, when);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "time", when, "kind",
                     kind_info(newest->kind)->word, "tenant", newest->tenant, "name",
                     newest->name, "verb", newest->verb);
}

json_t *rebirth_log_document(const struct identity *identity,
                             const struct rebirth_log *log)
{
    json_t *counts = json_object();
    for (enum kind kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        json_object_set_new(counts, kind_info(kind)->plural,
                            json_integer((json_int_t)state_count(log->state, kind)));
    }
    return json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:s, s:I, s:o, s:o, s:o}", "host", identity->name,
        "folder", identity->folder, "term", (json_int_t)log->facts.term, "lastIndex",
        (json_int_t)log->facts.last_index, "lastTerm", (json_int_t)log->facts.last_term,
        "damage", log->facts.damage, "revision", (json_int_t)state_revision(log->state),
        "members", members_document(identity, log), "objects", counts, "newest",
        newest_document(log->state));
}

/* ---- recover ---- */

struct survivors {
    const struct identity *identity;
    const struct log_facts *facts;
};

static bool votes(void *context, const struct host *host)
{
    const struct survivors *survivors = context;
    return host->meta.uid == survivors->identity->uid;
}

/* This host, and those that had no part in the log: they only obey. */
static bool keeps(void *context, const struct host *host)
{
    const struct survivors *survivors = context;
    uint64_t id = identity_raft_id_of(&host->status.public_key);
    bool part = host->status.voter != VOTER_NONE;
    for (size_t i = 0; i < survivors->facts->member_count; i++) {
        part = part || survivors->facts->members[i].id == id;
    }
    return votes(context, host) || !part;
}

/* So that the others are refused from the first moment on, not from the first orders. */
static int
members_write(const struct identity *identity, const struct state *state, struct err *err)
{
    struct members members;
    struct msg_member_list list = {0};
    bool changed = false;
    int r = members_open(identity->folder, &members, err);
    if (r < 0) {
        return r;
    }
    r = orders_members(state, &list);
    r = r < 0 ? err_sys(err, r, "list the members")
              : members_set(&members, &list, &changed, err);
    free(list.items);
    members_fini(&members);
    return r;
}

static int recover_state(struct identity *identity,
                         struct rebirth_log *log,
                         const struct clock *clock,
                         struct err *err)
{
    char reason[REASON_SIZE];
    struct survivors survivors = {.identity = identity, .facts = &log->facts};
    uint64_t wall_ms = clock_wall_ms(clock);
    (void)snprintf(reason, sizeof(reason),
                   "the cluster was recovered on host %s at revision %" PRIu64,
                   identity->name, state_revision(log->state));
    const struct rebirth rebirth = {.wall_ms = wall_ms,
                                    .reason = reason,
                                    .keeps = keeps,
                                    .votes = votes,
                                    .context = &survivors};
    int r = state_rebirth(log->state, &rebirth, err);
    r = r == 0 ? log_make(identity, identity->cluster_id,
                          rebirth_jump(log->facts.term, wall_ms),
                          log->facts.last_index + 1, log->state, err)
               : r;
    r = r == 0 ? members_write(identity, log->state, err) : r;
    return r == 0 ? log_take(identity, wall_ms, err) : r;
}

int rebirth_recover(struct identity *identity, const struct clock *clock, struct err *err)
{
    struct rebirth_log log = {0};
    int r = rebirth_look(identity, &log, err);
    if (r == 0) {
        wait_leases_out(clock);
        r = recover_state(identity, &log, clock, err);
    }
    rebirth_log_fini(&log);
    return r;
}

/* ---- forgetting ---- */

/* The name of the folder beside, written down before anything goes there, and gone when
 * all is done: half way, this host would be a voter that has lost its log. */
static int aside_name(const struct identity *identity,
                      const struct clock *clock,
                      char ret_name[ASIDE_SIZE],
                      struct err *err)
{
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    char path[PATH_MAX];
    char stamp[CLOCK_STAMP_SIZE];
    identity_path(identity, STATE_FILE_FORGETTING, path, sizeof(path));
    int r = fd_read_file(AT_FDCWD, path, ASIDE_SIZE - 1, &text, &size, err);
    if (r == 0) {
        (void)snprintf(ret_name, ASIDE_SIZE, "%s", (const char *)text);
        return strncmp(ret_name, ASIDE_PREFIX, strlen(ASIDE_PREFIX)) == 0 &&
                       strchr(ret_name, '/') == NULL
                   ? 0
                   : err_set(err, BERTH_ECORRUPT, "%s: names no folder", path);
    }
    if (r != -ENOENT) {
        return r;
    }
    clock_stamp(clock_wall_ms(clock), stamp);
    (void)snprintf(ret_name, ASIDE_SIZE, ASIDE_PREFIX "%s", stamp);
    return file_atomic_write(path, ret_name, strlen(ret_name), 0600, err);
}

/* Without links, which not every file system has: to be seen whole or not at all. */
static int copy_aside(const char *from, const char *to, struct err *err)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    int r = fd_read_file(AT_FDCWD, from, ASIDE_KEPT_MAX, &data, &size, err);
    if (r == -ENOENT) {
        *err = (struct err){0};
        return 0;
    }
    return r < 0 ? r : file_atomic_write(to, data, size, 0600, err);
}

/* What is there already stays: it was put aside before we were interrupted, and what has
 * its name now was made since. With `keep` it stays in its place as well. */
static int put_aside(const struct identity *identity,
                     const char *aside,
                     const char *name,
                     bool keep,
                     struct err *err)
{
    char from[PATH_MAX];
    char to[PATH_MAX + 16];
    identity_path(identity, name, from, sizeof(from));
    (void)snprintf(to, sizeof(to), "%s/%s", aside, name);
    if (is_there(to)) {
        return 0;
    }
    if (keep) {
        int r = copy_aside(from, to, err);
        return r < 0 ? err_wrap(err, r, "put %s aside", from) : 0;
    }
    return rename(from, to) == 0 || errno == ENOENT
               ? 0
               : err_sys(err, -errno, "put %s aside", from);
}

int rebirth_forget(struct identity *identity, const struct clock *clock, struct err *err)
{
    static const char *const moved[] = {LOG_MARK_FILE, LOG_FOLDER,     NEW_FOLDER,
                                        "members.bin", STATE_FILE_KEY, "lease",
                                        LEVEL_FILE};
    char name[ASIDE_SIZE];
    char aside[PATH_MAX];
    char path[PATH_MAX];
    int r = aside_name(identity, clock, name, err);
    identity_path(identity, name, aside, sizeof(aside));
    r = r == 0 ? fd_make_folders(aside, err) : r;
    r = r == 0 ? put_aside(identity, aside, STATE_FILE_HOST, true, err) : r;
    for (size_t i = 0; i < ARRAY_COUNT(moved) && r == 0; i++) {
        r = put_aside(identity, aside, moved[i], false, err);
    }
    /* Epochs of VMs that are another cluster's by now. */
    identity_path(identity, "vms", path, sizeof(path));
    r = r == 0 ? fd_remove_tree(path, err) : r;
    if (r < 0) {
        return r;
    }
    identity->uid = 0;
    identity->cluster_id = 0;
    identity->founder = false;
    r = identity_save(identity, err); /* syncs the folder, with all that was moved */
    identity_path(identity, STATE_FILE_FORGETTING, path, sizeof(path));
    if (r == 0 && unlink(path) < 0) {
        r = err_sys(err, -errno, "remove %s", path);
    }
    return r == 0 ? fd_sync_folder(identity->folder, err) : r;
}

int rebirth_forget_resume(const char *folder, const struct clock *clock, struct err *err)
{
    struct identity identity;
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/" STATE_FILE_FORGETTING, folder);
    if (length < 0 || (size_t)length >= sizeof(path) || !is_there(path)) {
        return 0;
    }
    int r = identity_open(folder, &identity, err);
    if (r < 0) {
        return r;
    }
    log_warn(ROOM, "this host was interrupted while it forgot its cluster, and goes on");
    r = rebirth_forget(&identity, clock, err);
    identity_fini(&identity);
    return r;
}
