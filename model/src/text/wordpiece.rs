//! WordPiece as BERT's models use it, from a `tokenizer.json` of Hugging Face's.
//!
//! Text is cleaned, accents are taken off and letters made small where the file says so, words are cut
//! at spaces and punctuation, and each word into the longest pieces that the vocabulary has. Other
//! normalizers and models are refused by name; padding is left to the caller, who sends a mask.
//! Start at [`WordPiece::read`].

use std::collections::HashMap;

use serde::Deserialize;
use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

use super::{TOKENIZER_BYTES_MAX, TextError, within};

/// See the module.
#[derive(Debug)]
pub struct WordPiece {
    vocabulary: HashMap<String, i64>,
    /// What stands for a word that cannot be cut.
    unknown: i64,
    /// What a piece inside a word begins with.
    prefix: String,
    word_chars_max: usize,
    normalizer: Normalizer,
    /// Tokens that a text may name, the longest first.
    added: Vec<(String, i64)>,
    before: Vec<i64>,
    behind: Vec<i64>,
    tokens_max: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct File {
    truncation: Option<Truncation>,
    added_tokens: Vec<Added>,
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<Kind>,
    post_processor: Option<Post>,
    model: Model,
}

#[derive(Debug, Deserialize)]
struct Truncation {
    max_length: usize,
}

#[derive(Debug, Deserialize)]
struct Added {
    id: i64,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
}

#[derive(Debug, Deserialize)]
struct Normalizer {
    r#type: String,
    #[serde(default)]
    clean_text: bool,
    #[serde(default)]
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    #[serde(default)]
    lowercase: bool,
}

#[derive(Debug, Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Debug, Deserialize)]
struct Post {
    r#type: String,
    #[serde(default)]
    single: Vec<Part>,
    #[serde(default)]
    special_tokens: HashMap<String, Special>,
}

#[derive(Debug, Deserialize)]
enum Part {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Debug, Deserialize)]
struct Special {
    ids: Vec<i64>,
}

#[derive(Debug, Deserialize)]
struct Model {
    r#type: String,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    max_input_chars_per_word: Option<usize>,
    vocab: serde_json::Map<String, serde_json::Value>,
}

impl WordPiece {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError`] with the rule that is not known. Never panics on any bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, TextError> {
        if bytes.len() > TOKENIZER_BYTES_MAX {
            return Err(TextError::File(format!("{} bytes are too many", bytes.len())));
        }
        let file: File =
            serde_json::from_slice(bytes).map_err(|e| TextError::File(e.to_string()))?;
        let unsupported = |what: String| Err(TextError::Unsupported(what));
        if file.model.r#type != "WordPiece" {
            return unsupported(format!("a model of type {}", file.model.r#type));
        }
        let normalizer = match file.normalizer {
            Some(rules) if rules.r#type == "BertNormalizer" => rules,
            other => return unsupported(format!("a normalizer {:?}", other.map(|o| o.r#type))),
        };
        match file.pre_tokenizer {
            Some(kind) if kind.r#type == "BertPreTokenizer" => {}
            other => return unsupported(format!("words of {:?}", other.map(|o| o.r#type))),
        }
        let mut added = Vec::new();
        for token in file.added_tokens {
            if token.single_word || token.lstrip || token.rstrip || token.normalized {
                return unsupported(format!("`{}` under rules of its own", token.content));
            }
            if !token.content.is_empty() {
                added.push((token.content, token.id));
            }
        }
        added.sort_by_key(|(content, _)| std::cmp::Reverse(content.len()));
        let number = |(word, id): (String, serde_json::Value)| id.as_i64().map(|id| (word, id));
        let vocabulary: Option<HashMap<_, _>> = file.model.vocab.into_iter().map(number).collect();
        let vocabulary =
            vocabulary.ok_or_else(|| TextError::File("its ids are not all integers".into()))?;
        let unknown = file.model.unk_token.unwrap_or_else(|| "[UNK]".into());
        let unknown = *vocabulary
            .get(&unknown)
            .ok_or_else(|| TextError::File(format!("`{unknown}` is not in its vocabulary")))?;
        let (before, behind) = frame(file.post_processor)?;
        Ok(Self {
            vocabulary,
            unknown,
            prefix: file.model.continuing_subword_prefix.unwrap_or_else(|| "##".into()),
            word_chars_max: file.model.max_input_chars_per_word.unwrap_or(100),
            normalizer,
            added,
            before,
            behind,
            tokens_max: file.truncation.map(|truncation| truncation.max_length),
        })
    }

    /// The tokens of a text, those that begin and end every text among them; cut off at the longest that
    /// the file names.
    ///
    /// # Errors
    /// [`TextError::Long`].
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TextError> {
        within(text)?;
        let mut tokens = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, token, after) = self.next_added(rest);
            self.words(plain, &mut tokens);
            tokens.extend(token);
            rest = after;
        }
        if let Some(max) = self.tokens_max {
            tokens.truncate(max.saturating_sub(self.before.len() + self.behind.len()));
        }
        Ok([&self.before[..], &tokens, &self.behind].concat())
    }

    /// What comes before the first named token, that token, and what follows.
    fn next_added<'a>(&self, text: &'a str) -> (&'a str, Option<i64>, &'a str) {
        let places = self.added.iter().filter_map(|(content, id)| {
            let at = text.find(content.as_str())?;
            Some((at, content.len(), *id))
        });
        // Of those that begin first the longest, which comes first here.
        match places.min_by_key(|(at, _, _)| *at) {
            None => (text, None, ""),
            Some((at, len, id)) => (&text[..at], Some(id), &text[at + len..]),
        }
    }

    fn words(&self, text: &str, tokens: &mut Vec<i64>) {
        let text = self.normalizer.apply(text);
        for word in text.split(char::is_whitespace) {
            let mut start = 0;
            for (at, char) in word.char_indices().filter(|(_, char)| is_punctuation(*char)) {
                let end = at + char.len_utf8();
                self.pieces(&word[start..at], tokens);
                self.pieces(&word[at..end], tokens);
                start = end;
            }
            self.pieces(&word[start..], tokens);
        }
    }

    /// The longest pieces from the left; a word with a rest that is in no piece is unknown as a whole.
    fn pieces(&self, word: &str, tokens: &mut Vec<i64>) {
        if word.is_empty() {
            return;
        }
        let before = tokens.len();
        let mut start = 0;
        let within = word.chars().count() <= self.word_chars_max;
        while within && start < word.len() {
            let inside = if start == 0 { "" } else { self.prefix.as_str() };
            let ends = word[start..].char_indices().rev().map(|(at, c)| start + at + c.len_utf8());
            let found = ends.filter_map(|end| {
                let piece = format!("{inside}{}", &word[start..end]);
                self.vocabulary.get(&piece).map(|id| (*id, end))
            });
            let Some((id, end)) = { found }.next() else { break };
            tokens.push(id);
            start = end;
        }
        if start < word.len() {
            tokens.truncate(before);
            tokens.push(self.unknown);
        }
    }
}

/// The tokens before and behind every text.
fn frame(post: Option<Post>) -> Result<(Vec<i64>, Vec<i64>), TextError> {
    let Some(post) = post else { return Ok((Vec::new(), Vec::new())) };
    if post.r#type != "TemplateProcessing" {
        return Err(TextError::Unsupported(format!("a post processor {}", post.r#type)));
    }
    let (mut before, mut behind, mut seen) = (Vec::new(), Vec::new(), false);
    for part in post.single {
        match part {
            Part::Sequence {} if !seen => seen = true,
            Part::Sequence {} => return Err(TextError::Unsupported("a text said twice".into())),
            Part::SpecialToken { id } => {
                let special = post.special_tokens.get(&id);
                let ids = special.ok_or_else(|| TextError::File(format!("no ids of `{id}`")))?;
                if seen { &mut behind } else { &mut before }.extend(&ids.ids);
            }
        }
    }
    Ok((before, behind))
}

impl Normalizer {
    fn apply(&self, text: &str) -> String {
        let mut text: String = text.chars().filter_map(|char| self.clean(char)).collect();
        if self.handle_chinese_chars {
            let apart = |char: char| {
                let edge = is_chinese(char).then_some(' ');
                edge.into_iter().chain([char]).chain(edge)
            };
            text = text.chars().flat_map(apart).collect();
        }
        if self.strip_accents.unwrap_or(self.lowercase) {
            let accent = |char: &char| char.general_category() == GeneralCategory::NonspacingMark;
            text = text.nfd().filter(|char| !accent(char)).collect();
        }
        if self.lowercase {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        text
    }

    fn clean(&self, char: char) -> Option<char> {
        if !self.clean_text {
            return Some(char);
        }
        match char {
            '\t' | '\n' | '\r' => Some(' '),
            '\0' | '\u{fffd}' => None,
            _ if char.general_category_group() == GeneralCategoryGroup::Other => None,
            _ if char.is_whitespace() => Some(' '),
            _ => Some(char),
        }
    }
}

/// Ideographs, each of which is a word (the blocks that BERT's own tokenizer names).
fn is_chinese(char: char) -> bool {
    matches!(u32::from(char),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

fn is_punctuation(char: char) -> bool {
    char.is_ascii_punctuation()
        || char.general_category_group() == GeneralCategoryGroup::Punctuation
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A vocabulary of a few pieces, as the file of a real one looks.
    pub(super) fn small(more: &str) -> WordPiece {
        let pieces = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "resume", ",", "a", "中",
            "##b",
        ];
        let vocab: serde_json::Map<_, _> =
            pieces.iter().enumerate().map(|(id, p)| ((*p).to_owned(), id.into())).collect();
        let file = format!(
            r#"{{"truncation":{more},"padding":null,"added_tokens":[
            {{"id":3,"special":true,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false}}],
            "normalizer":{{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}},
            "pre_tokenizer":{{"type":"BertPreTokenizer"}},
            "post_processor":{{"type":"TemplateProcessing","single":[{{"SpecialToken":{{"id":"[CLS]","type_id":0}}}},
              {{"Sequence":{{"id":"A","type_id":0}}}},{{"SpecialToken":{{"id":"[SEP]","type_id":0}}}}],
              "special_tokens":{{"[CLS]":{{"id":"[CLS]","ids":[2],"tokens":["[CLS]"]}},"[SEP]":{{"id":"[SEP]","ids":[3],"tokens":["[SEP]"]}}}}}},
            "model":{{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"\u0023\u0023","max_input_chars_per_word":100,"vocab":{}}}}}"#,
            serde_json::to_string(&vocab).unwrap()
        );
        WordPiece::read(file.as_bytes()).unwrap()
    }

    #[test]
    fn longest_pieces_accents_ideographs_and_unknown_words() {
        let own = small("null");
        let ids = |text: &str| own.encode(text).unwrap();
        assert_eq!(ids("Unaffable"), [2, 4, 5, 6, 3]);
        assert_eq!(
            ids("R\u{e9}sum\u{e9},a\u{200b}b"),
            [2, 7, 8, 9, 11, 3],
            "a format character goes"
        );
        assert_eq!(ids("a中a"), [2, 9, 10, 9, 3]);
        assert_eq!(ids("unx a"), [2, 1, 9, 3], "no half of a word");
        assert_eq!(ids("a [SEP] a"), [2, 9, 3, 9, 3], "a token by its name");
        assert_eq!(ids(&"a".repeat(101)), [2, 1, 3]);
        assert_eq!(ids(""), [2, 3]);
    }

    #[test]
    fn long_texts_are_cut_off_and_still_end() {
        let own = small(r#"{"max_length":4,"strategy":"LongestFirst","stride":0}"#);
        assert_eq!(own.encode("a a a a a").unwrap(), [2, 9, 9, 3]);
    }

    #[test]
    fn other_rules_are_refused_by_name() {
        let file = br#"{"truncation":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
            "post_processor":null,"model":{"type":"BPE","vocab":{},"merges":[]}}"#;
        let error = WordPiece::read(file).err().unwrap().to_string();
        assert!(error.contains("BPE"), "{error}");
        assert!(WordPiece::read(b"{}").is_err());
        assert!(small("null").encode(&"a".repeat(super::super::TEXT_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_begins_and_ends(text in any::<String>()) {
            let own = small("null");
            let ids = own.encode(&text).unwrap();
            prop_assert!(ids.len() >= 2 && ids[0] == 2 && ids[ids.len() - 1] == 3);
            prop_assert_eq!(own.encode(&text).unwrap(), ids);
        }
    }
}
