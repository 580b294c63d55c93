/* Goal: a host gets the images it should have from those who hold them, whole, once, and
 * from where it stopped, whatever happens to the holder in the middle. Method: real image
 * stores and pulls on hosts joined by real links. */
#include "agent/checked_list.h"
#include "agent/image_part.h"
#include "agent/image_pull.h"
#include "agent/image_writer.h"
#include "link_fixture.h"
#include "support/open_gate.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SIZE ((size_t)3 * 1024 * 1024 + 17)

struct site {
    struct image_store *store;
    struct image_pull *pull;
    bool mute;            /* asks go unanswered */
    uint64_t pulled;      /* chunks that came */
    uint64_t answered;    /* asks that were heard */
    uint64_t answers_max; /* then it is mute; 0: never */
};

static struct site sites[RACK_HOSTS_MAX];
static uint8_t content[SIZE];
static struct digest digest;

static void hear_blob(struct rack_host *host,
                      const struct msg_member *from,
                      enum message_type type,
                      void *message)
{
    struct site *site = host->context;
    if (type == MESSAGE_BLOB_CHUNK) {
        site->pulled++;
        image_pull_on_chunk(site->pull, from, message);
    } else if (type == MESSAGE_BLOB_ASK && !site->mute) {
        site->answered++;
        site->mute = site->answered == site->answers_max;
        image_pull_on_ask(site->pull, from, message);
    }
}

static void site_open(unsigned index)
{
    struct site *site = &sites[index];
    struct err err = {0};
    char *folder = temp_dir_path(&rack.hosts[index].dir, "images");
    const struct image_limits limits = {.cache_bytes = (uint64_t)1 << 30};
    int r = image_store_open(&rack.loop, folder, &limits, &site->store, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    site->pull =
        image_pull_new(&rack.loop, clock_system(), site->store, rack.hosts[index].link);
    ck_assert_ptr_nonnull(site->pull);
    rack.hosts[index].hear = hear_blob;
    rack.hosts[index].context = site;
    free(folder);
}

static void site_close(unsigned index)
{
    rack.hosts[index].hear = NULL;
    sites[index].pull = image_pull_free(sites[index].pull);
    sites[index].store = image_store_close(sites[index].store);
}

static void start(unsigned count)
{
    memset(sites, 0, sizeof(sites));
    for (size_t i = 0; i < SIZE; i++) {
        content[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    digest_of(content, SIZE, &digest);
    rack_start(count);
    for (unsigned i = 0; i < count; i++) {
        site_open(i);
    }
}

static void stop(void)
{
    for (unsigned i = 0; i < rack.count; i++) {
        site_close(i);
    }
    rack_stop();
}

static void note_done(void *context,
                      int code,
                      const struct digest *of,
                      uint64_t size_bytes,
                      const char *text)
{
    (void)of;
    (void)size_bytes;
    ck_assert_msg(code == 0, "%s", text);
    *(bool *)context = true;
}

/* Host number index holds the content. */
static void hold(unsigned index)
{
    bool done = false;
    struct image_writer *writer =
        image_writer_begin(sites[index].store, NULL, SIZE, NULL);
    ck_assert_int_eq(image_writer_write(writer, content, SIZE, NULL), 0);
    image_writer_end(writer, note_done, &done);
    RACK_WAIT(done);
}

static void want(unsigned index, uint64_t size_bytes, uint64_t holder)
{
    struct msg_blob blob = {.sha256 = digest, .size_bytes = size_bytes, .holder = holder};
    const struct msg_blob_list list = {.items = &blob, .count = 1};
    image_pull_want(sites[index].pull, &list);
}

static bool has(unsigned index)
{
    return image_store_has(sites[index].store, &digest, NULL);
}

static const char *reason(unsigned index)
{
    const char *text = image_pull_reason(sites[index].pull, &digest);
    return text != NULL ? text : "";
}

static char *file_of(unsigned index)
{
    char name[DIGEST_HEX_SIZE + 8];
    char hex[DIGEST_HEX_SIZE];
    digest_format(&digest, hex);
    (void)snprintf(name, sizeof(name), "images/%s", hex);
    return temp_dir_path(&rack.hosts[index].dir, name);
}

/* What the store holds is the content, to the byte. */
static void assert_whole(unsigned index)
{
    char *path = file_of(index);
    uint8_t *data = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    data = malloc(SIZE + 1);
    size = fread(data, 1, SIZE + 1, file);
    ck_assert_uint_eq(size, SIZE);
    ck_assert_int_eq(memcmp(data, content, SIZE), 0);
    ck_assert_int_eq(fclose(file), 0);
    free(data);
    free(path);
}

/* ---- when there is nothing to do ---- */

static unsigned looks; /* of the idle pull at its clock */

static uint64_t counted_ns(void *context)
{
    (void)context;
    looks++;
    return clock_now_ns(clock_system());
}

static const struct clock counted = {.now_ns = counted_ns};

static void count_timer(uv_handle_t *handle, void *context)
{
    *(unsigned *)context +=
        uv_handle_get_type(handle) == UV_TIMER && uv_is_active(handle) ? 1U : 0U;
}

/* That will wake the loop. */
static unsigned timers_running(void)
{
    unsigned count = 0;
    uv_walk(&rack.loop, count_timer, &count);
    return count;
}

START_TEST(a_host_that_wants_nothing_does_not_wake)
{
    start(1);
    sites[0].pull = image_pull_free(sites[0].pull);
    const unsigned before = timers_running();
    looks = 0;

    sites[0].pull =
        image_pull_new(&rack.loop, &counted, sites[0].store, rack.hosts[0].link);
    ck_assert_ptr_nonnull(sites[0].pull);
    RACK_WAIT(looks > 0); /* one look, at what there is at the start */

    ck_assert_uint_eq(timers_running(), before);
    stop();
}
END_TEST

/* ---- when all goes well ---- */

START_TEST(an_image_comes_whole_from_its_holder)
{
    start(2);
    hold(0);

    want(1, _i == 0 ? SIZE : 0, 1); /* its size may be told by the first chunk only */
    RACK_WAIT(has(1));

    assert_whole(1);
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), SIZE);
    ck_assert_ptr_null(image_pull_reason(sites[1].pull, &digest));
    stop();
}
END_TEST

START_TEST(a_part_is_pulled_on_from_where_it_stopped)
{
    const size_t there = SIZE / 2;
    uint64_t offset = 0;
    start(2);
    hold(0);
    struct image_part *part =
        image_part_open(sites[1].store, &digest, SIZE, &offset, NULL);
    ck_assert_int_eq(image_part_write(part, content, there, NULL), 0);
    image_part_close(part);
    site_close(1); /* and a restart in between */
    site_open(1);

    want(1, SIZE, 1);
    RACK_WAIT(has(1));

    assert_whole(1);
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), SIZE - there);
    stop();
}
END_TEST

START_TEST(a_part_that_is_complete_needs_no_holder)
{
    uint64_t offset = 0;
    start(2);
    struct image_part *part =
        image_part_open(sites[1].store, &digest, SIZE, &offset, NULL);
    ck_assert_int_eq(image_part_write(part, content, SIZE, NULL), 0);
    image_part_close(part);

    want(1, SIZE, 1); /* which has nothing */
    RACK_WAIT(has(1));

    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), 0);
    stop();
}
END_TEST

/* ---- when it does not ---- */

START_TEST(a_corrupted_image_is_refused_and_pulled_again_when_it_is_mended)
{
    start(2);
    hold(0);
    char *path = file_of(0);
    ck_assert_int_eq(chmod(path, 0600), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    uint8_t wrong = (uint8_t)~content[SIZE / 2];
    ck_assert_int_eq(pwrite(fd, &wrong, 1, SIZE / 2), 1);

    want(1, SIZE, 1);
    RACK_WAIT(strstr(reason(1), "SHA-256") != NULL);
    ck_assert(!has(1));

    ck_assert_int_eq(pwrite(fd, &content[SIZE / 2], 1, SIZE / 2), 1);
    RACK_WAIT(has(1)); /* from the beginning, by itself */
    assert_whole(1);
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), 2 * SIZE);
    ck_assert_int_eq(close(fd), 0);
    free(path);
    stop();
}
END_TEST

/* As another boot of the machine would find it. */
static void forget_checked(unsigned index)
{
    char *path = temp_dir_path(&rack.hosts[index].dir, "images/" CHECKED_LIST_NAME);
    ck_assert_int_eq(unlink(path), 0);
    free(path);
}

static void flip(unsigned index)
{
    char *path = file_of(index);
    const uint8_t wrong = (uint8_t)~content[SIZE / 2];
    ck_assert_int_eq(chmod(path, 0600), 0);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, &wrong, 1, SIZE / 2), 1);
    ck_assert_int_eq(close(fd), 0);
    free(path);
}

/* It says so, which is no silence; damaged or not, that is seen later. */
START_TEST(what_a_holder_has_not_checked_yet_is_not_sent)
{
    start(2);
    hold(0);
    char *path = file_of(0);
    site_close(0);
    forget_checked(0);
    if (_i == 1) {
        flip(0);
    }
    const int gate = open_gate_drop(path);
    site_open(0);

    want(1, SIZE, 1);
    RACK_WAIT(strstr(reason(1), "looks first") != NULL);
    ck_assert(has(0));
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), 0);

    open_gate_lift(gate);
    if (_i == 1) {
        RACK_WAIT(strstr(reason(1), "does not") != NULL);
        ck_assert(!has(0)); /* it has looked */
        ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), 0);
    } else {
        RACK_WAIT(has(1));
        assert_whole(1);
    }
    free(path);
    stop();
}
END_TEST

START_TEST(what_was_damaged_is_pulled_again)
{
    start(2);
    hold(0);
    hold(1);
    site_close(1);
    flip(1);
    site_open(1);
    RACK_WAIT(!has(1));

    want(1, SIZE, 1);
    RACK_WAIT(has(1));

    assert_whole(1);
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), SIZE);
    stop();
}
END_TEST

START_TEST(a_holder_that_dies_in_the_middle_is_followed_by_another)
{
    start(3);
    hold(0);
    hold(2);
    sites[0].answers_max = 2; /* however many of them one turn of the loop has time for */
    want(1, SIZE, 1);
    RACK_WAIT(image_pull_bytes_total(sites[1].pull) > 0);
    if (_i == 1) {
        image_pull_free(sites[0].pull); /* it holds on to the link */
        sites[0].pull = NULL;
        rack.hosts[0].hear = NULL;
        host_down(&rack.hosts[0]);
    }

    RACK_WAIT(strstr(reason(1), "silent") != NULL || has(1));
    ck_assert(!has(1));
    uint64_t before = image_pull_bytes_total(sites[1].pull);
    ck_assert_uint_lt(before, SIZE);
    want(1, SIZE, 3);
    RACK_WAIT(has(1));

    assert_whole(1);
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), SIZE); /* nothing twice */
    ck_assert_uint_gt(sites[2].answered, 0);
    stop();
}
END_TEST

START_TEST(a_holder_that_has_it_no_longer_says_so)
{
    start(2);

    want(1, SIZE, 1);
    RACK_WAIT(strstr(reason(1), "does not") != NULL);

    hold(0); /* it does now */
    RACK_WAIT(has(1));
    assert_whole(1);
    stop();
}
END_TEST

START_TEST(without_a_holder_the_reason_is_told)
{
    start(2);

    want(1, SIZE, 0);

    ck_assert_str_eq(reason(1), "no host is known to hold the image");
    stop();
}
END_TEST

START_TEST(what_is_wanted_no_longer_stops_and_its_part_stays)
{
    const struct msg_blob_list nothing = {0};
    uint64_t offset = 0;
    start(2);
    hold(0);
    sites[0].answers_max = 2;
    want(1, SIZE, 1);
    RACK_WAIT(image_pull_bytes_total(sites[1].pull) > 0);

    image_pull_want(sites[1].pull, &nothing);

    ck_assert_ptr_null(image_pull_reason(sites[1].pull, &digest));
    struct image_part *part =
        image_part_open(sites[1].store, &digest, SIZE, &offset, NULL);
    ck_assert_ptr_nonnull(part); /* nobody else writes it */
    ck_assert_uint_eq(offset, image_pull_bytes_total(sites[1].pull));
    image_part_close(part);
    stop();
}
END_TEST

/* ---- chunks that nobody asked for ---- */

START_TEST(only_the_next_chunk_of_the_holder_counts)
{
    start(3);
    sites[0].mute = true;
    want(1, SIZE, 1);
    RACK_WAIT(strcmp(reason(1), "pulling the image, 0 %") == 0);
    struct msg_member holder = host_member(&rack.hosts[0]);
    struct msg_member other = host_member(&rack.hosts[2]);
    struct msg_blob_chunk chunk = {.sha256 = digest,
                                   .total = SIZE,
                                   .data = {.data = content, .size = IMAGE_CHUNK_SIZE}};

    image_pull_on_chunk(sites[1].pull, &other, &chunk);
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), 0);
    chunk.offset = IMAGE_CHUNK_SIZE; /* overtaken */
    image_pull_on_chunk(sites[1].pull, &holder, &chunk);
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), 0);
    chunk.offset = 0;
    image_pull_on_chunk(sites[1].pull, &holder, &chunk);
    image_pull_on_chunk(sites[1].pull, &holder, &chunk); /* doubled */
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), IMAGE_CHUNK_SIZE);

    chunk.offset = IMAGE_CHUNK_SIZE;
    chunk.total = SIZE + 1; /* of another size all at once */
    image_pull_on_chunk(sites[1].pull, &holder, &chunk);
    ck_assert_str_eq(reason(1), "the host that should have it does not");
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), IMAGE_CHUNK_SIZE);
    stop();
}
END_TEST

START_TEST(a_holder_sends_more_than_the_whole_in_vain)
{
    start(2);
    sites[0].mute = true;
    want(1, IMAGE_CHUNK_SIZE / 2, 1);
    RACK_WAIT(strcmp(reason(1), "pulling the image, 0 %") == 0);
    struct msg_member holder = host_member(&rack.hosts[0]);
    const struct msg_blob_chunk chunk = {
        .sha256 = digest,
        .total = IMAGE_CHUNK_SIZE / 2,
        .data = {.data = content, .size = IMAGE_CHUNK_SIZE}};

    image_pull_on_chunk(sites[1].pull, &holder, &chunk);

    ck_assert_msg(strstr(reason(1), "more came") != NULL, "%s", reason(1));
    ck_assert_uint_eq(image_pull_bytes_total(sites[1].pull), 0);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_pull");
    TCase *tests = tcase_create("image_pull");
    tcase_set_timeout(tests, 90);
    tcase_add_test(tests, a_host_that_wants_nothing_does_not_wake);
    tcase_add_loop_test(tests, an_image_comes_whole_from_its_holder, 0, 2);
    tcase_add_test(tests, a_part_is_pulled_on_from_where_it_stopped);
    tcase_add_test(tests, a_part_that_is_complete_needs_no_holder);
    tcase_add_test(tests,
                   a_corrupted_image_is_refused_and_pulled_again_when_it_is_mended);
    tcase_add_loop_test(tests, what_a_holder_has_not_checked_yet_is_not_sent, 0, 2);
    tcase_add_test(tests, what_was_damaged_is_pulled_again);
    tcase_add_loop_test(tests, a_holder_that_dies_in_the_middle_is_followed_by_another, 0,
                        2);
    tcase_add_test(tests, a_holder_that_has_it_no_longer_says_so);
    tcase_add_test(tests, without_a_holder_the_reason_is_told);
    tcase_add_test(tests, what_is_wanted_no_longer_stops_and_its_part_stays);
    tcase_add_test(tests, only_the_next_chunk_of_the_holder_counts);
    tcase_add_test(tests, a_holder_sends_more_than_the_whole_in_vain);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
