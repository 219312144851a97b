/* linear_float.c - products of a weight in F32, F16 or BF16 with any number of rows of x: decode and prefill alike.
 *
 *      panel: [k][L], the L rows' values of column k side by side         x: [k][g], the g rows' values of column k (linear.h)
 *
 *                     k ascending                 each output has one accumulator: acc = fma(w[k], x[k], acc), in float32. Those
 *      panel 0  |-------------------->            that are independent come from several panels and several rows of x, never from
 *      panel 1  |-------------------->            a split of K, so the shape of a tile has no influence on any bit.
 *
 * Two panels by a group of rows of x are in registers over all of K: with AVX-512 24 sums, for which 2 columns and 12 broadcasts are read,
 * so that loads take half of the time that the multiply-adds take. F16 and BF16 become floats in registers, each time they are
 * read: 2 conversions beside 24 multiply-adds, on other ports. What is read twice comes from the L2 cache: the pair for each further
 * group, the groups for each further pair. Few rows of x: four panels at a time, since then the memory sets the pace, and a core reads
 * four streams faster than two; and since one sum after the other waits for the one before.
 *
 * Products in bf16 (linear.h) are the same tile with a pair of columns in place of a column and vdpbf16ps in place of the multiply-add; F16
 * becomes bf16 in registers.
 *
 * A weight that is mapped is packed panel by panel into scratch and goes the same way.
 */
#include "../include/zl.h"
#include "linear_store.h"

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { PAIR = 2, QUAD = ZL_FLOAT_PANELS, STEP = 4 /* columns between two looks at the end */ };

/* What is multiplied: a type as floats, or its pairs as bf16. */
enum { PAIRS = 256, F16_PAIRS = ZL_TYPE_F16 | PAIRS, BF16_PAIRS = ZL_TYPE_BF16 | PAIRS };

ZL_INLINE int value_bytes(const int fmt) { return fmt == ZL_TYPE_F32 || fmt & PAIRS ? 4 : 2; }

/* L values, or pairs, at p in the form that is multiplied */
ZL_INLINE vf column(const int fmt, const uint8_t *p) {
    const void *at = p;
#if defined(ZL_ISA_avx512bf16)
    if (fmt == F16_PAIRS) return vf_bf16_of_f16(at);
    if (fmt == BF16_PAIRS) return vf_load(at);
#endif
    return fmt == ZL_TYPE_F32 ? vf_load(at) : fmt == ZL_TYPE_F16 ? vf_from_f16(at) : vf_from_bf16(at);
}

ZL_INLINE vf multiply_add(const int fmt, vf w, vf x, vf acc) {
#if defined(ZL_ISA_avx512bf16)
    if (fmt & PAIRS) return vf_dot_bf16(w, x, acc);
#endif
    (void)fmt;
    return vf_fma(w, x, acc);
}

/* acc[p * N + n] += column k of panel p times x[k][n]; at: where the column is, x: its g values or pairs */
ZL_INLINE void one_column(const int fmt, const int P, const int N, const uint8_t *const *panel, int64_t at, const int32_t *x, vf *acc) {
    vf w[QUAD];
    UNROLL for (int p = 0; p < P; p++) w[p] = column(fmt, panel[p] + at);
    UNROLL for (int n = 0; n < N; n++) {
        const vf v = vi_bits(vi_set1(x[n]));
        UNROLL for (int p = 0; p < P; p++) acc[p * N + n] = multiply_add(fmt, w[p], v, acc[p * N + n]);
    }
}

/* All columns. ahead: so many bytes ahead the panels are fetched from memory, or 0. No branch stands between sums and their use: gcc would
 * move sums behind it and keep them in memory meanwhile. */
ZL_INLINE void tile(const int fmt, const int P, const int N, const int64_t ahead, const uint8_t *const *panel, int64_t cols, const int32_t *x,
                    const int64_t g, vf *acc) {
    const int64_t size = L * value_bytes(fmt), end = cols * size;
    int64_t at = 0;
    for (; at + STEP * size <= end; at += STEP * size, x += STEP * g) {
        UNROLL for (int p = 0; ahead && p < P; p++)
            UNROLL for (int line = 0; line < STEP * L * value_bytes(fmt); line += 64) __builtin_prefetch(panel[p] + at + ahead + line);
        UNROLL for (int k = 0; k < STEP; k++) one_column(fmt, P, N, panel, at + k * size, x + k * g, acc);
    }
    for (; at < end; at += size, x += g) one_column(fmt, P, N, panel, at, x, acc);
}

typedef struct {
    const struct zl_weight *w;
    const uint8_t *panel[QUAD];
    int64_t at, end, part;     /* the first of the panels, the last panel of the run + 1, and from one of the panels to the next */
    const zl_activation *x;
    const zl_result *r;
} panels_job;

/* P panels by N rows of x from row t + i on, of the group of g rows that begins with row t */
ZL_INLINE void rows(const int fmt, const int P, const int N, const int64_t ahead, const panels_job *j, int64_t t, int64_t i, const int64_t g) {
    vf acc[PAIR * ZL_FLOAT_GROUP + QUAD];
    UNROLL for (int a = 0; a < P * N; a++) acc[a] = vf_zero();
    const int64_t cols = fmt & PAIRS ? (j->w->cols + 1) / 2 : j->w->cols;
    const void *x = fmt & PAIRS ? (const void *)j->x->pairs : (const void *)j->x->columns;
    tile(fmt, P, N, ahead, j->panel, cols, (const int32_t *)x + t * cols + i, g, acc);
    UNROLL for (int p = 0; p < P; p++) {
        const int64_t panel = j->at + p * j->part;
        if (panel >= j->end) break;
        UNROLL for (int n = 0; n < N; n++) store_outputs(j->r, t + i + n, panel * L, acc[p * N + n]);
    }
}

/* Whole groups; of the last one 8, 4, 2 and 1 rows: reading the panels again is cheaper than code for every number. */
ZL_INLINE void groups(const int fmt, const panels_job *j, int64_t t0, int64_t t1) {
    int64_t t = t0, i = 0;
    for (; t + ZL_FLOAT_GROUP <= t1; t += ZL_FLOAT_GROUP) rows(fmt, PAIR, ZL_FLOAT_GROUP, 0, j, t, 0, ZL_FLOAT_GROUP);
    const int64_t g = t1 - t; /* the last group ends with the last row of x */
    if (ZL_FLOAT_GROUP > 8 && i + 8 <= g) rows(fmt, PAIR, 8, 0, j, t, i, g), i += 8;
    if (ZL_FLOAT_GROUP > 4 && i + 4 <= g) rows(fmt, PAIR, 4, 0, j, t, i, g), i += 4;
    if (i + 2 <= g) rows(fmt, PAIR, 2, 0, j, t, i, g), i += 2;
    if (i < g) rows(fmt, PAIR, 1, 0, j, t, i, g);
}

/* P panels at a time: panel i of each P-th part of the run, so that each part is one long stream, read forwards (linear_quant.c). */
ZL_INLINE void run(const int fmt, const int P, const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1,
                   const zl_activation *x, const zl_result *r, uint8_t *scratch) {
    enum { AHEAD = 3072 }; /* the memory's latency at the speed at which a core consumes bytes */
    panels_job j = {.w = w, .end = end, .part = (end - begin + P - 1) / P, .x = x, .r = r};
    for (j.at = begin; j.at < begin + j.part; j.at++) {
        /* Where a part is shorter than the first, the first one's panel stands in for what is not there and is stored once. */
        for (int p = 0; p < P; p++) {
            const int64_t i = j.at + p * j.part;
            j.panel[p] = i < end || p == 0 ? panel_of(w, i, scratch + p * w->panel_bytes) : j.panel[0];
        }
        if (P == QUAD) rows(fmt, QUAD, 1, AHEAD, &j, t0, 0, 1);
        else groups(fmt, &j, t0, t1);
    }
}

#define FORMAT(fmt) \
    case fmt: \
        if (t1 - t0 == 1) run(fmt, QUAD, w, begin, end, t0, t1, x, r, scratch); \
        else run(fmt, PAIR, w, begin, end, t0, t1, x, r, scratch); \
        return;
void ZL_FLOAT_FN(linear_float)(const struct zl_weight *w, int64_t begin, int64_t end, int64_t t0, int64_t t1, const zl_activation *x,
                         const zl_result *r, uint8_t *scratch) {
    switch (w->type | (w->form == ZL_PAIRS ? PAIRS : 0)) {
#if defined(ZL_ISA_avx512bf16)
        FORMAT(F16_PAIRS)
        FORMAT(BF16_PAIRS)
#endif
        FORMAT(ZL_TYPE_F32)
        FORMAT(ZL_TYPE_F16)
        FORMAT(ZL_TYPE_BF16)
    }
}

/* ---- x in groups --------------------------------------------------------------------------------------------------------------------- */

ZL_INLINE void interleave(const int64_t g, int64_t cols, const float *x, float *to) {
    for (int64_t k = 0; k < cols; k++, to += g)
        for (int64_t n = 0; n < g; n++) to[n] = x[n * cols + k];
}

void ZL_FLOAT_FN(interleave_group)(int64_t g, int64_t cols, const float *x, float *to) {
    if (g == ZL_FLOAT_GROUP) interleave(ZL_FLOAT_GROUP, cols, x, to);
    else interleave(g, cols, x, to);
}

/* float32 -> bf16, to nearest, ties to even, as integers; a NaN stays one */
ZL_INLINE uint32_t bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return (u & 0x7fffffffu) > 0x7f800000u ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

ZL_INLINE void interleave_pairs(const int64_t g, int64_t cols, const float *x, uint32_t *to) {
    for (int64_t k = 0; k + 1 < cols; k += 2, to += g)
        for (int64_t n = 0; n < g; n++) to[n] = bf16(x[n * cols + k]) | bf16(x[n * cols + k + 1]) << 16;
    for (int64_t n = 0; cols % 2 && n < g; n++) to[n] = bf16(x[n * cols + cols - 1]);
}

void ZL_FLOAT_FN(interleave_bf16)(int64_t g, int64_t cols, const float *x, uint32_t *to) {
    if (g == ZL_FLOAT_GROUP) interleave_pairs(ZL_FLOAT_GROUP, cols, x, to);
    else interleave_pairs(g, cols, x, to);
}
