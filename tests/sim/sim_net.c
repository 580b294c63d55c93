#include "base/require.h"
#include "sim.h"

#include <stdlib.h>

#define DELAY_MIN_NS (60 * UINT64_C(1000)) /* one way through a rack's switch */
#define DELAY_MAX_NS (400 * UINT64_C(1000))

static void packet_unref(struct sim_packet *packet)
{
    if (--packet->arrivals == 0) {
        list_remove(&packet->link);
        packet->fini(packet);
    }
}

bool sim_net_is_cut(const struct sim *sim, unsigned from, unsigned to)
{
    return from != to && sim->links[from][to].cuts > 0;
}

/* A paused process leaves the packet in its socket, where no cut reaches it any more; a
 * dead one has none. `socket`: the life of the process in whose socket it is; 0: under
 * way. */
static void on_arrival(void *context, uint64_t socket)
{
    struct sim_packet *packet = context;
    struct sim *sim = packet->sim;
    if (socket == 0 && sim_net_is_cut(sim, packet->from, packet->to)) {
        packet_unref(packet);
        return;
    }
    if (packet->to >= SIM_MACHINES_MAX) {
        packet->arrive(packet, NULL);
        packet_unref(packet);
        return;
    }
    struct sim_process *process = sim->machines[packet->to].process;
    if (process == NULL || process->doomed) {
        packet_unref(packet);
        return;
    }
    struct world_owner *owner = &process->machine->berthd;
    if (socket != 0 && socket != owner->life) {
        packet_unref(packet);
        return;
    }
    if (owner->paused_until_ns > sim->world.now_ns) {
        world_at(&sim->world, owner->paused_until_ns, NULL, on_arrival, packet,
                 owner->life);
        return;
    }
    sim->running = process;
    packet->arrive(packet, process);
    packet_unref(packet);
    owner->after(owner->context);
}

static void send_once(struct sim *sim, struct sim_packet *packet)
{
    struct sim_link_state *link = &sim->links[packet->from][packet->to];
    uint64_t at = sim->world.now_ns;
    if (packet->from != packet->to) {
        at += world_between(&sim->world, DELAY_MIN_NS, DELAY_MAX_NS);
        at += link->slow_ns > 0 ? world_between(&sim->world, 0, link->slow_ns) : 0;
    }
    at = at > link->held_until_ns ? at : link->held_until_ns;
    if (!link->reorder && at <= link->last_ns) {
        at = link->last_ns + 1;
    }
    link->last_ns = at > link->last_ns ? at : link->last_ns;
    world_at(&sim->world, at, NULL, on_arrival, packet, 0);
}

void sim_net_send(struct sim *sim, struct sim_packet *take_packet)
{
    struct sim_packet *packet = take_packet;
    const struct sim_link_state *link = &sim->links[packet->from][packet->to];
    packet->sim = sim;
    packet->arrivals = 1;
    list_push_back(&sim->packets, &packet->link);
    sim->stats.packets++;
    if (sim_net_is_cut(sim, packet->from, packet->to) ||
        world_chance(&sim->world, link->drop_permille)) {
        packet_unref(packet);
        return;
    }
    if (world_chance(&sim->world, link->twice_permille)) {
        packet->arrivals = 2;
        send_once(sim, packet);
    }
    send_once(sim, packet);
}

bool sim_net_is_under_way(const struct sim *sim, unsigned from, unsigned to)
{
    LIST_EACH (link, &sim->packets) {
        const struct sim_packet *packet = LIST_ITEM(link, struct sim_packet, link);
        if (packet->from == from && packet->to == to) {
            return true;
        }
    }
    return false;
}

void sim_net_free(struct sim *sim)
{
    LIST_EACH_SAFE (link, &sim->packets) {
        struct sim_packet *packet = LIST_ITEM(link, struct sim_packet, link);
        list_remove(link);
        packet->fini(packet);
    }
}
