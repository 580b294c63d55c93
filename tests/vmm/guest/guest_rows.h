/* The rows of the micro guest: what a hostile guest may do, each by name, in groups. A
 * group is what one boot runs (the last word of the kernel's command line).
 *
 * Each row returns NULL, or what was wrong (a text that lives until the next row). It
 * leaves the devices in any state that a driver can reset. */
#pragma once

struct row {
    const char *name;
    const char *(*run)(void);
};

#define GROUP_ROWS_MAX 16

struct row_group {
    const char *name;
    struct row rows[GROUP_ROWS_MAX]; /* up to the first without a name */
};

extern const struct row_group rows_bus;
extern const struct row_group rows_queue;
extern const struct row_group rows_disk;
extern const struct row_group rows_image;
extern const struct row_group rows_image_after;
extern const struct row_group rows_full;
extern const struct row_group rows_large;
extern const struct row_group rows_steal;
extern const struct row_group rows_net;
extern const struct row_group rows_console;
extern const struct row_group rows_vsock;
extern const struct row_group rows_memory;
extern const struct row_group rows_cpu;
extern const struct row_group rows_rounds;
extern const struct row_group rows_resets;
extern const struct row_group rows_pair;
extern const struct row_group rows_plug;
extern const struct row_group rows_ends[]; /* up to the first without a name */
