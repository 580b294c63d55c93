/* What a kernel file is made of: read from an open file, which a tenant may have made.
 *
 * Shapes: `struct kernel_image` lists the pieces to be copied into the guest and the
 * entry. Two formats: an ELF file with a PVH note (vmlinux), entered in 32-bit mode; a
 * bzImage (vmlinuz) of boot protocol 2.12 or newer, entered in 64-bit mode, which unpacks
 * itself. Nothing is copied here and nothing beyond the headers is read; every number is
 * checked against the file's size and its neighbours, so that the loader has only RAM to
 * check.
 *
 * Threads: any. Errors: BERTH_EINVALID with what is wrong with the file; -errno.
 * Ownership: the descriptor is borrowed. Limits: KERNEL_PIECES_MAX, KERNEL_NOTES_MAX.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define KERNEL_PIECES_MAX 16u         /* Linux has five */
#define KERNEL_NOTES_MAX  (64u << 10) /* bytes of notes; Linux has some hundred */
#define KERNEL_SETUP_MAX  0x200u      /* bytes of a bzImage's header that are looked at */

enum kernel_format { KERNEL_PVH = 1, KERNEL_BZIMAGE };

struct kernel_piece {
    uint64_t file_offset;
    uint64_t file_bytes;   /* copied */
    uint64_t address;      /* in the guest */
    uint64_t memory_bytes; /* >= file_bytes: the rest is zeros */
};

struct kernel_image {
    enum kernel_format format;
    struct kernel_piece pieces[KERNEL_PIECES_MAX];
    unsigned piece_count;
    uint64_t entry;
    uint64_t end; /* of the highest piece */
    /* of a bzImage alone: */
    uint8_t setup[KERNEL_SETUP_MAX]; /* the header, from KERNEL_SETUP_AT on */
    unsigned setup_bytes;
    uint64_t initrd_max; /* the highest address an initrd's byte may have */
    uint64_t cmdline_max;
};

#define KERNEL_SETUP_AT 0x1f1u /* where the header lies in file and zero page */

int kernel_image_read(int fd, struct kernel_image *ret_image, struct err *err);
