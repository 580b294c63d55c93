#include "base/log.h"
#include "base/require.h"
#include "vmm/cpu_plug.h"
#include "vmm/machine_inside.h"
#include "vmm/machine_layout.h"
#include "vmm/pci_bus.h"
#include "vmm/power_control.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* ---- devices that go, on the machine's thread
 *
 *     asked --let go, or a reset--> stopping: out of sight, while no CPU runs
 *     stopping --nothing is in flight--> leaving: reset, while no CPU runs
 *     leaving --all is in its file, or cannot be--> gone: freed, and told of
 */

/* On any thread, with the device's lock held. */
static void on_synced(void *context, int code)
{
    struct machine_leaver *leaver = context;
    const uint64_t one = 1;
    leaver->code = code;
    atomic_store(&leaver->is_synced, true);
    /* Cannot block or fail: the counter is far from full. */
    (void)!write(leaver->machine->request_fd, &one, sizeof(one));
}

static void leaver_end(struct machine *machine, unsigned i)
{
    struct machine_leaver *leaver = &machine->leavers[i];
    const unsigned slot = PCI_PLUG_FIRST + i;
    struct virtio_pci *function = machine_platform_remove(&machine->platform, slot);
    char name[DEVICE_NAME_SIZE];
    (void)snprintf(name, sizeof(name), "%s", function->device.name);
    if (leaver->code < 0) {
        log_warn("vmm", "a device that goes has not all in its file",
                 KV_STR("device", name), KV_STR("why", err_sentence(leaver->code)));
    }
    log_info("vmm", "a device has gone", KV_STR("device", name), KV_U64("slot", slot));
    leaver->leaves = false;
    if (machine->events.leaves != NULL) {
        machine->events.leaves(machine->events.context, function->virtio);
    }
    device_free(&function->device);
    if (machine->events.unplugged != NULL) {
        machine->events.unplugged(machine->events.context, name);
    }
}

/* While no CPU runs: it has nothing in flight. */
static void leaver_part(struct machine *machine, unsigned i)
{
    struct machine_leaver *leaver = &machine->leavers[i];
    const struct virtio_synced synced = {on_synced, leaver};
    struct virtio_device *device =
        machine_platform_parted(&machine->platform, PCI_PLUG_FIRST + i)->virtio;
    leaver->stops = false;
    virtio_device_enter(device);
    const bool waits = virtio_device_sync_last(device, &synced);
    virtio_device_leave(device);
    if (!waits) {
        leaver_end(machine, i);
    }
}

void machine_slots_empty(struct machine *machine, uint8_t slots)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        struct machine_leaver *leaver = &machine->leavers[i];
        if ((slots >> i & 1) == 0 || leaver->leaves) {
            continue;
        }
        leaver->machine = machine;
        leaver->leaves = leaver->stops = true;
        leaver->code = 0;
        atomic_store(&leaver->is_synced, false);
        if (!machine_platform_part(&machine->platform, PCI_PLUG_FIRST + i)) {
            leaver_part(machine, i);
        }
    }
}

/* Those that have nothing in flight any more: a set. */
static uint8_t stopped_set(struct machine *machine)
{
    uint8_t set = 0;
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (machine->leavers[i].stops &&
            !device_stops(
                &pci_bus_function(machine->platform.pci, PCI_PLUG_FIRST + i)->device)) {
            set |= (uint8_t)(1u << i);
        }
    }
    return set;
}

static void slots_part(struct machine *machine, uint8_t slots)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if ((slots >> i & 1) != 0) {
            leaver_part(machine, i);
        }
    }
}

void machine_slots_settle(struct machine *machine)
{
    slots_part(machine, stopped_set(machine));
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (machine->leavers[i].leaves) {
            struct virtio_pci *function =
                pci_bus_function(machine->platform.pci, PCI_PLUG_FIRST + i);
            device_reset(&function->device); /* which waits for what is in flight */
            REQUIRE(atomic_load(&machine->leavers[i].is_synced));
            leaver_end(machine, i);
        }
    }
}

/* With the device's lock held. */
static void on_synced_last(void *context, int code)
{
    *(int *)context = code;
}

static bool slot_leaves(const struct machine *machine, unsigned slot)
{
    return pci_plug_has(slot) && machine->leavers[slot - PCI_PLUG_FIRST].leaves;
}

/* A disk may know what was written, but not flushed, by what it has in memory alone. All
 * are asked before one is waited for. */
void machine_slots_sync_last(struct machine *machine)
{
    struct virtio_pci *waits[PCI_SLOTS_MAX + 1] = {NULL};
    int codes[PCI_SLOTS_MAX + 1] = {0};
    for (unsigned slot = 1; slot <= PCI_SLOTS_MAX; slot++) {
        const struct virtio_synced synced = {on_synced_last, &codes[slot]};
        struct virtio_pci *function = pci_bus_function(machine->platform.pci, slot);
        if (function == NULL || slot_leaves(machine, slot)) {
            continue; /* one that leaves is at it */
        }
        virtio_device_enter(function->virtio);
        if (virtio_device_sync_last(function->virtio, &synced)) {
            waits[slot] = function;
        }
        virtio_device_leave(function->virtio);
    }
    machine_slots_settle(machine);
    for (unsigned slot = 1; slot <= PCI_SLOTS_MAX; slot++) {
        if (waits[slot] == NULL) {
            continue;
        }
        device_reset(&waits[slot]->device); /* which waits for what is in flight */
        if (codes[slot] < 0) {
            log_error("vmm", "what the guest has written may not all be in its file",
                      KV_STR("device", waits[slot]->device.name),
                      KV_STR("why", err_sentence(codes[slot])));
        }
    }
}

/* Those that have all in their files by now. */
static void leavers_take(struct machine *machine)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (machine->leavers[i].leaves && atomic_load(&machine->leavers[i].is_synced)) {
            leaver_end(machine, i);
        }
    }
}

/* What was let go and does not leave yet. */
static uint8_t let_go_set(const struct machine *machine)
{
    uint8_t set = pci_bus_leaving(machine->platform.pci);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        set &= (uint8_t)(machine->leavers[i].leaves ? ~(1u << i) : 0xffu);
    }
    return set;
}

static void slots_take(struct machine *machine, uint8_t let_go, uint8_t stopped)
{
    slots_part(machine, stopped);
    machine_slots_empty(machine, let_go);
}

const struct device *machine_slots_leaver(const struct machine *machine)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (machine->leavers[i].leaves) {
            return &pci_bus_function(machine->platform.pci, PCI_PLUG_FIRST + i)->device;
        }
    }
    return NULL;
}

bool machine_slots_leave(struct machine *machine)
{
    leavers_take(machine);
    slots_take(machine, let_go_set(machine), stopped_set(machine));
    return machine_slots_leaver(machine) == NULL;
}

/* A CPU may be about to look at it: all stand still for that moment, and longer when one
 * of them has asked for something meanwhile. */
void machine_let_go_take(struct machine *machine)
{
    leavers_take(machine);
    const uint8_t let_go = let_go_set(machine);
    const uint8_t stopped = stopped_set(machine);
    if ((let_go | stopped) == 0 || machine->state == MACHINE_ENDED ||
        machine->stand == STAND_STOPPING) { /* which ends with another look */
        return;
    }
    if (machine->state != MACHINE_RUNNING) {
        slots_take(machine, let_go, stopped);
        return;
    }
    machine_wait_parked(machine);
    slots_take(machine, let_go, stopped);
    pthread_mutex_lock(&machine->lock);
    machine_let_run(machine);
    pthread_mutex_unlock(&machine->lock);
}

/* ---- devices and CPUs that come */

static int slot_check(const struct machine *machine, unsigned slot, struct err *err)
{
    if (!pci_plug_has(slot)) {
        return err_set(err, BERTH_EINVALID, "slot: not %u to %u", PCI_PLUG_FIRST,
                       PCI_PLUG_FIRST + PCI_PLUG_SLOTS - 1);
    }
    return pci_bus_function(machine->platform.pci, slot) == NULL
               ? 0
               : err_set(err, BERTH_EEXISTS, "slot %u: another device is there", slot);
}

int machine_add_virtio_in(struct machine *machine,
                          unsigned slot,
                          struct virtio_device *take_virtio,
                          const char *name,
                          struct err *err)
{
    REQUIRE(machine->state == MACHINE_HELD);
    int r = slot_check(machine, slot, err);
    if (r < 0) {
        virtio_device_free(take_virtio);
        return r;
    }
    r = machine_platform_add(&machine->platform, slot, true, take_virtio, name, err);
    if (r == 0) {
        pci_bus_place(machine->platform.pci, slot);
        pci_bus_show(machine->platform.pci, slot, false);
    }
    return r;
}

static int plug_check(const struct machine *machine, struct err *err)
{
    return machine->awaits_state || machine->state == MACHINE_ENDED
               ? err_set(err, BERTH_EPHASE, "%s",
                         machine->awaits_state ? "the saved machine is not in yet"
                                               : "the guest has ended")
               : 0;
}

/* It has not read its tables nor looked at its bus. */
static bool has_not_begun(const struct machine *machine)
{
    return !machine->is_loaded || machine->is_fresh;
}

int machine_can_plug(const struct machine *machine,
                     unsigned slot,
                     const char *name,
                     struct err *err)
{
    const struct pci_bus *pci = machine->platform.pci;
    int r = plug_check(machine, err);
    if (r < 0) {
        return r;
    }
    if (machine_platform_has(&machine->platform, name)) {
        return err_set(err, BERTH_EEXISTS, "Duplicate device ID '%s'", name);
    }
    if (!pci_bus_can_plug(pci)) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "the guest knows of no slots: it was saved by an earlier version, "
                       "and has them when it begins anew");
    }
    if (slot != 0) {
        r = slot_check(machine, slot, err);
        return r < 0 ? r : (int)slot;
    }
    const unsigned first = pci_bus_free_slot(pci, true);
    return first != 0
               ? (int)first
               : err_set(err, BERTH_EFULL,
                         "all of the slots %u to %u have a device: no more can come",
                         PCI_PLUG_FIRST, PCI_PLUG_FIRST + PCI_PLUG_SLOTS - 1);
}

int machine_plug_virtio(struct machine *machine,
                        unsigned slot,
                        struct virtio_device *take_virtio,
                        const char *name,
                        struct err *err)
{
    struct pci_bus *pci = machine->platform.pci;
    REQUIRE(machine_can_plug(machine, slot, name, NULL) == (int)slot);
    const int r =
        machine_platform_add(&machine->platform, slot, true, take_virtio, name, err);
    if (r < 0) {
        return r;
    }
    log_info("vmm", "the guest gets a device", KV_STR("device", name),
             KV_U64("slot", slot));
    if (machine->stand == STAND_NOT && machine->state == MACHINE_RUNNING) {
        device_start(&pci_bus_function(pci, slot)->device);
    }
    if (has_not_begun(machine)) {
        pci_bus_place(pci, slot);
        pci_bus_show(pci, slot, false);
        return 0;
    }
    /* The guest may look now that it is complete. */
    pci_bus_show(pci, slot, true);
    power_control_tell_slot(machine->platform.power);
    return 0;
}

int machine_unplug(struct machine *machine, const char *name, struct err *err)
{
    const unsigned slot = machine_platform_slot(&machine->platform, name);
    int r = plug_check(machine, err);
    if (r < 0) {
        return r;
    }
    if (!machine_platform_has(&machine->platform, name)) {
        return err_set(err, -ENODEV, "Device '%.60s' not found", name);
    }
    if (slot == 0 || !pci_bus_can_leave(machine->platform.pci, slot)) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "Device '%.60s' stays as long as the machine: it is in no slot "
                       "from %u to %u",
                       name, PCI_PLUG_FIRST, PCI_PLUG_FIRST + PCI_PLUG_SLOTS - 1);
    }
    if (machine->leavers[slot - PCI_PLUG_FIRST].leaves) {
        return 0; /* it is about to be told */
    }
    if (has_not_begun(machine)) {
        machine_slots_empty(machine, (uint8_t)(1u << (slot - PCI_PLUG_FIRST)));
        return 0;
    }
    pci_bus_ask(machine->platform.pci, slot);
    power_control_tell_slot(machine->platform.power);
    return 0;
}

/* A guest that has read nothing yet finds the CPU in its tables. */
static int tables_renew(struct machine *machine)
{
    int r = machine_tables_make(machine, NULL);
    return r < 0 ? r
                 : guest_memory_write(&machine->memory, ACPI_AT, machine->acpi,
                                      machine->boot.acpi_size);
}

int machine_plug_cpu(struct machine *machine, unsigned index, struct err *err)
{
    int r = plug_check(machine, err);
    if (r == 0) {
        r = machine_cpus_plug(&machine->cpus, index, err);
    }
    if (r < 0) {
        return r;
    }
    log_info("vmm", "the guest gets a CPU", KV_U64("cpu", index));
    const bool has_begun =
        machine->is_loaded && (!machine->is_fresh || tables_renew(machine) < 0);
    /* The guest may see it now that it is complete. */
    cpu_plug_add(machine->platform.cpus, index, has_begun);
    if (has_begun) {
        power_control_tell_cpu(machine->platform.power);
    }
    return 0;
}
