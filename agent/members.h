/* The hosts of the cluster as this host knows them: keys, addresses, who votes.
 *
 * Shapes: struct members is a small table, replaced as a whole from orders (or, on
 * voters, from the state) and kept in `members.bin` of the state folder, so that a
 * restarted host knows whom to call and a restarted voter whom to trust. Pointers into it
 * are valid until the next members_set. Threads: the loop's. Errors: BERTH_ECORRUPT names
 * the file; it is never guessed around.
 */
#pragma once

#include "agent/messages.h"
#include "base/err.h"
#include "net/mesh_key.h"

#include <stdbool.h>

struct members {
    char *path; /* of members.bin */
    struct msg_member_list list;
    bool unsaved; /* the file does not say so yet: it could not be written */
};

int members_open(const char *folder, struct members *ret_members, struct err *err);
void members_fini(struct members *members);
/* Replaces the table by a copy and stores it. *ret_changed tells whether anything
 * differed; only then, or when it is not stored yet, is it written. One that cannot be
 * written is in force all the same: members_save tries again. */
int members_set(struct members *members,
                const struct msg_member_list *list,
                bool *ret_changed,
                struct err *err);
/* Stores a table that could not be stored before; else does nothing. */
int members_save(struct members *members, struct err *err);
const struct msg_member *members_by_uid(const struct members *members, uint64_t uid);
const struct msg_member *members_by_key(const struct members *members,
                                        const struct digest *key);
const struct msg_member *members_by_raft_id(const struct members *members,
                                            uint64_t raft_id);
