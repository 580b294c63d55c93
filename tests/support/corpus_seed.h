/* The seeds that fuzzers begin with: one per row of a table, made from filled records by
 * the row's own test, so that a new row cannot come without one. With BERTH_WRITE_CORPUS
 * in the environment the test writes them. */
#pragma once

#include "base/err.h"
#include "base/fd.h"
#include "base/file_atomic.h"

#include <check.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define CORPUS_SEED_MAX (1u << 20)

/* The seed of that row, read; written from `made` first where that is wanted. The caller
 * frees *ret_data. */
static inline void corpus_seed(const char *decoder,
                               const char *row,
                               const void *made,
                               size_t made_size,
                               uint8_t **ret_data,
                               size_t *ret_size)
{
    struct err err = {0};
    char path[512];
    (void)snprintf(path, sizeof(path), BERTH_SOURCE_DIR "/tests/fuzz/corpus/%s/all_%s",
                   decoder, row);
    if (getenv("BERTH_WRITE_CORPUS") != NULL) {
        ck_assert_int_eq(file_atomic_write(path, made, made_size, 0644, NULL), 0);
    }
    ck_assert_msg(
        fd_read_file(AT_FDCWD, path, CORPUS_SEED_MAX, ret_data, ret_size, &err) == 0,
        "%s: run this test with BERTH_WRITE_CORPUS=1", err.text);
}
