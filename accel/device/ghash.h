// GHASH (NIST SP 800-38D, 6.4) without tables: the carry-less product of words by ordinary multiplication.
#ifndef VANTUN_GHASH_H
#define VANTUN_GHASH_H

// Carry-less product of two words. The bits of each factor are parted into four combs, whose bits lie four apart: at
// most eight bits meet in a partial product, and their sum stays in its four bits.
DEVICE u64 comb_product(u32 a, u32 b) {
    u64 product = 0;
    u32 x[4], y[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        x[i] = a & (0x11111111u << i);
        y[i] = b & (0x11111111u << i);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        u64 sum = 0;
        UNROLL
        for (int j = 0; j < 4; j++) sum ^= multiply(x[j], y[(i - j) & 3]);
        product |= sum & (0x1111111111111111ull << i);
    }
    return product;
}

// Carry-less product of two words of 64 bits: three products of halves (Karatsuba).
DEVICE void wide_product(u64 a, u64 b, u64 *low, u64 *high) {
    u32 a0 = (u32)a, a1 = (u32)(a >> 32), b0 = (u32)b, b1 = (u32)(b >> 32);
    u64 l = comb_product(a0, b0), h = comb_product(a1, b1);
    u64 middle = comb_product(a0 ^ a1, b0 ^ b1) ^ l ^ h;
    *low = l ^ middle << 32;
    *high = h ^ middle >> 32;
}

// One step of the reduction: divide by x^64 modulo x^128 + x^127 + x^126 + x^121 + 1.
DEVICE void reduce_step(u64 *low, u64 *high) {
    u64 word = *low;
    *low = *high ^ word << 63 ^ word << 62 ^ word << 57;
    *high = word ^ word >> 1 ^ word >> 2 ^ word >> 7;
}

// y = y * h * x^-128 in the field of POLYVAL (RFC 8452, appendix A); [0] is the low half.
DEVICE void ghash_product(u64 *y, const u64 *h) {
    u64 low0, low1, high0, high1, middle0, middle1;
    wide_product(y[0], h[0], &low0, &low1);
    wide_product(y[1], h[1], &high0, &high1);
    wide_product(y[0] ^ y[1], h[0] ^ h[1], &middle0, &middle1);
    middle0 ^= low0 ^ high0;
    middle1 ^= low1 ^ high1;
    low1 ^= middle0;
    high0 ^= middle1;
    reduce_step(&low0, &low1);
    reduce_step(&low0, &low1);
    y[0] = low0 ^ high0;
    y[1] = low1 ^ high1;
}

// y += a block of four little-endian words, whose first byte has the highest power.
DEVICE void ghash_add(u64 *y, const u32 *block) {
    y[1] ^= join(swap_bytes(block[1]), swap_bytes(block[0]));
    y[0] ^= join(swap_bytes(block[3]), swap_bytes(block[2]));
}

#endif
