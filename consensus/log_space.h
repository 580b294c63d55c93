/* Space for the log's next files that is written, not only allocated.
 *
 * libraft gets a file of LOG_SPACE_SEGMENT bytes ready before it needs it, by
 * posix_fallocate. Blocks that are allocated but have never been written cost each later
 * write more than the write: the file system notes in its journal that they hold
 * something now, and refuses to do that without waiting (RWF_NOWAIT), so that libraft
 * hands the write to a thread and waits for two more to wake up. So its call comes to a
 * function of ours of the same name, which for such a file (open-<number>, opened with
 * O_DSYNC, of that size) writes zeros as well, which is what the space reads as anyway.
 * Every other caller gets what libc does.
 *
 * The first word of such a file is written, too: the format, which libraft writes again
 * with the file's first batch. Without it a first write of which the disk did not get to
 * the first sector would look like a file of something else, and be refused, by libraft
 * as well, though nothing is lost.
 *
 * Shapes: none. Threads: any; it waits for the disk. Ownership: the descriptor is the
 * caller's. Errors: as posix_fallocate; zeros that cannot be written are no error, for
 * the space is there: whatever is wrong, the log's own writes will tell. Limits: where
 * each write goes to a new place (btrfs) the zeros use the space up that was set aside,
 * and help nothing: the log belongs on ext4 or xfs.
 */
#pragma once

#define LOG_SPACE_SEGMENT (8u << 20) /* libraft's own default */

/* Has the linker take this file in; libraft is to be told the size. */
unsigned log_space_segment(void);
