/* selftest_pool.c - the thread pool: every chunk exactly once, nothing of an old stage, nobody waits for a thread that is not there.
 *
 * Runs under the thread sanitizer too: the plain (not atomic) arrays below are the proof that a stage's writes are seen by the caller
 * after it, and by the next stage's chunks.
 */
#include "../core/ctx.h"
#include "selftest.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int failures;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- every chunk once, and its writes seen --------------------------------------------------------------------------------- */

typedef struct {
    int64_t *cells; /* one per chunk, plain memory */
    int64_t add;
} job;
static void add_to_cell(void *arg, int64_t chunk, int thread) {
    job *j = arg;
    (void)thread;
    j->cells[chunk] += j->add;
}

static void test_exactly_once(zl_ctx *ctx) {
    enum { N = 700, ROUNDS = 3000 };
    static int64_t cells[N], want[N];
    memset(cells, 0, sizeof cells), memset(want, 0, sizeof want);
    for (int round = 1; round <= ROUNDS; round++) {
        int n = 1 + round * 37 % N; /* sizes that change from stage to stage: a chunk of an old stage would hit a cell too many */
        job j = {cells, round};     /* on the stack: a late worker that used an old `arg` would read garbage                  */
        zl_parallel(ctx, n, add_to_cell, &j);
        for (int i = 0; i < n; i++) want[i] += round;
    }
    int wrong = 0;
    for (int i = 0; i < N; i++) wrong += cells[i] != want[i];
    CHECK(!wrong, "%d of %d cells differ", wrong, N);
}

/* More chunks than 65,535 per thread: units of several chunks, a short last unit. */
static void test_many_chunks(zl_ctx *ctx) {
    for (int64_t n = 65534; n <= 400000; n = n * 7 / 4) {
        int64_t *cells = calloc((size_t)n, sizeof *cells);
        job j = {cells, 1};
        zl_parallel(ctx, n, add_to_cell, &j);
        int64_t wrong = 0;
        for (int64_t i = 0; i < n; i++) wrong += cells[i] != 1;
        CHECK(!wrong, "%lld of %lld chunks did not run once", (long long)wrong, (long long)n);
        free(cells);
    }
    zl_parallel(ctx, 0, add_to_cell, NULL);
    zl_parallel(ctx, -5, add_to_cell, NULL);
}

/* ---- who runs what ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    _Atomic int by[4];    /* chunks per thread */
    _Atomic int owner[64]; /* chunk -> thread   */
    int sleep_us;
} who;
static void note_thread(void *arg, int64_t chunk, int thread) {
    who *w = arg;
    atomic_fetch_add(&w->by[thread], 1);
    w->owner[chunk] = thread;
    if (w->sleep_us) usleep((unsigned)w->sleep_us);
}

static void test_stealing(zl_ctx *ctx) {
    int n = zl_ctx_threads(ctx);
    zl_counters before, after;
    if (n == 1) return;
    /* One worker hangs for a second before each chunk: the others finish its share, and the stage does not take that second. */
    zl_ctx_counters(ctx, &before);
    CHECK(zl_ctx_stall(ctx, 1, 1000000) == ZL_OK, "stall");
    double start = seconds();
    who w = {.sleep_us = 200};
    zl_parallel(ctx, 60, note_thread, &w);
    double took = seconds() - start;
    CHECK(zl_ctx_stall(ctx, 1, 0) == ZL_OK, "stall");
    int ran = 0;
    for (int t = 0; t < 4; t++) ran += w.by[t];
    CHECK(ran == 60, "%d of 60 chunks ran", ran);
    CHECK(w.by[1] == 0, "the stalled worker ran %d chunks", w.by[1]);
    CHECK(took < 0.9, "the stage waited for the stalled worker: %.3f s", took);
    zl_ctx_counters(ctx, &after);
    CHECK(after.stolen - before.stolen >= 60 / n, "only %lld chunks were stolen", (long long)(after.stolen - before.stolen));
    CHECK(after.chunks - before.chunks == 60 && after.stages - before.stages == 1, "counted %lld chunks, %lld stages",
          (long long)(after.chunks - before.chunks), (long long)(after.stages - before.stages));
    /* It comes back from its second into other stages than the one it saw: its claim must fail, not run an old chunk. */
    double until = seconds() + 1.2;
    while (seconds() < until) {
        enum { N = 16 };
        static int64_t cells[N];
        memset(cells, 0, sizeof cells);
        job j = {cells, 1};
        zl_parallel(ctx, N, add_to_cell, &j);
        int wrong = 0;
        for (int i = 0; i < N; i++) wrong += cells[i] != 1;
        CHECK(!wrong, "%d chunks wrong after a late worker", wrong);
        if (wrong) return;
    }
}

/* The caller itself may be the slow one: workers take its share. */
static void test_slow_caller(zl_ctx *ctx) {
    if (zl_ctx_threads(ctx) == 1) return;
    zl_ctx_stall(ctx, 0, 30000);
    who w = {.sleep_us = 0};
    zl_parallel(ctx, 40, note_thread, &w);
    zl_ctx_stall(ctx, 0, 0);
    CHECK(w.by[0] < 20, "the stalled caller ran %d of 40 chunks", w.by[0]);
}

/* Shares are contiguous: without stealing, chunk numbers rise with the thread's number. Every thread sleeps in its chunks, so that
 * each gets to its own share before another could steal it. */
static void test_shares(zl_ctx *ctx) {
    int n = zl_ctx_threads(ctx), ordered = 0;
    for (int attempt = 0; attempt < 50 && !ordered; attempt++) { /* on a busy machine a worker may come late and be stolen from */
        who w = {.sleep_us = 3000};
        zl_parallel(ctx, 2 * n, note_thread, &w);
        ordered = 1;
        for (int i = 0; i < 2 * n; i++) ordered &= w.owner[i] == i / 2;
    }
    CHECK(ordered, "in 50 stages no thread ever had its own two neighbouring chunks");
}

/* Workers that sleep on the condition (nothing to do for a while) are woken; the caller, once out of chunks, sleeps and is woken. */
static void test_sleep(zl_ctx *ctx) {
    for (int i = 0; i < 20; i++) {
        usleep(20000);
        who w = {.sleep_us = i % 2 ? 20000 : 0};
        zl_parallel(ctx, 3, note_thread, &w);
        CHECK(w.by[0] + w.by[1] + w.by[2] == 3, "a chunk is missing after a sleep");
    }
}

/* ---- the float environment ----------------------------------------------------------------------------------------------------- */

static void halve_denormal(void *arg, int64_t chunk, int thread) {
    volatile float tiny = 1e-40f, half = 0.5f; /* 0 where denormals are flushed */
    (void)thread;
    ((float *)arg)[chunk] = tiny * half;
    usleep(500);
}

static void test_float_environment(zl_ctx *ctx) {
    float results[32], of_new[32];
    uint64_t mine = zl_fp_enter();
#if defined(__x86_64__)
    unsigned flush = 0x1f80 | 0x8040 | 0x6000; /* FTZ, DAZ, round towards zero */
    zl_fp_leave(flush);
    CHECK(((unsigned)zl_fp_enter() & ~0x3fu) == flush, "the test could not set the float environment");
    zl_fp_leave(flush);
#else
    zl_fp_leave((uint64_t)1 << 24); /* FZ */
#endif
    /* Workers that are started meanwhile inherit the caller's environment, and must not keep it. */
    zl_entry e;
    zl_ctx *started = NULL;
    CHECK(zl_ctx_new(3, zl_ctx_isa(ctx), NULL, &started) == ZL_OK && zl_enter(started, "selftest", &e) == ZL_OK, "start");
    if (!started) return;
    zl_parallel(started, 32, halve_denormal, of_new);
    zl_leave(&e, ZL_OK);
    zl_ctx_free(started);
    CHECK(zl_enter(ctx, "selftest", &e) == ZL_OK, "enter");
    zl_parallel(ctx, 32, halve_denormal, results);
    CHECK(zl_leave(&e, 17) == 17, "leave passes a status through");
    volatile float tiny = 1e-40f, half = 0.5f;
    float in_caller = tiny * half;
    uint64_t after = zl_fp_enter();
    zl_fp_leave(mine);
    for (int i = 0; i < 32; i++) CHECK(results[i] > 0 && of_new[i] > 0, "chunk %d flushed a denormal", i);
    CHECK(in_caller == 0, "the caller did not get its float environment back");
#if defined(__x86_64__)
    CHECK(((unsigned)after & ~0x3fu) == flush, "the caller's float environment is %llx", (unsigned long long)after);
#else
    CHECK(after == (uint64_t)1 << 24, "the caller's float environment is %llx", (unsigned long long)after);
#endif
}

/* ---- start, pin, stop ------------------------------------------------------------------------------------------------------------ */

static void test_start_stop(const char *isa) {
    static int64_t cells[64];
    for (int i = 0; i < 200; i++) { /* ended at once, while workers may not have run an instruction yet, or after a stage */
        zl_ctx *ctx;
        CHECK(zl_ctx_new(1 + i % 5, isa, NULL, &ctx) == ZL_OK, "start");
        job j = {cells, 1};
        if (i % 2) zl_parallel(ctx, 64, add_to_cell, &j);
        zl_ctx_free(ctx);
    }
}

static void test_pinning(const char *isa) {
#ifdef __linux__
    cpu_set_t allowed, set;
    pthread_getaffinity_np(pthread_self(), sizeof allowed, &allowed);
    int cpu = 0;
    while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed)) cpu++;
    zl_ctx *ctx = NULL;
    int cpus[2] = {cpu, cpu};
    CHECK(zl_ctx_new(2, isa, cpus, &ctx) == ZL_OK, "pin to CPU %d", cpu);
    if (!ctx) return;
    pthread_getaffinity_np(ctx->pool.lanes[1].id, sizeof set, &set);
    CHECK(CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set), "the worker may use %d CPUs", CPU_COUNT(&set));
    CHECK(zl_ctx_pin(ctx, 1, cpu) == ZL_OK, "pin again");
    CHECK(zl_ctx_pin(ctx, 0, cpu) == ZL_E_ARG && zl_ctx_pin(ctx, 2, cpu) == ZL_E_ARG && zl_ctx_pin(ctx, 1, -1) == ZL_E_ARG &&
              zl_ctx_pin(NULL, 1, 0) == ZL_E_ARG, "wrong arguments of zl_ctx_pin are refused");
    CHECK(zl_ctx_pin(ctx, 1, ZL_MAX_CPUS - 1) == ZL_E_THREAD && strstr(zl_error(), "1048575"), "a CPU that is not there is refused");
    zl_ctx_free(ctx);
    cpus[1] = ZL_MAX_CPUS - 1;
    CHECK(zl_ctx_new(2, isa, cpus, &ctx) == ZL_E_THREAD && !ctx, "a context on a CPU that is not there is refused");
    cpus[1] = -1;
    CHECK(zl_ctx_new(2, isa, cpus, &ctx) == ZL_E_ARG && !ctx, "a context on CPU -1 is refused");
#else
    (void)isa;
#endif
}

int selftest_pool(zl_ctx *ctx) {
    failures = 0;
    test_exactly_once(ctx);
    test_many_chunks(ctx);
    test_stealing(ctx);
    test_slow_caller(ctx);
    test_shares(ctx);
    test_sleep(ctx);
    test_float_environment(ctx);
    test_start_stop(zl_ctx_isa(ctx));
    test_pinning(zl_ctx_isa(ctx));
    return failures;
}
