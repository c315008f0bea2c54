//! Numbers in files, as few bytes as they need: 7 bits a byte, the lowest first; all bytes but the last have 0x80 added.
//! A number is never longer than it must be, so it has one form.

/// The longest form.
const BYTES_MAX: usize = 10;

/// Writes a number to the end of `out`.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front of `bytes`; `None` if there is none: it is cut short, too high, or longer than it must
/// be.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (place, byte) in bytes.iter().enumerate().take(BYTES_MAX) {
        let (bits, shift) = (u64::from(byte & 0x7f), 7 * place);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            *bytes = &bytes[place + 1..];
            return (bits != 0 || place == 0).then_some(number);
        }
    }
    None
}

/// Bytes that a number takes.
pub(crate) fn len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form_and_comes_back() {
        let around = |bit: u32| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1];
        for number in (0..64).flat_map(around).chain([u64::MAX]) {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            assert_eq!(bytes.len(), len(number), "{number}");
            for cut in 0..bytes.len() {
                assert_eq!(take(&mut &bytes[..cut]), None, "{number}");
            }
            bytes.push(7);
            let mut rest = &bytes[..];
            assert_eq!((take(&mut rest), rest), (Some(number), &[7][..]));
        }
        let mut too_high = [0x80; 10];
        too_high[9] = 2;
        for wrong in [&[0x80, 0][..], &[0xff, 0x80, 0], &[0xff; 10], &[0xff; 11], &too_high, &[]] {
            assert_eq!(take(&mut &wrong[..]), None, "{wrong:?}");
        }
    }

    /// The form is in files and stays.
    #[test]
    fn the_bytes_of_numbers() {
        let bytes = |number| {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            bytes
        };
        assert_eq!(bytes(0), [0]);
        assert_eq!(bytes(127), [127]);
        assert_eq!(bytes(128), [0x80, 1]);
        assert_eq!(bytes(300), [0xac, 2]);
    }
}
