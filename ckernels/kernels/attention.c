/* attention.c - attention over one span of a paged cache, written once over simd.h and compiled once per ISA variant. The arithmetic,
 * and why it gives the same bits however the work is cut, is in attention.h; the products are in attention_tile.h.
 */
#include "attention_tile.h"
#include "rows_math.h"

#define NEG_INF (-__builtin_inff())
#define LOG2E 1.44269504088896341f

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

/* L codes -> floats. (gcc takes a vector of 8 or 4 bytes apart when it is asked to convert it: ten times the instructions.) */
ZL_INLINE vf load_codes(const int8_t *p) {
#if defined(ZL_ISA_avx512) && !defined(ZL_EMULATED_AVX512_H)
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
#elif defined(ZL_ISA_avx2)
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
#else
    vi q;
    for (int i = 0; i < L; i++) q[i] = p[i];
    return vi_to_vf(q);
#endif
}

/* A quant block is 32 channels of one key:
 *
 *      keys    int8 [4 groups][n][16 keys]   f16 [4][n/32][16]       a vector of scales serves 32 vectors of codes
 *      values  int8 [64 keys][n]             f16 [64][n/32]          so the blocks and their scales stand one after another
 */
void ZL_FN(kv_load_q8)(int keys, int64_t n, const void *src, float *dst, const void *ahead) {
    enum { BLOCKS = 16, BYTES = BLOCKS * (ZL_KV_BLOCK + 2) }; /* 16 blocks at a time, and so many bytes of the page that comes next */
    const int8_t *q = src;
    const uint16_t *d = (const uint16_t *)(const void *)(q + ZL_PAGE * n);
    for (int64_t b = 0; b < ZL_PAGE * n / ZL_KV_BLOCK; b += BLOCKS, q += BLOCKS * ZL_KV_BLOCK, dst += BLOCKS * ZL_KV_BLOCK) {
        fetch(ahead, b / BLOCKS * BYTES, BYTES / 2, 1);
        for (int i = 0; i < BLOCKS; i += L) {
            vf scale = vf_from_f16(d + b + i);
            if (keys) {
                for (int c = 0; c < ZL_KV_BLOCK; c++) vf_store(dst + c * ZL_KEY_GROUP + i, load_codes(q + c * ZL_KEY_GROUP + i) * scale);
                continue;
            }
            float of[L];
            vf_store(of, scale);
            for (int j = 0; j < L; j++)
                for (int c = (i + j) * ZL_KV_BLOCK; c < (i + j + 1) * ZL_KV_BLOCK; c += L) vf_store(dst + c, load_codes(q + c) * vf_set1(of[j]));
        }
    }
}

/* ---- weights -------------------------------------------------------------------------------------------------------------------- */

/* 2^x for x <= 0: x = n + f, n an integer, |f| <= 1/2. Adding 1.5 * 2^23 + 127 rounds x to an integer and leaves n + 127 in the low bits,
 * which are 2^n when they are shifted to where the exponent is. 2^f = 1 + f Q(f), Q of degree 5 (minimax in the relative error, by
 * Lawson's weighted least squares on 2,000 Chebyshev points: 0.04 u; 1.7 u with all roundings, measured). 2^0 is exactly 1. Results
 * below 2^-126 are 0 or smaller than that; NaN stays NaN, since vf_max gives its second argument. */
ZL_INLINE vf exp2_of(vf x) {
    const vf magic = vf_set1(12583039.0f);
    x = vf_max(vf_set1(-127.0f), x);
    vf t = x + magic;
    vf f = x - (t - magic);
    vf q = vf_set1(1.5353361949e-04f);
    q = vf_fma(q, f, vf_set1(1.3398874404e-03f));
    q = vf_fma(q, f, vf_set1(9.6184373574e-03f));
    q = vf_fma(q, f, vf_set1(5.5503324712e-02f));
    q = vf_fma(q, f, vf_set1(2.4022647914e-01f));
    q = vf_fma(q, f, vf_set1(6.9314720286e-01f));
    q = vf_fma(q, f, vf_set1(1.0f));
    return q * vi_bits(vf_bits(t) << 23);
}
ZL_INLINE float exp2_1(float x) { return exp2_of(vf_set1(x))[0]; }

ZL_INLINE vi lane_numbers(void) {
    vi lane;
    for (int i = 0; i < L; i++) lane[i] = i;
    return lane;
}
ZL_INLINE vi lanes_from(int first) { return lane_numbers() >= first; }

/* One row: slope * (key - row) is added to the scores of the keys lo .. hi-1; `away`: the span's first key less the row. */
static void span_slopes(float *p, int lo, int hi, float slope, int32_t away) {
    for (int v = lo / L; v * L < hi; v++) vf_store(p + v * L, vf_fma(vi_to_vf(lane_numbers() + (away + v * L)), vf_set1(slope), vf_load(p + v * L)));
}

/* One row: products in p[0 .. PAGE-1] -> scores in place; their maximum over the keys lo .. hi-1 (at least one). Other lanes of the
 * vectors that those keys touch become -inf; vectors that they do not touch are left alone, nobody reads them. */
ZL_INLINE float span_scores(const zl_attention *a, int i, float *p, int lo, int hi) {
    const int first = lo / L, end = (hi + L - 1) / L;
    const float cap = a->softcap;
    if (cap > 0)
        for (int v = first; v < end; v++) vf_store(p + v * L, vf_tanh(vf_load(p + v * L)) * (cap * LOG2E));
    if (a->slope) span_slopes(p, lo, hi, a->slope[i], a->away[i]);
    if (lo % L) vf_store(p + first * L, vf_select(lanes_from(lo % L), vf_load(p + first * L), vf_set1(NEG_INF)));
    if (hi % L) vf_store(p + hi / L * L, vf_select(lanes_from(hi % L), vf_set1(NEG_INF), vf_load(p + hi / L * L)));
    vf top = vf_set1(NEG_INF);
    for (int v = first; v < end; v++) top = vf_max(vf_load(p + v * L), top);
    return vf_hmax(top);
}

/* Scores -> weights 2^(x - max) in place; their sum. Lanes that are not seen are 2^-inf = 0 (or NaN, when all is). */
ZL_INLINE float span_weights(float *p, int lo, int hi, float max) {
    vf total = vf_zero(), top = vf_set1(max);
    for (int v = lo / L; v * L < hi; v++) {
        vf e = exp2_of(vf_load(p + v * L) - top);
        vf_store(p + v * L, e);
        total += e;
    }
    return vf_sum(total);
}

/* The factors of the merge: of what was there (*a) and of the span (*b); updates m and l. */
ZL_INLINE void merge_factors(float *m, float *l, float ms, float ls, float *a, float *b) {
    if (*l == 0.0f) *a = 0.0f, *b = 1.0f, *m = ms; /* the first span: 2^(-inf - ms) = 0; a sum is at least 1 (or NaN) from then on */
    else if (ms > *m) *a = exp2_1(*m - ms), *b = 1.0f, *m = ms;
    else *a = 1.0f, *b = exp2_1(ms - *m); /* 2^0 is exactly 1 */
    *l = vf_fma(vf_set1(*l), vf_set1(*a), vf_set1(ls * *b))[0];
}

/* ---- a span --------------------------------------------------------------------------------------------------------------------- */

/* What the rows of the tile see of the span; 0 when that is nothing. */
static int tile_range(int nq, tile *t) {
    int lo = PAGE, hi = 0, lo_all = 0, hi_all = PAGE;
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

ZL_INLINE void span_tile(int nq, const zl_attention *a, const zl_attention_span *s, int i0) {
    tile t = {.lo = a->lo + i0, .hi = a->hi + i0, .o = a->o + i0, .merge = a->merge, .p = a->p, .span = s, .dv = a->dv};
    if (!tile_range(nq, &t)) return;
    const int first = i0 == 0; /* the tile that meets the page first fetches what comes after it */
    score sc = {a->dk, a->tile, a->q + (int64_t)i0 * a->dk, s->k, s->v, a->p};
    if (s->k_f16 && first) scores(nq, 1, 1, &sc, t.from, t.to);
    else if (s->k_f16) scores(nq, 1, 0, &sc, t.from, t.to);
    else scores(nq, 0, 0, &sc, t.from, t.to);
    /* first all maxima, then all sums: the rows' chains of dependent instructions overlap */
    float top[TILE], sum[TILE] = {0};
    for (int i = 0; i < nq; i++) top[i] = t.lo[i] < t.hi[i] ? span_scores(a, i0 + i, a->p + i * PAGE, t.lo[i], t.hi[i]) : 0;
    for (int i = 0; i < nq; i++) {
        if (t.lo[i] < t.hi[i]) sum[i] = span_weights(a->p + i * PAGE, t.lo[i], t.hi[i], top[i]);
        else memset(a->p + i * PAGE, 0, PAGE * sizeof *a->p); /* the common keys meet these in accumulators that are thrown away */
    }
    for (int i = 0; i < nq; i++) {
        if (t.lo[i] >= t.hi[i]) continue;
        if (a->merge) merge_factors(&a->m[i0 + i], &a->l[i0 + i], top[i], sum[i], &t.a[i], &t.b[i]);
        else a->m[i0 + i] = top[i], a->l[i0 + i] = sum[i];
    }
    if (s->v_f16 && first) values(nq, 1, 1, &t);
    else if (s->v_f16) values(nq, 1, 0, &t);
    else values(nq, 0, 0, &t);
}

/* One copy of the code per number of rows, so that every tile stays in registers. Called by name and not through a table of addresses:
 * who reads the machine code (tools/disassembly.py) follows calls. */
#define SPAN_TILE(n) \
    static __attribute__((noinline)) void span_tile_##n(const zl_attention *a, const zl_attention_span *s, int i0) { span_tile(n, a, s, i0); }
SPAN_TILE(1)
SPAN_TILE(2)
SPAN_TILE(3)
SPAN_TILE(4)
SPAN_TILE(5)
SPAN_TILE(6)
SPAN_TILE(7)
SPAN_TILE(8)

void ZL_FN(attention_span)(const zl_attention *a, const zl_attention_span *s) {
    for (int i = 0; i < a->n_q; i += a->tile) switch (a->n_q - i < a->tile ? a->n_q - i : a->tile) {
    case 1: span_tile_1(a, s, i); break;
    case 2: span_tile_2(a, s, i); break;
    case 3: span_tile_3(a, s, i); break;
    case 4: span_tile_4(a, s, i); break;
    case 5: span_tile_5(a, s, i); break;
    case 6: span_tile_6(a, s, i); break;
    case 7: span_tile_7(a, s, i); break;
    default: span_tile_8(a, s, i); break;
    }
}

/* Merging is a chain, each step needs the one before; but what is long in a step, a power of two, depends on the maxima alone. So these
 * run ahead, and the powers of up to 64 spans are computed side by side. */
void ZL_FN(attention_merge)(int64_t n, int64_t dv, float *m, float *l, float *o, const float *ms, const float *ls, const float *os, int64_t stride) {
    enum { AT_ONCE = 64 };
    float power[AT_ONCE], a[AT_ONCE], b[AT_ONCE];
    const float *part[AT_ONCE];
    for (int64_t first = 0; first < n; first += AT_ONCE) {
        int seen = 0, rises[AT_ONCE];
        memset(power, 0, sizeof power);
        for (int64_t s = first; s < n && s < first + AT_ONCE; s++) {
            if (ls[s] == 0.0f) continue;
            int begun = *l != 0.0f || seen; /* a sum is at least 1 (or NaN) once it has begun */
            rises[seen] = !begun || ms[s] > *m;
            power[seen] = !begun ? NEG_INF : rises[seen] ? *m - ms[s] : ms[s] - *m;
            if (rises[seen]) *m = ms[s];
            b[seen] = ls[s]; /* until the factor is known */
            part[seen++] = os + s * stride;
        }
        for (int i = 0; i < seen; i += L) vf_store(power + i, exp2_of(vf_load(power + i)));
        for (int i = 0; i < seen; i++) {
            float sum = b[i];
            a[i] = rises[i] ? power[i] : 1.0f, b[i] = rises[i] ? 1.0f : power[i];
            *l = vf_fma(vf_set1(*l), vf_set1(a[i]), vf_set1(sum * b[i]))[0];
        }
        int64_t c = 0;
        for (; c + L <= dv; c += L) {
            vf x = vf_load(o + c);
            for (int i = 0; i < seen; i++) x = vf_fma(x, vf_set1(a[i]), vf_load(part[i] + c) * vf_set1(b[i]));
            vf_store(o + c, x);
        }
        int tail = (int)(dv - c);
        if (!tail) continue;
        vf x = vf_load_n(o + c, tail);
        for (int i = 0; i < seen; i++) x = vf_fma(x, vf_set1(a[i]), vf_load_n(part[i] + c, tail) * vf_set1(b[i]));
        vf_store_n(o + c, x, tail);
    }
}

void ZL_FN(attention_finish)(int64_t dv, float l, float *o) {
    if (l == 0.0f) return;
    int64_t c = 0;
    for (; c + L <= dv; c += L) vf_store(o + c, vf_load(o + c) / l);
    int n = (int)(dv - c);
    if (n) vf_store_n(o + c, vf_load_n(o + c, n) / l, n);
}
