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

/* Channels i .. i+m-1 through all rows: the state of a vector of channels is `states` vectors, which stay in the first cache. */
ZL_INLINE void selective_lanes(const zl_scan *s, int64_t i, int m) {
    const vf pass = some(s->d + i, m);
    for (int64_t t = 0; t < s->rows; t++) {
        const float *from = t ? s->h : s->from, *b = s->b + t * s->bc_row, *c = s->c + t * s->bc_row;
        const vf x = some(s->x + t * s->x_row + i, m), delta = vf_softplus(some(s->dt + t * s->dt_row + i, m)), u = delta * x;
        vf y = vf_zero();
        for (int64_t k = 0; k < s->states; k++) {
            const int64_t at = k * s->stride + i;
            const vf decay = vf_exp(delta * some(s->a + at, m));
            const vf h = vf_fma(decay, from ? some(from + at, m) : vf_zero(), u * vf_set1(b[k]));
            put(s->h + at, h, m);
            y = vf_fma(h, vf_set1(c[k]), y);
        }
        put(s->out + t * s->out_row + i, vf_fma(pass, x, y), m);
    }
}

void ZL_FN(selective_scan)(const zl_scan *s) {
    int64_t i = 0;
    for (; i + L <= s->n; i += L) selective_lanes(s, i, L);
    if (i < s->n) selective_lanes(s, i, (int)(s->n - i));
}

/* `vectors` vectors of channels from i on; of several, each b and c is read once, and their sums wait for one another less. */
ZL_INLINE void dual_lanes(const zl_scan *s, int64_t i, const int vectors, int m) {
    const vf a = vf_set1(*s->a), pass = vf_set1(*s->d);
    for (int64_t t = 0; t < s->rows; t++) {
        const float *from = t ? s->h : s->from, *b = s->b + t * s->bc_row, *c = s->c + t * s->bc_row;
        const vf delta = vf_softplus(vf_set1(s->dt[t * s->dt_row])), decay = vf_exp(delta * a);
        vf x[4], u[4], y[4];
        for (int v = 0; v < vectors; v++) {
            x[v] = some(s->x + t * s->x_row + i + v * L, m);
            u[v] = delta * x[v];
            y[v] = vf_zero();
        }
        for (int64_t k = 0; k < s->states; k++) {
            const vf bk = vf_set1(b[k]), ck = vf_set1(c[k]);
            for (int v = 0; v < vectors; v++) {
                const int64_t at = k * s->stride + i + v * L;
                const vf h = vf_fma(decay, from ? some(from + at, m) : vf_zero(), u[v] * bk);
                put(s->h + at, h, m);
                y[v] = vf_fma(h, ck, y[v]);
            }
        }
        for (int v = 0; v < vectors; v++) put(s->out + t * s->out_row + i + v * L, vf_fma(pass, x[v], y[v]), m);
    }
}

void ZL_FN(dual_scan)(const zl_scan *s) {
    int64_t i = 0;
    for (; i + 4 * L <= s->n; i += 4 * L) dual_lanes(s, i, 4, L);
    for (; i + L <= s->n; i += L) dual_lanes(s, i, 1, L);
    if (i < s->n) dual_lanes(s, i, 1, (int)(s->n - i));
}
