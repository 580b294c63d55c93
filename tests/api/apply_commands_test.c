/* Goal: what an apply sends has all labels or is not sent at all, and nothing of what was
 * begun is left behind. Method: a label that no document could hold, as one that cannot
 * be copied; the sanitizer sees what is left. */
#include "api/apply_commands.h"
#include "support/state_fixture.h"

static struct apply_context *context;
static char long_value[LABEL_VALUE_MAX + 2];

static void *item_add(enum kind kind, const char *name)
{
    struct apply_item *item = &context->items[context->count++];
    item->kind = kind;
    item->object = object_new(kind);
    item->sends = true;
    ck_assert_ptr_nonnull(item->object);
    set_name(object_meta(item->object)->tenant, DEFAULT_TENANT);
    set_name(object_meta(item->object)->name, name);
    return item->object;
}

static struct vm *vm_add(const char *name)
{
    struct vm *vm = item_add(KIND_VM, name);
    set_name(vm->spec.template_ref.name, "small");
    return vm;
}

/* The first can be copied, the second cannot. */
static void label_too_long(struct label_list *labels)
{
    ck_assert_int_eq(label_set(labels, "app", "web"), 0);
    ck_assert_int_eq(label_set(labels, "note", ""), 0);
    ck_assert_int_eq(record_set_text(&labels->items[1].value, long_value), 0);
}

static void setup(void)
{
    fixture_start();
    context = calloc(1, sizeof(*context));
    ck_assert_ptr_nonnull(context);
    memset(long_value, 'x', sizeof(long_value) - 1);
}

static void teardown(void)
{
    for (uint32_t i = 0; i < context->count; i++) {
        object_free(context->items[i].kind, context->items[i].object);
    }
    free(context);
    fixture_stop();
}

START_TEST(a_vm_has_its_templates_labels_beside_its_own)
{
    struct template *template = item_add(KIND_TEMPLATE, "small");
    struct vm *vm = vm_add("jump");
    ck_assert_int_eq(label_set(&template->meta.labels, "app", "web"), 0);
    ck_assert_int_eq(label_set(&template->meta.labels, "tier", "one"), 0);
    ck_assert_int_eq(label_set(&vm->meta.labels, "tier", "two"), 0);
    ck_assert_int_eq(apply_labels_inherit(context, state, vm, NULL), 0);
    ck_assert_uint_eq(vm->meta.labels.count, 2);
    ck_assert_str_eq(label_value(&vm->meta.labels, "app"), "web");
    ck_assert_str_eq(label_value(&vm->meta.labels, "tier"), "two");
}
END_TEST

/* Else what is missing would count as taken away. */
START_TEST(labels_of_which_some_could_not_be_copied_are_a_fault)
{
    struct template *template = item_add(KIND_TEMPLATE, "small");
    struct vm *vm = vm_add("jump");
    label_too_long(&template->meta.labels);
    ck_assert_int_eq(level_at_least(LEVEL_VM_LABELS), 0);
    ck_assert_int_eq(apply_labels_inherit(context, state, vm, vm), BERTH_ETOOLARGE);
}
END_TEST

START_TEST(each_object_that_sends_has_a_command_and_a_number_by_its_place)
{
    struct command *commands = NULL;
    uint32_t count = 0;
    (void)item_add(KIND_TEMPLATE, "small");
    (void)item_add(KIND_GROUP, "web");
    (void)vm_add("jump");
    context->items[1].sends = false;
    ck_assert_int_eq(apply_commands_make(context, state, &commands, &count), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(commands[0].type, COMMAND_PUT);
    ck_assert_int_eq(commands[1].type, COMMAND_ADMIT_VM);
    ck_assert_uint_eq(context->numbers[0], 1);
    ck_assert_uint_eq(context->numbers[1], 5);
    apply_commands_free(commands, count);
}
END_TEST

START_TEST(a_command_that_was_half_made_is_not_left_behind)
{
    struct command *commands = NULL;
    uint32_t count = 0;
    (void)item_add(KIND_TEMPLATE, "small");
    label_too_long(&vm_add("jump")->meta.labels);
    ck_assert_int_eq(apply_commands_make(context, state, &commands, &count),
                     BERTH_ETOOLARGE);
    ck_assert_ptr_null(commands);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("apply_commands");
    TCase *tests = tcase_create("apply_commands");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_vm_has_its_templates_labels_beside_its_own);
    tcase_add_test(tests, labels_of_which_some_could_not_be_copied_are_a_fault);
    tcase_add_test(tests, each_object_that_sends_has_a_command_and_a_number_by_its_place);
    tcase_add_test(tests, a_command_that_was_half_made_is_not_left_behind);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
