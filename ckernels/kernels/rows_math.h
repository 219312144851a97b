/* rows_math.h - the activation functions on vectors of simd.h: polynomials and exp, never libm, so bits depend on the variant alone.
 *
 * Errors are against the exact value of the formula at the float32 argument, u = 2^-24 (half a unit in the last place of 1), and were
 * measured over the floats of [-104, 104] by tests/selftest_rows.c, which fails above the figures given here. "Absolute u|x|" is the
 * error that matters for x * gate(x): the gate's own absolute error. Results below 2^-126 may be flushed to zero.
 */
#ifndef ZL_ROWS_MATH_H
#define ZL_ROWS_MATH_H
#include "simd.h"

/* 1 / (1 + e^-x). Where e^-x overflows the result is 0, as it is (to within 2^-126) in exact arithmetic. Within 6u relative above -80. */
ZL_INLINE vf vf_sigmoid(vf x) { return 1.0f / (1.0f + vf_exp(-x)); }

/* tanh(x), odd by construction: the sign is taken off and put back.
 *   |x| < 0.625   x + x^3 P(x^2), the minimax polynomial of Moshier's Cephes tanhf: no cancellation, so tiny x keep all their bits
 *   else          1 - 2 / (e^2|x| + 1)
 * Within 4u relative everywhere. tanh(inf) = 1, tanh(NaN) = NaN.
 */
ZL_INLINE vf vf_tanh(vf x) {
    vi sign = vf_bits(x) & (int32_t)0x80000000;
    vf a = vf_abs(x), z = x * x;
    vf p = vf_set1(-5.70498872745e-3f);
    p = vf_fma(p, z, vf_set1(2.06390887954e-2f));
    p = vf_fma(p, z, vf_set1(-5.37397155531e-2f));
    p = vf_fma(p, z, vf_set1(1.33314422036e-1f));
    p = vf_fma(p, z, vf_set1(-3.33332819422e-1f));
    p = vf_fma(p * z, x, x);
    vf big = 1.0f - 2.0f / (vf_exp(a + a) + 1.0f);
    return vf_select(a < 0.625f, p, vi_bits(vf_bits(big) | sign));
}

/* x * Phi(x), Phi the normal distribution: 0.5 x (1 + erf(x / sqrt 2)), by way of the tail, which has no cancellation for x < 0:
 *   a = |x| / sqrt 2,   erfc(a) = e^(-a^2) t Q(t),   t = 1 / (1 + 0.4 a)
 *   Phi(x) = erfc(a) / 2 for x < 0, else 1 - erfc(a) / 2
 * t Q(t) approximates e^(a^2) erfc(a) to 8e-9 relative on all of a >= 0 up to 10; Q is a fit of degree 9 (weighted least squares,
 * iterated towards minimax, on 300 Chebyshev points in t); beyond 10 both sides are zero in float32. Absolute u|x| * 5: over every
 * float from 2^-13 to 88 the worst are 4.6 with fused multiply-adds and 4.7 without, at small x > 0, where t and Q are near 1.
 */
ZL_INLINE vf vf_gelu_erf(vf x) {
    vf a = vf_abs(x) * vf_set1(0.70710678118654752f);
    vf t = 1.0f / vf_fma(a, vf_set1(0.4f), vf_set1(1.0f));
    vf q = vf_set1(-2.9594176613785526e-2f);
    q = vf_fma(q, t, vf_set1(1.9801238423997625e-1f));
    q = vf_fma(q, t, vf_set1(-4.9880964088101380e-1f));
    q = vf_fma(q, t, vf_set1(5.4743310839139440e-1f));
    q = vf_fma(q, t, vf_set1(-2.8436486145922407e-1f));
    q = vf_fma(q, t, vf_set1(2.7206531676649210e-1f));
    q = vf_fma(q, t, vf_set1(1.2967989848290246e-1f));
    q = vf_fma(q, t, vf_set1(2.1491904165907094e-1f));
    q = vf_fma(q, t, vf_set1(2.2495202830862537e-1f));
    q = vf_fma(q, t, vf_set1(2.2570690893502543e-1f));
    vf tail = q * t * vf_exp(-(a * a)) * 0.5f;
    return x * vf_select(x < 0.0f, tail, 1.0f - tail);
}

/* 0.5 x (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3). Since (1 + tanh u) / 2 = sigmoid(2u), there is nothing to cancel for x < 0.
 * Absolute u|x| * 6. */
ZL_INLINE vf vf_gelu_tanh(vf x) {
    vf u2 = x * vf_fma(x * x, vf_set1(1.5957691216057308f * 0.044715f), vf_set1(1.5957691216057308f));
    return x * vf_sigmoid(u2);
}

ZL_INLINE vf vf_relu(vf x) { return vf_select(x < 0.0f, vf_zero(), x); } /* NaN stays NaN */
ZL_INLINE vf vf_relu_squared(vf x) { vf r = vf_relu(x); return r * r; }  /* one rounding */
ZL_INLINE vf vf_silu(vf x) { return x / (1.0f + vf_exp(-x)); }           /* absolute u|x| * 5 */
ZL_INLINE vf vf_gelu_quick(vf x) { return x * vf_sigmoid(x * vf_set1(1.702f)); }

/* ln(1 + e^x) = max(x, 0) + ln(1 + e), e = e^-|x| in (0, 1]; the second term by 2 atanh(e / (2 + e)), whose argument is at most 1/3: the
 * series up to its 15th power leaves 1e-9 of it, and small e keep all their bits. Within 4u relative. */
ZL_INLINE vf vf_softplus(vf x) {
    vf e = vf_exp(-vf_abs(x)), s = e / (2.0f + e), z = s * s;
    vf p = vf_set1(2.0f / 15);
    p = vf_fma(p, z, vf_set1(2.0f / 13));
    p = vf_fma(p, z, vf_set1(2.0f / 11));
    p = vf_fma(p, z, vf_set1(2.0f / 9));
    p = vf_fma(p, z, vf_set1(2.0f / 7));
    p = vf_fma(p, z, vf_set1(2.0f / 5));
    p = vf_fma(p, z, vf_set1(2.0f / 3));
    return vf_max(vf_zero(), x) + vf_fma(p * z, s, s + s);
}

/* Run BODY with `ACT` standing for each function of zl_unary in turn: one loop per function, so none tests `fn` per element. */
#define ZL_EACH_UNARY(fn, BODY)                                \
    switch (fn) {                                              \
    case ZL_RELU: { BODY(vf_relu) } break;                     \
    case ZL_GELU_ERF: { BODY(vf_gelu_erf) } break;             \
    case ZL_GELU_TANH: { BODY(vf_gelu_tanh) } break;           \
    case ZL_SILU: { BODY(vf_silu) } break;                     \
    case ZL_TANH: { BODY(vf_tanh) } break;                     \
    case ZL_SIGMOID: { BODY(vf_sigmoid) } break;               \
    case ZL_GELU_QUICK: { BODY(vf_gelu_quick) } break;         \
    case ZL_EXP: { BODY(vf_exp) } break;                       \
    case ZL_RELU_SQUARED: { BODY(vf_relu_squared) } break;     \
    default: break; /* the op's check has refused it */        \
    }
#endif
