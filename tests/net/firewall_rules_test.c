/* Goal: the rules are one sound transaction that nft accepts, the same for the same
 * state, and their hash tells states apart. What they let pass is shown on frames in
 * network_isolation_test. Method: the text is parsed as JSON; nft itself checks and loads
 * it in a network namespace of the test's own (as root; left out otherwise). */
#include "base/cleanup.h"
#include "base/json.h"
#include "net/firewall_rules.h"
#include "network_fixture.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct network_host host;
static struct network_want wants[2];
static struct network_port ports[2];
static struct network_remote remotes[2];
static bool can_load;

static void setup(void)
{
    host = fixture_host(1, "/var/lib/berth");
    host.guards[0] = (struct network_cidr){IPV4(192, 0, 2, 0), 24};
    host.guard_count = 1;
    wants[0] = fixture_want(7, 1);
    wants[0].nat = true;
    ports[0] = fixture_port(7, 10);
    ports[1] = fixture_port(8, 11);
    remotes[0] = fixture_remote(7, 20, 2);
    remotes[1] = fixture_router(7, 2);
    wants[0].ports = &ports[0];
    wants[0].port_count = 1;
    wants[0].remotes = remotes;
    wants[0].remote_count = 2;
    wants[1] = fixture_want(8, 1);
    wants[1].ports = &ports[1];
    wants[1].port_count = 1;
}

static char *render(size_t count, uint64_t *ret_hash)
{
    char *text = NULL;
    struct err err = {0};

    ck_assert_msg(firewall_rules_render(&host, wants, count, &text, ret_hash, &err) == 0,
                  "%s", err.text);
    return text;
}

/* Feeds text to nft with these arguments; its exit code. */
static int nft(const char *text, const char *const *argv)
{
    int pipe_fds[2];
    int status = -1;

    ck_assert_int_eq(pipe(pipe_fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(pipe_fds[0], 0);
        (void)close(pipe_fds[0]);
        (void)close(pipe_fds[1]);
        (void)execvp("nft", (char *const *)(uintptr_t)argv);
        _exit(126);
    }
    (void)close(pipe_fds[0]);
    for (size_t left = text != NULL ? strlen(text) : 0; left > 0;) {
        ssize_t n = write(pipe_fds[1], text + (strlen(text) - left), left);
        ck_assert_int_gt(n, 0);
        left -= (size_t)n;
    }
    (void)close(pipe_fds[1]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char *const nft_check[] = {"nft", "-j", "-c", "-f", "-", NULL};
static const char *const nft_load[] = {"nft", "-j", "-f", "-", NULL};

START_TEST(the_text_is_json_that_replaces_both_tables)
{
    uint64_t hash = 0;
    CLEANUP_FREE char *text = render(2, &hash);
    json_t *document = NULL;
    struct err err = {0};

    ck_assert_msg(json_parse(text, strlen(text), &document, &err) == 0, "%s", err.text);
    const json_t *items = json_object_get(document, "nftables");
    static const char *const verbs[] = {"add", "delete", "add", "add", "delete", "add"};
    for (size_t i = 0; i < ARRAY_COUNT(verbs); i++) {
        const json_t *verb = json_object_get(json_array_get(items, i), verbs[i]);
        ck_assert_ptr_nonnull(json_object_get(verb, "table"));
    }
    ck_assert_uint_gt(hash, NETWORK_RULES_UNKNOWN);
    json_decref(document);
}
END_TEST

START_TEST(the_hash_follows_the_state_and_nothing_else)
{
    uint64_t first = 0;
    uint64_t second = 0;

    free(render(2, &first));
    free(render(2, &second));
    ck_assert_uint_eq(first, second);
    ports[0].ipv4++;
    free(render(2, &second));
    ck_assert_uint_ne(first, second);
    ports[0].ipv4--;
    remotes[0].mac++;
    free(render(2, &second));
    ck_assert_uint_ne(first, second);
}
END_TEST

/* The lesson of other systems' advisories: an accept above a drop is a hole. In a port's
 * chain the last word is a drop, and no accept stands before the drops of foreign MACs
 * and types. */
START_TEST(a_ports_chain_begins_with_drops_and_ends_with_one)
{
    uint64_t hash = 0;
    CLEANUP_FREE char *text = render(2, &hash);
    json_t *document = NULL;
    char verdicts[32] = "";
    size_t count = 0;

    ck_assert_int_eq(json_parse(text, strlen(text), &document, NULL), 0);
    const json_t *items = json_object_get(document, "nftables");
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *rule =
            json_object_get(json_object_get(json_array_get(items, i), "add"), "rule");
        const json_t *expr = json_object_get(rule, "expr");
        if (rule != NULL &&
            strcmp(json_member_text(rule, "chain", ""), "port_bt2i") == 0) {
            const json_t *last = json_array_get(expr, json_array_size(expr) - 1);
            verdicts[count++] = json_object_get(last, "drop") != NULL ? 'd' : 'a';
            ck_assert(verdicts[count - 1] == 'd' ||
                      json_object_get(last, "accept") != NULL);
            ck_assert_msg(verdicts[count - 1] == 'd' || json_array_size(expr) >= 4,
                          "an accept with few conditions");
        }
    }
    ck_assert_str_eq(verdicts, "dddaadadddad");
    json_decref(document);
}
END_TEST

START_TEST(nft_accepts_and_loads_the_text_again_and_again)
{
    uint64_t hash = 0;
    char marker[FIREWALL_MARKER_SIZE];

    if (!can_load) {
        return;
    }
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    for (size_t count = 1; count <= 2; count++) {
        CLEANUP_FREE char *text = render(count, &hash);
        ck_assert_int_eq(nft(text, nft_check), 0);
        ck_assert_int_eq(nft(text, nft_load), 0);
        ck_assert_int_eq(nft(text, nft_load), 0);
        firewall_rules_marker(hash, marker);
        const char *const list[] = {"nft",   "list", "chain", "bridge",
                                    "berth", marker, NULL};
        ck_assert_int_eq(nft(NULL, list), 0);
    }
    ck_assert_int_eq(nft(firewall_rules_removal(), nft_load), 0);
    ck_assert_int_eq(nft(firewall_rules_removal(), nft_load), 0);
    const char *const list[] = {"nft", "list", "table", "ip", "berth", NULL};
    ck_assert_int_ne(nft(NULL, list), 0);
}
END_TEST

/* Every number is at its largest somewhere: nft must still take it. */
START_TEST(a_port_with_limits_drops_what_is_beyond_them_each_way)
{
    uint64_t hash = 0;
    uint64_t plain_hash = 0;
    CLEANUP_FREE char *plain = render(2, &plain_hash);
    ck_assert_ptr_null(strstr(plain, "\"limit_"));
    ports[0].limit =
        (struct network_limit){.packets = 1000, .bytes = 125000, .bytes_burst = 1000000};
    ports[1].limit = (struct network_limit){UINT64_C(1000000000), UINT64_MAX,
                                            UINT64_C(14151776777), UINT64_MAX};

    CLEANUP_FREE char *text = render(2, &hash);

    ck_assert_uint_ne(hash, plain_hash);
    static const char *const parts[] = {
        "{\"limit\":{\"rate\":1000,\"burst\":1000,\"per\":\"second\",\"inv\":true}},"
        "{\"drop\":null}",
        "{\"limit\":{\"rate\":125000,\"rate_unit\":\"bytes\",\"burst\":875000,"
        "\"burst_unit\":\"bytes\",\"per\":\"second\",\"inv\":true}},{\"drop\":null}",
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        const char *once = strstr(text, parts[i]);
        ck_assert_msg(once != NULL, "%s", text);
        ck_assert_ptr_nonnull(strstr(once + 1, parts[i])); /* and the other way */
    }
    if (can_load) {
        ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
        ck_assert_int_eq(nft(text, nft_load), 0);
    }

    /* More than can be counted, and than a tap can carry: no limit. */
    ports[0].limit = (struct network_limit){.bytes = UINT64_C(14151776778)};
    ports[1].limit = (struct network_limit){0};
    CLEANUP_FREE char *unlimited = render(2, &hash);
    ck_assert_str_eq(unlimited, plain);
}
END_TEST

START_TEST(a_full_hosts_rules_fit_and_load)
{
    enum { PORTS = 200, REMOTES = 4000 };
    CLEANUP_FREE struct network_port *many_ports = calloc(PORTS, sizeof(*many_ports));
    CLEANUP_FREE struct network_remote *many = calloc(REMOTES, sizeof(*many));
    uint64_t hash = 0;

    ck_assert(many_ports != NULL && many != NULL);
    wants[0].cidr = (struct network_cidr){IPV4(10, 7, 0, 0), 16};
    for (unsigned i = 0; i < PORTS; i++) {
        many_ports[i] = fixture_port(7, 1000 + i);
        many_ports[i].ipv4 = IPV4(10, 7, 2, 1 + i);
    }
    for (unsigned i = 0; i < REMOTES; i++) {
        many[i] = fixture_remote(7, 10000 + i, 2 + i % 100);
        many[i].ipv4 = IPV4(10, 7, 8, 1) + i;
    }
    wants[0].ports = many_ports;
    wants[0].port_count = PORTS;
    wants[0].remotes = many;
    wants[0].remote_count = REMOTES;
    ck_assert_int_eq(network_wants_check(&host, wants, 1, NULL), 0);
    CLEANUP_FREE char *text = render(1, &hash);
    if (can_load) {
        ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
        ck_assert_int_eq(nft(text, nft_load), 0);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("firewall_rules");
    TCase *c = tcase_create("firewall_rules");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, a_port_with_limits_drops_what_is_beyond_them_each_way);
    tcase_add_test(c, the_text_is_json_that_replaces_both_tables);
    tcase_add_test(c, the_hash_follows_the_state_and_nothing_else);
    tcase_add_test(c, a_ports_chain_begins_with_drops_and_ends_with_one);
    tcase_add_test(c, nft_accepts_and_loads_the_text_again_and_again);
    tcase_add_test(c, a_full_hosts_rules_fit_and_load);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    can_load = geteuid() == 0 && system("nft --version > /dev/null 2>&1") == 0;
    if (!can_load) {
        (void)puts("nft is not asked: it takes root and the nft program");
    }
    return test_main_run(suite());
}
