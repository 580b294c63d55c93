#include "vmm/boot_linux.h"

#include "base/cleanup.h"
#include "vmm/kernel_image.h"
#include "vmm/machine_layout.h"
#include "vmm/power_control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAP_ENTRIES_MAX  8u
#define INITRD_ALIGN     UINT64_C(0x1000)
#define INITRD_SLACK     UINT64_C(0x1000) /* so that no kernel reads past RAM */
#define PAGE_ENTRIES     512u
#define PAGE_BYTES       UINT64_C(0x1000)
#define LARGE_PAGE_BYTES (UINT64_C(2) << 20)
#define MAPPED_GIB       4u
#define PAGE_TABLE       0x3u  /* present, writable */
#define PAGE_LARGE       0x83u /* and 2 MiB */

/* What memory is, as e820 and PVH number it. */
enum memory_type { MEMORY_RAM = 1, MEMORY_RESERVED = 2 };

struct memory_map_entry {
    uint64_t address;
    uint64_t size;
    uint32_t type;
    uint32_t reserved;
};

struct memory_map {
    struct memory_map_entry entries[MAP_ENTRIES_MAX];
    unsigned count;
};

/* include/xen/interface/hvm/start_info.h of Linux; the ABI of PVH. */
#define START_INFO_MAGIC 0x336ec578u
struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t cmdline;
    uint64_t rsdp;
    uint64_t memory_map;
    uint32_t memory_map_count;
    uint32_t reserved;
};

struct start_module {
    uint64_t address;
    uint64_t size;
    uint64_t cmdline;
    uint64_t reserved;
};

struct initrd {
    uint64_t address;
    uint64_t size; /* 0: there is none */
};

/* ---- pieces */

static int write_at(struct guest_memory *memory,
                    uint64_t address,
                    const void *data,
                    size_t size,
                    struct err *err)
{
    int r = guest_memory_write(memory, address, data, size);
    return r == 0 ? 0
                  : err_set(err, BERTH_EINVALID, "no memory at 0x%llx",
                            (unsigned long long)address);
}

/* Copies a part of a file to RAM that is known to be there, without a buffer between. */
static int copy_file(const struct guest_memory *memory,
                     int fd,
                     uint64_t offset,
                     uint64_t address,
                     uint64_t size)
{
    while (size > 0) {
        struct iovec piece;
        int r = guest_memory_iovec(memory, address, size, &piece, 1);
        if (r < 0) {
            return r;
        }
        ssize_t got = preadv(fd, &piece, 1, (off_t)offset);
        r = got < 0 ? -errno : 0;
        guest_memory_iovec_end(memory, &piece, 1);
        if (r == -EINTR) {
            continue;
        }
        if (got <= 0) {
            return r < 0 ? r : -EIO; /* the file shrank */
        }
        offset += (uint64_t)got;
        address += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return 0;
}

static int load_kernel(struct guest_memory *memory,
                       int fd,
                       const struct kernel_image *image,
                       struct err *err)
{
    for (unsigned i = 0; i < image->piece_count; i++) {
        const struct kernel_piece *piece = &image->pieces[i];
        if (!guest_memory_holds(memory, piece->address, piece->memory_bytes)) {
            return err_set(err, BERTH_EINVALID,
                           "kernel: needs memory from 0x%llx to 0x%llx, of which the VM "
                           "has %lluMiB",
                           (unsigned long long)piece->address,
                           (unsigned long long)piece->address + piece->memory_bytes,
                           (unsigned long long)(guest_memory_boot_size(memory) >> 20));
        }
        int r =
            copy_file(memory, fd, piece->file_offset, piece->address, piece->file_bytes);
        if (r < 0) {
            return err_sys(err, r, "kernel: read it");
        }
    }
    return 0;
}

/* The first address beyond the RAM below the hole. */
static uint64_t low_ram_end(const struct guest_memory *memory)
{
    uint64_t size = guest_memory_boot_size(memory);
    return size < LOW_RAM_MAX ? size : LOW_RAM_MAX;
}

/* As high as it goes below 4 GiB, above the kernel. */
static int load_initrd(struct guest_memory *memory,
                       int fd,
                       const struct kernel_image *image,
                       struct initrd *ret_initrd,
                       struct err *err)
{
    struct stat status;
    *ret_initrd = (struct initrd){0};
    if (fd < 0) {
        return 0;
    }
    if (fstat(fd, &status) < 0) {
        return err_sys(err, -errno, "initrd");
    }
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size > INITRD_MAX) {
        return err_set(err, BERTH_EINVALID, "initrd: not a file of at most 1GiB");
    }
    uint64_t size = (uint64_t)status.st_size;
    uint64_t end = low_ram_end(memory) - INITRD_SLACK;
    if (end > image->initrd_max) {
        end = image->initrd_max;
    }
    if (size > end || (end - size) / INITRD_ALIGN * INITRD_ALIGN < image->end) {
        return err_set(err, BERTH_EINVALID,
                       "initrd: %lluMiB do not fit beside the kernel in %lluMiB",
                       (unsigned long long)(size >> 20),
                       (unsigned long long)(guest_memory_boot_size(memory) >> 20));
    }
    uint64_t address = (end - size) / INITRD_ALIGN * INITRD_ALIGN;
    int r = copy_file(memory, fd, 0, address, size);
    if (r < 0) {
        return err_sys(err, r, "initrd: read it");
    }
    *ret_initrd = (struct initrd){address, size};
    return 0;
}

static int load_cmdline(struct guest_memory *memory,
                        const char *cmdline,
                        const struct kernel_image *image,
                        struct err *err)
{
    size_t length = strlen(cmdline);
    if (length >= CMDLINE_MAX || length > image->cmdline_max) {
        return err_set(err, BERTH_EINVALID, "command line: %zu bytes are too many",
                       length);
    }
    return write_at(memory, CMDLINE_AT, cmdline, length + 1, err);
}

/* ---- the machine's memory, told */

static void
map_add(struct memory_map *map, uint64_t address, uint64_t end, enum memory_type type)
{
    map->entries[map->count++] = (struct memory_map_entry){
        .address = address, .size = end - address, .type = type};
}

static struct memory_map map_make(const struct guest_memory *memory)
{
    struct memory_map map = {.count = 0};
    uint64_t size = guest_memory_boot_size(memory);
    uint64_t low_end = low_ram_end(memory);
    map_add(&map, 0, BIOS_DATA_END, MEMORY_RAM);
    map_add(&map, BIOS_DATA_END, KERNEL_AT, MEMORY_RESERVED); /* ACPI tables among it */
    map_add(&map, KERNEL_AT, low_end, MEMORY_RAM);
    map_add(&map, ECAM_AT, ECAM_AT + ECAM_SIZE, MEMORY_RESERVED);
    if (size > low_end) {
        map_add(&map, HIGH_RAM_AT, HIGH_RAM_AT + (size - low_end), MEMORY_RAM);
    }
    return map;
}

/* A kernel that has no better idea restarts by jumping to where a BIOS begins, in real
 * mode: there it finds what asks for a reset. */
static int make_reset_vector(struct guest_memory *memory, struct err *err)
{
    static const uint8_t code[] = {
        0xba,
        (POWER_PORT + POWER_RESET) & 0xff,
        (POWER_PORT + POWER_RESET) >> 8, /* dx */
        0xb0,
        POWER_RESET_VALUE, /* al */
        0xee,              /* out */
        0xf4,
        0xeb,
        0xfd, /* hlt */
    };
    return write_at(memory, RESET_VECTOR_AT, code, sizeof(code), err);
}

/* ---- the two protocols */

static int tell_pvh(struct guest_memory *memory,
                    const struct initrd *initrd,
                    const struct memory_map *map,
                    struct err *err)
{
    const struct start_module module = {.address = initrd->address, .size = initrd->size};
    const struct start_info info = {
        .magic = START_INFO_MAGIC,
        .version = 1,
        .module_count = initrd->size > 0 ? 1 : 0,
        .modules = initrd->size > 0 ? MODULES_AT : 0,
        .cmdline = CMDLINE_AT,
        .rsdp = ACPI_AT,
        .memory_map = MEMORY_MAP_AT,
        .memory_map_count = map->count,
    };
    int r = write_at(memory, START_INFO_AT, &info, sizeof(info), err);
    if (r == 0) {
        r = write_at(memory, MODULES_AT, &module, sizeof(module), err);
    }
    return r < 0 ? r
                 : write_at(memory, MEMORY_MAP_AT, map->entries,
                            map->count * sizeof(map->entries[0]), err);
}

static void put(uint8_t *page, unsigned offset, uint64_t value, unsigned size)
{
    memcpy(page + offset, &value, size);
}

/* Documentation/x86/zero-page.rst. */
static int tell_zero_page(struct guest_memory *memory,
                          const struct kernel_image *image,
                          const struct initrd *initrd,
                          const struct memory_map *map,
                          struct err *err)
{
    uint8_t page[PAGE_BYTES] = {0};
    memcpy(page + KERNEL_SETUP_AT, image->setup, image->setup_bytes);
    put(page, 0x070, ACPI_AT, 8);
    put(page, 0x1e8, map->count, 1);
    put(page, 0x210, 0xff, 1); /* a loader without a number of its own */
    put(page, 0x218, initrd->address, 4);
    put(page, 0x21c, initrd->size, 4);
    put(page, 0x228, CMDLINE_AT, 4);
    for (unsigned i = 0; i < map->count; i++) {
        const struct memory_map_entry *entry = &map->entries[i];
        put(page, 0x2d0 + 20 * i, entry->address, 8);
        put(page, 0x2d0 + 20 * i + 8, entry->size, 8);
        put(page, 0x2d0 + 20 * i + 16, entry->type, 4);
    }
    return write_at(memory, ZERO_PAGE_AT, page, sizeof(page), err);
}

/* Maps the first 4 GiB to themselves, and a GDT as the 64-bit protocol wants it. */
static int make_long_mode(struct guest_memory *memory, struct err *err)
{
    static const uint64_t gdt[] = {0, 0, UINT64_C(0x00af9a000000ffff),
                                   UINT64_C(0x00cf92000000ffff)};
    uint64_t table[PAGE_ENTRIES] = {0};
    const uint64_t middle = PAGE_TABLES_AT + PAGE_BYTES;
    table[0] = middle | PAGE_TABLE;
    int r = write_at(memory, PAGE_TABLES_AT, table, sizeof(table), err);
    for (unsigned i = 0; i < MAPPED_GIB; i++) {
        table[i] = (middle + (i + 1) * PAGE_BYTES) | PAGE_TABLE;
    }
    r = r < 0 ? r : write_at(memory, middle, table, sizeof(table), err);
    for (unsigned i = 0; r == 0 && i < MAPPED_GIB; i++) {
        for (unsigned j = 0; j < PAGE_ENTRIES; j++) {
            table[j] = ((uint64_t)i * PAGE_ENTRIES + j) * LARGE_PAGE_BYTES | PAGE_LARGE;
        }
        r = write_at(memory, middle + (i + 1) * PAGE_BYTES, table, sizeof(table), err);
    }
    return r < 0 ? r : write_at(memory, GDT_AT, gdt, sizeof(gdt), err);
}

static int tell(struct guest_memory *memory,
                const struct kernel_image *image,
                const struct initrd *initrd,
                struct boot_entry *ret_entry,
                struct err *err)
{
    const struct memory_map map = map_make(memory);
    if (image->format == KERNEL_PVH) {
        *ret_entry = (struct boot_entry){.mode = BOOT_PROTECTED_32,
                                         .instruction = image->entry,
                                         .argument = START_INFO_AT};
        return tell_pvh(memory, initrd, &map, err);
    }
    *ret_entry = (struct boot_entry){
        .mode = BOOT_LONG_64, .instruction = image->entry, .argument = ZERO_PAGE_AT};
    int r = tell_zero_page(memory, image, initrd, &map, err);
    return r < 0 ? r : make_long_mode(memory, err);
}

int boot_linux_load(struct guest_memory *memory,
                    const struct boot_source *source,
                    struct boot_entry *ret_entry,
                    struct err *err)
{
    struct kernel_image image;
    struct initrd initrd;
    struct boot_entry entry;
    int r = kernel_image_read(source->kernel_fd, &image, err);
    if (r == 0) {
        r = load_kernel(memory, source->kernel_fd, &image, err);
    }
    if (r == 0) {
        r = load_initrd(memory, source->initrd_fd, &image, &initrd, err);
    }
    if (r == 0) {
        r = load_cmdline(memory, source->cmdline, &image, err);
    }
    if (r == 0) {
        r = write_at(memory, ACPI_AT, source->acpi, source->acpi_size, err);
    }
    if (r == 0) {
        r = make_reset_vector(memory, err);
    }
    if (r == 0) {
        r = tell(memory, &image, &initrd, &entry, err);
    }
    if (r == 0) {
        *ret_entry = entry;
    }
    return r;
}
