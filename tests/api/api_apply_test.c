/* Goal: many objects at once are all checked before any is written, written in an order
 * that works, and told what became of each. */
#include "base/cleanup.h"
#include "http_fixture.h"

#define OBJECT(kind, meta, spec) \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"" kind "\",\"metadata\":{" meta "}" spec "}"
#define TENANT(name) OBJECT("Tenant", "\"name\":\"" name "\"", "")
#define TEMPLATE(name, size)                    \
    OBJECT("Template", "\"name\":\"" name "\"", \
           ",\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":\"" size "\"}}")
#define GROUP(name, template, replicas)                                                 \
    OBJECT("Group", "\"name\":\"" name "\"",                                            \
           ",\"spec\":{\"template\":{\"name\":\"" template "\"},\"replicas\":" replicas \
                                                           "}")
#define VM(name, template, more)          \
    OBJECT("VM", "\"name\":\"" name "\"", \
           ",\"spec\":{\"template\":{\"name\":\"" template "\"}" more "}")

static int apply(const char *query, const char *objects)
{
    char path[64];
    char body[16384];
    snprintf(path, sizeof(path), "/v1/apply%s", query);
    snprintf(body, sizeof(body), "{\"objects\":[%s]}", objects);
    return ask("POST", path, "", body);
}

/* "kind/name action " of each result. */
static const char *actions(void)
{
    static char text[2048];
    size_t index;
    json_t *row;
    text[0] = '\0';
    json_array_foreach(json_object_get(reply.document, "results"), index, row)
    {
        size_t used = strlen(text);
        snprintf(text + used, sizeof(text) - used, "%s/%s %s ",
                 json_member_text(row, "kind", ""), json_member_text(row, "name", ""),
                 json_member_text(row, "action", ""));
    }
    return text;
}

static const json_t *fault_at(size_t index)
{
    return json_array_get(json_object_get(reply.document, "errors"), index);
}

START_TEST(objects_are_written_in_an_order_that_works)
{
    ck_assert_int_eq(
        apply("", VM("jump", "small", "") "," GROUP("web", "small", "1") "," TEMPLATE(
                      "small", "64MiB") "," TENANT("shop")),
        200);
    ck_assert_str_eq(actions(), "Tenant/shop created Template/small created "
                                "Group/web created VM/jump created ");
    ck_assert_int_eq(get("/v1/tenants/default/vms/jump"), 200);
}
END_TEST

START_TEST(the_same_again_changes_nothing)
{
    const char *objects = TENANT("shop") "," TEMPLATE("small", "64MiB") "," GROUP(
        "web", "small", "0") "," VM("jump", "small", "");
    ck_assert_int_eq(apply("", objects), 200);
    ck_assert_int_eq(apply("?dryRun=plan", objects), 200);
    ck_assert_msg(strstr(reply.body, "\"from\"") == NULL, "%s", reply.body);
    ck_assert_int_eq(apply("", objects), 200);

    ck_assert_str_eq(actions(), "Tenant/shop unchanged Template/small unchanged "
                                "Group/web unchanged VM/jump unchanged ");
}
END_TEST

START_TEST(a_change_is_told_as_a_change_and_plan_says_from_what_to_what)
{
    ck_assert_int_eq(apply("", TEMPLATE("small", "64MiB")), 200);
    ck_assert_int_eq(apply("?dryRun=plan", TEMPLATE("small", "128MiB")), 200);
    ck_assert_str_eq(actions(), "Template/small changed ");
    json_t *row = json_array_get(json_object_get(reply.document, "results"), 0);
    json_t *change = json_array_get(json_object_get(row, "changes"), 0);
    ck_assert_str_eq(json_member_text(change, "path", ""), "spec.memory.size");
    ck_assert_str_eq(json_member_text(change, "from", ""), "64MiB");
    ck_assert_str_eq(json_member_text(change, "to", ""), "128MiB");
    ck_assert_uint_eq(json_array_size(json_object_get(row, "changes")), 1);

    ck_assert_int_eq(get("/v1/tenants/default/templates/small"),
                     200); /* a plan is no deed */
    ck_assert_contains(reply.body, "64MiB");
    ck_assert_int_eq(apply("", TEMPLATE("small", "128MiB")), 200);
    ck_assert_str_eq(actions(), "Template/small changed ");
}
END_TEST

START_TEST(a_plan_says_where_new_vms_would_go)
{
    ck_assert_int_eq(
        apply("?dryRun=plan", TEMPLATE("large", "600MiB") "," GROUP("web", "large", "4")),
        200);
    json_t *forecast = json_array_get(json_object_get(reply.document, "forecast"), 0);

    ck_assert_str_eq(json_member_text(forecast, "group", ""), "web");
    ck_assert_uint_eq(json_array_size(json_object_get(forecast, "placed")), 3);
    ck_assert_uint_eq(json_member_u64(forecast, "unplaced", 0), 1); /* 1 GiB per host */
    ck_assert_int_eq(get("/v1/tenants/default/groups/web"), 404);
}
END_TEST

/* 1 is what a group has that says nothing: it is said of a change all the same. */
START_TEST(a_plan_says_how_many_vms_go)
{
    ck_assert_int_eq(apply("", TEMPLATE("small", "64MiB") "," GROUP("web", "small", "3")),
                     200);
    await("/v1/tenants/default/vms/web-3", "\"phase\":\"ready\"");
    ck_assert_int_eq(apply("?dryRun=plan", GROUP("web", "small", "1")), 200);
    json_t *row = json_array_get(json_object_get(reply.document, "results"), 0);
    json_t *change = json_array_get(json_object_get(row, "changes"), 0);
    ck_assert_str_eq(json_member_text(change, "path", ""), "spec.replicas");
    ck_assert_uint_eq(json_member_u64(change, "from", 0), 3);
    ck_assert_uint_eq(json_member_u64(change, "to", 0), 1);
    json_t *forecast = json_object_get(reply.document, "forecast");
    ck_assert_uint_eq(json_array_size(forecast), 1);
    ck_assert_str_eq(json_member_text(json_array_get(forecast, 0), "group", ""), "web");
    ck_assert_uint_eq(json_member_u64(json_array_get(forecast, 0), "removed", 0), 2);
    ck_assert_uint_eq(json_member_u64(json_array_get(forecast, 0), "of", 0), 3);
}
END_TEST

/* There is room for one on each host. One that waits for its lost host goes neither at
 * once nor in place of another. */
START_TEST(a_plan_counts_no_lost_vm_among_those_that_go)
{
    char host[NAME_SIZE];
    ck_assert_int_eq(
        apply("",
              OBJECT("Template", "\"name\":\"pet\"",
                     ",\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":\"600MiB\"},"
                     "\"lifecycle\":{\"hostFailure\":\"wait\"}}") "," GROUP("db", "pet",
                                                                            "3")),
        200);
    for (unsigned i = 1; i <= 3; i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/v1/tenants/default/vms/db-%u", i);
        await(path, "\"phase\":\"ready\"");
    }
    (void)snprintf(
        host, sizeof(host), "%s",
        json_member_text(json_object_get(reply.document, "status"), "host", ""));
    served_do(served, lose_host, host);
    await("/v1/tenants/default/vms/db-3", "\"phase\":\"lost\"");

    ck_assert_int_eq(apply("?dryRun=plan", GROUP("db", "pet", "2")), 200);
    ck_assert_uint_eq(json_array_size(json_object_get(reply.document, "forecast")), 0);
    ck_assert_int_eq(apply("?dryRun=plan", GROUP("db", "pet", "1")), 200);
    const json_t *row = json_array_get(json_object_get(reply.document, "forecast"), 0);
    ck_assert_uint_eq(json_member_u64(row, "removed", 0), 1);
    ck_assert_uint_eq(json_member_u64(row, "of", 0), 3);
}
END_TEST

START_TEST(a_plan_tells_of_the_hosts_in_few_rows)
{
    char objects[8192] = "";
    unsigned with_hosts = 0;
    size_t index;
    json_t *row;
    for (unsigned i = 0; i < 20; i++) {
        size_t used = strlen(objects);
        snprintf(objects + used, sizeof(objects) - used,
                 "%s" OBJECT("Group", "\"name\":\"g%u\"",
                             ",\"spec\":{\"template\":{\"name\":\"large\"},"
                             "\"replicas\":1}"),
                 i > 0 ? "," : "", i);
    }
    ck_assert_int_eq(apply("", TEMPLATE("large", "64GiB")), 200);
    ck_assert_int_eq(apply("?dryRun=plan", objects), 200);
    json_array_foreach(json_object_get(reply.document, "forecast"), index, row)
    {
        with_hosts += json_object_get(row, "hosts") != NULL ? 1U : 0U;
        ck_assert_uint_eq(json_member_u64(row, "unplaced", 0), 1);
    }
    ck_assert_uint_eq(index, 20);
    ck_assert_uint_eq(with_hosts, 16);
}
END_TEST

START_TEST(validate_answers_without_changes_or_forecast)
{
    ck_assert_int_eq(apply("?dryRun=validate", TENANT("shop")), 200);
    ck_assert_ptr_null(json_object_get(reply.document, "forecast"));
    ck_assert_ptr_null(strstr(reply.body, "changes"));
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}
END_TEST

START_TEST(one_bad_object_keeps_all_from_being_written_and_each_is_pointed_at)
{
    (void)apply(
        "", TENANT("shop") "," OBJECT(
                "Tenant", "\"name\":\"bank\"",
                ",\"spec\":{\"quotas\":1}") "," OBJECT("Ship", "\"name\":\"x\"",
                                                       "") "," TEMPLATE("small", "64"));

    assert_problem(422, "BERTH_EINVALID");
    ck_assert_str_eq(said("detail"), "nothing was changed");
    ck_assert_uint_eq(json_array_size(json_object_get(reply.document, "errors")), 3);
    ck_assert_str_eq(json_member_text(fault_at(0), "pointer", ""),
                     "/objects/1/spec/quotas");
    ck_assert_contains(json_member_text(fault_at(0), "message", ""), "quotas");
    ck_assert_str_eq(json_member_text(fault_at(1), "pointer", ""), "/objects/2");
    ck_assert_str_eq(json_member_text(fault_at(2), "pointer", ""),
                     "/objects/3/spec/memory/size");
    ck_assert_contains(json_member_text(fault_at(2), "message", ""), "unit");
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}
END_TEST

static const struct fault {
    const char *object;
    const char *message;
    const char *hint;
} faults[] = {
    {OBJECT("Host", "\"name\":\"h9\"", ""), "not applied", ""},
    {OBJECT("Token", "\"name\":\"ci\"", ",\"spec\":{\"role\":\"admin\"}"), "not applied",
     ""},
    {OBJECT("Image",
            "\"name\":\"tiny\"",
            ",\"spec\":{\"artifacts\":[{\"role\":\"kernel\",\"file\":\"vmlinux\"}]}"),
     "no sha256", "berth apply"},
    {OBJECT("Group",
            "\"name\":\"web\"",
            ",\"spec\":{\"template\":{\"name\":\"plain\"},\"autoscale\":{\"min\":5,"
            "\"max\":3}}"),
     "autoscale", ""},
    {OBJECT("Network",
            "\"name\":\"lan\"",
            ",\"spec\":{\"ipv4\":{\"cidr\":\"10.0.0.0/24\",\"gateway\":\"10.9.0.1\"}}"),
     "gateway", ""},
    {OBJECT("Tenant", "\"name\":\"Shop\"", ""), "name", ""},
    {"7", "", ""},
};

static void what_may_not_be_applied_says_why_row(size_t i)
{
    (void)apply("", faults[i].object);

    assert_problem(422, "BERTH_EINVALID");
    ck_assert_contains(json_member_text(fault_at(0), "message", ""), faults[i].message);
    ck_assert_contains(json_member_text(fault_at(0), "hint", ""), faults[i].hint);
}

START_TEST(what_may_not_be_applied_says_why)
{
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        what_may_not_be_applied_says_why_row(i);
    }
}
END_TEST

START_TEST(what_the_caller_may_not_write_is_a_fault_of_that_object)
{
    ck_assert_int_eq(apply("", TENANT("shop")), 200);
    served_token(served, "ana", "ana", ROLE_OPERATOR, "shop", 0);
    (void)ask(
        "POST", "/v1/apply", "Authorization: Bearer ana\r\n",
        "{\"objects\":[" OBJECT("Template", "\"name\":\"t\",\"tenant\":\"shop\"",
                                ",\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":"
                                "\"64MiB\"}}") "," TENANT("bank") "]}");
    assert_problem(403, "BERTH_EFORBIDDEN");
    ck_assert_uint_eq(json_array_size(json_object_get(reply.document, "errors")), 1);
    ck_assert_str_eq(json_member_text(fault_at(0), "pointer", ""), "/objects/1");
    ck_assert_contains(json_member_text(fault_at(0), "message", ""), "may not");
    ck_assert_int_eq(get("/v1/tenants/shop/templates/t"), 404);
}
END_TEST

#define NETWORK(tenant, more, cidr)                                         \
    OBJECT("Network", "\"name\":\"lan\",\"tenant\":\"" tenant "\"" more "", \
           ",\"spec\":{\"ipv4\":{\"cidr\":\"" cidr "\"}}")

static int anas(const char *method, const char *path, const char *body)
{
    return ask(method, path, "Authorization: Bearer ana\r\n", body);
}

/* Else the first tenant to ask could leave nothing to the others. */
START_TEST(a_tenant_takes_no_large_part_of_all_addresses)
{
    static const char large[] = NETWORK("shop", "", "10.32.0.0/19");
    static const char path[] = "/v1/tenants/shop/networks/lan";
    ck_assert_int_eq(apply("", TENANT("shop")), 200);
    served_token(served, "ana", "ana", ROLE_ADMIN, "shop", 0);
    static const char *const ways[] = {"/v1/apply", "/v1/apply?dryRun=plan",
                                       "/v1/apply?dryRun=validate"};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        ck_assert_int_eq(anas("POST", ways[i], large), 403);
        ck_assert_contains(json_member_text(fault_at(0), "message", ""),
                           "/19 is larger than /20");
    }
    ck_assert_int_eq(anas("PUT", path, large), 403);
    ck_assert_contains(said("detail"), "/19 is larger than /20");
    ck_assert_int_eq(get(path), 404);

    ck_assert_int_eq(anas("PUT", path, NETWORK("shop", "", "10.32.0.0/20")), 200);
    ck_assert_int_eq(apply("", large), 200); /* root may, and what was given stays */
    ck_assert_int_eq(
        anas("PUT", path, NETWORK("shop", ",\"labels\":{\"a\":\"b\"}", "10.32.0.0/19")),
        200);
}
END_TEST

/* A host that carries the network looks for what is really there among its VMs. */
START_TEST(a_tenant_takes_no_addresses_of_the_world)
{
    static const char world[] = NETWORK("shop", "", "8.8.8.0/24");
    static const char path[] = "/v1/tenants/shop/networks/lan";
    static const char *const ways[] = {"/v1/apply", "/v1/apply?dryRun=plan",
                                       "/v1/apply?dryRun=validate"};
    ck_assert_int_eq(apply("", TENANT("shop")), 200);
    served_token(served, "ana", "ana", ROLE_ADMIN, "shop", 0);
    for (size_t i = 0; i < ARRAY_COUNT(ways); i++) {
        ck_assert_int_eq(anas("POST", ways[i], world), 403);
        ck_assert_str_eq(json_member_text(fault_at(0), "pointer", ""),
                         "/objects/0/spec/ipv4/cidr");
        ck_assert_contains(json_member_text(fault_at(0), "message", ""),
                           "8.8.8.0/24 is not private");
    }
    ck_assert_int_eq(anas("PUT", path, world), 403);
    ck_assert_contains(said("detail"), "8.8.8.0/24 is not private");
    ck_assert_int_eq(get(path), 404);

    ck_assert_int_eq(apply("", world), 200); /* root may */
}
END_TEST

/* Networks first .. first + count - 1 of the tenant, a /24 each. */
static int make_networks(unsigned first, unsigned count)
{
    static char body[1u << 16];
    size_t used = (size_t)snprintf(body, sizeof(body), "{\"objects\":[");
    for (unsigned i = first; i < first + count; i++) {
        used += (size_t)snprintf(
            body + used, sizeof(body) - used,
            "%s{\"apiVersion\":\"berth/v1\",\"kind\":\"Network\",\"metadata\":{\"name\":"
            "\"n%u\",\"tenant\":\"shop\"},\"spec\":{\"ipv4\":{\"cidr\":\"10.1.%u.0/"
            "24\"}}}",
            i > first ? "," : "", i, i);
        ck_assert_uint_lt(used, sizeof(body) - 3);
    }
    memcpy(body + used, "]}", 3);
    return anas("POST", "/v1/apply", body);
}

START_TEST(a_tenant_takes_no_large_number_of_networks_by_itself)
{
    static const char path[] = "/v1/tenants/shop/networks/lan";
    ck_assert_int_eq(apply("", TENANT("shop")), 200);
    served_token(served, "ana", "ana", ROLE_ADMIN, "shop", 0);
    ck_assert_int_eq(make_networks(0, NETWORK_TENANT_COUNT_MAX + 1), 409);
    assert_problem(409, "BERTH_EQUOTA");
    ck_assert_contains(json_member_text(fault_at(0), "message", ""),
                       "tenant shop would have 65 networks");
    ck_assert_int_eq(make_networks(0, NETWORK_TENANT_COUNT_MAX), 200);
    ck_assert_int_eq(make_networks(0, NETWORK_TENANT_COUNT_MAX),
                     200); /* they are there */
    ck_assert_int_eq(make_networks(NETWORK_TENANT_COUNT_MAX, 1), 409);
    ck_assert_int_eq(anas("PUT", path, NETWORK("shop", "", "10.2.0.0/24")), 409);

    ck_assert_int_eq(apply("", OBJECT("Tenant", "\"name\":\"shop\"",
                                      ",\"spec\":{\"quota\":{\"networks\":65}}")),
                     200);
    ck_assert_int_eq(anas("PUT", path, NETWORK("shop", "", "10.2.0.0/24")), 200);
    ck_assert_int_eq(make_networks(NETWORK_TENANT_COUNT_MAX, 1), 409); /* by the log */
}
END_TEST

START_TEST(a_vm_keeps_its_template_and_its_group)
{
    ck_assert_int_eq(apply("", TEMPLATE("small", "64MiB") "," VM(
                                   "jump", "plain", "") "," GROUP("web", "plain", "1")),
                     200);
    (void)apply("", VM("jump", "small", ""));
    ck_assert_contains(json_member_text(fault_at(0), "message", ""),
                       "keeps its template");
    do {
        ck_assert_int_eq(get("/v1/vms?group=web"), 200);
    } while (item_count() == 0);
    (void)apply("", VM("web-1", "plain", ",\"power\":\"off\""));
    ck_assert_contains(json_member_text(fault_at(0), "message", ""),
                       "belongs to a group");
}
END_TEST

START_TEST(power_is_what_a_vm_can_change)
{
    ck_assert_int_eq(apply("", VM("jump", "plain", "")), 200);
    ck_assert_int_eq(apply("", VM("jump", "plain", ",\"power\":\"off\"")), 200);
    ck_assert_str_eq(actions(), "VM/jump changed ");
    do {
        ck_assert_int_eq(get("/v1/tenants/default/vms/jump"), 200);
    } while (strstr(reply.body, "\"phase\":\"stopped\"") == NULL);
}
END_TEST

START_TEST(a_vm_has_its_templates_labels_as_of_its_own_last_apply)
{
#define LABELLED(app)                                                         \
    OBJECT("Template", "\"name\":\"small\",\"labels\":{\"app\":\"" app "\"}", \
           ",\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":\"64MiB\"}}")
    ck_assert_int_eq(apply("", LABELLED("web") "," VM("jump", "small", "")), 200);
    ck_assert_int_eq(get("/v1/vms?label=app=web"), 200);
    ck_assert_uint_eq(item_count(), 1);
    ck_assert_int_eq(apply("", LABELLED("shop")), 200);
    ck_assert_int_eq(get("/v1/vms?label=app=web"), 200);
    ck_assert_uint_eq(item_count(), 1); /* which it was made with */
    ck_assert_int_eq(apply("", VM("jump", "small", "")), 200);
    ck_assert_str_eq(actions(), "VM/jump changed ");
    ck_assert_int_eq(get("/v1/vms?label=app=shop"), 200);
    ck_assert_uint_eq(item_count(), 1);
}
END_TEST

START_TEST(a_vm_that_is_there_is_labelled_anew)
{
#define VM_LABELLED(labels)                                   \
    OBJECT("VM", "\"name\":\"jump\",\"labels\":{" labels "}", \
           ",\"spec\":{\"template\":{\"name\":\"small\"}}")
    ck_assert_int_eq(apply("", LABELLED("web") "," VM("jump", "small", "")), 200);
    ck_assert_int_eq(apply("", VM_LABELLED("\"tier\":\"one\"")), 200);
    ck_assert_str_eq(actions(), "VM/jump changed ");
    ck_assert_int_eq(apply("", VM_LABELLED("\"tier\":\"one\"")), 200);
    ck_assert_str_eq(actions(), "VM/jump unchanged ");
    ck_assert_int_eq(get("/v1/vms?label=tier=one&label=app=web"), 200); /* both */
    ck_assert_uint_eq(item_count(), 1);
    ck_assert_int_eq(apply("?dryRun=plan", VM_LABELLED("\"app\":\"db\"")), 200);
    ck_assert_str_eq(actions(), "VM/jump changed ");
    ck_assert_int_eq(apply("", VM_LABELLED("\"app\":\"db\"")), 200);
    ck_assert_int_eq(get("/v1/vms?label=app=db"), 200);
    ck_assert_uint_eq(item_count(), 1);
    ck_assert_ptr_null(strstr(reply.body, "\"tier\"")); /* no document names it */
}
END_TEST

START_TEST(a_vm_keeps_its_labels_until_the_level_that_can_change_them)
{
    fixture_stop();
    fixture_start_with(&(struct served_config){.level = LEVEL_VM_LABELS - 1});
    ck_assert_int_eq(apply("", LABELLED("web") "," VM_LABELLED("\"tier\":\"one\"")), 200);
    ck_assert_int_eq(apply("", LABELLED("shop") "," VM("jump", "small", "")), 200);
    ck_assert_str_eq(actions(), "Template/small changed VM/jump unchanged ");
    ck_assert_int_eq(get("/v1/vms?label=tier=one&label=app=web"), 200);
    ck_assert_uint_eq(item_count(), 1);
    ck_assert_int_eq(apply("", VM("jump", "small", ",\"power\":\"off\"")), 200);
    ck_assert_str_eq(actions(), "VM/jump changed "); /* what is not labels may change */
    (void)apply("", VM_LABELLED("\"tier\":\"two\""));
    assert_problem(409, "BERTH_ELEVEL");
    ck_assert_int_eq(get("/v1/vms?label=tier=one&label=app=web"), 200);
    ck_assert_uint_eq(item_count(), 1);
}
END_TEST

/* All three with these labels, or without any. */
static int apply_labelled(const char *query, const char *labels)
{
    char objects[1024];
    (void)snprintf(objects, sizeof(objects),
                   OBJECT("Template", "\"name\":\"small\"%s",
                          ",\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":\"64MiB\"}"
                          "}") "," OBJECT("Group", "\"name\":\"web\"%s",
                                          ",\"spec\":{\"template\":{\"name\":\"small\"},"
                                          "\"replicas\":0}") "," OBJECT("VM",
                                                                        "\"name\":"
                                                                        "\"jump\"%s",
                                                                        ",\"spec\":{"
                                                                        "\"template\":{"
                                                                        "\"name\":"
                                                                        "\"small\"}}"),
                   labels, labels, labels);
    return apply(query, objects);
}

START_TEST(a_label_that_no_document_names_any_more_goes)
{
    static const char *const paths[] = {"/v1/tenants/default/templates/small",
                                        "/v1/tenants/default/groups/web",
                                        "/v1/tenants/default/vms/jump"};
    ck_assert_int_eq(apply_labelled("", ",\"labels\":{\"app\":\"web\",\"tier\":\"one\"}"),
                     200);
    ck_assert_int_eq(apply_labelled("?dryRun=plan", ",\"labels\":{\"tier\":\"one\"}"),
                     200);
    ck_assert_str_eq(actions(),
                     "Template/small changed Group/web changed VM/jump changed ");
    ck_assert_int_eq(apply_labelled("", ",\"labels\":{\"tier\":\"one\"}"), 200);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        ck_assert_int_eq(get(paths[i]), 200);
        ck_assert_contains(reply.body, "\"labels\":{\"tier\":\"one\"}");
    }
    ck_assert_int_eq(apply_labelled("", ""), 200);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        ck_assert_int_eq(get(paths[i]), 200);
        ck_assert_ptr_null(strstr(reply.body, "\"labels\""));
    }
    ck_assert_int_eq(apply_labelled("", ""), 200);
    ck_assert_str_eq(actions(),
                     "Template/small unchanged Group/web unchanged VM/jump unchanged ");
}
END_TEST

static void let_none_stop(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->never_stopped = true;
}

/* It would be gone a moment later, and who applied it would wait for it. */
START_TEST(what_is_on_its_way_out_is_refused_though_it_looks_the_same)
{
    served_do(served, let_none_stop, NULL);
    const char *both = TEMPLATE("small", "64MiB") "," GROUP("web", "small", "1") "," VM(
        "jump", "small", "");
    ck_assert_int_eq(apply("", both), 200);
    await("/v1/tenants/default/vms/jump", "\"phase\":\"ready\"");
    await("/v1/tenants/default/vms/web-1", "\"phase\":\"ready\"");
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/groups/web", "", NULL), 200);
    ck_assert_int_eq(ask("DELETE", "/v1/tenants/default/vms/jump", "", NULL), 200);

    (void)apply("", both);

    assert_problem(409, "BERTH_EPHASE");
    ck_assert_str_eq(actions(),
                     "Template/small unchanged Group/web refused VM/jump refused ");
    ck_assert_contains(said("detail"), "is being deleted");
}
END_TEST

START_TEST(what_the_cluster_refuses_is_told_per_object_and_the_rest_is_done)
{
    (void)apply(
        "", TENANT("shop") "," GROUP("web", "none", "1") "," GROUP("api", "plain", "0"));
    assert_problem(422, "BERTH_ENOTFOUND");
    ck_assert_contains(said("detail"), "none");
    ck_assert_str_eq(actions(),
                     "Tenant/shop created Group/api created Group/web refused ");
    ck_assert_str_eq(json_member_text(fault_at(0), "pointer", ""),
                     "/objects/1/spec/template");
    ck_assert_str_eq(json_member_text(fault_at(0), "code", ""), "BERTH_ENOTFOUND");
    ck_assert_int_eq(get("/v1/tenants/default/groups/api"), 200);
}
END_TEST

START_TEST(every_reference_that_a_template_lacks_is_told)
{
    static const char *const queries[] = {"?dryRun=validate", "?dryRun=plan", ""};
    static const char *const pointers[] = {"/objects/0/spec/image",
                                           "/objects/0/spec/nics/0/network",
                                           "/objects/0/spec/nics/1/network"};
    for (size_t i = 0; i < 3; i++) {
        (void)apply(queries[i],
                    OBJECT("Template", "\"name\":\"small\"",
                           ",\"spec\":{\"image\":\"none\",\"memory\":{\"size\":"
                           "\"64MiB\"},\"nics\":[{\"name\":\"a\",\"network\":\"x\"},{"
                           "\"name\":\"b\",\"network\":\"y\"}]}"));
        assert_problem(422, "BERTH_ENOTFOUND");
        ck_assert_uint_eq(json_array_size(json_object_get(reply.document, "errors")), 3);
        for (size_t j = 0; j < 3; j++) {
            ck_assert_str_eq(json_member_text(fault_at(j), "pointer", ""), pointers[j]);
        }
    }
    ck_assert_contains(json_member_text(fault_at(2), "message", ""), "network y");
}
END_TEST

START_TEST(a_trial_refuses_what_the_log_would_and_changes_nothing)
{
    static const char *const queries[] = {"?dryRun=validate", "?dryRun=plan"};
    for (size_t i = 0; i < 2; i++) {
        (void)apply(queries[i], TENANT("shop") "," GROUP("web", "none", "1"));
        assert_problem(422, "BERTH_ENOTFOUND");
        ck_assert_str_eq(json_member_text(fault_at(0), "pointer", ""),
                         "/objects/1/spec/template");
        ck_assert_str_eq(actions(), "Tenant/shop created Group/web refused ");
        ck_assert_int_eq(get("/v1/tenants/shop"), 404);
    }
}
END_TEST

/* A trial takes the leader's time, the more the more VMs there are. */
START_TEST(a_large_cluster_is_not_copied_and_the_answer_says_so)
{
    served_vms(served, "m", 10000);
    (void)apply("?dryRun=plan", GROUP("web", "none", "1"));
    assert_problem(422, "BERTH_ENOTFOUND");

    served_vms(served, "n", 1);
    ck_assert_int_eq(
        apply("?dryRun=plan", GROUP("web", "none", "1") "," TEMPLATE(
                                  "small", "64MiB") "," VM("v", "small", "")),
        200);
    ck_assert_str_eq(actions(), "Template/small created Group/web created VM/v created ");
    ck_assert_contains(said("notTried"), "references and quotas");
    ck_assert_uint_eq(json_array_size(json_object_get(reply.document, "forecast")), 1);
    ck_assert_int_eq(apply("?dryRun=validate", TENANT("default")), 200);
    ck_assert_str_eq(actions(), "Tenant/default unchanged ");
    ck_assert_ptr_null(json_object_get(reply.document, "notTried"));
}
END_TEST

START_TEST(a_quota_is_an_error_of_its_own)
{
    ck_assert_int_eq(
        apply(
            "",
            OBJECT("Tenant", "\"name\":\"shop\"",
                   ",\"spec\":{\"quota\":{\"vms\":1}}") "," OBJECT("Template",
                                                                   "\"name\":\"t\","
                                                                   "\"tenant\":\"shop\"",
                                                                   ",\"spec\":{\"image\":"
                                                                   "\"linux\",\"memory\":"
                                                                   "{\"size\":"
                                                                   "\"64MiB\"}}")),
        200);
#define SHOP_VM(name)                                         \
    OBJECT("VM", "\"name\":\"" name "\",\"tenant\":\"shop\"", \
           ",\"spec\":{\"template\":{\"name\":\"t\"}}")
    (void)apply("", SHOP_VM("one") "," SHOP_VM("two"));
    assert_problem(409, "BERTH_EQUOTA");
    ck_assert_str_eq(actions(), "VM/one created VM/two refused ");
}
END_TEST

static const struct wrong {
    const char *path;
    const char *body;
} wrongs[] = {
    {"/v1/apply", ""},
    {"/v1/apply", "[]"},
    {"/v1/apply", "{\"objects\":[]}"},
    {"/v1/apply", "{\"objects\":{}}"},
    {"/v1/apply", "{\"objects\":7}"},
    {"/v1/apply?dryRun=yes", TENANT("shop")},
    {"/v1/apply?dryRun=", TENANT("shop")},
    {"/v1/apply?dryrun=plan", TENANT("shop")}, /* would have been a deed */
    {"/v1/apply?dryRun=plan&x=1", TENANT("shop")},
};

static void an_apply_that_is_not_understood_does_nothing_row(size_t i)
{
    (void)ask("POST", wrongs[i].path, "", wrongs[i].body);
    assert_problem(422, "BERTH_EINVALID");
    ck_assert_int_eq(get("/v1/tenants/shop"), 404);
}

START_TEST(an_apply_that_is_not_understood_does_nothing)
{
    for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
        an_apply_that_is_not_understood_does_nothing_row(i);
    }
}
END_TEST

START_TEST(a_thousand_objects_are_taken_and_not_one_more)
{
    size_t size = 1001 * 90 + 64;
    char *body = malloc(size);
    for (unsigned count = 1001; count >= 1000; count--) {
        size_t used = (size_t)snprintf(body, size, "{\"objects\":[");
        for (unsigned i = 0; i < count; i++) {
            used += (size_t)snprintf(body + used, size - used,
                                     "%s{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\","
                                     "\"metadata\":{\"name\":\"t%u\"}}",
                                     i > 0 ? "," : "", i);
        }
        snprintf(body + used, size - used, "]}");
        ck_assert_int_eq(ask("POST", "/v1/apply", "", body), count > 1000 ? 422 : 200);
    }
    ck_assert_uint_eq(json_array_size(json_object_get(reply.document, "results")), 1000);
    free(body);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("api_apply", &tests);
    tcase_add_test(tests, objects_are_written_in_an_order_that_works);
    tcase_add_test(tests, the_same_again_changes_nothing);
    tcase_add_test(tests, a_change_is_told_as_a_change_and_plan_says_from_what_to_what);
    tcase_add_test(tests, a_plan_says_where_new_vms_would_go);
    tcase_add_test(tests, a_plan_says_how_many_vms_go);
    tcase_add_test(tests, a_plan_counts_no_lost_vm_among_those_that_go);
    tcase_add_test(tests, a_plan_tells_of_the_hosts_in_few_rows);
    tcase_add_test(tests, validate_answers_without_changes_or_forecast);
    tcase_add_test(tests,
                   one_bad_object_keeps_all_from_being_written_and_each_is_pointed_at);
    tcase_add_test(tests, what_may_not_be_applied_says_why);
    tcase_add_test(tests, what_the_caller_may_not_write_is_a_fault_of_that_object);
    tcase_add_test(tests, a_tenant_takes_no_large_number_of_networks_by_itself);
    tcase_add_test(tests, a_tenant_takes_no_large_part_of_all_addresses);
    tcase_add_test(tests, a_tenant_takes_no_addresses_of_the_world);
    tcase_add_test(tests, a_vm_keeps_its_template_and_its_group);
    tcase_add_test(tests, power_is_what_a_vm_can_change);
    tcase_add_test(tests, a_vm_keeps_its_labels_until_the_level_that_can_change_them);
    tcase_add_test(tests, a_vm_has_its_templates_labels_as_of_its_own_last_apply);
    tcase_add_test(tests, a_label_that_no_document_names_any_more_goes);
    tcase_add_test(tests, a_vm_that_is_there_is_labelled_anew);
    tcase_add_test(tests, what_is_on_its_way_out_is_refused_though_it_looks_the_same);
    tcase_add_test(tests,
                   what_the_cluster_refuses_is_told_per_object_and_the_rest_is_done);
    tcase_add_test(tests, every_reference_that_a_template_lacks_is_told);
    tcase_add_test(tests, a_trial_refuses_what_the_log_would_and_changes_nothing);
    tcase_add_test(tests, a_large_cluster_is_not_copied_and_the_answer_says_so);
    tcase_add_test(tests, a_quota_is_an_error_of_its_own);
    tcase_add_test(tests, an_apply_that_is_not_understood_does_nothing);
    tcase_add_test(tests, a_thousand_objects_are_taken_and_not_one_more);
    return test_main_run(suite);
}
