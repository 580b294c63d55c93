/* Kernels and initrds as a tenant brings them: any file, into RAM of a size. What is
 * taken has its pieces where it says, the initrd behind them where the kernel can reach
 * it, and is entered inside a piece; nothing else of RAM above the first MiB is touched.
 * First bytes: RAM in steps of 2 MiB, how long the command line is, the initrd's size;
 * the rest is the kernel's file. */
#include "base/require.h"
#include "vmm/boot_linux.h"
#include "vmm/kernel_image.h"
#include "vmm/machine_layout.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAD_BYTES   4u
#define STEP_BYTES   (UINT64_C(2) << 20)
#define STEPS_MAX    16u
#define SAMPLES      16u
#define INITRD_MARK  0xa5u
#define CMDLINE_MARK 'c'

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int kernel_fd = -1;
static int initrd_fd = -1;

static void files_make(const uint8_t *kernel, size_t kernel_bytes, size_t initrd_bytes)
{
    static const uint8_t mark = INITRD_MARK;
    if (kernel_fd < 0) {
        kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
        initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
    }
    REQUIRE(ftruncate(kernel_fd, 0) == 0 && ftruncate(initrd_fd, 0) == 0);
    REQUIRE(pwrite(kernel_fd, kernel, kernel_bytes, 0) == (ssize_t)kernel_bytes);
    REQUIRE(ftruncate(initrd_fd, (off_t)initrd_bytes) == 0);
    if (initrd_bytes > 0) {
        REQUIRE(pwrite(initrd_fd, &mark, 1, 0) == 1);
        REQUIRE(pwrite(initrd_fd, &mark, 1, (off_t)initrd_bytes - 1) == 1);
    }
}

static uint64_t number_at(const struct guest_memory *memory, uint64_t at, size_t size)
{
    uint64_t value = 0;
    REQUIRE(guest_memory_read(memory, at, &value, size) == 0);
    return value;
}

/* Where the guest is told that its initrd is; 0 when it has none. */
static uint64_t initrd_told(const struct guest_memory *memory,
                            const struct boot_entry *entry,
                            uint64_t initrd_bytes)
{
    if (entry->mode == BOOT_LONG_64) {
        REQUIRE(number_at(memory, ZERO_PAGE_AT + 0x21c, 4) == initrd_bytes);
        return number_at(memory, ZERO_PAGE_AT + 0x218, 4);
    }
    if (number_at(memory, START_INFO_AT + 12, 4) == 0) {
        REQUIRE(initrd_bytes == 0);
        return 0;
    }
    REQUIRE(number_at(memory, MODULES_AT + 8, 8) == initrd_bytes);
    return number_at(memory, MODULES_AT, 8);
}

static void initrd_check(const struct guest_memory *memory,
                         const struct kernel_image *image,
                         uint64_t at,
                         uint64_t size)
{
    REQUIRE(at >= image->end && at % 4096 == 0 && at + size - 1 <= image->initrd_max);
    REQUIRE(guest_memory_holds(memory, at, size));
    REQUIRE(number_at(memory, at, 1) == INITRD_MARK);
    REQUIRE(number_at(memory, at + size - 1, 1) == INITRD_MARK);
}

static bool is_inside(const struct kernel_image *image, uint64_t at)
{
    for (unsigned i = 0; i < image->piece_count; i++) {
        const struct kernel_piece *piece = &image->pieces[i];
        if (at >= piece->address && at - piece->address < piece->memory_bytes) {
            return true;
        }
    }
    return false;
}

/* Of a file, the last piece has all of its bytes; the ones before may lie under it. */
static void last_piece_check(const struct guest_memory *memory,
                             const struct kernel_image *image,
                             const uint8_t *kernel)
{
    const struct kernel_piece *piece = &image->pieces[image->piece_count - 1];
    const uint64_t step = piece->file_bytes / SAMPLES + 1;
    for (uint64_t at = 0; at < piece->file_bytes; at += step) {
        REQUIRE(number_at(memory, piece->address + at, 1) ==
                kernel[piece->file_offset + at]);
    }
}

/* Between the kernel and the initrd there is nothing. */
static void gap_check(const struct guest_memory *memory,
                      const struct kernel_image *image,
                      uint64_t end)
{
    const uint64_t step = (end - image->end) / SAMPLES + 1;
    for (uint64_t at = image->end; at < end; at += step) {
        REQUIRE(number_at(memory, at, 1) == 0);
    }
}

static void loaded_check(const struct guest_memory *memory,
                         const struct boot_entry *entry,
                         const uint8_t *kernel,
                         uint64_t initrd_bytes)
{
    struct kernel_image image;
    REQUIRE(kernel_image_read(kernel_fd, &image, NULL) == 0);
    REQUIRE(image.piece_count > 0 && is_inside(&image, entry->instruction));
    const uint64_t at = initrd_told(memory, entry, initrd_bytes);
    if (initrd_bytes > 0) {
        initrd_check(memory, &image, at, initrd_bytes);
    }
    last_piece_check(memory, &image, kernel);
    gap_check(memory, &image, initrd_bytes > 0 ? at : guest_memory_boot_size(memory));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t acpi[64] = {0};
    static char cmdline[CMDLINE_MAX + 16];
    struct guest_memory memory;
    struct boot_entry entry;
    if (size < HEAD_BYTES) {
        return 0;
    }
    const size_t cmdline_bytes = data[1] * (sizeof(cmdline) / 256);
    const size_t initrd_bytes = data[2] | (size_t)data[3] << 12;
    memset(cmdline, CMDLINE_MARK, cmdline_bytes);
    cmdline[cmdline_bytes] = '\0';
    files_make(data + HEAD_BYTES, size - HEAD_BYTES, initrd_bytes);
    guest_memory_init(&memory);
    REQUIRE(guest_memory_add(&memory, 0, (1 + data[0] % STEPS_MAX) * STEP_BYTES, NULL) ==
            0);
    const struct boot_source source = {.kernel_fd = kernel_fd,
                                       .initrd_fd = initrd_bytes > 0 ? initrd_fd : -1,
                                       .cmdline = cmdline,
                                       .acpi = acpi,
                                       .acpi_size = sizeof(acpi)};
    if (boot_linux_load(&memory, &source, &entry, NULL) == 0) {
        REQUIRE(cmdline_bytes < CMDLINE_MAX);
        REQUIRE(number_at(&memory, CMDLINE_AT + cmdline_bytes, 1) == 0);
        loaded_check(&memory, &entry, data + HEAD_BYTES, initrd_bytes);
    }
    guest_memory_fini(&memory);
    return 0;
}
