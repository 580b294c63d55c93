/* The program in the guest of bench/vmm-io: measures the first disk, then powers off.
 *
 *     io_guest WHO MILLISECONDS
 *
 * For each case of io_cases.h as long as it says, unbuffered, by the kernel's
 * asynchronous calls. Linked statically: the guest has no libraries. */
#include "io_cases.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct iocb blocks[IO_DEPTH_MAX];
static uint64_t began_ns[IO_DEPTH_MAX];
static _Alignas(4096) uint8_t data[IO_DEPTH_MAX][IO_SIZE_MAX];

static void must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        (void)reboot(RB_POWER_OFF);
        exit(1);
    }
}

static void submit(aio_context_t context, int fd, struct io_run *run, unsigned i)
{
    struct iocb *block = &blocks[i];
    memset(block, 0, sizeof(*block));
    block->aio_data = i;
    block->aio_lio_opcode = run->pattern->is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
    block->aio_fildes = (uint32_t)fd;
    block->aio_buf = (uint64_t)(uintptr_t)data[i];
    block->aio_nbytes = run->pattern->size_bytes;
    block->aio_offset = (int64_t)io_run_offset(run);
    began_ns[i] = io_now_ns();
    must(syscall(SYS_io_submit, context, 1L, &block) == 1, "io_submit");
}

static void measure(aio_context_t context,
                    int fd,
                    struct io_run *run,
                    const char *who,
                    uint64_t budget_ns)
{
    const unsigned depth = run->pattern->depth;
    const uint64_t start_ns = io_now_ns();
    uint64_t now_ns = start_ns;
    unsigned busy = 0;
    for (; busy < depth; busy++) {
        submit(context, fd, run, busy);
    }
    while (busy > 0) {
        struct io_event events[IO_DEPTH_MAX];
        const long got =
            syscall(SYS_io_getevents, context, 1L, (long)depth, events, NULL);
        must(got > 0, "io_getevents");
        now_ns = io_now_ns();
        for (long i = 0; i < got; i++) {
            const unsigned slot = (unsigned)events[i].data;
            must(events[i].res == run->pattern->size_bytes, "a request");
            io_run_done(run, now_ns - began_ns[slot]);
            busy--;
            if (now_ns - start_ns < budget_ns) {
                submit(context, fd, run, slot);
                busy++;
            }
        }
    }
    io_run_say(run, who, now_ns - start_ns);
}

int main(int argc, char *argv[])
{
    static struct io_run run;
    aio_context_t context = 0;
    uint64_t disk_bytes = 0;
    must(argc == 3, "usage: io_guest WHO MILLISECONDS");
    const int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    must(fd >= 0 && ioctl(fd, BLKGETSIZE64, &disk_bytes) == 0, "/dev/vda");
    must(syscall(SYS_io_setup, IO_DEPTH_MAX, &context) == 0, "io_setup");
    for (unsigned i = 0; i < IO_CASES; i++) {
        io_run_begin(&run, &io_cases[i], disk_bytes);
        measure(context, fd, &run, argv[1], strtoull(argv[2], NULL, 10) * 1000000);
    }
    (void)reboot(RB_POWER_OFF);
    return 1;
}
