/* A state that begins again, for tests of what it knows then. */
#pragma once

#include "model/state_rebirth.h"
#include "support/state_fixture.h"

#define NOW_MS UINT64_C(1800000000000)

static struct err err;

static bool is_h1(void *context, const struct host *host)
{
    (void)context;
    return host->meta.uid == h1;
}

/* A new cluster from a backup: no host goes on. */
static void restored(void)
{
    const struct rebirth rebirth = {
        .wall_ms = NOW_MS, .new_cluster = true, .reason = "restored"};
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
}

/* From the log of h1; these hosts go on. */
static void recovered_with(bool (*keeps)(void *context, const struct host *host))
{
    const struct rebirth rebirth = {
        .wall_ms = NOW_MS, .reason = "recovered", .keeps = keeps, .votes = is_h1};
    ck_assert_int_eq(state_rebirth(state, &rebirth, &err), 0);
}
