/* The book of orders from the inside: what agent/orders_book.c keeps of the state and
 * agent/orders_write.c makes orders of.
 *
 * Shapes: parts, one per object, hold what that object gave to orders when it was looked
 * at last, and the indexes from each to those it concerns. Fields private to the two
 * files. Threads, ownership, limits: as orders_book.h says.
 */
#pragma once

#include "agent/orders_book.h"
#include "base/list.h"
#include "base/u64_map.h"

/* What a VM gave to orders when it was looked at last. */
struct vm_part {
    uint64_t named_on;   /* the host that is ordered to have it; 0: none */
    uint64_t kept_on;    /* another one that keeps disks for it; 0: none */
    uint64_t host;       /* where its addresses are; 0: nowhere */
    struct digest order; /* of its msg_vm without the image; zero: was not worked out */
    uint32_t nic_count;
    struct msg_nic nics[NICS_MAX]; /* those that are neighbours to others */
};

/* Likewise of a snapshot. */
struct snapshot_part {
    uint64_t host;               /* that is told of it; 0: none */
    enum snapshot_order ordered; /* to do what */
};

struct host_part {
    uint64_t uid;
    struct list dirty_link;   /* on the book's list */
    bool known;               /* there, removed or not */
    bool is_member;           /* not removed */
    struct msg_member member; /* as others were told; its address also when removed */
    struct u64_map *networks; /* uid -> struct network_part: that it is in */
};

struct network_part {
    uint64_t uid;
    char tenant[NAME_SIZE];
    char name[NAME_SIZE];
    struct u64_map *vms; /* uids of those with an address in it -> struct vm_part */
    uint64_t *hosts;
    uint32_t host_count;
    struct msg_neighbour_list neighbours;
    bool stale; /* the neighbours */
};

/* Contents of an image, with whom to get them from. */
struct offer {
    struct msg_blob blob; /* holder: nobody's */
    struct blob_holder_pair holders;
};

struct note {
    enum kind kind;
    uint64_t uid;
};

struct orders_book {
    const struct state *state;
    blob_holders_reachable *reachable;
    void *context;
    struct blob_holders *holders;
    struct u64_map *vms;       /* uid -> struct vm_part */
    struct u64_map *hosts;     /* uid -> struct host_part */
    struct u64_map *networks;  /* uid -> struct network_part */
    struct u64_map *images;    /* uid -> struct digest of its spec */
    struct u64_map *snapshots; /* uid -> struct snapshot_part */
    struct list dirty;         /* struct host_part */
    struct note *notes;
    size_t note_count;
    size_t note_capacity;
    bool rebuild; /* nothing above but the holders is to be believed */
    struct msg_member_list members;
    bool members_stale;
    struct offer offers[ORDERS_BOOK_BLOBS];
    uint32_t offer_count;
    bool offers_cut; /* images have more contents than are offered */
    bool offers_stale;
    bool holders_changed;
    bool concerns_all; /* until the end of this refresh: whatever changed, each host is
                          told it */
    bool addresses_changed; /* likewise: of hosts, which all networks' neighbours name */
};

/* Room for `count` pointers to objects, to be sorted by uid; NULL: out of memory. */
const void **orders_pointers(size_t count);
void orders_sort_by_uid(const void **objects, size_t count);
struct offer *orders_offer_find(struct orders_book *book, const struct digest *sha256);
struct blob_holder_pair orders_holders_of(const struct orders_book *book,
                                          const struct digest *sha256);
