/* Goal: a file is in the store whole or not at all, under its own digest; what is in use
 * stays, what is oldest goes; crashes and a full disk cost only what had not arrived.
 * Method: the real store in a real folder; HTTP by a thread on loopback that serves one
 * answer; a full disk is a small tmpfs in a mount namespace of the test's own. */
#include "agent/image_part.h"
#include "agent/image_store.h"
#include "agent/image_writer.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LIMIT 100

static struct temp_dir dir;
static uv_loop_t loop;
static struct image_store *store;
static unsigned changes;

/* The last answer of an image_done. */
static struct {
    unsigned count;
    int code;
    struct digest digest;
    uint64_t size_bytes;
    char text[300];
} answer;

/* ---- arranging ---- */

static void count_change(void *context)
{
    (void)context;
    changes++;
}

static void store_open_reserved(uint64_t limit_bytes, uint64_t reserve_bytes)
{
    struct err err = {0};
    const struct image_limits limits = {.cache_bytes = limit_bytes,
                                        .reserve_bytes = reserve_bytes};
    int r = image_store_open(&loop, dir.path, &limits, &store, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    image_store_on_change(store, count_change, NULL);
    image_store_use_fetcher(store, BERTH_BINARY_DIR "/berth-fetch");
    changes = 0;
}

static void store_open(uint64_t limit_bytes)
{
    store_open_reserved(limit_bytes, 0);
}

static void store_close(void)
{
    store = image_store_close(store);
    (void)uv_run(&loop, UV_RUN_DEFAULT); /* what is on the pool frees itself */
}

static void start(void)
{
    temp_dir_init(&dir);
    memset(&answer, 0, sizeof(answer));
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    store_open(LIMIT);
}

static void stop(void)
{
    store_close();
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    temp_dir_fini(&dir);
}

static void take_answer(void *context,
                        int code,
                        const struct digest *digest,
                        uint64_t size_bytes,
                        const char *text)
{
    (void)context;
    answer.count++;
    answer.code = code;
    answer.digest = *digest;
    answer.size_bytes = size_bytes;
    (void)snprintf(answer.text, sizeof(answer.text), "%s", text);
}

static void wait_for_answer(void)
{
    unsigned before = answer.count;
    while (answer.count == before) {
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0 || answer.count != before,
                      "nothing is under way and no answer came");
    }
}

static struct digest digest_of_text(const char *text)
{
    struct digest digest;
    digest_of(text, strlen(text), &digest);
    return digest;
}

/* Uploads it; the code of the answer. */
static int upload(const char *text, const struct digest *expected)
{
    struct err err = {0};
    struct image_writer *writer = image_writer_begin(store, expected, strlen(text), &err);
    ck_assert_msg(writer != NULL, "%s", err.text);
    ck_assert_int_eq(image_writer_write(writer, text, strlen(text), &err), 0);
    image_writer_end(writer, take_answer, NULL);
    wait_for_answer();
    return answer.code;
}

static bool has(const char *text)
{
    struct digest digest = digest_of_text(text);
    return image_store_has(store, &digest, NULL);
}

static void use(const char *text)
{
    char path[IMAGE_PATH_SIZE];
    struct digest digest = digest_of_text(text);
    ck_assert(image_store_path(store, &digest, path));
}

static void keep(const char *text)
{
    struct digest digest = digest_of_text(text);
    ck_assert_int_eq(image_store_keep(store, &digest, 1, NULL), 0);
}

static char *stored_path(const char *text)
{
    char hex[DIGEST_HEX_SIZE];
    struct digest digest = digest_of_text(text);
    digest_format(&digest, hex);
    return temp_dir_path(&dir, hex);
}

static void set_time(const char *path, time_t seconds)
{
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Regular files in a folder. */
static unsigned files_in(const char *path)
{
    unsigned count = 0;
    const struct dirent *entry;
    DIR *folder = opendir(path);
    ck_assert_ptr_nonnull(folder);
    while ((entry = readdir(folder)) != NULL) {
        count += entry->d_type == DT_REG ? 1U : 0U;
    }
    closedir(folder);
    return count;
}

static unsigned leftovers(void)
{
    char *path = temp_dir_path(&dir, "tmp");
    unsigned count = files_in(path);
    free(path);
    return count;
}

static struct image_part *
part_open(const char *whole, uint64_t size_bytes, uint64_t expected_offset)
{
    struct err err = {0};
    uint64_t offset = 0;
    struct digest digest = digest_of_text(whole);
    struct image_part *part = image_part_open(store, &digest, size_bytes, &offset, &err);
    ck_assert_msg(part != NULL, "%s", err.text);
    ck_assert_uint_eq(offset, expected_offset);
    return part;
}

/* ---- uploads ---- */

START_TEST(an_upload_is_kept_under_its_digest)
{
    struct stat info;
    struct image_file file;

    ck_assert_int_eq(upload("kernel", NULL), 0);

    struct digest digest = digest_of_text("kernel");
    char *path = stored_path("kernel");
    ck_assert(digest_equal(&answer.digest, &digest));
    ck_assert_uint_eq(answer.size_bytes, 6);
    ck_assert_uint_eq(image_store_list(store, &file, 1), 1);
    ck_assert(digest_equal(&file.digest, &digest));
    ck_assert_uint_eq(file.size_bytes, 6);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0400);
    ck_assert_int_eq(info.st_size, 6);
    ck_assert_uint_eq(changes, 1);
    ck_assert_uint_eq(leftovers(), 0);
    free(path);
}
END_TEST

START_TEST(an_upload_of_another_digest_is_refused_and_leaves_nothing)
{
    char wanted_hex[DIGEST_HEX_SIZE];
    char got_hex[DIGEST_HEX_SIZE];
    struct digest wanted = digest_of_text("kernel");
    struct digest got = digest_of_text("trojan");
    digest_format(&wanted, wanted_hex);
    digest_format(&got, got_hex);

    ck_assert_int_eq(upload("trojan", &wanted), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(answer.text, wanted_hex));
    ck_assert_ptr_nonnull(strstr(answer.text, got_hex));
    ck_assert(digest_equal(&answer.digest, &wanted));
    ck_assert(!has("trojan") && !has("kernel"));
    ck_assert_uint_eq(files_in(dir.path), 0);
    ck_assert_uint_eq(leftovers(), 0);
    ck_assert_uint_eq(changes, 0);
}
END_TEST

START_TEST(an_aborted_upload_leaves_nothing)
{
    struct err err = {0};
    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    ck_assert_ptr_nonnull(writer);
    ck_assert_int_eq(image_writer_write(writer, "half", 4, &err), 0);
    ck_assert_uint_eq(leftovers(), 1);

    image_writer_abort(writer);

    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

START_TEST(one_upload_too_many_is_refused_until_one_ends)
{
    struct err err = {0};
    struct image_writer *writers[IMAGE_STORE_WRITERS_MAX];
    for (unsigned i = 0; i < IMAGE_STORE_WRITERS_MAX; i++) {
        writers[i] = image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
        ck_assert_ptr_nonnull(writers[i]);
    }

    ck_assert_ptr_null(image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err));
    ck_assert_int_eq(err.code, BERTH_EFULL);

    image_writer_abort(writers[0]);
    writers[0] = image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    ck_assert_ptr_nonnull(writers[0]);
    for (unsigned i = 0; i < IMAGE_STORE_WRITERS_MAX; i++) {
        image_writer_abort(writers[i]);
    }
}
END_TEST

START_TEST(a_store_closed_in_the_middle_gives_no_answer)
{
    struct err err = {0};
    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    ck_assert_int_eq(image_writer_write(writer, "whole", 5, &err), 0);
    image_writer_end(writer, take_answer, NULL);

    store_close();

    ck_assert_uint_eq(answer.count, 0);
    store_open(LIMIT); /* the file counts now, or is gone: never in between */
    ck_assert_uint_eq(leftovers(), 0);
    ck_assert_uint_eq(files_in(dir.path), has("whole") ? 1 : 0);
}
END_TEST

START_TEST(what_is_larger_than_the_limit_is_refused_before_or_on_its_way)
{
    struct err err = {0};
    char content[LIMIT + 1] = {0};

    ck_assert_ptr_null(image_writer_begin(store, NULL, LIMIT + 1, &err));
    ck_assert_int_eq(err.code, BERTH_ETOOLARGE);
    ck_assert_ptr_nonnull(strstr(err.text, "--image-cache"));

    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    ck_assert_int_eq(image_writer_write(writer, content, LIMIT, &err), 0);
    ck_assert_int_eq(image_writer_write(writer, content, 1, &err), BERTH_ETOOLARGE);
    image_writer_abort(writer);
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

START_TEST(no_more_comes_than_was_announced)
{
    struct err err = {0};
    struct image_writer *writer = image_writer_begin(store, NULL, 5, &err);
    ck_assert_int_eq(image_writer_write(writer, "abc", 3, &err), 0);

    ck_assert_int_eq(image_writer_write(writer, "def", 3, &err), BERTH_ETOOLARGE);

    ck_assert_ptr_nonnull(strstr(err.text, "announced"));
    image_writer_abort(writer);
}
END_TEST

/* ---- parts ---- */

START_TEST(a_part_goes_on_after_a_restart_where_it_stopped)
{
    struct err err = {0};
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "01234", 5, &err), 0);
    image_part_close(part);
    store_close();
    store_open(LIMIT);

    part = part_open("0123456789", 10, 5);
    ck_assert_int_eq(image_part_write(part, "56789", 5, &err), 0);
    image_part_end(part, take_answer, NULL);
    wait_for_answer();

    ck_assert_int_eq(answer.code, 0);
    ck_assert(has("0123456789"));
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

START_TEST(a_part_of_another_content_is_refused_and_begins_anew)
{
    struct err err = {0};
    struct digest wanted = digest_of_text("0123456789");
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "012345678x", 10, &err), 0);
    image_part_end(part, take_answer, NULL);
    wait_for_answer();

    ck_assert_int_eq(answer.code, BERTH_ECORRUPT);
    ck_assert(digest_equal(&answer.digest, &wanted)); /* of what was wanted */
    ck_assert_uint_eq(files_in(dir.path), 0);
    image_part_close(part_open("0123456789", 10, 0));
}
END_TEST

START_TEST(a_part_has_one_writer_until_its_end_is_told)
{
    struct err err = {0};
    uint64_t offset = 0;
    struct digest digest = digest_of_text("0123456789");
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "0123456789", 10, &err), 0);

    ck_assert_ptr_null(image_part_open(store, &digest, 10, &offset, &err));
    ck_assert_int_eq(err.code, BERTH_EBUSY);
    image_part_end(part, take_answer, NULL); /* hashes from now on */
    ck_assert_ptr_null(image_part_open(store, &digest, 10, &offset, &err));
    ck_assert_int_eq(err.code, BERTH_EBUSY);

    image_part_close(part_open("another", 7, 0));
    wait_for_answer();
    ck_assert_int_eq(answer.code, 0);
    image_part_close(part_open("0123456789", 10, 0)); /* none is under way any more */
}
END_TEST

START_TEST(a_part_never_grows_over_its_size)
{
    struct err err = {0};
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "01234567", 8, &err), 0);

    ck_assert_int_eq(image_part_write(part, "89x", 3, &err), BERTH_ETOOLARGE);

    image_part_close(part);
    image_part_close(part_open("0123456789", 10, 8));
}
END_TEST

START_TEST(what_is_longer_than_the_file_is_no_part_of_it)
{
    struct err err = {0};
    struct image_part *part = part_open("0123456789", 12, 0);
    ck_assert_int_eq(image_part_write(part, "0123456789ab", 12, &err), 0);
    image_part_close(part);

    image_part_close(part_open("0123456789", 10, 0));
}
END_TEST

START_TEST(a_part_of_unknown_size_is_bounded_once_the_size_is_told)
{
    struct err err = {0};
    struct image_part *part = part_open("0123456789", 0, 0);

    ck_assert_int_eq(image_part_told_size(part, 10, &err), 0);
    ck_assert_int_eq(image_part_write(part, "0123456789x", 11, &err), BERTH_ETOOLARGE);

    image_part_close(part);
}
END_TEST

/* ---- eviction ---- */

#define TEN(digit) digit "123456789" /* ten bytes */

START_TEST(the_least_recently_used_goes_when_the_limit_is_passed)
{
    store_close();
    store_open(30);
    ck_assert_int_eq(upload(TEN("a"), NULL), 0);
    ck_assert_int_eq(upload(TEN("b"), NULL), 0);
    ck_assert_int_eq(upload(TEN("c"), NULL), 0);
    use(TEN("a"));

    ck_assert_int_eq(upload(TEN("d"), NULL), 0);

    ck_assert(has(TEN("a")) && !has(TEN("b")) && has(TEN("c")) && has(TEN("d")));
    ck_assert_uint_eq(files_in(dir.path), 3);
}
END_TEST

START_TEST(what_is_kept_stays_over_the_limit_until_it_is_not_kept)
{
    store_close();
    store_open(15);
    ck_assert_int_eq(upload(TEN("a"), NULL), 0);
    keep(TEN("a"));

    ck_assert_int_eq(upload(TEN("b"), NULL), 0);
    ck_assert(has(TEN("a")) && has(TEN("b")));

    keep(TEN("c"));
    ck_assert_int_eq(upload(TEN("c"), NULL), 0);
    ck_assert(!has(TEN("a")) && !has(TEN("b")) && has(TEN("c")));
}
END_TEST

START_TEST(of_many_kept_the_last_one_counts_too)
{
    struct digest digests[5000];
    for (unsigned i = 0; i < 5000; i++) {
        digest_of(&i, sizeof(i), &digests[i]);
    }
    digests[4999] = digest_of_text(TEN("a"));
    store_close();
    store_open(15);
    ck_assert_int_eq(upload(TEN("a"), NULL), 0);

    ck_assert_int_eq(image_store_keep(store, digests, 5000, NULL), 0);
    ck_assert_int_eq(upload(TEN("b"), NULL), 0);

    ck_assert(has(TEN("a")));
}
END_TEST

START_TEST(a_restart_remembers_what_was_used_last)
{
    static const char *const texts[] = {TEN("a"), TEN("b"), TEN("c")};
    /* Of the orders in which a folder may list three files, most are wrong. */
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(upload(texts[(i + (unsigned)_i) % 3], NULL), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        char *path = stored_path(texts[(i + (unsigned)_i) % 3]);
        set_time(path, (time_t)(1000 + i));
        free(path);
    }
    const char *oldest = texts[_i % 3];
    const char *second = texts[(_i + 1) % 3];
    const char *newest = texts[(_i + 2) % 3];
    store_close();
    store_open(30);
    use(oldest);
    store_close();
    store_open(30);

    ck_assert_int_eq(upload(TEN("d"), NULL), 0);
    ck_assert(has(oldest) && !has(second) && has(newest));

    ck_assert_int_eq(upload(TEN("e"), NULL), 0);
    ck_assert(has(oldest) && !has(newest));
}
END_TEST

START_TEST(more_files_than_can_be_listed_leave_the_newest)
{
    struct image_file files[IMAGE_STORE_FILES_MAX + 1];
    store_close();
    for (unsigned i = 0; i < IMAGE_STORE_FILES_MAX + 2; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", i);
        char *path = stored_path(text);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0400);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(close(fd), 0);
        set_time(path, (time_t)(100000 - i)); /* the last ones are the oldest */
        free(path);
    }

    store_open(LIMIT);

    ck_assert_uint_eq(image_store_list(store, files, IMAGE_STORE_FILES_MAX + 1),
                      IMAGE_STORE_FILES_MAX);
    ck_assert_uint_eq(files_in(dir.path), IMAGE_STORE_FILES_MAX); /* none is unlisted */
    ck_assert(has("0") && has("255") && !has("256") && !has("257"));
}
END_TEST

START_TEST(a_store_full_of_what_is_kept_takes_nothing_more)
{
    struct digest digests[IMAGE_STORE_FILES_MAX];
    store_close();
    store_open((uint64_t)1 << 30);
    for (unsigned i = 0; i < IMAGE_STORE_FILES_MAX; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", i);
        digests[i] = digest_of_text(text);
        ck_assert_int_eq(upload(text, NULL), 0);
    }
    ck_assert_int_eq(image_store_keep(store, digests, IMAGE_STORE_FILES_MAX, NULL), 0);

    ck_assert_int_eq(upload("one more", NULL), BERTH_EFULL);

    ck_assert_uint_eq(files_in(dir.path), IMAGE_STORE_FILES_MAX);
    ck_assert(has("0") && has("255"));
}
END_TEST

/* ---- after a crash ---- */

START_TEST(what_a_crash_left_is_removed_and_parts_and_strangers_stay)
{
    struct err err = {0};
    struct image_file file;
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "01234", 5, &err), 0);
    image_part_close(part);
    store_close();
    temp_dir_write(&dir, "tmp/00112233aabbccdd", "half an upload");
    temp_dir_write(&dir, "README", "put here by hand");

    store_open(LIMIT);

    ck_assert_uint_eq(leftovers(), 1); /* the part */
    ck_assert_uint_eq(image_store_list(store, &file, 1), 0);
    ck_assert_uint_eq(files_in(dir.path), 1);
    image_part_close(part_open("0123456789", 10, 5));
}
END_TEST

/* ---- fetching ---- */

struct server {
    int fd;
    const char *head;
    size_t body_size; /* of 'x' */
    unsigned times;   /* clients, one after the other */
    pthread_t thread;
    char url[64];
};

static void serve_one(const struct server *server)
{
    char request[4096];
    char chunk[4096];
    int fd = accept(server->fd, NULL, NULL);
    memset(chunk, 'x', sizeof(chunk));
    if (fd >= 0 && recv(fd, request, sizeof(request), 0) > 0 &&
        send(fd, server->head, strlen(server->head), MSG_NOSIGNAL) > 0) {
        size_t left = server->body_size;
        ssize_t sent = 1;
        while (left > 0 && sent > 0) {
            sent = send(fd, chunk, left < sizeof(chunk) ? left : sizeof(chunk),
                        MSG_NOSIGNAL);
            left -= sent > 0 ? (size_t)sent : 0;
        }
    }
    (void)close(fd);
}

static void *serve(void *context)
{
    const struct server *server = context;
    for (unsigned i = 0; i < server->times; i++) {
        serve_one(server);
    }
    return NULL;
}

static void server_start_times(struct server *server,
                               const char *head,
                               size_t body_size,
                               unsigned times)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    server->head = head;
    server->body_size = body_size;
    server->times = times;
    ck_assert_int_eq(bind(server->fd, (struct sockaddr *)&at, size), 0);
    ck_assert_int_eq(listen(server->fd, 1), 0);
    ck_assert_int_eq(getsockname(server->fd, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%u/image",
                   ntohs(at.sin_port));
    ck_assert_int_eq(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_start(struct server *server, const char *head, size_t body_size)
{
    server_start_times(server, head, body_size, 1);
}

static void server_stop(struct server *server)
{
    ck_assert_int_eq(pthread_join(server->thread, NULL), 0);
    ck_assert_int_eq(close(server->fd), 0);
}

#define FOUND "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"

static const struct {
    const char *head;
    const char *content; /* whose digest is expected */
    int code;
} fetches[] = {
    {FOUND, "xxxxxxxxxx", 0},
    {FOUND, "yyyyyyyyyy", BERTH_ECORRUPT},
    {"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n", "xxxxxxxxxx",
     BERTH_ENOTFOUND},
    {"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n", "xxxxxxxxxx", BERTH_EUNREACHABLE},
    {"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", "xxxxxxxxxx", BERTH_EUNREACHABLE},
};

START_TEST(a_fetch_ends_with_the_file_or_the_reason)
{
    struct server server;
    struct digest expected = digest_of_text(fetches[_i].content);
    server_start(&server, fetches[_i].head, 10);

    image_store_fetch(store, server.url, &expected, take_answer, NULL);
    wait_for_answer();
    server_stop(&server);

    ck_assert_msg(answer.code == fetches[_i].code, "%d: %s", answer.code, answer.text);
    ck_assert_uint_eq(answer.text[0] != '\0', answer.code != 0);
    ck_assert_int_eq(has("xxxxxxxxxx"), answer.code == 0);
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

/* Announced, or only met on the way. */
static const char *const large_heads[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", FOUND};

START_TEST(a_fetch_of_more_than_the_limit_is_refused)
{
    struct server server;
    struct digest expected = digest_of_text("never mind");
    server_start(&server, large_heads[_i], LIMIT + 1);

    image_store_fetch(store, server.url, &expected, take_answer, NULL);
    wait_for_answer();
    server_stop(&server);

    ck_assert_msg(answer.code == BERTH_ETOOLARGE, "%d: %s", answer.code, answer.text);
    ck_assert_ptr_nonnull(strstr(answer.text, "--image-cache"));
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

START_TEST(a_fetch_without_a_digest_is_refused)
{
    struct digest none = {0};

    image_store_fetch(store, "http://127.0.0.1:1/image", &none, take_answer, NULL);
    ck_assert_uint_eq(answer.count, 0); /* no callback inside a call */
    wait_for_answer();

    ck_assert_int_eq(answer.code, BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(answer.text, "SHA-256"));
}
END_TEST

/* ---- a server that never answers ---- */

#define STUCK 8 /* more than the store and libuv have threads for */

static char stuck_url[64];
static int stuck_socket;

/* It listens, so that connections are made, and does nothing else. */
static void stuck_server_start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    stuck_socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(stuck_socket, (struct sockaddr *)&at, size), 0);
    ck_assert_int_eq(listen(stuck_socket, 2 * IMAGE_STORE_FETCHES_MAX), 0);
    ck_assert_int_eq(getsockname(stuck_socket, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(stuck_url, sizeof(stuck_url), "http://127.0.0.1:%u/image",
                   ntohs(at.sin_port));
}

static void fetch_stuck(unsigned count)
{
    struct digest expected = digest_of_text("never mind");
    for (unsigned i = 0; i < count; i++) {
        image_store_fetch(store, stuck_url, &expected, take_answer, NULL);
    }
}

static bool file_seen;

static void see_file(uv_fs_t *request)
{
    ck_assert_int_eq((int)request->result, 0);
    file_seen = true;
    uv_fs_req_cleanup(request);
}

START_TEST(fetches_that_hang_hold_up_neither_libuvs_threads_nor_uploads)
{
    uv_fs_t request;
    stuck_server_start();
    fetch_stuck(STUCK);

    ck_assert_int_eq(uv_fs_stat(&loop, &request, dir.path, see_file), 0);
    while (!file_seen) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(answer.count, 0); /* they still hang */
    ck_assert_int_eq(upload("a kernel", NULL), 0);

    ck_assert_uint_eq(answer.count, 1);
    store_close(); /* ends them */
    ck_assert_uint_eq(answer.count, 1);
    ck_assert_uint_eq(leftovers(), 0);
    ck_assert_int_eq(close(stuck_socket), 0);
    store_open(LIMIT);
}
END_TEST

START_TEST(one_fetch_too_many_is_refused_while_the_others_hang)
{
    stuck_server_start();
    fetch_stuck(IMAGE_STORE_FETCHES_MAX);

    fetch_stuck(1);
    ck_assert_uint_eq(answer.count, 0); /* no callback inside a call */
    wait_for_answer();

    ck_assert_int_eq(answer.code, BERTH_EFULL);
    ck_assert_ptr_nonnull(strstr(answer.text, "under way"));
    ck_assert_int_eq(close(stuck_socket), 0);
}
END_TEST

/* ---- a full disk ---- */

#define DISK_SIZE (256 * 1024)

static void start_on_small_disk(void)
{
    temp_dir_init(&dir);
    memset(&answer, 0, sizeof(answer));
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    ck_assert_int_eq(mount("small", dir.path, "tmpfs", 0, "size=256k"), 0);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    store_open((uint64_t)1 << 30);
}

static void stop_on_small_disk(void)
{
    store_close();
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    ck_assert_int_eq(umount(dir.path), 0);
    temp_dir_fini(&dir);
}

/* Size bytes of 'x' and a NUL. */
static char *many(size_t size)
{
    char *text = malloc(size + 1);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', size);
    text[size] = '\0';
    return text;
}

START_TEST(an_upload_to_a_full_disk_is_refused_in_words_and_costs_nothing)
{
    struct err err = {0};
    char *big = many((size_t)2 * DISK_SIZE);
    ck_assert_int_eq(upload("kernel", NULL), 0);
    keep("kernel");
    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);

    int r = image_writer_write(writer, big, strlen(big), &err);
    image_writer_abort(writer);

    ck_assert_int_eq(r, BERTH_EDISKFULL);
    ck_assert_ptr_nonnull(strstr(err.text, "full"));
    ck_assert(has("kernel"));
    ck_assert_int_eq(upload("initrd", NULL), 0); /* there is room again */
    free(big);
}
END_TEST

START_TEST(what_is_announced_has_its_room_or_is_refused_before_it_comes)
{
    struct err err = {0};
    struct image_writer *first =
        image_writer_begin(store, NULL, (uint64_t)150 * 1024, &err);
    ck_assert_msg(first != NULL, "%s", err.text);

    ck_assert_ptr_null(image_writer_begin(store, NULL, (uint64_t)150 * 1024, &err));
    ck_assert_int_eq(err.code, BERTH_EDISKFULL);
    ck_assert_ptr_nonnull(strstr(err.text, "150.0 KiB more are wanted"));
    struct image_writer *second =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    char *much = many((size_t)150 * 1024);
    ck_assert_int_eq(image_writer_write(second, much, strlen(much), &err),
                     BERTH_EDISKFULL); /* it would be the first one's */
    image_writer_abort(second);

    image_writer_abort(first);
    ck_assert_int_eq(upload(much, NULL), 0);
    free(much);
}
END_TEST

START_TEST(images_stop_before_the_disk_is_full)
{
    struct err err = {0};
    struct statvfs disk;
    char block[4096] = {0};
    int r = 0;
    store_close();
    store_open_reserved((uint64_t)1 << 30, (uint64_t)100 * 1024);
    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);

    while (r == 0) {
        r = image_writer_write(writer, block, sizeof(block), &err);
    }

    ck_assert_int_eq(r, BERTH_EDISKFULL);
    ck_assert_ptr_nonnull(strstr(err.text, "100.0 KiB that are kept free"));
    ck_assert_int_eq(statvfs(dir.path, &disk), 0);
    ck_assert_uint_ge((uint64_t)disk.f_bavail * disk.f_frsize, (uint64_t)100 * 1024);
    image_writer_abort(writer);
}
END_TEST

START_TEST(what_nobody_keeps_makes_room_on_a_full_disk_but_not_in_vain)
{
    struct err err = {0};
    char *old = many((size_t)150 * 1024);
    char *new = many((size_t)160 * 1024);
    ck_assert_int_eq(upload(old, NULL), 0);

    ck_assert_ptr_null(image_writer_begin(store, NULL, DISK_SIZE, &err));
    ck_assert_int_eq(err.code, BERTH_EDISKFULL);
    ck_assert(has(old)); /* it would not have been enough */
    keep(old);
    ck_assert_ptr_null(image_writer_begin(store, NULL, (uint64_t)160 * 1024, &err));
    ck_assert(has(old));
    ck_assert_int_eq(image_store_keep(store, NULL, 0, &err), 0);

    ck_assert_int_eq(upload(new, NULL), 0);
    ck_assert(!has(old));
    free(old);
    free(new);
}
END_TEST

START_TEST(a_part_waits_on_a_full_disk_and_goes_on_when_there_is_room)
{
    struct err err = {0};
    char *whole = many((size_t)200 * 1024);
    char *filler = many((size_t)150 * 1024);
    const size_t half = (size_t)100 * 1024;
    struct digest digest = digest_of_text(whole);
    uint64_t offset = 0;
    struct image_part *part = part_open(whole, strlen(whole), 0);
    ck_assert_int_eq(image_part_write(part, whole, half, &err), 0);
    temp_dir_write(&dir, "filler", filler);

    ck_assert_int_eq(image_part_write(part, whole + half, half, &err), BERTH_EDISKFULL);
    image_part_close(part);
    ck_assert_ptr_null(image_part_open(store, &digest, strlen(whole), &offset, &err));
    ck_assert_int_eq(err.code, BERTH_EDISKFULL);
    char *path = temp_dir_path(&dir, "filler");
    ck_assert_int_eq(unlink(path), 0);

    part = part_open(whole, strlen(whole), half); /* what was there is not asked again */
    ck_assert_int_eq(image_part_write(part, whole + half, half, &err), 0);
    image_part_end(part, take_answer, NULL);
    wait_for_answer();
    ck_assert_int_eq(answer.code, 0);
    free(path);
    free(filler);
    free(whole);
}
END_TEST

START_TEST(room_is_made_for_a_fetch_that_says_how_much_comes)
{
    struct server server;
    char *old = many((size_t)150 * 1024);
    char *new = many((size_t)160 * 1024);
    struct digest expected = digest_of_text(new);
    ck_assert_int_eq(upload(old, NULL), 0);
    server_start_times(&server, "HTTP/1.1 200 OK\r\nContent-Length: 163840\r\n\r\n",
                       strlen(new), 2);

    image_store_fetch(store, server.url, &expected, take_answer, NULL);
    wait_for_answer();
    server_stop(&server);

    ck_assert_msg(answer.code == 0, "%d: %s", answer.code, answer.text);
    ck_assert(has(new));
    ck_assert(!has(old));
    free(old);
    free(new);
}
END_TEST

START_TEST(a_fetch_to_a_full_disk_says_so)
{
    struct server server;
    struct digest expected = digest_of_text("never mind");
    server_start(&server, FOUND, (size_t)4 * DISK_SIZE);

    image_store_fetch(store, server.url, &expected, take_answer, NULL);
    wait_for_answer();
    server_stop(&server);

    ck_assert_msg(answer.code == BERTH_EDISKFULL, "%d: %s", answer.code, answer.text);
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_store");
    TCase *tests = tcase_create("image_store");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, an_upload_is_kept_under_its_digest);
    tcase_add_test(tests, an_upload_of_another_digest_is_refused_and_leaves_nothing);
    tcase_add_test(tests, an_aborted_upload_leaves_nothing);
    tcase_add_test(tests, one_upload_too_many_is_refused_until_one_ends);
    tcase_add_test(tests, a_store_closed_in_the_middle_gives_no_answer);
    tcase_add_test(tests, what_is_larger_than_the_limit_is_refused_before_or_on_its_way);
    tcase_add_test(tests, no_more_comes_than_was_announced);
    tcase_add_test(tests, a_part_goes_on_after_a_restart_where_it_stopped);
    tcase_add_test(tests, a_part_of_another_content_is_refused_and_begins_anew);
    tcase_add_test(tests, a_part_has_one_writer_until_its_end_is_told);
    tcase_add_test(tests, a_part_never_grows_over_its_size);
    tcase_add_test(tests, what_is_longer_than_the_file_is_no_part_of_it);
    tcase_add_test(tests, a_part_of_unknown_size_is_bounded_once_the_size_is_told);
    tcase_add_test(tests, the_least_recently_used_goes_when_the_limit_is_passed);
    tcase_add_test(tests, what_is_kept_stays_over_the_limit_until_it_is_not_kept);
    tcase_add_test(tests, of_many_kept_the_last_one_counts_too);
    tcase_add_loop_test(tests, a_restart_remembers_what_was_used_last, 0, 3);
    tcase_add_test(tests, more_files_than_can_be_listed_leave_the_newest);
    tcase_add_test(tests, a_store_full_of_what_is_kept_takes_nothing_more);
    tcase_add_test(tests, what_a_crash_left_is_removed_and_parts_and_strangers_stay);
    tcase_add_loop_test(tests, a_fetch_ends_with_the_file_or_the_reason, 0, 5);
    tcase_add_loop_test(tests, a_fetch_of_more_than_the_limit_is_refused, 0, 2);
    tcase_add_test(tests, a_fetch_without_a_digest_is_refused);
    tcase_add_test(tests, fetches_that_hang_hold_up_neither_libuvs_threads_nor_uploads);
    tcase_add_test(tests, one_fetch_too_many_is_refused_while_the_others_hang);
    suite_add_tcase(suite, tests);
    if (geteuid() == 0) {
        TCase *full = tcase_create("full disk");
        tcase_add_checked_fixture(full, start_on_small_disk, stop_on_small_disk);
        tcase_set_timeout(full, 60);
        tcase_add_test(full,
                       an_upload_to_a_full_disk_is_refused_in_words_and_costs_nothing);
        tcase_add_test(full, a_part_waits_on_a_full_disk_and_goes_on_when_there_is_room);
        tcase_add_test(full,
                       what_is_announced_has_its_room_or_is_refused_before_it_comes);
        tcase_add_test(full, images_stop_before_the_disk_is_full);
        tcase_add_test(full, what_nobody_keeps_makes_room_on_a_full_disk_but_not_in_vain);
        tcase_add_test(full, a_fetch_to_a_full_disk_says_so);
        tcase_add_test(full, room_is_made_for_a_fetch_that_says_how_much_comes);
        suite_add_tcase(suite, full);
    }
    return test_main_run(suite);
}
