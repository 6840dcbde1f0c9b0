//! SHA-256 of four texts at once (FIPS 180-4).
//!
//! Every key that is loaded is hashed once for the checksum, and in WebAssembly, which has no instructions for SHA-256,
//! that was a quarter of what a key costs. The four texts take the same steps, so each step is one instruction on four
//! words: half the time a text (docs/performance.md). Keys that clients present are hashed by `sha2`, one at a time;
//! what is computed here is held to be the same by a property.

use wide::u32x4;

/// The number of texts that are hashed together.
pub(crate) const LANES: usize = 4;

const BLOCK: usize = 64;

/// Fractions of the cube roots of the first 64 primes.
const ROUNDS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
];

/// Fractions of the square roots of the first eight primes.
const START: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// Up to four texts with their padding.
#[derive(Default)]
pub(crate) struct Texts {
    /// The texts one after the other, in whole blocks.
    bytes: Vec<u8>,
    /// The number of blocks of each text.
    blocks: [usize; LANES],
    count: usize,
}

impl Texts {
    /// Adds what `write` appends. A fifth text is left out.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(blocks) = self.blocks.get_mut(self.count) else { return };
        self.count += 1;
        let start = self.bytes.len();
        self.bytes.reserve(LANES * BLOCK);
        write(&mut self.bytes);
        let bits = ((self.bytes.len() - start) as u64).wrapping_mul(8);
        self.bytes.push(0x80);
        let end = (self.bytes.len() + size_of::<u64>()).next_multiple_of(BLOCK);
        self.bytes.resize(end - size_of::<u64>(), 0);
        self.bytes.extend_from_slice(&bits.to_be_bytes());
        *blocks = (end - start) / BLOCK;
    }

    /// Returns the first 64 bits of each digest, big-endian. The value for a text that was not added has no meaning.
    #[inline(never)]
    pub(crate) fn first_words(&self) -> [u64; LANES] {
        let mut done = [0; LANES];
        let mut state = START.map(u32x4::splat);
        for number in 0..self.blocks.into_iter().max().unwrap_or(0) {
            compress(&mut state, &mut self.words(number));
            let [high, low, ..] = state.map(u32x4::to_array);
            for (((done, blocks), high), low) in done.iter_mut().zip(self.blocks).zip(high).zip(low) {
                if number < blocks {
                    *done = u64::from(high) << 32 | u64::from(low);
                }
            }
        }
        done
    }

    /// Returns the words of the block with this number of each text, side by side. For a text that has ended, the words
    /// have no meaning.
    fn words(&self, number: usize) -> [u32x4; 16] {
        let (bytes, _) = self.bytes.as_chunks::<BLOCK>();
        let mut words = [[0; LANES]; 16];
        let mut start = 0;
        for (lane, blocks) in self.blocks.into_iter().enumerate() {
            let block = bytes.get(start + number);
            start += blocks;
            let Some(block) = block else { continue };
            for (words, bytes) in words.iter_mut().zip(block.as_chunks().0) {
                if let Some(word) = words.get_mut(lane) {
                    *word = u32::from_le_bytes(*bytes);
                }
            }
        }
        // Four words are turned round at once.
        words.map(|words| {
            let words = u32x4::new(words);
            let mask = u32x4::splat(0x00ff_00ff);
            rotate_right::<16>(((words >> 8) & mask) | ((words & mask) << 8))
        })
    }
}

#[inline(never)]
#[allow(clippy::indexing_slicing, reason = "an index below 16 into 16 words")]
fn compress(state: &mut [u32x4; 8], words: &mut [u32x4; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (sixteen, constants) in ROUNDS.as_chunks::<16>().0.iter().enumerate() {
        if sixteen > 0 {
            for at in 0..16 {
                let (second, fifteenth) = (words[(at + 1) % 16], words[(at + 14) % 16]);
                let small0 = rotate_right::<7>(second) ^ rotate_right::<18>(second) ^ (second >> 3);
                let small1 = rotate_right::<17>(fifteenth) ^ rotate_right::<19>(fifteenth) ^ (fifteenth >> 10);
                words[at] = words[at] + small0 + words[(at + 9) % 16] + small1;
            }
        }
        for (constant, word) in constants.iter().zip(&*words) {
            let big1 = rotate_right::<6>(e) ^ rotate_right::<11>(e) ^ rotate_right::<25>(e);
            let choice = g ^ (e & (f ^ g));
            let first = h + big1 + choice + u32x4::splat(*constant) + *word;
            let big0 = rotate_right::<2>(a) ^ rotate_right::<13>(a) ^ rotate_right::<22>(a);
            let majority = b ^ ((a ^ b) & (b ^ c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d + first, c, b, a, first + big0 + majority);
        }
    }
    for (state, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *state += add;
    }
}

/// There is no instruction for it.
#[inline(always)]
fn rotate_right<const BITS: u32>(words: u32x4) -> u32x4 {
    words >> BITS | words << (32 - BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    fn first_word(text: &[u8]) -> u64 {
        let digest: [u8; 32] = Sha256::digest(text).into();
        u64::from_be_bytes(digest[..8].try_into().unwrap())
    }

    fn first_words(texts: &[&[u8]; LANES]) -> [u64; LANES] {
        let mut all = Texts::default();
        texts.iter().for_each(|text| all.push(|to| to.extend_from_slice(text)));
        all.first_words()
    }

    #[test]
    fn every_length_around_blocks_is_hashed_as_by_the_library() {
        let text: Vec<u8> = (0..300u32).map(|at| (at * 7) as u8).collect();
        for length in 0..=text.len() {
            let (text, rest) = text.split_at(length);
            let expect = [text, rest, &[], text].map(first_word);
            assert_eq!(first_words(&[text, rest, &[], text]), expect, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_four_texts_are_hashed_as_by_the_library(
            texts in proptest::array::uniform4(proptest::collection::vec(any::<u8>(), 0..260)),
        ) {
            let expect = texts.each_ref().map(|text| first_word(text));
            prop_assert_eq!(first_words(&texts.each_ref().map(|text| &**text)), expect);
        }
    }
}
