/* Real QEMU (TCG) under a supervisor in this loop.
 *
 * Its guest is a boot sector that talks on the serial port, echoes, powers off on 'q' and
 * on the power button: no kernel, no network, nothing to install but QEMU, without which
 * a main skips (qemu_is_here). `setup` and `teardown` are a test's checked fixture;
 * wait_* turn the loop until what they name is there, bounded by the fixture's deadline.
 */
#pragma once

#include "agent/engine_qemu.h"
#include "agent/vm_record.h"
#include "agent/vm_supervisor.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UID 7

/* Says "boot sector", enables the power button, then: echoes what the serial port gets,
 * powers off (q35's port 0x604) on 'q' and when the button's bit shows in port 0x600. */
static const uint8_t boot_sector[] = {
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xba, 0xf9, 0x03, 0xee, 0xbe, 0x42, 0x7c, 0xac, 0x84,
    0xc0, 0x74, 0x06, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, 0xba, 0x02, 0x06, 0xb8, 0x00,
    0x01, 0xef, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0x09, 0xba, 0xf8, 0x03, 0xec,
    0x3c, 0x71, 0x74, 0x0a, 0xee, 0xba, 0x00, 0x06, 0xed, 0xa9, 0x00, 0x01, 0x74, 0xe6,
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd, 'b',  'o',  'o',  't',
    ' ',  's',  'e',  'c',  't',  'o',  'r',  '\r', '\n', 0,
};

/* Writes a sector into each of 31 clusters of its disk (int 0x13, function 0x43), then
 * says "w", or "e" when a write failed. */
static const uint8_t writes[] = {
    0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x2c, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80,
    0xcd, 0x13, 0x72, 0x17, 0x81, 0x06, 0x34, 0x7c, 0x80, 0x00, 0x81, 0x3e,
    0x34, 0x7c, 0x00, 0x10, 0x72, 0xe6, 0xb0, 'w',  0xba, 0xf8, 0x03, 0xee,
    0xf4, 0xeb, 0xfd, 0xb0, 'e',  0xeb, 0xf5, 0x00, 0x10, 0x00, 0x01, 0x00,
    0x00, 0x7c, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};

static const struct engine_ops *const engines[] = {&engine_qemu, NULL};

struct bench {
    struct temp_dir dir;
    uv_loop_t loop;
    struct loop_timer *deadline;
    struct loop_timer *tick;
    struct vm_supervisor *supervisor;
    uint64_t ending_ms; /* of the engine; 0: as always */
};

static struct bench bench;

static inline void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static inline void on_tick(void *context)
{
    (void)context;
}

static inline void on_changed(void *context, const struct vm_report *report)
{
    (void)context;
    (void)report;
}

static inline void open_supervisor(void)
{
    struct err err = {0};
    const struct vm_supervisor_config config = {
        .host = {.loop = &bench.loop,
                 .clock = clock_system(),
                 .kvm = KVM_NONE,
                 .ending_ms = bench.ending_ms},
        .folder = bench.dir.path,
        .engines = engines,
        .changed = on_changed,
    };
    bench.supervisor = vm_supervisor_open(&config, &err);
    ck_assert_msg(bench.supervisor != NULL, "%s", err.text);
}

static inline void close_supervisor(void)
{
    bench.supervisor = vm_supervisor_close(bench.supervisor);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
}

static inline void open_loop(void)
{
    ck_assert_int_eq(uv_loop_init(&bench.loop), 0);
    bench.deadline = loop_timer_new(&bench.loop, 80000, 0, on_deadline, NULL);
    bench.tick = loop_timer_new(&bench.loop, 5, 5, on_tick, NULL);
}

static inline void write_image(const uint8_t *sector, size_t size)
{
    static uint8_t image[MIB];
    char *path = temp_dir_path(&bench.dir, "image.raw");
    memset(image, 0, 510);
    memcpy(image, sector, size);
    image[510] = 0x55;
    image[511] = 0xaa;
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(image, 1, sizeof(image), file), sizeof(image));
    ck_assert_int_eq(fclose(file), 0);
    free(path);
}

static inline void setup(void)
{
    memset(&bench, 0, sizeof(bench));
    signal(SIGPIPE, SIG_IGN);
    temp_dir_init_guarded(&bench.dir);
    write_image(boot_sector, sizeof(boot_sector));
    open_loop();
    open_supervisor();
}

static inline void kill_one(void *context, const struct vm_report *report)
{
    (void)context;
    if (report->pid > 0) {
        (void)kill(report->pid, SIGKILL);
    }
}

static inline void teardown(void)
{
    if (bench.supervisor != NULL) {
        vm_supervisor_each(bench.supervisor, kill_one, NULL);
    }
    close_supervisor();
    bench.deadline = loop_timer_close(bench.deadline);
    bench.tick = loop_timer_close(bench.tick);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench.loop), 0);
    temp_dir_fini(&bench.dir);
}

static inline struct vm_order order_of(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = {
        .vm = {.uid = uid,
               .epoch = epoch,
               .name = "web-1",
               .tenant = "shop",
               .cpu_count = 1,
               .cpu_weight = 100,
               .memory_bytes = 64 * MIB},
        .engine = ENGINE_AUTO,
        .fenced = true,
        .stop_grace_ms = 60000,
        .probe_pass = 1,
        .probe_fail = 1,
    };
    (void)snprintf(order.vm.disk_path, sizeof(order.vm.disk_path), "%s/image.raw",
                   bench.dir.path);
    return order;
}

static inline void start(const struct vm_order *order, bool hold)
{
    struct err err = {0};
    int r = vm_supervisor_start(bench.supervisor, order, hold, &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static inline struct vm_report report_of(uint64_t uid)
{
    struct vm_report report;
    ck_assert(vm_supervisor_report(bench.supervisor, uid, &report));
    return report;
}

static inline struct vm_report wait_phase(uint64_t uid, enum phase phase)
{
    while (report_of(uid).phase != phase) {
        ck_assert_msg(phase == PHASE_FAILED || report_of(uid).phase != PHASE_FAILED, "%s",
                      report_of(uid).reason);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return report_of(uid);
}

static inline void wait_console(uint64_t uid, const char *want)
{
    char text[4096];
    for (;;) {
        uint64_t offset = 0;
        size_t count = console_ring_read(vm_supervisor_console(bench.supervisor, uid),
                                         &offset, text, sizeof(text) - 1);
        text[count] = '\0';
        if (strstr(text, want) != NULL) {
            return;
        }
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static inline void type(uint64_t uid, const char *text)
{
    while (vm_supervisor_console_write(bench.supervisor, uid, text, strlen(text), NULL) !=
           0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static inline struct vm_report boot(uint64_t uid)
{
    struct vm_order order = order_of(uid, 1);
    start(&order, false);
    wait_console(uid, "boot sector");
    return wait_phase(uid, PHASE_READY);
}

static inline void wait_reason(uint64_t uid, const char *part)
{
    while (strstr(report_of(uid).reason, part) == NULL) {
        ck_assert_msg(report_of(uid).phase != PHASE_FAILED, "%s", report_of(uid).reason);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static inline bool qemu_is_here(void)
{
    return system("command -v qemu-system-x86_64 >/dev/null &&"
                  " command -v qemu-img >/dev/null") == 0;
}
