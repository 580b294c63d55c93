/* Asks the scheduler why, over scheduler_fixture.h's cluster: the answer is in
 * `answered`, a document, until the next question; text, row_of and said read it. `setup`
 * and `teardown` are a test's checked fixture. All functions are inline so that no test
 * has to use all of them.
 */
#pragma once

#include "base/json.h"
#include "scheduler_fixture.h"

static json_t *answered;
static const char *known_wait; /* what the caller knows */

static inline void setup(void)
{
    cluster_start();
    answered = NULL;
    known_wait = NULL;
}

static inline void teardown(void)
{
    json_decref(answered);
    cluster_stop();
}

static inline void explain(const char *vm)
{
    json_decref(answered);
    answered = scheduler_explain_vm(scheduler, state, vm_named(vm), known_wait);
    ck_assert_ptr_nonnull(answered);
}

static inline void explain_group(const char *group)
{
    json_decref(answered);
    answered =
        scheduler_explain_group(scheduler, state, group_named(group), known_wait, now_ns);
    ck_assert_ptr_nonnull(answered);
}

static inline const char *text(const char *key)
{
    return json_member_text(answered, key, "(absent)");
}

static inline const json_t *row_of(const char *host)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(answered, "hosts"), i, row)
    {
        if (strcmp(json_member_text(row, "host", ""), host) == 0) {
            return row;
        }
    }
    ck_abort_msg("no row for %s", host);
    return NULL;
}

static inline const char *said(const char *host, const char *key)
{
    return json_member_text(row_of(host), key, "(absent)");
}

static inline const char *waits(const char *vm)
{
    static char words[256];
    unsigned looks = 1;
    (void)scheduler_pending_reason(scheduler, state, vm_named(vm), &looks, words,
                                   sizeof(words));
    return words;
}
