/* bench_common.h - what the benchmarks in C share: the library, a clock, and the end of a run whose calls fail. */
#ifndef ZL_BENCH_COMMON_H
#define ZL_BENCH_COMMON_H
#include "../ckernels/include/zl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) { /* seconds */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(int status) {
    if (!status) return;
    fprintf(stderr, "%s\n", zl_error());
    exit(1);
}
#endif
