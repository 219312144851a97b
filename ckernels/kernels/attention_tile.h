/* attention_tile.h - the two products of attention as register tiles: queries times keys, weights times values.
 *
 * A tile is NQ query rows (1 to 8) times NV vectors:
 *
 *      scores                                      values
 *        c ascending, lane = key                     j ascending, lane = channel
 *        y[i][v] += k[c][v] * q[c][i]                o[i][v] += value[j][v] * p[i][j]
 *
 * so one load of k (or of a value) serves NQ rows, one broadcast of q (or p) serves NV vectors, and NQ * NV independent chains hide the
 * latency of the multiply-add. Which shape is used changes no bit: every lane has its own accumulator and the same order.
 */
#ifndef ZL_ATTENTION_TILE_H
#define ZL_ATTENTION_TILE_H
#include "kernels.h"

#define TILE ZL_QUERY_TILE
#define PAGE ZL_PAGE

/* Vectors beside NQ rows: as many accumulators as the registers hold (about 12 of 16, 24 of 32). */
#if defined(ZL_ISA_avx512) || defined(__aarch64__)
#define WIDE(nq) ((nq) == 1 ? 8 : (nq) <= 6 ? 4 : 2)
#else
#define WIDE(nq) ((nq) == 1 ? 8 : (nq) <= 3 ? 4 : 2)
#endif
enum { PAGE_VECTORS = PAGE / L };

/* The next L values of a page. */
ZL_INLINE vf load_page(int f16, const void *p, int64_t i) {
    return f16 ? vf_from_f16((const uint16_t *)p + i) : vf_load((const float *)p + i);
}

/* Decode reads every page once, from memory. The two products take turns, so each fetches for the other: while the keys of a page are
 * read, its values; while the values of a span are read, the next span's keys. `n` values from value `at` on. */
ZL_INLINE void fetch(const void *page, int64_t at, int n, int f16) {
    const char *p = (const char *)page + at * (f16 ? 2 : 4);
    for (int b = 0; b < n * (f16 ? 2 : 4); b += 64) __builtin_prefetch(p + b, 0, 2);
}

/* x * (*y) + z. AVX-512 multiplies by a number in memory without a register or a shuffle for it: on Zen 4 the broadcasts of few rows and
 * the conversions from half precision get into each other's way otherwise (3 rows, 4 vectors: 12.0 cycles instead of 14.4). */
ZL_INLINE vf fma_by(vf x, const float *y, vf z) {
#if defined(ZL_ISA_avx512) && !defined(ZL_EMULATED_AVX512_H)
    __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(z) : "v"(x), "m"(*y));
    return z;
#else
    return vf_fma(x, vf_set1(*y), z);
#endif
}

/* ---- scores --------------------------------------------------------------------------------------------------------------------- */

/* One tile of queries and one page of keys. */
typedef struct {
    int dk, stride;     /* stride: rows of a whole tile                    */
    const float *q;     /* [dk][stride]                                    */
    const void *k;      /* [4][dk][16]                                     */
    const void *ahead;  /* the page's values                               */
    float *p;           /* [nq][PAGE]                                      */
} score;

/* Scores of the vectors v0 .. v0+nv-1 of the page's keys. */
ZL_INLINE void score_tile(int nq, int nv, int f16, int ahead, const score *s, int v0) {
    vf acc[TILE][8];
    const int dk = s->dk;
    const int64_t stride = s->stride;
    const float *q = s->q;
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++) acc[i][v] = vf_zero();
    for (int c = 0; c < dk; c++, q += stride) {
        if (ahead) fetch(s->ahead, (int64_t)v0 * L * dk + c * nv * L, nv * L, f16);
        vf key[8];
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++) {
            int j = (v0 + v) * L;
            int64_t at = (int64_t)(j / ZL_KEY_GROUP) * dk * ZL_KEY_GROUP + (int64_t)c * ZL_KEY_GROUP + j % ZL_KEY_GROUP;
            key[v] = load_page(f16, s->k, at);
            if (nq < nv)
#pragma GCC unroll 8
                for (int i = 0; i < nq; i++) acc[i][v] = fma_by(key[v], q + i, acc[i][v]);
        }
        if (nq >= nv)
#pragma GCC unroll 8
            for (int i = 0; i < nq; i++) {
                vf y = vf_set1(q[i]);
#pragma GCC unroll 8
                for (int v = 0; v < nv; v++) acc[i][v] = vf_fma(key[v], y, acc[i][v]);
            }
    }
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++) vf_store(s->p + i * PAGE + (v0 + v) * L, acc[i][v]);
}

/* The vectors that hold the keys from .. to-1 of the page. */
ZL_INLINE void scores(int nq, int f16, int ahead, const score *s, int from, int to) {
    const int wide = WIDE(nq) < PAGE_VECTORS ? WIDE(nq) : PAGE_VECTORS;
    int v = from / L, end = (to + L - 1) / L;
    v -= v % wide;
    for (; v + wide <= end; v += wide) score_tile(nq, wide, f16, ahead, s, v);
    if (wide > 4 && v + 4 <= end) score_tile(nq, 4, f16, ahead, s, v), v += 4;
    if (wide > 2 && v + 2 <= end) score_tile(nq, 2, f16, ahead, s, v), v += 2;
    if (v < end) score_tile(nq, 1, f16, ahead, s, v);
}

/* ---- values --------------------------------------------------------------------------------------------------------------------- */

/* One tile of rows. Keys [common_lo, common_hi) of the span are seen by all of them; of the others in [from, to) each row takes only
 * what it sees. */
typedef struct {
    int from, common_lo, common_hi, to;
    const int32_t *lo, *hi;
    const float *p;                   /* [nq][PAGE] */
    const zl_attention_span *span;
    float *const *o;
    int dv, merge;
    float a[TILE], b[TILE];
} tile;

ZL_INLINE void value_keys(int nq, int nv, int f16, int ahead, int ragged, const tile *t, int c0, int from, int to, vf acc[TILE][8]) {
    const int64_t stride = t->span->v_stride;
    const float *p = t->p + from;
    const char *v = (const char *)t->span->v + (from * stride + c0) * (f16 ? 2 : 4);
    for (int j = from; j < to; j++, p++, v += stride * (f16 ? 2 : 4)) {
        if (ahead) fetch(t->span->next_k, (int64_t)c0 * PAGE + j * nv * L, nv * L, f16);
        vf x[8];
#pragma GCC unroll 8
        for (int c = 0; c < nv; c++) {
            x[c] = load_page(f16, v, c * L);
            if (nq < nv && !ragged)
#pragma GCC unroll 8
                for (int i = 0; i < nq; i++) acc[i][c] = fma_by(x[c], p + i * PAGE, acc[i][c]);
        }
        if (nq >= nv || ragged)
#pragma GCC unroll 8
            for (int i = 0; i < nq; i++) {
                if (ragged && (j < t->lo[i] || j >= t->hi[i])) continue;
                vf y = vf_set1(p[i * PAGE]);
#pragma GCC unroll 8
                for (int c = 0; c < nv; c++) acc[i][c] = vf_fma(x[c], y, acc[i][c]);
            }
    }
}

/* Channels c0 .. c0 + nv*L - 1. `tail` > 0: of the one vector only the last (the first, if a value has no whole vector) `tail` lanes are
 * new; the others are there so that no vector reaches beyond its row. */
ZL_INLINE void value_tile(int nq, int nv, int f16, int ahead, const tile *t, int c0, int tail) {
    vf acc[TILE][8];
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 8
        for (int c = 0; c < nv; c++) acc[i][c] = vf_zero();
    if (t->from < t->common_lo) value_keys(nq, nv, f16, 0, 1, t, c0, t->from, t->common_lo, acc);
    value_keys(nq, nv, f16, ahead, 0, t, c0, t->common_lo, t->common_hi, acc);
    if (t->common_hi < t->to) value_keys(nq, nv, f16, 0, 1, t, c0, t->common_hi, t->to, acc);
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++) {
        if (t->lo[i] >= t->hi[i]) continue; /* sees nothing here: its state stays as it is */
        vf a = vf_set1(t->a[i]), b = vf_set1(t->b[i]);
        if (tail) {
            float lanes[2 * L] = {0};
            vf_store(lanes, acc[i][0]);
            float *o = t->o[i] + t->dv - tail;
            vf x = vf_load(lanes + (t->dv < L ? 0 : L - tail));
            vf_store_n(o, t->merge ? vf_fma(vf_load_n(o, tail), a, x * b) : x, tail);
            continue;
        }
        float *o = t->o[i] + c0;
#pragma GCC unroll 8
        for (int c = 0; c < nv; c++) {
            vf x = acc[i][c];
            vf_store(o + c * L, t->merge ? vf_fma(vf_load(o + c * L), a, x * b) : x);
        }
    }
}

ZL_INLINE void values(int nq, int f16, int ahead, const tile *t) {
    int c = 0, n = t->dv / L, tail = t->dv % L;
    for (; c + WIDE(nq) <= n; c += WIDE(nq)) value_tile(nq, WIDE(nq), f16, ahead, t, c * L, 0);
    if (WIDE(nq) > 4 && c + 4 <= n) value_tile(nq, 4, f16, ahead, t, c * L, 0), c += 4;
    if (WIDE(nq) > 2 && c + 2 <= n) value_tile(nq, 2, f16, ahead, t, c * L, 0), c += 2;
    if (c < n) value_tile(nq, 1, f16, ahead, t, c * L, 0);
    if (tail) value_tile(nq, 1, f16, ahead, t, t->dv < L ? 0 : t->dv - L, tail);
}
#endif
