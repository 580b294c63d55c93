/* What berthd does to a state folder instead of running on it.
 *
 * Each call but the list takes the folder's lock, does one thing and returns; with a
 * daemon on the folder it is BERTH_EBUSY. Threads: any; blocking. Errors: with text;
 * BERTH_ENOTFOUND where no host is: then nothing is made.
 */
#pragma once

#include "base/err.h"

/* Ends all VMs without a word to their guests, but with their disks written out, as far
 * as those that obey a lease have one left for it (agent/vms_end.h), and removes networks
 * and control groups. Their disks stay: a stopped VM starts with them on this host, when
 * its berthd is back. */
int berthd_cleanup(const char *folder, struct err *err);
/* Prints on stdout, as JSON, what this host's log holds (rebirth_log_document). */
int berthd_inspect(const char *folder, struct err *err);
/* Prints on stdout, as JSON, the VMs that this host runs or has disks of, as their
 * records say, with a daemon or without: [{"tenant", "name", "uid", "epoch", "runs",
 * "waits"}], waits: for this host, without a lease; and [{"folder", "unread"}], the
 * reason, for a record that cannot be read, or is not there although a process is. */
int berthd_list_vms(const char *folder, struct err *err);
/* Makes this host the only voter of what its log holds (agent/rebirth.h). */
int berthd_recover(const char *folder, struct err *err);
/* berthd_cleanup, but the disks go as well; then forgets the cluster. */
int berthd_forget(const char *folder, struct err *err);
