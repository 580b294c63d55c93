#include "vmm/acpi_tables.h"

#include "base/bytes.h"
#include "base/require.h"
#include "vmm/aml.h"
#include "vmm/cpu_plug.h"
#include "vmm/machine_layout.h"
#include "vmm/pci_plug.h"
#include "vmm/power_control.h"

#include <stdio.h>
#include <string.h>

#define TABLE_ALIGN      16u
#define CHECKSUM_AT      9u /* in a table's header */
#define LENGTH_AT        4u
#define RSDP_SIZE        36u
#define RSDP_OLD_SIZE    20u /* what the first checksum covers */
#define RSDP_CHECKSUM_AT 8u
#define RSDP_XSDT_AT     24u
#define RSDP_SUM_ALL_AT  32u
#define TABLES_MAX       3u

/* FADT flags */
#define FADT_WBINVD         (1u << 0)
#define FADT_C1             (1u << 2)
#define FADT_SLEEP_BUTTON   (1u << 5) /* none: it would be a control method */
#define FADT_RESET_REGISTER (1u << 10)
#define FADT_HW_REDUCED     (1u << 20)
/* FADT boot architecture */
#define FADT_NO_VGA 0x04u
#define FADT_NO_RTC 0x20u /* without it Linux polls for one, 10,000 times */

#define SPACE_PORTS 1u

/* A local APIC's flags in the MADT: ACPI 6.3, 5.2.12.2 */
#define APIC_ENABLED     (1u << 0)
#define APIC_MAY_COME    (1u << 1) /* not there, and may be while the system runs */
#define LOCAL_APIC_BYTES 8u

#define NOTIFY_DEVICE_CHECK 0x01u
#define NOTIFY_EJECT        0x03u /* it is asked for */
#define NOTIFY_OF_DEVICE    0x80u /* what it means is the device's */

/* What an operating system asks for by _OSC (PCI firmware specification 3.2, 4.5.1) */
#define OSC_CONTROL_AT     8u
#define OSC_NATIVE_HOTPLUG (1u << 0)
#define OSC_SHPC_HOTPLUG   (1u << 1)

#define CPU_PRESENT   0xfu /* of _STA: present, enabled, shown and working */
#define CPU_SET_BYTES 8u

static uint8_t sum(const uint8_t *data, size_t size)
{
    uint8_t total = 0;
    for (size_t i = 0; i < size; i++) {
        total = (uint8_t)(total + data[i]);
    }
    return total;
}

static void pad(struct bytes_writer *writer, size_t size)
{
    while (size-- > 0) {
        bytes_write_u8(writer, 0);
    }
}

/* A table's header; its length and checksum come with table_close. */
static size_t
table_open(struct bytes_writer *writer, const char *signature, uint8_t revision)
{
    pad(writer, (TABLE_ALIGN - writer->size % TABLE_ALIGN) % TABLE_ALIGN);
    size_t start = writer->size;
    bytes_write_raw(writer, signature, 4);
    bytes_write_u32(writer, 0);
    bytes_write_u8(writer, revision);
    bytes_write_u8(writer, 0);
    bytes_write_raw(writer, "BERTH ", 6);
    bytes_write_raw(writer, "BERTHVMM", 8);
    bytes_write_u32(writer, 1);
    bytes_write_raw(writer, "BRTH", 4);
    bytes_write_u32(writer, 1);
    return start;
}

static void table_close(struct bytes_writer *writer, size_t start)
{
    if (writer->error != 0) {
        return;
    }
    uint32_t length = (uint32_t)(writer->size - start);
    memcpy(writer->data + start + LENGTH_AT, &length, sizeof(length));
    writer->data[start + CHECKSUM_AT] = 0;
    writer->data[start + CHECKSUM_AT] = (uint8_t)-sum(writer->data + start, length);
}

/* A register as the FADT names it: one byte at a port. */
static void write_port_register(struct bytes_writer *writer, uint64_t port)
{
    bytes_write_u8(writer, port != 0 ? SPACE_PORTS : 0);
    bytes_write_u8(writer, port != 0 ? 8 : 0);
    bytes_write_u8(writer, 0);
    bytes_write_u8(writer, port != 0 ? 1 : 0); /* byte access */
    bytes_write_u64(writer, port);
}

static void write_fadt(struct bytes_writer *writer, uint64_t dsdt)
{
    size_t start = table_open(writer, "FACP", 6);
    pad(writer, 109 - 36); /* what reduced hardware has not */
    bytes_write_u16(writer, FADT_NO_VGA | FADT_NO_RTC); /* 109: boot architecture */
    bytes_write_u8(writer, 0);
    bytes_write_u32(writer, FADT_WBINVD | FADT_C1 | FADT_SLEEP_BUTTON |
                                FADT_RESET_REGISTER | FADT_HW_REDUCED);
    write_port_register(writer, POWER_PORT + POWER_RESET);
    bytes_write_u8(writer, POWER_RESET_VALUE);
    bytes_write_u16(writer, 0); /* ARM */
    bytes_write_u8(writer, 3);  /* 6.3 */
    bytes_write_u64(writer, 0); /* X_FIRMWARE_CTRL: no FACS on reduced hardware */
    bytes_write_u64(writer, dsdt);
    for (unsigned i = 0; i < 8; i++) { /* event, control, timer and GPE blocks */
        write_port_register(writer, 0);
    }
    write_port_register(writer, POWER_PORT + POWER_SLEEP);
    write_port_register(writer, POWER_PORT + POWER_SLEEP_STATUS);
    bytes_write_raw(writer, "BerthVMM", 8); /* hypervisor vendor */
    table_close(writer, start);
}

/* A CPU's local APIC, in the MADT and as what its device is mapped to. */
static void write_local_apic(struct bytes_writer *writer, unsigned index, uint32_t flags)
{
    bytes_write_u8(writer, 0);
    bytes_write_u8(writer, LOCAL_APIC_BYTES);
    bytes_write_u8(writer, (uint8_t)index);
    bytes_write_u8(writer, (uint8_t)index);
    bytes_write_u32(writer, flags);
}

static bool is_present(const struct acpi_cpus *cpus, unsigned index)
{
    return (cpus->present >> index & 1) != 0;
}

static void write_madt(struct bytes_writer *writer, const struct acpi_cpus *cpus)
{
    size_t start = table_open(writer, "APIC", 5);
    bytes_write_u32(writer, (uint32_t)LAPIC_AT);
    bytes_write_u32(writer, 0); /* no legacy PIC to turn off */
    for (unsigned i = 0; i < cpus->count; i++) {
        write_local_apic(writer, i, is_present(cpus, i) ? APIC_ENABLED : APIC_MAY_COME);
    }
    bytes_write_u8(writer, 1); /* I/O APIC */
    bytes_write_u8(writer, 12);
    bytes_write_u8(writer, 0);
    bytes_write_u8(writer, 0);
    bytes_write_u32(writer, (uint32_t)IOAPIC_AT);
    bytes_write_u32(writer, 0); /* its first line */
    table_close(writer, start);
}

static void write_mcfg(struct bytes_writer *writer)
{
    size_t start = table_open(writer, "MCFG", 1);
    bytes_write_u64(writer, 0);
    bytes_write_u64(writer, ECAM_AT);
    bytes_write_u16(writer, 0); /* segment */
    bytes_write_u8(writer, 0);  /* buses: the first and last */
    bytes_write_u8(writer, 0);
    bytes_write_u32(writer, 0);
    table_close(writer, start);
}

/* ---- DSDT */

/* Device (name) {Name (_HID, EisaId (id)) Name (_UID, 0) Name (_CRS, one resource)} */
static struct aml_open
device_with_id(struct bytes_writer *writer, const char *name, const char *eisa_id)
{
    struct aml_open device = aml_device(writer, name);
    aml_name_eisa_id(writer, "_HID", eisa_id);
    aml_name_integer(writer, "_UID", 0);
    return device;
}

#define NAME_BYTES 16u

static const char *name_of(char name[NAME_BYTES], const char *prefix, unsigned number)
{
    (void)snprintf(name, NAME_BYTES, "%s%02X", prefix, number); /* fits */
    return name;
}

/* If (a name's value, or that of Local0, has one of the bits) */
static struct aml_open
if_bits(struct bytes_writer *writer, const char *name, uint64_t bits)
{
    struct aml_open if_set = aml_if(writer);
    aml_and(writer);
    if (name != NULL) {
        aml_path(writer, name);
    } else {
        aml_local(writer, 0);
    }
    aml_integer(writer, bits);
    aml_nowhere(writer);
    return if_set;
}

/* The boot loader has placed the BARs well: leave them (function 5 of the PCI firmware
 * specification's _DSM, E5C937D0-3553-4D7A-9117-EA4D19C3434D). */
static void write_keep_bars(struct bytes_writer *writer)
{
    static const uint8_t uuid[16] = {0xd0, 0x37, 0xc9, 0xe5, 0x53, 0x35, 0x7a, 0x4d,
                                     0x91, 0x17, 0xea, 0x4d, 0x19, 0xc3, 0x43, 0x4d};
    struct aml_open method = aml_method(writer, "_DSM", 4);
    struct aml_open if_ours = aml_if(writer);
    aml_equal(writer);
    aml_argument(writer, 0);
    struct aml_open buffer = aml_buffer(writer, sizeof(uuid));
    bytes_write_raw(writer, uuid, sizeof(uuid));
    aml_close(writer, buffer);
    struct aml_open if_asked = aml_if(writer);
    aml_equal(writer);
    aml_argument(writer, 2);
    aml_integer(writer, 0);
    aml_return(writer);
    buffer = aml_buffer(writer, 1);
    bytes_write_u8(writer, 0x21); /* functions 0 and 5 */
    aml_close(writer, buffer);
    aml_close(writer, if_asked);
    struct aml_open if_five = aml_if(writer);
    aml_equal(writer);
    aml_argument(writer, 2);
    aml_integer(writer, 5);
    aml_return(writer);
    aml_integer(writer, 0);
    aml_close(writer, if_five);
    aml_close(writer, if_ours);
    aml_return(writer);
    buffer = aml_buffer(writer, 1);
    bytes_write_u8(writer, 0);
    aml_close(writer, buffer);
    aml_close(writer, method);
}

/* What it asks for, but hotplug as PCIe and SHPC have it: there is no such bridge, and
 * where there are two ways a system takes the slower one. */
static void write_control(struct bytes_writer *writer)
{
    struct aml_open method = aml_method(writer, "_OSC", 4);
    aml_argument_dword(writer, 3, OSC_CONTROL_AT, "CTRL");
    aml_and(writer);
    aml_path(writer, "CTRL");
    aml_integer(writer, (uint32_t) ~(OSC_NATIVE_HOTPLUG | OSC_SHPC_HOTPLUG));
    aml_path(writer, "CTRL");
    aml_return(writer);
    aml_argument(writer, 3);
    aml_close(writer, method);
}

/* ---- slots whose devices come and go: pci_plug.h */

/* For each slot in the set that the field reads: tell its device. */
static void
write_tell_slots(struct bytes_writer *writer, const char *field, uint64_t notification)
{
    char name[NAME_BYTES];
    aml_store(writer); /* reading the byte takes the news away */
    aml_path(writer, field);
    aml_local(writer, 0);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        struct aml_open if_set = if_bits(writer, NULL, 1u << i);
        aml_notify(writer, name_of(name, "S", PCI_PLUG_FIRST + i), notification);
        aml_close(writer, if_set);
    }
}

/* Device (Snn): in its slot, by its number, and ejected by one bit. */
static void write_slot(struct bytes_writer *writer, unsigned index)
{
    const unsigned number = PCI_PLUG_FIRST + index;
    char name[NAME_BYTES];
    struct aml_open slot = aml_device(writer, name_of(name, "S", number));
    aml_name_integer(writer, "_ADR", number << 16);
    aml_name_integer(writer, "_SUN", number);
    struct aml_open eject = aml_method(writer, "_EJ0", 1);
    aml_store(writer);
    aml_integer(writer, 1u << index);
    aml_path(writer, "GONE");
    aml_close(writer, eject);
    aml_close(writer, slot);
}

static void write_slots(struct bytes_writer *writer)
{
    aml_port_region(writer, "SLOT", PCI_PLUG_PORT, PCI_PLUG_SIZE);
    aml_byte_field(writer, "SLOT", "UPS", PCI_PLUG_UP);
    aml_byte_field(writer, "SLOT", "DOWN", PCI_PLUG_DOWN);
    aml_byte_field(writer, "SLOT", "GONE", PCI_PLUG_EJECT);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        write_slot(writer, i);
    }
    struct aml_open method = aml_method(writer, "NEWS", 0);
    write_tell_slots(writer, "UPS", NOTIFY_DEVICE_CHECK);
    write_tell_slots(writer, "DOWN", NOTIFY_EJECT);
    aml_close(writer, method);
}

/* ---- the platform */

static void write_pci(struct bytes_writer *writer, const struct acpi_cpus *cpus)
{
    const unsigned plug = cpus->may_come ? AML_RESOURCE_IO : 0;
    struct aml_open pci = device_with_id(writer, "PCI0", "PNP0A08");
    aml_name_eisa_id(writer, "_CID", "PNP0A03");
    aml_name_integer(writer, "_SEG", 0);
    aml_name_integer(writer, "_BBN", 0);
    aml_name(writer, "_CRS");
    struct aml_open resources = aml_resources(
        writer, AML_RESOURCE_BUSES + AML_RESOURCE_IO + AML_RESOURCE_WINDOW32);
    aml_resource_buses(writer, 0, 0);
    aml_resource_io(writer, PCI_PORT, PCI_PORT_SIZE);
    aml_resource_window32(writer, (uint32_t)PCI_WINDOW_AT, (uint32_t)PCI_WINDOW_SIZE);
    aml_resources_close(writer, resources);
    write_control(writer);
    write_keep_bars(writer);
    write_slots(writer);
    aml_close(writer, pci);

    struct aml_open board = device_with_id(writer, "MBRD", "PNP0C02");
    aml_name(writer, "_CRS");
    resources = aml_resources(writer, AML_RESOURCE_MEMORY32 + 2 * AML_RESOURCE_IO + plug);
    aml_resource_memory32(writer, (uint32_t)ECAM_AT, (uint32_t)ECAM_SIZE);
    aml_resource_io(writer, POWER_PORT, POWER_SIZE);
    aml_resource_io(writer, PCI_PLUG_PORT, PCI_PLUG_SIZE);
    if (cpus->may_come) {
        aml_resource_io(writer, CPU_PLUG_PORT, CPU_PLUG_SIZE);
    }
    aml_resources_close(writer, resources);
    aml_close(writer, board);
}

static void write_serial(struct bytes_writer *writer)
{
    struct aml_open serial = device_with_id(writer, "COM1", "PNP0501");
    aml_name(writer, "_CRS");
    struct aml_open resources =
        aml_resources(writer, AML_RESOURCE_IO + AML_RESOURCE_INTERRUPT);
    aml_resource_io(writer, SERIAL_PORT, SERIAL_SIZE);
    aml_resource_interrupt(writer, SERIAL_IRQ);
    aml_resources_close(writer, resources);
    aml_close(writer, serial);
}

static void write_panic(struct bytes_writer *writer)
{
    struct aml_open panic = aml_device(writer, "PEVT");
    aml_name_text(writer, "_HID", "QEMU0001"); /* what the driver of pvpanic looks for */
    aml_name(writer, "_CRS");
    struct aml_open resources = aml_resources(writer, AML_RESOURCE_IO);
    aml_resource_io(writer, PANIC_PORT, PANIC_SIZE);
    aml_resources_close(writer, resources);
    aml_name_integer(writer, "_STA", 0xb);
    aml_close(writer, panic);
}

/* Where the guest finds 16 random bytes that are others whenever it goes on from a saved
 * state: what it drew from its entropy before may have been drawn twice (Microsoft's
 * Virtual Machine Generation ID; drivers look for the compatible name). */
static void write_generation(struct bytes_writer *writer)
{
    struct aml_open generation = aml_device(writer, "VGEN");
    aml_name_text(writer, "_HID", "BRTH0001");
    aml_name_text(writer, "_CID", "VM_Gen_Counter");
    aml_name_text(writer, "_DDN", "VM_Gen_Counter");
    aml_name(writer, "ADDR");
    struct aml_open address = aml_package(writer, 2);
    aml_integer(writer, GENERATION_AT);
    aml_integer(writer, 0); /* its upper half */
    aml_close(writer, address);
    aml_close(writer, generation);
}

/* On an event of this reason, tell the device. */
static void
write_if_reason(struct bytes_writer *writer, uint64_t reason, const char *device)
{
    struct aml_open if_reason = if_bits(writer, NULL, reason);
    aml_notify(writer, device, NOTIFY_OF_DEVICE);
    aml_close(writer, if_reason);
}

/* ---- CPUs that may come */

/* One byte after another, by the names of the prefix and a number. */
static void write_set(struct bytes_writer *writer,
                      const char *region,
                      const char *prefix,
                      uint64_t port,
                      unsigned byte_count)
{
    char name[NAME_BYTES];
    aml_port_region(writer, region, port, CPU_SET_BYTES);
    for (unsigned i = 0; i < byte_count; i++) {
        aml_byte_field(writer, region, name_of(name, prefix, i), i);
    }
}

static void write_cpu(struct bytes_writer *writer, unsigned index)
{
    char name[NAME_BYTES];
    struct aml_open cpu = aml_device(writer, name_of(name, "CP", index));
    aml_name_text(writer, "_HID", "ACPI0007");
    aml_name_integer(writer, "_UID", index);
    aml_name(writer, "_MAT"); /* looked at when it is there: then it is enabled */
    struct aml_open buffer = aml_buffer(writer, LOCAL_APIC_BYTES);
    write_local_apic(writer, index, APIC_ENABLED);
    aml_close(writer, buffer);
    struct aml_open status = aml_method(writer, "_STA", 0);
    struct aml_open if_present =
        if_bits(writer, name_of(name, "HR", index / 8), 1u << index % 8);
    aml_return(writer);
    aml_integer(writer, CPU_PRESENT);
    aml_close(writer, if_present);
    aml_return(writer);
    aml_integer(writer, 0);
    aml_close(writer, status);
    aml_close(writer, cpu);
}

/* Method (COME): asks each device that has come to be looked at. */
static void write_come(struct bytes_writer *writer, unsigned cpu_count)
{
    char name[NAME_BYTES];
    struct aml_open method = aml_method(writer, "COME", 0);
    for (unsigned i = 0; i < cpu_count; i++) {
        if (i % 8 == 0) { /* reading the byte takes the news away */
            aml_store(writer);
            aml_path(writer, name_of(name, "NW", i / 8));
            aml_local(writer, 0);
        }
        struct aml_open if_come = if_bits(writer, NULL, 1u << i % 8);
        aml_notify(writer, name_of(name, "CP", i), NOTIFY_DEVICE_CHECK);
        aml_close(writer, if_come);
    }
    aml_close(writer, method);
}

static void write_cpus(struct bytes_writer *writer, const struct acpi_cpus *cpus)
{
    const unsigned byte_count = (cpus->count + 7) / 8;
    struct aml_open all = aml_device(writer, "CPUS");
    aml_name_text(writer, "_HID", "ACPI0010"); /* a container of processors */
    aml_name_eisa_id(writer, "_CID", "PNP0A05");
    aml_name_integer(writer, "_UID", 0);
    write_set(writer, "HERE", "HR", CPU_PLUG_PORT + CPU_PLUG_PRESENT, byte_count);
    write_set(writer, "NEWS", "NW", CPU_PLUG_PORT + CPU_PLUG_COME, byte_count);
    for (unsigned i = 0; i < cpus->count; i++) {
        write_cpu(writer, i);
    }
    write_come(writer, cpus->count);
    aml_close(writer, all);
}

/* The power button and the generic event device that announces it: it reads why it was
 * interrupted, which also takes the reasons away, and notifies whom it concerns. */
static void write_events(struct bytes_writer *writer, const struct acpi_cpus *cpus)
{
    struct aml_open button = device_with_id(writer, "PWRB", "PNP0C0C");
    aml_close(writer, button);

    struct aml_open events = aml_device(writer, "GED");
    aml_name_text(writer, "_HID", "ACPI0013");
    aml_name_integer(writer, "_UID", 0);
    aml_name(writer, "_CRS");
    struct aml_open resources = aml_resources(writer, AML_RESOURCE_INTERRUPT);
    aml_resource_interrupt(writer, EVENT_IRQ);
    aml_resources_close(writer, resources);
    aml_port_region(writer, "EVTR", POWER_PORT, POWER_SIZE);
    aml_byte_field(writer, "EVTR", "WHY", POWER_EVENTS);
    struct aml_open method = aml_method(writer, "_EVT", 1);
    aml_store(writer);
    aml_path(writer, "WHY");
    aml_local(writer, 0);
    write_if_reason(writer, POWER_EVENT_BUTTON, "\\_SB.PWRB");
    write_if_reason(writer, POWER_EVENT_GENERATION, "\\_SB.VGEN");
    if (cpus->may_come) {
        struct aml_open if_come = if_bits(writer, NULL, POWER_EVENT_CPU);
        aml_path(writer, "\\_SB.CPUS.COME"); /* calls it */
        aml_close(writer, if_come);
    }
    struct aml_open if_slot = if_bits(writer, NULL, POWER_EVENT_SLOT);
    aml_path(writer, "\\_SB.PCI0.NEWS");
    aml_close(writer, if_slot);
    aml_close(writer, method);
    aml_close(writer, events);
}

static void write_dsdt(struct bytes_writer *writer, const struct acpi_cpus *cpus)
{
    size_t start = table_open(writer, "DSDT", 2);
    struct aml_open bus = aml_scope(writer, "\\_SB");
    write_pci(writer, cpus);
    write_serial(writer);
    write_panic(writer);
    write_generation(writer);
    if (cpus->may_come) {
        write_cpus(writer, cpus);
    }
    write_events(writer, cpus);
    aml_close(writer, bus);
    aml_name(writer, "\\_S5");
    struct aml_open off = aml_package(writer, 4);
    aml_integer(writer, POWER_SLEEP_OFF);
    aml_integer(writer, 0);
    aml_integer(writer, 0);
    aml_integer(writer, 0);
    aml_close(writer, off);
    table_close(writer, start);
}

static void
write_xsdt(struct bytes_writer *writer, const uint64_t *tables, unsigned count)
{
    size_t start = table_open(writer, "XSDT", 1);
    for (unsigned i = 0; i < count; i++) {
        bytes_write_u64(writer, tables[i]);
    }
    table_close(writer, start);
}

/* Where the next table will begin. */
static uint64_t next_at(const struct bytes_writer *writer)
{
    return ACPI_AT + (writer->size + TABLE_ALIGN - 1) / TABLE_ALIGN * TABLE_ALIGN;
}

static void write_rsdp(struct bytes_writer *writer, uint64_t xsdt)
{
    uint8_t *at = writer->data;
    if (writer->error != 0) {
        return;
    }
    memcpy(at, "RSD PTR ", 8);
    memcpy(at + 9, "BERTH ", 6);
    at[15] = 2; /* revision */
    const uint32_t length = RSDP_SIZE;
    memcpy(at + RSDP_OLD_SIZE, &length, sizeof(length));
    memcpy(at + RSDP_XSDT_AT, &xsdt, sizeof(xsdt));
    at[RSDP_CHECKSUM_AT] = (uint8_t)-sum(at, RSDP_OLD_SIZE);
    at[RSDP_SUM_ALL_AT] = (uint8_t)-sum(at, RSDP_SIZE);
}

int acpi_tables_make(const struct acpi_cpus *cpus,
                     uint8_t **ret_image,
                     size_t *ret_size,
                     struct err *err)
{
    struct bytes_writer writer;
    uint64_t tables[TABLES_MAX];
    REQUIRE(cpus->count >= 1 && cpus->count <= MACHINE_CPUS_MAX);
    REQUIRE(is_present(cpus, 0));
    bytes_writer_init(&writer, GENERATION_AT - ACPI_AT);
    pad(&writer, RSDP_SIZE);
    uint64_t dsdt = next_at(&writer);
    write_dsdt(&writer, cpus);
    tables[0] = next_at(&writer);
    write_fadt(&writer, dsdt);
    tables[1] = next_at(&writer);
    write_madt(&writer, cpus);
    tables[2] = next_at(&writer);
    write_mcfg(&writer);
    uint64_t xsdt = next_at(&writer);
    write_xsdt(&writer, tables, TABLES_MAX);
    write_rsdp(&writer, xsdt);
    int r = bytes_writer_take(&writer, ret_image, ret_size);
    return r == 0 ? 0 : err_sys(err, r, "ACPI tables");
}
