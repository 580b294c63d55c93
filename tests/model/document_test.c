/* Goal: what a user writes is read exactly or refused with its place, and what is shown
 * can be written again.
 * Method: random objects of every kind, whole texts, and a table of faults. */
#include "base/cleanup.h"
#include "base/err.h"
#include "model/command.h"
#include "model/document.h"
#include "record_fixture.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <errno.h>

#define SEEDS 60

static struct json_view *parse(const char *quoted)
{
    CLEANUP_FREE char *text = fixture_quotes(quoted);
    struct json_view *document = NULL;
    struct err err = {0};
    int r = json_view_parse(text, strlen(text), &document, &err);
    ck_assert_msg(r == 0, "%s: %s", text, err.text);
    return document;
}

static struct json_view *view_of(const json_t *tree)
{
    CLEANUP_FREE char *text = json_text(tree);
    struct json_view *view = NULL;
    ck_assert_int_eq(json_view_parse(text, strlen(text), &view, NULL), 0);
    return view;
}

static void *read_object(const char *quoted, enum kind wanted)
{
    struct json_view *document = parse(quoted);
    enum kind kind = KIND_NONE;
    void *object = NULL;
    struct err err = {0};
    int r = document_read(json_view_root(document), &kind, &object, &err);
    ck_assert_msg(r == 0, "%s: %s", quoted, err.text);
    ck_assert_int_eq(kind, wanted);
    json_view_free(document);
    return object;
}

START_TEST(every_kind_comes_back_equal)
{
    const struct kind_info *info = kind_info((enum kind)(_i / 2));
    bool full = _i % 2 == 1;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random random;
        enum kind kind = KIND_NONE;
        void *back = NULL;
        struct err err = {0};
        CLEANUP_FREE void *object = malloc(info->record->size_bytes);
        random_seed(&random, seed);
        fixture_fill(info->record, object, &random, FIXTURE_WRITABLE);
        object_settle(info->kind, object); /* as whatever was read is */

        json_t *document = document_of(info->kind, object, full);
        CLEANUP_FREE char *text = json_text(document);
        struct json_view *view = view_of(document);
        int r = document_read(json_view_root(view), &kind, &back, &err);

        ck_assert_msg(r == 0, "%s: %s", err.text, text);
        ck_assert_int_eq(kind, info->kind);
        ck_assert_msg(record_equal(info->record, object, back), "%s", text);
        json_view_free(view);
        json_decref(document);
        record_fini(info->record, object);
        object_free(info->kind, back);
    }
}
END_TEST

START_TEST(any_object_can_be_shown)
{
    const struct kind_info *info = kind_info((enum kind)_i);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random random;
        CLEANUP_FREE void *object = malloc(info->record->size_bytes);
        random_seed(&random, seed);
        fixture_fill(info->record, object, &random, 0);
        json_t *document = document_of(info->kind, object, seed % 2 == 0);
        CLEANUP_FREE char *text = json_text(document);
        ck_assert_ptr_nonnull(text);
        json_decref(document);
        record_fini(info->record, object);
    }
}
END_TEST

START_TEST(a_document_is_read_field_by_field)
{
    struct template *template = read_object(
        "{'apiVersion':'berth/v1','kind':'Template','metadata':{'name':'web',"
        "'tenant':'default','labels':{'tier':'front','z':''}},'spec':{'image':'debian',"
        "'engine':'qemu','cpu':{'count':4},'memory':{'size':'128MiB'},'disks':[{'name':"
        "'root','from':'image','size':'4GiB'},{'name':'data','size':'1TiB'}],"
        "'nics':[{'name':'eth0','network':'lan'}],'cmdline':'quiet',"
        "'placement':{'require':['host.kvm == native'],'spread':{'by':'host','max':2}},"
        "'lifecycle':{'hostFailure':'wait','stopGrace':'1m'}}}",
        KIND_TEMPLATE);
    const struct machine_spec *spec = &template->spec;
    ck_assert_str_eq(template->meta.name, "web");
    ck_assert_str_eq(template->meta.tenant, "default");
    ck_assert_str_eq(label_value(&template->meta.labels, "tier"), "front");
    ck_assert_str_eq(label_value(&template->meta.labels, "z"), "");
    ck_assert_str_eq(spec->image, "debian");
    ck_assert_uint_eq(spec->engine, ENGINE_QEMU);
    ck_assert_uint_eq(spec->cpu.count, 4);
    ck_assert_uint_eq(spec->cpu.weight, 100); /* the fallback */
    ck_assert_uint_eq(spec->memory.size_bytes, 128 * MIB);
    ck_assert_uint_eq(spec->disks.count, 2);
    ck_assert_uint_eq(spec->disks.items[0].from, DISK_FROM_IMAGE);
    ck_assert_uint_eq(spec->disks.items[1].from, DISK_EMPTY);
    ck_assert_uint_eq(spec->disks.items[1].size_bytes, TIB);
    ck_assert_str_eq(spec->nics.items[0].network, "lan");
    ck_assert_str_eq(spec->cmdline, "quiet");
    ck_assert_str_eq(spec->placement.require.items[0], "host.kvm == native");
    ck_assert_uint_eq(spec->placement.spread.by, SPREAD_HOST);
    ck_assert_uint_eq(spec->lifecycle.host_failure, HOST_FAILURE_WAIT);
    ck_assert_uint_eq(spec->lifecycle.stop_grace_ms, 60000);
    object_free(KIND_TEMPLATE, template);
}
END_TEST

static void check_shown(enum kind kind, const void *object, bool full, const char *quoted)
{
    CLEANUP_FREE char *wanted = fixture_quotes(quoted);
    json_t *document = document_of(kind, object, full);
    CLEANUP_FREE char *text = json_text(document);
    ck_assert_str_eq(text, wanted);
    json_decref(document);
}

START_TEST(a_document_shows_what_differs_as_people_write_it)
{
    struct network *network = object_new(KIND_NETWORK);
    strcpy(network->meta.name, "lan");
    strcpy(network->meta.tenant, "default");
    network->meta.created_wall_ms = UINT64_C(1700000000123);
    network->meta.uid = 9;
    network->spec.ipv4.cidr = UINT64_C(0x0a140000) << 8 | 24;
    network->spec.egress = EGRESS_NONE;
    network->status.vni = 7;
    check_shown(KIND_NETWORK, network, false,
                "{'apiVersion':'berth/v1','kind':'Network','metadata':{'name':'lan',"
                "'tenant':'default','uid':9,'created':'2023-11-14T22:13:20.123Z'},"
                "'spec':{'ipv4':{'cidr':'10.20.0.0/24'},'egress':'none'},"
                "'status':{'vni':7}}");
    object_free(KIND_NETWORK, network);
}
END_TEST

START_TEST(a_full_document_shows_everything_but_secrets)
{
    struct token *token = object_new(KIND_TOKEN);
    strcpy(token->meta.name, "ci");
    memset(&token->spec.hash, 0x5a, sizeof(token->spec.hash));
    check_shown(KIND_TOKEN, token, true,
                "{'apiVersion':'berth/v1','kind':'Token','metadata':{'name':'ci',"
                "'tenant':null,'labels':{},'annotations':{},'uid':0,'createRevision':0,"
                "'revision':0,'created':null},'spec':{'role':'viewer','tenant':null,"
                "'expires':null,'usesLeft':'unlimited'}}");
    object_free(KIND_TOKEN, token);
}
END_TEST

START_TEST(numbers_with_units_are_shown_shortly)
{
    struct tenant *tenant = object_new(KIND_TENANT);
    strcpy(tenant->meta.name, "acme");
    tenant->spec.quota.cpu_mcpu = 1500;
    tenant->spec.quota.memory_bytes = 3 * GIB;
    tenant->spec.quota.vms = 12;
    tenant->status.used.cpu_mcpu = UINT64_C(5000000000) * 1000;
    check_shown(KIND_TENANT, tenant, false,
                "{'apiVersion':'berth/v1','kind':'Tenant','metadata':{'name':'acme'},"
                "'spec':{'quota':{'cpu':'1500m','memory':'3GiB','vms':12}},"
                "'status':{'used':{'cpu':'5000000000'}}}");
    object_free(KIND_TENANT, tenant);
}
END_TEST

START_TEST(text_that_is_no_utf8_is_shown_with_marks)
{
    struct operation *operation = object_new(KIND_OPERATION);
    strcpy(operation->meta.name, "x");
    ck_assert_int_eq(record_set_text(&operation->spec.title, "a\xff\xc3.b"), 0);
    check_shown(KIND_OPERATION, operation, false,
                "{'apiVersion':'berth/v1','kind':'Operation','metadata':{'name':'x'},"
                "'spec':{'title':'a??.b'}}");
    object_free(KIND_OPERATION, operation);
}
END_TEST

static const struct {
    const char *text;
    const char *shown;
} foreign[] = {
    {NULL, ""},
    {"", ""},
    {"plain", "plain"},
    {"\xc3\xa4\xff", "\xc3\xa4?"},              /* what is right stays */
    {"cut \xc3", "cut ?"},                      /* within a character */
    {"\xe2\x82\xac\xe2\x82", "\xe2\x82\xac??"}, /* likewise */
    {"\xc0\xaf\xe0\x80\xaf", "?????"},          /* longer than need be */
    {"\xed\xa0\x80", "???"},                    /* half of a pair */
    {"\xf4\x90\x80\x80\xf0\x9f\x98\x80", "????\xf0\x9f\x98\x80"}, /* beyond the last */
    {"\xf0\x80\x80\x80", "????"},
};

START_TEST(text_keeps_what_is_utf8)
{
    json_t *value = document_text(foreign[_i].text);
    ck_assert_ptr_nonnull(value);
    ck_assert_str_eq(json_string_value(value), foreign[_i].shown);
    json_decref(value);
}
END_TEST

START_TEST(a_label_key_beyond_ascii_is_kept_for_the_check_to_refuse)
{
    struct host *host = read_object("{'apiVersion':'berth/v1','kind':'Host','metadata':"
                                    "{'name':'x','labels':{'gr\u00fcn':'1'}}}",
                                    KIND_HOST);
    check_shown(KIND_HOST, host, false,
                "{'apiVersion':'berth/v1','kind':'Host','metadata':{'name':'x',"
                "'labels':{'gr\u00fcn':'1'}}}");
    object_free(KIND_HOST, host);
}
END_TEST

START_TEST(numbers_may_be_written_in_several_ways)
{
    struct tenant *tenant =
        read_object("{'apiVersion':'berth/"
                    "v1','kind':'Tenant','metadata':{'name':'a'},'spec':{'quota':"
                    "{'cpu':1.5,'memory':'unlimited','vms':'unlimited','networks':3}}}",
                    KIND_TENANT);
    ck_assert_uint_eq(tenant->spec.quota.cpu_mcpu, 1500);
    ck_assert_uint_eq(tenant->spec.quota.memory_bytes, UNLIMITED);
    ck_assert_uint_eq(tenant->spec.quota.vms, UNLIMITED32);
    ck_assert_uint_eq(tenant->spec.quota.networks, 3);
    object_free(KIND_TENANT, tenant);

    tenant =
        read_object("{'apiVersion':'berth/v1','kind':'Tenant','metadata':{'name':'a'}"
                    ",'spec':{'quota':{'cpu':8}}}",
                    KIND_TENANT);
    ck_assert_uint_eq(tenant->spec.quota.cpu_mcpu, 8000);
    object_free(KIND_TENANT, tenant);
}
END_TEST

START_TEST(what_only_the_server_writes_is_ignored)
{
    struct vm *vm = read_object(
        "{'apiVersion':'berth/"
        "v1','kind':'VM','metadata':{'name':'a','tenant':'t','uid':-3,"
        "'created':[]},'spec':{'template':{'name':'web'},'group':'g','machine':7},"
        "'status':{'phase':'no such','anything':1}}",
        KIND_VM);
    ck_assert_uint_eq(vm->meta.uid, 0);
    ck_assert_str_eq(vm->spec.group, "");
    ck_assert_uint_eq(vm->status.phase, PHASE_PENDING);
    object_free(KIND_VM, vm);
}
END_TEST

struct fault {
    const char *document;
    const char *said; /* how the error's text begins */
};

#define HEAD(kind) "{'apiVersion':'berth/v1','kind':'" kind "','metadata':{'name':'x'}"
#define DISK(size) HEAD("Disk") ",'spec':{'size':" size "}}"
#define MACHINE(more) \
    HEAD("Template") ",'spec':{'image':'i','memory':{'size':'64MiB'}," more "}}"
#define TENANT(more) HEAD("Tenant") ",'spec':{" more "}}"

static const struct fault faults[] = {
    {"[]", "expected an object"},
    {"{}", "apiVersion: expected \"berth/v1\""},
    {"{'apiVersion':'berth/v2','kind':'VM'}", "apiVersion: expected"},
    {"{'apiVersion':1,'kind':'VM'}", "apiVersion: expected"},
    {"{'apiVersion':'berth/v1'}", "kind: expected"},
    {"{'apiVersion':'berth/v1','kind':'vm'}", "kind: expected"},
    {"{'apiVersion':'berth/v1','kind':'Disk'}", "metadata: is missing"},
    {"{'apiVersion':'berth/v1','kind':'Disk','metadata':{}}",
     "metadata.name: is missing"},
    {"{'apiVersion':'berth/v1','kind':'Disk','metadata':[]}",
     "metadata: expected an object"},
    {HEAD("Disk") "}", "spec: is missing"},
    {HEAD("Disk") ",'specs':{}}", "specs: is not known here; known are metadata, spec"},
    {HEAD("Disk") ",'spec':{'size':null}}", "spec.size: is missing (size)"},
    {HEAD("Disk") ",'spec':{'size':'1GiB','kind':'x'}}", "spec.kind: is not known here"},
    {HEAD("Disk") ",'spec':{'size':'1GiB','a\\nb':1}}", "spec.a?b: is not known here"},
    {DISK("1073741824"), "spec.size: expected a size in quotes"},
    {DISK("'1073741824'"), "spec.size: "},
    {DISK("'1GiB '"), "spec.size: "},
    {DISK("'1s'"), "spec.size: "},
    {DISK("'-1GiB'"), "spec.size: "},
    {DISK("'1023KiB'"), "spec.size: must be at least 1MiB"},
    {DISK("'65TiB'"), "spec.size: must be at most 64TiB"},
    {DISK("'99999999999999999999TiB'"), "spec.size: "},
    {DISK("true"), "spec.size: expected a size"},
    {DISK("'1GiB\\u0001'"), "spec.size: "},
    {MACHINE("'cpu':{'count':'2'}"), "spec.cpu.count: expected a whole number"},
    {MACHINE("'cpu':{'count':2.0}"), "spec.cpu.count: expected a whole number"},
    {MACHINE("'cpu':{'count':-2}"), "spec.cpu.count: expected a whole number"},
    {MACHINE("'cpu':{'count':0}"), "spec.cpu.count: must be at least 1"},
    {MACHINE("'cpu':{'count':65}"), "spec.cpu.count: must be at most 64"},
    {MACHINE("'cpu':{'count':4294967298}"), "spec.cpu.count: must be at most 64"},
    {MACHINE("'cpu':2"), "spec.cpu: expected an object"},
    {MACHINE("'cpu':{'count':'unlimited'}"), "spec.cpu.count: "},
    {MACHINE("'engine':'xen'"), "spec.engine: \"xen\" is none of: auto, qemu, kvm, fake"},
    {MACHINE("'engine':1"), "spec.engine: expected a text"},
    {MACHINE("'disks':{}"), "spec.disks: expected a list of objects"},
    {MACHINE("'disks':[{'name':'a','size':'1GiB'},{'name':'b'}]"),
     "spec.disks[1].size: is missing"},
    {MACHINE("'nics':[{'name':'a','network':'n','mac':'x'}]"),
     "spec.nics[0].mac: is not known here; known are name, network"},
    {MACHINE("'nics':[1]"), "spec.nics[0]: expected an object"},
    {MACHINE("'nics':[{},{},{},{},{},{},{},{},{}]"), "spec.nics: has 9 items, at most 8"},
    {MACHINE("'placement':{'require':'x'}"),
     "spec.placement.require: expected a list of texts"},
    {MACHINE("'placement':{'require':['x',1]}"),
     "spec.placement.require[1]: expected a text"},
    {MACHINE("'lifecycle':{'stopGrace':30}"),
     "spec.lifecycle.stopGrace: expected a duration in quotes"},
    {MACHINE("'lifecycle':{'stopGrace':'2h'}"),
     "spec.lifecycle.stopGrace: must be at most 1h"},
    {HEAD("Group") ",'spec':{'template':{'name':'t'},'autoscale':{'targets':[{'target':"
                   "'101%'}]}}}",
     "spec.autoscale.targets[0].target: must be at most 100%"},
    {HEAD("Group") ",'spec':{'template':{}}}", "spec.template.name: is missing"},
    {HEAD("Network") ",'spec':{'ipv4':{'cidr':'10.0.0.1/24'}}}", "spec.ipv4.cidr: "},
    {HEAD("Network") ",'spec':{'ipv4':{'cidr':'10.0.0.0'}}}", "spec.ipv4.cidr: "},
    {HEAD("Network") ",'spec':{'ipv4':{'cidr':'10.0.0.0/24','gateway':'10.0.0'}}}",
     "spec.ipv4.gateway: "},
    {HEAD("Host") ",'spec':{'drain':'yes'}}", "spec.drain: expected true or false"},
    {HEAD("Host") ",'spec':{'drain':1}}", "spec.drain: expected true or false"},
    {HEAD("Image") ",'spec':{'artifacts':[{'role':'kernel','sha256':'abc'}]}}",
     "spec.artifacts[0].sha256: not a SHA-256"},
    {HEAD("Token") ",'spec':{'role':'','expires':'2026-01-01T00:00:00Z'}}",
     "spec.role: \"\" is none of: viewer, operator, admin, join"},
    {HEAD("Token") ",'spec':{'role':'viewer','expires':'tomorrow'}}",
     "spec.expires: \"tomorrow\" is no time"},
    {TENANT("'quota':{'cpu':'2x'}"), "spec.quota.cpu: "},
    {TENANT("'quota':{'cpu':0.0001}"), "spec.quota.cpu: at most three digits"},
    {TENANT("'quota':{'cpu':-1}"), "spec.quota.cpu: expected a number of CPUs"},
    {TENANT("'quota':{'cpu':1e300}"), "spec.quota.cpu: expected a number of CPUs"},
    {TENANT("'quota':{'vms':4294967295}"), "spec.quota.vms: is too large"},
    {TENANT("'quota':{'vms':4294967296}"), "spec.quota.vms: must be at most"},
    {TENANT("'members':[{'role':'admin'}]"), "spec.members[0].subject: is missing"},
    {TENANT("'members':[{'subject':'user:a','role':'join'}]"),
     "spec.members[0].role: \"join\" is none of: viewer, operator, admin"},
    {TENANT("'members':[{'subject':''}]"), "spec.members[0].subject: must not be empty"},
    {"{'apiVersion':'berth/v1','kind':'Host','metadata':{'name':'x','labels':{'a':1}}}",
     "metadata.labels.a: expected a text"},
    {"{'apiVersion':'berth/v1','kind':'Host','metadata':{'name':'x','labels':['a']}}",
     "metadata.labels: expected an object of texts"},
    {"{'apiVersion':'berth/v1','kind':'Host','metadata':{'name':"
     "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}}",
     "metadata.name: a name has at most 63 characters"},
    {MACHINE("'nics':[{'name':'','network':'n'}]"),
     "spec.nics[0].name: must not be empty"},
    {MACHINE("'engine':'a\\nb'"), "spec.engine: \"a?b\" is none of"},
};

START_TEST(a_fault_is_refused_with_its_place)
{
    struct json_view *document = parse(faults[_i].document);
    enum kind kind = KIND_NONE;
    void *object = NULL;
    struct err err = {0};
    int r = document_read(json_view_root(document), &kind, &object, &err);
    ck_assert_msg(r == BERTH_EINVALID && err.code == r &&
                      strncmp(err.text, faults[_i].said, strlen(faults[_i].said)) == 0,
                  "%s\n%d %s", faults[_i].document, r, err.text);
    ck_assert_int_eq(document_read(json_view_root(document), &kind, &object, NULL),
                     BERTH_EINVALID);
    ck_assert_ptr_null(object);
    json_view_free(document);
}
END_TEST

START_TEST(one_record_alone_is_read_under_its_path)
{
    struct memory_spec memory;
    struct err err = {0};
    struct json_view *document = parse("{'size':'64MiB'}");
    ck_assert_int_eq(document_read_record(&memory_spec_record, json_view_root(document),
                                          "spec", &memory, &err),
                     0);
    ck_assert_uint_eq(memory.size_bytes, 64 * MIB);
    json_view_free(document);
    document = parse("{'size':'64'}");
    ck_assert_int_eq(document_read_record(&memory_spec_record, json_view_root(document),
                                          "spec", &memory, &err),
                     BERTH_EINVALID);
    ck_assert_int_eq(strncmp(err.text, "spec.size: ", 11), 0);
    ck_assert_uint_eq(memory.size_bytes, 0);
    json_view_free(document);
}
END_TEST

START_TEST(bytes_are_base64)
{
    uint8_t bytes[] = {0, 1, 254, 255};
    struct cmd_put put = {.kind = KIND_VM, .document = {bytes, sizeof(bytes)}};
    struct cmd_put back;
    json_t *document = document_of_record(&cmd_put_record, &put, false);
    struct json_view *view = view_of(document);
    ck_assert_str_eq(json_member_text(document, "document", ""), "AAH+/w==");
    ck_assert_int_eq(
        document_read_record(&cmd_put_record, json_view_root(view), "", &back, NULL), 0);
    ck_assert_mem_eq(back.document.data, bytes, sizeof(bytes));
    ck_assert_uint_eq(back.document.size, sizeof(bytes));
    record_fini(&cmd_put_record, &back);
    json_view_free(view);
    (void)json_object_set_new(document, "document", json_string("AAH+/w="));
    view = view_of(document);
    ck_assert_int_eq(
        document_read_record(&cmd_put_record, json_view_root(view), "", &back, NULL),
        BERTH_EINVALID);
    json_view_free(view);
    json_decref(document);
}
END_TEST

START_TEST(running_out_of_memory_is_said_and_leaves_nothing)
{
    const struct kind_info *info = kind_info((enum kind)_i);
    struct random random;
    struct err err = {0};
    enum kind kind = KIND_NONE;
    CLEANUP_FREE void *object = malloc(info->record->size_bytes);
    random_seed(&random, 4);
    fixture_fill(info->record, object, &random, FIXTURE_WRITABLE);
    json_t *document = NULL;
    for (long n = 0; document == NULL; n++) {
        if (FAULT_HEAP_WORKS) {
            fault_heap_after(n);
        }
        document = document_of(info->kind, object, true);
        fault_heap_off();
    }
    struct json_view *view = view_of(document);
    int r = FAULT_HEAP_WORKS ? -ENOMEM : 0;
    for (long n = 0; r < 0; n++) {
        void *back = NULL;
        fault_heap_after(n);
        r = document_read(json_view_root(view), &kind, &back, &err);
        fault_heap_off();
        ck_assert_msg(r == 0 || r == -ENOMEM, "%ld: %s", n, err.text);
        ck_assert(r < 0 || record_equal(info->record, object, back));
        object_free(info->kind, back);
    }
    json_view_free(view);
    json_decref(document);
    record_fini(info->record, object);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("document");
    TCase *tcase = tcase_create("round trip");
    tcase_add_loop_test(tcase, every_kind_comes_back_equal, 2, 2 * KIND_COUNT);
    tcase_add_loop_test(tcase, any_object_can_be_shown, 1, KIND_COUNT);
    tcase_add_test(tcase, bytes_are_base64);
    tcase_add_loop_test(tcase, running_out_of_memory_is_said_and_leaves_nothing, 1,
                        KIND_COUNT);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("show");
    tcase_add_test(tcase, a_document_shows_what_differs_as_people_write_it);
    tcase_add_test(tcase, a_full_document_shows_everything_but_secrets);
    tcase_add_test(tcase, numbers_with_units_are_shown_shortly);
    tcase_add_test(tcase, text_that_is_no_utf8_is_shown_with_marks);
    tcase_add_loop_test(tcase, text_keeps_what_is_utf8, 0,
                        sizeof(foreign) / sizeof(foreign[0]));
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("read");
    tcase_add_test(tcase, a_document_is_read_field_by_field);
    tcase_add_test(tcase, a_label_key_beyond_ascii_is_kept_for_the_check_to_refuse);
    tcase_add_test(tcase, numbers_may_be_written_in_several_ways);
    tcase_add_test(tcase, what_only_the_server_writes_is_ignored);
    tcase_add_loop_test(tcase, a_fault_is_refused_with_its_place, 0,
                        (int)ARRAY_COUNT(faults));
    tcase_add_test(tcase, one_record_alone_is_read_under_its_path);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
