/* matmul.c - entry points of the plain float32 product: blocked and vectorised (kernels/matmul.c) on all threads, or by the context's BLAS
 * library; and the bare scalar loop that it is measured against. */
#include "blas.h"
#include "ctx.h"

enum { STRIP = 32 /* columns per chunk: a multiple of 2L for every variant */ };

typedef struct {
    const zl_kernels *k;
    int64_t m, depth, n;
    const float *a, *b;
    float *out;
    zl_ctx *ctx;               /* for a BLAS library: it, and rows of a per thread */
    int64_t slab;
} job;

static int check(int64_t m, int64_t k, int64_t n, const float *a, const float *b, const float *out) {
    const int64_t limit = (int64_t)1 << 31; /* products of two of them fit 64 bits, in bytes too */
    if (m < 0 || k < 0 || n < 0 || m >= limit || k >= limit || n >= limit)
        return zl_fail(ZL_E_SHAPE, "matmul: (%lld, %lld) x (%lld, %lld)", (long long)m, (long long)k, (long long)k, (long long)n);
    if ((m && k && !a) || (k && n && !b) || (m && n && !out)) return zl_fail(ZL_E_ARG, "matmul: a null pointer");
    return ZL_OK;
}

static void strip(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    int64_t begin = chunk * STRIP, end = begin + STRIP < j->n ? begin + STRIP : j->n;
    (void)thread;
    j->k->matmul(j->m, j->depth, j->n, j->a, j->b, j->out, begin, end);
}

/* A thread's rows of a, in one call. */
static void slab(void *arg, int64_t chunk, int thread) {
    const job *j = arg;
    const int64_t i = chunk * j->slab, left = j->m - i, m = left < j->slab ? left : j->slab;
    (void)thread;
    zl_blas_sgemm(j->ctx, 0, m, j->n, j->depth, j->a + i * j->depth, j->depth, j->b, j->n, j->out + i * j->n, j->n);
}

static void by_library(job *j) {
    const int64_t threads = zl_ctx_threads(j->ctx);
    j->slab = (j->m + threads - 1) / threads;
    zl_blas_begin(j->ctx);
    zl_parallel(j->ctx, (j->m + j->slab - 1) / j->slab, slab, j);
    zl_blas_end(j->ctx);
}

int zl_matmul(zl_ctx *ctx, int64_t m, int64_t k, int64_t n, const float *a, const float *b, float *out) {
    zl_entry entry;
    int status = check(m, k, n, a, b, out);
    if (status || (status = zl_enter(ctx, "zl_matmul", &entry))) return status;
    job j = {.k = ctx->kernels, .m = m, .depth = k, .n = n, .a = a, .b = b, .out = out, .ctx = ctx};
    if (m && n) {
        if (ctx->blas && k) by_library(&j); /* without columns there is nothing to multiply: zeros */
        else if (m * n < 256) ctx->kernels->matmul(m, k, n, a, b, out, 0, n); /* not worth a meeting */
        else zl_parallel(ctx, (n + STRIP - 1) / STRIP, strip, &j);
    }
    return zl_leave(&entry, ZL_OK);
}

/* The textbook's triple loop, in the order that reads b and out row by row. The compiler is kept from vectorising it. */
#if defined(__clang__)
#define SCALAR_LOOP _Pragma("clang loop vectorize(disable) interleave(disable)")
#define SCALAR_FUNCTION
#else
#define SCALAR_LOOP
#define SCALAR_FUNCTION __attribute__((optimize("no-tree-vectorize", "no-tree-slp-vectorize")))
#endif

SCALAR_FUNCTION int zl_matmul_scalar(int64_t m, int64_t k, int64_t n, const float *a, const float *b, float *out) {
    int status = check(m, k, n, a, b, out);
    if (status) return status;
    uint64_t fp = zl_fp_enter();
    for (int64_t i = 0; i < m; i++) {
        SCALAR_LOOP
        for (int64_t j = 0; j < n; j++) out[i * n + j] = 0.0f;
        for (int64_t q = 0; q < k; q++) {
            float v = a[i * k + q];
            SCALAR_LOOP
            for (int64_t j = 0; j < n; j++) out[i * n + j] += v * b[q * n + j];
        }
    }
    zl_fp_leave(fp);
    return ZL_OK;
}
