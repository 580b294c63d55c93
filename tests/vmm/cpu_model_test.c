/* Goal: a named level is the same on every host that has it, a host that lacks a part of
 * it is told so, and each vCPU knows its place. Method: tables of made-up hosts. */
#include "support/test_main.h"
#include "vmm/cpu_model.h"

#include <check.h>

#include <stdbool.h>
#include <string.h>

static struct cpu_table table;

static struct kvm_cpuid_entry2 *add(uint32_t leaf, uint32_t index)
{
    struct kvm_cpuid_entry2 *entry = &table.entries[table.count++];
    *entry = (struct kvm_cpuid_entry2){.function = leaf, .index = index};
    return entry;
}

static struct kvm_cpuid_entry2 *get(uint32_t leaf, uint32_t index)
{
    for (unsigned i = 0; i < table.count; i++) {
        if (table.entries[i].function == leaf && table.entries[i].index == index) {
            return &table.entries[i];
        }
    }
    return NULL;
}

/* A host that has every bit there is. */
static void setup(void)
{
    static const uint32_t leaves[][2] = {
        {0, 0},          {1, 0},          {4, 0},          {4, 3},
        {7, 0},          {7, 1},          {0xa, 0},        {0xb, 0},
        {0xd, 0},        {0xd, 1},        {0xd, 2},        {0xd, 9},
        {0xd, 17},       {0x14, 0},       {0x40000000, 0}, {0x40000001, 0},
        {0x40000010, 0}, {0x80000000, 0}, {0x80000001, 0}, {0x80000007, 0},
        {0x80000008, 0}, {0x8000001e, 0}, {0x80000021, 0}};
    table.count = 0;
    for (unsigned i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
        struct kvm_cpuid_entry2 *entry = add(leaves[i][0], leaves[i][1]);
        entry->eax = entry->ebx = entry->ecx = entry->edx = UINT32_MAX;
    }
    get(0, 0)->eax = 0x20;
    get(0x80000008, 0)->eax = 57u << 8 | 52; /* bits of an address */
    get(0xd, 2)->eax = 256;                  /* AVX: 256 bytes at 576 */
    get(0xd, 2)->ebx = 576;
    get(4, 0)->eax = 1u << 5 | 1; /* level 1 data */
    get(4, 3)->eax = 3u << 5 | 3;
}

START_TEST(levels_have_names_and_other_names_are_refused)
{
    enum cpu_level level;
    struct err err = {0};
    for (unsigned i = 0; i < CPU_LEVEL_COUNT; i++) {
        ck_assert_int_eq(cpu_level_parse(cpu_level_name(i), &level, NULL), 0);
        ck_assert_int_eq(level, i);
    }
    ck_assert_int_eq(cpu_level_parse("x86-64-v9", &level, &err), BERTH_EINVALID);
    ck_assert_msg(strstr(err.text, "x86-64-v9: not host") != NULL, "%s", err.text);
}
END_TEST

START_TEST(a_level_is_the_same_on_a_host_that_has_more)
{
    struct cpu_table first;
    ck_assert_int_eq(cpu_model_apply(&table, CPU_V3, NULL), 0);
    first = table;

    setup();
    get(1, 0)->ecx &= ~(1u << 3);   /* MONITOR */
    get(7, 0)->ebx &= ~0xd0030000u; /* AVX-512 */
    get(7, 1)->eax = 0;
    get(0xd, 0)->eax = 7;
    get(0x80000000, 0)->eax = 0x80000028;
    get(0x80000007, 0)->edx = 0;
    get(0x80000008, 0)->eax = 48u << 8 | 39;
    get(0x80000008, 0)->edx = 0;
    get(0x40000000, 0)->eax = 0x40000001;
    get(0x40000001, 0)->eax = 0x01006afb; /* without polling control and what is newer */
    get(0x40000001, 0)->edx = 0;
    ck_assert_int_eq(cpu_model_apply(&table, CPU_V3, NULL), 0);
    ck_assert_uint_eq(get(0x80000008, 0)->eax, 48u << 8 | 39);
    ck_assert_uint_eq(get(0x40000001, 0)->eax, 0x01006afb);
    ck_assert_ptr_null(get(0x40000010, 0)); /* rates of this host */

    ck_assert_uint_eq(first.count, table.count);
    for (unsigned i = 0; i < table.count; i++) {
        ck_assert_mem_eq(&first.entries[i], &table.entries[i], sizeof(table.entries[i]));
    }
}
END_TEST

struct lack_row {
    enum cpu_level level;
    uint32_t leaf;
    uint32_t eax; /* taken away */
    uint32_t ebx;
    uint32_t ecx;
    bool fits;
};

static const struct lack_row lacks[] = {
    {CPU_V2, 1, 0, 0, 1u << 20, false}, /* SSE4.2 */
    {CPU_V2, 1, 0, 0, 1u << 28, true},  /* AVX is of v3 */
    {CPU_V3, 1, 0, 0, 1u << 28, false}, /* AVX */
    {CPU_V3, 7, 0, 1u << 5, 0, false},  /* AVX2 */
    {CPU_V3, 7, 0, 1u << 16, 0, true},  /* AVX-512 is of v4 */
    {CPU_V4, 7, 0, 1u << 16, 0, false}, /* AVX-512 */
    {CPU_V4, 7, 0, 1u << 8, 0, false},  /* BMI2, of v3 */
    {CPU_HOST, 7, 0, 1u << 8, 0, true},
    {CPU_V2, 0x40000001, 1u << 5, 0, 0, false}, /* stolen time */
    {CPU_V2, 0x40000001, 1u << 12, 0, 0, true}, /* polling control */
    {CPU_HOST, 0x40000001, 1u << 5, 0, 0, true},
};

START_TEST(a_host_that_lacks_a_part_of_a_level_is_told_which)
{
    const struct lack_row *row = &lacks[_i];
    struct err err = {0};
    get(row->leaf, 0)->ecx &= ~row->ecx;
    get(row->leaf, 0)->ebx &= ~row->ebx;
    get(row->leaf, 0)->eax &= ~row->eax;

    int r = cpu_model_apply(&table, row->level, &err);

    ck_assert_int_eq(r, row->fits ? 0 : BERTH_EUNSUPPORTED);
    ck_assert_msg(row->fits || strstr(err.text, "lacks bits") != NULL, "%s", err.text);
}
END_TEST

/* KVMs of different age list more or fewer empty leaves for the same CPU. */
START_TEST(leaves_of_another_vendor_are_not_a_levels)
{
    struct cpu_table first;
    get(0x80000001, 0)->ecx &= ~(1u << 22); /* AMD's topology */
    first = table;
    ck_assert_int_eq(cpu_model_apply(&first, CPU_V2, NULL), 0);
    get(0x80000000, 0)->eax = 0x80000008;
    get(0x8000001e, 0)->function = 0x80000021; /* not there */

    ck_assert_int_eq(cpu_model_apply(&table, CPU_V2, NULL), 0);

    ck_assert_uint_eq(first.count, table.count);
    ck_assert_mem_eq(first.entries, table.entries,
                     table.count * sizeof(table.entries[0]));
    ck_assert_uint_eq(get(0x80000000, 0)->eax, 0x80000008);
}
END_TEST

START_TEST(a_level_needs_as_many_bits_of_an_address_on_each_host)
{
    struct err err = {0};
    get(0x80000008, 0)->eax = 48u << 8 | 36;
    ck_assert_int_eq(cpu_model_apply(&table, CPU_V2, &err), BERTH_EUNSUPPORTED);
    ck_assert_str_eq(err.text,
                     "CPU x86-64-v2: this host has 36 bits of a physical address, "
                     "and 39 are needed");
    setup();
    get(0x80000008, 0)->eax = 48u << 8 | 36;
    ck_assert_int_eq(cpu_model_apply(&table, CPU_HOST, NULL), 0);
    ck_assert_uint_eq(get(0x80000008, 0)->eax, 48u << 8 | 36);
}
END_TEST

START_TEST(what_no_vm_should_see_is_off_on_every_level)
{
    get(0, 0)->ecx = 0x444d4163; /* AMD */

    ck_assert_int_eq(cpu_model_apply(&table, (enum cpu_level)_i, NULL), 0);

    ck_assert_uint_eq(get(1, 0)->ecx & (1u << 3 | 1u << 5 | 1u << 15), 0);
    ck_assert_uint_ne(get(1, 0)->ecx & 1u << 31, 0); /* it is in a VM, and knows */
    ck_assert_uint_ne(get(1, 0)->ecx & 1u << 24, 0);
    ck_assert_uint_eq(get(7, 0)->edx & 1u << 29, 0);
    ck_assert_uint_eq(get(0x80000001, 0)->ecx & 1u << 2, 0);
    ck_assert_uint_eq(get(0x80000007, 0)->edx & 1u << 8, 0);
    ck_assert_uint_eq(get(0xa, 0)->eax, 0);
}
END_TEST

START_TEST(the_extended_state_is_the_levels_own)
{
    ck_assert_int_eq(cpu_model_apply(&table, CPU_V3, NULL), 0);

    ck_assert_uint_eq(get(0xd, 0)->eax, 7);
    ck_assert_uint_eq(get(0xd, 0)->ecx, 832); /* legacy, header, AVX */
    ck_assert_ptr_null(get(0xd, 17));         /* AMX */
    ck_assert_ptr_null(get(0x14, 0));
    ck_assert_ptr_null(get(0x80000021, 0));
}
END_TEST

START_TEST(each_vcpu_knows_its_place)
{
    ck_assert_int_eq(cpu_model_apply(&table, CPU_V3, NULL), 0);

    cpu_model_place(&table, 2, 6);
    cpu_model_place(&table, 5, 6); /* again, from the same table */

    ck_assert_uint_eq(get(1, 0)->ebx >> 24, 5);
    ck_assert_uint_eq(get(1, 0)->ebx >> 16 & 0xff, 6);
    ck_assert_uint_ne(get(1, 0)->edx & 1u << 28, 0);
    ck_assert_uint_eq(get(0xb, 0)->ecx, 0x100); /* threads */
    ck_assert_uint_eq(get(0xb, 0)->ebx, 1);
    ck_assert_uint_eq(get(0xb, 1)->ecx, 0x201); /* cores */
    ck_assert_uint_eq(get(0xb, 1)->ebx, 6);
    ck_assert_uint_eq(get(0xb, 1)->eax, 3);
    ck_assert_uint_eq(get(0xb, 1)->edx, 5);
    ck_assert_uint_eq(get(4, 0)->eax >> 14 & 0xfff, 0); /* a core's own */
    ck_assert_uint_eq(get(4, 3)->eax >> 14 & 0xfff, 5); /* everybody's */
    ck_assert_uint_eq(get(0x80000008, 0)->ecx, 5 | 3 << 12);
    ck_assert_uint_eq(get(0x8000001e, 0)->eax, 5);
}
END_TEST

START_TEST(a_table_comes_back_and_a_cut_one_is_refused)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct cpu_table again;
    bytes_writer_init(&writer, 1u << 16);
    cpu_table_write(&table, &writer);

    for (size_t size = 0; size <= writer.size; size++) {
        bytes_reader_init(&reader, writer.data, size);
        ck_assert_int_eq(cpu_table_read(&again, &reader),
                         size < writer.size ? BERTH_ECORRUPT : 0);
    }

    ck_assert_uint_eq(again.count, table.count);
    ck_assert_mem_eq(again.entries, table.entries,
                     table.count * sizeof(table.entries[0]));
    ck_assert_int_eq(cpu_model_same(&again, &table, NULL), 0);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(a_guest_does_not_go_on_with_another_cpu)
{
    struct cpu_table other = table;
    struct err err = {0};
    other.entries[0].edx = 0; /* the vendor */
    ck_assert_int_eq(cpu_model_same(&table, &other, &err), BERTH_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "of another maker: "));
    for (unsigned i = 0; i < table.count; i++) {
        other = table;
        if (other.entries[i].function == 7 && other.entries[i].index == 0) {
            other.entries[i].ebx ^= 1u << 5;
            ck_assert_int_eq(cpu_model_same(&table, &other, &err), BERTH_EUNSUPPORTED);
            ck_assert_ptr_nonnull(strstr(err.text, "CPUID 0x7.0 EBX was"));
            ck_assert_ptr_nonnull(
                strstr(err.text, "--cpu has to be what it was saved with"));
            return;
        }
    }
    ck_abort_msg("no leaf 7");
}
END_TEST

/* What KVM has learnt since is nothing to a guest; what it has forgotten is. */
START_TEST(a_guest_goes_on_with_more_of_kvm_and_of_addresses_but_not_with_less)
{
    static const struct {
        uint32_t leaf;
        uint32_t was;
        uint32_t is;
        bool fits;
    } rows[] = {
        {0x40000001, 0x01006afb, 0x01007efb, true},
        {0x40000001, 0x01007efb, 0x01006afb, false},
        {0x40000001, 0x01007efb, 0x01007efb, true},
        {0x80000008, 48u << 8 | 39, 48u << 8 | 46, true},
        {0x80000008, 48u << 8 | 46, 48u << 8 | 39, false},
        {0x80000008, 57u << 8 | 39, 48u << 8 | 39, false},
    };
    struct cpu_table saved;
    struct err err = {0};
    get(rows[_i].leaf, 0)->eax = rows[_i].was;
    saved = table;
    get(rows[_i].leaf, 0)->eax = rows[_i].is;

    int r = cpu_model_same(&saved, &table, &err);

    ck_assert_int_eq(r, rows[_i].fits ? 0 : BERTH_EUNSUPPORTED);
    ck_assert_msg(rows[_i].fits ||
                      strstr(err.text, "the guest knows another CPU") != NULL,
                  "%s", err.text);
    /* A level that had these of its host is no help: it was saved so. */
    ck_assert_msg(rows[_i].fits || strstr(err.text, "by an older berth-vmm") != NULL,
                  "%s", err.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpu_model");
    TCase *tests = tcase_create("cpu_model");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, levels_have_names_and_other_names_are_refused);
    tcase_add_test(tests, a_level_is_the_same_on_a_host_that_has_more);
    tcase_add_loop_test(tests, a_host_that_lacks_a_part_of_a_level_is_told_which, 0,
                        sizeof(lacks) / sizeof(lacks[0]));
    tcase_add_test(tests, leaves_of_another_vendor_are_not_a_levels);
    tcase_add_test(tests, a_level_needs_as_many_bits_of_an_address_on_each_host);
    tcase_add_loop_test(tests, what_no_vm_should_see_is_off_on_every_level, 0,
                        CPU_LEVEL_COUNT);
    tcase_add_test(tests, the_extended_state_is_the_levels_own);
    tcase_add_test(tests, each_vcpu_knows_its_place);
    tcase_add_test(tests, a_table_comes_back_and_a_cut_one_is_refused);
    tcase_add_test(tests, a_guest_does_not_go_on_with_another_cpu);
    tcase_add_loop_test(
        tests, a_guest_goes_on_with_more_of_kvm_and_of_addresses_but_not_with_less, 0, 6);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
