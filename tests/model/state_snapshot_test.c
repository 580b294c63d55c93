#include "support/state_fixture.h"

static uint8_t *data;
static size_t size;
static struct state *copy;

/* Something of every kind and every index, remembered requests and events. */
static void setup(void)
{
    fixture_start();
    uint64_t h2 = add_host("h2", 2);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(3)), 0);
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("spare", 77)), 0);
    struct disk *disk = make(KIND_DISK, DEFAULT_TENANT, "data");
    disk->spec.size_bytes = GIB;
    ck_assert_int_eq(put(KIND_DISK, disk), 0);
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "web", 3)), 0);
    next_request(1);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-1", "web", "g"), 0);
    ck_assert_int_eq(place(answer.uid, h1, 1, ADDRESS(10)), 0);
    uint64_t moving = ready_vm("moving", h1);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, moving, 1, h2), 0);
    admit_plain("waiting");
    copy = state_new(NULL, NULL);
    ck_assert_ptr_nonnull(copy);
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
}

static void teardown(void)
{
    free(data);
    copy = state_free(copy);
    fixture_stop();
}

START_TEST(a_restored_state_is_the_same_state)
{
    struct err err = {0};
    ck_assert_msg(state_decode(copy, data, size, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(state_revision(copy), state_revision(state));
    ck_assert_uint_eq(state_hash(copy), state_hash(state));
    for (unsigned kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        ck_assert_uint_eq(state_count(copy, kind), state_count(state, kind));
    }
    uint8_t *again = NULL;
    size_t again_size = 0;
    ck_assert_int_eq(state_encode(copy, &again, &again_size), 0);
    ck_assert_uint_eq(again_size, size);
    ck_assert_mem_eq(again, data, size);
    free(again);
    uint8_t ids[2][REQUEST_ID_SIZE];
    state_cluster_id(state, ids[0]);
    state_cluster_id(copy, ids[1]);
    ck_assert_mem_eq(ids[0], ids[1], REQUEST_ID_SIZE);
}
END_TEST

START_TEST(indexes_are_rebuilt)
{
    ck_assert_int_eq(state_decode(copy, data, size, NULL), 0);
    const struct network *network = state_network(copy, front);
    ck_assert(state_address_used(copy, network, ADDRESS(10)));
    ck_assert(state_address_used(copy, network, ADDRESS(3)));
    ck_assert(!state_address_used(copy, network, ADDRESS(11)));
    size_t cursor = 0;
    ck_assert_ptr_nonnull(state_vm_on_host(copy, h1, &cursor));
    ck_assert_uint_eq(state_host_use(copy, h1).memory_bytes,
                      state_host_use(state, h1).memory_bytes);
    cursor = 0;
    const struct group *group = state_get(copy, KIND_GROUP, DEFAULT_TENANT, "g");
    ck_assert_str_eq(state_vm_of_group(copy, group, &cursor)->meta.name, "g-1");
    const struct host *h2 = state_get(copy, KIND_HOST, "", "h2");
    cursor = 0;
    ck_assert_str_eq(state_vm_incoming(copy, h2->meta.uid, &cursor)->meta.name, "moving");
    ck_assert_ptr_eq(state_host_by_key(copy, &h2->status.public_key), h2);
    struct digest hash;
    memset(hash.bytes, 77, DIGEST_SIZE);
    ck_assert_str_eq(state_token_by_hash(copy, &hash)->meta.name, "spare");
}
END_TEST

START_TEST(remembered_requests_and_events_survive)
{
    uint64_t vm = vm_named("g-1")->meta.uid;
    fixture_stop();
    state = state_new(NULL, NULL);
    ck_assert_int_eq(state_decode(state, data, size, NULL), 0);
    next_request(1);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-1", "web", "g"), 0);
    ck_assert_uint_eq(answer.uid, vm);
    next_request(1);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "other", "web", "g"), BERTH_EREUSED);
    size_t cursor = 0;
    const struct event *event = state_event_next(state, 0, &cursor);
    ck_assert_ptr_nonnull(event);
    ck_assert_str_eq(event->verb, "created");
}
END_TEST

START_TEST(the_same_commands_go_on_the_same)
{
    ck_assert_int_eq(state_decode(copy, data, size, NULL), 0);
    struct state *original = state;
    uint64_t hashes[2];
    for (unsigned i = 0; i < 2; i++) {
        state = i == 0 ? original : copy;
        ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);
        ck_assert_int_eq(admit(DEFAULT_TENANT, "g-2", "web", "g"), 0);
        ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "g"), 0);
        hashes[i] = state_hash(state);
    }
    state = original;
    ck_assert_uint_eq(hashes[0], hashes[1]);
}
END_TEST

/* Every byte of the header and of what frames a section (type, length, sum). Inside a
 * payload, which has one sum, each seventh stands for its neighbours, with another bit
 * each: an attempt makes a whole state. */
#define HEADER_SIZE    28
#define FRAME_SIZE     8
#define SUM_SIZE       4
#define PAYLOAD_STRIDE 7

static size_t *places_to_damage(size_t *ret_count)
{
    size_t *places = calloc(size, sizeof(*places));
    size_t count = 0;
    size_t at = 0;
    ck_assert_ptr_nonnull(places);
    while (at < HEADER_SIZE) {
        places[count++] = at++;
    }
    while (at < size) {
        uint32_t length;
        memcpy(&length, data + at + 4, sizeof(length));
        size_t payload = at + FRAME_SIZE;
        size_t sum = payload + length;
        while (at < sum + SUM_SIZE) {
            places[count++] = at;
            at += at >= payload && at + PAYLOAD_STRIDE <= sum ? PAYLOAD_STRIDE : 1;
        }
    }
    ck_assert_uint_eq(at, size);
    *ret_count = count;
    return places;
}

START_TEST(a_flipped_byte_is_noticed_and_changes_nothing)
{
    ck_assert_int_eq(state_decode(copy, data, size, NULL), 0);
    uint64_t hash = state_hash(copy);
    size_t count = 0;
    size_t *places = places_to_damage(&count);
    for (size_t k = 0; k < count; k++) {
        size_t i = places[k];
        uint8_t mask = (uint8_t)(1u << (i % 8));
        data[i] ^= mask;
        struct err err = {0};
        int r = state_decode(copy, data, size, &err);
        ck_assert_msg(r == BERTH_ECORRUPT, "byte %zu of %zu: %d", i, size, r);
        ck_assert(err.text[0] != '\0');
        data[i] ^= mask;
    }
    free(places);
    ck_assert_uint_eq(state_hash(copy), hash);
}
END_TEST

START_TEST(a_truncation_is_noticed)
{
    size_t count = 0;
    size_t *places = places_to_damage(&count);
    for (size_t k = 0; k < count; k++) {
        size_t length = places[k];
        /* On the heap, so that a sanitizer sees a read beyond it. */
        uint8_t *shorter = malloc(length + 1);
        ck_assert_ptr_nonnull(shorter);
        memcpy(shorter, data, length);
        ck_assert_int_eq(state_decode(copy, shorter, length, NULL), BERTH_ECORRUPT);
        free(shorter);
    }
    free(places);
    ck_assert_uint_eq(state_revision(copy), 0);
}
END_TEST

START_TEST(what_follows_the_end_is_noticed)
{
    uint8_t *longer = calloc(1, size + 1);
    ck_assert_ptr_nonnull(longer);
    memcpy(longer, data, size);
    ck_assert_int_eq(state_decode(copy, longer, size + 1, NULL), BERTH_ECORRUPT);
    free(longer);
}
END_TEST

START_TEST(another_level_is_said_to_be_one)
{
    data[4] = 9;
    uint32_t crc = crc32c(0, data, 24);
    for (unsigned i = 0; i < 4; i++) {
        data[24 + i] = (uint8_t)(crc >> (8 * i));
    }
    struct err err = {0};
    ck_assert_int_eq(state_decode(copy, data, size, &err), BERTH_ELEVEL);
    ck_assert_contains(err.text, "level 9");
    ck_assert_contains(err.text, "install the release");
}
END_TEST

START_TEST(a_state_comes_back_at_its_level)
{
    ck_assert_int_eq(raise_level(LEVEL_REQUEST_SHARES), 0);
    free(data);
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
    ck_assert_uint_eq(data[4], LEVEL_REQUEST_SHARES);
    ck_assert_int_eq(state_decode(copy, data, size, NULL), 0);
    ck_assert_uint_eq(state_level(copy), LEVEL_REQUEST_SHARES);
    ck_assert_uint_eq(state_hash(copy), state_hash(state));
}
END_TEST

START_TEST(a_state_is_replaced_as_a_whole)
{
    uint8_t *empty = NULL;
    size_t empty_size = 0;
    ck_assert_int_eq(state_encode(copy, &empty, &empty_size), 0);
    fixture_changes = 0;
    ck_assert_int_eq(state_decode(state, empty, empty_size, NULL), 0);
    ck_assert_uint_eq(state_count(state, KIND_VM), 0);
    ck_assert_uint_eq(state_hash(state), state_hash(copy));
    ck_assert_uint_eq(fixture_changes, 0); /* a restore is no change */
    next_request(3);
    ck_assert_int_eq(join("h1", 1, 0), 0);
    ck_assert_uint_gt(fixture_changes, 0); /* the observer stays */
    free(empty);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_snapshot");
    TCase *tests = tcase_create("state_snapshot");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_restored_state_is_the_same_state);
    tcase_add_test(tests, indexes_are_rebuilt);
    tcase_add_test(tests, remembered_requests_and_events_survive);
    tcase_add_test(tests, the_same_commands_go_on_the_same);
    tcase_add_test(tests, a_flipped_byte_is_noticed_and_changes_nothing);
    tcase_add_test(tests, a_truncation_is_noticed);
    tcase_add_test(tests, what_follows_the_end_is_noticed);
    tcase_add_test(tests, another_level_is_said_to_be_one);
    tcase_add_test(tests, a_state_comes_back_at_its_level);
    tcase_add_test(tests, a_state_is_replaced_as_a_whole);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
