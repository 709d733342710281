// AES, eight blocks at a time in 32 registers: bit-sliced, so that no address and no branch depends on a secret.
//
// Plane [4 b + r] holds bit b of the bytes of row r: byte c of the plane is column c, its bit i is block i. ShiftRows
// rotates a plane by whole bytes and MixColumns only names other planes; the S-box works on the eight planes of a row.
#ifndef VANTUN_AES_H
#define VANTUN_AES_H

#define AES_ROUND 32 // words of a round key, as planes

// The S-box of one row (FIPS 197, 5.1.1), by the circuit of Boyar and Peralta ("A new combinational logic
// minimization technique with applications to cryptology", 2010): 32 conjunctions and 83 sums, where the same inversion
// written out takes 180. x0 is the highest bit. Names are theirs: y is linear in x, z are products, s what comes out.
DEVICE void substitute_row(u32 *s) {
    u32 x0 = s[28], x1 = s[24], x2 = s[20], x3 = s[16], x4 = s[12], x5 = s[8], x6 = s[4], x7 = s[0];
    // What is linear in x.
    u32 y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5, t0 = x1 ^ x2, y1 = t0 ^ x7, y4 = y1 ^ x3;
    u32 y12 = y13 ^ y14, y2 = y1 ^ x0, y5 = y1 ^ x6, y3 = y5 ^ y8, t1 = x4 ^ y12, y15 = t1 ^ x5, y20 = t1 ^ x1;
    u32 y6 = y15 ^ x7, y10 = y15 ^ t0, y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8, y16 = t0 ^ y11;
    u32 y21 = y13 ^ y16, y18 = x0 ^ y16;
    // The inverse.
    u32 t2 = y12 & y15, t3 = y3 & y6, t4 = t3 ^ t2, t5 = y4 & x7, t6 = t5 ^ t2, t7 = y13 & y16, t8 = y5 & y1;
    u32 t9 = t8 ^ t7, t10 = y2 & y7, t11 = t10 ^ t7, t12 = y9 & y11, t13 = y14 & y17, t14 = t13 ^ t12, t15 = y8 & y10;
    u32 t16 = t15 ^ t12, t17 = t4 ^ t14, t18 = t6 ^ t16, t19 = t9 ^ t14, t20 = t11 ^ t16, t21 = t17 ^ y20;
    u32 t22 = t18 ^ y19, t23 = t19 ^ y21, t24 = t20 ^ y18, t25 = t21 ^ t22, t26 = t21 & t23, t27 = t24 ^ t26;
    u32 t28 = t25 & t27, t29 = t28 ^ t22, t30 = t23 ^ t24, t31 = t22 ^ t26, t32 = t31 & t30, t33 = t32 ^ t24;
    u32 t34 = t23 ^ t33, t35 = t27 ^ t33, t36 = t24 & t35, t37 = t36 ^ t34, t38 = t27 ^ t36, t39 = t29 & t38;
    u32 t40 = t25 ^ t39, t41 = t40 ^ t37, t42 = t29 ^ t33, t43 = t29 ^ t40, t44 = t33 ^ t37, t45 = t42 ^ t41;
    u32 z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16, z4 = t40 & y1, z5 = t29 & y7, z6 = t42 & y11;
    u32 z7 = t45 & y17, z8 = t41 & y10, z9 = t44 & y12, z10 = t37 & y3, z11 = t33 & y4, z12 = t43 & y13;
    u32 z13 = t40 & y5, z14 = t29 & y2, z15 = t42 & y9, z16 = t45 & y14, z17 = t41 & y8;
    // What is linear in the products, with the affine map.
    u32 t46 = z15 ^ z16, t47 = z10 ^ z11, t48 = z5 ^ z13, t49 = z9 ^ z10, t50 = z2 ^ z12, t51 = z2 ^ z5;
    u32 t52 = z7 ^ z8, t53 = z0 ^ z3, t54 = z6 ^ z7, t55 = z16 ^ z17, t56 = z12 ^ t48, t57 = t50 ^ t53;
    u32 t58 = z4 ^ t46, t59 = z3 ^ t54, t60 = t46 ^ t57, t61 = z14 ^ t57, t62 = t52 ^ t58, t63 = t49 ^ t58;
    u32 t64 = z4 ^ t59, t65 = t61 ^ t62, t66 = z1 ^ t63, s0 = t59 ^ t63, s6 = t56 ^ ~t62, s7 = t48 ^ ~t60;
    u32 t67 = t64 ^ t65, s3 = t53 ^ t66, s4 = t51 ^ t66, s5 = t47 ^ t65, s1 = t64 ^ ~s3, s2 = t55 ^ ~t67;
    s[28] = s0, s[24] = s1, s[20] = s2, s[16] = s3, s[12] = s4, s[8] = s5, s[4] = s6, s[0] = s7;
}

// Column r of every block after ShiftRows; the planes of row r turn by r columns.
DEVICE void shift_rows(u32 *s) {
    UNROLL
    for (int b = 0; b < 8; b++) {
        UNROLL
        for (int r = 1; r < 4; r++) s[4 * b + r] = rotate_right(s[4 * b + r], 8 * r);
    }
}

// Row r becomes 2 (a_r + a_{r+1}) + a_{r+1} + a_{r+2} + a_{r+3} (FIPS 197, 5.1.3).
DEVICE void mix_columns(u32 *s) {
    u32 out[32];
    UNROLL
    for (int r = 0; r < 4; r++) {
        u32 top = s[28 + r] ^ s[28 + (r + 1) % 4];
        UNROLL
        for (int b = 0; b < 8; b++) {
            u32 doubled = b ? s[4 * b - 4 + r] ^ s[4 * b - 4 + (r + 1) % 4] : top;
            if (b == 1 || b == 3 || b == 4) doubled ^= top;
            out[4 * b + r] = doubled ^ s[4 * b + (r + 1) % 4] ^ s[4 * b + (r + 2) % 4] ^ s[4 * b + (r + 3) % 4];
        }
    }
    UNROLL
    for (int i = 0; i < 32; i++) s[i] = out[i];
}

DEVICE void add_round_key(u32 *s, GLOBAL const u32 *key) {
    UNROLL
    for (int i = 0; i < 32; i++) s[i] ^= key[i];
}

#define EXCHANGE(a, b, shift, mask)                                                                                    \
    {                                                                                                                  \
        u32 moved = ((a) >> (shift) ^ (b)) & (mask);                                                                   \
        (b) ^= moved;                                                                                                  \
        (a) ^= moved << (shift);                                                                                       \
    }

// Between eight blocks of four words [4 i + c] and planes [4 b + r]; it is its own inverse.
DEVICE void transpose_blocks(u32 *s) {
    UNROLL
    for (int c = 0; c < 4; c++) {
        UNROLL
        for (int i = 0; i < 8; i += 2) EXCHANGE(s[4 * i + c], s[4 * i + 4 + c], 1, 0x55555555u)
        UNROLL
        for (int i = 0; i < 8; i += i % 4 ? 3 : 1) EXCHANGE(s[4 * i + c], s[4 * i + 8 + c], 2, 0x33333333u)
        UNROLL
        for (int i = 0; i < 4; i++) EXCHANGE(s[4 * i + c], s[4 * i + 16 + c], 4, 0x0f0f0f0fu)
    }
    UNROLL
    for (int b = 0; b < 8; b++) {
        u32 *w = s + 4 * b;
        EXCHANGE(w[0], w[1], 8, 0x00ff00ffu)
        EXCHANGE(w[2], w[3], 8, 0x00ff00ffu)
        EXCHANGE(w[0], w[2], 16, 0x0000ffffu)
        EXCHANGE(w[1], w[3], 16, 0x0000ffffu)
    }
}

// Encrypt eight blocks [4 i + c] in place; ``keys`` are ``rounds`` + 1 round keys as planes.
DEVICE void aes_encrypt(GLOBAL const u32 *keys, u32 rounds, u32 *s) {
    transpose_blocks(s);
    add_round_key(s, keys);
    KEEP_LOOP
    for (u32 round = 1; round <= rounds; round++) {
        UNROLL
        for (int r = 0; r < 4; r++) substitute_row(s + r);
        shift_rows(s);
        if (round < rounds) mix_columns(s);
        add_round_key(s, keys + AES_ROUND * round);
    }
    transpose_blocks(s);
}

#endif
