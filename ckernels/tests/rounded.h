/* rounded.h - numbers rounded to half precision, by arithmetic: what the checks of quantisers expect scales to become. */
#ifndef ZL_ROUNDED_H
#define ZL_ROUNDED_H
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float half_rounded(float x) { /* to the nearest, ties to even */
    uint32_t b;
    if (fabsf(x) < 0x1p-14f) return (float)(rint((double)x * 0x1p24) * 0x1p-24); /* subnormal halves */
    memcpy(&b, &x, 4);
    b += 0xfff + (b >> 13 & 1), b &= ~0x1fffu;
    memcpy(&x, &b, 4);
    return x;
}
#endif
