/* widen_k.h - formats of plain bits and of levels: how a quant block of a panel is widened. The layouts are drawn in dequantize_k.c,
 * dequantize_low.c and dequantize_iq.c; words are the file's bytes without the leads (formats_wide.h).
 */
#ifndef ZL_WIDEN_K_H
#define ZL_WIDEN_K_H
#include "codebooks.h"
#include "widen.h"

/* Q2_K, block j. Words: scales 0..3, pairs 4..19 */
ZL_INLINE vu q2_k_codes(const uint8_t *p, int j, int v) {
    return word(ZL_TYPE_Q2_K, p, 4 + 8 * (j / 4) + v) >> (2 * (j % 4)) & 0x03030303u;
}
ZL_INLINE long_scales q2_k_scales(const uint8_t *p, int j) {
    const vu s = word(ZL_TYPE_Q2_K, p, j / 2) >> (16 * (j % 2));
    return (long_scales){(vi)(s & 15), (vi)(s >> 8 & 15), (vi)(s >> 4 & 15), (vi)(s >> 12 & 15)};
}
static void widen_q2_k(const uint8_t *p, uint8_t *to) {
    for (int j = 0; j < 8; j++)
        for (int v = 0; v < 8; v++) put(ZL_TYPE_Q2_K, to, j, v, (vb)q2_k_codes(p, j, v));
}

/* Q3_K, block j: codes that are 4 too many. Words: third bits 0..7, pairs 8..23, scales 24..26 */
ZL_INLINE vu q3_k_codes(const uint8_t *p, int j, int v) {
    const vu pair = word(ZL_TYPE_Q3_K, p, 8 + 8 * (j / 4) + v) >> (2 * (j % 4)) & 0x03030303u;
    return pair | (word(ZL_TYPE_Q3_K, p, v) >> j << 2 & 0x04040404u);
}
ZL_INLINE vi q3_k_scale(const uint8_t *p, int g) {
    const vu low = word(ZL_TYPE_Q3_K, p, 24 + g % 8 / 4) >> (8 * (g % 4) + 4 * (g / 8)) & 15;
    const vu up = word(ZL_TYPE_Q3_K, p, 26) >> (8 * (g % 4) + 2 * (g / 4)) & 3;
    return (vi)(low | up << 4) - 32;
}
ZL_INLINE long_scales q3_k_scales(const uint8_t *p, int j) { return (long_scales){.sc = q3_k_scale(p, 2 * j), .sc2 = q3_k_scale(p, 2 * j + 1)}; }
/* All sixteen, 32 too many: of group g byte g % 4 of word g / 4. */
ZL_INLINE void q3_k_scale_bytes(const uint8_t *p, vu bytes[4]) {
    const vu up = word(ZL_TYPE_Q3_K, p, 26);
    for (int q = 0; q < 4; q++) {
        const vu low = word(ZL_TYPE_Q3_K, p, 24 + q % 2);
        bytes[q] = ((q < 2 ? low : low >> 4) & 0x0f0f0f0fu) | ((q < 2 ? up << (4 - 2 * q) : up >> (2 * q - 4)) & 0x30303030u);
    }
}
static void widen_q3_k(const uint8_t *p, uint8_t *to) {
    for (int j = 0; j < 8; j++)
        for (int v = 0; v < 8; v++) put(ZL_TYPE_Q3_K, to, j, v, (vb)q3_k_codes(p, j, v) - 4);
}

/* Q6_K as panels have it (formats.h), of which codes would be picked apart anew for every eight rows of x. */
static void widen_q6_k(const uint8_t *p, uint8_t *to) {
    enum { T = ZL_TYPE_Q6_K };
    for (int j = 0; j < 8; j++)
        for (int v = 0; v < 8; v++) put(T, to, j, v, code(T, codes_at(T, p, j), v) - (uint8_t)fmt_zero(T));
}

/* Of 32 nibbles from word `at` on code vector v: v in the low, v + 4 in the high nibbles of word v, each a number of a level. */
ZL_INLINE vb level(const int type, const int8_t *table, const uint8_t *p, int at, int v) {
    const vu w = word(type, p, at + v % 4);
    return lookup(table, (v < 4 ? w : w >> 4) & 0x0f0f0f0fu);
}
ZL_INLINE void levels_of(const int type, const int8_t *table, const uint8_t *p, uint8_t *to, int j, int at) {
    for (int v = 0; v < 8; v++) put(type, to, j, v, level(type, table, p, at, v));
}
static void widen_iq4_nl(const uint8_t *p, uint8_t *to) {
    put_scale(ZL_TYPE_IQ4_NL, to, 0, AT_A, f16_lanes(p));
    levels_of(ZL_TYPE_IQ4_NL, zl_values_iq4, p, to, 0, 0);
}
ZL_INLINE long_scales iq4_xs_scales(const uint8_t *p, int j) { /* leads: d, upper scale pairs; words: scale nibbles 0, nibbles 1.. */
    const vu upper = u16_lanes(p + 2 * L), low = word(ZL_TYPE_IQ4_XS, p, 0);
    return (long_scales){.sc = (vi)((low >> (4 * j) & 15) | (upper >> (2 * j) & 3) << 4) - 32};
}
static void widen_iq4_xs(const uint8_t *p, uint8_t *to) {
    for (int j = 0; j < 8; j++) levels_of(ZL_TYPE_IQ4_XS, zl_values_iq4, p, to, j, 1 + 4 * j);
}
ZL_INLINE vf mxfp4_scale(const uint8_t *p) { /* 2^(e - 128) */
    const vu e = u8_lanes(p);
    return vf_select((vi)e < 2, vi_bits((vi)((e + 1) * 0x00200000u)), vi_bits((vi)((e - 1) << 23)));
}
static void widen_mxfp4(const uint8_t *p, uint8_t *to) {
    put_scale(ZL_TYPE_MXFP4, to, 0, AT_A, mxfp4_scale(p));
    levels_of(ZL_TYPE_MXFP4, zl_values_fp4, p, to, 0, 0);
}
static void widen_nvfp4(const uint8_t *p, uint8_t *to) { /* words: scales 0, nibbles of 16 values 1 + 2 g, 2 + 2 g */
    enum { T = ZL_TYPE_NVFP4 };
    for (int g = 0; g < 4; g++) {
        const vu x = word(T, p, 0) >> (8 * g) & 255, e = x >> 3 & 15, m = x & 7;
        vf d = vf_select((vi)e == 0, floats(m) * vf_set1(0x1p-10f), floats(m + 8) * vi_bits((vi)((e + 116) << 23)));
        d = vf_select((vi)x == 127, vf_zero(), d);
        put_scale(T, to, g / 2, g % 2 ? AT_A2 : AT_A, d);
        for (int v = 0; v < 2; v++) {
            const vu w = word(T, p, 1 + 2 * g + v);
            put(T, to, g / 2, 4 * (g % 2) + v, lookup(zl_values_fp4, w & 0x0f0f0f0fu));
            put(T, to, g / 2, 4 * (g % 2) + v + 2, lookup(zl_values_fp4, w >> 4 & 0x0f0f0f0fu));
        }
    }
}

/* trit n of each byte, minus one: the integer part of 3 (byte 3^n mod 256) / 256; power: 3^n. Two bytes a product, which stay apart. */
ZL_INLINE vb trits_of(vu w, const uint32_t power) {
    const vu even = (w & 0x00ff00ffu) * power & 0x00ff00ffu, odd = (w >> 8 & 0x00ff00ffu) * power & 0x00ff00ffu;
    return (vb)((even * 3 >> 8 & 0x00030003u) | (odd * 3 & 0x03000300u)) - 1;
}
static void widen_tq1_0(const uint8_t *p, uint8_t *to) { /* words: five trits 0..7 (32 bytes), five 8..11 (16), four 12 (4) */
    enum { T = ZL_TYPE_TQ1_0 };
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    const vf d = f16_lanes(p);
    for (int j = 0; j < 8; j++) put_scale(T, to, j, AT_A, d);
    for (int t = 0; t < 5; t++) {
        for (int v = 0; v < 8; v++) put(T, to, t, v, trits_of(word(T, p, v), power[t]));
        for (int v = 0; v < 4; v++) put(T, to, 5 + t / 2, 4 * (t % 2) + v, trits_of(word(T, p, 8 + v), power[t]));
        if (t < 4) put(T, to, 7, 4 + t, trits_of(word(T, p, 12), power[t]));
    }
}
/* unsigned, one more than they mean */
ZL_INLINE vu tq2_0_codes(const uint8_t *p, int j, const int v) { return word(ZL_TYPE_TQ2_0, p, 8 * (j / 4) + v) >> (2 * (j % 4)) & 0x03030303u; }
static void widen_tq2_0(const uint8_t *p, uint8_t *to) {
    enum { T = ZL_TYPE_TQ2_0 };
    for (int j = 0; j < 8; j++) {
        put_scale(T, to, j, AT_A, f16_lanes(p));
        for (int v = 0; v < 8; v++) put(T, to, j, v, (vb)tq2_0_codes(p, j, v) - 1);
    }
}
/* unsigned too: 0 and 2 */
ZL_INLINE vu q1_0_codes(const uint8_t *p, int j, const int v) { return four_bits(word(ZL_TYPE_Q1_0, p, j) >> (4 * v)) << 1; }
static void widen_q1_0(const uint8_t *p, uint8_t *to) {
    for (int j = 0; j < 4; j++) {
        put_scale(ZL_TYPE_Q1_0, to, j, AT_A, f16_lanes(p));
        for (int v = 0; v < 8; v++) put(ZL_TYPE_Q1_0, to, j, v, (vb)q1_0_codes(p, j, v) - 1);
    }
}
ZL_INLINE vu q2_0_codes(const uint8_t *p, int j, const int v) { return four_pairs(word(ZL_TYPE_Q2_0, p, 2 * j + v / 4) >> (8 * (v % 4))); }
static void widen_q2_0(const uint8_t *p, uint8_t *to) {
    for (int j = 0; j < 2; j++) {
        put_scale(ZL_TYPE_Q2_0, to, j, AT_A, f16_lanes(p));
        for (int v = 0; v < 8; v++) put(ZL_TYPE_Q2_0, to, j, v, (vb)q2_0_codes(p, j, v) - 1);
    }
}
#endif
