/* Goal: every kind has a table that shows what its documents say, and dashes for what
 * they do not. */
#include "cli/kind_view.h"
#include "cli_fixture.h"
#include "model/document.h"

#define NOW UINT64_C(1795425400000) /* 2026-11-23T09:16:40Z */

static const struct shown {
    const char *line; /* the command line: -o wide, -t */
    enum kind kind;
    const char *object;
    const char *table;
} showns[] = {
    {"ls", KIND_VM,
     "{'metadata':{'name':'web-1','tenant':'shop','created':'2026-11-23T09:15:00.000Z'},"
     "'spec':{'group':'web','template':{'name':'small'}},"
     "'status':{'phase':'ready','host':'h1','nics':[{'address':'10.20.0.5'}],"
     "'live':{'cpuPermille':126},'epoch':3}}",
     "NAME   TENANT  PHASE  HOST  ADDRESS    CPU    AGE  REASON\n"
     "web-1  shop    ready  h1    10.20.0.5  13%  100 s  -\n"},
    {"ls -t shop", KIND_VM, "{'metadata':{'name':'web-1','tenant':'shop'}}",
     "NAME   PHASE    HOST  ADDRESS  CPU  AGE  REASON\n"
     "web-1  pending  -     -          -    -  -\n"},
    {"ls -t shop", KIND_VM, /* nowhere, but its disks are on h1 */
     "{'metadata':{'name':'web-1','tenant':'shop'},'status':{'phase':'stopped',"
     "'diskHost':'h1'}}",
     "NAME   PHASE    HOST  ADDRESS  CPU  AGE  REASON\n"
     "web-1  stopped  (h1)  -          -    -  -\n"},
    {"ls -o wide", KIND_VM,
     "{'metadata':{'name':'a','tenant':'t','labels':{'app':'x','tier':'1'}},"
     "'spec':{'template':{'name':'small'}},'status':{'phase':'failed','restarts':4,"
     "'reason':'two\\nlines'}}",
     "NAME  TENANT  PHASE   HOST  ADDRESS  CPU  AGE  TEMPLATE  GROUP  EPOCH  RESTARTS  "
     "DISK I/O  NETWORK  LABELS        REASON\n"
     "a     t       failed  -     -          -    -  small     -          -         4  "
     "-         -        app=x,tier=1  two lines\n"},
    {"ls -o wide", KIND_VM, /* no latency of a time without requests */
     "{'metadata':{'name':'a','tenant':'t'},'status':{'phase':'ready',"
     "'live':{'disk':{'readBytesPerSecond':0,'writeBytesPerSecond':0}}}}",
     "NAME  TENANT  PHASE  HOST  ADDRESS  CPU  AGE  TEMPLATE  GROUP  EPOCH  RESTARTS  "
     "DISK I/O                 NETWORK  LABELS  REASON\n"
     "a     t       ready  -     -          -    -  -         -          -         -  "
     "0B/s read, 0B/s written  -        -       -\n"},
    {"ls -o wide", KIND_VM,
     "{'metadata':{'name':'a','tenant':'t'},'status':{'phase':'ready',"
     "'live':{'disk':{'readBytesPerSecond':1258291,'writeBytesPerSecond':4096,"
     "'latencyUs':120},'nics':{'rxBytesPerSecond':2048,'txBytesPerSecond':17}}}}",
     "NAME  TENANT  PHASE  HOST  ADDRESS  CPU  AGE  TEMPLATE  GROUP  EPOCH  RESTARTS  "
     "DISK I/O                                    NETWORK               LABELS  REASON\n"
     "a     t       ready  -     -          -    -  -         -          -         -  "
     "1.2MiB/s read, 4KiB/s written, 120 us each  2KiB/s in, 17B/s out  -       -\n"},
    {"ls", KIND_GROUP,
     "{'metadata':{'name':'web','tenant':'shop'},'spec':{'template':{'name':'small'},"
     "'autoscale':{'min':3,'max':12,'targets':[{'target':'60%'}]}},"
     "'status':{'desired':4,'vms':4,'ready':3,'scaleReason':'cpu 71% of 60%'}}",
     "NAME  TENANT  READY  AUTOSCALE        TEMPLATE  AGE  REASON\n"
     "web   shop      3/4  3-12 at cpu 60%  small       -  1 of 4 VMs are not ready\n"},
    {"ls", KIND_GROUP,
     "{'metadata':{'name':'web'},'status':{'desired':4,'vms':3,'ready':3}}",
     "NAME  TENANT  READY  AUTOSCALE  TEMPLATE  AGE  REASON\n"
     "web   -         3/4  -          -           -  1 of 4 VMs are still to be made\n"},
    {"ls", KIND_GROUP,
     "{'metadata':{'name':'web'},'status':{'desired':0,'vms':1,'ready':1}}",
     "NAME  TENANT  READY  AUTOSCALE  TEMPLATE  AGE  REASON\n"
     "web   -         1/0  -          -           -  1 more VM is there than wanted\n"},
    {"ls", KIND_GROUP,
     "{'metadata':{'name':'web'},'status':{'desired':1,'vms':0,'reason':'a quota'}}",
     "NAME  TENANT  READY  AUTOSCALE  TEMPLATE  AGE  REASON\n"
     "web   -         0/1  -          -           -  a quota\n"},
    {"ls", KIND_GROUP, /* of long ago */
     "{'metadata':{'name':'web','tenant':'shop'},'status':{'desired':4,'ready':4,"
     "'scaleReason':'cpu 71% of 60%'}}",
     "NAME  TENANT  READY  AUTOSCALE  TEMPLATE  AGE  REASON\n"
     "web   shop      4/4  -          -           -  -\n"},
    {"ls", KIND_GROUP,
     "{'metadata':{'name':'w','tenant':'t'},'status':{'deleting':true}}",
     "NAME  TENANT  READY  AUTOSCALE  TEMPLATE  AGE  REASON\n"
     "w     t         0/0  -          -           -  is being deleted\n"},
    {"host ls", KIND_HOST,
     "{'metadata':{'name':'h1'},'status':{'phase':'suspect','voter':'voter','address':"
     "'10.0.0.1','cpu':'16','memory':'64GiB','disk':'80GiB','live':{'leader':true,'vms':"
     "7,'cpuUsedMcpu':"
     "2450,"
     "'memoryUsedBytes':536870912,'memoryPlacedBytes':1073741824,'diskPlacedBytes':"
     "21474836480,'lastHeard':'2026-11-"
     "23T09:16:38.000Z'}}}",
     "NAME  PHASE    ROLE    ADDRESS   VMS  CPU USED  MEM USED  MEM PLACED  "
     "DISK PLACED  HEARD  NOTE\n"
     "h1    suspect  leader  10.0.0.1    7    2.4/16    512MiB  1GiB/64GiB  "
     "20GiB/80GiB  2.0 s  -\n"},
    {"host ls", KIND_HOST,
     "{'metadata':{'name':'h2'},'spec':{'drain':true,'drainReason':'PSU swap'},'status':{"
     "'cpu':'8','memory':'1GiB'}}",
     "NAME  PHASE  ROLE  ADDRESS  VMS  CPU USED  MEM USED  MEM PLACED  DISK PLACED  "
     "HEARD  NOTE\n"
     "h2    ready  none  -          -       -/8         -      -/1GiB            -      "
     "-  drained: PSU swap\n"},
    {"host ls", KIND_HOST,
     "{'metadata':{'name':'h2'},'status':{'cpu':'8','memory':'1GiB','live':{'clash':"
     "'its address is in a network'}}}",
     "NAME  PHASE  ROLE  ADDRESS  VMS  CPU USED  MEM USED  MEM PLACED  DISK PLACED  "
     "HEARD  NOTE\n"
     "h2    ready  none  -          -       -/8         -     0B/1GiB            -      "
     "-  its address is in a network\n"},
    {"ls", KIND_TEMPLATE,
     "{'metadata':{'name':'small','tenant':'t'},'spec':{'image':'tiny','memory':{'size':"
     "'128MiB'},'disks':[{'size':'1GiB'},{'size':'2GiB'}],'nics':[{'network':'front'}]},"
     "'status':{'version':3}}",
     "NAME   TENANT  IMAGE  CPU  MEMORY  DISKS       NETWORKS  VERSION  AGE\n"
     "small  t       tiny     1  128MiB  1GiB, 2GiB  front           3    -\n"},
    {"ls", KIND_NETWORK,
     "{'metadata':{'name':'front','tenant':'t'},'spec':{'ipv4':{'cidr':'10.20.0.0/24'},"
     "'egress':'nat'},'status':{'vni':42,'hosts':[{},{}]}}",
     "NAME   TENANT  CIDR          EGRESS  VNI  HOSTS  AGE\n"
     "front  t       10.20.0.0/24  nat      42      2    -\n"},
    {"ls", KIND_IMAGE,
     "{'metadata':{'name':'tiny'},'spec':{'artifacts':[{'role':'kernel','size':1048576},"
     "{'role':'initrd','size':'1MiB'}]}}",
     "NAME  TENANT  PARTS           SIZE  AGE\n"
     "tiny  -       kernel, initrd  2MiB    -\n"},
    {"ls", KIND_TENANT,
     "{'metadata':{'name':'shop'},'spec':{'quota':{'vms':20,'cpu':'16'}},'status':{'used'"
     ":{"
     "'vms':3,'memory':'384MiB'}}}",
     "NAME   VMS   CPU  MEMORY  DISK  AGE\n"
     "shop  3/20  0/16  384MiB     0    -\n"},
    {"token ls", KIND_TOKEN,
     "{'metadata':{'name':'ci'},'spec':{'role':'operator','tenant':'shop','expires':'"
     "never'}}",
     "NAME  ROLE      TENANT  EXPIRES  AGE\n"
     "ci    operator  shop    never      -\n"},
    {"ls", KIND_OPERATION,
     "{'metadata':{'name':'op'},'spec':{'title':'pull'},'status':{'progress':'40%','step'"
     ":'2'}}",
     "NAME  PHASE    PROGRESS  AGE  TITLE  STEP\n"
     "op    running       40%    -  pull   2\n"},
    {"ls", KIND_DISK, "{'metadata':{'name':'d','tenant':'t'},'spec':{'size':'5GiB'}}",
     "NAME  TENANT  SIZE  AGE\n"
     "d     t       5GiB    -\n"},
};

START_TEST(a_kind_is_shown_as_its_table)
{
    const struct shown *row = &showns[_i];
    char items[2048];
    struct view_time time = {.now_wall_ms = NOW};
    ck_assert_int_eq(cli_given(row->line), EXIT_OK);
    snprintf(items, sizeof(items), "[%s]", row->object);
    json_t *list = doc(items);
    ck_assert_int_eq(kind_view_print(&cli, kind_info(row->kind), list, &time), EXIT_OK);
    ck_assert_str_eq(cli_out(), row->table);
    json_decref(list);
}
END_TEST

/* Only what the fields name, as the API's `fields` does. */
static json_t *only_fields(const json_t *document, const char *fields)
{
    json_t *some = json_object();
    while (*fields != '\0') {
        char part[32];
        char member[32];
        int used = 0;
        ck_assert_int_eq(
            sscanf(fields, "%31[a-zA-Z].%31[a-zA-Z0-9]%n", part, member, &used), 2);
        const json_t *from = json_object_get(document, part);
        if (json_object_get(some, part) == NULL && from != NULL) {
            json_object_set_new(some, part, json_object());
        }
        json_object_set(json_object_get(some, part), member,
                        json_object_get(from, member));
        fields += used + (fields[used] == ',' ? 1 : 0);
    }
    return some;
}

static void print_one(const char *line, enum kind kind, json_t *object)
{
    struct view_time time = {.now_wall_ms = NOW};
    ck_assert_int_eq(cli_given(line), EXIT_OK);
    json_t *list = json_pack("[O]", object);
    ck_assert_int_eq(kind_view_print(&cli, kind_info(kind), list, &time), EXIT_OK);
    json_decref(list);
}

START_TEST(a_table_reads_no_more_than_it_asks_for)
{
    const struct shown *row = &showns[_i];
    static const char *const lines[] = {"ls", "ls -o wide", "ls -t shop"};
    json_t *whole = doc(row->object);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char fields[VIEW_FIELDS_SIZE];
        print_one(lines[i], row->kind, whole);
        char *wanted = strdup(cli_out());
        kind_view_fields(&cli, kind_info(row->kind), fields);
        json_t *thin = only_fields(whole, fields);
        print_one(lines[i], row->kind, thin);
        ck_assert_str_eq(cli_out(), wanted);
        json_decref(thin);
        free(wanted);
    }
    json_decref(whole);
}
END_TEST

START_TEST(the_fields_of_a_table_are_named_once_and_without_the_spec)
{
    char fields[VIEW_FIELDS_SIZE];
    ck_assert_int_eq(cli_given("ls"), EXIT_OK);
    kind_view_fields(&cli, kind_info(KIND_VM), fields);
    ck_assert_str_eq(fields, "metadata.name,metadata.tenant,status.phase,status.host,"
                             "status.diskHost,status.nics,status.live,metadata.created,"
                             "status.reason");
    kind_view_fields(&cli, kind_info(KIND_TENANT), fields);
    ck_assert_str_eq(fields, "metadata.name,spec.quota,status.used,metadata.created");
}
END_TEST

/* By the stored object, or by what the API adds to it. */
static bool api_knows(enum kind kind, const char *path)
{
    static const char *const added[] = {
        "status.host", "status.diskHost", "status.live",           "status.ready",
        "status.vms",  "status.reason",   "status.templateChanged"};
    struct document_parts parts = {0};
    bool known = document_parts_add(&parts, kind, path);
    for (size_t i = 0; i < sizeof(added) / sizeof(added[0]); i++) {
        known = known || strcmp(added[i], path) == 0;
    }
    return known;
}

START_TEST(the_api_knows_every_field_that_a_table_asks_for)
{
    char fields[VIEW_FIELDS_SIZE];
    char *rest = fields;
    const char *path;
    ck_assert_int_eq(cli_given("ls -o wide"), EXIT_OK);
    kind_view_fields(&cli, kind_info((enum kind)_i), fields);
    while ((path = strsep(&rest, ",")) != NULL) {
        ck_assert_msg(api_knows((enum kind)_i, path), "%s", path);
    }
}
END_TEST

/* Nothing, or what is of other types than it should be. */
static const char *const odd[] = {
    "[{}]",
    "[null, 7, 'text', []]",
    "[{'metadata':7,'spec':[],'status':'x'}]",
    "[{'metadata':{'name':7,'tenant':{},'created':5,'labels':[]},'spec':{'template':1,"
    "'autoscale':'x','artifacts':{},'quota':3,'memory':-5},'status':{'phase':3,'host':{},"
    "'nics':{},'live':[],'reason':null,'used':1,'cpu':{},'memory':'huge'}}]",
    "[{'metadata':{'labels':{'a':1,'b':null}},'status':{'nics':[7]}}]",
    "[{'status':{'live':{'cpuPermille':'x'}}}]",
};

START_TEST(odd_documents_are_shown_as_dashes_in_every_kind)
{
    struct view_time time = {.now_wall_ms = NOW};
    for (unsigned kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        ck_assert_int_eq(cli_given("ls -o wide"), EXIT_OK);
        json_t *list = doc(odd[_i]);
        const struct kind_info *info = kind_info((enum kind)kind);
        ck_assert_msg(kind_columns(info->kind) != NULL, "%s has no view", info->name);
        ck_assert_int_eq(kind_view_print(&cli, info, list, &time), EXIT_OK);
        ck_assert_str_ne(cli_out(), "");
        json_decref(list);
    }
}
END_TEST

START_TEST(a_cell_is_cut_not_overrun)
{
    struct view_time time = {.now_wall_ms = NOW};
    json_t *list = json_array();
    json_t *labels = json_object();
    json_t *nics = json_array();
    for (unsigned i = 0; i < 200; i++) {
        char key[64];
        snprintf(key, sizeof(key), "a-rather-long-key-of-a-label-%u", i);
        json_object_set_new(labels, key, json_string("and-its-value"));
        json_array_append_new(nics, json_pack("{s:s}", "network", key));
    }
    json_array_append_new(list, json_pack("{s:{s:o}, s:{s:o}}", "metadata", "labels",
                                          labels, "spec", "nics", nics));
    ck_assert_int_eq(cli_given("ls -o wide"), EXIT_OK);
    ck_assert_int_eq(kind_view_print(&cli, kind_info(KIND_TEMPLATE), list, &time),
                     EXIT_OK);
    ck_assert_uint_lt(strlen(cli_out()), 4 * CELL_SIZE);
    json_decref(list);
}
END_TEST

START_TEST(what_templates_may_ask_of_a_host_is_told)
{
    struct view_time time = {.now_wall_ms = NOW};
    json_t *list = doc("[{'metadata':{'name':'h1'},'status':{'cpuBaseline':'x86-64-v3',"
                       "'hugePages':'4GiB','live':{'hugePagesPlacedBytes':1073741824}}},"
                       "{'metadata':{'name':'h2'},'status':{}}]");
    ck_assert_int_eq(cli_given("host ls -o wide"), EXIT_OK);
    ck_assert_int_eq(kind_view_print(&cli, kind_info(KIND_HOST), list, &time), EXIT_OK);
    ck_assert_contains(cli_out(), "BASELINE   HUGE PAGES");
    ck_assert_contains(cli_out(), "x86-64-v3   1GiB/4GiB");
    json_decref(list);
}
END_TEST

START_TEST(how_many_cpus_there_may_be_is_told)
{
    struct view_time time = {.now_wall_ms = NOW};
    json_t *list = doc("[{'metadata':{'name':'t'},'spec':{'image':'i','cpu':{'count':2,"
                       "'max':8},'memory':{'size':'1GiB'}}}]");
    ck_assert_int_eq(cli_given("ls template"), EXIT_OK);
    ck_assert_int_eq(kind_view_print(&cli, kind_info(KIND_TEMPLATE), list, &time),
                     EXIT_OK);
    ck_assert_contains(cli_out(), " 2-8 ");
    json_decref(list);
}
END_TEST

START_TEST(why_a_host_is_ready_again_is_no_note)
{
    struct view_time time = {.now_wall_ms = NOW};
    json_t *list = doc("[{'metadata':{'name':'h1'},'status':{'phase':'ready','reason':"
                       "'heartbeats are back'}},{'metadata':{'name':'h2'},'status':{"
                       "'phase':'suspect','reason':'no heartbeat for 2.1 s'}}]");
    ck_assert_int_eq(cli_given("host ls"), EXIT_OK);
    ck_assert_int_eq(kind_view_print(&cli, kind_info(KIND_HOST), list, &time), EXIT_OK);
    ck_assert_ptr_null(strstr(cli_out(), "heartbeats are back"));
    ck_assert_contains(cli_out(), "no heartbeat for 2.1 s");
    json_decref(list);
}
END_TEST

START_TEST(sizes_are_numbers_or_texts)
{
    json_t *object = doc("{'a':1024,'b':'1KiB','c':'x','d':null}");
    ck_assert_uint_eq(view_bytes(object, "a"), 1024);
    ck_assert_uint_eq(view_bytes(object, "b"), 1024);
    ck_assert_uint_eq(view_bytes(object, "c"), 0);
    ck_assert_uint_eq(view_bytes(object, "d"), 0);
    ck_assert_uint_eq(view_bytes(object, "e"), 0);
    ck_assert_uint_eq(view_bytes(NULL, "e"), 0);
    json_decref(object);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("kind_view", &tests);
    tcase_add_loop_test(tests, a_kind_is_shown_as_its_table, 0,
                        sizeof(showns) / sizeof(showns[0]));
    tcase_add_loop_test(tests, a_table_reads_no_more_than_it_asks_for, 0,
                        sizeof(showns) / sizeof(showns[0]));
    tcase_add_test(tests, the_fields_of_a_table_are_named_once_and_without_the_spec);
    tcase_add_loop_test(tests, the_api_knows_every_field_that_a_table_asks_for, 1,
                        KIND_COUNT);
    tcase_add_loop_test(tests, odd_documents_are_shown_as_dashes_in_every_kind, 0,
                        sizeof(odd) / sizeof(odd[0]));
    tcase_add_test(tests, a_cell_is_cut_not_overrun);
    tcase_add_test(tests, what_templates_may_ask_of_a_host_is_told);
    tcase_add_test(tests, how_many_cpus_there_may_be_is_told);
    tcase_add_test(tests, why_a_host_is_ready_again_is_no_note);
    tcase_add_test(tests, sizes_are_numbers_or_texts);
    return test_main_run(suite);
}
