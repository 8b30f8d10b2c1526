//! Every kernel against the `aes` and `ctr` crates.

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use proptest::prelude::*;
use rand::SeedableRng;

use super::*;

fn available() -> impl Iterator<Item = Kernel> {
    Kernel::ALL.into_iter().filter(|kernel| kernel.is_available())
}

/// The key stream from byte `skip` on, by the crates alone.
fn oracle(key: u128, counter: u128, skip: usize, len: usize) -> Vec<u8> {
    let (key, counter) = (key.to_be_bytes().into(), counter.to_be_bytes().into());
    let mut bytes = vec![0; skip + len];
    ctr::Ctr128BE::<Aes128>::new(&key, &counter).apply_keystream(&mut bytes);
    bytes.split_off(skip)
}

fn stream(key: u128, counter: u128, sign: Sign) -> Stream {
    Stream::new(&key.to_be_bytes(), counter.to_be_bytes(), sign)
}

/// NIST SP 800-38A, F.5.1: key, first counter, plaintext, ciphertext.
const KEY: u128 = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c;
const COUNTER: u128 = 0xf0f1_f2f3_f4f5_f6f7_f8f9_fafb_fcfd_feff;
const PLAIN: [u128; 4] = [
    0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a,
    0xae2d_8a57_1e03_ac9c_9eb7_6fac_45af_8e51,
    0x30c8_1c46_a35c_e411_e5fb_c119_1a0a_52ef,
    0xf69f_2445_df4f_9b17_ad2b_417b_e66c_3710,
];
const CIPHER: [u128; 4] = [
    0x874d_6191_b620_e326_1bef_6864_990d_b6ce,
    0x9806_f66b_7970_fdff_8617_187b_b9ff_fdff,
    0x5ae4_df3e_dbd5_d35e_5b4f_0902_0db0_3eab,
    0x1e03_1dda_2fbe_03d1_7921_70a0_f300_9cee,
];

#[test]
fn every_kernel_gives_the_known_answer_of_sp_800_38a_f51() {
    for kernel in available() {
        let mut text: Vec<u8> = PLAIN.iter().flat_map(|block| block.to_be_bytes()).collect();
        apply_stream(kernel, &mut text, 0, &stream(KEY, COUNTER, Sign::Plus));
        let cipher: Vec<u8> = CIPHER.iter().flat_map(|block| block.to_be_bytes()).collect();
        assert_eq!(text, cipher, "{kernel}");
        let mut last = PLAIN[3].to_be_bytes();
        apply_stream(kernel, &mut last, 3, &stream(KEY, COUNTER, Sign::Plus));
        assert_eq!(u128::from_be_bytes(last), CIPHER[3], "{kernel}");
        apply_stream(kernel, &mut last, 3, &stream(KEY ^ 1, COUNTER, Sign::Plus));
        assert_ne!(u128::from_be_bytes(last), PLAIN[3], "{kernel}");
    }
}

#[test]
fn counters_carry_and_wrap_in_every_kernel() {
    let ends = [1 << 32, 1 << 64, (7 << 64) + (1 << 32), 9 << 64, 0u128];
    for kernel in available() {
        for end in ends {
            for before in [1, 2, 3, 4, 5, 8, 31, 32, 33, 63, 100, 1_030] {
                let first = end.wrapping_sub(before);
                let mut bytes = vec![0; 20_000];
                apply_stream(kernel, &mut bytes, 0, &stream(KEY, first, Sign::Plus));
                assert!(bytes == oracle(KEY, first, 0, 20_000), "{kernel} {end} {before}");
            }
        }
    }
}

#[test]
fn a_row_of_many_blocks_is_the_same_in_every_kernel() {
    let keys = [KEY, KEY ^ 1, KEY ^ 2];
    let entries = 1_000_003;
    let mut expected = vec![0u32; entries];
    for (key, sign) in keys.into_iter().zip([Sign::Plus, Sign::Minus, Sign::Plus]) {
        let bytes = oracle(key, COUNTER, 0, 4 * entries);
        for (word, mask) in expected.iter_mut().zip(bytes.as_chunks().0) {
            let mask = u32::from_le_bytes(*mask);
            *word =
                if sign == Sign::Plus { word.wrapping_add(mask) } else { word.wrapping_sub(mask) };
        }
    }
    let streams = [
        stream(keys[0], COUNTER, Sign::Plus),
        stream(keys[1], COUNTER, Sign::Minus),
        stream(keys[2], COUNTER, Sign::Plus),
    ];
    for kernel in available() {
        let mut row = vec![0u32; entries];
        // The whole row, and the same from a piece in its middle on, which starts the streams late.
        add_streams(kernel, Lanes::Narrow(&mut row), 0, &streams);
        assert!(row == expected, "{kernel}");
        let mut piece = vec![0u32; 5_000];
        add_streams(kernel, Lanes::Narrow(&mut piece), 4_096 / 4, &streams);
        assert!(piece == expected[4_096..9_096], "{kernel}");
    }
}

proptest! {
    #[test]
    fn kernels_agree_with_the_crates(
        key: u128,
        counter: u128,
        near_overflow in proptest::option::of((any::<u64>(), 0u64..3_000)),
        first_block in prop_oneof![0u64..5_000, any::<u64>()],
        entries in 0usize..9_000,
        n_streams in 0u32..5,
        signs: u32,
        wide: bool,
    ) {
        let counter = near_overflow
            .map_or(counter, |(high, before)| (u128::from(high) << 64).wrapping_sub(before.into()));
        let sign = |i: u32| if signs >> i & 1 == 0 { Sign::Plus } else { Sign::Minus };
        let streams: Vec<Stream> =
            (0..n_streams).map(|i| stream(key ^ u128::from(i), counter, sign(i))).collect();
        let lane = if wide { 8 } else { 4 };
        let mut expected = vec![3u64; entries];
        for i in 0..n_streams {
            let from = counter.wrapping_add(first_block.into());
            let bytes = oracle(key ^ u128::from(i), from, 0, lane * entries);
            for (word, mask) in expected.iter_mut().zip(bytes.chunks(lane)) {
                let mut padded = [0; 8];
                padded[..lane].copy_from_slice(mask);
                let mask = u64::from_le_bytes(padded);
                *word = match sign(i) {
                    Sign::Plus => word.wrapping_add(mask),
                    Sign::Minus => word.wrapping_sub(mask),
                };
            }
        }
        for kernel in available() {
            if wide {
                let mut row = vec![3u64; entries];
                add_streams(kernel, Lanes::Wide(&mut row), first_block, &streams);
                prop_assert!(row == expected, "{}", kernel);
            } else {
                let mut row = vec![3u32; entries];
                add_streams(kernel, Lanes::Narrow(&mut row), first_block, &streams);
                let expected: Vec<u32> = expected.iter().map(|w| crate::words::low(*w)).collect();
                prop_assert!(row == expected, "{}", kernel);
            }
        }
    }
}

#[test]
fn ten_million_words_are_the_same_in_every_kernel() {
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    for kernel in available() {
        let compared = measure::compare(kernel, 10_000_000, &mut rng).unwrap();
        assert!(compared.words >= 10_000_000);
        assert_eq!(compared.differing, 0, "{kernel}");
    }
}

#[test]
fn a_kernel_can_be_forced_and_released_and_only_if_it_is_there() {
    for kernel in Kernel::ALL {
        let forced = force(Some(kernel));
        assert_eq!(forced.is_ok(), kernel.is_available());
        if forced.is_ok() {
            assert_eq!(Kernel::active(), kernel);
        }
    }
    force(None).unwrap();
    assert_eq!(Kernel::active(), Kernel::best());
    assert!(Kernel::Portable.is_available());
}
