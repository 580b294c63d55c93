/* How many voters the berthd of tests/chaos keeps: BERTH_CHAOS_VOTERS, or five. Stands in
 * for the number of agent/voters.h, which a release has for good (CMakeLists.txt).
 * Threads: any. Errors: none; what is no number is five.
 */
#pragma once

unsigned chaos_voters(void);
