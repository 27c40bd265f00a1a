//! The string rule for topics, matchers, ids and types (Mercure draft-08, "Topics"), and the errors
//! for values that break it.

/// The reason why a field of an update or a subscription is refused. The message names the field
/// and the limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A required field is missing.
    #[error("`{field}` is missing")]
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A value is too long.
    #[error("`{field}` is longer than {limit} bytes")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// A field occurs too often.
    #[error("`{field}` is given more than {limit} times")]
    TooMany {
        /// The field's name.
        field: &'static str,
        /// The most values allowed.
        limit: usize,
    },
    /// The patterns and templates of one subscription or access token cost too much to match.
    #[error(
        "`{field}`, alone or with the others, costs more than {limit} to match; variables and wildcards count"
    )]
    TooCostly {
        /// The field's name.
        field: &'static str,
        /// The highest allowed cost.
        limit: usize,
    },
    /// The gateway already holds as many patterns as it can. This pattern itself is valid.
    #[error("`{field}` is one pattern too many for this gateway at the moment")]
    NoRoom {
        /// The field's name.
        field: &'static str,
        /// The highest allowed cost of all patterns.
        limit: usize,
    },
    /// A value contains a control or format character.
    #[error("`{field}` contains the character U+{:04X}; control and format characters are not allowed", *.character as u32)]
    Character {
        /// The field's name.
        field: &'static str,
        /// The first such character.
        character: char,
    },
    /// A value breaks another rule.
    #[error("`{field}` {rule}")]
    Rule {
        /// The field's name.
        field: &'static str,
        /// The rule, phrased to follow the field's name.
        rule: &'static str,
    },
}

impl Invalid {
    /// The name of the refused field.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing { field }
            | Self::TooLong { field, .. }
            | Self::TooMany { field, .. }
            | Self::TooCostly { field, .. }
            | Self::NoRoom { field, .. }
            | Self::Character { field, .. }
            | Self::Rule { field, .. } => field,
        }
    }

    /// The limit that was exceeded, if the error is about a quantity.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        match self {
            Self::TooLong { limit, .. }
            | Self::TooMany { limit, .. }
            | Self::TooCostly { limit, .. }
            | Self::NoRoom { limit, .. } => Some(*limit),
            Self::Missing { .. } | Self::Character { .. } | Self::Rule { .. } => None,
        }
    }
}

/// Checks `value` against the string rule and a length limit in bytes.
pub(super) fn check(field: &'static str, value: &str, limit: usize) -> Result<(), Invalid> {
    if limit < value.len() {
        return Err(Invalid::TooLong { field, limit });
    }
    match value.chars().find(|it| is_forbidden(*it)) {
        Some(character) => Err(Invalid::Character { field, character }),
        None => Ok(()),
    }
}

/// Control characters (C0, DEL, C1) and the format characters of Unicode 17 (general category Cf).
fn is_forbidden(character: char) -> bool {
    const FORMAT: [(u32, u32); 21] = [
        (0x00AD, 0x00AD),
        (0x0600, 0x0605),
        (0x061C, 0x061C),
        (0x06DD, 0x06DD),
        (0x070F, 0x070F),
        (0x0890, 0x0891),
        (0x08E2, 0x08E2),
        (0x180E, 0x180E),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x2064),
        (0x2066, 0x206F),
        (0xFEFF, 0xFEFF),
        (0xFFF9, 0xFFFB),
        (0x110BD, 0x110BD),
        (0x110CD, 0x110CD),
        (0x13430, 0x1343F),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0001, 0xE0001),
        (0xE0020, 0xE007F),
    ];
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let code = u32::from(character);
    character.is_control() || FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_refused() {
        for bad in [
            "\0",
            "a\nb",
            "a\rb",
            "\u{7f}",
            "\u{85}",
            "\u{ad}",
            "👩\u{200d}💻",
            "\u{feff}x",
            "\u{e0041}",
        ] {
            assert!(matches!(check("topic", bad, 100), Err(Invalid::Character { .. })), "{bad:?}");
        }
        for good in ["", "a b", "https://example.com/ü", "日本", "\u{2028}", "😀"] {
            assert_eq!(check("topic", good, 100), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn length_counts_bytes() {
        assert_eq!(check("id", "üü", 4), Ok(()));
        assert_eq!(check("id", "üüx", 4), Err(Invalid::TooLong { field: "id", limit: 4 }));
    }
}
