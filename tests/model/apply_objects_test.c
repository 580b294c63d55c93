#include "support/state_fixture.h"

#define CIDR(address, prefix) (((uint64_t)(address) << 8) | (prefix))

static int operation(const char *name, enum operation_phase phase, const char *step)
{
    struct command command;
    command_init(&command, COMMAND_OPERATION_STEP);
    set_name(command.body.operation_step.name, name);
    command.body.operation_step.phase = phase;
    command.body.operation_step.permille = 500;
    set_text(&command.body.operation_step.title, "drain h1");
    set_text(&command.body.operation_step.step, step);
    return send_command(&command);
}

static const struct group *group_now(const char *name)
{
    const struct group *group = FIND(KIND_GROUP, DEFAULT_TENANT, name);
    ck_assert_ptr_nonnull(group);
    return group;
}

/* ---- put ---- */

START_TEST(a_new_object_has_uid_stamps_and_place)
{
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0);
    const struct tenant *tenant = FIND(KIND_TENANT, "", "shop");
    ck_assert_ptr_nonnull(tenant);
    ck_assert_uint_eq(tenant->meta.uid, answer.uid);
    ck_assert_uint_eq(tenant->meta.created_wall_ms, fixture_wall_ms);
    ck_assert(fixture_last.created);
}
END_TEST

START_TEST(an_update_keeps_identity_and_status)
{
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 2)), 0);
    struct metadata before = group_now("g")->meta;
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-7", "plain", "g"), 0);
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 3)), 0);
    const struct group *group = group_now("g");
    ck_assert_uint_eq(group->meta.uid, before.uid);
    ck_assert_uint_eq(group->meta.create_revision, before.create_revision);
    ck_assert_uint_gt(group->meta.modify_revision, before.modify_revision);
    ck_assert_uint_eq(group->status.next_index, 8);
    ck_assert_uint_eq(group->status.desired, 3);
    ck_assert(!fixture_last.created);
}
END_TEST

START_TEST(what_users_send_as_status_counts_for_nothing)
{
    struct tenant *tenant = make_tenant("shop");
    tenant->status.used.vms = 77;
    tenant->meta.uid = 4242;
    tenant->meta.create_revision = 9;
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    const struct tenant *now = FIND(KIND_TENANT, "", "shop");
    ck_assert_uint_eq(now->status.used.vms, 0);
    ck_assert_uint_ne(now->meta.uid, 4242);
    ck_assert_uint_eq(now->meta.create_revision, answer.revision);
}
END_TEST

START_TEST(labels_alone_are_a_change)
{
    struct tenant *tenant = make_tenant("shop");
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0);
    uint64_t revision = answer.revision;
    tenant->meta.labels.items = calloc(1, sizeof(struct label));
    ck_assert_ptr_nonnull(tenant->meta.labels.items);
    tenant->meta.labels.count = 1;
    set_name(tenant->meta.labels.items[0].key, "team");
    tenant->meta.labels.items[0].value = strdup("blue");
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    ck_assert_uint_eq(answer.revision, revision + 1);
    tenant = make_tenant("shop");
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    ck_assert_uint_eq(answer.revision, revision + 2);
}
END_TEST

START_TEST(the_first_fault_of_an_object_is_the_refusal)
{
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("Shop!")), BERTH_EINVALID);
    ck_assert_contains(answer.text, "metadata.name");
    ck_assert_int_eq(put(KIND_IMAGE, make(KIND_IMAGE, "", "empty")), BERTH_EINVALID);
    ck_assert_ptr_null(FIND(KIND_IMAGE, "", "empty"));
}
END_TEST

START_TEST(kinds_with_commands_of_their_own_are_not_put)
{
    static const enum kind kinds[] = {KIND_VM, KIND_HOST, KIND_OPERATION};
    struct command command;
    command_init(&command, COMMAND_PUT);
    command.body.put.kind = kinds[_i];
    command.body.put.document.data = calloc(1, 1);
    command.body.put.document.size = 1;
    ck_assert_int_eq(send_command(&command), BERTH_EINVALID);
    ck_assert_contains(answer.text, kind_info(kinds[_i])->plural);
}
END_TEST

START_TEST(a_document_that_cannot_be_read_is_refused)
{
    struct command command;
    command_init(&command, COMMAND_PUT);
    command.body.put.kind = KIND_TENANT;
    command.body.put.document.data = malloc(3);
    ck_assert_ptr_nonnull(command.body.put.document.data);
    memset(command.body.put.document.data, 0xff, 3);
    command.body.put.document.size = 3;
    ck_assert_int_eq(send_command(&command), BERTH_EINVALID);
    ck_assert_contains(answer.text, "tenant");
}
END_TEST

START_TEST(what_an_object_refers_to_must_exist)
{
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template("shop", "web", NULL)),
                     BERTH_ENOTFOUND);
    ck_assert_str_eq(answer.text, "tenant shop does not exist: apply a Tenant first");
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template(DEFAULT_TENANT, "t", "back")),
                     BERTH_ENOTFOUND);
    ck_assert_contains(answer.text, "network back");
    struct template *template = make_template(DEFAULT_TENANT, "t", NULL);
    set_name(template->spec.image, "windows");
    ck_assert_int_eq(put(KIND_TEMPLATE, template), BERTH_ENOTFOUND);
    ck_assert_contains(answer.text, "image windows");
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "nothing", 1)),
                     BERTH_ENOTFOUND);
    ck_assert_contains(answer.text, "template nothing");
    struct token *token = make(KIND_TOKEN, "", "ci");
    token->spec.hash.bytes[0] = 1;
    set_name(token->spec.tenant, "shop");
    ck_assert_int_eq(put(KIND_TOKEN, token), BERTH_ENOTFOUND);
}
END_TEST

START_TEST(a_tenants_own_image_comes_before_the_clusters)
{
    ck_assert_int_eq(put(KIND_IMAGE, make_image(DEFAULT_TENANT, "linux")), 0);
    uint64_t own = answer.uid;
    ck_assert_uint_eq(state_image_for(state, DEFAULT_TENANT, "linux")->meta.uid, own);
    ck_assert_uint_ne(state_image_for(state, "shop", "linux")->meta.uid, own);
    /* plain and web use it now, and the cluster's has no user left. */
    ck_assert_int_eq(delete_object(KIND_IMAGE, DEFAULT_TENANT, "linux"), BERTH_EINUSE);
    ck_assert_int_eq(delete_object(KIND_IMAGE, "", "linux"), 0);
}
END_TEST

/* A template with a disk of that size from image `disk`, whose disk is 2 GiB. */
static int put_with_disk(enum disk_source from, uint64_t size_bytes)
{
    struct template *template = make_template(DEFAULT_TENANT, "db", NULL);
    struct record_list list = {0};
    struct disk_spec *disk = record_list_add(&disk_spec_record, &list);
    ck_assert_ptr_nonnull(disk);
    set_name(template->spec.image, "disk");
    set_name(disk->name, "root");
    disk->from = from;
    disk->size_bytes = size_bytes;
    template->spec.disks.items = list.items;
    template->spec.disks.count = list.count;
    return put(KIND_TEMPLATE, template);
}

START_TEST(a_disk_smaller_than_its_image_is_refused_when_the_image_tells_its_size)
{
    struct image *image = make_image("", "disk");
    image->spec.artifacts.items[0].role = ARTIFACT_DISK;
    ck_assert_int_eq(put(KIND_IMAGE, image), 0);
    ck_assert_int_eq(put_with_disk(DISK_FROM_IMAGE, MIB), 0); /* it has not told yet */

    image = make_image("", "disk");
    image->spec.artifacts.items[0].role = ARTIFACT_DISK;
    image->spec.artifacts.items[0].size_bytes = 2 * GIB;
    ck_assert_int_eq(put(KIND_IMAGE, image), 0);

    ck_assert_int_eq(put_with_disk(DISK_FROM_IMAGE, 2 * GIB - MIB), BERTH_EINVALID);
    ck_assert_contains(answer.text, "spec.disks[0].size: ");
    ck_assert_contains(answer.text, "image disk, which is 2GiB");
    ck_assert_int_eq(put_with_disk(DISK_FROM_IMAGE, 2 * GIB), 0);
    ck_assert_int_eq(put_with_disk(DISK_EMPTY, MIB), 0); /* of its own */
}
END_TEST

START_TEST(a_template_counts_the_changes_of_its_spec)
{
    const struct template *template = FIND(KIND_TEMPLATE, DEFAULT_TENANT, "plain");
    ck_assert_uint_eq(template->status.version, 1);
    struct template *changed = make_template(DEFAULT_TENANT, "plain", NULL);
    changed->spec.cpu.count = 2;
    ck_assert_int_eq(put(KIND_TEMPLATE, changed), 0);
    template = FIND(KIND_TEMPLATE, DEFAULT_TENANT, "plain");
    ck_assert_uint_eq(template->status.version, 2);
    uint64_t vm = admit_plain("a");
    ck_assert_uint_eq(state_vm(state, vm)->status.template_version, 2);
    ck_assert_uint_eq(state_vm(state, vm)->spec.machine.cpu.count, 2);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template(DEFAULT_TENANT, "plain", NULL)), 0);
    ck_assert_uint_eq(state_vm(state, vm)->spec.machine.cpu.count, 2); /* as it was */
}
END_TEST

/* ---- networks ---- */

START_TEST(networks_do_not_overlap)
{
    static const uint64_t clashes[] = {
        CIDR(0x0a000000, 24), CIDR(0x0a000000, 8),  CIDR(0x0a000080, 25),
        CIDR(0x0a000000, 29), CIDR(0x0a000000, 16),
    };
    ck_assert_int_eq(put(KIND_NETWORK, make_network(DEFAULT_TENANT, "b", clashes[_i])),
                     BERTH_EEXISTS);
    ck_assert_contains(answer.text, "10.0.0.0/24 of network front");
}
END_TEST

/* Which networks another tenant has is its own affair. */
START_TEST(an_overlap_names_only_what_the_asker_may_see)
{
    static const struct {
        const char *subject;
        const char *tenant;
        bool named;
    } rows[] = {{"root", "shop", true},
                {"token:ops", "shop", true},
                {"token:ana", "shop", false},
                {"token:gone", "shop", false},
                {"token:ana", DEFAULT_TENANT, true}}; /* its own network */
    struct token *ops = make(KIND_TOKEN, "", "ops");
    struct token *ana = make(KIND_TOKEN, "", "ana");
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0);
    ops->spec.role = ana->spec.role = ROLE_OPERATOR;
    ops->spec.hash.bytes[0] = 1;
    ana->spec.hash.bytes[0] = 2;
    set_name(ana->spec.tenant, "shop");
    ck_assert_int_eq(put(KIND_TOKEN, ops), 0);
    ck_assert_int_eq(put(KIND_TOKEN, ana), 0);
    fixture_subject = rows[_i].subject;

    ck_assert_int_eq(
        put(KIND_NETWORK, make_network(rows[_i].tenant, "b", CIDR(0x0a000080, 25))),
        BERTH_EEXISTS);

    ck_assert_contains(answer.text, "10.0.0.128/25 overlaps");
    ck_assert_int_eq(strstr(answer.text, "front") != NULL, rows[_i].named);
    ck_assert_int_eq(strstr(answer.text, "10.0.0.0/24") != NULL, rows[_i].named);
    ck_assert_int_eq(strstr(answer.text, "another tenant") == NULL, rows[_i].named);
}
END_TEST

/* Who may have how much is judged before the log: a refusal in here would change what an
 * entry did that is in a log already. */
START_TEST(a_large_network_in_the_log_is_made)
{
    struct token *ana = make(KIND_TOKEN, "", "ana");
    ana->spec.role = ROLE_ADMIN;
    ana->spec.hash.bytes[0] = 2;
    set_name(ana->spec.tenant, DEFAULT_TENANT);
    ck_assert_int_eq(put(KIND_TOKEN, ana), 0);

    fixture_subject = "token:ana";
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network(DEFAULT_TENANT, "b", CIDR(0x0b000000, 8))), 0);
}
END_TEST

START_TEST(each_network_has_a_vni_of_its_own)
{
    uint32_t first = state_network(state, front)->status.vni;
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network(DEFAULT_TENANT, "b", CIDR(0x0a000100, 24))), 0);
    uint32_t second = state_network(state, answer.uid)->status.vni;
    ck_assert_uint_ne(first, second);
    ck_assert_int_eq(delete_object(KIND_NETWORK, DEFAULT_TENANT, "b"), 0);
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network(DEFAULT_TENANT, "b", CIDR(0x0a000100, 24))), 0);
    ck_assert_uint_gt(state_network(state, answer.uid)->status.vni, second);
}
END_TEST

START_TEST(a_network_in_use_keeps_its_addresses)
{
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network(DEFAULT_TENANT, "front", CIDR(0x0a000100, 24))),
        BERTH_EINUSE);
    struct network *network = make_network(DEFAULT_TENANT, "front", FIXTURE_CIDR);
    network->spec.ipv4.gateway = ADDRESS(254);
    ck_assert_int_eq(put(KIND_NETWORK, network), BERTH_EINUSE);
    network = make_network(DEFAULT_TENANT, "front", FIXTURE_CIDR);
    network->spec.egress = EGRESS_NONE;
    ck_assert_int_eq(put(KIND_NETWORK, network), 0);
    ck_assert(state_address_used(state, state_network(state, front), ADDRESS(2)));
    ck_assert_uint_eq(state_network(state, front)->status.hosts.count, 1);

    ck_assert_int_eq(network_host(front, h1, 0), 0);
    ck_assert_int_eq(
        put(KIND_NETWORK, make_network(DEFAULT_TENANT, "front", CIDR(0x0a000100, 24))),
        0);
}
END_TEST

/* ---- delete ---- */

START_TEST(what_is_used_is_not_deleted)
{
    ck_assert_int_eq(delete_object(KIND_IMAGE, "", "linux"), BERTH_EINUSE);
    ck_assert_str_eq(answer.text,
                     "image linux is used by template plain of tenant default");
    ck_assert_int_eq(delete_object(KIND_NETWORK, DEFAULT_TENANT, "front"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "template web");
    admit_plain("a");
    ck_assert_int_eq(delete_object(KIND_TEMPLATE, DEFAULT_TENANT, "plain"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "vm a");
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "a"), 0);
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 1)), 0);
    ck_assert_int_eq(delete_object(KIND_TEMPLATE, DEFAULT_TENANT, "plain"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "group g");
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "g"), 0);
    ck_assert_int_eq(delete_object(KIND_TEMPLATE, DEFAULT_TENANT, "plain"), 0);
    ck_assert_int_eq(delete_object(KIND_TEMPLATE, DEFAULT_TENANT, "plain"),
                     BERTH_ENOTFOUND);
}
END_TEST

START_TEST(a_vm_uses_what_it_was_made_of)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, "w", "web", ""), 0);
    struct template *template = make_template(DEFAULT_TENANT, "web", NULL);
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(delete_object(KIND_NETWORK, DEFAULT_TENANT, "front"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "vm w");
}
END_TEST

START_TEST(a_tenant_goes_when_it_is_empty)
{
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template("shop", "t", NULL)), 0);
    ck_assert_int_eq(delete_object(KIND_TENANT, "", "shop"), BERTH_EINUSE);
    ck_assert_str_eq(answer.text, "tenant shop is used by template t of tenant shop");
    ck_assert_int_eq(delete_object(KIND_TEMPLATE, "shop", "t"), 0);
    ck_assert_int_eq(delete_object(KIND_TENANT, "", "shop"), 0);
    ck_assert_int_eq(delete_object(KIND_TENANT, "", DEFAULT_TENANT), BERTH_EINUSE);
}
END_TEST

START_TEST(uids_are_never_used_again)
{
    uint64_t first = admit_plain("a");
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "a"), 0);
    ck_assert_uint_gt(admit_plain("a"), first);
}
END_TEST

/* ---- tokens and disks ---- */

START_TEST(tokens_are_found_by_their_hash_and_differ_in_it)
{
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("one", 5)), 0);
    struct digest hash;
    memset(hash.bytes, 5, DIGEST_SIZE);
    ck_assert_str_eq(state_token_by_hash(state, &hash)->meta.name, "one");
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("two", 5)), BERTH_EEXISTS);
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("one", 6)), 0);
    ck_assert_ptr_null(state_token_by_hash(state, &hash));
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("two", 5)), 0);
    ck_assert_int_eq(delete_object(KIND_TOKEN, "", "two"), 0);
    ck_assert_ptr_null(state_token_by_hash(state, &hash));
    ck_assert_int_eq(put(KIND_TOKEN, make_join_token("zero", 0)), BERTH_EINVALID);
}
END_TEST

START_TEST(a_disk_does_not_shrink)
{
    struct disk *disk = make(KIND_DISK, DEFAULT_TENANT, "data");
    disk->spec.size_bytes = 2 * GIB;
    ck_assert_int_eq(put(KIND_DISK, disk), 0);
    disk = make(KIND_DISK, DEFAULT_TENANT, "data");
    disk->spec.size_bytes = 1 * GIB;
    ck_assert_int_eq(put(KIND_DISK, disk), BERTH_EINVALID);
}
END_TEST

/* ---- VMs ---- */

START_TEST(an_admitted_vm_is_pending_with_its_machine_and_macs)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, "w", "web", ""), 0);
    const struct vm *vm = vm_named("w");
    ck_assert_uint_eq(vm->meta.uid, answer.uid);
    ck_assert_uint_eq(vm->status.phase, PHASE_PENDING);
    ck_assert_uint_eq(vm->status.epoch, 0);
    ck_assert_uint_eq(vm->status.pending_wall_ms, fixture_wall_ms);
    ck_assert_str_eq(vm->spec.machine.image, "linux");
    ck_assert_str_eq(vm->spec.template_ref.name, "web");
    ck_assert_uint_eq(vm->status.nics.count, 1);
    ck_assert_str_eq(vm->status.nics.items[0].network, "front");
    ck_assert_uint_eq(vm->status.nics.items[0].mac, vm_mac(vm->meta.uid, 0));
    ck_assert_uint_eq(vm->status.nics.items[0].ipv4, 0);
}
END_TEST

START_TEST(a_vm_may_be_admitted_switched_off)
{
    struct command command;
    command_init(&command, COMMAND_ADMIT_VM);
    set_name(command.body.admit_vm.tenant, DEFAULT_TENANT);
    set_name(command.body.admit_vm.name, "a");
    set_name(command.body.admit_vm.template_name, "plain");
    command.body.admit_vm.power = POWER_OFF;
    ck_assert_int_eq(send_command(&command), 0);
    ck_assert_uint_eq(vm_named("a")->status.phase, PHASE_STOPPED);
    ck_assert_int_eq(set_power(answer.uid, POWER_ON), 0);
    ck_assert_uint_eq(vm_named("a")->status.phase, PHASE_PENDING);
}
END_TEST

START_TEST(a_name_is_taken_once_per_tenant)
{
    admit_plain("a");
    ck_assert_int_eq(admit(DEFAULT_TENANT, "a", "plain", ""), BERTH_EEXISTS);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "No Name", "plain", ""), BERTH_EINVALID);
    ck_assert_int_eq(put(KIND_TENANT, make_tenant("shop")), 0);
    ck_assert_int_eq(put(KIND_TEMPLATE, make_template("shop", "plain", NULL)), 0);
    ck_assert_int_eq(admit("shop", "a", "plain", ""), 0);
}
END_TEST

/* ---- groups ---- */

START_TEST(a_group_takes_as_many_vms_as_it_wants)
{
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 2)), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-1", "plain", "g"), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-2", "plain", "g"), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-3", "plain", "g"), BERTH_ECONFLICT);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-3", "web", "g"), BERTH_EINVALID);
    ck_assert_uint_eq(group_now("g")->status.next_index, 3);
    size_t cursor = 0;
    ck_assert_ptr_nonnull(state_vm_of_group(state, group_now("g"), &cursor));
    ck_assert_ptr_nonnull(state_vm_of_group(state, group_now("g"), &cursor));
    ck_assert_ptr_null(state_vm_of_group(state, group_now("g"), &cursor));
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "g-1"), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-3", "plain", "g"), 0);
}
END_TEST

START_TEST(a_deleted_group_goes_with_its_last_vm)
{
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 2)), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-1", "plain", "g"), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-2", "plain", "g"), 0);
    ck_assert_int_eq(delete_object(KIND_GROUP, DEFAULT_TENANT, "g"), 0);
    ck_assert(group_now("g")->status.deleting);
    ck_assert_uint_eq(group_now("g")->status.desired, 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-3", "plain", "g"), BERTH_EPHASE);
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 2)),
                     BERTH_EPHASE);
    ck_assert_int_eq(scale("g", 2, true), BERTH_EPHASE);
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "g-1"), 0);
    ck_assert_ptr_nonnull(group_now("g"));
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "g-2"), 0);
    ck_assert_ptr_null(FIND(KIND_GROUP, DEFAULT_TENANT, "g"));
}
END_TEST

static struct group *make_scaled(uint32_t min, uint32_t max)
{
    struct group *group = make_group(DEFAULT_TENANT, "g", "plain", 1);
    struct record_list list = {0};
    struct scale_target *target = record_list_add(&scale_target_record, &list);
    ck_assert_ptr_nonnull(target);
    target->target_permille = 600;
    group->spec.autoscale.targets.items = list.items;
    group->spec.autoscale.targets.count = list.count;
    group->spec.autoscale.min = min;
    group->spec.autoscale.max = max;
    return group;
}

START_TEST(a_group_scales_by_load_between_its_bounds)
{
    ck_assert_int_eq(put(KIND_GROUP, make_scaled(2, 10)), 0);
    ck_assert_uint_eq(group_now("g")->status.desired, 2);
    ck_assert_int_eq(scale("g", 7, false), 0);
    ck_assert_uint_eq(group_now("g")->status.desired, 7);
    ck_assert_str_eq(group_now("g")->status.scale_reason, "load");
    ck_assert_uint_eq(group_now("g")->status.scaled_wall_ms, fixture_wall_ms);
    ck_assert_int_eq(scale("g", 11, false), BERTH_EINVALID);
    ck_assert_int_eq(scale("g", 1, false), BERTH_EINVALID);
    ck_assert_int_eq(scale("g", 5, true), BERTH_EINVALID);
    ck_assert_int_eq(put(KIND_GROUP, make_scaled(2, 5)), 0); /* 7 is too many now */
    ck_assert_uint_eq(group_now("g")->status.desired, 5);
    ck_assert_int_eq(put(KIND_GROUP, make_scaled(1, 8)), 0);
    ck_assert_uint_eq(group_now("g")->status.desired, 5);
}
END_TEST

START_TEST(a_user_scales_spec_and_status)
{
    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 2)), 0);
    ck_assert_int_eq(scale("g", 4, true), 0);
    ck_assert_uint_eq(group_now("g")->spec.replicas, 4);
    ck_assert_uint_eq(group_now("g")->status.desired, 4);
    uint64_t revision = state_revision(state);
    ck_assert_int_eq(scale("g", 4, true), 0);
    ck_assert_uint_eq(state_revision(state), revision);
}
END_TEST

/* ---- operations ---- */

START_TEST(an_operation_is_made_by_its_first_step_and_ends_once)
{
    ck_assert_int_eq(operation("drain-h1", OPERATION_RUNNING, "1 of 3"), 0);
    ck_assert_int_eq(delete_object(KIND_OPERATION, "", "drain-h1"), BERTH_EINUSE);
    ck_assert_int_eq(operation("drain-h1", OPERATION_DONE, "empty"), 0);
    const struct operation *now = FIND(KIND_OPERATION, "", "drain-h1");
    ck_assert_str_eq(now->spec.title, "drain h1");
    ck_assert_str_eq(now->status.step, "empty");
    ck_assert_uint_eq(now->status.permille, 500);
    ck_assert_int_eq(operation("drain-h1", OPERATION_RUNNING, "again"), BERTH_EPHASE);
    ck_assert_int_eq(operation("Bad Name", OPERATION_RUNNING, "x"), BERTH_EINVALID);
    ck_assert_int_eq(delete_object(KIND_OPERATION, "", "drain-h1"), 0);
}
END_TEST

START_TEST(old_finished_operations_make_room)
{
    char name[NAME_SIZE];
    ck_assert_int_eq(operation("first", OPERATION_RUNNING, "x"), 0);
    for (int i = 0; i < 1100; i++) {
        snprintf(name, sizeof(name), "op-%d", i);
        ck_assert_int_eq(operation(name, OPERATION_DONE, "x"), 0);
    }
    ck_assert_uint_eq(state_count(state, KIND_OPERATION), 1024);
    ck_assert_ptr_nonnull(FIND(KIND_OPERATION, "", "first")); /* it still runs */
    ck_assert_ptr_null(FIND(KIND_OPERATION, "", "op-0"));
    ck_assert_ptr_nonnull(FIND(KIND_OPERATION, "", "op-1099"));
}
END_TEST

int main(void)
{
    TCase *tests = NULL;
    Suite *suite = fixture_suite("apply_objects", &tests);
    tcase_add_test(tests, a_new_object_has_uid_stamps_and_place);
    tcase_add_test(tests, an_update_keeps_identity_and_status);
    tcase_add_test(tests, what_users_send_as_status_counts_for_nothing);
    tcase_add_test(tests, labels_alone_are_a_change);
    tcase_add_test(tests, the_first_fault_of_an_object_is_the_refusal);
    tcase_add_loop_test(tests, kinds_with_commands_of_their_own_are_not_put, 0, 3);
    tcase_add_test(tests, a_document_that_cannot_be_read_is_refused);
    tcase_add_test(tests, what_an_object_refers_to_must_exist);
    tcase_add_test(tests, a_tenants_own_image_comes_before_the_clusters);
    tcase_add_test(
        tests, a_disk_smaller_than_its_image_is_refused_when_the_image_tells_its_size);
    tcase_add_test(tests, a_template_counts_the_changes_of_its_spec);
    tcase_add_loop_test(tests, networks_do_not_overlap, 0, 5);
    tcase_add_loop_test(tests, an_overlap_names_only_what_the_asker_may_see, 0, 5);
    tcase_add_test(tests, a_large_network_in_the_log_is_made);
    tcase_add_test(tests, each_network_has_a_vni_of_its_own);
    tcase_add_test(tests, a_network_in_use_keeps_its_addresses);
    tcase_add_test(tests, what_is_used_is_not_deleted);
    tcase_add_test(tests, a_vm_uses_what_it_was_made_of);
    tcase_add_test(tests, a_tenant_goes_when_it_is_empty);
    tcase_add_test(tests, uids_are_never_used_again);
    tcase_add_test(tests, tokens_are_found_by_their_hash_and_differ_in_it);
    tcase_add_test(tests, a_disk_does_not_shrink);
    tcase_add_test(tests, an_admitted_vm_is_pending_with_its_machine_and_macs);
    tcase_add_test(tests, a_vm_may_be_admitted_switched_off);
    tcase_add_test(tests, a_name_is_taken_once_per_tenant);
    tcase_add_test(tests, a_group_takes_as_many_vms_as_it_wants);
    tcase_add_test(tests, a_deleted_group_goes_with_its_last_vm);
    tcase_add_test(tests, a_group_scales_by_load_between_its_bounds);
    tcase_add_test(tests, a_user_scales_spec_and_status);
    tcase_add_test(tests, an_operation_is_made_by_its_first_step_and_ends_once);
    tcase_add_test(tests, old_finished_operations_make_room);
    return test_main_run(suite);
}
