/* formats.c - the number formats' sizes, and the direct entry points to them: file bytes to floats, the activation format.
 *
 * What it is not: what the bytes mean (kernels/dequantize*.c), or how weights are made from floats (quantize.c).
 */
#include "core.h"

/* Elements and bytes of a quant block, whether products with it have kernels, and of which kind. */
static const zl_format formats[] = {
    {ZL_TYPE_F32, "F32", 1, 4, 1},
    {ZL_TYPE_F16, "F16", 1, 2, 1},
    {ZL_TYPE_BF16, "BF16", 1, 2, 1},
    {ZL_TYPE_F64, "F64", 1, 8, 0},
    {ZL_TYPE_I8, "I8", 1, 1, 0},
    {ZL_TYPE_I16, "I16", 1, 2, 0},
    {ZL_TYPE_I32, "I32", 1, 4, 0},
    {ZL_TYPE_I64, "I64", 1, 8, 0},
    {ZL_TYPE_Q4_0, "Q4_0", 32, 18, 1},
    {ZL_TYPE_Q4_1, "Q4_1", 32, 20, 1},
    {ZL_TYPE_Q5_0, "Q5_0", 32, 22, 1},
    {ZL_TYPE_Q5_1, "Q5_1", 32, 24, 1},
    {ZL_TYPE_Q8_0, "Q8_0", 32, 34, 1},
    {ZL_TYPE_Q8_1, "Q8_1", 32, 36, 0},
    {ZL_TYPE_Q2_K, "Q2_K", 256, 84, ZL_WIDENED},
    {ZL_TYPE_Q3_K, "Q3_K", 256, 110, ZL_WIDENED},
    {ZL_TYPE_Q4_K, "Q4_K", 256, 144, 1},
    {ZL_TYPE_Q5_K, "Q5_K", 256, 176, 1},
    {ZL_TYPE_Q6_K, "Q6_K", 256, 210, 1},
    {ZL_TYPE_Q8_K, "Q8_K", 256, 292, 0},
    {ZL_TYPE_IQ1_S, "IQ1_S", 256, 50, ZL_WIDENED},
    {ZL_TYPE_IQ1_M, "IQ1_M", 256, 56, ZL_WIDENED},
    {ZL_TYPE_IQ2_XXS, "IQ2_XXS", 256, 66, ZL_WIDENED},
    {ZL_TYPE_IQ2_XS, "IQ2_XS", 256, 74, ZL_WIDENED},
    {ZL_TYPE_IQ2_S, "IQ2_S", 256, 82, ZL_WIDENED},
    {ZL_TYPE_IQ3_XXS, "IQ3_XXS", 256, 98, ZL_WIDENED},
    {ZL_TYPE_IQ3_S, "IQ3_S", 256, 110, ZL_WIDENED},
    {ZL_TYPE_IQ4_NL, "IQ4_NL", 32, 18, ZL_WIDENED},
    {ZL_TYPE_IQ4_XS, "IQ4_XS", 256, 136, ZL_WIDENED},
    {ZL_TYPE_TQ1_0, "TQ1_0", 256, 54, ZL_WIDENED},
    {ZL_TYPE_TQ2_0, "TQ2_0", 256, 66, ZL_WIDENED},
    {ZL_TYPE_Q1_0, "Q1_0", 128, 18, ZL_WIDENED},
    {ZL_TYPE_Q2_0, "Q2_0", 64, 18, ZL_WIDENED},
    {ZL_TYPE_MXFP4, "MXFP4", 32, 17, ZL_WIDENED},
    {ZL_TYPE_NVFP4, "NVFP4", 64, 36, ZL_WIDENED},
};

const zl_format *zl_format_of(int type) {
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (formats[i].type == type) return &formats[i];
    return NULL;
}

/* ---- file bytes -> floats ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    const zl_kernels *k;
    const zl_format *f;
    int64_t n, per;            /* values in all and per chunk */
    const uint8_t *src;
    float *dst;
} dequantize_job;

static void dequantize_chunk(void *arg, int64_t chunk, int thread) {
    const dequantize_job *j = arg;
    int64_t from = chunk * j->per, n = j->n - from < j->per ? j->n - from : j->per;
    (void)thread;
    j->k->dequantize(j->f->type, n, j->src + from / j->f->cols * j->f->bytes, j->dst + from);
}

int zl_dequantize(zl_ctx *ctx, int type, int64_t n, const void *src, int64_t n_bytes, float *dst) {
    enum { PER = 64 * 1024 };  /* a multiple of every quant block */
    const zl_format *f = zl_format_of(type);
    if (!f) return zl_fail(ZL_E_TYPE, "zl_dequantize: unknown type %d", type);
    if (n < 0 || n % f->cols || n > ((int64_t)1 << 48) || n_bytes != n / f->cols * f->bytes)
        return zl_fail(ZL_E_SHAPE, "zl_dequantize: %lld bytes for %lld values of %s, want a multiple of %d values and %d bytes each",
                       (long long)n_bytes, (long long)n, f->name, f->cols, f->bytes);
    if (n && (!src || !dst)) return zl_fail(ZL_E_ARG, "zl_dequantize: a null pointer");
    zl_entry entry;
    int status = zl_enter(ctx, "zl_dequantize", &entry);
    if (status) return status;
    dequantize_job j = {zl_ctx_kernels(ctx), f, n, PER, src, dst};
    zl_parallel(ctx, (n + PER - 1) / PER, dequantize_chunk, &j);
    return zl_leave(&entry, zl_guard_check(src, n_bytes));
}

/* ---- the activation format --------------------------------------------------------------------------------------------------------- */

typedef struct {
    const zl_kernels *k;
    int64_t cols, rows, per;   /* rows in all and per chunk */
    int block;                 /* columns rounded together  */
    const float *x;
    int8_t *q;
    float *d;
    int16_t *s;
} activation_job;

static void activation_chunk(void *arg, int64_t chunk, int thread) {
    const activation_job *j = arg;
    const int64_t k = j->cols;
    (void)thread;
    for (int64_t t = chunk * j->per; t < (chunk + 1) * j->per && t < j->rows; t++)
        j->k->quantize_activation(k, j->block, j->x + t * k, j->q + t * k, j->d + t * k / 32, j->s + t * k / 16);
}

int zl_quantize_activation(zl_ctx *ctx, int64_t rows, int64_t cols, int per, const float *x, int8_t *q, float *d, int16_t *s) {
    if (per != 32 && per != 256) return zl_fail(ZL_E_ARG, "zl_quantize_activation: %d columns rounded together, want 32 or 256", per);
    if (rows < 0 || cols < 0 || rows >= ZL_MOST || cols >= ZL_MOST || cols % per)
        return zl_fail(ZL_E_SHAPE, "zl_quantize_activation: (%lld, %lld), want a multiple of %d columns", (long long)rows, (long long)cols, per);
    if (rows && cols && (!x || !q || !d || !s)) return zl_fail(ZL_E_ARG, "zl_quantize_activation: a null pointer");
    zl_entry entry;
    int status = zl_enter(ctx, "zl_quantize_activation", &entry);
    if (status) return status;
    activation_job j = {zl_ctx_kernels(ctx), cols, rows, 1 + 16384 / (cols + 1), per, x, q, d, s};
    if (cols) zl_parallel(ctx, (rows + j.per - 1) / j.per, activation_chunk, &j);
    return zl_leave(&entry, ZL_OK);
}
