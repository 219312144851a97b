/* attention.c - attention over one span of a paged cache, written once over simd.h and compiled once per ISA variant. The arithmetic,
 * and why it gives the same bits however the work is cut, is in attention.h.
 *
 * Both products are register tiles. A tile is NQ query rows (1 to 6) times NV vectors:
 *
 *      scores                                      values
 *        c ascending, lane = key                     j ascending, lane = channel
 *        x[i][v] += k[c][v] * q[c][i]                o[i][v] += value[j][v] * p[i][j]
 *
 * so one load of k (or of a value) serves NQ rows, one broadcast of q (or p) serves NV vectors, and NQ * NV independent chains hide the
 * latency of the multiply-add. Which shape is used changes no bit: every lane has its own accumulator and the same order.
 */
#include "kernels.h"
#include "rows_math.h"

#define TILE ZL_QUERY_TILE
#define SPAN ZL_SPAN
#define NEG_INF (-__builtin_inff())

/* Vectors beside NQ rows: as many accumulators as the registers hold (about 12 of 16, 24 of 32). */
#if defined(ZL_ISA_avx512) || defined(__aarch64__)
#define WIDE(nq) ((nq) == 1 ? 8 : 4)
#else
#define WIDE(nq) ((nq) == 1 ? 8 : (nq) <= 3 ? 4 : 2)
#endif
#define KEY_VECTORS (SPAN / L)

/* ---- pages ---------------------------------------------------------------------------------------------------------------------- */

static void store_f16(int64_t n, const float *x, uint16_t *dst, int64_t stride) {
    for (int64_t i = 0; i < n; i += L) {
        uint16_t h[L];
        int m = n - i < L ? (int)(n - i) : L;
        vf_to_f16(h, m < L ? vf_load_n(x + i, m) : vf_load(x + i));
        for (int j = 0; j < m; j++) dst[(i + j) * stride] = h[j];
    }
}

void ZL_FN(kv_store)(int f16, int64_t n, const float *x, void *dst, int64_t stride) {
    if (f16) store_f16(n, x, dst, stride);
    else for (int64_t i = 0; i < n; i++) ((float *)dst)[i * stride] = x[i];
}

/* The next L values of a page. */
ZL_INLINE vf load_page(int f16, const void *p, int64_t i) {
    return f16 ? vf_from_f16((const uint16_t *)p + i) : vf_load((const float *)p + i);
}

ZL_INLINE void load_rows(int f16, int64_t rows, int64_t n, const void *src, float *dst, int64_t dst_stride) {
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = 0;
        for (; i + L <= n; i += L) vf_store(dst + r * dst_stride + i, load_page(f16, src, r * n + i));
        if (i < n) { /* by way of a full vector, so that nothing beyond the page is read */
            float tail[L] = {0};
            memcpy(tail, (const char *)src + (size_t)(r * n + i) * (f16 ? 2 : 4), (size_t)(n - i) * (f16 ? 2 : 4));
            vf_store(dst + r * dst_stride + i, load_page(f16, tail, 0));
        }
    }
}

void ZL_FN(kv_load)(int f16, int64_t rows, int64_t n, const void *src, float *dst, int64_t dst_stride) {
    if (f16) load_rows(1, rows, n, src, dst, dst_stride);
    else load_rows(0, rows, n, src, dst, dst_stride);
}

/* Decode reads every page once, from memory. The two products take turns, so each fetches for the other: while the keys are read, the
 * values at the same place of their page; while the values are read, the next span's keys. Prefill's pages are in the cache after
 * their first tile, so full tiles of float32 (which widened pages are) fetch nothing. */
#define FETCHES(nq, f16) ((f16) || (nq) < TILE)
ZL_INLINE void fetch(const void *page, int64_t value, int f16) { __builtin_prefetch((const char *)page + value * (f16 ? 2 : 4), 0, 2); }

/* ---- scores --------------------------------------------------------------------------------------------------------------------- */

/* q [dk][6] of one tile; k one key page [4][dk][16]; writes p [nq][64] for the vectors v0 .. v0+nv-1 of keys. `ahead`: see above. */
ZL_INLINE void score_tile(int nq, int nv, int f16, int dk, const float *q, const void *k, const void *ahead, int v0, float *p) {
    vf acc[TILE][8];
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++) acc[i][v] = vf_zero();
    const int64_t group = (int64_t)dk * ZL_KEY_GROUP;
    for (int c = 0; c < dk; c++) {
        vf key[8];
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++) {
            int j = (v0 + v) * L;
            int64_t at = j / ZL_KEY_GROUP * group + (int64_t)c * ZL_KEY_GROUP + j % ZL_KEY_GROUP;
            key[v] = load_page(f16, k, at);
            if (FETCHES(nq, f16) && v * L % ZL_KEY_GROUP == 0) fetch(ahead, at, f16);
        }
#pragma GCC unroll 8
        for (int i = 0; i < nq; i++) {
            vf x = vf_set1(q[c * TILE + i]);
#pragma GCC unroll 8
            for (int v = 0; v < nv; v++) acc[i][v] = vf_fma(key[v], x, acc[i][v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 8
        for (int v = 0; v < nv; v++) vf_store(p + i * SPAN + (v0 + v) * L, acc[i][v]);
}

/* The vectors of keys that hold the keys from .. to-1. */
ZL_INLINE void score_range(int nq, int f16, int dk, const float *q, const void *k, const void *ahead, int from, int to, float *p) {
    enum { ALL = KEY_VECTORS };
    const int wide = WIDE(nq) < ALL ? WIDE(nq) : ALL;
    for (int v = from / L / wide * wide; v * L < to; v += wide) score_tile(nq, wide, f16, dk, q, k, ahead, v, p);
}

/* ---- weights -------------------------------------------------------------------------------------------------------------------- */

ZL_INLINE vi seen_lanes(int v, int lo, int hi) {
    vi lane; /* the number of each lane */
    for (int i = 0; i < L; i++) lane[i] = i;
    return (lane + v * L >= lo) & (lane + v * L < hi);
}

/* One row: products in p[0..63] -> scores in place; their maximum over the keys lo .. hi-1 (at least one). Other lanes of the vectors that
 * those keys touch become -inf; vectors that they do not touch are left alone, nobody reads them. */
ZL_INLINE float span_scores(float *p, int lo, int hi, float scale, float cap) {
    vf top = vf_set1(NEG_INF);
    for (int v = lo / L; v * L < hi; v++) {
        vf x = vf_load(p + v * L) * scale;
        if (cap > 0) x = vf_tanh(x / cap) * cap;
        if (v * L < lo || v * L + L > hi) x = vf_select(seen_lanes(v, lo, hi), x, vf_set1(NEG_INF));
        top = vf_max(x, top);
        vf_store(p + v * L, x);
    }
    return vf_hmax(top);
}

/* Scores -> weights exp(x - max) in place; their sum. Lanes that are not seen get 0 even when the maximum is infinite or NaN. */
ZL_INLINE float span_weights(float *p, int lo, int hi, float max) {
    vf total = vf_zero();
    for (int v = lo / L; v * L < hi; v++) {
        vf e = vf_exp(vf_load(p + v * L) - max);
        if (v * L < lo || v * L + L > hi) e = vf_select(seen_lanes(v, lo, hi), e, vf_zero());
        vf_store(p + v * L, e);
        total += e;
    }
    return vf_sum(total);
}

/* The factors of the merge: of what was there (*a) and of the span (*b); updates m and l. */
ZL_INLINE void merge_factors(float *m, float *l, float ms, float ls, float *a, float *b) {
    if (*l == 0.0f) *a = 0.0f, *b = 1.0f, *m = ms; /* the first span: exp(-inf - ms) = 0; a sum is at least 1 (or NaN) from then on */
    else if (ms > *m) *a = exp1(*m - ms), *b = 1.0f, *m = ms;
    else *a = 1.0f, *b = exp1(ms - *m); /* exp(0) is exactly 1 */
    *l = vf_fma(vf_set1(*l), vf_set1(*a), vf_set1(ls * *b))[0];
}

/* ---- values --------------------------------------------------------------------------------------------------------------------- */

/* One tile of rows as value_tile sees it. Rows [common_lo, common_hi) of the page are seen by all of them; of the others in
 * [from, to) each row takes only what it sees. */
typedef struct {
    int from, common_lo, common_hi, to;
    const int32_t *lo, *hi;
    const float *p;
    const void *ahead; /* the next keys */
    float *const *o;
    int merge;
    float a[TILE], b[TILE];
} tile;

ZL_INLINE void value_key(int nq, int nv, int f16, int ragged, const tile *t, const void *v, int64_t at, int j, vf acc[TILE][8]) {
    vf x[8];
#pragma GCC unroll 8
    for (int c = 0; c < nv; c++) x[c] = load_page(f16, v, at + c * L);
    if (FETCHES(nq, f16))
#pragma GCC unroll 8
        for (int c = 0; c < nv; c += f16 ? 32 / L : 16 / L) fetch(t->ahead, at + c * L, f16); /* once per cache line */
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++) {
        if (ragged && (j < t->lo[i] || j >= t->hi[i])) continue;
        vf w = vf_set1(t->p[i * SPAN + j]);
#pragma GCC unroll 8
        for (int c = 0; c < nv; c++) acc[i][c] = vf_fma(x[c], w, acc[i][c]);
    }
}

/* Channels c0 .. c0 + nv*L - 1 (the last n of them when n < nv*L exist only as padding and are not written). */
ZL_INLINE void value_tile(int nq, int nv, int f16, const tile *t, const void *v, int64_t stride, int c0, int dv) {
    vf acc[TILE][8];
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++)
#pragma GCC unroll 8
        for (int c = 0; c < nv; c++) acc[i][c] = vf_zero();
    int j = t->from;
    for (; j < t->common_lo; j++) value_key(nq, nv, f16, 1, t, v, j * stride + c0, j, acc);
    for (; j < t->common_hi; j++) value_key(nq, nv, f16, 0, t, v, j * stride + c0, j, acc);
    for (; j < t->to; j++) value_key(nq, nv, f16, 1, t, v, j * stride + c0, j, acc);
#pragma GCC unroll 8
    for (int i = 0; i < nq; i++) {
        if (t->lo[i] >= t->hi[i]) continue; /* sees nothing here: its state stays as it is */
        float *o = t->o[i] + c0;
        vf a = vf_set1(t->a[i]), b = vf_set1(t->b[i]);
#pragma GCC unroll 8
        for (int c = 0; c < nv; c++) {
            int n = dv - c0 - c * L;
            vf x = acc[i][c];
            if (n >= L) vf_store(o + c * L, t->merge ? vf_fma(vf_load(o + c * L), a, x * b) : x);
            else vf_store_n(o + c * L, t->merge ? vf_fma(vf_load_n(o + c * L, n), a, x * b) : x, n);
        }
    }
}

ZL_INLINE void values(int nq, int f16, const tile *t, const void *v, int64_t stride, int dv) {
    int c = 0, n = (dv + L - 1) / L;
    for (; c + WIDE(nq) <= n; c += WIDE(nq)) value_tile(nq, WIDE(nq), f16, t, v, stride, c * L, dv);
    if (WIDE(nq) > 2) for (; c + 2 <= n; c += 2) value_tile(nq, 2, f16, t, v, stride, c * L, dv);
    for (; c < n; c++) value_tile(nq, 1, f16, t, v, stride, c * L, dv);
}

/* ---- a span --------------------------------------------------------------------------------------------------------------------- */

/* What the rows of the tile see of the span; 0 when that is nothing. */
static int tile_range(int nq, tile *t) {
    int lo = SPAN, hi = 0, lo_all = 0, hi_all = SPAN;
    for (int i = 0; i < nq; i++) {
        if (t->lo[i] >= t->hi[i]) continue;
        if (t->lo[i] < lo) lo = t->lo[i];
        if (t->hi[i] > hi) hi = t->hi[i];
        if (t->lo[i] > lo_all) lo_all = t->lo[i];
        if (t->hi[i] < hi_all) hi_all = t->hi[i];
    }
    if (lo_all > hi_all) lo_all = hi_all = lo; /* no key that all of them see */
    t->from = lo, t->to = hi, t->common_lo = lo_all, t->common_hi = hi_all;
    return lo < hi;
}

ZL_INLINE void span_tile(int nq, const zl_attention *a, const zl_attention_page *page, int i0) {
    tile t = {.lo = a->lo + i0, .hi = a->hi + i0, .o = a->o + i0, .merge = a->merge};
    if (!tile_range(nq, &t)) return;
    float *p = a->p + (int64_t)i0 * SPAN;
    const float *q = a->q + (int64_t)i0 * a->dk;
    t.p = p;
    t.ahead = page->next_k;
    if (page->k_f16) score_range(nq, 1, a->dk, q, page->k, page->v, t.from, t.to, p);
    else score_range(nq, 0, a->dk, q, page->k, page->v, t.from, t.to, p);
    /* first all maxima, then all sums: the rows' chains of dependent instructions overlap */
    float top[TILE], sum[TILE] = {0};
    for (int i = 0; i < nq; i++) top[i] = t.lo[i] < t.hi[i] ? span_scores(p + i * SPAN, t.lo[i], t.hi[i], a->scale, a->softcap) : 0;
    for (int i = 0; i < nq; i++) {
        if (t.lo[i] < t.hi[i]) sum[i] = span_weights(p + i * SPAN, t.lo[i], t.hi[i], top[i]);
        else memset(p + i * SPAN, 0, SPAN * sizeof *p); /* the common keys meet these in accumulators that are thrown away */
    }
    for (int i = 0; i < nq; i++) {
        if (t.lo[i] >= t.hi[i]) continue;
        if (a->merge) merge_factors(&a->m[i0 + i], &a->l[i0 + i], top[i], sum[i], &t.a[i], &t.b[i]);
        else a->m[i0 + i] = top[i], a->l[i0 + i] = sum[i];
    }
    if (page->v_f16) values(nq, 1, &t, page->v, page->v_stride, a->dv);
    else values(nq, 0, &t, page->v, page->v_stride, a->dv);
}

/* One copy of the code per number of rows, so that every tile stays in registers. */
#define SPAN_TILE(n) \
    static __attribute__((noinline)) void span_tile_##n(const zl_attention *a, const zl_attention_page *page, int i0) { span_tile(n, a, page, i0); }
SPAN_TILE(1)
SPAN_TILE(2)
SPAN_TILE(3)
SPAN_TILE(4)
SPAN_TILE(5)
SPAN_TILE(6)

void ZL_FN(attention_span)(const zl_attention *a, const zl_attention_page *page) {
    int i = 0;
    for (; i + TILE <= a->n_q; i += TILE) span_tile_6(a, page, i);
    switch (a->n_q - i) {
    case 1: span_tile_1(a, page, i); break;
    case 2: span_tile_2(a, page, i); break;
    case 3: span_tile_3(a, page, i); break;
    case 4: span_tile_4(a, page, i); break;
    case 5: span_tile_5(a, page, i); break;
    default: break;
    }
}

void ZL_FN(attention_merge)(int64_t dv, float *m, float *l, float *o, float ms, float ls, const float *os) {
    float fa, fb;
    merge_factors(m, l, ms, ls, &fa, &fb);
    vf a = vf_set1(fa), b = vf_set1(fb);
    int64_t c = 0;
    for (; c + L <= dv; c += L) vf_store(o + c, vf_fma(vf_load(o + c), a, vf_load(os + c) * b));
    int n = (int)(dv - c);
    if (n) vf_store_n(o + c, vf_fma(vf_load_n(o + c, n), a, vf_load_n(os + c, n) * b), n);
}

void ZL_FN(attention_finish)(int64_t dv, float l, float *o) {
    if (l == 0.0f) return;
    int64_t c = 0;
    for (; c + L <= dv; c += L) vf_store(o + c, vf_load(o + c) / l);
    int n = (int)(dv - c);
    if (n) vf_store_n(o + c, vf_load_n(o + c, n) / l, n);
}
