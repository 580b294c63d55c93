/* The berthd of this host, as a process: find, start, watch, stop.
 *
 * Shapes: berthd holds <state>/berthd.pid with "PID START" (START is field 22 of
 * /proc/PID/stat), so that a pid that was given to another process is told apart. It is
 * started detached, its output appended to <state>/berthd.log. Threads: one; daemon_start
 * forks. Errors: -errno with text.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DAEMON_ARGUMENTS_MAX 192

/* The living berthd of the state folder, or 0. */
pid_t daemon_find(const char *state);
/* Whether the cluster has taken the host of the state folder in. */
bool daemon_is_member(const char *state);
/* Parses "PID START"; false when it is something else. */
bool daemon_parse_pid(const char *text, pid_t *ret_pid, uint64_t *ret_start);
/* START of a living process, 0 when there is none. `stat` is its /proc line. */
uint64_t daemon_parse_start(const char *stat);
/* What a living process does, for people: "running", "stopped (SIGSTOP)", ... */
const char *daemon_doing(pid_t pid, bool *ret_stopped);
/* Path of berthd: beside this program, else its bare name for PATH. */
void daemon_program(char *ret_path, size_t capacity);
/* Starts berthd detached with these arguments (argv, NULL-terminated); `input` (may be
 * NULL) is what it reads on stdin. The pid, or -errno. */
pid_t daemon_start(const char *const *arguments,
                   const char *log_path,
                   const char *input,
                   struct err *err);
/* Runs berthd with these arguments to its end, its stderr appended to the log, or with
 * NULL for that written to ours; what it printed is *ret_output (caller frees). Its exit
 * code, or a negative code. */
int daemon_run(const char *const *arguments,
               const char *log_path,
               char **ret_output,
               struct err *err);
/* SIGTERM and wait for its end; 0, BERTH_ETIMEOUT, -ESRCH (not there), -EPERM. */
int daemon_stop(pid_t pid, uint64_t timeout_ms);
/* Why berthd ended, by the last line of its log from an offset on; caller frees; NULL
 * when that line is no error or does not say. */
char *daemon_log_why(const char *path, off_t from);
/* The last lines of a file from an offset on, each after two blanks; caller frees; NULL
 * when there is nothing. */
char *daemon_log_tail(const char *path, off_t from, unsigned lines);
