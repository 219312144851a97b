/* weight.c - a weight matrix in its multiplication form: panels of interleaved rows, or the file's rows where they are mapped; and the
 * direct entry points to number formats.
 */
#include "core.h"
#include <stdlib.h>
#include <sys/mman.h>

/* Columns and bytes of a quant block in the file; 0 for types that have no kernels. */
static int64_t block_cols(int type) {
    switch (type) {
    case ZL_TYPE_F32: case ZL_TYPE_F16: case ZL_TYPE_BF16: return 1;
    case ZL_TYPE_Q4_0: case ZL_TYPE_Q4_1: case ZL_TYPE_Q5_0: case ZL_TYPE_Q5_1: case ZL_TYPE_Q8_0: return 32;
    case ZL_TYPE_Q4_K: case ZL_TYPE_Q5_K: case ZL_TYPE_Q6_K: return 256;
    }
    return 0;
}
static int64_t block_bytes(int type) {
    switch (type) {
    case ZL_TYPE_F32: return 4;
    case ZL_TYPE_F16: case ZL_TYPE_BF16: return 2;
    case ZL_TYPE_Q4_0: return 18;
    case ZL_TYPE_Q4_1: return 20;
    case ZL_TYPE_Q5_0: return 22;
    case ZL_TYPE_Q5_1: return 24;
    case ZL_TYPE_Q8_0: return 34;
    case ZL_TYPE_Q4_K: return 144;
    case ZL_TYPE_Q5_K: return 176;
    case ZL_TYPE_Q6_K: return 210;
    }
    return 0;
}

static const int64_t most = (int64_t)1 << 31; /* of rows and of columns: bytes then fit 63 bits with room */

/* ---- packing ----------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const zl_weight *w;
    const uint8_t *data;
    int64_t panels, per; /* panels in all, and per chunk */
    int release;         /* let go of the file's pages that were read */
} pack_job;

/* The whole pages of a mapped file within these bytes leave the resident memory; they are read again from the file where they are touched
 * again. Without this a large matrix would be in memory twice while it is repacked. */
static void let_go(const uint8_t *from, const uint8_t *to) {
    const uintptr_t page = 4096, a = ((uintptr_t)from + page - 1) & ~(page - 1), b = (uintptr_t)to & ~(page - 1);
    if (b > a) madvise((void *)a, b - a, MADV_DONTNEED); /* a wish: where pages are larger the kernel refuses, and nothing is lost */
}

/* A chunk of panels. Its rows are read front to back, and the memory is touched first by the thread that writes it. */
static void pack_chunk(void *arg, int64_t chunk, int thread) {
    const pack_job *j = arg;
    const zl_weight *w = j->w;
    (void)thread;
    for (int64_t p = chunk * j->per; p < (chunk + 1) * j->per && p < j->panels; p++) {
        int64_t row = p * w->k->lanes, n = w->rows - row < w->k->lanes ? w->rows - row : w->k->lanes;
        w->k->pack(w->type, n, 0, w->cols, j->data + row * w->row_bytes, w->row_bytes, w->panels + p * w->panel_bytes);
    }
    int64_t from = chunk * j->per * w->k->lanes, to = from + j->per * w->k->lanes;
    if (j->release) let_go(j->data + from * w->row_bytes, j->data + (to < w->rows ? to : w->rows) * w->row_bytes);
}

static int64_t panels_of(const zl_weight *w) { return (w->rows + w->k->lanes - 1) / w->k->lanes; }

static int build(zl_ctx *ctx, zl_weight *w, const uint8_t *data, int64_t n_bytes, int release) {
    enum { CHUNK_BYTES = 256 << 10 };
    w->own_bytes = panels_of(w) * w->panel_bytes;
    int status = zl_alloc(w->own_bytes, (void **)&w->panels);
    if (status) return status;
    pack_job j = {w, data, panels_of(w), 1 + CHUNK_BYTES / w->panel_bytes, release};
    zl_parallel(ctx, (j.panels + j.per - 1) / j.per, pack_chunk, &j);
    if (release) let_go(data, data + n_bytes); /* a fault maps its neighbours too: pages at the edges of chunks have come back */
    return zl_guard_check(data, n_bytes);
}

int zl_weight_new(zl_ctx *ctx, int type, int64_t rows, int64_t cols, const void *data, int64_t n_bytes, int flags, zl_weight **out) {
    if (!out) return zl_fail(ZL_E_ARG, "zl_weight_new: out is a null pointer");
    *out = NULL;
    if (!data) return zl_fail(ZL_E_ARG, "zl_weight_new: data is a null pointer");
    if (flags & ~(ZL_WEIGHT_MAPPED | ZL_WEIGHT_RELEASE)) return zl_fail(ZL_E_ARG, "zl_weight_new: unknown flags %#x", (unsigned)flags);
    if (flags & ZL_WEIGHT_RELEASE && !zl_guarded(data, n_bytes)) /* memory that is no file's would be lost for good */
        return zl_fail(ZL_E_ARG, "zl_weight_new: %lld bytes to be released lie in no guarded range", (long long)n_bytes);
    const int64_t block = block_cols(type);
    if (!block) return zl_fail(ZL_E_TYPE, "zl_weight_new: no kernel multiplies type %d", type);
    if (rows < 1 || cols < 1 || rows >= most || cols >= most)
        return zl_fail(ZL_E_SHAPE, "zl_weight_new: a weight of (%lld, %lld)", (long long)rows, (long long)cols);
    if (cols % block)
        return zl_fail(ZL_E_SHAPE, "zl_weight_new: %lld columns are no multiple of type %d's quant block of %lld", (long long)cols, type,
                       (long long)block);
    const int64_t row_bytes = cols / block * block_bytes(type); /* at most 2^33 */
    if (row_bytes > INT64_MAX / rows || n_bytes != rows * row_bytes)
        return zl_fail(ZL_E_SHAPE, "zl_weight_new: %lld bytes for (%lld, %lld) of type %d, want %lld rows of %lld", (long long)n_bytes,
                       (long long)rows, (long long)cols, type, (long long)rows, (long long)row_bytes);
    zl_entry entry;
    int status = zl_enter(ctx, "zl_weight_new", &entry);
    if (status) return status;
    zl_weight *w = calloc(1, sizeof *w);
    if (!w) return zl_leave(&entry, zl_fail(ZL_E_MEMORY, "zl_weight_new needs %zu bytes", sizeof *w));
    w->type = type, w->rows = rows, w->cols = cols, w->row_bytes = row_bytes, w->k = zl_ctx_kernels(ctx);
    w->panel_bytes = row_bytes * w->k->lanes;
    if (flags & ZL_WEIGHT_MAPPED) w->mapped = 1, w->data = data;
    else status = build(ctx, w, data, n_bytes, flags & ZL_WEIGHT_RELEASE);
    if (status) zl_weight_free(w);
    else *out = w;
    return zl_leave(&entry, status);
}

void zl_weight_free(zl_weight *w) {
    if (!w) return;
    zl_release(w->panels, w->own_bytes);
    free(w);
}

int64_t zl_weight_bytes(const zl_weight *w) { return w ? w->own_bytes : 0; }

void zl_weight_row(const zl_weight *w, int64_t row, float *dst) {
    if (w->mapped) w->k->dequantize(w->type, w->cols, w->data + row * w->row_bytes, dst);
    else w->k->unpack_row(w->type, w->cols, w->panels + row / w->k->lanes * w->panel_bytes, (int)(row % w->k->lanes), dst);
}

/* ---- number formats, directly ------------------------------------------------------------------------------------------------------ */

typedef struct {
    const zl_kernels *k;
    int type;
    int64_t n, per, rows;      /* values in all and per chunk; of quantize: columns and rows per chunk, rows in all */
    const uint8_t *src;
    float *dst;
    const float *x;
    int8_t *q;
    float *d;
    int16_t *s;
} format_job;

static void dequantize_chunk(void *arg, int64_t chunk, int thread) {
    const format_job *j = arg;
    int64_t from = chunk * j->per, n = j->n - from < j->per ? j->n - from : j->per;
    (void)thread;
    j->k->dequantize(j->type, n, j->src + from / block_cols(j->type) * block_bytes(j->type), j->dst + from);
}

int zl_dequantize(zl_ctx *ctx, int type, int64_t n, const void *src, int64_t n_bytes, float *dst) {
    enum { PER = 64 * 1024 };  /* a multiple of every quant block */
    const int64_t block = block_cols(type);
    if (!block) return zl_fail(ZL_E_TYPE, "zl_dequantize: no kernel reads type %d", type);
    if (n < 0 || n % block || n > ((int64_t)1 << 48) || n_bytes != n / block * block_bytes(type))
        return zl_fail(ZL_E_SHAPE, "zl_dequantize: %lld bytes for %lld values of type %d, want a multiple of %lld values and %lld bytes each",
                       (long long)n_bytes, (long long)n, type, (long long)block, (long long)block_bytes(type));
    if (n && (!src || !dst)) return zl_fail(ZL_E_ARG, "zl_dequantize: a null pointer");
    zl_entry entry;
    int status = zl_enter(ctx, "zl_dequantize", &entry);
    if (status) return status;
    format_job j = {.k = zl_ctx_kernels(ctx), .type = type, .n = n, .per = PER, .src = src, .dst = dst};
    zl_parallel(ctx, (n + PER - 1) / PER, dequantize_chunk, &j);
    return zl_leave(&entry, zl_guard_check(src, n_bytes));
}

static void quantize_chunk(void *arg, int64_t chunk, int thread) {
    const format_job *j = arg;
    const int64_t k = j->n;
    (void)thread;
    for (int64_t t = chunk * j->per; t < (chunk + 1) * j->per && t < j->rows; t++)
        j->k->quantize_activation(k, j->x + t * k, j->q + t * k, j->d + t * k / 32, j->s + t * k / 16);
}

int zl_quantize_activation(zl_ctx *ctx, int64_t rows, int64_t cols, const float *x, int8_t *q, float *d, int16_t *s) {
    if (rows < 0 || cols < 0 || rows >= most || cols >= most || cols % 32)
        return zl_fail(ZL_E_SHAPE, "zl_quantize_activation: (%lld, %lld), want a multiple of 32 columns", (long long)rows, (long long)cols);
    if (rows && cols && (!x || !q || !d || !s)) return zl_fail(ZL_E_ARG, "zl_quantize_activation: a null pointer");
    zl_entry entry;
    int status = zl_enter(ctx, "zl_quantize_activation", &entry);
    if (status) return status;
    format_job j = {.k = zl_ctx_kernels(ctx), .n = cols, .per = 1 + 16384 / (cols + 1), .rows = rows, .x = x, .q = q, .d = d, .s = s};
    if (cols) zl_parallel(ctx, (rows + j.per - 1) / j.per, quantize_chunk, &j);
    return zl_leave(&entry, ZL_OK);
}
