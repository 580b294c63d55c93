#include "vmm/machine_platform.h"

#include "base/cleanup.h"
#include "base/require.h"
#include "vmm/machine_layout.h"
#include "vmm/machine_vm.h"

#include <errno.h>
#include <string.h>

/* ---- the platform ---- */

/* Both are edge triggered. */
static void on_serial_line(void *context, unsigned number)
{
    (void)number;
    machine_vm_pulse(((const struct machine_platform *)context)->vm_fd, SERIAL_IRQ);
}

static void on_event_line(void *context, unsigned number)
{
    (void)number;
    machine_vm_pulse(((const struct machine_platform *)context)->vm_fd, EVENT_IRQ);
}

static int device_register(struct machine_platform *platform,
                           struct device *device,
                           const struct io_range *ranges,
                           unsigned range_count,
                           struct err *err)
{
    platform->devices[platform->device_count++] = device;
    for (unsigned i = 0; i < range_count; i++) {
        struct io_range range = ranges[i];
        range.device = device;
        int r = io_bus_add(platform->bus, &range, err);
        if (r < 0) {
            return r;
        }
    }
    return device_init(device, err);
}

static int serial_make(struct machine_platform *platform,
                       const struct machine_platform_plan *plan,
                       struct err *err)
{
    static const struct io_range ranges[] = {
        {.space = IO_PORTS, .start = SERIAL_PORT, .size = SERIAL_SIZE}};
    if (serial_port_new(&platform->serial) < 0) {
        return err_sys(err, -ENOMEM, "make the serial port");
    }
    platform->serial->line = (struct device_line){on_serial_line, platform};
    platform->serial->trace = plan->trace;
    return device_register(platform, &platform->serial->device, ranges,
                           ARRAY_COUNT(ranges), err);
}

static int power_make(struct machine_platform *platform,
                      const struct machine_platform_plan *plan,
                      struct err *err)
{
    static const struct io_range ranges[] = {
        {.space = IO_PORTS,
         .start = POWER_PORT,
         .size = POWER_SIZE,
         .region = POWER_PORTS},
        {.space = IO_PORTS,
         .start = KEYBOARD_PORT,
         .size = KEYBOARD_SIZE,
         .region = POWER_KEYBOARD},
        {.space = IO_PORTS,
         .start = PANIC_PORT,
         .size = PANIC_SIZE,
         .region = POWER_PANIC},
        {.space = IO_PORTS,
         .start = BOOT_MARK_PORT,
         .size = BOOT_MARK_SIZE,
         .region = POWER_MARK},
    };
    if (power_control_new(&platform->power) < 0) {
        return err_sys(err, -ENOMEM, "make the power registers");
    }
    platform->power->asked = plan->asked;
    platform->power->marked = (struct device_line){boot_trace_mark, plan->trace};
    platform->power->events = (struct device_line){on_event_line, platform};
    platform->power->poller = plan->poller;
    return device_register(platform, &platform->power->device, ranges,
                           ARRAY_COUNT(ranges), err);
}

static int pci_make(struct machine_platform *platform,
                    const struct machine_platform_plan *plan,
                    struct err *err)
{
    static const struct io_range ranges[] = {
        {.space = IO_MEMORY, .start = ECAM_AT, .size = ECAM_SIZE, .region = PCI_BUS_ECAM},
        {.space = IO_PORTS,
         .start = PCI_PORT,
         .size = PCI_PORT_SIZE,
         .region = PCI_BUS_PORTS},
        {.space = IO_PORTS,
         .start = PCI_PLUG_PORT,
         .size = PCI_PLUG_SIZE,
         .region = PCI_BUS_PLUG},
    };
    if (pci_bus_new(plan->bus, plan->vm_fd, plan->poller, &platform->pci) < 0) {
        return err_sys(err, -ENOMEM, "make the PCI bus");
    }
    platform->pci->let_go = plan->let_go;
    return device_register(platform, &platform->pci->device, ranges, ARRAY_COUNT(ranges),
                           err);
}

static int cpus_make(struct machine_platform *platform,
                     const struct machine_platform_plan *plan,
                     struct err *err)
{
    static const struct io_range ranges[] = {
        {.space = IO_PORTS, .start = CPU_PLUG_PORT, .size = CPU_PLUG_SIZE}};
    if (plan->present_count == plan->cpu_count) {
        return 0;
    }
    if (cpu_plug_new(plan->cpu_count, plan->present_count, &platform->cpus) < 0) {
        return err_sys(err, -ENOMEM, "make the registers of CPUs");
    }
    return device_register(platform, &platform->cpus->device, ranges, ARRAY_COUNT(ranges),
                           err);
}

int machine_platform_make(struct machine_platform *platform,
                          const struct machine_platform_plan *plan,
                          struct err *err)
{
    static int (*const makers[])(
        struct machine_platform * platform, const struct machine_platform_plan *plan,
        struct err *err) = {serial_make, power_make, pci_make, cpus_make};
    int r = 0;
    platform->bus = plan->bus;
    platform->vm_fd = plan->vm_fd;
    platform->stopped = plan->stopped;
    for (unsigned i = 0; r == 0 && i < ARRAY_COUNT(makers); i++) {
        r = makers[i](platform, plan, err);
    }
    return r;
}

/* ---- what is on the bus ---- */

/* Where a device of this slot that may leave is in the list, or would be. */
static unsigned place_of(const struct machine_platform *platform, unsigned slot)
{
    unsigned at = platform->device_count - platform->plugged_count;
    for (unsigned i = PCI_PLUG_FIRST; i < slot; i++) {
        const struct virtio_pci *before = pci_bus_function(platform->pci, i);
        at += before != NULL && at < platform->device_count &&
              platform->devices[at] == &before->device;
    }
    return at;
}

static void
list_insert(struct machine_platform *platform, unsigned at, struct device *device)
{
    REQUIRE(platform->device_count < MACHINE_DEVICES_MAX);
    for (unsigned i = platform->device_count++; i > at; i--) {
        platform->devices[i] = platform->devices[i - 1];
    }
    platform->devices[at] = device;
}

static void list_remove(struct machine_platform *platform, unsigned at)
{
    platform->device_count--;
    for (unsigned i = at; i < platform->device_count; i++) {
        platform->devices[i] = platform->devices[i + 1];
    }
}

int machine_platform_add(struct machine_platform *platform,
                         unsigned slot,
                         bool can_leave,
                         struct virtio_device *take_virtio,
                         const char *name,
                         struct err *err)
{
    struct virtio_pci *function;
    REQUIRE(!can_leave || pci_plug_has(slot));
    if (machine_platform_has(platform, name)) {
        virtio_device_free(take_virtio);
        return err_set(err, BERTH_EEXISTS, "Duplicate device ID '%s'", name);
    }
    int r = virtio_pci_new(take_virtio, name, &function);
    if (r < 0) {
        virtio_device_free(take_virtio);
        return err_sys(err, r, "%s", name);
    }
    function->device.stopped = platform->stopped;
    r = device_init(&function->device, err);
    if (r == 0) {
        r = pci_bus_plug(platform->pci, slot, function, err);
    }
    if (r < 0) {
        device_free(&function->device);
        return r;
    }
    list_insert(platform,
                can_leave ? place_of(platform, slot)
                          : platform->device_count - platform->plugged_count,
                &function->device);
    platform->plugged_count += can_leave;
    return 0;
}

bool machine_platform_part(struct machine_platform *platform, unsigned slot)
{
    struct virtio_pci *function = pci_bus_function(platform->pci, slot);
    REQUIRE(function != NULL && pci_plug_has(slot));
    pci_bus_leave(platform->pci, slot);
    function->device.is_leaving = true;
    virtio_device_enter(function->virtio);
    function->virtio->leaving = true;
    virtio_device_leave(function->virtio);
    return device_stop_begin(&function->device);
}

struct virtio_pci *machine_platform_parted(struct machine_platform *platform,
                                           unsigned slot)
{
    struct virtio_pci *function = pci_bus_function(platform->pci, slot);
    REQUIRE(function != NULL && function->device.is_leaving &&
            !device_stops(&function->device));
    device_reset(&function->device); /* it decodes nowhere any more */
    return function;
}

struct virtio_pci *machine_platform_remove(struct machine_platform *platform,
                                           unsigned slot)
{
    struct virtio_pci *function = pci_bus_function(platform->pci, slot);
    REQUIRE(function != NULL && pci_plug_has(slot));
    const unsigned at = place_of(platform, slot);
    REQUIRE(platform->devices[at] == &function->device);
    pci_bus_unplug(platform->pci, slot);
    list_remove(platform, at);
    platform->plugged_count--;
    return function;
}

/* ---- all of them ---- */

unsigned machine_platform_slot(const struct machine_platform *platform, const char *name)
{
    for (unsigned i = 1; i <= PCI_SLOTS_MAX; i++) {
        const struct virtio_pci *function = pci_bus_function(platform->pci, i);
        if (function != NULL && strcmp(function->device.name, name) == 0) {
            return i;
        }
    }
    return 0;
}

bool machine_platform_has(const struct machine_platform *platform, const char *name)
{
    for (unsigned i = 0; i < platform->device_count; i++) {
        if (strcmp(platform->devices[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

void machine_platform_stop(struct machine_platform *platform)
{
    for (unsigned i = 0; i < platform->device_count; i++) {
        device_stop(platform->devices[i]);
    }
    pci_bus_hold(platform->pci);
}

void machine_platform_stop_begin(struct machine_platform *platform)
{
    for (unsigned i = 0; i < platform->device_count; i++) {
        (void)device_stop_begin(platform->devices[i]); /* which of them: is asked below */
    }
}

const struct device *machine_platform_stops(const struct machine_platform *platform)
{
    for (unsigned i = 0; i < platform->device_count; i++) {
        if (device_stops(platform->devices[i])) {
            return platform->devices[i];
        }
    }
    return NULL;
}

void machine_platform_stop_end(struct machine_platform *platform)
{
    pci_bus_hold(platform->pci);
}

void machine_platform_start(struct machine_platform *platform)
{
    pci_bus_go(platform->pci);
    for (unsigned i = 0; i < platform->device_count; i++) {
        device_start(platform->devices[i]);
    }
}

void machine_platform_reset(struct machine_platform *platform)
{
    for (unsigned i = 0; i < platform->device_count; i++) {
        device_reset(platform->devices[i]);
    }
    pci_bus_place_all(platform->pci);
}

void machine_platform_fini(struct machine_platform *platform)
{
    while (platform->device_count > 0) {
        device_free(platform->devices[--platform->device_count]);
    }
}
