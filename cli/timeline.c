#include "cli/timeline.h"

#include "base/cleanup.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/plain_text.h"

#include <string.h>

static const struct step {
    const char *phase;
    const char *key; /* when it was entered */
} steps[] = {
    {"pending", "pendingAt"}, {"placed", "placedAt"}, {"starting", "startingAt"},
    {"running", "runningAt"}, {"ready", "readyAt"},
};

static uint64_t entered(const json_t *vm, unsigned step)
{
    return instant_parse(json_member_text(view_status(vm), steps[step].key, NULL));
}

/* How far this boot came: later instants may be of the boot before. */
static unsigned reached(const json_t *vm)
{
    unsigned last = 0;
    for (unsigned i = 1; i < ARRAY_COUNT(steps); i++) {
        uint64_t at = entered(vm, i);
        if (at != 0 && at >= entered(vm, last)) {
            last = i;
        } else if (at != 0) {
            break;
        }
    }
    return last;
}

void timeline_format(const json_t *vm, char ret_text[TIMELINE_SIZE])
{
    unsigned last = reached(vm);
    uint64_t start = entered(vm, 0);
    char span[SPAN_TEXT_SIZE];
    size_t at = 0;
    ret_text[0] = '\0';
    for (unsigned i = 0; i < last; i++) {
        uint64_t from = entered(vm, i);
        uint64_t to = 0;
        for (unsigned j = i + 1; j <= last && to == 0; j++) {
            to = entered(vm, j);
        }
        if (from == 0 || at >= TIMELINE_SIZE) {
            continue;
        }
        span_format(to - from, span);
        at += (size_t)snprintf(ret_text + at, TIMELINE_SIZE - at, "%s%s %s",
                               at > 0 ? ", " : "", steps[i].phase, span);
    }
    uint64_t end = entered(vm, last);
    if (last == 0 || start == 0 || at >= TIMELINE_SIZE) {
        (void)snprintf(ret_text + at, TIMELINE_SIZE - at, "%s%s", at > 0 ? ": " : "",
                       steps[last].phase);
        return;
    }
    span_format(end - start, span);
    (void)snprintf(ret_text + at, TIMELINE_SIZE - at, ": %s after %s", steps[last].phase,
                   span);
}

uint64_t timeline_phase_since(const json_t *vm)
{
    const char *phase = view_phase(vm, KIND_VM);
    for (unsigned i = 0; i < ARRAY_COUNT(steps); i++) {
        if (strcmp(phase, steps[i].phase) == 0) {
            return entered(vm, i);
        }
    }
    return 0;
}

void event_format(const struct cli *cli,
                  const json_t *event,
                  char ret_line[EVENT_LINE_SIZE])
{
    const char *kind = json_member_text(event, "kind", "");
    const struct kind_info *info = kind_info_by_name(kind);
    char label[OBJECT_LABEL_SIZE];
    char when[INSTANT_TEXT_SIZE];
    instant_format_local(instant_parse(json_member_text(event, "time", NULL)), when);
    object_label(cli, info != NULL ? info->word : kind,
                 json_member_text(event, "tenant", ""),
                 json_member_text(event, "name", ""), label);
    int length = snprintf(ret_line, EVENT_LINE_SIZE, "%s  %-22s %-10s %s",
                          cli->format == FORMAT_WIDE ? when : when + 11, label,
                          json_member_text(event, "verb", ""),
                          json_member_text(event, "reason", ""));
    size_t end = length < EVENT_LINE_SIZE ? (size_t)length : EVENT_LINE_SIZE - 1;
    while (end > 0 && ret_line[end - 1] == ' ') {
        ret_line[--end] = '\0';
    }
    (void)plain_line(ret_line);
}
