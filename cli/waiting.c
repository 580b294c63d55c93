#include "cli/waiting.h"

#include "base/clock.h"
#include "base/plural.h"
#include "cli/kind_view.h"
#include "cli/output.h"
#include "cli/plain_text.h"
#include "cli/timeline.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define POLL_MS      200
#define CULPRITS_MAX 5
#define SETTLED      10 /* looks in a row: what was just removed begins to go by then */
#define LINE_SIZE    160
#define ESCAPE       '\033'

struct waiting {
    struct cli *cli;
    json_t *told; /* label -> last text told about it */
    uint64_t start_ms;
    uint64_t ready;
    uint64_t wanted;
    bool done;
    json_t *late;                              /* VMs that are not ready */
    char missing[2 * OBJECT_LABEL_SIZE + 480]; /* a group that lacks VMs altogether */
    bool over_quota;                           /* because a quota has no room for them */
    bool lacks_more;                           /* and for another reason */
    unsigned held_up; /* VMs that something keeps from starting */
};

/* ---- small things ---- */

void pause_ms(uint64_t ms)
{
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000),
                             .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL); /* a signal ends the program or the pause */
}

void progress_show(struct cli *cli, const char *format, ...)
{
    va_list arguments;
    if (!cli->err_tty || cli->quiet) {
        return;
    }
    va_start(arguments, format);
    fputs("\r\033[K", cli->err);
    (void)vfprintf(cli->err, format, arguments);
    va_end(arguments);
    (void)fflush(cli->err); /* an ornament */
}

void progress_clear(struct cli *cli)
{
    if (cli->err_tty && !cli->quiet) {
        fputs("\r\033[K", cli->err);
        (void)fflush(cli->err); /* an ornament */
    }
}

/* Steps over an escape sequence; the first byte after it. */
static const char *escape_end(const char *text)
{
    text++;
    if (*text == '[') {
        text++;
        while (*text != '\0' && (*text < '@' || *text > '~')) {
            text++;
        }
    }
    return *text != '\0' ? text + 1 : text;
}

void waiting_last_line(const char *text, char *ret_line, size_t capacity)
{
    char line[LINE_SIZE];
    size_t at = 0;
    bool says = false;
    ret_line[0] = '\0';
    while (true) {
        char c = *text;
        if (c == ESCAPE) {
            text = escape_end(text);
            continue;
        }
        if (c == '\n' || c == '\r' || c == '\0') {
            line[at] = '\0';
            if (says) {
                (void)snprintf(ret_line, capacity, "%s", plain_line(line));
            }
            at = 0;
            says = false;
            if (c == '\0') {
                return;
            }
        } else if ((unsigned char)c >= ' ' && c != '\177' && at < sizeof(line) - 1) {
            line[at++] = c;
            says = says || c != ' ';
        }
        text++;
    }
}

/* ---- one look ---- */

bool waiting_group_done(const json_t *group,
                        const json_t *vms,
                        uint64_t *ret_ready,
                        uint64_t *ret_wanted)
{
    const json_t *spec = view_spec(group);
    const json_t *autoscale = json_object_get(spec, "autoscale");
    uint64_t desired = json_member_u64(view_status(group), "desired", 0);
    bool scales = json_member_u64(autoscale, "max", 0) > 0;
    uint64_t least = scales ? json_member_u64(autoscale, "min", 0)
                            : json_member_u64(spec, "replicas", 1);
    size_t index;
    json_t *vm;
    *ret_ready = 0;
    json_array_foreach(vms, index, vm)
    {
        *ret_ready += strcmp(view_phase(vm, KIND_VM), "ready") == 0 ? 1U : 0U;
    }
    *ret_wanted = scales && desired > least ? desired : least;
    return desired == *ret_wanted && json_array_size(vms) == *ret_wanted &&
           *ret_ready == *ret_wanted;
}

/* It does not come up by itself: who waits is told at once. */
static bool is_in_trouble(const json_t *vm)
{
    const char *phase = view_phase(vm, KIND_VM);
    return strcmp(phase, "pending") == 0 || strcmp(phase, "failed") == 0 ||
           strcmp(phase, "lost") == 0 ||
           json_is_true(json_object_get(view_status(vm), "paused")) ||
           json_object_get(view_status(vm), "missingImage") != NULL;
}

/* True when `text` about this VM is new. */
static bool told_changes(struct waiting *waiting, const char *label, const char *text)
{
    const char *before = json_member_text(waiting->told, label, "");
    if (strcmp(before, text) == 0) {
        return false;
    }
    json_object_set_new(waiting->told, label, json_string(text));
    return true;
}

static void tell_ready(struct waiting *waiting, const json_t *vm, const char *label)
{
    char boot[TIMELINE_SIZE];
    timeline_format(vm, boot);
    if (told_changes(waiting, label, boot)) {
        progress_clear(waiting->cli);
        output_tell(waiting->cli, "%-20s %-10s %-15s %s", label,
                    json_member_text(view_status(vm), "host", "-"), view_vm_address(vm),
                    boot);
    }
}

static void tell_late(struct waiting *waiting, json_t *vm, const char *label)
{
    const char *reason = json_member_text(view_status(vm), "reason", "");
    const char *phase = view_phase(vm, KIND_VM);
    char text[CELL_SIZE * 2];
    json_array_append(waiting->late, vm);
    if (reason[0] == '\0' && strcmp(phase, "lost") == 0) {
        reason = "its host is not heard, and it may still run there";
    }
    bool held_up = is_in_trouble(vm) && reason[0] != '\0';
    waiting->held_up += held_up ? 1U : 0U;
    (void)snprintf(text, sizeof(text), "%s: %s", phase, reason);
    if (held_up && told_changes(waiting, label, text)) {
        progress_clear(waiting->cli);
        cli_note(waiting->cli, "%s is %s", label, text);
    }
}

static void look_at_vm(struct waiting *waiting, json_t *vm, const char *was_starting)
{
    char label[OBJECT_LABEL_SIZE];
    const json_t *status = view_status(vm);
    object_label(waiting->cli, "vm", view_tenant(vm), view_name(vm), label);
    bool again = was_starting[0] == '\0' ||
                 strcmp(json_member_text(status, "startingAt", ""), was_starting) != 0;
    if (strcmp(view_phase(vm, KIND_VM), "ready") == 0 && again) {
        tell_ready(waiting, vm, label);
    } else {
        tell_late(waiting, vm, label);
    }
}

/* Who waits may make room: the quota is told when it begins to hold the group up. */
static void
tell_held(struct waiting *waiting, const struct object_name *name, const char *reason)
{
    char label[OBJECT_LABEL_SIZE];
    object_label(waiting->cli, "group", name->tenant, name->name, label);
    if (reason[0] != '\0' && told_changes(waiting, label, reason)) {
        progress_clear(waiting->cli);
        cli_note(waiting->cli, "%s: %s", label, reason);
    }
}

static int look_at_group(struct waiting *waiting, const struct object_name *name)
{
    char query[REMOTE_PATH_SIZE / 2];
    CLEANUP_JSON json_t *group = NULL;
    CLEANUP_JSON json_t *list = NULL;
    uint64_t ready = 0;
    uint64_t wanted = 0;
    size_t index;
    json_t *vm;
    (void)snprintf(query, sizeof(query), "tenant=%s&group=%s", name->tenant, name->name);
    int code = object_get(waiting->cli, name, &group);
    if (code == EXIT_OK) {
        code = remote_list(waiting->cli, kind_info(KIND_VM), query,
                           "metadata.name,metadata.tenant,status", &list);
    }
    if (code != EXIT_OK) {
        return code;
    }
    const json_t *vms = json_object_get(list, "items");
    if (!waiting_group_done(group, vms, &ready, &wanted)) {
        waiting->done = false;
        if (json_array_size(vms) != wanted) {
            const char *reason = json_member_text(view_status(group), "reason", "");
            waiting->over_quota = waiting->over_quota || reason[0] != '\0';
            waiting->lacks_more = waiting->lacks_more || reason[0] == '\0';
            (void)snprintf(
                waiting->missing, sizeof(waiting->missing),
                "group/%s has %zu VM%s and wants %" PRIu64
                "%s%.380s; next: berth explain group/%s -t %s",
                name->name, json_array_size(vms), plural_s(json_array_size(vms)), wanted,
                reason[0] != '\0' ? ": " : "", reason, name->name, name->tenant);
            tell_held(waiting, name, reason);
        }
    }
    waiting->ready += ready;
    waiting->wanted += wanted;
    json_array_foreach(vms, index, vm)
    {
        look_at_vm(waiting, vm, "");
    }
    return EXIT_OK;
}

/* As it shall be: it is not waited for. One that has failed runs no more. */
static bool is_off(const json_t *vm)
{
    const char *phase = view_phase(vm, KIND_VM);
    return strcmp(json_member_text(view_spec(vm), "power", "on"), "off") == 0 &&
           (strcmp(phase, "stopped") == 0 || strcmp(phase, "pending") == 0 ||
            strcmp(phase, "failed") == 0);
}

static int look(struct waiting *waiting, const struct waiting_subject *subject)
{
    CLEANUP_JSON json_t *vm = NULL;
    if (subject->name.info->kind == KIND_GROUP) {
        return look_at_group(waiting, &subject->name);
    }
    int code = object_get(waiting->cli, &subject->name, &vm);
    if (code == EXIT_OK && !is_off(vm)) {
        size_t before = json_array_size(waiting->late);
        look_at_vm(waiting, vm, subject->was_starting);
        bool late = json_array_size(waiting->late) > before;
        waiting->wanted++;
        waiting->ready += late ? 0U : 1U;
        waiting->done = waiting->done && !late;
    }
    return code;
}

static int look_at_all(struct waiting *waiting,
                       const struct waiting_subject *subjects,
                       unsigned count)
{
    int code = EXIT_OK;
    json_array_clear(waiting->late);
    waiting->missing[0] = '\0';
    waiting->over_quota = false;
    waiting->lacks_more = false;
    waiting->held_up = 0;
    waiting->ready = 0;
    waiting->wanted = 0;
    waiting->done = true;
    for (unsigned i = 0; i < count && code == EXIT_OK; i++) {
        code = look(waiting, &subjects[i]);
    }
    return code;
}

/* ---- a quota that nothing frees ---- */

static bool quota_alone(const struct waiting *waiting)
{
    return waiting->over_quota && !waiting->lacks_more &&
           json_array_size(waiting->late) == 0;
}

/* Whether a group's VMs are on their way out: all of them, or those that are too many. */
static bool group_shrinks(const json_t *group)
{
    const json_t *status = view_status(group);
    return json_is_true(json_object_get(status, "deleting")) ||
           json_member_u64(status, "vms", 0) > json_member_u64(status, "desired", 0);
}

/* Whether a VM of the tenant is on its way out, or VMs of one of its groups are. */
static int look_for_room(struct waiting *waiting, const char *tenant, bool *ret_comes)
{
    char query[REMOTE_PATH_SIZE / 2];
    CLEANUP_JSON json_t *vms = NULL;
    CLEANUP_JSON json_t *groups = NULL;
    size_t index;
    json_t *item;
    (void)snprintf(query, sizeof(query), "tenant=%s", tenant);
    int code = remote_list(waiting->cli, kind_info(KIND_VM), query, "status.phase", &vms);
    if (code == EXIT_OK) {
        code = remote_list(waiting->cli, kind_info(KIND_GROUP), query,
                           "status.deleting,status.vms,status.desired", &groups);
    }
    json_array_foreach(json_object_get(vms, "items"), index, item)
    {
        *ret_comes = *ret_comes || strcmp(view_phase(item, KIND_VM), "stopping") == 0;
    }
    json_array_foreach(json_object_get(groups, "items"), index, item)
    {
        *ret_comes = *ret_comes || group_shrinks(item);
    }
    return code;
}

static int room_comes(struct waiting *waiting,
                      const struct waiting_subject *subjects,
                      unsigned count,
                      bool *ret_comes)
{
    const char *seen = "";
    int code = EXIT_OK;
    *ret_comes = false;
    for (unsigned i = 0; i < count && code == EXIT_OK && !*ret_comes; i++) {
        const struct object_name *name = &subjects[i].name;
        if (strcmp(seen, name->tenant) != 0) {
            code = look_for_room(waiting, name->tenant, ret_comes);
            seen = name->tenant;
        }
    }
    return code;
}

/* Counts the looks at which nothing but a quota was in the way, and nothing on its way
 * that would free it. */
static int settle(struct waiting *waiting,
                  const struct waiting_subject *subjects,
                  unsigned count,
                  unsigned *settled)
{
    bool comes = false;
    int code = quota_alone(waiting) ? room_comes(waiting, subjects, count, &comes)
                                    : (int)EXIT_OK;
    *settled = code == EXIT_OK && quota_alone(waiting) && !comes ? *settled + 1 : 0;
    return code;
}

static int give_up_quota(struct waiting *waiting)
{
    (void)cli_fail(waiting->cli, EXIT_CAPACITY,
                   "%" PRIu64 " of %" PRIu64
                   " VM%s ready; a quota keeps back the others, and waiting alone does "
                   "not free it: nothing of the tenant is on its way out",
                   waiting->ready, waiting->wanted, plural_s_are(waiting->wanted));
    fprintf(waiting->cli->err, "  %s\n", waiting->missing);
    return EXIT_CAPACITY;
}

/* ---- giving up ---- */

static void console_line(struct cli *cli, const json_t *vm, char *ret_line)
{
    struct object_name name = {.info = kind_info(KIND_VM)};
    struct http_answer answer;
    char path[REMOTE_PATH_SIZE];
    (void)snprintf(name.tenant, sizeof(name.tenant), "%s", view_tenant(vm));
    (void)snprintf(name.name, sizeof(name.name), "%s", view_name(vm));
    object_path(&name, "/console", path);
    ret_line[0] = '\0';
    if (json_member_text(view_status(vm), "host", NULL) != NULL &&
        remote_answer(cli, "GET", path, NULL, &answer) == EXIT_OK) {
        if (answer.status == 200 && answer.body != NULL) {
            waiting_last_line(answer.body, ret_line, LINE_SIZE);
        }
        http_answer_fini(&answer);
    }
}

static void tell_culprit(struct cli *cli, const json_t *vm)
{
    char line[LINE_SIZE];
    char span[SPAN_TEXT_SIZE];
    const char *host = json_member_text(view_status(vm), "host", NULL);
    const char *reason = json_member_text(view_status(vm), "reason", "");
    uint64_t since = timeline_phase_since(vm);
    uint64_t now = clock_wall_ms(clock_system());
    span_format(since != 0 && now > since ? now - since : 0, span);
    fprintf(cli->err, "  vm/%s is %s%s%s%s%s%s%s\n", view_name(vm),
            view_phase(vm, KIND_VM), host != NULL ? " on " : "", host != NULL ? host : "",
            since != 0 ? " for " : "", since != 0 ? span : "",
            reason[0] != '\0' ? ": " : "", reason);
    console_line(cli, vm, line);
    if (line[0] != '\0') {
        fprintf(cli->err, "    last console line: %s\n", line);
    }
    fprintf(cli->err, "    next: berth %s vm/%s -t %s\n",
            host == NULL || is_in_trouble(vm) ? "explain" : "console", view_name(vm),
            view_tenant(vm));
}

static int give_up(struct waiting *waiting, uint64_t timeout_ms)
{
    struct cli *cli = waiting->cli;
    char span[SPAN_TEXT_SIZE];
    size_t index;
    json_t *vm;
    span_format(timeout_ms, span);
    enum cli_exit code = quota_alone(waiting) ? EXIT_CAPACITY : EXIT_TIMED_OUT;
    (void)cli_fail(cli, code,
                   "after %s %" PRIu64 " of %" PRIu64
                   " VM%s ready; the cluster goes on, this command does not",
                   span, waiting->ready, waiting->wanted, plural_s_are(waiting->wanted));
    if (waiting->missing[0] != '\0') {
        fprintf(cli->err, "  %s\n", waiting->missing);
    }
    json_array_foreach(waiting->late, index, vm)
    {
        if (index == CULPRITS_MAX) {
            fprintf(cli->err, "  and %zu more: berth ls vm\n",
                    json_array_size(waiting->late) - index);
            break;
        }
        tell_culprit(cli, vm);
    }
    return (int)code;
}

/* ---- the loop ---- */

static int wait_loop(struct waiting *waiting,
                     const struct waiting_subject *subjects,
                     unsigned count,
                     uint64_t timeout_ms)
{
    char span[SPAN_TEXT_SIZE];
    char held[64] = "";
    unsigned settled = 0;
    for (;;) {
        int code = look_at_all(waiting, subjects, count);
        code = code == EXIT_OK ? settle(waiting, subjects, count, &settled) : code;
        uint64_t past_ms = clock_now_ms(clock_system()) - waiting->start_ms;
        if (code != EXIT_OK || waiting->done) {
            progress_clear(waiting->cli);
            return code;
        }
        if (past_ms >= timeout_ms || settled >= SETTLED) {
            progress_clear(waiting->cli);
            return past_ms >= timeout_ms ? give_up(waiting, timeout_ms)
                                         : give_up_quota(waiting);
        }
        if (waiting->held_up > 0) { /* each was told why */
            (void)snprintf(held, sizeof(held), "; %u held up, as told", waiting->held_up);
        }
        span_format(past_ms, span);
        progress_show(waiting->cli,
                      "waiting: %" PRIu64 " of %" PRIu64 " VM%s ready, %s%s",
                      waiting->ready, waiting->wanted, plural_s(waiting->wanted), span,
                      waiting->held_up > 0 ? held : "");
        pause_ms(POLL_MS);
    }
}

int waiting_run(struct cli *cli,
                const struct waiting_subject *subjects,
                unsigned count,
                uint64_t timeout_ms)
{
    struct waiting waiting = {.cli = cli,
                              .told = json_object(),
                              .late = json_array(),
                              .start_ms = clock_now_ms(clock_system())};
    int code = wait_loop(&waiting, subjects, count, timeout_ms);
    json_decref(waiting.told);
    json_decref(waiting.late);
    return code;
}

int waiting_run_flags(struct cli *cli,
                      const struct waiting_subject *subjects,
                      unsigned count)
{
    uint64_t timeout_ms = 0;
    int code = cli_flag_duration(cli, "timeout", WAITING_DEFAULT_MS, &timeout_ms);
    return code == EXIT_OK ? waiting_run(cli, subjects, count, timeout_ms) : code;
}
