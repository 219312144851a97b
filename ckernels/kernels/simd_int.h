/* simd_int.h - dot products of small integers: what differs between the ISA variants in a product with a quantised weight.
 *
 * One step multiplies a code vector (L lanes of 4 codes, byte 4*lane + j: row `lane`, value j of the quad) with one activation quad
 * (4 int8, the same for all lanes), and adds the four products of each lane into that lane:
 *
 *      codes    | r0k0 r0k1 r0k2 r0k3 | r1k0 r1k1 r1k2 r1k3 | ...          sum[r] += r_k0 x0 + r_k1 x1 + r_k2 x2 + r_k3 x3
 *      quad     |  x0   x1   x2   x3  |  x0   x1   x2   x3  | ...
 *
 *      avx512   vpdpbusd: unsigned codes; signed ones get their sign bit flipped (w + 128) and the sum starts at -128 * X
 *      avx2     vpmaddubsw gives int16 sums of two products; they stay int16 as long as they cannot overflow (a "run" of quads),
 *               then vpmaddwd with ones widens. Signed codes: |w| times sign(w) x, a run of one (|w| = 128 is fine as unsigned)
 *      dotprod  sdot by lane: codes of at most 7 bits are int8 as they are
 *      neon     smull, addp, sadalp
 *      generic  16-bit products in gcc's own vectors
 *
 * Every sum is exact, so how it is grouped changes no bit: the variants agree on all integers.
 */
#ifndef ZL_SIMD_INT_H
#define ZL_SIMD_INT_H
#include "simd.h"

/* Quads that a partial sum may take before `fold`, for codes of `bits` bits (8 = signed): 2^15 > run * 2 * (2^bits - 1) * 127. */
#if defined(ZL_ISA_avx2)
#define ZL_RUN(bits) ((bits) <= 4 ? 8 : (bits) == 5 ? 4 : (bits) == 6 ? 2 : 1)
#else
#define ZL_RUN(bits) 8
#endif

/* Signed codes are stored for the kernel as w + ZL_SIGNED_ZERO. */
#if defined(ZL_ISA_avx512)
#define ZL_SIGNED_ZERO 128
#else
#define ZL_SIGNED_ZERO 0
#endif

ZL_INLINE int32_t word_at(const void *p) { int32_t w; memcpy(&w, p, 4); return w; }

/* quad(q, v): activation quad v of the 32 values at q, in the form that mac() takes with the same v.
 * sums(s, a, b): a * s[0] + b * s[1] in all lanes; s are the two half-sums of an activation block.
 * mul/mac: a partial sum begun at `start`, or continued. fold: adds the partial sum to `sum`, int32 lanes. Where partial sums are
 * 16 bits wide, mul cannot take the start in and fold adds; elsewhere the partial sum has it already and fold does nothing. */
#if defined(ZL_ISA_avx512)
ZL_INLINE vi quad(const int8_t *q, int v) { return vi_set1(word_at(q + 4 * v)); }
ZL_INLINE vi sums(const int16_t *s, int a, int b) { return vi_set1(a * s[0] + b * s[1]); }
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int v) {
    (void)is_signed, (void)v;
    return (vi)_mm512_dpbusd_epi32((__m512i)part, (__m512i)c, (__m512i)x);
}
ZL_INLINE vi mul(const int is_signed, vi start, vb c, vi x, int v) { return mac(is_signed, start, c, x, v); }
ZL_INLINE vi fold(vi sum, vi part) { (void)sum; return part; }

#elif defined(ZL_ISA_avx2)
ZL_INLINE vi quad(const int8_t *q, int v) { return vi_set1(word_at(q + 4 * v)); }
ZL_INLINE vi sums(const int16_t *s, int a, int b) { /* the pair of int16 is one 32-bit word: one vpmaddwd */
    return (vi)_mm256_madd_epi16(_mm256_set1_epi32(word_at(s)), _mm256_set1_epi32((a & 0xffff) | (int)((unsigned)b << 16)));
}
ZL_INLINE vi mul(const int is_signed, vi start, vb c, vi x, int v) {
    (void)start, (void)v;
    if (is_signed) return (vi)_mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)c), _mm256_sign_epi8((__m256i)x, (__m256i)c));
    return (vi)_mm256_maddubs_epi16((__m256i)c, (__m256i)x);
}
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int v) {
    return (vi)_mm256_add_epi16((__m256i)part, (__m256i)mul(is_signed, part, c, x, v));
}
ZL_INLINE vi fold(vi sum, vi part) { return sum + (vi)_mm256_madd_epi16((__m256i)part, _mm256_set1_epi16(1)); }

#elif defined(ZL_ISA_dotprod) || defined(ZL_ISA_neon)
ZL_INLINE vi sums(const int16_t *s, int a, int b) { return vi_set1(a * s[0] + b * s[1]); }
#if defined(ZL_ISA_dotprod)
/* four quads at once; mac() picks its own by lane */
ZL_INLINE vi quad(const int8_t *q, int v) { return (vi)vld1q_s8(q + 16 * (v / 4)); }
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int v) {
    int32x4_t acc = (int32x4_t)part;
    int8x16_t w = (int8x16_t)c, y = (int8x16_t)x;
    (void)is_signed;
    switch (v & 3) { /* the lane is part of the instruction */
    case 0: return (vi)vdotq_laneq_s32(acc, w, y, 0);
    case 1: return (vi)vdotq_laneq_s32(acc, w, y, 1);
    case 2: return (vi)vdotq_laneq_s32(acc, w, y, 2);
    default: return (vi)vdotq_laneq_s32(acc, w, y, 3);
    }
}
#else
ZL_INLINE vi quad(const int8_t *q, int v) { return vi_set1(word_at(q + 4 * v)); }
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int v) {
    int8x16_t w = (int8x16_t)c, y = (int8x16_t)x;
    (void)is_signed, (void)v;
    /* 16 products of int16; neighbours added (at most 2 * 128 * 127, still int16); neighbours of these added into int32 */
    int16x8_t pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(y)), vmull_high_s8(w, y));
    return (vi)vpadalq_s16((int32x4_t)part, pairs);
}
#endif
ZL_INLINE vi mul(const int is_signed, vi start, vb c, vi x, int v) { return mac(is_signed, start, c, x, v); }
ZL_INLINE vi fold(vi sum, vi part) { (void)sum; return part; }

#else /* generic */
typedef int16_t vh __attribute__((vector_size(4 * L), may_alias));
typedef uint16_t vuh __attribute__((vector_size(4 * L), may_alias));
ZL_INLINE vi quad(const int8_t *q, int v) { return vi_set1(word_at(q + 4 * v)); }
ZL_INLINE vi sums(const int16_t *s, int a, int b) { return vi_set1(a * s[0] + b * s[1]); }
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int v) {
    vh even = is_signed ? (vh)((vuh)c << 8) >> 8 : (vh)((vuh)c & 0xff), odd = is_signed ? (vh)c >> 8 : (vh)((vuh)c >> 8);
    vh x_even = (vh)((vuh)x << 8) >> 8, x_odd = (vh)x >> 8;
    vi pairs = (vi)(even * x_even + odd * x_odd); /* at most 2 * 128 * 127: no int16 overflows */
    (void)v;
    return part + ((vi)((vu)pairs << 16) >> 16) + (pairs >> 16);
}
ZL_INLINE vi mul(const int is_signed, vi start, vb c, vi x, int v) { return mac(is_signed, start, c, x, v); }
ZL_INLINE vi fold(vi sum, vi part) { (void)sum; return part; }
#endif
#endif
