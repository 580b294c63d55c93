#include "agent/level_keeper.h"

#include "agent/level_file.h"
#include "base/log.h"
#include "base/work_pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct level_keeper {
    char *folder;
    uint32_t level; /* the newest that was told */
    struct work_pool *disk;
    struct work_job job;
    bool writing; /* the job is under way */
    uint32_t job_level;
    struct err job_err; /* the thread's, until the job is done */
};

struct level_keeper *
level_keeper_new(uv_loop_t *loop, const char *folder, uint32_t written)
{
    struct level_keeper *keeper = calloc(1, sizeof(*keeper));
    if (keeper == NULL || (keeper->folder = strdup(folder)) == NULL ||
        (keeper->disk = work_pool_new(loop, 1, 1)) == NULL) {
        return level_keeper_close(keeper);
    }
    keeper->level = written;
    return keeper;
}

static void write_level(struct work_job *job)
{
    struct level_keeper *keeper = LIST_ITEM(job, struct level_keeper, job);
    keeper->job_err = (struct err){0};
    (void)level_file_write(keeper->folder, keeper->job_level,
                           &keeper->job_err); /* told by its err */
}

static void submit(struct level_keeper *keeper);

static void written(struct work_job *job, int code)
{
    struct level_keeper *keeper = LIST_ITEM(job, struct level_keeper, job);
    if (code < 0) {
        write_level(job); /* without a thread: the loop waits */
    }
    if (keeper->job_err.code < 0) {
        log_warn("berthd", "the cluster's level cannot be written down",
                 KV_STR("why", keeper->job_err.text));
    }
    keeper->writing = false;
    if (keeper->job_level != keeper->level) {
        submit(keeper); /* another came meanwhile */
    }
}

static void submit(struct level_keeper *keeper)
{
    keeper->writing = true;
    keeper->job_level = keeper->level;
    work_pool_submit(keeper->disk, &keeper->job, write_level, written);
}

void level_keeper_tell(struct level_keeper *keeper, uint32_t level)
{
    if (level == keeper->level) {
        return;
    }
    keeper->level = level;
    if (!keeper->writing) {
        submit(keeper);
    }
}

struct level_keeper *level_keeper_close(struct level_keeper *keeper)
{
    if (keeper == NULL) {
        return NULL;
    }
    if (keeper->disk != NULL) {
        work_pool_drain(keeper->disk);
    }
    work_pool_close(keeper->disk);
    free(keeper->folder);
    free(keeper);
    return NULL;
}
