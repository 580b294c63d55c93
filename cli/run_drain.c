/* drain, undrain. */
#include "base/clock.h"
#include "base/plural.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/waiting.h"

#include <inttypes.h>
#include <string.h>

#define POLL_MS          300
#define DRAIN_DEFAULT_MS UINT64_C(600000)
/* What is read of VMs here. */
#define VM_READ                                                                      \
    "metadata.name,metadata.tenant,status.phase,status.host,status.diskHost,status." \
    "reason,status.waits"

/* VMs that are still on the host: stopped and failed ones run nowhere. */
static json_t *vms_on(const json_t *vms, const char *host)
{
    static const char *const phases[] = {"placed", "starting",  "running",
                                         "ready",  "migrating", "stopping"};
    json_t *here = json_array();
    size_t index;
    json_t *vm;
    json_array_foreach(vms, index, vm)
    {
        const char *phase = view_phase(vm, KIND_VM);
        bool on = strcmp(json_member_text(view_status(vm), "host", ""), host) == 0;
        for (unsigned i = 0; on && i < sizeof(phases) / sizeof(phases[0]); i++) {
            if (strcmp(phase, phases[i]) == 0) {
                json_array_append(here, vm);
            }
        }
    }
    return here;
}

/* Stopped VMs stay where their disks are: whoever drains to take the host away has to
 * know. */
static int tell_kept(struct cli *cli, const char *host)
{
    CLEANUP_JSON json_t *list = NULL;
    size_t index;
    json_t *vm;
    size_t kept = 0;
    int code = remote_list(cli, kind_info(KIND_VM), "", VM_READ, &list);
    json_array_foreach(json_object_get(list, "items"), index, vm)
    {
        char label[OBJECT_LABEL_SIZE];
        if (strcmp(json_member_text(view_status(vm), "diskHost", ""), host) == 0) {
            object_label(cli, "vm", view_tenant(vm), view_name(vm), label);
            output_tell(cli, "%s is %s and keeps its disks on %s", label,
                        view_phase(vm, KIND_VM), host);
            kept++;
        }
    }
    if (kept > 0) {
        cli_note(
            cli,
            "next: berth undrain %s before they start there, or berth start --anywhere "
            "to give a VM's disks up",
            host);
    }
    return code;
}

static int give_up(struct cli *cli, const json_t *here, const char *host)
{
    size_t index;
    json_t *vm;
    (void)cli_fail(cli, EXIT_TIMED_OUT,
                   "VMs still on %s: %zu; the cluster goes on moving them, this command "
                   "does not",
                   host, json_array_size(here));
    json_array_foreach(here, index, vm)
    {
        /* Why it cannot leave, or else what came last of it. */
        const char *reason = json_member_text(
            view_status(vm), "waits", json_member_text(view_status(vm), "reason", ""));
        fprintf(cli->err, "  %s is %s%s%s; next: berth explain vm/%s -t %s\n",
                view_name(vm), view_phase(vm, KIND_VM), reason[0] != '\0' ? ": " : "",
                reason, view_name(vm), view_tenant(vm));
    }
    return EXIT_TIMED_OUT;
}

static const json_t *find_same(const json_t *vms, const json_t *vm)
{
    size_t index;
    json_t *other;
    json_array_foreach(vms, index, other)
    {
        if (strcmp(view_name(vm), view_name(other)) == 0 &&
            strcmp(view_tenant(vm), view_tenant(other)) == 0) {
            return other;
        }
    }
    return NULL;
}

/* Names what has gone since the look before; what has stopped and keeps its disks there
 * has not. */
static void tell_moved(struct cli *cli,
                       const json_t *before,
                       const json_t *here,
                       const json_t *all,
                       const char *host)
{
    size_t index;
    json_t *vm;
    json_array_foreach(before, index, vm)
    {
        if (find_same(here, vm) == NULL) {
            const json_t *now = find_same(all, vm);
            bool keeps =
                now != NULL &&
                strcmp(json_member_text(view_status(now), "diskHost", ""), host) == 0;
            char label[OBJECT_LABEL_SIZE];
            object_label(cli, "vm", view_tenant(vm), view_name(vm), label);
            cli_note(cli, keeps ? "%s has stopped; its disks stay there" : "%s has left",
                     label);
        }
    }
}

static int wait_empty(struct cli *cli, const char *host, uint64_t timeout_ms)
{
    uint64_t start_ms = clock_now_ms(clock_system());
    CLEANUP_JSON json_t *before = json_array();
    size_t at_first = 0;
    for (unsigned look = 0;; look++) {
        CLEANUP_JSON json_t *list = NULL;
        char span[SPAN_TEXT_SIZE];
        int code = remote_list(cli, kind_info(KIND_VM), "", VM_READ, &list);
        if (code != EXIT_OK) {
            return code;
        }
        const json_t *all = json_object_get(list, "items");
        json_t *here = vms_on(all, host);
        size_t left = json_array_size(here);
        at_first = look == 0 ? left : at_first;
        progress_clear(cli);
        tell_moved(cli, before, here, all, host);
        json_decref(before);
        before = here;
        uint64_t past_ms = clock_now_ms(clock_system()) - start_ms;
        span_format(past_ms, span);
        if (left == 0) {
            output_tell(cli, "%s is empty after %s", host, span);
            return EXIT_OK;
        }
        if (past_ms >= timeout_ms) {
            return give_up(cli, here, host);
        }
        progress_show(cli, "%s: %zu of %zu VM%s left, %s", host, left, at_first,
                      plural_s(at_first), span);
        pause_ms(POLL_MS);
    }
}

/* Hosts that VMs of this one may move to. */
static int count_others(struct cli *cli, const char *host, unsigned *ret_count)
{
    CLEANUP_JSON json_t *list = NULL;
    size_t index;
    json_t *other;
    int code = remote_list(cli, kind_info(KIND_HOST), "",
                           "metadata.name,spec.drain,status.phase", &list);
    *ret_count = 0;
    json_array_foreach(json_object_get(list, "items"), index, other)
    {
        const char *phase = view_phase(other, KIND_HOST);
        bool serves = (strcmp(phase, "ready") == 0 || strcmp(phase, "suspect") == 0) &&
                      !json_is_true(json_object_get(view_spec(other), "drain"));
        *ret_count += serves && strcmp(view_name(other), host) != 0 ? 1U : 0U;
    }
    return code;
}

/* Those that would move and cannot; what only stops at a drain does so. */
static int count_stuck(struct cli *cli, const char *host, size_t *ret_count)
{
    CLEANUP_JSON json_t *list = NULL;
    size_t index;
    json_t *vm;
    int code = remote_list(cli, kind_info(KIND_VM), "", VM_READ ",spec.machine", &list);
    CLEANUP_JSON json_t *here = vms_on(json_object_get(list, "items"), host);
    *ret_count = 0;
    json_array_foreach(here, index, vm)
    {
        const json_t *lifecycle =
            json_object_get(json_object_get(view_spec(vm), "machine"), "lifecycle");
        bool stops = strcmp(json_member_text(lifecycle, "hostDrain", ""), "stop") == 0;
        *ret_count += stops ? 0U : 1U;
    }
    return code;
}

/* The last host that takes VMs: a wait would not end by itself. */
static int tell_nowhere(struct cli *cli, const char *host, bool waits)
{
    size_t stuck = 0;
    int code = count_stuck(cli, host, &stuck);
    if (stuck == 0) {
        output_tell(cli, "host/%s is drained: no new VMs; none there has to move", host);
        return code;
    }
    output_tell(
        cli,
        "host/%s is drained: no new VMs; no other host takes VMs either, so %zu VM%s "
        "there until one does",
        host, stuck, stuck == 1 ? " stays" : "s stay");
    cli_note(cli,
             "next: berth join on another host, or berth undrain one (berth host ls)");
    if (code != EXIT_OK || !waits) {
        return code;
    }
    return cli_fail(cli, EXIT_CAPACITY,
                    "there is nowhere to go: waiting alone does not empty %s", host);
}

/* As it is now, also after a wait that gave up; the code is what came before. */
static int show_host(struct cli *cli, const struct object_name *name, int code)
{
    if (!output_is_document(cli)) {
        return code;
    }
    int shown = output_objects(cli, name, 1, false);
    return code == EXIT_OK ? shown : code;
}

int run_drain(struct cli *cli)
{
    struct object_name name;
    char path[REMOTE_PATH_SIZE];
    uint64_t timeout_ms = 0;
    unsigned others = 0;
    const char *reason = cli_flag(cli, "reason");
    int code = cli_flag_duration(cli, "timeout", DRAIN_DEFAULT_MS, &timeout_ms);
    if (code == EXIT_OK) {
        code = object_name_find(cli, cli->words[0], KIND_HOST, &name);
    }
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *body = json_object();
    if (reason != NULL) {
        json_object_set_new(body, "reason", json_string(reason));
    }
    object_path(&name, ":drain", path);
    code = remote_call(cli, "POST", path, body, NULL);
    if (code != EXIT_OK) {
        return code;
    }
    code = count_others(cli, name.name, &others);
    if (code == EXIT_OK && others == 0) {
        code = tell_nowhere(cli, name.name, cli_flag(cli, "wait") != NULL);
    } else {
        output_tell(cli, "host/%s is drained: no new VMs, those there move away",
                    name.name);
    }
    if (code == EXIT_OK && cli_flag(cli, "wait") != NULL) {
        code = wait_empty(cli, name.name, timeout_ms);
    }
    if (code == EXIT_OK || code == EXIT_CAPACITY ||
        code == EXIT_TIMED_OUT) { /* there are such either way */
        int told = tell_kept(cli, name.name);
        code = code == EXIT_OK ? told : code;
    }
    return show_host(cli, &name, code);
}

int run_undrain(struct cli *cli)
{
    struct object_name name;
    char path[REMOTE_PATH_SIZE];
    int code = object_name_find(cli, cli->words[0], KIND_HOST, &name);
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *before = NULL;
    code = object_get(cli, &name, &before);
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *body = json_object();
    object_path(&name, ":undrain", path);
    code = remote_call(cli, "POST", path, body, NULL);
    if (code == EXIT_OK) {
        output_tell(cli, "host/%s %s", name.name,
                    json_is_true(json_object_get(view_spec(before), "drain"))
                        ? "takes VMs again"
                        : "was not drained: nothing is changed");
        code = show_host(cli, &name, code);
    }
    return code;
}
