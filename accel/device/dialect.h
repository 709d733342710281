// One dialect of C for three compilers: NVRTC (CUDA), OpenCL C, and C++ for tests on a machine without either.
//
// A kernel is a function of one work item that needs no other item of its launch: no barriers, no shared memory, no
// atomics. That costs a launch where a block-wide sum would have done, and buys that all three compilers run the same
// text and that a test may run the items in any order.
//
// All kernels take the same arguments:
//   source  what is read: units, packets
//   target  what is written
//   work    what to do: a header and one descriptor for each span or packet, as accel/device/*.py lays it out
//   scratch what one launch leaves for the next
//   table   what stays from batch to batch: keys, logarithms
// How many items a launch has stands in ``work``, so that a launch may be recorded once and repeated (CUDA graphs): it
// has as many as the device likes, and those without work return.
#ifndef VANTUN_DIALECT_H
#define VANTUN_DIALECT_H

#if defined(__OPENCL_VERSION__)
typedef uchar u8;
typedef uint u32;
typedef ulong u64;
#define GLOBAL __global
#define DEVICE static inline
#define UNROLL _Pragma("unroll")
#define KEEP_LOOP _Pragma("nounroll")
#define ENTRY __kernel void
#define THIS_ITEM ((u32)get_global_id(0))
#else
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
#define GLOBAL
#if defined(__CUDACC__)
#define DEVICE static __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define KEEP_LOOP _Pragma("unroll 1")
#if !defined(BOUNDS)
#define BOUNDS // what a kernel says of its blocks, for the compiler to part registers by
#endif
#define ENTRY extern "C" __global__ void BOUNDS
#define THIS_ITEM (blockIdx.x * blockDim.x + threadIdx.x)
#else
#define DEVICE static inline
#define UNROLL
#define KEEP_LOOP
#endif
#endif

#define PARAMETERS                                                                                                     \
    GLOBAL const u8 *source, GLOBAL u8 *target, GLOBAL const u32 *work, GLOBAL u32 *scratch, GLOBAL const u32 *table
#define ARGUMENTS source, target, work, scratch, table

// Header of ``work``: what the launches are about, the items of up to three launches, and what strips.h reads.
#define HEADER 24
#define HEADER_ITEMS 5
#define HEADER_STRIPS 8

// The kernel of launch ``turn`` of its batch; its body sees ``item``.
#define KERNEL(name, turn) KERNEL_OF(name, HEADER_ITEMS + turn)

// A kernel that has the number of its items in word ``place`` of ``work``.
#if defined(ENTRY)
#define KERNEL_OF(name, place)                                                                                         \
    DEVICE void name##_item(PARAMETERS, u32 item);                                                                     \
    ENTRY name(PARAMETERS) {                                                                                           \
        u32 item = THIS_ITEM;                                                                                          \
        if (item < work[place]) name##_item(ARGUMENTS, item);                                                          \
    }                                                                                                                  \
    DEVICE void name##_item(PARAMETERS, u32 item)
#else
// C++: a launch is a loop; backwards with REVERSED, to see that no item needs another.
#if defined(REVERSED)
#define TURN(i, items) (items - 1 - (i))
#else
#define TURN(i, items) (i)
#endif
#define KERNEL_OF(name, place)                                                                                         \
    DEVICE void name##_item(PARAMETERS, u32 item);                                                                     \
    extern "C" void name(PARAMETERS) {                                                                                 \
        u32 items = work[place];                                                                                       \
        for (u32 i = 0; i < items; i++) name##_item(ARGUMENTS, TURN(i, items));                                        \
    }                                                                                                                  \
    DEVICE void name##_item(PARAMETERS, u32 item)
#endif

DEVICE u32 rotate_left(u32 x, u32 bits) { return (x << bits) | (x >> (32 - bits)); }

DEVICE u32 rotate_right(u32 x, u32 bits) { return (x >> bits) | (x << (32 - bits)); }

// The bytes of a word in the other order.
DEVICE u32 swap_bytes(u32 x) {
#if defined(__CUDACC__)
    return __byte_perm(x, 0, 0x0123);
#else
    return (x >> 24) | ((x >> 8) & 0xff00) | ((x << 8) & 0xff0000) | (x << 24);
#endif
}

// The product of two words. Written as a product of 64 bits, NVRTC forgets that the upper halves are zero once it has
// taken one of them out of a loop, and adds what they would contribute: an instruction for each product.
DEVICE u64 multiply(u32 a, u32 b) {
#if defined(__CUDACC__)
    u64 product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
#else
    return (u64)a * b;
#endif
}

DEVICE u64 join(u32 low, u32 high) { return (u64)low | (u64)high << 32; }

// Sixteen bytes at a multiple of 16, as four little-endian words.
DEVICE void load16(GLOBAL const u8 *place, u32 *words) {
#if defined(__CUDACC__)
    uint4 value = *(const uint4 *)place;
    words[0] = value.x;
    words[1] = value.y;
    words[2] = value.z;
    words[3] = value.w;
#else
    GLOBAL const u32 *from = (GLOBAL const u32 *)place;
    for (int i = 0; i < 4; i++) words[i] = from[i];
#endif
}

DEVICE void store16(GLOBAL u8 *place, const u32 *words) {
#if defined(__CUDACC__)
    *(uint4 *)place = make_uint4(words[0], words[1], words[2], words[3]);
#else
    GLOBAL u32 *to = (GLOBAL u32 *)place;
    for (int i = 0; i < 4; i++) to[i] = words[i];
#endif
}

// Zero all but the first ``size`` of sixteen bytes.
DEVICE void keep_bytes(u32 *words, u32 size) {
    if (size >= 16) return; // all blocks of a packet but its last
    UNROLL
    for (u32 i = 0; i < 4; i++) {
        u32 left = size > 4 * i ? size - 4 * i : 0;
        if (left < 4) words[i] &= (1u << (8 * left)) - 1;
    }
}

// The last descriptor whose first item is not above ``item``; descriptor d begins at word ``begin + size * d``, and its
// first word is its first item.
DEVICE u32 find_owner(GLOBAL const u32 *work, u32 begin, u32 size, u32 count, u32 item) {
    u32 low = 0, high = count;
    while (high - low > 1) {
        u32 middle = (low + high) / 2;
        if (work[begin + size * middle] <= item)
            low = middle;
        else
            high = middle;
    }
    return low;
}

#endif
