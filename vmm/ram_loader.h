/* Fills a machine's RAM from its image while the machine runs already: a chunk is read
 * when somebody touches it, and the rest in between.
 *
 *     made --begin--> fills --all is there--> whole
 *                       \--drop--> whole (what was missing reads as zeros)
 *
 * Shapes: opaque `struct ram_loader`, for fresh shared memory and a file as ram_image.h
 * says. RAM is registered with userfaultfd: a vCPU that touches a page that is not there
 * waits until one thread has read its chunk, compared it with its checksum and put it in
 * place as a whole; from then on the chunk is RAM as any other. Devices ask first
 * (guest_memory.h's filler), so that what they wait for can be refused. Nobody ever sees
 * a byte that was not checked. A chunk whose bytes are not those that were saved, or that
 * the file does not have any more, cannot be touched from then on: `failed` comes before
 * whoever waits for it goes on, so that the machine can be stopped, and devices get
 * -EFAULT for it.
 *
 * Storage may hang. A device waits RAM_LOADER_PATIENCE_MS; then the chunk is lost as if
 * it were damaged. Nor does a drop wait longer for the thread, which is left to itself
 * then: what it still reads goes nowhere. So long, too, it waits for the host to have
 * memory.
 *
 * Threads: one of its own; new, begin, drop and free from the machine's thread, drop and
 * free while no vCPU runs and no device works; the progress from any. `failed` comes on
 * the loader's thread or on that of a device that has waited; it may not call the loader.
 * Ownership: memory and descriptor are borrowed until it is freed; the file may go when
 * it is whole. Errors: -errno with text, of new when this process may not have
 * userfaultfd for what the kernel touches; of begin as ram_image_read. Limits: reads
 * RAM_CHUNK_BYTES at a time.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/guest_memory.h"

#include <stdint.h>

/* Longer than another path to the storage takes to be found; shorter than what people, or
 * who asks by QMP, take for a machine that is gone. */
#define RAM_LOADER_PATIENCE_MS 30000u

struct ram_loader_events {
    /* The first act of its thread: 0, or nothing is read: `failed` says why, and what is
     * touched is lost. May be NULL. */
    int (*thread_began)(void *context, struct err *err);
    /* Part of RAM cannot be had; once. */
    void (*failed)(void *context, const char *reason);
    void *context;
    unsigned patience_ms; /* 0: RAM_LOADER_PATIENCE_MS */
};

struct ram_loader_progress {
    uint64_t total_bytes;
    uint64_t done_bytes; /* all of it: it is whole */
};

struct ram_loader;

/* Opens what it needs: in the jail it could not. */
int ram_loader_new(struct guest_memory *memory,
                   int fd,
                   uint64_t offset,
                   const struct ram_loader_events *events,
                   struct ram_loader **ret_loader,
                   struct err *err);
/* Reads the section of RAM, forgets what RAM holds, and begins to fill. After an error it
 * is only good to be freed. */
int ram_loader_begin(struct ram_loader *loader,
                     struct bytes_reader *section,
                     struct err *err);
/* What is missing is not wanted any more. NULL is fine. */
void ram_loader_drop(struct ram_loader *loader);
void ram_loader_progress(const struct ram_loader *loader,
                         struct ram_loader_progress *ret_progress);
/* Drops. NULL is fine; returns NULL. */
struct ram_loader *ram_loader_free(struct ram_loader *loader);
