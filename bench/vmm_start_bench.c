/* berth-vmm against QEMU's microvm: from exec to the guest's first word, the memory that
 * is not the guest's, and how many idle machines start in a second.
 *
 *     vmm_start_bench BERTH_VMM QEMU FOLDER RUNS ROUNDS VMS [KERNEL INITRD RUNS]
 *
 * RUNS times one machine of each, by turns, whose kernel is a few bytes that say one and
 * halt; ROUNDS times VMS of them at once. With KERNEL and INITRD, too, RUNS times a real
 * kernel whose first program says one. 0 leaves a part out. Each machine has one CPU, 128
 * MiB, two disks, two NICs, vsock, a virtio console, entropy, a balloon, a serial port,
 * QMP and ACPI; the NICs are taps in a network of the bench's own. QEMU's vsock is the
 * kernel's (/dev/vhost-vsock): where there is none, it has one device less, which is
 * said. Needs root. */
#include "micro_kernel.h"
#include "program_timing.h"
#include "vmm/kvm_probe.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RUNS_MAX   1000u
#define VMS_MAX    256u
#define WORDS_MAX  80u
#define MEMORY_MIB 128u
#define DISK_BYTES (64 << 20)
#define CID_FIRST  1000u
#define VSOCK      "/dev/vhost-vsock"
#define SAID       '\x16' /* no kernel says that */

static const char *berth_vmm;
static const char *qemu;
static const char *folder;
static const char *kernel;
static const char *initrd;    /* NULL: none */
static bool qemu_has_vsock;   /* its vsock is the kernel's; ours needs none */
static int consoles[VMS_MAX]; /* who listens for them */

/* ---- command lines ---- */

struct words {
    char *words[WORDS_MAX];
    unsigned count;
};

__attribute__((format(printf, 2, 3))) static void
word(struct words *words, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    REQUIRE(words->count + 1 < WORDS_MAX);
    REQUIRE(vasprintf(&words->words[words->count++], format, values) > 0);
    va_end(values);
}

static void words_fini(struct words *words)
{
    while (words->count > 0) {
        free(words->words[--words->count]);
        words->words[words->count] = NULL;
    }
}

static void words_of_berth(struct words *words, unsigned vm)
{
    word(words, "%s", berth_vmm);
    word(words, "--kernel");
    word(words, "%s", kernel);
    if (initrd != NULL) {
        word(words, "--initrd");
        word(words, "%s", initrd);
        word(words, "--cmdline");
        word(words, "console=ttyS0 quiet panic=-1");
    }
    word(words, "--memory");
    word(words, "%uMiB", MEMORY_MIB);
    for (unsigned i = 0; i < 2; i++) {
        word(words, "--disk");
        word(words, "name=d%u,raw=%s/disk-%u-%u", i, folder, vm, i);
        word(words, "--nic");
        word(words, "tap=tap:t%u-%u,mac=52:54:00:00:%02x:%02x", vm, i, vm, i);
    }
    word(words, "--vsock");
    word(words, "cid=%u,listen=unix:%s/vsock-%u", CID_FIRST + vm, folder, vm);
    word(words, "--console");
    word(words, "unix:%s/console-%u", folder, vm);
    word(words, "--qmp");
    word(words, "unix:%s/berth-%u.sock", folder, vm);
}

static void words_of_qemu(struct words *words, unsigned vm)
{
    static const char *const fixed[] = {
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "microvm,acpi=on,auto-kernel-cmdline=off,x-option-roms=off",
        "-accel",
        "kvm",
        "-cpu",
        "host,arch-capabilities=off", /* an emulated KVM of AMD offers what then faults */
        "-smp",
        "1",
        "-serial",
        "stdio",
        "-object",
        "rng-random,id=rng,filename=/dev/urandom",
        "-device",
        "virtio-rng-device,rng=rng",
        "-device",
        "virtio-balloon-device",
        "-device",
        "virtio-serial-device",
        "-device",
        "virtconsole,chardev=console",
    };
    word(words, "%s", qemu);
    for (unsigned i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        word(words, "%s", fixed[i]);
    }
    word(words, "-m");
    word(words, "%uM", MEMORY_MIB);
    for (unsigned i = 0; i < 2; i++) {
        word(words, "-blockdev");
        word(words,
             "driver=raw,node-name=d%u,file.driver=file,file.filename=%s/disk-%u-%u", i,
             folder, vm, i);
        word(words, "-device");
        word(words, "virtio-blk-device,drive=d%u", i);
        word(words, "-netdev");
        word(words, "tap,id=n%u,ifname=t%u-%u,script=no,downscript=no,vhost=off", i, vm,
             i);
        word(words, "-device");
        word(words, "virtio-net-device,netdev=n%u,mac=52:54:00:00:%02x:%02x", i, vm, i);
    }
    if (qemu_has_vsock) {
        word(words, "-device");
        word(words, "vhost-vsock-device,guest-cid=%u", CID_FIRST + vm);
    }
    word(words, "-chardev");
    word(words, "socket,id=console,path=%s/console-%u", folder, vm);
    word(words, "-chardev");
    word(words, "socket,id=qmp,path=%s/qemu-%u.sock,server=on,wait=off", folder, vm);
    word(words, "-mon");
    word(words, "chardev=qmp,mode=control");
    word(words, "-kernel");
    word(words, "%s", kernel);
    if (initrd != NULL) {
        word(words, "-initrd");
        word(words, "%s", initrd);
        word(words, "-append");
        word(words, "console=ttyS0 quiet panic=-1");
    }
}

static const struct {
    const char *name;
    void (*words)(struct words *words, unsigned vm);
} rivals[] = {{"berth-vmm", words_of_berth}, {"QEMU microvm", words_of_qemu}};

#define RIVALS (sizeof(rivals) / sizeof(rivals[0]))

static void vm_start(struct timed *timed, unsigned rival, unsigned vm)
{
    struct words words = {.count = 0};
    rivals[rival].words(&words, vm);
    timed_start(timed, words.words);
    words_fini(&words);
}

/* ---- consoles ---- */

/* Both connect to them, as to what an agent keeps open. */
static void consoles_make(unsigned vms)
{
    for (unsigned vm = 0; vm < vms; vm++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        const int length = snprintf(address.sun_path, sizeof(address.sun_path),
                                    "%s/console-%u", folder, vm);
        REQUIRE(length > 0 && (size_t)length < sizeof(address.sun_path));
        consoles[vm] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        REQUIRE(consoles[vm] >= 0 &&
                bind(consoles[vm], (struct sockaddr *)(void *)&address,
                     sizeof(address)) == 0 &&
                listen(consoles[vm], 4) == 0);
    }
}

/* Those of machines that are gone: nobody says anything there. */
static void consoles_drop(unsigned vms)
{
    for (unsigned vm = 0; vm < vms; vm++) {
        const int fd = accept4(consoles[vm], NULL, NULL, SOCK_CLOEXEC);
        REQUIRE(fd >= 0); /* it had connected before it spoke */
        (void)close(fd);
    }
}

/* ---- memory ---- */

/* Resident KiB of a process, without the mapping that is as large as the guest's RAM. */
static uint64_t resident_kib(pid_t pid)
{
    char path[64];
    char line[512];
    uint64_t size_kib = 0;
    uint64_t sum_kib = 0;
    bool found = false;
    (void)snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    FILE *maps = fopen(path, "re");
    REQUIRE(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (strncmp(line, "Size:", 5) == 0) {
            size_kib = strtoull(line + 5, NULL, 10);
        } else if (strncmp(line, "Rss:", 4) == 0) {
            const bool is_guest = size_kib == MEMORY_MIB * UINT64_C(1024);
            found = found || is_guest;
            sum_kib += is_guest ? 0 : strtoull(line + 4, NULL, 10);
        }
    }
    (void)fclose(maps);
    REQUIRE(found);
    return sum_kib;
}

/* ---- the parts ---- */

static void starts(unsigned runs, const char *what, const char *goal, bool with_memory)
{
    static uint64_t took_ns[RIVALS][RUNS_MAX];
    static uint64_t held_kib[RIVALS][RUNS_MAX];
    struct timing_spread spreads[RIVALS];
    for (unsigned run = 0; run < runs; run++) {
        for (unsigned rival = 0; rival < RIVALS; rival++) {
            struct timed timed;
            vm_start(&timed, rival, 0);
            took_ns[rival][run] = timed_await(&timed, SAID);
            held_kib[rival][run] = with_memory ? resident_kib(timed.pid) : 0;
            timed_kill(&timed);
            consoles_drop(1);
        }
        (void)fprintf(stderr, "%s: run %u of %u\n", what, run + 1, runs);
    }
    timing_head(what, "ms");
    for (unsigned rival = 0; rival < RIVALS; rival++) {
        spreads[rival] = timing_row(rivals[rival].name, took_ns[rival], runs, 1e6);
    }
    timing_ratio(spreads[0], spreads[1], goal);
    if (!with_memory) {
        return;
    }
    timing_head("resident memory that is not guest RAM", "MiB");
    for (unsigned rival = 0; rival < RIVALS; rival++) {
        spreads[rival] = timing_row(rivals[rival].name, held_kib[rival], runs, 1024);
    }
    timing_ratio(spreads[0], spreads[1], "at most 0.15x, and 5 MiB");
}

/* From the first fork to the last word of all. */
static uint64_t crowd(unsigned rival, unsigned vms)
{
    static struct timed timed[VMS_MAX];
    for (unsigned vm = 0; vm < vms; vm++) {
        vm_start(&timed[vm], rival, vm);
    }
    for (unsigned vm = 0; vm < vms; vm++) {
        (void)timed_await(&timed[vm], SAID);
    }
    const uint64_t took_ns = timing_now_ns() - timed[0].began_ns;
    for (unsigned vm = 0; vm < vms; vm++) {
        (void)kill(timed[vm].pid, SIGKILL);
    }
    for (unsigned vm = 0; vm < vms; vm++) {
        timed_kill(&timed[vm]);
    }
    consoles_drop(vms);
    return took_ns;
}

static void crowds(unsigned rounds, unsigned vms)
{
    static uint64_t took_ns[RIVALS][RUNS_MAX];
    struct timing_spread spreads[RIVALS];
    char what[64];
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned rival = 0; rival < RIVALS; rival++) {
            took_ns[rival][round] = crowd(rival, vms);
        }
        (void)fprintf(stderr, "%u machines: round %u of %u\n", vms, round + 1, rounds);
    }
    (void)snprintf(what, sizeof(what), "%u idle machines, all at once", vms);
    timing_head(what, "ms");
    for (unsigned rival = 0; rival < RIVALS; rival++) {
        spreads[rival] = timing_row(rivals[rival].name, took_ns[rival], rounds, 1e6);
    }
    (void)printf(
        "\n%.1fx as many a second at p50, %.1fx at p99 (goal: at least 5x): %.1f "
        "against %.1f at p50.\n",
        spreads[1].p50 / spreads[0].p50, spreads[1].p99 / spreads[0].p99,
        vms * 1e3 / spreads[0].p50, vms * 1e3 / spreads[1].p50);
    (void)fflush(stdout);
}

/* ---- what machines are given ---- */

static char *micro_make(void)
{
    static const uint8_t code[] = {0x66, 0xba, 0xf8, 0x03,  /* mov dx, 0x3f8 */
                                   0xb0, SAID, 0xee,        /* mov al ; out dx, al */
                                   0xfa, 0xf4, 0xeb, 0xfd}; /* cli; 1: hlt; jmp 1b */
    static char path[512];
    uint8_t bytes[2 * MICRO_CODE_AT];
    const int from = micro_kernel(code, sizeof(code));
    const ssize_t size = pread(from, bytes, sizeof(bytes), 0);
    (void)snprintf(path, sizeof(path), "%s/micro-kernel", folder);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0 && write(fd, bytes, (size_t)size) == size);
    (void)close(fd);
    (void)close(from);
    return path;
}

static void disks_make(unsigned vms)
{
    for (unsigned i = 0; i < 2 * vms; i++) {
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/disk-%u-%u", folder, i / 2, i % 2);
        const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        REQUIRE(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
        (void)close(fd);
    }
}

/* Both use them by turns, and find them there, as an agent leaves them. */
static void taps_make(unsigned vms)
{
    for (unsigned i = 0; i < 2 * vms; i++) {
        struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
        const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
        (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "t%u-%u", i / 2,
                       i % 2);
        REQUIRE(fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0);
        REQUIRE(ioctl(fd, TUNSETPERSIST, 1UL) == 0);
        (void)close(fd);
    }
}

static unsigned number(const char *text, unsigned most)
{
    const unsigned long value = strtoul(text, NULL, 10);
    if (value > most) {
        (void)fprintf(stderr, "vmm_start_bench: %s: more than %u\n", text, most);
        exit(2);
    }
    return (unsigned)value;
}

int main(int argc, char *argv[])
{
    struct kvm_probe_result probed;
    if (argc != 7 && argc != 10) {
        (void)fprintf(stderr,
                      "usage: vmm_start_bench BERTH_VMM QEMU FOLDER RUNS ROUNDS VMS "
                      "[KERNEL INITRD RUNS]\n");
        return 2;
    }
    berth_vmm = argv[1];
    qemu = argv[2];
    folder = argv[3];
    const unsigned runs = number(argv[4], RUNS_MAX);
    const unsigned rounds = number(argv[5], RUNS_MAX);
    const unsigned vms = number(argv[6], VMS_MAX);
    kvm_probe("/dev/kvm", &probed);
    if (probed.kind == KVM_NONE || unshare(CLONE_NEWNET) != 0) {
        (void)fprintf(stderr, "vmm_start_bench: needs root and KVM: %s\n", probed.reason);
        return 1;
    }
    disks_make(vms > 0 ? vms : 1);
    taps_make(vms > 0 ? vms : 1);
    consoles_make(vms > 0 ? vms : 1);
    qemu_has_vsock = access(VSOCK, R_OK | W_OK) == 0;
    kernel = micro_make();
    (void)printf("Tier: %s; %s.\n",
                 timing_tier(probed.kind == KVM_NATIVE ? "native" : ""), probed.reason);
    if (!qemu_has_vsock) {
        (void)printf("\nThere is no " VSOCK " here: QEMU has no vsock, berth-vmm has.\n");
    }
    if (runs > 0) {
        starts(runs, "exec to the guest's first instruction", "at most 0.25x", true);
    }
    if (rounds > 0 && vms > 0) {
        crowds(rounds, vms);
    }
    if (argc == 10) {
        kernel = argv[7];
        initrd = argv[8];
        starts(number(argv[9], RUNS_MAX), "exec to /init of a stock Debian kernel",
               "at most 0.60x", false);
    }
    return 0;
}
