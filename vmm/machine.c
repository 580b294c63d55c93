#include "vmm/machine.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/random.h"
#include "base/require.h"
#include "vmm/acpi_tables.h"
#include "vmm/kvm_calls.h"
#include "vmm/kvm_stats.h"
#include "vmm/machine_inside.h"
#include "vmm/machine_layout.h"
#include "vmm/machine_memory.h"
#include "vmm/machine_state.h"
#include "vmm/machine_vm.h"
#include "vmm/ram_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- requests, from vCPU threads */

static void ask(struct machine *machine,
                enum request request,
                enum machine_end end,
                const char *reason)
{
    const uint64_t one = 1;
    pthread_mutex_lock(&machine->lock);
    const bool first = machine->request == REQUEST_NONE ||
                       (machine->request < REQUEST_END && request >= REQUEST_END);
    if (request == REQUEST_LOST) {
        atomic_store(&machine->is_damaged, true);
        atomic_store(&machine->gives_ram_up, true);
        (void)snprintf(machine->lost_why, sizeof(machine->lost_why), "%s", reason);
    }
    const bool again = request == REQUEST_CRASH_LOADED && machine->dumps_itself;
    const bool taken = first && !again && machine_cpus_hold(&machine->cpus);
    if (taken) {
        machine->dumps_itself |= request == REQUEST_CRASH_LOADED;
        machine->request = request;
        machine->request_end = end;
        (void)snprintf(machine->reason, sizeof(machine->reason), "%s", reason);
    }
    pthread_mutex_unlock(&machine->lock);
    if (taken) {
        /* Cannot block or fail: the counter is far from full. */
        (void)!write(machine->request_fd, &one, sizeof(one));
    }
}

static void on_power(void *context, unsigned number)
{
    static const struct {
        enum request request;
        enum machine_end end;
        const char *reason;
    } rows[] = {
        [POWER_ASKS_OFF] = {REQUEST_END, MACHINE_END_OFF, "the guest powered itself off"},
        [POWER_ASKS_RESET] = {REQUEST_RESET, MACHINE_END_NONE,
                              "the guest asked for a reset"},
        [POWER_SAYS_PANIC] = {REQUEST_END, MACHINE_END_PANIC,
                              "the guest's kernel panicked"},
        [POWER_SAYS_CRASH_LOADED] = {REQUEST_CRASH_LOADED, MACHINE_END_NONE,
                                     "the guest's kernel panicked and dumps itself"},
    };
    REQUIRE(number < ARRAY_COUNT(rows) && rows[number].reason != NULL);
    ask(context, rows[number].request, rows[number].end, rows[number].reason);
}

static void on_shutdown(void *context, struct vcpu *vcpu)
{
    char reason[MACHINE_REASON_SIZE];
    (void)snprintf(reason, sizeof(reason), "CPU %u of the guest shut down (triple fault)",
                   vcpu->index);
    ask(context, REQUEST_END, MACHINE_END_SHUTDOWN, reason);
}

static void on_broken(void *context, struct vcpu *vcpu, const char *reason)
{
    log_error("vmm", "a vCPU cannot go on", KV_U64("cpu", vcpu->index),
              KV_STR("why", reason));
    ask(context, REQUEST_END, MACHINE_END_BROKEN, reason);
}

static bool gives_ram_up(void *context)
{
    const struct machine *machine = context;
    return atomic_load(&machine->gives_ram_up);
}

/* On the loader's thread; who waits for what is lost is let go after this. */
static void on_lost(void *context, const char *reason)
{
    log_error("vmm", "the machine cannot go on", KV_STR("why", reason));
    ask(context, REQUEST_LOST, MACHINE_END_BROKEN, reason);
}

static int on_loader_thread(void *context, struct err *err)
{
    const struct machine *machine = context;
    return machine->events.loader_began != NULL
               ? machine->events.loader_began(machine->events.context, err)
               : 0;
}

static bool may_run(void *context, struct vcpu *vcpu)
{
    struct machine *machine = context;
    return machine_cpus_may_run(&machine->cpus, vcpu);
}

/* ---- standing still and running, on the machine's thread */

void machine_wait_parked(struct machine *machine)
{
    (void)machine_cpus_hold(&machine->cpus); /* they do not end: that is ours to begin */
    ram_loader_hurry(machine->loader, true); /* one may wait for RAM, deaf to kicks */
    machine_cpus_wait(&machine->cpus);
    ram_loader_hurry(machine->loader, false);
}

/* Whether nothing is in flight (any more). */
static bool stand_look(struct machine *machine)
{
    if (machine->stand == STAND_STOPPING &&
        machine_platform_stops(&machine->platform) == NULL) {
        machine_platform_stop_end(&machine->platform);
        machine->stand = STAND_STILL;
    }
    return machine->stand == STAND_STILL;
}

/* Whether it does already; if not, on_request comes when a device has stopped. */
static bool stand_begin(struct machine *machine)
{
    if (machine->stand != STAND_NOT) {
        return stand_look(machine);
    }
    machine_wait_parked(machine);
    machine_platform_stop_begin(&machine->platform);
    machine->stand = STAND_STOPPING;
    if (stand_look(machine)) {
        return true;
    }
    log_info("vmm", "what a device has in flight is waited for, to stand still",
             KV_STR("device", machine_platform_stops(&machine->platform)->name));
    return false;
}

/* As long as that takes. */
static void stand_still(struct machine *machine)
{
    if (!stand_begin(machine)) {
        machine_platform_stop(&machine->platform);
        machine->stand = STAND_STILL;
    }
}

void machine_let_run(struct machine *machine)
{
    if (!atomic_load(&machine->is_damaged) && machine->request == REQUEST_NONE &&
        machine->taken.request == REQUEST_NONE) {
        machine_cpus_go(&machine->cpus);
    }
}

static void go(struct machine *machine)
{
    machine_platform_start(&machine->platform);
    pthread_mutex_lock(&machine->lock);
    machine_let_run(machine);
    machine->is_fresh = false;
    pthread_mutex_unlock(&machine->lock);
    machine->stand = STAND_NOT;
    machine->state = MACHINE_RUNNING;
}

/* ---- the guest's beginning, first and again */

/* A guest that restarts is of the same generation. */
static int generation_place(struct machine *machine, struct err *err)
{
    int r = guest_memory_write(&machine->memory, GENERATION_AT, machine->generation,
                               sizeof(machine->generation));
    return r < 0 ? err_sys(err, r, "place the generation") : 0;
}

/* Tables of the CPUs that it has now. */
int machine_tables_make(struct machine *machine, struct err *err)
{
    const struct acpi_cpus cpus = {.count = machine->cpus.count,
                                   .present = machine_cpus_plugged(&machine->cpus),
                                   .may_come = machine->platform.cpus != NULL};
    uint8_t *image;
    int r = acpi_tables_make(&cpus, &image, &machine->boot.acpi_size, err);
    if (r == 0) {
        free(machine->acpi);
        machine->acpi = image;
        machine->boot.acpi = image;
    }
    return r;
}

static int boot(struct machine *machine, struct err *err)
{
    struct boot_entry entry;
    int r = machine_tables_make(machine, err);
    if (r == 0) {
        r = boot_linux_load(&machine->memory, &machine->boot, &entry, err);
    }
    machine->is_fresh = true;
    if (r == 0) {
        r = generation_place(machine, err);
    }
    return r < 0 ? r : vcpu_enter_at(&machine->cpus.vcpus[0], &entry, err);
}

/* RAM that begins anew is whole, whatever could not be had of the old; and what the old
 * guest's CPUs asked for on their way out is nothing to the new one, but to be off. */
static void past_forget(struct machine *machine)
{
    ram_loader_drop(machine->loader); /* nothing is lost from here on */
    pthread_mutex_lock(&machine->lock);
    atomic_store(&machine->is_damaged, false);
    atomic_store(&machine->gives_ram_up, false);
    machine->dumps_itself = false;
    if (machine->request != REQUEST_END || machine->request_end != MACHINE_END_OFF) {
        machine->request = REQUEST_NONE;
    }
    pthread_mutex_unlock(&machine->lock);
}

static int begin_anew(struct machine *machine, struct err *err)
{
    machine_slots_empty(
        machine, pci_bus_asked(machine->platform.pci)); /* nobody is left to do it */
    machine_slots_settle(machine);
    machine_platform_reset(&machine->platform);
    past_forget(machine); /* before what still comes in is cleared */
    (void)guest_memory_unplug_all(&machine->memory); /* what stays counts */
    int r = guest_memory_clear(&machine->memory, err);
    if (r == 0) {
        /* What is latched there would hit a kernel that is not ready for it. */
        r = kvm_state_apply_chips(&machine->first_kvm, machine->vm_fd, err);
    }
    if (r == 0) {
        r = machine_cpus_reset(&machine->cpus, err);
    }
    return r < 0 ? r : boot(machine, err);
}

static void end(struct machine *machine, enum machine_end why, const char *reason)
{
    machine->state = MACHINE_ENDED;
    log_info("vmm", "the guest has ended", KV_STR("why", reason));
    machine->events.ended(machine->events.context, why, reason);
}

/* While it stands still. */
static void carry_out(struct machine *machine,
                      enum request request,
                      enum machine_end why,
                      const char *reason)
{
    struct err err = {0};
    bool was_running = machine->state == MACHINE_RUNNING;
    if (machine->state == MACHINE_ENDED) {
        return;
    }
    switch (request) {
    case REQUEST_END:
    case REQUEST_LOST:
        end(machine, why, reason);
        return;
    case REQUEST_RESET:
        if (begin_anew(machine, &err) < 0) {
            end(machine, MACHINE_END_BROKEN, err.text);
            return;
        }
        log_info("vmm", "the machine begins anew", KV_STR("why", reason));
        machine->events.reset(machine->events.context);
        break;
    case REQUEST_CRASH_LOADED:
        machine->events.crash_loaded(machine->events.context);
        break;
    case REQUEST_NONE:
    default:
        break;
    }
    if (was_running) {
        go(machine);
    }
}

/* Has on_request called. */
static void request_again(const struct machine *machine)
{
    const uint64_t one = 1;
    /* Cannot block or fail: the counter is far from full. */
    (void)!write(machine->request_fd, &one, sizeof(one));
}

/* Carries out what a vCPU has asked for, if one has: whether it did. What it asked for
 * next comes after that; when it has to wait until nothing is in flight, on_request comes
 * for the rest. */
static bool request_take(struct machine *machine)
{
    struct taken_request *taken = &machine->taken;
    pthread_mutex_lock(&machine->lock);
    if (taken->request == REQUEST_NONE) {
        taken->request = machine->request;
        taken->end = machine->request_end;
        memcpy(taken->reason, machine->reason, sizeof(taken->reason));
        machine->request = REQUEST_NONE;
    } else if (machine->request != REQUEST_NONE) {
        request_again(machine);
    }
    pthread_mutex_unlock(&machine->lock);
    if (taken->request != REQUEST_NONE && taken->request != REQUEST_CRASH_LOADED &&
        machine->state != MACHINE_ENDED) {
        atomic_store(&machine->gives_ram_up, true);
        ram_loader_abandon(machine->loader); /* nobody goes on with what it was */
    }
    if (taken->request == REQUEST_NONE ||
        (machine->state == MACHINE_RUNNING && !stand_begin(machine))) {
        return false;
    }
    const struct taken_request now = *taken;
    taken->request = REQUEST_NONE;
    carry_out(machine, now.request, now.end, now.reason);
    return true;
}

/* Whether it is paused: what was let go is gone by then, too, for no state holds that it
 * is on its way. */
static bool pause_look(struct machine *machine)
{
    const bool is_paused = stand_look(machine) && machine_slots_leave(machine);
    machine->state = is_paused ? MACHINE_PAUSED : MACHINE_PAUSING;
    return is_paused;
}

static void on_request(void *context, uint64_t token, unsigned poll_events)
{
    struct machine *machine = context;
    uint64_t ignored;
    (void)token;
    (void)poll_events;
    (void)!read(machine->request_fd, &ignored, sizeof(ignored)); /* empties it */
    if (machine->stand == STAND_STOPPING && !stand_look(machine)) {
        return; /* all the rest is for a machine that stands still, or runs */
    }
    if (machine->state == MACHINE_PAUSING) {
        if (!pause_look(machine)) {
            return;
        }
        if (machine->events.paused != NULL) {
            machine->events.paused(machine->events.context);
        }
    }
    (void)request_take(machine);
    machine_let_go_take(machine);
}

/* On a vCPU's thread, with the bus' lock held. */
static void on_let_go(void *context, unsigned number)
{
    (void)number;
    request_again(context);
}

/* On any thread, with the device's lock held. */
static void on_stopped(void *context, unsigned number)
{
    (void)number;
    request_again(context);
}

/* ---- making it */

/* A host that does not allow it reads all first: that is as good, only later. */
static void loader_make(struct machine *machine)
{
    const struct ram_loader_events events = {
        .thread_began = on_loader_thread, .failed = on_lost, .context = machine};
    struct err err = {0};
    if (machine->image.ram == MACHINE_RAM_LAZY &&
        guest_memory_boot_size(&machine->memory) != guest_memory_size(&machine->memory)) {
        /* The guest's view of it is not the one that would be filled. */
        log_warn("vmm", "all of the saved RAM is read first",
                 KV_STR("why", "it has RAM that is plugged"));
        return;
    }
    if (machine->image.ram == MACHINE_RAM_LAZY &&
        ram_loader_new(&machine->memory, machine->image.fd, machine->image.offset,
                       &events, &machine->loader, &err) < 0) {
        log_warn("vmm", "all of the saved RAM is read first", KV_STR("why", err.text));
    }
}

static int platform_make(struct machine *machine, unsigned present_count, struct err *err)
{
    const struct machine_platform_plan plan = {.bus = &machine->bus,
                                               .vm_fd = machine->vm_fd,
                                               .poller = machine->poller,
                                               .trace = machine->trace,
                                               .asked = {on_power, machine},
                                               .let_go = {on_let_go, machine},
                                               .stopped = {on_stopped, machine},
                                               .cpu_count = machine->cpus.count,
                                               .present_count = present_count};
    return machine_platform_make(&machine->platform, &plan, err);
}

static int
boot_prepare(struct machine *machine, const struct machine_plan *plan, struct err *err)
{
    machine->cmdline = strdup(plan->cmdline);
    machine->boot = (struct boot_source){.kernel_fd = plan->kernel_fd,
                                         .initrd_fd = plan->initrd_fd,
                                         .cmdline = machine->cmdline};
    return machine->cmdline == NULL ? err_sys(err, -ENOMEM, "keep the command line") : 0;
}

static int requests_make(struct machine *machine, struct err *err)
{
    machine->request_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (machine->request_fd < 0) {
        return err_sys(err, -errno, "make an eventfd");
    }
    machine->request_watch = poller_add(machine->poller, machine->request_fd,
                                        POLLER_READABLE, on_request, machine, 0);
    return machine->request_watch < 0
               ? err_sys(err, machine->request_watch, "watch for requests")
               : 0;
}

static int plan_check(const struct machine_plan *plan, struct err *err)
{
    int r = machine_cpus_check(plan->cpu_count, plan->plug_cpus, err);
    if (r == 0) {
        r = machine_memory_plan_check(plan, err);
    }
    return r < 0 ? r : kvm_check(plan->kvm_fd, err);
}

static int
parts_make(struct machine *machine, const struct machine_plan *plan, struct err *err)
{
    int r = requests_make(machine, err);
    if (r == 0) {
        r = machine_vm_make(machine->kvm_fd, &machine->vm_fd, &machine->first_kvm, err);
    }
    if (r == 0) {
        machine->stats_fd = kvm_stats_open(machine->vm_fd);
        r = machine_memory_check(plan, &machine->image, err);
    }
    if (r == 0) {
        r = machine_memory_make(&machine->memory, machine->vm_fd, plan, &machine->image,
                                err);
    }
    if (r == 0) {
        boot_trace_reach(machine->trace, BOOT_MEMORY);
        loader_make(machine);
        r = machine_cpus_make(&machine->cpus, plan->kvm_fd, machine->vm_fd,
                              plan->cpu_level, plan->cpu_count + plan->plug_cpus,
                              plan->cpu_count, err);
    }
    if (r == 0) {
        r = platform_make(machine, plan->cpu_count, err);
    }
    return r < 0 ? r : boot_prepare(machine, plan, err);
}

int machine_new(const struct machine_plan *plan,
                struct machine **ret_machine,
                struct err *err)
{
    int r = plan_check(plan, err);
    if (r < 0) {
        return r;
    }
    struct machine *machine = calloc(1, sizeof(*machine));
    if (machine == NULL) {
        return err_sys(err, -ENOMEM, "make a machine");
    }
    machine->kvm_fd = plan->kvm_fd;
    machine->vm_fd = machine->stats_fd = -1;
    machine->request_fd = -1;
    machine->request_watch = -1;
    machine->poller = plan->poller;
    machine->events = plan->events;
    machine->trace = plan->trace;
    machine->cpu_level = plan->cpu_level;
    random_secret(machine->generation, sizeof(machine->generation));
    if (plan->image != NULL) {
        machine->image = *plan->image;
        machine->awaits_state = machine->is_loaded = true;
    }
    guest_memory_init(&machine->memory);
    io_bus_init(&machine->bus);
    machine_cpus_init(&machine->cpus);
    (void)pthread_mutex_init(&machine->lock, NULL); /* cannot fail without attributes */
    vcpu_signal_setup();
    r = parts_make(machine, plan, err);
    if (r < 0) {
        machine_free(machine);
        return r;
    }
    boot_trace_reach(plan->trace, BOOT_MADE);
    *ret_machine = machine;
    return 0;
}

struct machine *machine_free(struct machine *machine)
{
    if (machine == NULL) {
        return NULL;
    }
    ram_loader_abandon(machine->loader); /* no vCPU is joined that waits for it */
    machine_cpus_end(&machine->cpus);
    machine_platform_fini(&machine->platform);
    machine->loader = ram_loader_free(machine->loader);
    machine_cpus_fini(&machine->cpus);
    if (machine->request_watch >= 0) {
        poller_remove(machine->poller, machine->request_watch);
    }
    fd_close(&machine->request_fd);
    fd_close(&machine->stats_fd);
    fd_close(&machine->vm_fd);
    guest_memory_fini(&machine->memory);
    io_bus_fini(&machine->bus);
    (void)pthread_mutex_destroy(&machine->lock);
    free(machine->acpi);
    free(machine->cmdline);
    free(machine);
    return NULL;
}

/* ---- what the owner may do */

struct virtio_place machine_place(struct machine *machine)
{
    return (struct virtio_place){&machine->memory, machine->poller};
}

int machine_add_virtio(struct machine *machine,
                       struct virtio_device *take_virtio,
                       const char *name,
                       struct err *err)
{
    const unsigned slot = pci_bus_free_slot(machine->platform.pci, false);
    REQUIRE(machine->state == MACHINE_HELD);
    if (slot == 0) {
        virtio_device_free(take_virtio);
        return err_set(err, BERTH_EFULL, "PCI: more than %u devices", PCI_SLOTS_MAX);
    }
    const int r =
        machine_platform_add(&machine->platform, slot, false, take_virtio, name, err);
    if (r == 0) {
        pci_bus_place(machine->platform.pci, slot);
    }
    return r;
}

struct serial_port *machine_serial(struct machine *machine)
{
    return machine->platform.serial;
}

enum machine_state machine_state(const struct machine *machine)
{
    return machine->state;
}

int machine_start_threads(struct machine *machine, struct err *err)
{
    const struct vcpu_events events = {.began = machine->events.thread_began,
                                       .may_run = may_run,
                                       .shutdown = on_shutdown,
                                       .broken = on_broken,
                                       .gives_ram_up = gives_ram_up,
                                       .trace = machine->trace,
                                       .context = machine,
                                       .began_context = machine->events.context};
    return machine_cpus_start(&machine->cpus, &machine->bus, &events, err);
}

int machine_load(struct machine *machine, struct err *err)
{
    if (machine->is_loaded) {
        return 0;
    }
    machine->is_loaded = true;
    const int r = boot(machine, err);
    if (r == 0) {
        boot_trace_reach(machine->trace, BOOT_LOADED);
    }
    return r;
}

int machine_run(struct machine *machine, struct err *err)
{
    if (machine->awaits_state) {
        return err_set(err, BERTH_EPHASE, "the saved machine is not in yet");
    }
    if (atomic_load(&machine->is_damaged)) {
        pthread_mutex_lock(&machine->lock);
        const int r = err_set(err, BERTH_ECORRUPT, "the saved RAM cannot be had: %s",
                              machine->lost_why);
        pthread_mutex_unlock(&machine->lock);
        return r;
    }
    switch (machine->state) {
    case MACHINE_HELD: {
        int r = machine_load(machine, err);
        r = r < 0 ? r : machine_start_threads(machine, err);
        if (r < 0) {
            return r;
        }
        break;
    }
    case MACHINE_PAUSING:
        request_again(machine); /* what came meanwhile waits */
        break;
    case MACHINE_PAUSED:
        break;
    case MACHINE_RUNNING:
        return 0;
    case MACHINE_ENDED:
    case MACHINE_STATE_COUNT:
    default:
        return err_set(err, BERTH_EPHASE, "the guest has ended");
    }
    boot_trace_reach(machine->trace, BOOT_GO);
    go(machine);
    return 0;
}

int machine_pause(struct machine *machine, struct err *err)
{
    switch (machine->state) {
    case MACHINE_RUNNING:
        (void)stand_begin(machine);
        return pause_look(machine) ? 0 : 1;
    case MACHINE_PAUSING:
        return 1;
    case MACHINE_HELD:
    case MACHINE_PAUSED:
        return 0;
    case MACHINE_ENDED:
    case MACHINE_STATE_COUNT:
    default:
        return err_set(err, BERTH_EPHASE, "the guest has ended");
    }
}

const char *machine_waits_for(const struct machine *machine)
{
    const struct device *device = NULL;
    if (machine->stand == STAND_STOPPING) {
        device = machine_platform_stops(&machine->platform);
    } else if (machine->state == MACHINE_PAUSING) {
        device = machine_slots_leaver(machine);
    }
    return device != NULL ? device->name : NULL;
}

void machine_halt(struct machine *machine)
{
    atomic_store(&machine->gives_ram_up, true);
    ram_loader_abandon(machine->loader);
    if (machine->state == MACHINE_RUNNING || machine->state == MACHINE_PAUSING) {
        stand_still(machine);
        machine->state = MACHINE_PAUSED;
    }
    machine_slots_sync_last(machine);
}

/* ---- its state as bytes */

static struct machine_parts parts_of(struct machine *machine)
{
    return (struct machine_parts){.kvm_fd = machine->kvm_fd,
                                  .vm_fd = machine->vm_fd,
                                  .memory_bytes = guest_memory_size(&machine->memory),
                                  .cpu_table = machine->cpus.table,
                                  .vcpus = machine->cpus.vcpus,
                                  .cpu_count = machine->cpus.count,
                                  .devices = machine->platform.devices,
                                  .device_count = machine->platform.device_count,
                                  .wall_ms = clock_wall_ms(clock_system())};
}

int machine_save(struct machine *machine, struct bytes_writer *stream, struct err *err)
{
    /* No state holds that the guest has asked to start over, or to end, or that it has
     * let a device go. What waits behind what it asked for first is not left for later,
     * when RAM is being written. */
    while (machine->state == MACHINE_PAUSED && request_take(machine)) {
    }
    if (machine->state == MACHINE_PAUSED) {
        machine_let_go_take(machine);
    }
    if (machine->state == MACHINE_HELD || machine->state == MACHINE_PAUSED) {
        machine_slots_settle(machine); /* nor that one is on its way out */
    }
    if (machine->awaits_state || !machine->is_loaded ||
        (machine->state != MACHINE_HELD && machine->state != MACHINE_PAUSED)) {
        return err_set(err, BERTH_EPHASE, "only a machine that stands still is saved");
    }
    const struct machine_parts parts = parts_of(machine);
    return machine_state_save(&parts, stream, err);
}

int machine_sync(struct machine *machine, const atomic_bool *wants_stop, struct err *err)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < machine->platform.device_count; i++) {
        if (wants_stop != NULL && atomic_load(wants_stop)) {
            return err_set(err, BERTH_ECLOSED, "it was cancelled");
        }
        r = device_sync(machine->platform.devices[i], err);
    }
    return r;
}

static int take_ram(void *context, struct bytes_reader *section, struct err *err)
{
    struct machine *machine = context;
    const struct ram_stop stop = {machine->events.is_unwanted, machine->events.context};
    if (machine->image.ram == MACHINE_RAM_MAPPED) {
        return ram_image_fits(&machine->memory, section, err);
    }
    return machine->loader != NULL
               ? ram_loader_begin(machine->loader, section, err)
               : ram_image_read(&machine->memory, machine->image.fd,
                                machine->image.offset,
                                stop.is_wanted != NULL ? &stop : NULL, section, err);
}

int machine_restore(struct machine *machine,
                    const void *stream,
                    size_t size,
                    struct err *err)
{
    const struct machine_parts parts = parts_of(machine);
    REQUIRE(machine->awaits_state && machine->state == MACHINE_HELD);
    int r = machine_state_restore(&parts, stream, size, take_ram, machine, err);
    if (r == 0) {
        r = generation_place(machine, err);
    }
    if (r < 0) {
        return r;
    }
    if (machine->platform.cpus != NULL) {
        machine_cpus_set_plugged(&machine->cpus,
                                 cpu_plug_present(machine->platform.cpus));
    }
    power_control_renew(
        machine->platform.power); /* into the interrupt controllers that came in */
    machine->awaits_state = false;
    boot_trace_reach(machine->trace, BOOT_RESTORED);
    return 0;
}

void machine_fill(const struct machine *machine, struct machine_fill *ret_fill)
{
    struct ram_loader_progress progress = {0};
    if (machine->loader != NULL) {
        ram_loader_progress(machine->loader, &progress);
    }
    *ret_fill = (struct machine_fill){.total_bytes = progress.total_bytes,
                                      .done_bytes = progress.done_bytes,
                                      .was_abandoned = progress.was_abandoned,
                                      .is_damaged = atomic_load(&machine->is_damaged)};
}

const struct guest_memory *machine_memory(const struct machine *machine)
{
    return &machine->memory;
}

void machine_reset(struct machine *machine)
{
    if (machine->state == MACHINE_RUNNING || machine->state == MACHINE_PAUSING ||
        machine->state == MACHINE_PAUSED) {
        ask(machine, REQUEST_RESET, MACHINE_END_NONE, "a reset was asked for");
    }
}

void machine_press_power(struct machine *machine)
{
    power_control_press(machine->platform.power);
}

bool machine_cpu_is_plugged(const struct machine *machine, unsigned index)
{
    return machine_cpus_is_plugged(&machine->cpus, index);
}

enum cpu_level machine_cpu_level(const struct machine *machine)
{
    return machine->cpu_level;
}

unsigned machine_cpu_count(const struct machine *machine)
{
    return machine->cpus.count;
}

const struct vcpu *machine_vcpu(const struct machine *machine, unsigned index)
{
    REQUIRE(index < machine->cpus.count);
    return &machine->cpus.vcpus[index];
}

int machine_stats_fd(const struct machine *machine)
{
    return machine->stats_fd;
}

uint64_t machine_memory_bytes(const struct machine *machine)
{
    return guest_memory_boot_size(&machine->memory);
}
