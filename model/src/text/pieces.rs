//! Byte-pair pieces with scores, as llama2.c's `tokenizer.bin` holds them (SentencePiece's).
//!
//! Of all neighbours that make a piece, those of the best score are joined first; a character without a
//! piece goes as its bytes. Start at [`Pieces::read`].

use std::collections::HashMap;

use super::{TOKENIZER_BYTES_MAX, TextError, within};

/// Begins every text.
pub const BEGIN: i64 = 1;
/// Ends one.
pub const END: i64 = 2;
/// The token of byte 0; the 255 others follow.
const BYTES: i64 = 3;
/// Bytes of a text: joining looks through all of it for every join.
pub const PROMPT_BYTES_MAX: usize = 1 << 13;
/// Pieces of a vocabulary.
const PIECES_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Pieces {
    pieces: Vec<(f32, Vec<u8>)>,
    ids: HashMap<Vec<u8>, usize>,
}

impl Pieces {
    /// Reads a `tokenizer.bin`: the longest piece's length, then for each piece score, length, bytes.
    ///
    /// # Errors
    /// [`TextError::File`] where it ends early. Never panics on any bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, TextError> {
        let fault = |words: &str| TextError::File(words.into());
        if bytes.len() > TOKENIZER_BYTES_MAX {
            return Err(fault("it is too large"));
        }
        let mut rest = bytes;
        let word = |rest: &mut &[u8]| -> Result<[u8; 4], TextError> {
            let (word, after) = rest.split_first_chunk().ok_or_else(|| fault("it ends early"))?;
            *rest = after;
            Ok(*word)
        };
        word(&mut rest)?;
        let mut pieces = Vec::new();
        let mut ids = HashMap::new();
        while !rest.is_empty() {
            let score = f32::from_le_bytes(word(&mut rest)?);
            let len = i32::from_le_bytes(word(&mut rest)?);
            let len = usize::try_from(len).ok().filter(|len| *len <= rest.len());
            let (piece, after) = rest.split_at(len.ok_or_else(|| fault("it ends early"))?);
            rest = after;
            if pieces.len() == PIECES_MAX || !score.is_finite() {
                return Err(fault("it holds more or other pieces than a vocabulary"));
            }
            // Of equal pieces the first counts.
            ids.entry(piece.to_vec()).or_insert(pieces.len());
            pieces.push((score, piece.to_vec()));
        }
        if pieces.len() < 259 {
            return Err(fault("it has no pieces for single bytes"));
        }
        Ok(Self { pieces, ids })
    }

    /// Number of tokens.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    /// The tokens of a text, [`BEGIN`] first.
    ///
    /// # Errors
    /// [`TextError::Long`] beyond [`PROMPT_BYTES_MAX`].
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TextError> {
        within(text)?;
        if text.len() > PROMPT_BYTES_MAX {
            return Err(TextError::Long(text.len()));
        }
        let mut tokens: Vec<i64> = Vec::new();
        if !text.is_empty() {
            tokens.extend(self.id(b" "));
        }
        for char in text.chars() {
            let mut buffer = [0; 4];
            let bytes = char.encode_utf8(&mut buffer).as_bytes();
            match self.id(bytes) {
                Some(id) => tokens.push(id),
                None => tokens.extend(bytes.iter().map(|&byte| i64::from(byte) + BYTES)),
            }
        }
        while let Some((at, id)) = self.best_pair(&tokens) {
            tokens[at] = id;
            tokens.remove(at + 1);
        }
        tokens.insert(0, BEGIN);
        Ok(tokens)
    }

    /// The first of the neighbours whose joint piece has the best score.
    fn best_pair(&self, tokens: &[i64]) -> Option<(usize, i64)> {
        let mut best: Option<(f32, usize, i64)> = None;
        for (at, pair) in tokens.windows(2).enumerate() {
            let joint = [self.bytes(pair[0]), self.bytes(pair[1])].concat();
            let Some(&id) = self.ids.get(&joint) else { continue };
            let score = self.pieces[id].0;
            if best.is_none_or(|(top, _, _)| score > top) {
                best = Some((score, at, i64::try_from(id).ok()?));
            }
        }
        best.map(|(_, at, id)| (at, id))
    }

    /// The bytes that a token adds behind another one.
    #[must_use]
    pub fn decode(&self, before: i64, token: i64) -> Vec<u8> {
        let piece = self.bytes(token);
        let own = match piece {
            [b' ', rest @ ..] if before == BEGIN => rest,
            all => all,
        };
        // Pieces such as <0x0A> are single bytes.
        let digits = own.strip_prefix(b"<0x").and_then(|rest| rest.strip_suffix(b">"));
        let byte = digits
            .filter(|digits| digits.len() == 2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.map_or_else(|| own.to_vec(), |byte| vec![byte])
    }

    fn bytes(&self, token: i64) -> &[u8] {
        let at = usize::try_from(token).ok();
        at.and_then(|at| self.pieces.get(at)).map_or(&[], |(_, piece)| piece)
    }

    fn id(&self, piece: &[u8]) -> Option<i64> {
        self.ids.get(piece).and_then(|&id| i64::try_from(id).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The 259 first pieces, and a few more with their scores.
    fn file(more: &[(&str, f32)]) -> Vec<u8> {
        let mut bytes = 27i32.to_le_bytes().to_vec();
        let special = ["<unk>".to_owned(), "\n<s>\n".into(), "\n</s>\n".into()];
        let single = (0..256).map(|byte| format!("<0x{byte:02X}>"));
        let first = special.into_iter().chain(single).map(|piece| (piece, 0.0f32));
        for (piece, score) in first.chain(more.iter().map(|(p, s)| ((*p).to_owned(), *s))) {
            bytes.extend(score.to_le_bytes());
            bytes.extend(i32::try_from(piece.len()).unwrap().to_le_bytes());
            bytes.extend(piece.as_bytes());
        }
        bytes
    }

    fn own() -> Pieces {
        let more =
            [(" ", -10.0), ("a", -11.0), ("b", -12.0), ("ab", -1.0), (" a", -2.0), ("aba", -0.5)];
        Pieces::read(&file(&more)).unwrap()
    }

    #[test]
    fn the_best_join_comes_first_and_bytes_stand_for_what_has_no_piece() {
        let (own, first) = (own(), 259);
        // Space, a, b: `ab` has the better score than ` a`.
        assert_eq!(own.encode("ab").unwrap(), [BEGIN, first, first + 3]);
        assert_eq!(own.encode("aa").unwrap(), [BEGIN, first + 4, first + 1]);
        assert_eq!(own.encode("").unwrap(), [BEGIN]);
        assert_eq!(own.encode("é").unwrap(), [BEGIN, first, 0xC3 + 3, 0xA9 + 3]);
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let own = own();
        for text in ["aba b", "é", "ab\nba"] {
            let ids = own.encode(text).unwrap();
            let bytes: Vec<u8> =
                ids.windows(2).flat_map(|pair| own.decode(pair[0], pair[1])).collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }

    #[test]
    fn files_that_end_early_are_refused() {
        let whole = file(&[]);
        for len in [0, 3, 4, 7, 11, whole.len() - 1] {
            assert!(Pieces::read(&whole[..len]).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pieces::read(&bytes);
        }
        #[test]
        fn any_text_is_encoded(text in "\\PC{0,40}") {
            let own = own();
            let ids = own.encode(&text).unwrap();
            let bytes: Vec<u8> = ids.windows(2).flat_map(|p| own.decode(p[0], p[1])).collect();
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
    }
}
