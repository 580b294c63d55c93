/* Goal: whatever happens, and in whatever pieces it is heard of, every host has the
 * orders that a book made anew would give it; and a change is no reason to write the
 * orders of those whom it does not concern. Method: random walks over a replicated state,
 * with images, stores and links changing meanwhile; a table keeps what each host was told
 * last. The seed is the row of the loop. */
#include "agent/orders.h"
#include "agent/orders_book.h"
#include "base/u64_map.h"
#include "support/state_walk.h"

#define STEPS       1500
#define CHECK_EVERY 10
#define STORES      12 /* hosts' uids are small */
#define CONTENTS    6

static struct orders_book *book;
static struct u64_map *told; /* host -> struct msg_orders */
static bool down[100];       /* links, by uid */
static struct msg_blob stores[100][CONTENTS];
static uint32_t store_counts[100];
static unsigned written;

static bool link_of(void *context, uint64_t host)
{
    (void)context;
    return host >= 100 || !down[host];
}

static void note(void *context, const struct change *change)
{
    (void)context;
    orders_book_note(book, change->kind, change->uid);
}

static void told_set(uint64_t host, const struct msg_orders *orders)
{
    struct msg_orders *old = u64_map_remove(told, host);
    if (old != NULL) {
        record_fini(&msg_orders_record, old);
        free(old);
    }
    if (orders != NULL) {
        struct msg_orders *kept = malloc(sizeof(*kept));
        ck_assert_ptr_nonnull(kept);
        *kept = *orders;
        ck_assert_int_eq(u64_map_put(told, host, kept), 0);
    }
}

/* As the leader does. */
static void tell(void)
{
    uint64_t host;
    ck_assert_int_eq(orders_book_refresh(book), 0);
    while ((host = orders_book_take(book)) != 0) {
        struct msg_orders orders;
        int r = orders_book_write(book, host, &orders);
        ck_assert(r == 0 || r == BERTH_ENOTFOUND);
        told_set(host, r == 0 ? &orders : NULL);
        written++;
    }
    ck_assert(!orders_book_pending(book));
}

static void stores_tell(struct orders_book *of)
{
    for (uint64_t host = 1; host < STORES; host++) {
        orders_book_holds(of, host, stores[host], store_counts[host]);
    }
}

static void check(uint64_t seed, unsigned step)
{
    struct orders_book *fresh = orders_book_new(state, link_of, NULL);
    ck_assert_ptr_nonnull(fresh);
    stores_tell(fresh);
    ck_assert_int_eq(orders_book_refresh(fresh), 0);
    size_t cursor = 0;
    for (const struct host *host;
         (host = state_next(state, KIND_HOST, &cursor)) != NULL;) {
        struct msg_orders wanted;
        struct msg_orders *has = u64_map_get(told, host->meta.uid);
        ck_assert_int_eq(orders_book_write(fresh, host->meta.uid, &wanted), 0);
        ck_assert_msg(has != NULL, "seed %lu, step %u: host %s was told nothing",
                      (unsigned long)seed, step, host->meta.name);
        ck_assert(orders_book_settled(book, host->meta.uid));
        ck_assert_msg(orders_hash(has) == orders_hash(&wanted),
                      "seed %lu, step %u: host %s was told something else",
                      (unsigned long)seed, step, host->meta.name);
        has->revision = wanted.revision;
        ck_assert(record_equal(&msg_orders_record, has, &wanted));
        record_fini(&msg_orders_record, &wanted);
    }
    orders_book_free(fresh);
}

static void walk_image(void)
{
    static const char *const images[] = {"linux", "bsd"};
    struct image *image = make_image(roll(2) == 0 ? "" : PICK(tenants), PICK(images));
    memset(image->spec.artifacts.items[0].sha256.bytes, (int)(1 + roll(CONTENTS)),
           DIGEST_SIZE);
    put(KIND_IMAGE, image);
}

static void walk_store(void)
{
    uint64_t host = 1 + roll(STORES - 1);
    store_counts[host] = 0;
    for (int i = 0; i < CONTENTS; i++) {
        if (roll(2) == 0) {
            struct msg_blob *blob = &stores[host][store_counts[host]++];
            memset(blob->sha256.bytes, 1 + i, DIGEST_SIZE);
        }
    }
    orders_book_holds(book, host, stores[host], store_counts[host]);
}

static void walk_elsewhere(void)
{
    uint64_t die = roll(40);
    if (die == 0) {
        walk_image();
    } else if (die == 1) {
        walk_store();
    } else if (die == 2) {
        uint64_t host = 1 + roll(STORES - 1);
        down[host] = !down[host];
    } else if (die == 3 && roll(20) == 0) { /* another leadership */
        orders_book_reset(book);
        stores_tell(book);
    }
}

static void walk_start(uint64_t seed)
{
    random_seed(&dice, seed);
    told = u64_map_new();
    fixture_start();
    book = orders_book_new(state, link_of, NULL);
    ck_assert(told != NULL && book != NULL);
    fixture_also = note;
    tell();
}

static void walk_stop(void)
{
    fixture_also = NULL;
    book = orders_book_free(book);
    size_t cursor = 0;
    uint64_t host;
    void *value;
    while (u64_map_next(told, &cursor, &host, &value)) {
        record_fini(&msg_orders_record, value);
        free(value);
    }
    told = u64_map_free(told);
    fixture_stop();
}

START_TEST(hosts_have_the_orders_that_a_new_book_would_give_them)
{
    size_t hosts = 0;
    walk_start((uint64_t)_i);
    for (unsigned step = 0; step < STEPS; step++) {
        one_step();
        walk_elsewhere();
        if (roll(3) == 0) { /* sometimes after several changes at once */
            tell();
        }
        if (step % CHECK_EVERY == 0) {
            tell();
            check((uint64_t)_i, step);
        }
        hosts += state_count(state, KIND_HOST);
    }
    ck_assert_uint_gt(state_count(state, KIND_VM), 0);
    ck_assert_uint_gt(written, 0);
    ck_assert_uint_lt(written, hosts / 2); /* not simply all at each change */
    walk_stop();
}
END_TEST

/* ---- whom a change concerns ---- */

static uint64_t h2;
static uint64_t h3;

static void book_start(void)
{
    fixture_start();
    h2 = add_host("h2", 2);
    h3 = add_host("h3", 3);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(3)), 0);
    book = orders_book_new(state, NULL, NULL);
    fixture_also = note;
    ck_assert_int_eq(orders_book_refresh(book), 0);
    while (orders_book_take(book) != 0) {
    }
}

static void book_stop(void)
{
    fixture_also = NULL;
    book = orders_book_free(book);
    fixture_stop();
}

/* The hosts on the list, as bits: h1, h2, h3. */
static unsigned concerned(void)
{
    unsigned bits = 0;
    uint64_t host;
    ck_assert_int_eq(orders_book_refresh(book), 0);
    while ((host = orders_book_take(book)) != 0) {
        bits |= host == h1 ? 1 : host == h2 ? 2 : 4;
    }
    return bits;
}

START_TEST(a_vm_concerns_its_host_alone)
{
    uint64_t vm = admit_plain("a");
    ck_assert_uint_eq(concerned(), 0);
    ck_assert_int_eq(place(vm, h3, 1, 0), 0);
    ck_assert_uint_eq(concerned(), 4);
    ck_assert_int_eq(reports(vm, PHASE_STARTING), 0);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
    ck_assert_uint_eq(concerned(), 0); /* it has to run, as before */
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_STOP), 0);
    ck_assert_uint_eq(concerned(), 4);
}
END_TEST

START_TEST(a_vm_in_a_network_concerns_all_hosts_of_it)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, "web-0", "web", ""), 0);
    uint64_t vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, ADDRESS(5)), 0);
    ck_assert_uint_eq(concerned(), 3);
    ck_assert_int_eq(reports(vm, PHASE_STARTING), 0);
    ck_assert_uint_eq(concerned(), 0);
}
END_TEST

START_TEST(a_new_host_concerns_all_and_its_state_none)
{
    add_host("h4", 4);
    ck_assert_uint_eq(concerned(), 7);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_SUSPECT), 0);
    ck_assert_int_eq(host_drain(h3, true), 0);
    ck_assert_uint_eq(concerned(), 0);
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("acme")), 0);
    ck_assert_uint_eq(concerned(), 0);
}
END_TEST

START_TEST(a_holder_concerns_those_who_are_told_of_it)
{
    struct msg_blob blob = {0};
    memset(blob.sha256.bytes, 7, DIGEST_SIZE); /* of the image linux */
    orders_book_holds(book, h2, &blob, 1);
    ck_assert(!orders_book_settled(book, h1));
    ck_assert_uint_eq(concerned(), 7);
    orders_book_holds(book, h3, &blob, 1);
    ck_assert_uint_eq(concerned(), 2); /* it may ask the other one now */
    orders_book_holds(book, h3, &blob, 1);
    ck_assert_uint_eq(concerned(), 0);
    blob.sha256.bytes[0] = 1; /* of nothing known */
    orders_book_holds(book, h3, &blob, 1);
    ck_assert_uint_eq(concerned(), 2);
}
END_TEST

START_TEST(what_a_host_lacks_of_an_image_is_told_with_the_way_to_it)
{
    struct image_lack lack;
    char text[IMAGE_LACK_TEXT_SIZE];
    struct msg_blob blob = {0};
    memset(blob.sha256.bytes, 7, DIGEST_SIZE); /* of the image linux */
    ck_assert(orders_book_lacks(book, DEFAULT_TENANT, "linux", h1, &lack));
    image_lack_tell(&lack, state, text);
    ck_assert_str_eq(text, "image linux (kernel, sha256 070707070707) is on no host that "
                           "is up: berth apply FILE, with the file that describes the "
                           "image, brings it");
    ck_assert(orders_book_lacks(book, DEFAULT_TENANT, "linux", 0, &lack));

    orders_book_holds(book, h2, &blob, 1);
    ck_assert(orders_book_lacks(book, DEFAULT_TENANT, "linux", h1, &lack));
    image_lack_tell(&lack, state, text);
    ck_assert_str_eq(text, "its host fetches image linux (kernel) from h2");
    ck_assert(!orders_book_lacks(book, DEFAULT_TENANT, "linux", h2, &lack));
    ck_assert(!orders_book_lacks(book, DEFAULT_TENANT, "linux", 0, &lack));

    blob.unchecked = true; /* it has been started anew */
    orders_book_holds(book, h2, &blob, 1);
    ck_assert(orders_book_lacks(book, DEFAULT_TENANT, "linux", h2, &lack));
    image_lack_tell(&lack, state, text);
    ck_assert_str_eq(text,
                     "its host checks image linux (kernel) before it is used: is it "
                     "still whole?");
    ck_assert(orders_book_lacks(book, DEFAULT_TENANT, "linux", h1, &lack));
    image_lack_tell(&lack, state, text);
    ck_assert_str_eq(text, "its host fetches image linux (kernel) from h2");
    ck_assert(!orders_book_lacks(book, DEFAULT_TENANT, "linux", 0, &lack));
    blob.unchecked = false;
    orders_book_holds(book, h2, &blob, 1);
    ck_assert(!orders_book_lacks(book, DEFAULT_TENANT, "linux", h2, &lack));

    orders_book_holds(book, h2, NULL, 0);
    ck_assert(orders_book_lacks(book, DEFAULT_TENANT, "linux", h2, &lack));
    ck_assert_uint_eq(lack.from, 0);
    ck_assert(!orders_book_lacks(book, DEFAULT_TENANT, "never-made", h1, &lack));
}
END_TEST

START_TEST(more_notes_than_there_is_room_for_are_no_loss)
{
    uint64_t vm = admit_plain("a");
    for (unsigned i = 0; i < ORDERS_BOOK_NOTES; i++) {
        orders_book_note(book, KIND_HOST, h1);
    }
    ck_assert_int_eq(place(vm, h3, 1, 0), 0);
    ck_assert(orders_book_pending(book));
    ck_assert_uint_eq(concerned() & 4, 4);
    ck_assert(orders_book_settled(book, h3));
}
END_TEST

START_TEST(a_host_is_settled_only_when_all_was_looked_at_and_taken)
{
    ck_assert(orders_book_settled(book, h3));
    ck_assert(!orders_book_settled(book, 4711));
    uint64_t vm = admit_plain("a");
    ck_assert_int_eq(place(vm, h3, 1, 0), 0);
    ck_assert(!orders_book_settled(book, h1)); /* nobody has looked whom it concerns */
    ck_assert_int_eq(orders_book_refresh(book), 0);
    ck_assert(orders_book_settled(book, h1));
    ck_assert(!orders_book_settled(book, h3));
    ck_assert_uint_eq(orders_book_take(book), h3);
    ck_assert(orders_book_settled(book, h3));
    orders_book_touch(book, h1);
    ck_assert_uint_eq(orders_book_take(book), h1);
    ck_assert_uint_eq(orders_book_take(book), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("orders_book");
    TCase *walks = tcase_create("walks");
    tcase_set_timeout(walks, 60);
    tcase_add_loop_test(walks, hosts_have_the_orders_that_a_new_book_would_give_them, 1,
                        7);
    suite_add_tcase(suite, walks);
    TCase *concerns = tcase_create("concerns");
    tcase_add_checked_fixture(concerns, book_start, book_stop);
    tcase_set_timeout(concerns, 60);
    tcase_add_test(concerns, a_vm_concerns_its_host_alone);
    tcase_add_test(concerns, a_vm_in_a_network_concerns_all_hosts_of_it);
    tcase_add_test(concerns, a_new_host_concerns_all_and_its_state_none);
    tcase_add_test(concerns, a_holder_concerns_those_who_are_told_of_it);
    tcase_add_test(concerns, what_a_host_lacks_of_an_image_is_told_with_the_way_to_it);
    tcase_add_test(concerns, more_notes_than_there_is_room_for_are_no_loss);
    tcase_add_test(concerns, a_host_is_settled_only_when_all_was_looked_at_and_taken);
    suite_add_tcase(suite, concerns);
    return test_main_run(suite);
}
