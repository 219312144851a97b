/* lone_iq.h - one row of x by formats whose codes number vectors of a codebook, IQ1 to IQ3, for avx2 (for avx512: lone_book.h).
 *
 * The magnitudes of a codebook's vectors are small and unsigned, so the signs go to x: many products then fit 16 bits, no zero point is
 * needed, and nothing is widened. Vectors come from book_loads.h; the sums of its rows 0 1 4 5 and 2 3 6 7 come together in order.
 *
 * What stands where in a quant block is said in widen_iq.h. The order of float operations is linear.h's, as in wide_tile.
 * What it is not: a way for more rows of x (linear_wide.c).
 */
#ifndef ZL_LONE_IQ_H
#define ZL_LONE_IQ_H
#include "lone_k.h"
#include "widen_iq.h"

#if defined(ZL_ISA_avx2)
ZL_INLINE __m256i products(__m256i magnitudes, __m256i x, __m256i minus) { return _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(x, minus)); }
ZL_INLINE __m256i pairs_summed(__m256i v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }

ZL_INLINE __m256i eight_columns(const int32_t *x, int v) {
    int64_t eight;
    memcpy(&eight, x + 2 * v, 8);
    return _mm256_set1_epi64x(eight);
}

/* ---- IQ2 */

/* The sums of block j: of all of it, or of its halves. */
ZL_INLINE void iq2_sums(const int type, const uint8_t *p, const uint16_t *made, int j, const int32_t *x, vi *sum) {
    const __m256i signs = iq2_signs(type, p, j);
    const uint8_t *bytes = word_at(type, p, 2 * j);
    __m256i whole[2];
    UNROLL for (int h = 0; h < 2; h++) {
        __m256i part[2];
        UNROLL for (int k = 0; k < 2; k++) {
            UNROLL for (int r = 0; r < 2; r++) { /* two vectors: at most 4 * 43 * 127 */
                const __m256i minus = eight_signs(choose(signs, sign_at(type, 2 * r, h, k)));
                const __m256i more = products(four_eights(type, eights_of(type), bytes, made, 2 * h + k, 2 * r), eight_columns(x, 2 * h + k), minus);
                part[r] = k ? _mm256_add_epi16(part[r], more) : more;
            }
        }
        UNROLL for (int r = 0; r < 2; r++) {
            part[r] = pairs_summed(part[r]);
            whole[r] = h && !wide_halves(type) ? _mm256_add_epi32(whole[r], part[r]) : part[r];
        }
        if (h || wide_halves(type)) sum[wide_halves(type) ? h : 0] = (vi)_mm256_hadd_epi32(whole[0], whole[1]);
    }
}

/* ---- IQ1: a code is 8 trit + 1, or 8 trit - 1 in a vector whose shift bit is set */

/* Pairs of 16 bits: the sums of x's columns 16 h .. and 16 h + 8 .. */
ZL_INLINE __m256i eights_summed(const int32_t *x, int h) {
    const __m128i q = _mm_loadu_si128((const __m128i *)(const void *)(x + 4 * h));
    const __m128i sums = _mm_sub_epi64(_mm_sad_epu8(_mm_xor_si128(q, _mm_set1_epi8(-128)), _mm_setzero_si128()), _mm_set1_epi64x(8 * 128));
    return _mm256_broadcastd_epi32(_mm_shuffle_epi8(sums, _mm_setr_epi8(0, 1, 8, 9, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1)));
}
ZL_INLINE void iq1_sums(const int type, const uint8_t *p, const uint16_t *made, int j, const int32_t *x, vi *sum) {
    const int one_shift = type == ZL_TYPE_IQ1_S; /* for the block's four vectors, else one each, above the three bits of its number */
    const vu rest = iq1_rest(type, p, j);
    UNROLL for (int h = 0; h < 2; h++) {
        __m256i part[2];
        UNROLL for (int k = 0; k < 2; k++) {
            UNROLL for (int r = 0; r < 2; r++) {
                const __m256i more = products(_mm256_set1_epi8(1), eight_columns(x, 2 * h + k), four_eights(type, zl_grid_iq1, NULL, made, 2 * h + k, 2 * r));
                part[r] = k ? _mm256_add_epi16(part[r], more) : more;
            }
        }
        const vi eights = (vi)((vu)_mm256_hadd_epi32(pairs_summed(part[0]), pairs_summed(part[1])) << 3);
        /* the shift bits where a sign is, in each 16 bits */
        const vu minus = one_shift ? (rest & 0x8000) | rest << 16 : (rest << (12 - 8 * h) & 0xffff) | rest << (24 - 8 * h);
        const __m256i shifts = _mm256_or_si256(_mm256_srai_epi16((__m256i)minus, 15), _mm256_set1_epi16(1));
        const vi both = eights + (vi)_mm256_madd_epi16(shifts, eights_summed(x, h));
        if (one_shift && h) sum[0] += both;
        else sum[h] = both;
    }
}

/* ---- IQ3 */

ZL_INLINE void iq3_sums(const int type, const uint8_t *p, const uint16_t *made, int j, const int32_t *x, vi *sum) {
    const int run = type == ZL_TYPE_IQ3_XXS ? 2 : 8; /* vectors that 16 bits hold: at most 4 * 62 * 127, 16 * 15 * 127 */
    const __m256i signs = iq3_signs(type, p, j);
    __m256i part = _mm256_setzero_si256(), whole = part;
    UNROLL for (int k = 0; k < 8; k++) {
        const __m256i more = products(eight_quads(type, made, k), _mm256_set1_epi32(x[k]), quad_signs(signs, k));
        part = k % run ? _mm256_add_epi16(part, more) : more;
        if ((k + 1) % run == 0) whole = k < run ? pairs_summed(part) : _mm256_add_epi32(whole, pairs_summed(part));
    }
    sum[0] = (vi)whole;
}

/* ---- a superblock */

ZL_INLINE void lone_numbers(const int type, const uint8_t *const *w, vector_numbers *to) {
    for (int p = 0; p < PAIR; p++) make_numbers(type, w[p], to[p]);
    for (int p = 0; p < PAIR; p++) FROM_MEMORY(to[p]);
}
/* The sums of block j of the superblocks at w[p], with x's. */
ZL_INLINE void vector_sums(const int type, const uint8_t *const *w, vector_numbers *numbers, int j, const int32_t *x, vi (*sum)[2]) {
    UNROLL for (int p = 0; p < PAIR; p++) {
        switch (type) {
        case ZL_TYPE_IQ1_S: case ZL_TYPE_IQ1_M: iq1_sums(type, w[p], numbers[p][j], j, x, sum[p]); break;
        case ZL_TYPE_IQ3_XXS: case ZL_TYPE_IQ3_S: iq3_sums(type, w[p], numbers[p][j], j, x, sum[p]); break;
        default: iq2_sums(type, w[p], numbers[p][j], j, x, sum[p]);
        }
    }
}
/* Types that have a way of their own here. */
#define VECTOR_TYPES(X) \
    X(ZL_TYPE_IQ1_S) X(ZL_TYPE_IQ1_M) X(ZL_TYPE_IQ2_XXS) X(ZL_TYPE_IQ2_XS) X(ZL_TYPE_IQ2_S) X(ZL_TYPE_IQ3_XXS) X(ZL_TYPE_IQ3_S)
#elif defined(ZL_BOOK)
typedef uint16_t vector_numbers[1]; /* none: they are looked up where they are made */
ZL_INLINE void lone_numbers(const int type, const uint8_t *const *w, vector_numbers *to) { (void)type, (void)w, (void)to; }
ZL_INLINE void vector_sums(const int type, const uint8_t *const *w, vector_numbers *numbers, int j, const int32_t *x, vi (*sum)[2]) {
    (void)numbers;
    book_sums(type, book_of(type), w, j, x, sum);
}
#define VECTOR_TYPES(X) X(ZL_TYPE_IQ2_XS) X(ZL_TYPE_IQ3_S)
#else /* no type is multiplied so: these are called by none, and are there for linear_wide.c to compile */
typedef uint16_t vector_numbers[1];
ZL_INLINE void lone_numbers(const int type, const uint8_t *const *w, vector_numbers *to) { (void)type, (void)w, (void)to; }
ZL_INLINE void vector_sums(const int type, const uint8_t *const *w, vector_numbers *numbers, int j, const int32_t *x, vi (*sum)[2]) {
    (void)type, (void)w, (void)numbers, (void)j, (void)x, (void)sum;
}
#define VECTOR_TYPES(X)
#endif

/* Whether the type's codes number vectors, and it has a way of its own here. */
#define IS_ONE(t) || type == t
ZL_INLINE int of_vectors(const int type) { (void)type; return 0 VECTOR_TYPES(IS_ONE); }
#undef IS_ONE
#endif
