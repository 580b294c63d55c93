/* The handlers behind the routes, by file. Inside the room only. See api/api_call.h for
 * their contract. */
#pragma once

#include "api/api_call.h"

/* api_objects.c */
route_handler handle_list;
route_handler handle_get;
route_handler handle_put;
route_handler handle_delete;
route_handler handle_events;

/* api_apply.c */
route_handler handle_apply;

/* api_trials.c */
struct api_trials *trials_new(struct api *api);
struct api_trials *trials_free(struct api_trials *trials);
/* Has the call wait for its turn to copy the state: `run` ends it, with the state of
 * then; or it fails. */
void trials_wait(struct api_call *call,
                 void (*run)(struct api_call *call, const struct state *state));

/* api_actions.c */
/* What the path names, as an action wants it. The commands of these actions carry no
 * revision, so a condition on one could not be kept: it is refused, and never passed
 * over. NULL: the call is over, and gone. */
const void *call_unconditional(struct api_call *call, const struct state *state);
/* When the log has answered: the refusal, or 200 with the revision. */
void call_acted(struct api_call *call);
route_handler handle_scale;
route_handler handle_vm_start;
route_handler handle_vm_stop;
route_handler handle_vm_restart;
route_handler handle_vm_pause;
route_handler handle_vm_resume;
route_handler handle_vm_snapshot;
route_handler handle_vm_restore;
route_handler handle_drain;
route_handler handle_undrain;
route_handler handle_host_label;
route_handler handle_explain;
route_handler handle_join_token;
route_handler handle_token;

/* api_local.c */
route_handler handle_health;
route_handler handle_metrics;
route_handler handle_version;
route_handler handle_level;
route_handler handle_self;
route_handler handle_blob_head;
route_handler handle_blob_fetch;

/* api_backup.c */
route_handler handle_backup_make;
route_handler handle_backup_piece;
route_handler handle_backup_drop;
struct api_backups *backups_new(struct api *api);
struct api_backups *backups_free(struct api_backups *backups);
/* Every second: those that nobody fetches any more. */
void backups_tick(struct api_backups *backups);

/* api_console.c */
route_handler handle_console;
struct api_consoles *consoles_new(struct api *api);
struct api_consoles *consoles_free(struct api_consoles *consoles);
/* Ends those whose credentials give them no right any more. */
void consoles_tick(struct api_consoles *consoles);

/* api_watch.c */
route_handler handle_watch;
struct api_watches *watches_new(struct api *api);
struct api_watches *watches_free(struct api_watches *watches);
void watches_feed_changed(struct api_watches *watches);
void watches_reset(struct api_watches *watches);
/* Every second: bookmarks, readers that were slow, tokens that have expired. */
void watches_tick(struct api_watches *watches);
