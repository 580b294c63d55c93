/* What keeps a VM from starting on the host it was given: contents of its image that the
 * host does not have, or does not use yet.
 *
 * Shapes: struct image_lack is a value: the first of the image's contents that is not
 * there, and whom the host gets it from (0: nobody who can be asked holds it, so that the
 * VM waits until somebody brings it). Threads: the loop's. Ownership: copies all. Errors:
 * none. Known only of hosts that said what they hold (agent/blob_holders.h).
 */
#pragma once

#include "agent/blob_holders.h"
#include "model/state.h"

#define IMAGE_LACK_TEXT_SIZE 384

struct image_lack {
    char image[NAME_SIZE];
    uint32_t role; /* enum artifact_role */
    struct digest sha256;
    uint64_t from; /* a host that holds it and can be asked; 0: none */
    bool checks;   /* the host has it, and looks whether it is still whole */
};

/* Whether `host` lacks or still checks something of the image that the tenant means by
 * that name; with host 0, whether something of it is nowhere. */
bool image_lack_of(const struct state *state,
                   const struct blob_holders *holders,
                   blob_holders_reachable *reachable,
                   void *context,
                   const char *tenant,
                   const char *image_name,
                   uint64_t host,
                   struct image_lack *ret_lack);
/* In words, with the way out where there is something to do. */
void image_lack_tell(const struct image_lack *lack,
                     const struct state *state,
                     char ret_text[IMAGE_LACK_TEXT_SIZE]);
