/* Goal: a client hears by QMP, in QEMU's shape, how often each CPU of a guest came out
 * and why, and what KVM counts. Method: kernels of a few bytes on a real KVM (77 without
 * one; tests/system/kvm_machine_test.sh runs this where there is one), whose exits are
 * known to the last one. */
#include "base/cleanup.h"
#include "micro_kernel.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/kvm_stats.h"
#include "vmm/vmm_control.h"

#include <check.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_SIZE (256u << 10)

static int kvm_fd;
static struct temp_dir dir;
static struct poller *poller;
static struct machine *machine;
static struct vmm_control control;
static int client;

static void on_ended(void *context, enum machine_end end, const char *reason)
{
    vmm_control_ended(context, end, reason);
}

/* mov dx, port ; mov al, value ; out dx, al */
#define OUT(port, value) 0x66, 0xba, (port)&0xff, (port) >> 8, 0xb0, (value), 0xee

/* Three writes to ports, one read of a place where nothing is, and off by a fourth. */
static const uint8_t counted[] = {OUT(0x3f8, 'a'),
                                  OUT(0x3f8, 'b'),
                                  OUT(0x80, 0x41),
                                  0xa1,
                                  0x00,
                                  0x00,
                                  0x00,
                                  0xc8, /* mov eax, [0xc8000000] */
                                  OUT(0x600, 0x34),
                                  0xf4};

static void setup(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct err err = {0};
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    temp_dir_init(&dir);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    const struct machine_plan plan = {.kvm_fd = kvm_fd,
                                      .cpu_count = 2,
                                      .plug_cpus = 1,
                                      .memory_bytes = UINT64_C(32) << 20,
                                      .kernel_fd = micro_kernel(counted, sizeof(counted)),
                                      .initrd_fd = -1,
                                      .cmdline = "",
                                      .poller = poller,
                                      .events = {.ended = on_ended, .context = &control}};
    ck_assert_msg(machine_new(&plan, &machine, &err) == 0, "%s", err.text);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/qmp", dir.path);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(vmm_control_open(&control, machine, poller, "web-1", listener, NULL),
                     0);
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void teardown(void)
{
    (void)close(client);
    vmm_control_close(&control);
    machine = machine_free(machine);
    poller_free(poller);
    temp_dir_fini(&dir);
    (void)close(kvm_fd);
}

/* The next line that the client hears; a new reference. */
static json_t *hear(void)
{
    static char heard[ANSWER_SIZE];
    size_t size = 0;
    json_t *line = NULL;
    while (size == 0 || heard[size - 1] != '\n') {
        ck_assert_uint_lt(size, sizeof(heard));
        if (recv(client, heard + size, 1, MSG_DONTWAIT) == 1) {
            size++;
        } else {
            ck_assert_int_ge(poller_step(poller, 10000), 0);
        }
    }
    ck_assert_int_eq(json_parse(heard, size, &line, NULL), 0);
    return line;
}

/* The member of the next line that is no event: "return" or "error". */
static json_t *say(const char *word, const char *arguments, const char *member)
{
    char text[512];
    (void)snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"arguments\":%s}", word,
                   arguments);
    ck_assert_int_eq(send(client, text, strlen(text), MSG_NOSIGNAL), (int)strlen(text));
    json_t *line = hear();
    while (json_object_get(line, "event") != NULL ||
           json_object_get(line, "QMP") != NULL) {
        json_decref(line);
        line = hear();
    }
    json_t *answer = json_incref(json_object_get(line, member));
    ck_assert_msg(answer != NULL, "%s: %s", text, json_text(line));
    json_decref(line);
    return answer;
}

static json_t *ask(const char *word, const char *arguments)
{
    json_decref(say("qmp_capabilities", "{}", "return"));
    return say(word, arguments, "return");
}

static void run_to_end(void)
{
    json_decref(ask("cont", "{}"));
    while (machine_state(machine) != MACHINE_ENDED) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
}

/* The number of that name in one result. */
static json_int_t value_of(const json_t *result, const char *name)
{
    size_t i;
    json_t *stat;
    json_array_foreach(json_object_get(result, "stats"), i, stat)
    {
        if (strcmp(json_member_text(stat, "name", ""), name) == 0) {
            return json_integer_value(json_object_get(stat, "value"));
        }
    }
    ck_abort_msg("there is no %s", name);
    return -1;
}

START_TEST(each_exit_of_the_guest_is_counted_by_reason)
{
    run_to_end();

    json_t *answer = ask(
        "query-stats", "{\"target\":\"vcpu\",\"providers\":[{\"provider\":\"berth\"}]}");

    ck_assert_uint_eq(json_array_size(answer), 2); /* the third is not plugged */
    const json_t *first = json_array_get(answer, 0);
    const json_t *second = json_array_get(answer, 1);
    ck_assert_str_eq(json_member_text(first, "provider", ""), "berth");
    ck_assert_str_eq(json_member_text(first, "qom-path", ""), "/machine/cpus/0");
    ck_assert_str_eq(json_member_text(second, "qom-path", ""), "/machine/cpus/1");
    ck_assert_int_eq(value_of(first, "port_exits"), 4);
    ck_assert_int_eq(value_of(first, "memory_exits"), 1);
    ck_assert_int_eq(value_of(first, "end_exits"), 0);
    ck_assert_int_eq(value_of(first, "broken_exits"), 0);
    ck_assert_int_gt(value_of(first, "port_exits_ns"), 0);
    ck_assert_int_gt(value_of(first, "memory_exits_ns"), 0);
    ck_assert_int_eq(value_of(first, "end_exits_ns"), 0);
    ck_assert_int_eq(value_of(second, "port_exits"), 0);
    ck_assert_int_eq(value_of(second, "port_exits_ns"), 0);
    json_decref(answer);
}
END_TEST

START_TEST(what_was_done_about_exits_took_less_than_all_the_time_there_was)
{
    const struct tick_mark begin = tick_mark_now();
    run_to_end();
    const struct vcpu *vcpu = machine_vcpu(machine, 0);
    uint64_t sum_ns = 0;
    for (unsigned kind = 0; kind < VCPU_EXIT_COUNT; kind++) {
        sum_ns += vcpu_exit_ns(vcpu, (enum vcpu_exit)kind);
    }
    ck_assert_uint_lt(sum_ns, tick_mark_now().ns - begin.ns);
}
END_TEST

START_TEST(cpus_providers_and_names_can_be_chosen)
{
    json_t *answer =
        ask("query-stats", "{\"target\":\"vcpu\",\"vcpus\":[\"/machine/cpus/1\"],"
                           "\"providers\":[{\"provider\":\"berth\",\"names\":["
                           "\"memory_exits\",\"nothing\"]}]}");
    char *text = json_text(answer);
    ck_assert_str_eq(text, "[{\"provider\":\"berth\",\"qom-path\":\"/machine/cpus/1\","
                           "\"stats\":[{\"name\":\"memory_exits\",\"value\":0}]}]");
    free(text);
    json_decref(answer);
    answer = ask("query-stats", "{\"target\":\"vcpu\",\"vcpus\":[\"/machine/cpus/2\"]}");
    ck_assert_uint_eq(json_array_size(answer), 0); /* it is not plugged */
    json_decref(answer);
    answer = ask("query-stats",
                 "{\"target\":\"vm\",\"providers\":[{\"provider\":\"berth\"}]}");
    ck_assert_uint_eq(json_array_size(answer), 0);
    json_decref(answer);
}
END_TEST

struct wrong {
    const char *word;
    const char *arguments;
    const char *text;
};

static const struct wrong wrongs[] = {
    {"query-stats", "{}", "Parameter 'target' is missing"},
    {"query-stats", "{\"target\":7}", "Parameter 'target' is missing"},
    {"query-stats", "{\"target\":\"x\"}", "Parameter 'target' does not accept value 'x'"},
    {"query-stats", "{\"target\":\"vm\",\"vcpus\":[]}",
     "Parameter 'vcpus' is unexpected"},
    {"query-stats", "{\"target\":\"vcpu\",\"vcpus\":7}",
     "Invalid parameter type for 'vcpus', expected: array"},
    {"query-stats", "{\"target\":\"vm\",\"providers\":{}}",
     "Invalid parameter type for 'providers', expected: array"},
    {"query-stats", "{\"target\":\"vm\",\"providers\":[{}]}",
     "Parameter 'provider' is missing"},
    {"query-stats", "{\"target\":\"vm\",\"providers\":[{\"provider\":\"zz\"}]}",
     "Parameter 'provider' does not accept value 'zz'"},
    {"query-stats",
     "{\"target\":\"vm\",\"providers\":[{\"provider\":\"kvm\"},{\"provider\":\"kvm\"}]}",
     "Parameter 'provider' has 'kvm' twice"},
    {"query-stats",
     "{\"target\":\"vm\",\"providers\":[{\"provider\":\"kvm\",\"names\":\"exits\"}]}",
     "Invalid parameter type for 'names', expected: array"},
    {"query-stats-schemas", "{\"provider\":\"zz\"}",
     "Parameter 'provider' does not accept value 'zz'"},
};

START_TEST(what_makes_no_sense_is_refused_in_qemus_words)
{
    json_decref(ask("query-name", "{}"));
    json_t *error = say(wrongs[_i].word, wrongs[_i].arguments, "error");
    ck_assert_str_eq(json_member_text(error, "desc", ""), wrongs[_i].text);
    json_decref(error);
}
END_TEST

/* The schema of a provider's target, which has to be there. */
static const json_t *
schema_of(const json_t *schemas, const char *provider, const char *target)
{
    size_t i;
    json_t *schema;
    json_array_foreach(schemas, i, schema)
    {
        if (strcmp(json_member_text(schema, "provider", ""), provider) == 0 &&
            strcmp(json_member_text(schema, "target", ""), target) == 0) {
            return schema;
        }
    }
    ck_abort_msg("%s tells nothing of a %s", provider, target);
    return NULL;
}

START_TEST(what_is_counted_has_a_schema)
{
    json_t *schemas = ask("query-stats-schemas", "{\"provider\":\"berth\"}");
    ck_assert_uint_eq(json_array_size(schemas), 1);
    const json_t *rows = json_object_get(schema_of(schemas, "berth", "vcpu"), "stats");
    ck_assert_uint_eq(json_array_size(rows), 2 * VCPU_EXIT_COUNT);
    char *count = json_text(json_array_get(rows, 0));
    char *time = json_text(json_array_get(rows, 1));
    ck_assert_str_eq(count,
                     "{\"name\":\"port_exits\",\"type\":\"cumulative\",\"exponent\":0}");
    ck_assert_str_eq(time, "{\"name\":\"port_exits_ns\",\"type\":\"cumulative\","
                           "\"exponent\":-9,\"unit\":\"seconds\",\"base\":10}");
    free(count);
    free(time);
    json_decref(schemas);
}
END_TEST

static size_t check_kvm(const json_t *schemas, const char *target, const json_t *result)
{
    const json_t *rows = json_object_get(schema_of(schemas, "kvm", target), "stats");
    const json_t *numbers = json_object_get(result, "stats");
    ck_assert_str_eq(json_member_text(result, "provider", ""), "kvm");
    ck_assert_uint_eq(json_array_size(rows), json_array_size(numbers));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const json_t *number = json_array_get(numbers, i);
        const json_t *value = json_object_get(number, "value");
        const char *type = json_member_text(row, "type", "");
        ck_assert_str_eq(json_member_text(row, "name", ""),
                         json_member_text(number, "name", "x"));
        ck_assert(json_is_array(value) == (strstr(type, "histogram") != NULL));
        ck_assert(json_is_boolean(value) ==
                  (strcmp(json_member_text(row, "unit", ""), "boolean") == 0));
    }
    return json_array_size(rows);
}

START_TEST(what_kvm_counts_is_passed_on)
{
    if (machine_stats_fd(machine) < 0) {
        (void)puts("this KVM has no numbers: its part is not tested");
        return;
    }
    run_to_end();
    json_t *schemas = ask("query-stats-schemas", "{}");
    json_t *vm = ask("query-stats", "{\"target\":\"vm\"}");
    json_t *cpus = ask("query-stats",
                       "{\"target\":\"vcpu\",\"providers\":[{\"provider\":\"kvm\"}]}");

    ck_assert_uint_eq(json_array_size(vm), 1);
    ck_assert_ptr_null(json_object_get(json_array_get(vm, 0), "qom-path"));
    ck_assert_uint_eq(json_array_size(cpus), 2);
    (void)check_kvm(schemas, "vm", json_array_get(vm, 0));
    (void)check_kvm(schemas, "vcpu", json_array_get(cpus, 1));
    ck_assert_int_ge(value_of(json_array_get(cpus, 0), "exits"), 5);
    json_decref(cpus);
    json_decref(vm);
    json_decref(schemas);
}
END_TEST

START_TEST(a_query_does_not_wait_for_a_cpu_that_runs)
{
    static const uint8_t jump[] = {0xeb, 0xfe}; /* 1: jmp 1b */
    static const uint64_t code_at = MICRO_KERNEL_AT + MICRO_CODE_AT;
    ck_assert_int_eq(machine_load(machine, NULL), 0);
    ck_assert_int_eq(
        guest_memory_write(machine_place(machine).memory, code_at, jump, sizeof(jump)),
        0);
    json_decref(ask("cont", "{}"));
    json_t *answer = ask("query-stats", "{\"target\":\"vcpu\"}");
    ck_assert_uint_ge(json_array_size(answer), 2);
    ck_assert_int_eq(machine_state(machine), MACHINE_RUNNING);
    json_decref(answer);
}
END_TEST

int main(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return test_main_skip("no /dev/kvm; run where there is one by "
                              "tests/system/kvm_machine_test.sh");
    }
    (void)close(fd);
    Suite *suite = suite_create("vmm_cpu_stats");
    TCase *tests = tcase_create("vmm_cpu_stats");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, each_exit_of_the_guest_is_counted_by_reason);
    tcase_add_test(tests,
                   what_was_done_about_exits_took_less_than_all_the_time_there_was);
    tcase_add_test(tests, cpus_providers_and_names_can_be_chosen);
    tcase_add_loop_test(tests, what_makes_no_sense_is_refused_in_qemus_words, 0,
                        (int)ARRAY_COUNT(wrongs));
    tcase_add_test(tests, what_is_counted_has_a_schema);
    tcase_add_test(tests, what_kvm_counts_is_passed_on);
    tcase_add_test(tests, a_query_does_not_wait_for_a_cpu_that_runs);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
