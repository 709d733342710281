// Code 1 by Horner's rule over the bits of coefficients: another way to do what the kernels of code1.h do.
//
// A target is the sum of c_j x_j. Of each bit b of the coefficients, the sources that have it are summed without any
// product; then the eight sums are put together from the top, s = 2 s + next, seven doublings for all k sources. That is
// one masked sum for eight bytes and a bit, and nothing is made of the sources: for devices that permute no bytes.
#include "dialect.h"
#include "code1.h"
#ifndef VANTUN_HORNER_H
#define VANTUN_HORNER_H

#define BITS 8
#define LANES 0x0101010101010101ul

// Twice each of eight bytes.
DEVICE u64 twice_lanes(u64 x) { return ((x & 0x7f * LANES) << 1) ^ ((x >> 7 & LANES) * 0x1d); }

// A mask for each bit of a coefficient.
KERNEL(code1_bits, 0) {
    Coefficient coefficient = find_coefficient(ARGUMENTS, item);
    UNROLL
    for (int bit = 0; bit < BITS; bit++) coefficient.table[bit] = 0 - (coefficient.value >> bit & 1);
}

KERNEL(code1_horner, 1) {
    Group group = read_group(ARGUMENTS, item);
    KEEP_LOOP
    for (u32 part = 0; part < 2; part++) { // the sums of all sixteen bytes would take twice the registers
        GLOBAL const u32 *coefficients = group.coefficients;
        u64 sum[GROUP][BITS];
        UNROLL
        for (u32 r = 0; r < GROUP; r++)
            for (int bit = 0; bit < BITS; bit++) sum[r][bit] = 0;
        KEEP_LOOP
        for (u32 j = 0; j < group.k; j++) {
            GLOBAL const u32 *place = (GLOBAL const u32 *)(source + 16 * (u64)group.units[j] + group.byte + 8 * part);
            u64 word = join(place[0], place[1]);
            UNROLL
            for (u32 r = 0; r < GROUP; r++) {
                if (r < group.many) {
                    u32 masks[BITS];
                    load16((GLOBAL const u8 *)(coefficients + COEFFICIENT * r), masks);
                    load16((GLOBAL const u8 *)(coefficients + COEFFICIENT * r + 4), masks + 4);
                    UNROLL
                    for (int bit = 0; bit < BITS; bit++) sum[r][bit] ^= word & join(masks[bit], masks[bit]);
                }
            }
            coefficients += COEFFICIENT * group.many;
        }
        UNROLL
        for (u32 r = 0; r < GROUP; r++) {
            if (r < group.many) {
                u64 total = sum[r][BITS - 1];
                UNROLL
                for (int bit = BITS - 2; bit >= 0; bit--) total = twice_lanes(total) ^ sum[r][bit];
                GLOBAL u32 *to = (GLOBAL u32 *)(target + 16 * (u64)group.targets[r] + group.byte + 8 * part);
                to[0] = (u32)total;
                to[1] = (u32)(total >> 32);
            }
        }
    }
}

#endif
