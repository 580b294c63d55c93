/* Who may read what this host measures: root of it over its socket, and tokens with a
 * role in the cluster, for the numbers name VMs of all tenants. Inside the room only.
 *
 * Shapes: a host with the state judges a token by it. Another host asks the leader (GET
 * /v1/self in the token's name) and remembers a yes, so that monitoring goes on while
 * there is no leader, which is when it is needed: a token that was good within
 * METRICS_TRUST_MS gets in, and is asked about again when that was longer ago than
 * METRICS_FRESH_MS. So a deleted token may read once more after that time. Nothing is
 * written down. Units: ms of the loop's clock. Threads: the loop's. Errors: the call is
 * answered: 401 without a good token, 403 for a tenant's, 503 when the leader cannot be
 * asked. Limits: METRICS_TOKENS_MAX remembered; the one not asked about for longest goes
 * first.
 */
#pragma once

#include "api/api_call.h"

#define METRICS_TOKENS_MAX 16
#define METRICS_FRESH_MS   (UINT64_C(60) * 1000)
#define METRICS_TRUST_MS   (UINT64_C(60) * 60 * 1000)

struct metrics_gate;

/* Borrows the API for life; the times are METRICS_FRESH_MS and METRICS_TRUST_MS but in
 * tests. NULL when out of memory. */
struct metrics_gate *
metrics_gate_new(struct api *api, uint64_t fresh_ms, uint64_t trust_ms);
/* What is under way ends without it. Accepts NULL; returns NULL. */
struct metrics_gate *metrics_gate_free(struct metrics_gate *gate);
/* Runs `allowed` with the call, now or when the leader has said yes; otherwise answers
 * it. */
void metrics_gate_pass(struct metrics_gate *gate,
                       struct api_call *call,
                       void (*allowed)(struct api_call *call));
