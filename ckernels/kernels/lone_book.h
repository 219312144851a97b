/* lone_book.h - codes of IQ2_XS and IQ3_S, for avx512: a codebook of 512 vectors is looked up in registers.
 *
 * A vector is one of few levels per element, so 16 bits hold it: 8 of 2 bits or 4 of 3. The book is then 16 registers of 32 words, and one
 * vpermi2w looks 32 numbers up in two of them:
 *
 *      number    bits 0..5: where in a pair of registers     bits 6, 7, 8: which of the 8 pairs        8 lookups, 7 choices, for 32 vectors
 *      word      e0 e1 e2 e3 ...  ->  bytes e0, e1, e2, e3  ->  magnitudes by a table of levels  ->  times x, negative where the sign is set
 *
 * A gather of 16 words takes about 40 cycles here, so that of a block of 16 rows by 32 columns 264 cycles were spent, where this takes a third.
 * Signs go to x: magnitudes are unsigned, and no zero point is needed.
 *
 * What stands where in a quant block is said in widen_iq.h. The order of float operations is linear.h's, as in wide_tile.
 */
#ifndef ZL_LONE_BOOK_H
#define ZL_LONE_BOOK_H
#include "codebook_lists.h"
#include "linear_tile.h"
#include "widen.h"

#if defined(ZL_ISA_avx512) && !defined(ZL_EMULATED_AVX512_H) /* emulated, every look-up would be 32 loads: the gathers of widen_iq.h are there */
#define ZL_BOOK
enum { BOOK_PAIRS = 8, SHARED = 4 /* vectors of numbers that share a reading of the book */ };

/* Of n vectors of 32 numbers, bits 0..7 of each word and `ninth`: their words. */
ZL_INLINE void book_words(const uint16_t *book, const int n, const __m512i *at, const __mmask32 *ninth, __m512i *to) {
    __m512i low[SHARED], lower[SHARED], lowest[SHARED];
    __mmask32 seventh[SHARED], eighth[SHARED];
    UNROLL for (int i = 0; i < n; i++) {
        seventh[i] = _mm512_test_epi16_mask(at[i], _mm512_set1_epi16(1 << 6));
        eighth[i] = _mm512_test_epi16_mask(at[i], _mm512_set1_epi16(1 << 7));
    }
    UNROLL for (int g = 0; g < BOOK_PAIRS; g++) {
        const __m512i first = _mm512_loadu_si512(book + 64 * g), second = _mm512_loadu_si512(book + 64 * g + 32);
        UNROLL for (int i = 0; i < n; i++) {
            __m512i v = _mm512_permutex2var_epi16(first, at[i], second);
            if (g & 1) v = _mm512_mask_blend_epi16(seventh[i], lowest[i], v);
            if ((g & 3) == 3) v = _mm512_mask_blend_epi16(eighth[i], lower[i], v);
            if (g == 7) to[i] = _mm512_mask_blend_epi16(ninth[i], low[i], v);
            else if (g == 3) low[i] = v;
            else if ((g & 3) == 1) lower[i] = v;
            else lowest[i] = v;
        }
    }
}

ZL_INLINE __m512i in_quarters(__m128i a) { return _mm512_broadcast_i32x4(a); }
/* Each row's byte k as often as a row has bytes; once, followed by zeros. */
ZL_INLINE __m512i spread(__m512i v, int k) { return _mm512_shuffle_epi8(v, in_quarters(_mm_add_epi8(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c), _mm_set1_epi8((char)k)))); }
ZL_INLINE __m512i byte_of(__m512i v, int k) {
    const int none = (int)0x80808000u;
    return _mm512_shuffle_epi8(v, in_quarters(_mm_setr_epi32(none + k, none + 4 + k, none + 8 + k, none + 12 + k)));
}
/* Of each word's lowest byte four pairs of bits, of its lower half four times three bits, one a byte. */
ZL_INLINE __m512i pairs_apart(__m512i v) {
    const vu x = (vu)v, y = (x | x << 12) & 0x000f000fu;
    return (__m512i)((y | y << 6) & 0x03030303u);
}
ZL_INLINE __m512i threes_apart(__m512i v) {
    const vu x = (vu)v, y = (x | x << 10) & 0x003f003fu;
    return (__m512i)((y | y << 5) & 0x07070707u);
}
/* A bit for each byte of code vector: set in `four` (bit i of the lower or the upper half: byte i), of the sign bytes spread. */
ZL_INLINE __mmask64 signs_of(__m512i bytes, int upper) { return _mm512_test_epi8_mask(bytes, _mm512_set1_epi32(upper ? (int)0x80402010u : 0x08040201)); }

typedef struct {
    vb magnitude[8];
    __mmask64 minus[8];
} book_codes;

/* Seven sign bits of each 16 bits, and the eighth that makes their number even, in the lower byte. */
ZL_INLINE __m512i even_signs(__m512i seven) {
    /* 128 where a nibble has an odd number of ones */
    const __m128i odd = _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0);
    const __m512i folded = seven ^ _mm512_srli_epi16(seven, 4);
    return seven | _mm512_shuffle_epi8(in_quarters(odd), folded & _mm512_set1_epi16(15));
}
ZL_INLINE book_codes iq2_xs_codes(const uint16_t *book, const uint8_t *p, int j) {
    book_codes r;
    __m512i at[SHARED], level[SHARED], signs[2];
    __mmask32 ninth[SHARED];
    UNROLL for (int h = 0; h < 2; h++) {
        at[h] = (__m512i)word(ZL_TYPE_IQ2_XS, p, 2 * j + h);
        ninth[h] = _mm512_test_epi16_mask(at[h], _mm512_set1_epi16(1 << 8));
        signs[h] = even_signs(_mm512_srli_epi16(at[h], 9));
    }
    book_words(book, 2, at, ninth, level);
    UNROLL for (int v = 0; v < 8; v++) {
        const __m512i apart = pairs_apart(byte_of(level[v / 4], v % 4));
        r.magnitude[v] = (vb)_mm512_shuffle_epi8(in_quarters(_mm_setr_epi32(0x2b1908, 0, 0, 0)), apart);
        r.minus[v] = signs_of(spread(signs[v / 4], v / 2 % 2 * 2), v % 2);
    }
    return r;
}
/* Of block j: words have vectors i / 2 * 4 + i % 2 and the second from there. */
ZL_INLINE void iq3_s_levels(const uint16_t *book, const uint8_t *p, int j, __m512i *level) {
    __m512i at[SHARED];
    __mmask32 ninth[SHARED];
    const __m512i upper = spread((__m512i)word(ZL_TYPE_IQ3_S, p, 16 + j / 4), j % 4);
    UNROLL for (int i = 0; i < 4; i++) {
        const __m512i numbers = (__m512i)word(ZL_TYPE_IQ3_S, p, 2 * j + i / 2);
        const int bit = 1 << (i / 2 * 4 + i % 2);
        at[i] = i % 2 ? _mm512_srli_epi16(numbers, 8) : numbers;
        ninth[i] = _mm512_test_epi16_mask(upper, _mm512_set1_epi32(bit | bit << 18));
    }
    book_words(book, 4, at, ninth, level);
}
ZL_INLINE book_codes iq3_s_codes(const uint16_t *book, const uint8_t *p, int j) {
    const __m512i signs = (__m512i)word(ZL_TYPE_IQ3_S, p, 18 + j);
    __m512i level[SHARED];
    book_codes r;
    iq3_s_levels(book, p, j, level);
    UNROLL for (int v = 0; v < 8; v++) {
        const __m512i two = level[v / 4 * 2 + v % 2];
        const __m512i apart = threes_apart(v % 4 < 2 ? _mm512_and_si512(two, _mm512_set1_epi32(0xffff)) : _mm512_srli_epi32(two, 16));
        r.magnitude[v] = (vb)_mm512_shuffle_epi8(in_quarters(_mm_setr_epi32(0x07050301, 0x0f0d0b09, 0, 0)), apart);
        r.minus[v] = signs_of(spread(signs, v / 2), v % 2);
    }
    return r;
}
ZL_INLINE book_codes codes_of(const int type, const uint16_t *book, const uint8_t *p, int j) {
    return type == ZL_TYPE_IQ3_S ? iq3_s_codes(book, p, j) : iq2_xs_codes(book, p, j);
}
ZL_INLINE const uint16_t *book_of(const int type) { return zl_codebook_levels(type == ZL_TYPE_IQ3_S ? ZL_CODEBOOK_IQ3_S : ZL_CODEBOOK_IQ2_XS); }
ZL_INLINE vb negated_where(__mmask64 minus, vb v) { return (vb)_mm512_mask_sub_epi8((__m512i)v, minus, _mm512_setzero_si512(), (__m512i)v); }

/* ---- one row of x --------------------------------------------------------------------------------------------------------------------
 *
 * Sums of integers may be taken in any order: of 16 columns vector i has columns i, 4 + i, 8 + i, 12 + i, so that a word's levels are shifted
 * apart for four vectors at once, and their signs lie ready. x's words are turned alike, once for both panels. */

/* Two quads of quads of x turned: byte k of word i becomes byte i of word k. */
ZL_INLINE void turned(const int32_t *x, int32_t *to) {
    const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int h = 0; h < 2; h++) {
        const __m128i quads = _mm_loadu_si128((const __m128i *)(const void *)(x + 4 * h));
        _mm_storeu_si128((__m128i *)(void *)(to + 4 * h), _mm_shuffle_epi8(quads, turn));
    }
    __asm__ volatile("" : "+m"(*(int32_t(*)[8])to)); /* read as words from memory, not picked from the register one by one */
}
/* sum += magnitudes times x, turned, of columns i, 4 + i, 8 + i, 12 + i; signs: bytes 0 and 1, 2 and 3 have the signs of 8 columns each. */
ZL_INLINE vi turned_product(vi sum, __m512i magnitudes, __m512i signs, int32_t x, int i) {
    const __mmask64 minus = _mm512_test_epi8_mask(signs, _mm512_set1_epi32(0x10011001 << i));
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, magnitudes, (__m512i)negated_where(minus, (vb)vi_set1(x)));
}
/* Bytes a, a, b, b of each row. */
ZL_INLINE __m512i two_twice(__m512i v, int a, int b) {
    const int low = a * 0x0101 + b * 0x01010000;
    return _mm512_shuffle_epi8(v, in_quarters(_mm_setr_epi32(low, low + 0x04040404, low + 0x08080808, low + 0x0c0c0c0c)));
}
ZL_INLINE void iq2_xs_book_sums(const uint16_t *book, const uint8_t *const *w, int j, const int32_t *x, vi sum[PAIR][2]) {
    __m512i at[2 * PAIR], level[2 * PAIR];
    __mmask32 ninth[2 * PAIR];
    UNROLL for (int a = 0; a < 2 * PAIR; a++) {
        at[a] = (__m512i)word(ZL_TYPE_IQ2_XS, w[a / 2], 2 * j + a % 2);
        ninth[a] = _mm512_test_epi16_mask(at[a], _mm512_set1_epi16(1 << 8));
    }
    book_words(book, 2 * PAIR, at, ninth, level);
    UNROLL for (int a = 0; a < 2 * PAIR; a++) {
        const __m512i signs = two_twice(even_signs(_mm512_srli_epi16(at[a], 9)), 0, 2);
        vi s = {0};
        UNROLL for (int i = 0; i < 4; i++) {
            const __m512i pairs = _mm512_and_si512(_mm512_srli_epi32(level[a], 2 * (unsigned)i), _mm512_set1_epi8(3));
            s = turned_product(s, _mm512_shuffle_epi8(in_quarters(_mm_setr_epi32(0x2b1908, 0, 0, 0)), pairs), signs, x[4 * (a % 2) + i], i);
        }
        sum[a / 2][a % 2] = s;
    }
}
ZL_INLINE vi iq3_s_book_sum(const uint16_t *book, const uint8_t *p, int j, const int32_t *x) {
    __m512i level[SHARED];
    vi sum = {0};
    iq3_s_levels(book, p, j, level);
    UNROLL for (int h = 0; h < 2; h++) {
        const __m512i signs = two_twice((__m512i)word(ZL_TYPE_IQ3_S, p, 18 + j), 2 * h, 2 * h + 1);
        UNROLL for (int i = 0; i < 4; i++) { /* vectors 0 and 2 of four have bytes 0 and 2, vectors 1 and 3 the others */
            const vu even = (vu)level[2 * h] >> (3 * i), odd = i < 3 ? (vu)level[2 * h + 1] << (8 - 3 * i) : (vu)level[2 * h + 1] >> 1;
            const vu threes = ((even & 0x00ff00ffu) | (odd & 0xff00ff00u)) & 0x07070707u;
            sum = turned_product(sum, _mm512_shuffle_epi8(in_quarters(_mm_setr_epi32(0x07050301, 0x0f0d0b09, 0, 0)), (__m512i)threes), signs, x[4 * h + i], i);
        }
    }
    return sum;
}
/* Sums of block j of both panels' products with x's, of all or of halves. */
ZL_INLINE void book_sums(const int type, const uint16_t *book, const uint8_t *const *w, int j, const int32_t *x, vi sum[PAIR][2]) {
    int32_t turned_x[8];
    turned(x, turned_x);
    if (type == ZL_TYPE_IQ2_XS) iq2_xs_book_sums(book, w, j, turned_x, sum);
    else UNROLL for (int p = 0; p < PAIR; p++) sum[p][0] = iq3_s_book_sum(book, w[p], j, turned_x);
}
#endif
#endif
