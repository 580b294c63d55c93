/* What goes through the queues of a vsock device (virtio 1.2, 5.10.6): a header, and
 * bytes behind it in a packet of kind RW. All numbers are little endian, as this machine
 * is. */
#pragma once

#include <stdint.h>

#define VSOCK_HOST_CID UINT64_C(2)
#define VSOCK_CID_MIN  UINT64_C(3) /* below are the host and those that mean nobody */
#define VSOCK_CID_MAX  UINT64_C(0xfffffffe)

enum vsock_type { VSOCK_STREAM = 1 };

enum vsock_operation {
    VSOCK_REQUEST = 1,
    VSOCK_RESPONSE = 2,
    VSOCK_RST = 3,
    VSOCK_SHUTDOWN = 4,
    VSOCK_RW = 5,
    VSOCK_CREDIT_UPDATE = 6,
    VSOCK_CREDIT_REQUEST = 7,
    VSOCK_OPERATION_COUNT,
};

/* Flags of a shutdown. */
enum {
    VSOCK_NO_RECEIVE = 1, /* whoever says it takes nothing more */
    VSOCK_NO_SEND = 2,    /* and sends nothing more */
    VSOCK_NOTHING = 3,
};

struct vsock_header {
    uint64_t source_cid;
    uint64_t target_cid;
    uint32_t source_port;
    uint32_t target_port;
    uint32_t size;
    uint16_t type;
    uint16_t operation;
    uint32_t flags;
    uint32_t buffer_bytes;    /* what the sender can hold of this connection */
    uint32_t forwarded_bytes; /* what has left that buffer so far */
} __attribute__((packed));

_Static_assert(sizeof(struct vsock_header) == 44, "5.10.6");
