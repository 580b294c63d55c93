/* The commands: one function per row of the table, each in the file named in brackets.
 *
 * Each gets an invocation whose words and flags are checked for number and form, prints
 * its result on cli->out, faults on cli->err, and returns the exit code. Threads: one.
 */
#pragma once

#include "cli/cli.h"

int run_up(struct cli *cli); /* [run_daemon] */
int run_join(struct cli *cli);
int run_down(struct cli *cli);
int run_backup_save(struct cli *cli); /* [run_backup] */
int run_backup_verify(struct cli *cli);
int run_recover(struct cli *cli);      /* [run_recover] */
int run_login(struct cli *cli);        /* [run_login] */
int run_token_create(struct cli *cli); /* [run_token] */
int run_token_join(struct cli *cli);
int run_token_ls(struct cli *cli);
int run_ls(struct cli *cli); /* [run_ls] */
int run_host_ls(struct cli *cli);
int run_watch(struct cli *cli); /* [run_watch] */
int run_show(struct cli *cli);  /* [run_show] */
int run_host_show(struct cli *cli);
int run_explain(struct cli *cli);  /* [run_explain] */
int run_events(struct cli *cli);   /* [run_events] */
int run_console(struct cli *cli);  /* [run_console] */
int run_validate(struct cli *cli); /* [run_apply] */
int run_plan(struct cli *cli);
int run_apply(struct cli *cli);
int run_rm(struct cli *cli); /* [run_rm] */
int run_snapshot_rm(struct cli *cli);
int run_snapshot_make(struct cli *cli); /* [run_snapshot] */
int run_snapshot_ls(struct cli *cli);
int run_restore(struct cli *cli);
int run_scale(struct cli *cli); /* [run_change] */
int run_start(struct cli *cli);
int run_stop(struct cli *cli);
int run_restart(struct cli *cli);
int run_pause(struct cli *cli); /* [run_pause] */
int run_resume(struct cli *cli);
int run_drain(struct cli *cli); /* [run_drain] */
int run_undrain(struct cli *cli);
int run_host_label(struct cli *cli); /* [run_label] */
int run_schema(struct cli *cli);     /* [run_about] */
int run_completion(struct cli *cli);
int run_version(struct cli *cli);
int run_help(struct cli *cli);
