/* dequantize_iq.c - the IQ formats: codes that number the vectors of a codebook, or the levels of a table -> floats.
 *
 * The codebooks are in codebooks.h. A vector is 8 values of IQ1 and IQ2, 4 of IQ3, stored as bytes of one word. Signs are a byte for 8
 * values, bit i set where value i is negative; where only seven bits are stored, the eighth makes the number of ones even (zl_signs).
 */
#include "codebooks.h"
#include "dequantize.h"

/* IQ4_NL  | d f16 | nibbles 16 |                                                  y = d level         byte i: values i and i + 16
 * IQ4_XS  | d f16 | upper scale pairs u16 | scale nibbles 4 | nibbles 128 |       y = (d (scale - 32)) level, 8 blocks of 32 */
ZL_INLINE void levels(float a, const uint8_t *qs, float *y) {
    for (int i = 0; i < 16; i++) {
        y[i] = a * (float)zl_values_iq4[qs[i] & 15];
        y[i + 16] = a * (float)zl_values_iq4[qs[i] >> 4];
    }
}
static void iq4_nl(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 18, y += 32) levels(half_at(p), p + 2, y);
}
static void iq4_xs(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 136) {
        const float d = half_at(p);
        const int upper = u16_at(p + 2);
        for (int j = 0; j < 8; j++, y += 32) levels(d * (float)((nibble(p + 4, j) | ((upper >> (2 * j)) & 3) << 4) - 32), p + 8 + 16 * j, y);
    }
}

/* a vector of `size` magnitudes, signs from bit 0 of `signs` on */
ZL_INLINE void magnitudes(const int size, uint64_t vector, int signs, float a, float *y) {
    for (int i = 0; i < size; i++) {
        const float m = a * (float)((vector >> (8 * i)) & 255);
        y[i] = (signs >> i) & 1 ? -m : m;
    }
}

/* IQ3_XXS | d f16 | 64 vectors | 8 x u32: four times seven signs, scale in the upper 4 bits |     y = +-(d (scale + 1/2) / 2) magnitude */
static void iq3_xxs(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 98) {
        const float d = half_at(p);
        for (int j = 0; j < 8; j++) {
            const uint32_t word = u32_at(p + 66 + 4 * j);
            const float a = d * ((float)(word >> 28) + 0.5f) * 0.5f;
            for (int k = 0; k < 8; k++, y += 4)
                magnitudes(4, zl_grid_iq3_xxs[p[2 + 8 * j + k]], zl_signs[(word >> (7 * (k / 2))) & 127] >> (4 * (k % 2)), a, y);
        }
    }
}

/* IQ3_S   | d f16 | 64 vectors, low 8 bits | ninth bits 8 | signs 32 | scale nibbles 4 |         y = +-(d (2 scale + 1)) magnitude */
static void iq3_s(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 110) {
        const float d = half_at(p);
        for (int j = 0; j < 8; j++) {
            const float a = d * (float)(1 + 2 * nibble(p + 106, j));
            for (int k = 0; k < 8; k++, y += 4)
                magnitudes(4, zl_grid_iq3_s[p[2 + 8 * j + k] | field(p, 66 + j, k, 1) << 8], p[74 + 4 * j + k / 2] >> (4 * (k % 2)), a, y);
        }
    }
}

/* IQ2_XXS | d f16 | 8 x (vectors 4 | u32: four times seven signs, scale in the upper 4 bits) |    y = +-(d (scale + 1/2) / 4) magnitude */
static void iq2_xxs(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 66) {
        const float d = half_at(p);
        for (int j = 0; j < 8; j++) {
            const uint8_t *q = p + 2 + 8 * j;
            const uint32_t word = u32_at(q + 4);
            const float a = d * ((float)(word >> 28) + 0.5f) * 0.25f;
            for (int k = 0; k < 4; k++, y += 8) magnitudes(8, zl_grid_iq2_xxs[q[k]], zl_signs[(word >> (7 * k)) & 127], a, y);
        }
    }
}

/* IQ2_XS  | d f16 | 32 x u16: vector 9 bits, signs 7 bits | scale nibbles 8: for 16 values each |   y as IQ2_XXS
 * IQ2_S   | d f16 | 32 vectors, low 8 bits | signs 32 | upper pairs 8 | scale nibbles 8 |         y as IQ2_XXS */
static void iq2_xs(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 74) {
        const float d = half_at(p);
        for (int k = 0; k < 32; k++, y += 8) {
            const int word = u16_at(p + 2 + 2 * k);
            magnitudes(8, zl_grid_iq2_xs[word & 511], zl_signs[word >> 9], d * ((float)nibble(p + 66, k / 2) + 0.5f) * 0.25f, y);
        }
    }
}
static void iq2_s(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 82) {
        const float d = half_at(p);
        for (int k = 0; k < 32; k++, y += 8) {
            const int vector = p[2 + k] | field(p, 66 + k / 4, 2 * (k % 4), 2) << 8;
            magnitudes(8, zl_grid_iq2_s[vector], p[34 + k], d * ((float)nibble(p + 74, k / 2) + 0.5f) * 0.25f, y);
        }
    }
}

/* IQ1_S   | d f16 | 32 vectors, low 8 bits | 8 x u16: upper bits 4 x 3, scale 3, shift 1 |        y = (d (2 scale + 1)) (trit +- 1/8)
 * IQ1_M   | 32 vectors, low 8 bits | nibbles 16: upper bits 3, shift 1 | 4 x u16: scales 4 x 3, 4 bits of d |    y as IQ1_S
 * The shift is minus where its bit is set. A scale is for 32 values of IQ1_S, 16 of IQ1_M; the four words of IQ1_M have the nibbles of d,
 * the lowest first. */
ZL_INLINE void trits(int vector, int minus, float a, float *y) {
    for (int i = 0; i < 8; i++) y[i] = a * ((float)(int8_t)(zl_grid_iq1[vector] >> (8 * i)) + (minus ? -0.125f : 0.125f));
}
static void iq1_s(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 50) {
        const float d = half_at(p);
        for (int k = 0; k < 32; k++, y += 8) {
            const int word = u16_at(p + 34 + 2 * (k / 4));
            trits(p[2 + k] | ((word >> (3 * (k % 4))) & 7) << 8, word >> 15, d * (float)(2 * ((word >> 12) & 7) + 1), y);
        }
    }
}
static void iq1_m(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 56) {
        uint8_t bits[2] = {p[49] >> 4 | (p[51] & 0xf0), p[53] >> 4 | (p[55] & 0xf0)};
        const float d = half_at(bits);
        for (int k = 0; k < 32; k++, y += 8) {
            const int high = nibble(p + 32, k), scale = (u16_at(p + 48 + 2 * (k / 8)) >> (3 * (k / 2 % 4))) & 7;
            trits(p[k] | (high & 7) << 8, high >> 3, d * (float)(2 * scale + 1), y);
        }
    }
}

int ZL_FN(dequantize_iq)(int type, int64_t n, const uint8_t *p, float *y) {
    switch (type) {
    case ZL_TYPE_IQ4_NL: iq4_nl(n / 32, p, y); return 1;
    case ZL_TYPE_IQ4_XS: iq4_xs(n / 256, p, y); return 1;
    case ZL_TYPE_IQ3_XXS: iq3_xxs(n / 256, p, y); return 1;
    case ZL_TYPE_IQ3_S: iq3_s(n / 256, p, y); return 1;
    case ZL_TYPE_IQ2_XXS: iq2_xxs(n / 256, p, y); return 1;
    case ZL_TYPE_IQ2_XS: iq2_xs(n / 256, p, y); return 1;
    case ZL_TYPE_IQ2_S: iq2_s(n / 256, p, y); return 1;
    case ZL_TYPE_IQ1_S: iq1_s(n / 256, p, y); return 1;
    case ZL_TYPE_IQ1_M: iq1_m(n / 256, p, y); return 1;
    }
    return 0;
}
