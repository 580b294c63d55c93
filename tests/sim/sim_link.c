/* agent/link.h on simulated packets, and what worker needs of the host it stands on:
 * images are there unless a fault keeps them away, networks are ready, groups hold
 * everything.
 */
#include "agent/engine_fake.h"
#include "agent/engine_qemu.h"
#include "agent/host_facts.h"
#include "agent/image_pull.h"
#include "agent/image_store.h"
#include "agent/link.h"
#include "agent/resource_groups.h"
#include "agent/worker.h"
#include "base/require.h"
#include "net/network_apply.h"
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct link_packet {
    struct sim_packet packet;
    enum message_type type;
    const struct record *record;
    uint64_t body[]; /* the message, owned */
};

static struct sim_process *process_of(const struct link *link)
{
    return (struct sim_process *)(uintptr_t)link;
}

static void packet_fini(struct sim_packet *packet)
{
    struct link_packet *copy = (struct link_packet *)packet;
    record_fini(copy->record, copy->body);
    free(copy);
}

/* The receiver may take parts out of the message, so each arrival has its own. */
static void packet_arrive(struct sim_packet *packet, struct sim_process *process)
{
    struct link_packet *copy = (struct link_packet *)packet;
    const struct sim_machine *from = &packet->sim->machines[packet->from];
    const struct msg_member *member = members_by_uid(&process->members, from->uid);
    void *message = calloc(1, copy->record->size_bytes);
    REQUIRE(message != NULL);
    if (member != NULL && record_copy(copy->record, copy->body, message) == 0) {
        sim_host_message(process, member, copy->type, message);
        record_fini(copy->record, message);
    }
    free(message);
}

static void packet_send(struct sim_process *process,
                        const struct sim_machine *to,
                        enum message_type type,
                        const struct record *record,
                        const void *message,
                        void (*arrive)(struct sim_packet *packet,
                                       struct sim_process *process))
{
    struct link_packet *copy = calloc(1, sizeof(*copy) + record->size_bytes);
    REQUIRE(copy != NULL);
    copy->type = type;
    copy->record = record;
    REQUIRE(record_copy(record, message, copy->body) == 0);
    copy->packet.from = process->machine->index;
    copy->packet.to = to->index;
    copy->packet.arrive = arrive;
    copy->packet.fini = packet_fini;
    sim_net_send(process->machine->sim, &copy->packet);
}

int link_send(struct link *link,
              uint64_t host,
              enum message_type type,
              const void *message)
{
    struct sim_process *process = process_of(link);
    const struct sim_machine *to = sim_machine_of_uid(process->machine->sim, host);
    const struct record *record = message_record((uint16_t)type);
    if (to == NULL || process->doomed ||
        members_by_uid(&process->members, host) == NULL) {
        return BERTH_ENOTFOUND;
    }
    packet_send(process, to, type, record, message, packet_arrive);
    return 0;
}

bool link_is_up(const struct link *link, uint64_t host)
{
    (void)link;
    (void)host;
    return true;
}

void link_guests_allow(struct link *link, bool allow)
{
    (void)link;
    (void)allow;
}

/* ---- strangers ---- */

static void join_arrive(struct sim_packet *packet, struct sim_process *process)
{
    const struct link_packet *copy = (const struct link_packet *)packet;
    sim_host_join_ask(process, &packet->sim->machines[packet->from],
                      (const struct msg_join *)(const void *)copy->body);
}

static void reply_arrive(struct sim_packet *packet, struct sim_process *process)
{
    struct link_packet *copy = (struct link_packet *)packet;
    sim_host_join_reply(process, (struct msg_join_reply *)(void *)copy->body);
}

void sim_link_join(struct sim_process *guest,
                   const struct sim_machine *to,
                   const struct msg_join *message)
{
    packet_send(guest, to, 0, &msg_join_record, message, join_arrive);
}

int link_join_reply(struct link *link,
                    const struct mesh_key *guest,
                    const struct msg_join_reply *reply)
{
    struct sim_process *process = process_of(link);
    const struct digest key = identity_key_digest(guest);
    for (unsigned i = 0; !process->doomed && i < process->machine->sim->machine_count;
         i++) {
        const struct sim_machine *machine = &process->machine->sim->machines[i];
        const struct digest its = identity_key_digest(&machine->key);
        if (digest_equal(&key, &its)) {
            packet_send(process, machine, 0, &msg_join_reply_record, reply, reply_arrive);
        }
    }
    return 0;
}

/* ---- the host's own things ---- */

const struct engine_ops engine_qemu;
const struct engine_ops engine_fake;

bool image_store_path(struct image_store *store,
                      const struct digest *digest,
                      char ret_path[IMAGE_PATH_SIZE])
{
    const struct sim_process *process = (const struct sim_process *)(const void *)store;
    (void)digest;
    (void)snprintf(ret_path, IMAGE_PATH_SIZE, "/image");
    return process->machine->unready == 0;
}

/* Not asked: nothing that disks lie on has a digest for its name. */
bool image_store_has(const struct image_store *store,
                     const struct digest *digest,
                     uint64_t *ret_size_bytes)
{
    (void)store;
    (void)digest;
    (void)ret_size_bytes;
    return false;
}

bool image_store_remains(const struct image_store *store,
                         const struct digest *digest,
                         char ret_path[IMAGE_PATH_SIZE])
{
    (void)store;
    (void)digest;
    (void)ret_path;
    return false;
}

unsigned image_store_list(const struct image_store *store,
                          struct image_file *ret_files,
                          unsigned max)
{
    (void)store;
    (void)ret_files;
    (void)max;
    return 0;
}

int image_store_keep(struct image_store *store,
                     const struct digest *digests,
                     unsigned count,
                     struct err *err)
{
    (void)store;
    (void)digests;
    (void)count;
    (void)err;
    return 0;
}

void image_store_on_change(struct image_store *store,
                           void (*fn)(void *context),
                           void *context)
{
    (void)store;
    (void)fn;
    (void)context;
}

struct image_pull *image_pull_new(uv_loop_t *loop,
                                  const struct clock *clock,
                                  struct image_store *store,
                                  struct link *link)
{
    (void)clock;
    (void)store;
    (void)link;
    return (struct image_pull *)(void *)loop; /* never looked into */
}

struct image_pull *image_pull_free(struct image_pull *pull)
{
    (void)pull;
    return NULL;
}

void image_pull_want(struct image_pull *pull, const struct msg_blob_list *blobs)
{
    (void)pull;
    (void)blobs;
}

void image_pull_mend(struct image_pull *pull, const struct msg_blob_list *blobs)
{
    (void)pull;
    (void)blobs;
}

void image_pull_on_ask(struct image_pull *pull,
                       const struct msg_member *from,
                       const struct msg_blob_ask *ask)
{
    (void)pull;
    (void)from;
    (void)ask;
}

void image_pull_on_chunk(struct image_pull *pull,
                         const struct msg_member *from,
                         const struct msg_blob_chunk *chunk)
{
    (void)pull;
    (void)from;
    (void)chunk;
}

uint64_t image_pull_bytes_total(const struct image_pull *pull)
{
    (void)pull;
    return 0;
}

struct network_apply *
network_apply_new(uv_loop_t *loop, const struct network_host *host, struct err *err)
{
    (void)host;
    (void)err;
    return (struct network_apply *)(void *)loop;
}

int network_apply_set(struct network_apply *apply,
                      const struct network_want *wants,
                      size_t count,
                      network_apply_done *done,
                      void *context,
                      struct err *err)
{
    (void)apply;
    (void)wants;
    (void)count;
    (void)done;
    (void)context;
    (void)err;
    return 0;
}

int network_apply_taken(struct network_apply *apply,
                        struct network_taken_look *ret_look,
                        struct err *err)
{
    (void)apply;
    (void)err;
    *ret_look = (struct network_taken_look){.complete = true};
    return 0;
}

void network_taken_fini(struct network_taken_look *look)
{
    (void)look; /* it is empty */
}

const char *network_apply_refusal(const struct network_apply *apply, uint32_t vni)
{
    (void)apply;
    (void)vni;
    return NULL;
}

bool network_apply_port_ready(const struct network_apply *apply,
                              uint32_t vni,
                              const struct network_port *port)
{
    (void)apply;
    (void)vni;
    (void)port;
    return true;
}

struct network_apply *network_apply_close(struct network_apply *apply)
{
    (void)apply;
    return NULL;
}

struct resource_groups *
resource_groups_open(const char *name, const char *parent, struct err *err)
{
    static char groups;
    (void)name;
    (void)parent;
    (void)err;
    return (struct resource_groups *)(void *)&groups;
}

struct resource_groups *resource_groups_close(struct resource_groups *groups)
{
    (void)groups;
    return NULL;
}

#define DISK_BYTES (UINT64_C(100) << 30)

uint64_t host_disk_bytes(const char *folder)
{
    (void)folder;
    return DISK_BYTES;
}

uint64_t host_pool_bytes(void)
{
    return 0; /* whatever this machine has */
}

int host_usage_sample(struct host_sampler *sampler,
                      const char *folder,
                      struct host_usage *ret_usage,
                      struct err *err)
{
    (void)sampler;
    (void)folder;
    (void)err;
    *ret_usage = (struct host_usage){.disk_total_bytes = DISK_BYTES,
                                     .disk_free_bytes = UINT64_C(90) << 30};
    return 0;
}
