/* What the scheduler's decisions cost: one, and batches through step and apply.
 *
 *     scheduler_place_bench [HOSTS [VMS_PER_HOST [GROUPS]]]
 *
 * Hosts of 64 cores and 256 GiB that hold ready VMs of 2 vCPUs and 4 GiB; then one more
 * VM of that kind is decided about many times (nothing is taken, so each decision is
 * alike), and groups of 100 and 1,000 are made and placed until the scheduler rests. CPU
 * time of this thread; a decision is timed as the mean of BEST_RUN in a row, since asking
 * for the time costs more than it does. */
#include "base/clock.h"
#include "base/require.h"
#include "scheduler/overlay.h"
#include "scheduler/place.h"
#include "scheduler/scheduler.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BEST_N      200
#define BEST_RUN    100
#define FIRST_N     200
#define STEP_N      200
#define SAMPLES_MAX 2000
#define WALL_MS     UINT64_C(1700000000000)

static struct state *state;
static struct scheduler *scheduler;
static struct decisions decisions;
static double samples[SAMPLES_MAX];
static unsigned sample_count;
static double apply_s; /* of the last settle() */

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- samples ---- */

static void sample(double seconds)
{
    REQUIRE(sample_count < SAMPLES_MAX);
    samples[sample_count++] = seconds;
}

static int rising(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static void print_samples(const char *what)
{
    qsort(samples, sample_count, sizeof(samples[0]), rising);
    unsigned last = (sample_count * 99 + 99) / 100;
    printf("  %-44s n %5u  p50 %10.2f us  p99 %10.2f us\n", what, sample_count,
           samples[sample_count / 2] * 1e6, samples[last > 0 ? last - 1 : 0] * 1e6);
    sample_count = 0;
}

/* ---- the cluster ---- */

static uint64_t apply(struct command *command)
{
    struct apply_result result;
    command->wall_ms = WALL_MS;
    (void)snprintf(command->subject, sizeof(command->subject), "system");
    state_apply(state, command, &result);
    command_fini(command);
    if (result.code != 0) {
        fprintf(stderr, "%s\n", result.text);
        abort();
    }
    return result.uid;
}

static void *make(enum kind kind, const char *tenant, const char *name)
{
    void *object = object_new(kind);
    REQUIRE(object != NULL);
    (void)snprintf(object_meta(object)->tenant, NAME_SIZE, "%s", tenant);
    (void)snprintf(object_meta(object)->name, NAME_SIZE, "%s", name);
    return object;
}

static void put(enum kind kind, void *object)
{
    struct command command;
    command_init(&command, COMMAND_PUT);
    REQUIRE(command_set_put(&command, kind, object, REVISION_ANY) == 0);
    object_free(kind, object);
    (void)apply(&command);
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

static void key_of(struct digest *key, uint32_t number)
{
    memset(key->bytes, 0, sizeof(key->bytes));
    memcpy(key->bytes, &number, sizeof(number));
    key->bytes[DIGEST_SIZE - 1] = 1;
}

static void make_token(void)
{
    struct token *token = make(KIND_TOKEN, "", "join");
    token->spec.role = ROLE_JOIN;
    key_of(&token->spec.hash, UINT32_MAX);
    put(KIND_TOKEN, token);
}

static void make_hosts(uint64_t *hosts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct command command;
        command_init(&command, COMMAND_HOST_JOIN);
        struct cmd_host_join *join = &command.body.host_join;
        (void)snprintf(join->name, sizeof(join->name), "host-%" PRIu32, i);
        key_of(&join->status.public_key, i);
        join->status.cpu_mcpu = 64000;
        join->status.memory_bytes = 256 * GIB;
        join->status.engines = ENGINE_BIT(ENGINE_QEMU);
        if (i == 0) {
            command.request_id[0] = 1;
        } else {
            key_of(&join->token_hash, UINT32_MAX);
        }
        hosts[i] = apply(&command);
        if (i == 0) {
            make_token();
        }
    }
}

static void make_templates(void)
{
    struct image *image = make(KIND_IMAGE, "", "linux");
    struct artifact *artifact = list_one(&artifact_record, &image->spec.artifacts.items,
                                         &image->spec.artifacts.count);
    artifact->role = ARTIFACT_KERNEL;
    key_of(&artifact->sha256, 1);
    put(KIND_IMAGE, image);
    struct network *network = make(KIND_NETWORK, DEFAULT_TENANT, "net");
    network->spec.ipv4.cidr = (uint64_t)0x0a000000 << 8 | 10;
    put(KIND_NETWORK, network);
    for (unsigned nic = 0; nic < 2; nic++) {
        struct template *template =
            make(KIND_TEMPLATE, DEFAULT_TENANT, nic ? "web" : "plain");
        struct machine_spec *machine = &template->spec;
        (void)snprintf(machine->image, NAME_SIZE, "linux");
        machine->cpu.count = 2;
        machine->memory.size_bytes = 4 * GIB;
        if (nic) {
            struct nic_spec *spec =
                list_one(&nic_spec_record, &machine->nics.items, &machine->nics.count);
            (void)snprintf(spec->name, NAME_SIZE, "eth0");
            (void)snprintf(spec->network, NAME_SIZE, "net");
        }
        put(KIND_TEMPLATE, template);
    }
}

/* i % 7 more or fewer on a host, so that they are not all alike. */
static void make_vms(const uint64_t *hosts, uint32_t host_count, uint32_t per_host)
{
    uint32_t number = 0;
    for (uint32_t host = 0; host < host_count; host++) {
        for (uint32_t i = 0; i < per_host + host % 7 - 3; i++) {
            struct command command;
            command_init(&command, COMMAND_ADMIT_VM);
            struct cmd_admit_vm *admit = &command.body.admit_vm;
            (void)snprintf(admit->tenant, NAME_SIZE, "%s", DEFAULT_TENANT);
            (void)snprintf(admit->name, NAME_SIZE, "vm-%" PRIu32, number++);
            (void)snprintf(admit->template_name, NAME_SIZE, "plain");
            uint64_t vm = apply(&command);
            command_init(&command, COMMAND_PLACE_VM);
            command.body.place_vm.vm = vm;
            command.body.place_vm.host = hosts[host];
            command.body.place_vm.epoch = 1;
            (void)apply(&command);
            command_init(&command, COMMAND_VM_PHASE);
            command.body.vm_phase.vm = vm;
            command.body.vm_phase.host = hosts[host];
            command.body.vm_phase.epoch = 1;
            command.body.vm_phase.phase = PHASE_READY;
            (void)apply(&command);
        }
    }
}

static void hear_all(const uint64_t *hosts, uint32_t count, uint64_t now_ns)
{
    const struct host_load load = {0};
    for (uint32_t i = 0; i < count; i++) {
        REQUIRE(scheduler_host_heard(scheduler, hosts[i], &load, now_ns, WALL_MS) == 0);
    }
}

/* ---- one decision ---- */

static void bench_decisions(void)
{
    struct overlay overlay;
    struct placement placement = {0};
    const struct template *plain =
        state_get(state, KIND_TEMPLATE, DEFAULT_TENANT, "plain");
    const struct place_request request = {.tenant = DEFAULT_TENANT,
                                          .machine = &plain->spec};
    overlay_init(&overlay);
    REQUIRE(overlay_sync(&overlay, state) == 0);
    for (unsigned i = 0; i < FIRST_N; i++) {
        double start = now_s();
        placement_fini(&placement);
        REQUIRE(placement_init(&placement, &request, &overlay, NULL) == 0);
        REQUIRE(placement_best(&placement) >= 0);
        sample(now_s() - start);
    }
    print_samples("first VM of a kind (filters and choice)");
    for (unsigned i = 0; i < BEST_N; i++) {
        double start = now_s();
        for (unsigned run = 0; run < BEST_RUN; run++) {
            REQUIRE(placement_best(&placement) >= 0);
        }
        sample((now_s() - start) / BEST_RUN);
    }
    print_samples("each further one (choice)");
    placement_fini(&placement);
    overlay_fini(&overlay);
}

/* ---- steps ---- */

static void touch_state(unsigned i)
{
    struct template *template = make(KIND_TEMPLATE, DEFAULT_TENANT, "touched");
    (void)snprintf(template->spec.image, NAME_SIZE, "linux");
    template->spec.memory.size_bytes = (64 + i % 2) * MIB;
    put(KIND_TEMPLATE, template);
}

static void bench_idle(uint64_t now_ns)
{
    for (unsigned i = 0; i < STEP_N; i++) {
        double start = now_s();
        REQUIRE(scheduler_step(scheduler, state, now_ns, WALL_MS, &decisions) == 0);
        sample(now_s() - start);
    }
    print_samples("step, nothing has changed");
    for (unsigned i = 0; i < STEP_N; i++) {
        touch_state(i);
        double start = now_s();
        REQUIRE(scheduler_step(scheduler, state, now_ns, WALL_MS, &decisions) == 0);
        sample(now_s() - start);
    }
    print_samples("step, the state has moved");
}

/* Until there is nothing to decide; seconds spent in steps. */
static double settle(uint64_t now_ns)
{
    double step_s = 0;
    uint32_t count;
    apply_s = 0;
    do {
        double start = now_s();
        count = scheduler_step(scheduler, state, now_ns, WALL_MS, &decisions);
        double stepped = now_s();
        for (uint32_t i = 0; i < count; i++) {
            (void)apply(&decisions.commands[i]);
        }
        decisions.count = 0;
        step_s += stepped - start;
        apply_s += now_s() - stepped;
    } while (count > 0);
    return step_s;
}

static void delete_group(const char *name, uint64_t now_ns)
{
    struct command command;
    command_init(&command, COMMAND_DELETE);
    command.body.delete.kind = KIND_GROUP;
    (void)snprintf(command.body.delete.tenant, NAME_SIZE, "%s", DEFAULT_TENANT);
    (void)snprintf(command.body.delete.name, NAME_SIZE, "%s", name);
    (void)apply(&command);
    (void)settle(now_ns);
    const struct group *group;
    while ((group = state_get(state, KIND_GROUP, DEFAULT_TENANT, name)) != NULL) {
        size_t cursor = 0; /* what the hosts would do: all that stop have stopped */
        const struct vm *vm = state_vm_of_group(state, group, &cursor);
        command_init(&command, COMMAND_VM_PHASE);
        command.body.vm_phase.vm = vm->meta.uid;
        command.body.vm_phase.host = vm->status.host;
        command.body.vm_phase.epoch = vm->status.epoch;
        command.body.vm_phase.phase = PHASE_STOPPED;
        (void)apply(&command);
    }
}

static void bench_groups(const char *template, uint32_t size, unsigned n, uint64_t now_ns)
{
    static double totals[SAMPLES_MAX];
    char what[64];
    for (unsigned i = 0; i < n; i++) {
        struct group *group = make(KIND_GROUP, DEFAULT_TENANT, "g");
        (void)snprintf(group->spec.template_ref.name, NAME_SIZE, "%s", template);
        group->spec.replicas = size;
        put(KIND_GROUP, group);
        double step_s = settle(now_ns);
        sample(step_s);
        totals[i] = step_s + apply_s;
        delete_group("g", now_ns);
    }
    (void)snprintf(what, sizeof(what), "group of %" PRIu32 " (%s), steps", size,
                   template);
    print_samples(what);
    for (unsigned i = 0; i < n; i++) {
        sample(totals[i]);
    }
    (void)snprintf(what, sizeof(what), "group of %" PRIu32 " (%s), steps and apply", size,
                   template);
    print_samples(what);
}

int main(int count, char **arguments)
{
    uint32_t host_count =
        count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 10) : STATE_HOSTS_MAX;
    uint32_t per_host = count > 2 ? (uint32_t)strtoul(arguments[2], NULL, 10) : 20;
    unsigned groups = count > 3 ? (unsigned)strtoul(arguments[3], NULL, 10) : 20;
    uint64_t now_ns = 1000 * NS_PER_S;
    REQUIRE(per_host >= 3 && host_count > 0 && groups > 0 && groups <= SAMPLES_MAX);
    state = state_new(NULL, NULL);
    scheduler = scheduler_new();
    uint64_t *hosts = calloc(host_count, sizeof(*hosts));
    REQUIRE(state != NULL && scheduler != NULL && hosts != NULL);
    make_hosts(hosts, host_count);
    make_templates();
    make_vms(hosts, host_count, per_host);
    scheduler_lead(scheduler, now_ns);
    hear_all(hosts, host_count, now_ns);
    printf("%" PRIu32 " hosts, %zu VMs\n", host_count, state_count(state, KIND_VM));
    bench_decisions();
    bench_idle(now_ns);
    bench_groups("plain", 100, groups, now_ns);
    bench_groups("plain", 1000, groups, now_ns);
    bench_groups("web", 1000, groups, now_ns);
    state_free(state);
    scheduler_free(scheduler);
    free(hosts);
    return 0;
}
