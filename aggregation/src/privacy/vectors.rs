//! The stored answers of another accountant.
