#include "consensus/loop_turn.h"

#include "base/require.h"

#include <stdlib.h>

struct loop_turn {
    uv_loop_t *loop;
    uv_prepare_t prepare;
    uv_check_t check;
    unsigned handles; /* still to be closed */
    void (*turn)(void *context);
    void *context;
    void (*closed)(void *context);
    void *closed_context;
};

static void on_prepare(uv_prepare_t *handle)
{
    struct loop_turn *turn = handle->data;
    turn->turn(turn->context);
}

static void on_check(uv_check_t *handle)
{
    struct loop_turn *turn = handle->data;
    turn->turn(turn->context);
}

struct loop_turn *
loop_turn_open(uv_loop_t *loop, void (*turn)(void *context), void *context)
{
    struct loop_turn *made = calloc(1, sizeof(*made));
    REQUIRE(made != NULL);
    made->loop = loop;
    made->turn = turn;
    made->context = context;
    REQUIRE(uv_prepare_init(loop, &made->prepare) == 0);
    REQUIRE(uv_check_init(loop, &made->check) == 0);
    made->prepare.data = made->check.data = made;
    REQUIRE(uv_prepare_start(&made->prepare, on_prepare) == 0);
    REQUIRE(uv_check_start(&made->check, on_check) == 0);
    uv_unref((uv_handle_t *)&made->prepare);
    uv_unref((uv_handle_t *)&made->check);
    made->handles = 2;
    return made;
}

uint64_t loop_turn_now_ms(const struct loop_turn *turn)
{
    return uv_now(turn->loop);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct loop_turn *turn = handle->data;
    if (--turn->handles > 0) {
        return;
    }
    void (*closed)(void *context) = turn->closed;
    void *context = turn->closed_context;
    free(turn);
    closed(context);
}

void loop_turn_close(struct loop_turn *turn, void (*done)(void *context), void *context)
{
    turn->closed = done;
    turn->closed_context = context;
    uv_close((uv_handle_t *)&turn->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&turn->check, on_handle_closed);
}
