/* served FOLDER [tls] [front] [memory=TiB]: serves tests/support/served_api.h until stdin
 * ends, for tests that run programs against it.
 *
 * Says "ready PORT PIN" when it listens on FOLDER/berthd.sock (and, with tls, on the
 * loopback), then "ok" after each line of stdin that it has carried out:
 *   vms PREFIX N            admits VMs of template "plain"
 *   token NAME SECRET ROLE TENANT   ("-": of the cluster)
 *   phase NAME              VMs get no further than this
 *   set KNOB                not_leader, no_leader, hold_proposals, hold_reads,
 * no_scheduler, images_gone
 *   reset                   the change feed begins anew
 */
#include "base/cleanup.h"
#include "support/served_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 512

static enum role role_named(const char *name)
{
    for (int role = ROLE_VIEWER; role <= ROLE_ADMIN; role++) {
        if (strcmp(role_names[role], name) == 0) {
            return (enum role)role;
        }
    }
    return ROLE_NONE;
}

static void do_phase(struct served *served, void *context)
{
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        if (strcmp(phase_names[phase], context) == 0) {
            served_knobs(served)->phase_last = (enum phase)phase;
        }
    }
}

struct setting {
    const char *name;
    bool on;
};

static void do_set(struct served *served, void *context)
{
    struct served_knobs *knobs = served_knobs(served);
    const struct {
        const char *name;
        bool *knob;
    } rows[] = {
        {"not_leader", &knobs->not_leader},
        {"no_leader", &knobs->no_leader},
        {"hold_proposals", &knobs->hold_proposals},
        {"hold_reads", &knobs->hold_reads},
        {"no_scheduler", &knobs->no_scheduler},
        {"images_gone", &knobs->images_gone},
        {"never_stopped", &knobs->never_stopped},
        {"never_paused", &knobs->never_paused},
        {"never_saved", &knobs->never_saved},
        {"save_fails", &knobs->save_fails},
    };
    const struct setting *setting = context;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (strcmp(rows[i].name, setting->name) == 0) {
            *rows[i].knob = setting->on;
        }
    }
}

static void do_reset(struct served *served, void *context)
{
    (void)context;
    served_reset(served);
}

static bool carry_out(struct served *served, const char *line)
{
    char verb[16] = "";
    char words[4][100] = {"", "", "", ""};
    int count = sscanf(line, "%15s %99s %99s %99s %99s", verb, words[0], words[1],
                       words[2], words[3]);
    if (strcmp(verb, "vms") == 0 && count == 3) {
        served_vms(served, words[0], (unsigned)strtoul(words[1], NULL, 10));
    } else if (strcmp(verb, "token") == 0 && count == 5) {
        served_token(served, words[0], words[1], role_named(words[2]),
                     strcmp(words[3], "-") == 0 ? "" : words[3], 0);
    } else if (strcmp(verb, "phase") == 0 && count == 2) {
        served_do(served, do_phase, words[0]);
    } else if (strcmp(verb, "set") == 0 && count == 2) {
        served_do(served, do_set, &(struct setting){words[0], true});
    } else if (strcmp(verb, "clear") == 0 && count == 2) {
        served_do(served, do_set, &(struct setting){words[0], false});
    } else if (strcmp(verb, "reset") == 0) {
        served_do(served, do_reset, NULL);
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct served_config config = {0};
    char line[LINE_SIZE];
    if (argc < 2) {
        fprintf(stderr, "usage: served FOLDER [tls] [front] [memory=TiB]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        config.tls = config.tls || strcmp(argv[i], "tls") == 0;
        config.front = config.front || strcmp(argv[i], "front") == 0;
        config.memory_bytes = strncmp(argv[i], "memory=", 7) == 0
                                  ? strtoull(argv[i] + 7, NULL, 10) * TIB
                                  : config.memory_bytes;
    }
    struct served *served = served_start(argv[1], &config);
    printf("ready %u %s\n", served_port(served), served_pin(served));
    (void)fflush(stdout); /* who waits for it notices */
    while (fgets(line, sizeof(line), stdin) != NULL) {
        puts(carry_out(served, line) ? "ok" : "what?");
        (void)fflush(stdout); /* likewise */
    }
    served_stop(served);
    return 0;
}
