/* dequantize.c - numbers as they are in the file -> floats: plain numbers, and quant blocks of 32 values with one scale.
 *
 * The layout of each block is drawn beside its function. Codes below are unsigned; values i of a block in ascending order.
 */
#include "dequantize.h"

/* Q4_0  | d f16 | nibbles 16 |                  y = (u - 8) d          byte i: value i low, value i + 16 high
 * Q4_1  | d f16 | m f16 | nibbles 16 |          y = u d + m
 * Q5_0  | d f16 | fifth bits u32 | nibbles 16 | y = (u - 16) d         bit i of the word: value i
 * Q5_1  | d f16 | m f16 | fifth bits u32 | nibbles 16 |  y = u d + m */
ZL_INLINE void legacy(const int bits, const int has_min, int64_t blocks, const uint8_t *p, float *y) {
    const int head = 2 + 2 * has_min, zero = has_min ? 0 : 1 << (bits - 1);
    for (int64_t b = 0; b < blocks; b++, y += 32, p += head + 4 * bits) {
        const float d = half_at(p), m = has_min ? half_at(p + 2) : 0.0f;
        const uint8_t *qs = p + head + (bits == 5 ? 4 : 0);
        const uint32_t fifth = bits == 5 ? u32_at(p + head) : 0;
        for (int i = 0; i < 16; i++) {
            int low = (qs[i] & 15) | (int)((fifth >> i) & 1) << 4, high = qs[i] >> 4 | (int)((fifth >> (i + 16)) & 1) << 4;
            y[i] = (float)(low - zero) * d;
            y[i + 16] = (float)(high - zero) * d;
        }
        if (has_min)
            for (int i = 0; i < 32; i++) y[i] += m;
    }
}

/* Q8_0  | d f16 | int8 32 |                            y = w d
 * Q8_1  | d f16 | d * (sum of w) f16 | int8 32 |       y = w d */
ZL_INLINE void eight_bits(const int head, int64_t blocks, const uint8_t *p, float *y) {
    for (int64_t b = 0; b < blocks; b++, y += 32, p += head + 32) {
        const float d = half_at(p);
        for (int i = 0; i < 32; i++) y[i] = (float)(int8_t)p[head + i] * d;
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

/* F64 and the integers: rounded to the nearest float, ties to even */
#define PLAIN(name, type)                                                                                                                \
    static void name(int64_t n, const uint8_t *p, float *y) {                                                                            \
        for (int64_t i = 0; i < n; i++) {                                                                                                \
            type v;                                                                                                                      \
            memcpy(&v, p + i * (int64_t)sizeof v, sizeof v);                                                                             \
            y[i] = (float)v;                                                                                                             \
        }                                                                                                                                \
    }
PLAIN(f64, double)
PLAIN(i8, int8_t)
PLAIN(i16, int16_t)
PLAIN(i32, int32_t)
PLAIN(i64, int64_t)

void ZL_FN(dequantize)(int type, int64_t n, const uint8_t *src, float *dst) {
    switch (type) {
    case ZL_TYPE_F32: memcpy(dst, src, (size_t)n * 4); return;
    case ZL_TYPE_F16: halves(1, n, src, dst); return;
    case ZL_TYPE_BF16: halves(0, n, src, dst); return;
    case ZL_TYPE_F64: f64(n, src, dst); return;
    case ZL_TYPE_I8: i8(n, src, dst); return;
    case ZL_TYPE_I16: i16(n, src, dst); return;
    case ZL_TYPE_I32: i32(n, src, dst); return;
    case ZL_TYPE_I64: i64(n, src, dst); return;
    case ZL_TYPE_Q4_0: legacy(4, 0, n / 32, src, dst); return;
    case ZL_TYPE_Q4_1: legacy(4, 1, n / 32, src, dst); return;
    case ZL_TYPE_Q5_0: legacy(5, 0, n / 32, src, dst); return;
    case ZL_TYPE_Q5_1: legacy(5, 1, n / 32, src, dst); return;
    case ZL_TYPE_Q8_0: eight_bits(2, n / 32, src, dst); return;
    case ZL_TYPE_Q8_1: eight_bits(4, n / 32, src, dst); return;
    }
    if (ZL_FN(dequantize_k)(type, n, src, dst) || ZL_FN(dequantize_iq)(type, n, src, dst)) return;
    ZL_FN(dequantize_low)(type, n, src, dst);
}
