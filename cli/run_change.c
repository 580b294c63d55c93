/* scale, start, stop, restart. */
#include "base/parse_number.h"
#include "base/plural.h"
#include "cli/asking.h"
#include "cli/disks_lost.h"
#include "cli/kind_view.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/waiting_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What keeps it from that number for good, such as its tenant's quota. */
static void tell_held_back(struct cli *cli, const struct object_name *name)
{
    CLEANUP_JSON json_t *group = NULL;
    if (object_get(cli, name, &group) == EXIT_OK) {
        const char *reason = json_member_text(view_status(group), "reason", "");
        if (strstr(reason, "held back") != NULL) {
            cli_note(cli, "%s", reason);
        }
    }
}

int run_scale(struct cli *cli)
{
    struct waiting_subject subject = {0};
    char path[REMOTE_PATH_SIZE];
    uint64_t replicas = 0;
    struct err err;
    if (parse_u64(cli->words[1], &replicas, &err) < 0 || replicas > GROUP_VMS_MAX) {
        return cli_fail(cli, EXIT_USAGE, "\"%s\": wanted a number of VMs, 0 to %d",
                        cli->words[1], GROUP_VMS_MAX);
    }
    int code = object_name_find(cli, cli->words[0], KIND_GROUP, &subject.name);
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *body = json_pack("{s:I}", "replicas", (json_int_t)replicas);
    object_path(&subject.name, ":scale", path);
    code = remote_call(cli, "POST", path, body, NULL);
    if (code != EXIT_OK) {
        return code;
    }
    output_tell(cli, "group/%s: %" PRIu64 " VM%s wanted", subject.name.name, replicas,
                plural_s(replicas));
    tell_held_back(cli, &subject.name);
    code = cli_flag(cli, "wait") != NULL ? waiting_run_flags(cli, &subject, 1) : EXIT_OK;
    if (output_is_document(cli)) { /* also what a wait gave up on */
        int shown = output_objects(cli, &subject.name, 1, false);
        code = code == EXIT_OK ? shown : code;
    }
    return code;
}

/* ---- power ---- */

/* What start, stop and restart differ in. */
struct switching {
    const char *action;
    const char *said;
    const struct awaited_state *awaited; /* NULL: until it is ready */
    bool on;
    bool again; /* also when it is so already */
};

struct powered {
    struct waiting_subject subject;
    json_t *before; /* the VM as it was */
    bool in_doubt;  /* it may run, and its user has been asked for the word that it does
                       not */
};

static bool is_lost(const json_t *vm)
{
    return strcmp(view_phase(vm, KIND_VM), "lost") == 0;
}

/* The cluster began again, and does not know where it runs. */
static bool is_unknown(const json_t *vm)
{
    return json_is_true(json_object_get(view_status(vm), "placeUnknown"));
}

static bool is_on(const json_t *vm)
{
    return strcmp(json_member_text(view_spec(vm), "power", "on"), "on") == 0;
}

static bool is_off(const json_t *vm)
{
    return !is_on(vm);
}

/* Of its own, by its user's will or by a fault; also when it may start again. */
static bool has_ended(const json_t *vm)
{
    const char *phase = view_phase(vm, KIND_VM);
    return strcmp(phase, "stopped") == 0 || strcmp(phase, "failed") == 0;
}

static bool is_placed_nowhere(const json_t *vm)
{
    return strcmp(view_phase(vm, KIND_VM), "pending") == 0;
}

static bool is_stopped(const json_t *vm)
{
    return is_off(vm) && (has_ended(vm) || is_placed_nowhere(vm));
}

static const struct awaited_state stopped = {.is_so = is_stopped,
                                             .is_wished = is_off,
                                             .taken_back = "is not to be off any more",
                                             .not_yet = "is not stopped yet"};

/* A VM of which nothing comes now, since it is what it shall be or its host is lost; else
 * NULL. */
static const char *already(const struct switching *switching, const json_t *vm)
{
    const bool ended = has_ended(vm);
    const bool waits = is_placed_nowhere(vm);
    if (!switching->again && is_lost(vm)) {
        return !switching->on ? "stops when its host is back; it may still run there"
               : is_on(vm) ? "is on already, but its host is lost: it may still run there"
                           : "starts when its host is back; it may still run there";
    }
    if (switching->again || is_on(vm) != switching->on) {
        return NULL;
    }
    if (!switching->on) {
        return ended || waits ? "is stopped already" : "stops already";
    }
    if (json_is_true(json_object_get(view_spec(vm), "paused"))) {
        return "is paused: berth resume lets it go on";
    }
    return ended   ? NULL
           : waits ? "is on already, and waits for a host"
           : strcmp(view_phase(vm, KIND_VM), "ready") == 0 ? "runs already"
                                                           : "is on already";
}

/* The host that keeps its disks cannot take it now: what it waits for, and both ways out,
 * as the cluster says. False when it starts there, there is none, or the cluster is of a
 * release that does not say it apart. */
static bool tell_waits(struct cli *cli, const struct powered *powered)
{
    CLEANUP_JSON json_t *vm = NULL;
    if (disks_lost_host(powered->before)[0] == '\0' ||
        object_get(cli, &powered->subject.name, &vm) != EXIT_OK) {
        return false;
    }
    const char *waits = json_member_text(view_status(vm), "waits", "");
    if (strcmp(view_phase(vm, KIND_VM), "pending") != 0 || waits[0] == '\0' ||
        json_member_text(view_status(vm), "diskHost", "")[0] == '\0') {
        return false;
    }
    output_tell(cli, "vm/%s: is on and waits: %s", powered->subject.name.name, waits);
    cli_note(cli, "--anywhere gives its disks up, with all that they hold");
    return true;
}

/* What is told of a VM of which this was asked. */
static void tell_switched(struct cli *cli,
                          const struct switching *switching,
                          const struct powered *powered)
{
    const json_t *vm = powered->before;
    const char *none = already(switching, vm);
    const char *keeper = disks_lost_host(vm);
    bool anywhere = cli_flag(cli, "anywhere") != NULL;
    if (anywhere && keeper[0] != '\0' && !is_lost(vm)) {
        output_tell(cli, "vm/%s: starts anywhere; its disks on %s are given up",
                    powered->subject.name.name, keeper);
        return;
    }
    if (switching->on && !anywhere && !is_lost(vm) && tell_waits(cli, powered)) {
        return;
    }
    output_tell(cli, "vm/%s: %s", powered->subject.name.name,
                none != NULL ? none : switching->said);
    if (switching->on && is_lost(vm)) {
        const char *host = json_member_text(view_status(vm), "host", "NAME");
        /* Of one placed at its snapshot another host keeps the disks. */
        const char *kept = json_member_text(view_status(vm), "diskHost", "");
        if (is_unknown(vm)) { /* its host was left out, and comes back as another */
            cli_note(cli,
                     "next: berth down --forget on %s ends it there; once it surely runs "
                     "nowhere, berth rm host/%s, and berth start %s --anywhere starts it "
                     "with new disks",
                     host, host, powered->subject.name.name);
            return;
        }
        cli_note(cli,
                 "next: bring %s back, or berth rm host/%s once it is surely off: the VM "
                 "then starts %s%s, with %s disks",
                 host, host, kept[0] != '\0' ? "on " : "",
                 kept[0] != '\0' ? kept : "elsewhere", kept[0] != '\0' ? "its" : "new");
    }
}

static int power_find(struct cli *cli, const char *word, struct powered *ret_powered)
{
    struct waiting_subject *subject = &ret_powered->subject;
    int code = object_name_find(cli, word, KIND_VM, &subject->name);
    return code == EXIT_OK ? object_get(cli, &subject->name, &ret_powered->before) : code;
}

static int
power_one(struct cli *cli, const struct switching *switching, struct powered *powered)
{
    char path[REMOTE_PATH_SIZE];
    struct waiting_subject *subject = &powered->subject;
    CLEANUP_JSON json_t *body = json_object();
    if (cli_flag(cli, "anywhere") != NULL) {
        json_object_set_new(body, "anywhere", json_true());
    }
    if (powered->in_doubt) {
        json_object_set_new(body, "surelyOff", json_true());
    }
    if (switching->again) { /* ready is news only after a new start */
        (void)snprintf(subject->was_starting, sizeof(subject->was_starting), "%s",
                       json_member_text(view_status(powered->before), "startingAt", ""));
    }
    object_path(&subject->name, switching->action, path);
    int code =
        remote_call(cli, "POST", path, json_object_size(body) > 0 ? body : NULL, NULL);
    if (code == EXIT_OK) { /* asked for all the same: it was only a look */
        tell_switched(cli, switching, powered);
    }
    return code;
}

/* --anywhere gives disks up: of which VMs, before any of them. */
static json_t *gives_up(struct cli *cli, const struct powered *powered, unsigned count)
{
    json_t *lost = json_array();
    for (unsigned i = 0; i < count && cli_flag(cli, "anywhere") != NULL; i++) {
        if (disks_lost_host(powered[i].before)[0] != '\0' &&
            !is_lost(powered[i].before)) { /* which is refused: it may still run */
            json_array_append(lost, powered[i].before);
        }
    }
    return lost;
}

/* Of which VMs nothing but their user's word says that they do not run already. Without a
 * host that keeps disks of it, one is refused unless --anywhere. */
static unsigned mark_doubt(struct cli *cli, struct powered *powered, unsigned count)
{
    unsigned marked = 0;
    for (unsigned i = 0; i < count; i++) {
        const json_t *vm = powered[i].before;
        powered[i].in_doubt =
            is_unknown(vm) && !is_lost(vm) &&
            (cli_flag(cli, "anywhere") != NULL ||
             json_member_text(view_status(vm), "diskHost", "")[0] != '\0');
        marked += powered[i].in_doubt ? 1U : 0U;
    }
    return marked;
}

static void tell_doubt(struct cli *cli, const struct powered *powered, unsigned count)
{
    fputs("Since the cluster began again it is not known where these run. One that still "
          "runs on a\nhost of before, where nobody has looked, then runs twice:\n",
          cli->err);
    for (unsigned i = 0; i < count; i++) {
        if (powered[i].in_doubt) {
            fprintf(cli->err, "  %s/vm/%s is %s, it may still run there\n",
                    view_tenant(powered[i].before), view_name(powered[i].before),
                    view_phase(powered[i].before, KIND_VM));
        }
    }
}

static int confirm_start(struct cli *cli,
                         const struct switching *switching,
                         struct powered *powered,
                         unsigned count)
{
    CLEANUP_JSON json_t *lost = gives_up(cli, powered, count);
    unsigned doubt =
        switching->on && !switching->again ? mark_doubt(cli, powered, count) : 0;
    if (cli->yes || (json_array_size(lost) == 0 && doubt == 0)) {
        return EXIT_OK;
    }
    if (json_array_size(lost) > 0) {
        fputs("This gives disks up, with all that they hold:\n", cli->err);
        disks_lost_tell(cli, lost);
    }
    if (doubt > 0) {
        tell_doubt(cli, powered, count);
    }
    return asking_confirm(cli, doubt > 0 ? "a VM that may still run" : "--anywhere",
                          "nothing was started");
}

static int
power_all(struct cli *cli, const struct switching *switching, struct powered *powered)
{
    struct waiting_subject *subjects = calloc(cli->word_count, sizeof(*subjects));
    unsigned found = 0;
    unsigned count = 0;
    int code = EXIT_OK;
    if (subjects == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < cli->word_count; i++) {
        int r = power_find(cli, cli->words[i], &powered[found]);
        found += r == EXIT_OK ? 1U : 0U;
        code = code == EXIT_OK ? r : code;
    }
    int asked = confirm_start(cli, switching, powered, found);
    for (unsigned i = 0; i < found && asked == EXIT_OK; i++) {
        int r = power_one(cli, switching, &powered[i]);
        subjects[count] = powered[i].subject;
        count += r == EXIT_OK ? 1U : 0U;
        code = code == EXIT_OK ? r : code;
    }
    code = asked == EXIT_OK ? code : asked;
    if (code == EXIT_OK && cli_flag(cli, "wait") != NULL) {
        code = switching->awaited != NULL
                   ? waiting_state(cli, switching->awaited, subjects, count)
                   : waiting_run_flags(cli, subjects, count);
    }
    if (output_is_document(cli) && count > 0) {
        int shown = waiting_show(cli, subjects, count);
        code = code == EXIT_OK ? shown : code;
    }
    free(subjects);
    return code;
}

/* All are told before any is waited for; the first fault is the exit code. */
static int run_power(struct cli *cli, const struct switching *switching)
{
    struct powered *powered = calloc(cli->word_count, sizeof(*powered));
    if (powered == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    int code = power_all(cli, switching, powered);
    for (unsigned i = 0; i < cli->word_count; i++) {
        json_decref(powered[i].before);
    }
    free(powered);
    return code;
}

int run_start(struct cli *cli)
{
    return run_power(
        cli, &(struct switching){.action = ":start", .said = "starts", .on = true});
}

int run_stop(struct cli *cli)
{
    return run_power(cli, &(struct switching){
                              .action = ":stop", .said = "stops", .awaited = &stopped});
}

int run_restart(struct cli *cli)
{
    return run_power(cli, &(struct switching){
                              .action = ":restart", .said = "restarts", .again = true});
}
