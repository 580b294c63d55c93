/* Kernels of a few bytes: an ELF file with a PVH note around given machine code, in a
 * memfd. Entered in 32-bit mode with EBX at the start info, as PVH says. */
#pragma once

#include "base/require.h"

#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MICRO_KERNEL_AT 0x100000u
#define MICRO_CODE_AT   0x1000u /* in the file, and from MICRO_KERNEL_AT on */

struct micro_elf {
    Elf64_Ehdr header;
    Elf64_Phdr segments[2];
    uint32_t note[3];
    char note_owner[4];
    uint32_t entry;
};

static inline struct micro_elf micro_elf_make(size_t code_size)
{
    struct micro_elf elf = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
                               ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_phoff = offsetof(struct micro_elf, segments),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 2},
        .segments = {{.p_type = PT_LOAD,
                      .p_offset = 0,
                      .p_paddr = MICRO_KERNEL_AT,
                      .p_filesz = MICRO_CODE_AT + code_size,
                      .p_memsz = MICRO_CODE_AT + code_size + 0x1000},
                     {.p_type = PT_NOTE,
                      .p_offset = offsetof(struct micro_elf, note),
                      .p_filesz =
                          sizeof(struct micro_elf) - offsetof(struct micro_elf, note),
                      .p_align = 4}}, /* QEMU divides by it */
        .note = {4, 4, 18},
        .note_owner = "Xen",
        .entry = MICRO_KERNEL_AT + MICRO_CODE_AT,
    };
    return elf;
}

static inline int
micro_kernel_file(const struct micro_elf *elf, const void *code, size_t code_size)
{
    int fd = memfd_create("micro-kernel", MFD_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, elf, sizeof(*elf), 0) == (ssize_t)sizeof(*elf));
    REQUIRE(pwrite(fd, code, code_size, MICRO_CODE_AT) == (ssize_t)code_size);
    return fd;
}

static inline int micro_kernel(const void *code, size_t code_size)
{
    struct micro_elf elf = micro_elf_make(code_size);
    return micro_kernel_file(&elf, code, code_size);
}
