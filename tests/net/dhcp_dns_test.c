/* Goal: what dnsmasq is told is exactly what the values say; its process is found, and no
 * other. Method: golden texts; dnsmasq's own syntax check where it is installed; a real
 * process that is not dnsmasq for the look-alike cases. */
#include "base/cleanup.h"
#include "net/dhcp_dns.h"
#include "network_fixture.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct temp_dir dir;
static struct network_host host;
static struct network_want want;
static struct network_port port;
static struct network_name names[2];
static struct dhcp_dns_texts texts;

static void setup(void)
{
    temp_dir_init(&dir);
    host = fixture_host(1, dir.path);
    want = fixture_want(7, 1);
    port = fixture_port(7, 10);
    want.ports = &port;
    want.port_count = 1;
    names[0] = (struct network_name){.name = "web-10", .ipv4 = IPV4(10, 7, 0, 10)};
    names[1] = (struct network_name){.name = "db", .ipv4 = IPV4(10, 7, 0, 20)};
    want.names = names;
    want.name_count = 2;
    ck_assert_int_eq(dhcp_dns_render(&host, &want, "nobody", &texts, NULL), 0);
}

static void teardown(void)
{
    dhcp_dns_texts_fini(&texts);
    temp_dir_fini(&dir);
}

static bool config_has(const char *line)
{
    const char *found = strstr(texts.config, line);

    return found != NULL && (found == texts.config || found[-1] == '\n') &&
           found[strlen(line)] == '\n';
}

START_TEST(the_files_say_what_the_values_say)
{
    static const char *const lines[] = {"interface=bb7",
                                        "bind-interfaces",
                                        "except-interface=lo",
                                        "user=nobody",
                                        "no-resolv",
                                        "local=/tenant7.berth/",
                                        "dhcp-range=10.7.0.0,static,255.255.255.0,1h",
                                        "dhcp-ignore=tag:!known",
                                        "dhcp-option=option:router,10.7.0.1",
                                        "dhcp-option=option:dns-server,10.7.0.1",
                                        "dhcp-option=option:mtu,1450"};

    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        ck_assert_msg(config_has(lines[i]), "%s is not in\n%s", lines[i], texts.config);
    }
    ck_assert_ptr_null(strstr(texts.config, "\nserver="));
    ck_assert_str_eq(texts.hosts,
                     "# leases of network 7\n52:54:00:00:00:0a,10.7.0.10,web-10\n");
    ck_assert_str_eq(texts.names, "# names of network 7\n10.7.0.10 web-10.tenant7.berth\n"
                                  "10.7.0.20 db.tenant7.berth\n");
}
END_TEST

START_TEST(a_new_name_asks_for_a_reload_and_a_new_forwarder_for_a_restart)
{
    struct dhcp_dns_texts other;

    want.name_count = 1;
    ck_assert_int_eq(dhcp_dns_render(&host, &want, "nobody", &other, NULL), 0);
    ck_assert_uint_eq(other.config_hash, texts.config_hash);
    ck_assert_uint_ne(other.hosts_hash, texts.hosts_hash);
    dhcp_dns_texts_fini(&other);

    want.forwarders[0] = IPV4(192, 0, 2, 53);
    want.forwarder_count = 1;
    ck_assert_int_eq(dhcp_dns_render(&host, &want, "nobody", &other, NULL), 0);
    ck_assert_uint_ne(other.config_hash, texts.config_hash);
    ck_assert_ptr_nonnull(strstr(other.config, "\nserver=192.0.2.53\n"));
    dhcp_dns_texts_fini(&other);
}
END_TEST

static const struct {
    const char *leases;
    bool conflict;
} lease_rows[] = {
    {"", false},
    {"1700000000 52:54:00:00:00:0a 10.7.0.10 web-10 *\n", false},
    {"1700000000 52:54:00:00:00:0b 10.7.0.10 web-11 *\n", true},
    {"1700000000 52:54:00:00:00:0b 10.7.0.99 web-11 *\n", false},
    {"duid 00:01\nrubbish\n1700000000 52:54:00:00:00:0b 10.7.0.10 * 01:52:54:00:00:00:0b",
     true},
};

START_TEST(a_lease_of_an_address_to_its_former_owner_is_noticed)
{
    ck_assert_int_eq(dhcp_dns_lease_conflict(lease_rows[_i].leases, &want),
                     lease_rows[_i].conflict);
}
END_TEST

START_TEST(files_are_written_for_others_to_read_and_removed_whole)
{
    char path[DHCP_DNS_PATH_SIZE];
    struct stat status;
    uint32_t vnis[4];

    ck_assert_int_eq(dhcp_dns_list(&host, vnis, 4, NULL), 0);
    ck_assert_int_eq(dhcp_dns_write(&host, 7, &texts, true, NULL), 0);
    dhcp_dns_path(&host, 7, "hosts", path);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0644);
    ck_assert_int_eq(dhcp_dns_list(&host, vnis, 4, NULL), 1);
    ck_assert_uint_eq(vnis[0], 7);
    ck_assert_int_eq(dhcp_dns_remove(&host, 7, NULL), 0);
    ck_assert_int_eq(dhcp_dns_list(&host, vnis, 4, NULL), 0);
}
END_TEST

/* A process that has this network's configuration as its argument, as dnsmasq would have.
 */
static pid_t start_look_alike(uint32_t vni)
{
    char config[DHCP_DNS_PATH_SIZE];
    char argument[DHCP_DNS_PATH_SIZE + 16];
    int ready[2];
    int idle[2]; /* its input: nothing comes until the test ends */
    char byte = 0;

    dhcp_dns_path(&host, vni, "dnsmasq.conf", config);
    (void)snprintf(argument, sizeof(argument), "--conf-file=%s", config);
    ck_assert_int_eq(pipe(ready), 0);
    ck_assert_int_eq(pipe(idle), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ready[1], 1);
        (void)dup2(idle[0], 0);
        (void)close(idle[1]);
        (void)execlp("sh", "sh", "-c", "echo up; read line", argument, (char *)NULL);
        _exit(126);
    }
    (void)close(ready[1]);
    (void)close(idle[0]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1); /* it has become the shell */
    (void)close(ready[0]);
    return pid;
}

static void write_pid(uint32_t vni, pid_t pid)
{
    char name[64];
    char text[32];

    (void)snprintf(name, sizeof(name), "networks/%u/pid", vni);
    (void)snprintf(text, sizeof(text), "%d\n", (int)pid);
    temp_dir_write(&dir, name, text);
}

START_TEST(a_running_helper_is_found_again_with_what_it_was_started_with)
{
    struct dhcp_dns_instance instance;

    ck_assert_int_eq(dhcp_dns_write(&host, 7, &texts, true, NULL), 0);
    pid_t pid = start_look_alike(7);
    write_pid(7, pid);
    dhcp_dns_find(&host, 7, &instance); /* berthd died before it could note it */
    ck_assert_int_eq(instance.pid, pid);
    ck_assert_uint_eq(instance.config_hash, 0);

    ck_assert_int_eq(dhcp_dns_note(&host, 7, &texts, NULL), 0);
    dhcp_dns_find(&host, 7, &instance);
    ck_assert_int_eq(instance.pid, pid);
    ck_assert_uint_eq(instance.config_hash, texts.config_hash);
    ck_assert_uint_eq(instance.hosts_hash, texts.hosts_hash);

    dhcp_dns_stop_now(&host, 7);
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
    dhcp_dns_find(&host, 7, &instance);
    ck_assert_int_eq(instance.pid, 0);
}
END_TEST

START_TEST(a_stranger_with_a_helpers_old_pid_is_left_alone)
{
    struct dhcp_dns_instance instance;

    ck_assert_int_eq(dhcp_dns_write(&host, 7, &texts, true, NULL), 0);
    pid_t stranger = start_look_alike(8); /* another network's */
    write_pid(7, stranger);
    dhcp_dns_find(&host, 7, &instance);
    ck_assert_int_eq(instance.pid, 0);
    dhcp_dns_stop_now(&host, 7);
    ck_assert_int_eq(kill(stranger, 0), 0);
    ck_assert_int_eq(waitpid(stranger, NULL, WNOHANG), 0);
    ck_assert_int_eq(kill(stranger, SIGKILL), 0);
    ck_assert_int_eq(waitpid(stranger, NULL, 0), stranger);
}
END_TEST

START_TEST(root_is_dropped_only_where_the_files_stay_readable)
{
    ck_assert_int_eq(chmod(dir.path, 0700), 0);
    ck_assert_str_eq(dhcp_dns_user(&host), "root");
    ck_assert_int_eq(chmod(dir.path, 0711), 0);
    ck_assert_str_eq(dhcp_dns_user(&host), "nobody");
}
END_TEST

START_TEST(dnsmasq_itself_finds_the_configuration_sound)
{
    char config[DHCP_DNS_PATH_SIZE];
    char argument[DHCP_DNS_PATH_SIZE + 16];
    int status = 0;

    ck_assert_int_eq(dhcp_dns_write(&host, 7, &texts, true, NULL), 0);
    dhcp_dns_path(&host, 7, "dnsmasq.conf", config);
    (void)snprintf(argument, sizeof(argument), "--conf-file=%s", config);
    pid_t pid = fork();
    if (pid == 0) {
        (void)execlp("dnsmasq", "dnsmasq", "--test", argument, (char *)NULL);
        _exit(errno == ENOENT ? 77 : 126);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("dhcp_dns");
    TCase *c = tcase_create("dhcp_dns");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, the_files_say_what_the_values_say);
    tcase_add_test(c, a_new_name_asks_for_a_reload_and_a_new_forwarder_for_a_restart);
    tcase_add_loop_test(c, a_lease_of_an_address_to_its_former_owner_is_noticed, 0,
                        (int)ARRAY_COUNT(lease_rows));
    tcase_add_test(c, files_are_written_for_others_to_read_and_removed_whole);
    tcase_add_test(c, a_running_helper_is_found_again_with_what_it_was_started_with);
    tcase_add_test(c, a_stranger_with_a_helpers_old_pid_is_left_alone);
    tcase_add_test(c, root_is_dropped_only_where_the_files_stay_readable);
    tcase_add_test(c, dnsmasq_itself_finds_the_configuration_sound);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
