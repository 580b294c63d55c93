/* How a VM came up, and events: texts made of what the API says.
 *
 * Shapes: a boot is five steps with an instant each (pendingAt ... readyAt in
 * status); the text tells how long each step took. Threads: pure.
 */
#pragma once

#include "cli/cli.h"

#define TIMELINE_SIZE   256
#define EVENT_LINE_SIZE 640

/* "pending 2 ms, placed 8 ms, starting 210 ms, running 1.9 s: ready after 2.1 s"; ends
 * where the VM is. */
void timeline_format(const json_t *vm, char ret_text[TIMELINE_SIZE]);
/* Since when the VM is in its phase, wall ms; 0 when not known. */
uint64_t timeline_phase_since(const json_t *vm);
/* "10:15:04.123  vm/web-1  ready  reason": the date in front with -o wide. */
void event_format(const struct cli *cli,
                  const json_t *event,
                  char ret_line[EVENT_LINE_SIZE]);
