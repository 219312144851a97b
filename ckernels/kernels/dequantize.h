/* dequantize.h - what the files that read quant blocks share: the families of formats, and the pieces that blocks are made of.
 *
 * dequantize.c       plain numbers, and blocks of 32 with one scale      dequantize_k.c    superblocks with quantised scales
 * dequantize_iq.c    codes that number vectors or levels                 dequantize_low.c  ternary, binary, 4-bit floats
 *
 * A family takes n values (whole blocks) of one of its types and says whether it knew the type. All are bit for bit as ggml's
 * dequantize_row_*: products are never fused with the addition that follows, so the bits of a row do not depend on the machine.
 */
#ifndef ZL_DEQUANTIZE_H
#define ZL_DEQUANTIZE_H
#include "../include/zl.h"
#include "kernels.h"
#include "simd.h"

int ZL_FN(dequantize_k)(int type, int64_t n, const uint8_t *p, float *y);
int ZL_FN(dequantize_iq)(int type, int64_t n, const uint8_t *p, float *y);
int ZL_FN(dequantize_low)(int type, int64_t n, const uint8_t *p, float *y);

/* one half, widened */
ZL_INLINE float half_at(const uint8_t *p) {
    uint16_t h[L] = {0};
    memcpy(h, p, 2);
    return vf_from_f16(h)[0];
}
ZL_INLINE uint16_t u16_at(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
ZL_INLINE uint32_t u32_at(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
/* bits `at` and up of byte p[i]: a field of `bits` bits */
ZL_INLINE int field(const uint8_t *p, int i, int at, int bits) { return (p[i] >> at) & ((1 << bits) - 1); }
ZL_INLINE int nibble(const uint8_t *p, int i) { return field(p, i / 2, 4 * (i % 2), 4); } /* two of them in order, the low one first */
#endif
