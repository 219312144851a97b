/* quantize.c - the direct entry point to the quantisers: rows of floats to file bytes, on all threads.
 *
 * What it is not: how a format's codes and scales are chosen (kernels/quantize*.c).
 */
#include "core.h"
#include <stdatomic.h>
#include <string.h>

/* The types that are made, and the bits of the largest float that each takes: beyond, its scale (or the half itself) would be infinite. */
static const struct {
    int type;
    uint32_t most;
    const char *most_name;
} made[] = {
#define ANY 0x7f7fffffu, "finite"
#define HALF 0x477fe000u, "at most 65504"
    {ZL_TYPE_F32, ANY},
    {ZL_TYPE_F16, HALF},
    {ZL_TYPE_BF16, 0x7f7f7fffu, "at most 3.3895e38"},
    {ZL_TYPE_Q4_0, HALF}, {ZL_TYPE_Q4_1, HALF}, {ZL_TYPE_Q5_0, HALF}, {ZL_TYPE_Q5_1, HALF},
    {ZL_TYPE_Q8_0, HALF},
    {ZL_TYPE_Q2_K, HALF}, {ZL_TYPE_Q3_K, HALF}, {ZL_TYPE_Q4_K, HALF}, {ZL_TYPE_Q5_K, HALF}, {ZL_TYPE_Q6_K, HALF},
    {ZL_TYPE_TQ1_0, HALF}, {ZL_TYPE_TQ2_0, HALF}, {ZL_TYPE_Q1_0, HALF}, {ZL_TYPE_Q2_0, HALF},
    {ZL_TYPE_MXFP4, ANY},
    {ZL_TYPE_NVFP4, 0x45280000u, "at most 2688"}, /* 6 times the largest scale */
    {ZL_TYPE_IQ4_NL, HALF}, {ZL_TYPE_IQ4_XS, HALF}, {ZL_TYPE_IQ3_S, HALF}, {ZL_TYPE_IQ3_XXS, HALF}, {ZL_TYPE_IQ2_S, HALF},
    {ZL_TYPE_IQ2_XS, HALF}, {ZL_TYPE_IQ2_XXS, HALF}, {ZL_TYPE_IQ1_S, HALF}, {ZL_TYPE_IQ1_M, HALF},
#undef ANY
#undef HALF
};

typedef struct {
    const zl_kernels *k;
    const zl_format *f;
    int64_t n, cols, per;      /* values in all, of a row, and per chunk */
    uint32_t most;
    const float *x, *importance;
    uint8_t *dst;
    _Atomic int64_t *bad;      /* the first value that is not taken */
} quantize_job;

static void quantize_chunk(void *arg, int64_t chunk, int thread) {
    const quantize_job *j = arg;
    const int64_t from = chunk * j->per, n = j->n - from < j->per ? j->n - from : j->per;
    (void)thread;
    uint32_t top = 0;
    for (int64_t i = from; i < from + n; i++) { /* sizes are ordered as their bits are, infinity and NaN above all */
        uint32_t bits;
        memcpy(&bits, j->x + i, 4);
        bits &= 0x7fffffffu;
        top = bits > top ? bits : top;
    }
    if (top <= j->most) {
        j->k->quantize(j->f->type, n, from, j->cols, j->x + from, j->importance, j->dst + from / j->f->cols * j->f->bytes);
        return;
    }
    for (int64_t i = from; i < from + n; i++) {
        uint32_t bits;
        memcpy(&bits, j->x + i, 4);
        if ((bits & 0x7fffffffu) <= j->most) continue;
        for (int64_t first = atomic_load(j->bad); i < first && !atomic_compare_exchange_weak(j->bad, &first, i);) {}
        return;
    }
}

int zl_quantize_rows(zl_ctx *ctx, int type, int64_t rows, int64_t cols, const float *x, const float *importance, void *dst, int64_t n_bytes) {
    enum { PER = 16 * 1024 }; /* a multiple of every quant block */
    const zl_format *f = zl_format_of(type);
    size_t m = 0;
    while (m < sizeof made / sizeof made[0] && made[m].type != type) m++;
    if (!f) return zl_fail(ZL_E_TYPE, "zl_quantize_rows: unknown type %d", type);
    if (m == sizeof made / sizeof made[0]) return zl_fail(ZL_E_TYPE, "zl_quantize_rows: there is no quantiser of %s", f->name);
    if (rows < 0 || cols < 0 || rows >= ZL_MOST || cols >= ZL_MOST || rows * cols > (int64_t)1 << 48 || cols % f->cols)
        return zl_fail(ZL_E_SHAPE, "zl_quantize_rows: (%lld, %lld), want a multiple of the %d columns of a quant block of %s",
                       (long long)rows, (long long)cols, f->cols, f->name);
    const int64_t n = rows * cols;
    if (n_bytes != n / f->cols * f->bytes)
        return zl_fail(ZL_E_SHAPE, "zl_quantize_rows: room for %lld bytes, %s needs %lld", (long long)n_bytes, f->name,
                       (long long)(n / f->cols * f->bytes));
    if (n && (!x || !dst)) return zl_fail(ZL_E_ARG, "zl_quantize_rows: a null pointer");
    if (!importance && (type == ZL_TYPE_IQ1_S || type == ZL_TYPE_IQ2_XXS || type == ZL_TYPE_IQ2_XS)) /* as in llama.cpp */
        return zl_fail(ZL_E_ARG, "zl_quantize_rows: %s needs importance: at so few bits an error must go where it does least harm", f->name);
    for (int64_t i = 0; importance && i < cols; i++)
        if (!(importance[i] >= 0 && importance[i] <= 3.4028234664e38f))
            return zl_fail(ZL_E_ARG, "zl_quantize_rows: the importance of column %lld is %g, want a finite number, 0 or more", (long long)i,
                           (double)importance[i]);
    zl_entry entry;
    int status = zl_enter(ctx, "zl_quantize_rows", &entry);
    if (status) return status;
    _Atomic int64_t bad = n;
    quantize_job j = {zl_ctx_kernels(ctx), f, n, cols, PER, made[m].most, x, importance, dst, &bad};
    zl_parallel(ctx, (n + PER - 1) / PER, quantize_chunk, &j);
    const int64_t first = atomic_load(&bad);
    status = zl_guard_check(x, n * 4);
    if (!status && first < n)
        status = zl_fail(ZL_E_ARG, "zl_quantize_rows: row %lld, column %lld is %g; a value of %s is %s", (long long)(first / cols),
                         (long long)(first % cols), (double)x[first], f->name, made[m].most_name);
    return zl_leave(&entry, status);
}
