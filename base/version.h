/* The program's version, one place. */
#pragma once

#define BERTH_VERSION "0.1.0"
