/* berth-fence: the fence of one host's state folder. berthd starts it; people may ask it
 * what it watches. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/parse_number.h"
#include "base/plural.h"
#include "base/version.h"
#include "fence/fence_loop.h"
#include "fence/fence_shield.h"
#include "fence/fence_socket.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATE_DEFAULT    "/var/lib/berth"
#define LEASE_DEFAULT_MS 6000
#define LEASE_MAX_MS     3600000u
#define ANSWER_MS        2000
/* Of the way to L(1-d); fence_core_watchdog_in_time has the last word. */
#define WATCHDOG_PERMILLE 860

enum option_id {
    OPTION_STATE = 1,
    OPTION_LEASE,
    OPTION_WATCHDOG,
    OPTION_SHOW,
    OPTION_END,
    OPTION_VERSION,
    OPTION_HELP,
};

static const struct option longs[] = {
    {"state", required_argument, NULL, OPTION_STATE},
    {"lease-ms", required_argument, NULL, OPTION_LEASE},
    {"watchdog", required_argument, NULL, OPTION_WATCHDOG},
    {"show", no_argument, NULL, OPTION_SHOW},
    {"end", no_argument, NULL, OPTION_END},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

struct options {
    const char *folder;
    const char *watchdog;
    uint64_t lease_ms;
    bool show, end;
};

/* Says what is wrong; the exit code. */
static int bad(int code, const char *what, const char *why)
{
    (void)fprintf(stderr, "berth-fence: %s%s\n", what, why); /* nowhere else to say it */
    return code;
}

static void usage(void)
{
    (void)printf(
        "usage: berth-fence [options]\n\n"
        "Ends this host's VMs when their lease does, should berthd be unable to; "
        "berthd starts it.\n\n"
        "  --state DIR        state folder (" STATE_DEFAULT ")\n"
        "  --lease-ms N       length of the lease (6000)\n"
        "  --watchdog DEVICE  feed this watchdog, or the machine's first: auto\n"
        "  --show             print what the running fence watches\n"
        "  --end              end the running fence; refused while it watches a VM\n"
        "  --version          print the version\n"
        "  --help             print this\n");
}

/* 0: go on; else exit with that code (-1: with success). */
static int take_options(struct options *options, int argc, char **argv)
{
    int option;
    struct err err;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the only thread */
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch ((enum option_id)option) {
        case OPTION_STATE:
            options->folder = optarg;
            break;
        case OPTION_LEASE:
            if (parse_u64(optarg, &options->lease_ms, &err) < 0 ||
                options->lease_ms == 0 || options->lease_ms > LEASE_MAX_MS) {
                return bad(2, "", "--lease-ms: wanted 1 to 3600000");
            }
            break;
        case OPTION_WATCHDOG:
            options->watchdog = optarg;
            break;
        case OPTION_SHOW:
            options->show = true;
            break;
        case OPTION_END:
            options->end = true;
            break;
        case OPTION_VERSION:
            printf("berth-fence %s\n", BERTH_VERSION);
            return -1;
        case OPTION_HELP:
            usage();
            return -1;
        default:
            return bad(2, "", "see berth-fence --help");
        }
    }
    if (optind < argc) {
        return bad(2, "see berth-fence --help; unexpected: ", argv[optind]);
    }
    return 0;
}

/* ---- asking the running one ---- */

/* One request, one answer; events in between are passed over. */
static int ask(int fd, struct fence_message *message)
{
    const uint32_t tag = message->tag;
    int r = fence_socket_send(fd, message, NULL, 0);
    while (r == 0) {
        int fds[FENCE_FDS_MAX];
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, ANSWER_MS) <= 0) {
            return BERTH_ETIMEOUT;
        }
        r = fence_socket_receive(fd, message, fds);
        if (r == 0 && message->type != FENCE_EVENT && message->tag == tag) {
            return 0;
        }
        r = r == -EAGAIN ? 0 : r;
    }
    return r;
}

static void state_print(const struct fence_state *state)
{
    static const char *const words[] = {"not ", ""};
    uint64_t now_ns = clock_now_ns(clock_system());
    printf("pid %u, lease %" PRIu64 " ms, %s\n", state->pid, state->length_ns / NS_PER_MS,
           state->phase < FENCE_PHASE_COUNT
               ? fence_phase_name((enum fence_phase)state->phase)
               : "?");
    if (state->granted_ns == 0) {
        printf("no lease was granted yet\n");
    } else if (state->granted_ns <= now_ns) {
        printf("renewed %" PRIu64 " ms ago\n", (now_ns - state->granted_ns) / NS_PER_MS);
    }
    printf("memory %slocked, %sreal time, %sshielded from the out-of-memory killer\n",
           words[(state->flags & FENCE_HAS_LOCKED_MEMORY) != 0],
           words[(state->flags & FENCE_HAS_REAL_TIME) != 0],
           words[(state->flags & FENCE_HAS_OOM_SHIELD) != 0]);
    if ((state->flags & FENCE_HAS_WATCHDOG) == 0) {
        printf("no watchdog\n");
    } else {
        printf("watchdog %u ms%s\n", state->watchdog_ms,
               (state->flags & FENCE_HAS_WATCHDOG_IN_TIME) != 0
                   ? ""
                   : ", too slow to bite before the lease ends");
    }
    printf("froze %" PRIu64 ", resumed %" PRIu64 ", killed %" PRIu64 " so far\n",
           state->froze_total, state->resumed_total, state->killed_total);
    printf("watches %u VM%s, %u frozen\n", state->watched, plural_s(state->watched),
           state->frozen);
}

static int show(int fd)
{
    struct fence_message message = {.type = FENCE_HELLO, .tag = 1};
    int r = ask(fd, &message);
    if (r != 0 || message.type != FENCE_STATE) {
        return r != 0 ? r : BERTH_EPROTO;
    }
    state_print(&message.body.state);
    uint32_t slot = 0;
    do {
        message = (struct fence_message){
            .type = FENCE_LIST, .tag = message.tag + 1, .body.list = {.slot = slot}};
        r = ask(fd, &message);
        if (r != 0 || message.type != FENCE_PAGE) {
            return r != 0 ? r : BERTH_EPROTO;
        }
        for (uint32_t i = 0; i < message.body.page.count; i++) {
            const struct fence_entry *entry = &message.body.page.entries[i];
            printf("vm %" PRIu64 " epoch %" PRIu64 " pid %u%s%s\n", entry->uid,
                   entry->epoch, entry->pid,
                   (entry->flags & FENCE_VM_FROZEN) != 0 ? " frozen" : "",
                   (entry->flags & FENCE_VM_KILLED) != 0 ? " killed" : "");
        }
        slot = message.body.page.next;
    } while (slot != 0);
    return 0;
}

static int ask_to_end(int fd)
{
    struct fence_message message = {.type = FENCE_END, .tag = 1};
    int r = ask(fd, &message);
    return r != 0                        ? r
           : message.type == FENCE_REPLY ? -(int)message.body.reply.code
                                         : BERTH_EPROTO;
}

static int talk(const struct options *options)
{
    struct err err;
    pid_t pid;
    int fd = fence_socket_connect(options->folder, &pid, &err);
    if (fd < 0) {
        bool none = fd == -ENOENT || fd == -ECONNREFUSED;
        return bad(none && options->end ? 0 : 1, "",
                   none ? "no fence runs here" : err.text);
    }
    int r = options->end ? ask_to_end(fd) : show(fd);
    (void)close(fd); /* the process ends */
    return r == 0 ? 0
                  : bad(1, "",
                        r == BERTH_EINUSE ? "it watches VMs: end them first"
                                          : err_sentence(r));
}

/* ---- being it ---- */

static void watchdog_open(const struct options *options, struct fence_config *config)
{
    struct err err;
    uint64_t wanted_ms = options->lease_ms * WATCHDOG_PERMILLE / 1000;
    config->watchdog = (struct fence_watchdog){.fd = -1};
    if (options->watchdog == NULL) {
        log_info("fence", "no watchdog is fed: a host whose kernel lets neither berthd "
                          "nor the fence run is not reset");
    } else if (fence_watchdog_open(options->watchdog, (uint32_t)wanted_ms,
                                   &config->watchdog, &err) < 0) {
        log_error("fence", "the watchdog cannot be used", KV_STR("why", err.text));
    }
}

static int stand(const struct options *options)
{
    struct err err = {0};
    struct fence_config config = {
        .folder = options->folder,
        .rules = fence_rules_default(options->lease_ms * NS_PER_MS),
        .idle_ms = FENCE_IDLE_MS,
    };
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN); /* it belongs to no terminal */
    watchdog_open(options, &config);
    config.shields = fence_shield();
    int r = fence_loop_run(&config, &err);
    if (r < 0) {
        log_error("fence", "the fence does not stand", KV_STR("why", err.text));
    }
    return r < 0;
}

int main(int argc, char **argv)
{
    struct options options = {.folder = STATE_DEFAULT, .lease_ms = LEASE_DEFAULT_MS};
    int r = take_options(&options, argc, argv);
    if (r != 0) {
        return r < 0 ? 0 : r;
    }
    return options.show || options.end ? talk(&options) : stand(&options);
}
