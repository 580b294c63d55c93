#include "consensus/channel_patience.h"

#include <stddef.h>

/* NULL: there is none. */
static unsigned *refusals_of(struct channel_patience *patience, uint64_t id)
{
    for (size_t i = 0; i < CHANNEL_PATIENCE_PEERS; i++) {
        if (patience->peers[i].id == id) {
            return &patience->peers[i].refused;
        }
    }
    return NULL;
}

static unsigned *refusals_begun(struct channel_patience *patience, uint64_t id)
{
    size_t at = patience->next;
    for (size_t i = 0; i < CHANNEL_PATIENCE_PEERS; i++) {
        if (patience->peers[i].id == 0) {
            at = i;
            break;
        }
    }
    if (patience->peers[at].id != 0) {
        patience->next = (patience->next + 1) % CHANNEL_PATIENCE_PEERS;
    }
    patience->peers[at].id = id;
    patience->peers[at].refused = 0;
    return &patience->peers[at].refused;
}

unsigned channel_patience_refused(struct channel_patience *patience, uint64_t id)
{
    unsigned *refused = refusals_of(patience, id);
    if (refused == NULL) {
        refused = refusals_begun(patience, id);
    }
    if (*refused < CHANNEL_PATIENCE_FREE) {
        (*refused)++;
        return 0;
    }
    unsigned wait_ms = CHANNEL_PATIENCE_FIRST_MS << (*refused - CHANNEL_PATIENCE_FREE);
    if (wait_ms >= CHANNEL_PATIENCE_LAST_MS) {
        return CHANNEL_PATIENCE_LAST_MS;
    }
    (*refused)++;
    return wait_ms;
}

void channel_patience_welcome(struct channel_patience *patience, uint64_t id)
{
    for (size_t i = 0; i < CHANNEL_PATIENCE_PEERS; i++) {
        if (patience->peers[i].id == id) {
            patience->peers[i].id = 0;
        }
    }
}
