/* state.c - state-space layers: the short convolution, the selective scan of Mamba (Gu & Dao, 2023, arXiv 2312.00752), and the scan of
 * Mamba 2, whose decay is one number per head (Dao & Gu, 2024, arXiv 2405.21060).
 *
 * Mamba 2 is scanned too, not multiplied in blocks: with a state of 128 the blocked form has as many multiplications, and its sums would
 * depend on where a prompt was cut.
 */
#include "../include/zl.h"
#include "kernels.h"
#include "rows_math.h"

/* m lanes of L; m is a constant where a loop is over whole vectors. */
ZL_INLINE vf some(const float *p, int m) { return m == L ? vf_load(p) : vf_load_n(p, m); }
ZL_INLINE void put(float *p, vf v, int m) {
    if (m == L) vf_store(p, v);
    else vf_store_n(p, v, m);
}

/* A store to an address of whole vectors that goes past the caches, where the variant has one; `stream_end` before another thread may read. */
#if defined(ZL_ISA_avx512)
ZL_INLINE void stream(float *p, vf v) { _mm512_stream_ps(p, (__m512)v); }
#elif defined(ZL_ISA_avx2)
ZL_INLINE void stream(float *p, vf v) { _mm256_stream_ps(p, (__m256)v); }
#else
ZL_INLINE void stream(float *p, vf v) { vf_store(p, v); }
#endif
ZL_INLINE void stream_end(void) {
#if defined(ZL_ISA_avx512) || defined(ZL_ISA_avx2)
    _mm_sfence();
#endif
}

/* Whether what a single row leaves goes past the caches. Nobody reads it before the next step, and a store would read each line first: of a
 * decode step's traffic for states a third. Whole lines only. */
static int passes_caches(const zl_scan *s) {
    return s->rows == 1 && ((uintptr_t)s->h & 63) == 0 && s->stride % 16 == 0;
}

ZL_INLINE void conv_lanes(int64_t taps, const float *const *x, const float *w, int64_t stride, const float *b, float *out, int64_t i, int m) {
    vf y = b ? some(b + i, m) : vf_zero();
    for (int64_t k = 0; k < taps; k++) y = vf_fma(some(w + k * stride + i, m), some(x[k] + i, m), y);
    put(out + i, vf_silu(y), m);
}

void ZL_FN(short_conv)(int64_t n, int64_t taps, const float *const *x, const float *w, int64_t stride, const float *b, float *out) {
    int64_t i = 0;
    for (; i + L <= n; i += L) conv_lanes(taps, x, w, stride, b, out, i, L);
    if (i < n) conv_lanes(taps, x, w, stride, b, out, i, (int)(n - i));
}

/* e^x for a decay, in half of vf_exp's operations: a scan takes one of each state and row, and what happens at the ends of the range does not
 * matter there. Within 2u (3u in generic); below -87.69 it is 0, above 88.37 infinity; NaN stays NaN, and exp(0) is exactly 1.
 *   t = x / ln2 + 1.5 * 2^23 + 127    rounds to whole numbers, and leaves n + 127 in the lowest bits: those of 2^n's exponent, 0 for n = -127
 *   r = x - n ln2                     in two parts, as vf_exp: without fused multiply-adds one product would be off by u |x|
 *   e^r = 1 + r + r^2 P(r)            P of degree 4, the least relative error over |r| <= ln2 / 2: 0.06 u (least squares, reweighted)
 */
ZL_INLINE vf decay_of(vf x) {
    const vf magic = vf_set1(12582912.0f + 127.0f), one = vf_set1(1.0f);
    x = vf_min(vf_set1(88.5f), vf_max(vf_set1(-88.0f), x)); /* of a NaN and a number both give their second argument */
    const vf t = vf_fma(x, vf_set1(1.44269504088896341f), magic), n = t - magic;
    const vf r = vf_fnma(n, vf_set1(1.42860682030941723212e-6f), vf_fnma(n, vf_set1(0.693145751953125f), x));
    vf p = vf_set1(1.3814540580e-3f);
    p = vf_fma(p, r, vf_set1(8.3687454462e-3f));
    p = vf_fma(p, r, vf_set1(4.1668388993e-2f));
    p = vf_fma(p, r, vf_set1(1.6666521132e-1f));
    p = vf_fma(p, r, vf_set1(4.9999994040e-1f));
    p = vf_fma(vf_fma(p, r, one), r, one);
    return p * (vf)((vu)t << 23);
}

enum { LINE = 16 / L /* vectors of a cache line */, LOCAL = 64 };

/* All rows, over `states` states from k0 on of `vectors` vectors of channels: h and a are [states] of those. Beyond the first states a row's sum
 * goes on from out, where it was left. */
ZL_INLINE void selective_rows(const zl_scan *s, int64_t i, int64_t k0, int64_t states, const int vectors, int m, float *h, const float *a) {
    const int64_t step = vectors * L;
    for (int64_t t = 0; t < s->rows; t++) {
        const float *const b = s->b + t * s->bc_row + k0, *const c = s->c + t * s->bc_row + k0;
        float *const out = s->out + t * s->out_row + i;
        vf delta[LINE], u[LINE], y[LINE];
        for (int v = 0; v < vectors; v++) {
            delta[v] = vf_softplus(some(s->dt + t * s->dt_row + i + v * L, m));
            u[v] = delta[v] * some(s->x + t * s->x_row + i + v * L, m);
            y[v] = k0 ? some(out + v * L, m) : vf_zero();
        }
        for (int64_t k = 0; k < states; k++) {
            const vf bk = vf_set1(b[k]), ck = vf_set1(c[k]);
            for (int v = 0; v < vectors; v++) {
                float *const at = h + k * step + v * L;
                const vf next = vf_fma(decay_of(delta[v] * vf_load(a + k * step + v * L)), vf_load(at), u[v] * bk);
                vf_store(at, next);
                y[v] = vf_fma(next, ck, y[v]);
            }
        }
        for (int v = 0; v < vectors; v++) {
            const vf x = some(s->x + t * s->x_row + i + v * L, m);
            put(out + v * L, k0 + states < s->states ? y[v] : vf_fma(some(s->d + i + v * L, m), x, y[v]), m);
        }
    }
}

/* `vectors` vectors of channels from i on, through all rows, LOCAL states at a time. States and decays stand close together meanwhile: where they
 * come from they are a power of two apart, as channels are, and would push each other out of the first cache. */
ZL_INLINE void selective_lanes(const zl_scan *s, int64_t i, const int vectors, int m, int past) {
    float h[LOCAL * 16], a[LOCAL * 16];
    for (int64_t k0 = 0; k0 < s->states; k0 += LOCAL) {
        const int64_t states = s->states - k0 < LOCAL ? s->states - k0 : LOCAL, step = vectors * L;
        for (int64_t k = 0; k < states; k++)
            for (int v = 0; v < vectors; v++) {
                const int64_t at = (k0 + k) * s->stride + i + v * L, to = k * step + v * L;
                vf_store(h + to, s->from ? some(s->from + at, m) : vf_zero());
                vf_store(a + to, some(s->a + at, m));
            }
        selective_rows(s, i, k0, states, vectors, m, h, a);
        for (int64_t k = 0; k < states; k++)
            for (int v = 0; v < vectors; v++) {
                float *const to = s->h + (k0 + k) * s->stride + i + v * L;
                if (past) stream(to, vf_load(h + k * step + v * L));
                else put(to, vf_load(h + k * step + v * L), m);
            }
    }
}

void ZL_FN(selective_scan)(const zl_scan *s) {
    const int past = passes_caches(s);
    int64_t i = 0;
    for (; i + LINE * L <= s->n; i += LINE * L) selective_lanes(s, i, LINE, L, past);
    for (; LINE > 1 && i + L <= s->n; i += L) selective_lanes(s, i, 1, L, 0);
    if (i < s->n) selective_lanes(s, i, 1, (int)(s->n - i), 0);
    if (past) stream_end();
}

/* A head begins with a state of zeros, which stands in h then. */
ZL_INLINE const float *start_of(const zl_scan *s, int64_t i, int m) {
    if (s->from) return s->from + i;
    for (int64_t k = 0; k < s->states; k++) put(s->h + k * s->stride + i, vf_zero(), m);
    return s->h + i;
}

/* `vectors` vectors of channels from i on; of several, each b and c is read once, and their sums wait for one another less. */
ZL_INLINE void dual_lanes(const zl_scan *s, int64_t i, const int vectors, int m, const int past) {
    const int64_t states = s->states, stride = s->stride;
    const vf a = vf_set1(*s->a), pass = vf_set1(*s->d);
    const float *from = NULL;
    float *const h = s->h + i;
    for (int v = 0; v < vectors; v++) from = start_of(s, i + v * L, m) - v * L;
    for (int64_t t = 0; t < s->rows; t++, from = h) {
        const float *const b = s->b + t * s->bc_row, *const c = s->c + t * s->bc_row;
        const vf delta = vf_softplus(vf_set1(s->dt[t * s->dt_row])), decay = vf_exp(delta * a);
        vf x[4], u[4], y[4];
        for (int v = 0; v < vectors; v++) {
            x[v] = some(s->x + t * s->x_row + i + v * L, m);
            u[v] = delta * x[v];
            y[v] = vf_zero();
        }
        for (int64_t k = 0; k < states; k++) {
            const vf bk = vf_set1(b[k]), ck = vf_set1(c[k]);
            for (int v = 0; v < vectors; v++) {
                const int64_t at = k * stride + v * L;
                const vf now = vf_fma(decay, some(from + at, m), u[v] * bk);
                if (past) stream(h + at, now);
                else put(h + at, now, m);
                y[v] = vf_fma(now, ck, y[v]);
            }
        }
        for (int v = 0; v < vectors; v++) put(s->out + t * s->out_row + i + v * L, vf_fma(pass, x[v], y[v]), m);
    }
}

void ZL_FN(dual_scan)(const zl_scan *s) {
    int64_t i = 0;
    if (passes_caches(s)) {
        for (; i + 4 * L <= s->n; i += 4 * L) dual_lanes(s, i, 4, L, 1);
        stream_end();
    }
    for (; i + 4 * L <= s->n; i += 4 * L) dual_lanes(s, i, 4, L, 0);
    for (; i + L <= s->n; i += L) dual_lanes(s, i, 1, L, 0);
    if (i < s->n) dual_lanes(s, i, 1, (int)(s->n - i), 0);
}
