#include "vmm/copy_gate.h"

#include "base/require.h"

void copy_gate_init(struct copy_gate *gate)
{
    pthread_mutex_init(&gate->lock, NULL); /* these cannot fail without attributes */
    pthread_cond_init(&gate->moved, NULL);
    gate->changes = 0;
    gate->copies = 0;
    gate->copying = false;
}

void copy_gate_fini(struct copy_gate *gate)
{
    REQUIRE(gate->changes == 0 && gate->copies == 0);
    pthread_cond_destroy(&gate->moved);
    pthread_mutex_destroy(&gate->lock);
}

void copy_gate_enter(struct copy_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->copies > 0) {
        pthread_cond_wait(&gate->moved, &gate->lock);
    }
    gate->changes++;
    pthread_mutex_unlock(&gate->lock);
}

bool copy_gate_try(struct copy_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    const bool may = gate->copies == 0;
    gate->changes += may ? 1 : 0;
    pthread_mutex_unlock(&gate->lock);
    return may;
}

void copy_gate_leave(struct copy_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    REQUIRE(gate->changes > 0);
    gate->changes--;
    if (gate->changes == 0) {
        pthread_cond_broadcast(&gate->moved);
    }
    pthread_mutex_unlock(&gate->lock);
}

void copy_gate_begin_copy(struct copy_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->copies++;
    while (gate->changes > 0 || gate->copying) {
        pthread_cond_wait(&gate->moved, &gate->lock);
    }
    gate->copying = true;
    pthread_mutex_unlock(&gate->lock);
}

void copy_gate_end_copy(struct copy_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    REQUIRE(gate->copying && gate->copies > 0);
    gate->copying = false;
    gate->copies--;
    pthread_cond_broadcast(&gate->moved);
    pthread_mutex_unlock(&gate->lock);
}
