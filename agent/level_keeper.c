#include "agent/level_keeper.h"

#include "agent/level_file.h"
#include "base/log.h"
#include "base/work_pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct level_keeper {
    char *folder;
    uint32_t told;     /* the newest */
    uint32_t written;  /* what the file says, as far as is known; 0: nothing */
    uint64_t again_ms; /* monotonic: job_level is not tried again before; it failed */
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
    keeper->told = keeper->written = written;
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

static void write_done(struct work_job *job, int code)
{
    struct level_keeper *keeper = LIST_ITEM(job, struct level_keeper, job);
    keeper->writing = false;
    if (work_job_make_up(job, code) == 0 && keeper->job_err.code == 0) {
        keeper->written = keeper->job_level;
    } else if (code != BERTH_ECLOSED) {
        log_warn("berthd", "the cluster's level cannot be written down",
                 KV_STR("why", keeper->job_err.text));
    }
    if (keeper->job_level != keeper->told) {
        submit(keeper); /* another came meanwhile */
    }
}

static void submit(struct level_keeper *keeper)
{
    keeper->writing = true;
    keeper->job_level = keeper->told;
    work_pool_submit(keeper->disk, &keeper->job, write_level, write_done);
}

void level_keeper_tell(struct level_keeper *keeper, uint32_t level, uint64_t now_ms)
{
    bool failed_lately = level == keeper->job_level && now_ms < keeper->again_ms;
    keeper->told = level;
    if (level == keeper->written || keeper->writing || failed_lately) {
        return;
    }
    keeper->again_ms = now_ms + LEVEL_KEEPER_RETRY_MS;
    submit(keeper);
}

struct level_keeper *level_keeper_close(struct level_keeper *keeper)
{
    if (keeper == NULL) {
        return NULL;
    }
    if (keeper->disk != NULL) {
        work_pool_drain(keeper->disk);
        if (keeper->told != keeper->written) {
            submit(keeper); /* the disk may have room by now */
            work_pool_drain(keeper->disk);
        }
    }
    work_pool_close(keeper->disk);
    free(keeper->folder);
    free(keeper);
    return NULL;
}
