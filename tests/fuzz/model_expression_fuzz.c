/* expression_compile on any text: a fault has its column inside the text; a rule compiles
 * again to the same steps, and any host can be judged and told why. */
#include "base/require.h"
#include "model/expression.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(const struct expression *expression, const char *text)
{
    struct host host;
    char told[200];
    record_init(&host_record, &host);
    strcpy(host.meta.name, "h1");
    (void)expression_holds(expression, &host);
    REQUIRE(label_set(&host.meta.labels, "zone", "r1") == 0);
    host.status.engines = UINT32_MAX;
    host.status.kvm = KVM_NATIVE;
    host.status.memory_bytes = 64 * GIB;
    (void)expression_holds(expression, &host);
    expression_explain(expression, text, &host, told, sizeof(told));
    REQUIRE(memchr(told, '\0', sizeof(told)) != NULL);
    record_fini(&host_record, &host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct expression first;
    struct expression second;
    struct err err = {0};
    unsigned column = 0;
    char *text = strndup((const char *)data, size);
    REQUIRE(text != NULL);
    if (expression_compile(text, &first, &column, &err) < 0) {
        REQUIRE(err.code == BERTH_EINVALID && err.text[0] != '\0');
        REQUIRE(strchr(err.text, '\n') == NULL);
        REQUIRE(column >= 1 && column <= strlen(text) + 1);
    } else {
        REQUIRE(first.step_count >= 1 && first.step_count <= EXPRESSION_STEPS_MAX);
        REQUIRE(expression_compile(text, &second, NULL, NULL) == 0);
        REQUIRE(memcmp(&first, &second, sizeof(first)) == 0);
        judge(&first, text);
    }
    free(text);
    return 0;
}
