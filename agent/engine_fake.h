/* Engine fake: a real process that runs nothing, for tests and for racks of thousands.
 *
 * The process is berthd (or the test binary) itself, executed again under the name
 * ENGINE_FAKE_ARGV0; main() must call engine_fake_main first of all. So pids, adoption,
 * kill -9, cgroups and epochs are real, and there is no other program to install. It
 * sleeps in the kernel (no CPU), ends on SIGTERM, writes one line to the console file and
 * honours the VM's folder:
 *
 *     control        text "cpu=<permille> memory=<bytes> end=<shutdown|crash>", read at
 *                    every sample (cpu, memory) and by the process once a second (end)
 *     console.log    what it "prints"; the agent copies it to the console ring
 *
 * It has no disks; its saved memory says whose run it was, and one that goes on from it
 * says so on its console.
 *
 * With BERTH_FAKE_INTERVALS=<file> in berthd's environment each process appends a line
 * "start <vm> <epoch> <pid> <monotonic ns>" when it begins to run (after cont) and "stop
 * ..." when it ends by itself; a double-run check joins them with the processes' deaths.
 * With BERTH_FAKE_BEAT_MS=<1 to 1000> beside it also "beat ..." so often while it runs,
 * so that a killed or frozen one shows when it ran last.
 */
#pragma once

#include "agent/engine.h"

#define ENGINE_FAKE_ARGV0     "berth-fake-vm"
#define ENGINE_FAKE_INTERVALS "BERTH_FAKE_INTERVALS"
#define ENGINE_FAKE_BEAT      "BERTH_FAKE_BEAT_MS"

extern const struct engine_ops engine_fake;

/* If argv[0] says so, runs the fake VM and never returns; else returns at once. Call it
 * before anything else in main. */
void engine_fake_main(int argc, char **argv);
