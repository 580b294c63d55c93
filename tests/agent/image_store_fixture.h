/* An image store for one test, in a folder of its own, and what is asked of it.
 *
 * `start` and `stop` are a test's checked fixture; those of a small disk need root, for
 * the disk is a tmpfs in a mount namespace of the test's own. What is stored is short
 * texts, each named by itself: upload("kernel", NULL), has("kernel"). The last answer of
 * an image_done is in `answer`; wait_for_answer turns the loop until there is one. What
 * comes out of kernel_text("1") is "within", by a program in `programs`, which is the
 * test's to make and remove.
 */
#pragma once

#include "agent/checked_list.h"
#include "agent/image_part.h"
#include "agent/image_store.h"
#include "agent/image_writer.h"
#include "agent/kernel_unpack.h"
#include "base/cleanup.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define LIMIT 100

static struct temp_dir dir;
static struct temp_dir programs;
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

static inline void count_change(void *context)
{
    (void)context;
    changes++;
}

static inline void store_open_reserved(uint64_t limit_bytes, uint64_t reserve_bytes)
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

static inline void store_open(uint64_t limit_bytes)
{
    store_open_reserved(limit_bytes, 0);
}

static inline void store_close(void)
{
    store = image_store_close(store);
    (void)uv_run(&loop, UV_RUN_DEFAULT); /* what is on the pool frees itself */
}

/* As another boot of the machine would find it. */
static inline void forget_checked(void)
{
    char *path = temp_dir_path(&dir, CHECKED_LIST_NAME);
    ck_assert_int_eq(unlink(path), 0);
    free(path);
}

static inline void start(void)
{
    temp_dir_init(&dir);
    memset(&answer, 0, sizeof(answer));
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    store_open(LIMIT);
}

static inline void stop(void)
{
    store_close();
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    temp_dir_fini(&dir);
}

static inline void take_answer(void *context,
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

static inline void wait_for_answer(void)
{
    unsigned before = answer.count;
    while (answer.count == before) {
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0 || answer.count != before,
                      "nothing is under way and no answer came");
    }
}

static inline struct digest digest_of_text(const char *text)
{
    struct digest digest;
    digest_of(text, strlen(text), &digest);
    return digest;
}

/* Uploads it; the code of the answer. */
static inline int upload(const char *text, const struct digest *expected)
{
    struct err err = {0};
    struct image_writer *writer = image_writer_begin(store, expected, strlen(text), &err);
    ck_assert_msg(writer != NULL, "%s", err.text);
    ck_assert_int_eq(image_writer_write(writer, text, strlen(text), &err), 0);
    image_writer_end(writer, take_answer, NULL);
    wait_for_answer();
    return answer.code;
}

static inline bool has(const char *text)
{
    struct digest digest = digest_of_text(text);
    return image_store_has(store, &digest, NULL);
}

/* Once it was checked. */
static inline void use(const char *text)
{
    char path[IMAGE_PATH_SIZE];
    struct digest digest = digest_of_text(text);
    while (!image_store_path(store, &digest, path)) {
        ck_assert(has(text));
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0, "nothing is under way");
    }
}

static inline void keep(const char *text)
{
    struct digest digest = digest_of_text(text);
    ck_assert_int_eq(image_store_keep(store, &digest, 1, NULL), 0);
}

static inline char *stored_path(const char *text)
{
    char hex[DIGEST_HEX_SIZE];
    struct digest digest = digest_of_text(text);
    digest_format(&digest, hex);
    return temp_dir_path(&dir, hex);
}

/* Regular files in a folder, but what was noted of those that were checked. */
static inline unsigned files_in(const char *path)
{
    unsigned count = 0;
    const struct dirent *entry;
    DIR *folder = opendir(path);
    ck_assert_ptr_nonnull(folder);
    while ((entry = readdir(folder)) != NULL) {
        count += entry->d_type == DT_REG && strcmp(entry->d_name, CHECKED_LIST_NAME) != 0
                     ? 1U
                     : 0U;
    }
    closedir(folder);
    return count;
}

static inline unsigned leftovers(void)
{
    char *path = temp_dir_path(&dir, "tmp");
    unsigned count = files_in(path);
    free(path);
    return count;
}

static inline struct image_part *
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

/* ---- packed kernels ---- */

#define KERNEL_MAGIC_AT 0x202

/* Begins as a bzImage does. */
static inline const char *kernel_text_only(char last)
{
    static char text[KERNEL_MAGIC_AT + 6];
    memset(text, 'k', KERNEL_MAGIC_AT);
    memcpy(text + KERNEL_MAGIC_AT, "HdrS", 4);
    text[KERNEL_MAGIC_AT + 4] = last;
    return text;
}

/* The program that stands for berth-unpack writes "within". */
static inline const char *kernel_text(char last)
{
    CLEANUP_FREE char *script = temp_dir_path(&programs, "unpack");
    static char program[256];
    temp_dir_write(&programs, "unpack", "#!/bin/sh\nprintf within\n");
    ck_assert_int_eq(chmod(script, 0700), 0);
    (void)snprintf(program, sizeof(program), "%s", script);
    image_store_use_unpacker(store, program);
    return kernel_text_only(last);
}

static inline char *within_path(const char *text)
{
    char name[DIGEST_HEX_SIZE + sizeof("unpacked/")];
    char hex[DIGEST_HEX_SIZE];
    struct digest digest = digest_of_text(text);
    digest_format(&digest, hex);
    (void)snprintf(name, sizeof(name), "unpacked/%s", hex);
    return temp_dir_path(&dir, name);
}

/* Sealed, and to the byte. */
static inline bool has_within(const char *text)
{
    static const char within[] = "within";
    static const size_t mark = sizeof(KERNEL_UNPACK_MARK) - 1;
    uint8_t sealed[sizeof(within) - 1 + KERNEL_UNPACK_SEAL];
    uint8_t got[sizeof(sealed) + 1];
    struct digest digest = digest_of_text(within);
    memcpy(sealed, within, sizeof(within) - 1);
    memcpy(sealed + sizeof(within) - 1, KERNEL_UNPACK_MARK, mark);
    memcpy(sealed + sizeof(within) - 1 + mark, digest.bytes, DIGEST_SIZE);
    CLEANUP_FREE char *path = within_path(text);
    FILE *file = fopen(path, "re");
    const size_t size = file != NULL ? fread(got, 1, sizeof(got), file) : 0;
    if (file != NULL) {
        ck_assert_int_eq(fclose(file), 0);
    }
    return size == sizeof(sealed) && memcmp(got, sealed, sizeof(sealed)) == 0;
}

/* ---- a full disk ---- */

#define DISK_SIZE (256 * 1024)

static inline void start_on_small_disk(void)
{
    temp_dir_init(&dir);
    memset(&answer, 0, sizeof(answer));
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    ck_assert_int_eq(mount("small", dir.path, "tmpfs", 0, "size=256k"), 0);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    store_open((uint64_t)1 << 30);
}

static inline void stop_on_small_disk(void)
{
    store_close();
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    ck_assert_int_eq(umount(dir.path), 0);
    temp_dir_fini(&dir);
}

/* Size bytes of 'x' and a NUL. */
static inline char *many(size_t size)
{
    char *text = malloc(size + 1);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', size);
    text[size] = '\0';
    return text;
}
