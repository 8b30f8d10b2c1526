//! Text to a model's tokens and back: the two tokenizers of the models that are known here.
//!
//! A tokenizer is data, read from the bytes of the file that came with a model; rules that are not known
//! are refused by name. It holds no text. Start at [`wordpiece::WordPiece`] for encoders of sentences and
//! at [`pieces::Pieces`] for decoders of stories.

pub mod pieces;
pub mod wordpiece;

/// Bytes of a text that is tokenized.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a tokenizer's file.
pub const TOKENIZER_BYTES_MAX: usize = 1 << 26;

/// Why a tokenizer is not read, or does not read a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The file.
    #[error("the tokenizer's file: {0}")]
    File(String),
    /// A rule of the file that is not known here.
    #[error("the tokenizer's file asks for {0}, which is not supported")]
    Unsupported(String),
    /// More text than is taken at once.
    #[error("a text of {0} bytes; at most {TEXT_BYTES_MAX} go")]
    Long(usize),
}

fn within(text: &str) -> Result<(), TextError> {
    if text.len() <= TEXT_BYTES_MAX { Ok(()) } else { Err(TextError::Long(text.len())) }
}
