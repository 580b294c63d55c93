/* Goal: a ring reads its own files, brings every request back once, waits for no storage,
 * and can be made to do nothing else. Method: files of a real file system; a pipe that
 * nobody writes to as the storage that hangs; entries of other kinds written into
 * the ring past io_ring.h, as whoever breaks in would; a kernel that refuses, by a filter
 * of system calls in a process of its own. */
#include "support/storage_file.h"
#include "support/test_main.h"
#include "vmm/io_ring.h"

#include <check.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_BYTES 65536
#define BLOCK      512u

static struct io_ring *ring;
static int files[2];
static int event_fd;

static void set_up(void)
{
    for (unsigned i = 0; i < 2; i++) {
        files[i] = storage_file_new(FILE_BYTES);
    }
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_eq(io_ring_new(files, 2, event_fd, &ring, NULL), 0);
}

static void tear_down(void)
{
    io_ring_free(ring);
    (void)close(event_fd);
    (void)close(files[0]);
    (void)close(files[1]);
}

static bool put(unsigned file, uint64_t offset, struct iovec *piece)
{
    const struct io_ring_request request = {.file = file,
                                            .offset = offset,
                                            .pieces = piece,
                                            .piece_count = 1,
                                            .context = piece};
    return io_ring_put(ring, &request);
}

/* Waits for the next one. */
static void *await(int *ret_result)
{
    void *context = io_ring_take(ring, ret_result);
    while (context == NULL) {
        io_ring_wait(ring);
        context = io_ring_take(ring, ret_result);
    }
    return context;
}

START_TEST(each_file_is_read_where_it_is_asked_for)
{
    char in[2][BLOCK];
    struct iovec pieces[2];
    struct pollfd event = {.fd = event_fd, .events = POLLIN};
    int result;
    for (unsigned i = 0; i < 2; i++) {
        char there[BLOCK];
        memset(there, 'a' + (int)i, BLOCK);
        ck_assert_int_eq(pwrite(files[i], there, BLOCK, 4096 * (i + 1)), BLOCK);
        pieces[i] = (struct iovec){in[i], BLOCK};
        ck_assert(put(i, 4096 * (i + 1), &pieces[i]));
    }

    io_ring_push(ring);

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_ptr_nonnull(await(&result));
        ck_assert_int_eq(result, BLOCK);
    }
    ck_assert_int_eq(poll(&event, 1, 0), 0); /* who pushed has looked: nobody is woken */
    for (unsigned i = 0; i < 2; i++) {
        char there[BLOCK];
        memset(there, 'a' + (int)i, BLOCK);
        ck_assert_mem_eq(in[i], there, BLOCK);
    }
    ck_assert_ptr_null(io_ring_take(ring, &result));
}
END_TEST

/* Within the push: no thread of the kernel's waits in our place. */
START_TEST(what_would_wait_for_storage_comes_back)
{
    char data[BLOCK];
    struct iovec piece = {data, BLOCK};
    int ends[2];
    int result;
    struct io_ring *other = NULL;
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(io_ring_new(ends, 1, event_fd, &other, NULL), 0);
    const struct io_ring_request request = {
        .pieces = &piece, .piece_count = 1, .context = &piece};
    ck_assert(io_ring_put(other, &request));

    io_ring_push(other);

    ck_assert_ptr_eq(io_ring_take(other, &result), &piece);
    ck_assert_int_eq(result, -EAGAIN);
    io_ring_free(other);
    (void)close(ends[0]);
    (void)close(ends[1]);
}
END_TEST

/* What was put and not pushed is no reason to wait for ever. */
START_TEST(a_wait_pushes)
{
    char data[BLOCK];
    struct iovec piece = {data, BLOCK};
    int result;
    ck_assert(put(0, 0, &piece));

    io_ring_wait(ring);

    ck_assert_ptr_eq(io_ring_take(ring, &result), &piece);
    ck_assert_int_eq(result, BLOCK);
}
END_TEST

START_TEST(more_than_fits_is_refused_and_nothing_is_lost)
{
    static char data[BLOCK];
    static struct iovec pieces[4 * IO_RING_ENTRIES];
    static unsigned back[4 * IO_RING_ENTRIES];
    unsigned count = 0;
    for (; count < 4 * IO_RING_ENTRIES; count++) {
        pieces[count] = (struct iovec){data, BLOCK};
        if (!put(0, 0, &pieces[count])) {
            break;
        }
    }
    ck_assert_uint_eq(count, 2 * IO_RING_ENTRIES);
    io_ring_push(ring);

    for (unsigned i = 0; i < count; i++) {
        int result;
        const struct iovec *piece = await(&result);
        ck_assert_int_eq(result, BLOCK);
        back[piece - pieces]++;
    }

    for (unsigned i = 0; i < count; i++) {
        ck_assert_uint_eq(back[i], 1);
    }
    ck_assert(put(0, 0, &pieces[0]));
    int result;
    io_ring_push(ring);
    ck_assert_ptr_eq(await(&result), &pieces[0]);
}
END_TEST

START_TEST(a_read_beyond_the_end_is_short_and_another_file_is_none)
{
    char data[BLOCK];
    struct iovec piece = {data, BLOCK};
    int result;
    ck_assert(put(0, FILE_BYTES - 8, &piece));
    io_ring_push(ring);
    ck_assert_ptr_eq(await(&result), &piece);
    ck_assert_int_eq(result, 8);
    ck_assert(put(2, 0, &piece));
    io_ring_push(ring);
    ck_assert_ptr_eq(await(&result), &piece);
    ck_assert_int_eq(result, -EBADF);
}
END_TEST

/* ---- a kernel's wall around it ---- */

/* The descriptor of the only ring of this process. */
static int ring_descriptor(void)
{
    for (int fd = 3; fd < 1024; fd++) {
        char link[64];
        char path[64] = "";
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof(path) - 1) > 0 &&
            strstr(path, "[io_uring]") != NULL) {
            return fd;
        }
    }
    return -1;
}

static const struct {
    uint8_t opcode;
    uint8_t flags;
    int fd; /* -1: a file of the ring's own, by number */
} others[] = {
    {IORING_OP_NOP, IOSQE_FIXED_FILE, 0},
    {IORING_OP_OPENAT, 0, -100},
    {IORING_OP_SOCKET, 0, 1},
    {IORING_OP_CONNECT, IOSQE_FIXED_FILE, 0},
    {IORING_OP_READ, IOSQE_FIXED_FILE, 0},
    {IORING_OP_WRITEV, IOSQE_FIXED_FILE, 0},
    {IORING_OP_FALLOCATE, IOSQE_FIXED_FILE, 0},
    {IORING_OP_READV, 0, 0}, /* standard input */
    {IORING_OP_READV, IOSQE_FIXED_FILE | IOSQE_IO_LINK, 0},
};

/* Puts a read into the ring, makes it something else before the kernel looks. */
START_TEST(it_does_nothing_else)
{
    char data[BLOCK];
    struct iovec piece = {data, BLOCK};
    int result;
    struct io_uring_sqe *entries =
        mmap(NULL, IO_RING_ENTRIES * sizeof(*entries), PROT_READ | PROT_WRITE, MAP_SHARED,
             ring_descriptor(), (off_t)IORING_OFF_SQES);
    ck_assert_ptr_ne(entries, MAP_FAILED);

    ck_assert(put(0, 0, &piece));
    entries[0].opcode = others[_i].opcode;
    entries[0].flags = others[_i].flags;
    entries[0].fd = others[_i].fd;
    io_ring_push(ring);

    ck_assert_ptr_eq(await(&result), &piece);
    ck_assert_int_eq(result, -EACCES);
    (void)munmap(entries, IO_RING_ENTRIES * sizeof(*entries));
}
END_TEST

START_TEST(it_takes_no_more_files_and_no_other_rules)
{
    static const unsigned calls[] = {
        IORING_REGISTER_FILES_UPDATE, IORING_UNREGISTER_FILES,
        IORING_REGISTER_EVENTFD,      IORING_REGISTER_RESTRICTIONS,
        IORING_REGISTER_BUFFERS,      IORING_REGISTER_PERSONALITY,
    };
    for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        const long r =
            syscall(SYS_io_uring_register, ring_descriptor(), calls[i], NULL, 0U);
        ck_assert_int_eq(r, -1);
        ck_assert_msg(errno == EACCES || errno == EBADFD, "call %u: errno %d", calls[i],
                      errno);
    }
}
END_TEST

/* ---- a kernel that refuses ---- */

static void calls_fail(int number, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = 4, .filter = code};
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), 0);
}

START_TEST(what_the_kernel_does_not_take_comes_back)
{
    char data[BLOCK];
    struct iovec pieces[3];
    unsigned seen = 0;
    calls_fail(SYS_io_uring_enter, EAGAIN);
    for (unsigned i = 0; i < 3; i++) {
        pieces[i] = (struct iovec){data, BLOCK};
        ck_assert(put(0, 0, &pieces[i]));
    }
    io_ring_push(ring);

    for (unsigned i = 0; i < 3; i++) {
        int result;
        const struct iovec *piece = io_ring_take(ring, &result);
        ck_assert_ptr_nonnull(piece);
        ck_assert_int_eq(result, -EAGAIN);
        seen |= 1u << (piece - pieces);
    }

    int result;
    ck_assert_uint_eq(seen, 7);
    ck_assert_ptr_null(io_ring_take(ring, &result));
}
END_TEST

START_TEST(without_the_walls_there_is_no_ring)
{
    static const struct {
        int number;
        int error;
    } refusals[] = {{SYS_io_uring_setup, EPERM}, {SYS_io_uring_register, EINVAL}};
    struct io_ring *none = NULL;
    struct err err = {0};
    calls_fail(refusals[_i].number, refusals[_i].error);

    ck_assert_int_eq(io_ring_new(files, 2, event_fd, &none, &err), -refusals[_i].error);

    ck_assert_ptr_null(none);
    ck_assert_ptr_nonnull(strstr(err.text, "make a ring"));
}
END_TEST

static bool kernel_gives_one(void)
{
    const int fd = storage_file_new(FILE_BYTES);
    const int event = eventfd(0, EFD_CLOEXEC);
    const bool gives = io_ring_new(&fd, 1, event, &ring, NULL) == 0;
    const bool has_nowait = storage_file_has_nowait(fd);
    if (gives) {
        io_ring_free(ring);
    }
    (void)close(event);
    (void)close(fd);
    return gives && has_nowait;
}

int main(void)
{
    if (!kernel_gives_one()) {
        return test_main_skip(
            "this kernel gives no ring, or none with walls, or this file system "
            "does not read without waiting");
    }
    Suite *suite = suite_create("io_ring");
    TCase *tests = tcase_create("io_ring");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, each_file_is_read_where_it_is_asked_for);
    tcase_add_test(tests, what_would_wait_for_storage_comes_back);
    tcase_add_test(tests, a_wait_pushes);
    tcase_add_test(tests, more_than_fits_is_refused_and_nothing_is_lost);
    tcase_add_test(tests, a_read_beyond_the_end_is_short_and_another_file_is_none);
    tcase_add_loop_test(tests, it_does_nothing_else, 0,
                        (int)(sizeof(others) / sizeof(others[0])));
    tcase_add_test(tests, it_takes_no_more_files_and_no_other_rules);
    tcase_add_test(tests, what_the_kernel_does_not_take_comes_back);
    tcase_add_loop_test(tests, without_the_walls_there_is_no_ring, 0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
