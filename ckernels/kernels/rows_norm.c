/* rows_norm.c - RMSNorm and LayerNorm of rows of m values (or of m-value groups of a row: the caller counts groups as rows).
 *
 * A row's sum runs in four vectors of partial sums, 4L of them, joined by a fixed tree; the masked tail adds zeros. So the order of
 * additions depends on m and the ISA variant alone, and a partial sum has only m / 4L terms.
 */
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"

/* sum of (x - c)^2 over m values; c = 0 gives the sum of squares. A tail lane beyond m must add 0, not c^2. */
ZL_INLINE float sum_squares(int64_t m, const float *x, float c) {
    vf s[4] = {{0}, {0}, {0}, {0}};
    int64_t i = 0;
    for (; i + 4 * L <= m; i += 4 * L)
        for (int j = 0; j < 4; j++) {
            vf d = vf_load(x + i + j * L) - c;
            s[j] = vf_fma(d, d, s[j]);
        }
    for (; i + L <= m; i += L) {
        vf d = vf_load(x + i) - c;
        s[0] = vf_fma(d, d, s[0]);
    }
    if (i < m) {
        float t[L];
        for (int j = 0; j < L; j++) t[j] = c;
        vf_store_n(t, vf_load_n(x + i, (int)(m - i)), (int)(m - i));
        vf d = vf_load(t) - c;
        s[1] = vf_fma(d, d, s[1]);
    }
    return vf_sum((s[0] + s[1]) + (s[2] + s[3]));
}

ZL_INLINE float sum(int64_t m, const float *x) {
    vf s[4] = {{0}, {0}, {0}, {0}};
    int64_t i = 0;
    for (; i + 4 * L <= m; i += 4 * L)
        for (int j = 0; j < 4; j++) s[j] += vf_load(x + i + j * L);
    for (; i + L <= m; i += L) s[0] += vf_load(x + i);
    if (i < m) s[1] += vf_load_n(x + i, (int)(m - i));
    return vf_sum((s[0] + s[1]) + (s[2] + s[3]));
}

ZL_INLINE float inverse_root(float v) { return (1.0f / vf_sqrt(vf_set1(v)))[0]; }

/* out = (x - c) * inv * w + b, w and b optional */
ZL_INLINE void affine(int64_t m, const float *x, float c, float inv, const float *w, const float *b, float *out) {
    int64_t i = 0;
    for (; i + L <= m; i += L) {
        vf v = (vf_load(x + i) - c) * inv;
        if (w) v *= vf_load(w + i);
        if (b) v += vf_load(b + i);
        vf_store(out + i, v);
    }
    if (i < m) {
        int r = (int)(m - i);
        vf v = (vf_load_n(x + i, r) - c) * inv;
        if (w) v *= vf_load_n(w + i, r);
        if (b) v += vf_load_n(b + i, r);
        vf_store_n(out + i, v, r);
    }
}

/* x / sqrt(mean(x^2) + eps) * w */
void ZL_FN(rms_norm)(int64_t n, int64_t m, const float *x, const float *w, float eps, float *out) {
    for (int64_t t = 0; t < n; t++, x += m, out += m) {
        float inv = inverse_root(sum_squares(m, x, 0.0f) / (float)m + eps);
        affine(m, x, 0.0f, inv, w, NULL, out);
    }
}

/* (x - mean) / sqrt(var + eps) * w + b; var from a second pass over the differences, which does not cancel */
void ZL_FN(layer_norm)(int64_t n, int64_t m, const float *x, const float *w, const float *b, float eps, float *out) {
    for (int64_t t = 0; t < n; t++, x += m, out += m) {
        float mean = sum(m, x) / (float)m;
        float inv = inverse_root(sum_squares(m, x, mean) / (float)m + eps);
        affine(m, x, mean, inv, w, b, out);
    }
}
