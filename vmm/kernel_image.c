#include "vmm/kernel_image.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "vmm/machine_layout.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOTE_PVH_ENTRY   18u /* XEN_ELFNOTE_PHYS32_ENTRY */
#define NOTE_OWNER       "Xen"
#define HEADERS_MAX      64u
#define FILE_MAX         (UINT64_C(1) << 32)
#define ADDRESS_MAX      (UINT64_C(1) << 32) /* of what a boot protocol places */
#define PROTOCOL_MIN     0x20cu              /* 2.12: 64-bit entry is announced */
#define XLOAD_64BIT      0x01u
#define ENTRY_64BIT      0x200u
#define SECTOR           512u
#define SETUP_JUMP_END   0x202u /* the header ends where the jump over it leads */
#define LOAD_ALIGN_UNITS UINT64_C(0x1000)

struct file {
    int fd;
    uint64_t size;
};

/* Exactly size bytes at offset. */
static int read_at(const struct file *file, uint64_t offset, void *ret_data, size_t size)
{
    uint8_t *bytes = ret_data;
    if (offset > file->size || size > file->size - offset) {
        return BERTH_EINVALID;
    }
    while (size > 0) {
        ssize_t got = pread(file->fd, bytes, size, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? -errno : BERTH_EINVALID;
        }
        bytes += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

/* Adds a piece whose bytes lie in the file and which has a sane place. */
static int piece_add(struct kernel_image *image,
                     const struct file *file,
                     const struct kernel_piece *piece,
                     struct err *err)
{
    if (piece->file_offset > file->size ||
        piece->file_bytes > file->size - piece->file_offset) {
        return err_set(err, BERTH_EINVALID, "kernel: a piece lies beyond the file's end");
    }
    if (piece->memory_bytes < piece->file_bytes || piece->address < KERNEL_AT ||
        piece->address >= ADDRESS_MAX ||
        piece->memory_bytes > ADDRESS_MAX - piece->address) {
        return err_set(err, BERTH_EINVALID,
                       "kernel: a piece belongs at 0x%llx, where none can be",
                       (unsigned long long)piece->address);
    }
    if (image->piece_count == KERNEL_PIECES_MAX) {
        return err_set(err, BERTH_EINVALID, "kernel: more than %u pieces",
                       KERNEL_PIECES_MAX);
    }
    image->pieces[image->piece_count++] = *piece;
    if (piece->address + piece->memory_bytes > image->end) {
        image->end = piece->address + piece->memory_bytes;
    }
    return 0;
}

/* Code of the file is where it is entered. */
static int entry_check(const struct kernel_image *image, struct err *err)
{
    for (unsigned i = 0; i < image->piece_count; i++) {
        const struct kernel_piece *piece = &image->pieces[i];
        if (image->entry >= piece->address &&
            image->entry - piece->address < piece->file_bytes) {
            return 0;
        }
    }
    return err_set(err, BERTH_EINVALID, "kernel: its entry lies in no piece");
}

/* ---- ELF with a PVH note */

/* Looks for the entry in one segment of notes. */
static void notes_search(const uint8_t *data, size_t size, uint64_t *entry)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    while (bytes_reader_left(&reader) >= 12) { /* each turn steps over 12 or more */
        uint32_t name_size = bytes_read_u32(&reader);
        uint32_t value_size = bytes_read_u32(&reader);
        uint32_t type = bytes_read_u32(&reader);
        uint64_t name_room = ((uint64_t)name_size + 3) & ~UINT64_C(3);
        uint64_t value_room = ((uint64_t)value_size + 3) & ~UINT64_C(3);
        const char *name = bytes_read_view(&reader, (size_t)name_room);
        const uint8_t *value = bytes_read_view(&reader, (size_t)value_room);
        if (name != NULL && value != NULL && type == NOTE_PVH_ENTRY &&
            name_size == sizeof(NOTE_OWNER) &&
            memcmp(name, NOTE_OWNER, sizeof(NOTE_OWNER)) == 0 && value_size >= 4) {
            uint32_t address;
            memcpy(&address, value, sizeof(address));
            *entry = address;
        }
    }
}

static int notes_read(const struct file *file,
                      const Elf64_Phdr *header,
                      struct kernel_image *image,
                      struct err *err)
{
    if (header->p_filesz > KERNEL_NOTES_MAX) {
        return err_set(err, BERTH_EINVALID, "kernel: its notes are over %u bytes",
                       KERNEL_NOTES_MAX);
    }
    size_t size = (size_t)header->p_filesz;
    CLEANUP_FREE uint8_t *notes = cleanup_new(size, 1);
    if (notes == NULL) {
        return err_sys(err, -ENOMEM, "kernel: read its notes");
    }
    int r = read_at(file, header->p_offset, notes, size);
    if (r < 0) {
        return err_sys(err, r, "kernel: read its notes");
    }
    notes_search(notes, size, &image->entry);
    return 0;
}

static int segment_read(const struct file *file,
                        const Elf64_Phdr *header,
                        struct kernel_image *image,
                        struct err *err)
{
    if (header->p_type == PT_NOTE) {
        return notes_read(file, header, image, err);
    }
    if (header->p_type != PT_LOAD || header->p_memsz == 0) {
        return 0;
    }
    const struct kernel_piece piece = {.file_offset = header->p_offset,
                                       .file_bytes = header->p_filesz,
                                       .address = header->p_paddr,
                                       .memory_bytes = header->p_memsz};
    return piece_add(image, file, &piece, err);
}

static int elf_read(const struct file *file, struct kernel_image *image, struct err *err)
{
    Elf64_Ehdr elf;
    Elf64_Phdr headers[HEADERS_MAX] = {{0}};
    int r = read_at(file, 0, &elf, sizeof(elf));
    if (r < 0 || elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_machine != EM_X86_64 ||
        elf.e_phentsize != sizeof(Elf64_Phdr) || elf.e_phnum == 0 ||
        elf.e_phnum > HEADERS_MAX) {
        return err_set(err, BERTH_EINVALID, "kernel: not an ELF file for x86-64");
    }
    r = read_at(file, elf.e_phoff, headers, elf.e_phnum * sizeof(Elf64_Phdr));
    if (r < 0) {
        return err_sys(err, r, "kernel: read its program headers");
    }
    image->format = KERNEL_PVH;
    for (unsigned i = 0; i < elf.e_phnum; i++) {
        r = segment_read(file, &headers[i], image, err);
        if (r < 0) {
            return r;
        }
    }
    if (image->entry == 0) {
        return err_set(err, BERTH_EINVALID, "kernel: has no PVH entry (CONFIG_PVH)");
    }
    return entry_check(image, err);
}

/* ---- bzImage */

struct setup_numbers {
    uint8_t setup_sectors;
    uint16_t version;
    uint32_t initrd_max;
    uint16_t xload_flags;
    uint32_t cmdline_max;
    uint64_t load_at;
    uint32_t memory_bytes;
};

static uint64_t number_at(const uint8_t *file_start, unsigned offset, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, file_start + offset, size);
    return value;
}

/* Documentation/x86/boot.rst names the fields by these offsets. */
static struct setup_numbers setup_decode(const uint8_t *start)
{
    return (struct setup_numbers){
        .setup_sectors = start[0x1f1] != 0 ? start[0x1f1] : 4, /* so old loaders say */
        .version = (uint16_t)number_at(start, 0x206, 2),
        .initrd_max = (uint32_t)number_at(start, 0x22c, 4),
        .xload_flags = (uint16_t)number_at(start, 0x236, 2),
        .cmdline_max = (uint32_t)number_at(start, 0x238, 4),
        .load_at = number_at(start, 0x258, 8),
        .memory_bytes = (uint32_t)number_at(start, 0x260, 4),
    };
}

static int
bzimage_read(const struct file *file, struct kernel_image *image, struct err *err)
{
    uint8_t start[KERNEL_SETUP_AT + KERNEL_SETUP_MAX];
    int r = read_at(file, 0, start, sizeof(start));
    if (r < 0) {
        return err_sys(err, r, "kernel: read its header");
    }
    struct setup_numbers setup = setup_decode(start);
    if (setup.version < PROTOCOL_MIN || (setup.xload_flags & XLOAD_64BIT) == 0) {
        return err_set(err, BERTH_EINVALID,
                       "kernel: a bzImage without a 64-bit entry (boot protocol %u.%u)",
                       setup.version >> 8, setup.version & 0xffu);
    }
    uint64_t offset = (setup.setup_sectors + UINT64_C(1)) * SECTOR;
    if (offset >= file->size || setup.load_at % LOAD_ALIGN_UNITS != 0) {
        return err_set(err, BERTH_EINVALID, "kernel: a bzImage whose header is wrong");
    }
    const struct kernel_piece piece = {
        .file_offset = offset,
        .file_bytes = file->size - offset,
        .address = setup.load_at,
        .memory_bytes = setup.memory_bytes > file->size - offset ? setup.memory_bytes
                                                                 : file->size - offset};
    r = piece_add(image, file, &piece, err);
    if (r < 0) {
        return r;
    }
    image->format = KERNEL_BZIMAGE;
    image->entry = setup.load_at + ENTRY_64BIT;
    image->initrd_max = setup.initrd_max;
    image->cmdline_max = setup.cmdline_max;
    image->setup_bytes = SETUP_JUMP_END - KERNEL_SETUP_AT + start[0x201];
    memcpy(image->setup, start + KERNEL_SETUP_AT, image->setup_bytes);
    return entry_check(image, err);
}

int kernel_image_read(int fd, struct kernel_image *ret_image, struct err *err)
{
    struct stat status;
    struct kernel_image image = {.initrd_max = ADDRESS_MAX - 1,
                                 .cmdline_max = CMDLINE_MAX - 1};
    uint8_t magic[SETUP_JUMP_END + 4] = {0};
    if (fstat(fd, &status) < 0) {
        return err_sys(err, -errno, "kernel");
    }
    const struct file file = {fd, (uint64_t)status.st_size};
    if (!S_ISREG(status.st_mode) || file.size > FILE_MAX) {
        return err_set(err, BERTH_EINVALID, "kernel: not a regular file below 4GiB");
    }
    int r = read_at(&file, 0, magic, sizeof(magic));
    if (r < 0) {
        return err_set(err, BERTH_EINVALID, "kernel: cut short: a file of %llu bytes",
                       (unsigned long long)file.size);
    }
    if (memcmp(magic, ELFMAG, SELFMAG) == 0) {
        r = elf_read(&file, &image, err);
    } else if (memcmp(magic + SETUP_JUMP_END, "HdrS", 4) == 0) {
        r = bzimage_read(&file, &image, err);
    } else {
        r = err_set(err, BERTH_EINVALID,
                    "kernel: neither an ELF file (vmlinux) nor a bzImage (vmlinuz)");
    }
    if (r == 0) {
        *ret_image = image;
    }
    return r;
}
