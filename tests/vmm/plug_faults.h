/* A kernel that has no more mappings, or does not punch: what fails is set, and fails
 * until it is cleared.
 *
 * Replaces mprotect and fallocate of the C library in the program that includes it.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum plug_fault {
    PLUG_FAULT_NONE = 0,
    PLUG_FAULT_PROTECT,      /* nothing is done */
    PLUG_FAULT_PROTECT_HALF, /* the first half is, for it was another mapping */
    PLUG_FAULT_PUNCH,
    PLUG_FAULT_COUNT,
};

static struct {
    enum plug_fault kind;
    unsigned hits;
} plug_fault;

/* In place of the C library's. */
int mprotect(void *address, size_t size, int protection)
{
    const enum plug_fault kind = plug_fault.kind;
    if (kind != PLUG_FAULT_PROTECT && kind != PLUG_FAULT_PROTECT_HALF) {
        return (int)syscall(SYS_mprotect, address, size, protection);
    }
    if (plug_fault.hits++ > 0) { /* who undoes it gets mappings back first */
        return (int)syscall(SYS_mprotect, address, size, protection);
    }
    if (kind == PLUG_FAULT_PROTECT_HALF) {
        (void)syscall(SYS_mprotect, address, size / 2 & ~(size_t)0xfff, protection);
    }
    errno = ENOMEM;
    return -1;
}

/* In place of the C library's. */
int fallocate(int fd, int mode, off_t at, off_t size)
{
    if (plug_fault.kind != PLUG_FAULT_PUNCH) {
        return (int)syscall(SYS_fallocate, fd, mode, at, size);
    }
    plug_fault.hits++;
    errno = ENOMEM;
    return -1;
}

static inline void plug_fault_set(enum plug_fault kind)
{
    plug_fault.kind = kind;
    plug_fault.hits = 0;
}
