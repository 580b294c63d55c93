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
 * the file does not have any more, is lost, and with it all that is still missing: none
 * of it can be touched from then on. `failed` comes before whoever waits for it goes on,
 * so that the machine can be stopped, and devices get -EFAULT for it.
 *
 * Storage may hang, or be so slow that it makes no difference, and a vCPU that waits for
 * a page cannot be called back: not every kernel lets a signal end that. So a watch
 * counts. When nothing has come in for RAM_LOADER_PATIENCE_MS, or a device has waited for
 * so long with all of one access, or whoever has hurried, then what is missing is lost as
 * if it were damaged. So long, too, it waits for the host to have memory. A drop does not
 * wait for a thread that reads: it is left to itself, and what it reads goes nowhere.
 *
 * What a guest gives back before it is there does not come in.
 *
 * Threads: two of its own; new, begin, hurry, abandon, drop and free from the machine's
 * thread, drop and free while no vCPU runs and no device works; the progress from any.
 * `failed` comes on one of the loader's threads; it may not call the loader.
 * Ownership: memory is borrowed until it is freed, the descriptor is for new alone.
 * Errors: -errno with text, of new when this process may not have userfaultfd for what
 * the kernel touches; of begin as ram_image_read. Limits: reads RAM_CHUNK_BYTES at a
 * time; no page of RAM is larger.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/guest_memory.h"

#include <stdbool.h>
#include <stdint.h>

/* Longer than another path to the storage takes to be found; shorter than what people, or
 * who asks by QMP, take for a machine that is gone. */
#define RAM_LOADER_PATIENCE_MS 30000u

struct ram_loader_events {
    /* The first act of each thread of its own: 0, or nothing is read: `failed` says why,
     * and what is touched is lost. May be NULL. */
    int (*thread_began)(void *context, struct err *err);
    /* Part of RAM cannot be had; once. */
    void (*failed)(void *context, const char *reason);
    void *context;
    unsigned patience_ms; /* 0: RAM_LOADER_PATIENCE_MS */
};

struct ram_loader_progress {
    uint64_t total_bytes;
    uint64_t done_bytes; /* all of it: it is whole, or no more is to come */
    bool was_abandoned;  /* before it was whole */
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
/* While it is wanted, nobody may wait longer than the patience from its beginning on,
 * even if the storage answers now and then: before vCPUs are to stand still. NULL is
 * fine. */
void ram_loader_hurry(struct ram_loader *loader, bool is_wanted);
/* What is missing is lost at once, without `failed`: nobody waits for it any more. Before
 * vCPUs that are not to go on are waited for. NULL is fine. */
void ram_loader_abandon(struct ram_loader *loader);
/* What is missing is not wanted any more: RAM is as any other. NULL is fine. */
void ram_loader_drop(struct ram_loader *loader);
void ram_loader_progress(const struct ram_loader *loader,
                         struct ram_loader_progress *ret_progress);
/* Drops. NULL is fine; returns NULL. */
struct ram_loader *ram_loader_free(struct ram_loader *loader);
