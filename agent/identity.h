/* Who this host is: its key, its name, its addresses, and the lock on its state folder.
 *
 * Shapes: struct identity is what survives a restart, in two files of the state folder:
 * `host.key` (the Curve25519 secret, mode 0600, made at first start, never leaves the
 * host) and `host.json` (the rest). `lock` is held with flock for the life of the
 * process, so that two berthd never share a folder; `berthd.pid` says who holds it ("PID
 * START", START as in /proc/PID/stat) for `berth down`. Units: addresses host-order IPv4,
 * ports numbers. Threads: any, at start only. Errors: BERTH_EBUSY (another berthd has the
 * folder), BERTH_ECORRUPT (a file does not parse: it is named and left alone), -errno.
 * Ownership: identity_fini frees and unlocks.
 */
#pragma once

#include "base/err.h"
#include "model/objects.h"
#include "net/mesh_key.h"

#include <stdbool.h>
#include <stdint.h>

#define IDENTITY_FOLDER_MAX 60 /* sockets of VMs below it must fit UNIX addresses */

struct identity {
    char *folder; /* absolute */
    int lock_fd;
    bool pid_written; /* ours to remove */
    struct mesh_key secret;
    struct mesh_key key; /* public */
    /* Kept in host.json: */
    char name[NAME_SIZE];
    uint64_t uid;        /* 0 until it is a member of a cluster */
    uint64_t cluster_id; /* 0 until then */
    bool founder;        /* bootstrapped the cluster's log here */
    uint32_t address;
    uint32_t mesh_port;
    uint32_t raft_port;
    uint32_t api_port; /* 0: no HTTPS */
    struct label_list labels;
};

/* Opens (making it when missing, mode 0711) and locks the folder, loads or makes the
 * key, loads host.json when there is one. */
int identity_open(const char *folder, struct identity *ret_identity, struct err *err);
/* Is a host's state there? BERTH_ENOTFOUND, with what a user can look at, when not: a
 * path with a slip in it, or a disk that is not mounted, is not an empty host. */
int identity_find(const char *folder, struct err *err);
/* To look at what is there: likewise locked, but nothing is made or written, so that it
 * can be on a disk that is full or read-only. A host that is in no cluster may have no
 * key. BERTH_ENOTFOUND as above; not to be saved. */
int identity_look(const char *folder, struct identity *ret_identity, struct err *err);
/* Writes host.json. */
int identity_save(const struct identity *identity, struct err *err);
void identity_fini(struct identity *identity);
/* The member id in the replicated log that belongs to a key: never zero, never reused as
 * keys are not. */
uint64_t identity_raft_id(const struct mesh_key *key);
static inline struct digest identity_key_digest(const struct mesh_key *key)
{
    struct digest digest;
    _Static_assert(sizeof(digest.bytes) == sizeof(key->bytes), "both are 32 bytes");
    __builtin_memcpy(digest.bytes, key->bytes, sizeof(digest.bytes));
    return digest;
}
static inline struct mesh_key identity_mesh_key(const struct digest *digest)
{
    struct mesh_key key;
    __builtin_memcpy(key.bytes, digest->bytes, sizeof(key.bytes));
    return key;
}
/* The same for a key as the state holds it. */
static inline uint64_t identity_raft_id_of(const struct digest *public_key)
{
    const struct mesh_key key = identity_mesh_key(public_key);
    return identity_raft_id(&key);
}
/* "<folder>/name"; what does not fit is cut, and fails to open. */
void identity_path(const struct identity *identity,
                   const char *name,
                   char *ret_path,
                   size_t capacity);
/* "10.0.0.7:7440" */
void identity_address_text(uint32_t address, uint32_t port, char text[MESH_ADDRESS_SIZE]);
