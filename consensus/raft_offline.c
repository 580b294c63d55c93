#include "consensus/raft_offline.h"

#include "base/cleanup.h"
#include "consensus/entry_frame.h"
#include "consensus/log_copy.h"
#include "consensus/log_files.h"
#include "consensus/log_seal.h"
#include "consensus/raft_library.h"
#include "consensus/raft_members.h"
#include "consensus/snapshot_frame.h"

#include <raft.h>
#include <raft/uv.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library's disk, with a network that reaches nobody. */
struct disk {
    uv_loop_t loop;
    struct raft_uv_transport transport;
    struct raft_io io;
    struct log_seal seal;
    bool loop_ready;
    bool io_ready; /* raft_uv_init done */
    bool running;  /* io.init done: has to be closed */
};

/* ---- a network that reaches nobody ---- */

static int
nobody_init(struct raft_uv_transport *transport, raft_id id, const char *address)
{
    (void)transport;
    (void)id;
    (void)address;
    return 0;
}

static int nobody_listen(struct raft_uv_transport *transport, raft_uv_accept_cb accept)
{
    (void)transport;
    (void)accept;
    return 0;
}

static int nobody_connect(struct raft_uv_transport *transport,
                          struct raft_uv_connect *request,
                          raft_id id,
                          const char *address,
                          raft_uv_connect_cb done)
{
    (void)transport;
    (void)request;
    (void)id;
    (void)address;
    (void)done;
    return RAFT_NOCONNECTION;
}

static void nobody_close(struct raft_uv_transport *transport,
                         raft_uv_transport_close_cb done)
{
    done(transport);
}

/* ---- the disk ---- */

static int fail(struct disk *disk, const char *what, int status, struct err *err)
{
    int code = status == RAFT_NOMEM                                 ? -ENOMEM
               : status == RAFT_CORRUPT || status == RAFT_MALFORMED ? BERTH_ECORRUPT
               : status == RAFT_NOSPACE                             ? BERTH_EDISKFULL
                                                                    : -EIO;
    const char *text = disk->io.errmsg;
    return err_set(err, code, "%s: %s", what,
                   text[0] != '\0' ? text : raft_strerror(status));
}

static void on_closed(struct raft_io *io)
{
    bool *closed = io->data;
    *closed = true;
}

static void disk_close(struct disk *disk)
{
    bool closed = false;
    if (disk->running) {
        disk->io.data = &closed;
        disk->io.close(&disk->io, on_closed);
        while (!closed && uv_run(&disk->loop, UV_RUN_ONCE) != 0) {
        }
    }
    if (disk->io_ready) {
        raft_uv_close(&disk->io);
    }
    if (disk->loop_ready) {
        uv_run(&disk->loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&disk->loop); /* nothing is open in it any more */
    }
    log_seal_close(&disk->seal);
}

/* Of the log, with its files in `folder`, which libraft changes. */
static int disk_open(struct disk *disk,
                     const struct log_offline *log,
                     const char *folder,
                     struct err *err)
{
    *disk = (struct disk){.transport = {.impl = disk,
                                        .init = nobody_init,
                                        .listen = nobody_listen,
                                        .connect = nobody_connect,
                                        .close = nobody_close}};
    if (uv_loop_init(&disk->loop) < 0) {
        return err_sys(err, -ENOMEM, "open the log in %s", log->folder);
    }
    disk->loop_ready = true;
    raft_library_fit_transport(&disk->transport);
    int r = raft_uv_init(&disk->io, &disk->loop, folder, &disk->transport);
    if (r != 0) {
        return fail(disk, log->folder, r, err);
    }
    disk->io_ready = true;
    raft_uv_set_auto_recovery(&disk->io, false); /* it would drop what was promised */
    (void)raft_uv_set_snapshot_compression(&disk->io, false); /* as raft_backing.c */
    r = disk->io.init(&disk->io, log->id, log->address);
    if (r != 0) {
        return fail(disk, log->folder, r, err);
    }
    disk->running = true;
    return log_seal_open(&disk->seal, log->folder, log->id, log->cluster_id, err);
}

/* ---- reading ---- */

struct loaded {
    uint64_t term;
    raft_id vote;
    struct raft_snapshot *snapshot;
    raft_index start;
    struct raft_entry *entries;
    size_t count;
};

static void loaded_free(struct loaded *loaded)
{
    void *batch = NULL;
    for (size_t i = 0; i < loaded->count; i++) {
        if (loaded->entries[i].batch != batch) {
            batch = loaded->entries[i].batch;
            raft_free(batch);
        }
    }
    raft_free(loaded->entries);
    if (loaded->snapshot != NULL) {
        raft_configuration_close(&loaded->snapshot->configuration);
        for (unsigned i = 0; i < loaded->snapshot->n_bufs; i++) {
            raft_free(loaded->snapshot->bufs[i].base);
        }
        raft_free(loaded->snapshot->bufs);
        raft_free(loaded->snapshot);
    }
}

static enum consensus_role role_of(int role)
{
    switch (role) {
    case RAFT_VOTER:
        return CONSENSUS_ROLE_VOTER;
    case RAFT_STANDBY:
        return CONSENSUS_ROLE_STANDBY;
    default:
        return CONSENSUS_ROLE_SPARE;
    }
}

static void take_members(const struct raft_configuration *members,
                         struct log_facts *facts)
{
    facts->member_count = 0;
    for (unsigned i = 0; i < members->n && i < CONSENSUS_MEMBERS_MAX; i++) {
        const struct raft_server *server = &members->servers[i];
        struct consensus_member *member = &facts->members[facts->member_count++];
        *member =
            (struct consensus_member){.id = server->id, .role = role_of(server->role)};
        (void)snprintf(member->address, sizeof(member->address), "%s", server->address);
    }
}

static int
read_members(const struct raft_buffer *buf, struct log_facts *facts, struct err *err)
{
    struct raft_configuration members;
    int r = raft_members_decode(buf, &members);
    if (r < 0) {
        return err_set(err, r, "a list of members in the log is damaged");
    }
    take_members(&members, facts);
    raft_configuration_close(&members);
    return 0;
}

static int give_entry(const struct consensus_fsm *fsm,
                      uint64_t index,
                      const struct raft_entry *entry,
                      struct err *err)
{
    struct entry_frame_reader reader;
    const uint8_t *command = NULL;
    size_t size = 0;
    int r = entry_frame_open(&reader, entry->buf.base, entry->buf.len, err);
    if (r < 0) {
        return err_wrap(err, r, "entry %llu", (unsigned long long)index);
    }
    while (entry_frame_next(&reader, &command, &size)) {
        fsm->apply(fsm->context, index, command, size, NULL);
    }
    return 0;
}

static int give_snapshot(const struct consensus_fsm *fsm,
                         const struct raft_snapshot *snapshot,
                         struct err *err)
{
    const uint8_t *data = NULL;
    size_t size = 0;
    int r =
        snapshot_frame_open(snapshot->bufs[0].base, snapshot->bufs[0].len, &data, &size);
    r = r == 0 ? fsm->restore(fsm->context, data, size) : r;
    return r == 0 ? 0
                  : err_sys(err, r, "the snapshot at %llu",
                            (unsigned long long)snapshot->index);
}

static int give_all(const struct loaded *loaded,
                    const struct consensus_fsm *fsm,
                    struct log_facts *facts,
                    struct err *err)
{
    const struct raft_snapshot *snapshot = loaded->snapshot;
    int r = 0;
    if (snapshot != NULL) {
        take_members(&snapshot->configuration, facts);
        facts->last_index = snapshot->index;
        facts->last_term = snapshot->term;
        r = give_snapshot(fsm, snapshot, err);
    }
    for (size_t i = 0; i < loaded->count && r == 0; i++) {
        const struct raft_entry *entry = &loaded->entries[i];
        uint64_t index = loaded->start + i;
        if (snapshot != NULL && index <= snapshot->index) {
            continue; /* kept behind the snapshot for members that lag */
        }
        facts->last_index = index;
        facts->last_term = entry->term;
        if (entry->type == RAFT_COMMAND) {
            r = give_entry(fsm, index, entry, err);
        } else if (entry->type == RAFT_CHANGE) {
            r = read_members(&entry->buf, facts, err);
        }
    }
    return r;
}

static uint64_t term_at(const struct loaded *loaded, uint64_t index)
{
    return index >= loaded->start && index < loaded->start + loaded->count
               ? loaded->entries[index - loaded->start].term
               : 0;
}

static int
find_damage(const struct log_offline *log, struct log_facts *facts, struct err *err)
{
    struct err damage = {0};
    int r = log_files_check(log->folder, &damage);
    if (r < 0 && r != BERTH_ECORRUPT) {
        return err_set(err, r, "load the log: %s", damage.text);
    }
    (void)snprintf(facts->damage, sizeof(facts->damage), "%.*s",
                   (int)sizeof(facts->damage) - 1, damage.text);
    return 0;
}

static int load(struct disk *disk, struct loaded *ret_loaded, struct err *err)
{
    struct loaded loaded = {0};
    raft_term term = 0;
    int r = disk->io.load(&disk->io, &term, &loaded.vote, &loaded.snapshot, &loaded.start,
                          &loaded.entries, &loaded.count);
    if (r != 0) {
        return fail(disk, "load the log", r, err);
    }
    loaded.term = term;
    *ret_loaded = loaded;
    return 0;
}

/* With libraft's files in `folder`; only read of the log itself. */
static int read_from(const struct log_offline *log,
                     const char *folder,
                     const struct consensus_fsm *fsm,
                     struct log_facts *facts,
                     struct err *err)
{
    struct disk disk;
    struct loaded loaded = {0};
    int r = disk_open(&disk, log, folder, err);
    r = r == 0 ? load(&disk, &loaded, err) : r;
    if (r == 0 && loaded.term == 0 && loaded.count == 0 && loaded.snapshot == NULL &&
        disk.seal.state.term == 0) {
        r = err_set(err, BERTH_ENOTFOUND, "nothing is in the log in %s", log->folder);
    }
    if (r == 0) {
        uint64_t last = loaded.start + loaded.count - 1;
        r = log_seal_check(&disk.seal, loaded.term, loaded.vote, last,
                           term_at(&loaded, disk.seal.state.index), err);
    }
    facts->term = loaded.term;
    r = r == 0 ? give_all(&loaded, fsm, facts, err) : r;
    loaded_free(&loaded);
    disk_close(&disk);
    return r;
}

static int has_seal(const struct log_offline *log, struct err *err)
{
    struct log_seal seal;
    int r = log_seal_open(&seal, log->folder, log->id, log->cluster_id, err);
    if (r == 0 && !seal.present) {
        r = err_set(err, BERTH_ENOTFOUND, "there is no log in %s", log->folder);
    }
    log_seal_close(&seal);
    return r;
}

int log_offline_read(const struct log_offline *log,
                     const struct consensus_fsm *fsm,
                     struct log_facts *ret_facts,
                     struct err *err)
{
    struct log_copy copy = {.folder = ""};
    struct log_facts facts = {0};
    int r = has_seal(log, err);
    r = r == 0 ? find_damage(log, &facts, err) : r;
    r = r == 0 ? log_copy_make(log->folder, &copy, err) : r;
    r = r == 0 ? read_from(log, copy.folder, fsm, &facts, err) : r;
    log_copy_remove(&copy);
    if (r == 0) {
        *ret_facts = facts;
    }
    return r;
}

/* ---- making ---- */

static int find_empty(const char *folder, struct err *err)
{
    const struct dirent *entry;
    DIR *stream = opendir(folder);
    if (stream == NULL) {
        return err_sys(err, -errno, "open %s", folder);
    }
    int r = 0;
    errno = 0;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours
    while (r == 0 && (entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            r = err_set(err, BERTH_EEXISTS, "there is a log in %s", folder);
        }
    }
    r = r == 0 && errno != 0 ? err_sys(err, -errno, "list %s", folder) : r;
    (void)closedir(stream);
    return r;
}

static void on_put(struct raft_io_snapshot_put *put, int status)
{
    int *ret_status = put->data;
    *ret_status = status;
}

static int
put_snapshot(struct disk *disk, const struct raft_snapshot *snapshot, struct err *err)
{
    enum { UNDER_WAY = -1 };
    int status = UNDER_WAY;
    struct raft_io_snapshot_put put = {.data = &status};
    int r = disk->io.snapshot_put(&disk->io, 0, &put, snapshot, on_put);
    while (r == 0 && status == UNDER_WAY && uv_run(&disk->loop, UV_RUN_ONCE) != 0) {
    }
    r = r == 0 ? status : r;
    return r == 0 ? 0 : fail(disk, "store the state", r, err);
}

/* In an empty folder. */
static int make(struct disk *disk,
                const struct log_offline *log,
                uint64_t term,
                uint64_t index,
                struct raft_buffer bufs[2],
                struct err *err)
{
    struct loaded loaded = {0};
    int r = load(disk, &loaded, err); /* of nothing: only then libraft stores */
    loaded_free(&loaded);
    if (r < 0) {
        return r;
    }
    struct raft_snapshot snapshot = {.index = index,
                                     .term = term,
                                     .configuration_index = index,
                                     .bufs = bufs,
                                     .n_bufs = 2};
    raft_configuration_init(&snapshot.configuration);
    r = raft_configuration_add(&snapshot.configuration, log->id, log->address,
                               RAFT_VOTER);
    r = r == 0 ? 0 : fail(disk, "list the only voter", r, err);
    r = r == 0 ? log_seal_intend(&disk->seal, term, 0, err) : r;
    if (r == 0) {
        int status = disk->io.set_term(&disk->io, term);
        r = status == 0 ? put_snapshot(disk, &snapshot, err)
                        : fail(disk, "store the term", status, err);
    }
    raft_configuration_close(&snapshot.configuration);
    return r;
}

int log_offline_make(const struct log_offline *log,
                     uint64_t term,
                     uint64_t index,
                     const void *state,
                     size_t state_size,
                     struct err *err)
{
    struct disk disk;
    uint8_t frame[SNAPSHOT_FRAME_SIZE];
    if (state_size == 0 || state_size > SNAPSHOT_SIZE_MAX) {
        return err_set(err, BERTH_ETOOLARGE, "a state of %zu bytes fits no log",
                       state_size);
    }
    snapshot_frame_make(state, state_size, frame);
    struct raft_buffer bufs[2] = {
        {.base = frame, .len = sizeof(frame)},
        {.base = (void *)(uintptr_t)state, .len = state_size},
    };
    int r = find_empty(log->folder, err);
    if (r < 0) {
        return r;
    }
    r = disk_open(&disk, log, log->folder, err);
    r = r == 0 ? make(&disk, log, term, index, bufs, err) : r;
    disk_close(&disk);
    return r;
}
