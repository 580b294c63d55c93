/* Goal: what the daemon wants is what the kernel has, step by step, whatever was there
 * before, and nothing is left of it in the end. Method: real networks of two hosts
 * (guest_fixture.h). */
#include "guest_fixture.h"
#include "net/dhcp_dns.h"

#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <unistd.h>

/* ---- life of the networks ---- */

static void read_instance(struct host *host, struct dhcp_dns_instance *ret_instance)
{
    dhcp_dns_find(&host->value, 7, ret_instance);
    ck_assert_int_gt(ret_instance->pid, 1);
}

START_TEST(the_same_state_again_takes_no_step_also_for_a_new_daemon)
{
    struct network_apply_stats stats;
    struct dhcp_dns_instance before;
    struct dhcp_dns_instance after;
    struct vm front = vm_open(&hosts[1], 7, VM_FRONT);
    struct vm remote = vm_open(&hosts[2], 7, VM_REMOTE);

    read_instance(&hosts[1], &before);
    host_set(&hosts[1]);
    network_apply_stats(hosts[1].apply, &stats);
    ck_assert_uint_eq(stats.steps_last_run, 0);
    host_close(&hosts[1]); /* nothing is said to the kernel, as when it is killed */
    host_open(&hosts[1]);
    host_set(&hosts[1]);
    network_apply_stats(hosts[1].apply, &stats);
    ck_assert_uint_eq(stats.steps_last_run, 0);
    ck_assert_uint_eq(stats.rules_installs, 0);
    ck_assert_uint_eq(stats.ports, 3);
    read_instance(&hosts[1], &after);
    ck_assert_int_eq(before.pid, after.pid);
    struct frame frame = frame_token(&front, &remote, 1);
    vm_send(&front, &frame);
    ck_assert_uint_eq(vm_take_until(&remote, 1, NULL), 0);
}
END_TEST

START_TEST(the_newest_state_wins_and_every_caller_hears)
{
    struct outcome outcomes[3] = {0};
    struct network_apply_stats before;
    struct network_apply_stats after;
    struct network_port port = fixture_port(7, VM_SECOND);

    network_apply_stats(hosts[1].apply, &before);
    ns_enter(hosts[1].ns);
    for (size_t i = 0; i < 3; i++) {
        hosts[1].wants[0].port_count = i == 2 ? 1 : 2;
        ck_assert_int_eq(network_apply_set(hosts[1].apply, hosts[1].wants, hosts[1].count,
                                           on_done, &outcomes[i], NULL),
                         0);
    }
    for (size_t i = 0; i < 3; i++) {
        host_wait(&hosts[1], &outcomes[i]);
        ck_assert_int_eq(outcomes[i].code, 0);
    }
    network_apply_stats(hosts[1].apply, &after);
    ck_assert_uint_eq(after.runs - before.runs, 1);
    ck_assert(!network_apply_port_ready(hosts[1].apply, 7, &port));
    ck_assert_uint_eq(if_nametoindex(port.tap), 0);
}
END_TEST

/* Whose VM is placed here anew meanwhile would find its tap going, or gone. */
START_TEST(a_port_that_goes_away_is_ready_for_nobody)
{
    struct outcome outcome = {0};
    struct network_port port = fixture_port(7, VM_SECOND);
    struct network_port stays = fixture_port(7, VM_FRONT);
    unsigned turns_without = 0;

    ns_enter(hosts[1].ns);
    ck_assert(network_apply_port_ready(hosts[1].apply, 7, &port));
    hosts[1].wants[0].port_count = 1;
    ck_assert_int_eq(network_apply_set(hosts[1].apply, hosts[1].wants, hosts[1].count,
                                       on_done, &outcome, NULL),
                     0);
    while (!outcome.done) {
        (void)uv_run(&hosts[1].loop, UV_RUN_ONCE);
        const bool gone = if_nametoindex(port.tap) == 0;
        turns_without += gone && !outcome.done ? 1 : 0;
        ck_assert(!gone || !network_apply_port_ready(hosts[1].apply, 7, &port));
        ck_assert(network_apply_port_ready(hosts[1].apply, 7, &stays));
    }
    ck_assert_uint_gt(turns_without, 0); /* or this has looked at nothing */
}
END_TEST

START_TEST(one_networks_failure_leaves_the_others_working)
{
    struct outcome outcome = {0};
    struct network_port port = fixture_port(9, 40);
    struct network_port good = fixture_port(7, VM_FRONT);

    hosts[1].wants[1] = fixture_want(9, 1);
    host_add_port(&hosts[1], 1, 40);
    ns_enter(hosts[1].ns);
    run("ip link add bb9 type veth peer name other"); /* someone has taken the name */
    ck_assert_int_eq(network_apply_set(hosts[1].apply, hosts[1].wants, hosts[1].count,
                                       on_done, &outcome, NULL),
                     0);
    host_wait(&hosts[1], &outcome);
    ck_assert_int_eq(outcome.code, -EEXIST);
    ck_assert_msg(strstr(outcome.text, "create bridge bb9") != NULL, "%s", outcome.text);
    ck_assert(!network_apply_port_ready(hosts[1].apply, 9, &port));
    ck_assert(network_apply_port_ready(hosts[1].apply, 7, &good));
    run("ip link del bb9");
    host_set(&hosts[1]);
    ck_assert(network_apply_port_ready(hosts[1].apply, 9, &port));
}
END_TEST

START_TEST(a_vm_that_migrates_is_found_where_it_runs)
{
    struct vm second = vm_open(&hosts[1], 7, VM_SECOND);
    struct vm remote = vm_open(&hosts[2], 7, VM_REMOTE);

    /* Host 1 prepares for VM 20 while it still runs on host 2. */
    host_add_port(&hosts[1], 0, VM_REMOTE);
    host_set(&hosts[1]);
    struct vm arriving = vm_open_port(&hosts[1], 7, &hosts[1].ports[0][2]);
    struct frame frame = frame_token(&second, &remote, 1);
    vm_send(&second, &frame);
    ck_assert_uint_eq(vm_take_until(&remote, 1, NULL), 0);

    /* Switched: it is host 1's now. */
    hosts[1].remotes[0] = hosts[1].remotes[1];
    hosts[1].wants[0].remote_count = 1;
    host_set(&hosts[1]);
    (void)close(remote.fd);
    hosts[2].wants[0].port_count = 0;
    host_add_remote(&hosts[2], fixture_remote(7, VM_REMOTE, 1));
    host_set(&hosts[2]);
    frame = frame_token(&second, &arriving, 2);
    vm_send(&second, &frame);
    ck_assert_uint_eq(vm_take_until(&arriving, 2, NULL), 0);
    frame = frame_token(&arriving, &second, 3);
    vm_send(&arriving, &frame);
    ck_assert_uint_eq(vm_take_until(&second, 3, NULL), 0);
}
END_TEST

START_TEST(a_network_in_the_hosts_own_range_is_left_out_until_it_is_free)
{
    struct network_port port = fixture_port(9, 40);
    struct network_port good = fixture_port(7, VM_FRONT);
    struct network_want *want = &hosts[1].wants[1];

    *want = fixture_want(9, 1);
    want->cidr = (struct network_cidr){IPV4(198, 51, 100, 0), 29};
    want->gateway = IPV4(198, 51, 100, 2); /* the host's own */
    want->host_address = IPV4(198, 51, 100, 3);
    host_add_port(&hosts[1], 1, 40);
    hosts[1].ports[1][0].ipv4 = IPV4(198, 51, 100, 4);
    port.ipv4 = hosts[1].ports[1][0].ipv4;
    host_set(&hosts[1]);
    ck_assert_ptr_nonnull(network_apply_refusal(hosts[1].apply, 9));
    ck_assert_msg(
        strstr(network_apply_refusal(hosts[1].apply, 9),
               "overlaps 198.51.100.0/24, which this host reaches directly (link "
               "uplink)"),
        "%s", network_apply_refusal(hosts[1].apply, 9));
    ck_assert_uint_eq(if_nametoindex("bb9"), 0);
    ck_assert(!network_apply_port_ready(hosts[1].apply, 9, &port));
    ck_assert(network_apply_port_ready(hosts[1].apply, 7, &good));
    ck_assert_ptr_null(network_apply_refusal(hosts[1].apply, 7));
    run("ip route get 198.51.100.2 | grep -q 'dev uplink'");

    run("ip link del uplink");
    host_set(&hosts[1]);
    ck_assert_ptr_null(network_apply_refusal(hosts[1].apply, 9));
    ck_assert(network_apply_port_ready(hosts[1].apply, 9, &port));
}
END_TEST

START_TEST(what_is_unused_goes_and_teardown_leaves_nothing)
{
#define FORWARDS "test $(cat /proc/sys/net/ipv4/ip_forward) = %d"
    static const char no_links[] = "! ip -o link | grep -E ' (bb|bx|bt)[0-9a-z]+[:@]'";
    static const char no_tables[] = "! nft list tables | grep berth";
    struct dhcp_dns_instance instance;

    read_instance(&hosts[1], &instance);
    ns_enter(hosts[1].ns);
    run(FORWARDS, 1);
    hosts[1].wants[0] = hosts[1].wants[1]; /* network 7 has no VM here any more */
    hosts[1].wants[0].ports = hosts[1].ports[1];
    hosts[1].count = 1;
    host_set(&hosts[1]);
    run(FORWARDS, 0); /* network 8 lets nobody out */
    ck_assert_uint_eq(if_nametoindex("bb7"), 0);
    ck_assert_uint_eq(if_nametoindex("bx7"), 0);
    ck_assert_uint_ne(if_nametoindex("bb8"), 0);
    dhcp_dns_find(&hosts[1].value, 7, &instance);
    ck_assert_int_eq(instance.pid, 0);
    run("test ! -e %s/networks/7 && test -e %s/networks/8", hosts[1].dir.path,
        hosts[1].dir.path);

    hosts[1].count = 0;
    host_set(&hosts[1]);
    run("%s", no_links);
    run("%s", no_tables);
    run("test -z \"$(ls %s/networks)\"", hosts[1].dir.path);

    hosts[2].wants[0].nat = true;
    host_set(&hosts[2]);
    run(FORWARDS, 1);
    read_instance(&hosts[2], &instance);
    ns_enter(hosts[2].ns);
    struct err err = {0};
    ck_assert_msg(network_apply_teardown_all(&hosts[2].value, &err) == 0, "%s", err.text);
    run("%s", no_links);
    run("%s", no_tables);
    run("test ! -e %s/networks", hosts[2].dir.path);
    run(FORWARDS, 0);
    ck_assert_int_ne(kill(instance.pid, 0) == 0 &&
                         dhcp_dns_open(&hosts[2].value, 7, &instance) >= 0,
                     1);
}
END_TEST

/* ---- the suite ---- */

/* What packets do, on both kinds of machines. */
static TCase *traffic_case(const char *name, void (*set_up)(void))
{
    TCase *c = tcase_create(name);

    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, set_up, teardown);
    tcase_add_test(c, a_vm_that_migrates_is_found_where_it_runs);
    return c;
}

static Suite *suite(void)
{
    Suite *s = suite_create("network_apply");
    TCase *c = tcase_create("life");

    suite_add_tcase(s, traffic_case("traffic", setup));
    suite_add_tcase(
        s, traffic_case("traffic with bridge netfilter", setup_bridge_netfilter));
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, the_same_state_again_takes_no_step_also_for_a_new_daemon);
    tcase_add_test(c, the_newest_state_wins_and_every_caller_hears);
    tcase_add_test(c, a_port_that_goes_away_is_ready_for_nobody);
    tcase_add_test(c, one_networks_failure_leaves_the_others_working);
    tcase_add_test(c, a_network_in_the_hosts_own_range_is_left_out_until_it_is_free);
    tcase_add_test(c, what_is_unused_goes_and_teardown_leaves_nothing);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return run_in_namespaces(suite);
}
