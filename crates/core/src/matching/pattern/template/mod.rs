//! URI templates as topic selectors (Mercure draft-07): which topics could be expansions of a
//! template (RFC 6570).
//!
//! A template becomes one anchored regular expression, as in the hubs that its users migrate from.
//! The names of variables and the lengths of prefixes are ignored, and empty values match.

#[cfg(test)]
mod tests;

use std::{fmt::Write as _, sync::OnceLock};

use regex_lite::Regex;

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<'a> {
    /// Text that matches itself.
    Literal(&'a str),
    Expression(Expression),
}

/// A braced expression, reduced to what affects matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expression {
    operator: Operator,
    n_variables: usize,
    is_exploded: bool,
}

/// The operator between the brace and the first variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Simple,
    Reserved,
    Fragment,
    Label,
    Path,
    Parameter,
    Query,
    Continuation,
}

/// Limit on the bytes of a compiled template. The cost limit is checked earlier, so no template
/// comes near.
const MOST_COMPILED: usize = 4 << 20;

/// A valid template, compiled when it is first tested.
#[derive(Debug)]
pub(super) struct Template {
    /// Length of the leading literal in bytes, which is compared first.
    prefix: usize,
    /// The regular expression for the text after the prefix; `None` inside if it cannot be
    /// compiled.
    rest: OnceLock<Option<Regex>>,
    n_variables: usize,
}

impl Template {
    /// Parses a template; `None` if `text` is not one, in which case draft-07 takes it for an exact
    /// topic.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let pieces = pieces(text)?;
        let prefix = match pieces.first() {
            Some(Piece::Literal(literal)) => literal.len(),
            _ => 0,
        };
        let variables = pieces.iter().map(|piece| match piece {
            Piece::Literal(_) => 0,
            Piece::Expression(expression) => 1 + expression.n_further(),
        });
        Some(Self { prefix, rest: OnceLock::new(), n_variables: variables.sum() })
    }

    /// How many values have to be told apart when a topic is matched.
    pub(super) fn n_variables(&self) -> usize {
        self.n_variables
    }

    /// Whether `topic` is an expansion of this template, or equal to `text`, the template's text.
    pub(super) fn matches(&self, text: &str, topic: &str) -> bool {
        let prefix = text.get(..self.prefix).unwrap_or_default();
        let Some(rest) = topic.strip_prefix(prefix) else { return false };
        topic == text || self.rest(text).is_some_and(|regex| regex.is_match(rest))
    }

    fn rest(&self, text: &str) -> Option<&Regex> {
        let compiled = self.rest.get_or_init(|| {
            let pieces = pieces(text)?;
            let behind_prefix = usize::from(self.prefix != 0);
            regex_lite::RegexBuilder::new(&translate(&pieces[behind_prefix..]))
                .size_limit(MOST_COMPILED)
                .build()
                .ok()
        });
        compiled.as_ref()
    }
}

impl Expression {
    /// The maximum number of items after the first. It is 0 if unlimited, or if an item may contain
    /// the separator: then one item matches whatever several would.
    fn n_further(self) -> usize {
        let is_counted = self.operator.separator_is_outside() && !self.is_exploded;
        if is_counted { self.n_variables - 1 } else { 0 }
    }
}

impl Operator {
    fn of(character: char) -> Option<Self> {
        Some(match character {
            '+' => Self::Reserved,
            '#' => Self::Fragment,
            '.' => Self::Label,
            '/' => Self::Path,
            ';' => Self::Parameter,
            '?' => Self::Query,
            '&' => Self::Continuation,
            _ => return None,
        })
    }

    /// The beginning of an expansion.
    fn first(self) -> &'static str {
        match self {
            Self::Simple | Self::Reserved => "",
            Self::Fragment => "#",
            Self::Label => r"\.",
            Self::Path => "/",
            Self::Parameter => ";",
            Self::Query => r"\?",
            Self::Continuation => "&",
        }
    }

    /// The separator between two items.
    fn separator(self) -> &'static str {
        match self {
            Self::Simple | Self::Reserved | Self::Fragment => ",",
            Self::Label => r"\.",
            Self::Path => "/",
            Self::Parameter => ";",
            Self::Query | Self::Continuation => "&",
        }
    }

    /// Whether an item cannot contain the separator.
    fn separator_is_outside(self) -> bool {
        matches!(self, Self::Path | Self::Parameter | Self::Query | Self::Continuation)
    }

    /// The characters that an item may contain besides the unreserved ones.
    fn further_characters(self, is_exploded: bool) -> &'static str {
        match self {
            Self::Reserved | Self::Fragment => r":/?#\[\]@!$&'()*+,;=",
            Self::Parameter | Self::Query | Self::Continuation => ",=",
            Self::Simple | Self::Label | Self::Path if is_exploded => ",=",
            Self::Simple | Self::Label | Self::Path => ",",
        }
    }
}

/// The regular expression that matches complete expansions of `pieces`.
fn translate(pieces: &[Piece<'_>]) -> String {
    let mut regex = String::from("^");
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => regex.push_str(&regex_lite::escape(literal)),
            Piece::Expression(expression) => translate_expression(*expression, &mut regex),
        }
    }
    regex.push('$');
    regex
}

fn translate_expression(expression: Expression, regex: &mut String) {
    let Expression { operator, is_exploded, .. } = expression;
    let further = operator.further_characters(is_exploded);
    let item = format!(r"(?:[A-Za-z0-9\-._~{further}]|%[0-9A-Fa-f][0-9A-Fa-f])*");
    let (first, separator) = (operator.first(), operator.separator());
    // Writing to a string cannot fail.
    let _ = write!(regex, "(?:{first}{item}");
    let _ = match expression.n_further() {
        _ if operator.separator_is_outside() && is_exploded => {
            write!(regex, "(?:{separator}{item})*")
        }
        0 => Ok(()),
        n_further => write!(regex, "(?:{separator}{item}){{0,{n_further}}}"),
    };
    regex.push_str(")?");
}

/// Splits a template into pieces; `None` if it is not valid (RFC 6570, section 2).
fn pieces(template: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (literal, braced) = (&rest[..open], &rest[open + 1..]);
        let close = braced.find('}')?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(checked_literal(literal)?));
        }
        pieces.push(Piece::Expression(expression(&braced[..close])?));
        rest = &braced[close + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(checked_literal(rest)?));
    }
    Some(pieces)
}

fn checked_literal(literal: &str) -> Option<&str> {
    let mut rest = literal;
    while let Some(character) = rest.chars().next() {
        rest = match character {
            '%' => after_triplet(rest)?,
            it if is_literal(it) => &rest[it.len_utf8()..],
            _ => return None,
        };
    }
    Some(literal)
}

/// The text after the `%XX` at the beginning of `text`.
fn after_triplet(text: &str) -> Option<&str> {
    let digits = text.as_bytes().get(1..3)?;
    digits.iter().all(u8::is_ascii_hexdigit).then(|| &text[3..])
}

/// Whether a character stands for itself (RFC 6570, section 2.1, plus the apostrophe, which its
/// errata allow).
fn is_literal(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_graphic() && !"\"%<>\\^`{|}".contains(character);
    }
    let code = u32::from(character);
    let is_noncharacter = (0xFDD0..=0xFDEF).contains(&code) || 0xFFFE <= code & 0xFFFF;
    let is_special = (0xFFF0..=0xFFFF).contains(&code) || (0xE0000..=0xE0FFF).contains(&code);
    0xA0 <= code && !is_noncharacter && !is_special
}

/// Parses the text between braces.
fn expression(braced: &str) -> Option<Expression> {
    let operator = braced.chars().next().and_then(Operator::of);
    let variables = braced.get(usize::from(operator.is_some())..)?;
    let (mut n_variables, mut is_exploded) = (0, false);
    for variable in variables.split(',') {
        is_exploded |= variable_is_exploded(variable)?;
        n_variables += 1;
    }
    Some(Expression { operator: operator.unwrap_or(Operator::Simple), n_variables, is_exploded })
}

/// Checks a variable and its modifier. Returns whether the modifier is the asterisk.
fn variable_is_exploded(variable: &str) -> Option<bool> {
    let (name, is_exploded) = match variable.split_once(':') {
        Some((name, length)) => (is_prefix_length(length).then_some(name)?, false),
        None => match variable.strip_suffix('*') {
            Some(name) => (name, true),
            None => (variable, false),
        },
    };
    name.split('.').all(is_name_part).then_some(is_exploded)
}

fn is_prefix_length(digits: &str) -> bool {
    !digits.starts_with('0')
        && (1..=4).contains(&digits.len())
        && digits.bytes().all(|it| it.is_ascii_digit())
}

/// Whether `part`, a part of a name between dots, consists of letters, digits, `_` and `%XX`.
fn is_name_part(part: &str) -> bool {
    let mut rest = part;
    while let Some(byte) = rest.bytes().next() {
        rest = match byte {
            b'%' => match after_triplet(rest) {
                Some(rest) => rest,
                None => return false,
            },
            b'_' => &rest[1..],
            it if it.is_ascii_alphanumeric() => &rest[1..],
            _ => return false,
        };
    }
    !part.is_empty()
}
