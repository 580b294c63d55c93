/* Goal: what is typed is what is meant; a mistake is named; --help shows every option. */
#include "support/test_main.h"
#include "vmm/vmm_options.h"

#include <check.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 8

static int
parse(const char *const *words, struct vmm_options *ret_options, struct err *err)
{
    char *argv[WORDS_MAX + 2] = {(char *)(uintptr_t) "berth-vmm"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    return vmm_options_parse(argc, argv, ret_options, err);
}

START_TEST(what_is_typed_is_taken)
{
    static const char *const words[] = {"--kernel", "k",         "--memory", "1GiB",
                                        "--cpu",    "x86-64-v3", "--hold",   NULL};
    struct vmm_options options;

    ck_assert_int_eq(parse(words, &options, NULL), 0);

    ck_assert_str_eq(options.kernel, "k");
    ck_assert_uint_eq(options.memory_bytes, UINT64_C(1) << 30);
    ck_assert_int_eq(options.cpu_level, CPU_V3);
    ck_assert(options.is_held);
    ck_assert(!options.keeps_end);
    ck_assert_uint_eq(options.cpu_count, 1); /* not typed */
    ck_assert_ptr_null(options.initrd);
}
END_TEST

START_TEST(cpus_are_a_number_or_a_list_with_those_that_may_come)
{
    static const char *const plain[] = {"--kernel", "k", "--cpus", "4", NULL};
    static const char *const list[] = {"--kernel", "k", "--cpus", "max=6,count=2", NULL};
    static const char *const all[] = {"--kernel", "k", "--cpus", "count=3,max=3", NULL};
    struct vmm_options options;

    ck_assert_int_eq(parse(plain, &options, NULL), 0);
    ck_assert_uint_eq(options.cpu_count, 4);
    ck_assert_uint_eq(options.plug_cpus, 0);
    ck_assert_int_eq(parse(list, &options, NULL), 0);
    ck_assert_uint_eq(options.cpu_count, 2);
    ck_assert_uint_eq(options.plug_cpus, 4);
    ck_assert_int_eq(parse(all, &options, NULL), 0);
    ck_assert_uint_eq(options.cpu_count, 3);
    ck_assert_uint_eq(options.plug_cpus, 0);
}
END_TEST

START_TEST(what_ram_is_made_of_is_a_list)
{
    static const char *const plain[] = {"--kernel", "k", "--memory", "64MiB", NULL};
    static const char *const huge[] = {"--kernel", "k", "--memory",
                                       "huge=2M,size=1GiB,node=1", NULL};
    static const char *const spread[] = {"--kernel", "k", "--memory",
                                         "size=64MiB,policy=interleave,huge=off,max=1GiB",
                                         NULL};
    struct vmm_options options;

    ck_assert_int_eq(parse(plain, &options, NULL), 0);
    ck_assert_int_eq(options.backing.pages, RAM_PAGES_TRANSPARENT);
    ck_assert_int_eq(options.backing.policy, RAM_POLICY_NONE);
    ck_assert_int_eq(parse(huge, &options, NULL), 0);
    ck_assert_uint_eq(options.memory_bytes, UINT64_C(1) << 30);
    ck_assert_int_eq(options.backing.pages, RAM_PAGES_2M);
    ck_assert_int_eq(options.backing.policy, RAM_POLICY_BIND);
    ck_assert_uint_eq(options.backing.node, 1);
    ck_assert_int_eq(parse(spread, &options, NULL), 0);
    ck_assert_int_eq(options.backing.pages, RAM_PAGES_PLAIN);
    ck_assert_int_eq(options.backing.policy, RAM_POLICY_INTERLEAVE);
    ck_assert_uint_eq(options.memory_bytes, UINT64_C(64) << 20);
    ck_assert_uint_eq(options.plug_bytes, UINT64_C(960) << 20);
}
END_TEST

#define HEX_64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

START_TEST(a_saved_machine_is_named_with_the_options_it_had)
{
    static const char *const words[] = {"--kernel", "k",      "--incoming", "fd:9",
                                        "--lazy",   "--hold", NULL};
    struct vmm_options options;

    ck_assert_int_eq(parse(words, &options, NULL), 0);

    ck_assert_str_eq(options.incoming, "fd:9");
    ck_assert(options.is_lazy);
}
END_TEST

START_TEST(disks_and_nics_are_lists_of_keys_in_the_order_given)
{
    static const char *const words[] = {
        "--kernel", "fd:5",
        "--disk",   "name=root,overlay=fd:6,base=fd:7,digest=" HEX_64,
        "--nic",    "mac=52:54:00:00:00:07,tap=fd:8,mtu=1450,queues=4,vhost=fd:12",
        "--disk",   "read-only=yes,raw=/x/y=z,name=seed",
        NULL};
    struct vmm_options options;
    char digest[DIGEST_HEX_SIZE];

    ck_assert_int_eq(parse(words, &options, NULL), 0);

    ck_assert_uint_eq(options.disk_count, 2);
    ck_assert_str_eq(options.disks[0].name, "root");
    ck_assert_str_eq(options.disks[0].overlay, "fd:6");
    ck_assert_str_eq(options.disks[0].base, "fd:7");
    digest_format(&options.disks[0].digest, digest);
    ck_assert_str_eq(digest, HEX_64);
    ck_assert(!options.disks[0].is_read_only);
    ck_assert_str_eq(options.disks[1].raw, "/x/y=z");
    ck_assert(options.disks[1].is_read_only);
    ck_assert_uint_eq(options.nic_count, 1);
    ck_assert_uint_eq(options.nics[0].mac, UINT64_C(0x525400000007));
    ck_assert_uint_eq(options.nics[0].mtu, 1450);
    ck_assert_str_eq(options.nics[0].tap, "fd:8");
    ck_assert_uint_eq(options.nics[0].queues, 4);
    ck_assert_str_eq(options.nics[0].vhost, "fd:12");
}
END_TEST

START_TEST(a_disk_to_be_exported_needs_no_kernel)
{
    static const char *const words[] = {
        "--export-disk", "file=out,overlay=fd:6,base=fd:7,digest=" HEX_64, NULL};
    struct vmm_options options;
    char digest[DIGEST_HEX_SIZE];

    ck_assert_int_eq(parse(words, &options, NULL), 0);

    ck_assert_str_eq(options.export_disk.file, "out");
    ck_assert_str_eq(options.export_disk.overlay, "fd:6");
    ck_assert_str_eq(options.export_disk.base, "fd:7");
    digest_format(&options.export_disk.digest, digest);
    ck_assert_str_eq(digest, HEX_64);
}
END_TEST

START_TEST(a_vsock_has_a_number_and_one_side_at_least)
{
    static const char *const words[] = {
        "--kernel", "k", "--vsock", "cid=4294967294,listen=fd:6,dial=unix:/x/v", NULL};
    struct vmm_options options;

    ck_assert_int_eq(parse(words, &options, NULL), 0);

    ck_assert_uint_eq(options.vsock.cid, 4294967294u);
    ck_assert_str_eq(options.vsock.listen, "fd:6");
    ck_assert_str_eq(options.vsock.dial, "unix:/x/v");
}
END_TEST

START_TEST(there_is_a_most_of_disks_and_nics)
{
    char text[VMM_DISKS_MAX + 1][32];
    char *argv[2 * (VMM_DISKS_MAX + 1) + 1] = {(char *)(uintptr_t) "berth-vmm"};
    struct vmm_options options;
    struct err err = {0};
    for (unsigned i = 0; i <= VMM_DISKS_MAX; i++) {
        (void)snprintf(text[i], sizeof(text[i]),
                       _i == 0 ? "raw=x,name=d%u" : "tap=tap:x,mac=52:54:00:00:00:%02u",
                       i);
        argv[1 + 2 * i] = (char *)(uintptr_t)(_i == 0 ? "--disk" : "--nic");
        argv[2 + 2 * i] = text[i];
    }

    ck_assert_int_eq(vmm_options_parse(2 * (VMM_DISKS_MAX + 1) + 1, argv, &options, &err),
                     BERTH_EINVALID);

    ck_assert_str_eq(err.text,
                     _i == 0 ? "--disk: more than 16 disks" : "--nic: more than 8 NICs");
}
END_TEST

START_TEST(disks_and_nics_may_have_slots_that_they_leave)
{
    static const char *const words[] = {
        "--kernel",    "k",
        "--disk",      "name=data,raw=y,slot=31,id=Hot.disk_1",
        "--nic",       "mac=52:54:00:00:00:07,tap=fd:8,slot=24,id=n",
        "--plug-disk", "5GiB",
        NULL};
    struct vmm_options options;

    ck_assert_int_eq(parse(words, &options, NULL), 0);

    ck_assert_uint_eq(options.disks[0].slot, 31);
    ck_assert_str_eq(options.disks[0].id, "Hot.disk_1");
    ck_assert_uint_eq(options.nics[0].slot, 24);
    ck_assert_str_eq(options.nics[0].id, "n");
    ck_assert_uint_eq(options.plug_disk_bytes, UINT64_C(5) << 30);
}
END_TEST

START_TEST(disks_and_nics_have_limits)
{
    static const char *const words[] = {
        "--kernel",
        "k",
        "--disk",
        "name=root,raw=x,bps=10MiB,iops=500,bps-max=1MiB,iops-max=20",
        "--nic",
        "mac=52:54:00:00:00:07,tap=fd:8,rx-bps=2MiB,rx-pps=3,rx-bps-max=4B,"
        "rx-pps-max=5",
        "--nic",
        "mac=52:54:00:00:00:08,tap=fd:9,tx-bps=2MiB,tx-pps=3,tx-bps-max=4B,"
        "tx-pps-max=5",
        NULL};
    struct vmm_options options;

    ck_assert_int_eq(parse(words, &options, NULL), 0);

    ck_assert_uint_eq(options.disks[0].limits.bytes.rate, 10u << 20);
    ck_assert_uint_eq(options.disks[0].limits.bytes.burst, 1u << 20);
    ck_assert_uint_eq(options.disks[0].limits.operations.rate, 500);
    ck_assert_uint_eq(options.disks[0].limits.operations.burst, 20);
    for (unsigned i = 0; i < 2; i++) { /* each limits one direction, and not the other */
        const struct rate_specs *limits = &options.nics[i].limits[i];
        ck_assert_uint_eq(limits->bytes.rate, 2u << 20);
        ck_assert_uint_eq(limits->operations.rate, 3);
        ck_assert_uint_eq(limits->bytes.burst, 4);
        ck_assert_uint_eq(limits->operations.burst, 5);
        ck_assert_uint_eq(options.nics[i].limits[1 - i].bytes.rate, 0);
    }
}
END_TEST

struct mistake_row {
    const char *words[WORDS_MAX];
    const char *text;
};

static const struct mistake_row mistakes[] = {
    {{"--kernel", "k", "--bogus"}, "--bogus: no such option; see --help"},
    {{"kernel"}, "kernel: no such option; see --help"},
    {{"--kernel"}, "--kernel: FILE is missing"},
    {{"--kernel", "k", "--memory", "many"}, "--memory: "},
    {{"--memory", "huge=2M"}, "--memory: huge=2M: size is missing"},
    {{"--memory", "size=1GiB,max=1MiB"},
     "--memory: size=1GiB,max=1MiB: max is below size"},
    {{"--memory", "size=1GiB,huge=4M"}, "--memory: huge: 4M: not off, thp, 2M or 1G"},
    {{"--memory", "size=1GiB,policy=bind"},
     "--memory: size=1GiB,policy=bind: node is missing"},
    {{"--memory", "size=1GiB,policy=near"}, "--memory: policy: near: not bind"},
    {{"--memory", "size=1GiB,policy=interleave,node=0"},
     "--memory: size=1GiB,policy=interleave,node=0: interleave is over all nodes"},
    {{"--memory", "size=1GiB,node=64"},
     "--memory: size=1GiB,node=64: there is no such node"},
    {{"--kernel", "k", "--uids", "99999"}, "--uids: 0, or at least 100000"},
    {{"--kernel", "k", "--uids", "4294967295"}, "--uids: at most 4290772989"},
    {{"--kernel", "k", "--cpus", "-1"}, "--cpus: "},
    {{"--kernel", "k", "--cpus", "count=x"}, "--cpus: count: "},
    {{"--kernel", "k", "--cpus", "count=2,most=3"}, "--cpus: most: no such key"},
    {{"--kernel", "k", "--cpus", "max=2"}, "--cpus: max=2: count is missing"},
    {{"--kernel", "k", "--cpus", "count=3,max=2"},
     "--cpus: count=3,max=2: max is below count"},
    {{"--kernel", "k", "--cpu", "z80"}, "--cpu: CPU z80: not host"},
    {{"--hold"}, "--kernel is missing: no disk is booted by itself"},
    {{"--kernel", "k", "--lazy"}, "--lazy belongs to --incoming"},
    {{"--kernel", "k", "--mapped"}, "--mapped belongs to --incoming"},
    {{"--kernel", "k", "--incoming", "i", "--lazy", "--mapped"},
     "--lazy or --mapped, not both"},
    {{"--kernel", "k", "--incoming"}, "--incoming: FILE is missing"},
    {{"--disk", "name=a"}, "--disk: name=a: either raw or overlay"},
    {{"--disk", "name=a,raw=x,overlay=y"}, "--disk: name=a,raw=x,overlay=y: either"},
    {{"--disk", "raw=x"}, "--disk: raw=x: name is missing"},
    {{"--disk", "name=a,raw=x,base=y"}, "--disk: name=a,raw=x,base=y: base belongs"},
    {{"--disk", "name=a,overlay=x,read-only=yes"}, "--disk: name=a,overlay=x,read-only"},
    {{"--disk", "name=a,raw=x,read-only=no"}, "--disk: read-only: no: only yes"},
    {{"--disk", "name=a,overlay=x,digest=" HEX_64}, "--disk: name=a,overlay=x,digest=0"},
    {{"--disk", "name=a,overlay=x,digest=12"}, "--disk: digest: not 64 hex digits"},
    {{"--disk", "name=A,raw=x"}, "--disk: name: A: not a name"},
    {{"--disk", "name=a,raw="}, "--disk: raw: not 1 to 255 bytes"},
    {{"--disk", "name=a,bogus=1"}, "--disk: bogus: no such key"},
    {{"--disk", "name=a,raw=x,bps-max=5B"},
     "--disk: name=a,raw=x,bps-max=5B: what may come at once belongs to a limit"},
    {{"--nic", "tap=tap:x,mac=52:54:00:00:00:07,tx-pps-max=5"},
     "--nic: tap=tap:x,mac=52:54:00:00:00:07,tx-pps-max=5: what may come at once"},
    {{"--disk", "name"}, "--disk: name: not key=value"},
    {{"--disk", "name=a,raw=x", "--disk", "name=a,raw=y"},
     "--disk: name=a,raw=y: there is another disk of this name"},
    {{"--disk", "name=data-of-the-database-1,raw=x", "--disk",
      "name=data-of-the-8e43ce5d,raw=y"},
     "--disk: name=data-of-the-8e43ce5d,raw=y: another disk would have the same serial"},
    {{"--make-overlay", "file=x"}, "--make-overlay: file=x: file, or both"},
    {{"--make-overlay", "base=x"}, "--make-overlay: base=x: file, or both"},
    {{"--make-overlay", "file=x,size=big"}, "--make-overlay: size: "},
    {{"--export-disk", "file=x"}, "--export-disk: file=x: file or overlay is missing"},
    {{"--export-disk", "overlay=x"}, "--export-disk: overlay=x: file or overlay is"},
    {{"--export-disk", "file=x,overlay=y,digest=" HEX_64},
     "--export-disk: file=x,overlay=y,digest="},
    {{"--export-disk", "file=x,raw=y"}, "--export-disk: raw: no such key"},
    {{"--nic", "tap=tap:x"}, "--nic: tap=tap:x: tap or mac is missing"},
    {{"--vsock", "cid=2,listen=x"},
     "--vsock: cid=2,listen=x: cid has to be 3 to 4294967294"},
    {{"--vsock", "cid=4294967295,dial=x"},
     "--vsock: cid=4294967295,dial=x: cid has to be"},
    {{"--vsock", "listen=x"}, "--vsock: listen=x: cid has to be"},
    {{"--vsock", "cid=3"}, "--vsock: cid=3: both listen and dial are missing"},
    {{"--vsock", "cid=3,port=4"}, "--vsock: port: no such key"},
    {{"--vsock", "cid=3,listen=x", "--vsock", "cid=3,listen=x"},
     "--vsock: there is one already"},
    {{"--nic", "mac=52:54:00:00:00:07"}, "--nic: mac=52:54:00:00:00:07: tap or mac"},
    {{"--nic", "tap=tap:x,mac=nobody"}, "--nic: mac: "},
    {{"--nic", "tap=tap:x,mac=52:54:00:00:00:07,mtu=67"}, "--nic: mtu: not 68 to 65535"},
    {{"--nic", "tap=tap:x,mac=52:54:00:00:00:07,queues=9"}, "--nic: queues: not 1 to 8"},
    {{"--nic", "tap=tap:x,mac=52:54:00:00:00:07,queues=0"}, "--nic: queues: not 1 to 8"},
    {{"--disk", "name=a,raw=x,slot=23,id=a"},
     "--disk: name=a,raw=x,slot=23,id=a: slot: not 24 to 31"},
    {{"--disk", "name=a,raw=x,slot=4294967320,id=a"},
     "--disk: name=a,raw=x,slot=4294967320,id=a: slot: not 24 to 31"},
    {{"--disk", "name=a,raw=x,slot=24"}, "--disk: name=a,raw=x,slot=24: id is missing"},
    {{"--disk", "name=a,raw=x,id=a"}, "--disk: name=a,raw=x,id=a: id belongs to a slot"},
    {{"--disk", "name=a,raw=x,slot=24,id=1"}, "--disk: id: 1: not a letter and up to 30"},
    {{"--disk", "name=a,raw=x,slot=24,id=a123456789b123456789c123456789d1"},
     "--disk: id: a123456789b123456789c123456789d1: not a letter and up to 30"},
    {{"--disk", "name=a,raw=x,slot=24,id=a", "--disk", "name=b,raw=x,slot=24,id=b"},
     "--disk: name=b,raw=x,slot=24,id=b: slot: another device is there"},
    {{"--disk", "name=a,raw=x,slot=24,id=a", "--disk", "name=b,raw=x,slot=25,id=a"},
     "--disk: name=b,raw=x,slot=25,id=a: id: another device has it"},
    {{"--disk", "name=a,raw=x,slot=24,id=a", "--nic",
      "tap=tap:x,mac=52:54:00:00:00:07,slot=24,id=b"},
     "--nic: tap=tap:x,mac=52:54:00:00:00:07,slot=24,id=b: slot: another device"},
    {{"--nic", "tap=tap:x,mac=52:54:00:00:00:07,slot=32,id=b"},
     "--nic: tap=tap:x,mac=52:54:00:00:00:07,slot=32,id=b: slot: not 24 to 31"},
    {{"--plug-disk", "much"}, "--plug-disk: "},
};

START_TEST(a_mistake_is_named)
{
    struct vmm_options options = {.cpu_count = 77};
    struct err err = {0};

    ck_assert_int_eq(parse(mistakes[_i].words, &options, &err), BERTH_EINVALID);

    ck_assert_msg(strncmp(err.text, mistakes[_i].text, strlen(mistakes[_i].text)) == 0,
                  "%s", err.text);
    ck_assert_uint_eq(options.cpu_count, 77);
}
END_TEST

START_TEST(help_needs_no_kernel_and_lists_the_options)
{
    static const char *const words[] = {"--help", NULL};
    struct vmm_options options;
    char *text = NULL;
    size_t size = 0;
    ck_assert_int_eq(parse(words, &options, NULL), 0);
    ck_assert(options.wants_help);
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);

    vmm_options_help(out);

    ck_assert_int_eq(fclose(out), 0);
    ck_assert_ptr_nonnull(strstr(text, "--kernel FILE"));
    ck_assert_ptr_nonnull(strstr(text, "--keep-end"));
    ck_assert_ptr_nonnull(strstr(text, "or overlay=FILE[,base=FILE,digest=HEX]"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmm_options");
    TCase *tests = tcase_create("vmm_options");
    tcase_add_test(tests, what_is_typed_is_taken);
    tcase_add_test(tests, cpus_are_a_number_or_a_list_with_those_that_may_come);
    tcase_add_test(tests, what_ram_is_made_of_is_a_list);
    tcase_add_test(tests, a_saved_machine_is_named_with_the_options_it_had);
    tcase_add_test(tests, disks_and_nics_may_have_slots_that_they_leave);
    tcase_add_test(tests, disks_and_nics_have_limits);
    tcase_add_test(tests, disks_and_nics_are_lists_of_keys_in_the_order_given);
    tcase_add_test(tests, a_disk_to_be_exported_needs_no_kernel);
    tcase_add_test(tests, a_vsock_has_a_number_and_one_side_at_least);
    tcase_add_loop_test(tests, there_is_a_most_of_disks_and_nics, 0, 2);
    tcase_add_loop_test(tests, a_mistake_is_named, 0,
                        sizeof(mistakes) / sizeof(mistakes[0]));
    tcase_add_test(tests, help_needs_no_kernel_and_lists_the_options);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
