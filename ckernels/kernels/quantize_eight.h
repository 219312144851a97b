/* quantize_eight.h - what the quantisers of superblocks share: vectors of eight numbers, and the IQ formats' weights of values.
 *
 * Where the quantisers of small blocks hold L of them side by side (quantize_lanes.h), here the lanes of a vector are eight scales tried
 * for one block (IQ), or the blocks of one superblock (quantize_k.c). A v8 has eight lanes whatever the variant's registers hold, nothing is fused, and each sum has an order that is written down: so the
 * bytes do not depend on the variant. The twins are iq_quantizers.py, iq4_quantizers.py and k_quantizers.py; the names are the same.
 */
#ifndef ZL_QUANTIZE_EIGHT_H
#define ZL_QUANTIZE_EIGHT_H
#include "dequantize.h"

typedef float v8 __attribute__((vector_size(32), may_alias));
typedef int32_t v8i __attribute__((vector_size(32), may_alias));

ZL_INLINE v8 v8_set1(float x) { return x - (v8){0}; }
ZL_INLINE v8 v8_load(const float *p) { v8 v; memcpy(&v, p, sizeof v); return v; }
ZL_INLINE v8 v8_select(v8i mask, v8 a, v8 b) { return (v8)((mask & (v8i)a) | (~mask & (v8i)b)); }
ZL_INLINE v8i v8i_select(v8i mask, v8i a, v8i b) { return (mask & a) | (~mask & b); }
ZL_INLINE v8 v8_abs(v8 v) { return (v8)((v8i)v & 0x7fffffff); }
/* to nearest, ties to even; |v| < 2^22 */
ZL_INLINE v8 v8_round(v8 v) { return (v + 12582912.0f) - 12582912.0f; }
/* v8_less(a, b): -1 where a < b, else 0. Comparisons of vectors longer than the registers go lane by lane when gcc is left to them. */
#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
ZL_INLINE v8i v8_less(v8 a, v8 b) { return a < b; }
ZL_INLINE int v8i_any(v8i mask) { return _mm256_movemask_ps((__m256)mask) != 0; } /* lanes are 0 or -1 */
ZL_INLINE v8 v8_min(v8 a, v8 b) { return (v8)_mm256_min_ps((__m256)a, (__m256)b); } /* no NaN comes here */
ZL_INLINE v8 v8_max(v8 a, v8 b) { return (v8)_mm256_max_ps((__m256)a, (__m256)b); }
ZL_INLINE v8 v8_sqrt(v8 a) { return (v8)_mm256_sqrt_ps((__m256)a); }
#else
typedef struct { vf h[2]; } halves_; /* L is 4 here */
ZL_INLINE halves_ v8_halves(v8 v) { halves_ r; memcpy(&r, &v, sizeof v); return r; }
ZL_INLINE v8i v8_less(v8 a, v8 b) {
    const halves_ p = v8_halves(a), q = v8_halves(b);
    const vi r[2] = {p.h[0] < q.h[0], p.h[1] < q.h[1]};
    v8i v;
    memcpy(&v, r, sizeof v);
    return v;
}
ZL_INLINE int v8i_any(v8i mask) {
    uint64_t w[4];
    memcpy(w, &mask, sizeof w);
    return (w[0] | w[1] | w[2] | w[3]) != 0;
}
ZL_INLINE v8 v8_min(v8 a, v8 b) { return v8_select(v8_less(a, b), a, b); } /* b where they are equal */
ZL_INLINE v8 v8_max(v8 a, v8 b) { return v8_select(v8_less(b, a), a, b); }
ZL_INLINE v8 v8_sqrt(v8 a) {
    v8 r = a;
    for (int i = 0; i < 8; i++) r[i] = __builtin_sqrtf(a[i]);
    return r;
}
#endif

/* 1 / d, or 0 where d is so small that this would not be finite */
ZL_INLINE v8 v8_inverse(v8 d) {
    const v8i tiny = v8_less(v8_abs(d), v8_set1(0x1p-126f));
    return v8_select(tiny, v8_set1(0.0f), v8_set1(1.0f) / v8_select(tiny, v8_set1(1.0f), d));
}

/* Eight sums into one: halves onto halves. */
ZL_INLINE float sum8(v8 v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }
/* The lane with the smallest, or largest, number: the first of equal ones. */
ZL_INLINE int lane_of_least(v8 v) {
    int best = 0;
    for (int i = 1; i < 8; i++) best = v[i] < v[best] ? i : best;
    return best;
}
ZL_INLINE int lane_of_most(v8 v) {
    int best = 0;
    for (int i = 1; i < 8; i++) best = v[i] > v[best] ? i : best;
    return best;
}

/* Half precision, to the nearest. */
ZL_INLINE uint16_t half_of(float x) {
    uint16_t h[L];
    vf_to_f16(h, vf_set1(x));
    return h[0];
}
ZL_INLINE v8 v8_to_half(v8 v) {
    v8 r = v;
    for (int i = 0; i < 8; i++) {
        const uint16_t h = half_of(v[i]);
        r[i] = half_at((const uint8_t *)&h);
    }
    return r;
}

#define ZL_QUANTIZE_TINY 0x1p-40f /* a superblock with nothing larger is zero: half precision has no d that small */

/* How much the square of an error counts, for n (a multiple of 8) values x of a superblock; their importance or NULL -> w.
 *
 *      w = sqrt(mean(x^2) + x^2)        with importance h, times h / mean(h) + 2^-12
 *
 * The result is the largest |x|. */
ZL_INLINE float weights(const int n, const float *x, const float *importance, float *w) {
    v8 squares = v8_load(x) * v8_load(x), most = v8_abs(v8_load(x)), h = importance ? v8_load(importance) : v8_set1(0);
    for (int i = 8; i < n; i += 8) {
        const v8 v = v8_load(x + i), a = v8_abs(v);
        squares += v * v;
        most = v8_select(a > most, a, most);
        if (importance) h += v8_load(importance + i);
    }
    const float mean = sum8(squares) / (float)n, mean_h = sum8(h) / (float)n;
    for (int i = 0; i < n; i += 8) {
        const v8 v = v8_load(x + i);
        v8 spread = v8_sqrt(mean + v * v);
        if (importance && mean_h > 0) spread *= v8_load(importance + i) / mean_h + 0x1p-12f;
        else if (importance) spread *= 1.0f + 0x1p-12f;
        memcpy(w + i, &spread, sizeof spread);
    }
    return most[lane_of_most(most)];
}

int ZL_FN(quantize_iq4)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst);
#endif
