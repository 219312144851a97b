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

/* Rows of x that a tile takes, and that stand interleaved in a group (kernels/linear.h): with a panel pair their sums fill half of the
 * registers, the integers of a block the other half. */
#if defined(ZL_ISA_avx512)
#define ZL_GROUP 8
#elif defined(ZL_ISA_generic)
#define ZL_GROUP 2
#else
#define ZL_GROUP 4
#endif

/* Q6_K's codes and scales take as long to pick apart as to multiply by eight rows of x: with many rows a pair of panels is widened once
 * (formats_wide.h), where the common form has no drawback. With avx2 6-bit codes go two quads without widening, those of the common form one. */
#if defined(ZL_ISA_avx512)
#define ZL_WIDENS_Q6_K 1
#else
#define ZL_WIDENS_Q6_K 0
#endif

/* Integers of 16 bits in pairs, one pair a lane. `as_factor`: what fold_by multiplies by; dot_halves: a pair by a pair, added to a lane modulo 2^32.
 * A partial sum of avx2 is a pair of 16 bits, which vpmaddwd multiplies by a factor and adds at once: there a factor is its number twice. */
ZL_INLINE vi pair_of(vi low, vi high) { return (low & 0xffff) | (vi)((vu)high << 16); }
#if defined(ZL_ISA_avx2)
ZL_INLINE vi as_factor(vi v) { return pair_of(v, v); }
ZL_INLINE vi fold_by(vi sum, vi part, vi factor) { return sum + (vi)_mm256_madd_epi16((__m256i)part, (__m256i)factor); }
ZL_INLINE vi dot_halves(vi sum, vi a, vi x) { return (vi)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16((__m256i)a, (__m256i)x)); }
#else
ZL_INLINE vi as_factor(vi v) { return v; }
ZL_INLINE vi fold_by(vi sum, vi part, vi factor) { return sum + part * factor; }
#if defined(ZL_ISA_avx512)
ZL_INLINE vi dot_halves(vi sum, vi a, vi x) { return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)x); }
#else
ZL_INLINE vi dot_halves(vi sum, vi a, vi x) {
    const vi low = ((vi)((vu)a << 16) >> 16) * ((vi)((vu)x << 16) >> 16), high = (a >> 16) * (x >> 16);
    return (vi)((vu)sum + (vu)low + (vu)high);
}
#endif
#endif
/* total + sum * 2^shift, modulo 2^32: 0 to 31, the same for all lanes */
ZL_INLINE vi shifted_sum(vi total, vi sum, int32_t shift) {
#if defined(ZL_ISA_avx2)
    return (vi)_mm256_add_epi32((__m256i)total, _mm256_sll_epi32((__m256i)sum, _mm_cvtsi32_si128(shift)));
#else
    return (vi)((vu)total + ((vu)sum << (uint32_t)shift));
#endif
}
/* Byte k of each lane, unsigned, as a pair of itself. */
ZL_INLINE vi byte_twice(vu v, const int k) {
#if defined(ZL_ISA_avx2) || defined(ZL_ISA_avx512)
    const int at = (int)(0x80008000u | (unsigned)k | (unsigned)k << 16);
    const __m128i bytes = _mm_setr_epi32(at, at + 0x40004, at + 0x80008, at + 0xc000c);
#if defined(ZL_ISA_avx2)
    return (vi)_mm256_shuffle_epi8((__m256i)v, _mm256_broadcastsi128_si256(bytes));
#else
    return (vi)_mm512_shuffle_epi8((__m512i)v, _mm512_broadcast_i32x4(bytes));
#endif
#else
    const vi byte = (vi)(v >> (8 * k) & 255);
    return pair_of(byte, byte);
#endif
}
/* (byte - less) * power of bytes k and k + 1 of each lane, as a pair; power is a power of two. */
ZL_INLINE vi pair_of_bytes(vu v, const int k, const int less, const int power) {
#if defined(ZL_ISA_avx2)
    const int at = (int)(0x80008000u | (unsigned)k | (unsigned)(k + 1) << 16);
    const __m128i bytes = _mm_setr_epi32(at, at + 0x40004, at + 0x80008, at + 0xc000c);
    const __m256i words = _mm256_shuffle_epi8((__m256i)v, _mm256_broadcastsi128_si256(bytes));
    return (vi)_mm256_slli_epi16(_mm256_sub_epi16(words, _mm256_set1_epi16((int16_t)less)), __builtin_ctz((unsigned)power));
#else
    return pair_of(((vi)(v >> (8 * k) & 255) - less) * power, ((vi)(v >> (8 * k + 8) & 255) - less) * power);
#endif
}
/* The factor of v - less, from v as a pair of itself; v is not negative. */
ZL_INLINE vi factor_less(vi twice, const int less) {
#if defined(ZL_ISA_avx2)
    return (vi)_mm256_sub_epi16((__m256i)twice, _mm256_set1_epi16((int16_t)less));
#else
    return (twice & 0xffff) - less;
#endif
}
/* The factor of a number that is not negative, of a pair of it. */
ZL_INLINE vi factor_of_pair(vi twice) {
#if defined(ZL_ISA_avx2)
    return twice;
#else
    return twice & 0xffff;
#endif
}

/* quad(row, n, N): an activation quad of row n of N, whose words are side by side at `row`, in the form that mac() takes with the same n, N.
 * mul/mac: a partial sum begun at `start`, or continued. fold: adds the partial sum to `sum`, int32 lanes. Where partial sums are
 * 16 bits wide, mul cannot take the start in and fold adds; elsewhere the partial sum has it already and fold does nothing.
 * times: v by a zero point, a power of two; as a shift of the vector, or gcc would multiply first and broadcast from a general register. */
#if defined(ZL_ISA_avx512)
ZL_INLINE vi times(vi v, const int zero) { return (vi)_mm512_slli_epi32((__m512i)v, (unsigned)__builtin_ctz((unsigned)zero)); }
#elif defined(ZL_ISA_avx2)
ZL_INLINE vi times(vi v, const int zero) { return (vi)_mm256_slli_epi32((__m256i)v, __builtin_ctz((unsigned)zero)); }
#else
ZL_INLINE vi times(vi v, const int zero) { return v * zero; }
#endif
#if defined(ZL_ISA_avx512)
ZL_INLINE vi quad(const int32_t *row, int n, int N) { (void)N; return vi_set1(row[n]); }
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int n, int N) {
    (void)is_signed, (void)n, (void)N;
    return (vi)_mm512_dpbusd_epi32((__m512i)part, (__m512i)c, (__m512i)x);
}
ZL_INLINE vi mul(const int is_signed, vi start, vb c, vi x, int n, int N) { return mac(is_signed, start, c, x, n, N); }
ZL_INLINE vi fold(vi sum, vi part) { (void)sum; return part; }

#elif defined(ZL_ISA_avx2)
ZL_INLINE vi quad(const int32_t *row, int n, int N) { (void)N; return vi_set1(row[n]); }
ZL_INLINE vi mul(const int is_signed, vi start, vb c, vi x, int n, int N) {
    (void)start, (void)n, (void)N;
    if (is_signed) return (vi)_mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)c), _mm256_sign_epi8((__m256i)x, (__m256i)c));
    return (vi)_mm256_maddubs_epi16((__m256i)c, (__m256i)x);
}
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int n, int N) {
    return (vi)_mm256_add_epi16((__m256i)part, (__m256i)mul(is_signed, part, c, x, n, N));
}
ZL_INLINE vi fold(vi sum, vi part) { return sum + (vi)_mm256_madd_epi16((__m256i)part, _mm256_set1_epi16(1)); }

#elif defined(ZL_ISA_dotprod) || defined(ZL_ISA_neon)
#if defined(ZL_ISA_dotprod)
/* of a whole group all four quads at once; mac() picks its own by lane */
ZL_INLINE vi quad(const int32_t *row, int n, int N) { return N == 4 ? vi_load(row) : vi_set1(row[n]); }
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int n, int N) {
    int32x4_t acc = (int32x4_t)part;
    int8x16_t w = (int8x16_t)c, y = (int8x16_t)x;
    (void)is_signed;
    switch (N == 4 ? n : 0) { /* the lane is part of the instruction */
    case 0: return (vi)vdotq_laneq_s32(acc, w, y, 0);
    case 1: return (vi)vdotq_laneq_s32(acc, w, y, 1);
    case 2: return (vi)vdotq_laneq_s32(acc, w, y, 2);
    default: return (vi)vdotq_laneq_s32(acc, w, y, 3);
    }
}
#else
ZL_INLINE vi quad(const int32_t *row, int n, int N) { (void)N; return vi_set1(row[n]); }
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int n, int N) {
    int8x16_t w = (int8x16_t)c, y = (int8x16_t)x;
    (void)is_signed, (void)n, (void)N;
    /* 16 products of int16; neighbours added (at most 2 * 128 * 127, still int16); neighbours of these added into int32 */
    int16x8_t pairs = vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(y)), vmull_high_s8(w, y));
    return (vi)vpadalq_s16((int32x4_t)part, pairs);
}
#endif
ZL_INLINE vi mul(const int is_signed, vi start, vb c, vi x, int n, int N) { return mac(is_signed, start, c, x, n, N); }
ZL_INLINE vi fold(vi sum, vi part) { (void)sum; return part; }

#else /* generic */
typedef int16_t vh __attribute__((vector_size(4 * L), may_alias));
typedef uint16_t vuh __attribute__((vector_size(4 * L), may_alias));
ZL_INLINE vi quad(const int32_t *row, int n, int N) { (void)N; return vi_set1(row[n]); }
ZL_INLINE vi mac(const int is_signed, vi part, vb c, vi x, int n, int N) {
    vh even = is_signed ? (vh)((vuh)c << 8) >> 8 : (vh)((vuh)c & 0xff), odd = is_signed ? (vh)c >> 8 : (vh)((vuh)c >> 8);
    vh x_even = (vh)((vuh)x << 8) >> 8, x_odd = (vh)x >> 8;
    vi pairs = (vi)(even * x_even + odd * x_odd); /* at most 2 * 128 * 127: no int16 overflows */
    (void)n, (void)N;
    return part + ((vi)((vu)pairs << 16) >> 16) + (pairs >> 16);
}
ZL_INLINE vi mul(const int is_signed, vi start, vb c, vi x, int n, int N) { return mac(is_signed, start, c, x, n, N); }
ZL_INLINE vi fold(vi sum, vi part) { (void)sum; return part; }
#endif
#endif
