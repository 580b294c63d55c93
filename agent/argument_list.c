#include "agent/argument_list.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void argument_list_init(struct argument_list *list)
{
    *list = (struct argument_list){
        .items = calloc(ARGUMENT_LIST_MAX + 1, sizeof(list->items[0]))};
    list->failed = list->items == NULL;
}

void argument_list_add(struct argument_list *list, const char *format, ...)
{
    va_list values;
    if (list->failed || list->count == ARGUMENT_LIST_MAX) {
        list->failed = true;
        return;
    }
    va_start(values, format);
    if (vasprintf(&list->items[list->count], format, values) < 0) {
        list->items[list->count] = NULL;
        list->failed = true;
    } else {
        list->count++;
    }
    va_end(values);
}

void argument_list_add_pair(struct argument_list *list,
                            const char *option,
                            const char *value)
{
    argument_list_add(list, "%s", option);
    argument_list_add(list, "%s", value);
}

char **argument_list_take(struct argument_list *list)
{
    char **items = list->failed ? argument_list_free(list->items) : list->items;
    *list = (struct argument_list){.failed = true};
    return items;
}

char **argument_list_free(char **arguments)
{
    for (char **item = arguments; item != NULL && *item != NULL; item++) {
        free(*item);
    }
    free(arguments);
    return NULL;
}
