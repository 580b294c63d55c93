/* Goal: the plan says the right steps in the right order, and nothing when nothing
 * differs. Method: a model kernel carries out the steps on the observed value; golden
 * texts for the order. */
#include "base/cleanup.h"
#include "net/network_plan.h"
#include "network_fixture.h"
#include "support/test_main.h"

#include <check.h>

#include <stdlib.h>

#define ITEMS_MAX 256

/* A kernel in miniature. */
struct model {
    struct network_observed observed;
    struct network_link links[ITEMS_MAX];
    struct network_entry entries[ITEMS_MAX];
    struct network_service services[ITEMS_MAX];
    bool rules_seen; /* rules were there before the first tap came up */
};

static void model_init(struct model *model)
{
    memset(model, 0, sizeof(*model));
    model->observed.links = model->links;
    model->observed.entries = model->entries;
    model->observed.services = model->services;
}

static struct network_link *model_link(struct model *model, const char *name)
{
    for (size_t i = 0; i < model->observed.link_count; i++) {
        if (strcmp(model->links[i].name, name) == 0) {
            return &model->links[i];
        }
    }
    return NULL;
}

static void model_entry_unset(struct model *model, const struct network_entry *entry)
{
    struct network_observed *observed = &model->observed;

    for (size_t i = 0; i < observed->entry_count; i++) {
        if (model->entries[i].kind == entry->kind &&
            model->entries[i].vni == entry->vni && model->entries[i].key == entry->key) {
            model->entries[i] = model->entries[--observed->entry_count];
            return;
        }
    }
}

/* As in the kernel, a link that goes takes along what hangs on it. */
static void model_link_remove(struct model *model, const char *name)
{
    struct network_link *link = model_link(model, name);
    struct network_observed *observed = &model->observed;

    ck_assert_ptr_nonnull(link);
    for (size_t i = observed->entry_count; i-- > 0;) {
        struct network_entry *entry = &model->entries[i];
        bool on_link = strcmp(entry->port, name) == 0 ||
                       (link->kind == NETWORK_LINK_VXLAN && entry->vni == link->vni &&
                        entry->kind == NETWORK_ENTRY_VXLAN_FDB) ||
                       (link->kind == NETWORK_LINK_BRIDGE && entry->vni == link->vni &&
                        entry->kind != NETWORK_ENTRY_VXLAN_FDB);
        if (on_link) {
            *entry = model->entries[--observed->entry_count];
        }
    }
    *link = model->links[--observed->link_count];
}

static void model_service(struct model *model, const struct network_service *service)
{
    struct network_observed *observed = &model->observed;
    size_t i = 0;

    while (i < observed->service_count && model->services[i].vni != service->vni) {
        i++;
    }
    observed->service_count += i == observed->service_count;
    model->services[i] = *service;
}

static void model_step(struct model *model,
                       const struct network_step *step,
                       const struct network_rendered *rendered,
                       size_t want_count)
{
    struct network_observed *observed = &model->observed;
    struct network_link *link = model_link(model, step->link.name);

    switch (step->kind) {
    case NETWORK_STEP_LINK_CREATE:
        ck_assert_ptr_null(link);
        link = &model->links[observed->link_count++];
        *link = step->link;
        link->up = false;
        link->master[0] = '\0';
        link->port_flags = 0;
        break;
    case NETWORK_STEP_LINK_REMOVE:
        model_link_remove(model, step->link.name);
        break;
    case NETWORK_STEP_LINK_ATTACH:
        ck_assert_ptr_nonnull(model_link(model, step->link.master));
        ck_assert_msg(!link->up, "%s is attached while it is up", link->name);
        memcpy(link->master, step->link.master, sizeof(link->master));
        break;
    case NETWORK_STEP_PORT_FLAGS:
        ck_assert_int_ne(link->master[0], '\0');
        link->port_flags = step->link.port_flags;
        break;
    case NETWORK_STEP_LINK_MTU:
        link->mtu = step->link.mtu;
        break;
    case NETWORK_STEP_LINK_MAC:
        link->mac = step->link.mac;
        break;
    case NETWORK_STEP_LINK_DOWN:
        link->up = false;
        break;
    case NETWORK_STEP_LINK_UP:
        ck_assert_msg(observed->rules_hash == rendered->rules_hash,
                      "%s comes up before the rules", link->name);
        link->up = true;
        break;
    case NETWORK_STEP_ENTRY_SET:
        model_entry_unset(model, &step->entry);
        ck_assert(step->entry.kind != NETWORK_ENTRY_ROUTE ||
                  model_link(model, "bb7") == NULL || model_link(model, "bb7")->up);
        model->entries[observed->entry_count++] = step->entry;
        break;
    case NETWORK_STEP_ENTRY_UNSET:
        model_entry_unset(model, &step->entry);
        break;
    case NETWORK_STEP_RULES_INSTALL:
        observed->rules_hash = rendered->rules_hash;
        break;
    case NETWORK_STEP_RULES_REMOVE:
        observed->rules_hash = NETWORK_RULES_NONE;
        break;
    case NETWORK_STEP_FORWARDING_ON:
        observed->forwarding = true;
        observed->forwarding_ours = true;
        break;
    case NETWORK_STEP_FORWARDING_BACK:
        observed->forwarding = false;
        observed->forwarding_ours = false;
        break;
    case NETWORK_STEP_SERVICE_STOP:
        for (size_t i = 0; i < observed->service_count; i++) {
            if (model->services[i].vni == step->vni) {
                model->services[i] = model->services[--observed->service_count];
            }
        }
        break;
    case NETWORK_STEP_SERVICE_START:
    case NETWORK_STEP_SERVICE_RELOAD:
        for (size_t i = 0; i < want_count; i++) {
            if (rendered->services[i].vni == step->vni) {
                model_service(model, &rendered->services[i]);
            }
        }
        break;
    }
}

/* Plans, carries out, and returns the steps as lines. */
static char *scene_play(struct scene *scene, struct model *model)
{
    struct network_plan plan = {0};
    struct err err = {0};
    char *text = calloc(ITEMS_MAX, NETWORK_TEXT_SIZE);

    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < scene->count; i++) {
        scene->services[i].vni = scene->wants[i].vni;
        scene->services[i].running = scene->wants[i].port_count > 0;
    }
    ck_assert_msg(network_wants_check(&scene->host, scene->wants, scene->count, &err) ==
                      0,
                  "%s", err.text);
    ck_assert_int_eq(network_plan_make(&scene->host, scene->wants, scene->count,
                                       &scene->rendered, &model->observed, &plan, &err),
                     0);
    for (size_t i = 0; i < plan.count; i++) {
        char line[NETWORK_TEXT_SIZE];
        network_step_format(&plan.steps[i], line);
        strcat(text, line);
        strcat(text, "\n");
        model_step(model, &plan.steps[i], &scene->rendered, scene->count);
    }
    network_plan_fini(&plan);
    return text;
}

static void scene_expect(struct scene *scene, struct model *model, const char *expected)
{
    CLEANUP_FREE char *text = scene_play(scene, model);
    ck_assert_str_eq(text, expected);
    CLEANUP_FREE char *again = scene_play(scene, model);
    ck_assert_msg(again[0] == '\0', "a second plan has steps:\n%s", again);
}

START_TEST(a_first_network_is_built_from_nothing_in_order)
{
    struct scene scene;
    struct model model;

    scene_init(&scene);
    model_init(&model);
    scene_add(&scene, 7)->nat = true;
    scene_add_port(&scene, 0, 10);
    scene_add_remote(&scene, 0, fixture_remote(7, 20, 2));
    scene_expect(&scene, &model,
                 "create bridge bb7 mtu 1450\n"
                 "create vxlan bx7 mtu 1450\n"
                 "attach vxlan bx7 to bb7\n"
                 "set port flags of vxlan bx7 to 16\n"
                 "create tap bt2i mtu 1450\n"
                 "attach tap bt2i to bb7\n"
                 "set port flags of tap bt2i to 8\n"
                 "install rules\n"
                 "turn IPv4 forwarding on\n"
                 "set bridge bb7 up\n"
                 "set vxlan bx7 up\n"
                 "set address 10.7.0.1/24 on bb7\n"
                 "set address 10.7.0.2/24 on bb7\n"
                 "set route 10.7.0.0/24 on bb7 from 10.7.0.2\n"
                 "set neighbour 10.7.0.20 is 52:54:00:00:00:14 on bb7\n"
                 "set 52:54:00:00:00:0a behind bt2i of bb7\n"
                 "set 52:54:00:00:00:14 behind bx7 of bb7\n"
                 "set 52:54:00:00:00:14 through bx7 at 192.0.2.2\n"
                 "set tap bt2i up\n"
                 "start dnsmasq of network 7\n");
}
END_TEST

START_TEST(a_second_vm_touches_nothing_of_the_first)
{
    struct scene scene;
    struct model model;

    scene_init(&scene);
    model_init(&model);
    scene_add(&scene, 7);
    scene_add_port(&scene, 0, 10);
    free(scene_play(&scene, &model));
    scene_add_port(&scene, 0, 11);
    scene.rendered.rules_hash = 101;
    scene.services[0].hosts_hash = 5;
    scene_expect(&scene, &model,
                 "create tap bt2r mtu 1450\n"
                 "attach tap bt2r to bb7\n"
                 "set port flags of tap bt2r to 8\n"
                 "install rules\n"
                 "set 52:54:00:00:00:0b behind bt2r of bb7\n"
                 "set tap bt2r up\n"
                 "reload dnsmasq of network 7\n");
}
END_TEST

START_TEST(a_vm_that_moves_to_another_host_is_followed_by_replacing_entries)
{
    struct scene scene;
    struct model model;

    scene_init(&scene);
    model_init(&model);
    scene_add(&scene, 7);
    scene_add_port(&scene, 0, 10);
    scene_add_port(&scene, 0, 11);
    free(scene_play(&scene, &model));
    scene.wants[0].port_count = 1;
    scene_add_remote(&scene, 0, fixture_remote(7, 11, 2));
    scene.rendered.rules_hash = 101;
    scene_expect(&scene, &model,
                 "remove tap bt2r\n"
                 "install rules\n"
                 "set neighbour 10.7.0.11 is 52:54:00:00:00:0b on bb7\n"
                 "set 52:54:00:00:00:0b behind bx7 of bb7\n"
                 "set 52:54:00:00:00:0b through bx7 at 192.0.2.2\n");
}
END_TEST

START_TEST(an_incoming_migration_gets_its_tap_first_and_its_traffic_with_the_switch)
{
    struct scene scene;
    struct model model;

    scene_init(&scene);
    model_init(&model);
    scene_add(&scene, 7);
    scene_add_port(&scene, 0, 10);
    scene_add_remote(&scene, 0, fixture_remote(7, 11, 2));
    free(scene_play(&scene, &model));
    scene_add_port(&scene, 0, 11);
    scene_expect(&scene, &model,
                 "create tap bt2r mtu 1450\n"
                 "attach tap bt2r to bb7\n"
                 "set port flags of tap bt2r to 8\n"
                 "set tap bt2r up\n");
    scene.wants[0].remote_count = 0;
    scene_expect(&scene, &model,
                 "unset neighbour 10.7.0.11 is 52:54:00:00:00:0b on bb7\n"
                 "unset 52:54:00:00:00:0b through bx7 at 192.0.2.2\n"
                 "set 52:54:00:00:00:0b behind bt2r of bb7\n");
}
END_TEST

START_TEST(what_nobody_wants_goes_altogether)
{
    struct scene scene;
    struct model model;

    scene_init(&scene);
    model_init(&model);
    scene_add(&scene, 7)->nat = true;
    scene_add_port(&scene, 0, 10);
    scene_add_remote(&scene, 0, fixture_router(7, 2));
    free(scene_play(&scene, &model));
    scene.count = 0;
    scene_expect(&scene, &model,
                 "stop dnsmasq of network 7\n"
                 "remove tap bt2i\n"
                 "remove vxlan bx7\n"
                 "remove bridge bb7\n"
                 "remove rules\n"
                 "turn IPv4 forwarding off again\n");
    ck_assert_uint_eq(model.observed.link_count, 0);
    ck_assert_uint_eq(model.observed.entry_count, 0);
}
END_TEST

/* After a crash anywhere in the middle, the next daemon's plan leads to the same end. */
START_TEST(a_plan_that_was_cut_short_is_completed_by_the_next)
{
    size_t steps = 0;

    for (size_t cut = 0; cut <= steps; cut++) {
        struct scene scene;
        struct model model;
        struct network_plan plan = {0};
        scene_init(&scene);
        model_init(&model);
        scene_add(&scene, 7)->nat = true;
        scene_add_port(&scene, 0, 10);
        scene_add_remote(&scene, 0, fixture_remote(7, 20, 2));
        scene.services[0] = (struct network_service){.vni = 7, .running = true};
        ck_assert_int_eq(network_plan_make(&scene.host, scene.wants, scene.count,
                                           &scene.rendered, &model.observed, &plan, NULL),
                         0);
        steps = plan.count;
        for (size_t i = 0; i < cut; i++) {
            model_step(&model, &plan.steps[i], &scene.rendered, scene.count);
        }
        network_plan_fini(&plan);
        free(scene_play(&scene, &model));
        CLEANUP_FREE char *again = scene_play(&scene, &model);
        ck_assert_msg(again[0] == '\0', "cut after %zu steps, still to do:\n%s", cut,
                      again);
        ck_assert_uint_eq(model.observed.link_count, 3);
        ck_assert_uint_eq(model.observed.entry_count, 7);
    }
    ck_assert_uint_ge(steps, 15);
}
END_TEST

START_TEST(what_someone_else_changed_is_put_right)
{
    struct scene scene;
    struct model model;

    scene_init(&scene);
    model_init(&model);
    scene_add(&scene, 7);
    scene_add_port(&scene, 0, 10);
    free(scene_play(&scene, &model));
    model_link(&model, "bt2i")->port_flags |= NETWORK_PORT_LEARNING;
    model_link(&model, "bb7")->mtu = 1500;
    model_link(&model, "bx7")->underlay = 0; /* a foreign set-up */
    model.entries[model.observed.entry_count++] = (struct network_entry){
        .kind = NETWORK_ENTRY_BRIDGE_FDB, .vni = 7, .key = 99, .port = "bt2i"};
    scene_expect(&scene, &model,
                 "unset 00:00:00:00:00:63 behind bt2i of bb7\n"
                 "remove vxlan bx7\n"
                 "set bridge bb7 to mtu 1450\n"
                 "create vxlan bx7 mtu 1450\n"
                 "attach vxlan bx7 to bb7\n"
                 "set port flags of vxlan bx7 to 16\n"
                 "set port flags of tap bt2i to 8\n"
                 "set vxlan bx7 up\n");
}
END_TEST

START_TEST(a_tap_in_the_wrong_network_is_silenced_before_it_moves)
{
    struct scene scene;
    struct model model;

    scene_init(&scene);
    model_init(&model);
    scene_add(&scene, 7);
    scene_add(&scene, 8);
    scene_add_port(&scene, 0, 10);
    free(scene_play(&scene, &model));
    scene.wants[0].port_count = 0;
    scene_add_port(&scene, 1, 10);
    scene.rendered.rules_hash = 101;
    scene_expect(&scene, &model,
                 "stop dnsmasq of network 7\n"
                 "unset 52:54:00:00:00:0a behind bt2i of bb7\n"
                 "set tap bt2i down\n"
                 "attach tap bt2i to bb8\n"
                 "set port flags of tap bt2i to 8\n"
                 "install rules\n"
                 "set 52:54:00:00:00:0a behind bt2i of bb8\n"
                 "set tap bt2i up\n"
                 "start dnsmasq of network 8\n");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("network_plan");
    TCase *c = tcase_create("network_plan");
    tcase_add_test(c, a_first_network_is_built_from_nothing_in_order);
    tcase_add_test(c, a_second_vm_touches_nothing_of_the_first);
    tcase_add_test(c, a_vm_that_moves_to_another_host_is_followed_by_replacing_entries);
    tcase_add_test(
        c, an_incoming_migration_gets_its_tap_first_and_its_traffic_with_the_switch);
    tcase_add_test(c, what_nobody_wants_goes_altogether);
    tcase_add_test(c, a_plan_that_was_cut_short_is_completed_by_the_next);
    tcase_add_test(c, what_someone_else_changed_is_put_right);
    tcase_add_test(c, a_tap_in_the_wrong_network_is_silenced_before_it_moves);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main_run(suite());
}
