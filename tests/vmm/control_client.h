/* A client of QMP, and a machine that it drives: kernels of a few bytes on a real KVM.
 *
 * setup and teardown are the fixture's; a test makes its machine between them, with what
 * it is to have set before, and says and hears what a client would.
 */
#pragma once

#include "busy_disk.h"
#include "micro_kernel.h"
#include "support/temp_dir.h"
#include "vmm/disk_faults.h"
#include "vmm/vmm_control.h"

#include <check.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int kvm_fd;
static struct temp_dir dir;
static struct poller *poller;
static struct machine *machine;
static struct vmm_control control;
static struct boot_trace trace;
static int client;
static char heard[8192];
static size_t heard_size;
static const char *unwanted; /* NULL, or what must not come before what is heard */

static inline void on_ended(void *context, enum machine_end end, const char *reason)
{
    vmm_control_ended(context, end, reason);
}

static inline void on_reset(void *context)
{
    vmm_control_reset(context);
}

static inline void on_paused(void *context)
{
    vmm_control_paused(context);
}

static inline void on_crash_loaded(void *context)
{
    vmm_control_crash_loaded(context);
}

static struct disk_faults faults; /* of the disk that is watched */
static bool is_watched;

static inline void on_leaves(void *context, const struct virtio_device *device)
{
    vmm_control_leaves(context, device);
    disk_faults_remove(&faults, device);
}

static inline void on_unplugged(void *context, const char *name)
{
    vmm_control_unplugged(context, name);
}

static uint64_t plug_bytes; /* of the machine that is made next */
static unsigned plug_cpus;
static enum cpu_level cpu_level;

static inline void make(const void *code, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct machine_plan plan = {.kvm_fd = kvm_fd,
                                      .cpu_count = 1,
                                      .memory_bytes = UINT64_C(32) << 20,
                                      .plug_bytes = plug_bytes,
                                      .plug_cpus = plug_cpus,
                                      .cpu_level = cpu_level,
                                      .kernel_fd = micro_kernel(code, size),
                                      .initrd_fd = -1,
                                      .cmdline = "",
                                      .poller = poller,
                                      .events = {.ended = on_ended,
                                                 .reset = on_reset,
                                                 .paused = on_paused,
                                                 .crash_loaded = on_crash_loaded,
                                                 .leaves = on_leaves,
                                                 .unplugged = on_unplugged,
                                                 .context = &control},
                                      .trace = &trace};
    boot_trace_begin(&trace);
    ck_assert_int_eq(machine_new(&plan, &machine, NULL), 0);
    ck_assert_int_eq(machine_load(machine, NULL), 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/qmp", dir.path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(vmm_control_open(&control, machine, poller, "web-1", listener, NULL),
                     0);
    control.trace = &trace;
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
}

static inline void setup(void)
{
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    temp_dir_init(&dir);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    heard_size = 0;
    unwanted = NULL;
    is_watched = false;
    plug_bytes = 0;
    plug_cpus = 0;
    cpu_level = CPU_HOST;
    busy_disk_clear();
}

static inline void teardown(void)
{
    busy_disk_clear();
    (void)close(client);
    vmm_control_close(&control);
    machine = machine_free(machine);
    if (is_watched) {
        disk_faults_fini(&faults);
    }
    poller_free(poller);
    temp_dir_fini(&dir);
    (void)close(kvm_fd);
}

/* Steps until the client has heard the words; what came before them is forgotten. */
static inline void hear(const char *words)
{
    for (;;) {
        ssize_t got = recv(client, heard + heard_size, sizeof(heard) - 1 - heard_size,
                           MSG_DONTWAIT);
        heard_size += got > 0 ? (size_t)got : 0;
        heard[heard_size] = '\0';
        const char *found = strstr(heard, words);
        if (found != NULL) {
            const char *bad = unwanted != NULL ? strstr(heard, unwanted) : NULL;
            ck_assert(bad == NULL || bad >= found);
            found += strlen(words);
            heard_size -= (size_t)(found - heard);
            memmove(heard, found, heard_size + 1);
            return;
        }
        ck_assert_int_ge(poller_step(poller, 100), 0);
    }
}

static inline void ask(const char *command)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "{\"execute\":\"%s\"}", command);
    ck_assert_int_eq(send(client, text, strlen(text), MSG_NOSIGNAL), (int)strlen(text));
}

static inline void meet(void)
{
    hear("{\"QMP\"");
    ask("qmp_capabilities");
    hear("{\"return\":{}}");
}

static const uint8_t jump[] = {0xeb, 0xfe}; /* 1: jmp 1b */

#define OUT(port, value) 0x66, 0xba, (port)&0xff, (port) >> 8, 0xb0, (value), 0xee

/* A command with arguments, and a descriptor with it unless that is -1. */
static inline void ask_with(const char *command, const char *arguments, int descriptor)
{
    char text[256];
    union {
        struct cmsghdr part;
        char room[CMSG_SPACE(sizeof(int))];
    } with = {.part = {.cmsg_len = CMSG_LEN(sizeof(int)),
                       .cmsg_level = SOL_SOCKET,
                       .cmsg_type = SCM_RIGHTS}};
    (void)snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"arguments\":%s}", command,
                   arguments);
    struct iovec piece = {text, strlen(text)};
    struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memcpy(CMSG_DATA(&with.part), &descriptor, sizeof(descriptor));
        header.msg_control = &with;
        header.msg_controllen = sizeof(with.room);
    }
    ck_assert_int_eq(sendmsg(client, &header, MSG_NOSIGNAL), (int)strlen(text));
}
