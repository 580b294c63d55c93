/* Who comes into the cluster: the door for hosts that join, and the tokens that open it.
 *
 * Shapes: one struct admission per voter. While a join token is good, strangers may speak
 * to this host's join endpoint; what they ask is answered here: by the leader, through
 * the log, or with the leader's name and key. The leader also removes tokens that have
 * long expired. Units: milliseconds. Threads: the loop's. Ownership: opaque, heap;
 * config's parts are borrowed: the link until admission_end, the rest outlive it, and it
 * outlives its proposals (control_close ends those).
 */
#pragma once

#include "agent/control.h"
#include "agent/identity.h"
#include "agent/link.h"
#include "base/clock.h"

#define ADMISSION_TOKEN_KEPT_MS                            \
    3600000 /* expired join tokens, to tell who comes late \
             */

struct admission;

struct admission_config {
    const struct clock *clock;
    const struct identity *identity;
    struct control *control;
    struct link *link;
};

/* NULL when out of memory. */
struct admission *admission_new(const struct admission_config *config);
/* Accepts NULL; returns NULL. */
struct admission *admission_free(struct admission *admission);
/* The link is about to be closed: nobody is answered any more. */
void admission_end(struct admission *admission);
/* This host leads, or no longer does. */
void admission_lead(struct admission *admission, bool leads);
/* Call often: tokens expire without a word. */
void admission_tick(struct admission *admission, uint64_t now_ms);
/* One was made, used up or removed, or the whole state is another. */
void admission_tokens_changed(struct admission *admission);
/* While the cluster's level is being raised, nobody comes in: the level holds for those
 * who are in. */
void admission_hold(struct admission *admission, bool raising);
/* Whether a host's address is in the range of a tenant network, and of which, in words. A
 * new host is refused for that; one that is in may come back with such an address. */
#define ADMISSION_CLASH_SIZE 448
bool admission_address_clash(const struct state *state,
                             const char *name,
                             uint32_t address,
                             char ret_text[ADMISSION_CLASH_SIZE]);
/* Somebody is about to be let in. */
bool admission_lets_in(const struct admission *admission);
/* A stranger with a token. Answers it, now or once the log has spoken; the log hears of
 * none without a good token. */
void admission_ask(struct admission *admission,
                   const struct mesh_key *guest,
                   const struct msg_join *join);
