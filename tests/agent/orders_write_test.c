/* Goal: a host is told exactly what it should be doing. Method: a small replicated state
 * made by its own commands, and the orders looked at as the host would. */
#include "agent/orders.h"
#include "agent/orders_book.h"
#include "support/state_fixture.h"

static struct orders_book *book; /* NULL: one is made for each question */
static struct msg_orders orders;

static int orders_ask(uint64_t host)
{
    struct orders_book *asked = book != NULL ? book : orders_book_new(state, NULL, NULL);
    ck_assert_ptr_nonnull(asked);
    ck_assert_int_eq(orders_book_refresh(asked), 0);
    int r = orders_book_write(asked, host, &orders);
    if (asked != book) {
        orders_book_free(asked);
    }
    return r;
}

static void orders_of(uint64_t host)
{
    ck_assert_int_eq(orders_ask(host), 0);
}

static void orders_done(void)
{
    record_fini(&msg_orders_record, &orders);
}

/* A VM with one NIC in `front`, placed on this host. */
static uint64_t place_web(const char *name, uint64_t host, uint32_t ipv4)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, name, "web", ""), 0);
    uint64_t vm = answer.uid;
    ck_assert_int_eq(place(vm, host, 1, ipv4), 0);
    return vm;
}

static const struct msg_neighbour *neighbour_at(uint32_t ipv4)
{
    ck_assert_uint_eq(orders.networks.count, 1);
    const struct msg_neighbour_list *list = &orders.networks.items[0].neighbours;
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->items[i].ipv4 == ipv4) {
            return &list->items[i];
        }
    }
    return NULL;
}

START_TEST(a_placed_vm_is_ordered_with_all_that_it_needs_to_run)
{
    uint64_t web = place_web("web-0", h1, ADDRESS(5));

    orders_of(h1);

    ck_assert_uint_eq(orders.host, h1);
    ck_assert_uint_eq(orders.term, 0);
    ck_assert_uint_eq(orders.revision, state_revision(state));
    ck_assert_uint_eq(orders.vms.count, 1);
    const struct msg_vm *vm = &orders.vms.items[0];
    ck_assert_uint_eq(vm->vm, web);
    ck_assert_uint_eq(vm->epoch, 1);
    ck_assert_uint_eq(vm->order, ORDER_RUN);
    ck_assert_str_eq(vm->name, "web-0");
    ck_assert_str_eq(vm->tenant, DEFAULT_TENANT);
    ck_assert_uint_eq(vm->machine.memory.size_bytes, 128 * MIB);
    ck_assert_str_eq(vm->machine.image, "linux");
    ck_assert_uint_eq(vm->image.artifacts.count, 1);
    ck_assert_uint_eq(vm->nics.count, 1);
    ck_assert_uint_eq(vm->nics.items[0].network, front);
    ck_assert_uint_eq(vm->nics.items[0].ipv4, ADDRESS(5));
    ck_assert_uint_eq(vm->nics.items[0].mac, vm_mac(web, 0));
    orders_done();
}
END_TEST

START_TEST(a_vm_is_ordered_on_its_own_host_only)
{
    uint64_t h2 = add_host("h2", 2);
    ready_vm("a", h1);
    uint64_t b = ready_vm("b", h2);

    orders_of(h2);

    ck_assert_uint_eq(orders.vms.count, 1);
    ck_assert_uint_eq(orders.vms.items[0].vm, b);
    orders_done();
}
END_TEST

START_TEST(a_vm_that_waits_for_a_host_is_ordered_nowhere)
{
    admit_plain("a");

    orders_of(h1);

    ck_assert_uint_eq(orders.vms.count, 0);
    orders_done();
}
END_TEST

START_TEST(a_vm_asked_to_go_is_stopped_and_then_not_mentioned)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    if (state_vm(state, vm)->status.phase != PHASE_STOPPING) {
        ck_assert_int_eq(reports(vm, PHASE_STOPPING), 0);
    }

    orders_of(h1);
    ck_assert_uint_eq(orders.vms.count, 1);
    ck_assert_uint_eq(orders.vms.items[0].order, ORDER_STOP);
    orders_done();

    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    orders_of(h1);
    ck_assert_uint_eq(orders.vms.count, 0);
    orders_done();
}
END_TEST

START_TEST(a_network_comes_with_the_addresses_of_this_host)
{
    orders_of(h1);

    ck_assert_uint_eq(orders.networks.count, 1);
    const struct msg_network *network = &orders.networks.items[0];
    ck_assert_uint_eq(network->uid, front);
    ck_assert_str_eq(network->name, "front");
    ck_assert_str_eq(network->tenant, DEFAULT_TENANT);
    ck_assert_uint_ne(network->vni, 0);
    ck_assert_uint_eq(network->cidr, FIXTURE_CIDR);
    ck_assert_uint_eq(network->gateway, ADDRESS(1));
    ck_assert_uint_eq(network->host_address, ADDRESS(2));
    ck_assert(network->nat);
    orders_done();
}
END_TEST

START_TEST(a_host_outside_a_network_hears_nothing_of_it)
{
    uint64_t h2 = add_host("h2", 2);
    place_web("web-0", h1, ADDRESS(5));

    orders_of(h2);

    ck_assert_uint_eq(orders.networks.count, 0);
    orders_done();
}
END_TEST

START_TEST(neighbours_are_the_vms_and_the_hosts_of_a_network)
{
    uint64_t h2 = add_host("h2", 2);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(3)), 0);
    uint64_t web = place_web("web-0", h2, ADDRESS(5));

    orders_of(h1);

    ck_assert_uint_eq(orders.networks.items[0].neighbours.count, 3);
    const struct msg_neighbour *vm = neighbour_at(ADDRESS(5));
    ck_assert_ptr_nonnull(vm);
    ck_assert_uint_eq(vm->mac, vm_mac(web, 0));
    ck_assert_uint_eq(vm->host, h2);
    ck_assert_str_eq(vm->name, "web-0");
    const struct msg_neighbour *host = neighbour_at(ADDRESS(3));
    ck_assert_ptr_nonnull(host);
    ck_assert_uint_eq(host->mac, 0);
    ck_assert_uint_eq(host->host, h2);
    ck_assert_uint_eq(neighbour_at(ADDRESS(2))->host, h1);
    orders_done();
}
END_TEST

START_TEST(members_are_the_hosts_that_were_not_removed)
{
    uint64_t h2 = add_host("h2", 2);
    uint64_t h3 = add_host("h3", 3);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_SUSPECT), 0);
    ck_assert_int_eq(host_phase(h3, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(host_phase(h3, HOST_PHASE_REMOVED), 0);

    orders_of(h1);

    ck_assert_uint_eq(orders.members.count, 2);
    bool seen_h2 = false;
    for (uint32_t i = 0; i < orders.members.count; i++) {
        const struct msg_member *member = &orders.members.items[i];
        ck_assert_uint_ne(member->uid, h3);
        if (member->uid == h2) {
            seen_h2 = true;
            ck_assert_str_eq(member->name, "h2");
            ck_assert_uint_eq(member->key.bytes[0], 2);
        }
    }
    ck_assert(seen_h2);
    orders_done();
}
END_TEST

START_TEST(a_host_is_told_of_its_snapshots_by_uid_and_of_no_others)
{
    uint64_t h2 = add_host("h2", 2);
    uint64_t vm = ready_vm("db", h1);
    ck_assert_int_eq(reports_run(vm, PHASE_READY, ENGINE_KVM, false, "seen"), 0);
    ck_assert_int_eq(make_snapshot(vm, "one"), 0);
    uint64_t one = answer.uid;
    ck_assert_int_eq(make_snapshot(vm, "two"), 0);
    uint64_t two = answer.uid;
    ck_assert_int_eq(make_snapshot(vm, "three"), 0);
    ck_assert_int_eq(step_snapshot(answer.uid, SNAPSHOT_FAILED, 0), 0);
    ck_assert_int_eq(step_snapshot(one, SNAPSHOT_READY, 1 * MIB), 0);

    orders_of(h1);

    ck_assert_uint_eq(orders.snapshots.count, 2);
    ck_assert_uint_eq(orders.snapshots.items[0].snapshot, one);
    ck_assert_uint_eq(orders.snapshots.items[0].order, SNAPSHOT_ORDER_KEEP);
    ck_assert_uint_eq(orders.snapshots.items[1].snapshot, two);
    ck_assert_uint_eq(orders.snapshots.items[1].order, SNAPSHOT_ORDER_MAKE);
    orders_done();
    orders_of(h2);
    ck_assert_uint_eq(orders.snapshots.count, 0);
    orders_done();
}
END_TEST

START_TEST(an_unknown_host_gets_no_orders)
{
    ck_assert_int_eq(orders_ask(4711), BERTH_ENOTFOUND);
}
END_TEST

START_TEST(every_image_is_wanted_once_and_the_holder_is_named)
{
    place_web("web-0", h1, ADDRESS(5));
    place_web("web-1", h1, ADDRESS(6));
    struct image *other = make_image("", "other");
    memset(other->spec.artifacts.items[0].sha256.bytes, 9, DIGEST_SIZE);
    other->spec.artifacts.items[0].size_bytes = 77;
    const struct msg_blob held = {.sha256 = other->spec.artifacts.items[0].sha256};
    ck_assert_int_eq(put(KIND_IMAGE, other), 0);
    ck_assert_int_eq(put(KIND_IMAGE, make_image("", "same-content")), 0);
    book = orders_book_new(state, NULL, NULL);
    orders_book_holds(book, h1, &held, 1);
    orders_book_holds(book, 3, &held, 1);

    orders_of(h1);

    ck_assert_uint_eq(orders.blobs.count, 2);
    ck_assert_uint_eq(orders.blobs.items[0].sha256.bytes[0], 7); /* its VMs' first */
    ck_assert_uint_eq(orders.blobs.items[0].holder, 0);
    ck_assert_uint_eq(orders.blobs.items[1].sha256.bytes[0], 9);
    ck_assert_uint_eq(orders.blobs.items[1].size_bytes, 77);
    ck_assert_uint_eq(orders.blobs.items[1].holder, 3); /* another than who asks */
    orders_done();
    book = orders_book_free(book);
}
END_TEST

START_TEST(one_book_serves_every_host)
{
    uint64_t h2 = add_host("h2", 2);
    ready_vm("a", h1);
    ready_vm("b", h2);
    book = orders_book_new(state, NULL, NULL);

    orders_of(h1);
    ck_assert_str_eq(orders.vms.items[0].name, "a");
    orders_done();
    orders_of(h2);
    ck_assert_str_eq(orders.vms.items[0].name, "b");
    orders_done();

    ck_assert_ptr_null(book = orders_book_free(book));
}
END_TEST

START_TEST(orders_pass_through_their_message)
{
    place_web("web-0", h1, ADDRESS(5));
    orders_of(h1);
    uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(message_encode(&msg_orders_record, &orders, &data, &size), 0);
    struct msg_orders received;
    ck_assert_int_eq(message_decode(&msg_orders_record, data, size, &received), 0);

    ck_assert(record_equal(&msg_orders_record, &orders, &received));
    ck_assert_uint_eq(orders_hash(&received), orders_hash(&orders));

    record_fini(&msg_orders_record, &received);
    free(data);
    orders_done();
}
END_TEST

/* The whole of a network is told to each host in it, so the network must not outgrow the
 * message; and a host that cannot be told is no reason to tell the others nothing. */
START_TEST(a_network_with_all_its_addresses_given_away_fits_the_orders)
{
    const uint64_t cidr = ((uint64_t)0x0a800000 << 8) | 16;
    uint64_t h2 = add_host("h2", 2);
    struct command command;
    command_init(&command, COMMAND_HOST_UPDATE);
    command.body.host_update.host = h2;
    command.body.host_update.status.memory_bytes = 1024 * GIB;
    memset(command.body.host_update.status.public_key.bytes, 2, DIGEST_SIZE);
    ck_assert_int_eq(send_command(&command), 0);
    ck_assert_int_eq(put(KIND_NETWORK, make_network(DEFAULT_TENANT, "wide", cidr)), 0);
    uint64_t wide = answer.uid;
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template(DEFAULT_TENANT, "far", "wide")), 0);
    ck_assert_int_eq(network_host(wide, h1, 0x0a800002), 0);
    ck_assert_int_eq(network_host(wide, h2, 0x0a800003), 0);
    for (uint32_t i = 2; i < NETWORK_ADDRESSES_MAX; i++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof(name), "a-virtual-machine-with-a-rather-long-name-%u", i);
        ck_assert_int_eq(admit(DEFAULT_TENANT, name, "far", ""), 0);
        ck_assert_int_eq(place(answer.uid, h2, 1,
                               state_address_free(state, state_network(state, wide), 0)),
                         0);
    }

    ck_assert_uint_eq(state_address_free(state, state_network(state, wide), 0), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "one-more", "far", ""), 0);
    ck_assert_int_eq(place(answer.uid, h2, 1, 0x0a80fff0), BERTH_EFULL);

    ck_assert_int_lt(orders_ask(h2), 0);
    orders_of(h1);
    ck_assert_uint_eq(orders.networks.count, 2);
    ck_assert_uint_eq(orders.networks.items[1].neighbours.count, NETWORK_ADDRESSES_MAX);
    uint8_t *data = NULL;
    size_t size = 0;
    ck_assert_int_eq(message_encode(&msg_orders_record, &orders, &data, &size), 0);
    free(data);
    orders_done();
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = fixture_suite("orders_write", &tests);
    tcase_add_test(tests, a_placed_vm_is_ordered_with_all_that_it_needs_to_run);
    tcase_add_test(tests, a_vm_is_ordered_on_its_own_host_only);
    tcase_add_test(tests, a_vm_that_waits_for_a_host_is_ordered_nowhere);
    tcase_add_test(tests, a_vm_asked_to_go_is_stopped_and_then_not_mentioned);
    tcase_add_test(tests, a_network_comes_with_the_addresses_of_this_host);
    tcase_add_test(tests, a_host_outside_a_network_hears_nothing_of_it);
    tcase_add_test(tests, neighbours_are_the_vms_and_the_hosts_of_a_network);
    tcase_add_test(tests, members_are_the_hosts_that_were_not_removed);
    tcase_add_test(tests, a_host_is_told_of_its_snapshots_by_uid_and_of_no_others);
    tcase_add_test(tests, an_unknown_host_gets_no_orders);
    tcase_add_test(tests, every_image_is_wanted_once_and_the_holder_is_named);
    tcase_add_test(tests, one_book_serves_every_host);
    tcase_add_test(tests, orders_pass_through_their_message);
    tcase_add_test(tests, a_network_with_all_its_addresses_given_away_fits_the_orders);
    return test_main_run(suite);
}
