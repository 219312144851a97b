/* rows_scan.h - what the kernels of rows_scan.c and core/scan.c share: the fixed point of masses and the buckets of keys.
 *
 * A candidate's mass is exp(x - best) in fixed point, an integer: sums of integers are exact in any order, so what is kept depends on
 * neither lanes nor blocks. best itself has 2^ZL_MASS_BITS; a mass below 1 (28 nats under the best) counts as none.
 *
 * Keys fall into buckets by their distance from the largest: bucket 0 holds the best, the last all that is ZL_SPAN or further away.
 */
#ifndef ZL_ROWS_SCAN_H
#define ZL_ROWS_SCAN_H

#define ZL_MASS_BITS 40
#define ZL_BUCKETS 2048
#define ZL_SPAN 28.0f /* ln 2^40 = 27.7 */
#define ZL_PER ((float)(ZL_BUCKETS - 1) / ZL_SPAN)
#endif
