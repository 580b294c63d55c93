/* Consoles: authorised here, carried by the agent, and looked after for as long as they
 * are open.
 *
 * Who has given out a right may take it back: with its token (or the role, or the host's
 * part in the log) gone, a console ends at the next tick. The host that has let it in
 * looks, and goes on looking as a voter when it leads no more. */
#include "api/api_handlers.h"
#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONSOLES_MAX   512
#define CONSOLES_SHARE 64 /* of one subject, but for root */

struct open_console {
    struct list link;
    struct exchange *exchange;
    const struct route *route;
    struct route_target target;
    char subject[SUBJECT_SIZE];
};

struct api_consoles {
    struct api *api;
    struct list list;
    unsigned count;
};

static void console_forget(struct api_consoles *consoles, struct open_console *console)
{
    list_remove(&console->link);
    consoles->count--;
    exchange_unref(console->exchange);
    free(console);
}

/* Its credentials are still good, and give as much. */
static bool may_go_on(const struct open_console *console, const struct state *state)
{
    struct subject subject;
    const struct exchange_request *request = exchange_request(console->exchange);
    return state != NULL &&
           subject_authenticate(state, &request->credentials,
                                clock_wall_ms(clock_system()), &subject) == 0 &&
           route_judge(console->route, &console->target, &subject, state) == 0;
}

void consoles_tick(struct api_consoles *consoles)
{
    const struct control_plane *control = consoles->api->control;
    const struct state *state = control->state(control->context);
    LIST_EACH_SAFE (item, &consoles->list) {
        struct open_console *console = LIST_ITEM(item, struct open_console, link);
        if (!exchange_ended(console->exchange) && !may_go_on(console, state)) {
            exchange_revoke(console->exchange);
        }
        if (exchange_ended(console->exchange)) {
            console_forget(consoles, console);
        }
    }
}

/* Those that are open; what has ended since the last look is let go. */
static unsigned consoles_of(struct api_consoles *consoles, const char *subject)
{
    unsigned count = 0;
    LIST_EACH_SAFE (item, &consoles->list) {
        struct open_console *console = LIST_ITEM(item, struct open_console, link);
        if (exchange_ended(console->exchange)) {
            console_forget(consoles, console);
        } else {
            count += strcmp(console->subject, subject) == 0 ? 1 : 0;
        }
    }
    return count;
}

void handle_console(struct api_call *call, const struct state *state)
{
    const struct control_plane *control = call->api->control;
    struct api_consoles *consoles = call->api->consoles;
    const struct vm *vm =
        state_get(state, call->target.kind, call->target.tenant, call->target.name);
    unsigned mine = consoles_of(consoles, call->subject.name);
    if (vm == NULL) {
        call_fail_missing(call);
        return;
    }
    if (consoles->count >= CONSOLES_MAX ||
        (mine >= CONSOLES_SHARE && !subject_is_root(&call->subject))) {
        call_fail(call, BERTH_EFULL,
                  consoles->count >= CONSOLES_MAX
                      ? "too many consoles are open"
                      : "64 consoles of this token are open: close one");
        return;
    }
    struct open_console *console = calloc(1, sizeof(*console));
    if (console == NULL) {
        call_fail(call, -ENOMEM, NULL);
        return;
    }
    console->exchange = exchange_ref(call->exchange);
    console->route = call->route;
    console->target = call->target;
    memcpy(console->subject, call->subject.name, sizeof(console->subject));
    list_push_back(&consoles->list, &console->link);
    consoles->count++;
    control->console(control->context, call->exchange, vm->meta.uid);
    call_leave(call);
}

/* ---- life ---- */

struct api_consoles *consoles_new(struct api *api)
{
    struct api_consoles *consoles = calloc(1, sizeof(*consoles));
    if (consoles != NULL) {
        consoles->api = api;
        list_init(&consoles->list);
    }
    return consoles;
}

struct api_consoles *consoles_free(struct api_consoles *consoles)
{
    if (consoles == NULL) {
        return NULL;
    }
    LIST_EACH_SAFE (item, &consoles->list) {
        console_forget(consoles, LIST_ITEM(item, struct open_console, link));
    }
    free(consoles);
    return NULL;
}
