#include "agent/messages.h"

#include "base/cleanup.h"

const char *const fence_health_names[] = {"unknown", "missing", "running", "watchdog",
                                          NULL};
const char *const order_names[] = {"run", "stop", "keep", NULL};
const char *const snapshot_order_names[] = {"keep", "make", "delete", NULL};

RECORD_DEFINE(msg_join, MSG_JOIN_FIELDS)
RECORD_DEFINE(msg_member, MSG_MEMBER_FIELDS)
RECORD_DEFINE(msg_join_reply, MSG_JOIN_REPLY_FIELDS)
RECORD_DEFINE(msg_vm_seen, MSG_VM_SEEN_FIELDS)
RECORD_DEFINE(msg_snapshot_seen, MSG_SNAPSHOT_SEEN_FIELDS)
RECORD_DEFINE(msg_blob, MSG_BLOB_FIELDS)
RECORD_DEFINE(msg_taken, MSG_TAKEN_FIELDS)
RECORD_DEFINE(msg_carried, MSG_CARRIED_FIELDS)
RECORD_DEFINE(msg_heartbeat, MSG_HEARTBEAT_FIELDS)
RECORD_DEFINE(msg_ack, MSG_ACK_FIELDS)
RECORD_DEFINE(msg_not_leader, MSG_NOT_LEADER_FIELDS)
RECORD_DEFINE(msg_outdated, MSG_OUTDATED_FIELDS)
RECORD_DEFINE(msg_confirm, MSG_CONFIRM_FIELDS)
RECORD_DEFINE(msg_confirmed, MSG_CONFIRMED_FIELDS)
RECORD_DEFINE(msg_nic, MSG_NIC_FIELDS)
RECORD_DEFINE(msg_vm, MSG_VM_FIELDS)
RECORD_DEFINE(msg_snapshot, MSG_SNAPSHOT_FIELDS)
RECORD_DEFINE(msg_neighbour, MSG_NEIGHBOUR_FIELDS)
RECORD_DEFINE(msg_network, MSG_NETWORK_FIELDS)
RECORD_DEFINE(msg_orders, MSG_ORDERS_FIELDS)
RECORD_DEFINE(msg_forward, MSG_FORWARD_FIELDS)
RECORD_DEFINE(msg_header, MSG_HEADER_FIELDS)
RECORD_DEFINE(msg_forward_head, MSG_FORWARD_HEAD_FIELDS)
RECORD_DEFINE(msg_forward_data, MSG_FORWARD_DATA_FIELDS)
RECORD_DEFINE(msg_forward_end, MSG_FORWARD_END_FIELDS)
RECORD_DEFINE(msg_blob_ask, MSG_BLOB_ASK_FIELDS)
RECORD_DEFINE(msg_blob_chunk, MSG_BLOB_CHUNK_FIELDS)
RECORD_DEFINE(msg_part, MSG_PART_FIELDS)

static const struct {
    const char *name;
    const struct record *record;
} message_rows[] = {
#define MESSAGE_ROW(NAME, number, rec) \
    [number] = {.name = #NAME, .record = &rec##_record},
    MESSAGES(MESSAGE_ROW)
#undef MESSAGE_ROW
};

const struct record *message_record(uint16_t type)
{
    unsigned number = (unsigned)type - MESSAGE_TYPE_BASE;
    return type >= MESSAGE_TYPE_BASE && number < ARRAY_COUNT(message_rows)
               ? message_rows[number].record
               : NULL;
}

const char *message_name(uint16_t type)
{
    return message_record(type) != NULL ? message_rows[type - MESSAGE_TYPE_BASE].name
                                        : NULL;
}

int message_encode(const struct record *record,
                   const void *message,
                   uint8_t **ret_data,
                   size_t *ret_size)
{
    return message_encode_within(record, message, MESSAGE_SIZE_MAX, ret_data, ret_size);
}

int message_encode_within(const struct record *record,
                          const void *message,
                          size_t size_max,
                          uint8_t **ret_data,
                          size_t *ret_size)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, size_max);
    record_encode(record, message, &writer);
    return bytes_writer_take(&writer, ret_data, ret_size);
}

int message_decode(const struct record *record,
                   const void *data,
                   size_t size,
                   void *ret_message)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    return record_decode(record, &reader, ret_message);
}
