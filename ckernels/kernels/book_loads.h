/* book_loads.h - vectors of a codebook by loads, for avx2: of IQ1, IQ2 and IQ3. (iq1_rest is for every variant.)
 *
 * A gather takes 39 steps of the machine for 8 words, and loads one by one, put side by side, a third of it: a superblock's numbers are made in
 * vectors, stored, and read again as integers.
 *
 *      IQ3_XXS  IQ3_S              a code vector is 8 rows of 4 columns, as everywhere
 *      IQ2_XXS  IQ2_XS  IQ2_S      vectors of 8 columns are loaded whole: 4 rows of 8 columns, rows 0 1 4 5 and rows 2 3 6 7
 *      IQ1_S  IQ1_M
 *
 * What stands where in a quant block is said in widen_iq.h. What it is not: what is done with the vectors (widen_iq.h, lone_iq.h).
 */
#ifndef ZL_BOOK_LOADS_H
#define ZL_BOOK_LOADS_H
#include "codebooks.h"
#include "linear_tile.h"
#include "widen.h"

/* What block j of IQ1 has beside the lower bits of its numbers, in the lower 16 bits of a word. */
ZL_INLINE vu iq1_rest(const int type, const uint8_t *p, int j) { return word(type, p, 8 + j / 2) >> (16 * (j % 2)); }

#if defined(ZL_ISA_avx2)
#define IN_HALVES(a) _mm256_broadcastsi128_si256(a)

/* What was stored is read from memory: left to itself gcc takes it from the register, element by element, one a cycle. */
#define FROM_MEMORY(array) __asm__ volatile("" : "+m"(array))

/* Bytes of c chosen within each half of the register. */
ZL_INLINE __m256i choose(__m256i c, __m128i at) { return _mm256_shuffle_epi8(c, IN_HALVES(at)); }

/* Seven sign bits a byte, and the eighth that makes their number even. */
ZL_INLINE __m256i even_signs(__m256i seven) {
    /* 128 where a nibble has an odd number of ones */
    const __m128i odd = _mm_setr_epi8(0, -128, -128, 0, -128, 0, 0, -128, -128, 0, 0, -128, 0, -128, -128, 0);
    const __m256i folded = _mm256_xor_si256(seven, _mm256_srli_epi16(seven, 4));
    return _mm256_or_si256(seven, _mm256_shuffle_epi8(IN_HALVES(odd), _mm256_and_si256(folded, _mm256_set1_epi8(15))));
}
/* Four times seven bits of each word, one a byte. */
ZL_INLINE __m256i sevens_apart(vu w) {
    const vu two = (w & 0x3fff) | (w << 2 & 0x3fff0000);
    return (__m256i)((two & 0x007f007f) | (two << 1 & 0x7f007f00));
}

/* ---- vectors of 8 ---------------------------------------------------------------------------------------------------------------------- */

/* Bytes 2 h and 2 h + 1 of each word, each in 16 bits. */
ZL_INLINE __m256i two_bytes(__m256i w, const int h) {
    const __m128i lower = _mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1);
    const __m128i upper = _mm_setr_epi8(2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15, -1);
    return choose(w, h ? upper : lower);
}
/* What two_bytes(w, h) leaves out of numbers of more than eight bits, where it belongs above them. Of vector i it is `size` bits of each word, from bit
 * i * step on. */
ZL_INLINE vu above_bytes(vu bits, const int size, const int step, const int h) {
    const uint32_t mask = ((1u << size) - 1) << 8;
    const int first = 2 * h * step, second = first + step;
    return ((first < 8 ? bits << (8 - first) : bits >> (first - 8)) & mask) | (bits << (24 - second) & mask << 16);
}
/* The number of vector v of a row of a block: a byte of the panel (IQ2_XXS), or made. */
ZL_INLINE int number_of(const int type, const uint8_t *bytes, const uint16_t *made, const int v, const int row) {
    return type == ZL_TYPE_IQ2_XXS ? bytes[4 * row + v] : made[v / 2 * 2 * L + 2 * row + v % 2];
}
/* Vector v of rows r, r + 1, r + 4 and r + 5: 8 columns each. */
ZL_INLINE __m256i four_eights(const int type, const uint64_t *grid, const uint8_t *bytes, const uint16_t *made, const int v, const int r) {
    __m128i half[2];
    UNROLL for (int h = 0; h < 2; h++) {
        const uint64_t *first = grid + number_of(type, bytes, made, v, r + 4 * h), *second = grid + number_of(type, bytes, made, v, r + 4 * h + 1);
        const __m128i low = _mm_loadl_epi64((const __m128i *)(const void *)first);
        half[h] = _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(low), (const __m64 *)(const void *)second));
    }
    return _mm256_inserti128_si256(_mm256_castsi128_si256(half[0]), half[1], 1);
}
ZL_INLINE const uint64_t *eights_of(const int type) {
    return type == ZL_TYPE_IQ2_XXS ? zl_grid_iq2_xxs : type == ZL_TYPE_IQ2_XS ? zl_grid_iq2_xs : zl_grid_iq2_s;
}
/* Eight signs of each vector, a byte, where sign_at says. */
ZL_INLINE __m256i iq2_signs(const int type, const uint8_t *p, int j) {
    if (type == ZL_TYPE_IQ2_S) return (__m256i)word(type, p, 8 + j);
    if (type == ZL_TYPE_IQ2_XXS) return even_signs(sevens_apart(word(type, p, 2 * j + 1)));
    const __m256i first = (__m256i)word(type, p, 2 * j), second = (__m256i)word(type, p, 2 * j + 1);
    return even_signs(_mm256_packus_epi16(_mm256_srli_epi16(first, 9), _mm256_srli_epi16(second, 9)));
}
/* The sign byte of vector 2 h + k of rows r and r + 1 (in the other half of the register r + 4 and r + 5), as often as it has columns. */
ZL_INLINE __m128i sign_at(const int type, const int r, const int h, const int k) {
    const int xs = type == ZL_TYPE_IQ2_XS; /* packed: first all rows' of h = 0, two a row */
    const int64_t each = 0x0101010101010101, first = xs ? 8 * h + 2 * r + k : 4 * r + 2 * h + k;
    return _mm_set_epi64x((first + (xs ? 2 : 4)) * each, first * each);
}
/* -1 or 1 for each column, of bytes that hold all columns' bits. */
ZL_INLINE __m256i eight_signs(__m256i bytes) {
    const __m256i bits = _mm256_set1_epi64x((int64_t)0x8040201008040201u);
    return _mm256_or_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits), _mm256_set1_epi8(1));
}

/* ---- vectors of 4: IQ3 ----------------------------------------------------------------------------------------------------------------- */

/* Each row's byte k as often as a row has bytes. */
ZL_INLINE __m256i spread(__m256i v, int k) {
    const __m128i rows = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    return choose(v, _mm_add_epi8(rows, _mm_set1_epi8((char)k)));
}
/* Bytes of four rows -> of four columns, in each half of the register. */
ZL_INLINE __m256i turned(__m256i v) { return choose(v, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)); }
/* Made numbers of vector k: rows 4 h .. stand side by side and are read at once, because loads are what limits this. */
ZL_INLINE void four_numbers(const int type, const uint16_t *made, const int k, const int h, uint64_t *n) {
    if (type == ZL_TYPE_IQ3_XXS) {
        uint32_t four;
        memcpy(&four, (const uint8_t *)made + k / 4 * VB + 16 * h + 4 * (k % 4), 4);
        UNROLL for (int i = 0; i < 4; i++) n[i] = four >> (8 * i) & 255;
    } else {
        uint64_t four;
        memcpy(&four, made + k / 2 * 2 * L + 8 * h + 4 * (k % 2), 8);
        UNROLL for (int i = 0; i < 4; i++) n[i] = four >> (16 * i) & 65535;
    }
}
/* Vector k of each row. An entry is loaded so that it comes to stand in its own lane: a blend takes it from memory, in one instruction. So up to
 * three words before and after the grid are read (codebooks.h has them). */
ZL_INLINE __m256i eight_quads(const int type, const uint16_t *made, const int k) {
    const uint32_t *grid = type == ZL_TYPE_IQ3_XXS ? zl_grid_iq3_xxs : zl_grid_iq3_s;
    __m128i half[2];
#define ENTRY(lane) _mm_loadu_si128((const __m128i *)(const void *)(grid + n[lane] - (lane)))
    UNROLL for (int h = 0; h < 2; h++) {
        uint64_t n[4];
        four_numbers(type, made, k, h, n);
        half[h] = _mm_blend_epi32(ENTRY(0), ENTRY(1), 1 << 1);
        half[h] = _mm_blend_epi32(half[h], ENTRY(2), 1 << 2);
        half[h] = _mm_blend_epi32(half[h], ENTRY(3), 1 << 3);
    }
#undef ENTRY
    return _mm256_inserti128_si256(_mm256_castsi128_si256(half[0]), half[1], 1);
}
/* The signs of IQ3: four bytes a row, of two vectors each. */
ZL_INLINE __m256i iq3_signs(const int type, const uint8_t *p, int j) {
    return type == ZL_TYPE_IQ3_XXS ? even_signs(sevens_apart(word(type, p, 16 + j))) : (__m256i)word(type, p, 18 + j);
}
/* -1 or 1 for each column of vector k. */
ZL_INLINE __m256i quad_signs(__m256i signs, const int k) {
    /* 0 -> 1; 1, 2, 4, 8: the one bit of a byte that is looked at -> -1 */
    const __m256i sign = IN_HALVES(_mm_setr_epi8(1, -1, -1, 0, -1, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0)), eight = spread(signs, k / 2);
    return _mm256_shuffle_epi8(sign, _mm256_and_si256(k % 2 ? _mm256_srli_epi16(eight, 4) : eight, _mm256_set1_epi32(0x08040201)));
}

/* ---- a superblock ---------------------------------------------------------------------------------------------------------------------- */

typedef uint16_t vector_numbers[8][8 * L]; /* of a superblock's blocks: eight a row, or four */

/* Numbers of a superblock, of all blocks at once: a number that is read soon after its vector was stored comes out of the store buffer, one a
 * cycle, and waits for it. Of IQ1 and IQ2 number_of says where they stand, of IQ3 four_numbers. */
ZL_INLINE void make_numbers(const int type, const uint8_t *p, uint16_t (*to)[8 * L]) {
    if (type == ZL_TYPE_IQ2_XXS) return;
    const __m256i one_a_vector = IN_HALVES(_mm_setr_epi32(0x01010101, 0x02020202, 0x04040404, 0x08080808));
    UNROLL for (int j = 0; j < 8; j++) {
        if (type == ZL_TYPE_IQ3_XXS || type == ZL_TYPE_IQ3_S) {
            const __m256i ninth = choose((__m256i)word(type, p, 16 + j / 4), _mm_add_epi8(_mm_set1_epi32(0x0c080400), _mm_set1_epi8((char)(j % 4))));
            UNROLL for (int i = 0; i < 2; i++) { /* vectors 4 i .. 4 i + 3 */
                const __m256i low = turned((__m256i)word(type, p, 2 * j + i));
                const __m256i bits = _mm256_and_si256(i ? _mm256_srli_epi16(ninth, 4) : ninth, one_a_vector);
                const __m256i high = _mm256_min_epu8(bits, _mm256_set1_epi8(1));
                uint16_t *at = to[j] + i * 4 * L;
                if (type == ZL_TYPE_IQ3_XXS) vb_store((uint8_t *)to[j] + i * VB, (vb)low);
                else vb_store((uint8_t *)at, (vb)_mm256_unpacklo_epi8(low, high)), vb_store((uint8_t *)(at + 2 * L), (vb)_mm256_unpackhi_epi8(low, high));
            }
            continue;
        }
        UNROLL for (int h = 0; h < 2; h++) {
            vu n;
            if (type == ZL_TYPE_IQ2_XS) n = word(type, p, 2 * j + h) & 0x01ff01ff;
            else n = (vu)two_bytes((__m256i)word(type, p, j), h);
            if (type == ZL_TYPE_IQ2_S) n |= above_bytes(word(type, p, 16 + j / 4) >> (8 * (j % 4)), 2, 2, h);
            if (type == ZL_TYPE_IQ1_S || type == ZL_TYPE_IQ1_M) n |= above_bytes(iq1_rest(type, p, j), 3, type == ZL_TYPE_IQ1_S ? 3 : 4, h);
            vb_store((uint8_t *)(to[j] + h * 2 * L), (vb)n);
        }
    }
}
#endif
#endif
