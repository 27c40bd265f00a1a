//! Sealed numbers, as clients may see them: cursor tokens, and the names of poll sessions.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use aes::{
    Aes128,
    cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::event::Position;

/// The first character of a cursor token. No publisher's id may begin with it.
const MARK: char = '#';

/// Seals numbers into text and opens it.
///
/// The text is one AES block of the seal's epoch, a salt and the number. It reveals nothing and
/// cannot be forged: a guess decrypts to the right epoch once in 2^48. Numbers that another seal
/// has sealed are recognized as such.
pub(crate) struct Seal {
    cipher: Aes128,
    epoch: [u8; 8],
    bytes: [u8; Self::BYTES],
}

impl Seal {
    /// The length of a cipher key and an epoch.
    const BYTES: usize = 24;

    /// The offset of the salt in the block.
    const SALT: usize = 6;

    /// The length of a sealed number in base64.
    const LENGTH: usize = 22;

    /// Creates a seal.
    ///
    /// # Panics
    /// Panics if the operating system gives no random bytes.
    pub(crate) fn random() -> Self {
        let mut random = [0; Self::BYTES];
        getrandom::fill(&mut random)
            .expect("getrandom waits for a seed, and then cannot fail on supported systems");
        Self::from_bytes(random)
    }

    fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let (key, epoch) = bytes.split_at(16);
        Self {
            cipher: Aes128::new_from_slice(key).expect("an AES-128 key has 16 bytes"),
            epoch: epoch.try_into().expect("an epoch has 8 bytes"),
            bytes,
        }
    }

    /// The name of `number`, the same each time.
    pub(crate) fn name(&self, number: u64) -> String {
        let mut name = String::with_capacity(Self::LENGTH);
        self.append(&mut name, self.epoch, number, 0);
        name
    }

    /// Appends a sealed number to `text`.
    fn append(&self, text: &mut String, epoch: [u8; 8], number: u64, salt: u16) {
        let mut block = [0; 16];
        block[..Self::SALT].copy_from_slice(&epoch[..Self::SALT]);
        block[Self::SALT..8].copy_from_slice(&salt.to_be_bytes());
        block[8..].copy_from_slice(&number.to_be_bytes());
        let mut block = block.into();
        self.cipher.encrypt_block(&mut block);
        URL_SAFE_NO_PAD.encode_string(block, text);
    }

    /// Returns the number in `text`, if this seal sealed it.
    pub(crate) fn open(&self, text: &str) -> Option<u64> {
        let (epoch, number) = self.unsealed(text)?;
        Self::is_same(epoch, self.epoch).then_some(number)
    }

    /// Whether two epochs are the same, as far as a sealed number shows.
    fn is_same(one: [u8; 8], other: [u8; 8]) -> bool {
        // Cursor tokens of earlier versions have the rest of the epoch in place of the salt.
        one[..Self::SALT] == other[..Self::SALT]
    }

    /// Returns an epoch and a number, which may be nonsense.
    fn unsealed(&self, text: &str) -> Option<([u8; 8], u64)> {
        let block = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut block = <[u8; 16]>::try_from(block).ok()?.into();
        self.cipher.decrypt_block(&mut block);
        let (epoch, number) = block.split_at(8);
        let number = u64::from_be_bytes(number.try_into().ok()?);
        Some((epoch.try_into().ok()?, number))
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

/// The key of cursor tokens. Seals positions into them and opens them.
///
/// A cursor token is a mark and the sealed position. Because of the salt, two cursor tokens for one
/// position differ. So a client cannot learn from its cursor whether events passed that it may not
/// see.
#[derive(Debug)]
pub struct CursorKey(Epochs);

/// What a cursor token proves besides the key.
#[derive(Debug)]
enum Epochs {
    /// The store.
    One(Seal),
    /// The log that several nodes share, and the term of the position. The log may be replaced.
    Terms(RwLock<Terms>),
}

#[derive(Debug)]
struct Terms {
    seal: Seal,
    epochs: BTreeMap<u64, [u8; 8]>,
}

/// The bits of a position below its term.
pub(super) const NUMBER_BITS: u32 = 48;

impl Terms {
    /// The terms of a log. A position without a term is before its first one.
    fn new(key: [u8; Seal::BYTES]) -> Self {
        let mut terms = Self { seal: Seal::from_bytes(key), epochs: BTreeMap::new() };
        terms.learn(0, "");
        terms
    }

    fn learn(&mut self, term: u64, nonce: &str) {
        let digest = Sha256::new_with_prefix(self.seal.bytes)
            .chain_update(term.to_be_bytes())
            .chain_update(nonce)
            .finalize();
        let mut epoch = [0; 8];
        epoch.copy_from_slice(&digest[..8]);
        self.epochs.insert(term, epoch);
    }
}

impl CursorKey {
    /// Creates a key for a new store.
    ///
    /// # Panics
    /// Panics if the operating system gives no random bytes.
    #[must_use]
    pub fn random() -> Self {
        Self(Epochs::One(Seal::random()))
    }

    /// A name of the history that differs from that of every other one. No token is made of it.
    #[must_use]
    pub fn epoch(&self) -> String {
        const LENGTH: usize = 12;
        let mut name = match &self.0 {
            Epochs::One(seal) => seal.name(u64::MAX),
            Epochs::Terms(terms) => {
                terms.read().unwrap_or_else(PoisonError::into_inner).seal.name(u64::MAX)
            }
        };
        name.truncate(LENGTH);
        name
    }

    /// Restores the key that a store has kept.
    pub(super) fn from_bytes(bytes: [u8; Seal::BYTES]) -> Self {
        Self(Epochs::One(Seal::from_bytes(bytes)))
    }

    /// Creates a key for a log that is not known yet.
    pub(super) fn of_terms() -> Self {
        Self(Epochs::Terms(RwLock::new(Terms::new(Seal::random().bytes))))
    }

    /// Replaces the log and its terms, each with its nonce.
    pub(super) fn set_log<'n>(
        &self,
        key: [u8; Seal::BYTES],
        nonces: impl Iterator<Item = (u64, &'n str)>,
    ) {
        if let Epochs::Terms(terms) = &self.0 {
            let mut replaced = Terms::new(key);
            nonces.for_each(|(term, nonce)| replaced.learn(term, nonce));
            *terms.write().unwrap_or_else(PoisonError::into_inner) = replaced;
        }
    }

    /// Adds a term of the log.
    pub(super) fn learn_term(&self, term: u64, nonce: &str) {
        if let Epochs::Terms(terms) = &self.0 {
            terms.write().unwrap_or_else(PoisonError::into_inner).learn(term, nonce);
        }
    }

    /// The bytes that a store keeps.
    pub(super) fn as_bytes(&self) -> [u8; Seal::BYTES] {
        match &self.0 {
            Epochs::One(seal) => seal.bytes,
            Epochs::Terms(terms) => terms.read().unwrap_or_else(PoisonError::into_inner).seal.bytes,
        }
    }

    /// Seals `position` into a cursor token with a random salt.
    #[must_use]
    pub fn seal(&self, position: Position) -> String {
        self.seal_with(position, fastrand::u16(..))
    }

    /// Seals the position of an event into a cursor token that is always the same. An event that is
    /// half written may be encoded again for the rest.
    #[must_use]
    pub(crate) fn seal_event(&self, position: Position) -> String {
        self.seal_with(position, 0)
    }

    fn seal_with(&self, position: Position, salt: u16) -> String {
        let mut token = String::with_capacity(MARK.len_utf8() + Seal::LENGTH);
        token.push(MARK);
        match &self.0 {
            Epochs::One(seal) => seal.append(&mut token, seal.epoch, position.0, salt),
            Epochs::Terms(terms) => {
                let terms = terms.read().unwrap_or_else(PoisonError::into_inner);
                let epoch = terms.epochs.get(&(position.0 >> NUMBER_BITS)).copied();
                let epoch = epoch.unwrap_or(terms.seal.epoch);
                terms.seal.append(&mut token, epoch, position.0, salt);
            }
        }
        token
    }

    /// Whether `cursor` has the form of a cursor token.
    #[must_use]
    pub fn is_token(cursor: &str) -> bool {
        cursor.starts_with(MARK)
    }

    /// Returns the position in `token`, if this store sealed it.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Position> {
        let sealed = token.strip_prefix(MARK)?;
        match &self.0 {
            Epochs::One(seal) => seal.open(sealed).map(Position),
            Epochs::Terms(terms) => {
                let terms = terms.read().unwrap_or_else(PoisonError::into_inner);
                let (epoch, number) = terms.seal.unsealed(sealed)?;
                let expected = *terms.epochs.get(&(number >> NUMBER_BITS))?;
                Seal::is_same(epoch, expected).then_some(Position(number))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_store_that_sealed_a_token_opens_it() {
        let (this, other) = (CursorKey::random(), CursorKey::random());
        for position in [0, 1, u64::MAX].map(Position) {
            let token = this.seal(position);
            assert_eq!(this.open(&token), Some(position));
            assert_eq!(other.open(&token), None);
            assert_eq!(this.seal_event(position), this.seal_event(position));
        }
        let tokens: std::collections::HashSet<_> =
            (0..100).map(|_| this.seal(Position(7))).collect();
        assert!(90 < tokens.len(), "silence does not show in them");
    }

    #[test]
    fn a_name_is_the_sealed_number_without_a_mark() {
        let seal = Seal::random();
        let name = seal.name(7);
        assert_eq!((name.len(), seal.open(&name)), (Seal::LENGTH, Some(7)));
        assert_eq!(seal.open(&format!("#{name}")), None);
        let key = CursorKey::from_bytes(seal.bytes);
        assert_eq!(key.open(&format!("#{name}")), Some(Position(7)));
    }

    #[test]
    fn tokens_without_a_salt_are_good() {
        let seal = Seal::random();
        let key = CursorKey::from_bytes(seal.bytes);
        let mut block = [0; 16];
        block[..8].copy_from_slice(&seal.epoch);
        block[8..].copy_from_slice(&7_u64.to_be_bytes());
        let mut block = block.into();
        seal.cipher.encrypt_block(&mut block);
        let token = format!("#{}", URL_SAFE_NO_PAD.encode(block));
        assert_eq!(key.open(&token), Some(Position(7)));
    }

    #[test]
    fn a_term_of_another_branch_or_another_log_opens_no_token() {
        let key = CursorKey::of_terms();
        let position = |term: u64| Position((term << NUMBER_BITS) + 7);
        key.set_log([1; Seal::BYTES], [(1, "a"), (2, "b")].into_iter());
        let tokens = [1, 2, 0].map(|term| key.seal(position(term)));
        let opened = |key: &CursorKey| tokens.each_ref().map(|token| key.open(token));
        let all = [1, 2, 0].map(|term| Some(position(term)));
        assert_eq!(opened(&key), all);
        key.learn_term(3, "c");
        assert_eq!(opened(&key), all);
        key.set_log([1; Seal::BYTES], [(1, "a"), (2, "other")].into_iter());
        assert_eq!(opened(&key), [all[0], None, all[2]]);
        key.set_log([2; Seal::BYTES], [(1, "a"), (2, "b")].into_iter());
        assert_eq!(opened(&key), [None; 3]);
    }

    #[test]
    fn nonsense_is_not_a_token() {
        let key = CursorKey::random();
        for nonsense in [
            "",
            "#",
            "#x",
            "earliest",
            "#AAAAAAAAAAAAAAAAAAAAAA",
            "#ÄÖÜ",
            "# AAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(key.open(nonsense), None, "{nonsense}");
        }
    }
}
