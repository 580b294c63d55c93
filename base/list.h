/* Intrusive doubly linked list.
 *
 * Shapes: `struct list` is both the head and the link inside an element. An initialised
 * head points to itself. Ownership: the list owns nothing. Threads: none of its own; the
 * caller's lock or loop.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head;
    head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_push_back(struct list *head, struct list *item)
{
    item->next = head;
    item->prev = head->prev;
    head->prev->next = item;
    head->prev = item;
}

static inline void list_push_front(struct list *head, struct list *item)
{
    list_push_back(head->next, item);
}

/* Takes the item out of its list; the item becomes an empty head, so a second remove is
 * harmless. */
static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}

/* Takes the first item out, or gives NULL when there is none. The way to empty a list
 * whose items are freed on the way. */
static inline struct list *list_pop_front(struct list *head)
{
    struct list *first = head->next;
    if (first == head) {
        return NULL;
    }
    head->next = first->next;
    first->next->prev = head;
    list_init(first);
    return first;
}

/* The same from the other end. */
static inline struct list *list_pop_back(struct list *head)
{
    struct list *last = head->prev;
    if (last == head) {
        return NULL;
    }
    head->prev = last->prev;
    last->prev->next = head;
    list_init(last);
    return last;
}

/* Moves every element of `from` to the end of `to`; for firing callbacks from a local
 * list. */
static inline void list_move_all(struct list *to, struct list *from)
{
    for (struct list *item; (item = list_pop_front(from)) != NULL;) {
        list_push_back(to, item);
    }
}

#define LIST_ITEM(link, type, member) \
    ((type *)(void *)((char *)(link)-offsetof(type, member)))
#define LIST_EACH(link, head) \
    for (struct list *link = (head)->next; link != (head); link = link->next)
/* The current element may be removed and freed inside the loop. */
#define LIST_EACH_SAFE(link, head)                                                    \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head); \
         link = link##_next, link##_next = link->next)
