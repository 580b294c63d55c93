#include "cli/waiting_state.h"

#include "base/clock.h"
#include "cli/kind_view.h"
#include "cli/output.h"

#include <stdlib.h>

#define POLL_MS 200

static int wait_one(struct cli *cli,
                    const struct awaited_state *state,
                    const struct object_name *name,
                    uint64_t until_ms)
{
    for (;;) {
        CLEANUP_JSON json_t *vm = NULL;
        int code = object_get(cli, name, &vm);
        if (code != EXIT_OK || state->is_so(vm)) {
            return code;
        }
        if (!state->is_wished(vm)) {
            return cli_fail(cli, EXIT_CONFLICT, "vm/%s %s: %s", name->name,
                            state->taken_back, view_phase(vm, KIND_VM));
        }
        if (clock_now_ms(clock_system()) >= until_ms) {
            return cli_fail(cli, EXIT_TIMED_OUT,
                            "vm/%s %s; the cluster goes on, this command does not; next: "
                            "berth show vm/%s",
                            name->name, state->not_yet, name->name);
        }
        pause_ms(POLL_MS);
    }
}

int waiting_state(struct cli *cli,
                  const struct awaited_state *state,
                  const struct waiting_subject *subjects,
                  unsigned count)
{
    uint64_t timeout_ms = 0;
    int code = cli_flag_duration(cli, "timeout", WAITING_DEFAULT_MS, &timeout_ms);
    uint64_t until_ms = clock_now_ms(clock_system()) + timeout_ms;
    for (unsigned i = 0; i < count && code == EXIT_OK; i++) {
        code = wait_one(cli, state, &subjects[i].name, until_ms);
    }
    return code;
}

int waiting_show(struct cli *cli, const struct waiting_subject *subjects, unsigned count)
{
    struct object_name *names = calloc((size_t)count + 1, sizeof(*names));
    if (names == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < count; i++) {
        names[i] = subjects[i].name;
    }
    int code = output_objects(cli, names, count, true);
    free(names);
    return code;
}
