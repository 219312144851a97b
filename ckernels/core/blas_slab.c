/* blas_slab.c - a slab of a float weight's rows times all rows of x, by the context's BLAS library.
 *
 *                 K                          K                         outputs of the slab
 *           +-----------+              +-----------+                  +----+-------+------+
 *       T   |     x     |     x      R | slab of W |^T     =        T | y  |  ...  |      |      one sgemm, then bias and residual
 *           +-----------+              +-----------+                  +----+-------+------+
 *
 * The library wants W as rows of float32. The file's rows are that where they are F32 and mapped; otherwise the slab is written into
 * scratch: file rows by our dequantiser, panels (columns of `lanes` interleaved rows) by a transposition, strip by strip.
 */
#include "blas.h"

enum { SLAB_BYTES = 16 << 20, STRIP = 64 /* columns that are turned at a time: with 16 lanes 4 KiB, in the L1 cache */, LANES = 16 };

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t lines(int64_t bytes) { return ceil_div(bytes, 64) * 64; }

/* Whether the weight's own rows can be handed over. */
static int as_it_is(const zl_weight *w) { return w->type == ZL_TYPE_F32 && w->mapped && (uintptr_t)w->data % sizeof(float) == 0; }

int64_t zl_slab_rows(const zl_ctx *ctx, const zl_weight *w) {
    if (!zl_ctx_has_blas(ctx) || (w->type != ZL_TYPE_F32 && w->type != ZL_TYPE_F16) || w->form == ZL_PAIRS) return 0;
    int64_t rows = ceil_div(w->rows, zl_ctx_threads(ctx));
    if (!as_it_is(w)) rows = min64(rows, max64(1, SLAB_BYTES / (w->cols * 4)));
    return ceil_div(rows, LANES) * LANES; /* whole panels of every variant */
}

int64_t zl_slab_scratch(const zl_ctx *ctx, const zl_weight *w, int64_t t) {
    const int64_t rows = zl_slab_rows(ctx, w);
    return rows ? lines(as_it_is(w) ? 0 : rows * w->cols * 4) + lines(t * rows * 4) : 0;
}

/* Panel -> its first n rows, `cols` floats apart. */
static void turn(const zl_weight *w, const uint8_t *panel, int64_t n, float *to) {
    const int64_t lanes = w->k->lanes, value = w->panel_bytes / (lanes * w->cols);
    float strip[STRIP * LANES];
    for (int64_t k0 = 0; k0 < w->cols; k0 += STRIP) {
        const int64_t k1 = min64(k0 + STRIP, w->cols);
        w->k->dequantize(w->type, (k1 - k0) * lanes, panel + k0 * lanes * value, strip);
        for (int64_t r = 0; r < n; r++)
            for (int64_t k = k0; k < k1; k++) to[r * w->cols + k] = strip[(k - k0) * lanes + r];
    }
}

/* Rows row .. row + n - 1 as floats: where they are, or in `to`. */
static const float *rows_of(const zl_weight *w, int64_t row, int64_t n, float *to) {
    if (as_it_is(w)) return (const float *)(const void *)w->data + row * w->cols;
    if (w->mapped) w->k->dequantize(w->type, n * w->cols, w->data + row * w->row_bytes, to);
    else
        for (int64_t r = 0, lanes = w->k->lanes; r < n; r += lanes)
            turn(w, w->panels + (row + r) / lanes * w->panel_bytes, min64(lanes, n - r), to + r * w->cols);
    return to;
}

void zl_slab(zl_ctx *ctx, const zl_weight *w, int64_t row, const zl_activation *x, const zl_result *r, uint8_t *scratch) {
    const int64_t most = zl_slab_rows(ctx, w), n = min64(most, w->rows - row);
    const float *rows = rows_of(w, row, n, (float *)(void *)scratch);
    float *y = r->y + row, *c = y;
    int64_t ldc = r->cols;
    if (r->residual == r->y) { /* which the library would write over before it is added */
        c = (float *)(void *)(scratch + lines(as_it_is(w) ? 0 : most * w->cols * 4));
        ldc = n;
    }
    zl_blas_sgemm(ctx, 1, x->n, n, w->cols, x->x, w->cols, rows, w->cols, c, ldc);
    if (!r->bias && !r->residual) return;
    for (int64_t t = 0; t < x->n; t++) {
        for (int64_t i = 0; i < n; i++) {
            float v = c[t * ldc + i];
            if (r->bias) v += r->bias[row + i];
            if (r->residual) v += r->residual[t * r->cols + row + i];
            y[t * r->cols + i] = v;
        }
    }
}
