/* What berthd and the fence say to each other over a SOCK_SEQPACKET socket in the state
 * folder: one message per packet.
 *
 * Shapes: FENCE_MESSAGES is the list; every message has one field list that gives its
 * struct, its codec and its size, which is fixed. Each request is answered by one message
 * that carries the request's tag: HELLO by STATE, LIST by PAGE, all others by REPLY.
 * EVENT comes by itself. A packet of another version is answered by a REPLY in one's own,
 * and the connection ends; magic and version stay where they are for ever. Descriptors
 * travel beside WATCH (SCM_RIGHTS): the pidfd, then the files it names. Encoding: little
 * endian; a header {magic, version, type, tag}; then the fields in their order. Errors:
 * BERTH_EPROTO (malformed), BERTH_EUNSUPPORTED (another version: fence and berthd of
 * different builds). Ownership: plain values. Limits: FENCE_MESSAGE_SIZE_MAX,
 * FENCE_PAGE_VMS.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FENCE_WIRE_VERSION     1
#define FENCE_MESSAGE_SIZE_MAX 2560 /* a PAGE is the largest */
#define FENCE_PAGE_VMS         64
#define FENCE_FDS_MAX          3 /* pidfd, freezer, kill */

/* F(type, name): type is u32 or u64. */
#define FENCE_HELLO_FIELDS(F) F(u32, unused)
/* What the fence is and has done so far. flags: FENCE_HAS_*. */
#define FENCE_STATE_FIELDS(F)                             \
    F(u32, pid)                                           \
    F(u32, flags)                                         \
    F(u64, length_ns)   /* its rules: L */                \
    F(u32, watchdog_ms) /* the timeout; 0: none is fed */ \
    F(u32, phase)                                         \
    F(u64, granted_ns) /* 0: none yet */                  \
    F(u32, watched)                                       \
    F(u32, frozen)                                        \
    F(u64, froze_total)                                   \
    F(u64, resumed_total)                                 \
    F(u64, killed_total)
/* With one to three descriptors. freezer: FENCE_FREEZER_*; kill: 1 when the last
 * descriptor is a cgroup.kill. */
#define FENCE_WATCH_FIELDS(F) \
    F(u64, uid)               \
    F(u64, epoch)             \
    F(u64, start_ticks)       \
    F(u32, pid)               \
    F(u32, freezer)           \
    F(u32, kill)
/* Not watched any more. */
#define FENCE_DROP_FIELDS(F) \
    F(u64, uid)              \
    F(u64, epoch)
/* Ended now: a process that berthd knows nothing of. */
#define FENCE_KILL_FIELDS(F) \
    F(u64, uid)              \
    F(u64, epoch)
#define FENCE_LEASE_FIELDS(F) F(u64, granted_ns)
/* The watched VMs from this slot on. */
#define FENCE_LIST_FIELDS(F) F(u32, slot)
/* Followed by FENCE_PAGE_VMS entries, of which the first `count` mean something. next:
 * the slot to go on from, 0 at the end. */
#define FENCE_PAGE_FIELDS(F) \
    F(u32, count)            \
    F(u32, next)
#define FENCE_ENTRY_FIELDS(F) \
    F(u64, uid)               \
    F(u64, epoch)             \
    F(u64, start_ticks)       \
    F(u32, pid)               \
    F(u32, flags) /* FENCE_VM_* */
/* code: 0 or a negated error code. */
#define FENCE_REPLY_FIELDS(F) F(u32, code)
/* kind: enum fence_event_kind; count VMs were reached. */
#define FENCE_EVENT_FIELDS(F) \
    F(u32, kind)              \
    F(u32, count)
/* Asks it to end; refused with BERTH_EINUSE while it watches a VM. */
#define FENCE_END_FIELDS(F) F(u32, unused)

/* M(NUMBER, NAME, name) */
#define FENCE_MESSAGES(M) \
    M(1, HELLO, hello)    \
    M(2, STATE, state)    \
    M(3, WATCH, watch)    \
    M(4, DROP, drop)      \
    M(5, KILL, kill)      \
    M(6, LEASE, lease)    \
    M(7, LIST, list)      \
    M(8, PAGE, page)      \
    M(9, REPLY, reply)    \
    M(10, EVENT, event)   \
    M(11, END, end)

enum fence_type {
    FENCE_NONE = 0,
#define FENCE_TYPE_ENUM(number, NAME, name) FENCE_##NAME = number,
    FENCE_MESSAGES(FENCE_TYPE_ENUM)
#undef FENCE_TYPE_ENUM
        FENCE_TYPE_COUNT
};
const char *fence_type_name(enum fence_type type);

enum fence_flag {
    FENCE_HAS_LOCKED_MEMORY = 1,
    FENCE_HAS_REAL_TIME = 2,
    FENCE_HAS_OOM_SHIELD = 4,
    FENCE_HAS_WATCHDOG = 8,
    FENCE_HAS_WATCHDOG_IN_TIME = 16 /* it bites by L(1-d), see fence_core.h */
};
enum fence_freezer { FENCE_FREEZER_NONE = 0, FENCE_FREEZER_V1, FENCE_FREEZER_V2 };
enum fence_vm_flag { FENCE_VM_FROZEN = 1, FENCE_VM_KILLED = 2 };
enum fence_event_kind {
    FENCE_EVENT_FROZE = 1,
    FENCE_EVENT_RESUMED,
    FENCE_EVENT_KILLED,
    FENCE_EVENT_OVERDUE, /* these VMs do not die; a watchdog bites now */
};

#define FENCE_FIELD(type, name) FENCE_FIELD_##type name;
#define FENCE_FIELD_u32         uint32_t
#define FENCE_FIELD_u64         uint64_t
#define FENCE_STRUCT(NAME, name)           \
    struct fence_##name {                  \
        FENCE_##NAME##_FIELDS(FENCE_FIELD) \
    };
FENCE_STRUCT(HELLO, hello)
FENCE_STRUCT(STATE, state)
FENCE_STRUCT(WATCH, watch)
FENCE_STRUCT(DROP, drop)
FENCE_STRUCT(KILL, kill)
FENCE_STRUCT(LEASE, lease)
FENCE_STRUCT(LIST, list)
FENCE_STRUCT(ENTRY, entry)
FENCE_STRUCT(REPLY, reply)
FENCE_STRUCT(EVENT, event)
FENCE_STRUCT(END, end)
struct fence_page {
    FENCE_PAGE_FIELDS(FENCE_FIELD)
    struct fence_entry entries[FENCE_PAGE_VMS];
};

struct fence_message {
    enum fence_type type;
    uint32_t tag; /* of the request; echoed in its answer */
    union {
#define FENCE_BODY(number, NAME, name) struct fence_##name name;
        FENCE_MESSAGES(FENCE_BODY)
#undef FENCE_BODY
    } body;
};

/* Encodes; the size. */
size_t fence_wire_encode(const struct fence_message *message,
                         uint8_t ret_data[FENCE_MESSAGE_SIZE_MAX]);
/* Decodes one packet; *ret_message is zeroed on fault. */
int fence_wire_decode(const void *data, size_t size, struct fence_message *ret_message);
