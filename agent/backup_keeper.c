#include "agent/backup_keeper.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/secret_box.h"
#include "base/version.h"
#include "model/backup_file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM      "backup"
#define LOOK_MS   UINT64_C(60000)
#define SUFFIX    ".backup"
#define FILES_MAX 4096
#define PATH_SIZE ((size_t)2 * PATH_MAX)

struct backup_keeper {
    struct backup_keeper_config config;
    char folder[PATH_MAX];
    char host[NAME_SIZE];
    char passphrase[PASSPHRASE_SIZE_MAX];
    struct loop_timer *timer;
    struct backup_keeper_stats stats;
    bool busy; /* a read or a write is under way, which holds the keeper */
    bool closed;
    /* What the thread pool works on. */
    uv_work_t work;
    uint8_t *data;
    size_t size;
    uint64_t revision;
    uint64_t wall_ms;
    struct err err;
};

/* ---- files ---- */

struct files {
    char names[FILES_MAX][NAME_MAX + 1];
    unsigned count;
};

/* "20261126T221500Z-r": what we write begins so, and sorts by time. */
static bool is_ours(const char *name)
{
    static const char shape[] = "########T######Z-r";
    size_t length = strlen(name);
    if (length <= sizeof(SUFFIX) || strcmp(name + length - strlen(SUFFIX), SUFFIX) != 0) {
        return false;
    }
    for (size_t i = 0; shape[i] != '\0'; i++) {
        bool digit = name[i] >= '0' && name[i] <= '9';
        if (shape[i] == '#' ? !digit : name[i] != shape[i]) {
            return false;
        }
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Ours, oldest first; NULL when they cannot be listed. */
static struct files *files_list(const char *folder)
{
    struct files *files = calloc(1, sizeof(*files));
    DIR *stream = files != NULL ? opendir(folder) : NULL;
    if (stream == NULL) {
        free(files);
        return NULL;
    }
    const struct dirent *entry;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours
    while (files->count < FILES_MAX && (entry = readdir(stream)) != NULL) {
        if (is_ours(entry->d_name)) {
            memcpy(files->names[files->count++], entry->d_name,
                   strlen(entry->d_name) + 1);
        }
    }
    (void)closedir(stream);
    qsort(files->names, files->count, sizeof(files->names[0]), by_name);
    return files;
}

static void path_of(const struct backup_keeper *keeper, const char *name, char *path)
{
    (void)snprintf(path, PATH_SIZE, "%s/%s", keeper->folder, name);
}

/* A clock that was set back makes a file look younger than it is, never older. */
static bool is_due(const struct backup_keeper *keeper)
{
    struct files *files = files_list(keeper->folder);
    char path[PATH_SIZE];
    struct stat info;
    bool due = true;
    if (files != NULL && files->count > 0) {
        uint64_t now_ms = clock_wall_ms(keeper->config.clock);
        path_of(keeper, files->names[files->count - 1], path);
        uint64_t then_ms = stat(path, &info) == 0
                               ? (uint64_t)info.st_mtim.tv_sec * 1000 +
                                     (uint64_t)info.st_mtim.tv_nsec / NS_PER_MS
                               : 0;
        due = now_ms >= then_ms && now_ms - then_ms >= keeper->config.every_ms;
    }
    free(files);
    return due;
}

static void prune(const struct backup_keeper *keeper)
{
    struct files *files = files_list(keeper->folder);
    char path[PATH_SIZE];
    for (unsigned i = 0; files != NULL && i + keeper->config.keep < files->count; i++) {
        path_of(keeper, files->names[i], path);
        (void)unlink(path); /* tried again after the next one */
    }
    free(files);
}

static void name_of(const struct backup_keeper *keeper, char name[NAME_MAX])
{
    char stamp[CLOCK_STAMP_SIZE];
    clock_stamp(keeper->wall_ms, stamp);
    (void)snprintf(name, NAME_MAX, "%s-r%" PRIu64 SUFFIX, stamp, keeper->revision);
}

/* ---- one backup ---- */

/* In the thread pool: argon2id and the disk take their time. */
static void write_run(uv_work_t *work)
{
    struct backup_keeper *keeper = work->data;
    const struct secret_box_cost cost = secret_box_cost_default();
    CLEANUP_FREE uint8_t *box = NULL;
    size_t size = keeper->size;
    char name[NAME_MAX];
    char path[PATH_SIZE];
    int r = fd_make_folders(keeper->folder, &keeper->err);
    if (r == 0 && keeper->passphrase[0] != '\0') {
        r = secret_box_seal(keeper->passphrase, &cost, keeper->data, keeper->size, &box,
                            &size, &keeper->err);
    }
    if (r < 0) {
        return;
    }
    name_of(keeper, name);
    path_of(keeper, name, path);
    if (file_atomic_write(path, box != NULL ? box : keeper->data, size, 0600,
                          &keeper->err) == 0) {
        prune(keeper);
    }
}

static void keeper_free(struct backup_keeper *keeper)
{
    secret_wipe(keeper->passphrase, sizeof(keeper->passphrase));
    free(keeper);
}

/* Nothing is under way any more. */
static void settle(struct backup_keeper *keeper)
{
    keeper->busy = false;
    if (keeper->closed) {
        keeper_free(keeper);
    }
}

static void failed(struct backup_keeper *keeper)
{
    keeper->stats.failed++;
    log_error(ROOM, "no backup was made; it is tried again",
              KV_STR("why", keeper->err.text));
    settle(keeper);
}

static void write_done(uv_work_t *work, int status)
{
    struct backup_keeper *keeper = work->data;
    free(keeper->data);
    keeper->data = NULL;
    if (status < 0 && keeper->err.code == 0) {
        (void)err_sys(&keeper->err, status, "write a backup");
    }
    if (keeper->err.code < 0) {
        failed(keeper);
        return;
    }
    keeper->stats.made++;
    keeper->stats.last_wall_ms = keeper->wall_ms;
    log_info(ROOM, "backup made", KV_U64("revision", keeper->revision),
             KV_STR("folder", keeper->folder));
    settle(keeper);
}

static void read_done(void *context, int code)
{
    struct backup_keeper *keeper = context;
    const struct state *state = NULL;
    if (code == 0 && !keeper->closed) {
        state = keeper->config.state(keeper->config.context);
    }
    if (state == NULL) {
        settle(keeper); /* another host leads by now: its business */
        return;
    }
    keeper->err = (struct err){0};
    keeper->wall_ms = clock_wall_ms(keeper->config.clock);
    keeper->revision = state_revision(state);
    int r = backup_encode(state, keeper->wall_ms, BERTH_VERSION, keeper->host,
                          &keeper->data, &keeper->size, &keeper->err);
    keeper->work.data = keeper;
    if (r == 0 &&
        uv_queue_work(keeper->config.loop, &keeper->work, write_run, write_done) < 0) {
        free(keeper->data);
        keeper->data = NULL;
        r = err_sys(&keeper->err, -ENOMEM, "write a backup");
    }
    if (r < 0) {
        failed(keeper);
    }
}

static void look(void *context)
{
    struct backup_keeper *keeper = context;
    if (keeper->busy || !keeper->config.leads(keeper->config.context) ||
        !is_due(keeper)) {
        return;
    }
    keeper->busy = true;
    if (keeper->config.read(keeper->config.context, read_done, keeper) < 0) {
        keeper->busy = false; /* looked at again soon */
    }
}

/* ---- life ---- */

struct backup_keeper *backup_keeper_new(const struct backup_keeper_config *config)
{
    struct backup_keeper *keeper = calloc(1, sizeof(*keeper));
    if (keeper == NULL) {
        return NULL;
    }
    uint64_t look_ms = config->every_ms < LOOK_MS ? config->every_ms : LOOK_MS;
    keeper->config = *config;
    (void)snprintf(keeper->folder, sizeof(keeper->folder), "%s", config->folder);
    (void)snprintf(keeper->host, sizeof(keeper->host), "%s", config->host);
    (void)snprintf(keeper->passphrase, sizeof(keeper->passphrase), "%s",
                   config->passphrase != NULL ? config->passphrase : "");
    keeper->config.passphrase = NULL; /* ours is the copy */
    keeper->timer = loop_timer_new(config->loop, look_ms, look_ms, look, keeper);
    if (keeper->timer == NULL) {
        keeper_free(keeper);
        return NULL;
    }
    return keeper;
}

struct backup_keeper *backup_keeper_close(struct backup_keeper *keeper)
{
    if (keeper == NULL) {
        return NULL;
    }
    keeper->timer = loop_timer_close(keeper->timer);
    keeper->closed = true;
    if (!keeper->busy) {
        keeper_free(keeper);
    }
    return NULL;
}

void backup_keeper_stats(const struct backup_keeper *keeper,
                         struct backup_keeper_stats *ret_stats)
{
    *ret_stats = keeper->stats;
}
