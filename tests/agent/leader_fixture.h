/* What tests of a leader ask and tell in a small rack (plane_fixture.h), host 0 leading.
 * All functions are inline so that no test has to use all of them.
 */
#pragma once

#include "agent/leader_internal.h"
#include "plane_fixture.h"

static inline uint64_t uid_of(const struct plane *self)
{
    const struct digest key = identity_key_digest(&self->host->identity.key);
    const struct host *host = state_host_by_key(plane_state(0), &key);
    return host != NULL ? host->meta.uid : 0;
}

static inline uint32_t level(void)
{
    return state_level(plane_state(0));
}

/* All hosts are told of it. */
static inline void put_image(const char *name)
{
    struct image *image = object_new(KIND_IMAGE);
    (void)snprintf(image->meta.name, NAME_SIZE, "%s", name);
    struct artifact *artifact =
        record_list_add(&artifact_record, (struct record_list *)&image->spec.artifacts);
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    ck_assert_int_eq(plane_put(KIND_IMAGE, image), 0);
}
