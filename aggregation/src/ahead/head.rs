//! The head of the log: its size and root, signed by whoever keeps it.
//!
//! A log is named by the identity key of its keeper, the coordinator's in the roster: a coordinator with
//! another key begins another log. Two heads of the same size with different roots, both signed, are
//! evidence against the keeper that anybody can check; two of different sizes are grounds to ask it for
//! the proof. Start at [`Head::check_extends`].

use super::log::{LEAVES_MAX, Log, extends};
use crate::codec::{CodecError, Reader, Writer};
use crate::hash::Digest;
use crate::planted::{Weakness, weak};
use crate::signer::{Signer, verify};

/// The bytes of a [`Head`].
pub const HEAD_BYTES: usize = 8 + 32 + 64;

/// What the log's keeper says that the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    size: u64,
    root: Digest,
    signature: [u8; 64],
}

/// Why a head is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// It is not signed by the log's keeper.
    #[error("the head of the key log is not signed by its keeper")]
    Unsigned,
    /// A log of fewer entries than one that the keeper signed before.
    #[error("the key log is shorter than one that its keeper signed before: it was rolled back")]
    RolledBack,
    /// A log of as many entries, and others.
    #[error("the key log has other entries than one that its keeper signed before: it was forked")]
    Forked,
    /// A log that is not proven to begin with the one before.
    #[error("the key log is not proven to begin with the one that its keeper signed before")]
    Unproven,
}

impl HeadError {
    /// A stable word for this kind of error.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unsigned => "log_unsigned",
            Self::RolledBack => "log_rolled_back",
            Self::Forked => "log_forked",
            Self::Unproven => "log_unproven",
        }
    }
}

impl Head {
    /// Signs the log as it is.
    #[must_use]
    pub fn sign(log: &Log, keeper: &dyn Signer) -> Self {
        let size = log.size();
        let root = log.root(size).expect("a log has a root of its own size");
        let signature = keeper.sign(&signed(&keeper.public(), size, &root));
        Self { size, root, signature }
    }

    /// How many entries the log has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over them.
    #[must_use]
    pub fn root(&self) -> &Digest {
        &self.root
    }

    /// Whether the keeper signed it.
    ///
    /// # Errors
    /// [`HeadError::Unsigned`] if not.
    pub fn check(&self, keeper: &[u8; 32]) -> Result<(), HeadError> {
        let message = signed(keeper, self.size, &self.root);
        if verify(keeper, &message, &self.signature) { Ok(()) } else { Err(HeadError::Unsigned) }
    }

    /// Whether this is a head of the log that `held`, the newest head taken so far, is of, as it is now.
    /// It is compared with no older one: whoever could choose what a head is compared with could show
    /// two histories in turns.
    ///
    /// # Errors
    /// Why not, after [`Head::check`].
    pub fn check_extends(
        &self,
        held: Option<&Self>,
        proof: &[Digest],
        keeper: &[u8; 32],
    ) -> Result<(), HeadError> {
        self.check(keeper)?;
        if weak(Weakness::AnyHead) {
            return Ok(());
        }
        // Before the first head of this keeper's log there is nothing to compare with, whatever is proven.
        let Some(held) = held else { return Ok(()) };
        if self.size < held.size {
            return Err(HeadError::RolledBack);
        }
        if self.size == held.size {
            // The same again needs no proof, and a proof of something else does no harm.
            return if self.root == held.root { Ok(()) } else { Err(HeadError::Forked) };
        }
        let proven = extends((held.size, &held.root), (self.size, &self.root), proof);
        if proven { Ok(()) } else { Err(HeadError::Unproven) }
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(HEAD_BYTES);
        out.u64(self.size).bytes(&self.root).bytes(&self.signature);
        out.into_public()
    }

    /// The head that these canonical bytes are; its signature is not checked yet.
    ///
    /// # Errors
    /// If the bytes are not a canonical head.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Reader::new(bytes);
        let head = Self {
            size: from.u64("size of the log")?,
            root: from.array("root of the log")?,
            signature: from.array("signature")?,
        };
        from.end()?;
        if head.size > LEAVES_MAX {
            return Err(CodecError::Value("size of the log"));
        }
        Ok(head)
    }
}

fn signed(keeper: &[u8; 32], size: u64, root: &Digest) -> Vec<u8> {
    let label = "koinon/keys/head/1";
    let len = u8::try_from(label.len()).expect("labels are short");
    [&[len], label.as_bytes(), keeper, &size.to_le_bytes(), root].concat()
}
