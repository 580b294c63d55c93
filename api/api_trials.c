/* Trials: dry runs, which copy the whole state, one after the other.
 *
 * The copy is made on the loop that the leader's heartbeats go out from, so each turn of
 * it makes one; the others wait in the order in which they came. The line is short, and
 * one token has a share of it: who finds it full is told to come again (429). */
#include "api/api_handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TRIALS_WAITING_MAX 16
#define TRIALS_SHARE       4 /* of one subject, but for root */

struct trial {
    struct list link;
    struct api_call *call;
    void (*run)(struct api_call *call, const struct state *state);
};

struct api_trials {
    struct list line;
    unsigned count;
    struct loop_post *next;
};

/* Out of the line: what it was waiting for has come. */
static struct api_call *trial_take(struct api_trials *trials, struct trial *trial)
{
    struct api_call *call = trial->call;
    list_remove(&trial->link);
    trials->count--;
    free(trial);
    call->awaited--;
    call->trial = false;
    return call;
}

static void trials_next(void *context)
{
    struct api_trials *trials = context;
    if (list_empty(&trials->line)) {
        return;
    }
    struct trial *trial = LIST_ITEM(trials->line.next, struct trial, link);
    void (*run)(struct api_call *, const struct state *) = trial->run;
    struct api_call *call = trial_take(trials, trial);
    const struct state *state = call_state(call);
    if (!list_empty(&trials->line)) {
        loop_post_send(trials->next);
    }
    if (call->over || exchange_ended(call->exchange)) {
        call_leave(call); /* answered by the clock, or nobody waits for it any more */
    } else if (state == NULL) {
        call_fail(call, BERTH_ENOTLEADER, NULL);
    } else {
        call->deadline_ms = 0;
        call->revision = state_revision(state);
        run(call, state);
    }
}

static unsigned trials_of(const struct api_trials *trials, const char *subject)
{
    unsigned count = 0;
    LIST_EACH (item, &trials->line) {
        const struct trial *trial = LIST_ITEM(item, struct trial, link);
        count += strcmp(trial->call->subject.name, subject) == 0 ? 1 : 0;
    }
    return count;
}

void trials_wait(struct api_call *call,
                 void (*run)(struct api_call *call, const struct state *state))
{
    struct api_trials *trials = call->api->trials;
    if (trials->count >= TRIALS_WAITING_MAX ||
        (!subject_is_root(&call->subject) &&
         trials_of(trials, call->subject.name) >= TRIALS_SHARE)) {
        call_fail(call, BERTH_EFULL, "too many dry runs are waiting for their turn");
        return;
    }
    struct trial *trial = malloc(sizeof(*trial));
    if (trial == NULL) {
        call_fail(call, -ENOMEM, NULL);
        return;
    }
    *trial = (struct trial){.call = call, .run = run};
    list_push_back(&trials->line, &trial->link);
    trials->count++;
    call->awaited++;
    call->trial = true;
    call->deadline_ms = uv_now(call->api->loop) + CALL_PROPOSE_MS;
    loop_post_send(trials->next);
}

/* ---- life ---- */

struct api_trials *trials_new(struct api *api)
{
    struct api_trials *trials = calloc(1, sizeof(*trials));
    if (trials == NULL) {
        return NULL;
    }
    list_init(&trials->line);
    trials->next = loop_post_new(api->loop, trials_next, trials);
    if (trials->next == NULL) {
        return trials_free(trials);
    }
    return trials;
}

struct api_trials *trials_free(struct api_trials *trials)
{
    if (trials == NULL) {
        return NULL;
    }
    loop_post_close(trials->next);
    LIST_EACH_SAFE (item, &trials->line) {
        struct api_call *call = trial_take(trials, LIST_ITEM(item, struct trial, link));
        if (call->over) {
            call_leave(call);
        } else {
            call_fail(call, BERTH_ECLOSED, "this host is going down");
        }
    }
    free(trials);
    return NULL;
}
