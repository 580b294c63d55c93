/* A fresh folder for one test, removed with everything in it.
 *
 * `struct temp_dir dir; temp_dir_init(&dir); ... temp_dir_fini(&dir);` The folder is made
 * under $TMPDIR (or /tmp). A path is a plain text that lives in the struct. Tests that
 * start processes which outlive them use temp_dir_init_guarded. Errors: the test aborts
 * with a sentence.
 */
#pragma once

#define TEMP_DIR_PATH_SIZE 256

struct temp_dir {
    char path[TEMP_DIR_PATH_SIZE]; /* empty when there is none */
    int guard;                     /* private: to the guard; -1: none */
};

/* Makes the folder. In Check's fork mode call it in the test or in a checked fixture. */
void temp_dir_init(struct temp_dir *dir);
/* With a guard: when the process that calls this dies without temp_dir_fini (a time-out
 * kills it), every process that works inside the folder, or was started with its path as
 * an argument, is killed and the folder is removed. The guard is no child of the test and
 * in a session of its own, so that nothing that kills the test reaches it. */
void temp_dir_init_guarded(struct temp_dir *dir);
/* Removes the folder and all it holds; links are removed, not followed. Harmless a second
 * time. */
void temp_dir_fini(struct temp_dir *dir);
/* "<folder>/<name>" in fresh memory (free it). */
char *temp_dir_path(const struct temp_dir *dir, const char *name);
/* Writes a file of that name with this text. */
void temp_dir_write(const struct temp_dir *dir, const char *name, const char *text);
/* The file's whole text in fresh memory (free it), or NULL when it cannot be read. */
char *temp_dir_read(const struct temp_dir *dir, const char *name);
