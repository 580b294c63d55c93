/* Goal: what one host says is what the other reads, and nothing else gets in. Method:
 * every record of the table is filled by its own field list, sent, cut and lengthened. */
#include "agent/messages.h"
#include "support/corpus_seed.h"
#include "support/test_main.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>

#define TYPE_LAST MESSAGE_PART

/* Lists get one item; the depth is bounded, though messages nest less. */
static void fill(const struct record *record, void *object, unsigned depth);

static void fill_list(const struct field *field, void *member, unsigned depth)
{
    struct record_list list = {0};
    if (depth > 3) {
        return;
    }
    void *item = record_list_add(field->record, &list);
    ck_assert_ptr_nonnull(item);
    fill(field->record, item, depth + 1);
    memcpy(member, &list, sizeof(list));
}

static void fill_blob(struct blob *blob)
{
    blob->size = 3;
    blob->data = malloc(blob->size);
    ck_assert_ptr_nonnull(blob->data);
    memcpy(blob->data, "\0\1\xff", blob->size);
}

/* Gives the member a value that is not its fallback. */
static void fill_field(const struct field *field, void *member, unsigned depth)
{
    switch (field->type) {
    case FIELD_BOOL:
    case FIELD_U32:
    case FIELD_U64:
    case FIELD_ENUM:
        field_set_number(field, member,
                         field->max != field->fallback ? field->max : field->min);
        break;
    case FIELD_NAME:
        memcpy(member, "name-1", sizeof("name-1"));
        break;
    case FIELD_TEXT:
        ck_assert_int_eq(record_set_text(member, "text"), 0);
        break;
    case FIELD_DIGEST:
        memset(member, 0xab, DIGEST_SIZE);
        break;
    case FIELD_RECORD:
        fill(field->record, member, depth + 1);
        break;
    case FIELD_LIST:
        fill_list(field, member, depth);
        break;
    case FIELD_TEXTS:
        ck_assert_int_eq(text_list_add(member, "text"), 0);
        break;
    case FIELD_LABELS:
        ck_assert_int_eq(label_set(member, "key", "value"), 0);
        break;
    case FIELD_BLOB:
        fill_blob(member);
        break;
    }
}

static void fill(const struct record *record, void *object, unsigned depth)
{
    for (unsigned i = 0; depth <= 4 && i < record->field_count; i++) {
        fill_field(&record->fields[i], field_at(&record->fields[i], object), depth);
    }
}

static void *filled(const struct record *record)
{
    void *message = calloc(1, record->size_bytes);
    ck_assert_ptr_nonnull(message);
    record_init(record, message);
    fill(record, message, 0);
    return message;
}

static const struct record *record_of(int row)
{
    static const struct record *const unnumbered[] = {&msg_join_record,
                                                      &msg_join_reply_record};
    return row < 2 ? unnumbered[row]
                   : message_record((uint16_t)(MESSAGE_TYPE_BASE + row - 1));
}
#define ROWS (TYPE_LAST - MESSAGE_TYPE_BASE + 2)

START_TEST(every_message_arrives_as_it_was_sent)
{
    const struct record *record = record_of(_i);
    void *sent = filled(record);
    void *received = calloc(1, record->size_bytes);
    uint8_t *data = NULL;
    size_t size = 0;

    ck_assert_int_eq(message_encode(record, sent, &data, &size), 0);
    ck_assert_int_eq(message_decode(record, data, size, received), 0);

    ck_assert(record_equal(record, sent, received));
    for (unsigned i = 0; i < record->field_count; i++) {
        ck_assert(!field_is_fallback(&record->fields[i],
                                     field_at(&record->fields[i], received)));
    }
    free(data);
    record_free(record, sent);
    record_free(record, received);
}
END_TEST

/* A cut between two fields is a shorter message; a cut anywhere else is refused, and no
 * cut is ever taken for the whole. */
START_TEST(every_message_is_among_what_fuzzing_begins_with)
{
    uint16_t type = (uint16_t)(MESSAGE_TYPE_BASE + _i);
    const struct record *record = message_record(type);
    void *message = filled(record);
    void *read = calloc(1, record->size_bytes);
    uint8_t *body = NULL;
    uint8_t *data = NULL;
    size_t body_size = 0;
    size_t size = 0;
    ck_assert_int_eq(message_encode(record, message, &body, &body_size), 0);
    uint8_t *made = malloc(1 + body_size);
    made[0] = (uint8_t)_i;
    memcpy(made + 1, body, body_size);

    corpus_seed("agent_messages", message_name(type), made, 1 + body_size, &data, &size);
    ck_assert_uint_ge(size, 1);
    ck_assert_uint_eq(data[0], (unsigned)_i);
    ck_assert_int_eq(message_decode(record, data + 1, size - 1, read), 0);
    record_fini(record, message);
    record_fini(record, read);
    free(message);
    free(read);
    free(body);
    free(made);
    free(data);
}
END_TEST

START_TEST(a_cut_message_is_never_taken_for_the_whole)
{
    const struct record *record = record_of(_i);
    void *sent = filled(record);
    void *received = calloc(1, record->size_bytes);
    uint8_t *data = NULL;
    size_t size = 0;
    size_t refused = 0;
    ck_assert_int_eq(message_encode(record, sent, &data, &size), 0);

    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1); /* exact memory: overreads show up */
        memcpy(part, data, cut);
        int r = message_decode(record, part, cut, received);
        if (r < 0) {
            ck_assert_int_eq(r, BERTH_EPROTO);
            refused++;
        } else {
            ck_assert(!record_equal(record, sent, received));
            record_fini(record, received);
        }
        free(part);
    }

    ck_assert_uint_ge(refused + record->field_count, size - 1);
    free(data);
    record_free(record, sent);
    record_free(record, received);
}
END_TEST

START_TEST(a_newer_hosts_further_field_is_skipped)
{
    static const uint8_t further[] = {0xe7, 0x03, 2, 0, 0, 0, 'h', 'i'}; /* number 999 */
    struct msg_not_leader sent = {.leader = 7};
    struct msg_not_leader received;
    uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(message_encode(&msg_not_leader_record, &sent, &data, &size), 0);
    uint8_t *longer = malloc(size + sizeof(further));
    memcpy(longer, data, size);
    memcpy(longer + size, further, sizeof(further));

    ck_assert_int_eq(
        message_decode(&msg_not_leader_record, longer, size + sizeof(further), &received),
        0);

    ck_assert_uint_eq(received.leader, 7);
    free(longer);
    free(data);
}
END_TEST

START_TEST(a_number_out_of_range_is_not_sent)
{
    struct msg_vm_seen seen = {.vm = 1, .epoch = 1, .cpu_permille = 1001};
    uint8_t *data = NULL;
    size_t size = 0;

    ck_assert_int_lt(message_encode(&msg_vm_seen_record, &seen, &data, &size), 0);

    free(data);
}
END_TEST

START_TEST(a_message_over_the_limit_is_not_sent)
{
    struct msg_forward_data message = {.id = 1};
    uint8_t *data = NULL;
    size_t size = 0;
    message.data.size = RECORD_TEXT_MAX + 1;
    message.data.data = calloc(1, message.data.size);

    ck_assert_int_eq(message_encode(&msg_forward_data_record, &message, &data, &size),
                     BERTH_ETOOLARGE);

    free(data);
    record_fini(&msg_forward_data_record, &message);
}
END_TEST

START_TEST(types_have_their_numbers_for_ever)
{
    ck_assert_int_eq(MESSAGE_HEARTBEAT, 257);
    ck_assert_int_eq(MESSAGE_ORDERS, 262);
    ck_assert_int_eq(MESSAGE_FORWARD_CANCEL, 268);
    ck_assert_int_eq(MESSAGE_BLOB_CHUNK, 270);
    ck_assert_ptr_eq(message_record(MESSAGE_ORDERS), &msg_orders_record);
    ck_assert_ptr_eq(message_record(MESSAGE_FORWARD_INPUT), &msg_forward_data_record);
    ck_assert_str_eq(message_name(MESSAGE_HEARTBEAT), "HEARTBEAT");
    for (uint16_t type = MESSAGE_HEARTBEAT; type <= TYPE_LAST; type++) {
        ck_assert_ptr_nonnull(message_record(type));
        ck_assert_ptr_nonnull(message_name(type));
    }
}
END_TEST

START_TEST(an_unknown_type_has_neither_table_nor_name)
{
    static const uint16_t unknown[] = {
        0, 1, MESSAGE_TYPE_BASE - 1, MESSAGE_TYPE_BASE, TYPE_LAST + 1, UINT16_MAX};

    ck_assert_ptr_null(message_record(unknown[_i]));
    ck_assert_ptr_null(message_name(unknown[_i]));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("messages");
    TCase *tests = tcase_create("messages");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, every_message_arrives_as_it_was_sent, 0, ROWS);
    tcase_add_loop_test(tests, every_message_is_among_what_fuzzing_begins_with, 1,
                        TYPE_LAST - MESSAGE_TYPE_BASE + 1);
    tcase_add_loop_test(tests, a_cut_message_is_never_taken_for_the_whole, 0, ROWS);
    tcase_add_test(tests, a_newer_hosts_further_field_is_skipped);
    tcase_add_test(tests, a_number_out_of_range_is_not_sent);
    tcase_add_test(tests, a_message_over_the_limit_is_not_sent);
    tcase_add_test(tests, types_have_their_numbers_for_ever);
    tcase_add_loop_test(tests, an_unknown_type_has_neither_table_nor_name, 0, 6);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
