/* Goal: rules mean what they say, and a wrong one says where it is wrong.
 * Method: tables of rules against three hosts, and of faults with their columns. */
#include "base/err.h"
#include "model/expression.h"
#include "record_fixture.h"
#include "support/test_main.h"

enum { BIG = 0, SMALL, BARE, HOSTS };

static struct host hosts[HOSTS];

static void set_up(void)
{
    for (int i = 0; i < HOSTS; i++) {
        record_init(&host_record, &hosts[i]);
        (void)snprintf(hosts[i].meta.name, NAME_SIZE, "h%d", i + 1);
    }
    struct host *big = &hosts[BIG];
    REQUIRE(label_set(&big->meta.labels, "zone", "r1") == 0);
    REQUIRE(label_set(&big->meta.labels, "gen", "10") == 0);
    REQUIRE(label_set(&big->meta.labels, "acme.org/rack-no", "R 7") == 0);
    big->status.kvm = KVM_NATIVE;
    big->status.engines = ENGINE_BIT(ENGINE_QEMU) | ENGINE_BIT(ENGINE_KVM);
    big->status.cores = 64;
    big->status.memory_bytes = 256 * GIB;
    big->status.numa_nodes = 2;
    struct host *small = &hosts[SMALL];
    REQUIRE(label_set(&small->meta.labels, "zone", "r2") == 0);
    REQUIRE(label_set(&small->meta.labels, "gen", "9") == 0);
    small->status.kvm = KVM_EMULATED;
    small->status.engines = ENGINE_BIT(ENGINE_FAKE);
    small->status.cores = 8;
    small->status.memory_bytes = 8 * GIB;
    small->status.numa_nodes = 1;
}

static void tear_down(void)
{
    for (int i = 0; i < HOSTS; i++) {
        record_fini(&host_record, &hosts[i]);
    }
}

struct rule {
    const char *text;
    const char *holds; /* for BIG, SMALL, BARE: y or n */
};

static const struct rule rules[] = {
    {"host.name == h1", "ynn"},
    {"host.name != h1", "nyy"},
    {"host.name in [h1, h3]", "yny"},
    {"host.name in [h2]", "nyn"},
    {"host.name == 'h2'", "nyn"},
    {"host.zone == \"r1\"", "ynn"},
    {"host.label.zone == r1", "ynn"},
    {"host.zone != r1", "nyy"}, /* a missing label is unequal to everything */
    {"host.zone == ''", "nnn"},
    {"host.zone in [r1, r2]", "yyn"},
    {"not host.zone in [r1, r2]", "nny"},
    {"host.label.acme.org/rack-no == 'R 7'", "ynn"},
    {"host.label.gen >= 10", "ynn"}, /* as numbers, not as texts */
    {"host.label.gen < 10", "nyn"},
    {"host.label.zone > 1", "nnn"},
    {"host.kvm == native", "ynn"},
    {"host.kvm in [native, emulated]", "yyn"},
    {"host.kvm != none", "yyn"},
    {"host.engine == qemu", "ynn"},
    {"host.engine in [qemu, fake]", "yyn"},
    {"host.engine != kvm", "nyy"},
    {"host.cpu.cores == 8", "nyn"},
    {"host.cpu.cores != 8", "yny"},
    {"host.cpu.cores < 8", "nny"},
    {"host.cpu.cores <= 8", "nyy"},
    {"host.cpu.cores > 8", "ynn"},
    {"host.cpu.cores >= 8", "yyn"},
    {"host.cpu.cores in [0, 64]", "yny"},
    {"host.memory >= 8GiB", "yyn"},
    {"host.memory == 8589934592", "nyn"},
    {"host.memory > 8192MiB", "ynn"},
    {"host.numa > 1", "ynn"},
    /* precedence: or < and < not < comparison */
    {"host.name == h1 or host.name == h2 and host.numa == 2", "ynn"},
    {"(host.name == h1 or host.name == h2) and host.numa == 2", "ynn"},
    {"(host.name == h1 or host.name == h2) and host.numa == 1", "nyn"},
    {"host.numa == 1 and host.name == h1 or host.name == h3", "nny"},
    {"host.numa == 1 and (host.name == h1 or host.name == h3)", "nnn"},
    {"not host.name == h1 and not host.name == h2", "nny"},
    {"not (host.name == h1 and host.name == h2)", "yyy"},
    {"not not host.name == h1", "ynn"},
    {"not host.name == h1 or host.numa == 2", "yyy"},
    {"host.kvm == native and not (host.name in [h1, h2])", "nnn"},
    {"((host.name == h1))", "ynn"},
    {"host.name==h1 or host.name==h2 or host.name==h3", "yyy"},
    {"host.name in [h1] and host.zone in [r1, r2] and host.numa in [1, 2]", "ynn"},
    {"  host.name\t==\nh1 ", "ynn"},
};

START_TEST(a_rule_holds_for_the_right_hosts)
{
    const struct rule *rule = &rules[_i];
    struct expression expression;
    struct err err = {0};
    unsigned column = 0;
    int r = expression_compile(rule->text, &expression, &column, &err);
    ck_assert_msg(r == 0, "%s: %s", rule->text, err.text);
    for (int i = 0; i < HOSTS; i++) {
        bool holds = expression_holds(&expression, &hosts[i]);
        ck_assert_msg(holds == (rule->holds[i] == 'y'), "%s: h%d %d", rule->text, i + 1,
                      holds);
    }
}
END_TEST

struct mistake {
    const char *text;
    unsigned column;
    const char *said; /* part of the error's text */
};

static const struct mistake mistakes[] = {
    {"", 1, "expected a fact"},
    {"   ", 4, "found the end"},
    {"zone == r1", 1, "expected a fact"},
    {"host.zones == r1", 1, "expected a fact"},
    {"host.label. == r1", 1, "expected a fact"},
    {"host.zone", 10, "expected a comparison"},
    {"host.zone = r1", 11, "write \"==\""},
    {"host.zone == ", 14, "expected a value, found the end"},
    {"host.zone == and", 14, "expected a value, found \"and\""},
    {"host.zone == r1 host.numa == 1", 17, "expected \"and\", \"or\" or the end"},
    {"host.zone == r1 and", 20, "expected a fact"},
    {"host.zone == r1 or or", 20, "expected a fact"},
    {"and host.zone == r1", 1, "expected a fact"},
    {"host.zone == \"r1", 14, "never closed"},
    {"host.zone == $r1", 14, "no meaning"},
    {"host.zone in r1", 14, "expected \"[\""},
    {"host.zone in []", 15, "expected a value"},
    {"host.zone in [r1", 17, "expected \",\" or \"]\""},
    {"host.zone in [r1 r2]", 18, "expected \",\" or \"]\""},
    {"host.zone in [r1,]", 18, "expected a value"},
    {"(host.zone == r1", 17, "expected \")\""},
    {"host.zone == r1)", 16, "closes nothing"},
    {"()", 2, "expected a fact"},
    {"not", 4, "expected a fact"},
    {"host.kvm == maybe", 13, "one of none emulated native"},
    {"host.engine == auto", 16, "one of qemu kvm fake"},
    {"host.kvm > none", 10, "has no order"},
    {"host.name >= h1", 11, "has no order"},
    {"host.cpu.cores >= many", 19, "expected a number"},
    {"host.cpu.cores >= 8GiB", 19, "expected a number"},
    {"host.memory >= 8GiBs", 16, "expected a size"},
    {"host.label.gen < new", 18, "expected a number"},
};

START_TEST(a_wrong_rule_says_where_and_what)
{
    const struct mistake *mistake = &mistakes[_i];
    struct expression expression;
    struct err err = {0};
    unsigned column = 0;
    ck_assert_int_eq(expression_compile(mistake->text, &expression, &column, &err),
                     BERTH_EINVALID);
    ck_assert_msg(column == mistake->column && strstr(err.text, mistake->said) != NULL,
                  "%s: %s", mistake->text, err.text);
    ck_assert_int_eq(expression_compile(mistake->text, &expression, NULL, NULL),
                     BERTH_EINVALID);
}
END_TEST

/* `open` count times, then the rule, then `close` count times. */
static int
compile_repeated(const char *open, const char *rule, const char *close, int count)
{
    char text[4096] = "";
    struct expression expression;
    for (int i = 0; i < count; i++) {
        strcat(text, open);
    }
    strcat(text, rule);
    for (int i = 0; i < count; i++) {
        strcat(text, close);
    }
    return expression_compile(text, &expression, NULL, NULL);
}

START_TEST(depth_and_length_have_limits)
{
    const char *rule = "host.numa==1";
    ck_assert_int_eq(compile_repeated("(", rule, ")", 64), 0);
    ck_assert_int_eq(compile_repeated("(", rule, ")", 65), BERTH_EINVALID);
    ck_assert_int_eq(compile_repeated("not ", rule, "", 63), 0);
    ck_assert_int_eq(compile_repeated("not ", rule, "", 64), BERTH_EINVALID);
    ck_assert_int_eq(compile_repeated("", "host.numa in [1", ",1", 63), BERTH_EINVALID);
    ck_assert_int_eq(compile_repeated("", rule, " ", EXPRESSION_TEXT_MAX - 12), 0);
    ck_assert_int_eq(compile_repeated("", rule, " ", EXPRESSION_TEXT_MAX - 11),
                     BERTH_EINVALID);
}
END_TEST

START_TEST(every_word_for_a_fact_is_one)
{
    char text[64];
    struct expression expression;
    unsigned count = 0;
    for (const char *fact; (fact = expression_fact(count)) != NULL; count++) {
        const char *of_names = strcmp(fact, "host.kvm") == 0      ? "native"
                               : strcmp(fact, "host.engine") == 0 ? "qemu"
                               : strcmp(fact, "host.memory") == 0 ? "1GiB"
                                                                  : "1";
        (void)snprintf(text, sizeof(text), "%s == %s", fact, of_names);
        ck_assert_msg(expression_compile(text, &expression, NULL, NULL) == 0, "%s", text);
    }
    ck_assert_uint_eq(count, 7);
}
END_TEST

START_TEST(a_list_may_use_all_steps)
{
    char text[EXPRESSION_TEXT_MAX] = "host.name in [h0";
    struct expression expression;
    for (int i = 1; i < EXPRESSION_STEPS_MAX; i++) {
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), ",h%d", i);
    }
    strcat(text, "]");
    ck_assert_int_eq(expression_compile(text, &expression, NULL, NULL), 0);
    strcpy(hosts[BARE].meta.name, "h63");
    ck_assert(expression_holds(&expression, &hosts[BARE]));
    strcpy(hosts[BARE].meta.name, "h64");
    ck_assert(!expression_holds(&expression, &hosts[BARE]));
}
END_TEST

struct explanation {
    const char *rule;
    int host;
    const char *text;
};

static const struct explanation explanations[] = {
    {"host.zone in [r1, r3]", SMALL, "host.zone in [r1, r3] (is r2)"},
    {"host.zone == r1", BARE, "host.zone == r1 (is not set)"},
    {"host.kvm == native", SMALL, "host.kvm == native (is emulated)"},
    {"host.engine == fake", BIG, "host.engine == fake (is qemu and kvm)"},
    {"host.engine == fake", BARE, "host.engine == fake (is none)"},
    {"host.memory >= 64GiB", SMALL, "host.memory >= 64GiB (is 8GiB)"},
    {"host.cpu.cores > 8 and host.cpu.cores < 32", SMALL,
     "host.cpu.cores > 8 and host.cpu.cores < 32 (is 8)"},
    {"host.numa == 2 and host.zone == r1 and host.label.gen == 3", SMALL,
     "host.numa == 2 and host.zone == r1 and host.label.gen == 3 (host.numa is 1, "
     "host.label.zone is r2, host.label.gen is 9)"},
};

START_TEST(an_explanation_tells_the_hosts_facts)
{
    const struct explanation *row = &explanations[_i];
    struct expression expression;
    char text[256];
    ck_assert_int_eq(expression_compile(row->rule, &expression, NULL, NULL), 0);
    expression_explain(&expression, row->rule, &hosts[row->host], text, sizeof(text));
    ck_assert_str_eq(text, row->text);
    for (size_t capacity = 1; capacity < strlen(row->text) + 1; capacity++) {
        expression_explain(&expression, row->rule, &hosts[row->host], text, capacity);
        ck_assert_uint_lt(strlen(text), capacity);
        ck_assert_int_eq(strncmp(text, row->text, strlen(text)), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("expression");
    TCase *tcase = tcase_create("rules");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, a_rule_holds_for_the_right_hosts, 0,
                        (int)(sizeof(rules) / sizeof(rules[0])));
    tcase_add_loop_test(tcase, a_wrong_rule_says_where_and_what, 0,
                        (int)(sizeof(mistakes) / sizeof(mistakes[0])));
    tcase_add_test(tcase, depth_and_length_have_limits);
    tcase_add_test(tcase, every_word_for_a_fact_is_one);
    tcase_add_test(tcase, a_list_may_use_all_steps);
    tcase_add_loop_test(tcase, an_explanation_tells_the_hosts_facts, 0,
                        (int)(sizeof(explanations) / sizeof(explanations[0])));
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
