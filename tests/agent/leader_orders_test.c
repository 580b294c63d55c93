/* Goal: every host gets the orders that are its own, large ones too, and is waited for.
 * Method: real logs, leaders and links of up to four hosts in this process; what the
 * hosts say of themselves is the test's. */
#include "leader_fixture.h"

/* ---- orders that are large ---- */

#define LARGE_VMS 100 /* of twelve KiB: above a MiB */

static void set_long(char **text)
{
    char address[1024] = "";
    memset(address, 'x', sizeof(address) - 1);
    memcpy(address, "http://", 7);
    ck_assert_int_eq(record_set_text(text, address), 0);
}

/* VMs of it are ordered in many words. */
static void put_wordy_template(void)
{
    struct image *image = object_new(KIND_IMAGE);
    (void)snprintf(image->meta.name, NAME_SIZE, "wordy");
    struct artifact *artifact =
        record_list_add(&artifact_record, (struct record_list *)&image->spec.artifacts);
    ck_assert_ptr_nonnull(artifact);
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    set_long(&artifact->url);
    set_long(&image->spec.cmdline);
    int r = plane_put(KIND_IMAGE, image);
    ck_assert_msg(r == 0, "%s", plane.answer.result.text);
    struct template *template = object_new(KIND_TEMPLATE);
    (void)snprintf(template->meta.name, NAME_SIZE, "wordy");
    (void)snprintf(template->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(template->spec.image, NAME_SIZE, "wordy");
    template->spec.engine = ENGINE_FAKE;
    template->spec.memory.size_bytes = 32 * MIB;
    set_long(&template->spec.cmdline);
    char rule[400];
    (void)snprintf(rule, sizeof(rule), "%-390s", "host.cpu.cores >= 1");
    for (unsigned i = 0; i < RULES_MAX; i++) {
        ck_assert_int_eq(text_list_add(&template->spec.placement.require, rule), 0);
    }
    ck_assert_int_eq(plane_put(KIND_TEMPLATE, template), 0);
}

static void admit_wordy(unsigned number)
{
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    (void)snprintf(command.body.admit_vm.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(command.body.admit_vm.name, NAME_SIZE, "vm-%u", number);
    (void)snprintf(command.body.admit_vm.template_name, NAME_SIZE, "wordy");
    ck_assert_int_eq(plane_propose(&command), 0);
}

static bool are_too_large_for_a_frame(const struct msg_vm_list *ordered)
{
    struct msg_orders orders = {.vms = *ordered}; /* shallow */
    uint8_t *data = NULL;
    size_t size = 0;
    int r = message_encode(&msg_orders_record, &orders, &data, &size);
    free(data);
    return r == BERTH_ETOOLARGE;
}

START_TEST(what_changes_in_large_orders_is_sent_and_taken)
{
    plane_start();
    struct plane *host = &plane.hosts[0];
    host->cpu_mcpu = 64000; /* room for all of them */
    put_wordy_template();
    for (unsigned i = 0; i < LARGE_VMS; i++) {
        admit_wordy(i);
    }
    RACK_WAIT(host->ordered.count == LARGE_VMS);
    ck_assert(are_too_large_for_a_frame(&host->ordered));
    uint64_t taken = host->taken;

    admit_wordy(LARGE_VMS);

    RACK_WAIT(host->ordered.count == LARGE_VMS + 1);
    ck_assert_uint_ne(host->taken, taken);
    plane_stop();
}
END_TEST

/* ---- orders that wait ---- */

static struct heard *heard_of(const struct plane *self)
{
    return u64_map_get(plane.hosts[0].leader->hosts, self->host->identity.uid);
}

static bool has_orders(const struct plane *self)
{
    const struct heard *heard = heard_of(self);
    return heard != NULL && leader_has_orders(plane.hosts[0].leader, heard);
}

/* The loop keeps leases and the log in between. */
START_TEST(who_is_behind_large_orders_is_told_in_another_turn)
{
    plane_start();
    struct plane *host = &plane.hosts[0];
    struct orders_book *book = host->leader->book;
    host->cpu_mcpu = 64000;
    struct plane *other = plane_member("second", 2);
    other->cpu_mcpu = 1; /* no room: it has small ones */
    uint64_t uids[] = {host->host->identity.uid, other->host->identity.uid};
    RACK_WAIT(state_host(plane_state(0), uids[1])->status.cpu_mcpu == 1);
    put_wordy_template();
    for (unsigned i = 0; i < LARGE_VMS; i++) {
        admit_wordy(i);
    }
    RACK_WAIT(host->ordered.count == LARGE_VMS && has_orders(host) && has_orders(other));
    ck_assert(are_too_large_for_a_frame(&host->ordered));

    orders_book_touch(book, uids[1]);
    orders_book_touch(book, uids[0]);
    leader_give_orders(host->leader); /* small ones first, and all is done */
    ck_assert(!orders_book_pending(book));
    orders_book_touch(book, uids[0]);
    orders_book_touch(book, uids[1]);
    leader_give_orders(host->leader);

    ck_assert(orders_book_settled(book, uids[0]));
    ck_assert(!orders_book_settled(book, uids[1]));
    RACK_WAIT(orders_book_settled(book, uids[1]));
    plane_stop();
}
END_TEST

/* Else it would have its lease again, and start what runs elsewhere by now. */
START_TEST(a_host_whose_orders_wait_for_what_it_has_counts_as_without_them)
{
    plane_start();
    struct plane *host = &plane.hosts[0];
    RACK_WAIT(has_orders(host));
    struct heard *heard = heard_of(host);

    heard->finds = true; /* until its next heartbeat */
    orders_book_touch(host->leader->book, heard->uid);
    leader_give_orders(host->leader);

    ck_assert(!leader_has_orders(host->leader, heard));
    RACK_WAIT(has_orders(host));
    plane_stop();
}
END_TEST

/* They would only be dropped on the way, and written again as often. */
START_TEST(no_orders_are_written_for_a_host_that_is_away)
{
    plane_start();
    struct plane *other = plane_member("second", 2);
    const struct link *link = plane.hosts[0].host->link;
    uint64_t uid = other->host->identity.uid;
    RACK_WAIT(has_orders(other));
    uint64_t hash = heard_of(other)->orders_hash;
    host_down(other->host);
    RACK_WAIT(!link_is_up(link, uid));

    put_image("linux");
    RACK_WAIT(heard_of(other)->orders_owed);

    ck_assert(!has_orders(other));
    ck_assert_uint_eq(heard_of(other)->orders_hash, hash);
    host_up(other->host);
    RACK_WAIT(has_orders(other));
    ck_assert_uint_ne(heard_of(other)->orders_hash, hash);
    plane_stop();
}
END_TEST

START_TEST(the_link_of_a_host_that_is_owed_its_orders_asks_for_them)
{
    plane_start();
    struct plane *host = &plane.hosts[0];
    RACK_WAIT(has_orders(host));
    uint64_t uid = heard_of(host)->uid;
    leader_on_peer(host->leader, uid, true);
    ck_assert(orders_book_settled(host->leader->book, uid)); /* nothing is owed */

    heard_of(host)->orders_owed = true;
    leader_on_peer(host->leader, uid, false);
    ck_assert(orders_book_settled(host->leader->book, uid));
    leader_on_peer(host->leader, uid, true);

    ck_assert(!orders_book_settled(host->leader->book, uid));
    plane_stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("leader_orders");
    TCase *tests = tcase_create("leader_orders");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, what_changes_in_large_orders_is_sent_and_taken);
    tcase_add_test(tests,
                   a_host_whose_orders_wait_for_what_it_has_counts_as_without_them);
    tcase_add_test(tests, no_orders_are_written_for_a_host_that_is_away);
    tcase_add_test(tests, the_link_of_a_host_that_is_owed_its_orders_asks_for_them);
    tcase_add_test(tests, who_is_behind_large_orders_is_told_in_another_turn);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
