/* dequantize_k.c - superblocks of 256 values, whose block scales are themselves quantised -> floats.
 *
 * What it is not: the form that products read (linear_pack.c makes that). Here a superblock is read as it is in the file.
 */
#include "dequantize.h"

/* Q2_K  | scales 16: scale low, minimum high nibble | pairs 64 | d f16 | dmin f16 |      y = u (d scale) - (dmin min), 16 groups of 16
 * Byte i of 32 pairs holds the values i, i + 32, i + 64, i + 96 of its 128. */
static void q2_k(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 84) {
        const float d = half_at(p + 80), dmin = half_at(p + 82);
        for (int g = 0; g < 16; g++, y += 16) {
            const float a = d * (float)(p[g] & 15), m = dmin * (float)(p[g] >> 4);
            const uint8_t *qs = p + 16 + 32 * (g / 8) + 16 * (g % 2);
            for (int i = 0; i < 16; i++) y[i] = a * (float)field(qs, i, 2 * (g / 2 % 4), 2) - m;
        }
    }
}

/* Q3_K  | third bits 32 | pairs 64 | scales 12 | d f16 |       y = (d (scale - 32)) (u - 4), 16 groups of 16
 * Bit j of third byte i belongs to value 32 j + i; pairs as in Q2_K. Scale g: its low nibble in byte g % 8 (low for g < 8), its upper pair
 * in byte 8 + g % 4, bits 2 (g / 4) and up. */
static void q3_k(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 110) {
        const float d = half_at(p + 108);
        const uint8_t *s = p + 96;
        for (int g = 0; g < 16; g++, y += 16) {
            const float a = d * (float)((field(s, g % 8, 4 * (g / 8), 4) | field(s, 8 + g % 4, 2 * (g / 4), 2) << 4) - 32);
            const uint8_t *qs = p + 32 + 32 * (g / 8) + 16 * (g % 2), *third = p + 16 * (g % 2);
            for (int i = 0; i < 16; i++) y[i] = a * (float)((field(qs, i, 2 * (g / 2 % 4), 2) | field(third, i, g / 2, 1) << 2) - 4);
        }
    }
}

/* Scale and minimum j (0..7) of the 12 bytes that hold 8 of each, 6 bits wide. j < 4: the low 6 bits of bytes j and j + 4. j >= 4: four low
 * bits in the nibbles of byte j + 4, two upper bits on top of bytes j - 4 and j. */
static void scale_min(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) *scale = s[j] & 63, *min = s[j + 4] & 63;
    else *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4, *min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
}

/* Q4_K  | d f16 | dmin f16 | scales and minimums 12 | nibbles 128 |                    superblock of 256 = 8 blocks of 32
 * Q5_K  | d f16 | dmin f16 | scales and minimums 12 | fifth bits 32 | nibbles 128 |
 * y = u (d scale) - (dmin min). Blocks 2c and 2c + 1 are the low and the high nibbles of bytes 32c .. 32c + 31; bit j of fifth byte i
 * belongs to value i of block j. */
ZL_INLINE void k45(const int bits, int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += bits == 5 ? 176 : 144) {
        const float d = half_at(p), dmin = half_at(p + 2);
        const uint8_t *qh = p + 16, *qs = p + (bits == 5 ? 48 : 16);
        for (int j = 0; j < 8; j++, y += 32) {
            int sc, mn;
            scale_min(p + 4, j, &sc, &mn);
            const float a = d * (float)sc, m = dmin * (float)mn;
            for (int i = 0; i < 32; i++) {
                int u = (qs[32 * (j / 2) + i] >> (4 * (j % 2))) & 15;
                if (bits == 5) u |= ((qh[i] >> j) & 1) << 4;
                y[i] = a * (float)u - m;
            }
        }
    }
}

/* Q6_K  | lower nibbles 128 | upper pairs 64 | scales int8 16 | d f16 |     y = (d scale) (u - 32), one scale for 16 values
 * Each half of 128 values has 64 bytes of nibbles and 32 of pairs; block g = 0..3 of it: nibbles from byte 32 (g % 2) on, low for g < 2,
 * pairs in bits 2g, 2g + 1. */
static void q6_k(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 210) {
        const float d = half_at(p + 208);
        for (int j = 0; j < 8; j++, y += 32) {
            const int h = j / 4, g = j % 4;
            const uint8_t *ql = p + 64 * h + 32 * (g % 2), *qh = p + 128 + 32 * h;
            for (int i = 0; i < 32; i++) {
                const float a = d * (float)(int8_t)p[192 + 2 * j + i / 16];
                int u = ((ql[i] >> (4 * (g / 2))) & 15) | ((qh[i] >> (2 * g)) & 3) << 4;
                y[i] = a * (float)(u - 32);
            }
        }
    }
}

/* Q8_K  | d f32 | int8 256 | int16 16: sums of 16 codes |      y = w d */
static void q8_k(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 292, y += 256) {
        float d;
        memcpy(&d, p, 4);
        for (int i = 0; i < 256; i++) y[i] = d * (float)(int8_t)p[4 + i];
    }
}

int ZL_FN(dequantize_k)(int type, int64_t n, const uint8_t *p, float *y) {
    switch (type) {
    case ZL_TYPE_Q2_K: q2_k(n / 256, p, y); return 1;
    case ZL_TYPE_Q3_K: q3_k(n / 256, p, y); return 1;
    case ZL_TYPE_Q4_K: k45(4, n / 256, p, y); return 1;
    case ZL_TYPE_Q5_K: k45(5, n / 256, p, y); return 1;
    case ZL_TYPE_Q6_K: q6_k(n / 256, p, y); return 1;
    case ZL_TYPE_Q8_K: q8_k(n / 256, p, y); return 1;
    }
    return 0;
}
