/* dequantize_reference.h - the number formats that no product reads, value by value and in scalar code, from their definitions in ggml:
 * where in its quant block value i has its code, its scale and its sign, and the order of the float products.
 *
 * What it is not: a second copy of the kernels. Those walk over blocks; here a value is looked up by its number. The codebooks' words are
 * shared with the kernels, so that they have sums of their own (selftest_dequantize.c). Formats with products: linear_reference.h.
 */
#ifndef ZL_DEQUANTIZE_REFERENCE_H
#define ZL_DEQUANTIZE_REFERENCE_H
#include "../kernels/codebooks.h"
#include "linear_reference.h"

static int word_of(const uint8_t *p) { return p[0] | p[1] << 8; }
static uint32_t long_of(const uint8_t *p) { return (uint32_t)word_of(p) | (uint32_t)word_of(p + 2) << 16; }
static int bits_of(int v, int at, int n) { return (v >> at) & ((1 << n) - 1); }
/* element i of a codebook's vector */
static int element(uint64_t vector, int i) { return (int)((vector >> (8 * i)) & 255); }

/* ---- plain numbers ----------------------------------------------------------------------------------------------------------------- */

static float of_f64(const uint8_t *b, int i) { double v; (void)i; memcpy(&v, b, 8); return (float)v; }
static float of_i8(const uint8_t *b, int i) { (void)i; return (float)(int8_t)b[0]; }
static float of_i16(const uint8_t *b, int i) { (void)i; return (float)(int16_t)word_of(b); }
static float of_i32(const uint8_t *b, int i) { (void)i; return (float)(int32_t)long_of(b); }
static float of_i64(const uint8_t *b, int i) { (void)i; return (float)(int64_t)(long_of(b) | (uint64_t)long_of(b + 4) << 32); }

/* ---- scales and codes ---------------------------------------------------------------------------------------------------------------- */

static float of_q8_1(const uint8_t *b, int i) { return half_of(b) * (float)(int8_t)b[4 + i]; }
static float of_q8_k(const uint8_t *b, int i) { return float_of(b) * (float)(int8_t)b[4 + i]; }

/* scales 16, pairs 64, d, dmin. Value i: pair (i % 128) / 32 of byte i % 32 of its half. */
static int pair_of(const uint8_t *qs, int i) { return bits_of(qs[32 * (i / 128) + i % 32], 2 * (i % 128 / 32), 2); }
static float of_q2_k(const uint8_t *b, int i) {
    const int s = b[i / 16];
    float y = half_of(b + 80) * (float)(s % 16) * (float)pair_of(b + 16, i);
    return y - half_of(b + 82) * (float)(s / 16);
}
/* third bits 32, pairs 64, scales 12, d. The third bit set means 0, clear means -4. */
static float of_q3_k(const uint8_t *b, int i) {
    const uint8_t *s = b + 96;
    const int g = i / 16, low = g < 8 ? s[g] % 16 : s[g - 8] / 16, high = bits_of(s[8 + g % 4], 2 * (g / 4), 2);
    const int code = pair_of(b + 32, i) - (bits_of(b[i % 32], i / 32, 1) ? 0 : 4);
    return half_of(b + 108) * (float)(low + 16 * high - 32) * (float)code;
}

/* ---- levels and 4-bit floats --------------------------------------------------------------------------------------------------------- */

static int nibble_of(const uint8_t *p, int i, int n) { return i < n ? p[i] % 16 : p[i - n] / 16; } /* n bytes: first all low ones */
static int level_of(int code) {
    static const int levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return levels[code];
}
static float of_iq4_nl(const uint8_t *b, int i) { return half_of(b) * (float)level_of(nibble_of(b + 2, i, 16)); }
static float of_iq4_xs(const uint8_t *b, int i) {
    const int j = i / 32, scale = bits_of(b[4 + j / 2], 4 * (j % 2), 4) + 16 * bits_of(word_of(b + 2), 2 * j, 2) - 32;
    return half_of(b) * (float)scale * (float)level_of(nibble_of(b + 8 + 16 * j, i % 32, 16));
}
/* sign, two bits of exponent, one of mantissa: twice the value is an integer */
static int twice_of(int code) {
    const int e = code / 2 % 4, m = code % 2, size = e ? (2 + m) << (e - 1) : m;
    return code >= 8 ? -size : size;
}
static float of_mxfp4(const uint8_t *b, int i) { return ldexpf(1, b[0] - 128) * (float)twice_of(nibble_of(b + 1, i, 16)); }
static float of_nvfp4(const uint8_t *b, int i) {
    const int g = i / 16, x = b[g], e = x / 8 % 16, m = x % 8;
    const float d = x == 127 ? 0 : e ? ldexpf((float)(8 + m), e - 11) : ldexpf((float)m, -10);
    return d * (float)twice_of(nibble_of(b + 4 + 8 * g, i % 16, 8));
}

/* ---- vectors ------------------------------------------------------------------------------------------------------------------------- */

/* The eight signs of a group whose seventh bit makes their number even. */
static int even_signs(int seven) {
    int ones = 0;
    for (int i = 0; i < 7; i++) ones += bits_of(seven, i, 1);
    return seven + 128 * (ones % 2);
}
static float signed_by(int signs, int i, float v) { return bits_of(signs, i, 1) ? -v : v; }

static float of_iq3_xxs(const uint8_t *b, int i) {
    const uint32_t word = long_of(b + 66 + i / 32 * 4);
    const float d = half_of(b) * (0.5f + (float)(word >> 28)) * 0.5f;
    const int signs = even_signs((int)(word >> (7 * (i % 32 / 8)) & 127));
    return signed_by(signs, i % 8, d * (float)element(zl_grid_iq3_xxs[b[2 + i / 4]], i % 4));
}
static float of_iq3_s(const uint8_t *b, int i) {
    const int j = i / 32, v = i / 4; /* of 8 blocks, of 64 vectors */
    const float d = half_of(b) * (float)(1 + 2 * bits_of(b[106 + j / 2], 4 * (j % 2), 4));
    return signed_by(b[74 + i / 8], i % 8, d * (float)element(zl_grid_iq3_s[b[2 + v] + 256 * bits_of(b[66 + j], v % 8, 1)], i % 4));
}
static float of_iq2_xxs(const uint8_t *b, int i) {
    const uint8_t *p = b + 2 + i / 32 * 8;
    const uint32_t word = long_of(p + 4);
    const float d = half_of(b) * (0.5f + (float)(word >> 28)) * 0.25f;
    return signed_by(even_signs((int)(word >> (7 * (i % 32 / 8)) & 127)), i % 8, d * (float)element(zl_grid_iq2_xxs[p[i % 32 / 8]], i % 8));
}
static float of_iq2_xs(const uint8_t *b, int i) {
    const int word = word_of(b + 2 + i / 8 * 2);
    const float d = half_of(b) * (0.5f + (float)bits_of(b[66 + i / 32], i % 32 / 16 * 4, 4)) * 0.25f;
    return signed_by(even_signs(word / 512), i % 8, d * (float)element(zl_grid_iq2_xs[word % 512], i % 8));
}
static float of_iq2_s(const uint8_t *b, int i) {
    const int vector = b[2 + i / 8] + 256 * bits_of(b[66 + i / 32], i % 32 / 8 * 2, 2);
    const float d = half_of(b) * (0.5f + (float)bits_of(b[74 + i / 32], i % 32 / 16 * 4, 4)) * 0.25f;
    return signed_by(b[34 + i / 8], i % 8, d * (float)element(zl_grid_iq2_s[vector], i % 8));
}
static float of_iq1_s(const uint8_t *b, int i) {
    const int word = word_of(b + 34 + i / 32 * 2), vector = b[2 + i / 8] + 256 * bits_of(word, i % 32 / 8 * 3, 3);
    const float d = half_of(b) * (float)(2 * bits_of(word, 12, 3) + 1);
    return d * ((float)(int8_t)element(zl_grid_iq1[vector], i % 8) + (word / 32768 ? -0.125f : 0.125f));
}
/* The upper nibbles of the four scale words are the half's nibbles, the lowest first. */
static float of_iq1_m(const uint8_t *b, int i) {
    const uint8_t *s = b + 48;
    const int j = i / 32, l = i % 32 / 8, high = bits_of(b[32 + i / 16], l % 2 * 4, 4), vector = b[i / 8] + 256 * (high % 8);
    const int d = s[1] / 16 + s[3] / 16 * 16 + s[5] / 16 * 256 + s[7] / 16 * 4096;
    const int scale = bits_of(word_of(s + j / 2 * 2), j % 2 * 6 + l / 2 * 3, 3);
    const uint8_t half[2] = {(uint8_t)(d % 256), (uint8_t)(d / 256)};
    return half_of(half) * (float)(2 * scale + 1) * ((float)(int8_t)element(zl_grid_iq1[vector], i % 8) + (high / 8 ? -0.125f : 0.125f));
}

/* ---- one bit, two bits, trits ---------------------------------------------------------------------------------------------------------- */

/* Trit n of a byte: of the fraction byte / 256, the n-th digit in base 3. */
static int trit_of(int byte, int n) {
    for (; n > 0; n--) byte = byte * 3 % 256;
    return byte * 3 / 256;
}
static float of_tq1_0(const uint8_t *b, int i) {
    const int from = i < 160 ? 0 : i < 240 ? 160 : 240, run = i < 160 ? 32 : i < 240 ? 16 : 4, at = i < 160 ? 0 : i < 240 ? 32 : 48;
    return (float)(trit_of(b[at + (i - from) % run], (i - from) / run) - 1) * half_of(b + 52);
}
static float of_tq2_0(const uint8_t *b, int i) { return (float)(pair_of(b, i) - 1) * half_of(b + 64); }
static float of_q1_0(const uint8_t *b, int i) { return bits_of(b[2 + i / 8], i % 8, 1) ? half_of(b) : -half_of(b); }
static float of_q2_0(const uint8_t *b, int i) { return (float)(bits_of(b[2 + i / 4], 2 * (i % 4), 2) - 1) * half_of(b); }

static const struct {
    int type, cols, bytes;
    float (*value)(const uint8_t *block, int i);
} other_formats[] = {
    {ZL_TYPE_F64, 1, 8, of_f64},          {ZL_TYPE_I8, 1, 1, of_i8},            {ZL_TYPE_I16, 1, 2, of_i16},
    {ZL_TYPE_I32, 1, 4, of_i32},          {ZL_TYPE_I64, 1, 8, of_i64},          {ZL_TYPE_Q8_1, 32, 36, of_q8_1},
    {ZL_TYPE_Q8_K, 256, 292, of_q8_k},    {ZL_TYPE_Q2_K, 256, 84, of_q2_k},     {ZL_TYPE_Q3_K, 256, 110, of_q3_k},
    {ZL_TYPE_IQ4_NL, 32, 18, of_iq4_nl},  {ZL_TYPE_IQ4_XS, 256, 136, of_iq4_xs}, {ZL_TYPE_MXFP4, 32, 17, of_mxfp4},
    {ZL_TYPE_NVFP4, 64, 36, of_nvfp4},    {ZL_TYPE_IQ3_XXS, 256, 98, of_iq3_xxs}, {ZL_TYPE_IQ3_S, 256, 110, of_iq3_s},
    {ZL_TYPE_IQ2_XXS, 256, 66, of_iq2_xxs}, {ZL_TYPE_IQ2_XS, 256, 74, of_iq2_xs}, {ZL_TYPE_IQ2_S, 256, 82, of_iq2_s},
    {ZL_TYPE_IQ1_S, 256, 50, of_iq1_s},   {ZL_TYPE_IQ1_M, 256, 56, of_iq1_m},   {ZL_TYPE_TQ1_0, 256, 54, of_tq1_0},
    {ZL_TYPE_TQ2_0, 256, 66, of_tq2_0},   {ZL_TYPE_Q1_0, 128, 18, of_q1_0},     {ZL_TYPE_Q2_0, 64, 18, of_q2_0},
};
enum { N_OTHERS = sizeof other_formats / sizeof other_formats[0] };
#endif
