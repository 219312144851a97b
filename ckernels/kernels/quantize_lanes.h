/* quantize_lanes.h - what the files that make quant blocks share: L blocks side by side, one in each lane.
 *
 *      in memory   | block 0: x0 x1 .. | block 1: x0 x1 .. | ..        in lanes   x[0] = | x0 of block 0 | x0 of block 1 | ..
 *
 * So each lane runs the plain algorithm of its own block: sums go in ascending order of the values, no lane asks another, and every
 * variant gives the same bytes whatever L is. For that, nothing here uses fused multiply-adds, which `generic` (and NumPy) has not.
 */
#ifndef ZL_QUANTIZE_LANES_H
#define ZL_QUANTIZE_LANES_H
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"

/* A family takes n values (whole blocks) of one of its types and says whether it knew the type; arguments as of `quantize`.
 * quantize_weighted is asked where there is importance. */
int ZL_FN(quantize_k)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst);
int ZL_FN(quantize_iq)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst);
int ZL_FN(quantize_weighted)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst);
int ZL_FN(quantize_low)(int type, int64_t n, int64_t at, int64_t cols, const float *x, const float *importance, uint8_t *dst);

/* n values of `some` (1..L) blocks that follow each other at x -> lanes; lanes beyond are 0 */
ZL_INLINE void blocks_to_lanes(const int n, const float *x, int some, vf *to) {
    float t[L];
    if (some == L)
        for (int i = 0; i < n; i++) {
            for (int lane = 0; lane < L; lane++) t[lane] = x[lane * n + i];
            to[i] = vf_load(t);
        }
    else
        for (int i = 0; i < n; i++) {
            for (int lane = 0; lane < L; lane++) t[lane] = lane < some ? x[lane * n + i] : 0.0f;
            to[i] = vf_load(t);
        }
}

/* The importance of the values of `some` blocks, of which the first begins at value `at` of a matrix with `cols` columns. */
ZL_INLINE void importance_to_lanes(const int n, const float *importance, int64_t at, int64_t cols, int some, vf *to) {
    int64_t column[L];
    float t[L];
    for (int lane = 0; lane < L; lane++) column[lane] = (at + (lane < some ? lane : 0) * n) % cols;
    for (int i = 0; i < n; i++) {
        for (int lane = 0; lane < L; lane++) t[lane] = importance[column[lane] + i];
        to[i] = vf_load(t);
    }
}

/* ---- small pieces of arithmetic, each lane for itself: the twins in quantize_lanes.py have the same names ---------------------------- */

ZL_INLINE vi vi_trunc(vf v) { return __builtin_convertvector(v, vi); } /* towards 0 */
ZL_INLINE vf lesser(vf a, vf b) { return vf_select(a < b, a, b); }     /* b where they are equal: so the sign of a zero is defined */
ZL_INLINE vf greater(vf a, vf b) { return vf_select(a > b, a, b); }
/* 1 / d, or 0 where d is so small that this would not be finite */
ZL_INLINE vf inverse(vf d) {
    const vi normal = vf_abs(d) >= 0x1p-126f;
    return vf_select(normal, vf_set1(1.0f) / vf_select(normal, d, vf_set1(1.0f)), vf_zero());
}
/* rounded to the nearest integer, halves away from 0; |v| < 2^22 */
ZL_INLINE vf round_away(vf v) {
    const vf a = vf_abs(v), whole = vi_to_vf(vi_trunc(a)), r = whole + vi_to_vf(vi_trunc((a - whole) * 2.0f));
    return vf_select(v < 0.0f, -r, r);
}
/* rounded to half precision */
ZL_INLINE vf to_half(vf v) {
    uint16_t h[L];
    vf_to_f16(h, v);
    return vf_from_f16(h);
}
#endif
