#include "agent/engine_kvm.h"

#include "agent/argument_list.h"
#include "agent/engine_qmp.h"
#include "agent/kernel_unpack.h"
#include "agent/program_path.h"
#include "agent/vm_disks.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "base/require.h"
#include "base/work_pool.h"
#include "net/tap.h"
#include "vmm/machine_layout.h"
#include "vmm/overlay_file.h"
#include "vmm/virtio_net.h"
#include "vmm/vmm_open.h"
#include "vmm/vsock_packet.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMORY_STEP (2 * MIB)
#define MTU_DEFAULT 1500u /* of a NIC whose tap does not tell */

/* Added to every kernel command line. */
#define CMDLINE_ALWAYS "console=ttyS0 panic=-1"

#define LIMIT_TEXT                                                       \
    160 /* four words of a device's limit, with a number of 64 bits each \
         */

/* ---- what berth-vmm is told ---- */

/* The image's files are named by their content. */
static bool image_digest(const char *path, struct digest *ret_digest)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL && digest_parse(slash + 1, ret_digest) == 0;
}

/* ",bps=1B,bps-max=2B,iops=3,iops-max=4" of what is limited, each word with a prefix */
static size_t add_limit(char *text,
                        size_t size,
                        const char *prefix,
                        const char *operations,
                        const struct engine_limit *limit)
{
    const struct {
        const char *prefix;
        const char *word;
        const char *tail;
        uint64_t value;
        const char *unit;
    } parts[] = {
        {prefix, "bps", "", limit->bytes, "B"},
        {prefix, "bps", "-max", limit->bytes_burst, "B"},
        {prefix, operations, "", limit->operations, ""},
        {prefix, operations, "-max", limit->operations_burst, ""},
    };
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        if (parts[i].value != 0) {
            int length = snprintf(text + used, size - used, ",%s%s%s=%" PRIu64 "%s",
                                  parts[i].prefix, parts[i].word, parts[i].tail,
                                  parts[i].value, parts[i].unit);
            REQUIRE(length > 0 && (size_t)length < size - used); /* see LIMIT_TEXT */
            used += (size_t)length;
        }
    }
    return used;
}

static void
add_disk(struct argument_list *list, const struct engine_vm *vm, uint32_t i, int *at)
{
    char base[DIGEST_HEX_SIZE + 32] = "";
    char hex[DIGEST_HEX_SIZE];
    struct digest digest;
    const bool read_only = vm->disks[i].read_only;
    const int file = (*at)++;
    if (vm->disks[i].from == DISK_FROM_IMAGE && !read_only) {
        const bool named = image_digest(vm->disk_path, &digest);
        if (named) {
            digest_format(&digest, hex);
        }
        (void)snprintf(base, sizeof(base), ",base=fd:%d%s%s", (*at)++,
                       named ? ",digest=" : "", named ? hex : ""); /* fits */
    }
    argument_list_add(list, "--disk");
    char limit[LIMIT_TEXT] = "";
    if (i < vm->limits.disk_count) {
        (void)add_limit(limit, sizeof(limit), "", "iops", &vm->limits.disks[i].limit);
    }
    argument_list_add(list, "name=%s,%s=fd:%d%s%s%s", vm->disks[i].name,
                      read_only ? "raw" : "overlay", file,
                      read_only ? ",read-only=yes" : "", base, limit);
}

static void add_nic(struct argument_list *list,
                    const struct engine_vm *vm,
                    uint32_t i,
                    const struct engine_kvm_tap *tap,
                    int *at)
{
    char mac[MAC_TEXT_SIZE];
    char limit[2 * LIMIT_TEXT] = "";
    format_mac(vm->nics[i].mac, mac);
    if (i < vm->limits.nic_count) {
        const struct engine_limit *each = &vm->limits.nics[i];
        size_t used = add_limit(limit, LIMIT_TEXT, "rx-", "pps", each);
        (void)add_limit(limit + used, LIMIT_TEXT, "tx-", "pps", each);
    }
    argument_list_add(list, "--nic");
    char queues[32] = "";
    char vhost[32] = "";
    if (tap->queues > 1) {
        (void)snprintf(queues, sizeof(queues), ",queues=%" PRIu32, tap->queues);
    }
    if (tap->has_vhost) {
        (void)snprintf(vhost, sizeof(vhost), ",vhost=fd:%d", *at + (int)tap->queues);
    }
    argument_list_add(list, "tap=fd:%d,mac=%s,mtu=%" PRIu32 "%s%s%s", *at, mac, tap->mtu,
                      queues, vhost, limit);
    *at += (int)(tap->has_vhost ? 2 * tap->queues : tap->queues);
}

static void add_descriptor(struct argument_list *list, const char *option, int *at)
{
    argument_list_add(list, "%s", option);
    argument_list_add(list, "fd:%d", (*at)++);
}

uint32_t engine_kvm_queues(uint32_t cpu_count)
{
    return cpu_count < 1                      ? 1
           : cpu_count > VIRTIO_NET_PAIRS_MAX ? VIRTIO_NET_PAIRS_MAX
                                              : cpu_count;
}

/* With places for others it is another machine, to which snapshots of it can go back. So
 * where more may come one at least does: before the guest begins (engine_qmp_cpus.c). */
static void add_cpus(struct argument_list *list, const struct engine_vm *vm)
{
    if (vm->cpu_max < 2) {
        argument_list_add(list, "%" PRIu32, vm->cpu_count);
        return;
    }
    argument_list_add(list, "count=%" PRIu32 ",max=%" PRIu32,
                      vm->cpu_count < vm->cpu_max ? vm->cpu_count : vm->cpu_max - 1,
                      vm->cpu_max);
}

char **engine_kvm_arguments(const struct engine_host *host,
                            const struct engine_vm *vm,
                            const struct engine_kvm_tap *taps)
{
    struct argument_list list;
    int at = VM_PROCESS_GIVEN_AT;
    argument_list_init(&list);
    argument_list_add(&list, "%s", ENGINE_KVM_PROGRAM);
    argument_list_add(&list, "--name");
    argument_list_add(&list, "%s/%s", vm->tenant, vm->name);
    argument_list_add(&list, "--hold");
    argument_list_add(&list, "--keep-end");
    argument_list_add(&list, "--cpus");
    add_cpus(&list, vm);
    if (vm->cpu_baseline != CPU_BASELINE_HOST) {
        argument_list_add(&list, "--cpu");
        argument_list_add(&list, "%s", cpu_baseline_names[vm->cpu_baseline]);
    }
    argument_list_add(&list, "--memory");
    argument_list_add(&list, "%s%" PRIu64 "MiB%s", vm->memory_is_huge ? "size=" : "",
                      vm->memory_bytes / MIB, vm->memory_is_huge ? ",huge=2M" : "");
    argument_list_add(&list, "--cmdline");
    argument_list_add(&list, "%s%s%s", CMDLINE_ALWAYS, vm->cmdline[0] != '\0' ? " " : "",
                      vm->cmdline);
    if (host->first_uid != 0) {
        argument_list_add(&list, "--uids");
        argument_list_add(&list, "%" PRIu32, host->first_uid);
    }
    add_descriptor(&list, "--kvm", &at);
    add_descriptor(&list, "--kernel", &at);
    if (vm->initrd_path[0] != '\0') {
        add_descriptor(&list, "--initrd", &at);
    }
    add_descriptor(&list, "--qmp", &at);
    add_descriptor(&list, "--serial", &at);
    argument_list_add(&list, "--vsock");
    argument_list_add(&list, "cid=%" PRIu64 ",listen=fd:%d", VSOCK_CID_MIN, at++);
    if (vm->memory_path[0] != '\0') {
        add_descriptor(&list, "--incoming", &at);
        if (vm->memory_is_lazy) {
            argument_list_add(&list, "--lazy");
        }
    }
    for (uint32_t i = 0; i < vm->disk_count; i++) {
        add_disk(&list, vm, i, &at);
    }
    for (uint32_t i = 0; i < vm->nic_count; i++) {
        add_nic(&list, vm, i, &taps[i], &at);
    }
    return argument_list_take(&list);
}

/* ---- what it is given: in the same order ---- */

struct gift {
    int fds[VM_PROCESS_GIVEN_MAX];
    unsigned count;
    struct engine_kvm_tap taps[NICS_MAX];
};

static void gift_close(struct gift *gift)
{
    for (unsigned i = 0; i < gift->count; i++) {
        fd_close(&gift->fds[i]);
    }
    gift->count = 0;
}

/* Keeps a descriptor, or hands its error on. */
static int gift_add(struct gift *gift, int fd)
{
    if (fd < 0) {
        return fd;
    }
    if (gift->count == VM_PROCESS_GIVEN_MAX) { /* the limits of a VM are far below */
        fd_close(&fd);
        return BERTH_EFULL;
    }
    gift->fds[gift->count++] = fd;
    return 0;
}

static int gift_file(struct gift *gift, const char *path, int flags, struct err *err)
{
    return gift_add(gift, fd_open_at(AT_FDCWD, path, flags, 0, err));
}

/* What was in it, if it was unpacked: that starts faster. */
static int gift_kernel(struct gift *gift, const char *path, struct err *err)
{
    char unpacked[ENGINE_PATH_SIZE];
    if (kernel_unpacked_path(path, unpacked, sizeof(unpacked))) {
        const int fd = fd_open_at(AT_FDCWD, unpacked, O_RDONLY, 0, NULL);
        if (fd >= 0) {
            return gift_add(gift, fd);
        }
    }
    return gift_file(gift, path, O_RDONLY, err);
}

static int gift_listener(struct gift *gift,
                         const struct engine_qmp_run *run,
                         const char *name,
                         struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    char where[ENGINE_PATH_SIZE + 8];
    engine_qmp_path(run, name, path);
    (void)snprintf(where, sizeof(where), "unix:%s", path); /* fits */
    return gift_add(gift, vmm_open_listener(where, err));
}

/* "<folder>/disk-<name>.overlay<tail>" */
static void disk_path(const struct engine_vm *vm,
                      const struct engine_disk *disk,
                      const char *tail,
                      char ret_path[ENGINE_PATH_SIZE])
{
    (void)snprintf(ret_path, ENGINE_PATH_SIZE, "%s/disk-%s.overlay%s", vm->folder,
                   disk->name, tail); /* fits */
}

static int gift_disk(struct gift *gift,
                     const struct engine_vm *vm,
                     const struct engine_disk *disk,
                     struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    if (disk->read_only) {
        return gift_file(gift, vm->disk_path, O_RDONLY, err);
    }
    disk_path(vm, disk, "", path);
    int r = gift_file(gift, path, O_RDWR, err);
    return r == 0 && disk->from == DISK_FROM_IMAGE
               ? gift_file(gift, vm->disk_path, O_RDONLY, err)
               : r;
}

static uint32_t mtu_of(const char *tap)
{
    struct ifreq request = {0};
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap);
    return fd >= 0 && ioctl(fd, SIOCGIFMTU, &request) == 0 && request.ifr_mtu >= 68
               ? (uint32_t)request.ifr_mtu
               : MTU_DEFAULT;
}

/* One of the kernel's devices for each queue, or none: a host without them, or without
 * enough, is as good, only slower. */
static void gift_vhost(struct gift *gift, struct engine_kvm_tap *tap)
{
    const unsigned before = gift->count;
    int r = 0;
    for (uint32_t at = 0; r == 0 && at < tap->queues; at++) {
        r = gift_add(gift, fd_open_at(AT_FDCWD, ENGINE_KVM_VHOST, O_RDWR, 0, NULL));
    }
    tap->has_vhost = r == 0;
    while (r < 0 && gift->count > before) {
        fd_close(&gift->fds[--gift->count]);
    }
}

static int
gift_tap(struct gift *gift, const struct engine_vm *vm, uint32_t i, struct err *err)
{
    int fds[VIRTIO_NET_PAIRS_MAX];
    const char *tap = vm->nics[i].tap;
    const int count =
        tap_open_fds(tap, fds, engine_kvm_queues(engine_vm_cpus_most(vm)), err);
    int r = count < 0 ? count : 0;
    for (int at = 0; at < count; at++) {
        const int added = gift_add(gift, fds[at]); /* takes it in any case */
        r = r < 0 ? r : added;
    }
    if (r < 0) {
        return r;
    }
    gift->taps[i] = (struct engine_kvm_tap){mtu_of(tap), (uint32_t)count, false};
    gift_vhost(gift, &gift->taps[i]);
    return 0;
}

static int gift_make(struct gift *gift, const struct engine_qmp_run *run, struct err *err)
{
    const struct engine_vm *vm = &run->vm;
    int r = gift_file(gift, ENGINE_KVM_DEVICE, O_RDWR, err);
    r = r < 0 ? r : gift_kernel(gift, vm->kernel_path, err);
    if (r == 0 && vm->initrd_path[0] != '\0') {
        r = gift_file(gift, vm->initrd_path, O_RDONLY, err);
    }
    r = r < 0 ? r : gift_listener(gift, run, "qmp.sock", err);
    r = r < 0 ? r : gift_listener(gift, run, "console.sock", err);
    r = r < 0 ? r : gift_listener(gift, run, "vsock.sock", err);
    if (r == 0 && vm->memory_path[0] != '\0') {
        r = gift_file(gift, vm->memory_path, O_RDONLY, err);
    }
    for (uint32_t i = 0; r == 0 && i < vm->disk_count; i++) {
        r = gift_disk(gift, vm, &vm->disks[i], err);
    }
    for (uint32_t i = 0; r == 0 && i < vm->nic_count; i++) {
        r = gift_tap(gift, vm, i, err);
    }
    return r;
}

/* ---- disks ---- */

/* A file that is whole under its name, or not there. */
static int
disk_make(const struct engine_vm *vm, const struct engine_disk *disk, struct err *err)
{
    char made[ENGINE_PATH_SIZE];
    char path[ENGINE_PATH_SIZE];
    struct digest digest = {{0}};
    CLEANUP_FD int base = -1;
    disk_path(vm, disk, ".new", made);
    disk_path(vm, disk, "", path);
    if (disk->read_only || access(path, F_OK) == 0) {
        return 0; /* of an earlier run on this host: it is used again */
    }
    if (vm->disks_are_there) {
        return err_set(err, BERTH_ENOTFOUND, "that of an earlier run is gone: no file %s",
                       path);
    }
    if (disk->from == DISK_FROM_IMAGE) {
        base = fd_open_at(AT_FDCWD, vm->disk_path, O_RDONLY, 0, err);
        if (base < 0) {
            return base;
        }
        (void)image_digest(vm->disk_path, &digest); /* else all zeros: it has no name */
    }
    (void)unlink(made); /* what a crash left is made anew */
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, made, O_RDWR | O_CREAT | O_EXCL, 0600, err);
    int r = fd < 0 ? fd : overlay_file_make(fd, disk->size_bytes, base, &digest, err);
    if (r == 0 && rename(made, path) != 0) {
        r = err_sys(err, -errno, "name it");
    }
    if (r < 0) {
        (void)unlink(made); /* may not be there */
    }
    return r;
}

struct kvm_run {
    struct engine_qmp_run run; /* first */
    struct disks_job *making;  /* NULL: none is under way */
};

/* A VM's disks on their way: those of a TiB are 64 MiB of bitmap that have to be durable,
 * behind all else that the host's disk has to write. It outlives a run that was given up,
 * and until it is over the folder is locked: nobody makes or removes disks there. */
struct disks_job {
    struct work_job job;
    struct kvm_run *run; /* NULL: given up; the loop's, as is: */
    int lock;            /* -1: the VM has none */
    struct engine_vm vm;
    char
        fault[ENGINE_REASON_SIZE]; /* "": all are there; the thread's, until it is over */
};

static struct kvm_run *kvm_of(struct engine_qmp_run *run)
{
    REQUIRE(run->run.ops == &engine_kvm);
    return (struct kvm_run *)(void *)run;
}

static void disks_run(struct work_job *job)
{
    struct disks_job *disks = LIST_ITEM(job, struct disks_job, job);
    struct err err = {0};
    int r = 0;
    vm_disks_sweep(disks->vm.folder); /* for the room of those before */
    for (uint32_t i = 0; r == 0 && i < disks->vm.disk_count && !work_job_cancelled(job);
         i++) {
        r = disk_make(&disks->vm, &disks->vm.disks[i], &err);
        if (r < 0) {
            (void)snprintf(disks->fault, sizeof(disks->fault), "make disk %.40s: %.140s",
                           disks->vm.disks[i].name, err.text);
        }
    }
}

static struct disks_job *disks_job_free(struct disks_job *disks)
{
    if (disks != NULL) {
        fd_close(&disks->lock);
        free(disks);
    }
    return NULL;
}

static void disks_done(struct work_job *job, int code)
{
    struct disks_job *disks = LIST_ITEM(job, struct disks_job, job);
    struct kvm_run *run = disks->run;
    char fault[ENGINE_REASON_SIZE];
    memcpy(fault, disks->fault, sizeof(fault));
    if (code < 0) {
        (void)snprintf(fault, sizeof(fault), "make its disks: %s", err_sentence(code));
    }
    disks_job_free(disks);
    if (run == NULL) {
        return;
    }
    run->making = NULL;
    if (fault[0] != '\0') {
        engine_qmp_failed(&run->run, fault);
    } else {
        engine_qmp_prepared(&run->run);
    }
}

static void kvm_prepare(struct engine_qmp_run *base)
{
    struct kvm_run *run = kvm_of(base);
    struct disks_job *disks = calloc(1, sizeof(*disks));
    if (disks == NULL) {
        engine_qmp_failed(base, "make its disks: out of memory");
        return;
    }
    disks->lock = base->vm.lock > 0 ? fcntl(base->vm.lock, F_DUPFD_CLOEXEC, 0) : -1;
    if (base->vm.lock > 0 && disks->lock < 0) {
        disks_job_free(disks);
        engine_qmp_failed(base, "make its disks: no descriptor is left for its lock");
        return;
    }
    disks->run = run;
    disks->vm = base->vm;
    run->making = disks;
    work_pool_submit(base->host->pool, &disks->job, disks_run, disks_done);
}

static void kvm_abandon(struct engine_qmp_run *base)
{
    struct kvm_run *run = kvm_of(base);
    if (run->making != NULL) {
        run->making->run = NULL;
        work_pool_cancel(base->host->pool, &run->making->job);
        run->making = NULL;
    }
}

/* ---- the process ---- */

static struct vm_process *
kvm_spawn(struct engine_qmp_run *run, struct vm_process_spec *spec, struct err *err)
{
    struct vm_process *process = NULL;
    struct gift gift = {.count = 0};
    char program[PATH_MAX];
    char **arguments = NULL;
    if (gift_make(&gift, run, err) == 0) {
        arguments = engine_kvm_arguments(run->host, &run->vm, gift.taps);
        if (arguments == NULL) {
            (void)err_set(err, -ENOMEM, "out of memory");
        }
    }
    if (arguments != NULL) {
        spec->argv = (const char *const *)(uintptr_t)arguments;
        spec->program = program_path_beside(ENGINE_KVM_PROGRAM, program) ? program : NULL;
        spec->own_pids = true;
        spec->given = gift.fds;
        spec->given_count = gift.count;
        process = engine_qmp_spawn(run, spec, err);
    }
    argument_list_free(arguments);
    gift_close(&gift); /* the process has its own */
    return process;
}

static const struct engine_qmp_kind kvm_kind = {
    .ops = &engine_kvm,
    .title = ENGINE_KVM_PROGRAM,
    .begins_limited = true,
    .limits_nics = true,
    .counts_all = true,
    .plugs_cpus = true,
    .run_bytes = sizeof(struct kvm_run),
    .prepare = kvm_prepare,
    .abandon = kvm_abandon,
    .spawn = kvm_spawn,
};

/* ---- the engine ---- */

static bool in_path(void)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it while we run */
    const char *path = getenv("PATH");
    path = path == NULL ? "/usr/bin:/bin" : path;
    while (*path != '\0') {
        char program[PATH_MAX];
        size_t length = strcspn(path, ":");
        int written = snprintf(program, sizeof(program), "%.*s/" ENGINE_KVM_PROGRAM,
                               (int)length, path);
        if (written > 0 && written < PATH_MAX && access(program, X_OK) == 0) {
            return true;
        }
        path += length + (path[length] == ':');
    }
    return false;
}

bool engine_kvm_is_here(void)
{
    char program[PATH_MAX];
    return program_path_beside(ENGINE_KVM_PROGRAM, program) || in_path();
}

static int machine_check(const struct engine_vm *vm, struct err *err)
{
    if (vm->kernel_path[0] == '\0') {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "engine kvm boots a kernel, which the image lacks: %s",
                       vm->memory_is_huge || vm->cpu_baseline != CPU_BASELINE_HOST
                           ? "give it one, or ask for no huge pages and no baseline, and "
                             "for engine qemu"
                           : "give it one, or ask for engine qemu");
    }
    if (engine_vm_cpus_most(vm) > MACHINE_CPUS_MAX) {
        return err_set(err, BERTH_EUNSUPPORTED, "engine kvm: more than %u CPUs",
                       MACHINE_CPUS_MAX);
    }
    if (vm->memory_bytes < MACHINE_MEMORY_MIN || vm->memory_bytes > MACHINE_MEMORY_MAX ||
        vm->memory_bytes % MEMORY_STEP != 0) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "engine kvm: memory is 32MiB to 256GiB in steps of 2MiB");
    }
    return 0;
}

static int
disk_check(const struct engine_vm *vm, const struct engine_disk *disk, struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/disk-%s.qcow2", vm->folder, disk->name);
    if (access(path, F_OK) == 0) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "disk %s is a qcow2 that engine qemu has made", disk->name);
    }
    if (disk->from != DISK_FROM_IMAGE) {
        return 0;
    }
    if (vm->disk_path[0] == '\0') {
        return err_set(err, BERTH_EINVALID, "disk %s is from the image, which has none",
                       disk->name);
    }
    return vm->disk_is_qcow2
               ? err_set(err, BERTH_EUNSUPPORTED,
                         "disk %s is over a qcow2 image; engine kvm needs a raw one",
                         disk->name)
               : 0;
}

static int
kvm_check(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    int r = engine_vm_check(vm, err);
    r = r < 0 ? r : machine_check(vm, err);
    for (uint32_t i = 0; r == 0 && i < vm->disk_count; i++) {
        r = disk_check(vm, &vm->disks[i], err);
    }
    if (r < 0) {
        return r;
    }
    if (host->kvm != KVM_NATIVE) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "engine kvm needs native KVM, here it is: %s",
                       kvm_kind_names[host->kvm]);
    }
    return engine_kvm_is_here()
               ? 0
               : err_set(err, BERTH_EUNSUPPORTED, ENGINE_KVM_PROGRAM " is not installed");
}

static struct engine_run *kvm_start(const struct engine_host *host,
                                    const struct engine_vm *vm,
                                    struct console_ring *console,
                                    const struct engine_events *events,
                                    void *context,
                                    struct err *err)
{
    return kvm_check(host, vm, err) != 0
               ? NULL
               : engine_qmp_start(&kvm_kind, host, vm, console, events, context, err);
}

static struct engine_run *kvm_adopt(const struct engine_host *host,
                                    const struct engine_vm *vm,
                                    const struct vm_process_identity *identity,
                                    struct console_ring *console,
                                    const struct engine_events *events,
                                    void *context,
                                    struct err *err)
{
    return engine_qmp_adopt(&kvm_kind, host, vm, identity, console, events, context, err);
}

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .engine = ENGINE_KVM,
    .disk_tail = ".overlay",
    .check = kvm_check,
    .start = kvm_start,
    .adopt = kvm_adopt,
    .release = engine_qmp_release,
    .cont = engine_qmp_cont,
    .pause = engine_qmp_pause,
    .save = engine_qmp_save,
    .save_cancel = engine_qmp_save_cancel,
    .limit = engine_qmp_limit,
    .plug = engine_qmp_plug,
    .stop = engine_qmp_stop,
    .kill = engine_qmp_kill,
    .freeze = engine_qmp_freeze,
    .sample = engine_qmp_sample,
    .stats = engine_qmp_stats,
    .know = engine_qmp_know,
    .console_write = engine_qmp_console_write,
    .close = engine_qmp_close,
};
