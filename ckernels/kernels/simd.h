/* simd.h - one small vocabulary of vectors, so that a kernel is written once and compiled once per ISA variant.
 *
 * A vector has L lanes of 32 bits: vf (float), vi (int32), and the same register as 4*L bytes, vb.
 *
 *      variant   macro            L    register
 *      avx512    ZL_ISA_avx512    16   zmm   (AVX-512 F, BW, DQ, VL, VNNI)
 *      avx512bf16  ZL_ISA_avx512bf16, and ZL_ISA_avx512 too: the same, and AVX-512 BF16, in linear_float.c alone
 *      avx2      ZL_ISA_avx2       8   ymm   (AVX2, FMA, F16C)
 *      dotprod   ZL_ISA_dotprod    4   q     (NEON with sdot)
 *      neon      ZL_ISA_neon       4   q
 *      generic   ZL_ISA_generic    4   gcc's own vectors: whatever the baseline of the platform has
 *
 * What it is not: a general SIMD library. Only what the kernels need is here, and everything is `static inline`, because a shared
 * inline function would let the linker keep one variant's copy for all of them.
 *
 * Two rules keep bits the same inside a variant: fma() is one rounding where the variant has it and two in `generic` (never mixed
 * inside one variant), and a tail of fewer than L elements goes through the same arithmetic as a full vector, with masked access.
 */
#ifndef ZL_SIMD_H
#define ZL_SIMD_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ZL_CAT_(a, b) a##_##b
#define ZL_CAT(a, b) ZL_CAT_(a, b)
/* rms_norm -> rms_norm_avx2 when compiled with -DZL_ISA=avx2. ZL_BASE is ZL_ISA, but for a variant that only adds products of floats to
 * another one (avx512bf16 to avx512): there it is the other one, whose kernels are shared, and ZL_FLOAT_FN names the variant's own. */
#ifndef ZL_BASE
#define ZL_BASE ZL_ISA
#endif
#define ZL_FN(name) ZL_CAT(name, ZL_BASE)
#define ZL_FLOAT_FN(name) ZL_CAT(name, ZL_ISA)
#define ZL_INLINE static inline __attribute__((always_inline))

#if defined(ZL_ISA_avx512)
#define L 16
#elif defined(ZL_ISA_avx2)
#define L 8
#else
#define L 4
#endif

/* Rows of x that stand interleaved for float weights (kernels/linear.h): with two panels their sums, the two columns and a broadcast fill
 * the registers: 24 + 2 + 1 of 32, 12 + 2 + 1 of 16; two FMAs a cycle need 8 to 10 in flight. */
#if defined(ZL_ISA_avx512) || defined(ZL_ISA_neon) || defined(ZL_ISA_dotprod)
#define ZL_FLOAT_GROUP 12
#elif defined(ZL_ISA_avx2)
#define ZL_FLOAT_GROUP 6
#else
#define ZL_FLOAT_GROUP 4
#endif

typedef float vf __attribute__((vector_size(4 * L), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * L), may_alias));
typedef uint32_t vu __attribute__((vector_size(4 * L), may_alias));
typedef uint8_t vb __attribute__((vector_size(4 * L), may_alias));   /* +, -, &, |, >> act byte by byte, unsigned */
typedef int8_t vsb __attribute__((vector_size(4 * L), may_alias));

/* ---- the same in every variant: gcc's vector arithmetic ------------------------------------------------------------------ */

ZL_INLINE vf vf_load(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
ZL_INLINE void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
ZL_INLINE vi vi_load(const void *p) { vi v; memcpy(&v, p, sizeof v); return v; }
ZL_INLINE void vi_store(void *p, vi v) { memcpy(p, &v, sizeof v); }
ZL_INLINE vb vb_load(const void *p) { vb v; memcpy(&v, p, sizeof v); return v; }
ZL_INLINE void vb_store(void *p, vb v) { memcpy(p, &v, sizeof v); }
ZL_INLINE vf vf_set1(float x) { return x - (vf){0}; } /* x - 0 is x, also for -0, so this is one broadcast; 0 + x would be an addition */
ZL_INLINE vi vi_set1(int32_t x) { return (vi){0} + x; }
ZL_INLINE vf vf_zero(void) { return (vf){0}; }
ZL_INLINE vi vf_bits(vf v) { return (vi)v; }          /* the same 32 bits read as integers, and back */
ZL_INLINE vf vi_bits(vi v) { return (vf)v; }
ZL_INLINE vf vi_to_vf(vi v) { return __builtin_convertvector(v, vf); }  /* exact below 2^24, else rounded to even */
ZL_INLINE vf vf_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); } /* mask lanes are 0 or -1 */
ZL_INLINE vf vf_abs(vf v) { return (vf)((vi)v & 0x7fffffff); }

/* ---- what differs --------------------------------------------------------------------------------------------------------
 * vf_fma(a,b,c) a*b+c          vf_fnma(a,b,c) c-a*b          vf_max/vf_min: b where either is NaN
 * vf_sqrt                       vf_round: to nearest, ties to even, as float          vf_to_vi: the same, as int32
 * vf_load_n/vf_store_n: the first n (1..L-1) lanes, others read as 0 / left alone
 * vf_from_f16(p), vf_from_bf16(p): L halves at p -> floats       vf_to_f16(p, v): rounded to even
 */
#if defined(ZL_ISA_avx512)
#include <immintrin.h>
ZL_INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
ZL_INLINE vf vf_fnma(vf a, vf b, vf c) { return (vf)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c); }
ZL_INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
ZL_INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
ZL_INLINE vf vf_sqrt(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
ZL_INLINE vf vf_round(vf a) { return (vf)_mm512_roundscale_ps((__m512)a, 8); }
ZL_INLINE vi vf_to_vi(vf a) { return (vi)_mm512_cvtps_epi32((__m512)a); }
ZL_INLINE vf vf_load_n(const float *p, int n) { return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
ZL_INLINE void vf_store_n(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v); }
ZL_INLINE vf vf_from_f16(const uint16_t *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)); }
ZL_INLINE void vf_to_f16(uint16_t *p, vf v) { _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph((__m512)v, 8)); }
ZL_INLINE vf vf_from_bf16(const uint16_t *p) {
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16);
}
#if defined(ZL_ISA_avx512bf16)
/* Pairs of bf16: each lane of acc + a[1] b[1] + a[0] b[0], two fused multiply-adds in this order; denormal inputs and results are 0. */
ZL_INLINE vf vf_dot_bf16(vf a, vf b, vf acc) {
    __m512bh pa, pb;
    memcpy(&pa, &a, sizeof a), memcpy(&pb, &b, sizeof b);
    return (vf)_mm512_dpbf16_ps((__m512)acc, pa, pb);
}
/* 2 L halves at p -> as many bf16, rounded to even, in their order */
ZL_INLINE vf vf_bf16_of_f16(const uint16_t *p) {
    const __m512bh h = _mm512_cvtne2ps_pbh((__m512)vf_from_f16(p + L), (__m512)vf_from_f16(p));
    vf v;
    memcpy(&v, &h, sizeof v);
    return v;
}
#endif
#elif defined(ZL_ISA_avx2)
#include <immintrin.h>
ZL_INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
ZL_INLINE vf vf_fnma(vf a, vf b, vf c) { return (vf)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c); }
ZL_INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
ZL_INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
ZL_INLINE vf vf_sqrt(vf a) { return (vf)_mm256_sqrt_ps((__m256)a); }
ZL_INLINE vf vf_round(vf a) { return (vf)_mm256_round_ps((__m256)a, 8); }
ZL_INLINE vi vf_to_vi(vf a) { return (vi)_mm256_cvtps_epi32((__m256)a); }
ZL_INLINE vi lane_mask_(int n) { return (vi){0, 1, 2, 3, 4, 5, 6, 7} < n; }
ZL_INLINE vf vf_load_n(const float *p, int n) { return (vf)_mm256_maskload_ps(p, (__m256i)lane_mask_(n)); }
ZL_INLINE void vf_store_n(float *p, vf v, int n) { _mm256_maskstore_ps(p, (__m256i)lane_mask_(n), (__m256)v); }
ZL_INLINE vf vf_from_f16(const uint16_t *p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)); }
ZL_INLINE void vf_to_f16(uint16_t *p, vf v) { _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph((__m256)v, 8)); }
ZL_INLINE vf vf_from_bf16(const uint16_t *p) {
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16);
}
#else /* four lanes: neon, dotprod, generic */
#if defined(ZL_ISA_neon) || defined(ZL_ISA_dotprod)
#include <arm_neon.h>
ZL_INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
ZL_INLINE vf vf_fnma(vf a, vf b, vf c) { return (vf)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
ZL_INLINE vf vf_sqrt(vf a) { return (vf)vsqrtq_f32((float32x4_t)a); }
ZL_INLINE vf vf_round(vf a) { return (vf)vrndnq_f32((float32x4_t)a); }
ZL_INLINE vi vf_to_vi(vf a) { return (vi)vcvtnq_s32_f32((float32x4_t)a); }
ZL_INLINE vf vf_from_f16(const uint16_t *p) { return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
ZL_INLINE void vf_to_f16(uint16_t *p, vf v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v))); }
#else
#include <math.h>
/* Two roundings: a fused multiply-add without the instruction would be a library call per lane. */
ZL_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
ZL_INLINE vf vf_fnma(vf a, vf b, vf c) { return c - a * b; }
ZL_INLINE vf vf_sqrt(vf a) { return (vf){__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])}; }
ZL_INLINE vf vf_round(vf a) { /* adding 2^23 of its sign leaves no fraction bits; larger values (and NaN) are integers already */
    vf big = (vf)((vi)vf_set1(8388608.0f) | ((vi)a & INT32_MIN)), r = (a + big) - big;
    return vf_select(vf_abs(a) < 8388608.0f, r, a);
}
ZL_INLINE vi vf_to_vi(vf a) { return __builtin_convertvector(vf_round(a), vi); }
/* Half to float by integers alone: move exponent and mantissa up, re-bias; subnormals are renormalised by one float subtraction. */
ZL_INLINE float half_(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, em = (uint32_t)(h & 0x7fffu) << 13, bits;
    float f;
    if (em >= 0x0f800000u) bits = em + 0x70000000u; /* infinities and NaN */
    else if (em >= 0x00800000u) bits = em + 0x38000000u;
    else { bits = em + 0x38800000u; memcpy(&f, &bits, 4); f -= 6.103515625e-05f; memcpy(&bits, &f, 4); }
    bits |= sign;
    memcpy(&f, &bits, 4);
    return f;
}
ZL_INLINE uint16_t to_half_(float f) {
    uint32_t b, s, a;
    memcpy(&b, &f, 4);
    s = (b >> 16) & 0x8000u; a = b & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(s | 0x7e00u | ((a >> 13) & 0x1ffu)); /* NaN, quiet, payload kept as F16C does */
    if (a >= 0x477ff000u) return (uint16_t)(s | 0x7c00u);                       /* rounds to infinity */
    if (a < 0x38800000u) { /* subnormal half: let the float adder round at 2^-24 */
        float g; uint32_t gb;
        memcpy(&g, &a, 4); g += 0.5f; memcpy(&gb, &g, 4);
        return (uint16_t)(s | (gb - 0x3f000000u));
    }
    return (uint16_t)(s | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13));
}
ZL_INLINE vf vf_from_f16(const uint16_t *p) { return (vf){half_(p[0]), half_(p[1]), half_(p[2]), half_(p[3])}; }
ZL_INLINE void vf_to_f16(uint16_t *p, vf v) { for (int i = 0; i < 4; i++) p[i] = to_half_(v[i]); }
#endif
ZL_INLINE vf vf_max(vf a, vf b) { return vf_select(a > b, a, b); }
ZL_INLINE vf vf_min(vf a, vf b) { return vf_select(a < b, a, b); }
ZL_INLINE vf vf_load_n(const float *p, int n) { vf v = {0}; for (int i = 0; i < n; i++) v[i] = p[i]; return v; }
ZL_INLINE void vf_store_n(float *p, vf v, int n) { for (int i = 0; i < n; i++) p[i] = v[i]; }
ZL_INLINE vf vf_from_bf16(const uint16_t *p) {
    return (vf)(vu){(uint32_t)p[0] << 16, (uint32_t)p[1] << 16, (uint32_t)p[2] << 16, (uint32_t)p[3] << 16};
}
#endif

/* ---- comparisons: lanes that are 0 or -1, as a test and as bits ------------------------------------------------------------- */

#if defined(ZL_ISA_avx512)
ZL_INLINE uint32_t vi_lanes(vi mask) { return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask); } /* bit j: lane j is set */
ZL_INLINE int vi_any(vi mask) { return vi_lanes(mask) != 0; }
#elif defined(ZL_ISA_avx2)
ZL_INLINE uint32_t vi_lanes(vi mask) { return (uint32_t)_mm256_movemask_ps((__m256)mask); }
ZL_INLINE int vi_any(vi mask) { return !_mm256_testz_si256((__m256i)mask, (__m256i)mask); }
#else
ZL_INLINE uint32_t vi_lanes(vi mask) {
    const vi bit = mask & (vi){1, 2, 4, 8};
    return (uint32_t)(bit[0] | bit[1] | bit[2] | bit[3]);
}
ZL_INLINE int vi_any(vi mask) {
    uint64_t w[2];
    memcpy(w, &mask, sizeof w);
    return (w[0] | w[1]) != 0;
}
#endif

/* ---- reductions: a fixed tree, halves first, so that the order depends on L alone ------------------------------------------ */

#if defined(ZL_ISA_avx2) || (defined(ZL_ISA_avx512) && !defined(ZL_EMULATED_AVX512_H))
ZL_INLINE float sum8_(__m256 v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
ZL_INLINE float hmax8_(__m256 v) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
#ifdef ZL_ISA_avx512
ZL_INLINE float vf_sum(vf v) { return sum8_(_mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1))); }
ZL_INLINE float vf_hmax(vf v) { return hmax8_(_mm256_max_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1))); }
#else
ZL_INLINE float vf_sum(vf v) { return sum8_((__m256)v); }
ZL_INLINE float vf_hmax(vf v) { return hmax8_((__m256)v); }
#endif
#else
ZL_INLINE float vf_sum(vf v) {
    float t[L];
    vf_store(t, v);
    for (int w = L / 2; w; w /= 2) for (int i = 0; i < w; i++) t[i] += t[i + w];
    return t[0];
}
ZL_INLINE float vf_hmax(vf v) { /* the largest lane; NaN lanes are not reported (max of the others, or NaN) */
    float t[L];
    vf_store(t, v);
    for (int w = L / 2; w; w /= 2) for (int i = 0; i < w; i++) t[i] = t[i] > t[i + w] ? t[i] : t[i + w];
    return t[0];
}
#endif

/* ---- exp ------------------------------------------------------------------------------------------------------------------
 * exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln2/2: x - n*ln2 in two parts (Cody & Waite 1980), then 1 + r + r^2 P(r) with P
 * of degree 5 (the minimax coefficients of Moshier's Cephes expf; measured within 1.1 ulp over the whole range). exp(0) is exactly 1: n = 0, r = 0. Below -87.34 the result is 0
 * (flushed: the smallest kept is 2^-126), above 88.72 infinity; NaN stays NaN.
 */
ZL_INLINE vf vf_exp(vf x) {
    vf n = vf_round(x * vf_set1(1.44269504088896341f));
    n = vf_min(vf_max(n, vf_set1(-127.0f)), vf_set1(128.0f)); /* NaN: vf_max gives its second argument; r below stays NaN */
    vf r = vf_fnma(n, vf_set1(0.693145751953125f), x);
    r = vf_fnma(n, vf_set1(1.42860682030941723212e-6f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, r * r, r) + 1.0f;
    vi e = vf_to_vi(n);
    vi half = e >> 1; /* 2^n in two factors: n = 128 alone would overflow although the product need not */
    vf y = p * (vf)((half + 127) << 23) * (vf)((e - half + 127) << 23);
    y = vf_select(x < -87.33654475f, vf_zero(), y);
    y = vf_select(x > 88.72283905f, vf_set1(__builtin_inff()), y);
    return vf_select(x != x, x, y);
}
#endif
