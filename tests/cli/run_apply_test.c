/* Goal: files are checked with the place of each fault, planned without a deed, applied
 * once, and waited for step by step. */
#include "berth_fixture.h"

#define TEMPLATE(size)                                                       \
    "apiVersion: berth/v1\nkind: Template\nmetadata: {name: small}\nspec:\n" \
    "  image: linux\n  memory: {size: " size "}\n"
#define GROUP(replicas)                                                 \
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: web}\nspec:\n" \
    "  template: {name: small}\n  replicas: " replicas "\n"

/* The command with the file's path in it. */
static int
with_file(const char *before, const char *name, const char *text, const char *after)
{
    char line[1024];
    temp_dir_write(&folder, name, text);
    snprintf(line, sizeof(line), "%s %s/%s %s", before, folder.path, name, after);
    return berth(line);
}

START_TEST(a_fault_has_its_place_a_caret_and_a_hint)
{
    char wanted[1024];
    ck_assert_int_eq(
        with_file("validate", "a.yaml",
                  "apiVersion: berth/v1\nkind: Template\nmetadata: {name: small}\n"
                  "spec:\n  image: linux\n  memroy: {size: 64MiB}\n"
                  "  cpu: {count: 2}\n",
                  ""),
        2);
    snprintf(wanted, sizeof(wanted),
             "%s/a.yaml:6:3: error BE1103: unknown field \"memroy\"", folder.path);
    ck_assert_contains(ran.err, wanted);
    ck_assert_contains(ran.err, "  memroy: {size: 64MiB}\n");
    ck_assert_contains(ran.err, "^^^^^^");
    ck_assert_contains(ran.err, "did you mean \"memory\"?");
    ck_assert_str_eq(ran.out, "");
}
END_TEST

START_TEST(all_faults_of_all_files_are_told_at_once)
{
    temp_dir_write(&folder, "b.yaml",
                   "apiVersion: berth/v1\nkind: Ship\nmetadata: {name: x}\n");
    ck_assert_int_eq(with_file("validate", "a.yaml", TEMPLATE("64"), "--local"), 2);
    ck_assert_contains(ran.err, "a.yaml:6:18: error BE1107: ");
    ck_assert_contains(ran.err, "unit");
    char line[1024];
    snprintf(line, sizeof(line), "validate %s/a.yaml %s/b.yaml --local", folder.path,
             folder.path);
    ck_assert_int_eq(berth(line), 2);
    ck_assert_contains(ran.err, "a.yaml:6");
    ck_assert_contains(ran.err, "b.yaml:2");
    const char *sum = strstr(ran.err, "errors, ");
    ck_assert_ptr_nonnull(sum); /* one, at the end */
    ck_assert_str_eq(sum - 2, "2 errors, 0 warnings. Nothing was changed.\n");
    ck_assert_ptr_null(strstr(ran.err, "1 error"));
    snprintf(line, sizeof(line), "validate %s/a.yaml %s/none.yaml --local", folder.path,
             folder.path);
    ck_assert_int_eq(berth(line), 2);
    ck_assert_contains(ran.err, "\n2 errors, 0 warnings. Nothing was changed.\n");
}
END_TEST

/* In whatever order the files are named. */
START_TEST(a_vm_says_that_its_template_has_changed)
{
    ck_assert_int_eq(
        with_file("apply", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("1"), "--wait"), 0);
    assert_ran("ls vm -o wide", 0);
    ck_assert_contains(ran.out, "  small  ");
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("96MiB"), ""), 0);
    assert_ran("ls vm -o wide", 0);
    ck_assert_contains(ran.out, "  small (changed since)  ");
    assert_ran("show vm/web-1", 0);
    ck_assert_contains(ran.out, "small (changed since)\n");
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("64MiB"), ""), 0);
    assert_ran("show vm/web-1 -o json", 0); /* as it was made */
    ck_assert_ptr_null(strstr(ran.out, "templateChanged"));
}
END_TEST

START_TEST(what_ls_prints_is_applied)
{
    ck_assert_int_eq(
        with_file("apply", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("0"), "--wait"), 0);
    assert_ran("ls template -o yaml", 0);
    char *printed = strdup(ran.out);
    ck_assert_int_eq(berth_fed("validate --local - -q", printed), 0);
    ck_assert_str_eq(ran.out, "2 objects in 1 file: valid\n");
    ck_assert_ptr_null(strstr(ran.err, "error"));
    ck_assert_int_eq(berth_fed("apply -", printed), 0);
    ck_assert_contains(ran.out, "unchanged  default/template/small\n");
    free(printed);
}
END_TEST

START_TEST(a_missing_tenant_is_told_where_it_stands)
{
    ck_assert_int_eq(with_file("apply", "a.yaml",
                               "apiVersion: berth/v1\nkind: Network\n"
                               "metadata: {name: lan, tenant: shop}\n"
                               "spec: {ipv4: {cidr: 10.9.0.0/24}}\n",
                               ""),
                     2);
    ck_assert_contains(ran.err, "a.yaml:3:31: error BERTH_ENOTFOUND: metadata.tenant: "
                                "tenant shop does not exist: apply a Tenant first");
}
END_TEST

START_TEST(an_object_of_two_files_is_an_error)
{
    static const char *const commands[] = {"apply", "plan", "validate",
                                           "validate --local"};
    char line[1024];
    char wanted[1024];
    temp_dir_write(&folder, "a.yaml", TEMPLATE("64MiB"));
    temp_dir_write(&folder, "b.yaml", GROUP("1") "---\n" TEMPLATE("96MiB"));
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        snprintf(line, sizeof(line), "%s %s/a.yaml %s/b.yaml", commands[i], folder.path,
                 folder.path);
        ck_assert_int_eq(berth(line), 2);
        snprintf(wanted, sizeof(wanted),
                 "%s/b.yaml:10:18: error BE1102: Template \"small\" stands in "
                 "%s/a.yaml:3:18 already",
                 folder.path, folder.path);
        ck_assert_contains(ran.err, wanted);
        ck_assert_contains(ran.err, "^^^^^ keep one of the two");
        ck_assert_contains(ran.err, "1 error, 0 warnings. Nothing was changed.");
    }
}
END_TEST

START_TEST(references_from_file_to_file_are_followed)
{
    char line[1024];
    temp_dir_write(&folder, "a.yaml", GROUP("1"));
    temp_dir_write(&folder, "b.yaml", TEMPLATE("64MiB"));
    snprintf(line, sizeof(line), "validate --local %s/", folder.path);
    ck_assert_int_eq(berth(line), 0);
    ck_assert_str_eq(ran.out, "2 objects in 2 files: valid\n");
    ck_assert_ptr_null(strstr(ran.err, "template"));
    ck_assert_contains(ran.err, "/b.yaml:5:10: not checked: image linux");
    ck_assert_ptr_null(strstr(ran.err, "//"));
    ck_assert_contains(ran.err, "1 reference is not checked");
}
END_TEST

START_TEST(what_only_the_server_knows_is_told_by_it)
{
    ck_assert_int_eq(with_file("validate", "a.yaml", TEMPLATE("64MiB"), ""), 0);
    ck_assert_str_eq(ran.out, "1 object in 1 file: valid\n");
    served_end(0);
    ck_assert_int_eq(with_file("validate", "a.yaml", TEMPLATE("64MiB"), "--local"), 0);
    ck_assert_int_eq(with_file("validate", "a.yaml", TEMPLATE("64MiB"), ""), 9);
}
END_TEST

#define LOST_TEMPLATE                                                                \
    "apiVersion: berth/v1\nkind: Template\nmetadata: {name: small}\nspec:\n"         \
    "  image: linus\n  memory: {size: 64MiB}\n  nics:\n    - {name: eth0, network: " \
    "lan}\n"

START_TEST(what_is_in_neither_file_nor_cluster_is_told_at_its_place)
{
    static const char *const commands[] = {"plan", "validate", "apply"};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(
            with_file(commands[i], "a.yaml", LOST_TEMPLATE "---\n" GROUP("1"), ""), 2);
        ck_assert_contains(ran.err,
                           "a.yaml:5:10: error BERTH_ENOTFOUND: spec.image: image "
                           "linus does not exist");
        ck_assert_contains(ran.err, "    5 |   image: linus\n      |          ^^^^^\n");
        ck_assert_contains(ran.err,
                           "a.yaml:8:29: error BERTH_ENOTFOUND: spec.nics[0].network: "
                           "network lan of tenant default does not exist");
        ck_assert_contains(ran.err,
                           "a.yaml:14:3: error BERTH_ENOTFOUND: spec.template: the "
                           "template is refused itself\n");
        ck_assert_contains(ran.err, "berth: 3 errors; nothing was changed\n");
    }
    ck_assert_int_eq(with_file("plan", "a.yaml", GROUP("1"), ""), 2);
    ck_assert_contains(ran.err,
                       "a.yaml:5:3: error BERTH_ENOTFOUND: spec.template: template "
                       "small of tenant default does not exist");
    ck_assert_contains(ran.err, "berth: 1 error; nothing was changed\n");
    ck_assert_str_eq(ran.out, "refuse     default/group/web\n");
}
END_TEST

START_TEST(without_the_cluster_it_is_told_what_was_not_checked)
{
    served_end(0);
    ck_assert_int_eq(
        with_file("validate --local", "a.yaml", LOST_TEMPLATE "---\n" GROUP("1"), ""), 0);
    ck_assert_contains(ran.err,
                       "a.yaml:5:10: not checked: image linus is not in the files");
    ck_assert_contains(ran.err,
                       "a.yaml:8:29: not checked: network lan is not in the files");
    ck_assert_ptr_null(strstr(ran.err, "template"));
    ck_assert_int_eq(with_file("validate --local", "a.yaml", GROUP("1"), ""), 0);
    ck_assert_contains(ran.err, "not checked: template small");
}
END_TEST

#define SMALL_TEMPLATE                                                              \
    "apiVersion: berth/v1\nkind: Template\nmetadata: {name: small}\nspec:\n"        \
    "  image: big\n  memory:\n    size: 64MiB\n---\napiVersion: berth/v1\n"         \
    "kind: Image\nmetadata: {name: big}\nspec:\n  minMemory: 96MiB\n  artifacts:\n" \
    "    - {role: kernel, url: \"https://x/k\", sha256: "                           \
    "1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a}\n"

START_TEST(a_template_with_less_memory_than_its_image_needs_is_told_at_its_place)
{
    static const char *const commands[] = {"validate", "plan", "validate --local"};
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(with_file(commands[i], "a.yaml", SMALL_TEMPLATE, ""), 2);
        ck_assert_contains(ran.err,
                           "a.yaml:7:11: error BERTH_EINVALID: spec.memory.size: 64MiB "
                           "is less than image big needs to boot: its spec.minMemory is "
                           "96MiB");
        ck_assert_contains(ran.err, "size: 96MiB or more");
        ck_assert_contains(ran.err, "1 error");
    }
    ck_assert_int_eq(with_file("validate --local -o json", "a.yaml", SMALL_TEMPLATE, ""),
                     2);
    ck_assert_contains(ran.out, "needs to boot");
}
END_TEST

/* The first rows of it, and how many there are. */
START_TEST(what_was_not_checked_is_told_in_few_lines)
{
    char text[8192] = "";
    unsigned lines = 0;
    for (unsigned i = 0; i < 40; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof(text) - used,
                 "---\napiVersion: berth/v1\nkind: VM\nmetadata: {name: v%u}\nspec: "
                 "{template: {name: t}}\n",
                 i);
    }
    ck_assert_int_eq(with_file("validate --local", "a.yaml", text, ""), 0);
    for (const char *at = ran.err; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    ck_assert_uint_eq(lines, 11);
    ck_assert_contains(ran.err, "40 references are not checked, the first of which");
}
END_TEST

START_TEST(errors_are_a_document_when_one_is_asked_for)
{
    json_t *document = NULL;
    json_t *fault;
    ck_assert_int_eq(with_file("validate -o json", "a.yaml", TEMPLATE("64"), ""), 2);
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    fault = json_array_get(json_object_get(document, "errors"), 0);
    ck_assert_str_eq(json_member_text(fault, "code", ""), "BE1107");
    ck_assert_uint_eq(json_member_u64(fault, "line", 0), 6);
    ck_assert_uint_eq(json_member_u64(fault, "column", 0), 18);
    ck_assert_contains(json_member_text(fault, "file", ""), "/a.yaml");
    ck_assert_contains(json_member_text(fault, "message", ""), "unit");
    json_decref(document);
    ck_assert_int_eq(with_file("validate -o json", "a.yaml", LOST_TEMPLATE, ""), 2);
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(document, "errors")), 2);
    json_decref(document);
    ck_assert_int_eq(with_file("validate -o json", "a.yaml", TEMPLATE("64MiB"), ""), 0);
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    ck_assert_uint_eq(json_member_u64(document, "objects", 0), 1);
    ck_assert_uint_eq(json_array_size(json_object_get(document, "errors")), 0);
    json_decref(document);
}
END_TEST

START_TEST(what_is_too_large_is_told_with_the_limit)
{
    char *text = calloc(1, 900000);
    ck_assert_ptr_nonnull(text);
    assert_ran("validate --local /dev/zero", 2); /* has no end */
    ck_assert_contains(ran.err, "/dev/zero:1:1: error BE1111: the file is larger than "
                                "1024KiB");
    size_t used = 0;
    for (unsigned i = 0; i < 900; i++) {
        used += (size_t)snprintf(
            text + used, 900000 - used,
            "---\napiVersion: berth/v1\nkind: Tenant\nmetadata:\n  name: t%u\n  labels:\n"
            "    app: %0500u\n",
            i, i);
    }
    ck_assert_int_eq(with_file("apply", "a.yaml", text, ""), 2);
    ck_assert_contains(ran.err, "900 objects of 1 file are too much for one request: the "
                                "body is larger than 480KiB\n");
    ck_assert_contains(ran.err, "/a.yaml: ");
    ck_assert_contains(ran.err, "hint: split them");
    free(text);
}
END_TEST

#define SHOP(quota)                                                               \
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: shop}\nspec: {quota: "  \
    "{vms: " quota                                                                \
    "}}\n---\napiVersion: berth/v1\nkind: Template\nmetadata: {name: t, tenant: " \
    "shop}\nspec: {image: linux, memory: {size: 600MiB}}\n---\n"
#define SHOP_GROUP(replicas)                                                         \
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: web, tenant: shop}\nspec: " \
    "{template: {name: t}, replicas: " replicas "}\n---\n"
#define SHOP_LATER                                                                     \
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: later, tenant: shop}\nspec: " \
    "{template: {name: t}, replicas: 1}\n"
#define OTHER_GROUP                                                                 \
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: other}\nspec: {template: " \
    "{name: plain}, replicas: 1}\n---\n"
#define SHOP_VM(name)                                                                  \
    "apiVersion: berth/v1\nkind: VM\nmetadata: {name: " name ", tenant: shop}\nspec: " \
    "{template: {name: t}}\n---\n"

START_TEST(a_plan_foretells_quotas_and_the_place_of_single_vms)
{
    ck_assert_int_eq(
        with_file("plan", "a.yaml", SHOP("3") SHOP_GROUP("4") SHOP_VM("v"), ""), 0);
    assert_like(ran.out, "*place      shop/group/web: 2 new VMs on h?, h?\n"
                         "             2 would not be made: quota of tenant shop: vms *\n"
                         "place      shop/vm/v: 1 new VM on h?\n");
    ck_assert_int_eq(with_file("plan", "a.yaml", SHOP("1") SHOP_VM("v") SHOP_VM("w"), ""),
                     5);
    ck_assert_contains(ran.out, "create     shop/vm/v\nrefuse     shop/vm/w\n");
    ck_assert_contains(ran.err, "error BERTH_EQUOTA: quota of tenant shop: vms");
    assert_ran("ls vm -o name", 0);
    ck_assert_str_eq(ran.out, "");
}
END_TEST

START_TEST(a_quota_that_holds_a_group_back_is_told)
{
    static const char held[] =
        "2 more VMs are held back: quota of tenant shop: vms 3 of 3 in use, 1 more asked";
    char line[256];
    ck_assert_int_eq(with_file("apply --wait", "a.yaml", SHOP("3") SHOP_GROUP("3"), ""),
                     0);
    ck_assert_int_eq(with_file("apply --wait --timeout 300ms", "a.yaml",
                               SHOP("3") SHOP_GROUP("5"), ""),
                     5);
    snprintf(line, sizeof(line), "shop/group/web: %s\n", held);
    ck_assert_contains(ran.err, line);
    ck_assert_contains(ran.err, "berth: after 300 ms 3 of 5 VMs are ready");
    snprintf(line, sizeof(line), "  group/web has 3 VMs and wants 5: %s; next:", held);
    ck_assert_contains(ran.err, line);
    /* Nobody makes room: its five minutes are not waited for. */
    ck_assert_int_eq(with_file("apply --wait", "a.yaml", SHOP("3") SHOP_GROUP("5"), ""),
                     5);
    ck_assert_contains(ran.err, "berth: 3 of 5 VMs are ready; a quota keeps back the "
                                "others, and waiting alone does not free it");
    ck_assert_contains(ran.err, line);
    assert_ran("ls group", 0);
    ck_assert_contains(ran.out, held);
    ck_assert_int_eq(with_file("apply", "a.yaml", SHOP("3") SHOP_GROUP("5"), ""), 0);
    ck_assert_contains(ran.err, held);
    ck_assert_int_eq(with_file("apply", "a.yaml", SHOP("3") SHOP_GROUP("3"), ""), 0);
    ck_assert_str_eq(ran.err, "");
    assert_ran("ls group", 0);
    ck_assert_ptr_null(strstr(ran.out, "held back"));

    /* With a group that lacks VMs for another reason, a larger quota would not do. */
    serve("set no_scheduler");
    ck_assert_int_eq(with_file("apply --wait --timeout 300ms", "a.yaml",
                               SHOP("3") SHOP_GROUP("5") OTHER_GROUP, ""),
                     7);
    ck_assert_contains(ran.err, held);

    /* A group that is to shrink makes room: that is waited for, also before a VM goes. */
    ck_assert_int_eq(with_file("apply", "a.yaml", SHOP("3") SHOP_GROUP("1"), ""), 0);
    ck_assert_int_eq(with_file("apply --wait --timeout 4s", "a.yaml", SHOP_LATER, ""), 5);
    ck_assert_contains(ran.err, "berth: after 4.0 s 0 of 1 VM is ready");
}
END_TEST

/* The template is there when the VM that the quota has no room for is refused. */
START_TEST(what_was_applied_beside_a_refusal_is_told)
{
    ck_assert_int_eq(with_file("apply --wait", "a.yaml", SHOP("1") SHOP_VM("v"), ""), 0);
    ck_assert_int_eq(
        with_file("apply --wait", "a.yaml",
                  SHOP("1") TEMPLATE("64MiB") "---\n" SHOP_VM("v") SHOP_VM("w"), ""),
        5);
    assert_like(ran.out, "*created    default/template/small\n*"
                         "unchanged  shop/vm/v\nrefused    shop/vm/w\n");
    ck_assert_contains(ran.err, "berth: 1 error; 1 object was applied and 1 refused, as "
                                "listed\nhint: mend the files and apply them again");
}
END_TEST

START_TEST(what_was_not_tried_is_said)
{
    serve("vms m 10001");
    ck_assert_int_eq(with_file("plan", "a.yaml", GROUP("1"), ""), 0);
    ck_assert_contains(ran.err, "not tried: references and quotas");
    ck_assert_int_eq(with_file("validate", "a.yaml", GROUP("1"), ""), 0);
    ck_assert_contains(ran.err, "not tried: references and quotas");
}
END_TEST

START_TEST(files_that_are_none_are_named)
{
    assert_ran("validate /nowhere.yaml", 2);
    ck_assert_str_eq(ran.err, "berth: /nowhere.yaml: No such file or directory\n");
    ck_assert_int_eq(with_file("apply", "empty.yaml", "", ""), 2);
    ck_assert_contains(ran.err, "empty.yaml:1:1");
    char line[1024];
    snprintf(line, sizeof(line), "validate %s/images", folder.path);
    ck_assert_int_eq(berth(line), 2);
    ck_assert_contains(ran.err, "no *.yaml file is in there");
}
END_TEST

START_TEST(a_plan_shows_each_change_and_where_vms_would_go_and_does_nothing)
{
    ck_assert_int_eq(
        with_file("plan", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("2"), ""), 0);
    assert_like(ran.out, "create     default/template/small\n"
                         "create     default/group/web\n"
                         "place      default/group/web: 2 new VMs on h?, h?\n");
    ck_assert_str_eq(ran.err, "nothing was changed yet: berth apply does it\n");
    ck_assert_int_eq(with_file("plan", "a.yaml", TEMPLATE("64MiB"), "--exit-code -q"), 8);
    ck_assert_str_eq(ran.err, "");
    assert_ran("ls template -o name", 0);
    ck_assert_str_eq(ran.out, "default/template/plain\n");

    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("64MiB"), ""), 0);
    ck_assert_int_eq(with_file("plan", "a.yaml", TEMPLATE("96MiB"), "-t default"), 0);
    ck_assert_str_eq(ran.out, "change     template/small\n"
                              "             spec.memory.size: 64MiB -> 96MiB\n");
    ck_assert_int_eq(with_file("plan", "a.yaml", TEMPLATE("64MiB"), "--exit-code"), 0);
    ck_assert_str_eq(ran.err, "nothing to do\n");
}
END_TEST

START_TEST(a_plan_says_that_vms_and_their_disks_go)
{
    ck_assert_int_eq(
        with_file("apply", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("2"), "--wait"), 0);
    ck_assert_int_eq(with_file("plan", "a.yaml", GROUP("1"), ""), 0);
    assert_like(ran.out,
                "change     default/group/web\n             spec.replicas: 2 -> 1\n"
                "remove     default/group/web: 1 of its 2 VMs, with its disks\n");
}
END_TEST

START_TEST(a_plan_says_what_would_find_no_host_and_why)
{
    ck_assert_int_eq(
        with_file("plan", "a.yaml", TEMPLATE("700MiB") "---\n" GROUP("4"), ""), 0);
    ck_assert_contains(ran.out, "place      default/group/web: 3 new VMs on h1, h2, h3\n"
                                "             1 would find no host:\n"
                                "               h1: ");
    ck_assert_contains(ran.out, "memory");
}
END_TEST

START_TEST(a_changed_template_says_which_vms_it_leaves_alone)
{
    ck_assert_int_eq(
        with_file("apply --wait", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("2"), ""), 0);
    ck_assert_int_eq(with_file("plan", "a.yaml", TEMPLATE("96MiB"), ""), 0);
    ck_assert_contains(ran.err, "2 VMs made from default/template/small before keep what "
                                "they were made with");
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("96MiB"), ""), 0);
    ck_assert_contains(ran.err, "2 VMs made from default/template/small before keep");
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("96MiB"), ""), 0);
    ck_assert_str_eq(ran.err, "");
}
END_TEST

#define LIMITED(limit)                                                         \
    TEMPLATE("64MiB")                                                          \
    "  disks:\n    - {name: data, size: 1MiB, limit: {" limit "}}\n---\n"      \
    "apiVersion: berth/v1\nkind: VM\nmetadata: {name: one}\nspec: {template: " \
    "{name: small}, power: off}\n"

START_TEST(vms_that_follow_a_changed_limit_are_not_said_to_be_left_alone)
{
    ck_assert_int_eq(with_file("apply", "a.yaml", LIMITED("iops: 500"), ""), 0);
    ck_assert_int_eq(with_file("plan", "a.yaml", LIMITED("iops: 900"), ""), 0);
    ck_assert_contains(ran.out, "limit");
    ck_assert_contains(ran.err, "what they were made with but for limits");

    ck_assert_int_eq(with_file("apply", "a.yaml", LIMITED("iops: 900"), ""), 0);

    ck_assert_contains(ran.out, "changed    default/template/small");
    ck_assert_str_eq(ran.err, "");
    assert_ran("show vm/one -o yaml", 0);
    ck_assert_contains(ran.out, "iops: 900");
}
END_TEST

START_TEST(a_vm_that_shall_be_off_is_not_waited_for)
{
    ck_assert_int_eq(
        with_file("apply --wait", "a.yaml",
                  TEMPLATE("64MiB") "---\napiVersion: berth/v1\nkind: VM\nmetadata: "
                                    "{name: off}\nspec: {template: {name: small}, "
                                    "power: off}\n",
                  ""),
        0);
    ck_assert_str_eq(ran.err, "");
}
END_TEST

START_TEST(vms_made_in_the_same_breath_are_not_from_before)
{
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("64MiB"), ""), 0);
    ck_assert_int_eq(
        with_file("apply", "a.yaml",
                  TEMPLATE("96MiB") "---\napiVersion: berth/v1\nkind: VM\nmetadata: "
                                    "{name: one}\nspec: {template: {name: small}}\n",
                  ""),
        0);
    ck_assert_str_eq(ran.err, "");
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("64MiB"), ""), 0);
    ck_assert_contains(ran.err,
                       "1 VM made from default/template/small before keeps what");
}
END_TEST

START_TEST(applying_twice_changes_nothing_the_second_time)
{
    ck_assert_int_eq(
        with_file("apply", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("0"), ""), 0);
    ck_assert_str_eq(ran.out, "created    default/template/small\n"
                              "created    default/group/web\n");
    ck_assert_int_eq(
        with_file("apply", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("0"), ""), 0);
    ck_assert_str_eq(ran.out, "unchanged  default/template/small\n"
                              "unchanged  default/group/web\n");
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("64MiB"), "-o json"), 0);
    json_t *document = NULL;
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(document, "results")), 1);
    json_decref(document);
}
END_TEST

START_TEST(a_folder_and_stdin_are_files_too)
{
    char line[1024];
    snprintf(line, sizeof(line), "%s/yaml", folder.path);
    ck_assert_int_eq(mkdir(line, 0700), 0);
    temp_dir_write(&folder, "yaml/1.yaml", TEMPLATE("64MiB"));
    temp_dir_write(&folder, "yaml/2.yml", GROUP("0"));
    temp_dir_write(&folder, "yaml/notes.txt", "not: [yaml");
    snprintf(line, sizeof(line), "apply %s/yaml", folder.path);
    assert_ran(line, 0);
    ck_assert_contains(ran.out, "created    default/group/web\n");
    ck_assert_int_eq(berth_fed("apply -", GROUP("0")), 0);
    ck_assert_str_eq(ran.out, "unchanged  default/group/web\n");
    ck_assert_int_eq(berth_fed("apply -", "nonsense: ["), 2);
    ck_assert_contains(ran.err, "stdin:2:1: error");
}
END_TEST

START_TEST(what_the_cluster_refuses_ends_with_the_code_of_its_class)
{
    ck_assert_int_eq(with_file("apply", "a.yaml", GROUP("1"), ""), 2);
    ck_assert_contains(ran.err, "small");
    ck_assert_contains(ran.err, "berth: 1 error; nothing was changed\n");
    ck_assert_int_eq(
        with_file(
            "apply", "a.yaml",
            "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: shop}\nspec: {quota: "
            "{vms: 0}}\n---\napiVersion: berth/v1\nkind: Template\nmetadata: {name: t, "
            "tenant: shop}\nspec: {image: linux, memory: {size: 64MiB}}\n---\n"
            "apiVersion: berth/v1\nkind: VM\nmetadata: {name: v, tenant: shop}\nspec: "
            "{template: {name: t}}\n",
            ""),
        5);
    ck_assert_contains(ran.err, "quota");
    ck_assert_contains(ran.err,
                       "berth: 1 error; 2 objects were applied and 1 refused, as");
}
END_TEST

START_TEST(waiting_tells_each_boot_step_by_step)
{
    ck_assert_int_eq(
        with_file("apply", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("2"), "--wait"), 0);
    assert_like(ran.out,
                "created    default/template/small\n"
                "created    default/group/web\n"
                "default/vm/web-[12] *h[123] * pending * ms, placed * ms, starting * ms, "
                "running * ms: ready after *\n"
                "default/vm/web-[12] * ready after *\n");
}
END_TEST

START_TEST(waiting_that_is_over_names_the_step_the_console_and_what_to_do)
{
    serve("phase running");
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("1"),
                               "--wait --timeout 300ms"),
                     7);
    assert_like(
        ran.err,
        "berth: after 300 ms 0 of 1 VM is ready; the cluster goes on, this command "
        "does not\n"
        "  vm/web-1 is running on h[123] for *\n"
        "    last console line: login: \n"
        "    next: berth console vm/web-1 -t default\n");
}
END_TEST

#define IMAGE_GONE "image linux (kernel, sha256 "
#define IMAGE_WAY                                                                    \
    " is on no host that is up: berth apply FILE, with the file that describes the " \
    "image, "                                                                        \
    "brings it"

/* As after a restore: the log knows the image, and nobody has its content. */
START_TEST(a_vm_whose_image_is_nowhere_says_so_wherever_one_looks)
{
    serve("phase placed");
    serve("set images_gone");
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("1"),
                               "--wait --timeout 300ms"),
                     7);
    assert_like(ran.err,
                "default/vm/web-1 is placed: " IMAGE_GONE "*)" IMAGE_WAY "\n"
                "berth: after 300 ms 0 of 1 VM is ready; the cluster goes on, this "
                "command does not\n"
                "  vm/web-1 is placed on h[123] for *: " IMAGE_GONE "*)" IMAGE_WAY "\n*"
                "    next: berth explain vm/web-1 -t default\n");
    assert_ran("ls vm", 0);
    assert_like(ran.out, "*web-1 *placed *" IMAGE_GONE "*)" IMAGE_WAY "\n");
    assert_ran("show vm/web-1", 0);
    assert_like(ran.out, "*REASON*" IMAGE_GONE "*)" IMAGE_WAY "\n*");
    assert_ran("show vm/web-1 -o yaml", 0);
    ck_assert_contains(ran.out, "missingImage: linux\n");
    assert_ran("explain vm/web-1", 0);
    assert_like(ran.out, "web-1 is placed on h[123] (epoch 1): " IMAGE_GONE "*)" IMAGE_WAY
                         ". It needs *");
}
END_TEST

START_TEST(waiting_for_what_has_no_host_says_why_and_whom_to_ask)
{
    ck_assert_int_eq(with_file("apply", "a.yaml", TEMPLATE("4GiB") "---\n" GROUP("1"),
                               "--wait --timeout 1s"),
                     7);
    ck_assert_contains(ran.err, "vm/web-1 is pending: no host: 3 of 3 lack memory");
    ck_assert_contains(ran.err, "next: berth explain vm/web-1 -t default\n");
    assert_ran("ls vm", 0);
    ck_assert_contains(ran.out, "no host: 3 of 3 lack memory");
    assert_ran("show vm/web-1", 0);
    ck_assert_contains(ran.out, "REASON     no host: 3 of 3 lack memory");
}
END_TEST

START_TEST(an_interrupt_ends_the_waiting_and_not_the_work)
{
    struct child child;
    char line[1024];
    serve("phase running");
    temp_dir_write(&folder, "a.yaml", TEMPLATE("64MiB") "---\n" GROUP("1"));
    snprintf(line, sizeof(line), "apply %s/a.yaml --wait", folder.path);
    child = berth_start(line);
    char *text = NULL;
    size_t size = 0;
    while ((text == NULL || strstr(text, "group/web") == NULL) &&
           gather(child.out, &text, &size)) {
    }
    free(text);
    ck_assert_int_eq(kill(child.pid, SIGINT), 0);
    child_wait(&child);
    ck_assert_int_eq(ran.code, 128 + SIGINT);
    serve("phase ready");
    await("ls vm", "ready");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("run_apply", &tests);
    tcase_add_test(tests, a_fault_has_its_place_a_caret_and_a_hint);
    tcase_add_test(tests, all_faults_of_all_files_are_told_at_once);
    tcase_add_test(tests, a_vm_says_that_its_template_has_changed);
    tcase_add_test(tests, what_ls_prints_is_applied);
    tcase_add_test(tests, a_missing_tenant_is_told_where_it_stands);
    tcase_add_test(tests, an_object_of_two_files_is_an_error);
    tcase_add_test(tests, references_from_file_to_file_are_followed);
    tcase_add_test(tests, what_only_the_server_knows_is_told_by_it);
    tcase_add_test(tests, what_is_in_neither_file_nor_cluster_is_told_at_its_place);
    tcase_add_test(tests, without_the_cluster_it_is_told_what_was_not_checked);
    tcase_add_test(tests,
                   a_template_with_less_memory_than_its_image_needs_is_told_at_its_place);
    tcase_add_test(tests, what_was_not_checked_is_told_in_few_lines);
    tcase_add_test(tests, errors_are_a_document_when_one_is_asked_for);
    tcase_add_test(tests, what_is_too_large_is_told_with_the_limit);
    tcase_add_test(tests, a_plan_foretells_quotas_and_the_place_of_single_vms);
    tcase_add_test(tests, a_quota_that_holds_a_group_back_is_told);
    tcase_add_test(tests, what_was_applied_beside_a_refusal_is_told);
    tcase_add_test(tests, what_was_not_tried_is_said);
    tcase_add_test(tests, files_that_are_none_are_named);
    tcase_add_test(tests,
                   a_plan_shows_each_change_and_where_vms_would_go_and_does_nothing);
    tcase_add_test(tests, a_plan_says_that_vms_and_their_disks_go);
    tcase_add_test(tests, a_plan_says_what_would_find_no_host_and_why);
    tcase_add_test(tests, a_changed_template_says_which_vms_it_leaves_alone);
    tcase_add_test(tests, vms_that_follow_a_changed_limit_are_not_said_to_be_left_alone);
    tcase_add_test(tests, a_vm_that_shall_be_off_is_not_waited_for);
    tcase_add_test(tests, vms_made_in_the_same_breath_are_not_from_before);
    tcase_add_test(tests, applying_twice_changes_nothing_the_second_time);
    tcase_add_test(tests, a_folder_and_stdin_are_files_too);
    tcase_add_test(tests, what_the_cluster_refuses_ends_with_the_code_of_its_class);
    tcase_add_test(tests, waiting_tells_each_boot_step_by_step);
    tcase_add_test(tests, waiting_that_is_over_names_the_step_the_console_and_what_to_do);
    tcase_add_test(tests, a_vm_whose_image_is_nowhere_says_so_wherever_one_looks);
    tcase_add_test(tests, waiting_for_what_has_no_host_says_why_and_whom_to_ask);
    tcase_add_test(tests, an_interrupt_ends_the_waiting_and_not_the_work);
    return test_main_run(suite);
}
