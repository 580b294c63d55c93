#include "base/log.h"
#include "base/require.h"
#include "vmm/cpu_plug.h"
#include "vmm/machine_inside.h"
#include "vmm/machine_layout.h"
#include "vmm/pci_bus.h"
#include "vmm/power_control.h"

#include <errno.h>
#include <stdio.h>

/* ---- devices that go, on the machine's thread while no CPU runs */

void machine_slots_empty(struct machine *machine, uint8_t slots)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if ((slots >> i & 1) == 0) {
            continue;
        }
        struct virtio_pci *function =
            machine_platform_remove(&machine->platform, PCI_PLUG_FIRST + i);
        char name[DEVICE_NAME_SIZE];
        (void)snprintf(name, sizeof(name), "%s", function->device.name);
        log_info("vmm", "a device has gone", KV_STR("device", name),
                 KV_U64("slot", PCI_PLUG_FIRST + i));
        if (machine->events.leaves != NULL) {
            machine->events.leaves(machine->events.context, function->virtio);
        }
        device_free(&function->device);
        if (machine->events.unplugged != NULL) {
            machine->events.unplugged(machine->events.context, name);
        }
    }
}

/* A CPU may be about to look at it: all stand still for that moment, and longer when one
 * of them has asked for something meanwhile. */
void machine_let_go_take(struct machine *machine)
{
    const uint8_t leaving = pci_bus_leaving(machine->platform.pci);
    if (leaving == 0 || machine->state == MACHINE_ENDED) {
        return;
    }
    if (machine->state != MACHINE_RUNNING) {
        machine_slots_empty(machine, leaving);
        return;
    }
    machine_wait_parked(machine);
    machine_slots_empty(machine, leaving);
    pthread_mutex_lock(&machine->lock);
    if (machine->request == REQUEST_NONE) {
        machine_let_run(machine);
    }
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
    if (machine->state == MACHINE_RUNNING) {
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
