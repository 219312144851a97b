/* widen_iq.h - formats whose codes number vectors of a codebook: how a quant block of a panel is widened. The layouts are drawn in
 * dequantize_iq.c; words are the file's bytes without the leads (formats_wide.h).
 */
#ifndef ZL_WIDEN_IQ_H
#define ZL_WIDEN_IQ_H
#include "book_loads.h"
#include "codebooks.h"
#include "lone_book.h"
#include "widen.h"

/* Scales that mean so much and a half, doubled; d is halved for it (linear_wide.c). */
ZL_INLINE vi half_more(vu sc) { return (vi)(sc << 1) + 1; }

ZL_INLINE long_scales iq3_xxs_scales(const uint8_t *p, int j) { return (long_scales){.sc = half_more(word(ZL_TYPE_IQ3_XXS, p, 16 + j) >> 28)}; }
ZL_INLINE long_scales iq3_s_scales(const uint8_t *p, int j) { return (long_scales){.sc = half_more(word(ZL_TYPE_IQ3_S, p, 26) >> (4 * j) & 15)}; }
ZL_INLINE long_scales iq2_xxs_scales(const uint8_t *p, int j) { return (long_scales){.sc = half_more(word(ZL_TYPE_IQ2_XXS, p, 2 * j + 1) >> 28)}; }
/* Scale nibbles of byte j from word `at` on: of the halves of block j. */
ZL_INLINE long_scales nibbles(const int type, const uint8_t *p, int j, int at) {
    const vu s = word(type, p, at + j / 4) >> (8 * (j % 4));
    return (long_scales){.sc = half_more(s & 15), .sc2 = half_more(s >> 4 & 15)};
}
ZL_INLINE long_scales iq2_xs_scales(const uint8_t *p, int j) { return nibbles(ZL_TYPE_IQ2_XS, p, j, 16); }
ZL_INLINE long_scales iq2_s_scales(const uint8_t *p, int j) { return nibbles(ZL_TYPE_IQ2_S, p, j, 18); }

ZL_INLINE long_scales iq1_s_scales(const uint8_t *p, int j) { return (long_scales){.sc = half_more(iq1_rest(ZL_TYPE_IQ1_S, p, j) >> 12 & 7)}; }
ZL_INLINE vf iq1_m_d(const uint8_t *p) { /* four bits above the scales of each half word */
    const vu w0 = word(ZL_TYPE_IQ1_M, p, 12), w1 = word(ZL_TYPE_IQ1_M, p, 13);
    const half_lanes half = __builtin_convertvector((w0 >> 12 & 15) | w0 >> 28 << 4 | (w1 >> 12 & 15) << 8 | w1 >> 28 << 12, half_lanes);
    return f16_lanes((const uint8_t *)&half);
}
ZL_INLINE long_scales iq1_m_scales(const uint8_t *p, int j) { /* four scales of three bits in a half word */
    const vu s = word(ZL_TYPE_IQ1_M, p, 12 + j / 4) >> (16 * (j / 2 % 2) + 6 * (j % 2));
    return (long_scales){.sc = half_more(s & 7), .sc2 = half_more(s >> 3 & 7)};
}

/* ---- codes ----------------------------------------------------------------------------------------------------------------------------- */

/* Code vector v of block j of IQ1: 8 trit + 1, or - 1 where `minus` is 1. The eighth is in the scale. */
ZL_INLINE void put_trits(const int type, uint8_t *to, int j, int v, vu trits, vu minus) {
    const vb shift = (vb)(0x01010101u + minus * 0xfefefefeu); /* 1 or 0xff in each byte */
    put(type, to, j, v, (vb)(trits << 3 & 0xf8f8f8f8u) + shift);
}

#if defined(ZL_ISA_avx2)
/* A superblock's codes, of vectors that are loaded one by one (book_loads.h). */
ZL_INLINE void put_vectors(const int type, const uint8_t *p, uint8_t *to) {
    const int is_iq1 = type == ZL_TYPE_IQ1_S || type == ZL_TYPE_IQ1_M, is_iq3 = type == ZL_TYPE_IQ3_XXS || type == ZL_TYPE_IQ3_S;
    vector_numbers made;
    make_numbers(type, p, made);
    FROM_MEMORY(made);
    for (int j = 0; j < 8; j++) {
        if (is_iq3) {
            const __m256i signs = iq3_signs(type, p, j);
            UNROLL for (int k = 0; k < 8; k++) put(type, to, j, k, (vb)_mm256_sign_epi8(eight_quads(type, made[j], k), quad_signs(signs, k)));
            continue;
        }
        const uint8_t *bytes = word_at(type, p, 2 * j); /* of IQ2_XXS, whose numbers are bytes */
        const __m256i signs = is_iq1 ? _mm256_setzero_si256() : iq2_signs(type, p, j);
        const vu rest = is_iq1 ? iq1_rest(type, p, j) : (vu){0};
        UNROLL for (int k = 0; k < 4; k++) {
            __m256i four[2];
            UNROLL for (int r = 0; r < 2; r++) {
                four[r] = four_eights(type, is_iq1 ? zl_grid_iq1 : eights_of(type), bytes, made[j], k, 2 * r);
                if (!is_iq1) four[r] = _mm256_sign_epi8(four[r], eight_signs(choose(signs, sign_at(type, 2 * r, k / 2, k % 2))));
            }
            UNROLL for (int h = 0; h < 2; h++) { /* columns 4 h .. of each row */
                const __m256 rows = h ? _mm256_shuffle_ps((__m256)four[0], (__m256)four[1], 0xdd) : _mm256_shuffle_ps((__m256)four[0], (__m256)four[1], 0x88);
                if (is_iq1) put_trits(type, to, j, 2 * k + h, (vu)rows, rest >> (type == ZL_TYPE_IQ1_S ? 15 : 4 * k + 3) & 1);
                else put(type, to, j, 2 * k + h, (vb)rows);
            }
        }
    }
}
#define BY_LOADS(name, type) static void name(const uint8_t *p, uint8_t *to) { put_vectors(type, p, to); }
BY_LOADS(widen_iq1_s, ZL_TYPE_IQ1_S)
BY_LOADS(widen_iq1_m, ZL_TYPE_IQ1_M)
BY_LOADS(widen_iq2_xxs, ZL_TYPE_IQ2_XXS)
BY_LOADS(widen_iq2_xs, ZL_TYPE_IQ2_XS)
BY_LOADS(widen_iq2_s, ZL_TYPE_IQ2_S)
BY_LOADS(widen_iq3_xxs, ZL_TYPE_IQ3_XXS)
BY_LOADS(widen_iq3_s, ZL_TYPE_IQ3_S)
#undef BY_LOADS
#else
/* Magnitudes, negative where the lowest four bits of `signs` say so. */
ZL_INLINE vb signed_quad(vu magnitudes, vu signs) {
    const vu ones = four_bits(signs), mask = (ones << 8) - ones;
    return (vb)(magnitudes ^ mask) + (vb)ones;
}
/* Seven sign bits -> eight, an even number of ones. */
ZL_INLINE vu eighth_sign(vu seven) {
    vu p = seven ^ seven >> 4;
    p ^= p >> 2;
    p ^= p >> 1;
    return seven | (p & 1) << 7;
}
/* Vector number k of 8 values, of block j. */
ZL_INLINE void put_eight(const int type, uint8_t *to, int j, int k, const uint64_t *grid, vu number, vu signs) {
    put(type, to, j, 2 * k, signed_quad(gather(grid, number << 1), signs));
    put(type, to, j, 2 * k + 1, signed_quad(gather(grid, (number << 1) + 1), signs >> 4));
}

/* ---- IQ3 */

static void widen_iq3_xxs(const uint8_t *p, uint8_t *to) { /* words: vectors 0..15, signs and scales 16..23 */
    enum { T = ZL_TYPE_IQ3_XXS };
    for (int j = 0; j < 8; j++) {
        const vu s = word(T, p, 16 + j);
        for (int k = 0; k < 8; k++) {
            const vu number = word(T, p, 2 * j + k / 4) >> (8 * (k % 4)) & 255, signs = eighth_sign(s >> (7 * (k / 2)) & 127);
            put(T, to, j, k, signed_quad(gather(zl_grid_iq3_xxs, number), signs >> (4 * (k % 2))));
        }
    }
}
#if defined(ZL_BOOK)
/* A quant block's codes as lone_book.h has them. */
ZL_INLINE void put_book(const int type, const uint8_t *p, uint8_t *to) {
    const uint16_t *book = book_of(type);
    for (int j = 0; j < 8; j++) {
        const book_codes c = codes_of(type, book, p, j);
        for (int v = 0; v < 8; v++) put(type, to, j, v, negated_where(c.minus[v], c.magnitude[v]));
    }
}
static void widen_iq3_s(const uint8_t *p, uint8_t *to) { put_book(ZL_TYPE_IQ3_S, p, to); }
static void widen_iq2_xs(const uint8_t *p, uint8_t *to) { put_book(ZL_TYPE_IQ2_XS, p, to); }
#else
static void widen_iq3_s(const uint8_t *p, uint8_t *to) { /* words: vectors 0..15, ninth bits 16..17, signs 18..25, scales 26 */
    enum { T = ZL_TYPE_IQ3_S };
    for (int j = 0; j < 8; j++) {
        const vu ninth = word(T, p, 16 + j / 4) >> (8 * (j % 4)), signs = word(T, p, 18 + j);
        for (int k = 0; k < 8; k++) {
            const vu number = (word(T, p, 2 * j + k / 4) >> (8 * (k % 4)) & 255) | (ninth >> k & 1) << 8;
            put(T, to, j, k, signed_quad(gather(zl_grid_iq3_s, number), signs >> (4 * k)));
        }
    }
}
static void widen_iq2_xs(const uint8_t *p, uint8_t *to) { /* words: two vectors with signs each 0..15, scales 16..17 */
    enum { T = ZL_TYPE_IQ2_XS };
    for (int j = 0; j < 8; j++) {
        for (int k = 0; k < 4; k++) {
            const vu w = word(T, p, 2 * j + k / 2) >> (16 * (k % 2)) & 0xffff;
            put_eight(T, to, j, k, zl_grid_iq2_xs, w & 511, eighth_sign(w >> 9));
        }
    }
}
#endif

/* ---- IQ2 */

static void widen_iq2_xxs(const uint8_t *p, uint8_t *to) { /* words: vectors 2 j, signs and scale 2 j + 1 */
    enum { T = ZL_TYPE_IQ2_XXS };
    for (int j = 0; j < 8; j++) {
        const vu vectors = word(T, p, 2 * j), s = word(T, p, 2 * j + 1);
        for (int k = 0; k < 4; k++) put_eight(T, to, j, k, zl_grid_iq2_xxs, vectors >> (8 * k) & 255, eighth_sign(s >> (7 * k) & 127));
    }
}
static void widen_iq2_s(const uint8_t *p, uint8_t *to) { /* words: vectors 0..7, signs 8..15, upper pairs 16..17, scales 18..19 */
    enum { T = ZL_TYPE_IQ2_S };
    for (int j = 0; j < 8; j++) {
        const vu vectors = word(T, p, j), signs = word(T, p, 8 + j), upper = word(T, p, 16 + j / 4) >> (8 * (j % 4));
        for (int k = 0; k < 4; k++)
            put_eight(T, to, j, k, zl_grid_iq2_s, (vectors >> (8 * k) & 255) | (upper >> (2 * k) & 3) << 8, signs >> (8 * k) & 255);
    }
}

/* ---- IQ1 */

/* Vector k of block j. */
ZL_INLINE void put_eight_trits(const int type, uint8_t *to, int j, int k, vu number, vu minus) {
    for (int h = 0; h < 2; h++) put_trits(type, to, j, 2 * k + h, gather(zl_grid_iq1, (number << 1) + (uint32_t)h), minus);
}
static void widen_iq1_s(const uint8_t *p, uint8_t *to) { /* words: vectors 0..7, two of (upper bits, scale, shift) each 8..11 */
    enum { T = ZL_TYPE_IQ1_S };
    for (int j = 0; j < 8; j++) {
        const vu vectors = word(T, p, j), s = iq1_rest(T, p, j) & 0xffff;
        for (int k = 0; k < 4; k++) put_eight_trits(T, to, j, k, (vectors >> (8 * k) & 255) | (s >> (3 * k) & 7) << 8, s >> 15);
    }
}
static void widen_iq1_m(const uint8_t *p, uint8_t *to) { /* words: vectors 0..7, nibbles 8..11, scales and d 12..13 */
    enum { T = ZL_TYPE_IQ1_M };
    for (int j = 0; j < 8; j++) {
        const vu vectors = word(T, p, j), high = iq1_rest(T, p, j);
        for (int k = 0; k < 4; k++) {
            const vu nibble = high >> (4 * k) & 15;
            put_eight_trits(T, to, j, k, (vectors >> (8 * k) & 255) | (nibble & 7) << 8, nibble >> 3);
        }
    }
}
#endif
#endif
