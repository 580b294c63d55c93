/* Goal: the pieces of orders say what the state says, in an order of their own, and the
 * hash tells one set of orders from another. Method: a small replicated state made by its
 * own commands. */
#include "agent/link_parts.h"
#include "agent/orders.h"
#include "agent/orders_book.h"
#include "support/state_fixture.h"

static struct msg_orders orders;

static void orders_of(uint64_t host)
{
    struct orders_book *book = orders_book_new(state, NULL, NULL);
    ck_assert_ptr_nonnull(book);
    ck_assert_int_eq(orders_book_refresh(book), 0);
    ck_assert_int_eq(orders_book_write(book, host, &orders), 0);
    orders_book_free(book);
}

static void orders_done(void)
{
    record_fini(&msg_orders_record, &orders);
}

static uint64_t hash_of(uint64_t host)
{
    orders_of(host);
    uint64_t hash = orders_hash(&orders);
    orders_done();
    return hash;
}

START_TEST(the_hash_stays_while_only_term_and_revision_change)
{
    uint64_t before = hash_of(h1);
    uint64_t revision = state_revision(state);
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("acme")), 0);
    ck_assert_uint_gt(state_revision(state), revision);

    orders_of(h1);
    orders.term = 12;

    ck_assert_uint_ne(before, 0);
    ck_assert_uint_eq(orders_hash(&orders), before);
    orders_done();
}
END_TEST

START_TEST(the_hash_changes_with_what_the_host_should_do)
{
    uint64_t empty = hash_of(h1);
    uint64_t vm = ready_vm("a", h1);
    uint64_t one = hash_of(h1);
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    if (state_vm(state, vm)->status.phase != PHASE_STOPPING) {
        ck_assert_int_eq(reports(vm, PHASE_STOPPING), 0);
    }
    uint64_t stop = hash_of(h1);

    ck_assert_uint_ne(empty, one);
    ck_assert_uint_ne(one, stop);
    ck_assert_uint_ne(empty, stop);
}
END_TEST

/* Orders of so many networks that are full, a third of a MiB each. */
static void make_large(unsigned networks)
{
    record_init(&msg_orders_record, &orders);
    orders.host = 7;
    for (unsigned i = 0; i < networks; i++) {
        struct msg_network *network =
            record_list_add(&msg_network_record, (struct record_list *)&orders.networks);
        ck_assert_ptr_nonnull(network);
        struct msg_neighbour *neighbours =
            calloc(NETWORK_ADDRESSES_MAX, sizeof(*neighbours));
        ck_assert_ptr_nonnull(neighbours);
        for (unsigned k = 0; k < NETWORK_ADDRESSES_MAX; k++) {
            neighbours[k].mac = k + 1;
            memset(neighbours[k].name, 'a', NAME_SIZE - 1);
        }
        network->neighbours.items = neighbours;
        network->neighbours.count = NETWORK_ADDRESSES_MAX;
    }
}

/* As every release makes it, so that hosts of another one are not told again. */
static uint64_t hash_of_message(void)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct digest digest;
    uint64_t hash = 0;
    orders.term = 0;
    orders.revision = 0;
    ck_assert_int_eq(
        message_encode_within(&msg_orders_record, &orders, LINK_PARTS_MAX, &data, &size),
        0);
    digest_of(data, size, &digest);
    memcpy(&hash, digest.bytes, sizeof(hash));
    free(data);
    return hash;
}

START_TEST(the_hash_is_of_all_that_is_sent_however_large)
{
    static const unsigned networks[] = {0, 2, 8}; /* 8: above two MiB */
    make_large(networks[_i]);
    uint64_t before = orders_hash(&orders);
    ck_assert_uint_eq(before, hash_of_message());

    orders.host++;

    ck_assert_uint_ne(orders_hash(&orders), before);
    ck_assert_uint_eq(orders_hash(&orders), hash_of_message());
    orders_done();
}
END_TEST

START_TEST(of_orders_that_cannot_be_sent_no_hash_is_known)
{
    make_large(64);
    ck_assert_uint_eq(orders_hash(&orders), 0);
    orders_done();
}
END_TEST

/* To the host that it is on, or whose disks it has. */
static int order_for(uint64_t uid, struct msg_vm *ret_order)
{
    const struct vm *vm = state_vm(state, uid);
    return orders_vm(state, vm, orders_host_of(vm), ret_order);
}

START_TEST(a_vm_is_ordered_with_its_image_when_that_is_asked_for)
{
    uint64_t uid = ready_vm("a", h1);
    struct msg_vm order;

    ck_assert_int_eq(order_for(uid, &order), 0);
    ck_assert_uint_eq(order.image.artifacts.count, 0);
    ck_assert_int_eq(orders_vm_image(state, state_vm(state, uid), &order), 0);

    ck_assert_uint_eq(order.vm, uid);
    ck_assert_uint_eq(order.image.artifacts.count, 1);
    record_fini(&msg_vm_record, &order);
}
END_TEST

START_TEST(a_vm_is_named_to_its_host_and_to_who_keeps_its_disks)
{
    struct vm vm = {0};
    ck_assert_uint_eq(orders_host_of(&vm), 0);
    vm.status.disk_host = 7;
    ck_assert_uint_eq(orders_host_of(&vm), 7);
    vm.status.disk_host = 0;
    vm.status.host = 8;
    ck_assert_uint_eq(orders_host_of(&vm), 8);
    ck_assert_uint_eq(orders_keeper_of(&vm), 0);
    vm.status.disk_host = 7; /* it has not begun from its snapshot on 8 */
    ck_assert_uint_eq(orders_host_of(&vm), 8);
    ck_assert_uint_eq(orders_keeper_of(&vm), 7);
}
END_TEST

START_TEST(who_keeps_disks_is_told_to_run_nothing_and_later_with_which)
{
    struct msg_vm order;
    uint64_t uid = ready_vm("kept", h1);
    ck_assert_int_eq(set_power(uid, POWER_OFF), 0);
    ck_assert_int_eq(reports_kept(uid, PHASE_STOPPED), 0);

    ck_assert_int_eq(order_for(uid, &order), 0);

    ck_assert_uint_eq(order.order, ORDER_KEEP);
    ck_assert_uint_eq(order.epoch, 1);
    ck_assert_uint_eq(order.nics.count, 0);
    record_fini(&msg_vm_record, &order);

    ck_assert_int_eq(set_power(uid, POWER_ON), 0);
    ck_assert_int_eq(place(uid, h1, 2, 0), 0);
    ck_assert_int_eq(order_for(uid, &order), 0);
    ck_assert_uint_eq(order.order, ORDER_RUN);
    ck_assert_uint_eq(order.epoch, 2);
    ck_assert_uint_eq(order.disk_epoch, 1);
    record_fini(&msg_vm_record, &order);
}
END_TEST

START_TEST(a_vm_that_is_to_stand_still_is_ordered_so_while_it_runs)
{
    struct msg_vm order;
    uint64_t uid = ready_vm("web", h1);
    ck_assert_int_eq(pause_vm(uid, true), 0);

    ck_assert_int_eq(order_for(uid, &order), 0);
    ck_assert_uint_eq(order.order, ORDER_RUN);
    ck_assert(order.paused);
    record_fini(&msg_vm_record, &order);

    ck_assert_int_eq(set_power(uid, POWER_OFF), 0);
    ck_assert_int_eq(order_for(uid, &order), 0);
    ck_assert_uint_eq(order.order, ORDER_STOP);
    ck_assert(!order.paused);
    record_fini(&msg_vm_record, &order);
}
END_TEST

/* A VM that is ready under kvm. */
static uint64_t kvm_vm(const char *name)
{
    uint64_t uid = ready_vm(name, h1);
    ck_assert_int_eq(reports_run(uid, PHASE_READY, ENGINE_KVM, false, "seen"), 0);
    return uid;
}

START_TEST(a_snapshot_is_ordered_to_be_made_kept_and_removed)
{
    uint64_t uid = kvm_vm("db");
    ck_assert_int_eq(make_snapshot(uid, "before"), 0);
    uint64_t snapshot = answer.uid;

    struct msg_snapshot order = orders_snapshot(state_snapshot(state, snapshot));
    ck_assert_uint_eq(order.order, SNAPSHOT_ORDER_MAKE);
    ck_assert_uint_eq(order.snapshot, snapshot);
    ck_assert_uint_eq(order.vm, uid);
    ck_assert_uint_eq(order.epoch, 1);
    ck_assert_uint_eq(order.bytes, 128 * MIB);
    ck_assert_str_eq(order.name, "before");
    ck_assert_str_eq(order.tenant, DEFAULT_TENANT);
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 1 * MIB), 0);
    order = orders_snapshot(state_snapshot(state, snapshot));
    ck_assert_uint_eq(order.order, SNAPSHOT_ORDER_KEEP);
    ck_assert_uint_eq(order.bytes, 0);
    ck_assert_int_eq(delete_object(KIND_SNAPSHOT, DEFAULT_TENANT, "before"), 0);
    order = orders_snapshot(state_snapshot(state, snapshot));
    ck_assert_uint_eq(order.order, SNAPSHOT_ORDER_DELETE);
}
END_TEST

START_TEST(a_vm_that_goes_back_is_told_from_what_until_it_runs)
{
    struct msg_vm order;
    uint64_t uid = kvm_vm("db");
    ck_assert_int_eq(make_snapshot(uid, "before"), 0);
    uint64_t snapshot = answer.uid;
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 1 * MIB), 0);
    ck_assert_int_eq(restore_vm_how(uid, snapshot, true), 0);

    ck_assert_int_eq(order_for(uid, &order), 0);
    ck_assert_uint_eq(order.order, ORDER_STOP);
    ck_assert_uint_eq(order.restore, 0);
    record_fini(&msg_vm_record, &order);
    ck_assert_int_eq(reports_kept(uid, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(uid, h1, 2, 0), 0);
    ck_assert_int_eq(order_for(uid, &order), 0);
    ck_assert_uint_eq(order.order, ORDER_RUN);
    ck_assert_uint_eq(order.restore, snapshot);
    ck_assert(order.restore_lazy);
    ck_assert_uint_eq(order.disk_epoch, 1);
    record_fini(&msg_vm_record, &order);
    ck_assert_int_eq(reports(uid, PHASE_RUNNING), 0);
    ck_assert_int_eq(order_for(uid, &order), 0);
    ck_assert_uint_eq(order.restore, 0);
    ck_assert(!order.restore_lazy);
    record_fini(&msg_vm_record, &order);
}
END_TEST

static int order_at(const struct vm *vm, uint64_t host)
{
    struct msg_vm order;
    ck_assert_int_eq(orders_vm(state, vm, host, &order), 0);
    ck_assert_uint_eq(order.disk_epoch, host == 7 ? 2 : 0);
    int what = (int)order.order;
    record_fini(&msg_vm_record, &order);
    return what;
}

/* On 8, where its snapshot is, it is never to begin with new disks. */
START_TEST(who_keeps_disks_keeps_them_while_it_begins_from_its_snapshot_elsewhere)
{
    struct vm *vm = object_new(KIND_VM);
    ck_assert_ptr_nonnull(vm);
    vm->status.epoch = 3;
    vm->status.phase = PHASE_PLACED;
    vm->status.host = 8;
    vm->status.disk_host = 7;
    vm->status.disk_epoch = 2;
    vm->status.restore = 40;
    ck_assert_int_eq(order_at(vm, 7), ORDER_KEEP);
    ck_assert_int_eq(order_at(vm, 8), ORDER_RUN);
    vm->status.phase = PHASE_STOPPING;
    ck_assert_int_eq(order_at(vm, 7), ORDER_KEEP);
    ck_assert_int_eq(order_at(vm, 8), ORDER_STOP);

    vm->status.phase = PHASE_LOST;
    vm->status.restore = 0; /* its user has switched it off meanwhile */

    ck_assert_int_eq(order_at(vm, 7), ORDER_KEEP);
    ck_assert_int_eq(order_at(vm, 8), ORDER_STOP);
    object_free(KIND_VM, vm);
}
END_TEST

START_TEST(members_come_by_uid)
{
    struct msg_member_list list;
    for (uint8_t i = 2; i < 40; i++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof(name), "h%u", i);
        add_host(name, i);
    }

    ck_assert_int_eq(orders_members(state, &list), 0);

    ck_assert_uint_eq(list.count, 39);
    for (uint32_t i = 1; i < list.count; i++) {
        ck_assert_uint_lt(list.items[i - 1].uid, list.items[i].uid);
    }
    free(list.items);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = fixture_suite("orders", &tests);
    tcase_add_test(tests, the_hash_stays_while_only_term_and_revision_change);
    tcase_add_test(tests, the_hash_changes_with_what_the_host_should_do);
    tcase_add_loop_test(tests, the_hash_is_of_all_that_is_sent_however_large, 0, 3);
    tcase_add_test(tests, of_orders_that_cannot_be_sent_no_hash_is_known);
    tcase_add_test(tests, a_vm_is_ordered_with_its_image_when_that_is_asked_for);
    tcase_add_test(tests, a_vm_is_named_to_its_host_and_to_who_keeps_its_disks);
    tcase_add_test(tests, who_keeps_disks_is_told_to_run_nothing_and_later_with_which);
    tcase_add_test(tests, a_vm_that_is_to_stand_still_is_ordered_so_while_it_runs);
    tcase_add_test(tests, a_snapshot_is_ordered_to_be_made_kept_and_removed);
    tcase_add_test(tests, a_vm_that_goes_back_is_told_from_what_until_it_runs);
    tcase_add_test(
        tests, who_keeps_disks_keeps_them_while_it_begins_from_its_snapshot_elsewhere);
    tcase_add_test(tests, members_come_by_uid);
    return test_main_run(suite);
}
