/* The hosts of the cluster as this host knows them: keys, addresses, who votes.
 *
 * Shapes: struct members is a small table, replaced as a whole from orders (a founder's,
 * and one that is recovered, from its state) and kept in `members.bin` of the state
 * folder, so that a restarted host knows whom to call and a restarted voter whom to
 * trust. Between orders a voter's answer may add the leader to it (members_learn), and
 * where none is left whom the host believes, its operator's token replaces it until the
 * next orders (berthd_joining.c).
 * Pointers into it are valid until the table is replaced. Who must not wait for the disk
 * replaces it first and has a thread write it: begin and end are the loop's, and a table
 * that is replaced meanwhile stays unsaved. Threads: the loop's, but members_write_run.
 * Errors: BERTH_ECORRUPT names the file; it is never guessed around.
 */
#pragma once

#include "agent/messages.h"
#include "base/err.h"
#include "net/mesh_key.h"

#include <stdbool.h>

#define MEMBERS_LEARNED_MAX                                     \
    8 /* leaders that follow each other before one gives orders \
       */

struct members {
    char *path; /* of members.bin */
    struct msg_member_list list;
    uint64_t term; /* of the leader whose orders brought the table; 0: nobody's did. Set
                      before members_replace, and kept in the file */
    bool unsaved;  /* the file does not say so yet */
    /* private from here on */
    uint64_t version; /* counts tables */
    unsigned learned; /* of the list: not from orders */
};

int members_open(const char *folder, struct members *ret_members, struct err *err);
void members_fini(struct members *members);
/* Replaces the table by a copy, in memory: from now on it is in force, and whom it lacks
 * the log names. *ret_changed tells
 * whether anything differed; only then is it unsaved. */
int members_replace(struct members *members,
                    const struct msg_member_list *list,
                    bool *ret_changed,
                    struct err *err);
/* Likewise, and stores it. One that cannot be written is in force all the same:
 * members_save tries again. */
int members_set(struct members *members,
                const struct msg_member_list *list,
                bool *ret_changed,
                struct err *err);
/* A voter's word for the leader of `term`: a host that was away while another one was
 * promoted and elected would neither call it nor follow it, and so never get the orders
 * that say so. Changes the table in memory only, until the next one; *ret_changed tells
 * whether it did. The caller takes the word from none but those who may give orders: who
 * lies here could send a whole table instead, and gains nothing. One that is behind must
 * not undo what is known:
 * - a term below the table's is refused (BERTH_ESTALE): who led then may be removed by
 *   now, and this table may be what says so. In the table's term, or later, the host was
 *   elected by those who vote, whatever the table says of it;
 * - a host that the table knows to vote stays as it is, nothing has to be learned;
 * - a key is one host's for ever: BERTH_EINVALID when the table has the uid with another
 *   key, or the key with another uid;
 * - BERTH_EINVALID, too, for a record that cannot be a leader's: no uid, no key, no part
 *   in the log;
 * - BERTH_EFULL after MEMBERS_LEARNED_MAX of them. */
int members_learn(struct members *members,
                  const struct msg_member *leader,
                  uint64_t term,
                  bool *ret_changed,
                  struct err *err);
/* Stores a table that could not be stored before; else does nothing. */
int members_save(struct members *members, struct err *err);
/* The same in three steps, for a thread to wait for the disk. One at a time. */
struct members_write { /* fields private */
    char *path;
    uint8_t *data;
    size_t size;
    uint64_t version;
    int code;
    struct err err;
};
int members_write_begin(const struct members *members,
                        struct members_write *ret_write,
                        struct err *err);
/* On any thread; it does not touch the table. */
void members_write_run(struct members_write *write);
/* 0, or why it is not written. */
int members_write_end(struct members *members,
                      struct members_write *write,
                      struct err *err);
const struct msg_member *members_by_uid(const struct members *members, uint64_t uid);
const struct msg_member *members_by_key(const struct members *members,
                                        const struct digest *key);
const struct msg_member *members_by_raft_id(const struct members *members,
                                            uint64_t raft_id);
