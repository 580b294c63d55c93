/* consensus/seal_file.h on a simulated disk, and the log that a run begins with. */
#include "base/require.h"
#include "consensus/log_seal.h"
#include "consensus/seal_file.h"
#include "sim_raft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TORN_SIZE 40 /* of a block: up to a field without which the rest says nothing */

/* ---- the seal's file ---- */

struct seal_file {
    struct sim_process *process;
};

int seal_file_open(const char *folder,
                   const char *name,
                   struct seal_file **ret_file,
                   struct err *err)
{
    struct seal_file *file = calloc(1, sizeof(*file));
    (void)folder;
    (void)name;
    (void)err;
    REQUIRE(file != NULL);
    file->process = sim_current()->running;
    *ret_file = file;
    return 0;
}

struct seal_file *seal_file_close(struct seal_file *file)
{
    free(file);
    return NULL;
}

const char *seal_file_path(const struct seal_file *file)
{
    (void)file;
    return "berth-seal";
}

int seal_file_read(struct seal_file *file,
                   size_t size_max,
                   uint8_t **ret_data,
                   size_t *ret_size,
                   struct err *err)
{
    const struct sim_disk *disk = &file->process->machine->disk;
    (void)err;
    REQUIRE(size_max >= SIM_SEAL_SIZE);
    if (!disk->has_seal) {
        return 0;
    }
    *ret_data = malloc(SIM_SEAL_SIZE);
    REQUIRE(*ret_data != NULL);
    memcpy(*ret_data, disk->seal, SIM_SEAL_SIZE);
    *ret_size = SIM_SEAL_SIZE;
    return 1;
}

int seal_file_create(struct seal_file *file,
                     const uint8_t *data,
                     size_t size,
                     struct err *err)
{
    struct sim_disk *disk = &file->process->machine->disk;
    int r = sim_backing_write_now(file->process->backing);
    REQUIRE(size == SIM_SEAL_SIZE);
    if (r != 0) {
        return err_set(err, -EIO, "create the seal: injected");
    }
    memcpy(disk->seal, data, size);
    disk->has_seal = true;
    return 0;
}

/* When the process dies in the middle half a block is there. */
static void put_block(uint8_t *at, const uint8_t block[SEAL_FILE_BLOCK], bool torn)
{
    memcpy(at, block, torn ? TORN_SIZE : SEAL_FILE_BLOCK);
}

int seal_file_write(struct seal_file *file,
                    uint64_t index,
                    const uint8_t block[SEAL_FILE_BLOCK],
                    struct err *err)
{
    struct sim_process *process = file->process;
    struct sim_disk *disk = &process->machine->disk;
    bool was_doomed = process->doomed;
    uint8_t *at = disk->seal + index * SEAL_FILE_BLOCK;
    if (process->cut != SIM_CUT_NONE) { /* nobody hears of it any more */
        put_block(at, block, process->cut == SIM_CUT_TORN);
        return 0;
    }
    int r = sim_backing_write_now(process->backing);
    if (r == 0) {
        put_block(at, block, false);
        return 0;
    }
    if (process->doomed && !was_doomed && world_chance(disk->world, 500)) {
        put_block(at, block, true);
    }
    return err_set(err, -EIO, "write the seal: injected");
}

/* ---- a first log ---- */

uint64_t sim_raft_sealed_index(struct sim_machine *machine)
{
    struct sim_process process = {.machine = machine};
    struct sim_process *before = machine->sim->running;
    struct log_seal seal;
    uint64_t index = 0;
    machine->sim->running = &process;
    if (log_seal_open(&seal, "raft", machine->raft_id, SIM_CLUSTER_ID, NULL) == 0) {
        index = seal.state.index;
        log_seal_close(&seal);
    }
    machine->sim->running = before;
    return index;
}

static void format_seal(struct sim_machine *machine)
{
    struct sim_process process = {.machine = machine};
    struct log_seal seal;
    machine->sim->running = &process;
    REQUIRE(log_seal_open(&seal, "raft", machine->raft_id, SIM_CLUSTER_ID, NULL) == 0);
    REQUIRE(log_seal_intend(&seal, 1, 0, NULL) == 0);
    REQUIRE(log_seal_settle(&seal, 0, 0, NULL) == 0);
    log_seal_close(&seal);
    machine->sim->running = NULL;
}

void sim_raft_format(struct sim *sim)
{
    struct raft_configuration members;
    struct raft_buffer buf;
    raft_configuration_init(&members);
    for (unsigned i = 0; i < sim->config.voters; i++) {
        REQUIRE(raft_configuration_add(&members, sim->machines[i].raft_id,
                                       sim->machines[i].address, RAFT_VOTER) == 0);
    }
    REQUIRE(raft_configuration_encode(&members, &buf) == 0);
    for (unsigned i = 0; i < sim->config.voters; i++) {
        struct sim_disk *disk = &sim->machines[i].disk;
        disk->term = 1;
        format_seal(&sim->machines[i]);
        sim_disk_format_entry(disk, 1, RAFT_CHANGE, buf.base, buf.len);
    }
    raft_free(buf.base);
    raft_configuration_close(&members);
}

void sim_raft_format_command(struct sim *sim, const void *frame, size_t size)
{
    for (unsigned i = 0; i < sim->config.voters; i++) {
        sim_disk_format_entry(&sim->machines[i].disk, 1, RAFT_COMMAND, frame, size);
    }
}
