//! Sealed numbers, as clients may see them: cursor tokens, and the names of poll sessions.

use aes::{
    Aes128,
    cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

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
        self.append(&mut name, number, 0);
        name
    }

    /// Appends a sealed number to `text`.
    fn append(&self, text: &mut String, number: u64, salt: u16) {
        let mut block = [0; 16];
        block[..Self::SALT].copy_from_slice(&self.epoch[..Self::SALT]);
        block[Self::SALT..8].copy_from_slice(&salt.to_be_bytes());
        block[8..].copy_from_slice(&number.to_be_bytes());
        let mut block = block.into();
        self.cipher.encrypt_block(&mut block);
        URL_SAFE_NO_PAD.encode_string(block, text);
    }

    /// Returns the number in `text`, if this seal sealed it.
    pub(crate) fn open(&self, text: &str) -> Option<u64> {
        let block = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut block = <[u8; 16]>::try_from(block).ok()?.into();
        self.cipher.decrypt_block(&mut block);
        let (epoch, number) = block.split_at(8);
        let number = u64::from_be_bytes(number.try_into().ok()?);
        // Cursor tokens of earlier versions have the rest of the epoch in place of the salt.
        (epoch[..Self::SALT] == self.epoch[..Self::SALT]).then_some(number)
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
pub struct CursorKey(Seal);

impl CursorKey {
    /// Creates a key for a new store.
    ///
    /// # Panics
    /// Panics if the operating system gives no random bytes.
    #[must_use]
    pub fn random() -> Self {
        Self(Seal::random())
    }

    /// A name of the history that differs from that of every other one. No token is made of it.
    #[must_use]
    pub fn epoch(&self) -> String {
        const LENGTH: usize = 12;
        let mut name = self.0.name(u64::MAX);
        name.truncate(LENGTH);
        name
    }

    /// Restores the key that a store has kept.
    pub(super) fn from_bytes(bytes: [u8; Seal::BYTES]) -> Self {
        Self(Seal::from_bytes(bytes))
    }

    /// The bytes that a store keeps.
    pub(super) fn as_bytes(&self) -> &[u8; Seal::BYTES] {
        &self.0.bytes
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
        self.0.append(&mut token, position.0, salt);
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
        self.0.open(token.strip_prefix(MARK)?).map(Position)
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
        assert_eq!(CursorKey(seal).open(&format!("#{name}")), Some(Position(7)));
    }

    #[test]
    fn tokens_without_a_salt_are_good() {
        let key = CursorKey::random();
        let mut block = [0; 16];
        block[..8].copy_from_slice(&key.0.epoch);
        block[8..].copy_from_slice(&7_u64.to_be_bytes());
        let mut block = block.into();
        key.0.cipher.encrypt_block(&mut block);
        let token = format!("#{}", URL_SAFE_NO_PAD.encode(block));
        assert_eq!(key.open(&token), Some(Position(7)));
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
