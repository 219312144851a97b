/* linear_float.c - products of a weight in F32, F16 or BF16. Panel: [k][L], the L rows' values of column k side by side.
 *
 * Each output has one accumulator, k ascending, in float32: acc = fma(w[k], x[k], acc). Independent accumulators come from several
 * panels and several rows of x, never from a split of K.
 */
#include "../include/zl.h"
#include "linear_store.h"

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Tile of prefill: AVX2 12 accumulators, 2 panel vectors and a broadcast in 16 registers; two FMAs per cycle need 10 in flight. */
#if defined(ZL_ISA_avx512) || defined(ZL_ISA_neon) || defined(ZL_ISA_dotprod)
enum { MANY_P = 4, MANY_N = 6 };
#elif defined(ZL_ISA_avx2)
enum { MANY_P = 2, MANY_N = 6 };
#else
enum { MANY_P = 2, MANY_N = 4 };
#endif
enum { FEW_P = 2, MAX_P = 4, MAX_N = 6, PANELS = ZL_TILE_ROWS / L, STRIP = ZL_FLOAT_STRIP };

ZL_INLINE int value_bytes(const int fmt) { return fmt == ZL_TYPE_F32 ? 4 : 2; }

/* column k of a panel */
ZL_INLINE vf column(const int fmt, const uint8_t *panel, int64_t k) {
    const void *p = panel + k * L * value_bytes(fmt);
    return fmt == ZL_TYPE_F32 ? vf_load(p) : fmt == ZL_TYPE_F16 ? vf_from_f16(p) : vf_from_bf16(p);
}

/* acc[p * N + n] += columns [k0, k1) of panel p times x[n][k0 .. k1); row n of x begins at x + n * ldx */
ZL_INLINE void tile(const int fmt, const int P, const int N, const uint8_t *const *panel, int64_t k0, int64_t k1, const float *x,
                    int64_t ldx, vf *acc) {
    for (int64_t k = k0; k < k1; k++) {
        vf w[MAX_P];
        UNROLL for (int p = 0; p < P; p++) w[p] = column(fmt, panel[p], k);
        UNROLL for (int n = 0; n < N; n++) {
            const vf v = vf_set1(x[n * ldx + k]);
            UNROLL for (int p = 0; p < P; p++) acc[p * N + n] = vf_fma(w[p], v, acc[p * N + n]);
        }
    }
}

/* ---- few rows of x: straight from the panels, 4, 2 and 1 rows at a time ------------------------------------------------------------ */

/* N rows of x from row n0 on */
ZL_INLINE void few_n(const int fmt, const int N, const uint8_t *const *panel, int64_t at, int64_t end, int64_t n0, const zl_activation *x,
                     const zl_result *r) {
    vf acc[FEW_P * 4];
    UNROLL for (int i = 0; i < FEW_P * N; i++) acc[i] = vf_zero();
    tile(fmt, FEW_P, N, panel, 0, x->cols, x->x + n0 * x->cols, x->cols, acc);
    UNROLL for (int p = 0; p < FEW_P; p++) {
        if (at + p >= end) break;
        UNROLL for (int n = 0; n < N; n++) store_outputs(r, n0 + n, (at + p) * L, acc[p * N + n]);
    }
}

ZL_INLINE void few_panels(const int fmt, const struct zl_weight *w, int64_t begin, int64_t end, const zl_activation *x, const zl_result *r,
                          uint8_t *scratch) {
    for (int64_t at = begin; at < end; at += FEW_P) {
        const uint8_t *panel[FEW_P]; /* past the last panel, the last one again: its result is not stored */
        for (int p = 0; p < FEW_P; p++) panel[p] = panel_of(w, at + p < end ? at + p : end - 1, scratch + p * w->panel_bytes);
        int64_t n = 0;
        for (; n + 4 <= x->n; n += 4) few_n(fmt, 4, panel, at, end, n, x, r);
        if (n + 2 <= x->n) few_n(fmt, 2, panel, at, end, n, x, r), n += 2;
        if (n < x->n) few_n(fmt, 1, panel, at, end, n, x, r);
    }
}

void ZL_FN(few_float)(const struct zl_weight *w, int64_t begin, int64_t end, const zl_activation *x, const zl_result *r, uint8_t *scratch) {
    switch (w->type) {
    case ZL_TYPE_F32: few_panels(ZL_TYPE_F32, w, begin, end, x, r, scratch); return;
    case ZL_TYPE_F16: few_panels(ZL_TYPE_F16, w, begin, end, x, r, scratch); return;
    case ZL_TYPE_BF16: few_panels(ZL_TYPE_BF16, w, begin, end, x, r, scratch); return;
    }
}

/* ---- many rows of x: 64 rows of W by 256 columns as floats in scratch (64 KiB), then tiles ------------------------------------------ */

ZL_INLINE void widen(const int fmt, const uint8_t *panel, int64_t k0, int64_t n, float *to) {
    for (int64_t k = 0; k < n; k++) vf_store(to + k * L, column(fmt, panel, k0 + k));
}

typedef struct {
    const uint8_t *wide;       /* panels of [n][L] floats, STRIP * L floats apart      */
    float *sums;               /* [t][ZL_TILE_ROWS]                                    */
    const zl_activation *x;
    const zl_result *r;
    int64_t row, t0, k0, n;    /* n columns from k0                                    */
} strip_;

ZL_INLINE void strip_tile(const int N, const strip_ *j, int p0, int64_t t) {
    float *sums = j->sums + (t - j->t0) * ZL_TILE_ROWS + p0 * L;
    const uint8_t *panel[MAX_P];
    vf acc[MAX_P * MAX_N];
    UNROLL for (int p = 0; p < MANY_P; p++) {
        panel[p] = j->wide + (p0 + p) * (STRIP * L * 4);
        UNROLL for (int n = 0; n < N; n++) acc[p * N + n] = j->k0 == 0 ? vf_zero() : vf_load(sums + n * ZL_TILE_ROWS + p * L);
    }
    tile(ZL_TYPE_F32, MANY_P, N, panel, 0, j->n, j->x->x + t * j->x->cols + j->k0, j->x->cols, acc);
    UNROLL for (int p = 0; p < MANY_P; p++) {
        UNROLL for (int n = 0; n < N; n++) {
            if (j->k0 + j->n == j->x->cols) store_outputs(j->r, t + n, j->row + (p0 + p) * L, acc[p * N + n]);
            else vf_store(sums + n * ZL_TILE_ROWS + p * L, acc[p * N + n]);
        }
    }
}

void ZL_FN(many_float)(const struct zl_weight *w, int64_t row, int64_t t0, int64_t t1, const zl_activation *x, const zl_result *r,
                       uint8_t *scratch) {
    uint8_t *repack = scratch + ZL_FLOAT_BYTES;
    strip_ j = {.wide = scratch, .sums = (float *)(void *)(repack + ZL_REPACK_BYTES), .x = x, .r = r, .row = row, .t0 = t0};
    const int64_t left = w->rows - row;
    const int panels = left < ZL_TILE_ROWS ? (int)((left + L - 1) / L) : PANELS;
    for (j.k0 = 0; j.k0 < w->cols; j.k0 += STRIP) {
        j.n = w->cols - j.k0 < STRIP ? w->cols - j.k0 : STRIP;
        for (int p = 0; p < panels; p++) {
            int64_t i = row / L + p, rows = w->rows - i * L, k0 = j.k0;
            const uint8_t *panel = w->panels + i * w->panel_bytes;
            if (w->mapped) {
                ZL_FN(pack)(w->type, rows < L ? rows : L, k0, j.n, w->data + i * L * w->row_bytes, w->row_bytes, repack);
                panel = repack, k0 = 0;
            }
            float *to = (float *)(void *)scratch + p * STRIP * L;
            switch (w->type) {
            case ZL_TYPE_F32: widen(ZL_TYPE_F32, panel, k0, j.n, to); break;
            case ZL_TYPE_F16: widen(ZL_TYPE_F16, panel, k0, j.n, to); break;
            case ZL_TYPE_BF16: widen(ZL_TYPE_BF16, panel, k0, j.n, to); break;
            }
        }
        for (int p = 0; p < panels; p += MANY_P) {
            int64_t t = t0;
            for (; t + MANY_N <= t1; t += MANY_N) strip_tile(MANY_N, &j, p, t);
            if (MANY_N > 4 && t + 4 <= t1) strip_tile(4, &j, p, t), t += 4;
            if (t + 2 <= t1) strip_tile(2, &j, p, t), t += 2;
            if (t < t1) strip_tile(1, &j, p, t);
        }
    }
}
