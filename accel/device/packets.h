// Packet protection (RFC 9001, 5.3 and 5.4) of a batch of packets of different keys, suites and lengths.
//
// Three launches: heads (an item for each packet), chunks (an item for every 128 bytes of key stream), tags (an item for
// each packet). A chunk hashes its own part; tags puts the parts together with powers of the hash key.
//
// A packet in ``source`` and in ``target``: three bytes of padding, so that the packet number is a word, then the packet
// as it is sent or as it was given, and as many bytes as are missing to a multiple of 16. A verdict on each stands behind
// all targets: its number (two words), and PACKET_DONE or PACKET_REJECTED; what was opened must not be touched before
// that was read.
#ifndef VANTUN_PACKETS_H
#define VANTUN_PACKETS_H

// Header of ``work``: how many packets, and where in ``target`` the verdicts begin, in units of 16 bytes.
#define HEADER_PACKETS 0
#define HEADER_VERDICTS 1

// Descriptor of a packet in ``work``, behind the header.
#define PACKET 8
#define PACKET_FIRST 0  // its first chunk
#define PACKET_SOURCE 1 // in units of 16 bytes
#define PACKET_TARGET 2 // in units of 16 bytes
#define PACKET_LENGTH 3 // bytes of payload
#define PACKET_SLOT 4   // key slot of phase 0
#define PACKET_NUMBER 5 // two words: the number; opening: the largest so far plus one
#define PACKET_PAYLOAD 16

#define PACKET_DONE 1
#define PACKET_REJECTED 2

// Record of a key in ``table``.
#define KEY 1024
#define KEY_SUITE 0 // 0 none, 1 AES-128-GCM, 2 AES-256-GCM, 3 ChaCha20-Poly1305
#define KEY_ROUNDS 1
#define KEY_IV 2
#define KEY_POWERS 8       // of the GHASH key, the first to the eighth, as ghash_product takes them
#define KEY_CHACHA 40      // the key
#define KEY_CHACHA_HEAD 48 // the header-protection key
#define KEY_AES 64         // round keys as planes
#define KEY_AES_HEAD 544   // round keys of header protection as planes
#define SUITE_CHACHA 3

// What a packet leaves for the next launch in ``scratch``: a record for each packet, then a hash for each chunk.
#define STATE 16
#define STATE_KEY 0    // slot, or NO_KEY
#define STATE_NONCE 1  // three words
#define STATE_MASK 4   // four words, which the hash is added to
#define STATE_R 8      // four words of Poly1305
#define STATE_NUMBER 12
#define STATE_HEAD 14  // first and last word of the plain header
#define NO_KEY 0xffffffffu
#define HASH 8

#define CHUNK 128
#define CHUNK_BLOCKS 8

typedef struct {
    GLOBAL const u8 *source;
    GLOBAL u8 *target, *verdict;
    GLOBAL u32 *state;
    GLOBAL u32 *hashes;
    u32 length, slot, first;
    u64 number;
} Packet;

DEVICE Packet read_packet(PARAMETERS, u32 index) {
    GLOBAL const u32 *descriptor = work + HEADER + PACKET * index;
    u32 count = work[HEADER_PACKETS];
    Packet packet;
    packet.source = source + 16 * (u64)descriptor[PACKET_SOURCE];
    packet.target = target + 16 * (u64)descriptor[PACKET_TARGET];
    packet.verdict = target + 16 * ((u64)work[HEADER_VERDICTS] + index);
    packet.state = scratch + STATE * (u64)index;
    packet.first = descriptor[PACKET_FIRST];
    packet.hashes = scratch + STATE * (u64)count + HASH * (u64)packet.first;
    packet.length = descriptor[PACKET_LENGTH];
    packet.slot = descriptor[PACKET_SLOT];
    packet.number = join(descriptor[PACKET_NUMBER], descriptor[PACKET_NUMBER + 1]);
    return packet;
}

DEVICE GLOBAL const u32 *key_record(GLOBAL const u32 *table, u32 slot) { return table + KEY * (u64)slot; }

// Chunks of key stream: AES-GCM's first begins with the block that masks the tag, ChaCha20's without it.
DEVICE u32 chunks_of(u32 suite, u32 length) {
    return (length + (suite == SUITE_CHACHA ? 0 : 16) + CHUNK - 1) / CHUNK;
}

// Two words of the mask of header protection (RFC 9001, 5.4.3 and 5.4.4), of which five bytes count.
DEVICE void header_mask(GLOBAL const u32 *key, const u32 *sample, u32 *mask) {
    if (key[KEY_SUITE] == SUITE_CHACHA) {
        u32 stream[16];
        chacha20_block(key + KEY_CHACHA_HEAD, sample[0], sample + 1, stream);
        mask[0] = stream[0], mask[1] = stream[1];
    } else {
        u32 blocks[32];
        UNROLL
        for (int i = 0; i < 32; i++) blocks[i] = i < 4 ? sample[i] : 0;
        aes_encrypt(key + KEY_AES_HEAD, key[KEY_ROUNDS], blocks);
        mask[0] = blocks[0], mask[1] = blocks[1];
    }
}

// Add the mask to the first byte, which is the last of the head's first word, and to the number, its last word.
DEVICE void apply_mask(u32 *head, const u32 *mask) {
    head[0] ^= (mask[0] & 0x1f) << 24;
    head[3] ^= mask[0] >> 8 | mask[1] << 24;
}

// The header as the block of additional data: 13 bytes and zeros.
DEVICE void header_block(const u32 *head, u32 *block) {
    UNROLL
    for (int i = 0; i < 3; i++) block[i] = head[i] >> 24 | head[i + 1] << 8;
    block[3] = head[3] >> 24;
}

#endif
