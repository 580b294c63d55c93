/* How long a cluster's state takes to build by commands, to write and to load.
 *
 *     model_snapshot_bench [VMS [HOSTS]]        builds, writes, loads in this process
 *     model_snapshot_bench --load FILE          loads a snapshot alone (honest peak RSS)
 *     model_snapshot_bench VMS HOSTS FILE       also leaves the snapshot in FILE
 *
 * VMs have one disk and one NIC and are ready on a host, so every index is filled. */
#include "base/require.h"
#include "model/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define VMS_DEFAULT   100000
#define HOSTS_DEFAULT 5000
#define NETWORK_SITES 128                 /* hosts of a network; 20 VMs on each */
#define NETWORK_STEP  (UINT32_C(1) << 17) /* /15: one network per NETWORK_SITES hosts */

static struct state *state;
static uint64_t *hosts;
static uint64_t *networks;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double rss_mib(const char *key)
{
    FILE *file = fopen("/proc/self/status", "re");
    REQUIRE(file != NULL);
    char line[256];
    double mib = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            mib = strtod(line + strlen(key) + 1, NULL) / 1024;
        }
    }
    fclose(file);
    return mib;
}

static uint64_t apply(struct command *command)
{
    struct apply_result result;
    command->wall_ms = 1700000000000;
    snprintf(command->subject, sizeof(command->subject), "system");
    state_apply(state, command, &result);
    command_fini(command);
    if (result.code != 0) {
        fprintf(stderr, "%s\n", result.text);
        abort();
    }
    return result.uid;
}

static uint64_t put(enum kind kind, void *object)
{
    struct command command;
    command_init(&command, COMMAND_PUT);
    REQUIRE(command_set_put(&command, kind, object, REVISION_ANY) == 0);
    object_free(kind, object);
    return apply(&command);
}

static void *make(enum kind kind, const char *tenant, const char *name)
{
    void *object = object_new(kind);
    REQUIRE(object != NULL);
    snprintf(object_meta(object)->tenant, NAME_SIZE, "%s", tenant);
    snprintf(object_meta(object)->name, NAME_SIZE, "%s", name);
    return object;
}

static void key_of(struct digest *key, uint32_t number)
{
    memset(key->bytes, 0, sizeof(key->bytes));
    memcpy(key->bytes, &number, sizeof(number));
    key->bytes[DIGEST_SIZE - 1] = 1;
}

static void build_hosts(uint32_t count)
{
    struct digest token_hash;
    key_of(&token_hash, UINT32_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct command command;
        command_init(&command, COMMAND_HOST_JOIN);
        struct cmd_host_join *join = &command.body.host_join;
        snprintf(join->name, sizeof(join->name), "host-%" PRIu32, i);
        key_of(&join->status.public_key, i);
        join->status.cpu_mcpu = 64000;
        join->status.memory_bytes = 256 * GIB;
        join->status.disk_bytes = 4 * TIB;
        if (i == 0) {
            command.request_id[0] = 1;
        } else {
            join->token_hash = token_hash;
        }
        hosts[i] = apply(&command);
        if (i == 0) {
            struct token *token = make(KIND_TOKEN, "", "join");
            token->spec.role = ROLE_JOIN;
            token->spec.hash = token_hash;
            put(KIND_TOKEN, token);
        }
    }
}

static void *list_one(const struct record *record, void *items, uint32_t *count)
{
    struct record_list list = {0};
    void *item = record_list_add(record, &list);
    REQUIRE(item != NULL);
    *(void **)items = list.items;
    *count = list.count;
    return item;
}

static void build_template(uint32_t number)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), "net-%" PRIu32, number);
    struct network *network = make(KIND_NETWORK, DEFAULT_TENANT, name);
    network->spec.ipv4.cidr = (uint64_t)(0x0a000000 + number * NETWORK_STEP) << 8 | 15;
    networks[number] = put(KIND_NETWORK, network);
    snprintf(name, sizeof(name), "web-%" PRIu32, number);
    struct template *template = make(KIND_TEMPLATE, DEFAULT_TENANT, name);
    struct machine_spec *machine = &template->spec;
    snprintf(machine->image, NAME_SIZE, "linux");
    machine->memory.size_bytes = 1 * GIB;
    struct nic_spec *nic =
        list_one(&nic_spec_record, &machine->nics.items, &machine->nics.count);
    snprintf(nic->name, NAME_SIZE, "eth0");
    snprintf(nic->network, NAME_SIZE, "net-%" PRIu32, number);
    struct disk_spec *disk =
        list_one(&disk_spec_record, &machine->disks.items, &machine->disks.count);
    snprintf(disk->name, NAME_SIZE, "root");
    disk->size_bytes = 10 * GIB;
    put(KIND_TEMPLATE, template);
}

static void build_image(void)
{
    struct image *image = make(KIND_IMAGE, "", "linux");
    struct artifact *artifact = list_one(&artifact_record, &image->spec.artifacts.items,
                                         &image->spec.artifacts.count);
    artifact->role = ARTIFACT_KERNEL;
    key_of(&artifact->sha256, 1);
    put(KIND_IMAGE, image);
}

static void build_sites(uint32_t host_count)
{
    for (uint32_t i = 0; i < host_count; i++) {
        struct command command;
        command_init(&command, COMMAND_NETWORK_HOST);
        uint64_t uid = networks[i / NETWORK_SITES];
        command.body.network_host.network = uid;
        command.body.network_host.host = hosts[i];
        command.body.network_host.ipv4 =
            state_address_free(state, state_network(state, uid), 0);
        apply(&command);
    }
}

static void place_and_start(uint64_t uid, uint32_t host)
{
    struct command command;
    command_init(&command, COMMAND_PLACE_VM);
    const struct network *network = state_network(state, networks[host / NETWORK_SITES]);
    struct cmd_place_vm *place = &command.body.place_vm;
    place->vm = uid;
    place->host = hosts[host];
    place->epoch = 1;
    struct cmd_address *address =
        list_one(&cmd_address_record, &place->addresses.items, &place->addresses.count);
    address->ipv4 = state_address_free(state, network, 0);
    REQUIRE(record_set_text(&place->reason, "the fullest host that has room") == 0);
    apply(&command);
    for (enum phase phase = PHASE_STARTING; phase <= PHASE_READY; phase++) {
        command_init(&command, COMMAND_VM_PHASE);
        command.body.vm_phase.vm = uid;
        command.body.vm_phase.host = hosts[host];
        command.body.vm_phase.epoch = 1;
        command.body.vm_phase.phase = phase;
        command.body.vm_phase.at_wall_ms = 1700000000000 + phase;
        apply(&command);
    }
}

static void build_vms(uint32_t count, uint32_t host_count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t host = i % host_count;
        struct command command;
        command_init(&command, COMMAND_ADMIT_VM);
        struct cmd_admit_vm *admit = &command.body.admit_vm;
        snprintf(admit->tenant, NAME_SIZE, "%s", DEFAULT_TENANT);
        snprintf(admit->name, NAME_SIZE, "web-%" PRIu32, i);
        snprintf(admit->template_name, NAME_SIZE, "web-%" PRIu32, host / NETWORK_SITES);
        place_and_start(apply(&command), host);
    }
}

static void load(const void *data, size_t size)
{
    double start = now_s();
    struct state *loaded = state_new(NULL, NULL);
    REQUIRE(loaded != NULL);
    struct err err = {0};
    if (state_decode(loaded, data, size, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    printf("load      %.3f s  %zu VMs, %zu hosts, hash %016" PRIx64 "\n", now_s() - start,
           state_count(loaded, KIND_VM), state_count(loaded, KIND_HOST),
           state_hash(loaded));
    state_free(loaded);
}

static int load_file(const char *path)
{
    FILE *file = fopen(path, "re");
    REQUIRE(file != NULL && fseek(file, 0, SEEK_END) == 0);
    long size = ftell(file);
    REQUIRE(size > 0);
    rewind(file);
    void *data = malloc((size_t)size);
    REQUIRE(data != NULL && fread(data, 1, (size_t)size, file) == (size_t)size);
    fclose(file);
    load(data, (size_t)size);
    free(data);
    printf("peak RSS  %.0f MiB, of which the file %.0f MiB\n", rss_mib("VmHWM:"),
           (double)size / (double)MIB);
    return 0;
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "we");
    REQUIRE(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

int main(int count, char **arguments)
{
    if (count == 3 && strcmp(arguments[1], "--load") == 0) {
        return load_file(arguments[2]);
    }
    uint32_t vms = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 10) : VMS_DEFAULT;
    uint32_t host_count =
        count > 2 ? (uint32_t)strtoul(arguments[2], NULL, 10) : HOSTS_DEFAULT;
    uint32_t network_count = (host_count + NETWORK_SITES - 1) / NETWORK_SITES;
    state = state_new(NULL, NULL);
    hosts = calloc(host_count, sizeof(*hosts));
    networks = calloc(network_count, sizeof(*networks));
    REQUIRE(state != NULL && hosts != NULL && networks != NULL);
    double start = now_s();
    build_hosts(host_count);
    build_image();
    for (uint32_t i = 0; i < network_count; i++) {
        build_template(i);
    }
    build_sites(host_count);
    double hosts_done = now_s();
    build_vms(vms, host_count);
    double took = now_s() - hosts_done;
    printf("hosts     %.3f s  %" PRIu32 " joins and sites\n", hosts_done - start,
           host_count);
    printf("VMs       %.3f s  %.0f commands/s (admit, place, 3 phases each)\n", took,
           5.0 * vms / took);
    printf("RSS       %.0f MiB with the state\n", rss_mib("VmRSS:"));
    start = now_s();
    uint8_t *data = NULL;
    size_t size = 0;
    REQUIRE(state_encode(state, &data, &size) == 0);
    printf("write     %.3f s  %.1f MiB\n", now_s() - start, (double)size / (double)MIB);
    load(data, size);
    if (count > 3) {
        write_file(arguments[3], data, size);
    }
    free(data);
    state_free(state);
    free(hosts);
    free(networks);
    return 0;
}
