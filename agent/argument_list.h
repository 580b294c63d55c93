/* Builds the argument vector of a program, one printed argument after another.
 *
 * Shapes: `struct argument_list` remembers a failure (no memory, too many), so that only
 * the end is checked: argument_list_take gives the vector, NULL-terminated and all in
 * fresh memory, or NULL. Threads: none. Ownership: the vector is the caller's, for
 * argument_list_free. Limits: ARGUMENT_LIST_MAX.
 */
#pragma once

#include <stdbool.h>

#define ARGUMENT_LIST_MAX 160u /* QEMU with every disk and NIC a VM can have */

struct argument_list { /* fields private */
    char **items;
    unsigned count;
    bool failed;
};

void argument_list_init(struct argument_list *list);
void argument_list_add(struct argument_list *list, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void argument_list_add_pair(struct argument_list *list,
                            const char *option,
                            const char *value);
/* Ends the list, either way. */
char **argument_list_take(struct argument_list *list);
/* Accepts NULL; returns NULL. */
char **argument_list_free(char **arguments);
