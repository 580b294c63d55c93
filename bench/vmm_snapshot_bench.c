/* How long a machine of 1 GiB takes to save, and from the exec of berth-vmm to the
 * guest's first useful work when it comes in: with all of its RAM read first, lazily, and
 * mapped.
 *
 *     vmm_snapshot_bench BERTH_VMM FOLDER [RUNS]
 *
 * All of the guest's RAM holds something. Its useful work is a pass over 8 MiB of it, 512
 * KiB in each of 16 places that are spread over all RAM, in which it looks whether each
 * page is its own. The file is in the page cache; the three ways alternate. */
#include "base/random.h"
#include "micro_kernel.h"
#include "program_timing.h"
#include "vmm/kvm_probe.h"
#include "vmm/machine.h"
#include "vmm/machine_state.h"
#include "vmm/ram_image.h"
#include "vmm/snapshot_file.h"
#include "vmm/state_stream.h"
#include "vmm/vmm_devices.h"

#include <inttypes.h>
#include <sys/mman.h>

#define MIB       (UINT64_C(1) << 20)
#define RAM_BYTES (UINT64_C(1) << 30)
#define PAGE      GUEST_PAGE_BYTES
#define RUNS_MAX  1000u
#define DONE      'W'

/* Passes over its pages, each of which begins with its own address, and says W after
 * each. */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "bench_guest_begin:\n"
        "    movl $0x3f8, %edx\n"
        "1:  movl $0x2000000, %esi\n"
        "2:  movl $128, %ecx\n"
        "3:  cmpl %esi, (%esi)\n"
        "    jne 4f\n"
        "    addl $4096, %esi\n"
        "    loop 3b\n"
        "    addl $(0x4000000 - 128 * 4096), %esi\n"
        "    cmpl $0x40000000, %esi\n"
        "    jb 2b\n"
        "    movb $0x57, %al\n"
        "    outb %al, (%dx)\n"
        "    jmp 1b\n"
        "4:  movb $0x21, %al\n"
        "    outb %al, (%dx)\n"
        "5:  hlt\n"
        "    jmp 5b\n"
        "bench_guest_end:\n"
        ".code64\n"
        ".popsection\n");

extern const uint8_t bench_guest_begin[];
extern const uint8_t bench_guest_end[];

static void on_ended(void *context, enum machine_end end, const char *reason)
{
    (void)context;
    (void)end;
    (void)fprintf(stderr, "%s\n", reason);
    exit(1);
}

static void must(int r, const struct err *err)
{
    if (r < 0) {
        (void)fprintf(stderr, "vmm_snapshot_bench: %s\n", err->text);
        exit(1);
    }
}

/* Every page begins with its address; the rest is noise that no disk makes smaller. */
static void ram_fill(struct guest_memory *memory)
{
    static uint8_t page[PAGE];
    random_secret(page, sizeof(page));
    for (uint64_t at = 4 * MIB; at < RAM_BYTES; at += PAGE) {
        const uint32_t address = (uint32_t)at;
        memcpy(page, &address, sizeof(address));
        page[8 + at / PAGE % 4000]++;
        REQUIRE(guest_memory_write(memory, at, page, sizeof(page)) == 0);
    }
}

/* The machine that berth-vmm makes without disks and NICs. */
static struct machine *machine_make(struct poller *poller, int kvm_fd)
{
    static struct vmm_devices devices;
    static const struct vmm_options options = {.disk_count = 0};
    const struct disk_queue_threads threads = {.count = 1};
    const struct machine_plan plan = {
        .kvm_fd = kvm_fd,
        .cpu_count = 1,
        .memory_bytes = RAM_BYTES,
        .kernel_fd = micro_kernel(bench_guest_begin,
                                  (size_t)(bench_guest_end - bench_guest_begin)),
        .initrd_fd = -1,
        .cmdline = "",
        .poller = poller,
        .events = {.ended = on_ended}};
    struct machine *machine = NULL;
    struct err err = {0};
    must(machine_new(&plan, &machine, &err), &err);
    must(machine_load(machine, &err), &err);
    vmm_devices_init(&devices);
    must(vmm_devices_connect(&devices, &options, machine, &threads, &err), &err);
    return machine;
}

/* As vmm_snapshot does it, in one thread. */
static uint64_t save(struct machine *machine, const char *path)
{
    struct ram_progress progress = {0};
    struct bytes_writer state;
    struct bytes_writer ram;
    struct err err = {0};
    (void)unlink(path);
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    const uint64_t began_ns = timing_now_ns();
    bytes_writer_init(&state, SNAPSHOT_STATE_MAX);
    bytes_writer_init(&ram, STATE_SECTION_MAX);
    must(snapshot_file_begin(fd, &err), &err);
    const int sections = machine_save(machine, &state, &err);
    must(sections, &err);
    must(machine_sync(machine, NULL, &err), &err);
    must(ram_image_write(machine_memory(machine), fd, SNAPSHOT_RAM_AT, &progress, &ram,
                         &err),
         &err);
    machine_state_finish(&state, &ram, (unsigned)sections);
    must(snapshot_file_finish(fd, RAM_BYTES, state.data, state.size, &err), &err);
    const uint64_t took_ns = timing_now_ns() - began_ns;
    bytes_writer_fini(&ram);
    bytes_writer_fini(&state);
    (void)close(fd);
    return took_ns;
}

static const struct {
    const char *what;
    const char *option; /* NULL: none */
} ways[] = {
    {"all of RAM read first", NULL},
    {"lazily (`--lazy`)", "--lazy"},
    {"mapped, unchecked (`--mapped`)", "--mapped"},
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static uint64_t restore(char *program, char *kernel, char *path, const char *option)
{
    struct timed timed;
    char *const argv[] = {program, "--kernel",   kernel, "--memory",
                          "1GiB",  "--incoming", path,   (char *)(uintptr_t)option,
                          NULL};
    timed_start(&timed, argv);
    const uint64_t took_ns = timed_await(&timed, DONE);
    timed_kill(&timed);
    return took_ns;
}

int main(int argc, char *argv[])
{
    static uint64_t samples[WAYS + 1][RUNS_MAX];
    const unsigned runs = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 31;
    struct kvm_probe_result probed;
    struct poller *poller = NULL;
    struct err err = {0};
    char path[512];
    char kernel[64];
    if (argc < 3 || runs < 1 || runs > RUNS_MAX) {
        (void)fprintf(stderr, "usage: vmm_snapshot_bench BERTH_VMM FOLDER [RUNS]\n");
        return 2;
    }
    kvm_probe("/dev/kvm", &probed);
    const int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm_fd < 0) {
        (void)fprintf(stderr, "vmm_snapshot_bench: %s\n", probed.reason);
        return 1;
    }
    must(poller_new(&poller, &err), &err);
    struct machine *machine = machine_make(poller, kvm_fd);
    ram_fill((struct guest_memory *)(uintptr_t)machine_memory(machine));
    (void)snprintf(path, sizeof(path), "%s/saved", argv[2]);
    (void)snprintf(kernel, sizeof(kernel), "/dev/null");
    for (unsigned run = 0; run < runs; run++) {
        samples[WAYS][run] = save(machine, path);
        for (unsigned way = 0; way < WAYS; way++) {
            samples[way][run] = restore(argv[1], kernel, path, ways[way].option);
        }
        (void)fprintf(stderr, "run %u of %u\n", run + 1, runs);
    }
    (void)unlink(path);
    machine_free(machine);
    poller_free(poller);
    (void)printf("Tier: %s; %s.\n",
                 timing_tier(probed.kind == KVM_NATIVE ? "native" : ""), probed.reason);
    timing_head("what", "ms");
    (void)timing_row("save, to the last sync", samples[WAYS], runs, 1e6);
    struct timing_spread spreads[WAYS];
    for (unsigned way = 0; way < WAYS; way++) {
        spreads[way] = timing_row(ways[way].what, samples[way], runs, 1e6);
    }
    timing_ratio(spreads[1], spreads[0], "lazily at most 0.2x of all first");
    return 0;
}
