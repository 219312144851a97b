/* dequantize.c - quant blocks as they are in the file -> floats, bit for bit as ggml's dequantize_row_*.
 *
 * The layout of each block is drawn beside its function. Products are never fused with the addition that follows, as in ggml's scalar code:
 * the bits of an embedding row do not depend on the machine. Codes below are unsigned; values i of a block in ascending order.
 */
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"

/* one half, or n of them */
ZL_INLINE float half_at(const uint8_t *p) {
    uint16_t h[L] = {0};
    memcpy(h, p, 2);
    return vf_from_f16(h)[0];
}

/* Q4_0  | d f16 | nibbles 16 |                  y = (u - 8) d          byte i: value i low, value i + 16 high
 * Q4_1  | d f16 | m f16 | nibbles 16 |          y = u d + m
 * Q5_0  | d f16 | fifth bits u32 | nibbles 16 | y = (u - 16) d         bit i of the word: value i
 * Q5_1  | d f16 | m f16 | fifth bits u32 | nibbles 16 |  y = u d + m */
ZL_INLINE void legacy(const int bits, const int has_min, int64_t blocks, const uint8_t *p, float *y) {
    const int head = 2 + 2 * has_min, zero = has_min ? 0 : 1 << (bits - 1);
    for (int64_t b = 0; b < blocks; b++, y += 32, p += head + 4 * bits) {
        const float d = half_at(p), m = has_min ? half_at(p + 2) : 0.0f;
        const uint8_t *qs = p + head + (bits == 5 ? 4 : 0);
        uint32_t fifth = 0;
        if (bits == 5) memcpy(&fifth, p + head, 4);
        for (int i = 0; i < 16; i++) {
            int low = (qs[i] & 15) | (int)((fifth >> i) & 1) << 4, high = qs[i] >> 4 | (int)((fifth >> (i + 16)) & 1) << 4;
            y[i] = (float)(low - zero) * d;
            y[i + 16] = (float)(high - zero) * d;
        }
        if (has_min)
            for (int i = 0; i < 32; i++) y[i] += m;
    }
}

/* Q8_0  | d f16 | int8 32 |   y = w d */
static void q8_0(int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, y += 32, p += 34) {
        const float d = half_at(p);
        for (int i = 0; i < 32; i++) y[i] = (float)(int8_t)p[2 + i] * d;
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

/* F16, BF16: L at a time, the tail through a vector of its own */
ZL_INLINE void halves(const int is_f16, int64_t n, const uint8_t *p, float *y) {
    for (int64_t i = 0; i < n; i += L) {
        uint16_t h[L] = {0};
        int64_t some = n - i < L ? n - i : L;
        memcpy(h, p + 2 * i, (size_t)(2 * some));
        vf v = is_f16 ? vf_from_f16(h) : vf_from_bf16(h);
        if (some == L) vf_store(y + i, v);
        else vf_store_n(y + i, v, (int)some);
    }
}

void ZL_FN(dequantize)(int type, int64_t n, const uint8_t *src, float *dst) {
    switch (type) {
    case ZL_TYPE_F32: memcpy(dst, src, (size_t)n * 4); return;
    case ZL_TYPE_F16: halves(1, n, src, dst); return;
    case ZL_TYPE_BF16: halves(0, n, src, dst); return;
    case ZL_TYPE_Q4_0: legacy(4, 0, n / 32, src, dst); return;
    case ZL_TYPE_Q4_1: legacy(4, 1, n / 32, src, dst); return;
    case ZL_TYPE_Q5_0: legacy(5, 0, n / 32, src, dst); return;
    case ZL_TYPE_Q5_1: legacy(5, 1, n / 32, src, dst); return;
    case ZL_TYPE_Q8_0: q8_0(n / 32, src, dst); return;
    case ZL_TYPE_Q4_K: k45(4, n / 256, src, dst); return;
    case ZL_TYPE_Q5_K: k45(5, n / 256, src, dst); return;
    case ZL_TYPE_Q6_K: q6_k(n / 256, src, dst); return;
    }
}
