/* What a snapshot is made of: manifest.json in its folder, written when all else is
 * there.
 *
 * Shapes: `struct snapshot_manifest` is a value. It names the machine that was saved, the
 * files beside it with sizes and sums, and what the disks lie on. The sum of `memory` is
 * that of its state, in which the sum of each 2 MiB of RAM is (vmm/snapshot_file.h); that
 * of a disk is agent/sparse_copy.h's. Units: bytes, wall ms. Threads: any; both halves
 * are pure. Errors: BERTH_ECORRUPT with the field; names are checked, for they become
 * parts of paths. Limits: SNAPSHOT_MANIFEST_SIZE_MAX.
 */
#pragma once

#include "agent/engine.h"

#define SNAPSHOT_MANIFEST_SIZE_MAX 65536u
#define SNAPSHOT_MANIFEST_VERSION  1u
#define SNAPSHOT_TAIL_SIZE         16 /* ".overlay" */

struct snapshot_disk {
    char name[NAME_SIZE];
    uint64_t size_bytes; /* of the file */
    uint32_t sum;
};

struct snapshot_manifest {
    uint64_t uid;
    uint64_t vm; /* uid */
    uint64_t epoch;
    uint64_t at_wall_ms; /* the instant that is in it */
    enum engine engine;
    char name[NAME_SIZE]; /* of the snapshot, for people, as the next two */
    char tenant[NAME_SIZE];
    char vm_name[NAME_SIZE];
    uint64_t memory_file_bytes;
    uint32_t memory_sum;
    char base[ENGINE_PATH_SIZE];   /* the image's disk beneath its own; "": none */
    char tail[SNAPSHOT_TAIL_SIZE]; /* of the disks' files: disk-<name><tail> */
    struct snapshot_disk disks[DISKS_MAX];
    uint32_t disk_count;
    uint64_t taken_bytes; /* of the disk, by all of them */
};

/* Text to free; NULL when out of memory. */
char *snapshot_manifest_encode(const struct snapshot_manifest *manifest);
int snapshot_manifest_decode(const char *text,
                             size_t size,
                             struct snapshot_manifest *ret_manifest,
                             struct err *err);
