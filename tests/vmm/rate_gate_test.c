/* Goal: who is held back is called when it is worth asking again. */
#include "support/test_main.h"
#include "vmm/rate_gate.h"

#include <check.h>

struct seen {
    struct rate_gate gate;
    unsigned called;
    uint64_t token;
};

static void on_due(void *context, uint64_t token, unsigned events)
{
    struct seen *seen = context;
    (void)events;
    rate_gate_due(&seen->gate);
    seen->called++;
    seen->token = token;
}

START_TEST(a_closed_gate_calls_when_it_opens)
{
    const struct rate_spec operations = {.rate = 100, .burst = 1};
    const struct rate_spec none = {0};
    struct poller *poller = NULL;
    struct seen seen = {0};
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    rate_gate_setup(&seen.gate, &operations, &none);
    ck_assert_int_eq(rate_gate_init(&seen.gate, poller, on_due, &seen, 5), 0);
    unsigned passed = 0;

    while (passed < 5) {
        if (rate_gate_pass(&seen.gate, 100)) {
            passed++;
        } else {
            ck_assert_int_eq(poller_step(poller, 10000), 1);
        }
    }

    ck_assert_uint_ge(seen.called, 4);
    ck_assert_uint_eq(seen.token, 5);
    rate_gate_change(&seen.gate, &none, &none);
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert(rate_gate_pass(&seen.gate, UINT64_MAX));
    }
    rate_gate_fini(&seen.gate);
    rate_gate_fini(&seen.gate); /* harmless */
    poller_free(poller);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rate_gate");
    TCase *tests = tcase_create("rate_gate");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_closed_gate_calls_when_it_opens);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
