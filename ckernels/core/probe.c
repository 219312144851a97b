/* probe.c - the machine's ceilings on all threads of a context: bytes and operations per second, the best of several passes.
 *
 * The best, since whatever disturbs a pass makes it slower: a ceiling is what the machine gives when it is left alone. Which of them limits
 * an op is the profiler's business.
 */
#include "ctx.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEAST_PASSES = 3 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- reading ---------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const zl_kernels *k;
    uint64_t *memory;
    int64_t words, per;       /* of the whole, of a chunk: multiples of 32 */
    uint64_t *sums;           /* per chunk */
} reading;

static int64_t words_of(const reading *r, int64_t chunk) { return r->words - chunk * r->per < r->per ? r->words - chunk * r->per : r->per; }

/* First touch by the thread that will read it, as far as nobody steals. */
static void write_chunk(void *arg, int64_t chunk, int thread) {
    const reading *r = arg;
    (void)thread;
    memset(r->memory + chunk * r->per, 1, (size_t)words_of(r, chunk) * 8);
}
static void read_chunk(void *arg, int64_t chunk, int thread) {
    const reading *r = arg;
    (void)thread;
    r->sums[chunk] = r->k->probe_read(r->memory + chunk * r->per, words_of(r, chunk));
}

int zl_probe_read(zl_ctx *ctx, int64_t bytes, double seconds, double *out) {
    enum { CHUNKS = 8 /* per thread: so many borders between streams, and a thread that is late can be helped */ };
    if (!out) return zl_fail(ZL_E_ARG, "zl_probe_read: out is a null pointer");
    const int64_t n = (int64_t)zl_ctx_threads(ctx) * CHUNKS;
    if (bytes < 1 || bytes > (int64_t)1 << 40 || !(seconds >= 0 && seconds <= 60))
        return zl_fail(ZL_E_ARG, "zl_probe_read: %lld bytes, %g seconds", (long long)bytes, seconds);
    zl_entry entry;
    int status = zl_enter(ctx, "zl_probe_read", &entry);
    if (status) return status;
    reading r = {.k = ctx->kernels, .per = (bytes / 8 / n + 31) / 32 * 32 + 32};
    r.words = n * r.per;
    r.sums = calloc((size_t)n, sizeof *r.sums);
    status = r.sums ? zl_alloc(r.words * 8, (void **)&r.memory) : zl_fail(ZL_E_MEMORY, "zl_probe_read needs %lld bytes", (long long)n * 8);
    if (!status) {
        double best = 0, end = now() + seconds;
        zl_parallel(ctx, n, write_chunk, &r);
        for (int pass = 0; pass < LEAST_PASSES || now() < end; pass++) {
            const double start = now();
            zl_parallel(ctx, n, read_chunk, &r);
            const double rate = (double)r.words * 8 / (now() - start);
            if (pass && rate > best) best = rate; /* the first pass brings it into the cache where it fits */
        }
        uint64_t sum = 0;
        for (int64_t i = 0; i < n; i++) sum += r.sums[i];
        if (sum != (uint64_t)r.words * 0x0101010101010101u) status = zl_fail(ZL_E_FAULT, "zl_probe_read: the sum of what was read is wrong");
        *out = best;
    }
    zl_release(r.memory, r.words * 8);
    free(r.sums);
    return zl_leave(&entry, status);
}

/* ---- computing -------------------------------------------------------------------------------------------------------------------- */

enum { STEPS = 4096 };

static void int8_chunk(void *arg, int64_t chunk, int thread) {
    const zl_ctx *ctx = arg;
    (void)chunk, (void)thread;
    ctx->kernels->probe_int8(STEPS, 0, 0);
}
static void f32_chunk(void *arg, int64_t chunk, int thread) {
    const zl_ctx *ctx = arg;
    (void)chunk, (void)thread;
    ctx->kernels->probe_f32(STEPS, 0, 0);
}

int zl_probe_peak(zl_ctx *ctx, int type, double seconds, double *out) {
    enum { CHUNKS = 16 };
    if (!out) return zl_fail(ZL_E_ARG, "zl_probe_peak: out is a null pointer");
    if (type != ZL_TYPE_I8 && type != ZL_TYPE_F32) return zl_fail(ZL_E_TYPE, "zl_probe_peak: type %d, want I8 or F32", type);
    if (!(seconds >= 0 && seconds <= 60)) return zl_fail(ZL_E_ARG, "zl_probe_peak: %g seconds", seconds);
    zl_entry entry;
    int status = zl_enter(ctx, "zl_probe_peak", &entry);
    if (status) return status;
    const int64_t chunks = (int64_t)CHUNKS * zl_ctx_threads(ctx);
    const int64_t per_step = (int64_t)ZL_PROBE_CHAINS * ctx->kernels->lanes * (type == ZL_TYPE_I8 ? 8 : 2);
    double best = 0, end = now() + seconds;
    for (int pass = 0; pass < LEAST_PASSES || now() < end; pass++) {
        const double start = now();
        zl_parallel(ctx, chunks, type == ZL_TYPE_I8 ? int8_chunk : f32_chunk, ctx);
        const double rate = (double)(chunks * STEPS * per_step) / (now() - start);
        if (rate > best) best = rate;
    }
    *out = best;
    return zl_leave(&entry, ZL_OK);
}
