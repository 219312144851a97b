/* lone_iq.h - one row of x by formats whose codes number vectors of a codebook, IQ2_XS and IQ3_S, for avx2 (for avx512: lone_book.h).
 *
 * The magnitudes of a codebook's vectors are small and unsigned, so the signs go to x: many products then fit 16 bits, no zero point is
 * needed, and nothing is widened. A gather takes 39 steps of the machine for 8 words, and loads one by one, put side by side, take 23: numbers
 * are made in vectors, stored, and read again as integers.
 *
 *      IQ3_S     a code vector is 8 rows of 4 columns, as everywhere
 *      IQ2_XS    vectors of 8 columns are loaded whole: 4 rows of 8 columns, rows 0 1 4 5 and rows 2 3 6 7, whose sums come together in order
 *
 * What stands where in a quant block is said in widen_iq.h. The order of float operations is linear.h's, as in wide_tile.
 * What it is not: a way for more rows of x (linear_wide.c).
 */
#ifndef ZL_LONE_IQ_H
#define ZL_LONE_IQ_H
#include "lone_k.h"
#include "widen_iq.h"

#if defined(ZL_ISA_avx2)
#define IN_HALVES(a) _mm256_broadcastsi128_si256(a)

/* What was stored is read from memory: left to itself gcc takes it from the register, element by element, one a cycle. */
#define FROM_MEMORY(array) __asm__ volatile("" : "+m"(array))

/* Bytes of c chosen within each half of the register. */
ZL_INLINE __m256i choose(__m256i c, __m128i at) { return _mm256_shuffle_epi8(c, IN_HALVES(at)); }
ZL_INLINE __m256i products(__m256i magnitudes, __m256i x, __m256i minus) { return _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(x, minus)); }
ZL_INLINE __m256i pairs_summed(__m256i v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }

/* ---- IQ2_XS ---------------------------------------------------------------------------------------------------------------------------- */

/* Seven sign bits of each 16 bits, and the eighth that makes their number even. */
ZL_INLINE __m256i even_signs(__m256i seven) {
    /* 128 where a nibble has an odd number of ones */
    const __m128i odd = _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0);
    const __m256i folded = _mm256_xor_si256(seven, _mm256_srli_epi16(seven, 4));
    return _mm256_or_si256(seven, _mm256_shuffle_epi8(IN_HALVES(odd), _mm256_and_si256(folded, _mm256_set1_epi8(15))));
}
/* Vectors of rows r, r + 1, r + 4 and r + 5: 8 columns each. */
ZL_INLINE __m256i four_eights(const uint16_t *number, int r) {
    __m128i half[2];
    UNROLL for (int h = 0; h < 2; h++) {
        const uint16_t *n = number + 2 * (r + 4 * h); /* there are two of each row */
        const __m128i first = _mm_loadl_epi64((const __m128i *)(const void *)&zl_grid_iq2_xs[n[0]]);
        half[h] = _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(first), (const __m64 *)(const void *)&zl_grid_iq2_xs[n[2]]));
    }
    return _mm256_inserti128_si256(_mm256_castsi128_si256(half[0]), half[1], 1);
}
/* -1 or 1 for each of those: bit i of a row's sign byte, byte h of its two numbers, is column i's. */
ZL_INLINE __m256i eight_signs(__m256i signs, int r, int h) {
    const __m256i bits = _mm256_set1_epi64x((int64_t)0x8040201008040201u);
    const __m128i rows = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4);
    const __m256i chosen = _mm256_and_si256(choose(signs, _mm_add_epi8(rows, _mm_set1_epi8((char)(4 * r + 2 * h)))), bits);
    return _mm256_or_si256(_mm256_cmpeq_epi8(chosen, bits), _mm256_set1_epi8(1));
}
/* The sums of both halves of block j, and their scales. */
ZL_INLINE long_scales iq2_xs_sums(const uint8_t *p, int j, const int32_t *x, vi *sum) {
    UNROLL for (int h = 0; h < 2; h++) {
        const __m256i w = (__m256i)word(ZL_TYPE_IQ2_XS, p, 2 * j + h), signs = even_signs(_mm256_srli_epi16(w, 9));
        uint16_t number[2 * L];
        vb_store((uint8_t *)number, (vb)_mm256_and_si256(w, _mm256_set1_epi16(511)));
        FROM_MEMORY(number);
        __m256i part[2];
        UNROLL for (int k = 0; k < 2; k++) {
            int64_t eight;
            memcpy(&eight, x + 4 * h + 2 * k, 8);
            UNROLL for (int r = 0; r < 2; r++) { /* two vectors: at most 4 * 43 * 127 */
                const __m256i more = products(four_eights(number + k, 2 * r), _mm256_set1_epi64x(eight), eight_signs(signs, 2 * r, k));
                part[r] = k ? _mm256_add_epi16(part[r], more) : more;
            }
        }
        sum[h] = (vi)_mm256_hadd_epi32(pairs_summed(part[0]), pairs_summed(part[1]));
    }
    return iq2_xs_scales(p, j);
}

/* ---- IQ3_S ----------------------------------------------------------------------------------------------------------------------------- */

/* Each row's byte k as often as a row has bytes. */
ZL_INLINE __m256i spread(__m256i v, int k) {
    const __m128i rows = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    return choose(v, _mm_add_epi8(rows, _mm_set1_epi8((char)k)));
}
/* Numbers of a word's four vectors: rows 0 1 4 5, then rows 2 3 6 7. ninth: their upper bits, one a byte, anything but 0 */
ZL_INLINE void nine_bits(__m256i low, __m256i ninth, uint16_t *to) {
    const __m256i high = _mm256_min_epu8(ninth, _mm256_set1_epi8(1));
    vb_store((uint8_t *)to, (vb)_mm256_unpacklo_epi8(low, high));
    vb_store((uint8_t *)(to + 2 * L), (vb)_mm256_unpackhi_epi8(low, high));
}
/* Vector k of each row, of numbers as above. Put together by unpacking: an insertion takes twice as long. */
ZL_INLINE __m128i four(uint16_t number) { return _mm_cvtsi32_si128((int)zl_grid_iq3_s[number]); }
ZL_INLINE __m256i eight_quads(const uint16_t *number, int k) {
    __m128i half[2];
    UNROLL for (int h = 0; h < 2; h++) {
        const uint16_t *a = number + 8 * h + k, *b = a + 2 * L;
        half[h] = _mm_unpacklo_epi64(_mm_unpacklo_epi32(four(a[0]), four(a[4])), _mm_unpacklo_epi32(four(b[0]), four(b[4])));
    }
    return _mm256_inserti128_si256(_mm256_castsi128_si256(half[0]), half[1], 1);
}
ZL_INLINE long_scales iq3_s_sums(const uint8_t *p, int j, const int32_t *x, vi *sum) {
    enum { T = ZL_TYPE_IQ3_S };
    /* 0 -> 1; 1, 2, 4, 8: the one bit of a byte that is looked at -> -1 */
    const __m256i sign = IN_HALVES(_mm_setr_epi8(1, -1, -1, 0, -1, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0)), bits = _mm256_set1_epi32(0x08040201);
    const __m256i ninth = spread((__m256i)word(T, p, 16 + j / 4), j % 4), signs = (__m256i)word(T, p, 18 + j);
    uint16_t number[2][4 * L];
    nine_bits((__m256i)word(T, p, 2 * j), _mm256_and_si256(ninth, bits), number[0]);
    nine_bits((__m256i)word(T, p, 2 * j + 1), _mm256_and_si256(_mm256_srli_epi16(ninth, 4), bits), number[1]);
    FROM_MEMORY(number);
    __m256i part = _mm256_setzero_si256();
    UNROLL for (int k = 0; k < 8; k++) { /* eight vectors: at most 16 * 15 * 127 */
        const __m256i eight = spread(signs, k / 2), four = _mm256_and_si256(k % 2 ? _mm256_srli_epi16(eight, 4) : eight, bits);
        part = _mm256_add_epi16(part, products(eight_quads(number[k / 4], k % 4), _mm256_set1_epi32(x[k]), _mm256_shuffle_epi8(sign, four)));
    }
    sum[0] = (vi)pairs_summed(part);
    return iq3_s_scales(p, j);
}
#endif

#if defined(ZL_ISA_avx2) || defined(ZL_BOOK)
/* sums += block j of the superblocks at w[p] times x's. */
ZL_INLINE void lone_vectors(const int type, const uint8_t *const *w, int j, const int32_t *x, lone_sums *sums) {
    vi sum[PAIR][2];
#if defined(ZL_BOOK)
    book_sums(type, book_of(type), w, j, x, sum);
#endif
    UNROLL for (int p = 0; p < PAIR; p++) {
#if defined(ZL_BOOK)
        const long_scales s = type == ZL_TYPE_IQ3_S ? iq3_s_scales(w[p], j) : iq2_xs_scales(w[p], j);
#else
        const long_scales s = type == ZL_TYPE_IQ3_S ? iq3_s_sums(w[p], j, x, sum[p]) : iq2_xs_sums(w[p], j, x, sum[p]);
#endif
        vi scaled = sum[p][0] * s.sc;
        if (wide_halves(type)) scaled += sum[p][1] * s.sc2;
        sums->total[p] = shifted_sum(sums->total[p], scaled, x[ZL_X_SHIFT]);
    }
}
#endif
#endif
