/* dequantize_low.c - ternary and binary formats, two plain bits, and 4-bit floats -> floats.
 */
#include "codebooks.h"
#include "dequantize.h"

/* TQ1_0  | five trits a byte 48 | four trits a byte 4 | d f16 |      y = d (trit - 1), superblock of 256
 * A byte is ceil(256 t / 243) for the number t with the digits t0 t1 t2 t3 t4 in base 3: trit n is the integer part of
 * 3 ((byte 3^n) mod 256) / 256. Trit n of the bytes of a run stands n runs further: runs of 32, 16 and 4 bytes. */
ZL_INLINE void trit_run(const int bytes, const int n, const uint8_t *p, float d, float *y) {
    static const int power[5] = {1, 3, 9, 27, 81};
    for (int t = 0; t < n; t++)
        for (int i = 0; i < bytes; i++) y[t * bytes + i] = (float)((((p[i] * power[t]) & 255) * 3 >> 8) - 1) * d;
}
static void tq1_0(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 54, y += 256) {
        const float d = half_at(p + 52);
        trit_run(32, 5, p, d, y);
        trit_run(16, 5, p + 32, d, y + 160);
        trit_run(4, 4, p + 48, d, y + 240);
    }
}

/* TQ2_0  | pairs 64 | d f16 |       y = d (u - 1), superblock of 256; byte i of 32 holds the values i, i + 32, i + 64, i + 96 of its 128 */
static void tq2_0(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 66, y += 256) {
        const float d = half_at(p + 64);
        for (int i = 0; i < 256; i++) y[i] = (float)(field(p, 32 * (i / 128) + i % 32, 2 * (i / 32 % 4), 2) - 1) * d;
    }
}

/* Q1_0   | d f16 | bits 16 |        y = bit ? d : -d, block of 128         Q2_0   | d f16 | pairs 16 |       y = d (u - 1), block of 64 */
static void q1_0(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 18, y += 128) {
        const float d = half_at(p);
        for (int i = 0; i < 128; i++) y[i] = field(p, 2 + i / 8, i % 8, 1) ? d : -d;
    }
}
static void q2_0(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 18, y += 64) {
        const float d = half_at(p);
        for (int i = 0; i < 64; i++) y[i] = (float)(field(p, 2 + i / 4, 2 * (i % 4), 2) - 1) * d;
    }
}

ZL_INLINE float float_of_bits(uint32_t bits) { float f; memcpy(&f, &bits, 4); return f; }

/* MXFP4  | e u8 | nibbles 16 |      y = 2^(e - 128) level, block of 32; byte i: values i and i + 16; levels are twice the 4-bit float */
static void mxfp4(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 17, y += 32) {
        const float d = float_of_bits(p[0] < 2 ? 0x00200000u << p[0] : (uint32_t)(p[0] - 1) << 23); /* the first two are subnormal */
        for (int i = 0; i < 16; i++) {
            y[i] = (float)zl_values_fp4[p[1 + i] & 15] * d;
            y[i + 16] = (float)zl_values_fp4[p[1 + i] >> 4] * d;
        }
    }
}

/* Half of an unsigned float with 4 bits of exponent e and 3 of mantissa m (E4M3): m 2^-9 for e = 0, else (1 + m/8) 2^(e - 7); bit 7 is
 * not read, 127 is 0. */
ZL_INLINE float half_e4m3(uint8_t x) {
    const int e = (x >> 3) & 15, m = x & 7;
    if (x == 127) return 0;
    return e ? (float)(8 + m) * float_of_bits((uint32_t)(127 + e - 11) << 23) : (float)m * 0x1p-10f;
}
/* NVFP4  | d u8 4: half_e4m3, for 16 values each | nibbles 32 |   y = d level, block of 64; byte i of 8: values i and i + 8 of 16 */
static void nvfp4(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, p += 36)
        for (int g = 0; g < 4; g++, y += 16) {
            const float d = half_e4m3(p[g]);
            for (int i = 0; i < 8; i++) {
                y[i] = (float)zl_values_fp4[p[4 + 8 * g + i] & 15] * d;
                y[i + 8] = (float)zl_values_fp4[p[4 + 8 * g + i] >> 4] * d;
            }
        }
}

int ZL_FN(dequantize_low)(int type, int64_t n, const uint8_t *p, float *y) {
    switch (type) {
    case ZL_TYPE_TQ1_0: tq1_0(n / 256, p, y); return 1;
    case ZL_TYPE_TQ2_0: tq2_0(n / 256, p, y); return 1;
    case ZL_TYPE_Q1_0: q1_0(n / 128, p, y); return 1;
    case ZL_TYPE_Q2_0: q2_0(n / 64, p, y); return 1;
    case ZL_TYPE_MXFP4: mxfp4(n / 32, p, y); return 1;
    case ZL_TYPE_NVFP4: nvfp4(n / 64, p, y); return 1;
    }
    return 0;
}
