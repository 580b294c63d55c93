/* What the rows of apply that concern VMs have in common: checks first, then moves.
 *
 * Shapes: a row finds its VM (and host), refuses what may not be, and ends in one of the
 * moves, which keep indexes, time stamps and events right. Rows: apply_vm_change.c (a
 * user's power and labels), apply_vm_pause.c, apply_vm_place.c, apply_vm_evict.c (the way
 * out), apply_vm_report.c (what hosts say, and restarts), apply_vm_migrate.c;
 * place_unknown.c has VMs that a rebirth has left in doubt. Errors: the checks give 0 or
 * a refusal with its text (apply_refuse); nothing is changed by them. Moves cannot fail.
 */
#pragma once

#include "model/state_internal.h"

/* ---- checks ---- */
int apply_find_vm(struct apply *apply, uint64_t uid, struct entry **ret_vm);
/* Of that epoch: BERTH_ESTALE for any other. */
int apply_find_vm_at(struct apply *apply,
                     uint64_t uid,
                     uint64_t epoch,
                     struct entry **ret_vm);
/* One that its user may change: not on its way out for good. */
int apply_find_changeable(struct apply *apply,
                          uint64_t uid,
                          uint64_t expected_revision,
                          struct entry **ret_vm);
/* BERTH_EPHASE: in its phase it cannot do `what`. */
int apply_refuse_phase(struct apply *apply, const struct entry *vm, const char *what);
/* BERTH_EPHASE: it waits for its lost host, where it may still run. */
int apply_refuse_while_lost(struct apply *apply, const struct entry *vm);
/* BERTH_EPHASE: it may run where nobody has looked since the cluster began again. */
int apply_check_place_known(struct apply *apply, const struct entry *vm);
/* The same where its user may have said that it runs nowhere (surely_off). */
int apply_check_may_start(struct apply *apply,
                          const struct entry *vm,
                          const struct cmd_set_power *set);
/* A host that may take this VM, as the target of a placement or a migration: ready, with
 * memory for it and all of its networks (apply_vm_place.c). */
int apply_find_vm_host(struct apply *apply,
                       const struct entry *vm,
                       uint64_t host_uid,
                       struct entry **ret_host);

/* ---- moves ---- */
void vm_set_reason(struct vm *vm, const char *reason);
/* Its next run begins from no snapshot (any more). */
void vm_restore_end(struct vm *vm);
/* Off by its user, who has called off what was to come: its event is the caller's. */
void vm_switch_off(struct vm *vm);
/* Moves by the phase table, with reason, time stamps, event. at_wall_ms 0: now. */
void vm_move(struct apply *apply,
             struct entry *vm,
             enum phase phase,
             const char *reason,
             uint64_t at_wall_ms);
/* Gives everything back and removes it; a deleting group goes with its last VM. */
void vm_remove(struct apply *apply, struct entry *vm, const char *reason);
/* Its host cannot run it any more. */
void vm_lose(struct apply *apply, struct entry *vm, const char *reason);
/* A lost VM that waited for its host: the host is gone for good. */
void vm_release(struct apply *apply, struct entry *vm, const char *reason);
/* The host that kept its disks is gone: it will start from its image. */
void vm_disks_lose(struct apply *apply, struct entry *vm, const char *reason);
/* It is to start where its place was unknown, by its user's word: from now on it is known
 * (place_unknown.c). Of other VMs nothing changes. */
void vm_place_settle(struct apply *apply, struct entry *vm);
/* Stays stopped, or stops, and says that it is not known where it runs. */
void vm_tell_unknown(struct apply *apply, struct entry *vm, const char *because);
/* A host has the run that the VM_PHASE tells of, of a VM whose place was unknown. */
void vm_find(struct apply *apply,
             struct entry *vm,
             struct entry *host,
             const struct found_run *run);
/* Back from migrating to running where it is. */
void vm_migration_end(struct apply *apply, struct entry *vm, const char *reason);
/* The end of a way out whose process is gone: what the intent asked for. Removes the VM
 * when the intent is to delete it. */
void vm_settle_intent(struct apply *apply,
                      struct entry *vm,
                      enum stop_intent intent,
                      const char *reason);

/* ---- the way out (apply_vm_evict.c) ---- */
/* Starts the way out, or ends it at once when the VM is nowhere. 0 or a refusal. */
int vm_evict(struct apply *apply,
             struct entry *vm,
             enum stop_intent intent,
             const char *reason);
