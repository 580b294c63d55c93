#include "model/objects.h"
#include "sim.h"

void sim_host_open(struct sim_process *process)
{
    (void)process;
}

void sim_host_close(struct sim_process *process)
{
    (void)process;
}

void sim_host_leadership(struct sim_process *process, bool is_leader, uint64_t term)
{
    (void)process;
    (void)is_leader;
    (void)term;
}

void sim_host_change(struct sim_process *process, const struct change *change)
{
    (void)process;
    (void)change;
}

void sim_host_restored(struct sim_process *process)
{
    (void)process;
}

void sim_host_power_off(struct sim_machine *machine)
{
    (void)machine;
}

void sim_host_describe(const struct sim_machine *machine, struct host_status *ret_status)
{
    ret_status->address = UINT32_C(0x0a000001) + machine->index;
    ret_status->mesh_port = 7440;
    ret_status->raft_port = SIM_PORT_RAFT;
    ret_status->public_key = identity_key_digest(&machine->key);
    ret_status->cpu_mcpu = 8000;
    ret_status->memory_bytes = UINT64_C(8) << 30;
    ret_status->disk_bytes = UINT64_C(100) << 30;
}
