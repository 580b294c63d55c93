/* A VM process that is driven by QMP: what the engines qemu and kvm have in common.
 *
 * An engine brings a `struct engine_qmp_kind`: how its disks are made, and how its
 * process is spawned. Everything after that is here, with no word about which program it
 * is: the gate, QMP's connection and its loss, events, resets in a row, a full disk, the
 * power button and the grace, the console. So both engines tell the same of the same
 * guest.
 *
 *     start -> prepare ... engine_qmp_prepared -> spawn -> (engine.h's events)
 *                      \-> engine_qmp_failed -> exited
 *
 * Shapes: an engine's own run begins with `struct engine_qmp_run`, whose fields are for
 * the engine to read. The program listens at qmp.sock and console.sock in the VM's folder
 * and writes to engine.log there. Threads, callbacks, errors: engine.h's. Ownership: the
 * run is freed by engine_qmp_close; the engine's own part is given back by its `abandon`.
 */
#pragma once

#include "agent/engine.h"
#include "agent/qmp_client.h"
#include "agent/qmp_save.h"
#include "agent/reset_count.h"
#include "agent/vm_process.h"
#include "base/loop.h"
#include "base/require.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine_qmp_run;
struct qmp_stats;

struct engine_qmp_kind {
    const struct engine_ops *ops;
    const char *title; /* of the program, in reasons: "QEMU" */
    size_t run_bytes;  /* of the engine's own run */
    /* The program appends all that its console says to ENGINE_SERIAL_LOG; else it keeps
     * the last of it and says it again to who connects. */
    bool has_serial_log;
    bool finds_disks;    /* by their files, for they have no names in QMP */
    bool begins_limited; /* spawn gives the limits; else they are told before `held` */
    bool limits_nics;
    bool counts_all; /* it is berth-vmm, which counts more than QEMU */
    bool plugs_cpus; /* it has places for vm.cpu_max CPUs */
    /* Makes what the process needs. Ends, at once or later, with engine_qmp_prepared or
     * engine_qmp_failed. */
    void (*prepare)(struct engine_qmp_run *run);
    /* Ends what prepare has begun, or nothing. */
    void (*abandon)(struct engine_qmp_run *run);
    /* Completes the spec with arguments and descriptors, and calls engine_qmp_spawn. */
    struct vm_process *(*spawn)(struct engine_qmp_run *run,
                                struct vm_process_spec *spec,
                                struct err *err);
};

struct engine_qmp_run {
    struct engine_run run;
    const struct engine_qmp_kind *kind;
    const struct engine_host *host;
    struct engine_vm vm;
    /* private from here on */
    struct engine_events events;
    void *context;
    struct console_ring *console;
    struct console_link *link;
    struct vm_process *process;
    struct qmp_client *qmp;
    struct loop_timer *begin;     /* start's first step, then its deadline */
    struct loop_timer *unheard;   /* from its first cont until it runs */
    unsigned unheard_looks;       /* that it had meanwhile */
    struct loop_timer *grace;     /* of a stop */
    uint64_t grace_end_ms;        /* loop time */
    struct loop_timer *powerdown; /* asks the guest again and again */
    struct loop_timer *again;     /* connects QMP, or asks for the status, again */
    struct loop_timer *recheck;   /* while it waits: lets it try again */
    struct loop_timer *ending;    /* it was asked to end itself: until it is killed */
    bool preparing;
    bool adopted;
    bool unbegun; /* adopted, and found before its first cont */
    bool held_told;
    bool running;
    bool stopping;
    bool killed;
    bool frozen;
    bool guest_off; /* the guest powered itself off; the program waits to be ended */
    bool panicked;
    bool faulted;    /* panicked without a word: a triple fault, or resets in a row */
    bool disk_fault; /* it stops, or has stopped, because a disk cannot be written */
    bool waiting;    /* told: it stands still because of that */
    bool pausing;    /* it was told to stand still, and has not answered */
    struct reset_count resets;
    bool late; /* as in engine_exit, both */
    bool unwritten;
    struct engine_limits limits;   /* as the process has them, or is to be told */
    bool limits_due;               /* it is */
    bool disks_asked;              /* for that; the answer is on its way */
    bool status_due;               /* is asked for behind it */
    uint32_t cpus_wanted;          /* 0: as it was started */
    uint32_t cpus_there;           /* as the program said last; 0: it has not */
    bool cpus_asked;               /* which there are, until all are or one is refused */
    bool cpu_added;                /* since then */
    struct loop_timer *cpus_again; /* asks then; NULL: it never had to */
    uint64_t cpus_again_ms;        /* 0: none was refused */
    struct qmp_save save;
    struct qmp_stats *stats; /* NULL: it has not run yet */
    struct loop_timer *measure;
    bool cont_wanted; /* it was let go on, and nobody has thought better of it */
    bool cont_due;    /* that was refused, or its answer lost: said again */
    char what[224];   /* why we ended it, or why it will end */
};

/* ---- for engines ---- */

/* The part of start and adopt that is the same; NULL with *err filled. */
struct engine_run *engine_qmp_start(const struct engine_qmp_kind *kind,
                                    const struct engine_host *host,
                                    const struct engine_vm *vm,
                                    struct console_ring *console,
                                    const struct engine_events *events,
                                    void *context,
                                    struct err *err);
struct engine_run *engine_qmp_adopt(const struct engine_qmp_kind *kind,
                                    const struct engine_host *host,
                                    const struct engine_vm *vm,
                                    const struct vm_process_identity *identity,
                                    struct console_ring *console,
                                    const struct engine_events *events,
                                    void *context,
                                    struct err *err);
/* From a callback of the loop, for a run that prepares. */
void engine_qmp_prepared(struct engine_qmp_run *run);
/* what: why it cannot run; exited follows, and may close the run before this returns. */
void engine_qmp_failed(struct engine_qmp_run *run, const char *what);
struct vm_process *engine_qmp_spawn(struct engine_qmp_run *run,
                                    const struct vm_process_spec *spec,
                                    struct err *err);
/* "<folder>/<name>" */
void engine_qmp_path(const struct engine_qmp_run *run,
                     const char *name,
                     char ret_path[ENGINE_PATH_SIZE]);

/* The rest of engine_ops, for the engines' tables. */
int engine_qmp_release(struct engine_run *base, struct err *err);
int engine_qmp_cont(struct engine_run *base, struct err *err);
int engine_qmp_pause(struct engine_run *base, struct err *err);
int engine_qmp_save(struct engine_run *base, int fd, struct err *err);
void engine_qmp_save_cancel(struct engine_run *base);
void engine_qmp_limit(struct engine_run *base, const struct engine_limits *limits);
void engine_qmp_plug(struct engine_run *base, uint32_t cpu_count);
void engine_qmp_stop(struct engine_run *base, uint64_t grace_ms);
void engine_qmp_kill(struct engine_run *base);
int engine_qmp_freeze(struct engine_run *base, bool frozen);
int engine_qmp_sample(struct engine_run *base, struct engine_sample *ret_sample);
const struct vm_stats *engine_qmp_stats(struct engine_run *base);
void engine_qmp_know(struct engine_run *base, const struct engine_vm *vm);
int engine_qmp_console_write(struct engine_run *base, const void *data, size_t size);
struct engine_run *engine_qmp_close(struct engine_run *base);

/* ---- inside ---- */

static inline struct engine_qmp_run *engine_qmp_run_of(struct engine_run *base)
{
    struct engine_qmp_run *run = (struct engine_qmp_run *)(void *)base;
    REQUIRE(run->kind->ops == base->ops);
    return run;
}

/* It has not begun, as far as we know. */
static inline bool engine_qmp_is_fresh(const struct engine_qmp_run *run)
{
    return !run->held_told && !run->adopted;
}

/* One QMP command whose answer does not matter or comes as an event (reply NULL). */
int engine_qmp_command(struct engine_qmp_run *run,
                       const char *name,
                       qmp_reply *reply,
                       struct err *err);
/* Asks where the guest is. */
void engine_qmp_status_ask(struct engine_qmp_run *run);
/* Soon: makes a lost connection again, or asks again what was not answered. */
void engine_qmp_try_again(struct engine_qmp_run *run);

/* engine_qmp_limits.c: tells what is due of the limits, if it can be told now. */
void engine_qmp_limits_care(struct engine_qmp_run *run);

/* engine_qmp_cpus.c: asks which CPUs there are, and adds those that are missing, one by
 * one; true: the status is asked for behind that. False: there is nothing to add, or it
 * cannot be told now. */
bool engine_qmp_cpus_care(struct engine_qmp_run *run);

/* engine_qmp_measure.c */

/* It runs: its program is asked from now on. May be repeated. */
void engine_qmp_measure_begin(struct engine_qmp_run *run);
/* Its control connection is closed already. May be repeated. */
void engine_qmp_measure_end(struct engine_qmp_run *run);
