/* Goal: the semantic checks find every fault and nothing else; names, MACs and networks.
 * Method: one sound document per kind, and a table of documents with one fault each. */
#include "base/cleanup.h"
#include "base/err.h"
#include "model/document.h"
#include "model/objects.h"
#include "record_fixture.h"
#include "support/test_main.h"

#define T    "'apiVersion':'berth/v1','metadata':{'name':'x','tenant':'default'}"
#define C    "'apiVersion':'berth/v1','metadata':{'name':'x'}"
#define SPEC "'image':'i','memory':{'size':'64MiB'}"

static void *read_object(const char *quoted, enum kind *ret_kind)
{
    CLEANUP_FREE char *text = fixture_quotes(quoted);
    struct json_view *document = NULL;
    void *object = NULL;
    struct err err = {0};
    int r = json_view_parse(text, strlen(text), &document, &err);
    if (r == 0) {
        r = document_read(json_view_root(document), ret_kind, &object, &err);
        json_view_free(document);
    }
    ck_assert_msg(r == 0, "%s: %s", text, err.text);
    return object;
}

/* "path: message" of every fault, one a line. */
struct report {
    char text[4096];
};

static void
collect(void *context, const char *path, const char *message, const char *hint)
{
    struct report *report = context;
    size_t size = strlen(report->text);
    ck_assert(hint == NULL || hint[0] != '\0');
    (void)snprintf(report->text + size, sizeof(report->text) - size, "%s: %s\n", path,
                   message);
}

static const char *const sound[] = {
    "{" C ",'kind':'Tenant','spec':{'quota':{'cpu':8,'memory':'unlimited'},"
    "'members':[{'subject':'token:ci','role':'operator'},{'subject':'user:ann'}]}}",
    "{" T ",'kind':'Template','spec':{" SPEC ",'disks':[{'name':'a','size':'1GiB'},"
    "{'name':'b','size':'1GiB'}],'nics':[{'name':'a','network':'n'}],"
    "'placement':{'require':['host.zone in [r1, r2]']},"
    "'health':{'ready':{'port':80,'path':'/up'}}}}",
    "{" T ",'kind':'Template','spec':{" SPEC ",'nics':[{'name':'a','network':'n'}],"
    "'health':{'ready':{'port':80,'every':'1s'}}}}", /* the time-out follows */
    "{" T ",'kind':'Group','spec':{'template':{'name':'t'},'autoscale':{'min':1,'max':5,"
    "'targets':[{'target':'60%'}]}}}",
    "{" T ",'kind':'Group','spec':{'template':{'name':'t'},'replicas':3}}",
    "{" T ",'kind':'VM','spec':{'template':{'name':'t'}}}",
    "{" T ",'kind':'Network','spec':{'ipv4':{'cidr':'10.20.0.0/24','gateway':"
    "'10.20.0.254'}}}",
    "{" C ",'kind':'Image','spec':{'artifacts':[{'role':'kernel','file':'k'},"
    "{'role':'initrd','file':'i'}],'cmdline':'quiet'}}",
    "{" T ",'kind':'Image','spec':{'artifacts':[{'role':'disk','url':'https://x/y',"
    "'sha256':'1111111111111111111111111111111111111111111111111111111111111111'}]}}",
    "{" T ",'kind':'Disk','spec':{'size':'1GiB'}}",
    "{" C ",'kind':'Host'}",
    "{" C ",'kind':'Token','spec':{'role':'viewer','tenant':'acme'}}",
    "{" C ",'kind':'Operation','spec':{'title':'drain h1'}}",
};

START_TEST(a_sound_object_has_no_fault)
{
    enum kind kind = KIND_NONE;
    struct report report = {""};
    void *object = read_object(sound[_i], &kind);
    ck_assert_uint_eq(object_check(kind, object, collect, &report), 0);
    ck_assert_str_eq(report.text, "");
    object_free(kind, object);
}
END_TEST

struct fault {
    const char *document;
    const char *said;
};

#define TEMPLATE(more) "{" T ",'kind':'Template','spec':{" SPEC "," more "}}"
#define GROUP(more)    "{" T ",'kind':'Group','spec':{'template':{'name':'t'}," more "}}"
#define IMAGE(more)    "{" T ",'kind':'Image','spec':{'artifacts':[" more "]}}"
#define NETWORK(more)  "{" T ",'kind':'Network','spec':{" more "}}"
#define SHA            "'1111111111111111111111111111111111111111111111111111111111111111'"

static const struct fault faults[] = {
    /* metadata */
    {"{'apiVersion':'berth/v1','kind':'Disk','metadata':{'name':'X','tenant':'default'},"
     "'spec':{'size':'1GiB'}}",
     "metadata.name: is not a valid name\n"},
    {"{" C ",'kind':'Disk','spec':{'size':'1GiB'}}", "metadata.tenant: is missing\n"},
    {"{" T ",'kind':'Tenant'}", "metadata.tenant: does not belong here\n"},
    {"{" T ",'kind':'Host'}", "metadata.tenant: does not belong here\n"},
    {"{'apiVersion':'berth/v1','kind':'Host','metadata':{'name':'h','labels':{'a b':'',"
     "'-a':'','ok/x.y_z':''}}}",
     "metadata.labels.a b: is not a valid key\nmetadata.labels.-a: is not a valid key\n"},
    /* Tenant */
    {"{" C ",'kind':'Tenant','spec':{'members':[{'subject':'ann'},{'subject':'user:a'},"
     "{'subject':'user:a'},{'subject':'token:A'}]}}",
     "spec.members[0].subject: is not a subject\n"
     "spec.members[2].subject: is a member already\n"
     "spec.members[3].subject: is not a subject\n"},
    /* Template */
    {TEMPLATE("'disks':[{'name':'a','size':'1GiB'},{'name':'a','size':'1GiB'}]"),
     "spec.disks[1].name: is used twice\n"},
    {TEMPLATE("'nics':[{'name':'a','network':'n'},{'name':'b','network':'n'},"
              "{'name':'a','network':'n'}]"),
     "spec.nics[2].name: is used twice\n"},
    {TEMPLATE("'nics':[{'name':'eth0','network':'n'},{'name':'Eth','network':'-'}]"),
     "spec.nics[1].name: is not a valid name\n"
     "spec.nics[1].network: is not a valid name\n"},
    {TEMPLATE("'disks':[{'name':'a','size':'1234567B'}]"),
     "spec.disks[0].size: is not a whole number of 512-byte sectors\n"},
    {"{" T ",'kind':'Template','spec':{'image':'i','memory':{'size':'512MB'}}}",
     "spec.memory.size: is not a whole number of MiB\n"},
    {TEMPLATE("'placement':{'require':['host.zone == r1','host.zone = r1']}"),
     "spec.placement.require[1]: column 11: a single \"=\": write \"==\"\n"},
    {TEMPLATE("'lifecycle':{'restart':{'backoff':'10s','maxBackoff':'9s'}}"),
     "spec.lifecycle.restart.backoff: is longer than lifecycle.restart.maxBackoff\n"},
    {TEMPLATE("'health':{'ready':{'path':'/up'}}"),
     "spec.health.ready.port: is missing\n"},
    {TEMPLATE("'health':{'ready':{'port':80}}"),
     "spec.health.ready.port: cannot be probed without a NIC\n"},
    {TEMPLATE("'nics':[{'name':'a','network':'n'}],'health':{'ready':{'port':80,"
              "'path':'up','every':'1s','timeout':'1500ms'}}"),
     "spec.health.ready.path: does not start with /\n"
     "spec.health.ready.timeout: is longer than health.ready.every\n"},
    {TEMPLATE("'disks':[{'name':'a','size':'1MiB','limit':{'iops':9,'burst':'1MiB'}}]"),
     "spec.disks[0].limit.iops: is so little that a guest would give the device up\n"
     "spec.disks[0].limit.burst: has no rate to go with it\n"},
    {TEMPLATE("'nics':[{'name':'a','network':'n','limit':{'packets':100,'packetsBurst':"
              "99,'bandwidth':'1kbit/s'}}]"),
     "spec.nics[0].limit.packetsBurst: is less than its rate gives in a second\n"
     "spec.nics[0].limit.bandwidth: is so little that a guest would give the device "
     "up\n"},
    {TEMPLATE("'disks':[{'name':'a','size':'1MiB','limit':{'iops':10,'iopsBurst':10,"
              "'bandwidth':'64KiB/s','burst':'1MiB'}}]"),
     ""},
    {TEMPLATE("'engine':'qemu','cpu':{'baseline':'x86-64-v2'}"),
     "spec.cpu.baseline: is not for engine qemu\n"},
    {"{" T ",'kind':'Template','spec':{'image':'i','engine':'qemu',"
     "'memory':{'size':'33MiB','pages':'huge'}}}",
     "spec.memory.pages: is not for engine qemu\n"
     "spec.memory.size: is not a whole number of huge pages\n"},
    {TEMPLATE("'cpu':{'count':3,'max':2}"), "spec.cpu.max: is less than cpu.count\n"},
    {TEMPLATE("'cpu':{'count':3,'max':3}"), ""},
    {TEMPLATE("'disks':[{'name':'a','size':'1MiB','readOnly':true}]"),
     "spec.disks[0].readOnly: is for the image's disk\n"},
    {TEMPLATE("'disks':[{'name':'a','from':'image','size':'1MiB','readOnly':true}]"), ""},
    {TEMPLATE("'cmdline':'a\\nb'"), "spec.cmdline: holds a control character\n"},
    /* Group */
    {GROUP("'autoscale':{'min':5,'max':4,'targets':[{'target':'60%'}]}"),
     "spec.autoscale.min: is above autoscale.max\n"},
    {GROUP("'autoscale':{'min':5}"), "spec.autoscale.max: is missing\n"},
    {GROUP("'autoscale':{'targets':[{'target':'60%'}]}"),
     "spec.autoscale.max: is missing\n"},
    {GROUP("'autoscale':{'max':4}"), "spec.autoscale.targets: is missing\n"},
    {GROUP("'autoscale':{'max':4,'targets':[{'target':'60%'},{'target':'70%'}]}"),
     "spec.autoscale.targets[1].metric: has a target already\n"},
    /* Network */
    {NETWORK("'ipv4':{'cidr':'10.0.0.0/30'}"),
     "spec.ipv4.cidr: has a prefix outside /8 to /29\n"},
    {NETWORK("'ipv4':{'cidr':'0.0.0.0/0'}"), "spec.ipv4.cidr: is missing\n"},
    {NETWORK("'ipv4':{'cidr':'127.0.0.0/8'}"),
     "spec.ipv4.cidr: is not a network for guests\n"},
    {NETWORK("'ipv4':{'cidr':'239.0.0.0/24'}"),
     "spec.ipv4.cidr: is not a network for guests\n"},
    {NETWORK("'ipv4':{'cidr':'10.0.0.0/24','gateway':'10.0.1.1'}"),
     "spec.ipv4.gateway: is outside of ipv4.cidr\n"},
    {NETWORK("'ipv4':{'cidr':'10.0.0.0/24','gateway':'10.0.0.0'}"),
     "spec.ipv4.gateway: is the network's own or its broadcast address\n"},
    {NETWORK("'ipv4':{'cidr':'10.0.0.0/24','gateway':'10.0.0.255'}"),
     "spec.ipv4.gateway: is the network's own or its broadcast address\n"},
    {NETWORK("'ipv4':{'cidr':'10.0.0.0/24'},'mtu':500"),
     "spec.mtu: must be at least 576\n"},
    /* Image */
    {IMAGE(""), "spec.artifacts: is missing\n"},
    {IMAGE("{'role':'initrd','file':'x'}"),
     "spec.artifacts: has neither a kernel nor a disk\n"},
    {IMAGE("{'role':'initrd','file':'x'},{'role':'disk','file':'x'}"),
     "spec.artifacts: has an initrd but no kernel\n"},
    {IMAGE("{'role':'kernel','file':'x'},{'role':'kernel','file':'y'}"),
     "spec.artifacts[1].role: is given twice\n"},
    {IMAGE("{'role':'kernel'}"), "spec.artifacts[0].file: is missing\n"},
    {IMAGE("{'role':'kernel','file':'x','url':'http://x','sha256':" SHA "}"),
     "spec.artifacts[0].url: cannot stand beside file\n"},
    {IMAGE("{'role':'kernel','url':'http://x'}"),
     "spec.artifacts[0].sha256: is missing\n"},
    {IMAGE("{'role':'kernel','url':'ftp://x','sha256':" SHA "}"),
     "spec.artifacts[0].url: is neither http:// nor https://\n"},
    {"{" T ",'kind':'Image','spec':{'artifacts':[{'role':'disk','file':'x'}],"
     "'cmdline':'quiet'}}",
     "spec.cmdline: has no kernel to be given to\n"},
    /* the rest */
    {"{" T ",'kind':'Disk','spec':{'size':'2000000B'}}",
     "spec.size: is not a whole number of 512-byte sectors\n"},
    {"{" C ",'kind':'Token','spec':{'role':'join','tenant':'acme'}}",
     "spec.tenant: does not go with role join\n"},
};

START_TEST(each_fault_is_reported_where_it_is)
{
    enum kind kind = KIND_NONE;
    struct report report = {""};
    void *object = read_object(faults[_i].document, &kind);
    unsigned count = object_check(kind, object, collect, &report);
    unsigned lines = 0;
    for (const char *at = faults[_i].said; *at != '\0'; at++) {
        lines += *at == '\n' ? 1 : 0;
    }
    ck_assert_str_eq(report.text, faults[_i].said);
    ck_assert_uint_eq(count, lines);
    object_free(kind, object);
}
END_TEST

START_TEST(what_never_went_through_a_reader_is_checked_as_well)
{
    struct report report = {""};
    struct template *template = object_new(KIND_TEMPLATE);
    strcpy(template->meta.tenant, "default");
    template->spec.cpu.count = VM_CPU_MAX + 1;
    (void)record_list_add(&nic_spec_record, (struct record_list *)&template->spec.nics);

    ck_assert_uint_eq(object_check(KIND_TEMPLATE, template, collect, &report), 6);

    ck_assert_str_eq(report.text,
                     "metadata.name: is missing\n"
                     "spec.image: is missing\n"
                     "spec.cpu.count: must be at most 64 (allowed: 1 to 64)\n"
                     "spec.memory.size: is missing\n"
                     "spec.nics[0].name: is missing\n"
                     "spec.nics[0].network: is missing\n");
    object_free(KIND_TEMPLATE, template);
}
END_TEST

START_TEST(a_label_given_twice_is_reported_once)
{
    struct report report = {""};
    struct host *host = object_new(KIND_HOST);
    strcpy(host->meta.name, "h1");
    ck_assert_int_eq(label_set(&host->meta.labels, "a", "1"), 0);
    ck_assert_int_eq(label_set(&host->meta.labels, "b", "1"), 0);
    strcpy(host->meta.labels.items[1].key, "a");
    ck_assert_uint_eq(object_check(KIND_HOST, host, collect, &report), 1);
    ck_assert_str_eq(report.text, "metadata.labels.a: is given twice\n");
    object_free(KIND_HOST, host);
}
END_TEST

START_TEST(an_address_with_host_bits_is_no_network)
{
    struct report report = {""};
    struct network *network = object_new(KIND_NETWORK);
    strcpy(network->meta.name, "n");
    strcpy(network->meta.tenant, "default");
    network->spec.ipv4.cidr = UINT64_C(0x0a000001) << 8 | 24;
    ck_assert_uint_eq(object_check(KIND_NETWORK, network, collect, &report), 1);
    ck_assert_str_eq(report.text, "spec.ipv4.cidr: has host bits set\n");
    object_free(KIND_NETWORK, network);
}
END_TEST

START_TEST(kinds_are_found_by_number_and_by_each_name)
{
    for (int i = KIND_NONE + 1; i < KIND_COUNT; i++) {
        const struct kind_info *info = kind_info((enum kind)i);
        ck_assert_int_eq(info->kind, i);
        ck_assert_ptr_eq(kind_info_by_name(info->name), info);
        ck_assert_ptr_eq(kind_info_by_name(info->word), info);
        ck_assert_ptr_eq(kind_info_by_name(info->plural), info);
        ck_assert_str_eq(info->record->name, info->word);
        ck_assert_str_eq(info->record->fields[0].name, "metadata");
        ck_assert_uint_eq(info->record->fields[0].offset, 0); /* object_meta */
    }
    ck_assert_ptr_null(kind_info(KIND_NONE));
    ck_assert_ptr_null(kind_info(KIND_COUNT));
    ck_assert_ptr_null(kind_info_by_name("Vm"));
    ck_assert_ptr_null(object_new(KIND_NONE));
    ck_assert_str_eq(kind_info(KIND_VM)->plural, "vms");
    ck_assert(kind_info(KIND_VM)->user_writable);
    ck_assert(!kind_info(KIND_TOKEN)->user_writable); /* a file holds no secrets */
}
END_TEST

START_TEST(names_follow_one_grammar)
{
    static const char *const good[] = {"a", "web-1", "a1", "z--9"};
    static const char *const bad[] = {"",   "1a",  "-a", "a-", "A",
                                      "a_", "a.b", "ä",  "a ", "a\n"};
    char name[NAME_SIZE + 1];
    memset(name, 'a', sizeof(name));
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        ck_assert_msg(name_valid(good[i]), "%s", good[i]);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        ck_assert_msg(!name_valid(bad[i]), "%s", bad[i]);
    }
    name[64] = '\0';
    ck_assert(!name_valid(name));
    name[63] = '\0';
    ck_assert(name_valid(name));
}
END_TEST

START_TEST(macs_are_local_unicast_and_unlike_each_other)
{
    ck_assert_uint_eq(vm_mac(1, 0), UINT64_C(0x525400000001));
    ck_assert_uint_eq(vm_mac(0xabcdef12, 2), UINT64_C(0x5256abcdef12));
    ck_assert(vm_mac(1, 0) != vm_mac(1, 1));
    ck_assert(vm_mac(1, 0) != vm_mac(UINT64_C(1) << 31, 0));
    ck_assert_uint_eq(vm_mac(UINT64_MAX, 7) >> 40, 0x52);
}
END_TEST

START_TEST(networks_know_what_they_hold)
{
    uint64_t cidr = UINT64_C(0x0a140000) << 8 | 24;
    struct network network = {0};
    network.spec.ipv4.cidr = cidr;
    ck_assert_uint_eq(cidr_address(cidr), 0x0a140000);
    ck_assert_uint_eq(cidr_prefix(cidr), 24);
    ck_assert_uint_eq(cidr_gateway(&network), 0x0a140001);
    network.spec.ipv4.gateway = 0x0a1400fe;
    ck_assert_uint_eq(cidr_gateway(&network), 0x0a1400fe);
    ck_assert(cidr_contains(cidr, 0x0a140000));
    ck_assert(cidr_contains(cidr, 0x0a1400ff));
    ck_assert(!cidr_contains(cidr, 0x0a140100));
    ck_assert(!cidr_contains(cidr, 0x0a13ffff));
    ck_assert(cidr_contains(0, 0xffffffff)); /* 0.0.0.0/0 */
    ck_assert(cidr_contains(UINT64_C(0x01020304) << 8 | 32, 0x01020304));
    ck_assert(!cidr_contains(UINT64_C(0x01020304) << 8 | 32, 0x01020305));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("objects");
    TCase *tcase = tcase_create("check");
    tcase_add_loop_test(tcase, a_sound_object_has_no_fault, 0, (int)ARRAY_COUNT(sound));
    tcase_add_loop_test(tcase, each_fault_is_reported_where_it_is, 0,
                        (int)ARRAY_COUNT(faults));
    tcase_add_test(tcase, what_never_went_through_a_reader_is_checked_as_well);
    tcase_add_test(tcase, a_label_given_twice_is_reported_once);
    tcase_add_test(tcase, an_address_with_host_bits_is_no_network);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("values");
    tcase_add_test(tcase, kinds_are_found_by_number_and_by_each_name);
    tcase_add_test(tcase, names_follow_one_grammar);
    tcase_add_test(tcase, macs_are_local_unicast_and_unlike_each_other);
    tcase_add_test(tcase, networks_know_what_they_hold);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
