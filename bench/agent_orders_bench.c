/* What it costs the leader to know and write what its hosts should do.
 *
 *     agent_orders_bench [HOSTS [VMS_PER_HOST [IMAGES [SITES [WORDS]]]]]
 *
 * Every host has every image; VMs have one NIC, a network spans SITES hosts (20), and the
 * command lines of images and of VMs have WORDS bytes (0). Then one thing changes, and
 * the book is refreshed and the orders of those it concerns are written and hashed, as
 * the leader does; over and over, CPU time of this thread. A turn is what the leader does
 * of a new leadership before the loop goes on, encoding what is sent as well. */
#include "agent/leader.h"
#include "agent/link_parts.h"
#include "agent/orders.h"
#include "agent/orders_book.h"
#include "base/require.h"
#include "model/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOSTS_DEFAULT 1000
#define VMS_DEFAULT   10
#define IMAGES_MAX    256
#define SITES_DEFAULT 20
#define NETWORK_STEP  (UINT32_C(1) << 10)
#define SAMPLES       100
#define ROUNDS        5

static struct state *state;
static struct orders_book *book;
static uint64_t *hosts;
static uint64_t *networks;
static uint64_t *vms;
static unsigned host_count;
static unsigned vm_count;
static unsigned sites = SITES_DEFAULT; /* hosts of a network */
static unsigned words;                 /* bytes of a command line */
static struct msg_blob blobs[IMAGES_MAX];
static double samples[SAMPLES];
static size_t written;
static size_t bytes;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void note(void *context, const struct change *change)
{
    (void)context;
    if (book != NULL) {
        orders_book_note(book, change->kind, change->uid);
    }
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

/* ---- the cluster ---- */

static void join(unsigned number)
{
    struct command command;
    if (number > 0) {
        struct token *token = make(KIND_TOKEN, "", "join");
        token->spec.role = ROLE_JOIN;
        token->spec.hash.bytes[0] = 1;
        token->spec.uses_left = 1;
        put(KIND_TOKEN, token);
    }
    command_init(&command, COMMAND_HOST_JOIN);
    struct cmd_host_join *body = &command.body.host_join;
    snprintf(body->name, sizeof(body->name), "host-%u", number);
    body->token_hash.bytes[0] = number > 0;
    body->status.address = 0x0a000001 + number;
    body->status.mesh_port = 7440;
    body->status.cpu_mcpu = 64000;
    body->status.memory_bytes = 256 * GIB;
    memcpy(body->status.public_key.bytes, &(unsigned){number + 1}, sizeof(number));
    command.request_id[0] = number == 0;
    hosts[number] = apply(&command);
}

static void set_words(char **text)
{
    char line[1024];
    memset(line, 'w', sizeof(line));
    line[words] = '\0';
    REQUIRE(record_set_text(text, line) == 0);
}

static void make_network(unsigned number)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), "net-%u", number);
    struct network *network = make(KIND_NETWORK, DEFAULT_TENANT, name);
    network->spec.ipv4.cidr = (uint64_t)(0x40000000 + number * NETWORK_STEP) << 8 | 22;
    networks[number] = put(KIND_NETWORK, network);
    struct template *template = make(KIND_TEMPLATE, DEFAULT_TENANT, name);
    snprintf(template->spec.image, NAME_SIZE, "image-%u", number % 50);
    template->spec.memory.size_bytes = 128 * MIB;
    set_words(&template->spec.cmdline);
    struct record_list list = {0};
    struct nic_spec *nic = record_list_add(&nic_spec_record, &list);
    snprintf(nic->network, sizeof(nic->network), "%s", name);
    snprintf(nic->name, sizeof(nic->name), "eth0");
    template->spec.nics.items = list.items;
    template->spec.nics.count = list.count;
    put(KIND_TEMPLATE, template);
}

static void make_image(unsigned number)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), "image-%u", number);
    struct image *image = make(KIND_IMAGE, "", name);
    struct record_list list = {0};
    struct artifact *artifact = record_list_add(&artifact_record, &list);
    artifact->role = words > 0 ? ARTIFACT_KERNEL : ARTIFACT_DISK; /* who takes them */
    set_words(&image->spec.cmdline);
    memcpy(artifact->sha256.bytes, &(unsigned){number + 1}, sizeof(number));
    blobs[number].sha256 = artifact->sha256;
    image->spec.artifacts.items = list.items;
    image->spec.artifacts.count = list.count;
    put(KIND_IMAGE, image);
}

static void place(uint64_t vm, uint64_t host, uint64_t network, uint64_t epoch)
{
    struct command command;
    uint32_t free_address = state_address_free(state, state_network(state, network), 0);
    command_init(&command, COMMAND_PLACE_VM);
    command.body.place_vm.vm = vm;
    command.body.place_vm.host = host;
    command.body.place_vm.epoch = epoch;
    struct record_list list = {0};
    struct cmd_address *address = record_list_add(&cmd_address_record, &list);
    address->ipv4 = free_address;
    command.body.place_vm.addresses.items = list.items;
    command.body.place_vm.addresses.count = list.count;
    apply(&command);
}

static uint64_t admit(unsigned number, unsigned network)
{
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    snprintf(command.body.admit_vm.tenant, NAME_SIZE, "%s", DEFAULT_TENANT);
    snprintf(command.body.admit_vm.name, NAME_SIZE, "vm-%u", number);
    snprintf(command.body.admit_vm.template_name, NAME_SIZE, "net-%u", network);
    return apply(&command);
}

static void report(uint64_t vm, enum phase phase)
{
    const struct vm *now = state_vm(state, vm);
    struct command command;
    command_init(&command, COMMAND_VM_PHASE);
    command.body.vm_phase.vm = vm;
    command.body.vm_phase.host = now->status.host;
    command.body.vm_phase.epoch = now->status.epoch;
    command.body.vm_phase.phase = phase;
    apply(&command);
}

static void enter_network(unsigned host)
{
    uint64_t network = networks[host / sites];
    struct command command;
    command_init(&command, COMMAND_NETWORK_HOST);
    command.body.network_host.network = network;
    command.body.network_host.host = hosts[host];
    command.body.network_host.ipv4 =
        state_address_free(state, state_network(state, network), 0);
    apply(&command);
}

static void build(unsigned vms_per_host, unsigned images)
{
    unsigned network_count = (host_count + sites - 1) / sites;
    state = state_new(note, NULL);
    hosts = calloc(host_count, sizeof(*hosts));
    networks = calloc(network_count, sizeof(*networks));
    vms = calloc((size_t)host_count * vms_per_host + SAMPLES, sizeof(*vms));
    REQUIRE(state != NULL && hosts != NULL && networks != NULL && vms != NULL);
    for (unsigned i = 0; i < host_count; i++) {
        join(i);
    }
    for (unsigned i = 0; i < images; i++) {
        make_image(i);
    }
    for (unsigned i = 0; i < network_count; i++) {
        make_network(i);
    }
    for (unsigned i = 0; i < host_count; i++) {
        enter_network(i);
        for (unsigned k = 0; k < vms_per_host; k++) {
            uint64_t vm = admit(vm_count, i / sites);
            place(vm, hosts[i], networks[i / sites], 1);
            report(vm, PHASE_STARTING);
            report(vm, PHASE_RUNNING);
            vms[vm_count++] = vm;
        }
    }
}

/* ---- measuring ---- */

static uint64_t write_one(uint64_t host)
{
    struct msg_orders orders;
    REQUIRE(orders_book_write(book, host, &orders) == 0);
    uint64_t hash = orders_hash(&orders);
    record_fini(&msg_orders_record, &orders);
    written++;
    return hash;
}

static void give(void)
{
    uint64_t host;
    REQUIRE(orders_book_refresh(book) == 0);
    while ((host = orders_book_take(book)) != 0) {
        (void)write_one(host);
    }
}

/* As the leader shares it out among turns of its loop. */
static void turn(void)
{
    uint64_t host;
    size_t told = 0;
    size_t size = 0;
    for (unsigned i = 0;
         i < LEADER_ORDERS_PER_TURN && told < LEADER_ORDERS_BYTES_PER_TURN &&
         (host = orders_book_take(book)) != 0;
         i++) {
        struct msg_orders orders;
        uint8_t *data = NULL;
        REQUIRE(orders_book_write(book, host, &orders) == 0);
        REQUIRE(orders_hash_and_size(&orders, &size) != 0);
        REQUIRE(message_encode_within(&msg_orders_record, &orders, LINK_PARTS_MAX, &data,
                                      &size) == 0);
        free(data);
        record_fini(&msg_orders_record, &orders);
        told += size;
        written++;
    }
}

static int rising(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static void measure(const char *what, unsigned count, void (*change)(unsigned i))
{
    written = 0;
    for (unsigned i = 0; i < count; i++) {
        change(i);
        double start_s = now_s();
        give();
        samples[i] = now_s() - start_s;
    }
    qsort(samples, count, sizeof(samples[0]), rising);
    printf("%-44s %4u %10.3f ms %10.3f ms  %6.1f hosts\n", what, count,
           samples[count / 2] * 1e3, samples[count - 1] * 1e3,
           (double)written / (double)count);
}

static void measure_turns(void)
{
    unsigned count = 0;
    written = 0;
    REQUIRE(orders_book_refresh(book) == 0);
    while (count < SAMPLES && orders_book_pending(book)) {
        double start_s = now_s();
        turn();
        samples[count++] = now_s() - start_s;
    }
    give(); /* the rest */
    qsort(samples, count, sizeof(samples[0]), rising);
    printf("%-44s %4u %10.3f ms %10.3f ms\n", "a turn of a new leadership", count,
           samples[count / 2] * 1e3, samples[count - 1] * 1e3);
}

static void all_anew(unsigned i)
{
    (void)i;
    orders_book_reset(book);
    for (unsigned host = 0; host < host_count; host++) {
        orders_book_holds(book, hosts[host], blobs, 50);
    }
}

static void vm_ready(unsigned i)
{
    report(vms[i], PHASE_READY);
}

static void vm_not_ready(unsigned i)
{
    report(vms[i], PHASE_RUNNING);
}

static void vm_placed(unsigned i)
{
    uint64_t vm = admit(vm_count + i, 0);
    place(vm, hosts[i % sites % host_count], networks[0], 1);
}

static void vm_stopping(unsigned i)
{
    struct command command;
    command_init(&command, COMMAND_EVICT_VM);
    command.body.evict_vm.vm = vms[i];
    command.body.evict_vm.epoch = 1;
    command.body.evict_vm.intent = STOP_INTENT_STOP;
    apply(&command);
}

static void store_changed(unsigned i)
{
    orders_book_holds(book, hosts[host_count - 1], blobs, i % 2 == 0 ? 49 : 50);
}

static void network_made(unsigned i)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), "later-%u", i);
    struct network *network = make(KIND_NETWORK, DEFAULT_TENANT, name);
    network->spec.ipv4.cidr = (uint64_t)(0x70000000 + i * NETWORK_STEP) << 8 | 22;
    put(KIND_NETWORK, network);
}

int main(int argc, char **argv)
{
    host_count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : HOSTS_DEFAULT;
    unsigned vms_per_host = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : VMS_DEFAULT;
    unsigned images = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 50;
    sites = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : SITES_DEFAULT;
    words = argc > 5 ? (unsigned)strtoul(argv[5], NULL, 10) : 0;
    REQUIRE(host_count > 0 && sites > 0 && words < 1024 && images >= 50 &&
            images <= IMAGES_MAX && host_count * vms_per_host >= SAMPLES);
    build(vms_per_host, images);
    book = orders_book_new(state, NULL, NULL);
    REQUIRE(book != NULL);
    struct msg_orders orders;
    uint8_t *data = NULL;
    all_anew(0);
    give();
    REQUIRE(orders_book_write(book, hosts[0], &orders) == 0);
    REQUIRE(message_encode_within(&msg_orders_record, &orders, LINK_PARTS_MAX, &data,
                                  &bytes) == 0);
    printf("%u hosts, %u VMs, %u images; orders of a host: %zu bytes\n", host_count,
           vm_count, images, bytes);
    printf("%-44s %4s %13s %13s\n", "", "n", "median", "most");
    measure("all anew: a new leadership", ROUNDS, all_anew);
    all_anew(0);
    measure_turns();
    measure("a VM is ready: first news of it since", SAMPLES, vm_ready);
    measure("a VM is not ready any more", SAMPLES, vm_not_ready);
    measure("a VM is to stop", SAMPLES, vm_stopping);
    measure("a VM is placed, its network on 20 hosts", SAMPLES, vm_placed);
    measure("a host's image store changed", SAMPLES, store_changed);
    measure("a network is made", SAMPLES, network_made);
    free(data);
    record_fini(&msg_orders_record, &orders);
    orders_book_free(book);
    state_free(state);
    free(hosts);
    free(networks);
    free(vms);
    return 0;
}
