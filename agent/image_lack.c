#include "agent/image_lack.h"

#include <stdio.h>
#include <string.h>

#define HEX_SHOWN 12 /* tells contents apart; berth show image has all of it */

/* Whether a VM on `host` (0: on any) waits for the content, and for whom. */
static bool content_lacks(const struct blob_holders *holders,
                          blob_holders_reachable *reachable,
                          void *context,
                          const struct digest *sha256,
                          uint64_t host,
                          uint64_t *ret_from)
{
    if (host != 0 && blob_holders_has(holders, host, sha256)) {
        *ret_from = host;
        return blob_holders_checks(holders, host, sha256);
    }
    *ret_from =
        blob_holder_for(blob_holders_of(holders, sha256, reachable, context), host);
    return host != 0 || *ret_from == 0;
}

bool image_lack_of(const struct state *state,
                   const struct blob_holders *holders,
                   blob_holders_reachable *reachable,
                   void *context,
                   const char *tenant,
                   const char *image_name,
                   uint64_t host,
                   struct image_lack *ret_lack)
{
    const struct image *image = state_image_for(state, tenant, image_name);
    bool lacks = false;
    /* What is nowhere holds it up more than what is on its way. */
    for (uint32_t i = 0; image != NULL && i < image->spec.artifacts.count; i++) {
        const struct artifact *artifact = &image->spec.artifacts.items[i];
        uint64_t from = 0;
        if (content_lacks(holders, reachable, context, &artifact->sha256, host, &from) &&
            (!lacks || from == 0)) {
            *ret_lack = (struct image_lack){.role = artifact->role,
                                            .sha256 = artifact->sha256,
                                            .from = from,
                                            .checks = from != 0 && from == host};
            memcpy(ret_lack->image, image->meta.name, sizeof(ret_lack->image));
            lacks = true;
            if (from == 0) {
                break;
            }
        }
    }
    return lacks;
}

void image_lack_tell(const struct image_lack *lack,
                     const struct state *state,
                     char ret_text[IMAGE_LACK_TEXT_SIZE])
{
    char hex[DIGEST_HEX_SIZE];
    const char *role = artifact_role_names[lack->role];
    const struct host *from = lack->from != 0 ? state_host(state, lack->from) : NULL;
    digest_format(&lack->sha256, hex);
    if (lack->checks) {
        (void)snprintf(ret_text, IMAGE_LACK_TEXT_SIZE,
                       "its host checks image %s (%s) before it is used: is it still "
                       "whole?",
                       lack->image, role);
        return;
    }
    if (lack->from != 0) {
        (void)snprintf(ret_text, IMAGE_LACK_TEXT_SIZE,
                       "its host fetches image %s (%s) from %s", lack->image, role,
                       from != NULL ? from->meta.name : "another host");
        return;
    }
    (void)snprintf(
        ret_text, IMAGE_LACK_TEXT_SIZE,
        "image %s (%s, sha256 %.*s) is on no host that is up: berth apply FILE, "
        "with the file that describes the image, brings it",
        lack->image, role, HEX_SHOWN, hex);
}
