/* selftest_pool.c - the thread pool: every chunk exactly once, stealing, late workers. */
#include "selftest.h"
#include <stdatomic.h>

static void count(void *arg, int64_t chunk, int thread) {
    (void)thread;
    atomic_fetch_add(&((_Atomic int *)arg)[chunk], 1);
}

int selftest_pool(zl_ctx *ctx) {
    int failures = 0;
    enum { N = 500 };
    static _Atomic int seen[N];
    for (int i = 0; i < N; i++) seen[i] = 0;
    for (int round = 0; round < 2000; round++) zl_parallel(ctx, 1 + round % N, count, seen);
    for (int i = 0; i < N; i++) CHECK(seen[i] == 2000 / N * (N - i), "chunk %d ran %d times", i, seen[i]);
    return failures;
}
